"""Writes the two files of `kiwipiepy_model` by hand: a few morphemes with vectors of 16 numbers."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

SIZE, GROUP, CONTEXTS, WINDOW = 16, 8, 3, 7
NOUN, VERB, PARTICLE, ENDING = 1, 4, 42, 49  # tags
CLASSES = [("", 0)] * 61
WORDS = [
    ("은", PARTICLE), ("대통령", NOUN), ("국회", NOUN), ("방문", NOUN), ("하", VERB), ("가\u11ab", NOUN),
    ("\u11ab다", ENDING), ("배", NOUN), ("배", NOUN), ("바다", NOUN), ("야구", NOUN), ("경기", NOUN), ("…", 27),
]  # fmt: skip
MORPHEMES = CLASSES + WORDS
ALLOMORPH = ("는", PARTICLE, 61)  # written otherwise, with the row of 은
VOCABULARY = len(MORPHEMES)


def vectors() -> dict[str, np.ndarray]:
    """Nibbles, scales and local bytes of the morphemes, output first."""
    draw = np.random.default_rng(0)
    shape = (2, VOCABULARY)
    return {
        "nibbles": draw.integers(0, 16, (*shape, SIZE)),
        "scale": draw.uniform(0.1, 0.5, shape).astype(np.float16),
        "local": draw.integers(0, 256, (*shape, SIZE // GROUP)),
    }


def expected(row: int) -> np.ndarray:
    """The two vectors of a row, number by number as the layout says."""
    held, values = vectors(), []
    for side in (0, 1):
        for place in range(SIZE):
            local = int(held["local"][side, row, place // GROUP])
            zero, step = (local >> 6) + 6, (local & 63) + 9
            scale = float(held["scale"][side, row])
            values.append((int(held["nibbles"][side, row, place]) - zero) * step / 9 * scale / 8)
    return np.array(values)


def write(folder: Path) -> tuple[Path, Path]:
    """Write cong.mdl and sj.morph into a folder."""
    held, table = vectors(), b""
    for side, rest in ((0, b""), (1, bytes(4))):
        for row in range(VOCABULARY):
            low, high = held["nibbles"][side, row, ::2], held["nibbles"][side, row, 1::2]
            packed = (low | high << 4).astype(np.uint8).tobytes()
            table += packed + held["scale"][side, row].tobytes() + held["local"][side, row].astype(np.uint8).tobytes()
            table += rest
    contexts = bytes(CONTEXTS * (SIZE // 2 + 2 + SIZE // GROUP + 6))
    header = struct.pack("<QQHH4BQ4Q", VOCABULARY, CONTEXTS, SIZE, 0, 3, WINDOW, 4, GROUP, 0, 64, 64, 64, 64)
    end = bytes(2 * WINDOW + -(-VOCABULARY // 8))
    (folder / "cong.mdl").write_bytes(header + contexts + table + end)

    morphemes = [(form, tag, row) for row, (form, tag) in enumerate(MORPHEMES)] + [ALLOMORPH, ("사투리", NOUN, 62)]
    data = b"KIWI" + struct.pack("<I", len(morphemes))
    for form, _, row in morphemes:
        text = form.encode("utf-16-le")
        data += struct.pack("<I", len(text) // 2) + text + struct.pack("<2I", 1, row)
    data += struct.pack("<I", len(morphemes))
    for number, (form, tag, row) in enumerate(morphemes):
        dialect = 1 if form == "사투리" else 0
        data += struct.pack("<I4BifI", number, tag, 0, 0, 0, 0, 0.0, 0) + struct.pack("<IIIHH", 0, row, 0, dialect, 0)
    (folder / "sj.morph").write_bytes(data)
    return folder / "cong.mdl", folder / "sj.morph"
