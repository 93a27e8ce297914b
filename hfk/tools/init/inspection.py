"""`inspect_table`: a first guess at a table's task, as a commented YAML file that loads as it is.

Guesses are simple and say why: a column of picture names is the image, long varied strings are text, few repeated
values are labels, cells that share a separator and a vocabulary are several labels, a value for each row is an id. Of
label columns that say the same thing the more readable stays; a label that fixes another's value gets it as parent.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ...tasks.columns import MISSING_WORDS, RESERVED
from ...tasks.folders import IMAGE_SUFFIXES, picture_folders, read_folders
from ...tasks.heads import sort_labels
from ...tasks.tables import read_table

SEPARATORS = (" . ", " | ", "|", "; ", ";", ", ", ",", " / ", "/", " #")
MAX_LABELS = 300
MIN_ROWS_A_LABEL = 4
_RARE = 20  # rows below which a value of a long-tailed multi-label column is left out
_ID_NAME = re.compile(r"(^|_|\b)(id|idx|index|guid|uuid|key|no|num|번호)$", re.IGNORECASE)


@dataclass
class _Column:
    name: str
    cells: list[Any]
    role: str = "left out"
    why: str = ""
    separator: str | None = None
    min_rows: int = 1
    parent: str | None = None
    conflicts: int = 0  # rows that put a label under another parent than most rows do
    values: list[str] = field(default_factory=list)  # the non-empty cells, as text

    @property
    def distinct(self) -> int:
        return len(set(self.values))


def inspect_table(path: str | Path, folder: str | Path | None = None) -> str:
    """Guess a task for a table.

    Args:
        path: a table, or a folder of pictures with a subfolder a class.
        folder: where the YAML file will stand; the table's own folder by default. `data:` is written relative to it.

    Returns:
        The text of a YAML file, with a comment on each guess and on what was left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it can't be read, or no column can be an input or a label.
    """
    path = Path(path)
    data = path.name if folder is None else _relative(path, Path(folder))
    if path.is_dir():
        return _folder_yaml(path, data)
    frame = read_table(path)
    if not len(frame):
        raise ValueError(f"{path.name} has no rows to look at.")
    columns = [_Column(str(name), frame[name].tolist()) for name in frame.columns]
    image_dir = None
    for column in columns:
        column.values = [str(cell) for cell in column.cells if not _missing(cell)]
        if column.role == "left out" and not column.why:
            image_dir = _classify(column, len(frame), path.parent, image_dir)
    _one_of_each(columns)
    _drop_twins(columns, frame)
    _drop_leaks(columns)
    _find_parents(columns, frame)
    if not any(column.role in ("text", "image") for column in columns):
        raise ValueError(f"{path.name}: no column looks like text or pictures; write the task's YAML by hand.")
    if not any(column.role in ("label", "labels", "number") for column in columns):
        raise ValueError(f"{path.name}: no column looks like a label; write the task's YAML by hand.")
    return _yaml(path, data, columns, image_dir, len(frame), folder)


# ------------------------------------------------------------------------------------------------------ one column


def _missing(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and cell.strip() in MISSING_WORDS)


def _classify(column: _Column, rows: int, folder: Path, image_dir: str | None) -> str | None:
    values, given = column.values, [cell for cell in column.cells if not _missing(cell)]
    if not values:
        column.why = "every cell is empty"
        return image_dir
    if isinstance(given[0], dict) and ("bytes" in given[0] or "path" in given[0]):
        column.role, column.why = "image", "pictures inside the table"
        return image_dir
    if isinstance(given[0], (bytes, bytearray)):
        column.role, column.why = "image", "pictures inside the table"
        return image_dir
    if isinstance(given[0], (list, tuple)):
        vocabulary = Counter(str(value) for cell in given for value in cell)
        column.role, column.why = "labels", f"lists over {len(vocabulary)} values"
        column.min_rows = _RARE if len(vocabulary) > MAX_LABELS else 1
        return image_dir
    sample = values[:: max(1, len(values) // 200)]
    if sum(Path(value).suffix.lower() in IMAGE_SUFFIXES for value in sample) > 0.8 * len(sample):
        found = _image_folder(sample, folder)
        column.role = "image"
        column.why = "file names of pictures" + ("" if found is not None else ", but no such files: set image_dir")
        return found or image_dir
    if column.distinct == 1:
        column.why = f"one value only ({values[0][:30]!r})"
        return image_dir
    mean = sum(map(len, values)) / len(values)
    spaced = sum(" " in value.strip() for value in sample) / len(sample)
    numeric = _numbers(values)
    if column.distinct == len(values) and len(values) > 2 and spaced < 0.1 and _id_like(column, numeric, sample):
        column.role, column.why = "id", "a different value on each row"
        return image_dir
    separator, vocabulary = _separator(values, rows)
    if separator is not None:
        column.role, column.separator = "labels", separator
        frequent = sum(count >= _RARE for count in vocabulary.values())
        column.min_rows = _RARE if len(vocabulary) > MAX_LABELS else 1
        tail = f", {frequent} of them on {_RARE} rows or more" if column.min_rows > 1 else ""
        column.why = f"{len(vocabulary)} values separated by {separator!r}{tail}"
        return image_dir
    few = column.distinct <= min(MAX_LABELS, max(2, len(values) // MIN_ROWS_A_LABEL))
    if numeric is not None and not (few and _codes(numeric)):
        column.role, column.why = "number", f"numbers from {min(numeric):g} to {max(numeric):g}"
    elif few and mean <= 40:
        column.role, column.why = "label", ""
    elif spaced >= 0.3 or mean >= 15:
        column.role, column.why = "text", f"{mean:.0f} characters on average"
    else:
        column.why = (
            f"{column.distinct} different values in {len(values)} rows: too many for labels, too short for text"
        )
    return image_dir


def _numbers(values: list[str]) -> list[float] | None:
    try:
        return [float(value) for value in values] if all(value.strip()[-1:].isdigit() for value in values) else None
    except ValueError:
        return None


def _codes(numbers: list[float]) -> bool:
    """Whether numbers look like class codes: whole, few, and without large gaps."""
    distinct = set(numbers)
    return all(number.is_integer() for number in distinct) and (
        len(distinct) <= 2 or max(distinct) - min(distinct) < 4 * len(distinct)
    )


def _id_like(column: _Column, numeric: list[float] | None, sample: list[str]) -> bool:
    if _ID_NAME.search(column.name):
        return True
    if numeric is not None:
        return all(number.is_integer() for number in numeric) and column.name.lower().startswith(("unnamed", "row"))
    digits = sum(any(character.isdigit() for character in value) for value in sample)
    return digits > 0.9 * len(sample) and max(map(len, sample)) <= 64


def _separator(values: list[str], rows: int) -> tuple[str | None, Counter[str]]:
    """The separator that cuts most cells into short values of a shared vocabulary, if one does."""
    for separator in SEPARATORS:
        cut = [[part.strip() for part in value.split(separator) if part.strip()] for value in values]
        several = sum(len(parts) > 1 for parts in cut)
        if several < 0.2 * len(values):
            continue
        vocabulary = Counter(part for parts in cut for part in set(parts))
        total = sum(vocabulary.values())
        short = sum(len(part) * count for part, count in vocabulary.items()) / total <= 10
        shared = sum(count for count in vocabulary.values() if count >= max(2, min(_RARE, rows // 50))) / total
        if short and shared >= 0.6 and len(vocabulary) < 0.25 * total:
            if len(set(values)) <= 20 and len(vocabulary) >= len(set(values)):
                continue  # a few whole names that contain the sign: "야영장,오토캠핑장"
            return separator, vocabulary
    return None, Counter()


def _image_folder(sample: list[str], folder: Path) -> str | None:
    """What the names are relative to: "" for the table's folder, a folder in it, or None if no file is found."""
    children = sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    for name in ("", *children):
        if all((folder / name / value.strip()).is_file() for value in sample[:5]):
            return name
    return None


# -------------------------------------------------------------------------------------------------- columns together


def _one_of_each(columns: list[_Column]) -> None:
    for role in ("id", "image"):
        chosen = [column for column in columns if column.role == role]
        if role == "id":
            chosen.sort(key=lambda column: not _ID_NAME.search(column.name))
        for extra in chosen[1:]:
            extra.role = "left out"
            extra.why += f"; {chosen[0].name!r} is the {role} already"


def _drop_twins(columns: list[_Column], frame: pd.DataFrame) -> None:
    labels = [column for column in columns if column.role == "label"]
    for number, one in enumerate(labels):
        for two in labels[number + 1 :]:
            if one.role != "label" or two.role != "label" or one.distinct != two.distinct:
                continue
            if not _conflicts(frame, one.name, two.name) and not _conflicts(frame, two.name, one.name):
                code, readable = sorted((one, two), key=_readable)
                code.role, code.why = "left out", f"says the same as {readable.name!r}, which is easier to read"


def _readable(column: _Column) -> tuple[int, float]:
    letters = sum(not value.replace(".", "").isdigit() for value in set(column.values))
    return letters, sum(map(len, set(column.values)))


def _drop_leaks(columns: list[_Column]) -> None:
    """Leave out a text column that spells out all values of a several-valued label column: it would give them away."""
    for label in [column for column in columns if column.role == "labels" and column.separator]:
        for text in [column for column in columns if column.role == "text"]:
            pairs = [
                (str(cell), str(value))
                for cell, value in zip(text.cells, label.cells, strict=True)
                if not _missing(cell) and not _missing(value)
            ]
            pairs = pairs[:: max(1, len(pairs) // 500)]
            held = sum(
                all(p.strip() in cell for p in value.split(label.separator) if p.strip()) for cell, value in pairs
            )
            others = [column for column in columns if column.role == "text" and column is not text]
            if pairs and held > 0.9 * len(pairs) and others:
                text.role, text.why = "left out", f"it spells out the labels of {label.name!r}"


def _conflicts(frame: pd.DataFrame, child: str, parent: str) -> int:
    """Rows in which a value of `child` stands beside another value of `parent` than on most of its rows."""
    counts = frame[[child, parent]].dropna().astype(str).value_counts()
    return int(counts.sum() - counts.groupby(level=0).max().sum())


def _find_parents(columns: list[_Column], frame: pd.DataFrame) -> None:
    labels = sorted((column for column in columns if column.role == "label"), key=lambda column: column.distinct)
    for number, child in enumerate(labels):
        above = {}
        for column in labels[:number]:
            if column.distinct < child.distinct and child.distinct * MIN_ROWS_A_LABEL <= len(child.values):
                conflicts = _conflicts(frame, child.name, column.name)
                if conflicts <= len(child.values) // 1000:  # a few slips; a real table has some
                    above[column.name] = (_stem(column.name) == _stem(child.name), column.distinct, conflicts)
        if above:  # the closest: the one named alike, else the one with most labels
            child.parent = max(above, key=lambda name: above[name][:2])
            child.conflicts = above[child.parent][2]


def _stem(name: str) -> str:
    return re.sub(r"[\d_]*(name)?$", "", name)


# ------------------------------------------------------------------------------------------------------------ output


def _relative(path: Path, folder: Path) -> str:
    try:
        return path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return str(path.resolve())


def _quote(text: str) -> str:
    """A YAML scalar; JSON strings are YAML."""
    plain = re.fullmatch(r"[A-Za-z_가-힣][\w.가-힣-]*( [\w가-힣.-]+)*", text) and text.lower() not in (
        *("yes", "no", "on", "off", "true", "false", "null", "y", "n", "none"),
    )
    return text if plain else json.dumps(text, ensure_ascii=False)


def _head_lines(column: _Column, names: dict[str, str]) -> list[str]:
    name = names[column.name]
    parts = [f"name: {_quote(name)}"]
    if name != column.name:
        parts.append(f"column: {_quote(column.name)}")
    if column.role == "labels":
        parts.append("problem: multi_label")
        if column.separator:
            parts.append(f"separator: {json.dumps(column.separator)}")
        if column.min_rows > 1:
            parts.append(f"min_rows: {column.min_rows}")
    if column.role == "number":
        parts.append("problem: regression")
    if column.parent:
        parts.append(f"parent: {_quote(names[column.parent])}")
        if column.conflicts:
            parts.append("conflicts: ignore")
    note = column.why
    if column.role == "label":
        counts = Counter(column.values)
        shown = ", ".join(sort_labels(counts)[:6]) + (", …" if len(counts) > 6 else "")
        note = f"{len(counts)} labels: {shown}"
        single = sum(count == 1 for count in counts.values())
        note += f"; {single} on one row only" if single else ""
        note += f"; {column.conflicts} rows contradict {column.parent} and are ignored" if column.conflicts else ""
    return [f"  # {_comment(note)}", f"  - {{{', '.join(parts)}}}"]


def _comment(text: str) -> str:
    return " ".join(text.split())


def _yaml(
    path: Path, data: str, columns: list[_Column], image_dir: str | None, rows: int, folder: str | Path | None
) -> str:
    by_role: dict[str, list[_Column]] = {}
    for column in columns:
        by_role.setdefault(column.role, []).append(column)
    lines = [
        f"# A task guessed from {path.name} ({rows:,} rows, {len(columns)} columns). Read it, correct it, then:",
        "#   hfk train THIS_FILE --output-dir runs/NAME",
        "",
        f"data: {_quote(data)}",
    ]
    if texts := by_role.get("text"):
        lines += ["", "# Text: " + _comment("; ".join(f"{column.name}, {column.why}" for column in texts)) + "."]
        names = [_quote(column.name) for column in texts]
        lines.append(f"text: {names[0]}" if len(names) == 1 else f"text: [{', '.join(names)}]")
    if images := by_role.get("image"):
        lines += ["", f"# Pictures: {_comment(images[0].why)}.", f"image: {_quote(images[0].name)}"]
        if image_dir:
            where = image_dir if folder is None else _relative(path.parent / image_dir, Path(folder))
            lines.append(f"image_dir: {_quote(where)}")
    if ids := by_role.get("id"):
        lines += ["", f"# {_comment(ids[0].why).capitalize()}.", f"id: {_quote(ids[0].name)}"]
    lines += [
        "",
        "# One entry a label column, coarse to fine; a child's label has one parent label in every row.",
        "heads:",
    ]
    heads = _coarse_to_fine(by_role.get("label", []))
    heads += by_role.get("labels", []) + by_role.get("number", [])
    names = {column.name: column.name + ("_label" if column.name in RESERVED else "") for column in heads}
    for column in heads:
        lines += _head_lines(column, names)
    if left := by_role.get("left out"):
        lines += ["", "# Left out:"]
        lines += [f"#   {column.name}: {_comment(column.why)}." for column in left]
    lines += [
        "",
        "# Rows that look alike are kept in one split. Or, if a column says each row's split: {column: NAME}",
        "split: {validation: 0.1, test: 0.1, seed: 42}",
        "",
        "recipe: table",
    ]
    return "\n".join(lines) + "\n"


def _coarse_to_fine(labels: list[_Column]) -> list[_Column]:
    """Each head followed by those of which it is the parent."""
    ordered: list[_Column] = []

    def add(parent: str | None) -> None:
        for column in labels:
            if column.parent == parent:
                ordered.append(column)
                add(column.name)

    add(None)
    return ordered


def _folder_yaml(path: Path, data: str) -> str:
    directories = picture_folders(str(path.resolve()), Path()) or {}
    tables = read_folders(directories)
    counts = Counter(label for table in tables for chunk in table.chunks() for label in chunk.get("label", ()))
    if not counts:
        raise ValueError(f"{path} has a metadata file without a column 'label'; write the task's YAML by hand.")
    shown = ", ".join(sort_labels(counts)[:8]) + (", …" if len(counts) > 8 else "")
    lines = [
        f"# A task guessed from the folder {path.name}: {sum(counts.values()):,} pictures in {len(counts)} subfolders.",
        f"data: {_quote(data)}",
        "heads:",
        f"  # {len(counts)} labels: {_comment(shown)}",
        "  - {name: label}",
    ]
    if len(directories) == 1:
        lines.append("split: {validation: 0.1, test: 0.1, seed: 42}")
    return "\n".join([*lines, "recipe: table"]) + "\n"
