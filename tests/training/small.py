"""Rows, arguments and trainers of a moment's training, for the tests of this folder."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import TrainerCallback

from hfk import MultiHeadTrainer, MultiHeadTrainingArguments
from hfk.training.techniques import make_techniques
from tests import tiny


def rows(count: int = 24, missing: bool = True) -> Dataset:
    """Rows whose text tells the labels; some labels are unknown."""
    generator = np.random.default_rng(0)
    data = {"id": [], "text": [], "cat1": [], "cat2": [], "tags": [], "price": []}
    for number in range(count):
        kind = number % 3
        data["id"].append(f"row{number}")
        data["text"].append(tiny.SENTENCES[[2, 0, 1][kind]] + " " + " ".join(tiny.SENTENCES[4].split()[: number % 4]))
        unknown = missing and number % 5 == 4
        data["cat1"].append(None if unknown else [0, 0, 1][kind])
        data["cat2"].append(kind)
        data["tags"].append(None if missing and number % 7 == 6 else [kind])
        data["price"].append(None if unknown else float(kind) + generator.random())
    return Dataset.from_dict(data)


def pictures(count: int = 12) -> Dataset:
    """Rows of pictures whose color tells the label."""
    colors = ["navy", "darkgreen", "firebrick"]
    images = [picture(np.asarray(Image.new("RGB", (32, 32), colors[number % 3]))) for number in range(count)]
    labels = {"cat1": [[0, 0, 1][number % 3] for number in range(count)], "cat2": [n % 3 for n in range(count)]}
    return Dataset.from_dict({"id": [str(number) for number in range(count)], "image": images} | labels)


def picture(pixels: np.ndarray) -> dict:
    """A picture as data sets hold it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def arguments(folder, **options) -> MultiHeadTrainingArguments:
    """Arguments that evaluate and save nothing, unless told."""
    defaults = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "disable_tqdm": True,
                "per_device_train_batch_size": 8}  # fmt: skip
    return MultiHeadTrainingArguments(output_dir=str(folder), **(defaults | options))


def without_dropout(model):
    """Switch every dropout off."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def trainer(
    folder, techniques: dict[str, Any] | None = None, vision: str | None = None, model=None, callbacks=(),
    text: str | None = None, **options,
) -> MultiHeadTrainer:  # fmt: skip
    """A tiny model's trainer on `rows`, on `pictures` with a `vision` encoder, or on both; `options` are arguments.

    Features are not standardized, which would tell one run of a test from the other.
    """
    torch.manual_seed(0)
    text = text or (None if vision else "bert")
    data = rows() if text else pictures()
    if text and vision:
        data = data.add_column("image", list(pictures(len(data))["image"]))
    model = model or tiny.model(text, vision)
    made = make_techniques({"standardize_rows": 0} | (techniques or {}))
    return MultiHeadTrainer(
        model, arguments(folder, **options), tiny.processor(text, vision), data, data, made, callbacks=callbacks
    )


def trainable(model) -> dict[str, torch.Tensor]:
    """Copy the weights that are trained."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


class Watch(TrainerCallback):
    """Keeps the trained weights of every step; stops and saves after some."""

    def __init__(self, stop: int | None = None) -> None:
        self.weights, self.stop = [], stop

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append(trainable(model))
        if self.stop is not None:
            control.should_training_stop = control.should_save = state.global_step == self.stop


class Slow(TrainerCallback):
    """Takes its time at every step, so that a kill falls into the training."""

    def on_step_end(self, *args, **kwargs):
        time.sleep(0.1)


def killed(work: Callable[[], Any], when: Callable[[], bool] = lambda: False, seconds: float = 60.0) -> bool:
    """Work in a fork of this process, and kill it as soon as `when` holds; False if it ended before that by itself."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    end = time.monotonic() + seconds
    while not os.waitpid(child, os.WNOHANG)[0]:
        late = time.monotonic() > end
        if late or when():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return not late
        time.sleep(0.01)
    return False
