"""Reader of the two files of the PyPI package `kiwipiepy_model` that hold what its language model knows of morphemes.

`cong.mdl` has two 4-bit vectors a morpheme (as the next one, and as one that stands up to seven back), `sj.morph` what
the morphemes are written like; all little-endian. Both are read with numpy alone and checked to their last byte, so
that a truncated or altered file ends in one `ValueError`. No analyzer is needed: homographs share one piece, whose
score and vector are theirs weighted by frequency, and pieces with scores are a unigram vocabulary. The contexts and
their trie, more than half of the file, are left out: they add nothing to a text's mean vector.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CLASSES = {"word": 3, "latin": 31, "hanja": 32, "number": 33, "symbol": 29}
"""Rows that stand for what has none of its own: the language model's tags of proper nouns, SL, SH, SN and SW."""
_FIRST_FORM = 61  # rows before are classes
_HEADER = struct.Struct("<QQHHBBBBQQQQQ")
_FINAL = re.compile("([가-힣])([\u11a8-\u11c2])")
_LONE_FINAL = re.compile("[\u11a8-\u11c2]")


@dataclass
class Kiwi:
    """What the files hold.

    `pieces` are distinct strings, frequent ones first, `scores` their natural-log probabilities, and `vectors` float32
    `(pieces, 2 × dimension)`: output and distant vector side by side. `classes` has the vector of each of `CLASSES`.
    """

    pieces: list[str]
    scores: np.ndarray
    vectors: np.ndarray
    classes: dict[str, np.ndarray]


def read(embeddings: str | Path, morphemes: str | Path) -> Kiwi:
    """Read `cong.mdl` and `sj.morph`; ValueError if one is truncated or of another kind."""
    table = read_embeddings(embeddings)
    rows: dict[str, set[int]] = defaultdict(set)
    for form, row in read_morphemes(morphemes):
        if row < len(table):  # further ones, dialects, have a number and no vector
            rows[form].add(row)
    if not rows:
        raise ValueError(f"{Path(morphemes).name} names none of the morphemes of {Path(embeddings).name}")
    # Rows run from frequent to rare, so that 1 / (row + 50) stands for how frequent a morpheme is (Zipf).
    weights = {form: sum(1 / (row + 50) for row in found) for form, found in rows.items()}
    pieces = sorted(rows, key=lambda form: (-weights[form], form))
    homographs = np.array([row for piece in pieces for row in sorted(rows[piece])])
    starts = np.cumsum([0] + [len(rows[piece]) for piece in pieces[:-1]])
    totals = np.array([weights[piece] for piece in pieces])
    vectors = np.add.reduceat(table[homographs] / (homographs + 50)[:, None], starts) / totals[:, None]
    classes = {name: table[row] for name, row in CLASSES.items()}
    return Kiwi(pieces, np.log(totals), vectors.astype(np.float32), classes)


def read_embeddings(path: str | Path) -> np.ndarray:
    """Read the output and distant vectors of every morpheme of `cong.mdl`, float32 `(morphemes, 2 × dimension)`."""
    path = Path(path)
    data = np.memmap(path, np.uint8, mode="r")
    if len(data) < _HEADER.size:
        raise ValueError(f"{path.name} is not a Kiwi language model")
    vocab, contexts, size, flags, key, window, bits, group, _, *offsets = _HEADER.unpack(data[: _HEADER.size].tobytes())
    possible = window and group and not size % (2 * group) and vocab > max(CLASSES.values())
    if (flags, key, bits) != (0, 3, 4) or not possible:
        raise ValueError(f"{path.name} is not a Kiwi language model of the known layout (kiwipiepy_model 0.24)")
    vector = [("nibbles", "u1", size // 2), ("scale", "<f2"), ("local", "u1", size // group)]
    context = np.dtype([*vector, ("rest", "<f2", 3)])
    output, distant = np.dtype(vector), np.dtype([*vector, ("rest", "<f2", 2)])
    start = offsets[-1] + contexts * context.itemsize
    middle = start + vocab * output.itemsize
    end = middle + vocab * distant.itemsize
    if end + 2 * window + -(-vocab // 8) != len(data):
        raise ValueError(f"{path.name} is truncated or corrupt: its sizes do not add up to its length")
    table = np.concatenate(
        [_dequantize(data[start:middle].view(output), group), _dequantize(data[middle:end].view(distant), group)], 1
    )
    if not np.isfinite(table).all():
        raise ValueError(f"{path.name} is corrupt: it holds numbers that are not finite")
    return table


def _dequantize(records: np.ndarray, group: int) -> np.ndarray:
    """Turn records into `(records, size)`: (nibble - zero) × step / 9 × scale / 8, low nibbles first."""
    nibbles = np.stack([records["nibbles"] & 15, records["nibbles"] >> 4], -1).reshape(len(records), -1, group)
    zero, step = (records["local"] >> 6) + 6.0, (records["local"] & 63) + 9.0
    scale = records["scale"].astype(np.float32)[:, None] / 72
    with np.errstate(invalid="ignore", over="ignore"):  # of a damaged file; the caller checks the result
        values = (nibbles - zero[..., None].astype(np.float32)) * (step * scale)[..., None]
    return values.reshape(len(records), -1).astype(np.float32)


def read_morphemes(path: str | Path) -> list[tuple[str, int]]:
    """Read of `sj.morph` how morphemes are written and which row is theirs; those that begin inside a syllable don't.

    Allomorphs (를 beside 을) share a row; dialects and contractions of several morphemes are left out.
    """
    path = Path(path)
    data = path.read_bytes()
    if data[:4] != b"KIWI":
        raise ValueError(f"{path.name} is not a list of Kiwi's morphemes")
    try:
        found, at = _parse_morphemes(data)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise ValueError(f"{path.name} is truncated or corrupt") from None
    if at != len(data):
        raise ValueError(f"{path.name} is corrupt: {len(data) - at} bytes follow its last morpheme")
    return found


def _parse_morphemes(data: bytes) -> tuple[list[tuple[str, int]], int]:
    forms, at = [], 8
    for _ in range(*struct.unpack_from("<I", data, 4)):
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + 2 * length
        forms.append(_FINAL.sub(_join, data[at - 2 * length : at].decode("utf-16-le")))
        at += 4 + 4 * struct.unpack_from("<I", data, at)[0]  # candidates
    found = []
    (count,) = struct.unpack_from("<I", data, at)
    at += 4
    for number in range(count):
        form, *_, chunks = struct.unpack_from("<I4BifI", data, at)
        at += 20 + 4 * chunks
        at += 4 + 2 * struct.unpack_from("<I", data, at)[0]  # positions of the chunks
        row, _, dialect, _ = struct.unpack_from("<IIHH", data, at)
        at += 12
        written = forms[form]
        standard = row == number or not (dialect or chunks)
        if row >= _FIRST_FORM and standard and written and not _LONE_FINAL.match(written):
            found.append((written, row))
    return found, at


def _join(match: re.Match) -> str:
    """Put a final under its open syllable."""
    syllable, final = ord(match[1]), ord(match[2]) - 0x11A7
    return chr(syllable + final) if (syllable - 0xAC00) % 28 == 0 else match[0]
