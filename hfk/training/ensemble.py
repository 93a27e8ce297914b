"""Putting finished runs together: voting ensembles, and soups of averaged weights.

`build_ensemble` keeps every member and averages what they say, with equal weights or with weights fitted on rows that
none of them learned from. `cook_soup` averages the weights themselves (Wortsman et al. 2022, "Model soups",
arXiv:2203.05482): one model, as fast as any of its ingredients, but only runs that started from the same pretrained
weights have anything in common to average. Both leave a checkpoint folder, and score it where rows for that are known.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.optimize import minimize
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from ..evaluation.metrics import score_heads
from ..evaluation.predictions import Predictions
from ..evaluation.report import format_table
from ..inference.loading import load_config
from ..inference.predictor import Predictor, find_device
from ..models.configuration_ensemble import MultiHeadEnsembleConfig, common_heads
from ..models.configuration_multihead import MultiHeadConfig
from ..models.modeling_ensemble import MultiHeadEnsemble
from ..models.modeling_multihead import MultiHeadForClassification
from ..models.processing_ensemble import MultiHeadEnsembleProcessor, processor_state
from ..models.processing_multihead import MultiHeadProcessor
from ..runs.card import write_card
from ..runs.facts import environment
from ..runs.run import Run, open_task, scored_split
from ..runs.score import read_labelled
from ..tasks import ABOUT_ROWS, Task
from ..tasks.split import without_folds

VALIDATION = "validation"
"""In place of a table's path: the validation rows of the task that all runs share."""
_NO_ARCHITECTURE = (
    "transformers_version", "auto_map", "custom_pipelines", "_name_or_path", "architectures", "dtype",
    "fusion_dropout", "initializer_range",
)  # fmt: skip
_TRAINING_ONLY = (
    "temperature", "dropout", "path_weight",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- ensembles


def build_ensemble(
    runs: Sequence[str | Path], output_dir: str | Path, fit_on: str | Path | None = None
) -> dict[str, Any]:
    """Make one checkpoint of several runs that vote.

    The folder gets the checkpoint, `task.json`, `ensemble.json` (members, weights, scores), and a report on the test
    rows (else the validation rows, if no member was trained on them) of the task that all runs share, if they do.

    Args:
        runs: folders of finished runs, or of ensembles, whose members are then taken; all of the same heads.
        output_dir: the folder to fill.
        fit_on: fit the members' weights, head by head, on these labelled rows: a table with the columns that the runs
            were trained on, or "validation" for the validation rows of the task that all runs share. Equal by default.

    Returns:
        what `ensemble.json` holds.

    Raises:
        ValueError: if the heads differ, a run is not whole, or there are no rows to fit on.
    """
    made_of = _open_runs(runs, output_dir)
    common_heads([load_config(run.folder) for run in made_of], [str(run.folder) for run in made_of])
    facts: dict[str, Any] = {"kind": "ensemble", "runs": [run.folder.name for run in made_of]}
    shared = _shared_task(made_of)
    members: list[MultiHeadForClassification] = []
    processors: list[MultiHeadProcessor] = []
    fit_rows, fit_source = (None, "") if fit_on is None else _labelled_rows(made_of, fit_on, shared)
    said: list[Predictions] = []
    for run in made_of:
        for member, own in _members(*run.model()):
            if fit_rows is not None:
                said.append(_ask(member, own, fit_rows))
            members.append(member)
            processors.append(own)
    if len({member.dtype for member in members}) > 1:  # safetensors could hold both; one forward pass can't
        members = [member.float() for member in members]
    processor, readers = MultiHeadEnsembleProcessor.join(processors)
    weights = fit_weights(said) if said else {}
    ensemble = MultiHeadEnsemble.from_members(members, readers, weights)
    heads = ensemble.config.heads
    facts |= {"members": len(members), "weights": {h.name: ensemble.config.member_weights(h.name) for h in heads}}
    if said:
        facts["fitted_on"] = {
            "rows": len(fit_rows),
            "source": fit_source,
            "members": [_short(score_heads(one)) for one in said],
            "ensemble": _short(score_heads(Predictions.mean(said, facts["weights"], heads))),
        }
    return _finish(Run(output_dir), ensemble, processor, made_of, shared, facts)


def fit_weights(said: Sequence[Predictions]) -> dict[str, list[float]]:
    """Find, head by head, the members' weights of least log-loss (least squared error for `regression`).

    The weights are 0 or more and sum to 1; so the problem is convex, and has one best value.

    Args:
        said: each member's predictions of the same labelled rows.

    Returns:
        head name → one weight a member. A head without labelled rows is left out.
    """
    count, result = len(said), {}
    for head in said[0].heads:
        present, target = said[0].target[head.name]
        if not present.any() or count < 2:
            continue
        probs = np.stack([one.probabilities[head.name].astype(np.float64) for one in said])[:, present]
        target = target[present]
        if not head.rules.has_labels:
            # Targets in deviations, or the tolerance would mean another thing for prices in won than for stars.
            scale = max(float(target.std()), 1e-12)
            votes, right = probs.T / scale, target / scale

            def loss(weights: np.ndarray, votes=votes, right=right) -> tuple[float, np.ndarray]:
                off = votes @ weights - right
                return float(np.square(off).mean()), 2 * votes.T @ off / len(off)

        else:
            if head.rules.exclusive:
                happened = np.take_along_axis(probs, target[None, :, None], axis=2)[..., 0].T
            else:  # each label is an observation of its own
                happened = np.where(target[None], probs, 1 - probs).reshape(count, -1).T
            happened = happened.clip(1e-12)

            def loss(weights: np.ndarray, happened=happened) -> tuple[float, np.ndarray]:
                mixed = (happened @ weights).clip(1e-12)
                return float(-np.log(mixed).mean()), -(happened / mixed[:, None]).mean(axis=0)

        found = minimize(
            loss,
            np.full(count, 1 / count),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * count,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            options={"ftol": 1e-10, "maxiter": 500},
        )
        weights = np.where(found.x < 1e-4, 0.0, found.x) if found.success else np.ones(count)
        result[head.name] = [round(float(weight), 6) for weight in weights / weights.sum()]
    return result


def _members(model: Any, processor: Any) -> list[tuple[MultiHeadForClassification, MultiHeadProcessor]]:
    """List a checkpoint's members with their processors: of an ensemble all, else the model itself."""
    if not isinstance(model, MultiHeadEnsemble):
        return [(model, processor)]
    if any(head.temperature != 1 for head in model.config.heads):
        warnings.warn("an ensemble's own temperatures do not go with its members; calibrate the new one.", stacklevel=3)
    parts = processor.processors if isinstance(processor, MultiHeadEnsembleProcessor) else [processor]
    return [(m, parts[reader]) for m, reader in zip(model.members, model.config.readers, strict=True)]


# -------------------------------------------------------------------------------------------------------------- soups


def cook_soup(
    runs: Sequence[str | Path], output_dir: str | Path, kind: str = "uniform", fit_on: str | Path | None = None
) -> dict[str, Any]:
    """Average the weights of several runs of one architecture into one model.

    Batch norm statistics are averaged too. Temperatures are not: the soup's are 1 until it is calibrated.

    Args:
        runs: folders of finished runs that started from the same pretrained weights.
        output_dir: the folder to fill, as in `build_ensemble`.
        kind: `uniform` averages all; `greedy` starts from the best run and keeps each further one, from the best to
            the worst, only if the average does not get worse by it.
        fit_on: rows to score on, as in `build_ensemble`; `greedy` needs them, and takes "validation" by default.

    Returns:
        what `ensemble.json` holds.

    Raises:
        ValueError: if the runs differ in architecture, heads or processor, or there are no rows to choose by.
    """
    if kind not in ("uniform", "greedy"):
        raise ValueError(f"soup {kind!r} is not one of uniform, greedy.")
    made_of = _open_runs(runs, output_dir)
    configs = [load_config(run.folder) for run in made_of]
    for run, config in zip(made_of, configs, strict=True):
        if isinstance(config, MultiHeadEnsembleConfig):
            raise ValueError(f"{run.folder} is an ensemble; a soup is made of single models.")
        _check_same_architecture(made_of[0].folder, configs[0], run.folder, config)
    shared = _shared_task(made_of)
    fit_on = VALIDATION if fit_on is None and kind == "greedy" else fit_on
    rows, source = (None, "") if fit_on is None else _labelled_rows(made_of, fit_on, shared)
    model, processor = made_of[0].model(torch.float32)
    state = processor_state(processor)
    scores: list[dict[str, float]] = []
    for run in made_of:
        other, own = (model, processor) if run is made_of[0] else run.model(torch.float32)
        if processor_state(own) != state:
            raise ValueError(
                f"{run.folder} prepares its input in another way than {made_of[0].folder}: no soup of the two."
            )
        if rows is not None:
            scores.append(score_heads(_ask(other, own, rows)))
    for head in model.config.heads:
        head.temperature = 1.0
    order = (
        sorted(range(len(made_of)), key=lambda n: -_main_score(scores[n])) if rows is not None else range(len(made_of))
    )
    kept, best, total = [], -np.inf, None
    for number in order:
        weights = made_of[number].model(torch.float32)[0].state_dict()
        candidate = weights if total is None else {name: _plus(total[name], weights[name]) for name in total}
        if kind == "greedy":
            _pour(model, candidate, len(kept) + 1)
            score = _main_score(score_heads(_ask(model, processor, rows)))
            if score < best:
                continue
            best = score
        kept.append(number)
        total = candidate
    _pour(model, total, len(kept))
    facts: dict[str, Any] = {
        "kind": f"{kind} soup",
        "runs": [run.folder.name for run in made_of],
        "kept": [made_of[number].folder.name for number in kept],
    }
    if rows is not None:
        soup = score_heads(_ask(model, processor, rows))
        facts["scored_on"] = {
            "rows": len(rows), "source": source, "runs": [_short(one) for one in scores], "soup": _short(soup)
        }  # fmt: skip
        if _main_score(soup) < min(map(_main_score, scores)):
            warnings.warn(
                "the soup is worse than each of its runs: they probably did not start from the same weights; let them "
                "vote instead, without --soup.",
                stacklevel=2,
            )
    dtype = configs[0].dtype
    model = model if dtype is None else model.to(dtype)
    return _finish(Run(output_dir), model, processor, made_of, shared, facts)


def _plus(total: Tensor, more: Tensor) -> Tensor:
    return total + more if total.is_floating_point() else total  # counters and position numbers are all the same


def _pour(model: torch.nn.Module, total: dict[str, Tensor], count: int) -> None:
    model.load_state_dict(
        {name: value / count if value.is_floating_point() else value for name, value in total.items()}
    )


def _check_same_architecture(one: Path, first: MultiHeadConfig, two: Path, second: MultiHeadConfig) -> None:
    left, right = _architecture(first), _architecture(second)
    for name in sorted({*left, *right}):
        if left.get(name) != right.get(name):
            raise ValueError(
                f"{one} and {two} differ in {name}, so their weights can't be averaged; without --soup they can vote."
            )


def _architecture(config: MultiHeadConfig) -> dict[str, Any]:
    """Flatten a configuration to what its weights' shapes and meaning depend on."""
    content = {name: value for name, value in config.to_dict().items() if name not in _NO_ARCHITECTURE}
    for head in content.pop("heads"):
        content |= {f"head {head['name']}: {name}": v for name, v in head.items() if name not in _TRAINING_ONLY}
    for part in ("text_config", "vision_config"):
        inner = content.pop(part) or {}
        content |= {f"{part}.{name}": v for name, v in inner.items() if name not in _NO_ARCHITECTURE}
    return content


# ------------------------------------------------------------------------------------------------------------- shared


def _ask(model: PreTrainedModel, processor: ProcessorMixin, rows: Dataset) -> Predictions:
    return Predictor(model, processor, 64, device=find_device()).predictions(rows)


def _open_runs(folders: Sequence[str | Path], output_dir: str | Path) -> list[Run]:
    runs = [Run.open(folder) for folder in folders]
    if len(runs) < 2:
        raise ValueError("give two runs or more.")
    for run in runs:
        if run.folder.resolve() == Path(output_dir).resolve():
            raise ValueError(f"{run.folder} is a run; name another --output-dir, or it would be replaced.")
    if len({run.folder.resolve() for run in runs}) < len(runs):
        raise ValueError("a run is named twice; one that should count double gets its weight by --fit-on.")
    return runs


def _shared_task(runs: Sequence[Run]) -> tuple[Task, bool] | None:
    """Find the task that all runs were trained on, and whether its validation rows are unseen by all of them."""
    try:
        tasks = [{name: run.options.get(name) for name in ("task", *ABOUT_ROWS)} for run in runs]
        folds = any((run.options.get("split") or {}).get("folds") or run.options.get("folds") for run in runs)
        for one in tasks:
            one["split"] = without_folds(one["split"])
        return (open_task(tasks[0]), not folds) if all(one == tasks[0] for one in tasks) else None
    except (ValueError, OSError):  # one does not say, or the task's file has moved
        return None


def _labelled_rows(runs: Sequence[Run], source: str | Path, shared: tuple[Task, bool] | None) -> tuple[Dataset, str]:
    """Return labelled rows, and what to call them."""
    if str(source) != VALIDATION:
        return read_labelled(runs[0].folder, source), Path(source).name
    if shared is None:
        raise ValueError(
            "these runs do not name one task that is still there, so there are no validation rows: give a table."
        )
    task, unseen = shared
    if not unseen:
        raise ValueError("runs of folds were trained on each other's validation rows: give a table of other rows.")
    data = task.load()
    if VALIDATION not in data:
        raise ValueError(f"task {task.name!r} has no validation rows: give a table.")
    return data[VALIDATION], f"the validation rows of {task.name}"


def _finish(
    run: Run,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    made_of: Sequence[Run],
    shared: tuple[Task, bool] | None,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Save the checkpoint with what belongs to it, and score it where there are rows to score it on."""
    facts["parameters"] = sum(weight.numel() for weight in model.parameters())
    run.save_ensemble(model, processor, made_of[0], facts)
    data = shared[0].load() if shared is not None else {}
    rows = {name: data[name] for name in ("test", VALIDATION) if name in data and (name == "test" or shared[1])}
    if rows:
        split, task = scored_split(rows), shared[0]
        about = {
            "title": f"{task.name}: {split}",
            "task": task.name,
            "split": split,
            "rows": {split: len(rows[split])},
            "parameters": facts["parameters"],
            "ensemble": facts,
            "environment": environment(),
        }
        results = run.report(_ask(model, processor, rows[split]), about)
        print(f"\n{facts['kind']} of {len(facts['runs'])} runs, {split} rows:")
        print(format_table(results))
    write_card(run.folder)
    return facts


def _main_score(scores: dict[str, float]) -> float:
    """Return the one figure that is larger for the better model."""
    if "mean_macro_f1" in scores:
        return scores["mean_macro_f1"]
    return -sum(value for name, value in scores.items() if name.endswith("_rmse"))


def _short(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}
