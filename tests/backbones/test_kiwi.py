"""Kiwi's files are read as their layout says, and the packaged morphemes mean what Kiwi says they do."""

from __future__ import annotations

import unicodedata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from hfk.backbones import kiwi, registry
from tests.backbones import kiwi_files


@pytest.fixture
def files(tmp_path):
    return kiwi_files.write(tmp_path)


def row_of(word: str, homograph: int = 0) -> int:
    return [row for row, (form, _) in enumerate(kiwi_files.MORPHEMES) if form == word][homograph]


def test_vectors_are_what_the_layout_says(files):
    table = kiwi.read_embeddings(files[0])
    for row in (0, 31, row_of("대통령"), len(table) - 1):
        np.testing.assert_allclose(table[row], kiwi_files.expected(row), rtol=1e-5, atol=1e-6)


def test_homographs_share_a_piece_and_allomorphs_a_vector(files):
    read = kiwi.read(*files)
    vectors = dict(zip(read.pieces, read.vectors, strict=True))
    rows = [row_of("배"), row_of("배", 1)]
    weights = [1 / (row + 50) for row in rows]
    mean = np.average([kiwi_files.expected(row) for row in rows], axis=0, weights=weights)
    np.testing.assert_allclose(vectors["배"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(vectors["는"], vectors["은"])
    assert read.scores[read.pieces.index("배")] == pytest.approx(np.log(sum(weights)))
    assert "간" in vectors and "사투리" not in vectors and not any("\u11ab" in piece for piece in vectors)


def test_the_folder_is_a_checkpoint_with_an_ordinary_tokenizer(files, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_package_file", lambda part: tmp_path / part.file.rpartition("/")[2])
    folder = registry.prepare("kiwi-morphemes", tmp_path / "cache")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("대통령은\n국회 방문…") == ["대통령", "은", "국회", "방문", "…"]
    assert tokenizer(unicodedata.normalize("NFD", "국회"))["input_ids"] == tokenizer("국회")["input_ids"]
    vectors = model.get_input_embeddings()
    for text, row in (("7", 33), ("K", 31), ("北", 32), ("쉿", 3), ("@", 29), ("대통령", row_of("대통령"))):
        (number,) = tokenizer(text)["input_ids"]
        half = torch.from_numpy(kiwi_files.expected(row)).half().float()  # as it is kept
        torch.testing.assert_close(vectors(torch.tensor(number)), half, atol=1e-3, rtol=1e-3)
    batch = tokenizer(["대통령 국회", "바다"], padding=True, return_tensors="pt")
    mean = torch.stack([vectors(torch.tensor(tokenizer(word)["input_ids"]))[0] for word in ("대통령", "국회")]).mean(0)
    torch.testing.assert_close(model(**batch).pooler_output[0], mean)
    assert {"LICENSE.txt", "NOTICE"} <= {file.name for file in folder.iterdir()}


def test_neighbors_of_a_president(kiwi_morphemes):
    tokenizer = AutoTokenizer.from_pretrained(kiwi_morphemes)
    table = AutoModel.from_pretrained(kiwi_morphemes).get_input_embeddings().trained.weight.detach()[:, :256]
    similar = functional.cosine_similarity(table, table[tokenizer.convert_tokens_to_ids("대통령")][None])
    nearest = tokenizer.convert_ids_to_tokens(similar.topk(8).indices.tolist())
    assert {"정권", "국회", "청와대", "총리", "정부"} < set(nearest)


def test_cosines_agree_with_kiwis_own(kiwi_morphemes):
    analyzer = pytest.importorskip("kiwipiepy").Kiwi(model_type="cong")
    table = kiwi.read_embeddings(Path(next(iter(find_spec("kiwipiepy_model").submodule_search_locations)), "cong.mdl"))[
        :, :256
    ]
    pairs = np.random.default_rng(0).integers(100, 30000, (300, 2))
    theirs = [analyzer.morpheme_similarity(int(a), int(b)) for a, b in pairs]
    unit = table / np.linalg.norm(table, axis=1, keepdims=True).clip(1e-9)
    ours = (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1)
    assert np.corrcoef(ours, theirs)[0, 1] >= 0.99 and np.abs(ours - theirs).max() < 0.02
