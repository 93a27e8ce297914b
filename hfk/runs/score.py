"""Calibrating a finished checkpoint: what `hfk calibrate` calls.

A run names the rows that it was validated on, so its temperatures are fitted on those and the gain is measured on its
test rows; any other checkpoint, such as an ensemble, is given labelled rows that it has not seen. Only the temperatures
in config.json change, and the report is written anew with them; `hfk.evaluation.calibration` has the method, and the
recipe option `calibrate` does the same at the end of training.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset, concatenate_datasets

from ..evaluation.calibration import Calibration, calibrate
from ..evaluation.report import write_report
from ..inference.loading import load_checkpoint
from ..inference.table import read_task_file
from ..models.configuration_multihead import HeadConfig
from ..tasks import ABOUT_ROWS, load_task
from ..training.ensemble import predict_rows
from ..training.train import open_task
from .card import write_card
from .recipe import parse_recipe, translate


def calibrate_checkpoint(
    checkpoint: str | Path, data: str | Path | None = None, image_dir: str | Path | None = None, batch_size: int = 64
) -> str:
    """Fit every head's temperature and write it into a checkpoint's config.json.

    Args:
        checkpoint: folder of a finished run, an ensemble, or any multi-head checkpoint.
        data: labelled table that the model has not been trained on; by default the run's own validation rows.
        image_dir: what picture paths in `data` are relative to; the table's folder by default.
        batch_size: rows a forward pass.

    Returns:
        a table of temperatures and calibration errors before and after, for a terminal.

    Raises:
        ValueError: if the folder is no checkpoint, there are no rows to fit on, or no head can be calibrated.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; a checkpoint on the Hub is calibrated after `hfk pull`.")
    model, processor = load_checkpoint(folder)
    heads = model.config.heads
    if data is not None:
        rows = _table_rows(folder, data, image_dir, heads, processor)
        parts, shown, report = {"validation": rows}, "validation", folder / f"report-{Path(data).stem}"
        made: dict[str, Any] = {"extra": {"title": f"{folder.name} on {Path(data).name}", "rows": len(rows)}}
        log: list[dict[str, Any]] = []
    else:
        parts = _run_rows(folder, heads)
        shown, report = "test" if "test" in parts else "validation", folder / "report"
        made, log = _read_json(report / "metrics.json", {}), _read_json(folder / "training_log.json", [])
    said = {name: predict_rows(model, processor, rows, batch_size) for name, rows in parts.items()}
    calibration = calibrate(said["validation"], said[shown] if shown != "validation" else None)
    calibration.apply(heads)
    _write_temperatures(folder / "config.json", calibration)
    seen = replace(said[shown], heads=heads)  # with the new temperatures
    write_report(report, seen, made.get("extra"), baseline=made.get("baseline"), log=log, calibration=calibration)
    if (folder / "README.md").is_file() and data is None:
        write_card(folder)
    return format_calibration(calibration) + f"\n\nreport: {report / 'report.html'}"


def format_calibration(calibration: Calibration) -> str:
    """Lay out what calibration did, for a terminal.

    Args:
        calibration: what `calibrate` returned.
    """
    lines = [f"{'head':16}{'temperature':>12}{'rows':>8}{'ECE':>9}{'after':>8}{'log-loss':>10}{'after':>8}"]
    for name, scores in calibration.scores.items():
        line = f"{name:16}{scores['temperature']:>12.3f}"
        if "rows" in scores:
            line += f"{scores['rows']:>8,}{scores['ece_before']:>9.3f}{scores['ece_after']:>8.3f}"
            line += f"{scores['nll_before']:>10.3f}{scores['nll_after']:>8.3f}"
        lines.append(line)
    lines += ["", f"fitted on {calibration.rows:,} rows, measured on: {calibration.measured_on}"]
    return "\n".join(lines)


def _run_rows(folder: Path, heads: list[HeadConfig]) -> dict[str, Dataset]:
    """The validation rows of a run, and its test rows if it has some."""
    try:
        options = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        raise ValueError(
            f"{folder} has no recipe.yaml that says which rows it was validated on; give labelled rows that it has not "
            "seen, with --data."
        ) from None
    options, names = translate(options), ("task", *ABOUT_ROWS)
    recipe, _ = parse_recipe({name: options[name] for name in names if options.get(name) is not None})
    task = open_task(recipe, heads)
    loaded = task.load()
    if "validation" not in loaded:
        raise ValueError(
            f"task {task.name!r} has no validation rows; give labelled rows that the model has not seen, with --data."
        )
    return {name: loaded[name] for name in ("validation", "test") if name in loaded}


def _table_rows(
    folder: Path, data: str | Path, image_dir: str | Path | None, heads: list[HeadConfig], processor: Any
) -> Dataset:
    columns = read_task_file(folder)
    fallback = {
        "text": "text" if processor.tokenizer is not None else None,
        "image": "image" if processor.image_processor is not None else None,
        "heads": [{"name": head.name, "problem": head.problem} for head in heads],
    }
    task = columns.pop("task", None) or fallback | columns
    where = {} if image_dir is None else {"image_dir": image_dir}
    loaded = load_task(task, data=str(data), split=None, heads=heads, **where).load()
    return concatenate_datasets(list(loaded.values()))


def _write_temperatures(path: Path, calibration: Calibration) -> None:
    """Change the temperatures in a config.json, and nothing else in it."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for head in config["heads"]:
        head["temperature"] = calibration.temperatures.get(head["name"], head.get("temperature", 1.0))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(part, path)


def _read_json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default
