"""Scores of a model that gives each row a number: MAE, RMSE and R².

Part of hfk (Apache-2.0); this file needs nothing else of it.
"""

from __future__ import annotations

import math

import evaluate
import numpy as np
from datasets import Features, Value
from sklearn import metrics as sk


def regression_scores(target: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score one `regression` head on labelled rows.

    Args:
        target: float `(rows,)`, in the target's own unit.
        predicted: float `(rows,)`, in the same unit.

    Returns:
        `mae` and `rmse` in the target's unit, and `r2` if there are at least two rows.
    """
    scores = {
        "mae": sk.mean_absolute_error(target, predicted),
        "rmse": math.sqrt(sk.mean_squared_error(target, predicted)),
    }
    if len(target) > 1:
        scores["r2"] = sk.r2_score(target, predicted)
    return {name: float(value) for name, value in scores.items()}


class RegressionScores(evaluate.Metric):
    """MAE, RMSE and R² of one `regression` head.

    Args:
        predictions: numbers.
        references: numbers, NaN where missing.

    Example:
        >>> RegressionScores().compute(predictions=[1.0, 3.0], references=[1.0, 2.0])["mae"]
        0.5
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean absolute error, root mean squared error and R² of a regression head.",
            citation="",
            inputs_description=self.__doc__,
            features=Features({"predictions": Value("float64"), "references": Value("float64")}),
        )

    def _compute(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        predictions, references = np.asarray(predictions), np.asarray(references)
        present = ~np.isnan(references)
        return regression_scores(references[present], predictions[present]) if present.any() else {}
