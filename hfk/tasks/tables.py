"""Tables on disk: CSV, TSV, JSONL, JSON lists and Parquet, read whole or in chunks, and written in chunks.

Cells stay what they were in the file: "007" in a CSV is the text "007", numbers in Parquet are numbers, an empty CSV
cell is None, and words such as "none" or "NA" are words. That is why the csv module reads CSV here and not
`pandas.read_csv`: it guesses no types, it knows the line that it is on, and it notices rows that are too short as well
as rows that are too long. Every frame has dtype object.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import os
import warnings
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
MAX_CELL_CHARACTERS = 64 * 1024 * 1024
_BLOCK_BYTES = 1 << 20

Chunk = dict[str, list[Any]]
"""Some rows of a table: column → cells."""

_END = "\x03 end of table \x03"


def table_format(path: str | Path) -> str:
    """Tell a table's format from its name: one of `FORMATS`, a trailing `.gz` aside.

    Args:
        path: file name.

    Raises:
        ValueError: if the suffix is none that is read here.

    Example:
        >>> table_format("places.csv.gz")
        '.csv'
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    gzipped = bool(suffixes) and suffixes[-1] == ".gz"
    suffix = suffixes[-2] if gzipped and len(suffixes) > 1 else (suffixes[-1] if suffixes else "")
    suffix = {".ndjson": ".jsonl", ".tab": ".tsv", ".pq": ".parquet"}.get(suffix, suffix)
    if suffix not in FORMATS or (gzipped and suffix == ".parquet"):
        raise ValueError(
            f"{path.name} is no table that hfk reads; give .csv, .tsv, .jsonl, .json (each also .gz) or .parquet."
        )
    return suffix


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a whole table.

    Args:
        path: a CSV, TSV, JSONL, JSON (a list of objects) or Parquet file; text formats may be gzipped.

    Returns:
        A frame of dtype object in the file's column and row order; missing cells are None.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a directory, empty, of unknown format or encoding, or has ragged rows or repeated columns.
    """
    chunks = list(iter_table(path, chunk_rows=65536))
    return chunks[0] if len(chunks) == 1 else pd.concat(chunks, ignore_index=True)


def iter_table(path: str | Path, chunk_rows: int = 1024) -> Iterator[pd.DataFrame]:
    """Read a table in chunks of bounded memory; the chunks, concatenated, are what `read_table` returns.

    Args:
        path: as in `read_table`.
        chunk_rows: as in `iter_columns`.

    Yields:
        Frames with a running index, so that `frame.index` counts rows from 0 through the whole file. A table with
        columns and no rows yields one empty frame.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as in `read_table`; a fault deep in the file is raised when its chunk is reached.
    """
    return _frames(iter_columns(path, chunk_rows))


def _frames(chunks: Iterator[Chunk]) -> Iterator[pd.DataFrame]:
    start = 0
    for chunk in chunks:
        rows = len(next(iter(chunk.values()), []))
        yield pd.DataFrame(chunk, index=pd.RangeIndex(start, start + rows), columns=list(chunk), dtype=object)
        start += rows


def iter_columns(path: str | Path, chunk_rows: int = 8192) -> Iterator[Chunk]:
    """Read a table in chunks of plain lists, as `iter_table` does in frames.

    Args:
        path: as in `read_table`. JSON lists (`.json`) are parsed whole; the other formats are read piece by piece.
        chunk_rows: rows a chunk, at least 1.

    Yields:
        Column → cells; the same columns in every chunk. A table with columns and no rows yields one chunk of none.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as in `iter_table`.
    """
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, not {chunk_rows}.")
    path = Path(path)
    kind = check_file(path)
    if kind in (".csv", ".tsv"):
        chunks = _iter_delimited(path, "\t" if kind == ".tsv" else ",", chunk_rows)
    elif kind == ".parquet":
        chunks = _iter_parquet(path, chunk_rows)
    else:
        chunks = _iter_json(path, kind, chunk_rows)
    return (dict(zip(columns, data, strict=True)) for columns, data in chunks)


def check_file(path: str | Path) -> str:
    """Check that a table exists, is a file and isn't empty, and return its format.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a directory, has no bytes, or isn't a format read here.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; check the path.")
    if path.is_dir():
        raise ValueError(f"{path} is a directory; give the table file itself.")
    kind = table_format(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name} is empty (0 bytes); it needs a header and rows.")
    return kind


# ---------------------------------------------------------------------------------------------------- text formats


def _open_bytes(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")


def _encoding(path: Path) -> str:
    """UTF-8 (with or without BOM) if the whole file decodes so, else cp949 with a warning."""
    for encoding in ("utf-8-sig", "cp949"):
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            with _open_bytes(path) as file:
                while block := file.read(_BLOCK_BYTES):
                    decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path.name} is no whole gzip file ({error}); copy or compress it again.") from error
        if encoding == "cp949":
            warnings.warn(f"{path.name} is not UTF-8; it was read as cp949. Save it as UTF-8 to be sure.", stacklevel=2)
        return encoding
    raise ValueError(f"{path.name} is neither UTF-8 nor cp949 text; save it as UTF-8.")


def _iter_delimited(path: Path, delimiter: str, chunk_rows: int) -> Iterator[tuple[list[str], list[list[Any]]]]:
    if csv.field_size_limit() < MAX_CELL_CHARACTERS:
        csv.field_size_limit(MAX_CELL_CHARACTERS)  # the default of 131,072 characters is below real overviews
    with _open_bytes(path) as raw, io.TextIOWrapper(raw, encoding=_encoding(path), newline="") as file:
        # The csv module closes an open quote at the end of the file without a word, and the rows within it are lost; a
        # last line of our own shows whether that happened.
        reader = csv.reader(itertools.chain(file, [_END]), delimiter=delimiter)
        header = next(reader, None)
        while header is not None and not any(cell.strip() for cell in header):
            header = next(reader, None)
        if header is None or header[-1].endswith(_END):
            raise ValueError(f"{path.name} has no header: its first line must name the columns.")
        columns = _check_columns([cell.strip() for cell in header], path)
        width, rows, first = len(columns), [], True
        line = reader.line_num
        try:
            for row in reader:
                start, line = line + 1, reader.line_num
                if row == [_END]:
                    break
                if row and row[-1].endswith(_END):
                    raise ValueError(f"{path.name}, line {start}: a quote is opened there and never closed.")
                if len(row) != width:
                    if not row:  # a blank line: an empty cell where there is one column, nothing elsewhere
                        if width > 1:
                            continue
                        row = [""]
                    else:
                        raise ValueError(
                            f"{path.name}, line {start}: {len(row)} cells, but the header names {width} columns; "
                            "put quotes around cells that contain the separator or a line break."
                        )
                rows.append([cell if cell != "" else None for cell in row])
                if len(rows) == chunk_rows:
                    yield columns, _transpose(rows, width)
                    rows, first = [], False
        except csv.Error as error:
            raise ValueError(f"{path.name}, line {reader.line_num}: {error}; check the quotes there.") from error
        if rows or first:
            yield columns, _transpose(rows, width)


def _iter_json(path: Path, kind: str, chunk_rows: int) -> Iterator[tuple[list[str], list[list[Any]]]]:
    encoding = _encoding(path)
    # Two passes: a key that only later rows have is a column of every chunk.
    columns: dict[str, None] = {}
    for record in _json_records(path, kind, encoding):
        columns.update(dict.fromkeys(record))
    if not columns:
        raise ValueError(f"{path.name} has no rows; give one JSON object a line.")
    names, rows = _check_columns(list(columns), path), []
    for record in _json_records(path, kind, encoding):
        rows.append([record.get(name) for name in names])
        if len(rows) == chunk_rows:
            yield names, _transpose(rows, len(names))
            rows = []
    if rows:
        yield names, _transpose(rows, len(names))


def _json_records(path: Path, kind: str, encoding: str) -> Iterator[dict[str, Any]]:
    with _open_bytes(path) as raw, io.TextIOWrapper(raw, encoding=encoding) as file:
        if kind == ".json":
            try:
                records = json.load(file)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path.name}, line {error.lineno}: not valid JSON ({error.msg}).") from error
            if not isinstance(records, list):
                raise ValueError(f"{path.name}: a .json table must be a list of objects, one a row.")
            numbered = enumerate(records, 1)
            where = "item"
        else:
            numbered = ((number, line) for number, line in enumerate(file, 1) if line.strip())
            where = "line"
        for number, record in numbered:
            if kind == ".jsonl":
                try:
                    record = json.loads(record)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{path.name}, line {number}: not valid JSON ({error.msg}).") from error
            if not isinstance(record, dict):
                raise ValueError(f'{path.name}, {where} {number}: expected a JSON object such as {{"text": …}}.')
            yield record


def _iter_parquet(path: Path, chunk_rows: int) -> Iterator[tuple[list[str], list[list[Any]]]]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path.name} is no whole Parquet file; write or copy it again.") from error
    with file:
        columns, first = _check_columns(file.schema_arrow.names, path), True
        for batch in file.iter_batches(batch_size=chunk_rows):
            yield columns, [column.to_pylist() for column in batch.columns]
            first = False
        if first:
            yield columns, [[] for _ in columns]


def _transpose(rows: list[list[Any]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _check_columns(columns: list[str], path: Path) -> list[str]:
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise ValueError(f"{path.name}: two columns are called {repeated[0]!r}; rename one of them.")
    return columns


# --------------------------------------------------------------------------------------------------------- writing


class TableWriter:
    """Write a table chunk by chunk; the file appears under its name only when all of it is written.

    Chunks go to a hidden file beside the target, which is renamed when the `with` block ends well and removed when it
    ends with an error. Lists and dicts become JSON text in CSV and TSV; None becomes an empty cell there.

    Args:
        path: the file to write, format by suffix: .csv, .tsv, .jsonl (each also .gz) or .parquet.
        numbers: columns that hold floats, whatever the first chunk looks like; Parquet needs to know.

    Raises:
        ValueError: for another suffix, a missing folder, or a chunk whose columns or types differ from the first's.

    Example:
        >>> with TableWriter("predictions.csv") as writer:  # doctest: +SKIP
        ...     for chunk in iter_table("places.csv"):
        ...         writer.write(chunk)
    """

    def __init__(self, path: str | Path, numbers: Collection[str] = ()) -> None:
        self.path = Path(path)
        self.numbers = frozenset(numbers)
        self.kind = table_format(self.path)
        if self.kind == ".json":
            raise ValueError(f"{self.path.name}: write a .jsonl file instead; a .json list can't be written in chunks.")
        if not self.path.parent.is_dir():
            raise ValueError(f"the folder of {self.path} does not exist; create it first.")
        if self.path.is_dir():
            raise ValueError(f"{self.path} is a directory; name a file to write.")
        self.rows = 0
        self._columns: list[str] | None = None
        self._schema: pa.Schema | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._text: io.TextIOBase | None = None
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def __enter__(self) -> TableWriter:
        if self.kind != ".parquet":
            opened = gzip.open if self.path.suffix.lower() == ".gz" else open
            self._text = opened(self._part, "wt", encoding="utf-8", newline="")
        return self

    def write(self, chunk: pd.DataFrame) -> None:
        """Append a chunk.

        Args:
            chunk: rows with the same columns, in the same order, as the first chunk.
        """
        columns = [str(name) for name in chunk.columns]
        if self._columns is None:
            self._columns = columns
            if self.kind in (".csv", ".tsv"):
                self._csv().writerow(columns)
        elif columns != self._columns:
            raise ValueError(f"{self.path.name}: a chunk has columns {columns}, the first one had {self._columns}.")
        data = [[_plain(value) for value in chunk[name]] for name in chunk.columns]
        if self.kind == ".parquet":
            self._write_parquet(columns, data)
        elif self.kind == ".jsonl":
            for row in zip(*data, strict=True):
                self._text.write(
                    json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False, default=str) + "\n"
                )
        else:
            self._csv().writerows([[_cell(value) for value in row] for row in zip(*data, strict=True)])
        self.rows += len(chunk)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._text, self._parquet):
            if file is not None:
                file.close()
        if kind is not None or self._columns is None:
            self._part.unlink(missing_ok=True)
            if kind is None:
                raise ValueError(f"{self.path.name}: nothing was written, so no file was made.")
            return
        os.replace(self._part, self.path)

    def _csv(self) -> Any:
        return csv.writer(self._text, delimiter="\t" if self.kind == ".tsv" else ",", lineterminator="\n")

    def _write_parquet(self, columns: list[str], data: list[list[Any]]) -> None:
        if self._schema is None:
            types = [pa.infer_type(values) for values in data]
            # A first chunk of Nones says nothing of the type; text can hold whatever comes later.
            types = [pa.string() if pa.types.is_null(kind) else kind for kind in types]
            types = [pa.float64() if n in self.numbers else kind for n, kind in zip(columns, types, strict=True)]
            self._schema = pa.schema(list(zip(columns, types, strict=True)))
            self._parquet = pq.ParquetWriter(self._part, self._schema)
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
        self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema))


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else value
