"""A run that is stopped at any step goes on bit by bit, and a kill leaves a checkpoint to go on from, or none."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from hfk.runs.run import Run, last_checkpoint
from hfk.training.techniques import TECHNIQUES
from tests.training.small import trainable, trainer

BOTH = {"text": "bert", "vision": "resnet"}
CASES = {
    "length groups": ({}, {}),
    "random order": ({}, {"train_sampling_strategy": "random", "gradient_accumulation_steps": 2}),
    "sampling, losses": (
        {"sampling": "balanced", "class_weights": "sqrt", "focal": 1.0, "logit_adjustment": 1.0,
         "label_smoothing": 0.1, "hierarchy_loss": "marginal"}, {},
    ),
    "eda, r_drop, ema, rates": (
        {"eda": {"head": "cat1"}, "r_drop": 4, "ema": 0.5, "layer_decay": 0.5, "head_learning_rate": 1e-2}, {},
    ),
    "lora, ema": ({"lora": True, "ema": 0.5, "thresholds": True}, {}),
    "pictures beside texts": (
        {"pictures": True, "modality_dropout": 0.5, "modality_loss": 1.0, "freeze_batch_norm": True,
         "standardize_rows": 8, "calibrate": True}, BOTH,
    ),
    "unfreezing, ema": ({"unfreezing": {"schedule": [0, 0, 1, 9]}, "ema": 0.5}, {"vision": "efficientnet-lite"}),
    "pictures, drawn again": ({"pictures": True, "sampling": "sqrt"}, {"vision": "vit"}),
    "mixed pictures": ({"cutmix": {"copies": 1}, "mixup": 0.4}, {"vision": "resnet"}),
    "heads fitted at the end": ({"fitted_heads": {"folds": 2}}, {}),
    "heads on what was encoded before": ({"frozen_features": True, "thin": True}, {"vision": "vit", "text": None}),
    "distillation": ({"distillation": {"hidden": 1.0}}, {}),
    "patience": (
        {"early_stopping": 4},
        {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss", "greater_is_better": False,
         "learning_rate": 0.0, "max_steps": 20},
    ),
}  # fmt: skip
"""Techniques, and what else they are tried with."""


class SaveAt(TrainerCallback):
    """Saves after one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = state.global_step == self.step


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_ends_bit_by_bit_where_an_uninterrupted_one_does(name, wide_teacher, tmp_path, monkeypatch):
    """Stopped in the middle of the second epoch, where its order and its random numbers have been drawn already."""
    monkeypatch.setenv("HFK_CACHE", str(tmp_path / "cache"))
    techniques, options = CASES[name]
    if "distillation" in techniques:
        techniques = {"distillation": techniques["distillation"] | {"teacher": wide_teacher}}
    options = {"max_steps": 11, "learning_rate": 1e-2, "per_device_train_batch_size": 4} | options
    if options.get("gradient_accumulation_steps"):
        options["per_device_train_batch_size"] = 2
    whole = trainer(tmp_path, techniques, callbacks=[SaveAt(8)], **options)
    whole.train()
    resumed = trainer(tmp_path, techniques, **options)
    resumed.train(resume_from_checkpoint=last_checkpoint(tmp_path))
    assert last_checkpoint(tmp_path).endswith("checkpoint-8")
    assert resumed.state.global_step == whole.state.global_step > 8
    for name, weight in trainable(whole.model).items():
        assert torch.equal(trainable(resumed.model)[name], weight), name


def test_a_checkpoint_of_an_epochs_last_step_holds_what_the_epoch_ends_with(tmp_path):
    """Saved by steps and evaluated by epochs: what is due at step 6 of 6 comes after the evaluation."""
    options = {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 9, "eval_strategy": "epoch"}
    options |= {"max_steps": 15, "per_device_train_batch_size": 4}
    options |= {"metric_for_best_model": "loss", "greater_is_better": False}
    whole = trainer(tmp_path, {"early_stopping": 9}, **options)
    whole.train()
    scores = [entry["eval_loss"] for entry in whole.state.log_history if "eval_loss" in entry]
    assert len(scores) == 3
    for step, seen in ((6, 1), (9, 1), (12, 2)):
        resumed = trainer(tmp_path, {"early_stopping": 9}, **options)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        log = [entry for entry in resumed.state.log_history if "eval_loss" in entry]
        assert [entry["eval_loss"] for entry in log] == scores
        assert len([entry for entry in log if entry["step"] <= step]) == seen
        assert resumed.state.best_metric == whole.state.best_metric
        for name, weight in trainable(whole.model).items():
            assert torch.equal(trainable(resumed.model)[name], weight), (step, name)


@pytest.mark.parametrize("end", ["max_steps", "early_stopping"])
def test_a_run_that_has_ended_takes_no_further_step(tmp_path, end):
    """Killed after its last checkpoint, before anything else: steps end it in mid-epoch, patience between two."""
    options = {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "eval_strategy": "epoch", "save_total_limit": 9}
    options |= {"save_strategy": "steps", "save_steps": 4, "max_steps": 8} if end == "max_steps" else {}
    options |= {"metric_for_best_model": "loss", "greater_is_better": True} if end == "early_stopping" else {}
    techniques = {"early_stopping": 1} if end == "early_stopping" else {}
    whole = trainer(tmp_path, techniques, **{"num_train_epochs": 20, "save_strategy": "epoch"} | options)
    whole.train()
    last = whole.state.global_step
    assert last == 8 if end == "max_steps" else 0 < last < whole.state.max_steps
    resumed = trainer(tmp_path, techniques, **{"num_train_epochs": 20, "save_strategy": "epoch"} | options)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{last}"))
    assert resumed.state.global_step == last
    for name, weight in trainable(whole.model).items():
        assert torch.equal(trainable(resumed.model)[name], weight), name


def test_every_technique_is_resumed():
    assert {name for techniques, _ in CASES.values() for name in techniques} >= {
        key for key, kind in TECHNIQUES.items() if kind.__module__.startswith("hfk.")
    }


def test_a_kill_at_any_moment_of_a_save_leaves_no_broken_pick(tmp_path):
    """Whatever files there are when the next one is touched: what a kill would leave at that moment."""
    run, moments, watching, one_at_a_time = tmp_path / "run", [], [True], threading.RLock()

    def remember(event: str, details: tuple) -> None:
        touched = event.startswith(("open", "os.", "shutil.")) and event not in ("os.listdir", "os.scandir")
        if not (touched and watching and str(run) in str(details[:1]) and run.is_dir()):
            return
        with one_at_a_time:  # a seal's files are read by several threads
            if watching:  # not what the copying itself touches
                watching.clear()
                moments.append(shutil.copytree(run, tmp_path / str(len(moments))))
                watching.append(True)

    sys.addaudithook(remember)
    made = trainer(run, {"ema": 0.5}, max_steps=3, save_strategy="steps", save_steps=1, save_total_limit=1)
    made.train()
    Run(run).close()
    watching.clear()
    picks = [last_checkpoint(moment) for moment in moments]
    assert len(picks) > 30 and {Path(pick).name for pick in picks if pick} == {f"checkpoint-{n}" for n in (1, 2, 3)}
    seen = {tuple((file.name, file.stat().st_mtime_ns) for file in sorted(Path(pick).iterdir())): pick
            for pick in picks if pick}  # fmt: skip
    for pick in seen.values():
        made._load_from_checkpoint(pick)
        made._load_optimizer_and_scheduler(pick)
        made._load_rng_state(pick)
