"""Scores of a model that gives each row a number: MAE, RMSE and R².

Part of hfk (Apache-2.0); this file needs nothing else of it.
"""

from __future__ import annotations

import evaluate
import numpy as np
from datasets import Features, Value
from sklearn import metrics as sk

_ABOUT = __doc__.partition("\n")[0]


def regression_scores(target: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score one `regression` head: `mae` and `rmse` in the target's unit, and `r2` if there are at least two rows."""
    mae, rmse = sk.mean_absolute_error(target, predicted), sk.root_mean_squared_error(target, predicted)
    scores = {"mae": mae, "rmse": rmse} | ({"r2": sk.r2_score(target, predicted)} if len(target) > 1 else {})
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
        features = Features({"predictions": Value("float64"), "references": Value("float64")})
        return evaluate.MetricInfo(_ABOUT, citation="", inputs_description=self.__doc__, features=features)

    def _compute(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        predictions, references = np.asarray(predictions), np.asarray(references)
        present = ~np.isnan(references)
        return regression_scores(references[present], predictions[present]) if present.any() else {}
