"""How a model of texts and images learns to do with one of the two."""

from __future__ import annotations

from typing import Any

from .base import Technique, check_range


class ModalityDropout(Technique, key="modality_dropout"):
    """Hide the text or the image of some rows that have both, drawn anew each time.

    Args:
        probability: that a row loses one of them, in [0, 1).
    """

    probability: float = 0.1

    def __post_init__(self) -> None:
        check_range("modality_dropout", self.probability, 1)

    def model(self, model: Any) -> Any:
        """Set it."""
        model.modality_dropout = self.probability
        return model


class ModalityLoss(Technique, key="modality_loss"):
    """Add the losses of the text alone and of the image alone to that of both (gradient blending).

    Args:
        weight: of each side's loss.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("modality_loss", self.weight)

    def model(self, model: Any) -> Any:
        """Set it."""
        model.modality_loss = self.weight
        return model
