"""`Rules`: what becomes of the words of a text in one direction between a dialect and the standard language.

The rules are counts from pairs: how a word changed, seen by its last syllables, as a whole, and beside its neighbors;
the longer the context, the more it is believed. What no pair says anything of, such as numbers and names, is copied.
Nothing here is a neural model.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

LONGEST_ENDING = 4
"""Syllables of a word's end that a rule may ask for."""
TRUST = (2.0, 8.0)
"""Into and out of the standard language: so many sightings of a longer context weigh as much as what the shorter ones
say; out of it a word has several fates, and caution pays. Chosen in benchmarks/dialect.md."""
END = "$"
"""Says of an ending that it is a text's last."""
SURE = 0.5
"""Two words become one only from this probability on."""
UNSEEN = 0.01
"""The probability of what no count speaks of; chosen in benchmarks/dialect.md."""
SIGNS = ".,?!…"
_WORD = re.compile(rf"(\S*?)([{SIGNS}]*)")
Edit = tuple[int, str]
"""How many letters a word loses at its end, and which it gets in their place."""
KEEP: Edit = (0, "")
_LONGER: Edit = (-1, "")  # an edit that takes away more than the context shows


class Rules:
    """What becomes of words in one direction.

    Args:
        counts: context → edit → how often. Contexts of a word are its ending (`-는디`), the word (`=모르는디`), and the
            word with its left (`잘<모르는디`) or right neighbor (`모르는디>그`); of two words, the end of both
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
        """Count how words change, from pairs of a text and what becomes of it.

        Pairs of single words, as in a dictionary, are looked up whole, where no text has the word.
        """
        pairs = list(pairs)
        texts = [pair for pair in pairs if " " in pair[0]] or pairs
        rules = cls(cls._count(texts), trust)
        if len(texts) < len(pairs):
            known = {word for source, _ in texts for word, _ in _split(source)}
            words = cls._count([pair for pair in pairs if " " not in pair[0] and _split(pair[0])[0][0] not in known])
            rules.counts |= {context: edits for context, edits in words.items() if context[0] == "="}
        return rules

    @staticmethod
    def _count(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[Edit, int]]:
        seen: list[tuple[str, str, str, Edit]] = []
        for source, target in pairs:
            words = [word for word, _ in _split(source)]
            for start, end, meant in _aligned(words, [word for word, _ in _split(target)]):
                unit, (before, after) = " ".join(words[start:end]), _neighbors(words, start, end)
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
        return dict(counts)

    def to_dict(self) -> dict[str, Any]:
        """Say it in what JSON can hold: each edit as its letters to take away and to add, and how often."""
        counts = {context: [[*edit, n] for edit, n in edits.items()] for context, edits in self.counts.items()}
        return {"trust": self.trust, "counts": counts}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Rules:
        """Make again what `to_dict` said."""
        counts = {context: {(lost, got): n for lost, got, n in edits} for context, edits in state["counts"].items()}
        return cls(counts, state["trust"])

    def __call__(self, text: str) -> str:
        """Rewrite a text; the signs after its words stay."""
        made: list[str] = []
        for word, sign, _ in self._rewrite(text):
            if word or not made:
                made.append(word + sign)
            elif sign and made[-1][-1:] not in SIGNS:  # of a word that is left out, the one before takes the sign
                made[-1] += sign
        return " ".join(filter(None, made)) or text

    def changes(self, text: str) -> float:
        """How many words of a text are expected to change, from 0: how much it looks like what was learned from."""
        return sum(share for *_, share in self._rewrite(text))

    def _rewrite(self, text: str) -> Iterator[tuple[str, str, float]]:
        """Every word of a text, or two at once, rewritten, the signs after it, and how likely it is that it changes."""
        split, place = _split(text), 0
        words = [word for word, _ in split]
        while place < len(words):
            end = min(place + 2, len(words))
            unit = " ".join(words[place:end])
            chances = self._chances(unit, *_neighbors(words, place, end))
            edit = max(chances, key=chances.__getitem__)
            joins = end - place == 2 and edit[0] > len(words[end - 1]) and chances[KEEP] < 1 - SURE
            if not joins or split[place][1]:
                end, unit = place + 1, words[place]
                chances = self._chances(unit, *_neighbors(words, place, end))
            yield _apply(max(chances, key=chances.__getitem__), unit), split[end - 1][1], 1 - chances[KEEP]
            place = end

    def chance(self, words: Sequence[str], start: int, end: int, made: str) -> float:
        """The logarithm of the probability that some words of a text, from `start` to before `end`, become `made`."""
        bare, meant = ([word for word, _ in _split(text)] for text in (" ".join(words), made))
        total = 0.0
        for first, last, became in _aligned(bare[start:end], meant):
            unit = " ".join(bare[start + first : start + last])
            chances = self._chances(unit, *_neighbors(bare, start + first, start + last))
            likely = (chance for edit, chance in chances.items() if _apply(edit, unit) == became)
            total += math.log(max([UNSEEN, *likely]))
        return total

    def _chances(self, unit: str, before: str, after: str) -> dict[Edit, float]:
        """The edits of a word, or of two, and their probabilities."""
        chances: dict[Edit, float] = {KEEP: 1.0}
        for context in _contexts(unit, before, after):
            found = self.counts.get(context)
            if found is None:
                continue
            weight = 1 / (sum(found.values()) + self.trust)
            for edit in (*chances, *(edit for edit in found if edit not in chances)):
                chances[edit] = (found.get(edit, 0) + self.trust * chances.get(edit, 0.0)) * weight
        chances.pop(_LONGER, None)
        return chances


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
        elif kind == "delete":  # words that only a dialect has, such as 게 and 이 at the ends of Jeju's sentences
            yield from ((place, place + 1, "") for place in range(start, end))


def _apply(edit: Edit, unit: str) -> str:
    return unit[: len(unit) - edit[0]] + edit[1]


def _edit(unit: str, meant: str) -> Edit:
    kept = 0
    while unit[kept : kept + 1] == meant[kept : kept + 1] != "":
        kept += 1
    return len(unit) - kept, meant[kept:]


def _neighbors(words: list[str], start: int, end: int) -> tuple[str, str]:
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
