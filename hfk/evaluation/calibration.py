"""Temperature scaling: one number a head, fitted on validation rows, after which a probability means what it says.

Logits are divided by the temperature before softmax or sigmoid, so no `single_label` answer and no `multi_label` choice
at 0.5 changes, only how sure it is. Heads of one hierarchy share a temperature: their best path is chosen by the sum
of log-probabilities, which only a common factor leaves as it is. What calibration gained is always measured on rows
that it was not fitted on. The number lives in `HeadConfig.temperature`; decoding applies it, the loss does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from ..models.configuration_multihead import HeadConfig
from .metrics import Arrays, predict_arrays, read_labels, tree_roots
from .modules.single_label_scores import expected_calibration_error

LOWEST, HIGHEST = 0.1, 10.0
"""Temperatures outside of these are not looked for: a handful of rows that are all right would give 0."""


@dataclass
class Calibration:
    """Fitted temperatures and what they gained.

    Args:
        temperatures: head name → temperature; heads that can't be calibrated (regression, no labelled row) are absent.
        rows: how many rows they were fitted on.
        measured_on: which rows the gain was measured on, in words.
        scores: head name → `temperature`, `rows`, `nll_before`, `nll_after`, `ece_before`, `ece_after`.
        reliability: head name → confidence before, confidence after, and whether it was right, `(decisions,)` each.
    """

    temperatures: dict[str, float]
    rows: int
    measured_on: str
    scores: dict[str, dict[str, float]]
    reliability: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]

    def apply(self, heads: list[HeadConfig]) -> None:
        """Set the temperatures of heads, in place."""
        for head in heads:
            head.temperature = self.temperatures.get(head.name, head.temperature)

    def summary(self) -> dict[str, Any]:
        """What `metrics.json` says about it."""
        return {"fitted_rows": self.rows, "measured_on": self.measured_on, "heads": self.scores}


def calibrate(
    logits: Arrays,
    labels: Arrays,
    heads: list[HeadConfig],
    held_out: tuple[Arrays, Arrays] | None = None,
    held_out_name: str = "test",
    seed: int = 0,
) -> Calibration:
    """Fit temperatures on validation rows and measure the gain on others.

    Args:
        logits: of the validation rows: head name → `(rows, outputs)`, before any temperature.
        labels: as in `hfk.evaluation.metrics.score_heads`.
        heads: the heads' configurations; the temperatures they have are not looked at.
        held_out: logits and labels of rows to measure on. Without them the validation rows are halved by chance, and
            each half is measured with the temperature of the other.
        held_out_name: what those rows are called.
        seed: of the halving.

    Raises:
        ValueError: if no head can be calibrated, or there are fewer than two rows.

    Example:
        >>> head = HeadConfig("topic", ["정치", "경제"])
        >>> logits = {"topic": np.array([[9.0, 0], [9, 0], [9, 0], [0, 9]])}  # sure, and wrong once in four
        >>> found = calibrate(logits, {"topic": np.array([0, 0, 1, 1])}, [head], held_out=None)
        >>> found.temperatures["topic"] > 3
        True
    """
    rows = len(next(iter(logits.values())))
    temperatures = fit_temperatures(logits, labels, heads)
    if not temperatures:
        raise ValueError("there is nothing to calibrate: no classification head has a labelled row.")
    if rows < 2:
        raise ValueError("one row is too few to calibrate on.")
    if held_out is not None:
        parts = [(*held_out, temperatures)]
        measured_on = held_out_name
    else:
        order = np.random.default_rng(seed).permutation(rows)
        first, second = (
            tuple({name: values[half] for name, values in part.items()} for part in (logits, labels))
            for half in (order[: rows // 2], order[rows // 2 :])
        )
        parts = [
            (*first, temperatures | fit_temperatures(*second, heads)),
            (*second, temperatures | fit_temperatures(*first, heads)),
        ]
        measured_on = "the same rows, each half with the temperature of the other half"
    scores, reliability = {}, {}
    for head in heads:
        if head.name not in temperatures:
            continue
        found = [_measure(part_logits, part_labels, heads, fitted, head) for part_logits, part_labels, fitted in parts]
        before, after, right, *losses = (np.concatenate(values) for values in zip(*found, strict=True))
        scores[head.name] = {"temperature": temperatures[head.name]}
        if right.size:
            reliability[head.name] = before, after, right
            scores[head.name] |= {
                "rows": len(losses[0]),
                "nll_before": float(losses[0].mean()),
                "nll_after": float(losses[1].mean()),
                "ece_before": expected_calibration_error(before, right),
                "ece_after": expected_calibration_error(after, right),
            }
    return Calibration(temperatures, rows, measured_on, scores, reliability)


def fit_temperatures(logits: Arrays, labels: Arrays, heads: list[HeadConfig]) -> dict[str, float]:
    """Find the temperature of least negative log-likelihood for every classification head.

    Args:
        logits: head name → `(rows, labels)`.
        labels: as in `hfk.evaluation.metrics.score_heads`; unlabelled cells are left out.
        heads: the heads' configurations.

    Returns:
        head name → temperature in [0.1, 10]; the same for all heads of a hierarchy.

    Source:
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, section 4.2. One parameter,
        of which the likelihood has one minimum, so a bounded scalar search on log T finds it.
    """
    found = {}
    for group in _groups(heads):
        losses = []
        for head in group:
            present, target = read_labels(labels.get(head.name), head)
            if present.any():
                losses.append(_loss(np.asarray(logits[head.name], np.float64)[present], target[present], head))
        if losses:
            best = minimize_scalar(
                lambda log_t, losses=losses: sum(float(loss(math.exp(log_t)).mean()) for loss in losses),
                bounds=(math.log(LOWEST), math.log(HIGHEST)),
                method="bounded",
            )
            found |= {head.name: round(math.exp(best.x), 4) for head in group}
    return found


def _groups(heads: list[HeadConfig]) -> list[list[HeadConfig]]:
    """Heads that must share a temperature: those of one tree."""
    roots = tree_roots(heads)
    groups: dict[str, list[HeadConfig]] = {}
    for head in heads:
        if head.problem != "regression":
            groups.setdefault(roots[head.name], []).append(head)
    return list(groups.values())


def _loss(logits: np.ndarray, target: np.ndarray, head: HeadConfig) -> Callable[[float], np.ndarray]:
    """Negative log-likelihood of each row as a function of the temperature."""
    if head.problem == "multi_label":
        signs = np.where(target, 1.0, -1.0)
        return lambda temperature: -log_expit(signs * logits / temperature).mean(axis=1)
    rows = np.arange(len(target))
    return lambda temperature: -log_softmax(logits / temperature, axis=1)[rows, target]


def _measure(
    logits: Arrays, labels: Arrays, heads: list[HeadConfig], temperatures: dict[str, float], head: HeadConfig
) -> tuple[np.ndarray, ...]:
    """Confidence before and after, whether it was right, and each labelled row's loss before and after.

    The confidence of a `single_label` head is the probability of the answer that users get; that of a `multi_label`
    head is each label's own probability, which is right as often as the label is there.
    """
    present, target = read_labels(labels.get(head.name), head, len(logits[head.name]))
    target = target[present]
    confidences = []
    for fitted in ({}, temperatures):
        used = [replace(each, temperature=fitted.get(each.name, 1.0)) for each in heads]
        probs, chosen = predict_arrays(logits, used)
        probs, answer = probs[head.name][present], chosen[head.name][present]
        if head.problem == "multi_label":
            confidences.append(probs.ravel())
        else:
            confidences.append(np.take_along_axis(probs, answer[:, None], axis=1)[:, 0])
    right = target.ravel() if head.problem == "multi_label" else target == answer
    loss = _loss(np.asarray(logits[head.name], np.float64)[present], target, head)
    return *confidences, right, loss(1.0), loss(temperatures[head.name])
