"""Tokenizers and encoders that start from nothing: the same texts give the same tokenizer, and recipes train on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoModel, AutoTokenizer
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hfk import Predictor, train
from hfk.backbones.registry import FROM_SCRATCH
from hfk.runs.card import write_card
from hfk.runs.recipe import Recipe
from hfk.runs.run import Run
from hfk.tasks import load_task
from hfk.training import scratch
from hfk.training.scratch import KINDS, SPECIAL, train_tokenizer
from tests import tiny


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(load_task("ynat-mini").load()["train"]["text"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reads_its_texts_and_loads_again(kind, texts, tmp_path):
    tokenizer = train_tokenizer(texts, kind, 1500)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [0, 1, 2, 3, 4] and len(tokenizer) <= 1500
    encoded = tokenizer(texts)["input_ids"]
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in encoded)
    assert unknown <= 0.01 * sum(map(len, encoded))
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(texts)["input_ids"] == encoded
    assert set(again(["하나"])) == {"input_ids", "attention_mask"}
    marks = [again.cls_token_id, again.sep_token_id]
    assert (encoded[0][0] == marks[0] and encoded[0][-1] == marks[1]) == (kind == "bpe")


def test_the_same_texts_give_the_same_tokenizer(texts):
    one, two = (train_tokenizer(texts, "bpe", 600).backend_tokenizer.to_str() for _ in range(2))
    assert one == two


def test_the_rarest_characters_are_left_out_ties_by_code_point():
    tokenizer = train_tokenizer(["바다 해", "바다 WAVE"], "character", lowercase=True)
    assert tokenizer.tokenize("바다 Wave") == ["바", "다", " ", "w", "a", "v", "e"]
    assert tokenizer.tokenize("산바다") == ["[UNK]", "바", "다"]
    tokenizer = train_tokenizer(["가가가 나나 다 라 마" * 3], "character", 32)
    assert tokenizer.tokenize("가마") == ["가", "마"]
    many = "".join(chr(ord("가") + i) for i in range(100))
    assert len(train_tokenizer([many + "힣힣"], "character", 32)) == 32
    tokenizer = train_tokenizer([many + "힣힣"], "character", 32)
    assert tokenizer.tokenize("힣가") == ["힣", "가"] and tokenizer.tokenize(many[-1]) == ["[UNK]"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["가"], "letters"), "tokenizer kind 'letters' is not one of bpe, character"),
        ((["가"], "bpe", 5), "vocab_size must be 32 or more"),
        (([], "bpe"), "there are no texts"),
        (([" ", ""], "character"), "there are no texts"),
    ],
)
def test_what_can_not_be_trained_is_one_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        train_tokenizer(*arguments)


def test_the_command_says_what_it_made(hfk, tmp_path):
    words = ["--kind", "character", "--vocab-size", 70, "--output-dir", tmp_path / "t"]
    code, said, _ = hfk("tokenizer", "ynat-mini", *words)
    assert code == 0 and "pieces; validation:" in said and "of them unknown" in said
    assert len(AutoTokenizer.from_pretrained(tmp_path / "t")) <= 70


# --- encoders from nothing ----------------------------------------------------------------------------------------

SMALL = {
    "morphemes": {
        "embedding_size": 12,
        "num_filters": 4,
        "deep_size": 16,
        "ngrams": {"num_buckets": 4096, "embedding_size": 8},
    },
    "ngram": {"num_buckets": 4096, "embedding_size": 8},
    "recurrent": {"embedding_size": 12, "hidden_size": 16},
    "textcnn": {"embedding_size": 12, "num_filters": 4, "recurrent": {"hidden_size": 8}},
}


def recipe(encoder: str, **options) -> dict:
    known = tiny.RECIPE | {"text_encoder": encoder, "text_config": SMALL.get(encoder), "standardize_rows": 0}
    return known | {"learning_rate": 1e-2, "head_learning_rate": 1e-2, "num_train_epochs": 5} | options


@pytest.mark.parametrize("encoder", sorted({*FROM_SCRATCH["text"]} - {"side-by-side"}))  # which begins with one
def test_a_recipe_trains_from_nothing_and_what_it_made_answers(encoder, places, tmp_path):
    results = train(str(places), tmp_path / "run", recipe(encoder, vision_encoder=None))
    assert results["scores"]["cat1_accuracy"] > results["baseline"]["cat1_accuracy"] + 0.1
    assert not (tmp_path / "run" / scratch.FOLDERS["text"]).exists()
    predictor = Predictor.from_pretrained(str(tmp_path / "run"))
    assert predictor.model.config.text_config.model_type == encoder
    answers = list(predictor([tiny.SENTENCES[2], " ", tiny.SENTENCES[1], "漢"]))
    assert answers[0]["cat1"][0]["label"] == "자연" and answers[2]["cat1"][0]["label"] == "음식"
    assert "error" in answers[1] and answers[3]["cat1"]
    card = write_card(tmp_path / "run").read_text(encoding="utf-8")
    assert "base_model" not in card and f"huggingface.co/{encoder}" not in card and "license:" not in card
    used = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text(encoding="utf-8"))
    assert used["text_encoder"] == encoder and used["text_config"] == SMALL[encoder]


@pytest.mark.parametrize("encoder", ["cnn", "mlp"])
def test_a_recipe_trains_on_pixels_and_what_it_made_answers(encoder, places, tmp_path):
    options = recipe(encoder, text_encoder=None, text_config=None, vision_encoder=encoder, standardize_rows=64)
    options |= {"vision_config": {"hidden_sizes": [8, 16]}, "image_size": 16, "learning_rate": 1e-3}
    train(str(places), tmp_path / "run", options)
    losses = [
        entry["loss_tags"] for entry in Run(tmp_path / "run").read("training_log.json", default=[]) if "loss" in entry
    ]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert not (tmp_path / "run" / scratch.FOLDERS["vision"]).exists()
    predictor = Predictor.from_pretrained(str(tmp_path / "run"))
    assert predictor.model.config.vision_config.image_size == predictor.processor.image_processor.size["height"] == 16
    assert (tmp_path / "run" / "modeling_cnn.py").is_file()
    assert "base_model" not in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_two_encoders_see_a_picture_each_in_its_own_way(places, tmp_path):
    """What they make of it together is what each makes of it alone; and it travels whole."""
    torch.manual_seed(0)
    sides = {"efficientnet-lite": 16, "vit": 32}
    for number, (name, size) in enumerate(sides.items()):
        AutoModel.from_config(tiny.VISION[name]()).save_pretrained(tmp_path / name)
        look = {"size": {"height": size, "width": size}, "image_mean": [0.3 + number / 9] * 3, "image_std": [0.2] * 3}
        ViTImageProcessorPil(**look).save_pretrained(tmp_path / name)
    options = recipe("side-by-side-vision", text_encoder=None, text_config=None, vision_encoder="side-by-side-vision")
    options |= {"vision_config": {"encoders": [str(tmp_path / name) for name in sides]}, "frozen_features": True}
    train(str(places), tmp_path / "run", options)
    predictor = Predictor.from_pretrained(str(tmp_path / "run"))
    picture = Image.new("RGB", (32, 32), "navy")  # one color, so that resizing changes nothing
    together = predictor.model.vision_encoder(predictor.processor(images=[picture])["pixel_values"]).pooler_output[0]
    for name, own in zip(sides, together.split([16, 24]), strict=True):
        alone, reader = (
            AutoModel.from_pretrained(tmp_path / name),
            ViTImageProcessorPil.from_pretrained(tmp_path / name),
        )
        states = alone(**reader([picture], return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(own, states.flatten(2).mean(2)[0] if name != "vit" else states.mean(1)[0])
    code = {path.name for path in (tmp_path / "run").glob("modeling_*.py")}
    assert {"modeling_side_by_side.py", "modeling_efficientnet_lite.py"} <= code


def make(places, folder, encoder: str, anew: bool = True, **options) -> Path:
    """The encoder folder that a run in `folder` starts from."""
    read = Recipe.read(recipe(encoder, **options), {"task": str(places), "output_dir": str(folder)})
    return Path(scratch.make_encoder(read, "text", load_task(str(places)).load()["train"], anew))


def test_the_same_recipe_gives_the_same_encoder(places, tmp_path):
    one, two = (make(places, tmp_path / name, "ngram") for name in ("one", "two"))
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_an_interrupted_run_goes_on_with_the_tokenizer_that_it_had(places, tmp_path, monkeypatch):
    options = {"tokenizer": {"kind": "bpe", "vocab_size": 200}}
    before = (make(places, tmp_path, "recurrent", **options) / "tokenizer.json").read_bytes()
    monkeypatch.setattr(scratch, "train_tokenizer", lambda *a, **k: 1 / 0)
    again = make(places, tmp_path, "recurrent", anew=False, **options)
    assert (again / "tokenizer.json").read_bytes() == before


def test_a_tokenizer_of_ones_own_and_text_with_pictures(places, encoders, tmp_path):
    train_tokenizer(tiny.SENTENCES, "character").save_pretrained(tmp_path / "letters")
    options = recipe("textcnn", tokenizer=str(tmp_path / "letters"), vision_encoder=encoders["vision_encoder"])
    results = train(str(places), tmp_path / "run", options | {"num_train_epochs": 1, "fusion": "gated"})
    assert results["scores"]
    assert len(AutoTokenizer.from_pretrained(tmp_path / "run")) == len(
        AutoTokenizer.from_pretrained(tmp_path / "letters")
    )


def test_fasttext_vectors_are_near_for_words_that_are_written_alike(texts):
    pytest.importorskip("gensim")
    tokenizer = train_tokenizer(texts, "bpe", 600)
    vectors = scratch.train_vectors(texts, tokenizer, 16)
    assert vectors.shape == (len(tokenizer), 16) and vectors.isfinite().all()
    assert torch.equal(vectors, scratch.train_vectors(texts, tokenizer, 16))


def test_embeddings_start_as_fasttext_left_them_and_need_no_gensim_later(places, tmp_path, monkeypatch):
    pytest.importorskip("gensim")
    folder = make(places, tmp_path, "recurrent", embeddings="fasttext")
    rows = load_task(str(places)).load()["train"]["text"]
    vectors = scratch.train_vectors(
        [" ".join(text.split()) for text in rows], AutoTokenizer.from_pretrained(folder), 12
    )
    monkeypatch.setitem(sys.modules, "gensim", None)
    weight = AutoModel.from_pretrained(folder).embeddings.weight.detach()
    torch.testing.assert_close(weight[1:], (vectors / vectors.std() * 0.1)[1:])


def test_without_gensim_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim", None)
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(ImportError, match=r'pip install "hfk\[fasttext\]"'):
        scratch.train_vectors(["바다"], train_tokenizer(["바다"], "character"), 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"text_encoder": "ngram", "text_config": {"bukets": 4}}, "text_config has no option 'bukets'"),
        ({"text_encoder": "ngram", "text_config": {"num_bucket": 4}}, "Did you mean 'num_buckets'"),
        ({"text_encoder": "ngram", "text_config": {"char_ngrams": [4, 2]}}, "text_config: char_ngrams must be"),
        ({"text_encoder": "ngram", "tokenizer": {"kind": "bpe"}}, "needs a tokenizer of single characters"),
        ({"text_encoder": "ngram", "embeddings": "fasttext"}, "leave embeddings out"),
        (
            {"text_encoder": "recurrent", "tokenizer": {"size": 5}},
            "tokenizer has no option 'size'. It has: kind, vocab_size, lowercase",
        ),
        ({"vision_encoder": "mlp", "vision_config": {"sizes": [4]}}, "vision_config has no option 'sizes'"),
        ({"vision_encoder": "side-by-side-vision"}, "needs vision_config: {encoders: "),
        ({"vision_encoder": "cnn", "image_size": 8}, "vision_config: 4 stages leave nothing of 8 pixels"),
        ({"text_encoder": "recurrent", "tokenizer": "no/such/folder"}, "is no folder"),
        ({"text_encoder": "recurrent", "text_config": {"cell": "mlstm"}}, "text_config: cell 'mlstm' is not one of"),
    ],
)
def test_wrong_options_are_one_sentence(options, words, places, tmp_path):
    with pytest.raises(ValueError, match=words) as error:
        train(str(places), tmp_path / "run", tiny.RECIPE | {"vision_encoder": None} | options)
    assert "\n" not in str(error.value)
