"""Scores of a classifier that gives each row one label: accuracy, macro and weighted F1, top-k accuracy, calibration.

Macro F1 is the mean over the labels that occur in the references or the predictions (scikit-learn's default). Part of
hfk (Apache-2.0); this file needs nothing else of it.
"""

from __future__ import annotations

from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value
from sklearn import metrics as sk

MISSING = -100
ECE_BINS = 15
_ABOUT = __doc__.partition("\n")[0]


def single_label_scores(
    target: np.ndarray, chosen: np.ndarray, probs: np.ndarray | None = None, top_k: int = 3
) -> dict[str, float]:
    """Score labels and answers, int `(rows,)`: `accuracy`, `macro_f1`, `weighted_f1`.

    With `probs` `(rows, labels)` also `top{k}_accuracy`, where the chosen label and the next most probable ones count,
    k in all, and `ece`, whose confidence is the probability of the chosen label: the score that users see.
    """
    scores = {"accuracy": sk.accuracy_score(target, chosen)}
    for average in ("macro", "weighted"):
        scores[f"{average}_f1"] = sk.f1_score(target, chosen, average=average, zero_division=0)
    if probs is not None:
        names = np.arange(probs.shape[1])
        if 1 < top_k < len(names):
            ranking = probs.astype(np.float64)
            np.put_along_axis(ranking, chosen[:, None], 2.0, axis=1)  # the chosen label is listed first
            scores[f"top{top_k}_accuracy"] = sk.top_k_accuracy_score(target, ranking, k=top_k, labels=names)
        confidence = np.take_along_axis(probs, chosen[:, None], axis=1)[:, 0]
        scores["ece"] = expected_calibration_error(confidence, target == chosen)
    return {name: float(value) for name, value in scores.items()}


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = ECE_BINS) -> float:
    """Measure how far confidence, the chosen label's probability `(rows,)`, is from accuracy: 0 (calibrated) to 1.

    ECE = Σ_m |B_m|/n · |accuracy(B_m) - confidence(B_m)| over equal-width bins B_m = ((m-1)/M, m/M] of the confidence.

    Source:
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, equations 2–3, with their
        M = 15.

    Example:
        >>> expected_calibration_error(np.array([0.75, 0.75]), np.array([True, False]))
        0.25
    """
    count, mean_confidence, accuracy = reliability_bins(confidence, right, bins)
    return float((count * np.abs(accuracy - mean_confidence)).sum() / max(count.sum(), 1))


def reliability_bins(
    confidence: np.ndarray, right: np.ndarray, bins: int = ECE_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per bin of `expected_calibration_error`: how many rows, their mean confidence, their accuracy; 0 if empty."""
    confidence = np.asarray(confidence, dtype=np.float64)
    place = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    count = np.bincount(place, minlength=bins)
    share = np.maximum(count, 1)
    mean_confidence = np.bincount(place, confidence, minlength=bins) / share
    accuracy = np.bincount(place, np.asarray(right, dtype=np.float64), minlength=bins) / share
    return count, mean_confidence, accuracy


class SingleLabelScores(evaluate.Metric):
    """Accuracy, macro and weighted F1 of one `single_label` head; with probabilities also top-k accuracy and ECE.

    Args:
        predictions: chosen label indices.
        references: right label indices, -100 where missing.
        probabilities: optional `(rows, labels)`.
        top_k: the k of top-k accuracy.

    Example:
        >>> SingleLabelScores().compute(predictions=[0, 1], references=[0, 0])["accuracy"]
        0.5
    """

    def _info(self) -> evaluate.MetricInfo:
        features = Features({"predictions": Value("int64"), "references": Value("int64")})
        return evaluate.MetricInfo(_ABOUT, citation="", inputs_description=self.__doc__, features=features)

    def _compute(
        self, predictions: np.ndarray, references: np.ndarray, probabilities: Any = None, top_k: int = 3
    ) -> dict[str, float]:
        predictions, references = np.asarray(predictions), np.asarray(references)
        present = references != MISSING
        if not present.any():
            return {}
        probs = None if probabilities is None else np.asarray(probabilities)[present]
        return single_label_scores(references[present], predictions[present], probs, top_k)
