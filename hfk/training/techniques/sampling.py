"""Drawing training rows of rare classes more often."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import Sampler, WeightedRandomSampler

from .base import Setting, Technique


class Sampling(Technique, key="sampling"):
    """Draw rows with replacement, by the rarity of their class.

    Args:
        kind: `balanced` (by the inverse class frequency) or `sqrt` (by its square root); `natural` for each row once.
        head: the head whose classes count; the single-label one of most labels by default.
    """

    off: ClassVar[tuple[Any, ...]] = ("natural", "none")

    kind: str
    head: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("sqrt", "balanced"):
            raise ValueError(f"sampling {self.kind!r} is not one of natural, sqrt, balanced.")

    def begin(self, setting: Setting) -> None:
        """Find the head."""
        super().begin(setting)
        if "train" in setting.rows:
            self._head = setting.class_head(f"sampling {self.kind!r}", self.head)

    def sampler(self, rows: Any) -> Sampler:
        """Draw as many rows as there are."""
        weights = sampling_weights(np.asarray(self.setting.labels(self._head, rows)), self.kind)
        generator = torch.Generator().manual_seed(self.setting.seed)
        return WeightedRandomSampler(weights.tolist(), len(rows), generator=generator)


def sampling_weights(labels: np.ndarray, kind: str) -> np.ndarray:
    """Weight every row by the rarity of its class, 1 / count or 1 / √count, with mean 1.

    `labels` are int `(rows,)`, negative where unknown; those rows get the mean weight.
    """
    known = labels >= 0
    counts = np.bincount(labels[known])
    weights = np.ones(len(labels))
    weights[known] = 1.0 / counts[labels[known]] ** (0.5 if kind == "sqrt" else 1.0)
    weights[~known] = weights[known].mean() if known.any() else 1.0
    return weights / weights.mean()
