"""Recipes: how one is read, what is wrong with one, and that old ones are understood."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from hfk.runs.recipe import (
    RENAMED,
    MultiHeadTrainingArguments,
    Recipe,
    list_recipes,
    load_recipe,
    parse_overrides,
    translate,
)
from hfk.training import scratch
from hfk.training.techniques import make_techniques

TOUR = [name for name in list_recipes() if name.startswith("tour-") and name != "tour-mini"]


@pytest.mark.parametrize("name", list_recipes())
def test_every_built_in_recipe_is_whole(name):
    options = load_recipe(name)
    recipe = Recipe.read(options | {"task": options["task"] or "mine.yaml", "fp16": False})
    make_techniques(recipe.techniques)
    if "text_config" in options:
        kind = scratch.ENCODERS[recipe.text_encoder]
        shape = {option: value for option, value in recipe.text_config.items() if option != "encoder"}
        assert kind(vocab_size=99, **shape).model_type == recipe.text_encoder


def test_the_recipes_that_are_promised_are_there():
    fusions = {"tour-fusion-tokens": "tokens", "tour-fusion-pooled": "pooled", "tour-fusion-gated": "gated"}
    assert set(TOUR) == {"tour-baseline", "tour-text", "tour-image", "tour-lora", *fusions}
    for name, fusion in fusions.items():
        assert load_recipe(name)["fusion"] == fusion
    recipe = Recipe.read("tour-baseline", {"fp16": False})
    args = recipe.arguments
    assert (recipe.text_encoder, recipe.vision_encoder) == ("klue/roberta-large", "google/vit-large-patch32-384")
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == 16
    assert (recipe.max_length, args.num_train_epochs, args.learning_rate) == (256, 30, 3e-5)
    assert (args.lr_scheduler_type, args.warmup_steps, args.optim) == ("cosine", 0.1, "adamw_torch_fused")
    assert load_recipe("tour-text")["vision_encoder"] is None and load_recipe("tour-image")["text_encoder"] is None
    ladder = {load_recipe(name).get("text_encoder") for name in list_recipes() if "text_config" in load_recipe(name)}
    assert ladder == {"morphemes", "ngram", "recurrent", "side-by-side", "textcnn"}


def test_options_are_read_alike_every_time():
    """A second recipe in one process must not see other types than the first."""
    words = ["learning_rate=2e-4", "max_length=1e2", "vision_encoder=none", 'text_prefix=""', "task=ynat", "bf16=no",
             "eval_strategy=no", "save_strategy=no", "lora=true", "lora.rank=8", "split.test=0"]  # fmt: skip
    for _ in range(2):
        recipe = Recipe.read({"split": {"seed": 1}}, parse_overrides(words))
        args = recipe.arguments
        assert (args.learning_rate, recipe.max_length, recipe.vision_encoder) == (2e-4, 100, None)
        assert (args.eval_strategy, args.save_strategy, args.bf16, recipe.text_prefix) == ("no", "no", False, "")
        assert recipe.techniques == {"lora": {"rank": 8}} and recipe.split == {"seed": 1, "test": 0}
    assert Recipe.read(recipe.to_dict()).to_dict() == recipe.to_dict()


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_for_processors_that_have_it(monkeypatch, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": native})
    assert MultiHeadTrainingArguments(bf16=True, use_cpu=True).bf16 is native


def test_a_task_yaml_may_change_its_recipe(tmp_path):
    task = tmp_path / "task.yaml"
    task.write_text("data: a.csv\nrecipe: {base: ynat, learning_rate: 1e-5, ema: 0.9}\n")
    recipe = Recipe.read(task)
    assert (recipe.task, recipe.max_length, recipe.arguments.learning_rate) == (str(task), 48, 1e-5)
    assert recipe.techniques["ema"] == 0.9


def test_a_recipe_of_ones_own_may_start_from_a_built_in_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: tour-fusion-gated\ntext_encoder: klue/bert-base\n", encoding="utf-8")
    options = load_recipe(path)
    assert (options["task"], options["fusion"], options["text_encoder"]) == ("tour", "gated", "klue/bert-base")
    assert options["max_length"] == 256  # of the base's base
    path.write_text("base: mine.yaml\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine.yaml: base 'mine.yaml' is no built-in recipe; there are: .*tour"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": None}, "names no task"),
        ({"learning_rate": "fast"}, "'learning_rate' needs a number, not 'fast'"),
        ({"learning_rate": None}, "'learning_rate' needs a number, not None"),
        ({"num_train_epochs": float("inf")}, "needs a number"),
        ({"max_length": 12.5}, "'max_length' needs a whole number, not 12.5"),
        ({"max_length": [1]}, "'max_length' needs a whole number"),
        ({"label_smoothing_factor": 0.1}, "use label_smoothing instead"),
        ({"eval_strategy": "sometimes"}, "not a valid IntervalStrategy"),
        ({"embeddings": "glove"}, "embeddings 'glove' is not one of random, fasttext"),
        ({"text_encoder": "e5-small-ko", "tokenizer": {"kind": "bpe"}}, "for an encoder that starts from nothing"),
        ({"text_encoder": "e5-small-ko", "embeddings": "fasttext"}, "for an encoder that starts from nothing"),
        ({"ema_decay": 0.999}, "option 'ema_decay' is now 'ema': write ema=…"),
        ({"lora_rank": 8}, r"is now 'lora.rank': write lora.rank=… on the command line, `lora: \{rank: …\}` in YAML"),
        *(({name: 1}, f"'{name}' is now '{new}'") for name, new in RENAMED.items()),
    ],
)
def test_wrong_options_are_one_sentence(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        Recipe.read({"task": "ynat-mini"} | options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"task: [a", "not valid YAML"),
        (b"- task", "must be a mapping"),
        (b"", "must be a mapping"),
        ("task: 여행".encode("cp949"), "not UTF-8"),
        (b"data: a.csv\nrecipe: 3", "a recipe's name or a mapping"),
        (b"data: a.csv\nrecipe: tabel", "no recipe 'tabel'"),
        (b"data: a.csv\nrecipe: {base: table, r_drop: 1, fold: 3}", "'fold' is now 'split.fold'"),
    ],
)
def test_wrong_recipe_files_are_one_sentence(tmp_path, content, message):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_recipe(tmp_path / "recipe.yaml")
    assert "\n" not in str(caught.value)


def test_unknown_recipes_and_words_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"no recipe 'tuor'; built in: .*tour"):
        load_recipe("tuor")
    with pytest.raises(ValueError, match="does not exist"):
        load_recipe(tmp_path / "missing.yaml")
    with pytest.raises(ValueError, match="write key=value"):
        parse_overrides(["learning_rate"])
    with pytest.raises(ValueError, match="not valid YAML"):
        parse_overrides(["text_encoder=[a"])


CARDS = sorted((Path(__file__).resolve().parents[2] / "model_cards").glob("*/recipe.yaml"))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_recipes_that_version_0_1_left_are_understood(path, tmp_path):
    shutil.copy(path, tmp_path / "recipe.yaml")
    (tmp_path / "config.json").write_text(json.dumps({}))  # beside a checkpoint: what a run left
    recipe = Recipe.read(tmp_path / "recipe.yaml")
    make_techniques(recipe.techniques)
    old = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert ("distillation" in recipe.techniques) == bool(old.get("teacher"))
    assert recipe.techniques.get("ema", 0) == old.get("ema_decay", 0)


def test_old_options_become_new_ones_only_where_they_meant_something():
    old = {"task": "t", "teacher": "runs/x", "distill_alpha": 0.0, "student_layers": None, "sampling": "sqrt",
           "sampling_head": "cat3", "class_weights": "sqrt", "class_weights_beta": 0.9, "augmentation": "eda",
           "image_augmentation": {"flip": 0}, "folds": 5, "fold": 0, "split": None, "lora": False,
           "lora_rank": 16}  # fmt: skip
    assert translate(old) == {
        "task": "t", "class_weights": "sqrt", "lora": False, "split": {"folds": 5, "fold": 0}, "eda": True,
        "distillation": {"teacher": "runs/x", "alpha": 0.0}, "sampling": {"value": "sqrt", "head": "cat3"},
        "pictures": {"flip": 0},
    }  # fmt: skip
    assert translate(translate(old)) == translate(old)
