from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from hfk.evaluation import metrics as m
from hfk.evaluation.modules.single_label_scores import expected_calibration_error, reliability_bins
from hfk.evaluation.predictions import Predictions
from hfk.models.configuration_multihead import HeadConfig
from hfk.models.problems import MISSING

COARSE = HeadConfig("대분류", ["자연", "음식"])
FINE = HeadConfig("소분류", ["산", "바다", "한식", "일식"], parent="대분류", parent_of=[0, 0, 1, 1])
MOODS = HeadConfig("mood", ["조용한", "활기찬", "낭만"], problem="multi_label")
PRICE = HeadConfig("price", problem="regression", mean=100.0, std=10.0)
HEADS = [COARSE, FINE, MOODS, PRICE]


def logits_for(target: np.ndarray, size: int, strength: float = 5.0) -> np.ndarray:
    return np.eye(size)[target] * strength


def perfect(rows: int = 12) -> tuple[dict, dict]:
    generator = np.random.default_rng(0)
    fine = np.arange(rows) % 4
    moods = (generator.random((rows, 3)) < 0.5).astype(float)
    price = generator.normal(100, 10, rows)
    labels = {"대분류": fine // 2, "소분류": fine, "mood": moods, "price": price}
    logits = {
        "대분류": logits_for(fine // 2, 2),
        "소분류": logits_for(fine, 4),
        "mood": (moods - 0.5) * 8,
        "price": ((price - 100) / 10)[:, None],
    }
    return logits, labels


def random_case(seed: int, rows: int) -> tuple[dict, dict]:
    generator = np.random.default_rng(seed)
    logits = {head.name: generator.normal(size=(rows, head.num_outputs)) * 2 for head in HEADS}
    fine = generator.integers(4, size=rows)
    labels = {
        "대분류": np.where(generator.random(rows) < 0.2, MISSING, fine // 2),
        "소분류": np.where(generator.random(rows) < 0.2, MISSING, fine),
        "mood": np.where(generator.random((rows, 1)) < 0.2, np.nan, generator.random((rows, 3)) < 0.4),
        "price": np.where(generator.random(rows) < 0.2, np.nan, generator.normal(100, 10, rows)),
    }
    return logits, labels


def score(logits: dict, labels: dict, heads: list[HeadConfig]) -> dict[str, float]:
    return m.score_heads(Predictions(None, heads, logits, labels))


def test_a_perfect_model_has_perfect_scores_in_every_unit():
    scores = score(*perfect(), HEADS)
    ones = ["대분류_accuracy", "소분류_macro_f1", "소분류_weighted_f1", "소분류_top3_accuracy", "mood_micro_f1"]
    ones += ["mood_macro_f1", "mood_samples_f1", "mood_map", "price_r2", "exact_match", "mean_macro_f1"]
    ones += ["hierarchy_consistency", "hierarchy_consistency_independent"]
    assert {name: scores[name] for name in ones} == pytest.approx(dict.fromkeys(ones, 1.0))
    assert scores["price_mae"] == pytest.approx(0, abs=1e-4)
    assert "대분류_top3_accuracy" not in scores  # two labels have no top three
    assert all(type(value) is float for value in scores.values())


def test_scores_equal_scikit_learn_on_the_labeled_rows():
    generator = np.random.default_rng(1)
    head = HeadConfig("topic", list("가나다라마"))
    target = generator.integers(5, size=200)
    logits = generator.normal(size=(200, 5)) + np.eye(5)[target]
    labels = np.where(generator.random(200) < 0.3, MISSING, target)
    seen = labels != MISSING
    chosen = logits.argmax(1)
    scores = score({"topic": logits}, {"topic": labels}, [head])
    assert scores["topic_accuracy"] == pytest.approx(sk.accuracy_score(target[seen], chosen[seen]))
    assert scores["topic_macro_f1"] == pytest.approx(sk.f1_score(target[seen], chosen[seen], average="macro"))
    assert scores["topic_weighted_f1"] == pytest.approx(sk.f1_score(target[seen], chosen[seen], average="weighted"))
    top3 = sk.top_k_accuracy_score(target[seen], logits[seen], k=3, labels=range(5))
    assert scores["topic_top3_accuracy"] == pytest.approx(top3)
    assert scores["exact_match"] == scores["topic_accuracy"]


def test_ece_equals_a_hand_computation():
    # Bins of width 1/15: 0.62 and 0.65 share (9/15, 10/15], 0.95 has (14/15, 1] to itself with 1.0.
    confidence = np.array([0.62, 0.65, 0.95, 1.0])
    right = np.array([True, False, True, False])
    first = 2 / 4 * abs(0.5 - (0.62 + 0.65) / 2)
    last = 2 / 4 * abs(0.5 - (0.95 + 1.0) / 2)
    assert expected_calibration_error(confidence, right) == pytest.approx(first + last)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    count, _, _ = reliability_bins(np.array([0.0, 0.2, 0.20001, 1.0]), np.ones(4, dtype=bool), bins=5)
    assert count.tolist() == [2, 1, 0, 0, 1]


def test_macro_f1_counts_labels_that_occur_and_no_others():
    # Labels 0 and 1 have one hit among three mentions each, F1 = 2·1/3; labels 2 and 3 never occur.
    target, chosen = np.array([0, 0, 1]), np.array([0, 1, 1])
    assert m.macro_f1(target, chosen) == pytest.approx((2 / 3 + 2 / 3) / 2)
    scores = m.single_label_scores(target, chosen, np.eye(4)[chosen])
    assert scores["macro_f1"] == pytest.approx(2 / 3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60))
def test_the_fast_macro_f1_equals_scikit_learn(pairs):
    target, chosen = np.array(pairs).T
    assert m.macro_f1(target, chosen) == pytest.approx(sk.f1_score(target, chosen, average="macro", zero_division=0))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_order_of_rows_does_not_matter_paths_agree_and_nothing_is_nan(seed, rows):
    logits, labels = random_case(seed, rows)
    scores = score(logits, labels, HEADS)
    order = np.random.default_rng(seed).permutation(rows)
    shuffled = score({k: v[order] for k, v in logits.items()}, {k: v[order] for k, v in labels.items()}, HEADS)
    assert shuffled == pytest.approx(scores)
    assert scores["hierarchy_consistency"] == 1.0
    assert all(np.isfinite(value) for value in scores.values())


def test_answers_are_those_of_path_decoding():
    # Each head alone would say 음식 and 산, which contradict each other; 자연 > 산 is the likelier path.
    logits = {"대분류": np.array([[0.0, 0.2]]), "소분류": np.array([[5.0, 0, 0, 0]])}
    scores = score(logits, {"대분류": np.array([0]), "소분류": np.array([0])}, [COARSE, FINE])
    assert scores["exact_match"] == scores["hierarchy_consistency"] == 1.0
    assert scores["hierarchy_consistency_independent"] == 0.0
    assert scores["대분류_macro_f1"] == scores["소분류_weighted_f1"] == 1.0
    assert scores["대분류_macro_f1_independent"] == scores["대분류_weighted_f1_independent"] == 0.0
    assert scores["소분류_macro_f1_independent"] == 1.0


def test_exact_match_is_over_rows_with_every_classification_head_labeled():
    logits, labels = perfect(4)
    labels["소분류"] = np.array([0, 1, 2, MISSING])
    labels["mood"][0] = np.nan
    labels["mood"][1] = 1 - labels["mood"][1]
    labels["price"][:] = np.nan
    scores = score(logits, labels, HEADS)
    assert scores["exact_match"] == 0.5  # of rows 1 and 2, row 2 is right
    assert not any(name.startswith("price") for name in scores)


@pytest.mark.parametrize("gone", ["absent", "all missing"])
def test_a_head_without_labels_has_no_scores_and_takes_none_from_others(gone):
    logits, labels = perfect()
    full = score(logits, labels, HEADS)
    if gone == "absent":
        del labels["소분류"]
    else:
        labels["소분류"] = np.full(12, MISSING)
    scores = score(logits, labels, HEADS)
    assert not any(name.startswith("소분류") for name in scores)
    assert "exact_match" not in scores
    assert scores["대분류_ece"] == full["대분류_ece"]


def test_no_rows_give_no_scores():
    logits = {head.name: np.zeros((0, head.num_outputs)) for head in HEADS}
    assert score(logits, {}, HEADS) == {}


def test_one_label_in_the_references_is_fine():
    logits = {"대분류": np.array([[1.0, 0], [0, 1.0]])}
    scores = score(logits, {"대분류": np.array([0, 0])}, [COARSE])
    assert scores["대분류_macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_a_soft_label_counts_as_its_largest_entry():
    logits, _ = perfect(3)
    soft = np.array([[0.7, 0.3], [0.4, 0.6], [np.nan, np.nan]])
    scores = score({"대분류": logits["대분류"]}, {"대분류": soft}, [COARSE])
    hard = score({"대분류": logits["대분류"]}, {"대분류": np.array([0, 1, MISSING])}, [COARSE])
    assert scores == hard


def test_multi_label_scores_equal_scikit_learn_over_labels_that_occur():
    generator = np.random.default_rng(2)
    target = generator.random((50, 4)) < 0.4
    probs = generator.random((50, 4))
    target[:, 3], probs[:, 3] = False, 0.1  # never there, never chosen
    chosen = probs >= 0.5
    scores = m.multi_label_scores(target, chosen, probs)
    assert scores["micro_f1"] == pytest.approx(sk.f1_score(target, chosen, average="micro"))
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(target[:, :3], chosen[:, :3], average="macro"))
    assert scores["samples_f1"] == pytest.approx(sk.f1_score(target, chosen, average="samples", zero_division=1))
    assert scores["map"] == pytest.approx(sk.average_precision_score(target[:, :3], probs[:, :3], average="macro"))


@pytest.mark.parametrize("labels", [1, 3])
def test_multi_label_rows_with_nothing_to_find(labels):
    nothing = np.zeros((4, labels), dtype=bool)
    scores = m.multi_label_scores(nothing, nothing, np.full((4, labels), 0.1))
    assert scores == {"micro_f1": 1.0, "macro_f1": 1.0, "samples_f1": 1.0}
    one = m.multi_label_scores(~nothing, nothing, np.full((4, labels), 0.1))
    assert one["micro_f1"] == one["macro_f1"] == one["samples_f1"] == 0.0


def test_regression_errors_are_in_the_targets_unit():
    scores = score({"price": np.array([0.0, 1.0])}, {"price": np.array([103.0, 106.0])}, [PRICE])
    assert scores["price_mae"] == pytest.approx(3.5)
    assert scores["price_rmse"] == pytest.approx(np.sqrt((9 + 16) / 2))
    assert "r2" not in m.regression_scores(np.array([1.0]), np.array([2.0]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_logits_name_head_and_row(value):
    logits, labels = perfect()
    logits["소분류"][7, 2] = value
    with pytest.raises(ValueError, match="head '소분류', row 7: the logits are not finite"):
        score(logits, labels, HEADS)


@pytest.mark.parametrize("label", [4, -1, 1.5])
def test_a_label_out_of_range_names_head_and_row(label):
    logits, labels = perfect()
    labels["소분류"] = labels["소분류"].astype(type(label))
    labels["소분류"][5] = label
    with pytest.raises(ValueError, match=rf"head '소분류', row 5: label {label} is not an index from 0 to 3"):
        score(logits, labels, HEADS)


def test_wrong_shapes_and_missing_logits_are_refused():
    logits, labels = perfect()
    with pytest.raises(ValueError, match="'소분류': there are no logits"):
        score({"대분류": logits["대분류"]}, labels, HEADS)
    with pytest.raises(ValueError, match=r"'소분류': its logits have the shape \(12, 2\), not \(12, 4\)"):
        score(logits | {"소분류": logits["대분류"]}, labels, HEADS)
    with pytest.raises(ValueError, match=r"'대분류': its labels have the shape \(3,\), not \(12,\)"):
        score(logits, {"대분류": np.array([0, 1, 0])}, HEADS)


def test_the_baseline_answers_with_what_training_labels_show():
    train = {
        "대분류": np.array([0, 0, 1]),
        "소분류": np.array([2, 2, 0]),
        "mood": np.array([[1.0, 0, 0], [1, 1, 0], [1, 0, 0]]),
        "price": np.array([100.0, 110.0, np.nan]),
    }
    labels = {
        "대분류": np.array([0, 1]),
        "소분류": np.array([2, 3]),
        "mood": np.array([[1.0, 0, 0], [0, 1, 0]]),
        "price": np.array([105.0, 107.0]),
    }
    said = Predictions(None, HEADS, perfect(2)[0], labels)
    scores = m.majority_baseline(train, said)
    assert scores["대분류_accuracy"] == scores["소분류_accuracy"] == 0.5
    assert scores["대분류_macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["mood_micro_f1"] == pytest.approx(0.5)
    assert scores["price_mae"] == pytest.approx(1.0)
    assert scores["hierarchy_consistency"] == 0.0  # 자연 and 한식
    assert scores["exact_match"] == 0.5
    of_both_ways = {name for name in score(*perfect(), HEADS) if not name.endswith("_independent")}
    assert set(scores) == of_both_ways


def test_the_baseline_leaves_out_a_head_without_training_labels():
    logits, labels = perfect()
    scores = m.majority_baseline({"소분류": labels["소분류"]}, Predictions(None, HEADS, logits, labels))
    assert "소분류_accuracy" in scores
    assert not {"대분류_accuracy", "exact_match", "hierarchy_consistency"} & set(scores)


def test_a_bootstrap_interval_holds_the_score_repeats_and_narrows():
    right = np.random.default_rng(3).random(400) < 0.8
    low, high = m.bootstrap_interval(np.mean, right)
    assert low < right.mean() < high
    assert (low, high) == m.bootstrap_interval(np.mean, right)
    # The normal approximation of a proportion: ±1.96·sqrt(p(1-p)/n).
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400), rel=0.15)
    few = m.bootstrap_interval(np.mean, right[:40])
    assert few[1] - few[0] > high - low


def test_intervals_are_given_for_labeled_single_label_heads():
    logits, labels = perfect()
    labels["대분류"][:] = MISSING
    assert m.score_intervals(Predictions(None, HEADS, logits, labels), resamples=20) == {
        "소분류_accuracy": (1.0, 1.0),
        "소분류_macro_f1": (1.0, 1.0),
    }


def test_the_most_confused_pairs_come_first():
    target, chosen = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 0, 0, 1, 2])
    assert m.most_confused(target, chosen, ["가", "나", "다"]) == [("가", "나", 2, 3), ("나", "가", 1, 2)]
    assert m.most_confused(target, target, ["가", "나", "다"]) == []
