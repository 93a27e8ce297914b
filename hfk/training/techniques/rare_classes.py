"""What the heads' losses make of rare classes: weights, focal loss, logit adjustment; and smoothing, and hierarchies.

All of these say something of heads that the task leaves open: what a task says of a head of its own holds.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ...models.configuration_multihead import HeadConfig
from ...models.heads import HIERARCHY_LOSSES
from ...models.problems import HeadLoss
from .base import Setting, Technique, check_range

CLASS_WEIGHTS = ("balanced", "sqrt", "effective")


def _losses(setting: Setting, exclusive: bool = False) -> list[tuple[HeadConfig, HeadLoss]]:
    """The heads that have labels (one label a row, if `exclusive`), and what their losses are told."""
    heads = [(head, setting.losses[head.name]) for head in setting.heads]
    return [(head, loss) for head, loss in heads if (head.rules.exclusive if exclusive else head.rules.has_labels)]


class ClassWeights(Technique, key="class_weights"):
    """Let mistakes in rare classes cost more, in single-label heads; the mean weight over the training rows is 1.

    Args:
        kind: `balanced` (inverse frequency), `sqrt` (its square root) or `effective` (inverse of the effective number
            of rows, (1 - β^n) / (1 - β): Cui et al. 2019, arXiv:1901.05555).
        beta: the β of `effective`, in [0, 1): how soon more rows of a class stop to count as new.
    """

    kind: str
    beta: float = 0.999

    def __post_init__(self) -> None:
        if self.kind not in CLASS_WEIGHTS:
            raise ValueError(f"class_weights {self.kind!r} is not one of none, {', '.join(CLASS_WEIGHTS)}.")
        check_range("class_weights.beta", self.beta, 1)

    def model(self, model: Any) -> Any:
        """Weigh the classes; heads of soft labels stay as they are."""
        for head, loss in _losses(self.setting, exclusive=True):
            labels = self.setting.labels(head)
            if loss.class_weights is None and labels is not None and labels.ndim == 1:
                loss.class_weights = balanced_weights(labels, len(head.labels), self.kind, self.beta)
        return model


class Focal(Technique, key="focal"):
    """Let what is right already cost less (Lin et al. 2017, arXiv:1708.02002), in all heads with labels.

    Args:
        gamma: a term of the cross-entropy is multiplied by (1 - p) ** gamma.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        check_range("focal", self.gamma)

    def model(self, model: Any) -> Any:
        """Set it."""
        for _, loss in _losses(self.setting):
            loss.focal_gamma = loss.focal_gamma or self.gamma
        return model


class LogitAdjustment(Technique, key="logit_adjustment", default={"strength": 0.0}):
    """Learn by logits to which the classes' log-frequencies are added, so that answers favor no class by its size.

    Menon et al. 2021, arXiv:2007.07314; in single-label heads. Choose this, or `sampling`, or `class_weights`.

    Args:
        strength: the paper's τ; 1 minimizes the error averaged over classes. 0 leaves it to what the task says.
    """

    off: ClassVar[tuple[Any, ...]] = ()

    strength: float = 1.0

    def __post_init__(self) -> None:
        check_range("logit_adjustment", self.strength)

    def model(self, model: Any) -> Any:
        """Set it, and the shares of the training rows where it is asked for."""
        for head, loss in _losses(self.setting, exclusive=True):
            loss.logit_adjustment = loss.logit_adjustment or self.strength
            if loss.logit_adjustment and loss.prior is None:
                loss.prior = label_prior(self.setting.labels(head), len(head.labels))
        return model


class LabelSmoothing(Technique, key="label_smoothing"):
    """Spread a share of every target evenly over the labels, in all heads with labels.

    Args:
        share: in [0, 1).
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_range("label_smoothing", self.share, 1)

    def model(self, model: Any) -> Any:
        """Set it."""
        for _, loss in _losses(self.setting):
            loss.label_smoothing = loss.label_smoothing or self.share
        return model


class HierarchyLoss(Technique, key="hierarchy_loss"):
    """Let coarse heads learn from fine ones: `marginal` adds the loss of the finest heads' summed probabilities.

    Args:
        kind: `marginal`.
    """

    kind: str = "marginal"

    def __post_init__(self) -> None:
        if self.kind not in HIERARCHY_LOSSES:
            raise ValueError(f"hierarchy_loss {self.kind!r} is not one of {', '.join(HIERARCHY_LOSSES)}.")

    def model(self, model: Any) -> Any:
        """Set it; ValueError if no head has a parent."""
        if not any(head.parent for head in model.config.heads):
            raise ValueError("hierarchy_loss marginal needs a hierarchy, and no head has a `parent`.")
        model.hierarchy_loss = self.kind
        return model


def label_prior(labels: np.ndarray, classes: int) -> list[float]:
    """Return each label's share of the labeled rows; a class without any counts as if it had one, for its logarithm.

    `labels` are int `(rows,)`, negative where unknown, or distributions `(rows, classes)` with NaN rows.
    """
    if labels.ndim == 1:
        counts = np.bincount(labels[labels >= 0], minlength=classes).astype(float)
    else:
        counts = np.nansum(labels, axis=0)
    counts = np.maximum(counts, 1.0)
    return [float(share) for share in counts / counts.sum()]


def balanced_weights(labels: np.ndarray, classes: int, kind: str, beta: float = 0.999) -> list[float]:
    """Weigh classes by rarity as `ClassWeights` says, so that the mean weight over the labeled rows is 1.

    `labels` are int `(rows,)`, negative where unknown; classes without rows weigh 1.
    """
    counts = np.bincount(labels[labels >= 0], minlength=classes).astype(float)
    weights = np.ones(classes)
    seen = counts > 0
    if kind == "effective":
        weights[seen] = (1 - beta) / (1 - beta ** counts[seen])
    else:
        weights[seen] = counts[seen] ** (-0.5 if kind == "sqrt" else -1.0)
    weights[seen] *= counts.sum() / (weights[seen] * counts[seen]).sum()
    return [round(float(weight), 6) for weight in weights]
