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
from .decoding import head_parents
from .hierarchy import leaves, marginals

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
        ValueError: if the labels' shape fits none of these, or `logit_adjustment` lacks its `prior`.
    """
    logits = logits.float()  # log-softmax of half precision logits loses the tail
    if config.problem == "single_label":
        return _cross_entropy(_adjusted(logits, config), labels, config)
    known, labels = _known(labels, tuple(logits.shape) if config.problem == "multi_label" else logits.shape[:1], config)
    if config.problem == "regression":
        losses = (logits.squeeze(-1) - (labels - config.mean) / config.std).square()
    else:
        if config.label_smoothing:
            labels = labels * (1 - config.label_smoothing) + config.label_smoothing / 2
        yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
        losses = labels * _focused(yes, config)
        if config.class_weights is not None:
            losses = losses * torch.tensor(config.class_weights, device=logits.device)
        losses = (losses + (1 - labels) * _focused(no, config)).mean(-1)
    return torch.where(known, losses, 0.0).sum() / logits.shape[0]


def total_loss(
    logits: dict[str, Tensor], labels: dict[str, Tensor], heads: list[HeadConfig], hierarchy_loss: str = "none"
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the heads' losses, and each of them.

    Args:
        logits: head name → logits.
        labels: head name → labels as in `head_loss`; heads may be left out.
        heads: the heads' configurations.
        hierarchy_loss: as in `MultiHeadConfig`; `marginal` adds to a parent head's loss that of the finest heads'
            summed probabilities.

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
    if hierarchy_loss == "marginal":
        by_name, parents = {head.name: head for head in heads}, head_parents(heads)
        sizes = {head.name: head.num_outputs for head in heads}
        for name in leaves(parents):
            finest = _adjusted(logits[name].float(), by_name[name])
            for above, values in marginals(name, finest, parents, sizes).items():
                if above in labels:
                    losses[above] = losses[above] + _cross_entropy(values, labels[above], by_name[above])
    weights = {head.name: head.weight for head in heads}
    return sum(weights[name] * loss for name, loss in losses.items()), losses


def disagreement(logits: dict[str, Tensor], heads: list[HeadConfig]) -> Tensor:
    """How far two passes over the same rows are apart, as R-Drop (Wu et al. 2021, arXiv:2106.14448) counts it.

    Args:
        logits: head name → logits of the rows and, below them, of the same rows again: `(2 × batch, outputs)`.
        heads: the heads' configurations.

    Returns:
        scalar, the weighted sum over the heads of the mean over the rows: ½ (KL(p ‖ q) + KL(q ‖ p)) for
        `single_label`; the same for each label's yes and no, averaged over the labels, for `multi_label`; the squared
        difference in deviations for `regression`.

    Example:
        >>> heads = [HeadConfig("topic", ["경제", "정치"])]
        >>> round(disagreement({"topic": torch.tensor([[0.0, 0.0], [0.0, 2.0]])}, heads).item(), 4)
        0.3808
    """
    total = torch.zeros((), device=next(iter(logits.values())).device)
    for head in heads:
        one, other = logits[head.name].float().chunk(2)
        if head.problem == "regression":
            apart = (one - other).square().sum(-1)
        elif head.problem == "multi_label":
            apart = ((one.sigmoid() - other.sigmoid()) * (one - other)).mean(-1) / 2
        else:  # the two divergences' logarithms of the sums cancel out
            apart = ((one.softmax(-1) - other.softmax(-1)) * (one - other)).sum(-1) / 2
        total = total + head.weight * apart.mean()
    return total


def _cross_entropy(log_probabilities: Tensor, labels: Tensor, config: HeadConfig) -> Tensor:
    """The loss of a `single_label` head from log-probabilities; hard labels are distributions with one 1."""
    if labels.dim() == 1:
        known = labels != MISSING
        labels = F.one_hot(torch.where(known, labels, 0).long(), log_probabilities.shape[-1]).float()
    else:
        known, labels = _known(labels, tuple(log_probabilities.shape), config)
    if config.label_smoothing:
        labels = labels * (1 - config.label_smoothing) + config.label_smoothing / labels.shape[-1]
    losses = labels * _focused(log_probabilities, config)
    if config.class_weights is not None:
        losses = losses * torch.tensor(config.class_weights, device=losses.device)
    return torch.where(known, losses.sum(-1), 0.0).sum() / losses.shape[0]


def _adjusted(logits: Tensor, config: HeadConfig) -> Tensor:
    """Log-probabilities as the loss sees them: of logits + τ ln(prior)."""
    if config.logit_adjustment:
        if config.prior is None:
            raise ValueError(f"head {config.name!r}: logit_adjustment needs `prior`, the labels' shares in training.")
        logits = logits + config.logit_adjustment * torch.tensor(config.prior, device=logits.device).log()
    return logits.log_softmax(-1)


def _focused(log_probabilities: Tensor, config: HeadConfig) -> Tensor:
    """-ln p, by the focal loss's factor (1 - p) ** gamma."""
    if not config.focal_gamma:
        return -log_probabilities
    # For a gamma below 1 the power's slope at p = 1 is infinite.
    rest = -torch.expm1(log_probabilities)
    return -log_probabilities * rest.clamp_min(torch.finfo(rest.dtype).eps) ** config.focal_gamma


def _known(labels: Tensor, expected: tuple[int, ...], config: HeadConfig) -> tuple[Tensor, Tensor]:
    """Which rows are labelled, and the labels as float32 with 0 for NaN."""
    if tuple(labels.shape) != tuple(expected):
        raise ValueError(f"head {config.name!r}: labels have shape {tuple(labels.shape)}, expected {tuple(expected)}.")
    labels = labels.float()
    known = ~labels.isnan() if labels.dim() == 1 else ~labels.isnan().any(-1)
    return known, labels.nan_to_num(0.0)
