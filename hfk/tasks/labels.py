"""Label columns, from names to numbers: what a data set's cells hold, and the arrays that scores are made of.

A head's column is a `ClassLabel` (an index), a list of them (`multi_label`), a list of one probability a label (soft
labels) or a float (`regression`); None is a missing label. `columns.py` reads names out of tables; what a cell means to
a head, and its way to tensors and back to names, `models/problems.py` knows (`head.rules`).
"""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
from datasets import Dataset, List, Value

from ..models.configuration_multihead import HeadConfig


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
        head name → array, as `Problem.tensor` makes it.
    """
    soft = soft_columns(rows)
    return {
        head.name: head.rules.tensor(rows[head.name], head.name in soft).numpy()
        for head in heads
        if head.name in rows.column_names
    }
