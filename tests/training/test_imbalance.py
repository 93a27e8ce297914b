"""Recipes against imbalance and for tourism: what an option does to a run, and that every recipe trains."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import ElectraConfig, ElectraModel, TrainerCallback

from hfk import MultiHeadForClassification, MultiHeadTrainer, MultiHeadTrainingArguments, train
from hfk.models.problems import HeadLoss
from hfk.runs.recipe import list_recipes, load_recipe, parse_recipe
from hfk.tasks.tour import tour_tree
from hfk.training.techniques.eda import AugmentedRows
from hfk.training.train import balanced_weights, label_prior, prepare
from hfk.training.trainer import last_checkpoint
from tests import tiny

TOUR = [name for name in list_recipes() if name.startswith("tour-") and name != "tour-mini"]
QUICK = {
    "bf16": False, "fp16": False, "disable_tqdm": True, "fusion_layers": 1, "image_size": 32, "max_length": 16,
    "num_train_epochs": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def contest(tmp_path_factory) -> Path:
    """A train.csv as the competition's, with its columns and pictures: 4 of the 128 classes, 25 rows each."""
    folder = tmp_path_factory.mktemp("contest")
    (folder / "image").mkdir()
    tree = tour_tree()
    with open(folder / "train.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "img_path", "overview", "cat1", "cat2", "cat3"])
        for number in range(100):
            cat1, cat2, cat3, _ = tree[[0, 30, 60, 90][number % 4]]
            Image.fromarray(np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)).save(
                folder / "image" / f"{number:03}.jpg"
            )
            letters = np.random.default_rng(number).integers(0xAC00, 0xD7A3, (6, 3))  # no two alike
            text = tiny.SENTENCES[number % 4] + " " + " ".join("".join(map(chr, word)) for word in letters)
            writer.writerow([f"TRAIN_{number:05}", f"./image/{number:03}.jpg", text, cat1, cat2, cat3])
    return folder / "train.csv"


def test_the_recipes_that_are_promised_are_there():
    fusions = {"tour-fusion-tokens": "tokens", "tour-fusion-pooled": "pooled", "tour-fusion-gated": "gated"}
    assert set(TOUR) == {"tour-baseline", "tour-text", "tour-image", "tour-lora", *fusions}
    for name, fusion in fusions.items():
        assert load_recipe(name)["fusion"] == fusion
    recipe, args = parse_recipe(load_recipe("tour-baseline"))
    assert (recipe.text_encoder, recipe.vision_encoder) == ("klue/roberta-large", "google/vit-large-patch32-384")
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == 16
    assert (recipe.max_length, args.num_train_epochs, args.learning_rate, args.fp16) == (256, 30, 3e-5, True)
    assert (args.lr_scheduler_type, args.warmup_steps, args.optim) == ("cosine", 0.1, "adamw_torch_fused")
    assert parse_recipe(load_recipe("tour-lora"))[1].lora
    assert load_recipe("tour-text")["vision_encoder"] is None and load_recipe("tour-image")["text_encoder"] is None


@pytest.mark.parametrize("name", TOUR)
def test_every_tour_recipe_trains_with_stand_in_encoders(name, contest, encoders, tmp_path):
    recipe = load_recipe(name)
    stand_in = {key: folder for key, folder in encoders.items() if recipe.get(key) is not None}
    results = train(name, tmp_path, QUICK | stand_in | {"data": str(contest)})
    assert results["extra"]["split"] == "test"
    assert {"cat3_weighted_f1", "cat3_weighted_f1_independent", "hierarchy_consistency"} <= set(results["scores"])
    assert results["scores"]["hierarchy_consistency"] == 1.0
    model = MultiHeadForClassification.from_pretrained(tmp_path)
    assert [len(head.labels) for head in model.config.heads] == [6, 18, 128]
    assert (model.text_encoder is None, model.vision_encoder is None) == (name == "tour-image", name == "tour-text")
    assert model.config.fusion == (recipe["fusion"] if name not in ("tour-text", "tour-image") else None)
    assert (tmp_path / "adapter").is_dir() == (name == "tour-lora")


def test_another_family_of_text_encoders_is_one_changed_line(contest, tmp_path):
    config = ElectraConfig(vocab_size=200, embedding_size=16, hidden_size=32, num_hidden_layers=1,
                           num_attention_heads=2, intermediate_size=32, max_position_embeddings=64)  # fmt: skip
    ElectraModel(config).save_pretrained(tmp_path / "electra")
    tiny.tokenizer().save_pretrained(tmp_path / "electra")
    options = QUICK | {"text_encoder": str(tmp_path / "electra"), "data": str(contest)}
    train("tour-text", tmp_path / "run", options)
    assert MultiHeadForClassification.from_pretrained(tmp_path / "run").text_encoder.config.model_type == "electra"


def test_a_recipe_of_ones_own_may_start_from_a_built_in_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: tour-fusion-gated\ntext_encoder: klue/bert-base\n", encoding="utf-8")
    options = load_recipe(path)
    assert (options["task"], options["fusion"], options["text_encoder"]) == ("tour", "gated", "klue/bert-base")
    assert options["max_length"] == 256  # of the base's base
    path.write_text("base: mine.yaml\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"mine.yaml: base 'mine.yaml' is no built-in recipe; there are: .*tour"
    ) as one:
        load_recipe(path)
    assert "\n" not in str(one.value)


def test_loss_options_reach_the_heads_that_leave_them_open(encoders, places, tmp_path):
    options = {"class_weights": "effective", "class_weights_beta": 0.9, "focal_gamma": 1.5, "logit_adjustment": 1.0}
    options |= {"num_train_epochs": 1, "hierarchy_loss": "marginal"}
    trainer = prepare(str(places), tmp_path, tiny.RECIPE | encoders | options).trainer
    labels = trainer.heads[0].labels
    cat1, cat2, tags, price = trainer.model.head_losses.values()
    prior = dict(zip(labels, cat1.prior, strict=True))
    assert (prior["자연"], prior["음식"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (cat1.logit_adjustment, tags.logit_adjustment, tags.prior) == (1.0, 0.0, None)
    assert (cat2.focal_gamma, tags.focal_gamma, price.focal_gamma) == (1.5, 1.5, 0.0)
    weight = dict(zip(labels, cat1.class_weights, strict=True))  # 32 rows and 16
    assert weight["음식"] / weight["자연"] == pytest.approx((1 - 0.9**32) / (1 - 0.9**16), rel=1e-4)
    assert trainer.model.hierarchy_loss == "marginal"
    trainer.train()
    assert {"loss_cat1", "loss_cat2"} <= set(trainer.state.log_history[0])


def test_effective_numbers_lie_between_no_weights_and_inverse_frequency():
    labels = np.repeat([0, 1, 2], [1000, 100, 10])
    spread = [
        max(weights) / min(weights)
        for weights in (balanced_weights(labels, 3, "effective", beta) for beta in (0.0, 0.9, 0.99, 0.999, 0.999999))
    ]
    assert spread[0] == pytest.approx(1.0) and spread == sorted(spread)
    assert spread[-1] == pytest.approx(100, rel=0.01)  # as `balanced`
    weights = np.array(balanced_weights(labels, 4, "effective", 0.999))
    assert weights[labels].mean() == pytest.approx(1.0, rel=1e-4) and weights[3] == 1.0


def test_priors_of_hard_and_soft_labels():
    assert label_prior(np.array([0, 0, 1, -100]), 2) == pytest.approx([2 / 3, 1 / 3])
    soft = np.array([[0.9, 0.1], [np.nan, np.nan], [0.1, 0.9], [3.0, 0.0]])
    assert label_prior(soft, 2) == pytest.approx([0.8, 0.2])
    assert min(label_prior(np.array([0] * 9), 2)) == pytest.approx(0.1)


def uneven(count: int = 30) -> Dataset:
    """Rows of two classes, five of six in the first."""
    texts = [tiny.SENTENCES[number % 6] + f" {number}" for number in range(count)]
    kinds = [0 if number % 6 else 1 for number in range(count)]
    return Dataset.from_dict({"id": [str(number) for number in range(count)], "text": texts, "cat1": kinds})


class Watch(TrainerCallback):
    """Note what the trainer reads, epoch by epoch; stop after some."""

    def __init__(self, stop: int | None = None) -> None:
        self.epochs: list[list[str]] = []
        self.stop = stop

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.epochs.append([])

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_training_stop = self.stop is not None and state.epoch >= self.stop


def trained(folder: Path, stop: int | None = None, resume: str | None = None, **options) -> tuple:
    """Train on `uneven` with augmentation; returns the trainer and the texts of each epoch, in order."""
    torch.manual_seed(0)
    args = MultiHeadTrainingArguments(
        str(folder), eval_strategy="no", save_strategy="epoch", load_best_model_at_end=False, disable_tqdm=True,
        per_device_train_batch_size=8, num_train_epochs=3, augmentation="eda", save_total_limit=None, **options,
    )  # fmt: skip
    model = tiny.model("bert", heads=tiny.heads()[:1])
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    watch = Watch(stop)
    trainer = MultiHeadTrainer(model, args, tiny.processor(), uneven(), uneven(), callbacks=[watch])
    collate = trainer.data_collator

    def note(rows):
        watch.epochs[-1].extend(row["text"] for row in rows)
        return collate(rows)

    trainer.data_collator = note
    trainer.train(resume_from_checkpoint=resume)
    return trainer, watch.epochs


@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
def test_every_epoch_has_all_rows_and_copies_of_its_own(tmp_path, strategy, capsys):
    trainer, epochs = trained(tmp_path, train_sampling_strategy=strategy)
    assert isinstance(trainer.train_dataset, AugmentedRows)
    assert "augmentation: 5 changed copies an epoch beside 30 rows" in capsys.readouterr().out
    assert trainer.state.global_step == 3 * 5  # 35 rows in batches of 8
    original = set(uneven()["text"])
    rare = {text for text, kind in zip(uneven()["text"], uneven()["cat1"], strict=True) if kind}
    copies = []
    for texts in epochs:
        assert len(texts) == 35 and original <= set(texts)
        rest = list(texts)
        for text in original:
            rest.remove(text)
        words = [set(text.split()) for text in rare]
        assert all(any(set(copy.split()) <= known for known in words) for copy in rest)
        copies.append(sorted(rest))
    assert copies[0] != copies[1] != copies[2]
    assert epochs[0] != epochs[1]  # another order


def test_a_resumed_run_reads_what_an_uninterrupted_one_reads(tmp_path):
    whole, expected = trained(tmp_path / "whole")
    _, first = trained(tmp_path / "parts", stop=1)
    assert first == expected[:1]
    resumed, rest = trained(tmp_path / "parts", resume=last_checkpoint(tmp_path / "parts"))
    assert rest == expected[1:]
    for left, right in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_evaluation_reads_rows_as_they_are(tmp_path):
    trainer, _ = trained(tmp_path)
    assert len(trainer.predict(uneven()).predictions["cat1"]) == 30
    assert isinstance(trainer.eval_dataset, Dataset)


def test_eight_batches_of_one_equal_one_batch_of_eight_with_every_option_on(tmp_path):
    weights = []
    for size, steps in ((8, 1), (1, 8)):
        torch.manual_seed(0)
        model = tiny.model("bert")
        losses = {name: HeadLoss(focal_gamma=2.0, label_smoothing=0.1) for name in ("cat1", "cat2", "tags")}
        for head in model.config.heads[:2]:
            losses[head.name] = replace(
                losses[head.name], logit_adjustment=1.0, prior=[1 / len(head.labels)] * len(head.labels)
            )
        model.set_training(losses, hierarchy_loss="marginal")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        rows = uneven(24).add_column("cat2", [None if number % 4 else number % 3 for number in range(24)])
        args = MultiHeadTrainingArguments(
            str(tmp_path), eval_strategy="no", save_strategy="no", load_best_model_at_end=False, disable_tqdm=True,
            per_device_train_batch_size=size, gradient_accumulation_steps=steps, num_train_epochs=2, optim="sgd",
            train_sampling_strategy="sequential", learning_rate=1e-3, max_grad_norm=0.0,
        )  # fmt: skip
        trainer = MultiHeadTrainer(model, args, tiny.processor(), rows)
        trainer.train()
        weights.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augmentation": "mixup"}, "augmentation is `eda` or a mapping of swap"),
        ({"augmentation": {"swaps": 0.1}}, "no option 'swaps'"),
        ({"augmentation": "eda", "sampling": "sqrt"}, "leave out sampling 'sqrt'"),
        ({"augmentation": {"head": "tags"}}, "augmentation needs a single_label head"),
        ({"augmentation": {"head": "cat9"}}, "augmentation needs a single_label head"),
        ({"class_weights_beta": 1.0}, r"class_weights_beta must be in \[0, 1\)"),
        ({"focal_gamma": -1}, "focal_gamma must be in"),
        ({"hierarchy_loss": "upward"}, "not one of none, marginal"),
    ],
)
def test_wrong_options_are_one_sentence(encoders, places, tmp_path, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        train(str(places), tmp_path / "run", tiny.RECIPE | encoders | options)
    assert "\n" not in str(caught.value)
