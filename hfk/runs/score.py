"""Scoring and calibrating a finished checkpoint: what `hfk evaluate` and `hfk calibrate` call.

A run names the rows that it was validated on, so its temperatures are fitted on those and the gain is measured on its
test rows; any other checkpoint, such as an ensemble, is given labeled rows that it has not seen.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..evaluation.calibration import Calibration, calibrate
from ..evaluation.report import format_table, write_report
from ..inference.loading import load_checkpoint
from ..inference.predictor import Predictor, find_device
from .card import write_card
from .facts import environment
from .recipe import Recipe
from .run import LOG, REPORT, Run, load_rows, read_labeled, scored_split


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    output_dir: str | Path,
    image_dir: str | Path | None = None,
    batch_size: int = 64,
    revision: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> str:
    """Score a checkpoint, a folder or Hub id, on a labeled table with the columns that it was trained on.

    Writes the report folder `output_dir` (see `write_report`), and returns its table of scores for a terminal; the main
    process alone does the work, others return an empty text. Picture paths are relative to `image_dir`, by default the
    table's folder; `reading` says how the table is read, where it can't be seen (`tasks.tables.layout`).
    """
    if int(os.environ.get("RANK", 0)):
        return ""
    model, processor = load_checkpoint(checkpoint, revision=revision)
    rows = read_labeled(checkpoint, data, image_dir, revision, reading)
    started = time.perf_counter()
    predictions = Predictor(model, processor, batch_size, device=find_device()).predictions(rows, "evaluate")
    facts = {
        "title": f"{Path(checkpoint).name} on {Path(data).name}",
        "rows": len(rows),
        "rows_per_second": round(len(rows) / (time.perf_counter() - started), 1),
        "trained_on": _trained_on(checkpoint, rows),
        "environment": environment(),
    }
    return format_table(write_report(output_dir, predictions, facts))


def _trained_on(checkpoint: str | Path, rows: Dataset) -> int:
    """How many of some rows show what a run's training rows show; 0 where those can't be read any more."""
    run = Run(checkpoint)
    if not run.recipe.get("task"):
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, trained = load_rows(Recipe.read(run.recipe))
    except (OSError, ValueError):
        return 0
    seen = set(_shown(trained.get("train", rows.select([]))))
    return sum(row in seen for row in _shown(rows))


def _shown(rows: Dataset) -> Iterator[tuple[Any, ...]]:
    columns = [rows[name] for name in ("text", "image") if name in rows.column_names]
    for parts in zip(*columns, strict=True):
        yield tuple((part["bytes"] or part["path"]) if isinstance(part, dict) else part for part in parts)


def calibrate_checkpoint(
    checkpoint: str | Path, data: str | Path | None = None, image_dir: str | Path | None = None, batch_size: int = 64
) -> str:
    """Fit every head's temperature and write it into a checkpoint's config.json; returns a table for a terminal.

    The rows are those of `data`, which the model has not been trained on, by default the run's own validation rows.
    """
    if not Path(checkpoint).is_dir():
        raise ValueError(f"there is no folder {checkpoint}; a checkpoint on the Hub is calibrated after `hfk pull`.")
    run = Run.open(checkpoint)
    predictor = run.predictor(batch_size)
    heads = predictor.model.config.heads
    if data is not None:
        rows = {"validation": read_labeled(run.folder, data, image_dir)}
        report, more = run.folder / f"report-{Path(data).stem}", {}
        facts = {"title": f"{run.folder.name} on {Path(data).name}", "rows": len(rows["validation"])}
    else:
        task = run.task(heads)
        rows = {name: part for name, part in task.load().items() if name != "train"}
        if "validation" not in rows:
            raise ValueError(
                f"task {task.name!r} has no validation rows; give labeled rows that the model has not seen, with "
                "--data."
            )
        report, facts = run.folder / REPORT, run.facts
        more = {"baseline": run.results.get("baseline"), "log": run.read(LOG, default=[])}
    shown = scored_split(rows)
    said = {name: predictor.predictions(part) for name, part in rows.items()}
    calibration = calibrate(said["validation"], said[shown] if shown != "validation" else None)
    calibration.apply(heads)
    run.set_temperatures(calibration.temperatures)
    seen = replace(said[shown], heads=heads)  # with the new temperatures
    if data is None:
        run.report(seen, facts, calibration=calibration, **more)
        if (run.folder / "README.md").is_file():
            write_card(run.folder)
    else:
        write_report(report, seen, facts, calibration=calibration)
    return format_calibration(calibration) + f"\n\nreport: {report / 'report.html'}"


def format_calibration(calibration: Calibration) -> str:
    """Lay out what calibration did, for a terminal."""
    lines = [f"{'head':16}{'temperature':>12}{'rows':>8}{'ECE':>9}{'after':>8}{'log-loss':>10}{'after':>8}"]
    for name, scores in calibration.scores.items():
        lines.append(f"{name:16}{scores['temperature']:>12.3f}")
        if "rows" in scores:
            lines[-1] += f"{scores['rows']:>8,}{scores['ece_before']:>9.3f}{scores['ece_after']:>8.3f}"
            lines[-1] += f"{scores['nll_before']:>10.3f}{scores['nll_after']:>8.3f}"
    lines += ["", f"fitted on {calibration.rows:,} rows, measured on: {calibration.measured_on}"]
    return "\n".join(lines)
