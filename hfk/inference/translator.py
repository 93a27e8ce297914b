"""`DialectTranslator`: a sentence from any region or the standard language into any other, by rules.

The rules are counts from pairs: how a word changed, seen by its last syllables, as a whole, and beside its neighbours;
the longer the context, the more it is believed (`Rules`). What no pair says anything of, such as numbers and names, is
copied. From one dialect into another the way leads through the standard language. Nothing here is a neural model.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from typing import Any

from ..models.shared import normalize_letters
from ..tasks.dialect import STANDARD, Pair

LONGEST_ENDING = 4
"""Syllables of a word's end that a rule may ask for."""
TRUST = (2.0, 8.0)
"""Into and out of the standard language: so many sightings of a longer context weigh as much as what the shorter ones
say; out of it a word has several fates, and caution pays. Chosen in benchmarks/dialect.md."""
END = "$"
"""Says of an ending that it is a text's last."""
SURE = 0.5
"""Two words become one only from this probability on."""
_WORD = re.compile(r"(\S*?)([.,?!…]*)")
Edit = tuple[int, str]
"""How many letters a word loses at its end, and which it gets in their place."""
KEEP: Edit = (0, "")
_LONGER: Edit = (-1, "")  # an edit that takes away more than the context shows


class Rules:
    """What becomes of words in one direction.

    Args:
        counts: context → edit → how often. Contexts of a word are its ending (`-는디`), the word (`=모르는디`), and the
            word with its left (`잘<모르는디`) or right neighbour (`모르는디>그`); of two words, the end of both
            (`-는 거야`).
        trust: as in `TRUST`.

    Example:
        >>> Rules.learn([("밥 먹는디", "밥 먹는데"), ("집에 가는디", "집에 가는데")])("물 마시는디.")
        '물 마시는데.'
    """

    def __init__(self, counts: dict[str, dict[Edit, int]], trust: float = TRUST[0]) -> None:
        self.counts, self.trust = counts, trust

    @classmethod
    def learn(cls, pairs: Iterable[tuple[str, str]], trust: float = TRUST[0]) -> Rules:
        """Count how words change, from pairs of a text and what becomes of it."""
        seen: list[tuple[str, str, str, Edit]] = []
        for source, target in pairs:
            words = [word for word, _ in _split(source)]
            for start, end, meant in _aligned(words, [word for word, _ in _split(target)]):
                unit, (before, after) = " ".join(words[start:end]), _neighbours(words, start, end)
                seen.append((unit, before, after, _edit(unit, meant)))
                if end - start == 1 and after:  # the other fate of what could have become one word
                    seen.append((f"{unit} {after}", "", "", KEEP))
        changing = {context for *unit, edit in seen if edit != KEEP for context in _contexts(*unit)}
        counts: dict[str, dict[Edit, int]] = defaultdict(lambda: defaultdict(int))
        for *unit, edit in seen:
            if changing.isdisjoint(_contexts(*unit)):
                continue
            for context in _contexts(*unit):
                longer = context[0] == "-" and edit[0] > len(context[1:].removesuffix(END))
                counts[context][_LONGER if longer else edit] += 1
        return cls(counts, trust)

    def __call__(self, text: str) -> str:
        """Rewrite a text; the signs after its words stay."""
        return " ".join(unit for unit, _ in self._rewrite(text))

    def changes(self, text: str) -> float:
        """How many words of a text are expected to change, from 0: how much it looks like what was learned from."""
        return sum(share for _, share in self._rewrite(text))

    def _rewrite(self, text: str) -> Iterator[tuple[str, float]]:
        """Every word of a text, or two at once, rewritten, and how likely it is that it changes."""
        split = _split(text)
        words, place = [word for word, _ in split], 0
        while place < len(words):
            end = min(place + 2, len(words))
            unit = " ".join(words[place:end])
            edit, share = self._best(unit, *_neighbours(words, place, end))
            joins = end - place == 2 and edit[0] > len(words[end - 1]) and share > SURE and not split[place][1]
            if not joins:
                end = place + 1
                unit = words[place]
                edit, share = self._best(unit, *_neighbours(words, place, end))
            yield unit[: len(unit) - edit[0]] + edit[1] + split[end - 1][1], share
            place = end

    def _best(self, unit: str, before: str, after: str) -> tuple[Edit, float]:
        """The likeliest edit of a word, or of two, and the probability that it changes."""
        chances: dict[Edit, float] = {KEEP: 1.0}
        for context in _contexts(unit, before, after):
            found = self.counts.get(context)
            if found is None:
                continue
            weight = 1 / (sum(found.values()) + self.trust)
            for edit in (*chances, *(edit for edit in found if edit not in chances)):
                chances[edit] = (found.get(edit, 0) + self.trust * chances.get(edit, 0.0)) * weight
        chances.pop(_LONGER, None)
        return max(chances, key=chances.__getitem__), 1 - chances[KEEP]


class DialectTranslator:
    """Translate between the standard language and the regions of some pairs.

    Args:
        rules: region → its rules into the standard language, and those out of it.

    Example:
        >>> sides = [("jeju", "가게"), ("jeolla", "가소")]
        >>> pairs = [Pair(region, word, "가자", "", "", "", "") for region, word in sides]
        >>> translator = DialectTranslator.learn(pairs)
        >>> [made["text"] for made in translator(["가게"], to="jeolla", source="jeju")]
        ['가소']
    """

    def __init__(self, rules: dict[str, tuple[Rules, Rules]]) -> None:
        self.rules = rules

    @classmethod
    def learn(cls, pairs: Iterable[Pair]) -> DialectTranslator:
        """Learn the rules of every region that some pairs name.

        Raises:
            ValueError: if no pair names a region.
        """
        of_region: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for pair in pairs:
            if pair.region and pair.region != STANDARD and pair.dialect and pair.standard:
                of_region[pair.region].append((pair.dialect, pair.standard))
        if not of_region:
            raise ValueError("there is nothing to learn from: no pair has a region and both sides.")
        both = ((region, found, [pair[::-1] for pair in found]) for region, found in sorted(of_region.items()))
        return cls({region: tuple(map(Rules.learn, sides, TRUST)) for region, *sides in both})

    def detect(self, text: str) -> str:
        """The region whose rules expect most of a text to change; `standard` where none expects half a word to."""
        expected = {region: into.changes(text) for region, (into, _) in self.rules.items()}
        region = max(expected, key=expected.__getitem__)
        return region if expected[region] >= 0.5 else STANDARD

    def __call__(self, texts: Iterable[str | None], to: str, source: str | None = None) -> Iterator[dict[str, Any]]:
        """Translate texts.

        Args:
            texts: one sentence or more each.
            to: a region, or `standard`.
            source: what the texts are in; found out text by text by default.

        Yields:
            for each text, in order, `text` and `source`; `{"error": sentence}` for one that is empty.

        Raises:
            ValueError: for a region that there are no rules of; the sentence lists those there are.
        """
        for region in (to, source):
            if region not in (None, STANDARD, *self.rules):
                raise ValueError(f"there are no rules of {region!r}; regions: {', '.join((STANDARD, *self.rules))}.")
        for given in texts:
            text = " ".join(normalize_letters(given or "").split())
            if not text:
                yield {"error": "the text is empty."}
                continue
            known = source or self.detect(text)
            if known not in (to, STANDARD):
                text = self.rules[known][0](text)
            yield {"text": text if to in (known, STANDARD) else self.rules[to][1](text), "source": known}


def _split(text: str) -> list[tuple[str, str]]:
    """Words, each with the signs after it."""
    return [_WORD.fullmatch(word).groups() for word in text.split()]


def _aligned(words: list[str], meant: list[str]) -> Iterator[tuple[int, int, str]]:
    """Which words, one or two, became what: first, last + 1, and the words they became."""
    for kind, start, end, low, high in SequenceMatcher(None, words, meant, autojunk=False).get_opcodes():
        if kind == "equal" or end - start == high - low:
            for place in range(end - start):
                yield start + place, start + place + 1, meant[low + place]
        elif end - start == 1 and high > low:
            yield start, end, " ".join(meant[low:high])
        elif end - start == 2 and high - low == 1:
            yield start, end, meant[low]


def _edit(unit: str, meant: str) -> Edit:
    kept = 0
    while unit[kept : kept + 1] == meant[kept : kept + 1] != "":
        kept += 1
    return len(unit) - kept, meant[kept:]


def _neighbours(words: list[str], start: int, end: int) -> tuple[str, str]:
    """The words before and after some, empty at a text's ends."""
    return words[start - 1] if start else "", words[end] if end < len(words) else ""


def _contexts(unit: str, before: str, after: str) -> Iterator[str]:
    """A unit's contexts, the shortest first; of two words, only those that hold the space between them."""
    last = len(unit) - unit.rfind(" ") if " " in unit else 0
    for size in range(last + 1, min(len(unit), last + LONGEST_ENDING) + 1):
        yield f"-{unit[-size:]}"
        if not after and not last:
            yield f"-{unit[-size:]}{END}"
    yield f"={unit}"
    if not last:
        yield f"{before}<{unit}"
        yield f"{unit}>{after}"
