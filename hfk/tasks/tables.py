"""Tables as they lie on disk, read whole or in chunks: text with any delimiter, JSON, Parquet, Excel, `save_to_disk`.

What a file is, its contents say; its name only decides between readings that fit alike. `layout` says how a table is
read, for people too. Cells stay what they were: "007" in a CSV is the text "007", numbers in Parquet are numbers, an
empty CSV cell is None, and words such as "none" or "NA" are words; that is why `pandas.read_csv`, which guesses types,
does not read here. Columns of objects are taken apart (`labels.score`; of lists of objects into lists), and codes that
carry their names, as `datasets` writes them, are read as names. Every frame has dtype object.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import itertools
import json
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .delimited import DELIMITERS, SHOWN, Cut, below_titles, fit, look, open_lines, read_text, records
from .names import canonical
from .table_writer import import_openpyxl

READING = ("header", "delimiter", "quoting", "encoding", "sheet")
"""How a table is read, where it can't be seen: options of whatever reads one here, and keys of a task's YAML."""
_JSON = re.compile(r"\s*(?:\{\s*[\"}]|\[\s*[\[\]{])")
DEEPEST = 64
"""Lists and objects inside each other that a line of JSON may have; a deeper one is a row without cells."""
_BINARY = {
    b"\xd0\xcf\x11\xe0": "a file of an old Excel, of Word or of Hangul; save its table as .xlsx or CSV",
    b"%PDF": "a PDF; save its table as CSV",
    b"\xff\xd8\xff": "a picture",
    b"\x89PNG": "a picture",
    b"SQLite format 3": "a database; export its table as CSV",
    b"\x80": "a pickle, which could run any code when it is read; write CSV or Parquet",
    b"<": "a web page or XML, whatever its name says; open it in Excel, and save it as .xlsx or CSV",
}

Chunk = dict[str, list[Any]]
"""Some rows of a table: column → cells."""


@dataclass
class Layout:
    """How a table is read.

    Args:
        kind: `text`, `json`, `parquet`, `sheet` or `dataset`.
        columns: their names.
        said: for people, such as "tab-separated, no quoting, UTF-16"; empty where there is nothing to say.
        rows: how many there are, where that is known before they are read.
        settings: what a task's YAML should say about it, such as `{"header": False}`.
        encoding: of text.
        cut: how text is cut into cells.
    """

    kind: str
    columns: list[str] = field(default_factory=list)
    said: str = ""
    rows: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    encoding: str = ""
    cut: Cut | None = None


def read_table(path: str | Path, **reading: Any) -> pd.DataFrame:
    """Read a whole table as a frame of dtype object; missing cells are None. See `iter_columns`."""
    columns: Chunk = {}
    for chunk in iter_columns(path, **reading):
        for name, cells in chunk.items():
            columns.setdefault(name, []).extend(cells)
    return pd.DataFrame(columns, dtype=object)


def iter_columns(path: str | Path, chunk_rows: int = 8192, **reading: Any) -> Iterator[Chunk]:
    """Read a table in chunks of bounded memory; only a JSON document is parsed whole.

    Args:
        path: the file, text gzipped or not; or a folder of `Dataset.save_to_disk`.
        chunk_rows: rows a chunk, at least 1.
        **reading: as for `layout`.

    Yields:
        Column → cells; the same columns in every chunk. A table with columns and no rows yields one chunk of none.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it can't be read, naming the line; or has ragged rows or repeated columns.
    """
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, not {chunk_rows}.")
    path, how = Path(path), layout(path, **reading)
    if how.kind in ("parquet", "dataset"):
        blocks = _parquet_blocks(path, chunk_rows) if how.kind == "parquet" else _dataset_blocks(path, chunk_rows)
        return (dict(zip(how.columns, block, strict=True)) for block in blocks)
    if how.kind == "text":
        rows = _text_rows(path, how, reading.get("ragged"))
    elif how.kind == "sheet":
        rows = _sheet_rows(path, how, reading.get("sheet"))
    else:
        rows = ([record.get(name) for name in how.columns] for _, record in _json_records(path, how.encoding))
    return _chunks(how.columns, rows, chunk_rows)


def check_file(path: str | Path) -> None:
    """Refuse a table that doesn't exist, is a directory (but for those of `save_to_disk`) or is empty."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; check the path.")
    if path.is_dir():
        if not is_saved_dataset(path):
            raise ValueError(f"{path} is a directory; give the table file itself.")
    elif path.stat().st_size == 0:
        raise ValueError(f"{path.name} is empty (0 bytes); it needs a header and rows.")


def is_saved_dataset(path: str | Path) -> bool:
    """Whether a folder was written by `save_to_disk` of `datasets`."""
    return any((Path(path) / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))


def layout(path: str | Path, **reading: Any) -> Layout:
    """Find out how a table is read; text is looked at to its end, within bounded memory.

    Args:
        path: as for `iter_columns`.
        **reading: what is known: `header` (False if the first line is a row: columns are then called 0, 1, …; or the
            number of the header's line, from 1), `delimiter`, `quoting` (whether quotes enclose cells), `encoding`, of
            a workbook `sheet` (its name, or its number from 1); and `ragged`: what a line of another width than the
            header is, an `error` (the default) or `empty`, a row without cells.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it can't be read, naming the line.

    Example:
        >>> layout("reviews.tsv").said  # doctest: +SKIP
        'tab-separated, no quoting'
    """
    path = Path(path)
    check_file(path)
    for name in reading:
        if name not in (*READING, "ragged"):
            raise ValueError(f"{name!r} is no way to read a table; ways: {', '.join(READING)}.")
    header, quoting, delimiter = (reading.get(name) for name in ("header", "quoting", "delimiter"))
    if not (header is None or isinstance(header, bool) or (isinstance(header, int) and header > 0)):
        raise ValueError(f"header: {header!r} must be false, or the number of the header's line, from 1.")
    if not (quoting is None or isinstance(quoting, bool)):
        raise ValueError(f"quoting: {quoting!r} must be true or false: whether quotes enclose cells.")
    if not (delimiter is None or (isinstance(delimiter, str) and delimiter)):
        raise ValueError(f"delimiter: {delimiter!r} must be a sign, such as ';' or 'tab'.")
    reading["delimiter"] = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    known = tuple(sorted((name, value) for name, value in reading.items() if value is not None))
    if path.is_dir():
        return _dataset_layout(path)
    found = path.stat()
    return _file_layout(path.absolute(), (found.st_size, found.st_mtime_ns, found.st_ino), known)


@functools.lru_cache(maxsize=64)
def _file_layout(path: Path, _: tuple[int, ...], known: tuple[tuple[str, Any], ...]) -> Layout:
    """The layout of a file as it is now, looked for once."""
    reading = dict(known)
    ragged, sheet, encoding = (reading.pop(name, None) for name in ("ragged", "sheet", "encoding"))
    with path.open("rb") as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, what in _BINARY.items():
        if start.startswith(magic) and (magic != b"<" or re.match(rb"<(!doctype|\?xml|html|table|meta)", start, re.I)):
            raise ValueError(f"{path.name} is {what}.")
    if start.startswith(b"PAR1"):
        return _parquet_layout(path)
    if start.startswith(b"PK\x03\x04"):
        _check_zip(path)
        return _sheet_layout(path, sheet, reading.get("header"))

    def look_in(encoding: str) -> Layout:
        start = "".join(itertools.islice(open_lines(path, encoding), 20))
        if _JSON.match(start) or _called(path, ".json", ".jsonl", ".ndjson"):
            return _json_layout(path, encoding)
        return _text_layout(path, encoding, ragged or "error", **reading)

    found = read_text(path, encoding, look_in)
    found.columns = _check_columns(found.columns, path)
    return found


def _check_zip(path: Path) -> None:
    """Say what an archive is that is no workbook."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return
    if "mimetype" in names and "content.xml" in names:
        raise ValueError(f"{path.name} is an OpenDocument file; save it as .xlsx or CSV.")
    if "word/document.xml" in names or "ppt/presentation.xml" in names:
        raise ValueError(f"{path.name} is a document, not a workbook; save its table as .xlsx or CSV.")
    if "[Content_Types].xml" not in names:
        held = ", ".join(name for name in names[:3] if not name.startswith("__MACOSX"))
        raise ValueError(f"{path.name} is a ZIP archive ({held}{', …' * (len(names) > 3)}); unpack it first.")


def _called(path: Path, *suffixes: str) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(suffixes)


def _check_columns(names: Iterable[str], path: Path) -> list[str]:
    names = list(map(canonical, names))
    if names.count("") > 1:  # one may be the index that pandas wrote
        names = [name or (f"column {place}" if place > 1 else "") for place, name in enumerate(names, 1)]
    for name in [name for name, count in Counter(names).items() if count > 1]:
        places = [place for place, other in enumerate(names) if other == name]
        free = (f"{name} ({number})" for number in itertools.count(2) if f"{name} ({number})" not in names)
        for place, other in zip(places[1:], list(itertools.islice(free, len(places) - 1)), strict=True):
            names[place] = other
        warnings.warn(
            f"{path.name}: {len(places)} columns are called {name!r}; the second is {names[places[1]]!r} here.",
            stacklevel=2,
        )
    return names


def _chunks(columns: list[str], rows: Iterator[list[Any]], chunk_rows: int) -> Iterator[Chunk]:
    first = True
    while block := list(itertools.islice(rows, chunk_rows)):
        yield dict(zip(columns, map(list, zip(*block, strict=True)), strict=True))
        first = False
    if first:
        yield {name: [] for name in columns}


# -------------------------------------------------------------------------------------------------------------- text


def _text_layout(
    path: Path,
    encoding: str,
    ragged: str,
    header: bool | int | None = None,
    delimiter: str | None = None,
    quoting: bool | None = None,
) -> Layout:
    cut = look(path, encoding, delimiter, quoting, header)
    width = len(cut.columns)
    if cut.broken:
        raise ValueError(f"{path.name}, {cut.broken}; mend it, or say `quoting: false` if quotes are text.")
    if cut.wrong and ragged == "error":
        line, cells = cut.ragged[0]
        others = [str(number) for number, _ in cut.ragged[1:]]
        more = f" (likewise line{'s' * (cut.wrong > 2)} {', '.join(others)}{', …' * (cut.wrong > SHOWN)})" * (
            cut.wrong > 1
        )
        raise ValueError(
            f"{path.name}, line {line}: {cells} cells, but the header names {width} columns{more}; put quotes around "
            "cells that contain the separator or a line break; `bad_rows: drop` in a task's YAML leaves such lines out."
        )
    said = ["one column" if cut.delimiter is None else DELIMITERS.get(cut.delimiter, f"separated by {cut.delimiter!r}")]
    said += ["no quoting"] * (cut.quotes and not cut.quoted)
    said += [encoding.removesuffix("-le").removesuffix("-be").upper()] * (not encoding.startswith("utf-8"))
    settings: dict[str, Any] = {}
    if header is False:
        said.append("no header")
    elif header is None and cut.titles:
        said.append(f"header below {cut.titles} line{'s' * (cut.titles > 1)} of titles")
        warnings.warn(
            f"{path.name}: the header is {', '.join(cut.columns)}, and what stands above it is left out.", stacklevel=2
        )
    elif header is None and cut.headless:
        settings["header"] = False
        warnings.warn(
            f"{path.name}: the first line looks like a row, for its cells occur below it too; say `header: false` if "
            "it does not name the columns (they are then called 0, 1, …).",
            stacklevel=2,
        )
    cut.sample.clear()
    return Layout("text", cut.columns, ", ".join(said), cut.rows + cut.wrong, settings, encoding, cut)


def _text_rows(path: Path, how: Layout, ragged: str | None) -> Iterator[list[str | None]]:
    width = len(how.columns)
    lines = records(open_lines(path, how.encoding), how.cut.delimiter, how.cut.quoted)
    for line, cells in itertools.islice(lines, how.cut.skip, None):
        row = fit(cells, width)
        if row is None:
            continue
        if len(row) != width:
            if ragged != "empty":
                raise ValueError(f"{path.name}, line {line}: {len(row)} cells, but the header names {width} columns.")
            row = [""] * width
        yield [cell if cell != "" else None for cell in row]


# -------------------------------------------------------------------------------------------------------------- JSON


def _json_layout(path: Path, encoding: str) -> Layout:
    columns: dict[str, None] = {}  # a key that only later rows have is a column of every chunk
    rows, said = 0, ""
    for said, record in _json_records(path, encoding):  # noqa: B007
        columns.update(dict.fromkeys(record))
        rows += 1
    if not columns:
        raise ValueError(f"{path.name} has no rows; give one JSON object a line.")
    return Layout("json", list(columns), said, rows, encoding=encoding)


def _json_records(path: Path, encoding: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file, each with a word on what the file is: objects a line each, or one document of them."""
    lines = ((number, line) for number, line in enumerate(open_lines(path, encoding), 1) if line.strip())
    start = list(itertools.islice(lines, 2))
    by_line = bool(start) and _called(path, ".jsonl", ".ndjson") and start[0][1][0] == "{"
    if not by_line and len(start) > 1:
        with contextlib.suppress(ValueError, RecursionError):
            by_line = isinstance(json.loads(start[0][1]), dict)
    if by_line:
        for number, line in itertools.chain(start, lines):
            record = _json_line(line, f"{path.name}, line {number}")
            yield "JSON lines", _flat_object(record, f"{path.name}, line {number}")
        return
    try:
        document = json.loads("".join(open_lines(path, encoding)))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name}, line {error.lineno}: not valid JSON ({error.msg}).") from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path.name} is JSON that can't be read: {error}; give one object a line.") from None
    for number, record in enumerate(_rows_of(document), 1):
        yield "JSON", _flat_object(record, f"{path.name}, item {number}")


def _json_line(line: str, where: str) -> Any:
    """The object of a line; an empty one, with a warning, if it is written so as to break whoever reads it."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON ({error.msg}).") from error
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError:
        reason = "a number in it has thousands of digits"
    else:
        if line.count("[") + line.count("{") <= DEEPEST or _depth(record) <= DEEPEST:
            return record
        reason = "it is nested too deeply"
    warnings.warn(f"{where}: {reason}; the row is left without cells.", stacklevel=2)
    return {}


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, list | dict))
        level = list(itertools.chain.from_iterable(inner))
    return depth


def _flat_object(record: Any, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError(f'{where}: expected a JSON object such as {{"text": …}}.')
    return dict(_leaves(record))


def _leaves(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, dict) and value and not set(value) <= {"bytes", "path"}:
            if set(value) == {"choices"}:  # as Label Studio writes several where others have one
                yield canonical(prefix + key), value["choices"]
            else:
                yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(v, dict) and v and "bytes" not in v for v in value):
            parts: dict[str, list[Any]] = {}
            for name, cell in itertools.chain.from_iterable(map(_answers, value)):
                parts.setdefault(name, []).extend(cell if isinstance(cell, list) else [cell])
            yield from ((canonical(f"{prefix}{key}.{name}"), cells) for name, cells in parts.items())
        else:
            yield canonical(prefix + key), value or None if isinstance(value, dict) else value


def _answers(item: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The leaves of an object in a list, under the name of the question that Label Studio says it answers."""
    asked = item.get("from_name")
    if not isinstance(asked, str):
        return _leaves(item)
    return _leaves({key: value for key, value in item.items() if key != "from_name"}, f"{asked}.")


def _rows_of(document: Any) -> list[Any]:
    """The rows of a JSON document: a list, a list under a key, lists or objects by column, or objects by key."""
    if isinstance(document, list) or not isinstance(document, dict):
        return document if isinstance(document, list) else [document]
    names, values = list(document), list(document.values())
    if {"columns", "data"} <= set(names) and all(isinstance(row, list) for row in document["data"]):
        return [dict(zip(document["columns"], row, strict=False)) for row in document["data"]]
    tables = [value for value in values if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(tables) < len(names) and all(isinstance(v, list) for v in values) and len(set(map(len, values))) == 1:
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    if tables:
        return max(tables, key=len)
    objects = [value for value in values if isinstance(value, dict)]
    if len(objects) == len(names) > 0:
        keys = list(objects[0])
        if all(key.isdecimal() for key in keys) and all(list(column) == keys for column in objects):
            return [{name: column[key] for name, column in document.items()} for key in keys]
        nested = [rows for rows in map(_rows_of, objects) if len(rows) > 1]
        return max(nested, key=len) if nested else [{"key": name, **value} for name, value in document.items()]
    nested = [rows for rows in map(_rows_of, objects) if len(rows) > 1]
    return max(nested, key=len) if nested else [document]


# --------------------------------------------------------------------------------------- Parquet and saved data sets


def _parquet_layout(path: Path) -> Layout:
    try:
        schema = pq.read_schema(path)
        rows = pq.read_metadata(path).num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path.name} is no whole Parquet file; write or copy it again.") from error
    names = [name for name, _ in _flat_columns(schema.empty_table())]
    return Layout("parquet", _check_columns(names, path), "Parquet", rows)


def _parquet_blocks(path: Path, chunk_rows: int) -> Iterator[list[list[Any]]]:
    with pq.ParquetFile(path) as file:
        features = _features(file.schema_arrow)
        batches = map(pa.Table.from_batches, ([batch] for batch in file.iter_batches(batch_size=chunk_rows)))
        for table in batches if file.metadata.num_rows else [file.schema_arrow.empty_table()]:
            yield [_named(features.get(name), _cells(column)) for name, column in _flat_columns(table)]


def _cells(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python objects; bytes that are no UTF-8 in a column of texts become U+FFFD."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        cells = column.cast(pa.large_binary()).to_pylist()
        return [None if cell is None else cell.decode("utf-8", "replace") for cell in cells]


def _saved(path: Path) -> datasets.Dataset:
    """A folder's data set; of several splits, one after the other."""
    saved = datasets.load_from_disk(str(path))
    return datasets.concatenate_datasets(list(saved.values())) if isinstance(saved, datasets.DatasetDict) else saved


def _dataset_layout(path: Path) -> Layout:
    saved = _saved(path)
    names = [name for name, _ in _flat_columns(saved.data.table.slice(0, 0))]
    return Layout("dataset", _check_columns(names, path), "a saved data set", len(saved))


def _dataset_blocks(path: Path, chunk_rows: int) -> Iterator[list[list[Any]]]:
    saved = _saved(path).with_format("arrow")
    for start in range(0, max(1, len(saved)), chunk_rows):
        table = saved[start : start + chunk_rows] if len(saved) else saved.data.table
        yield [_named(saved.features.get(name), column.to_pylist()) for name, column in _flat_columns(table)]


def _flat_columns(table: pa.Table, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A table's columns; those of objects, pictures aside, as one column a key: `labels.score`."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_struct(column.type) and not {part.name for part in column.type} <= {"bytes", "path"}:
            parts = {part.name: pc.struct_field(column, [place]) for place, part in enumerate(column.type)}
            yield from _flat_columns(pa.table(parts), f"{prefix}{name}.")
        else:
            yield prefix + name, column


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    try:
        return datasets.Features.from_arrow_schema(schema) if b"huggingface" in (schema.metadata or {}) else {}
    except (ValueError, KeyError, TypeError):  # of a later version of datasets; codes then stay codes
        return {}


def _named(feature: Any, cells: list[Any]) -> list[Any]:
    """The cells of a column, names in place of a `ClassLabel`'s codes."""
    if isinstance(feature, datasets.ClassLabel):
        names = feature.names
        return [names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else None for cell in cells]
    if isinstance(feature, datasets.List) and isinstance(feature.feature, datasets.ClassLabel):
        return [None if cell is None else _named(feature.feature, cell) for cell in cells]
    return cells


# ------------------------------------------------------------------------------------------------------------- sheets


def _sheet_layout(path: Path, sheet: str | int | None, header: bool | int | None) -> Layout:
    merged: list[_Merged] = []
    rows = _sheet_cells(path, sheet, merged)
    start = list(itertools.islice(rows, 50))
    if isinstance(header, int) and not isinstance(header, bool):
        first = place = header - 1
    else:
        first = next((number for number, row in enumerate(start) if row), len(start))
        width = max(map(len, start), default=0)
        padded = [row + [None] * (width - len(row)) for row in start]
        place = first if header is False else below_titles(padded, first, cells=True)
        grouped = any(one.row == place + 1 < len(start) and one.wide for one in merged)
        if header is not False and grouped and all(isinstance(cell, str) for cell in padded[place + 1]):
            place += 1  # what stands above are names of groups of columns
    if place >= len(start):
        raise ValueError(f"{path.name} has no header: a row of its sheet must name the columns.")
    if header is False:
        names, skip = map(str, range(max(map(len, start)))), first
    else:
        names, skip = [_sheet_text(cell) for cell in start[place]], place + 1
    said = "Excel" + (f", header in row {place + 1}" if place and header is not False else "")
    return Layout("sheet", _check_columns(names, path), said, cut=Cut(None, False, skip=skip))


def _sheet_rows(path: Path, how: Layout, sheet: str | int | None) -> Iterator[list[Any]]:
    width, blank = len(how.columns), 0
    for number, row in itertools.islice(enumerate(_sheet_cells(path, sheet), 1), how.cut.skip, None):
        if not row:
            blank += 1  # of no meaning at the end of a sheet; a row like others before its end
            continue
        if len(row) > width:
            raise ValueError(
                f"{path.name}, row {number}: a cell stands beyond the {width} columns that the header names."
            )
        yield from [[None] * width] * blank
        blank = 0
        yield row + [None] * (width - len(row))


class _Merged(NamedTuple):
    """Cells of a sheet that are one: the first's row and column, from 1, and how many more rows and columns."""

    row: int
    column: int
    tall: int
    wide: int


def _merged(sheet: Any) -> Iterator[_Merged]:
    """What is merged in a sheet; a workbook that is read as it goes says so after all rows, and openpyxl not at all."""
    with sheet._get_source() as source:
        before = b""
        while block := source.read(1 << 20):
            seen = before + block
            for found in re.finditer(rb'<mergeCell ref="([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})"', seen):
                left, top, right, bottom = found.groups()
                columns = [functools.reduce(lambda sum, sign: 26 * sum + sign - 64, name, 0) for name in (left, right)]
                yield _Merged(int(top), columns[0], int(bottom) - int(top), columns[1] - columns[0])
            before = seen[-64:] if b"<mergeCell " in seen[-64:] else b""


def _sheet_cells(path: Path, sheet: str | int | None, merged: list[_Merged] | None = None) -> Iterator[list[Any]]:
    """The rows of a workbook's sheet, each to its last cell that isn't empty; `merged` is told what is one cell."""
    openpyxl, broken = import_openpyxl(path.name), f"{path.name} is not a whole XLSX workbook"
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    except Exception as error:  # openpyxl lets through whatever a broken workbook makes its parsers raise
        raise ValueError(f"{broken} ({type(error).__name__}).") from None
    with contextlib.closing(book):
        names = [own.title for own in book.worksheets]
        place = names.index(sheet) if sheet in names else int(sheet or 1) - 1 if str(sheet or 1).isdecimal() else -1
        if not 0 <= place < len(names):
            raise ValueError(f"{path.name} has no sheet {sheet or 1!r}; it has: {', '.join(names) or 'none of cells'}.")
        if sheet is None and len(names) > 1:
            warnings.warn(
                f"{path.name}: its first sheet is read, {names[0]!r}; it has {', '.join(map(repr, names[1:]))} too: "
                "`sheet: 2` in a task's YAML, or `--read sheet=2`, names another.",
                stacklevel=2,
            )
        own = book.worksheets[place]
        own.reset_dimensions()  # what the file claims of itself may be anything
        try:
            ones = list(dict.fromkeys(_merged(own)))
        except Exception as error:  # see above
            raise ValueError(f"{broken} ({type(error).__name__}).") from None
        if merged is not None:
            merged += ones
        cells, tall, held = own.iter_rows(values_only=True), [one for one in ones if one.tall], {}
        for number in itertools.count(1):
            try:
                row = [_sheet_cell(cell) for cell in next(cells)]
            except StopIteration:
                return
            except Exception as error:  # see above
                raise ValueError(f"{broken} ({type(error).__name__}).") from None
            for one in tall:  # a workbook holds a merged cell's value in its first row only
                if one.row <= number <= one.row + one.tall:
                    row += [None] * (one.column - len(row))
                    held.setdefault(one, row[one.column - 1])
                    row[one.column - 1] = held[one]
            while row and row[-1] is None:
                row.pop()
            yield row


def _sheet_cell(cell: Any) -> Any:
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        cell = cell.date()
    if isinstance(cell, (datetime.date, datetime.time)):
        return str(cell)
    return None if cell == "" else cell


def _sheet_text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()
