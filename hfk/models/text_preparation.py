"""`TextPreparation`: from a row's texts to token numbers, in Python, NumPy and `tokenizers` alone.

The processor does it so in training and in service; so does a server without torch, which takes this module and what it
imports out of the package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from .character_tokens import CharacterTokens
from .shared import CONTROL, normalize_letters, unescape

SEPARATOR = "␟"
"""What stands between the texts of one row; the processor puts the tokenizer's own separator there."""
MAX_CHARACTERS = 50_000
"""Longer texts are cut before anything is done with them; those of one row together."""
MAX_TEXTS = 64
"""Further texts of one row are not read."""
CLEANED_CHARACTERS = 12_000
"""Without surplus space, so many characters go on to the steps of the cleaning and the tokenizer; or, if that is more,
`CHARACTERS_A_TOKEN` for each of `max_length` tokens."""
CHARACTERS_A_TOKEN = 24
"""Far above what a token covers: two or three letters of Korean."""

ENCODING = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}


class TextPreparation:
    """Cleans, cuts and tokenizes texts by the options of a `MultiHeadProcessor`, which are its attributes."""

    max_length: int
    text_prefix: str
    text_separator: str
    truncation: str
    cleaner: Any = None
    _characters: CharacterTokens | None = None

    @property
    def backend(self) -> Tokenizer | None:
        """The tokenizer proper; None where it is not one of the package `tokenizers`."""
        raise NotImplementedError

    def _cut_and_fill(self) -> None:
        """Set the backend to cut texts at `max_length` and to fill up a batch."""
        raise NotImplementedError

    def clean(self, text: Any) -> str | None:
        """Prepare one text: NFC, HTML entities resolved, whitespace runs to one space; then the steps of the cleaning.

        Several texts, a list or one str with `SEPARATOR` between them, are prepared each and joined by
        `text_separator`. What no encoder reads is cut off first, so that time and memory have a bound: see
        `MAX_CHARACTERS` and what follows it. None (or NaN) if there is no text, or nothing is left of it; ValueError
        for what is no str.
        """
        if text is None or (isinstance(text, float) and math.isnan(text)):
            return None
        several = list(text[:MAX_TEXTS]) if isinstance(text, list | tuple) and text else [text]
        if isinstance(text, str):
            several = text.split(SEPARATOR, MAX_TEXTS)[:MAX_TEXTS]
        parts = [self._clean_one(part, MAX_CHARACTERS // len(several)) for part in several]
        if len(parts) < 2:
            return (parts or [""])[0] or None
        kept = parts if self.text_separator.strip() else filter(None, parts)
        return self.text_separator.join(kept).strip() if any(parts) else None

    def _clean_one(self, text: Any, most: int) -> str:
        """Clean one text of a row, of which `most` characters are read; empty if there is none."""
        if text is None or (isinstance(text, float) and math.isnan(text)):
            return ""
        if not isinstance(text, str):
            raise ValueError(f"a text must be a str, not {type(text).__name__}.")
        text = unescape(self._within(text, most))
        if not text.isprintable():
            # Lone surrogates break tokenizers; control characters carry no meaning, and NUL ends strings in some.
            text = CONTROL.sub(" ", text.encode("utf-8", "ignore").decode())
        text = " ".join(normalize_letters(text).split())
        text = self._within(text, max(CLEANED_CHARACTERS, CHARACTERS_A_TOKEN * self.max_length)).strip()
        if self.cleaner is not None and text:
            text = " ".join(self.cleaner(text).split())
        return text

    def _within(self, text: str, most: int) -> str:
        """Cut a text to so many characters, where `truncation` says."""
        if len(text) <= most:
            return text
        first, last = _ends(most - 1, self.truncation)
        return f"{text[:first]} {text[len(text) - last :]}"

    def shorten(self, text: str) -> str:
        """Cut a clean text that is longer than `max_length`, where the tokenizer would not cut it as `truncation` says.

        Of a row's several texts the longest is cut, so that all of them are read, as tokenizers do with pairs.
        """
        parts = text.split(self.text_separator) if self.text_separator.strip() else [text]
        whole = len(parts) < 2 and (self.truncation == "head" or (self.truncation == "tail" and not self.text_prefix))
        fits = len(self.text_prefix) + len(text) <= self.max_length  # a token is no less than a sign
        if whole or fits or self.backend is None:
            return text
        self.backend.no_truncation()  # `encode` sets both again
        self.backend.no_padding()
        found = [one.offsets for one in self.backend.encode_batch(parts, add_special_tokens=False)]
        room = self.max_length - self.backend.num_special_tokens_to_add(False) - len(parts) + 1
        room -= len(self.backend.encode(self.text_prefix, add_special_tokens=False).ids)
        while True:
            shares = _share([len(tokens) for tokens in found], room)
            cut = [_cut(*part, self.truncation) for part in zip(parts, found, shares, strict=True)]
            shorter = self.text_separator.join(cut)
            excess = len(self.backend.encode(self.text_prefix + shorter).ids) - self.max_length
            if excess <= 0 or room <= len(parts):
                return shorter
            room -= excess  # what begins inside a word may take more pieces there than it did

    def encode(self, texts: Sequence[str], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Tokenize a batch, filled up to its longest text: of each name an int64 array `(batch, tokens)`."""
        self._cut_and_fill()
        if self._characters is None or self._characters.backend is not self.backend:
            self._characters = CharacterTokens(self.backend)
        found = self._characters(texts)
        if found is None:
            encodings = self.backend.encode_batch_fast(texts)  # which keeps no offsets
            return {name: np.array([getattr(one, ENCODING[name]) for one in encodings]) for name in names}
        ids, mask = found
        given = {"input_ids": ids, "attention_mask": mask}
        return {name: given[name] if name in given else np.zeros_like(ids) for name in names}


def _ends(count: int, truncation: str) -> tuple[int, int]:
    """How many of `count` are read from the beginning, and how many from the end."""
    return {"head": (count, 0), "tail": (0, count), "middle": (count - count // 2, count // 2)}[truncation]


def _cut(text: str, tokens: list[tuple[int, int]], kept: int, truncation: str) -> str:
    """Keep so many of a text's tokens, which are given by their places."""
    if kept >= len(tokens):
        return text
    first, last = _ends(kept, truncation)
    head = text[: tokens[first - 1][1]] if first else ""
    tail = text[tokens[-last][0] :] if last else ""
    return f"{head} {tail}".strip()


def _share(lengths: list[int], room: int) -> list[int]:
    """Divide `room` among texts of these lengths: the shortest stay whole, the others get as much each."""
    kept = [0] * len(lengths)
    shortest_first = sorted(range(len(lengths)), key=lengths.__getitem__)
    for waiting, place in zip(range(len(lengths), 0, -1), shortest_first, strict=True):
        kept[place] = min(lengths[place], max(1, room // waiting))
        room -= kept[place]
    return kept
