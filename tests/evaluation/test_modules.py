from __future__ import annotations

import numpy as np
import pytest

from hfk.evaluation import modules
from hfk.models.configuration_multihead import HeadConfig


@pytest.fixture(autouse=True)
def no_network_no_cache(monkeypatch, tmp_path):
    """Any connection is an error, and what evaluate writes goes to a temporary folder."""

    def refuse(*args, **kwargs):
        raise AssertionError("a metric opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))
    yield
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_single_label_scores():
    metric = modules.SingleLabelScores(keep_in_memory=True)
    probabilities = np.array([[0.8, 0.1, 0.1, 0.0], [0.3, 0.4, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]])
    inputs = {"predictions": [0, 1, 0], "references": [0, 0, -100]}
    scores = metric.compute(**inputs, probabilities=probabilities)
    assert scores["accuracy"] == 0.5
    assert scores["top3_accuracy"] == 1.0
    assert scores["ece"] == pytest.approx((0.2 + 0.4) / 2)
    assert set(metric.compute(**inputs)) == {"accuracy", "macro_f1", "weighted_f1"}


def test_batches_added_give_what_one_call_gives():
    metric = modules.SingleLabelScores(keep_in_memory=True)
    for predictions, references in (([0, 1], [0, 0]), ([2], [2])):
        metric.add_batch(predictions=predictions, references=references)
    assert metric.compute() == metric.compute(predictions=[0, 1, 2], references=[0, 0, 2])


def test_multi_head_accuracy_with_missing_labels():
    scores = modules.MultiHeadAccuracy(keep_in_memory=True).compute(
        predictions=np.array([[0, 1], [1, 1], [0, 0]]),
        references=np.array([[0, 1], [1, 0], [1, -100]]),
        names=["cat1", "cat2"],
    )
    assert scores == pytest.approx(
        {"cat1_accuracy": 2 / 3, "cat2_accuracy": 0.5, "accuracy": (2 / 3 + 0.5) / 2, "exact_match": 0.5}
    )


def test_multi_head_accuracy_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="give one column a head"):
        modules.MultiHeadAccuracy(keep_in_memory=True).compute(
            predictions=[[0, 1]], references=[[0, 1]], names=["cat1"]
        )
    with pytest.raises(ValueError, match="different lengths"):
        modules.MultiHeadAccuracy(keep_in_memory=True).compute(predictions=[[0, 1], [0]], references=[[0, 1], [0]])


def test_hierarchy_consistency():
    heads = [
        HeadConfig("a", ["x", "y"]),
        HeadConfig("free", problem="regression"),
        HeadConfig("b", ["x1", "x2", "y1"], parent="a", parent_of=[0, 0, 1]),
    ]
    scores = modules.HierarchyConsistency(keep_in_memory=True).compute(
        predictions=[[0, 0], [0, 1], [1, 1], [1, 2]], heads=heads
    )
    assert scores == {"hierarchy_consistency": 0.75}


def test_multi_label_scores_take_probabilities_and_a_threshold():
    metric = modules.MultiLabelScores(keep_in_memory=True)
    inputs = {"predictions": [[0.9, 0.3], [0.4, 0.1]], "references": [[1.0, 1.0], [float("nan"), 0.0]]}
    assert metric.compute(**inputs)["micro_f1"] == pytest.approx(2 / 3)
    assert metric.compute(**inputs, threshold=0.2)["samples_f1"] == 1.0


def test_regression_scores():
    scores = modules.RegressionScores(keep_in_memory=True).compute(
        predictions=[1.0, 2.0, 9.0], references=[1.0, 4.0, float("nan")]
    )
    assert scores["mae"] == 1.0
    assert scores["rmse"] == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize(
    ("metric", "missing"),
    [
        (modules.SingleLabelScores, -100),
        (modules.MultiHeadAccuracy, [-100, -100]),
        (modules.MultiLabelScores, [float("nan"), 0.0]),
        (modules.RegressionScores, float("nan")),
    ],
)
def test_nothing_labeled_gives_no_scores(metric, missing):
    prediction = [0, 0] if isinstance(missing, list) else 0
    assert metric(keep_in_memory=True).compute(predictions=[prediction], references=[missing]) == {}
