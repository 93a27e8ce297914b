"""Text tables: how a file is written (encoding, delimiter, quotes, header) is seen in it, not read from its name.

The delimiter is the one by which the first lines have the header's width. Then all lines are cut both ways, with quotes
as CSV has them and with quotes as letters like others, and the reading stands by which every line has that width. Where
both do and give other rows (one text begins with a quote and a later one ends with one, so that all lines between could
be one cell), a long cell is taken for the accident that it is, and a short one is asked about or said aloud.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import math
import re
import statistics
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

DELIMITERS = {",": "comma-separated", "\t": "tab-separated", ";": "semicolon-separated", "|": "bar-separated"}
MAX_CELL_CHARACTERS = 64 * 1024 * 1024
SHOWN = 10
"""How many bad lines or rows a sentence lists."""
_BLOCK = 1 << 20
_SAMPLE = 500  # lines
_HEADER_WITHIN = 10  # records
_FITS = 0.9  # share of the lines that have the header's width, above which the others are slips
_LONG = 3  # lines; a quoted cell of more, whose lines all have the header's width, is no cell
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip

Record = tuple[int, list[str]]
"""The number of the line that a record begins on, from 1, and its cells; none for a blank line."""

_T = TypeVar("_T")


# -------------------------------------------------------------------------------------------------------------- text


def open_bytes(path: Path) -> BinaryIO:
    """Open a file, unpacked if it is gzipped."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")


def read_text(path: Path, encoding: str | None, read: Callable[[str], _T]) -> _T:
    """Call `read` with the encoding of a text: the given one, what its byte order mark says, UTF-8, or cp949.

    Args:
        path: the file, gzipped or not.
        encoding: where it is known.
        read: reads the whole file, so that it fails where the encoding is another.

    Raises:
        ValueError: if it is text in none of them, naming the line; or the gzip file is damaged.
    """
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError as error:
        raise ValueError(f"{path.name}: there is no encoding {encoding!r}; say utf-8, cp949 or utf-16.") from error
    try:
        with open_bytes(path) as file:
            start = file.read(4096)
        tried = [encoding] if encoding else _encodings(start)
        for name in tried:
            try:
                found = read(name)
            except UnicodeError:
                continue
            if name == "cp949" and encoding is None:
                warnings.warn(
                    f"{path.name} is not UTF-8; it was read as cp949. Save it as UTF-8 to be sure.", stacklevel=2
                )
            return found
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path.name} is no whole gzip file ({error}); copy or compress it again.") from error
    words = "neither UTF-8 nor cp949 text" if len(tried) > 1 else f"no text in {tried[0]}"
    raise ValueError(f"{path.name} is {words}{_first_undecodable(path)}; save it as UTF-8.")


def _encodings(start: bytes) -> list[str]:
    for mark, encoding in _BOMS.items():
        if start.startswith(mark):
            return [encoding]
    odd, even = start[1::2].count(0), start[::2].count(0)
    if odd + even > len(start) // 8:
        return ["utf-16-le" if odd > even else "utf-16-be"]
    return ["utf-8", "cp949"]


def _first_undecodable(path: Path) -> str:
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f" (line {number})"
    return ""


def open_lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a text with their ends; a lone carriage return ends a line only where there are no line feeds."""
    with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as file:
        newline = "\n" if "\n" in file.read(_BLOCK) else "\r"
    with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline=newline) as file:
        yield from file


def records(lines: Iterable[str], delimiter: str | None, quoted: bool, strict: bool = False) -> Iterator[Record]:
    """Cut lines into cells.

    Args:
        lines: with their ends.
        delimiter: what stands between cells; None for lines that are one cell each.
        quoted: whether quotes enclose cells, as CSV has them, or are text.
        strict: whether a quote that ends no cell, or none, raises `csv.Error`.
    """
    lines = iter(lines)
    first = next(lines, "")
    if delimiter == "|":  # Markdown rules a line below its header
        rule = next(lines, "")
        lines = itertools.chain(["\n" if re.fullmatch(r"[\s|:-]*-{3}[\s|:-]*", rule) else rule] if rule else [], lines)
    if first.lower().startswith("sep=") and len(first.rstrip("\r\n")) == 5:  # Excel's own way to name the delimiter
        first = "\n"
    lines = itertools.chain([first], lines)
    if not quoted:
        for number, line in enumerate(lines, 1):
            line = line.removesuffix("\n").removesuffix("\r")
            yield number, line.split(delimiter) if delimiter and line else [line] * bool(line)
        return
    reader = csv.reader(lines, delimiter=delimiter or "\x1f", strict=strict)
    number = 1
    for cells in reader:
        yield number, cells
        number = reader.line_num + 1


def fit(cells: list[str], width: int) -> list[str] | None:
    """A record as a row, without surplus cells that are empty; None for a blank line among rows of several cells."""
    if len(cells) > width and not any(cells[width:]):
        return cells[:width]
    if len(cells) < 2 and not "".join(cells).strip(" "):
        return (cells or [""]) if width == 1 else None
    return cells


# --------------------------------------------------------------------------------------------------------- detection


@dataclass
class Cut:
    """What comes of cutting all lines of a file in one way."""

    delimiter: str | None  # None: a line is a cell
    quoted: bool
    columns: list[str] = field(default_factory=list)
    skip: int = 0  # records above the first row
    titles: int = 0  # of these, lines above the header
    rows: int = 0  # of the header's width
    wrong: int = 0  # of another
    ragged: list[tuple[int, int]] = field(default_factory=list)  # line and cells of the first of them
    span: tuple[int, int] = (1, 1)  # first and last line of the longest cell whose every line has the header's width
    joined: int = 0  # lines that cells hold beyond their first
    broken: str = ""  # why quotes can't be read so
    quotes: bool = False  # whether there are any
    sample: list[list[str]] = field(default_factory=list)

    @property
    def regular(self) -> bool:
        """Whether every record has the header's width."""
        return not self.wrong and not self.broken

    @property
    def share(self) -> float:
        """Of all records, those of the header's width."""
        return self.rows / (self.rows + self.wrong) if self.rows + self.wrong else 1.0

    @property
    def headless(self) -> bool:
        """Whether the first line looks like a row: each cell is like those below it, and one occurs there again."""
        if self.columns == [str(number) for number in range(len(self.columns))]:
            return False
        again = False
        for name, *cells in zip(self.columns, *(row for row in self.sample if row != self.columns), strict=False):
            counts = Counter(filter(None, cells))
            if not name or not counts:
                continue
            if counts[name] > 1:
                again = True
            elif len(counts) * 4 <= counts.total():  # a few values, of which the name is none
                return False
            elif all(map(_is_number, counts)):
                if not _is_number(name):
                    return False
            elif 3 * len(name) < statistics.median(map(len, counts)):
                return False
        return again


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def look(path: Path, encoding: str, delimiter: str | None, quoting: bool | None, header: bool | int | None) -> Cut:
    """Find out how a text table is written; all of its lines are read.

    Args:
        path: the file.
        encoding: what it is written in.
        delimiter: what stands between cells; None looks for it.
        quoting: whether quotes enclose cells; None looks for it.
        header: False if the first line is a row, a number for the header's line, from 1; None looks for it.

    Raises:
        ValueError: if two readings are as likely, or there is no header.
    """
    if csv.field_size_limit() < MAX_CELL_CHARACTERS:
        csv.field_size_limit(MAX_CELL_CHARACTERS)  # the default of 131,072 characters is below real overviews
    if delimiter is None:
        delimiter = _find_delimiter(path, list(itertools.islice(open_lines(path, encoding), _SAMPLE)), header)
    ways = [quoting] if quoting is not None else [False, True] if delimiter is None or len(delimiter) == 1 else [False]
    cuts = []
    for quoted in ways:
        if not cuts or cuts[0].quotes:  # without quotes both ways are one
            cuts.append(_cut(open_lines(path, encoding), delimiter, quoted, header))
    if not any(cut.columns for cut in cuts):
        raise ValueError(f"{path.name} has no header: its first line must name the columns.")
    if len(cuts) == 1:
        return cuts[0]
    chosen = _choose(path, *cuts)
    if not chosen.regular and cuts[1].broken:  # a careless writer's quotes, as long as they join no lines
        careless = _cut(open_lines(path, encoding), delimiter, True, header, strict=False)
        if not careless.joined and (chosen.broken or careless.wrong < chosen.wrong):
            return careless
    return chosen


def _find_delimiter(path: Path, lines: list[str], header: bool | int | None) -> str | None:
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].rstrip("\r\n")) == 5:
        return lines[0][4]
    usual = "," if ".csv" in path.name.lower() else "\t"
    found = {}
    for delimiter in DELIMITERS:
        for quoted in (False, True):
            cut = _cut(lines, delimiter, quoted, header, strict=False)
            if len(cut.columns) > 1 and (cut.share >= 0.5 or delimiter == usual):
                found[delimiter, quoted] = (
                    cut.share > _FITS,
                    not cut.titles,
                    delimiter == usual,
                    cut.share,
                    len(cut.columns),
                )
    return max(found, key=found.get)[0] if found else None


def _cut(
    lines: Iterable[str], delimiter: str | None, quoted: bool, header: bool | int | None, strict: bool = True
) -> Cut:
    cut = Cut(delimiter, quoted)
    found = _until_broken(records(lines, delimiter, quoted, strict), cut)
    start = list(itertools.islice(found, 50))
    place = _header_place(start, header)
    if place >= len(start):
        return cut
    width = len(start[place][1])
    names = [cell.strip() for cell in start[place][1]]
    cut.columns = names if header is not False else [str(number) for number in range(width)]
    cut.skip = place + (header is not False)
    cut.titles = sum(bool(cells) for _, cells in start[:place])
    cut.quotes = any('"' in cell for _, cells in start for cell in cells)
    for line, cells in itertools.chain(start[cut.skip :], found):
        cut.quotes = cut.quotes or any('"' in cell for cell in cells)
        row = fit(cells, width)
        if row is None:
            continue
        if len(row) == width:
            cut.rows += 1
        else:
            cut.wrong += 1
            cut.ragged += [(line, len(row))] * (cut.wrong <= SHOWN)
        if len(cut.sample) < _SAMPLE:
            cut.sample.append(row)
        breaks = _breaks(cells) if quoted else 0
        cut.joined += breaks
        if breaks > cut.span[1] - cut.span[0] and _could_be_rows(row, delimiter or "\x1f", width):
            cut.span = (line, line + breaks)
    return cut


def _until_broken(found: Iterator[Record], cut: Cut) -> Iterator[Record]:
    """Records up to one whose quotes can't be read, which is noted."""
    line = 1
    try:
        for line, cells in found:
            yield line, cells
            line += 1 + (_breaks(cells) if cut.quoted else 0)
    except csv.Error as error:
        reason = "a quote is opened there and never closed" if "end of data" in str(error) else f"{error}"
        cut.broken = f"line {line}: {reason}"


def _breaks(cells: list[str]) -> int:
    """How many lines a record has beyond its first; carriage returns end none in a file that others end."""
    text = "".join(cells)
    return text.count("\n") or text.count("\r")


def _could_be_rows(cells: list[str], delimiter: str, width: int) -> bool:
    """Whether the lines of a record would each have the table's width if quotes were text."""
    text = delimiter.join(cells)
    lines = text.split("\n" if "\n" in text else "\r")
    return all(line.count(delimiter) == width - 1 for line in lines if line.strip("\r"))


def _header_place(start: list[Record], header: bool | int | None) -> int:
    """Which of the first records names the columns."""
    if header is not None and not isinstance(header, bool):
        return next((place for place, (line, _) in enumerate(start) if line >= header), len(start))
    rows = [cells for _, cells in start]
    first = next((place for place, cells in enumerate(rows) if any(map(str.strip, cells))), len(rows))
    return first if header is False else below_titles(rows, first)


def below_titles(rows: list[list[Any]], first: int, cells: bool = False) -> int:
    """Which of a table's first rows names the columns: the first that isn't blank, unless it and others are titles.

    A title is one cell, above a whole row of three cells or more; or of two, if all rows below have as many.

    Args:
        rows: cells of the first rows.
        first: which isn't blank.
        cells: whether it is certain what a cell is, as in a workbook: titles may then have several, but not all.
    """
    width = Counter(len(row) for row in rows[first:] if row).most_common(1)
    for place in range(first, min(len(rows), first + _HEADER_WITHIN)):
        blank = [cell is None or not str(cell).strip() for cell in rows[place]]
        filled = blank.count(False)
        title = cells and place > first and any(blank[1:])  # a header may lack its first, above numbers of rows
        if filled > 1 and not title:
            below = [len(row) for row in rows[place:] if row]
            two = len(rows[first]) == 1 and len(below) > 10 and set(below) == {2}
            return place if filled == width[0][0] and (filled > 2 or two) else first
    return first


def _choose(path: Path, plain: Cut, quoted: Cut) -> Cut:
    """The better of two ways to cut a file that has quotes."""
    if all(name[:1] == name[-1:] == '"' for name in plain.columns):
        return quoted  # whoever quotes the header quotes by the rules
    first, last = quoted.span
    fits, several, long = plain.share > _FITS, len(plain.columns) > 1, last - first >= _LONG
    one_cell = f"lines {first}–{last} are read as one quoted cell, though each could be a row"
    if quoted.broken:
        return plain if fits else quoted
    if several and long and fits:
        _say(path, f"lines {first}–{last} are read as rows, though quotes could make them one cell", "true")
        return plain
    if not plain.regular or not quoted.regular:
        if long:
            _say(path, one_cell, "false")
        return min(quoted, plain, key=lambda cut: cut.wrong)
    if quoted.joined and several and quoted.delimiter == "\t":
        raise ValueError(
            f"{path.name}, lines {first}–{last}: these are rows, or one quoted cell; say which with `quoting: false` "
            "or `quoting: true`."
        )
    if quoted.joined:
        _say(path, one_cell, "false")
    return quoted


def _say(path: Path, what: str, otherwise: str) -> None:
    warnings.warn(f"{path.name}: {what}; say `quoting: {otherwise}` if that is wrong.", stacklevel=2)
