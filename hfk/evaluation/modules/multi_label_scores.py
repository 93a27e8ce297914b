"""Scores of a classifier that gives each row any number of labels: micro, macro and sample-wise F1, and mAP.

Macro F1 is the mean over the labels that occur in the references or the predictions; a label that neither mentions is
not counted as 0. Part of hfk (Apache-2.0); this file needs nothing else of it.
"""

from __future__ import annotations

import evaluate
import numpy as np
from datasets import Features, List, Value
from sklearn import metrics as sk

_ABOUT = __doc__.partition("\n")[0]


def multi_label_scores(target: np.ndarray, chosen: np.ndarray, probs: np.ndarray | None = None) -> dict[str, float]:
    """Score labels and answers, bool `(rows, labels)`.

    `micro_f1` is over all decisions, `macro_f1` over the labels that occur, `samples_f1` the mean over rows, where one
    with nothing to find and nothing chosen counts 1; with `probs`, `map` is the mean average precision over the labels
    that have a positive row.
    """
    # F1 = 2·hits / mentions, over all decisions, a label's column, or a row; 1 where nothing is to be found and nothing
    # was chosen. By hand, because scikit-learn takes a single column for a binary target.
    hits, mentions = 2 * (target & chosen), target.astype(np.int64) + chosen
    occurs = mentions.any(axis=0)
    per_row = np.where(mentions.any(axis=1), hits.sum(axis=1) / np.maximum(mentions.sum(axis=1), 1), 1.0)
    scores = {
        "micro_f1": hits.sum() / mentions.sum() if occurs.any() else 1.0,
        "macro_f1": (hits.sum(axis=0)[occurs] / mentions.sum(axis=0)[occurs]).mean() if occurs.any() else 1.0,
        "samples_f1": per_row.mean(),
    }
    if probs is not None and target.any():
        positive = np.flatnonzero(target.any(axis=0))
        scores["map"] = np.mean([sk.average_precision_score(target[:, i], probs[:, i]) for i in positive])
    return {name: float(value) for name, value in scores.items()}


class MultiLabelScores(evaluate.Metric):
    """Micro, macro and sample-wise F1 and mean average precision of one `multi_label` head.

    Args:
        predictions: `(rows, labels)` probabilities.
        references: `(rows, labels)` 0 or 1, NaN rows where missing.
        threshold: a label is chosen when its probability reaches it.

    Example:
        >>> MultiLabelScores().compute(predictions=[[0.9, 0.2]], references=[[1, 0]])["micro_f1"]
        1.0
    """

    def _info(self) -> evaluate.MetricInfo:
        features = Features({"predictions": List(Value("float64")), "references": List(Value("float64"))})
        return evaluate.MetricInfo(_ABOUT, citation="", inputs_description=self.__doc__, features=features)

    def _compute(self, predictions: np.ndarray, references: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
        predictions, references = np.asarray(predictions), np.asarray(references)
        present = ~np.isnan(references).any(axis=1)
        if not present.any():
            return {}
        probs = predictions[present]
        return multi_label_scores(references[present] >= 0.5, probs >= threshold, probs)
