"""Cross-validation: every row of train and validation is held out once; a task's own test rows stay out of it.

One fold is an ordinary run, whose task is divided into folds: its validation rows are the fold, its training rows all
others. `train_folds`, which `hfk train --folds` calls, runs those that are not finished yet, collects
what each run said of the rows it had not seen (`out_of_fold.parquet`), scores that like any evaluation, and puts the
runs together as an ensemble. Which rows form a fold depends on their content and the task's split seed alone, so every
seed and every restart divides them alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ..evaluation.metrics import majority_baseline
from ..evaluation.predictions import Predictions
from ..evaluation.report import format_table, write_report
from ..runs.recipe import load_recipe, parse_recipe
from ..tasks.split import thin_classes, without_folds

PREDICTIONS = "predictions.parquet"
"""What a run said of the rows that it is scored on; written last, so it also says that the run has finished."""
OUT_OF_FOLD = "out_of_fold.parquet"
MANIFEST = "folds.json"
INCIDENTAL = ("output_dir", "disable_tqdm", "logging_steps", "keep_checkpoints", "report_to", "dataloader_num_workers")
"""Options that another call may change without making the finished folds wrong."""


# --------------------------------------------------------------------------------------------------------- training


def train_folds(
    recipe: str | Path | dict[str, Any],
    output_dir: str | Path,
    folds: int,
    seeds: list[int] | None = None,
    overrides: dict[str, Any] | None = None,
    resume: bool = True,
) -> dict[str, Any]:
    """Train one run a fold (and seed), and leave out-of-fold predictions, their report and the ensemble of the runs.

    Args:
        recipe: as for `train`.
        output_dir: the folder: `fold-0`, `fold-1`, … (`fold-0-seed-1`, … with `seeds`), `out_of_fold.parquet`,
            `report/`, `ensemble/`. Finished runs in it are kept, an interrupted one goes on from its checkpoint.
        folds: how many folds, 2 or more.
        seeds: train every fold once with each of these seeds, and average what the runs say; the recipe's own seed by
            default.
        overrides: as for `train`.
        resume: False throws away the runs that are there.

    Returns:
        what `report/metrics.json` holds; empty on processes other than the main one.

    Raises:
        ValueError: if the folder holds folds of another recipe, seeds or rows; or as for `train`.

    Example:
        >>> train_folds("ynat-mini", "runs/cv", folds=5)["scores"]["topic_accuracy"]  # doctest: +SKIP
    """
    from .ensemble import build_ensemble
    from .train import environment, open_task, train

    options = dict(recipe) if isinstance(recipe, dict) else load_recipe(recipe)
    options |= overrides or {}
    options["split"] = without_folds(options.get("split"))
    if options.get("push_to_hub"):
        raise ValueError("the runs of the folds would push over each other: leave push_to_hub out, then hfk push.")
    if seeds is not None and (not seeds or len(set(seeds)) != len(seeds)):
        raise ValueError(f"seeds must be different whole numbers, not {', '.join(map(str, seeds)) or 'none'}.")
    folder = Path(output_dir)
    recipe_args, args = parse_recipe(options | {"output_dir": str(output_dir)})
    with args.main_process_first(desc="dividing the rows"):
        task = open_task(recipe_args)
        pool = task.pool(folds)
        rows, numbers = pool.rows, pool.folds
        if args.should_save:  # before another process looks which runs are finished
            if not resume:
                _remove_runs(folder)
            _check_manifest(folder, _state(recipe_args, args, options, rows, numbers, folds, seeds))
            warning = thin_classes(rows, task.heads, numbers)
            if warning:
                warnings.warn(warning, stacklevel=2)
    runs = [(fold, seed, folder / _run_name(fold, seed)) for seed in seeds or [None] for fold in range(folds)]
    for number, (fold, seed, run) in enumerate(runs, 1):
        if (run / PREDICTIONS).is_file():
            continue
        if args.should_save:
            print(f"\nrun {number} of {len(runs)}: {run.name}", flush=True)
        own = {"split": task.division(folds, fold)} | ({} if seed is None else {"seed": seed})
        train(options | own, run, resume=resume)
    if not args.should_save:
        return {}

    predictions = _collect(runs, rows.select(pool.order), numbers)
    predictions.save(folder / OUT_OF_FOLD)
    results = write_report(
        folder / "report",
        predictions,
        baseline=majority_baseline(predictions.labels, predictions),
        facts={
            "title": f"{task.name}: out of fold",
            "task": task.name,
            "split": "every row, by the run of the fold that held it out",
            "folds": folds,
            **({"seeds": seeds} if seeds else {"seed": args.seed}),
            "rows_per_fold": np.bincount(numbers, minlength=folds).tolist(),
            "runs": _run_scores(runs),
            **({"note": "the held-out rows also chose each run's best epoch"} if args.load_best_model_at_end else {}),
            **({"corrections": task.corrected} if task.corrected else {}),
            "environment": environment(),
        },
    )
    print(f"\nout of fold, {len(rows):,} rows:")
    print(format_table(results))
    build_ensemble([run for _, _, run in runs], folder / "ensemble")
    return results


def _run_name(fold: int, seed: int | None) -> str:
    return f"fold-{fold}" if seed is None else f"fold-{fold}-seed-{seed}"


def _remove_runs(folder: Path) -> None:
    for run in folder.glob("fold-*"):
        shutil.rmtree(run)
    for name in (MANIFEST, OUT_OF_FOLD):
        (folder / name).unlink(missing_ok=True)


def _state(
    recipe_args: Any,
    args: Any,
    options: dict[str, Any],
    rows: Dataset,
    numbers: np.ndarray,
    folds: int,
    seeds: list[int] | None,
) -> dict[str, Any]:
    """Say all that the finished folds depend on, as JSON holds it."""
    used = recipe_args.to_dict()
    values = {name: used.get(name) for name in options if name not in INCIDENTAL}
    hasher = hashlib.blake2b(digest_size=16)
    for name in rows.column_names:
        if name != "image":
            hasher.update(json.dumps([name, list(rows[name])], ensure_ascii=False, default=str).encode())
    hasher.update(numbers.astype(np.int64).tobytes())
    state = {"folds": folds, "seeds": seeds, "options": values, "rows": len(rows), "division": hasher.hexdigest()}
    return json.loads(json.dumps(state, default=lambda value: str(getattr(value, "value", value))))


def _check_manifest(folder: Path, state: dict[str, Any]) -> None:
    """Write down what the folds in this folder are made from; refuse to mix them with others."""
    path = folder / MANIFEST
    started = any(folder.glob(f"fold-*/{PREDICTIONS}")) or any(folder.glob("fold-*/checkpoint-*"))
    if path.is_file() and started:  # else there is nothing to mix with: an earlier call may have failed at once
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            old, new = {**before["options"]}, state["options"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} is damaged; start anew with --fresh, or in another --output-dir.") from None
        where = f"{folder} holds folds of another kind: "
        remedy = "Choose another --output-dir, or start anew with --fresh."
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                raise ValueError(f"{where}{name} was {old.get(name)!r} there and is {new.get(name)!r} now. {remedy}")
        for name in ("folds", "seeds"):
            if before.get(name) != state[name]:
                raise ValueError(f"{where}{name} was {before.get(name)!r} there and is {state[name]!r} now. {remedy}")
        if before.get("division") != state["division"]:
            raise ValueError(f"{where}the rows or their labels have changed since. {remedy}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{MANIFEST}.{os.getpid()}.part")
    part.write_text(json.dumps(state, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(part, path)


def _collect(runs: list[tuple[int, int | None, Path]], rows: Dataset, numbers: np.ndarray) -> Predictions:
    """Collect what all runs said of the rows that they held out, averaged over seeds, in the order of the rows."""
    parts = []
    for fold in sorted({fold for fold, _, _ in runs}):
        said = [Predictions.load(run / PREDICTIONS) for own, _, run in runs if own == fold]
        for one, (_, _, run) in zip(said, [run for run in runs if run[0] == fold], strict=True):
            if len(one) != int((numbers == fold).sum()):
                count = int((numbers == fold).sum())
                raise ValueError(f"{run / PREDICTIONS} has {len(one)} rows for a fold of {count}: remove {run}.")
        parts.append(Predictions.mean(said))
    found = Predictions.concatenate(parts)
    place = {identity: row for row, identity in enumerate(found.ids)}
    return found.select([place[str(identity)] for identity in rows["id"]])


def _run_scores(runs: list[tuple[int, int | None, Path]]) -> dict[str, Any]:
    """Collect the runs' own scores: every run's, and the mean and standard deviation over them."""
    scores = {
        run.name: json.loads((run / "report" / "metrics.json").read_text(encoding="utf-8"))["scores"]
        for _, _, run in runs
    }
    shared = set.intersection(*(set(found) for found in scores.values()))
    summary = {}
    for name in sorted(shared):
        values = [found[name] for found in scores.values()]
        summary[name] = {
            "mean": round(statistics.fmean(values), 4),
            "sd": round(statistics.stdev(values) if len(values) > 1 else 0.0, 4),
        }
    return {"summary": summary} | {
        name: {key: round(value, 4) for key, value in found.items()} for name, found in scores.items()
    }
