"""Scores of a multi-head model as one flat dict of floats, and the intervals and the baseline to read them against.

Every answer that is scored was chosen by `hfk.models.decoding`, so a score is about what users get. Macro F1 is the
mean over the labels that occur in the references or the predictions (scikit-learn's default). A score that has no
meaning for the rows at hand (no labeled row, R² of one row, mAP without a positive) is left out; it is never NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..models.configuration_multihead import HeadConfig
from ..models.hierarchy import head_parents
from .modules.hierarchy_consistency import hierarchy_consistency
from .modules.multi_label_scores import multi_label_scores
from .modules.regression_scores import regression_scores
from .modules.single_label_scores import single_label_scores
from .predictions import Arrays, Predictions

SCORES: dict[str, Callable[..., dict[str, float]]] = {
    "single_label": single_label_scores,
    "multi_label": multi_label_scores,
    "regression": lambda target, predicted, _: regression_scores(target, predicted),
}


def score_heads(predictions: Predictions) -> dict[str, float]:
    """Score what a model said against what the rows say.

    Args:
        predictions: of rows that have labels; a head without any has no scores.

    Returns:
        A flat dict. `single_label`: `{head}_accuracy`, `_macro_f1`, `_weighted_f1`, `_top3_accuracy` (only with more
        than three labels), `_ece`. `multi_label`: `{head}_micro_f1`, `_macro_f1`, `_samples_f1`, `_map`. `regression`:
        `{head}_mae`, `_rmse`, `_r2`. Over all heads: `exact_match`, the share of rows, among those with every
        classification head labeled, in which all of these heads are right; `mean_macro_f1`, the mean of the heads'
        macro F1; and with a hierarchy `hierarchy_consistency` of the answers, and what choosing each head alone would
        give: `hierarchy_consistency_independent` and, for its heads, `{head}_macro_f1_independent` and
        `{head}_weighted_f1_independent`.

    Raises:
        ValueError: if a label is out of range; the sentence names the head and the row.

    Example:
        >>> topic = HeadConfig("topic", ["정치", "경제"])
        >>> said = Predictions(None, [topic], {"topic": np.array([[2.0, 0], [0, 1]])}, {"topic": np.array([0, 0])})
        >>> scores = score_heads(said)
        >>> scores["topic_accuracy"], scores["exact_match"]
        (0.5, 0.5)
    """
    heads = predictions.heads
    scores = _score(predictions.probabilities, predictions.chosen, predictions)
    if "hierarchy_consistency" in scores:
        alone = predictions.decide(consistent_paths=False)
        scores["hierarchy_consistency_independent"] = hierarchy_consistency(alone, head_parents(heads))
        family = {name for head in heads if head.parent is not None for name in (head.name, head.parent)}
        for name in [head.name for head in heads if head.name in family]:
            present, target = predictions.target[name]
            if present.any():
                found = single_label_scores(target[present], alone[name][present])
                scores |= {f"{name}_{score}_independent": found[score] for score in ("macro_f1", "weighted_f1")}
    return scores


def majority_baseline(train_labels: Arrays, predictions: Predictions) -> dict[str, float]:
    """Score the best answer that ignores the input, learned from the training labels alone; names as in `score_heads`.

    Each head answers for itself: its most frequent label (`single_label`; the label frequencies serve as its
    probabilities), the labels that at least half of the rows carry (`multi_label`), or the mean (`regression`). The
    answers of a hierarchy need not agree, which `hierarchy_consistency` then shows. A head without `train_labels` (as
    in `Predictions`) is left out.
    """
    rows = len(predictions)
    probs, chosen = {}, {}
    for head in predictions.heads:
        present, target = head.rules.read(train_labels.get(head.name))
        if present.any():
            prior, answer = head.rules.majority(target[present])
            probs[head.name] = np.repeat(np.asarray(prior)[None], rows, axis=0)
            chosen[head.name] = np.repeat(np.asarray(answer)[None], rows, axis=0)
    return _score(probs, chosen, predictions)


def score_intervals(predictions: Predictions, resamples: int = 1000) -> dict[str, tuple[float, float]]:
    """Give the 95 % bootstrap intervals (low, high) of `{head}_accuracy` and `{head}_macro_f1`, `single_label` only."""
    intervals = {}
    for head in predictions.heads:
        target, chosen, _ = predictions.known(head)
        if head.rules.exclusive and len(target):
            intervals[f"{head.name}_accuracy"] = bootstrap_interval(np.mean, target == chosen, resamples=resamples)
            intervals[f"{head.name}_macro_f1"] = bootstrap_interval(macro_f1, target, chosen, resamples=resamples)
    return intervals


def bootstrap_interval(metric: Callable[..., float], *arrays: np.ndarray, resamples: int = 1000) -> tuple[float, float]:
    """Estimate a metric's 95 % interval with the percentile bootstrap (Efron 1979): rows drawn with replacement.

    `metric` takes the resampled rows of the arrays, which have the same length, at least 1.

    Example:
        >>> bootstrap_interval(np.mean, np.array([1, 1, 1, 1]))
        (1.0, 1.0)
    """
    generator, rows = np.random.default_rng(0), len(arrays[0])
    drawn = (generator.integers(rows, size=rows) for _ in range(resamples))
    values = [metric(*(array[index] for array in arrays)) for index in drawn]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def rejection_curve(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow accuracy while the rows of least confidence in the chosen label, `(rows,)`, are left to a person.

    Returns:
        Thresholds, from the highest; the share of rows that reach each (coverage); and their accuracy. Rows of equal
        confidence come together.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-np.inf) < 0)  # of each run of equal confidence
    hits = np.cumsum(np.asarray(right, dtype=np.float64)[order])[last]
    return confidence[order][last], (last + 1) / len(order), hits / (last + 1)


def rejection_scores(confidence: np.ndarray, right: np.ndarray, wanted: float = 0.95) -> dict[str, float | None]:
    """Sum up the rejection curve of at least one row.

    `aurc` is the area under the risk-coverage curve: the mean error rate over all coverages, 0 at best. `threshold` is
    the lowest confidence from which answers reach the `wanted` accuracy, and `coverage` the share of rows that do;
    None for both where no threshold is enough.

    Source:
        Geifman, El-Yaniv: Selective Classification for Deep Neural Networks, NeurIPS 2017.

    Example:
        >>> scores = rejection_scores(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, True, False]))
        >>> scores["aurc"], scores["threshold"], scores["coverage"]
        (0.0625, 0.7, 0.75)
    """
    thresholds, coverage, accuracy = rejection_curve(confidence, right)
    # Inside a run of equal confidence any order is as good: its mistakes are spread evenly.
    counts = np.arange(1, len(right) + 1)
    steps = np.concatenate([[0], coverage * len(right)])
    mistakes = np.interp(counts, steps, np.concatenate([[0], (1 - accuracy) * steps[1:]]))
    scores = {"aurc": float((mistakes / counts).mean()), "accuracy": wanted, "threshold": None, "coverage": None}
    enough = np.flatnonzero(accuracy >= wanted)
    if enough.size:
        scores |= {"threshold": float(thresholds[enough[-1]]), "coverage": float(coverage[enough[-1]])}
    return scores


def macro_f1(target: np.ndarray, chosen: np.ndarray) -> float:
    """Compute macro F1 over the labels that occur; equal to scikit-learn's and fast enough for a bootstrap."""
    size = int(max(target.max(), chosen.max())) + 1
    mentions = np.bincount(target, minlength=size) + np.bincount(chosen, minlength=size)
    hits = np.bincount(target[target == chosen], minlength=size)
    return float((2 * hits[mentions > 0] / mentions[mentions > 0]).mean())


def most_confused(
    target: np.ndarray, chosen: np.ndarray, labels: list[str], limit: int = 20
) -> list[tuple[str, str, int, int]]:
    """List (true label, predicted label, rows mixed up, rows of the true label), most mixed up first, ties in order."""
    wrong = target != chosen
    pairs, counts = np.unique(target[wrong] * len(labels) + chosen[wrong], return_counts=True)
    support = np.bincount(target, minlength=len(labels))
    order = np.lexsort((pairs, -counts))[:limit]
    found = [(*divmod(int(pairs[i]), len(labels)), int(counts[i])) for i in order]
    return [(labels[right], labels[taken], count, int(support[right])) for right, taken, count in found]


def tree_roots(heads: list[HeadConfig]) -> dict[str, str]:
    """Name the coarsest head above each head: itself where it has no parent among them."""
    parents = {head.name: head.parent for head in heads}
    roots = {}
    for name in parents:
        root = name
        while parents.get(root) in parents:
            root = parents[root]
        roots[name] = root
    return roots


def _score(probs: Arrays, chosen: Arrays, predictions: Predictions) -> dict[str, float]:
    """Score answers, however they came about; heads without answers or labels are passed over."""
    heads, rows = predictions.heads, len(predictions)
    scores: dict[str, float] = {}
    complete = right = np.ones(rows, dtype=bool)
    for head in heads:
        present, target = predictions.target[head.name]
        answer = chosen.get(head.name)
        if head.rules.has_labels:
            complete = complete & present & (answer is not None)
        if answer is None or not present.any():
            continue
        if head.rules.has_labels:
            right = right & head.rules.right(target, answer)
        found = head.rules.pick(SCORES)(target[present], answer[present], probs[head.name][present])
        scores |= {f"{head.name}_{name}": value for name, value in found.items()}
    macro = [scores[f"{head.name}_macro_f1"] for head in heads if f"{head.name}_macro_f1" in scores]
    if macro:
        scores["mean_macro_f1"] = float(np.mean(macro))
        if complete.any():
            scores["exact_match"] = float(right[complete].mean())
    answered = [head for head in heads if head.name in chosen and head.rules.exclusive]
    parents = head_parents(head for head in answered if head.parent in chosen)
    if parents and rows:
        scores["hierarchy_consistency"] = hierarchy_consistency(chosen, parents)
    return scores
