"""`TableWriter`: a table on disk, written chunk by chunk, that hfk, Excel and other programs read again.

CSV gets a byte order mark, always: without one Excel shows Korean as gibberish, and what reads CSV in Python, R or SQL
skips it. Its lines end as RFC 4180 says, so that a lone carriage return in a cell is quoted. A cell that a spreadsheet
would run as a formula gets a quote before it; Parquet and JSONL keep every cell as it is. The same chunks make the same
bytes, but for XLSX, which holds the time. A cell that a format can't hold costs itself only, where there is a column
that says so.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import gzip
import io
import json
import math
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..files import replacing

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_SHEET_ROWS, _SHEET_CHARACTERS = 1_048_576, 32_767  # what Excel takes, in a sheet and in a cell
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_REPLACED = "half of a surrogate pair is replaced by U+FFFD"
_UNFIT = (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError)  # what Arrow says of a cell


def written_format(path: Path) -> str:
    """The format that a file's name asks for, a trailing `.gz` aside: one of `FORMATS`.

    Raises:
        ValueError: if it is none that is written here.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if packed else suffixes)[-1:] or [""]
    suffix = {".ndjson": ".jsonl", ".tab": ".tsv", ".pq": ".parquet"}.get(suffix[0], suffix[0])
    if suffix == ".json":
        raise ValueError(f"{path.name}: write a .jsonl file instead; a .json list can't be written in chunks.")
    if suffix not in FORMATS or (packed and suffix in (".parquet", ".xlsx")):
        raise ValueError(
            f"{path.name} is no table that hfk writes; give .csv, .tsv, .jsonl (each also .gz), .parquet or .xlsx."
        )
    return suffix


def guard(cell: Any) -> Any:
    """Quote a text that a spreadsheet would take for a formula; numbers stay numbers.

    Example:
        >>> guard("=1+1"), guard("-3.5"), guard("바다")
        ("'=1+1", '-3.5', '바다')
    """
    if not isinstance(cell, str) or not cell.startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


class TableWriter:
    """Write a table chunk by chunk; the file appears under its name only when all of it is written.

    Chunks go to a hidden file beside the target, which is renamed when the `with` block ends well and removed when it
    ends with an error. Lists and dicts become JSON text in CSV, TSV and XLSX; None becomes an empty cell there.
    Half of a surrogate pair becomes U+FFFD everywhere.

    Args:
        path: the file to write, format by suffix: .csv, .tsv, .jsonl (each also .gz), .parquet or .xlsx.
        numbers: columns that hold floats, whatever the first chunk looks like; Parquet needs to know.
        reasons: the column that says what is wrong with a row. What the format can't hold is left out or cut, and it is
            said there: in Parquet whole numbers beyond 64 bits, and what is of another type than the first chunk; in
            XLSX texts beyond a cell.

    Attributes:
        rows: how many were written.
        bad_rows: how many of them have a reason.

    Raises:
        ValueError: for another suffix, a missing folder, or a chunk whose columns differ from the first's; without
            `reasons` also for what the format can't hold.

    Example:
        >>> with TableWriter("predictions.csv") as writer:  # doctest: +SKIP
        ...     writer.write(frame)
    """

    def __init__(self, path: str | Path, numbers: Collection[str] = (), reasons: str | None = None) -> None:
        self.path = Path(path)
        self.numbers = frozenset(numbers)
        self.reasons = reasons
        self.kind = written_format(self.path)
        if not self.path.parent.is_dir():
            raise ValueError(f"the folder of {self.path} does not exist; create it first.")
        if self.path.is_dir():
            raise ValueError(f"{self.path} is a directory; name a file to write.")
        self.rows = self.bad_rows = 0
        self._columns: list[str] | None = None
        self._schema: pa.Schema | None = None
        self._file: Any = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> TableWriter:
        self._part = self._stack.enter_context(replacing(self.path))
        if self.kind == ".xlsx":
            self._book = import_openpyxl(self.path.name).Workbook(write_only=True)
            self._sheet = self._book.create_sheet()
        elif self.kind != ".parquet":
            file: Any = self._stack.enter_context(open(self._part, "wb"))
            if self.path.suffix.lower() == ".gz":  # without the name and the time that gzip.open puts into it
                file = self._stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
            encoding = "utf-8-sig" if self.kind == ".csv" else "utf-8"
            self._file = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
        return self

    def write(self, chunk: pd.DataFrame) -> None:
        """Append a chunk.

        Args:
            chunk: rows with the same columns, in the same order, as the first chunk.
        """
        columns = [str(name) for name in chunk.columns]
        first = self._columns is None
        if first:
            self._columns = columns
        elif columns != self._columns:
            raise ValueError(f"{self.path.name}: a chunk has columns {columns}, the first one had {self._columns}.")
        data = [[_plain(value) for value in chunk[name]] for name in chunk.columns]
        self._mend(columns, data)
        rows = zip(*data, strict=True)
        if self.kind == ".parquet":
            self._write_parquet(data)
        elif self.kind == ".jsonl":
            for row in rows:
                line = json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False, default=str)
                self._file.write(line + "\n")
        elif self.kind == ".xlsx":
            self._write_sheet([columns] * first + [list(row) for row in rows])
        else:
            writer = csv.writer(self._file, delimiter="\t" if self.kind == ".tsv" else ",", lineterminator="\r\n")
            writer.writerows([guard(_cell(value)) for value in row] for row in [*[columns] * first, *rows])
        self.rows += len(chunk)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._file is not None:
                self._file.close()
            if self.kind == ".xlsx":
                self._book.save(self._part)  # which closes it, wanted or not
            if kind is None and self._columns is None:
                raise ValueError(f"{self.path.name}: nothing was written, so no file was made.")
        except BaseException as own:
            self._stack.__exit__(type(own), own, own.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def _mend(self, columns: list[str], data: list[list[Any]]) -> None:
        """Make of cells that the format can't hold some that it can, and say so in the column of reasons."""
        wrong: dict[int, list[str]] = {}
        for name, cells in zip(columns, data, strict=True):
            for row, cell in enumerate(cells):
                cells[row], reason = self._fit(cell)
                if reason and not (reason == _REPLACED and self.reasons is None):
                    wrong.setdefault(row, []).append(f"column {name!r}: {reason}")
        if self.kind == ".parquet":
            self._schema = self._schema or self._find_schema(columns, data)
            for field, cells in zip(self._schema, data, strict=True):
                for row, cell in _misfits(cells, field.type):
                    cells[row] = None
                    reason = f"{str(cell)[:40]!r} is no {field.type} like what came first, and is left out"
                    wrong.setdefault(row, []).append(f"column {field.name!r}: {reason}")
        if self.reasons is not None:
            cells = data[columns.index(self.reasons)]
            for row, found in wrong.items():
                cells[row] = "; ".join([*([cells[row]] if cells[row] else []), *found])
            self.bad_rows += sum(cell is not None for cell in cells)
        elif wrong:
            row, (reason, *_) = min(wrong.items())
            raise ValueError(f"{self.path.name}, row {self.rows + row + 1}, {reason}; write .csv or .jsonl instead.")

    def _fit(self, cell: Any) -> tuple[Any, str]:
        """A cell as something that the format knows, its text encodable and not too long; and what was done to it."""
        if isinstance(cell, (list, tuple, dict)) and self.kind in (".csv", ".tsv", ".xlsx"):
            cell = _cell(cell)
        if self.kind == ".xlsx" and not _is_of_sheets(cell):
            cell = str(cell)
        if not isinstance(cell, str):
            return cell, ""
        if self.kind == ".xlsx" and len(cell) > _SHEET_CHARACTERS:
            reason = f"a text is longer than a sheet's cell, and is cut to {_SHEET_CHARACTERS:,} characters"
            return _HALF_PAIR.sub("\ufffd", cell[:_SHEET_CHARACTERS]), reason
        if cell.isascii() or not _HALF_PAIR.search(cell):
            return cell, ""
        return _HALF_PAIR.sub("\ufffd", cell), _REPLACED

    def _write_sheet(self, rows: list[list[Any]]) -> None:
        openpyxl = import_openpyxl(self.path.name)
        if self.rows + len(rows) > _SHEET_ROWS:
            raise ValueError(f"{self.path.name}: a sheet holds {_SHEET_ROWS:,} rows at most; write .csv instead.")
        for row in rows:
            cells = []
            for value in row:
                if isinstance(value, str):
                    value = _NO_XML.sub(" ", value)
                    value = openpyxl.cell.WriteOnlyCell(self._sheet, value)
                    value.data_type = "s"  # text, though it may begin with "="
                cells.append(value)
            self._sheet.append(cells)

    def _find_schema(self, columns: list[str], data: list[list[Any]]) -> pa.Schema:
        types = []
        for name, cells in zip(columns, data, strict=True):
            try:
                kind = pa.infer_type([cell for cell in cells if not _is_huge(cell)])
            except _UNFIT:  # such as numbers and texts in one column
                kind = pa.string()
            # A first chunk of Nones says nothing of the type; text can hold whatever comes later.
            kind = pa.string() if pa.types.is_null(kind) else kind
            types.append(pa.float64() if name in self.numbers else kind)
        return pa.schema(list(zip(columns, types, strict=True)))

    def _write_parquet(self, data: list[list[Any]]) -> None:
        if self._file is None:
            self._file = pq.ParquetWriter(self._part, self._schema)
        arrays = [_arrow(cells, field.type) for field, cells in zip(self._schema, data, strict=True)]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))


def _is_of_sheets(cell: Any) -> bool:
    """Whether a workbook's cell can hold it: no infinity, no bytes, no time with its zone."""
    if isinstance(cell, float):
        return math.isfinite(cell)
    known = (type(None), str, int, datetime.date, datetime.time, datetime.timedelta)
    return isinstance(cell, known) and getattr(cell, "tzinfo", None) is None


def _is_huge(cell: Any) -> bool:
    return isinstance(cell, int) and not -(2**63) <= cell < 2**63


def _arrow(cells: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        cells = [cell if cell is None else _HALF_PAIR.sub("\ufffd", str(_cell(cell))) for cell in cells]
    return pa.array(cells, type=kind)


def _misfits(cells: list[Any], kind: pa.DataType) -> Iterator[tuple[int, Any]]:
    """The cells that a column of this type can't hold, with their places."""
    try:
        _arrow(cells, kind)
    except _UNFIT:
        for row, cell in enumerate(cells):
            try:
                _arrow([cell], kind)
            except _UNFIT:
                yield row, cell


def import_openpyxl(name: str) -> Any:
    """Import openpyxl, which reads and writes workbooks.

    Args:
        name: the workbook, for the sentence that it is missing.
    """
    try:
        import openpyxl
    except ImportError:
        raise ValueError(f'{name} is an Excel workbook: pip install "hfk[excel]", or save it as CSV.') from None
    return openpyxl


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else value
