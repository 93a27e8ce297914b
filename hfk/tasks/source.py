"""A task's rows before they are encoded: raw tables in, one Arrow table of clean rows with labels by name out.

`TableSource` knows which columns are id, text, image and labels. It reads its tables chunk by chunk, cleans each chunk
and writes it to an Arrow file, so that memory holds one chunk of cells; a table that has not changed is read from there
the next time. What can't be used (no input, a picture that isn't there or can't be opened, a cell that is no label) is
found in all rows before anything is trained on, and refused in one message or left out.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..files import replacing, write_atomic
from ..models.image_preparation import ImageError, split_box
from .columns import HeadColumn, clean_labels, label_name, soft_label
from .delimited import SHOWN
from .inputs import PICTURE, as_image, is_address, join_texts, open_all, picture_cells, picture_columns, plain_text
from .look_alikes import Picture
from .names import canonical, whole_number
from .tables import Chunk, check_file, iter_columns

MISSING_IMAGES = ("error", "drop", "text_only")
BAD_ROWS = ("error", "drop")
SPLITS = ("train", "validation", "test")
WHOLE = "whole"  # the split name of rows that are yet to be divided ("all" means something else to `datasets`)
_SPLIT_NAMES = {
    **{name: "train" for name in ("train", "training", "학습", "훈련")},
    **{name: "validation" for name in ("validation", "valid", "val", "dev", "eval", "검증")},
    **{name: "test" for name in ("test", "testing", "테스트", "시험", "평가")},
}
_VERSION = 5  # of what the Arrow files hold; older ones are not read
# What a head's cells are cleaned by.
_READ = ("name", "column", "columns", "problem", "separator", "levels", "labels", "codes", "empty", "known", "min_rows")


@dataclass
class RawTable:
    """A table as it is read.

    Args:
        file: its name, for messages.
        chunks: reads it from the start: column → cells, with the same columns in every chunk.
        folder: what picture paths in it are relative to.
        split: where its rows belong; `whole` where they are yet to be divided.
    """

    file: str
    chunks: Callable[[], Iterator[Chunk]]
    folder: Path | None = None
    split: str = WHOLE


class Cells(Sequence):
    """An Arrow column as Python objects, made a piece at a time as they are asked for."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, row: int) -> Any:
        return self.column[row].as_py()

    def __iter__(self) -> Iterator[Any]:
        for chunk in self.column.chunks:
            for start in range(0, len(chunk), 1024):
                yield from chunk.slice(start, 1024).to_pylist()

    def take(self, rows: np.ndarray) -> Cells:
        """Those of some rows, in that order."""
        return Cells(self.column.take(pa.array(rows)))


class Rows:
    """All rows of a task, clean and in the order of their tables; labels by name.

    Args:
        data: columns id, text, image (as the task has them), `head0`, `head1`, …, `_file`, `_row` and `_split`.
        named: whether rows have ids of their own.
        stamp: a hash of what the rows depend on, pictures' sizes and times included.
    """

    def __init__(self, data: datasets.Dataset, named: bool, stamp: str) -> None:
        self.data, self.named, self.stamp = data, named, stamp
        splits = data.data.column("_split").combine_chunks().dictionary_encode()
        codes, names = splits.indices.to_numpy(), splits.dictionary.to_pylist()
        self.parts = {name: np.flatnonzero(codes == names.index(name)) for name in (*SPLITS, WHOLE) if name in names}
        """split → its rows' numbers"""
        self.pictures: list[Picture | None] | None = None
        """What tells each row's picture apart, if they were opened this time."""

    def __len__(self) -> int:
        return len(self.data)

    def with_table(self, table: pa.Table, stamp: str) -> Rows:
        """The same columns, with another content."""
        data = datasets.Dataset(datasets.table.InMemoryTable(table), info=self.data.info)
        return Rows(data, self.named, stamp)

    def cells(self, name: str) -> Cells | None:
        """A column; None if there is no such column."""
        return Cells(self.data.data.column(name)) if name in self.data.column_names else None

    def inputs(self, rows: np.ndarray | None = None) -> Iterator[tuple[str | None, bytes | str | None]]:
        """What each row, or some of them, show: text, and a picture's bytes or path."""
        cells = [self.cells(name) for name in ("text", "image")]
        if rows is not None:
            cells = [column and column.take(rows) for column in cells]
        columns = [column or itertools.repeat(None, len(self) if rows is None else len(rows)) for column in cells]
        for text, image in zip(*columns, strict=True):
            yield text, image and (image["bytes"] or image["path"])

    def where(self, row: int) -> str:
        """Name a row in an error: file, number, id."""
        at = {name: self.data.data.column(name)[row].as_py() for name in ("_file", "_row", "id")}
        return f"{at['_file']}, row {at['_row'] + 1}" + (f" (id {at['id']!r})" if self.named else "")

    def reasons(self, wrong: dict[int, str]) -> str:
        """Say which rows can't be used, from row → why; those of one reason together."""
        at = {row: [self.data.data.column(name)[row].as_py() for name in ("_file", "_row", "id")] for row in wrong}
        rows_of: dict[tuple[str, str], list[str]] = {}
        for row, reason in sorted(wrong.items()):
            file, number, identity = at[row]
            rows_of.setdefault((file, reason), []).append(f"{number + 1}" + f" (id {identity!r})" * self.named)
        parts = [
            f"{file}, row{'s' * (len(rows) > 1)} {', '.join(rows[:SHOWN])}"
            f"{f' and {len(rows) - SHOWN:,} more' * (len(rows) > SHOWN)}: {reason}"
            for (file, reason), rows in list(rows_of.items())[:SHOWN]
        ]
        return "; ".join(parts) + f"; and {len(rows_of) - SHOWN:,} more" * (len(rows_of) > SHOWN)

    def labels(self, number: int) -> list[Any]:
        """The clean labels of head number `number`: a name, a list of names or of probabilities, a number, or None."""
        column = self.data.data.column(f"head{number}").combine_chunks()
        if pa.types.is_floating(column.type):
            return column.to_pylist()
        if pa.types.is_string(column.type):
            return _shared(column, soft=True)
        names = _shared(column.flatten(), soft=False)
        ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy())
        given = column.is_valid().to_numpy(zero_copy_only=False)
        starts = np.concatenate([[0], ends[:-1]])
        return [names[start:end] if there else None for start, end, there in zip(starts, ends, given, strict=True)]


def _shared(column: pa.Array, soft: bool) -> list[Any]:
    """Names as Python strings, one string a name, not one a row; `soft` ones are read as what they spell out."""
    column = column.dictionary_encode()
    names = column.dictionary.to_pylist()
    if soft:
        names = [soft_label(name) or name for name in names]
    codes = pc.fill_null(column.indices, len(names)).to_numpy()
    return list(map([*names, None].__getitem__, codes.tolist()))


@dataclass
class TableSource:
    """Where a task's rows come from and what their columns mean.

    Args:
        read: lists the raw tables; their cells are read later.
        heads: the label columns.
        text: text columns, in this order; empty without text. Several are joined by `SEPARATOR`.
        image: the picture column, or a pattern of columns such as `images/{id}.jpg`; None without pictures. Cells are
            paths, or dicts with `bytes` and `path`.
        id: the id column; None numbers the rows of each split from 0.
        image_dir: what picture paths are relative to; the table's own folder by default.
        split_column: a column that says each row's split.
        group: a column of which rows of one value stay in one split or fold: an author, a product, a dialogue.
        missing_images: what to do with pictures that don't exist or can't be opened: `error`, `drop` the rows, or
            `text_only`.
        bad_rows: what to do with all rows that can't be used, those without pictures too: `error` or `drop`.
        header: what a task's YAML says of the tables' header, for whoever predicts on such tables.
        fingerprint: whatever else identifies the raw tables (files, sizes, times), JSON-able.
        settings: the name of the settings file, for error messages.
    """

    read: Callable[[], list[RawTable]]
    heads: list[HeadColumn]
    text: list[str] = field(default_factory=list)
    image: str | None = None
    id: str | None = None
    image_dir: Path | None = None
    split_column: str | None = None
    group: str | None = None
    missing_images: str = "error"
    bad_rows: str = "error"
    header: bool | int | None = None
    fingerprint: Any = None
    settings: str | None = None

    def __post_init__(self) -> None:
        if self.missing_images not in MISSING_IMAGES:
            raise ValueError(f"missing_images {self.missing_images!r} is not one of {', '.join(MISSING_IMAGES)}.")
        if self.bad_rows not in BAD_ROWS:
            raise ValueError(f"bad_rows {self.bad_rows!r} is not one of {', '.join(BAD_ROWS)}.")

    def rows(self, cache_dir: str | Path | None = None) -> Rows:
        """Read and check all rows.

        Args:
            cache_dir: where the Arrow files go; the `datasets` cache by default.

        Raises:
            ValueError: for a missing column, repeated ids, or rows that can't be used; one sentence naming file and
                rows.
        """
        settings = [self.text, self.image, self.id, str(self.image_dir), self.split_column, self.group, self.bad_rows]
        heads = [{name: getattr(head, name) for name in _READ} for head in self.heads]
        state = json.dumps([_VERSION, self.fingerprint, settings, heads], ensure_ascii=False, default=str)
        digest = hashlib.blake2b(state.encode("utf-8", "surrogatepass"), digest_size=16)
        kept = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "hfk"
        file = kept / f"rows-{digest.hexdigest()}.arrow"
        if not file.is_file():
            schema = self._features().arrow_schema
            with replacing(file) as part, pa.ipc.new_stream(str(part), schema) as writer:
                for chunk in self._generate():
                    columns = [pa.array(chunk[field.name], field.type) for field in schema]
                    writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        data = datasets.Dataset.from_file(str(file), split=datasets.NamedSplit("rows"))
        rows = Rows(data, self.id is not None, digest.hexdigest())
        noted = np.flatnonzero(pc.is_valid(data.data.column("_bad")).to_numpy())
        bad = dict(zip(noted.tolist(), rows.cells("_bad").take(noted), strict=True))
        if self.image is not None:
            rows = self._look_at_pictures(rows, digest, bad, kept)
        inputs = [pc.is_null(rows.data.data.column(name)) for name in ("text", "image") if name in rows.data.features]
        empty = inputs[0] if len(inputs) == 1 else pc.and_(*inputs)
        lacks = "neither text nor image" if self.text and self.image else "no text" if self.text else "no image"
        for row in np.flatnonzero(empty.to_numpy()).tolist():
            bad.setdefault(row, lacks)
        rows = self._without(rows, bad, digest)
        self._check_ids(rows)
        return rows

    def _without(self, rows: Rows, bad: dict[int, str], digest: Any) -> Rows:
        """Refuse bad rows, or leave them out."""
        if not bad:
            return rows
        of_pictures = [reason for reason in bad.values() if reason.startswith(PICTURE)]
        may_go = self.bad_rows == "drop" or (self.missing_images == "drop" and len(of_pictures) == len(bad))
        said = f"{len(bad):,} of {len(rows):,} rows can't be used: {rows.reasons(bad)}"
        if not may_go:
            hint = " (for pictures alone: `missing_images: drop` or `text_only`; or correct `image_dir`)"
            raise ValueError(
                f"{said}. Mend them, or leave them out with `bad_rows: drop`{hint if of_pictures else ''}."
            )
        warnings.warn(f"{said}. They are left out.", stacklevel=3)
        if len(bad) == len(rows):
            raise ValueError("the data has no rows.")
        keep = np.ones(len(rows), dtype=bool)
        keep[list(bad)] = False
        digest.update(keep.tobytes())
        table = rows.data.data.table.filter(pa.array(keep))
        kept = rows.with_table(table, digest.hexdigest())
        if rows.pictures is not None:
            kept.pictures = list(itertools.compress(rows.pictures, keep))
        return kept

    def _features(self) -> datasets.Features:
        kinds = {
            "single_label": datasets.Value("string"),  # a soft label as the JSON list of its probabilities
            "multi_label": datasets.List(datasets.Value("string")),
            "regression": datasets.Value("float64"),
        }
        return datasets.Features(
            {
                "id": datasets.Value("string"),
                **({"text": datasets.Value("string")} if self.text else {}),
                **({"image": datasets.Image(decode=False)} if self.image else {}),
                **{f"head{number}": head.rules.pick(kinds) for number, head in enumerate(self.heads)},
                "_file": datasets.Value("string"),
                "_row": datasets.Value("int64"),
                "_split": datasets.Value("string"),
                "_bad": datasets.Value("string"),
                **({"_group": datasets.Value("string")} if self.group else {}),
            }
        )

    def _generate(self) -> Iterator[Chunk]:
        starts = dict.fromkeys((*SPLITS, WHOLE), 0)
        for table in sorted(self.read(), key=lambda table: (*SPLITS, WHOLE).index(table.split)):
            row = 0
            for chunk in table.chunks():
                clean = self._clean(table, chunk, row, starts[table.split])
                yield clean
                row += len(clean["id"])
            starts[table.split] += row
        if not any(starts.values()):
            raise ValueError("the data has no rows.")

    def _clean(self, table: RawTable, chunk: Chunk, first: int, start: int) -> Chunk:
        """Clean some rows, of which the first is number `first` of its table, and `start` rows of its split precede."""
        for column, option in (
            *((name, "split:") for name in (self.split_column, self.group) if name),
            *((name, "text:") for name in self.text),
            *((name, "image:") for name in picture_columns(self.image)),
            *(((self.id, "id:"),) if self.id else ()),
            *((name, "heads:") for head in self.heads for name in head.sources(chunk)),
        ):
            if column not in chunk and option == "heads:" and table.split in ("validation", "test"):
                raise ValueError(
                    f"{table.file} has no labels in column {column!r}, so nothing can be scored on it; take it out of "
                    "`data:`, and have `hfk predict` classify it."
                )
            if column not in chunk:
                settings = f" in {self.settings}" if self.settings else ""
                raise ValueError(
                    f"column {column!r} is missing from {table.file}; it has: {', '.join(map(str, chunk))}. Name it "
                    f"under {option}{settings}."
                )
        rows = range(first, first + len(next(iter(chunk.values()))))
        bad: dict[int, str] = {}
        ids = [str(start + row) for row in rows] if self.id is None else [plain_text(cell) for cell in chunk[self.id]]
        for position in (position for position, identity in enumerate(ids) if identity is None):
            bad[position] = f"the id column {self.id!r} is empty"
        clean: Chunk = {"id": ids}
        if self.text:
            columns = [[plain_text(cell) for cell in chunk[name]] for name in self.text]
            clean["text"] = list(map(join_texts, zip(*columns, strict=True)))
        if self.image is not None:
            folder = self.image_dir or table.folder
            clean["image"] = [as_image(cell, folder) for cell in picture_cells(self.image, chunk)]
        for number, head in enumerate(self.heads):
            clean[f"head{number}"] = _labels(head, head.cells(chunk), bad, self.bad_rows == "drop")
        clean["_file"], clean["_row"] = [table.file] * len(rows), list(rows)
        if self.group:
            clean["_group"] = [plain_text(cell) for cell in chunk[self.group]]
        clean["_split"] = [table.split] * len(rows)
        if self.split_column is not None:
            for position, cell in enumerate(chunk[self.split_column]):
                try:
                    clean["_split"][position] = split_name(cell)
                except ValueError:
                    column = f"column {self.split_column!r}"
                    bad[position] = f"{cell!r} in {column} is no split (train, validation or test)"
        clean["_bad"] = list(map(bad.get, range(len(rows))))
        return clean

    def _look_at_pictures(self, rows: Rows, digest: Any, bad: dict[int, str], folder: Path) -> Rows:
        """Note in `bad` whose picture isn't there or can't be opened, and put the others' files in the stamp.

        With `text_only` such rows lose their pictures instead. Which can't be opened is kept in `folder`.
        """
        column = rows.data.data.column("image")
        paths = Cells(pc.if_else(pc.is_null(pc.struct_field(column, "bytes")), pc.struct_field(column, "path"), None))
        wrong: dict[int, str] = {}
        where = json.dumps([self.fingerprint, self.image, str(self.image_dir)], default=str)
        files = hashlib.blake2b(where.encode("utf-8", "surrogatepass"), digest_size=16)
        for row, path in enumerate(paths):
            if path is None:
                continue
            try:
                file, _ = split_box(path)
                found = os.stat(file)
            except ImageError as error:
                wrong[row] = f"{PICTURE} {str(error).rstrip('.')}"
                continue
            except (OSError, ValueError):
                found = None
            if found is None or not stat.S_ISREG(found.st_mode):
                gone = "is an address, and none is fetched; download the files" if is_address(path) else ""
                wrong[row] = f"{PICTURE} " + (gone or f"{file} doesn't exist")
            else:
                files.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        digest.update(files.digest())
        known = folder / f"pictures-{files.hexdigest()}.json"
        if known.is_file():
            damaged = dict(json.loads(known.read_text(encoding="utf-8")))
        else:
            rows.pictures, damaged = open_all(Cells(column), set(wrong))
            write_atomic(known, json.dumps(list(damaged.items())))
        wrong = {row: reason for row, reason in (wrong | damaged).items() if row not in bad}
        if self.missing_images != "text_only" or not wrong:
            bad |= wrong
            return rows
        warnings.warn(
            f"{len(wrong):,} of {len(rows):,} rows are read as text only: {rows.reasons(wrong)}.", stacklevel=3
        )
        without = np.zeros(len(rows), dtype=bool)
        without[list(wrong)] = True
        digest.update(without.tobytes())
        images = pc.if_else(pa.array(without), pa.scalar(None, column.type), column)
        table = rows.data.data.table.set_column(rows.data.column_names.index("image"), "image", images)
        changed = rows.with_table(table, digest.hexdigest())
        changed.pictures = rows.pictures
        return changed

    def _check_ids(self, rows: Rows) -> None:
        if self.id is None:
            return
        # Files of different splits may number their rows alike; rows of one table may not, whatever their split.
        ids = rows.data.data.column("id")
        for group in [np.arange(len(rows))] if self.split_column else rows.parts.values():
            own = ids if len(group) == len(rows) else ids.take(pa.array(group))
            if pc.count_distinct(own).as_py() == len(own):
                continue
            places: dict[str, list[int]] = {}
            for row, identity in zip(group.tolist(), Cells(own), strict=True):
                places.setdefault(identity, []).append(row)
            repeated = {identity: found for identity, found in places.items() if len(found) > 1}
            listed = ", ".join(map(repr, list(repeated)[:5])) + (", …" if len(repeated) > 5 else "")
            count = f"{len(repeated)} ids occur" if len(repeated) > 1 else "an id occurs"
            first = " and ".join(map(rows.where, next(iter(repeated.values()))[:2]))
            raise ValueError(
                f"{count} more than once in column {self.id!r}: {listed} (the first in {first}). Make them unique, or "
                "leave `id:` out to number the rows."
            )


def report_conflicts(rows: Rows, heads: list[HeadColumn], values: dict[str, list[Any]]) -> None:
    """Warn of rows that share their input, the same text and picture file, but not their labels (`values`)."""
    keys = np.fromiter(map(hash, rows.inputs()), dtype=np.int64, count=len(rows))
    _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
    recurring = np.flatnonzero(counts[group] > 1)  # only what shares its hash with another row is held and compared
    if not len(recurring):
        return
    same: dict[Any, list[int]] = {}
    for row, given in zip(recurring.tolist(), rows.inputs(recurring), strict=True):
        same.setdefault(given, []).append(row)
    conflicting, names = set(), []
    for head in heads:
        if not head.rules.has_labels:  # a number measured twice differs without contradicting
            continue
        labels = values[head.name]
        found = [
            row
            for places in same.values()
            if len({str(sorted(v) if isinstance(v, list) else v) for v in (labels[p] for p in places) if v is not None})
            > 1
            for row in places
        ]
        if found:
            conflicting.update(found)
            names.append(head.name)
    if names:
        shown = "; ".join(map(rows.where, sorted(conflicting)[:4])) + ("; …" if len(conflicting) > 4 else "")
        warnings.warn(
            f"{len(conflicting)} rows share their input with another row but not their label of {', '.join(names)} "
            f"({shown}). They are kept, though at most one answer can be right; `hfk data profile` lists them.",
            stacklevel=2,
        )


def split_name(name: str) -> str:
    """The canonical name of a split, train, validation or test, by the word in a name: `dev`, `1.Training`, `학습`.

    Raises:
        ValueError: if it holds none of their names, or several.
    """
    words = map(str.lower, re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[가-힣]+", canonical(str(name))))
    splits = {_SPLIT_NAMES[word] for word in words if word in _SPLIT_NAMES}
    if len(splits) != 1:
        raise ValueError(f"{name!r} is no split; use train, validation or test.")
    return splits.pop()


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
    files: dict[str, list[Path]] = {}
    for split, paths in named.items():
        listed = [paths] if isinstance(paths, (str, Path)) else list(paths or [])
        for path in (Path(folder or "") / Path(path).expanduser() for path in listed):
            check_file(path)
            if (path / "dataset_dict.json").is_file():
                for own in json.loads((path / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]:
                    files.setdefault(split_name(own) if split == WHOLE else split, []).append(path / own)
            else:
                files.setdefault(split, []).append(path)
    if not any(files.values()):
        raise ValueError("data names no file.")
    return files


def read_files(files: dict[str, list[Path]], join: Sequence[tuple[Path, str]] = (), **reading: Any) -> list[RawTable]:
    """Tables from files; picture paths in them are relative to each file's folder.

    Args:
        files: files by split.
        join: further tables, and the column by which their rows are found: theirs are more columns.
        **reading: as for `tables.layout`.
    """

    def read(path: Path) -> Iterator[Chunk]:
        chunks = iter_columns(path, **reading)
        for other, key in join:
            chunks = _joined(chunks, path.name, other, key)
        return _some_rows(chunks, path.name)

    return [
        RawTable(path.name, partial(read, path), path.parent, split) for split, paths in files.items() for path in paths
    ]


def _some_rows(chunks: Iterator[Chunk], file: str) -> Iterator[Chunk]:
    """A table's chunks; one without a row is said."""
    empty = True
    for chunk in chunks:
        empty = empty and not len(next(iter(chunk.values()), ()))
        yield chunk
    if empty:
        warnings.warn(f"{file} has a header and no rows.", stacklevel=2)


def _joined(chunks: Iterator[Chunk], file: str, path: Path, key: str) -> Iterator[Chunk]:
    """A table's chunks with the columns of another, which is held in memory; cells of rows that it lacks are None."""
    (other,) = iter_columns(path, chunk_rows=sys.maxsize)
    keys = [whole_number(label_name(cell)) for cell in other.pop(key, ())]
    places = {identity: place for place, identity in enumerate(keys)}
    if not keys or len(places) < len(keys):
        raise ValueError(
            f"{path.name} "
            + (f"has {max(keys, key=keys.count)!r} twice in column {key!r}" if keys else f"has no {key!r}")
        )
    absent = 0
    for chunk in chunks:
        taken = [name for name in other if name in chunk]
        if key not in chunk or taken:
            what = f"a column {taken[0]!r} as {path.name} has" if taken else f"no column {key!r} to join {path.name} by"
            raise ValueError(f"{file} has {what}; it has: {', '.join(chunk)}.")
        found = [places.get(whole_number(label_name(cell))) for cell in chunk[key]]
        absent += found.count(None)
        yield chunk | {
            name: [None if place is None else cells[place] for place in found] for name, cells in other.items()
        }
    if absent:
        warnings.warn(
            f"{absent:,} rows of {file} have no row of {path.name}; their cells of it are empty.", stacklevel=2
        )


def file_stamps(files: dict[str, list[Path]]) -> list[list[Any]]:
    """What identifies the files' present contents: split, path, size and modification time."""
    stamps = []
    for split, paths in files.items():
        for path in paths:
            found = path.stat()
            stamps.append([split, str(path.resolve()), found.st_size, found.st_mtime_ns])
    return stamps


def _labels(head: HeadColumn, cells: list[Any], bad: dict[int, str], only_known: bool) -> list[Any]:
    """A head's clean labels; of cells that are none, or unknown ones, the reason is noted."""
    labels = []
    try:
        labels = clean_labels(head, cells, str)
    except ValueError:
        for position, cell in enumerate(cells):
            try:
                labels += clean_labels(head, [cell], lambda _: "")
            except ValueError as error:
                labels.append(None)
                bad.setdefault(position, str(error).removeprefix(": ").rstrip("."))
    known = head.labels if head.labels is not None else head.known
    if only_known and known is not None and head.min_rows == 1 and not head.qualify:
        for position, value in enumerate(labels):
            unknown = {value} if isinstance(value, str) else set(value or ()) if head.several else set()
            for label in sorted(unknown.difference(known))[:1]:
                bad.setdefault(position, f"{label!r} is not one of the {len(known)} labels of head {head.name!r}")
    if head.rules.exclusive:
        labels = [json.dumps(value) if isinstance(value, list) else value for value in labels]
    return labels
