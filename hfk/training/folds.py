"""Cross-validation: every row of train and validation is held out once; a task's own test rows stay out of it.

One fold is an ordinary run, whose recipe divides the rows by `split: {folds: 5, fold: 2}` (see `hfk.tasks.split`).
`train_folds`, which `hfk train --folds` calls, runs those that are not finished yet, collects what each run said of the
rows it had not seen (`out_of_fold.parquet`), scores that like any evaluation, and puts the runs together as an
ensemble. Which rows form a fold depends on their content and the task's split seed alone, so every seed and every
restart divides them alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..evaluation.metrics import majority_baseline
from ..evaluation.predictions import Predictions
from ..evaluation.report import format_table
from ..runs.facts import environment
from ..runs.recipe import Recipe, load_recipe, merge
from ..runs.run import FOLDS_BEFORE, REMEDY, Run, open_task, state_of
from ..tasks.split import thin_classes, without_folds
from ..tasks.task import Pool
from .ensemble import build_ensemble
from .train import train


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
    options = dict(recipe) if isinstance(recipe, Mapping) else load_recipe(recipe)
    options = merge(options, overrides or {})
    if options.get("push_to_hub"):
        raise ValueError("the runs of the folds would push over each other: leave push_to_hub out, then hfk push.")
    if seeds is not None and (not seeds or len(set(seeds)) != len(seeds)):
        raise ValueError(f"seeds must be different whole numbers, not {', '.join(map(str, seeds)) or 'none'}.")
    options["split"] = without_folds(options.get("split"))
    read = Recipe.read(options, {"output_dir": str(output_dir)})
    args = read.arguments
    if resume and (Path(output_dir) / FOLDS_BEFORE).is_file():
        raise ValueError(f"{output_dir} holds folds of hfk 0.1, which can't be gone on with. {REMEDY}")
    with args.main_process_first(desc="dividing the rows"):
        task = open_task(read)
        pool = task.pool(folds)
        run = Run.start(output_dir, read, resume)
        if args.should_save:  # before another process looks which runs are finished
            run.agree(folds=folds, seeds=seeds, **state_of(task, {"pool": pool.rows}))
            run.begin()
            warning = thin_classes(pool.rows, task.heads, pool.folds)
            if warning:
                warnings.warn(warning, stacklevel=2)
    names = {None: "fold-{}"} if seeds is None else {seed: f"fold-{{}}-seed-{seed}" for seed in seeds}
    runs = [(fold, seed, Run(run.folder / name.format(fold))) for seed, name in names.items() for fold in range(folds)]
    for number, (fold, seed, own) in enumerate(runs, 1):
        if own.finished:
            continue
        if args.should_save:
            print(f"\nrun {number} of {len(runs)}: {own.folder.name}", flush=True)
        about = {"split": task.division(folds, fold)} | ({} if seed is None else {"seed": seed})
        train(options | about, own.folder, resume=resume)
    if not args.should_save:
        return {}

    predictions = _collect(runs, pool)
    facts = {"title": f"{task.name}: out of fold", "task": task.name, "folds": folds}
    facts |= {"split": "every row, by the run of the fold that held it out"}
    facts |= {"seeds": seeds} if seeds else {"seed": args.seed}
    facts |= {"rows_per_fold": np.bincount(pool.folds, minlength=folds).tolist(), "runs": _run_scores(runs)}
    if args.load_best_model_at_end:
        facts["note"] = "the held-out rows also chose each run's best epoch"
    if task.corrected:
        facts["corrections"] = task.corrected
    facts["environment"] = environment()
    results = run.report(predictions, facts, baseline=majority_baseline(predictions.labels, predictions))
    print(f"\nout of fold, {len(predictions):,} rows:")
    print(format_table(results))
    build_ensemble([own.folder for _, _, own in runs], run.folder / "ensemble")
    run.close()
    return results


def _collect(runs: list[tuple[int, int | None, Run]], pool: Pool) -> Predictions:
    """Collect what all runs said of the rows that they held out, averaged over seeds, in the order of the table."""
    parts = []
    for fold in sorted({fold for fold, _, _ in runs}):
        mean = Predictions.mean([run.predictions() for own, _, run in runs if own == fold])
        parts.append(replace(mean, folds=np.full(len(mean), fold)))
    found = Predictions.concatenate(parts)
    place = {identity: row for row, identity in enumerate(found.ids)}
    return found.select([place[str(identity)] for identity in pool.rows.select(pool.order)["id"]])


def _run_scores(runs: list[tuple[int, int | None, Run]]) -> dict[str, Any]:
    """Collect the runs' own scores: every run's, and the mean and standard deviation over them."""
    scores = pd.DataFrame({run.folder.name: run.results["scores"] for _, _, run in runs}).sort_index()
    summary = scores.dropna().agg(["mean", "std"], axis=1).set_axis(["mean", "sd"], axis=1)
    own = {name: column.dropna().round(4).to_dict() for name, column in scores.items()}
    return {"summary": summary.fillna(0.0).round(4).to_dict("index")} | own
