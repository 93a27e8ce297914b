"""Reader of the two files of the PyPI package `kiwipiepy_model` that hold what its language model knows of morphemes.

`cong.mdl` has two 4-bit vectors a morpheme (as the next one, and as one that stands up to seven back), `sj.morph` how
morphemes are written; all little-endian. That they are the known files is certain before they are read: `registry.py`
compares their SHA-256. Homographs share one piece, whose score and vector are theirs weighted by frequency; so pieces
and scores are a unigram vocabulary, and no analyzer is needed. Contexts and their trie, more than half of the file,
are left out: they add nothing to a text's mean vector.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

CLASSES = {"word": 3, "latin": 31, "hanja": 32, "number": 33, "symbol": 29}
"""Rows that stand for what has none of its own: the language model's tags of proper nouns, SL, SH, SN and SW."""
_FIRST_FORM = 61  # rows before are classes
_FINAL = re.compile("([가-힣])([\u11a8-\u11c2])")


class Kiwi(NamedTuple):
    """What the files hold: pieces, frequent ones first, each with a natural-log score and float32 vectors side by side.

    `classes` has the vectors of each of `CLASSES`.
    """

    pieces: list[str]
    scores: np.ndarray
    vectors: np.ndarray
    classes: dict[str, np.ndarray]


def read(embeddings: Path, morphemes: Path) -> Kiwi:
    """Read `cong.mdl` and `sj.morph`."""
    table = read_embeddings(embeddings)
    rows: dict[str, set[int]] = defaultdict(set)
    for form, row in _read_morphemes(morphemes.read_bytes()):
        if row < len(table):  # further ones, dialects, have a number and no vector
            rows[form].add(row)
    # Rows run from frequent to rare, so that 1 / (row + 50) stands for how frequent a morpheme is (Zipf).
    weights = {form: sum(1 / (row + 50) for row in found) for form, found in rows.items()}
    pieces = sorted(rows, key=lambda form: (-weights[form], form))
    homographs = np.array([row for piece in pieces for row in sorted(rows[piece])])
    starts = np.cumsum([0] + [len(rows[piece]) for piece in pieces[:-1]])
    totals = np.array([weights[piece] for piece in pieces])
    vectors = np.add.reduceat(table[homographs] / (homographs + 50)[:, None], starts) / totals[:, None]
    classes = {name: table[row] for name, row in CLASSES.items()}
    return Kiwi(pieces, np.log(totals), vectors.astype(np.float32), classes)


def read_embeddings(path: Path) -> np.ndarray:
    """Read the output and distant vectors of every morpheme of `cong.mdl`, float32 `(morphemes, 2 × dimension)`."""
    data = np.memmap(path, np.uint8, mode="r")
    vocab, contexts, size, _, _, _, _, group, *_, start = struct.unpack("<QQHH4BQ4Q", data[:64].tobytes())
    vector = [("nibbles", "u1", size // 2), ("scale", "<f2"), ("local", "u1", size // group)]
    output, distant, context = (np.dtype([*vector, ("rest", "<f2", rest)]) for rest in (0, 2, 3))
    start += contexts * context.itemsize
    middle = start + vocab * output.itemsize
    end = middle + vocab * distant.itemsize
    halves = data[start:middle].view(output), data[middle:end].view(distant)
    return np.concatenate([_dequantize(half, group) for half in halves], 1)


def _dequantize(records: np.ndarray, group: int) -> np.ndarray:
    """Turn records into `(records, size)`: (nibble - zero) × step / 9 × scale / 8, low nibbles first."""
    nibbles = np.stack([records["nibbles"] & 15, records["nibbles"] >> 4], -1).reshape(len(records), -1, group)
    zero, step = (records["local"] >> 6) + 6.0, (records["local"] & 63) + 9.0
    steps = step * (records["scale"].astype(np.float32)[:, None] / 72)
    return ((nibbles - zero[..., None]) * steps[..., None]).reshape(len(records), -1).astype(np.float32)


def _read_morphemes(data: bytes) -> list[tuple[str, int]]:
    """How morphemes are written and which row is theirs, without dialects, contractions, and beginnings in a syllable.

    Allomorphs (를 beside 을) share a row.
    """
    forms, found, at = [], [], 8

    def number(skipped: int = 0) -> int:
        nonlocal at
        at += skipped + 4
        return struct.unpack_from("<I", data, at - 4)[0]

    for _ in range(struct.unpack_from("<I", data, 4)[0]):
        length = 2 * number()
        forms.append(_FINAL.sub(_join, data[at : at + length].decode("utf-16-le")))
        candidates = number(length)
        at += 4 * candidates
    for index in range(number()):
        form = forms[number()]
        chunks = number(12)  # after the tag and the like
        places = number(4 * chunks)
        at += 2 * places
        row, _, dialect = struct.unpack_from("<IIH", data, at)
        at += 12
        standard = row == index or not (dialect or chunks)
        if row >= _FIRST_FORM and standard and not "\u11a8" <= form[0] <= "\u11c2":
            found.append((form, row))
    return found


def _join(match: re.Match) -> str:
    """Put a final under its open syllable."""
    syllable, final = ord(match[1]), ord(match[2]) - 0x11A7
    return chr(syllable + final) if (syllable - 0xAC00) % 28 == 0 else match[0]
