"""The report folder: what an evaluation leaves on disk for people and for programs.

`metrics.json` for programs, `per_class.csv` and `predictions.csv` for spreadsheets, PNG pictures, and `report.html`,
one self-contained page. Each file is written beside its place and then moved there, so an interrupted run leaves whole
files only; the numbers are written first, the page last. `format_table` is the same summary for a terminal.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import tempfile
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from ..models.configuration_multihead import HeadConfig
from .calibration import Calibration
from .metrics import (
    Arrays,
    count_labelled,
    most_confused,
    predict_arrays,
    read_labels,
    rejection_scores,
    score_heads,
    score_intervals,
)
from .pages import render

# One table a problem: (column title, metric suffix, taken from the baseline).
COLUMNS = {
    "single_label": [
        ("accuracy", "accuracy", False),
        ("macro-F1", "macro_f1", False),
        ("majority accuracy", "accuracy", True),
        ("majority macro-F1", "macro_f1", True),
    ],
    "multi_label": [
        ("micro-F1", "micro_f1", False),
        ("macro-F1", "macro_f1", False),
        ("mAP", "map", False),
        ("majority micro-F1", "micro_f1", True),
    ],
    "regression": [
        ("MAE", "mae", False),
        ("RMSE", "rmse", False),
        ("R²", "r2", False),
        ("MAE of the mean", "mae", True),
    ],
}
OVERALL = {
    "mean_macro_f1": "mean macro-F1",
    "exact_match": "all heads right",
    "hierarchy_consistency": "hierarchy consistent",
    "hierarchy_consistency_independent": "consistent if each head chose alone",
}
WORST_ROWS = 12


def write_report(
    run_dir: str | Path,
    *,
    logits: Arrays,
    labels: Arrays,
    heads: list[HeadConfig],
    ids: Sequence[Any] | None = None,
    texts: Sequence[str] | None = None,
    log_history: list[dict[str, Any]] | None = None,
    baseline: dict[str, float] | None = None,
    extra: dict[str, Any] | None = None,
    threshold: float = 0.5,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Score a model's logits and write the report folder.

    Args:
        run_dir: the folder; made if it is not there; files of the same names in it are replaced.
        logits: as in `score_heads`.
        labels: as in `score_heads`.
        heads: the heads' configurations.
        ids: one id a row, for `predictions.csv` and the examples; row numbers without.
        texts: one text a row; with them the page, and no other file, shows the mistakes made with most confidence.
        log_history: `Trainer.state.log_history`, for the training curves.
        baseline: what `majority_baseline` returned.
        extra: anything JSON can hold that a reader should know: `title`, dataset, split, seed, environment, command.
        threshold: of `multi_label` heads.
        calibration: what `calibrate` found, if it was asked; the temperatures in `heads` are those that count.

    Returns:
        What `metrics.json` holds: `scores`, `intervals` (95 % bootstrap), `baseline`, `counts`, `heads`, `rejection`
        (head name → `rejection_scores`), `extra`, and `calibration` where there is one.

    Raises:
        ValueError: as in `score_heads`, or if `ids` or `texts` have another length than the logits.
    """
    probs, chosen = predict_arrays(logits, heads, threshold)
    rows = len(next(iter(probs.values())))
    for name, values in (("ids", ids), ("texts", texts)):
        if values is not None and len(values) != rows:
            raise ValueError(f"{name} has {len(values)} entries for {rows} rows of logits.")
    ids = list(range(rows)) if ids is None else list(ids)
    results = {
        "scores": score_heads(logits, labels, heads, threshold),
        "intervals": score_intervals(chosen, labels, heads),
        "baseline": baseline or {},
        "counts": {"rows": rows, "labelled": count_labelled(labels, heads)},
        "heads": [{"name": h.name, "problem": h.problem, "labels": len(h.labels), "parent": h.parent} for h in heads],
        "rejection": {
            name: rejection_scores(*pair) for name, pair in _confidences(probs, chosen, labels, heads).items()
        },
        "extra": extra or {},
    }
    if calibration is not None:
        results["calibration"] = calibration.summary()
    results = _jsonable(results)

    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    _write(run_dir / "metrics.json", text + "\n")
    classes = per_class(chosen, labels, heads)
    _write(run_dir / "per_class.csv", _csv(["head", "label", "precision", "recall", "f1", "support"], classes))
    _write(run_dir / "predictions.csv", _predictions_csv(probs, chosen, labels, heads, ids))
    pictures = _draw(probs, chosen, labels, heads, log_history or [], calibration)
    for name, content in pictures.items():
        _write(run_dir / name, content)
    sections = [_section(head, probs, chosen, labels, ids, texts, classes, file_stems(heads)) for head in heads]
    for section in sections:
        section["calibration"] = _calibration_sentence(results.get("calibration"), section["name"])
    page = render(
        "report.html",
        title=str(results["extra"].get("title", "Evaluation")),
        results=results,
        tables=_tables(results, heads),
        overall=_overall(results["scores"]),
        sections=sections,
        pictures=pictures,
    )
    _write(run_dir / "report.html", page)
    return results


def format_table(
    scores: dict[str, float],
    baseline: dict[str, float] | None,
    heads: list[HeadConfig],
    rows: dict[str, int] | None = None,
) -> str:
    """Lay out the scores of each head next to the baseline, for a terminal.

    Args:
        scores: what `score_heads` returned.
        baseline: what `majority_baseline` returned, or None.
        heads: the heads' configurations.
        rows: labelled rows of each head, as `count_labelled` gives them; adds a column.

    Returns:
        Lines of text: one table a problem, then the scores over all heads. Korean is two columns wide, and aligned so.

    Example:
        >>> head = HeadConfig("큰분류", ["자연", "음식"])
        >>> print(format_table({"큰분류_accuracy": 0.9, "큰분류_macro_f1": 0.85}, None, [head], {"큰분류": 40}))
        head    rows  accuracy  macro-F1
        큰분류    40     0.900     0.850
    """
    results = {"scores": scores, "baseline": baseline or {}, "counts": {"labelled": rows or {}}}
    blocks = []
    for header, lines in _tables(results, heads):
        cells = [header, *lines]
        widths = [max(_width(line[place]) for line in cells) for place in range(len(header))]
        blocks.append("\n".join(_align(line, widths) for line in cells))
    overall = _overall(scores)
    if overall:
        widest = max(_width(name) for name, _ in overall)
        blocks.append("\n".join(f"{_pad(name, widest)}  {value}" for name, value in overall))
    return "\n\n".join(blocks)


def per_class(
    chosen: Arrays, labels: Arrays, heads: list[HeadConfig]
) -> list[tuple[str, str, float, float, float, int]]:
    """Give precision, recall, F1 and support of every label of every classification head that has labelled rows.

    Args:
        chosen: as `predict_arrays` returns them.
        labels: as in `score_heads`.
        heads: the heads' configurations.

    Returns:
        (head, label, precision, recall, f1, support) in the order of heads and labels.
    """
    lines = []
    for head in heads:
        present, target = read_labels(labels.get(head.name), head)
        if head.problem == "regression" or not present.any():
            continue
        target, answer = target[present], chosen[head.name][present]
        for index, label in enumerate(head.labels):
            if head.problem == "multi_label":
                here, said = target[:, index], answer[:, index]
            else:
                here, said = target == index, answer == index
            precision, recall, f1, _ = precision_recall_fscore_support(here, said, average="binary", zero_division=0)
            lines.append((head.name, label, float(precision), float(recall), float(f1), int(here.sum())))
    return lines


def file_stems(heads: Iterable[HeadConfig]) -> dict[str, str]:
    """Give every head a name that is safe in a file name on any system, and that no other head has.

    Args:
        heads: the heads' configurations.

    Returns:
        head name → ASCII letters, digits, `-` and `_`; a head whose name had to be changed gets a short hash.
    """
    stems: dict[str, str] = {}
    taken = set()
    for head in heads:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", head.name).strip("_")[:40]
        if stem != head.name or stem.lower() in taken:  # some file systems do not tell a from A
            stem = f"{stem or 'head'}-{hashlib.sha256(head.name.encode()).hexdigest()[:8]}"
        taken.add(stem.lower())
        stems[head.name] = stem
    return stems


def _confidences(
    probs: Arrays, chosen: Arrays, labels: Arrays, heads: list[HeadConfig]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each `single_label` head with labelled rows: the confidence in the answers, and whether they are right."""
    found = {}
    for head in heads:
        present, target = read_labels(labels.get(head.name), head)
        if head.problem == "single_label" and present.any():
            right, taken = target[present], chosen[head.name][present]
            confidence = np.take_along_axis(probs[head.name][present], taken[:, None], axis=1)[:, 0]
            found[head.name] = confidence, right == taken
    return found


def _draw(
    probs: Arrays,
    chosen: Arrays,
    labels: Arrays,
    heads: list[HeadConfig],
    log_history: list[dict[str, Any]],
    calibration: Calibration | None,
) -> dict[str, bytes]:
    """Draw all pictures: file name → PNG. Without matplotlib there are none, and one warning."""
    from . import plots

    pictures = {}
    stems = file_stems(heads)
    confidences = _confidences(probs, chosen, labels, heads)
    try:
        for head in heads:
            name, stem = head.name, stems[head.name]
            if name in confidences:
                present, target = read_labels(labels[name], head)
                title = f"{name}: right and chosen labels"
                pictures[f"confusion_{stem}.png"] = plots.confusion_png(
                    target[present], chosen[name][present], head.labels, title
                )
                title = f"{name}: is its confidence deserved?"
                pictures[f"reliability_{stem}.png"] = plots.reliability_png(*confidences[name], title)
                title = f"{name}: how many rows can it answer?"
                pictures[f"rejection_{stem}.png"] = plots.rejection_png(*confidences[name], title)
            if calibration is not None and name in calibration.reliability:
                title = f"{name}: before and after temperature {calibration.temperatures[name]:.2f}"
                pictures[f"calibration_{stem}.png"] = plots.calibration_png(*calibration.reliability[name], title)
        curves = plots.training_curves_png(log_history)
        if curves:
            pictures["training_curves.png"] = curves
    except ImportError as error:
        warnings.warn(f"the report has no pictures: {error}", stacklevel=3)
    return pictures


def _section(
    head: HeadConfig,
    probs: Arrays,
    chosen: Arrays,
    labels: Arrays,
    ids: list[Any],
    texts: Sequence[str] | None,
    classes: list[tuple],
    stems: dict[str, str],
) -> dict[str, Any]:
    """Collect what the page says about one head."""
    present, target = read_labels(labels.get(head.name), head)
    section: dict[str, Any] = {"name": head.name, "stem": stems[head.name], "problem": head.problem}
    section["labelled"], section["wide"] = bool(present.any()), len(head.labels) > 12
    if not present.any():
        return section
    answer = chosen[head.name]
    if head.problem == "single_label":
        section["confused"] = most_confused(target[present], answer[present], head.labels, limit=10)
        score = np.take_along_axis(probs[head.name], answer[:, None], axis=1)[:, 0]
        error = np.where(target != answer, score, -1.0)
    elif head.problem == "multi_label":
        score = np.abs(probs[head.name] - target).max(axis=1)
        error = np.where((target != answer).any(axis=1), score, -1.0)
    else:
        error = score = np.abs(answer - target)
    section["weakest"] = sorted((line[1:] for line in classes if line[0] == head.name and line[5]), key=lambda c: c[3])
    if texts is not None:
        error = np.where(present, error, -1.0)
        worst = [int(row) for row in np.argsort(-error, kind="stable")[:WORST_ROWS] if error[row] > 0]
        section["worst"] = [
            (str(ids[row]), str(texts[row]), _spoken(head, target[row]), _spoken(head, answer[row]), float(score[row]))
            for row in worst
        ]
    return section


def _calibration_sentence(calibration: dict[str, Any] | None, head: str) -> str:
    """Say what calibration did to a head; empty where it did nothing."""
    found = (calibration or {}).get("heads", {}).get(head)
    if found is None:
        return ""
    fitted = f"Temperature {found['temperature']:.2f}, fitted on {calibration['fitted_rows']:,} validation rows."
    if "ece_after" not in found:
        return fitted
    return (
        f"{fitted} ECE {found['ece_before']:.3f} before, {found['ece_after']:.3f} after; log-loss "
        f"{found['nll_before']:.3f} before, {found['nll_after']:.3f} after; measured on {found['rows']:,} labelled "
        f"rows: {calibration['measured_on']}."
    )


def _predictions_csv(probs: Arrays, chosen: Arrays, labels: Arrays, heads: list[HeadConfig], ids: list[Any]) -> str:
    header: list[str] = ["id"]
    columns: list[list[Any]] = [ids]
    for head in heads:
        present, target = read_labels(labels.get(head.name), head, len(ids))
        answer = chosen[head.name]
        header += [f"{head.name}_gold", f"{head.name}_pred"]
        columns.append([_named(head, value) if seen else "" for value, seen in zip(target, present, strict=True)])
        columns.append([_named(head, value) for value in answer])
        if head.problem == "single_label":
            header.append(f"{head.name}_score")
            columns.append([f"{p[a]:.6f}" for p, a in zip(probs[head.name], answer, strict=True)])
        elif head.problem == "multi_label":
            header.append(f"{head.name}_score")
            columns.append([json.dumps([round(float(v), 6) for v in row]) for row in probs[head.name]])
    return _csv(header, zip(*columns, strict=True))


def _spoken(head: HeadConfig, value: Any) -> str:
    """Write a label as the page shows it."""
    return (
        ", ".join(json.loads(_named(head, value))) or "none" if head.problem == "multi_label" else _named(head, value)
    )


def _named(head: HeadConfig, value: Any) -> str:
    """Write a label or a number as a person would; several labels as a JSON list, for labels may hold commas."""
    if head.problem == "single_label":
        return head.labels[int(value)]
    if head.problem == "multi_label":
        return json.dumps([head.labels[index] for index in np.flatnonzero(value)], ensure_ascii=False)
    return f"{float(value):.6g}"


def _tables(results: dict[str, Any], heads: list[HeadConfig]) -> list[tuple[list[str], list[list[str]]]]:
    """Lay out one table a problem: (header, lines), the first column being the head."""
    scores, baseline = results["scores"], results["baseline"]
    counts = results["counts"]["labelled"]
    tables = []
    for problem, columns in COLUMNS.items():
        shown = [head for head in heads if head.problem == problem]
        if not shown:
            continue
        columns = [column for column in columns if baseline or not column[2]]
        header = ["head", *(["rows"] if counts else []), *(title for title, _, _ in columns)]
        lines = []
        for head in shown:
            values = [(baseline if base else scores).get(f"{head.name}_{suffix}") for _, suffix, base in columns]
            count = [f"{counts.get(head.name, 0):,}"] if counts else []
            lines.append([head.name, *count, *("–" if value is None else f"{value:.3f}" for value in values)])
        tables.append((header, lines))
    return tables


def _overall(scores: dict[str, float]) -> list[tuple[str, str]]:
    return [(name, f"{scores[key]:.3f}") for key, name in OVERALL.items() if key in scores]


def _width(text: str) -> int:
    """Count terminal columns: East Asian wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in unicodedata.normalize("NFC", text)
    )


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _align(line: list[str], widths: list[int]) -> str:
    first, *others = line
    numbers = [" " * (width - _width(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
    return "  ".join([_pad(first, widths[0]), *numbers])


def _csv(header: list[str], lines: Iterable[Iterable[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in line] for line in lines)
    return buffer.getvalue()


def _jsonable(value: Any) -> Any:
    """Bring what people put into `extra` into JSON: NumPy numbers, paths; a number that JSON lacks becomes null."""
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_jsonable(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def _write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: to a temporary name in the same folder, then moved into place."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
