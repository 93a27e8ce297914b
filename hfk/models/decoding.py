"""From logits to answers: calibrated probabilities, consistent labels, and results that a person can read.

The model's `predict`, the pipeline, `Predictor`, and the metrics all go through these three functions, so an answer
can not depend on the way that it was asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .configuration_multihead import HeadConfig
from .hierarchy import best_path, coarse_to_fine, head_parents, top_paths


def probabilities(logits: dict[str, Tensor], heads: list[HeadConfig]) -> dict[str, Tensor]:
    """Turn logits into float32 probabilities `(batch, labels)`, or into numbers `(batch,)` in the target's unit."""
    return {head.name: head.rules.probabilities(logits[head.name]) for head in heads if head.name in logits}


def decide(
    probs: dict[str, Tensor], heads: list[HeadConfig], threshold: float | None = None, consistent_paths: bool = True
) -> dict[str, Tensor]:
    """Choose labels from probabilities: those of a hierarchy together by `best_path`, or else each head alone.

    A `multi_label` label is chosen when its probability reaches `threshold`, by default its own. Returns head name →
    int64 `(batch,)`, bool `(batch, labels)` for `multi_label`, float32 `(batch,)` for `regression`.
    """
    chosen = {head.name: head.rules.decide(probs[head.name], threshold) for head in heads}
    parents = head_parents(heads)
    if consistent_paths and parents:  # alone, a head that counts for nothing in a path still has an answer of its own
        chosen |= best_path(_path_scores(probs, heads), parents)
    return chosen


def _path_scores(probs: dict[str, Tensor], heads: list[HeadConfig]) -> dict[str, Tensor]:
    """Logarithms of what each label of a hierarchy's heads is worth on a path."""
    family = {name for child, (parent, _) in head_parents(heads).items() for name in (child, parent)}
    return {
        head.name: head.path_weight * probs[head.name].clamp_min(1e-12).log() for head in heads if head.name in family
    }


def readable(
    logits: dict[str, Tensor],
    heads: list[HeadConfig],
    top_k: int | None = None,
    threshold: float | None = None,
    only: str | list[str] | None = None,
    min_score: float | None = None,
    paths: int | None = None,
) -> list[dict[str, Any]]:
    """Turn a batch of logits, head name → `(batch, outputs)`, into one JSON-serializable dict a row.

    Options and answers are those of `MultiHeadClassificationPipeline`; `only` is its `heads`. A hierarchy is decided
    with all heads whichever are returned. ValueError for options that can't be had.
    """
    known, only = [head.name for head in heads], [only] if isinstance(only, str) else only
    for name in only or []:
        if name not in known:
            raise ValueError(f"no head is called {name!r}; heads: {', '.join(known)}.")
    for option, value in (("top_k", top_k), ("paths", paths)):
        if value is not None and value < 1:
            raise ValueError(f"{option} must be 1 or more, not {value}.")
    if paths is not None and (not head_parents(heads) or "paths" in known):
        raise ValueError("paths need heads with parents, and none that is called 'paths'; use top_k instead.")
    probs = {name: values.cpu() for name, values in probabilities(logits, heads).items()}
    chosen = decide(probs, heads)
    rows: list[dict] = [{} for _ in range(next(iter(probs.values())).shape[0])]
    for head in heads:
        if only is not None and head.name not in only:
            continue
        said = head.rules.readable(probs[head.name], chosen[head.name], top_k, threshold)
        for row, answer in zip(rows, said, strict=True):
            row[head.name] = answer
    if min_score is not None:
        _hide_uncertain(rows, probs, chosen, heads, min_score)
    if paths is not None:
        _add_paths(rows, probs, heads, only or known, paths)
    return rows


def _hide_uncertain(
    rows: list[dict], probs: dict[str, Tensor], chosen: dict[str, Tensor], heads: list[HeadConfig], min_score: float
) -> None:
    """Put the label None in place of answers below `min_score`, and of those under them."""
    unknown: dict[str, Tensor] = {}
    parents = head_parents(heads)
    for name in coarse_to_fine([head.name for head in heads if head.rules.exclusive], parents):
        scores = probs[name].gather(1, chosen[name][:, None])[:, 0]
        unknown[name] = scores < min_score
        if name in parents:
            unknown[name] = unknown[name] | unknown[parents[name][0]]
        for row in unknown[name].nonzero()[:, 0].tolist():
            if name in rows[row]:
                rows[row][name] = [{"label": None, "score": scores[row].item()}]


def _add_paths(
    rows: list[dict], probs: dict[str, Tensor], heads: list[HeadConfig], only: list[str], count: int
) -> None:
    """List the best paths to each finest head, under `paths`."""
    labels = {head.name: head.labels for head in heads}
    ranked = top_paths(_path_scores(probs, heads), head_parents(heads), count)
    for number, row in enumerate(rows):
        row["paths"] = {
            leaf: [
                {"labels": {name: labels[name][way[number, rank]] for name, way in ways.items()}, "score": score}
                for rank, score in enumerate(scores[number].tolist())
                if score > 0
            ]
            for leaf, (scores, ways) in ranked.items()
            if leaf in only
        }


def as_tensors(arrays: dict) -> dict[str, Tensor]:
    """Turn a dict of NumPy arrays, as the Trainer hands out, into a dict of tensors."""
    return {name: torch.as_tensor(values) for name, values in arrays.items()}
