"""Label columns, from names to numbers and back: what a data set's cells, a batch's tensors and a score's arrays hold.

A head's column is a `ClassLabel` (an index), a list of them (`multi_label`), a list of one probability a label (soft
labels) or a float (`regression`); None is a missing label. `columns.py` reads names out of tables; from there on,
whoever needs indices, tensors, arrays or names again finds the way here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch
from datasets import Dataset, List, Value
from torch import Tensor

from ..models.configuration_multihead import HeadConfig
from ..models.heads import MISSING


def head_feature(head: HeadConfig, soft: bool = False) -> Any:
    """The feature of a head's column.

    Args:
        head: the head.
        soft: whether its rows carry distributions over the labels.

    Returns:
        `ClassLabel` (`single_label`), `List(Value("float32"))` of one probability a label (`single_label`, soft),
        `List(ClassLabel)` (`multi_label`) or `Value("float32")` (`regression`). None is a missing label.
    """
    if head.problem == "regression":
        return datasets.Value("float32")
    if head.problem == "multi_label":
        return datasets.List(datasets.ClassLabel(names=head.labels))
    return datasets.List(datasets.Value("float32")) if soft else datasets.ClassLabel(names=head.labels)


def encode_label(value: Any, head: HeadConfig, index: dict[str, int], soft: bool) -> Any:
    """Turn a clean label, as `columns.clean_labels` gives it, into what the head's column holds.

    Args:
        value: a name, a list of names or of probabilities, or a number; None where unknown.
        head: the head.
        index: the index of each of its labels.
        soft: whether the column holds distributions.
    """
    if value is None or head.problem == "regression":
        return value
    if head.problem == "multi_label":
        return [index[label] for label in value if label in index]
    if not isinstance(value, list) and value not in index:  # rarer than the head's min_rows; all others were checked
        return None
    if not soft:
        return index[value]
    # One hard label among soft ones: all of its weight on that label.
    return value if isinstance(value, list) else np.eye(len(index), dtype="float32")[index[value]].tolist()


def label_names(value: Any, head: HeadConfig) -> list[str]:
    """Give a cell's labels by name: none if it is missing; of a distribution, the likeliest.

    Args:
        value: a cell of the head's column.
        head: a head with labels.
    """
    if value is None:
        return []
    if head.problem == "multi_label":
        return [head.labels[index] for index in sorted(value)]
    return [head.labels[max(range(len(value)), key=value.__getitem__) if isinstance(value, list) else value]]


def label_tensor(values: Sequence[Any], head: HeadConfig, soft: bool = False) -> Tensor:
    """Turn one label column into a tensor.

    Args:
        values: `single_label`: an index, or with `soft` a distribution over the labels; `multi_label`: a list of
            indices; `regression`: a number. None, NaN or -1 where unknown.
        head: the head's configuration.
        soft: whether a `single_label` column holds distributions.

    Returns:
        int64 `(rows,)` with -100 where unknown; float32 `(rows, labels)` with NaN rows where unknown, for `multi_label`
        and for distributions; float32 `(rows,)` with NaN where unknown, for `regression`.
    """
    values = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    if head.problem == "regression":
        return torch.tensor([float("nan") if value is None else float(value) for value in values])
    if head.problem == "single_label" and not soft:
        return torch.tensor([MISSING if value is None or value < 0 else int(value) for value in values])
    result = torch.full((len(values), len(head.labels)), float("nan"))
    for row, value in enumerate(values):
        if value is None:
            continue
        if soft:
            result[row] = torch.tensor(value)
        else:
            result[row] = 0.0
            result[row, list(value)] = 1.0
    return result


def soft_columns(rows: Dataset) -> tuple[str, ...]:
    """Return the names of a dataset's columns that hold distributions over labels, not labels."""
    return tuple(
        name
        for name, feature in rows.features.items()
        if isinstance(feature, List) and isinstance(feature.feature, Value) and "float" in feature.feature.dtype
    )


def label_arrays(rows: Dataset, heads: list[HeadConfig]) -> dict[str, np.ndarray]:
    """Return the label columns of a dataset as `hfk.evaluation` takes them.

    Args:
        rows: rows in a task's columns.
        heads: the heads; one without a column is left out.

    Returns:
        head name → array, as `label_tensor` makes it.
    """
    soft = soft_columns(rows)
    return {
        head.name: label_tensor(rows[head.name], head, head.name in soft).numpy()
        for head in heads
        if head.name in rows.column_names
    }
