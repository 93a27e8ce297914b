"""Label columns of a task's rows as arrays: what training, evaluation and the tools count, weigh and score by."""

from __future__ import annotations

import numpy as np
from datasets import Dataset, List, Value

from ..models.configuration_multihead import HeadConfig
from .collator import label_tensor


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
