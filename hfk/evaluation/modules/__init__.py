"""hfk's scores as `evaluate` modules, each a file that stands alone: numpy, scikit-learn, datasets and evaluate only.

hfk itself computes with their functions (`hfk.evaluation.metrics`), and `hfk metrics push` sends the files as they are:
the numbers of a report and of `evaluate.load("owner/name")` can't differ. Nothing is fetched from the network. A
missing label is -100 (or NaN for numbers); such rows are left out, and nothing labeled gives an empty dict.
"""

from __future__ import annotations

from .hierarchy_consistency import HierarchyConsistency
from .multi_head_accuracy import MultiHeadAccuracy
from .multi_label_scores import MultiLabelScores
from .regression_scores import RegressionScores
from .single_label_scores import SingleLabelScores
from .translation_scores import TranslationScores

__all__ = [
    "HierarchyConsistency",
    "MultiHeadAccuracy",
    "MultiLabelScores",
    "RegressionScores",
    "SingleLabelScores",
    "TranslationScores",
]
