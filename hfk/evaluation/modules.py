"""The scores of `metrics` as `evaluate` modules that need no network.

`evaluate.load("accuracy")` fetches its script from the Hub; these are ordinary classes with the same `compute`, `add`
and `add_batch`. Predictions are kept in memory, so nothing is left in a cache. A missing label is -100 (or NaN for
numbers); such rows are left out, and nothing labelled gives an empty dict.
"""

from __future__ import annotations

from typing import Any

import evaluate
import numpy as np
from datasets import Features, List, Value

from ..models.configuration_multihead import HeadConfig
from ..models.decoding import as_tensors
from ..models.hierarchy import consistent, head_parents
from .metrics import MISSING, multi_label_scores, regression_scores, single_label_scores


class _Module(evaluate.Metric):
    """What the modules share: in memory when there is one process, and what they tell about themselves."""

    description = ""
    inputs: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, config_name: str | None = None, keep_in_memory: bool | None = None, **kwargs: Any) -> None:
        if keep_in_memory is None:
            keep_in_memory = kwargs.get("num_process", 1) == 1
        super().__init__(config_name, keep_in_memory=keep_in_memory, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description,
            citation="",
            inputs_description=self.__doc__ or "",
            features=Features(self.inputs),
        )


class SingleLabelScores(_Module):
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

    description = "Accuracy, macro and weighted F1, top-k accuracy and expected calibration error of one head."
    inputs = {"predictions": Value("int64"), "references": Value("int64")}  # noqa: RUF012

    def _compute(
        self, predictions: np.ndarray, references: np.ndarray, probabilities: Any = None, top_k: int = 3
    ) -> dict[str, float]:
        present = _column(references) != MISSING
        if not present.any():
            return {}
        probs = None if probabilities is None else np.asarray(probabilities)[present]
        return single_label_scores(_column(references)[present], _column(predictions)[present], probs, top_k)


class MultiHeadAccuracy(_Module):
    """Accuracy of every `single_label` head, and exact match over all of them.

    Args:
        predictions: one row of label indices a row of data, one column a head.
        references: alike, -100 where missing.
        names: optional head names, for results called `{name}_accuracy`; `head0`, `head1`, … without.

    Returns:
        `{name}_accuracy`; `accuracy`, their mean; `exact_match` over the fully labelled rows.

    Example:
        >>> MultiHeadAccuracy().compute(predictions=[[0, 1], [1, 1]], references=[[0, 1], [1, 0]])["exact_match"]
        0.5
    """

    description = "Accuracy of every head of a multi-head classifier, their mean, and exact match over the heads."
    inputs = {"predictions": List(Value("int64")), "references": List(Value("int64"))}  # noqa: RUF012

    def _compute(
        self, predictions: np.ndarray, references: np.ndarray, names: list[str] | None = None
    ) -> dict[str, float]:
        predictions, references = _matrix(predictions), _matrix(references)
        names = names or [f"head{index}" for index in range(references.shape[1])]
        if len(names) != references.shape[1] or predictions.shape != references.shape:
            raise ValueError(
                f"{len(names)} names, predictions of shape {predictions.shape} and references of shape "
                f"{references.shape} do not fit together: give one column a head."
            )
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


class HierarchyConsistency(_Module):
    """The share of rows in which every head's label lies under its parent head's label; needs no references.

    Args:
        predictions: one row of label indices a row of data, one column a `single_label` head, in the order of `heads`.
        heads: the `HeadConfig`s, with `parent` and `parent_of`.

    Example:
        >>> heads = [HeadConfig("a", ["x", "y"]), HeadConfig("b", ["x1", "y1"], parent="a", parent_of=[0, 1])]
        >>> HierarchyConsistency().compute(predictions=[[0, 0], [0, 1]], heads=heads)
        {'hierarchy_consistency': 0.5}
    """

    description = "How often the labels of hierarchical heads agree."
    inputs = {"predictions": List(Value("int64"))}  # noqa: RUF012

    def _compute(self, predictions: np.ndarray, heads: list[HeadConfig]) -> dict[str, float]:
        single = [head.name for head in heads if head.problem == "single_label"]
        columns = dict(zip(single, _matrix(predictions).T, strict=True))
        agrees = consistent(as_tensors(columns), head_parents(heads))
        return {"hierarchy_consistency": agrees.double().mean().item()} if len(agrees) else {}


class MultiLabelScores(_Module):
    """Micro, macro and sample-wise F1 and mean average precision of one `multi_label` head.

    Args:
        predictions: `(rows, labels)` probabilities.
        references: `(rows, labels)` 0 or 1, NaN rows where missing.
        threshold: a label is chosen when its probability reaches it.

    Example:
        >>> MultiLabelScores().compute(predictions=[[0.9, 0.2]], references=[[1, 0]])["micro_f1"]
        1.0
    """

    description = "Micro, macro and sample-wise F1 and mAP of a multi-label head."
    inputs = {"predictions": List(Value("float64")), "references": List(Value("float64"))}  # noqa: RUF012

    def _compute(self, predictions: np.ndarray, references: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
        predictions, references = _matrix(predictions), _matrix(references)
        present = ~np.isnan(references).any(axis=1)
        if not present.any():
            return {}
        probs = predictions[present]
        return multi_label_scores(references[present] >= 0.5, probs >= threshold, probs)


class RegressionScores(_Module):
    """MAE, RMSE and R² of one `regression` head.

    Args:
        predictions: numbers.
        references: numbers, NaN where missing.

    Example:
        >>> RegressionScores().compute(predictions=[1.0, 3.0], references=[1.0, 2.0])["mae"]
        0.5
    """

    description = "Mean absolute error, root mean squared error and R² of a regression head."
    inputs = {"predictions": Value("float64"), "references": Value("float64")}  # noqa: RUF012

    def _compute(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        references = _column(references)
        present = ~np.isnan(references)
        return regression_scores(references[present], _column(predictions)[present]) if present.any() else {}


def _column(values: Any) -> np.ndarray:
    return np.asarray(values).reshape(-1)


def _matrix(values: Any) -> np.ndarray:
    """Stack the rows that `evaluate` hands back as lists."""
    rows = [np.asarray(row) for row in values]
    if len({row.shape for row in rows}) > 1:
        raise ValueError("the rows have different lengths; give every row the same number of columns.")
    return np.stack(rows)
