"""A moving average of the weights, kept while they are trained; it is what is evaluated and saved.

Averages generalise a little better than the last step's weights, and cost one pass over the weights a step (Polyak &
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
from transformers import TrainerCallback

TRAINED = "trained_weights.safetensors"
"""In a checkpoint, what training goes on from; its `model.safetensors` holds the average."""
_STEPS = "steps"


class WeightAverage(TrainerCallback):
    """An exponential moving average of a model's weights, updated at every optimizer step.

    The average keeps `min(decay, (1 + steps) / (10 + steps))` of itself at a step: it forgets its first steps, so that
    it spans about the last tenth of a run that is short for the decay.

    Only trainable weights are averaged. A search trains one new model after another: each gets an average of its own.

    Args:
        decay: in (0, 1).

    Example:
        >>> average = WeightAverage(0.999)
        >>> trainer.add_callback(average)  # doctest: +SKIP
        >>> with average.applied():
        ...     trainer.evaluate()  # doctest: +SKIP
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.model: nn.Module | None = None
        self.average: AveragedModel | None = None

    def _follow(self, model: nn.Module) -> None:
        self.model, self.average = model, AveragedModel(model, multi_avg_fn=self._update)

    def _update(self, averaged: list[torch.Tensor], current: list[torch.Tensor], steps: torch.Tensor) -> None:
        steps = int(steps)
        torch._foreach_lerp_(averaged, current, 1 - min(self.decay, (1 + steps) / (10 + steps)))

    @property
    def _pairs(self) -> list[tuple[str, nn.Parameter, nn.Parameter]]:
        averaged = self.average.module.parameters()
        named = zip(self.model.named_parameters(), averaged, strict=True)
        return [(name, weight, mean) for (name, weight), mean in named if weight.requires_grad]

    def on_train_begin(self, *args: Any, model: nn.Module, **kwargs: Any) -> None:
        """Start an average, unless a checkpoint has brought one."""
        if self.model is not model:
            self._follow(model)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Take the new weights in."""
        self.average.update_parameters(self.model)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Leave the average in the model."""
        if self.started:
            self._swap()
            self.forget()

    @property
    def started(self) -> bool:
        """Whether there is anything to apply."""
        return self.average is not None and bool(self.average.n_averaged)

    def forget(self) -> None:
        """Have nothing to apply any more."""
        self.average.n_averaged.zero_()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model its averaged weights for a while; nothing happens before the first step."""
        if not self.started:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for _, weight, mean in self._pairs:
            weight.data, mean.data = mean.data, weight.data

    def save(self, folder: str | Path) -> None:
        """Write the weights that are trained into a checkpoint folder, beside the average that is its model."""
        weights = {name: weight.detach().cpu().contiguous() for name, weight, _ in self._pairs}
        save_file(weights, Path(folder) / TRAINED, {_STEPS: str(int(self.average.n_averaged))})

    def load(self, model: nn.Module, folder: str | Path) -> None:
        """Go on from a checkpoint folder, which `model` was loaded from.

        Without a file of trained weights, from a run without average, the average starts at the model.
        """
        self._follow(model)
        path = Path(folder) / TRAINED
        if path.is_file():
            with safe_open(path, "pt") as file, torch.no_grad():
                for name, weight, _ in self._pairs:
                    weight.copy_(file.get_tensor(name))
                self.average.n_averaged.fill_(int(file.metadata()[_STEPS]))
