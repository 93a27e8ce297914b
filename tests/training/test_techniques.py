"""Techniques: how a recipe names them, what each does to a training, and that each resumes bit by bit."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hfk import MultiHeadForClassification, MultiHeadTrainer, train
from hfk.models.heads import disagreement
from hfk.runs.run import last_checkpoint
from hfk.tasks.collator import MultiHeadCollator
from hfk.training.techniques import make_techniques
from hfk.training.techniques.averaging import TRAINED, Ema
from hfk.training.techniques.pictures import change_picture
from hfk.training.techniques.rare_classes import balanced_weights, label_prior
from hfk.training.trainer import unwrap
from tests import tiny
from tests.training.small import Watch, arguments, picture, rows, trainable, trainer, without_dropout

# ------------------------------------------------------------------------------------------------- what a recipe says


def made(**options) -> list[str]:
    return [repr(technique) for technique in make_techniques({"standardize_rows": 0, **options})]


def test_a_value_is_true_the_main_option_or_a_mapping():
    assert [value[0] for value in (made(lora=True), made(lora=16), made(lora={"rank": 16}), made(lora={"value": 16}))
            ] == [made()[0]] * 4  # fmt: skip
    assert "Lora(rank=8, alpha=32, dropout=0.05)" in made(lora={"value": "8"})  # the last, as it wraps the model
    assert made(lora=True, sampling="sqrt")[-1].startswith("Lora")
    off = {"ema": 0, "r_drop": 0.0, "lora": False, "eda": None, "sampling": "natural", "class_weights": "none"}
    assert made(**off) == made()
    assert "ClassWeights(kind='effective', beta=0.9)" in made(class_weights={"value": "effective", "beta": 0.9})
    assert "HeadLearningRate(rate=0.0)" in made(head_learning_rate=0)  # heads that do not learn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learing_rate": 1}, "no option 'learing_rate'. Did you mean 'learning_rate'?"),
        ({"emma": 1}, "Did you mean 'ema'?"),
        ({"text_encodr": 1}, "Did you mean 'text_encoder'?"),
        ({"lora": "maybe"}, "'lora' needs a whole number, not 'maybe'"),
        ({"lora": {"rank": [1]}}, "'lora.rank' needs a whole number"),
        ({"lora": {"size": 8}}, "lora has no option 'size'. It has: rank, alpha, dropout"),
        ({"calibrate": 3}, "calibrate is true or false, not 3"),
        ({"sampling": True}, "sampling needs its kind"),
        ({"sampling": "some"}, "not one of natural, sqrt, balanced"),
        ({"class_weights": "heavy"}, "not one of none, balanced, sqrt"),
        ({"class_weights": {"value": "effective", "beta": 1}}, r"class_weights.beta must be in \[0, 1\)"),
        ({"layer_decay": 0}, r"layer_decay must be in \(0, 1\]"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\)"),
        ({"r_drop": -1}, "r_drop must be 0 or more"),
        ({"focal": -1}, "focal must be 0 or more"),
        ({"modality_dropout": 1}, r"modality_dropout must be in \[0, 1\)"),
        ({"hierarchy_loss": "upward"}, "not one of none, marginal"),
        ({"eda": {"swap": 1.5}}, r"eda.swap must be in \[0, 1\)"),
        ({"eda": {"swap": 0, "delete": 0}}, "no text would change"),
        ({"eda": {"replace": 0.1}}, "eda has no option 'replace'"),
        ({"pictures": {"crop": 0}}, "pictures.crop must be a number from 0.01 to 1"),
        ({"pictures": {"flip": 0, "crop": 1, "light": 0}}, "no picture would change"),
        ({"unfreezing": -1}, "whole numbers of blocks that never fall, not"),
        ({"unfreezing": {"schedule": [2, 0]}}, "whole numbers of blocks that never fall, not"),
        ({"distillation": True}, "distillation needs its teacher"),
        ({"distillation": {"teacher": "x", "temperature": 0}}, "temperature must be above 0"),
        ({"distillation": {"teacher": "x", "alpha": 1.5}}, "alpha from 0 to 1"),
    ],
)
def test_wrong_options_are_one_sentence(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        make_techniques(options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("techniques", "options", "message"),
    [
        ({"eda": True, "sampling": "sqrt"}, {}, "eda and sampling both say how training rows are drawn"),
        ({"eda": {"head": "tags"}}, {}, "eda needs a single_label head"),
        ({"sampling": {"value": "sqrt", "head": "cat9"}}, {}, "sampling 'sqrt' needs a single_label head"),
        ({"ema": 0.9}, {"fsdp": "full_shard"}, "FSDP"),
        ({"pictures": True}, {}, "this model reads none"),
        ({"lora": True, "unfreezing": 1}, {"max_steps": 1}, "unfreezing and lora both"),
        ({"lora": True}, {}, "lora needs linear layers"),
        ({"hierarchy_loss": "marginal"}, {}, "no head has a `parent`"),
    ],
)
def test_what_can_not_work_in_a_training_is_said_before_it(tmp_path, techniques, options, message):
    heads = tiny.heads() if "hierarchy_loss" not in techniques else tiny.heads()[:1]
    with pytest.raises(ValueError, match=message):
        trainer(
            tmp_path,
            techniques,
            model=tiny.model("recurrent" if techniques == {"lora": True} else "bert", heads=heads),
            **options,
        ).create_optimizer()


# ---------------------------------------------------------------------------------------------------- what they change


def test_rates_by_depth(tmp_path):
    techniques = {"layer_decay": 0.5}
    model = tiny.model("bert", "efficientnet-lite")
    made = trainer(tmp_path, techniques, model=model, learning_rate=1e-3, weight_decay=0.1)
    groups = made.create_optimizer().param_groups
    rate = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    assert len(rate) == len(list(model.parameters())) and len(groups) < 16
    by_name = {name: rate[id(weight)] for name, weight in model.named_parameters()}
    assert by_name["heads.layers.0.short.weight"] == 1e-2
    assert by_name["text_encoder.encoder.layer.1.output.dense.weight"] == 1e-3
    assert by_name["text_encoder.encoder.layer.0.output.dense.weight"] == 5e-4
    assert by_name["text_encoder.embeddings.word_embeddings.weight"] == 2.5e-4
    assert by_name["vision_encoder.stem.convolution.weight"] == pytest.approx(2.5e-4)
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}


def test_adapters_train_and_merge_exactly(tmp_path):
    model = tiny.model("bert")
    frozen = model.text_encoder.embeddings.word_embeddings.weight.detach().clone()
    made = trainer(tmp_path, {"lora": 4}, model=model, num_train_epochs=1, learning_rate=1e-2)
    names = set(trainable(made.model))
    assert any("lora_A" in name for name in names) and any("heads.modules_to_save" in name for name in names)
    made.train()
    made.finish()
    wrapped = made.model.eval()
    ids = torch.randint(5, 100, (2, 6))
    before = wrapped(input_ids=ids).logits["cat2"]
    merged = unwrap(wrapped)
    torch.testing.assert_close(merged(input_ids=ids).logits["cat2"], before, rtol=1e-4, atol=1e-6)
    assert torch.equal(merged.text_encoder.embeddings.word_embeddings.weight, frozen)


def averaged(weights: list[dict[str, torch.Tensor]], decay: float) -> dict[str, torch.Tensor]:
    mean = weights[0]
    for steps, new in enumerate(weights[1:], 1):
        keep = min(decay, (1 + steps) / (10 + steps))
        mean = {name: keep * mean[name] + (1 - keep) * new[name] for name in mean}
    return mean


def test_the_average_is_what_is_evaluated_saved_and_left_behind(tmp_path):
    watch = Watch()
    options = {"max_steps": 4, "learning_rate": 1e-2, "eval_strategy": "steps", "save_strategy": "steps"}
    made = trainer(tmp_path, {"ema": 0.5}, callbacks=[watch], eval_steps=4, save_steps=4, **options)
    made.train()
    mean = averaged(watch.weights, 0.5)
    left, saved = (
        trainable(made.model),
        trainable(MultiHeadForClassification.from_pretrained(last_checkpoint(tmp_path))),
    )
    for name, weight in mean.items():
        torch.testing.assert_close(left[name], weight, msg=name)
        torch.testing.assert_close(saved[name], weight, msg=name)
    assert any((left[name] - watch.weights[-1][name]).abs().max() > 1e-4 for name in left)
    evaluated = next(entry["eval_loss"] for entry in made.state.log_history if "eval_loss" in entry)
    assert evaluated == pytest.approx(made.evaluate()["eval_loss"], rel=1e-5)
    # A run without an average is gone on with: the average starts at its weights.
    (tmp_path / "checkpoint-4" / TRAINED).unlink()
    again = trainer(tmp_path, {"ema": 0.5}, **options | {"max_steps": 5})
    again.train(resume_from_checkpoint=last_checkpoint(tmp_path))
    assert again.state.global_step == 5


def test_the_best_average_comes_back_as_it_was_evaluated(tmp_path):
    made = trainer(
        tmp_path, {"ema": 0.5}, num_train_epochs=3, learning_rate=1e-2, eval_strategy="epoch", save_strategy="epoch",
        load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=False, save_total_limit=5,
    )  # fmt: skip
    made.train()
    best = min(entry["eval_loss"] for entry in made.state.log_history if "eval_loss" in entry)
    assert made.evaluate()["eval_loss"] == pytest.approx(best, rel=1e-5)
    assert isinstance(made.techniques[0], Ema)


def test_two_passes_are_held_together(tmp_path):
    weights, apart = [], []
    for r_drop in (0, 4):
        torch.manual_seed(0)
        model = without_dropout(tiny.model("bert", heads=tiny.heads()))
        made = trainer(tmp_path, {"r_drop": r_drop}, model=model, max_steps=2, optim="sgd", logging_steps=1,
                       train_sampling_strategy="sequential", learning_rate=1e-2)  # fmt: skip
        made.train()
        logged = [entry["loss_r_drop"] for entry in made.state.log_history if "loss_r_drop" in entry]
        assert logged == ([0.0] * 2 if r_drop else [])  # without dropout there is nothing to hold together
        weights.append(trainable(model))
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-6, msg=name)
    for r_drop in (0, 200):
        torch.manual_seed(0)
        model = tiny.model("bert")
        trainer(tmp_path, {"r_drop": r_drop}, model=model, num_train_epochs=5, learning_rate=5e-3).train()
        batch = MultiHeadCollator(tiny.processor(), [])(list(rows()) * 10)
        with torch.no_grad():
            apart.append(disagreement(model.train()(**batch).logits, model.config.heads).item())
    assert apart[1] < 0.5 * apart[0]


def test_frozen_batch_norms_keep_their_statistics(tmp_path):
    model = tiny.model(None, "resnet")
    trainer(tmp_path, {"freeze_batch_norm": True}, "resnet", model=model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()(pixel_values=torch.randn(4, 3, 32, 32) * 5 + 3)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert all(weight.requires_grad for name, weight in model.named_parameters() if name.startswith("heads"))


# -------------------------------------------------------------------------------------------------------- rare classes


def test_weights_and_priors_by_hand():
    labels = np.array([0] * 8 + [1] * 2 + [-100])
    weights = balanced_weights(labels, 3, "balanced")
    assert (weights[0] * 8 + weights[1] * 2) / 10 == pytest.approx(1.0, abs=1e-5)
    assert weights[1] == pytest.approx(4 * weights[0], rel=1e-4) and weights[2] == 1.0
    uneven = np.repeat([0, 1, 2], [1000, 100, 10])
    found = [balanced_weights(uneven, 3, "effective", beta) for beta in (0.0, 0.9, 0.99, 0.999, 0.999999)]
    spread = [max(weights) / min(weights) for weights in found]
    assert spread[0] == pytest.approx(1.0) and spread == sorted(spread)
    assert spread[-1] == pytest.approx(100, rel=0.01)  # as `balanced`
    assert label_prior(np.array([0, 0, 1, -100]), 2) == pytest.approx([2 / 3, 1 / 3])
    soft = np.array([[0.9, 0.1], [np.nan, np.nan], [0.1, 0.9], [3.0, 0.0]])
    assert label_prior(soft, 2) == pytest.approx([0.8, 0.2])
    assert min(label_prior(np.array([0] * 9), 2)) == pytest.approx(0.1)


def test_rows_of_rare_classes_are_drawn_more_often(tmp_path):
    data = rows(30, missing=False).select([0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 1])
    made = MultiHeadTrainer(
        tiny.model("bert"),
        arguments(tmp_path),
        tiny.processor(),
        data,
        techniques=make_techniques({"sampling": "balanced"}),
    )
    assert 2 <= list(made._get_train_sampler()).count(10) <= 9


def test_losses_are_told_where_the_task_says_nothing(tmp_path):
    options = {"class_weights": {"value": "effective", "beta": 0.9}, "focal": 1.5, "logit_adjustment": 1.0}
    made = trainer(tmp_path, options | {"label_smoothing": 0.1, "hierarchy_loss": "marginal"}, max_steps=1)
    losses = made.techniques[0].setting.losses
    cat1, cat2, tags, price = (losses[head.name] for head in made.heads)
    known = [value for value in rows()["cat1"] if value is not None]
    shares = [known.count(label) / len(known) for label in (0, 1)]
    assert cat1.prior == pytest.approx(shares)
    assert (cat1.logit_adjustment, tags.logit_adjustment, tags.prior) == (1.0, 0.0, None)
    assert [loss.focal_gamma for loss in (cat2, tags, price)] == [1.5, 1.5, 0.0]
    assert [loss.label_smoothing for loss in (cat1, tags, price)] == [0.1, 0.1, 0.0]
    counts = [known.count(label) for label in (0, 1)]
    expected = (1 - 0.9 ** counts[0]) / (1 - 0.9 ** counts[1])
    assert cat1.class_weights[1] / cat1.class_weights[0] == pytest.approx(expected, rel=1e-4)
    made.train()
    assert np.isfinite(made.state.log_history[-1]["train_loss"])


# ------------------------------------------------------------------------------------------------------------ pictures


def noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.05, 1), st.integers(0, 2**31))
def test_what_is_kept_is_a_part_of_the_picture_and_large_enough(width, height, crop, seed):
    changed = change_picture(noise(width, height), random.Random(seed), flip=0.0, crop=crop, light=0.1)
    assert changed.mode == "RGB"
    wide, high = changed.size
    assert 1 <= wide <= width and 1 <= high <= height
    assert wide * high >= crop * width * height * 0.9 - wide - high  # sides are whole pixels


def test_mirrored_cropped_and_relit_by_the_seed():
    image = noise()
    assert (pixels(change_picture(image, random.Random(0), 1.0, 1, 0)) == pixels(image)[:, ::-1]).all()
    parts = [change_picture(image, random.Random(seed), flip=0.0, crop=0.3, light=0) for seed in (3, 3, 4)]
    windows = np.lib.stride_tricks.sliding_window_view(pixels(image), pixels(parts[0]).shape)
    assert (windows == pixels(parts[0])).all(axis=(-3, -2, -1)).sum() == 1
    assert pixels(parts[0]).tobytes() == pixels(parts[1]).tobytes() != pixels(parts[2]).tobytes()
    relit = change_picture(image, random.Random(0), flip=0.0, crop=1, light=0.3)
    assert relit.size == image.size and 0 < abs(pixels(relit).astype(float) - pixels(image)).mean() < 80


def test_training_sees_changed_pictures_and_evaluation_does_not(tmp_path):
    side = np.zeros((32, 32, 3), dtype=np.uint8)
    side[:, :16] = 255  # bright on the left
    data = Dataset.from_dict({"id": ["사진 7"], "image": [picture(side)], "cat1": [0]})
    techniques = make_techniques({"pictures": {"flip": 1.0, "crop": 1, "light": 0}, "standardize_rows": 0})
    model, processor = tiny.model(None, "resnet"), tiny.processor(None, "resnet")
    args = arguments(tmp_path, train_sampling_strategy="random")
    made = MultiHeadTrainer(model, args, processor, data, data, techniques)
    (training,), (evaluation,) = made.get_train_dataloader(), made.get_eval_dataloader()
    assert training["pixel_values"][..., :16].mean() < evaluation["pixel_values"][..., :16].mean()
    torch.testing.assert_close(training["pixel_values"].flip(-1), evaluation["pixel_values"])
    made.train_dataset = Dataset.from_dict({"id": ["사진 7"], "image": [{"bytes": b"no", "path": None}], "cat1": [0]})
    with pytest.raises(ValueError, match=r"row with id '사진 7': .*not a picture"):
        next(iter(made.get_train_dataloader()))


# ------------------------------------------------------------------------------------------------------------ in a run


def test_a_run_with_many_techniques_says_what_they_did(encoders, places, tmp_path):
    many = {"eda": {"head": "cat2"}, "ema": 0.9, "modality_loss": 1.0, "modality_dropout": 0.2, "calibrate": True,
            "lora": {"rank": 4}, "early_stopping": 2, "freeze_batch_norm": True, "logit_adjustment": 1.0}  # fmt: skip
    results = train(str(places), tmp_path, tiny.RECIPE | encoders | many | {"num_train_epochs": 1})
    assert results["extra"]["copies_an_epoch"] == 0 and set(results["calibration"]["heads"]) >= {"cat1", "cat2"}
    config = MultiHeadForClassification.from_pretrained(tmp_path).config
    assert any(head.temperature != 1 for head in config.heads)
    log = json.loads((tmp_path / "training_log.json").read_text())
    assert {"loss_cat1", "loss_tags", "loss_price"} <= set(log[0])


def test_patience_ends_a_run(tmp_path):
    made = trainer(
        tmp_path, {"early_stopping": 2}, num_train_epochs=9, learning_rate=0.0, eval_strategy="epoch",
        save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="loss",
        per_device_train_batch_size=24,
    )  # fmt: skip
    made.train()
    assert made.state.global_step == 3


@pytest.mark.parametrize("split", ["none"])
def test_what_can_not_be_calibrated_is_said_before_training(encoders, tmp_path, split):
    task = tiny.write_task(tmp_path / "task", rows=18, split=split, heads=[{"name": "cat1"}])
    with pytest.raises(ValueError, match="calibrate needs validation rows"):
        train(str(task), tmp_path / "run", tiny.RECIPE | encoders | {"calibrate": True})


# ---------------------------------------------------------------------------------------------------------- unfreezing


def learning(made) -> set[str]:
    """The parts of the encoders of which a weight learns."""
    names = [name for name in trainable(made.model) if "encoder." in name]
    return {re.sub(r"^(?:text|vision)_encoder\.(?:encoder\.)?", "", name).split(".weight")[0] for name in names}


@pytest.mark.parametrize(
    ("text", "vision", "expected"),
    [
        ("bert", None, {0: [], 1: [r"layer\.1\."], 2: [r"layer\.[01]\."], 3: [r"layer\.[01]\.", "embeddings"]}),
        (None, "efficientnet-lite", {0: [], 1: [r"blocks\.1\.", "head"], 3: [r"blocks\.[01]\.", "head", "stem"]}),
        (None, "cnn", {0: [], 1: [r"stages\.1\."]}),
    ],
)
def test_the_top_blocks_learn_and_nothing_below(tmp_path, text, vision, expected):
    for blocks, parts in expected.items():
        made = trainer(tmp_path, {"unfreezing": blocks}, vision, model=tiny.model(text, vision))
        found = {part for name in learning(made) for part in parts if re.match(part, name)}
        assert found == set(parts) and all(re.match("|".join(parts), name) for name in learning(made))


def test_blocks_thaw_by_epoch_and_what_is_frozen_keeps_its_statistics(tmp_path):
    model, watch = tiny.model(None, "efficientnet-lite"), Watch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = {"num_train_epochs": 3, "learning_rate": 1e-2, "save_strategy": "epoch", "save_total_limit": 3}
    made = trainer(tmp_path, {"unfreezing": {"schedule": [0, 1, 9]}}, "efficientnet-lite", model, [watch], **options)
    made.train()
    steps = len(watch.weights) // 3
    parts = [{name.split(".")[1] for name in learnt if "encoder" in name} for learnt in watch.weights[::steps]]
    assert parts == [set(), {"blocks", "head"}, {"stem", "blocks", "head"}]
    for epoch, moved in enumerate(([], ["blocks", "head"], ["stem", "blocks", "head"]), 1):
        after = MultiHeadForClassification.from_pretrained(tmp_path / f"checkpoint-{epoch * steps}").state_dict()
        for part in ("stem", "blocks.0", "blocks.1", "head"):
            names = [name for name in after if name.startswith(f"vision_encoder.{part}.") and "num_b" not in name]
            thawed = part.split(".")[0] in moved and (part != "blocks.0" or epoch == 3)
            assert any("running_mean" in name for name in names)
            assert all(torch.equal(after[name], before[name]) != thawed for name in names), (epoch, part)
