"""Rungs of a ladder without a neural network: a support vector machine a head, on texts or on pictures.

What a user would otherwise try first. A baseline leaves a report and predictions in its run's folder, no checkpoint.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from ...evaluation.predictions import Predictions
from ...models.image_preparation import open_image
from ...runs.facts import environment
from ...runs.recipe import Recipe
from ...runs.run import Run, load_rows, scored_split
from ...tasks.labels import label_arrays

BASELINES = {"tfidf": "text", "hog": "image"}
"""Name in a ladder → the column that is read."""
_SIDE, _CELL, _DIRECTIONS, _COLORS = 64, 8, 9, 4
_NEVER = -30.0  # logit of a label that no training row has


def run_baseline(name: str, options: dict[str, Any], run: Run) -> dict[str, Any]:
    """Fit a baseline on a recipe's training rows, score it as a training is scored, and return the report's results.

    ValueError if the task does not have what it reads.
    """
    task, data = load_rows(Recipe.read(options))
    split, column = scored_split(data), BASELINES[name]
    if column not in data["train"].column_names:
        raise ValueError(f"the baseline {name} reads the column {column}, and task {task.name!r} has none.")
    heads, started = [head for head in task.heads if head.rules.has_labels], time.perf_counter()
    train, scored = (_inputs(data[part], column) for part in ("train", split))
    labels, logits = label_arrays(data["train"], heads), {}
    for head in heads:
        present, target = head.rules.read(labels[head.name])
        model = _classifier(name, head.rules.exclusive)
        model.fit([train[row] for row in np.flatnonzero(present)], target[present].astype(int))
        said = model.decision_function(scored)
        said = np.stack([-said, said], 1) if said.ndim == 1 and head.rules.exclusive else said.reshape(len(scored), -1)
        logits[head.name] = np.full((len(scored), head.num_outputs), _NEVER)
        logits[head.name][:, model.classes_ if head.rules.exclusive else slice(None)] = said
    facts = {"title": f"{task.name}: {name}", "task": task.name, "split": split, "environment": environment()}
    facts |= {"train_seconds": time.perf_counter() - started, "rows": {part: len(rows) for part, rows in data.items()}}
    return run.report(Predictions.of(data[split], heads, logits), facts)


def _inputs(rows: Dataset, column: str) -> list[Any]:
    cells = rows[column]
    return [cell or "" for cell in cells] if column == "text" else [describe(cell) for cell in cells]


def _classifier(name: str, exclusive: bool) -> Pipeline:
    if name == "tfidf":
        steps, model = [TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)], LinearSVC()
    else:
        steps, model = [StandardScaler(), PCA(0.9, svd_solver="full")], SVC(C=10.0)
    return make_pipeline(*steps, model if exclusive else OneVsRestClassifier(model))


def describe(picture: Any) -> np.ndarray:
    """Describe a picture by its edges (HOG: Dalal & Triggs 2005) and its quarters' colors; None is all zeros."""
    cells = (_SIDE // _CELL) ** 2
    if picture is None:
        return np.zeros(cells * _DIRECTIONS + 4 * _COLORS**3)
    pixels = np.asarray(open_image(picture).resize((_SIDE, _SIDE)), dtype=np.float64)
    down, across = np.gradient(pixels.mean(-1))
    direction = np.floor(np.arctan2(down, across) / np.pi * _DIRECTIONS).astype(int) % _DIRECTIONS
    place = np.arange(_SIDE)
    cell = np.add.outer(place // _CELL * (_SIDE // _CELL), place // _CELL)
    strength = np.hypot(down, across)
    edges = np.bincount((cell * _DIRECTIONS + direction).ravel(), strength.ravel(), cells * _DIRECTIONS)
    edges = edges.reshape(cells, _DIRECTIONS)
    edges /= np.linalg.norm(edges, axis=1, keepdims=True) + edges.mean() + 1e-9
    color = (pixels // (256 // _COLORS)).astype(int) @ (_COLORS**2, _COLORS, 1)
    quarter = np.add.outer(place // (_SIDE // 2) * 2, place // (_SIDE // 2))
    colors = np.bincount((quarter * _COLORS**3 + color).ravel(), minlength=4 * _COLORS**3) / _SIDE**2
    return np.concatenate([edges.ravel(), np.sqrt(colors)])
