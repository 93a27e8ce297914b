"""The moving average of the weights: it is what is evaluated and saved, and resuming goes on with it."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainerCallback

from hfk import MultiHeadForClassification, MultiHeadTrainer
from hfk.runs.run import last_checkpoint
from hfk.training.techniques.averaging import TRAINED
from hfk.training.techniques.rates import add_adapters
from tests import tiny
from tests.training.test_trainer import arguments, rows, without_dropout


class Watch(TrainerCallback):
    """Keeps the trained weights of every step, and stops after some."""

    def __init__(self, stop: int | None = None) -> None:
        self.weights, self.stop = [], stop

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append(trainable(model))
        control.should_training_stop = control.should_save = state.global_step == self.stop


def trainable(model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def make(folder, lora: bool = False, **options) -> MultiHeadTrainer:
    torch.manual_seed(0)
    model = without_dropout(tiny.model("bert"))
    args = arguments(
        folder, num_train_epochs=4, per_device_train_batch_size=8, learning_rate=1e-2, ema_decay=0.5,
        train_sampling_strategy="sequential", lora_dropout=0.0, **options,
    )  # fmt: skip
    return MultiHeadTrainer(add_adapters(model, args) if lora else model, args, tiny.processor(), rows(), rows())


def expected(weights: list[dict[str, torch.Tensor]], decay: float) -> dict[str, torch.Tensor]:
    mean = weights[0]
    for steps, new in enumerate(weights[1:], 1):
        keep = min(decay, (1 + steps) / (10 + steps))
        mean = {name: keep * mean[name] + (1 - keep) * new[name] for name in mean}
    return mean


@pytest.mark.parametrize("lora", [False, True])
def test_the_average_is_what_training_leaves_behind(tmp_path, lora):
    trainer, watch = make(tmp_path, lora), Watch()
    trainer.add_callback(watch)
    trainer.train()
    assert len(watch.weights) == 12
    mean = expected(watch.weights, 0.5)
    found = trainable(trainer.model)
    for name, weight in found.items():
        torch.testing.assert_close(weight, mean[name], msg=name)
    assert any((found[name] - watch.weights[-1][name]).abs().max() > 1e-4 for name in found)
    loss = trainer.evaluate()["eval_loss"]  # of the same weights still
    assert trainable(trainer.model).keys() == found.keys()
    trainer.model.eval()
    with torch.no_grad():
        batch = trainer.data_collator([trainer.eval_dataset[number] for number in range(24)])
        assert loss == pytest.approx(trainer.model(**batch).loss.item(), rel=1e-4)


def test_evaluation_during_training_reads_the_average_and_gives_the_weights_back(tmp_path):
    trainer, watch = make(tmp_path, eval_strategy="steps", eval_steps=12), Watch()
    trainer.add_callback(watch)
    trainer.train()
    evaluated = next(entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry)
    assert evaluated == pytest.approx(trainer.evaluate()["eval_loss"], rel=1e-5)


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = make(tmp_path / "whole")
    whole.train()
    first = make(tmp_path / "parts", save_strategy="epoch")
    watch = Watch(stop=6)
    first.add_callback(watch)
    first.train()
    checkpoint = last_checkpoint(tmp_path / "parts")
    saved = trainable(MultiHeadForClassification.from_pretrained(checkpoint))
    for name, weight in expected(watch.weights, 0.5).items():
        torch.testing.assert_close(saved[name], weight, msg=name)
    second = make(tmp_path / "parts", save_strategy="epoch")
    second.train(resume_from_checkpoint=checkpoint)
    for name, weight in trainable(whole.model).items():
        torch.testing.assert_close(trainable(second.model)[name], weight, msg=name)


def test_the_best_checkpoint_comes_back_as_it_was_evaluated(tmp_path):
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    trainer = make(tmp_path, **options, metric_for_best_model="loss", greater_is_better=False, save_total_limit=5)
    trainer.train()
    best = min(entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(best, rel=1e-5)
    assert (tmp_path / "checkpoint-12" / TRAINED).is_file()


def test_a_run_without_average_is_gone_on_with(tmp_path):
    make(tmp_path, save_strategy="epoch").train()
    trainer = make(tmp_path, save_strategy="epoch")
    (tmp_path / "checkpoint-12" / TRAINED).unlink()
    trainer.args.num_train_epochs = 5
    trainer.train(resume_from_checkpoint=last_checkpoint(tmp_path))
    assert trainer.state.global_step == 15


def test_wrong_values(tmp_path):
    with pytest.raises(ValueError, match=r"ema_decay must be in \[0, 1\)"):
        arguments(tmp_path, ema_decay=1.0)
    with pytest.raises(ValueError, match="FSDP"):
        arguments(tmp_path, ema_decay=0.9, fsdp="full_shard")


def test_a_search_gives_every_trial_its_own_average(tmp_path):
    trainer = make(tmp_path)
    trainer.model_init = lambda trial=None: without_dropout(tiny.model("bert"))
    for _ in range(2):
        watch = Watch()
        trainer.add_callback(watch)
        trainer.train()
        trainer.remove_callback(watch)
        for name, weight in expected(watch.weights, 0.5).items():
            torch.testing.assert_close(trainable(trainer.model)[name], weight, msg=name)
