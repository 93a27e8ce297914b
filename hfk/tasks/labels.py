"""Label columns, from names to numbers: what a data set's cells hold, and the arrays that scores are made of.

A head's column is a `ClassLabel` (an index), a list of them (`multi_label`), a list of one probability a label (soft
labels) or a float (`regression`); None is a missing label. `columns.py` reads names out of tables; what a cell means to
a head, and its way to tensors and back to names, `models/problems.py` knows (`head.rules`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, List, Value

from ..models.configuration_multihead import HeadConfig


def head_feature(head: HeadConfig, soft: bool = False) -> Any:
    """The feature of a head's column; `soft` where its rows carry distributions over the labels."""
    number = datasets.Value("float32")
    label = datasets.ClassLabel(names=head.labels) if head.rules.has_labels else None
    single = datasets.List(number) if soft else label
    return head.rules.pick({"single_label": single, "multi_label": datasets.List(label), "regression": number})


def encode_labels(values: Sequence[Any], head: HeadConfig) -> tuple[Any, pa.Array]:
    """Turn labels, as `heads.settle` gives them, into the head's column: its feature, and its cells.

    What the head does not have counts as unknown: it is rarer than the head's `min_rows`, all else was checked before.
    """
    index = {label: number for number, label in enumerate(head.labels)}
    soft = head.rules.exclusive and any(isinstance(value, list) for value in values)
    if head.rules.exclusive and not soft:
        values = [index.get(value) for value in values]
    elif soft:  # one hard label among soft ones: all of its weight on that label
        certain = dict(zip(head.labels, np.eye(len(index)).tolist(), strict=True))
        values = [value if isinstance(value, list) else certain.get(value) for value in values]
    elif index:
        values = [None if value is None else [index[label] for label in value if label in index] for value in values]
    feature = head_feature(head, soft)
    return feature, pa.array(values, type=datasets.Features({"": feature}).arrow_schema.field(0).type)


def soft_columns(rows: Dataset) -> tuple[str, ...]:
    """Return the names of a dataset's columns that hold distributions over labels, not labels."""
    return tuple(
        name
        for name, feature in rows.features.items()
        if isinstance(feature, List) and isinstance(feature.feature, Value) and "float" in feature.feature.dtype
    )


def label_arrays(rows: Dataset, heads: list[HeadConfig]) -> dict[str, np.ndarray]:
    """Return the label columns of a task's rows: head name → array as `Problem.tensor` makes it."""
    soft = soft_columns(rows)
    return {
        head.name: head.rules.tensor(rows[head.name], head.name in soft).numpy()
        for head in heads
        if head.name in rows.column_names
    }
