"""A task's rows before they are encoded: raw tables in, one clean frame a split out.

`RawTable` is a table as read, with the file it came from; `TableSource` knows which of its columns are id, text, image
and labels. `TableSource.clean` checks ids, joins text columns, resolves picture paths (without opening the pictures:
the processor decodes them later, with its own safety checks) and cleans labels.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from .columns import HeadColumn, clean_labels
from .tables import check_file, read_table

MISSING_IMAGES = ("error", "drop", "text_only")
SPLITS = ("train", "validation", "test")
WHOLE = "whole"  # the split name of rows that are yet to be divided ("all" means something else to `datasets`)
_SPLIT_NAMES = {
    **{name: "train" for name in ("train", "training")},
    **{name: "validation" for name in ("validation", "valid", "val", "dev", "eval")},
    **{name: "test" for name in ("test", "testing")},
}


@dataclass
class RawTable:
    """A table as read from `file`; picture paths in it are relative to `folder`."""

    frame: pd.DataFrame
    file: str
    folder: Path | None = None


@dataclass
class CleanRows:
    """Clean rows of one split: a frame of id, text, image and label names, and the name of each row for errors."""

    frame: pd.DataFrame
    rows: list[str]


@dataclass
class TableSource:
    """Where a task's rows come from and what their columns mean.

    Args:
        read: reads the raw tables, by split (`whole` where they are yet to be divided).
        heads: the label columns.
        text: text columns, joined by a space in this order; empty without text.
        image: the picture column, None without pictures. Cells are paths, or dicts with `bytes` and `path`.
        id: the id column; None numbers the rows from 0.
        image_dir: what picture paths are relative to; the table's own folder by default.
        split_column: a column that says each row's split.
        missing_images: what to do with picture files that don't exist: `error`, `drop` the rows, or `text_only`.
        fingerprint: whatever else identifies the raw tables (files, sizes, times), JSON-able.
        settings: the name of the settings file, for error messages.
    """

    read: Callable[[], dict[str, list[RawTable]]]
    heads: list[HeadColumn]
    text: list[str] = field(default_factory=list)
    image: str | None = None
    id: str | None = None
    image_dir: Path | None = None
    split_column: str | None = None
    missing_images: str = "error"
    fingerprint: Any = None
    settings: str | None = None

    def __post_init__(self) -> None:
        if self.missing_images not in MISSING_IMAGES:
            raise ValueError(f"missing_images {self.missing_images!r} is not one of {', '.join(MISSING_IMAGES)}.")

    def clean(self) -> dict[str, CleanRows]:
        """Read and check all rows.

        Returns:
            Clean rows by split.

        Raises:
            ValueError: for a missing column, repeated ids, a row without text and image, a missing picture file or a
                label cell that can't be read; one sentence naming file, row and column.
        """
        cleaned: dict[str, list[CleanRows]] = {}
        absent: list[tuple[str, str]] = []
        for split, tables in self.read().items():
            start = 0
            for table in tables:
                for part, rows in self._by_split(split, table):
                    cleaned.setdefault(part, []).append(self._clean_rows(table, rows, start, absent))
                start += len(table.frame)
        self._report_absent(absent)
        result = {split: _concat(parts) for split, parts in cleaned.items()}
        self._check_ids(result)
        if not any(len(part.frame) for part in result.values()):
            raise ValueError("the data has no rows.")
        order = [name for name in (*SPLITS, WHOLE) if name in result]
        return {name: result[name] for name in order}

    def digest(self, cleaned: dict[str, CleanRows]) -> str:
        """A hash of everything the clean rows depend on: files, settings, and the picture files' sizes and times."""
        settings = [self.text, self.image, self.id, str(self.image_dir), self.split_column, self.missing_images]
        hasher = hashlib.blake2b(digest_size=16)
        state = [self.fingerprint, settings, [head.to_dict() for head in self.heads]]
        hasher.update(json.dumps(state, ensure_ascii=False, sort_keys=True, default=str).encode())
        if self.image is not None:
            for rows in cleaned.values():
                for image in rows.frame["image"]:
                    if image is not None and image.get("bytes") is None:
                        stat = os.stat(image["path"])
                        hasher.update(f"{image['path']}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return hasher.hexdigest()

    def _by_split(self, split: str, table: RawTable) -> list[tuple[str, list[int]]]:
        everything = list(range(len(table.frame)))
        if self.split_column is None:
            return [(split, everything)]
        self._require(table, self.split_column, "split:")
        parts: dict[str, list[int]] = {}
        for row, value in enumerate(table.frame[self.split_column]):
            name = _SPLIT_NAMES.get(str(value).strip().lower())
            if name is None:
                raise ValueError(
                    f"{table.file}, row {row + 1}: {value!r} in column {self.split_column!r} is no split; write train, "
                    "validation or test."
                )
            parts.setdefault(name, []).append(row)
        return list(parts.items())

    def _require(self, table: RawTable, column: str, option: str) -> None:
        if column not in table.frame.columns:
            settings = f" in {self.settings}" if self.settings else ""
            has = ", ".join(map(str, table.frame.columns))
            raise ValueError(
                f"column {column!r} is missing from {table.file}; it has: {has}. Name it under {option}{settings}."
            )

    def _clean_rows(self, table: RawTable, rows: list[int], start: int, absent: list[tuple[str, str]]) -> CleanRows:
        for column, option in (
            *((name, "text:") for name in self.text),
            *(((self.image, "image:"),) if self.image else ()),
            *(((self.id, "id:"),) if self.id else ()),
            *((head.column, "heads:") for head in self.heads),
        ):
            self._require(table, column, option)
        raw = table.frame.iloc[rows]
        ids = [str(start + row) for row in rows] if self.id is None else [_text(cell) for cell in raw[self.id]]
        names = [
            f"{table.file}, row {row + 1}" + (f" (id {identity!r})" if self.id is not None else "")
            for row, identity in zip(rows, ids, strict=True)
        ]
        if self.id is not None and None in ids:
            raise ValueError(f"{names[ids.index(None)]}: the id column {self.id!r} is empty; give every row an id.")
        data: dict[str, list[Any]] = {"id": ids}
        keep = [True] * len(rows)
        if self.text:
            columns = [[_text(cell) for cell in raw[name]] for name in self.text]
            joined = [" ".join(part for part in parts if part) for parts in zip(*columns, strict=True)]
            data["text"] = [text or None for text in joined]
        if self.image is not None:
            folder = self.image_dir or table.folder
            data["image"] = [self._image(cell, folder) for cell in raw[self.image]]
            for position, image in enumerate(data["image"]):
                if image is not None and image["bytes"] is None and not os.path.isfile(image["path"]):
                    absent.append((names[position], image["path"]))
                    data["image"][position] = None
                    keep[position] = self.missing_images == "text_only"
        nothing = [None] * len(rows)
        texts, images = data.get("text", nothing), data.get("image", nothing)
        for position, kept in enumerate(keep):
            if kept and texts[position] is None and images[position] is None:
                lacks = "neither text nor image" if self.text and self.image else ("text" if self.text else "image")
                verb = "has" if lacks.startswith("neither") else "has no"
                raise ValueError(f"{names[position]} {verb} {lacks}; fill it in or take the row out.")
        for head in self.heads:
            data[head.name] = clean_labels(head, raw[head.column], names.__getitem__)
        chosen = [position for position, kept in enumerate(keep) if kept]
        frame = pd.DataFrame({name: [cells[p] for p in chosen] for name, cells in data.items()}, dtype=object)
        return CleanRows(frame, [names[p] for p in chosen])

    def _image(self, cell: Any, folder: Path | None) -> dict[str, Any] | None:
        if isinstance(cell, dict):
            if cell.get("bytes") is not None:
                return {"bytes": cell["bytes"], "path": cell.get("path")}
            cell = cell.get("path")
        elif isinstance(cell, (bytes, bytearray)):
            return {"bytes": bytes(cell), "path": None}
        path = _text(cell)
        return (
            None if path is None else {"bytes": None, "path": os.path.abspath(os.path.join(folder or "", path.strip()))}
        )

    def _report_absent(self, absent: list[tuple[str, str]]) -> None:
        if not absent:
            return
        shown = "; ".join(f"{row}: {path}" for row, path in absent[:3]) + ("; …" if len(absent) > 3 else "")
        count = f"{len(absent)} image files don't exist" if len(absent) > 1 else "1 image file doesn't exist"
        if self.missing_images == "error":
            raise ValueError(
                f"{count} ({shown}). Correct `image_dir`, or say `missing_images: drop` or `missing_images: text_only`."
            )
        done = "their rows were dropped" if self.missing_images == "drop" else "their rows are read as text only"
        warnings.warn(f"{count}, {done} ({shown}).", stacklevel=2)

    def _check_ids(self, result: dict[str, CleanRows]) -> None:
        if self.id is None:
            return
        # Files of different splits may number their rows alike; rows of one table may not, whatever their split.
        groups = [list(result.values())] if self.split_column else [[part] for part in result.values()]
        for group in groups:
            rows: dict[str, list[str]] = {}
            for part in group:
                for identity, row in zip(part.frame["id"], part.rows, strict=True):
                    rows.setdefault(identity, []).append(row)
            repeated = {identity: places for identity, places in rows.items() if len(places) > 1}
            if repeated:
                listed = ", ".join(map(repr, list(repeated)[:5])) + (", …" if len(repeated) > 5 else "")
                count = f"{len(repeated)} ids occur" if len(repeated) > 1 else "an id occurs"
                raise ValueError(
                    f"{count} more than once in column {self.id!r}: {listed} (the first in "
                    f"{' and '.join(next(iter(repeated.values()))[:2])}). Make them unique, or leave `id:` out to "
                    "number the rows."
                )


def report_conflicts(cleaned: dict[str, CleanRows], heads: list[HeadColumn]) -> None:
    """Warn of rows that share their input, the same text and picture file, but not their labels.

    Args:
        cleaned: what `TableSource.clean` returned, corrections applied.
        heads: the label columns.
    """
    whole = _concat(list(cleaned.values()))
    nothing = [None] * len(whole.frame)
    pictures = [image and (image["bytes"] or image["path"]) for image in whole.frame.get("image", nothing)]
    inputs = pd.Series(zip(whole.frame.get("text", nothing), pictures, strict=True), whole.frame.index)
    conflicting, names = pd.Series(False, whole.frame.index), []
    for head in heads:
        if head.problem != "regression":  # a number measured twice differs without contradicting
            labels = whole.frame[head.name].map(
                lambda value: str(sorted(value) if isinstance(value, list) else value), na_action="ignore"
            )
            several = labels.groupby(inputs).transform("nunique") > 1
            if several.any():
                conflicting |= several
                names.append(head.name)
    if names:
        rows = [row for row, found in zip(whole.rows, conflicting, strict=True) if found]
        shown = "; ".join(rows[:4]) + ("; …" if len(rows) > 4 else "")
        warnings.warn(
            f"{len(rows)} rows share their input with another row but not their label of {', '.join(names)} ({shown}). "
            "They are kept, though at most one answer can be right; `hfk data profile` lists them.",
            stacklevel=2,
        )


def split_name(name: str) -> str:
    """The canonical name of a split: train, validation or test.

    Args:
        name: what a user calls it, such as `dev` or `val`.

    Raises:
        ValueError: if it is none of them.
    """
    canonical = _SPLIT_NAMES.get(str(name).strip().lower())
    if canonical is None:
        raise ValueError(f"{name!r} is no split; use train, validation or test.")
    return canonical


def as_files(data: Any, folder: Path | None = None) -> dict[str, list[Path]]:
    """Files by split, from one file, a list of files, or a mapping from split to either.

    Args:
        data: paths; in a mapping the keys are split names (`dev`, `val` and the like are understood).
        folder: what relative paths are relative to; the working directory by default.

    Returns:
        Files by split; `whole` for files that are yet to be divided.

    Raises:
        FileNotFoundError: if a file doesn't exist.
        ValueError: if nothing is named, or a split twice, or a file can't be a table.
    """
    named = {split_name(split): paths for split, paths in data.items()} if isinstance(data, Mapping) else {WHOLE: data}
    if isinstance(data, Mapping) and len(named) != len(data):
        raise ValueError(f"data names a split twice: {', '.join(map(str, data))}.")
    files = {}
    for split, paths in named.items():
        listed = [paths] if isinstance(paths, (str, Path)) else list(paths or [])
        files[split] = [Path(folder or "") / Path(path).expanduser() for path in listed]
        for path in files[split]:
            check_file(path)
    if not any(files.values()):
        raise ValueError("data names no file.")
    return files


def read_files(files: dict[str, list[Path]]) -> dict[str, list[RawTable]]:
    """Read tables; picture paths in them are relative to each file's folder.

    Args:
        files: files by split.
    """
    return {
        split: [RawTable(read_table(path), path.name, path.parent) for path in paths] for split, paths in files.items()
    }


def file_stamps(files: dict[str, list[Path]]) -> list[list[Any]]:
    """What identifies the files' present contents: split, path, size and modification time."""
    stamps = []
    for split, paths in files.items():
        for path in paths:
            stat = path.stat()
            stamps.append([split, str(path.resolve()), stat.st_size, stat.st_mtime_ns])
    return stamps


def _concat(parts: list[CleanRows]) -> CleanRows:
    if len(parts) == 1:
        return parts[0]
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    return CleanRows(frame, [row for part in parts for row in part.rows])


def _text(cell: Any) -> str | None:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return None
    text = str(cell)
    return text if text.strip() else None
