"""Classification heads: from one embedding to the logits of every label column, and from logits to losses.

All heads live in one module with a `forward`, so that peft can name it in `modules_to_save`. They are numbered, not
named: a head may be called anything. Losses are sums over labelled cells divided by the number of rows, never by the
number of labelled cells, so that eight batches of one row and one batch of eight rows give the same gradient, whichever
labels are missing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_multihead import HeadConfig, MultiHeadConfig

MISSING = -100  # label of a single_label cell that is not known; unknown cells elsewhere are NaN


class Head(nn.Module):
    """One head: dropout, then `linear`, `mlp` or `residual` (long path plus short path).

    Args:
        size: width of the embedding.
        config: the head's configuration.
    """

    def __init__(self, size: int, config: HeadConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.short = nn.Linear(size, config.num_outputs) if config.kind in ("linear", "residual") else None
        self.long = (
            nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, config.num_outputs))
            if config.kind in ("mlp", "residual")
            else None
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """Map `(batch, size)` to logits `(batch, num_outputs)`."""
        embedding = self.dropout(embedding)
        if self.long is None:
            return self.short(embedding)
        if self.short is None:
            return self.long(embedding)
        return self.long(embedding) + self.short(embedding)


class Heads(nn.Module):
    """All heads of a model.

    Args:
        config: the model's configuration.
    """

    def __init__(self, config: MultiHeadConfig) -> None:
        super().__init__()
        self.names = [head.name for head in config.heads]
        self.layers = nn.ModuleList(Head(config.embedding_size, head) for head in config.heads)

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Map `(batch, size)` to a dict: head name → logits `(batch, outputs)`."""
        return {name: layer(embedding) for name, layer in zip(self.names, self.layers, strict=True)}


def head_loss(logits: Tensor, labels: Tensor, config: HeadConfig) -> Tensor:
    """Loss of one head.

    Args:
        logits: `(batch, outputs)`.
        labels: for `single_label` int64 `(batch,)` with -100 where unknown, or a distribution `(batch, labels)` with
            NaN rows where unknown; for `multi_label` `(batch, labels)` of 0 to 1 with NaN rows where unknown; for
            `regression` `(batch,)` in the target's unit, NaN where unknown.
        config: the head's configuration.

    Returns:
        scalar: the sum over labelled rows divided by the number of rows; 0 if no row is labelled.

    Raises:
        ValueError: if the labels' shape fits none of these.
    """
    logits = logits.float()  # log-softmax of half precision logits loses the tail
    rows = logits.shape[0]
    class_weights = None
    if config.class_weights is not None:
        class_weights = torch.tensor(config.class_weights, device=logits.device)
    if config.problem == "single_label" and labels.dim() == 1:
        return (
            F.cross_entropy(
                logits,
                labels.long(),
                weight=class_weights,
                ignore_index=MISSING,
                label_smoothing=config.label_smoothing,
                reduction="sum",
            )
            / rows
        )
    expected = (rows,) if config.problem == "regression" else tuple(logits.shape)
    if tuple(labels.shape) != expected:
        raise ValueError(f"head {config.name!r}: labels have shape {tuple(labels.shape)}, expected {expected}.")
    labels = labels.float()
    known = ~labels.isnan() if config.problem == "regression" else ~labels.isnan().any(-1)
    labels = labels.nan_to_num(0.0)
    if config.problem == "regression":
        losses = (logits.squeeze(-1) - (labels - config.mean) / config.std).square()
    elif config.problem == "multi_label":
        if config.label_smoothing:
            labels = labels * (1 - config.label_smoothing) + config.label_smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=class_weights, reduction="none").mean(-1)
    else:
        if config.label_smoothing:
            labels = labels * (1 - config.label_smoothing) + config.label_smoothing / labels.shape[-1]
        log_probabilities = logits.log_softmax(-1)
        if class_weights is not None:
            log_probabilities = log_probabilities * class_weights
        losses = -(labels * log_probabilities).sum(-1)
    return torch.where(known, losses, 0.0).sum() / rows


def total_loss(
    logits: dict[str, Tensor], labels: dict[str, Tensor], heads: list[HeadConfig]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the heads' losses, and each of them.

    Args:
        logits: head name → logits.
        labels: head name → labels as in `head_loss`; heads may be left out.
        heads: the heads' configurations.

    Returns:
        the total, a scalar, and head name → unweighted loss of that head.

    Raises:
        ValueError: if a label column has no head or no head has labels.
    """
    unknown = sorted(set(labels) - set(logits))
    if unknown:
        raise ValueError(f"labels hold {unknown[0]!r}, which is no head; heads: {', '.join(logits)}.")
    if not labels:
        raise ValueError(f"labels are empty: give a tensor for at least one head of {', '.join(logits)}.")
    losses = {head.name: head_loss(logits[head.name], labels[head.name], head) for head in heads if head.name in labels}
    weights = {head.name: head.weight for head in heads}
    return sum(weights[name] * loss for name, loss in losses.items()), losses
