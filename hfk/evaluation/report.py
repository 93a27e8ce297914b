"""The report folder: what an evaluation leaves on disk for people and for programs.

`metrics.json` for programs, `per_class.csv` and `predictions.csv` for spreadsheets, PNG pictures, and `report.html`,
one self-contained page. Each file is whole or not there; the numbers are written first, the page last. `format_table`
is the same summary for a terminal.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from ..files import write_atomic
from ..models.configuration_multihead import HeadConfig
from ..models.problems import PROBLEMS
from . import plots
from .calibration import Calibration
from .metrics import most_confused, rejection_scores, score_heads, score_intervals
from .pages import render
from .predictions import Predictions
from .translation import translation_table

# One table a problem: (column title, metric suffix, taken from the baseline).
COLUMNS = {
    "single_label": [("accuracy", "accuracy", False), ("macro-F1", "macro_f1", False),
                     ("majority accuracy", "accuracy", True), ("majority macro-F1", "macro_f1", True)],
    "multi_label": [("micro-F1", "micro_f1", False), ("macro-F1", "macro_f1", False), ("mAP", "map", False),
                    ("majority micro-F1", "micro_f1", True)],
    "regression": [("MAE", "mae", False), ("RMSE", "rmse", False), ("R²", "r2", False),
                   ("MAE of the mean", "mae", True)],
}  # fmt: skip
OVERALL = {
    "mean_macro_f1": "mean macro-F1",
    "exact_match": "all heads right",
    "hierarchy_consistency": "hierarchy consistent",
    "hierarchy_consistency_independent": "consistent if each head chose alone",
}
WORST_ROWS = 12


def write_report(
    folder: str | Path,
    predictions: Predictions,
    facts: dict[str, Any] | None = None,
    *,
    baseline: dict[str, float] | None = None,
    log: list[dict[str, Any]] | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Score what a model said and write the report folder.

    Args:
        folder: the folder; made if it is not there; files of the same names in it are replaced.
        predictions: of labeled rows. Their texts, if there are any, stand on the page, beside the mistakes made with
            most confidence, and in no other file.
        facts: anything JSON can hold that a reader should know: `title`, dataset, split, seed, environment, command.
        baseline: what `majority_baseline` returned.
        log: `Trainer.state.log_history`, for the training curves.
        calibration: what `calibrate` found, if it was asked; the temperatures of the predictions' heads are those that
            count.

    Returns:
        What `metrics.json` holds: `scores`, `intervals` (95 % bootstrap), `baseline`, `counts`, `heads`, `rejection`
        (head name → `rejection_scores`), `extra` (the facts), and `calibration` where there is one.

    Raises:
        ValueError: as in `score_heads`.
    """
    heads = predictions.heads
    confidences = _confidences(predictions)
    results = {
        "scores": score_heads(predictions),
        "intervals": score_intervals(predictions),
        "baseline": baseline or {},
        "counts": {"rows": len(predictions), "labelled": predictions.labelled},
        "heads": [{"name": h.name, "problem": h.problem, "labels": len(h.labels), "parent": h.parent} for h in heads],
        "rejection": {name: rejection_scores(*pair) for name, pair in confidences.items()},
        "extra": facts or {},
    }
    if calibration is not None:
        results["calibration"] = calibration.summary()
    results = _jsonable(results)
    classes, stems = per_class(predictions), file_stems(heads)
    pictures = _draw(predictions, confidences, stems, log or [], calibration)
    page = {"title": str(results["extra"].get("title", "Evaluation")), "results": results, "pictures": pictures}
    page |= {"tables": _tables(results), "overall": _overall(results["scores"])}
    page["sections"] = [_section(head, predictions, classes) | {"stem": stems[head.name]} for head in heads]

    files = {
        "metrics.json": json.dumps(results, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n",
        "per_class.csv": csv_text(["head", "label", "precision", "recall", "f1", "support"], classes),
        "predictions.csv": _predictions_csv(predictions),
        **pictures,
        "report.html": render("report.html", **page),
    }
    for name, content in files.items():
        write_atomic(Path(folder) / name, content)
    return results


def format_table(results: dict[str, Any]) -> str:
    """Lay out the scores of each head next to the baseline, for a terminal, where Korean is two columns wide.

    Args:
        results: what `write_report` returned.

    Example:
        >>> heads = [{"name": "큰분류", "problem": "single_label"}]
        >>> scores = {"큰분류_accuracy": 0.9, "큰분류_macro_f1": 0.85}
        >>> print(format_table({"heads": heads, "scores": scores, "counts": {"labelled": {"큰분류": 40}}}))
        head    rows  accuracy  macro-F1
        큰분류    40     0.900     0.850
    """
    blocks = [aligned([header, *lines]) for header, lines in _tables(results)]
    if "translations" in results:
        blocks.append(aligned(translation_table(results)))
    overall = _overall(results["scores"])
    if overall:
        blocks.append(aligned(overall))
    extra = results.get("extra", {})
    if extra.get("split") == "train":
        blocks.append("These are the rows that it was trained on, as there are no others; new rows will do worse.")
    elif extra.get("trained_on"):
        blocks.append(
            f"It was trained on {extra['trained_on']:,} of these {extra['rows']:,} rows; new rows will do worse."
        )
    return "\n\n".join(blocks)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of a table for a terminal, where Korean is two columns wide; the first column flush left, others right."""
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_align(list(line), widths).rstrip() for line in lines)


def per_class(predictions: Predictions) -> list[tuple[str, str, float, float, float, int]]:
    """List (head, label, precision, recall, F1, support) of every label of the classification heads that have rows."""
    lines = []
    for head in predictions.heads:
        target, chosen, _ = predictions.known(head)
        if not len(target):
            continue
        for label, here, said in zip(
            head.labels, head.rules.indicators(target).T, head.rules.indicators(chosen).T, strict=True
        ):
            precision, recall, f1, _ = precision_recall_fscore_support(here, said, average="binary", zero_division=0)
            lines.append((head.name, label, float(precision), float(recall), float(f1), int(here.sum())))
    return lines


def file_stems(heads: Iterable[HeadConfig]) -> dict[str, str]:
    """Give every head a name that is safe in a file name on any system, and that no other head has.

    Returns:
        head name → letters of any script, digits, `-` and `_`; one that is cut or taken gets a short hash.
    """
    stems, taken = {}, set()
    for head in heads:
        whole = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFC", head.name)).strip("_")
        stem = whole[:40] or "head"
        if stem != whole or stem.lower() in taken:  # some file systems do not tell a from A
            stem += f"-{hashlib.sha256(head.name.encode()).hexdigest()[:8]}"
        taken.add(stem.lower())
        stems[head.name] = stem
    return stems


def _confidences(predictions: Predictions) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each `single_label` head with labeled rows: the confidence in the answers, and whether they are right."""
    heads = [head for head in predictions.heads if head.rules.exclusive and predictions.labelled[head.name]]
    return {head.name: head.rules.confidence(*predictions.known(head)) for head in heads}


def _draw(
    predictions: Predictions,
    confidences: dict[str, tuple[np.ndarray, np.ndarray]],
    stems: dict[str, str],
    log: list[dict[str, Any]],
    calibration: Calibration | None,
) -> dict[str, bytes]:
    """Draw all pictures: file name → PNG. Without matplotlib there are none, and one warning."""
    pictures = {}
    try:
        for head in predictions.heads:
            name, drawn = head.name, {}
            if name in confidences:
                target, chosen, _ = predictions.known(head)
                title = f"{name}: true and predicted labels"
                drawn["confusion"] = plots.confusion_png(target, chosen, head.labels, title)
                drawn["reliability"] = plots.reliability_png(*confidences[name], f"{name}: is its confidence deserved?")
                drawn["rejection"] = plots.rejection_png(*confidences[name], f"{name}: how many rows can it answer?")
            if calibration is not None and name in calibration.reliability:
                before, after, right = calibration.reliability[name]
                title = f"{name}: before and after temperature {calibration.temperatures[name]:.2f}"
                drawn["calibration"] = plots.reliability_png(before, right, title, after)
            pictures |= {f"{kind}_{stems[name]}.png": picture for kind, picture in drawn.items()}
        curves = plots.training_curves_png(log)
        if curves:
            pictures["training_curves.png"] = curves
    except ImportError as error:
        warnings.warn(f"the report has no pictures: {error}", stacklevel=3)
    return pictures


def _section(head: HeadConfig, predictions: Predictions, classes: list[tuple]) -> dict[str, Any]:
    """Collect what the page says about one head."""
    present, target = predictions.target[head.name]
    section: dict[str, Any] = {"name": head.name, "problem": _nearest(head.problem), "labelled": bool(present.any())}
    section["wide"] = len(head.labels) > 12
    if not present.any():
        return section
    answer, probs = predictions.chosen[head.name], predictions.probabilities[head.name]
    if head.rules.exclusive:
        section["confused"] = most_confused(target[present], answer[present], head.labels, limit=10)
    section["weakest"] = sorted((line[1:] for line in classes if line[0] == head.name and line[5]), key=lambda c: c[3])
    if predictions.texts is not None:
        score, error = head.rules.errors(target, answer, probs)
        error = np.where(present, error, -1.0)
        section["worst"] = [
            (str(predictions.ids[row]), predictions.texts[row] or "", head.rules.say(target[row]),
             head.rules.say(answer[row]), float(score[row]))
            for row in map(int, np.argsort(-error, kind="stable")[:WORST_ROWS]) if error[row] > 0
        ]  # fmt: skip
    return section


def _predictions_csv(predictions: Predictions) -> str:
    header, columns = ["id"], [predictions.ids]
    for head in predictions.heads:
        write, score = head.rules.write, head.rules.pick(_SCORE_CELL)
        answers, probs = predictions.chosen[head.name], predictions.probabilities[head.name]
        header += [f"{head.name}_gold", f"{head.name}_pred"]
        target = zip(*predictions.target[head.name], strict=True)
        columns.append([write(value) if there else "" for there, value in target])
        columns.append(map(write, answers))
        if score is not None:
            header.append(f"{head.name}_score")
            columns.append(map(score, probs, answers))
    return csv_text(header, zip(*columns, strict=True))


_SCORE_CELL = {
    "single_label": lambda probs, answer: f"{probs[answer]:.6f}",
    "multi_label": lambda probs, _: json.dumps([round(float(value), 6) for value in probs]),
    "regression": None,
}


def _tables(results: dict[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """Lay out one table a problem: (header, lines), the first column being the head."""
    scores, baseline, tables = results["scores"], results.get("baseline"), []
    for problem, columns in COLUMNS.items():
        shown = [head["name"] for head in results["heads"] if _nearest(head["problem"]) == problem]
        if not shown:
            continue
        columns = [column for column in columns if baseline or not column[2]]
        lines = []
        for name in shown:
            values = [(baseline if base else scores).get(f"{name}_{suffix}") for _, suffix, base in columns]
            cells = ("–" if value is None else f"{value:.3f}" for value in values)
            lines.append([name, f"{results['counts']['labelled'].get(name, 0):,}", *cells])
        tables.append((["head", "rows", *(title for title, _, _ in columns)], lines))
    return tables


def _nearest(problem: str) -> str:
    """The problem of `COLUMNS` that a problem is, or derives from."""
    return next(rules.name for rules in PROBLEMS[problem].__mro__ if getattr(rules, "name", None) in COLUMNS)


def _overall(scores: dict[str, float]) -> list[tuple[str, str]]:
    return [(name, f"{scores[key]:.3f}") for key, name in OVERALL.items() if key in scores]


def _width(text: str) -> int:
    """Count terminal columns: East Asian wide characters take two, combining marks none."""
    bare = [character for character in unicodedata.normalize("NFC", text) if not unicodedata.combining(character)]
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in bare)


def _align(line: list[str], widths: list[int]) -> str:
    """The first cell flush left, the numbers flush right."""
    spaces = [" " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)]
    return "  ".join([line[0] + spaces[0], *(space + cell for space, cell in zip(spaces[1:], line[1:], strict=True))])


def csv_text(header: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    """Write a table as CSV, floats with six digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in line] for line in lines)
    return buffer.getvalue()


def _jsonable(value: Any) -> Any:
    """Bring what people put into `extra` into JSON: NumPy numbers, paths; a number that JSON lacks becomes null."""

    def plain(odd: Any) -> Any:
        return odd.tolist() if isinstance(odd, np.generic | np.ndarray) else str(odd)

    return json.loads(json.dumps(value, default=plain), parse_constant=lambda _: None)
