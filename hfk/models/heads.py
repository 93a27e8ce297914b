"""Classification heads: from one embedding to the logits of every label column, and the loss of all of them.

All heads live in one module with a `forward`, so that peft can name it in `modules_to_save`. They are numbered, not
named: a head may be called anything. What one head's loss is, its problem says (problems.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .configuration_multihead import HeadConfig, MultiHeadConfig
from .hierarchy import head_parents, leaves, marginals
from .problems import HeadLoss

HIERARCHY_LOSSES = ("none", "marginal")


class Head(nn.Module):
    """One head: dropout, then `linear`, `mlp` or `residual` (long path plus short path)."""

    def __init__(self, size: int, config: HeadConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        outputs, self.short, self.long = config.num_outputs, None, None
        if config.kind in ("linear", "residual"):
            self.short = nn.Linear(size, outputs)
        if config.kind in ("mlp", "residual"):
            self.long = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, outputs))

    def forward(self, embedding: Tensor) -> Tensor:
        """Map `(batch, size)` to logits `(batch, num_outputs)`."""
        embedding = self.dropout(embedding)
        if self.short is None or self.long is None:
            return (self.short or self.long)(embedding)
        return self.long(embedding) + self.short(embedding)


class Heads(nn.Module):
    """All heads of a model."""

    def __init__(self, config: MultiHeadConfig) -> None:
        super().__init__()
        self.names = [head.name for head in config.heads]
        self.layers = nn.ModuleList(Head(config.embedding_size, head) for head in config.heads)

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Map `(batch, size)` to a dict: head name → logits `(batch, outputs)`."""
        return {name: layer(embedding) for name, layer in zip(self.names, self.layers, strict=True)}


def total_loss(
    logits: dict[str, Tensor],
    labels: dict[str, Tensor],
    heads: Sequence[HeadConfig],
    hierarchy_loss: str = "none",
    options: Mapping[str, HeadLoss] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the heads' losses, and head name → unweighted loss of that head.

    Heads may be left out of `labels`, and of `options`, which say how a head is trained. For `hierarchy_loss` see
    `MultiHeadForClassification.set_training`.
    """
    unknown = sorted(set(labels) - set(logits))
    if unknown:
        raise ValueError(f"labels hold {unknown[0]!r}, which is no head; heads: {', '.join(logits)}.")
    if not labels:
        raise ValueError(f"labels are empty: give a tensor for at least one head of {', '.join(logits)}.")
    rules = {head.name: head.rules for head in heads}
    options = {name: HeadLoss() for name in rules} | dict(options or {})
    losses = {name: rules[name].loss(logits[name], labels[name], options[name]) for name in rules if name in labels}
    if hierarchy_loss == "marginal":
        parents, sizes = head_parents(heads), {head.name: len(head.labels) for head in heads}
        for name in leaves(parents):
            finest = rules[name].adjusted(logits[name].float(), options[name])
            for above, values in marginals(name, finest, parents, sizes).items():
                if above in labels:
                    rows = rules[above].cross_entropy(values, labels[above], options[above])
                    losses[above] = losses[above] + rows.sum() / len(rows)
    return sum(options[name].weight * loss for name, loss in losses.items()), losses


def disagreement(
    logits: dict[str, Tensor], heads: Sequence[HeadConfig], options: Mapping[str, HeadLoss] | None = None
) -> Tensor:
    """How far two passes over the same rows are apart, as R-Drop (Wu et al. 2021, arXiv:2106.14448) counts it.

    `logits` are those of the rows and, below them, of the same rows again: head name → `(2 × batch, outputs)`.
    """
    total = torch.zeros((), device=next(iter(logits.values())).device)
    for head in heads:
        weight = (options or {}).get(head.name, HeadLoss()).weight
        total = total + weight * head.rules.disagreement(*logits[head.name].float().chunk(2)).mean()
    return total
