"""Temperatures at the end of training; `hfk calibrate` does the same to a finished run."""

from __future__ import annotations

from typing import Any

from ...evaluation.calibration import calibrate
from ...evaluation.predictions import count_labelled
from ...tasks.labels import label_arrays
from .base import Setting, Technique


class Calibration(Technique, key="calibrate"):
    """Fit every head's temperature on the validation rows, so that its probabilities mean what they say.

    Answers stay as they are. See `hfk.evaluation.calibration`.
    """

    def begin(self, setting: Setting) -> None:
        """Refuse to go without labels to fit on; said now, not after the training."""
        super().begin(setting)
        rows, heads = setting.rows.get("validation"), setting.heads
        counts = count_labelled(label_arrays(rows, heads), heads) if rows is not None else {}
        if not any(counts.get(head.name) for head in heads if head.rules.has_labels):
            raise ValueError(
                "calibrate needs validation rows with labels of a classification head; there are none. Give the task a "
                "validation split, or leave calibrate out."
            )

    def finish(self, trainer: Any) -> None:
        """Fit on the validation rows, and measure on those that are scored if they are others."""
        held_out = None if trainer.scored == "validation" else trainer.predictions()
        self._found = calibrate(trainer.predictions("validation"), held_out)
        self._found.apply(trainer.heads)

    def facts(self) -> dict[str, Any]:
        """Return what was found."""
        return {"calibration": self._found}
