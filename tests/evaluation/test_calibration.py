"""Calibration makes confidence honest and changes no answer; the gain is measured on rows that it has not seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.special import softmax

from hfk.evaluation import report
from hfk.evaluation.calibration import HIGHEST, LOWEST, calibrate, fit_temperatures
from hfk.evaluation.metrics import rejection_curve, rejection_scores, score_heads
from hfk.evaluation.predictions import Predictions
from hfk.models.configuration_multihead import HeadConfig
from hfk.models.heads import total_loss
from hfk.models.problems import MISSING

TOPIC = HeadConfig("topic", ["정치", "경제", "사회", "세계"])
COARSE = HeadConfig("cat1", ["자연", "음식"])
FINE = HeadConfig("cat2", ["산", "바다", "한식"], parent="cat1", parent_of=[0, 0, 1])
TAGS = HeadConfig("tags", ["일출", "가족", "야경"], problem="multi_label")
PRICE = HeadConfig("price", problem="regression")
HEADS = [TOPIC, COARSE, FINE, TAGS, PRICE]


def said(logits: dict, labels: dict, heads: list[HeadConfig] = HEADS) -> Predictions:
    return Predictions(None, heads, logits, labels)


def overconfident(rows: int, factor: float, seed: int = 0) -> tuple[dict, dict]:
    """Logits that are `factor` times too large for labels drawn from them; every seventh label is missing."""
    generator = np.random.default_rng(seed)
    logits, labels = {}, {}
    for head in (TOPIC, COARSE, FINE):
        values = generator.normal(scale=1.5, size=(rows, len(head.labels)))
        drawn = [generator.choice(len(head.labels), p=p) for p in softmax(values, axis=1)]
        logits[head.name], labels[head.name] = factor * values, np.array(drawn)
        labels[head.name][::7] = MISSING
    values = generator.normal(scale=1.5, size=(rows, 3))
    logits["tags"] = factor * values
    labels["tags"] = (generator.random((rows, 3)) < 1 / (1 + np.exp(-values))).astype(float)
    labels["tags"][::7] = np.nan
    logits["price"] = labels["price"] = generator.normal(size=(rows, 1))
    labels["price"] = labels["price"][:, 0]
    return logits, labels


@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
def test_the_factor_that_made_logits_too_large_is_found(factor):
    found = fit_temperatures(said(*overconfident(4000, factor)))
    assert found == pytest.approx(dict.fromkeys(["topic", "cat1", "cat2", "tags"], factor), rel=0.08)
    assert found["cat1"] == found["cat2"]


def test_calibration_error_falls_on_rows_that_were_not_fitted():
    rows, held_out = said(*overconfident(3000, 3.0)), said(*overconfident(3000, 3.0, seed=1))
    for found in (calibrate(rows, held_out), calibrate(rows)):
        assert set(found.scores) == {"topic", "cat1", "cat2", "tags"}
        for scores in found.scores.values():
            assert scores["ece_after"] < 0.04 < scores["ece_before"]
            assert scores["nll_after"] < scores["nll_before"]
            assert scores["rows"] == 3000 - len(range(0, 3000, 7))


def test_halves_are_measured_by_each_others_temperature():
    """Where the halves contradict each other, measuring on fitted rows would show a gain that is not there."""
    logits, labels = overconfident(400, 1.0)
    order = np.random.default_rng(0).permutation(400)
    logits["topic"][order[:200]] *= 5
    rows = said(logits, labels, [TOPIC])
    found, whole = calibrate(rows).scores["topic"], calibrate(rows, held_out=rows).scores["topic"]
    assert found["nll_before"] == pytest.approx(whole["nll_before"])
    assert found["nll_after"] > whole["nll_after"] + 0.1


def test_no_answer_changes_and_the_loss_does_not_see_it():
    logits, labels = overconfident(2000, 3.0)
    before = said(logits, labels).chosen
    tensors = {name: torch.as_tensor(values) for name, values in logits.items()}
    targets = {name: torch.as_tensor(values) for name, values in labels.items()}
    loss = total_loss(tensors, targets, HEADS)[0]
    scores = score_heads(said(logits, labels))
    heads = [HeadConfig(**vars(head)) for head in HEADS]
    calibrate(said(logits, labels, heads)).apply(heads)
    assert {head.name for head in heads if head.temperature != 1} == {"topic", "cat1", "cat2", "tags"}
    after = said(logits, labels, heads).chosen
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert total_loss(tensors, targets, heads)[0] == loss
    again = score_heads(said(logits, labels, heads))
    same = [name for name in scores if not name.endswith(("ece", "map"))]
    assert {name: again[name] for name in same} == {name: scores[name] for name in same}
    assert again["topic_ece"] < scores["topic_ece"] / 3


def test_a_temperature_stays_within_reason():
    """Rows that are all right would be best with all confidence in the world."""
    logits = np.eye(4)[np.arange(40) % 4]
    found = fit_temperatures(said({"topic": logits}, {"topic": np.arange(40) % 4}, [TOPIC]))
    assert found["topic"] == pytest.approx(LOWEST, rel=0.01)
    found = fit_temperatures(said({"topic": 50 * logits}, {"topic": (np.arange(40) + 1) % 4}, [TOPIC]))
    assert found["topic"] == pytest.approx(HIGHEST, rel=0.01)


def test_heads_without_labels_are_left_alone_and_nothing_at_all_is_refused():
    logits, labels = overconfident(100, 2.0)
    labels["topic"][:] = MISSING
    del labels["tags"]
    assert set(fit_temperatures(said(logits, labels))) == {"cat1", "cat2"}
    with pytest.raises(ValueError, match="nothing to calibrate"):
        calibrate(said({"price": logits["price"]}, {"price": labels["price"]}, [PRICE]))
    with pytest.raises(ValueError, match="one row is too few"):
        calibrate(said({"topic": np.zeros((1, 4))}, {"topic": np.zeros(1, int)}, [TOPIC]))


def test_the_report_says_and_draws_what_calibration_did(tmp_path):
    pytest.importorskip("matplotlib")
    rows = said(*overconfident(600, 3.0))
    found = calibrate(rows, said(*overconfident(500, 3.0, seed=1)))
    results = report.write_report(tmp_path, rows, calibration=found)
    assert json.loads((tmp_path / "metrics.json").read_text())["calibration"] == results["calibration"]
    assert results["calibration"]["fitted_rows"] == 600 and results["calibration"]["measured_on"] == "test"
    page = (tmp_path / "report.html").read_text()
    assert page.count("fitted on 600 validation rows") == 4
    assert f"ECE {found.scores['topic']['ece_before']:.3f} before" in page
    assert {path.name for path in tmp_path.glob("calibration_*.png")} == {
        f"calibration_{name}.png" for name in ("topic", "cat1", "cat2", "tags")
    }


def test_the_rejection_curve_is_what_a_threshold_gives():
    generator = np.random.default_rng(0)
    confidence = generator.random(500).round(2)  # many ties
    right = generator.random(500) < confidence
    for threshold, coverage, accuracy in zip(*rejection_curve(confidence, right), strict=True):
        answered = confidence >= threshold
        assert coverage == pytest.approx(answered.mean())
        assert accuracy == pytest.approx(right[answered].mean())
    scores = rejection_scores(confidence, right, wanted=0.9)
    kept = confidence >= scores["threshold"]
    assert right[kept].mean() >= 0.9 and kept.mean() == pytest.approx(scores["coverage"])
    lower = np.unique(confidence[confidence < scores["threshold"]])
    assert all(right[confidence >= value].mean() < 0.9 for value in lower)


def test_the_area_under_the_curve_does_not_depend_on_the_order_of_ties():
    right = np.array([True, False, True, False])
    flat = rejection_scores(np.full(4, 0.5), right)
    assert flat == rejection_scores(np.full(4, 0.5), ~right) and flat["aurc"] == pytest.approx(0.5)
    assert flat["threshold"] is None and flat["coverage"] is None
    best = rejection_scores(np.array([0.9, 0.2, 0.8, 0.1]), right)["aurc"]
    worst = rejection_scores(np.array([0.2, 0.9, 0.1, 0.8]), right)["aurc"]
    assert best == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4) and best < flat["aurc"] < worst
