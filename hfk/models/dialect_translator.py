"""`DialectTranslator`: texts from any region or the standard language into any other.

Rules and a checkpoint's seq2seq vote on every few words, which measures better than either (benchmarks/dialect.md).
From one dialect into another the way leads through the standard language. A checkpoint keeps the rules as JSON.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .dialect_rules import TRUST, Rules
from .dialect_seq2seq import Seq2SeqRewriter, pieces, prompt_of
from .shared import normalize_letters

STANDARD = "standard"
RULES_FILE = "dialect_rules.json"
WAYS = ("rules", "model", "vote")
CHUNK = 512
"""Texts that are translated together; the generator gives them out one by one."""


class DialectTranslator:
    """Translate between the standard language and the regions of some pairs.

    Args:
        rules: region → its rules into the standard language, and those out of it.
        rewriter: a trained seq2seq of the same regions, if there is one.

    Example:
        >>> pairs = [("jeju", "가게", "가자"), ("jeolla", "가소", "가자")]
        >>> translator = DialectTranslator.learn(pairs * 2)  # what was seen once is not believed
        >>> [made["text"] for made in translator(["가게"], to="jeolla", source="jeju")]
        ['가소']
    """

    def __init__(self, rules: dict[str, tuple[Rules, Rules]], rewriter: Seq2SeqRewriter | None = None) -> None:
        self.rules, self.rewriter = rules, rewriter

    @classmethod
    def learn(cls, pairs: Iterable[tuple[str | None, str, str]]) -> DialectTranslator:
        """Learn the rules of every region from (region, dialect, standard).

        Raises:
            ValueError: if no pair names a region.
        """
        of_region: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for region, dialect, standard in pairs:
            if region and region != STANDARD and dialect and standard:
                of_region[region].append((dialect, standard))
        if not of_region:
            raise ValueError("there is nothing to learn from: no pair has a region and both sides.")
        rules = {}
        for region, found in sorted(of_region.items()):
            into, out = Rules.learn(found, TRUST[0]), Rules.learn([pair[::-1] for pair in found], TRUST[1])
            rules[region] = (into, out)
        return cls(rules)

    @property
    def regions(self) -> tuple[str, ...]:
        """What can be translated into."""
        return (STANDARD, *self.rules)

    def detect(self, text: str) -> str:
        """The region whose rules expect most of a text to change; `standard` where none expects half a word to."""
        expected = {region: into.changes(text) for region, (into, _) in self.rules.items()}
        region = max(expected, key=expected.__getitem__)
        return region if expected[region] >= 0.5 else STANDARD

    def __call__(
        self, texts: Iterable[Any], to: str, source: str | None = None, by: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Translate texts.

        Args:
            texts: one sentence or more each.
            to: a region, or `standard`.
            source: what the texts are in; found out text by text by default.
            by: `vote` of the rules and the seq2seq, `rules` or `model` alone; the vote by default, where there is a
                seq2seq.

        Yields:
            for each text, in order, `text` and `source`; `{"error": sentence}` for one that is empty or no text.

        Raises:
            ValueError: for a region that there are no rules of, or a way that there is not; the sentence lists them.
        """
        for region in (to, source):
            if region not in (None, *self.regions):
                raise ValueError(f"there are no rules of {region!r}; regions: {', '.join(self.regions)}.")
        by = by or self.way
        if by not in WAYS or (by != "rules" and self.rewriter is None):
            there = WAYS if self.rewriter is not None else WAYS[:1]
            raise ValueError(f"there is no way {by!r} of translating; there is: {', '.join(there)}.")
        return self._stream(iter(texts), to, source, by)

    def _stream(self, texts: Iterator[Any], to: str, source: str | None, by: str) -> Iterator[dict[str, Any]]:
        while some := list(islice(texts, 1 if by == "rules" else CHUNK)):
            clean = list(map(_clean, some))
            origins = [source or (self.detect(text) if text else STANDARD) for text in clean]
            made = self.rewrite(clean, origins, [to] * len(clean), by)
            for text, origin, translated in zip(clean, origins, made, strict=True):
                yield {"text": translated, "source": origin} if text else {"error": "the text is empty."}

    @property
    def way(self) -> str:
        """How texts are translated where nobody says how."""
        return "rules" if self.rewriter is None else "vote"

    def rewrite(
        self, texts: Sequence[str], sources: Sequence[str], to: Sequence[str], by: str | None = None
    ) -> list[str]:
        """Rewrite clean texts, each from its region into another; arguments otherwise as for a call."""
        texts, by = list(texts), by or self.way
        for step, regions, others in ((0, sources, to), (1, to, sources)):  # into the standard language, then out of it
            rows = [row for row, other in enumerate(others) if regions[row] not in (STANDARD, other)]
            given, tags = [texts[row] for row in rows], [regions[row] if step else STANDARD for row in rows]
            if by == "model":
                made = self.rewriter(given, tags)
            else:
                rules = [self.rules[regions[row]][step] for row in rows]
                made = [rule(text) for rule, text in zip(rules, given, strict=True)]
                made = made if by == "rules" else self._vote(given, tags, rules, made)
            for row, text in zip(rows, made, strict=True):
                texts[row] = text
        return texts

    def _vote(self, texts: list[str], to: list[str], rules: list[Rules], made: list[str]) -> list[str]:
        """Of what the rules have `made` and the model makes, few words at a time, what both together find likelier."""
        parts = []  # of each text: words, start and end of a few, the prompt, and what the rules make of them
        for text, region, other in zip(texts, to, made, strict=True):
            words = text.split()
            cut = pieces(words, other.split(), self.rewriter.words)
            parts.append([(words, a, b, prompt_of(words, a, b, region), " ".join(own)) for a, b, own in cut])
        said = self.rewriter.answers(
            {prompt: " ".join(words[a:b]) for part in parts for words, a, b, prompt, _ in part}
        )
        doubtful = [(prompt, own) for part in parts for *_, prompt, own in part if said.get(prompt, own) != own]
        chances = self.rewriter.chances(dict.fromkeys([*doubtful, *((prompt, said[prompt]) for prompt, _ in doubtful)]))
        chosen = []
        for rule, part in zip(rules, parts, strict=True):
            chosen.append([])
            for words, a, b, prompt, own in part:
                answer = said.get(prompt, own)
                if answer != own:
                    gain = chances[prompt, answer] - chances[prompt, own]
                    gain += rule.chance(words, a, b, answer) - rule.chance(words, a, b, own)
                    own = answer if gain > 0 else own
                chosen[-1].append(own)
        return [" ".join(filter(None, some)) for some in chosen]

    def to_json(self) -> str:
        """Write the rules down, for `from_json`."""
        rules = {region: [direction.to_dict() for direction in both] for region, both in self.rules.items()}
        return json.dumps({"version": 1, "regions": rules}, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, path: str | Path, rewriter: Seq2SeqRewriter | None = None) -> DialectTranslator:
        """Read the rules of a file that holds what `to_json` wrote.

        Raises:
            ValueError: if it is damaged.
        """
        try:
            regions = json.loads(Path(path).read_text(encoding="utf-8"))["regions"]
            rules = {region: tuple(map(Rules.from_dict, both)) for region, both in regions.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path} is damaged: it can't be read as rules. Copy it again.") from None
        return cls(rules, rewriter)


def _clean(text: Any) -> str:
    """A text composed (NFC), one space between words; of what is none, such as an empty cell, nothing is left."""
    return " ".join(normalize_letters(text).split()) if isinstance(text, str) else ""
