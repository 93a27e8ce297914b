"""Drawing training rows of rare classes more often."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import Sampler

from ..order import EpochSampler
from .base import Setting, Technique
from .rare_classes import balanced_weights


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
        labels = self.setting.labels(self._head, rows)
        classes = np.array(balanced_weights(labels, len(self._head.labels), self.kind))
        weights = torch.tensor(np.where(labels >= 0, classes[labels.clip(0)], 1.0))  # unknown: the mean

        def draw(generator: torch.Generator) -> list[int]:
            return torch.multinomial(weights, len(rows), replacement=True, generator=generator).tolist()

        return EpochSampler(draw, len(rows), self.setting.seed)
