"""Likely label errors, from probabilities that a model gave to rows it had not seen: what `hfk audit` calls.

`hfk train … --folds 5` leaves such probabilities in out_of_fold.parquet. Confident learning (cleanlab) compares them
with the given labels, head by head; heads of a hierarchy are then brought to one consistent path, so that what is
proposed can be applied. Nothing is changed here: the outcome is a list, a corrections.csv of the clearest cases, which
`hfk.tasks.corrections` applies when someone asks for it, and a page to go through them (page.html and page.js).
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import concatenate_datasets

from ...evaluation.metrics import tree_roots
from ...evaluation.pages import render, thumbnail
from ...evaluation.predictions import Predictions
from ...evaluation.report import csv_text
from ...files import write_atomic
from ...models.configuration_multihead import HeadConfig
from ...runs.run import OUT_OF_FOLD, RECIPE, Run
from ...tasks import Task
from ...tasks.corrections import COLUMNS
from ...tasks.tables import read_table

MAX_GIVEN = 0.02
"""The largest probability of a given label that is proposed for correction. On 5,000 real headlines with 5 % of the
labels moved by chance, and a plain n-gram model, 84 % of what it and `MIN_SUGGESTED` let through had been moved."""
MIN_SUGGESTED = 0.5
FAR_OFF = 5.0  # regression: so many typical errors away
TEMPLATE = Path(__file__).with_name("page.html")
MAX_ITEMS = 2000  # on the page; the list has all
MAX_PICTURES = 300
PICTURE_PIXELS = 160
LIST_COLUMNS = (
    "id", "head", "given", "suggested", "given_probability", "suggested_probability", "score", "proposed", "reason",
    "text",
)  # fmt: skip


@dataclass
class Suspect:
    """A label of one row that is probably wrong; probabilities are None where the label is a number."""

    row: int
    """Its position in the out-of-fold rows."""
    head: str
    given: Any
    """A name, a list of names (`multi_label`) or a number."""
    suggested: Any
    given_probability: float | None
    suggested_probability: float | None
    score: float
    """From 0 to 1, how much the given label is to be trusted; lists are sorted by it."""
    reason: str
    found: bool = True
    """False for a label that only follows another one of its row, to keep the hierarchy."""
    proposed: bool = False
    """Whether corrections.csv has it."""


@dataclass
class Rows:
    """Out-of-fold rows: what a model said of them, their labels by head and name, and what they say."""

    said: Predictions
    labels: dict[str, list[Any]]
    texts: list[str | None]
    images: list[Any]


def audit(source: str | Path, output_dir: str | Path | None = None, max_given: float = MAX_GIVEN) -> str:
    """Look for label errors among out-of-fold rows; writes label_errors.csv, corrections.csv and audit.html.

    Args:
        source: folder that `hfk train … --folds` wrote, or its out_of_fold.parquet; its recipe says what the rows are.
        output_dir: folder to write to; `audit` beside the file by default.
        max_given: the largest probability of a given label whose correction is proposed.

    Returns:
        a table of what was found, for a terminal.
    """
    if not 0 <= max_given < 1:
        raise ValueError(f"the largest probability of a given label must be in [0, 1), not {max_given}.")
    path = Path(source) / OUT_OF_FOLD if Path(source).is_dir() else Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}; `hfk train RECIPE --folds 5 --output-dir {source}` makes one: a label can only be "
            "doubted by a model that was not trained on it."
        )
    runs = [Run(each) for each in (path.parent, *sorted(path.parent.glob("fold-*"))) if (each / RECIPE).is_file()]
    if not runs:
        raise ValueError(f"{path.parent} has no {RECIPE} that says which task the rows are of.")
    made = runs[0].task()
    rows = _read_rows(path, made)
    suspects = find_suspects(rows, max_given)
    earlier = []
    if made.corrections is not None:
        earlier = read_table(made.corrections).reindex(columns=list(COLUMNS)).fillna("").astype(str).values.tolist()
    corrections = [
        [rows.said.ids[one.row], one.head, written(one.given), written(one.suggested), f"audit: {one.reason}"]
        for one in suspects
        if one.proposed
    ]
    folder = Path(output_dir) if output_dir is not None else path.parent / "audit"
    write_atomic(folder / "label_errors.csv", csv_text(LIST_COLUMNS, [_list_line(one, rows) for one in suspects]))
    write_atomic(folder / "corrections.csv", csv_text(COLUMNS, [*earlier, *corrections]))
    write_atomic(folder / "audit.html", render_audit(made.name, rows, suspects, earlier, max_given))
    return _summary(rows, suspects, max_given, folder)


def _read_rows(path: Path, task: Task) -> Rows:
    """Read an out_of_fold.parquet and what its rows say; ValueError if they are not the task's."""
    contents = concatenate_datasets(list(task.load().values()))
    said = Predictions.load(path, task.heads)
    repeated = pd.Series(said.ids).duplicated()
    if repeated.any():
        raise ValueError(
            f"{path.name} has the id {said.ids[repeated.argmax()]!r} more than once; give the task an `id:` column "
            "whose ids are unique over all its files, and train again."
        )
    places = {identity: place for place, identity in enumerate(contents["id"])}
    unknown = [identity for identity in said.ids if identity not in places]
    if unknown:
        raise ValueError(
            f"{path.name} has {len(unknown):,} rows that task {task.name!r} does not have, such as id {unknown[0]!r}: "
            "give the task and the data that the run was trained on."
        )
    contents = contents.select([places[identity] for identity in said.ids])
    texts, images = (
        contents[column][:] if column in contents.column_names else [None] * len(said) for column in ("text", "image")
    )
    labels = {head.name: said.names(head, *reversed(said.target[head.name])) for head in said.heads}
    return Rows(said, labels, texts, images)


def find_suspects(rows: Rows, max_given: float) -> list[Suspect]:
    """Find labels that are probably wrong: the least trusted first, those of one row's hierarchy together.

    Labels go through cleanlab's confident learning (Northcutt, Jiang, Chuang: Confident Learning: Estimating
    Uncertainty in Dataset Labels, JAIR 2021), its strictest rule (`both`), to which clear cases are added; a number is
    suspected if it is more than five typical errors away. The labels that a hierarchy should have at a suspected row
    are those of the most probable path.
    """
    heads, roots = rows.said.heads, tree_roots(rows.said.heads)
    order = {head.name: place for place, head in enumerate(heads)}
    suspects: dict[tuple[int, str], list[Suspect]] = defaultdict(list)
    for head in heads:
        for suspect in head.rules.pick(_FIND)(rows, head, max_given):
            suspects[suspect.row, roots[head.name]].append(suspect)
    for (row, root), found in suspects.items():
        group = [head for head in heads if roots[head.name] == root and head.rules.exclusive]
        named = {suspect.head: suspect for suspect in found}
        for head in group:
            given, path = rows.labels[head.name][row], head.labels[rows.said.chosen[head.name][row]]
            if head.name not in named and given is not None and given != path:
                own = dict(zip(head.labels, rows.said.probabilities[head.name][row].tolist(), strict=True))
                why = f"follows {' and '.join(named)}"
                found.append(Suspect(row, head.name, given, path, own[given], own[path], own[given], why, found=False))
        if len(group) > 1 and any(suspect.proposed for suspect in found):  # half a path contradicts the hierarchy
            for suspect in found:
                suspect.proposed = True
        found.sort(key=lambda suspect: order[suspect.head])
    trusted = {key: min(suspect.score for suspect in found if suspect.found) for key, found in suspects.items()}
    return [suspect for key in sorted(suspects, key=lambda key: (trusted[key], key)) for suspect in suspects[key]]


def _single_suspects(rows: Rows, head: HeadConfig, max_given: float) -> list[Suspect]:
    present, target = rows.said.target[head.name]
    known = np.flatnonzero(present)
    given, probs = target[known], rows.said.probabilities[head.name][known].astype(np.float64)
    probs = probs / probs.sum(axis=1, keepdims=True)
    usual = {label: float(probs[given == label, label].mean()) for label in np.unique(given)}
    found = []
    for place in _doubtful(given, probs, max_given):
        row, label, suggested = int(known[place]), int(given[place]), int(rows.said.chosen[head.name][known[place]])
        if suggested == label:  # the rest of the path speaks for the label after all
            continue
        of_given, of_suggested = float(probs[place, label]), float(probs[place, suggested])
        name, better = head.labels[label], head.labels[suggested]
        reason = (
            f"a model that had not seen the row gives {better} {of_suggested:.0%} and {name} {of_given:.1%}; rows "
            f"labeled {name} get {usual[label]:.0%} on average"
        )
        clear = of_given <= max_given and of_suggested >= MIN_SUGGESTED
        found.append(Suspect(row, head.name, name, better, of_given, of_suggested, of_given, reason, proposed=clear))
    return found


def _multi_suspects(rows: Rows, head: HeadConfig, max_given: float) -> list[Suspect]:
    """Each label of a `multi_label` head is a question of its own: is it there?"""
    present, target = rows.said.target[head.name]
    known = np.flatnonzero(present)
    flips: dict[int, list[tuple[str, bool, float]]] = defaultdict(list)
    for number, label in enumerate(head.labels):
        given, there = target[known, number].astype(int), rows.said.probabilities[head.name][known, number]
        for place in _doubtful(given, np.column_stack([1 - there, there]), max_given):
            trust = float(there[place] if given[place] else 1 - there[place])
            flips[int(known[place])].append((label, bool(given[place]), trust))
    found = []
    for row, changes in flips.items():
        given, wrong = rows.labels[head.name][row], {label for label, _, _ in changes}
        suggested = [label for label in head.labels if (label in given) != (label in wrong)]
        trust = min(trust for _, _, trust in changes)
        words = ", ".join(f"{label} is {'given' if there else 'not given'} and gets {p if there else 1 - p:.1%}"
                          for label, there, p in changes)  # fmt: skip
        reason = f"a model that had not seen the row disagrees: {words}"
        clear = all(p <= max_given for _, _, p in changes)
        found.append(Suspect(row, head.name, given, suggested, trust, 1 - trust, trust, reason, proposed=clear))
    return found


def _number_suspects(rows: Rows, head: HeadConfig, _: float) -> list[Suspect]:
    present, values = rows.said.target[head.name]
    answers = rows.said.probabilities[head.name]
    errors = np.where(present, values - answers, np.nan)
    typical = 1.4826 * np.nanmedian(np.abs(errors - np.nanmedian(errors))) if present.sum() > 1 else 0.0
    if not typical:  # a deviation, if errors are normal
        return []
    found = []
    for row in np.flatnonzero(np.abs(errors) > FAR_OFF * typical):
        off, says = abs(float(errors[row])) / typical, float(answers[row])
        away = f"{says:.6g}, {off:.0f} times its typical error ({typical:.3g}) away"
        reason = f"a model that had not seen the row says {away}"
        found.append(Suspect(int(row), head.name, float(values[row]), says, None, None, 1 / (1 + off), reason))
    return found


_FIND = {"single_label": _single_suspects, "multi_label": _multi_suspects, "regression": _number_suspects}


def _doubtful(given: np.ndarray, probs: np.ndarray, max_given: float) -> np.ndarray:
    """Positions of the labels that confident learning calls wrong, or that `max_given` does.

    Confident learning estimates how many labels of each class are wrong, and takes the least probable ones. Where
    errors are few, that count rounds to none, however clear they are.
    """
    if len(np.unique(given)) < 2:
        return np.empty(0, dtype=int)
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise ImportError('the audit needs cleanlab: pip install "hfk[audit]"') from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class without rows is no news here
        wrong = find_label_issues(given, probs, filter_by="both", n_jobs=1)
    own = probs[np.arange(len(given)), given]
    return np.flatnonzero(wrong | ((own <= max_given) & (probs.max(axis=1) >= MIN_SUGGESTED)))


def _list_line(suspect: Suspect, rows: Rows) -> list[Any]:
    numbers = suspect.given_probability, suspect.suggested_probability, suspect.score
    return [
        rows.said.ids[suspect.row], suspect.head, written(suspect.given), written(suspect.suggested),
        *("" if number is None else f"{number:.4f}" for number in numbers), "yes" if suspect.proposed else "no",
        suspect.reason, rows.texts[suspect.row] or "",
    ]  # fmt: skip


def _summary(rows: Rows, suspects: list[Suspect], max_given: float, folder: Path) -> str:
    lines = [f"{'head':16}{'labelled':>10}{'agrees':>10}{'listed':>10}{'proposed':>10}"]
    for head in rows.said.heads:
        own = [suspect for suspect in suspects if suspect.head == head.name]
        (present, target), agrees = rows.said.target[head.name], "–"
        if head.rules.exclusive and present.any():
            agrees = f"{(rows.said.probabilities[head.name].argmax(axis=1) == target)[present].mean():.0%}"
        listed, proposed = sum(suspect.found for suspect in own), sum(suspect.proposed for suspect in own)
        lines.append(f"{head.name:16}{present.sum():>10,}{agrees:>10}{listed:>10,}{proposed:>10,}")
    lines += [
        "\nagrees: how often the model chose the given label; one that seldom does is no judge.",
        f"proposed: the given label gets at most {max_given:.0%} and another at least {MIN_SUGGESTED:.0%}, with "
        "what the hierarchy then asks for.",
        f"list: {folder / 'label_errors.csv'}    review: {folder / 'audit.html'}    proposal: "
        f"{folder / 'corrections.csv'}",
    ]
    return "\n".join(lines)


def written(value: Any) -> str:
    """Write a label as corrections.csv does: several as a JSON list, a number with its digits, unknown as nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else f"{value:.9g}"


def render_audit(name: str, rows: Rows, suspects: list[Suspect], earlier: list[list[str]], max_given: float) -> str:
    """Render the page of a task's suspects; the lines of corrections that the rows already had are saved along."""
    heads, ids = rows.said.heads, rows.said.ids
    roots = tree_roots(heads)
    items = []
    for (row, root), found in groupby(suspects, key=lambda suspect: (suspect.row, roots[suspect.head])):
        named = {suspect.head: suspect for suspect in found}
        family = [head for head in heads if roots[head.name] == root]  # whole, so that a hierarchy can be kept
        item = {"id": ids[row], "text": rows.texts[row], "ticked": any(one.proposed for one in named.values())}
        item["picture"] = thumbnail(rows.images[row], PICTURE_PIXELS) if len(items) < MAX_PICTURES else None
        item["reasons"] = [suspect.reason for suspect in named.values() if suspect.found]
        item["changes"] = [_change(head, named.get(head.name), rows.labels[head.name][row]) for head in family]
        items.append(item)
    key = repr((name, [(ids[suspect.row], suspect.head) for suspect in suspects])).encode()
    parents = {head.name: head.parent if head.parent in roots else None for head in heads}
    tree = {h.name: {"labels": h.labels, "parent": parents[h.name], "parent_of": h.parent_of} for h in heads}
    data = {"heads": tree, "earlier": earlier, "key": hashlib.sha256(key).hexdigest()[:16]}
    title = f"{name}: labels to look at again"
    facts = {"rows": len(ids), "items": items, "most": MAX_ITEMS, "data": data}
    return render(TEMPLATE, title=title, max_given=max_given, **facts)


def _change(head: HeadConfig, suspect: Suspect | None, label: Any) -> dict[str, Any]:
    """One label of a row: as it is given, and as it should be; of several labels, which go and which come."""
    change = {"head": head.name, "menu": head.rules.exclusive, "suspect": suspect, "changed": []}
    change |= {"given": written(label), "to": written(suspect.suggested if suspect else label)}
    if suspect and isinstance(label, list):
        change["changed"] = [(False, one) for one in label if one not in suspect.suggested]
        change["changed"] += [(True, one) for one in suspect.suggested if one not in label]
        change["shown"] = ", ".join(label) or "none"
    return change
