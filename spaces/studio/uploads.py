"""What a visitor uploads for a batch, made into a table that `predict_table` reads, or refused in one sentence.

A table's own picture column is never followed: it could name any file or address of the server. ZIP entries are read
one by one, within limits on number, size and ratio, and written under numbers of our own; their names are only shown.
What goes out again has every cell that a spreadsheet would take for a formula quoted.
"""

from __future__ import annotations

import csv
import itertools
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from text import Trouble

from hfk.tasks.tables import iter_columns

MAX_MB = 50
MAX_ROWS = 5_000
MAX_COLUMNS = 200
MAX_PHOTOS = 500
MAX_PHOTO_MB = 20
MAX_UNPACKED_MB = 300
MAX_SHEET_MB = 64
MAX_RATIO = 200
TABLES = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".xlsx")
NO_COLUMN = "\x00"
"""A name that no column has: keeps `predict_table` from looking for a picture column."""
_END_OF_ZIP = struct.Struct("<4s4H2LH")


@dataclass
class Job:
    """A table to classify.

    Args:
        table: the table's file.
        columns: its columns.
        rows: how many rows it has.
        photos: folder of the pictures that its column `image` names; None for a table of texts.
        reasons: row (from 0) → why it can't be used, where that was seen before classifying.
    """

    table: Path
    columns: list[str]
    rows: int
    photos: Path | None = None
    reasons: dict[int, str] = field(default_factory=dict)


def open_upload(path: str | Path, folder: Path) -> Job:
    """Check an uploaded file and make a table of it.

    Args:
        path: the uploaded file; its suffix tells what it is.
        folder: an empty folder of ours.

    Raises:
        Trouble: if it can't be used; the sentence says why.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (*TABLES, ".zip"):
        raise Trouble("bad_file", f"{path.name} is none of {', '.join(TABLES)}, .zip.")
    if path.stat().st_size > MAX_MB * 1_000_000:
        raise Trouble("bad_file", f"{path.name} has more than {MAX_MB} MB.")
    try:
        if kind == ".zip":
            return _unpack(path, folder)
        _check_packed(path)
        return _count(path)
    except Trouble:
        raise
    except (ValueError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise Trouble("bad_file", " ".join(str(error).replace(str(path), path.name).split())) from None


def header_of(path: str | Path | None, folder: Path) -> list[str]:
    """The columns of an uploaded table; none for a ZIP, or for what can't be read."""
    if not path or Path(path).suffix.lower() not in TABLES:
        return []
    try:
        return open_upload(path, folder).columns
    except Trouble:
        return []


def _check_packed(path: Path) -> None:
    """Refuse what would unpack to more than it seems: tables are known by their contents, whatever they are called."""
    with open(path, "rb") as file:
        start = file.read(4)
    if start.startswith(b"\x1f\x8b") or start == b"PAR1":
        raise Trouble("bad_file", f"{path.name} is packed; upload it as CSV.")
    if start.startswith(b"PK"):
        with _open_zip(path) as archive:
            _check_size(archive.infolist(), path, MAX_SHEET_MB)


def _count(table: Path) -> Job:
    rows, columns = 0, []
    for chunk in iter_columns(table, 1024):
        rows, columns = rows + len(next(iter(chunk.values()))), list(chunk)
        if rows > MAX_ROWS:
            raise Trouble("bad_file", f"{table.name} has more than {MAX_ROWS:,} rows; divide it.")
    if len(columns) > MAX_COLUMNS:
        raise Trouble("bad_file", f"{table.name} has more than {MAX_COLUMNS} columns.")
    if not rows:
        raise Trouble("bad_file", f"{table.name} has a header and no rows.")
    return Job(table, columns, rows)


def _unpack(path: Path, folder: Path) -> Job:
    """Lay out the pictures of a ZIP under numbers, with a table of their names."""
    photos, reasons = folder / "photos", {}
    photos.mkdir()
    with _open_zip(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _of_the_system(entry.filename)]
        if not entries:
            raise Trouble("bad_file", f"{path.name} holds no files.")
        if len(entries) > MAX_PHOTOS:
            raise Trouble("bad_file", f"{path.name} holds more than {MAX_PHOTOS:,} files; divide it.")
        _check_size(entries, path, MAX_UNPACKED_MB)
        with open(folder / "photos.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "image"])
            for row, entry in enumerate(entries):
                writer.writerow([entry.filename.replace("\x00", ""), f"{row:06d}"])
                reason = _read_entry(archive, entry, photos / f"{row:06d}")
                if reason:
                    reasons[row] = reason
    return Job(folder / "photos.csv", ["file", "image"], len(entries), photos, reasons)


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> str:
    """Write one entry to our file; returns why that can't be done, or an empty string."""
    target.touch()
    if entry.flag_bits & 1:
        return "the file is locked by a password."
    if entry.file_size > MAX_PHOTO_MB * 1_000_000:
        return f"the file has more than {MAX_PHOTO_MB} MB."
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        return "the file is packed more tightly than any picture."
    try:
        with archive.open(entry) as source:  # reads no more than the size that was checked
            target.write_bytes(source.read(MAX_PHOTO_MB * 1_000_000 + 1))
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        return f"the file is damaged ({type(error).__name__})."
    except Exception as error:  # zlib, lzma and bz2 have errors of their own
        return f"the file is damaged ({type(error).__name__})."
    return ""


def _open_zip(path: Path) -> zipfile.ZipFile:
    """Open a ZIP after a look at its directory's size, which zipfile would read whole."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 66_000))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END_OF_ZIP.size > len(tail):
        raise Trouble("bad_file", f"{path.name} is not a whole ZIP file.")
    directory = _END_OF_ZIP.unpack_from(tail, at)[5]
    if directory > 1_000_000 or tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
        raise Trouble("bad_file", f"{path.name} holds too many files.")
    try:
        return zipfile.ZipFile(path, metadata_encoding="cp949")  # Windows in Korea; UTF-8 names say so themselves
    except UnicodeDecodeError:
        return zipfile.ZipFile(path)


def _check_size(entries: list[zipfile.ZipInfo], path: Path, most_mb: int) -> None:
    total = sum(entry.file_size for entry in entries)
    if total > most_mb * 1_000_000:
        raise Trouble("bad_file", f"{path.name} would unpack to more than {most_mb} MB.")


def _of_the_system(name: str) -> bool:
    """Whether an entry is what an operating system adds by itself."""
    return name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1] in (".DS_Store", "Thumbs.db", "desktop.ini")


def finish(result: Path, target: Path, job: Job, show: int) -> tuple[list[str], list[list[str]], int]:
    """Write what the visitor gets: what `predict_table` wrote, our file numbers taken out.

    Args:
        result: what `predict_table` wrote, a CSV.
        target: the CSV to write.
        job: what was classified.
        show: rows to return.

    Returns:
        the header, the first rows, and how many rows have an error.
    """
    errors, first = 0, []
    with (
        open(result, encoding="utf-8-sig", newline="") as source,
        open(target, "w", encoding="utf-8-sig", newline="") as file,
    ):
        writer = csv.writer(file)
        lines: Iterator[list[str]] = csv.reader(source)
        header = next(lines)
        drop = header.index("image") if job.photos is not None else None
        for row, cells in enumerate(itertools.chain([header], lines), -1):
            if row >= 0 and drop is not None:
                cells[-1] = job.reasons.get(row, cells[-1].replace(cells[drop], "the picture"))
            errors += row >= 0 and bool(cells[-1])
            cells = [cell for place, cell in enumerate(cells) if place != drop]
            writer.writerow(cells)
            if row < 0:
                header = cells
            elif len(first) < show:
                first.append(cells)
    return header, first, errors
