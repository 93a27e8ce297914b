"""What is fitted on the validation rows when training has ended: temperatures (as `hfk calibrate` does), thresholds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...evaluation.calibration import calibrate, fit_thresholds
from ...evaluation.metrics import score_heads
from ...evaluation.predictions import Predictions, count_labeled
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
        counts = count_labeled(label_arrays(rows, heads), heads) if rows is not None else {}
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


class Thresholds(Technique, key="thresholds"):
    """Fit, for every label of the `multi_label` heads, the probability from which on it is chosen (best F1).

    Fitted on the validation rows; what it gave is measured on the rows that are scored, or where these are the same, on
    each half by the thresholds of the other.
    """

    def begin(self, setting: Setting) -> None:
        """Refuse to go without labeled validation rows; said now, not after the training."""
        super().begin(setting)
        rows = setting.rows.get("validation")
        heads = [head for head in setting.heads if head.rules.has_labels and not head.rules.exclusive]
        counts = count_labeled(label_arrays(rows, heads), heads) if rows is not None else {}
        if not any(counts.get(head.name) for head in heads):
            raise ValueError("thresholds need validation rows with labels of a multi_label head; there are none.")

    def finish(self, trainer: Any) -> None:
        """Fit and measure."""
        said = trainer.predictions("validation")
        fitted = fit_thresholds(said)
        if trainer.scored != "validation":
            parts, measured_on = [(trainer.predictions(), fitted)], trainer.scored
        else:
            halves = [said.select(np.arange(half, len(said), 2)) for half in (0, 1)]
            parts = [(one, fit_thresholds(other)) for one, other in (halves, halves[::-1])]
            measured_on = "validation, each half by the thresholds of the other"
        self._found = {"measured_on": measured_on, "heads": {}}
        for name in fitted:
            scores = {"before": [], "after": []}
            for rows, thresholds in parts:
                scores["before"].append(_micro_f1(rows, {}, name))
                scores["after"].append(_micro_f1(rows, thresholds, name))
            self._found["heads"][name] = {f"micro_f1_{when}": float(np.mean(each)) for when, each in scores.items()}
        for head in trainer.heads:
            head.thresholds = fitted.get(head.name, head.thresholds)

    def facts(self) -> dict[str, Any]:
        """Return what was found."""
        return {"thresholds": self._found}


def _micro_f1(rows: Predictions, thresholds: dict[str, list[float]], name: str) -> float:
    heads = [replace(head, thresholds=thresholds.get(head.name)) for head in rows.heads]
    return score_heads(replace(rows, heads=heads))[f"{name}_micro_f1"]
