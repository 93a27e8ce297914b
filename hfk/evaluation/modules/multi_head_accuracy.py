"""Accuracy of every head of a multi-head classifier, their mean, and exact match over the heads.

Part of hfk (Apache-2.0); this file needs nothing else of it.
"""

from __future__ import annotations

import evaluate
import numpy as np
from datasets import Features, List, Value

MISSING = -100
_ABOUT = __doc__.partition("\n")[0]


class MultiHeadAccuracy(evaluate.Metric):
    """Accuracy of every `single_label` head, and exact match over all of them.

    Args:
        predictions: one row of label indices a row of data, one column a head.
        references: alike, -100 where missing.
        names: optional head names, for results called `{name}_accuracy`; `head0`, `head1`, … without.

    Returns:
        `{name}_accuracy`; `accuracy`, their mean; `exact_match` over the fully labeled rows.

    Example:
        >>> MultiHeadAccuracy().compute(predictions=[[0, 1], [1, 1]], references=[[0, 1], [1, 0]])["exact_match"]
        0.5
    """

    def _info(self) -> evaluate.MetricInfo:
        features = Features({"predictions": List(Value("int64")), "references": List(Value("int64"))})
        return evaluate.MetricInfo(_ABOUT, citation="", inputs_description=self.__doc__, features=features)

    def _compute(
        self, predictions: np.ndarray, references: np.ndarray, names: list[str] | None = None
    ) -> dict[str, float]:
        if len({len(row) for row in [*predictions, *references]}) != 1:
            raise ValueError("the rows have different lengths; give one column a head in every row.")
        predictions, references = np.asarray(predictions), np.asarray(references)
        names = names or [f"head{index}" for index in range(references.shape[1])]
        if len(names) != references.shape[1]:
            raise ValueError(f"{len(names)} names for {references.shape[1]} columns: give one column a head.")
        present, right = references != MISSING, predictions == references
        scores = {
            f"{name}_accuracy": float(right[present[:, index], index].mean())
            for index, name in enumerate(names)
            if present[:, index].any()
        }
        if scores:
            scores["accuracy"] = float(np.mean(list(scores.values())))
        whole = present.all(axis=1)
        if whole.any():
            scores["exact_match"] = float(right[whole].all(axis=1).mean())
        return scores
