"""Stopping when validation gets no better."""

from __future__ import annotations

from typing import Any

from transformers import EarlyStoppingCallback

from .base import Technique


class EarlyStopping(Technique, key="early_stopping"):
    """Stop after some evaluations without a better score; without validation rows, train to the end.

    Args:
        patience: how many evaluations.
    """

    patience: int = 3

    def __post_init__(self) -> None:
        self._callback = EarlyStoppingCallback(self.patience)

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Count what is no better."""
        self._callback.on_evaluate(*args, **kwargs)
