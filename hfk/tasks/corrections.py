"""Corrected labels: a file of them (columns id, head, from, to, reason) applied to a task's rows when they are loaded.

`hfk audit` proposes such a file, the Space's feedback is one, and a spreadsheet writes one. Every line is checked
against the rows first, so a file is applied whole or not at all; of the Space's, which strangers write, what fits.
Splits are divided by the labels as they were, and all of them are corrected: a model that was trained with a file and
one that was not are tested on the same rows, and the counts by split tell whether the test's own labels changed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .columns import HeadColumn, clean_labels
from .names import canonical
from .source import Rows
from .tables import read_table

COLUMNS = ("id", "head", "from", "to", "reason")
_NEEDED = COLUMNS[:4]
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Cell = tuple[int, str]
"""A label's place: row, head."""


@dataclass
class Applied:
    """What a corrections file changed: the `cells`, beside those that were `already` as it says."""

    file: str
    cells: list[Cell] = field(default_factory=list)
    already: int = 0
    unmatched: int = 0  # lines of a Space's file that name no row of the table

    def by_split(self, splits: dict[str, np.ndarray]) -> dict[str, dict[str, int]]:
        """Count the changed labels of each split and head; `splits` has each split's row numbers."""
        chosen = {name: set(rows.tolist()) for name, rows in splits.items()}
        return {name: dict(Counter(head for row, head in self.cells if row in rows)) for name, rows in chosen.items()}


def apply_corrections(
    path: str | Path, rows: Rows, columns: Sequence[HeadColumn], values: dict[str, list[Any]]
) -> tuple[dict[str, list[Any]], Applied]:
    """Correct the labels of clean rows.

    A line names a row by its `id`. A line whose id is no row's, such as the Space's (its ids are hashes of what was
    classified), names all rows of its `text`, if it has one. Lines are applied in order, so a later one may go on from
    an earlier one. `from` must be the label that the row has by then; a line whose `to` the row has already changes
    nothing. Several labels are a JSON list; an empty `to` makes the label unknown.

    A file with a column `time` was gathered by a Space: its `from` is what the model said, the newest line about a
    label holds, and lines that name no row are counted.

    Args:
        path: the file; further columns are ignored.
        rows: the rows.
        columns: the heads as they are read.
        values: each head's labels by name, one a row; they stay as they are.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: for a line that names no row, no head or no label, whose `from` is not the row's label, that
            contradicts another line, or after which a row would contradict the hierarchy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no corrections file {path}.")
    table = read_table(path)
    absent = [name for name in _NEEDED if name not in table.columns]
    if absent:
        has = ", ".join(map(str, table.columns))
        raise ValueError(
            f"column {absent[0]!r} is missing from {path.name}; it has: {has}. Corrections have the columns "
            f"{', '.join(COLUMNS)}."
        )
    heads = {column.name: column for column in columns}
    values = {name: list(labels) for name, labels in values.items()}
    find = _finder(rows)
    labels = {name: _known_labels(column, values[name]) for name, column in heads.items()}
    lines: dict[Cell, str] = {}
    before: dict[Cell, Any] = {}
    gathered, unmatched = "time" in table.columns, 0
    table = table.reset_index(names="line")
    if gathered:
        table = table.sort_values("time", kind="stable", key=lambda column: column.map(_word))
    for line in table.to_dict("records"):
        number = line["line"] + 1
        where = f"{path.name}, row {number}"
        column = heads.get(_word(line["head"]))
        if column is None:
            raise ValueError(f"{where}: {line['head']!r} is no head of the task; heads: {', '.join(heads)}.")
        given, right = (_read(column, line[key], f"{where}, `{key}`") for key in ("from", "to"))
        unknown = _unknown(right, labels[column.name])
        if unknown is not None:
            some = ", ".join(sorted(labels[column.name])[:8]) + (", …" if len(labels[column.name]) > 8 else "")
            raise ValueError(f"{where}: {unknown!r} is not a label of head {column.name!r}; its labels: {some}.")
        try:
            meant = find(line, where)
        except LookupError as error:
            if not gathered:
                raise ValueError(str(error.args[0])) from None
            unmatched, meant = unmatched + 1, []
        for row in meant:
            cell, present = (row, column.name), values[column.name][row]
            if not gathered and not _same(column, present, right) and not _same(column, present, given):
                said = f"{where}: {column.name} of {rows.where(row)}"
                if cell in lines:
                    raise ValueError(
                        f"{said} is {_said(present)} after {lines[cell]}, not {_said(given)} as `from` says; the two "
                        "lines contradict each other: keep one."
                    )
                raise ValueError(
                    f"{said} is {_said(present)}, not {_said(given)} as `from` says; correct the line or take it out."
                )
            before.setdefault(cell, present)
            lines[cell] = where
            values[column.name][row] = right
    changed = [(row, name) for (row, name), old in before.items() if not _same(heads[name], values[name][row], old)]
    _check_hierarchy(columns, values, rows, {cell: lines[cell] for cell in changed})
    return values, Applied(path.name, changed, len(before) - len(changed), unmatched)


def describe(counts: dict[str, dict[str, int]], applied: Applied) -> str:
    """Say in one line what was corrected; `counts` are of `Applied.by_split`.

    Example:
        >>> describe({"train": {"topic": 3}, "validation": {}}, Applied("corrections.csv", already=1))
        'corrections.csv: 3 labels corrected (train: 3 topic; validation: none); 1 was so already'
    """
    parts = [
        f"{split}: " + (", ".join(f"{count:,} {head}" for head, count in found.items()) or "none")
        for split, found in counts.items()
    ]
    total = sum(sum(found.values()) for found in counts.values())
    already = f"; {applied.already:,} {'was' if applied.already == 1 else 'were'} so already" if applied.already else ""
    lost = f"; {applied.unmatched:,} of rows that are not in the table" if applied.unmatched else ""
    return f"{applied.file}: {total:,} label{'' if total == 1 else 's'} corrected ({'; '.join(parts)}){already}{lost}"


def _finder(rows: Rows) -> Callable[[dict[str, Any], str], list[int]]:
    """A function from a line to the rows that it means."""
    by_id: dict[str, list[int]] = defaultdict(list)
    by_text: dict[str, list[int]] = defaultdict(list)
    for row, identity in enumerate(rows.cells("id")):
        by_id[_word(identity)].append(row)

    def find(line: dict[str, Any], where: str) -> list[int]:
        identity, text = _word(line["id"]), _folded(line.get("text"))
        found = by_id.get(identity, [])
        if len(found) > 1:
            splits = " and ".join(split for split, own in rows.parts.items() if np.isin(found, own).any())
            raise ValueError(f"{where}: id {identity!r} is a row of {splits}; give the task an `id:` column.")
        if found:
            return found
        if not text:
            raise LookupError(
                f"{where}: {identity!r} is no row's id, and the line has no `text` to find the row by; take it out."
            )
        if not by_text:
            for row, given in enumerate(rows.cells("text") or ()):
                by_text[_folded(given)].append(row)
        if text not in by_text:
            raise LookupError(
                f"{where}: {identity!r} is no row's id, and its `text` is no row's text; a correction changes a row "
                "that is there: take the line out, or add the row to the table."
            )
        return by_text[text]

    return find


def _known_labels(column: HeadColumn, values: list[Any]) -> set[str] | None:
    if not column.rules.has_labels:
        return None
    given = column.labels if column.labels is not None else column.known
    if given is not None:
        return set(given)
    return {label for value in values if value for label in ([value] if isinstance(value, str) else value)}


def _read(column: HeadColumn, cell: Any, where: str) -> Any:
    """A line's label; names are written in one cell, however many columns or levels the table has for them."""
    return clean_labels(replace(column, columns=None, levels=None), [cell], lambda _: where)[0]


def _unknown(value: Any, labels: set[str] | None) -> str | None:
    """A label that the head does not have; None if there is none."""
    if labels is None or value is None:
        return None
    names = [value] if isinstance(value, str) else [name for name in value if isinstance(name, str)]
    return next((name for name in names if name not in labels), None)


def _same(column: HeadColumn, left: Any, right: Any) -> bool:
    left, right = _hard(column, left), _hard(column, right)
    if left is None or right is None:
        return left is right
    if not column.rules.has_labels:  # a file may have been written with six digits
        return math.isclose(left, right, rel_tol=1e-5, abs_tol=1e-9)
    return set(left) == set(right) if column.several else left == right


def _hard(column: HeadColumn, value: Any) -> Any:
    if column.rules.exclusive and isinstance(value, list):  # a distribution
        return column.labels[max(range(len(value)), key=value.__getitem__)]
    return value


def _check_hierarchy(
    columns: Sequence[HeadColumn], values: dict[str, list[Any]], rows: Rows, lines: dict[Cell, str]
) -> None:
    """Refuse a corrected row whose label and parent label belong to different branches.

    Where the task does not say what belongs where, most rows do, as they are after the corrections; at a tie, those
    that no line touches.
    """
    for column in columns:
        if column.parent is None:
            continue
        pairs: Counter[tuple[str, str]] = Counter()
        untouched: Counter[tuple[str, str]] = Counter()
        for row, pair in enumerate(zip(values[column.name], values[column.parent], strict=True)):
            if all(isinstance(label, str) for label in pair):
                pairs[pair] += 1
                untouched[pair] += not {(row, column.name), (row, column.parent)} & lines.keys()
        usual = dict(column.parents or {})
        for child, parent in sorted(pairs, key=lambda pair: (-pairs[pair], -untouched[pair], pair)):
            usual.setdefault(child, parent)
        for (row, name), line in lines.items():
            child, parent = values[column.name][row], values[column.parent][row]
            if name not in (column.name, column.parent) or not (isinstance(child, str) and isinstance(parent, str)):
                continue
            if usual[child] != parent:
                other = column.parent if name == column.name else column.name
                raise ValueError(
                    f"{line}: {rows.where(row)} would have {column.name} {child!r} under {column.parent} "
                    f"{parent!r}, but it belongs to {usual[child]!r}; add a line that corrects its {other} too (an "
                    "empty `to` makes it unknown)."
                )


def _word(cell: Any) -> str:
    return "" if cell is None else canonical(str(cell))


def _folded(cell: Any) -> str:
    """A text as it is compared: as a name, without a spreadsheet guard's quote."""
    text = _word(cell)
    return text[1:] if text[:1] == "'" and text[1:2] in _FORMULA_SIGNS else text


def _said(value: Any) -> str:
    return "unknown" if value is None else repr(value)
