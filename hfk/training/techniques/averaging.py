"""A moving average of the weights, kept while they are trained; it is what is evaluated and saved.

Averages generalize a little better than the last step's weights, and cost one pass over the weights a step (Polyak &
Juditsky 1992; Tarvainen & Valpola 2017, arXiv:1703.01780).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from .base import Setting, Technique, check_range

TRAINED = "trained_weights.safetensors"
"""In a checkpoint, what training goes on from; its `model.safetensors` holds the average."""


class Ema(Technique, key="ema"):
    """An exponential moving average of a model's weights, updated at every optimizer step.

    The average keeps `min(decay, (1 + steps) / (10 + steps))` of itself at a step: it forgets its first steps, so that
    it spans about the last tenth of a run that is short for the decay. Only trainable weights are averaged.

    Args:
        decay: in [0, 1); 0 for no average.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        check_range("ema", self.decay, 1)
        self._model: nn.Module | None = None
        self._average: AveragedModel | None = None

    def begin(self, setting: Setting) -> None:
        """Refuse training that splits the weights."""
        super().begin(setting)
        if setting.arguments.fsdp or setting.arguments.deepspeed:
            raise ValueError("ema needs all weights in every process: leave it out under FSDP or DeepSpeed.")

    def on_train_begin(self, *args: Any, model: nn.Module, **kwargs: Any) -> None:
        """Start an average, unless a checkpoint has brought one."""
        if self._model is not model:
            self._follow(model)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Take the new weights in."""
        self._average.update_parameters(self._model)

    def on_train_end(self, args: Any, state: Any, *others: Any, **kwargs: Any) -> None:
        """Leave the average in the model; the best checkpoint's weights, if those were loaded, are one."""
        if self._started and not (args.load_best_model_at_end and state.best_model_checkpoint):
            self._swap()
        self._average.n_averaged.zero_()

    @contextmanager
    def weights(self, model: nn.Module) -> Iterator[None]:
        """Give the model its averaged weights for a while; nothing happens before the first step."""
        if not self._started:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def save(self, folder: Path) -> None:
        """Write the weights that are trained, beside the average that is the checkpoint's model."""
        weights = {name: weight.detach().cpu().contiguous() for name, weight, _ in self._pairs}
        save_file(weights, folder / TRAINED, {"steps": str(int(self._average.n_averaged))})

    def load(self, folder: Path, model: nn.Module) -> None:
        """Go on from a checkpoint; without trained weights in it, the average starts at the model."""
        self._follow(model)
        path = folder / TRAINED
        if path.is_file():
            with safe_open(path, "pt") as file, torch.no_grad():
                learned = set(file.keys())  # what was frozen until then is not among it
                for name, weight, _ in self._pairs:
                    if name in learned:
                        weight.copy_(file.get_tensor(name))
                self._average.n_averaged.fill_(int(file.metadata()["steps"]))

    @property
    def _started(self) -> bool:
        return self._average is not None and bool(self._average.n_averaged)

    @property
    def _pairs(self) -> list[tuple[str, nn.Parameter, nn.Parameter]]:
        averaged = self._average.module.parameters()
        named = zip(self._model.named_parameters(), averaged, strict=True)
        return [(name, weight, mean) for (name, weight), mean in named if weight.requires_grad]

    def _follow(self, model: nn.Module) -> None:
        self._model, self._average = model, AveragedModel(model, multi_avg_fn=self._update)

    def _update(self, averaged: list[torch.Tensor], current: list[torch.Tensor], steps: torch.Tensor) -> None:
        steps = int(steps)
        torch._foreach_lerp_(averaged, current, 1 - min(self.decay, (1 + steps) / (10 + steps)))

    def _swap(self) -> None:
        for _, weight, mean in self._pairs:
            weight.data, mean.data = mean.data, weight.data
