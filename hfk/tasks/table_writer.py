"""`TableWriter`: a table on disk, written chunk by chunk, that hfk, Excel and other programs read again.

CSV gets a byte order mark, always: without one Excel shows Korean as gibberish, and what reads CSV in Python, R or SQL
skips it. Its lines end as RFC 4180 says, so that a lone carriage return in a cell is quoted. A cell that a spreadsheet
would run as a formula gets a quote before it; Parquet and JSONL keep every cell as it is.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_SHEET_ROWS, _SHEET_CHARACTERS = 1_048_576, 32_767  # what Excel takes, in a sheet and in a cell


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

    Args:
        path: the file to write, format by suffix: .csv, .tsv, .jsonl (each also .gz), .parquet or .xlsx.
        numbers: columns that hold floats, whatever the first chunk looks like; Parquet needs to know.

    Raises:
        ValueError: for another suffix, a missing folder, or a chunk whose columns or types differ from the first's.

    Example:
        >>> with TableWriter("predictions.csv") as writer:  # doctest: +SKIP
        ...     writer.write(frame)
    """

    def __init__(self, path: str | Path, numbers: Collection[str] = ()) -> None:
        self.path = Path(path)
        self.numbers = frozenset(numbers)
        self.kind = written_format(self.path)
        if not self.path.parent.is_dir():
            raise ValueError(f"the folder of {self.path} does not exist; create it first.")
        if self.path.is_dir():
            raise ValueError(f"{self.path} is a directory; name a file to write.")
        self.rows = 0
        self._columns: list[str] | None = None
        self._schema: pa.Schema | None = None
        self._file: Any = None
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def __enter__(self) -> TableWriter:
        if self.kind == ".xlsx":
            self._book = import_openpyxl(self.path.name).Workbook(write_only=True)
            self._sheet = self._book.create_sheet()
        elif self.kind != ".parquet":
            opened = gzip.open if self.path.suffix.lower() == ".gz" else open
            encoding = "utf-8-sig" if self.kind == ".csv" else "utf-8"
            self._file = opened(self._part, "wt", encoding=encoding, errors="replace", newline="")
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
        rows = zip(*data, strict=True)
        if self.kind == ".parquet":
            self._write_parquet(columns, data)
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
        if self._file is not None:
            self._file.close()
        if self.kind == ".xlsx":
            self._book.save(self._part)  # which closes it, wanted or not
        if kind is not None or self._columns is None:
            self._part.unlink(missing_ok=True)
            if kind is None:
                raise ValueError(f"{self.path.name}: nothing was written, so no file was made.")
            return
        os.replace(self._part, self.path)

    def _write_sheet(self, rows: list[list[Any]]) -> None:
        openpyxl = import_openpyxl(self.path.name)
        if self.rows + len(rows) > _SHEET_ROWS:
            raise ValueError(f"{self.path.name}: a sheet holds {_SHEET_ROWS:,} rows at most; write .csv instead.")
        for row in rows:
            cells = []
            for name, value in zip(self._columns, row, strict=True):
                value = None if value is None else _cell(value)
                if isinstance(value, str):
                    if len(value) > _SHEET_CHARACTERS:
                        raise ValueError(
                            f"{self.path.name}: a text of column {name!r} is longer than a sheet's cell "
                            f"({_SHEET_CHARACTERS:,} characters); write .csv instead."
                        )
                    value = openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub(" ", value)
                    value = openpyxl.cell.WriteOnlyCell(self._sheet, value)
                    value.data_type = "s"  # text, though it may begin with "="
                cells.append(value)
            self._sheet.append(cells)

    def _write_parquet(self, columns: list[str], data: list[list[Any]]) -> None:
        if self._schema is None:
            types = [pa.infer_type(values) for values in data]
            # A first chunk of Nones says nothing of the type; text can hold whatever comes later.
            types = [pa.string() if pa.types.is_null(kind) else kind for kind in types]
            types = [pa.float64() if n in self.numbers else kind for n, kind in zip(columns, types, strict=True)]
            self._schema = pa.schema(list(zip(columns, types, strict=True)))
            self._file = pq.ParquetWriter(self._part, self._schema)
        arrays = []
        for field, values in zip(self._schema, data, strict=True):
            if pa.types.is_string(field.type):
                values = [value if value is None else str(_cell(value)) for value in values]
            try:
                arrays.append(pa.array(values, type=field.type))
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ValueError(
                    f"{self.path.name}: column {field.name!r} began as {field.type} and now holds something else; "
                    "write .csv or .jsonl instead."
                ) from error
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))


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
