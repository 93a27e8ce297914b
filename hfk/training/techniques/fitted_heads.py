"""Heads fitted to their optimum instead of by steps: what a frozen encoder and few rows need.

The problem is convex, so that neither learning rate nor order of rows decides anything; how strong the penalty is,
which does, inner folds of the training rows say. `num_train_epochs: 0` makes it all of the training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...tasks.labels import label_arrays
from ...tasks.split import fold_numbers
from .base import Setting, Technique

_PENALTIES = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
"""What the sum of squared weights costs, beside the sum of the rows' losses; features have a mean square norm of 1."""


class FittedHeads(Technique, key="fitted_heads"):
    """Fit linear heads, when training has ended, to the training rows' embeddings: their own loss and an L2 penalty.

    Args:
        folds: the training rows are divided into so many, to choose each head's penalty by the loss on each fold of
            what is fitted on the others.
        penalty: in place of that, the penalty of all heads: where rows resemble each other, as those of templates do,
            folds choose too small a one.

    Raises:
        ValueError: for heads that are not linear.
    """

    folds: int = 5
    penalty: float | None = None

    def begin(self, setting: Setting) -> None:
        """Refuse heads that have hidden layers."""
        super().begin(setting)
        for head in setting.heads:
            if head.kind != "linear":
                raise ValueError(f"fitted_heads fits linear heads, and head {head.name!r} is {head.kind}.")

    def on_train_end(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        """Fit them."""
        rows, heads, started = self.setting.rows["train"], self.setting.heads, time.perf_counter()
        batches = DataLoader(rows, args.per_device_eval_batch_size, collate_fn=self.setting.collator)
        with torch.no_grad():
            model.eval()
            found = [model(**{k: v.to(args.device) for k, v in b.items() if k != "labels"}).embedding for b in batches]
        features = torch.cat(found).float().cpu()
        self._found = {}
        for head, layer in zip(heads, model.heads.layers, strict=True):
            labels = torch.from_numpy(label_arrays(rows, [head])[head.name])
            loss = partial(head.rules.loss, options=self.setting.losses[head.name])
            strata = labels.tolist() if head.rules.exclusive and labels.dim() == 1 else None
            weight, bias, self._found[head.name] = fit_head(
                features, labels, head.num_outputs, loss, self.folds, strata, self.setting.seed, self.penalty
            )
            with torch.no_grad():
                layer.short.weight.copy_(weight)
                layer.short.bias.copy_(bias)
        self._seconds = time.perf_counter() - started

    def facts(self) -> dict[str, Any]:
        """Return the penalties that were chosen, and how long it took."""
        return {"fitted_heads": self._found, "fit_seconds": round(self._seconds, 1)}


def fit_head(
    features: Tensor,
    labels: Tensor,
    outputs: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    folds: int = 5,
    strata: list[Any] | None = None,
    seed: int = 42,
    penalty: float | None = None,
) -> tuple[Tensor, Tensor, float]:
    """Fit one linear head: weight `(outputs, size)`, bias `(outputs,)`, and the penalty that the folds chose.

    Args:
        features: what it reads, `(rows, size)`.
        labels: as `loss` takes them beside logits.
        outputs: width of the logits.
        loss: of logits and labels, a mean over rows.
        folds: of the rows, to choose the penalty by the loss on each of what is fitted on the others.
        strata: one value a row; those of one value are spread over the folds.
        seed: deals rows to folds.
        penalty: what is taken without asking the folds.
    """
    middle = features.mean(0)
    size = (features - middle).square().sum(1).mean().sqrt().clamp_min(1e-6)
    # What lies outside of the rows' own span has no weight at the optimum: few rows need few numbers.
    left, values, right = torch.linalg.svd((features - middle) / size, full_matrices=False)
    scores = left * values
    numbers = [str(row) for row in range(len(labels))]
    of_row = torch.from_numpy(fold_numbers(numbers, None, strata, min(folds, len(labels)), seed, False))

    start = torch.zeros(outputs, scores.shape[1]), torch.zeros(outputs)
    held_out = dict.fromkeys(_PENALTIES if penalty is None else [penalty], 0.0)
    for fold in range(int(of_row.max()) + 1) if penalty is None else ():
        inside, found = of_row == fold, start
        for strength in sorted(held_out, reverse=True):  # from the strongest on, each from where the last one ended
            found = _minimize(scores[~inside], labels[~inside], found, loss, strength)
            lost = loss(nn.functional.linear(scores[inside], *found), labels[inside])
            held_out[strength] += float(lost) * int(inside.sum())
    penalty = min(held_out, key=held_out.get)
    weight, bias = _minimize(scores, labels, start, loss, penalty)
    weight = weight @ right / size
    return weight, bias - weight @ middle, penalty


def _minimize(
    features: Tensor,
    labels: Tensor,
    start: tuple[Tensor, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    penalty: float,
) -> tuple[Tensor, Tensor]:
    weight, bias = (values.clone().requires_grad_() for values in start)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(nn.functional.linear(features, weight, bias), labels)
        value = value + penalty / len(features) * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)
    return weight.detach(), bias.detach()
