"""Encoders that start from packaged morphemes: the vocabulary, the vectors, and what a run keeps of them."""

from __future__ import annotations

import pytest
import torch

from hfk import Predictor, load_task
from hfk.backbones import registry
from hfk.inference.loading import load_checkpoint
from hfk.runs.card import write_card
from hfk.runs.run import Run
from hfk.training import morphemes
from hfk.training.train import train
from tests import tiny
from tests.backbones import kiwi_files

TEXTS = ["대통령은 KTX 국회 방문", "KTX 2017년 국회", "2017년 배"]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a few morphemes stands for the real one."""
    kiwi_files.write(tmp_path)
    monkeypatch.setenv("HFK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "_package_file", lambda part: tmp_path / part.file.rpartition("/")[2])
    morphemes.package.cache_clear()
    yield
    morphemes.package.cache_clear()


def recipe(encoder: str = "morphemes", **options) -> dict:
    shape = {"embedding_size": 8, "num_filters": 4} | options.pop("text_config", {})
    known = {"text_encoder": encoder, "text_config": shape, "embeddings": "kiwi-morphemes", "vision_encoder": None}
    rates = {"learning_rate": 1e-2, "head_learning_rate": 1e-2, "standardize_rows": 0, "num_train_epochs": 2}
    return tiny.RECIPE | known | rates | options


def test_the_vocabulary_begins_with_what_the_texts_have(package):
    tokenizer = morphemes.morpheme_tokenizer(TEXTS, 40, keep_spaces=True)
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    used = {number for ids in tokenizer(TEXTS)["input_ids"] for number in ids}
    assert used == set(range(2, 2 + len(used))) and pieces[2] == " "
    assert {"KTX", "2017", "국회"} <= {pieces[number] for number in used}
    assert "바다" in pieces[2 + len(used) :] and len(tokenizer) <= 40
    assert tokenizer.tokenize("국회 방문") == ["국회", " ", "방문"]
    assert morphemes.morpheme_tokenizer(TEXTS).tokenize("국회 방문") == ["국회", "방문"]


def test_vectors_are_the_packages_or_their_principal_components(package):
    tokenizer = morphemes.morpheme_tokenizer(TEXTS, keep_spaces=True)
    whole, part = (morphemes.morpheme_vectors(tokenizer, size) for size in (32, 20))
    assert whole.shape == (len(tokenizer), 32) and part.shape == (len(tokenizer), 20)
    assert not whole[[0, 2]].any() and not part[[0, 2]].any()
    kt, digit, word, letter = tokenizer.convert_tokens_to_ids(["KTX", "2017", "국회", "은"])
    assert torch.cosine_similarity(whole[kt], whole[digit], 0) < 0.99
    ours = torch.cosine_similarity(whole[word], whole[letter], 0)
    torch.testing.assert_close(torch.cosine_similarity(part[word], part[letter], 0), ours, atol=0.1, rtol=0)
    with pytest.raises(ValueError, match="has vectors of 32 numbers, and embedding_size is 64"):
        morphemes.morpheme_vectors(tokenizer, 64)


@pytest.mark.parametrize("encoder", ["morphemes", "recurrent", "textcnn"])
def test_encoders_start_from_the_package_and_need_it_no_more(encoder, package, places, tmp_path, monkeypatch):
    sizes = {"morphemes": {"deep_size": 16, "ngrams": {"num_buckets": 512, "embedding_size": 8}},
             "recurrent": {"hidden_size": 8}}  # fmt: skip
    options = recipe(encoder, text_config=sizes.get(encoder, {}))
    if encoder == "recurrent":
        del options["text_config"]["num_filters"]
    train(str(places), tmp_path / "run", options)
    monkeypatch.setenv("HFK_CACHE", str(tmp_path / "empty"))
    answer = next(Predictor.from_pretrained(str(tmp_path / "run"))(tiny.SENTENCES[0]))
    assert answer["cat1"]
    assert {"LICENSE.txt", "NOTICE"} <= {file.name for file in (tmp_path / "run").iterdir()}
    card = write_card(tmp_path / "run").read_text(encoding="utf-8")
    assert "github.com/bab2min/Kiwi" in card and "Apache-2.0, from the package `kiwipiepy_model`" in card


def test_a_pretrained_encoder_reads_morphemes_beside_it(package, places, encoders, tmp_path, monkeypatch):
    shape = {"encoder": encoders["text_encoder"]}
    shape["ngrams"] = {"char_ngrams": [1, 6], "num_buckets": 4096, "embedding_size": 16, "coded": True}
    options = recipe("side-by-side", num_train_epochs=0, fitted_heads=2, load_best_model_at_end=False)
    train(str(places), tmp_path / "run", options | {"text_config": shape})
    monkeypatch.setenv("HFK_CACHE", str(tmp_path / "empty"))
    model, processor = load_checkpoint(tmp_path / "run")
    encoder = model.text_encoder
    batch = processor(text=["해 뜨는", "뜨는 해"])
    spelled = encoder.spell(batch["input_ids"], batch["attention_mask"])
    assert ["".join(map(chr, filter(None, row))).strip() for row in spelled.tolist()] == ["해 뜨는", "뜨는 해"]
    apart, together = encoder.ngrams(spelled, spelled != 0).pooler_output
    torch.testing.assert_close(apart, together)
    assert apart.any() and {"LICENSE.txt", "NOTICE"} <= {file.name for file in (tmp_path / "run").iterdir()}


def test_a_finished_run_holds_a_byte_a_number_and_was_scored_so(package, places, tmp_path):
    train(str(places), tmp_path / "run", recipe(text_config={"deep_size": 16}))
    model, processor = load_checkpoint(tmp_path / "run")
    assert model.text_encoder.embeddings.count == 1
    assert len(processor.tokenizer) == model.config.text_config.vocab_size
    run = Run.open(tmp_path / "run")
    logits = model(**processor(text=list(load_task(str(places)).load()["test"]["text"]))).logits["cat1"]
    torch.testing.assert_close(logits.detach(), torch.tensor(run.predictions().logits["cat1"]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokenizer": "some/folder"}, "brings its tokenizer"),
        ({"tokenizer": {"kind": "bpe"}}, "tokenizer has no option 'kind'"),
        ({"text_encoder": "ngram", "text_config": {}}, "leave embeddings out"),
        ({"text_config": {"ngrams": {"size": 4}}}, "text_config: ngrams has no option 'size'"),
        ({"text_config": {"num_trained": 4}}, "text_config has no option 'num_trained'"),
    ],
)
def test_wrong_options_are_one_sentence(options, words, package, places, tmp_path):
    with pytest.raises(ValueError, match=words) as error:
        train(str(places), tmp_path / "run", recipe() | options)
    assert "\n" not in str(error.value)
