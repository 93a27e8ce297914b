"""R-Drop (Wu et al. 2021, arXiv:2106.14448): two passes with different dropout over a batch are to agree."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import recursively_apply
from torch import Tensor

from ...models.heads import disagreement
from .base import Technique, check_range


class RDrop(Technique, key="r_drop"):
    """Learn from every batch twice over, and from how far the two passes are apart: twice a step's time and memory.

    Args:
        weight: of the disagreement, the paper's α; 0 for one pass.
    """

    weight: float = 4.0

    def __post_init__(self) -> None:
        check_range("r_drop", self.weight)

    def batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Put the batch below itself."""
        return recursively_apply(lambda values: torch.cat([values, values]), batch)

    def loss(self, loss: Tensor, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Add what the passes disagree by; half of the paper's weight, as it adds their losses and here is the mean."""
        outputs.losses["r_drop"] = apart = disagreement(outputs.logits, self.setting.heads, self.setting.losses)
        return loss + self.weight / 2 * apart
