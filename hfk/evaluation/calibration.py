"""Temperature scaling: one number a head, fitted on validation rows, after which a probability means what it says.

Logits are divided by the temperature before softmax or sigmoid, so no `single_label` answer and no `multi_label` choice
at 0.5 changes, only how sure it is. Heads of one hierarchy share a temperature: their best path is chosen by the sum
of log-probabilities, which only a common factor leaves as it is. The gain is always measured on rows that it was not
fitted on. The number lives in `HeadConfig.temperature`; decoding applies it, the loss does not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import precision_recall_curve
from torch.nn.functional import logsigmoid

from ..models.configuration_multihead import HeadConfig
from .metrics import tree_roots
from .modules.single_label_scores import expected_calibration_error
from .predictions import Predictions

FEW = 5  # rows of a label, for a threshold of its own
LOWEST, HIGHEST = 0.1, 10.0  # a handful of rows that are all right would give 0


@dataclass
class Calibration:
    """Fitted temperatures and what they gained."""

    temperatures: dict[str, float]
    """by head; one that can't be calibrated (regression, no labeled row) is absent"""
    rows: int
    """that they were fitted on"""
    measured_on: str
    """which rows, in words"""
    scores: dict[str, dict[str, float]]
    """by head: `temperature`, `rows`, `nll_before`, `nll_after`, `ece_before`, `ece_after`"""
    reliability: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    """by head: confidence before, confidence after, and whether it was right, `(decisions,)` each"""

    def apply(self, heads: list[HeadConfig]) -> None:
        """Set the temperatures of heads, in place."""
        for head in heads:
            head.temperature = self.temperatures.get(head.name, head.temperature)

    def summary(self) -> dict[str, Any]:
        """What `metrics.json` says about it."""
        return {"fitted_rows": self.rows, "measured_on": self.measured_on, "heads": self.scores}


def calibrate(predictions: Predictions, held_out: Predictions | None = None) -> Calibration:
    """Fit temperatures on predictions of validation rows and measure the gain on those of test rows, `held_out`.

    Without these the validation rows are halved by chance, and each half is measured with the temperature of the other.
    The temperatures that the heads have are not looked at.

    Raises:
        ValueError: if no head can be calibrated, or there are fewer than two rows.

    Example:
        >>> logits = {"topic": np.array([[9.0, 0], [9, 0], [9, 0], [0, 9]])}  # sure, and wrong once in four
        >>> topic = HeadConfig("topic", ["정치", "경제"])
        >>> calibrate(Predictions(None, [topic], logits, {"topic": np.array([0, 0, 1, 1])})).temperatures["topic"] > 3
        True
    """
    rows = len(predictions)
    temperatures = fit_temperatures(predictions)
    if not temperatures:
        raise ValueError("there is nothing to calibrate: no classification head has a labeled row.")
    if rows < 2:
        raise ValueError("one row is too few to calibrate on.")
    parts, measured_on = [(held_out, temperatures)], "test"
    if held_out is None:
        order = np.random.default_rng(0).permutation(rows)
        one, two = (predictions.select(half) for half in (order[: rows // 2], order[rows // 2 :]))
        parts = [(part, temperatures | fit_temperatures(other)) for part, other in ((one, two), (two, one))]
        measured_on = "the same rows, each half with the temperature of the other half"
    measured = [_measure(part, fitted) for part, fitted in parts]
    scores, reliability = {}, {}
    for name, temperature in temperatures.items():
        found = zip(*(part[name] for part in measured), strict=True)
        before, after, right, *losses = (np.concatenate(values) for values in found)
        scores[name] = {"temperature": temperature}
        if not right.size:
            continue
        reliability[name] = before, after, right
        scores[name]["rows"] = len(losses[0])
        for when, confidence, loss in (("before", before, losses[0]), ("after", after, losses[1])):
            scores[name][f"nll_{when}"] = float(loss.mean())
            scores[name][f"ece_{when}"] = expected_calibration_error(confidence, right)
    return Calibration(temperatures, rows, measured_on, scores, reliability)


def fit_temperatures(predictions: Predictions) -> dict[str, float]:
    """Find the temperature of least negative log-likelihood, from 0.1 to 10, for every classification head.

    Unlabeled cells and the heads' own temperatures are left out; all heads of a hierarchy get the same.

    Source:
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, section 4.2. One parameter,
        of which the likelihood has one minimum, so a bounded scalar search on log T finds it.
    """
    roots, groups = tree_roots(predictions.heads), defaultdict(list)
    for head in predictions.heads:
        if head.rules.has_labels:
            groups[roots[head.name]].append(head)
    found = {}
    for group in groups.values():
        losses = [_loss(predictions, head) for head in group if predictions.target[head.name].present.any()]
        if losses:
            best = minimize_scalar(
                lambda log_t, losses=losses: sum(float(loss(math.exp(log_t)).mean()) for loss in losses),
                bounds=(math.log(LOWEST), math.log(HIGHEST)),
                method="bounded",
            )
            found |= {head.name: round(math.exp(best.x), 4) for head in group}
    return {head.name: found[head.name] for head in predictions.heads if head.name in found}


def fit_thresholds(predictions: Predictions) -> dict[str, list[float]]:
    """Find the probability from which on each label of the `multi_label` heads is best chosen, by F1 on labeled rows.

    Labels on fewer than `FEW` rows keep 0.5: the best threshold of so few is chance.
    """
    found = {}
    for head in predictions.heads:
        present, target = predictions.target[head.name]
        if head.rules.exclusive or not head.rules.has_labels or not present.any():
            continue
        probs, target = predictions.probabilities[head.name][present], target[present]
        found[head.name] = [_best_threshold(target[:, label], probs[:, label]) for label in range(len(head.labels))]
    return found


def _best_threshold(target: np.ndarray, probs: np.ndarray) -> float:
    if target.sum() < FEW:
        return 0.5
    precision, recall, thresholds = precision_recall_curve(target, probs)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    below = thresholds[best - 1] if best else 0.0  # halfway to the next row, so that none lies on the line
    return round(float(np.clip((thresholds[best] + below) / 2, 0.01, 0.99)), 4)


def _loss(predictions: Predictions, head: HeadConfig) -> Callable[[float], np.ndarray]:
    """Negative log-likelihood of each labeled row as a function of the temperature."""
    present, target = predictions.target[head.name]
    logits, target = torch.as_tensor(predictions.logits[head.name][present], dtype=torch.float64), target[present]
    if head.rules.exclusive:
        rows = np.arange(len(target))
        return lambda temperature: -head.rules.log_probabilities(logits / temperature).numpy()[rows, target]
    signed = logits * torch.as_tensor(np.where(target, 1.0, -1.0))
    return lambda temperature: -logsigmoid(signed / temperature).mean(1).numpy()


def _measure(predictions: Predictions, temperatures: dict[str, float]) -> dict[str, tuple[np.ndarray, ...]]:
    """For each head: confidence before and after, whether it was right, each labeled row's loss before and after.

    The confidence of a `single_label` head is the probability of the answer that users get; that of a `multi_label`
    head is each label's own probability, which is right as often as the label is there.
    """
    found, heads = {}, predictions.heads
    before, after = (
        replace(predictions, heads=[replace(head, temperature=used.get(head.name, 1.0)) for head in heads])
        for used in ({}, temperatures)
    )
    for head in heads:
        if head.name in temperatures:
            (confidence, _), told = (head.rules.confidence(*said.known(head)) for said in (before, after))
            loss = _loss(predictions, head)
            found[head.name] = (confidence, *told, loss(1.0), loss(temperatures[head.name]))
    return found
