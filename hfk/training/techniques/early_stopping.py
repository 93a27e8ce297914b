"""Stopping when validation gets no better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn
from transformers import EarlyStoppingCallback

from .base import Technique

PATIENCE = "early_stopping.json"
"""In a checkpoint, how many evaluations were no better."""


class EarlyStopping(Technique, key="early_stopping"):
    """Stop after some evaluations without a better score; without validation rows, train to the end.

    Args:
        patience: how many evaluations.
    """

    patience: int = 3

    def __post_init__(self) -> None:
        self._callback = EarlyStoppingCallback(self.patience)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop again where the checkpoint had."""
        control.should_training_stop = self._callback.early_stopping_patience_counter >= self.patience

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Count what is no better."""
        self._callback.on_evaluate(*args, **kwargs)

    def save(self, folder: Path) -> None:
        """Keep the count."""
        (folder / PATIENCE).write_text(json.dumps(self._callback.early_stopping_patience_counter), encoding="utf-8")

    def load(self, folder: Path, model: nn.Module) -> None:
        """Go on counting."""
        if (folder / PATIENCE).is_file():
            self._callback.early_stopping_patience_counter = json.loads((folder / PATIENCE).read_text(encoding="utf-8"))
