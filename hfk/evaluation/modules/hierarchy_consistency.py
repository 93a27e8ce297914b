"""How often the labels of hierarchical heads agree: each label lies under the label of its parent head.

Part of hfk (Apache-2.0); this file needs nothing else of it.
"""

from __future__ import annotations

from typing import Any

import evaluate
import numpy as np
from datasets import Features, List, Value

_ABOUT = __doc__.partition("\n")[0]


def hierarchy_consistency(chosen: dict[str, np.ndarray], parents: dict[str, tuple[str, list[int]]]) -> float:
    """Compute the share of rows in which every head's label lies under its parent head's label.

    `chosen` are labels `(rows,)` by head; `parents` names, for each head but the roots, the parent head and the parent
    label's index for each label.

    Example:
        >>> hierarchy_consistency({"a": np.array([0, 0]), "b": np.array([0, 1])}, {"b": ("a", [0, 1])})
        0.5
    """
    agrees = [np.asarray(of)[chosen[name]] == chosen[parent] for name, (parent, of) in parents.items()]
    return float(np.all(agrees, axis=0).mean()) if agrees else 1.0


class HierarchyConsistency(evaluate.Metric):
    """The share of rows in which every head's label lies under its parent head's label; needs no references.

    Args:
        predictions: one row of label indices a row of data, one column a head, in the order of `heads`.
        heads: for every head its `name`, and where it has a parent `parent` and `parent_of`, as in a checkpoint's
            config.json: dicts, or hfk's `HeadConfig`s. Heads of another problem than `single_label` have no column.

    Example:
        >>> heads = [{"name": "a"}, {"name": "b", "parent": "a", "parent_of": [0, 1]}]
        >>> HierarchyConsistency().compute(predictions=[[0, 0], [0, 1]], heads=heads)
        {'hierarchy_consistency': 0.5}
    """

    def _info(self) -> evaluate.MetricInfo:
        features = Features({"predictions": List(Value("int64"))})
        return evaluate.MetricInfo(_ABOUT, citation="", inputs_description=self.__doc__, features=features)

    def _compute(self, predictions: np.ndarray, heads: list[Any]) -> dict[str, float]:
        heads = [head if isinstance(head, dict) else vars(head) for head in heads]
        heads = [head for head in heads if head.get("problem", "single_label") == "single_label"]
        if not len(predictions):
            return {}
        chosen = dict(zip([head["name"] for head in heads], np.asarray(predictions).T, strict=True))
        parents = {head["name"]: (head["parent"], head["parent_of"]) for head in heads if head.get("parent")}
        return {"hierarchy_consistency": hierarchy_consistency(chosen, parents)}
