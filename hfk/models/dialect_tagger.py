"""`EditTagger`: what becomes of each letter of a text, by a linear model of the letters around it.

The second opinion of `dialect_rules`, whose counts see a word's end or the whole of it, but not 것 → 겠 inside of one.
Every letter, and every space, has a few fates, those that it had in training; features of them are hashed into one
vector of weights, learned by AdaGrad with features dropped at random.
"""

from __future__ import annotations

import base64
import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from typing import Any

import numpy as np

SIZE = 1 << 20
"""Weights."""
FATES = 16
"""The most fates of a letter."""
AROUND = ((1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (2, 3))
"""Letters before and after that are seen together."""
REACH = 6
UNHEARD = -5.0
"""The logarithm of the probability of a fate that a letter never had."""
_MIX = [np.uint64(prime) for prime in (2654435761, 40503, 2246822519, 3266489917)]


class EditTagger:
    """What letters become.

    Args:
        fates: letter → what it may become, itself included; a letter that is not there stays.
        weights: float32 `(SIZE,)`.
    """

    def __init__(self, fates: dict[str, list[str]], weights: np.ndarray) -> None:
        self.fates, self.weights = fates, weights

    @classmethod
    def learn(
        cls, pairs: Iterable[tuple[str, str]], epochs: int = 4, rate: float = 0.02, dropped: float = 0.3, seed: int = 0
    ) -> EditTagger:
        """Learn from texts and what became of them; the same pairs give the same weights on one machine."""
        texts = [list(split_fates(source.split(), target.split())) for source, target in pairs]
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for fates in texts:
            for letter, fate in fates:
                counts[letter][fate] += 1
        known = {}
        for letter, found in counts.items():
            often = [fate for fate, count in found.most_common(FATES) if count > 1 and fate != letter]
            if often:
                known[letter] = [letter, *often]
        tagger = cls(known, np.zeros(SIZE, np.float32))
        examples = []
        for fates in texts:
            text, before = "".join(letter for letter, _ in fates), ""
            for place, (letter, fate) in enumerate(fates):
                if fate in known.get(letter, ()):
                    examples.append((letter, _seen(text, place, before), known[letter].index(fate)))
                before = "" if letter == fate else f"{letter}>{fate}"
        tagger._fit(examples, epochs, rate, dropped, seed)
        return tagger

    def _fit(
        self, examples: list[tuple[str, np.ndarray, int]], epochs: int, rate: float, dropped: float, seed: int
    ) -> None:
        order, draw = random.Random(seed), np.random.default_rng(seed)
        squares = np.full(SIZE, 1e-10, np.float32)
        for _ in range(epochs):
            order.shuffle(examples)
            for first in range(0, len(examples), 512):
                letters, seen, right = zip(*examples[first : first + 512], strict=True)
                ids = np.concatenate(list(map(self._places, letters, seen)))  # a row a fate
                starts = np.cumsum([0, *(len(self.fates[letter]) for letter in letters[:-1])])
                kept = (draw.random(ids.shape, dtype=np.float32) >= dropped) / np.float32(1 - dropped)
                chances = _softmax((self.weights[ids] * kept).sum(axis=1), starts)
                chances[starts + right] -= 1  # the gradient of the cross-entropy
                slopes = (kept * chances[:, None]).ravel() / len(letters)
                slopes = np.bincount(ids.ravel(), slopes, minlength=SIZE).astype(np.float32)
                squares += slopes**2
                self.weights -= rate * slopes / np.sqrt(squares)
        self.weights = self.weights.astype(np.float16).astype(np.float32)  # as they are kept

    def __call__(self, text: str) -> list[dict[str, float]]:
        """Say of each letter of a text what it may become, and the logarithm of each probability."""
        said, before = [], ""
        for place, letter in enumerate(text):
            fates = self.fates.get(letter)
            if fates is None:
                said.append({letter: 0.0})
                before = ""
                continue
            scores = self.weights[self._places(letter, _seen(text, place, before))].sum(axis=1)
            chances = np.log(np.maximum(_softmax(scores, np.array([0])), 1e-9))
            said.append(dict(zip(fates, chances.tolist(), strict=True)))
            best = fates[int(chances.argmax())]
            before = "" if letter == best else f"{letter}>{best}"
        return said

    def _places(self, letter: str, seen: np.ndarray) -> np.ndarray:
        """Where the weights of each fate of a letter are, int64 `(fates, features)`."""
        fates = np.array([zlib.crc32(f"{letter}>{fate}".encode()) for fate in self.fates[letter]], np.uint64)[:, None]
        stays = np.array([1] + [2] * (len(fates) - 1), np.uint64)[:, None]
        own = np.uint64(zlib.crc32(letter.encode()))
        both = [seen * _MIX[0] ^ fates * _MIX[1], seen * _MIX[2] ^ stays * _MIX[3] ^ own]
        mixed = np.concatenate(both, axis=1)
        return ((mixed ^ (mixed >> np.uint64(17))) % np.uint64(SIZE)).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Say it in what JSON can hold; the weights as base64 of compressed float16, little-endian."""
        packed = zlib.compress(self.weights.astype("<f2").tobytes(), 9)
        return {"fates": self.fates, "weights": base64.b64encode(packed).decode("ascii")}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> EditTagger:
        """Make again what `to_dict` said."""
        weights = np.frombuffer(zlib.decompress(base64.b64decode(state["weights"])), "<f2").astype(np.float32)
        if weights.shape != (SIZE,):
            raise ValueError(f"a tagger has {SIZE} weights, not {len(weights)}.")
        return cls(state["fates"], weights)


def _softmax(scores: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The probabilities of scores, those from each start on a distribution of their own."""
    sizes = np.diff(starts, append=len(scores))
    chances = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), sizes))
    return chances / np.repeat(np.add.reduceat(chances, starts), sizes)


def score(said: list[dict[str, float]], word: str, output: str) -> float:
    """The logarithm of the probability that a word becomes an output, by what its letters may become."""
    return sum(fates.get(fate, UNHEARD) for fates, fate in zip(said, _split(word, output), strict=True))


def _seen(text: str, place: int, before: str) -> np.ndarray:
    """What is seen of a letter's surroundings, hashed: uint64 `(features,)`."""
    return np.array([zlib.crc32(name.encode()) for name in _names(text, place, before)], np.uint64)


def _names(text: str, place: int, before: str) -> Iterator[str]:
    """What is seen of a letter's surroundings; `before` is what changed just before it."""
    padded, at = "^" * REACH + text + "$" * REACH, place + REACH
    left, right = padded[at - REACH : at], padded[at + 1 : at + 1 + REACH]
    start, end = left.rpartition(" ")[2], right.partition(" ")[0]
    yield "bias"
    for length in (1, 2, 3, 4):
        yield f"L{left[-length:]}"
        yield f"R{right[:length]}"
    for of_left, of_right in AROUND:
        yield f"B{left[-of_left:]}|{right[:of_right]}"
    last, first = _jamo(left[-1]), _jamo(right[0])
    yield from (f"W{start}|{end}", f"S{start}", f"E{end}", f"l{left[-5:]}", f"r{right}", f"T{text[-2:]}")
    yield from (f"lf{last[2]}", f"ri{first[0]}", f"rv{first[1]}", f"fi{last[2]}|{first[0]}", f"v{last[1:]}|{right[0]}")
    yield from (f"p{before}|{left[-1]}", f"P{before}")


def _jamo(letter: str) -> tuple[str, str, str]:
    """A syllable's initial, vowel and final as numbers; of any other letter, itself."""
    code = ord(letter) - 0xAC00
    return (str(code // 588), str(code % 588 // 28), str(code % 28)) if 0 <= code < 11172 else (letter,) * 3


def split_fates(words: list[str], meant: list[str]) -> Iterator[tuple[str, str]]:
    """Each letter of some words, and the spaces between, with what became of it."""
    first = True
    for kind, start, end, low, high in SequenceMatcher(None, words, meant, autojunk=False).get_opcodes():
        if kind == "insert":
            continue
        steps = range(end - start) if kind == "equal" or end - start == high - low else ()
        units = [(words[start + step], meant[low + step]) for step in steps]
        for unit, output in units or [(" ".join(words[start:end]), " ".join(meant[low:high]))]:
            if not first:
                yield " ", " "
            first = False
            yield from zip(unit, _split(unit, output), strict=True)


def _split(unit: str, output: str) -> list[str]:
    """Cut an output into what became of each letter of a unit."""
    fates = [""] * len(unit)
    for kind, start, end, low, high in SequenceMatcher(None, unit, output, autojunk=False).get_opcodes():
        if kind == "insert":
            fates[max(start - 1, 0)] += output[low:high]
            continue
        for step in range(end - start):
            last = step == end - start - 1
            fates[start + step] += output[low + step : high if last else low + step + 1] if low + step < high else ""
    return fates
