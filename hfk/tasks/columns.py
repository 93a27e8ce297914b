"""How a head is read from a table: `HeadColumn`, and the cells of its column as labels by name.

What a cell may look like is decided by its form first: a list (Python's, JSON's, NumPy's, or a vector of 0 and 1), one
column a label, one level of `a > b > c`, then a separator. `heads.py` looks at all rows together; nothing here reads
files or encodes to indices (`source.py` and `labels.py` do). Every refusal is one sentence with the row.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..models.configuration_multihead import HEAD_KINDS, HeadConfig
from ..models.problems import LOSS_OPTIONS, PROBLEMS, SPELLINGS, Problem
from .names import canonical, whole_number

RESERVED = ("id", "text", "image", "mean", "error", "paths")
"""What a head can't be called: columns of the rows and of predictions, and names among the scores."""
MISSING_WORDS = frozenset(("", "-", "nan", "NaN", "<NA>", "NaT", "N/A", "n/a", "#N/A", "NULL", "null"))
"""Cells that say that there is no label, unless a head's `labels` has them; `none`, `없음` and `NA` may be labels."""
HEAD_OPTIONS = ("kind", "dropout", "temperature", "thresholds", "path_weight", "mean", "std")
OPTIONS = (*HEAD_OPTIONS, *LOSS_OPTIONS)
YES = frozenset({"1", "true", "y", "yes", "o", "✓", "예"})
NO = frozenset({"0", "false", "n", "no", "x", "아니오"})
"""Cells of a column that says of one label whether it applies."""
_CHOICES = {"problem": PROBLEMS, "empty": ("unknown", "none"), "conflicts": ("error", "ignore")}
_NUMBER = re.compile(
    r"[₩￦$€£]?\s*([-+]?(?:\d{1,3}(?:,\d{3})+|\d+|(?=\.\d))(?:\.\d+)?(?:[eE][-+]?\d+)?)"
    r"\s*(?:%|[가-힣]{1,2}|[kmc]?m|k?g|m?l|KRW|USD)?"
)


@dataclass
class HeadColumn:
    """How one head is read from a table.

    Args:
        name: the head's name, and the column of the dataset that `Task.load` returns.
        column: the table's column; `name` by default.
        columns: one column a label in place of `column`, each 0 or 1 (or true, y, o): a list, or a pattern such as
            `mood_*`. The labels are the columns' names, or what `codes` make of them.
        problem: as in `HeadConfig`.
        separator: what separates the values of a `multi_label` cell, or the levels of one; surrounding spaces are cut.
        levels: the names of the heads that one cell such as `가전 > 주방 > 냉장고` fills, coarse to fine, this one
            among them.
        parent: name of the coarser head.
        labels: label names in index order; None infers them from the rows. Other labels in the rows are errors.
        codes: what the rows say → the label's name, such as `{"0": "음식"}`.
        known: names a label may have, in order; the labels are those of them that occur. For `labels="present"` tasks.
        parents: the parent label of each label, where it is known beforehand; rows that contradict it are errors.
        qualify: names that stand under several parents become labels of their own under each: `식품 > 기타`.
        conflicts: what to do with rows that put a label under another parent than most rows do: `error`, or `ignore`
            (the parent on most rows holds; the other rows' labels of both heads count as missing, with a warning).
        min_rows: labels on fewer rows are left out, for long tails of rare values: `multi_label` cells lose them, other
            cells count as missing. Above 1, labels outside of `labels` are left out too instead of being errors.
        empty: what an empty `multi_label` cell means: `unknown` (no label given) or `none` (none applies).
        options: further fields of `HeadConfig` and of `HeadLoss`, those in `OPTIONS`. `class_weights` may be a list, a
            mapping from label to weight (1.0 where absent), or "balanced".

    Raises:
        ValueError: for an option outside of these; the sentence names the head.
    """

    name: str
    column: str | None = None
    columns: list[str] | str | None = None
    problem: str = "single_label"
    separator: str | None = None
    levels: list[str] | None = None
    parent: str | None = None
    labels: list[str] | None = None
    codes: dict[str, str] | None = None
    known: list[str] | None = None
    parents: dict[str, str] | None = None
    qualify: bool = False
    empty: str = "unknown"
    conflicts: str = "error"
    min_rows: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"head {self.name!r}"
        self.name = canonical(self.name)
        self.column = canonical(self.column or self.name)
        if isinstance(self.columns, (list, tuple)):
            self.columns = [canonical(str(name)) for name in self.columns]
        self.problem = SPELLINGS.get(self.problem, self.problem)
        if self.name in RESERVED:
            raise ValueError(
                f"a head can't be called {self.name!r}: call it something else and say `column: {self.column}`."
            )
        for key, known in _CHOICES.items():
            if getattr(self, key) not in known:
                raise ValueError(f"{where}: {key} {getattr(self, key)!r} is not one of {', '.join(known)}.")
        if self.options.get("kind", "linear") not in HEAD_KINDS:
            raise ValueError(f"{where}: kind {self.options['kind']!r} is not one of {', '.join(HEAD_KINDS)}.")
        if isinstance(self.min_rows, bool) or not isinstance(self.min_rows, int) or self.min_rows < 1:
            raise ValueError(f"{where}: min_rows must be a whole number of at least 1, not {self.min_rows!r}.")
        if self.separator is not None and (not (self.several or self.levels) or not str(self.separator)):
            raise ValueError(f"{where}: a separator belongs to problem multi_label or to levels, and can't be empty.")
        if self.columns is not None and (not self.columns or not self.rules.has_labels):
            raise ValueError(f"{where}: `columns:` names one column a label, for a head with labels.")
        if self.labels is not None:
            self.labels = [canonical(str(label)) for label in self.labels]
        if self.codes is not None:
            self.codes = {label_name(code): canonical(str(label)) for code, label in self.codes.items()}

    @property
    def rules(self) -> Problem:
        """What follows from the head's problem."""
        return PROBLEMS[self.problem](self)

    @property
    def several(self) -> bool:
        """Whether a row may have several labels."""
        return self.rules.has_labels and not self.rules.exclusive

    def sources(self, table: Collection[str]) -> list[str]:
        """The columns of a table that the head reads; those that should be there but are not among them."""
        if isinstance(self.columns, str):
            return fnmatch.filter(table, self.columns) or [self.columns]
        return self.columns or [self.column]

    def cells(self, chunk: Mapping[str, list[Any]]) -> list[Any]:
        """The head's cells of some rows of a table; a mapping from column to cell where it reads several columns."""
        if self.columns is None:
            return chunk[self.column]
        names = self.sources(chunk)
        return [dict(zip(names, cells, strict=True)) for cells in zip(*map(chunk.get, names), strict=True)]

    def reading(self) -> dict[str, Any]:
        """How the head is read, as an entry under `heads:` says it."""
        kept = ("name", "column", "columns", "problem", "separator", "levels", "qualify", "empty")
        entry = {key: getattr(self, key) for key in kept if getattr(self, key) not in (None, False)}
        entry |= (
            {"min_rows": self.min_rows} if self.min_rows > 1 else {}
        )  # what was too rare to learn is no mistake later
        return entry | ({} if self.codes is None else {"labels": self.codes})

    @classmethod
    def from_head(
        cls, head: HeadConfig, base: HeadColumn | None = None, parents: dict[str, str] | None = None
    ) -> HeadColumn:
        """A column whose labels and options are those of a finished head, such as a checkpoint's.

        Args:
            head: the finished head.
            base: where and how it is read; the column of the head's name by default.
            parents: the parent label of each label, for a head with `parent_of`.
        """
        base = base or cls(head.name, problem=head.problem)
        given = {name: value for name, value in base.options.items() if name in LOSS_OPTIONS}
        given |= {name: getattr(head, name) for name in HEAD_OPTIONS}
        own = {"name": head.name, "problem": head.problem, "parent": head.parent, "parents": parents, "options": given}
        labels = list(head.labels) if head.rules.has_labels else None
        return cls(**{**asdict(base), "known": None} | own | {"labels": labels})


def clean_labels(column: HeadColumn, cells: Iterable[Any], where: Callable[[int], str]) -> list[Any]:
    """Turn a column's cells into label names (`single_label`), lists of names (`multi_label`) or numbers.

    A `single_label` cell may be a list of numbers, or the JSON text of one: a soft distribution over `labels`.

    Args:
        column: how the head is read.
        cells: the raw cells, as `HeadColumn.cells` gives them.
        where: names a row in an error, from its position.

    Returns:
        One value a row; None where the label is missing.

    Raises:
        ValueError: for a cell that can't be such a value, naming its row.
    """
    if column.columns is not None:
        read = _marked
    elif column.levels:
        read = _level
    else:
        read = column.rules.pick({"single_label": _single, "multi_label": _multi, "regression": _number})
    values, known = [], {}
    for position, cell in enumerate(cells):
        if type(cell) is str and cell in known:  # labels recur
            values.append(known[cell])
            continue
        try:
            values.append(read(column, cell.tolist() if hasattr(cell, "tolist") else cell))
        except ValueError as error:
            raise ValueError(f"{where(position)}: head {column.name!r} {error}") from None
        if type(cell) is str:
            known[cell] = values[-1]
    return values


def is_missing(cell: Any) -> bool:
    """Whether a cell says nothing: None, NaN, or a text such as `nan`."""
    return cell is None or cell != cell or (isinstance(cell, str) and cell.strip() in MISSING_WORDS)


def label_name(cell: Any) -> str:
    """The name of a label, from a cell, or a part of one."""
    return canonical(str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell))


def read_number(cell: Any) -> float | None:
    """A cell's number: `12900`, `12,900`, `12,900원`, `35%`; None if it is none.

    Example:
        >>> read_number("12,900원"), read_number("서울")
        (12900.0, None)
    """
    if isinstance(cell, str):
        found = _NUMBER.fullmatch(cell.strip())
        return float(found[1].replace(",", "")) if found else None
    try:
        return float(cell) if math.isfinite(float(cell)) else None
    except (TypeError, ValueError):
        return None


def read_list(cell: Any) -> list[Any] | None:
    """The values of a cell that is a list, or spells one out as JSON, Python, pandas or NumPy do; None for others.

    Example:
        >>> read_list('["기쁨", "슬픔"]'), read_list("['기쁨' '슬픔']"), read_list("{1, 2}"), read_list("[기쁨, 슬픔]")
        (['기쁨', '슬픔'], ['기쁨', '슬픔'], [1, 2], ['기쁨', '슬픔'])
        >>> read_list("[속보] 코스피")
    """
    if isinstance(cell, (list, tuple, set)):
        return list(cell)
    text = cell.strip() if isinstance(cell, str) else ""
    if text[:1] + text[-1:] not in ("[]", "()", "{}") or text.isalpha():
        return None
    inside = text[1:-1]
    if text[0] in "[{":
        try:
            found = json.loads(text)
            return found["choices"] if isinstance(found, dict) and set(found) == {"choices"} else found
        except json.JSONDecodeError:
            pass
    try:  # NumPy writes no commas, and Python would join the texts
        spaced = re.sub(r"(['\"\d.])\s+(?=['\"\d-])", r"\1, ", text) if "," not in inside else text
        found = ast.literal_eval(spaced)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        bare = text[0] == "[" and not re.search(r"[\[\]'\"]", inside)
        return [part.strip() for part in inside.split(",")] if bare else None
    if isinstance(found, (list, tuple, set)):
        return sorted(found, key=str) if isinstance(found, set) else list(found)
    return None


def soft_label(cell: str) -> list[float] | None:
    """The numbers of a cell that is the JSON text of a list of them; None for any other."""
    if not cell.lstrip().startswith("["):
        return None
    try:
        parsed = json.loads(cell)
    except json.JSONDecodeError:
        return None
    is_list = isinstance(parsed, list) and parsed and all(isinstance(p, (int, float)) for p in parsed)
    return parsed if is_list else None


def marks(parts: list[Any]) -> list[bool] | None:
    """What a vector of 0 and 1 says of each label; None for a list of other values.

    Example:
        >>> marks([0, 1.0, 0]), marks(["0", "3"])
        ([False, True, False], None)
    """
    words = [whole_number(str(part)) for part in parts]
    return [word == "1" for word in words] if set(words) <= {"0", "1"} else None


# ------------------------------------------------------------------------------- one cell; errors go on with the head


def _named(column: HeadColumn, cell: Any) -> str:
    name = label_name(cell)
    return name if column.codes is None else column.codes.get(name) or column.codes.get(whole_number(name), name)


def _single(column: HeadColumn, cell: Any) -> Any:
    if isinstance(cell, str):
        cell = soft_label(cell) or cell
    if isinstance(cell, (list, tuple)) and len(cell) < 2 and not isinstance((*cell, None)[0], float):
        cell = cell[0] if cell else None  # room for several, and one label
    if not isinstance(cell, (list, tuple)):
        listed = column.labels is not None and isinstance(cell, str) and cell.strip() in column.labels
        return None if is_missing(cell) and not listed else _named(column, cell)
    if not cell or not all(isinstance(p, (int, float)) and 0 <= p <= 1 for p in cell):
        raise ValueError(
            f"holds the list {str(list(cell))[:60]}; a soft label is a list of probabilities in [0, 1], and several "
            "labels a row need problem: multi_label."
        )
    if column.labels is None:
        raise ValueError("holds a soft label; list the head's `labels`, so that the order of the numbers is known.")
    if len(cell) != len(column.labels):
        raise ValueError(f"holds {len(cell)} probabilities for {len(column.labels)} labels; give one a label.")
    if abs(math.fsum(cell) - 1) > 0.01:
        raise ValueError(f"holds probabilities that sum to {math.fsum(cell):.4g}, not to 1.")
    return [float(p) / math.fsum(cell) for p in cell]


def _multi(column: HeadColumn, cell: Any) -> list[str] | None:
    parts = read_list(cell)
    if parts is None and is_missing(cell):
        return [] if column.empty == "none" else None
    if parts is None and column.separator is not None:
        parts = [part for part in str(cell).split(column.separator) if part.strip()]
    if parts is None:
        one = str(cell).strip()  # a lone name, where other cells are lists
        if column.labels is not None and _named(column, one) in column.labels:
            return [_named(column, one)]
        raise ValueError(
            f"is multi_label and holds {str(cell)[:40]!r}, which is not a JSON list; say what separates its values "
            'with `separator:`, for example ",".'
        )
    of_each = marks(parts) if len(parts) > 1 else None
    if of_each and (len(set(map(str, parts))) < len(parts) or (column.labels and len(column.labels) == len(parts) > 2)):
        if column.labels is None:
            raise ValueError(
                f"holds a vector of 0 and 1, {str(cell)[:40]}; list the head's `labels`, so that their order is known."
            )
        if len(parts) != len(column.labels):
            raise ValueError(f"holds {len(parts)} signs 0 or 1 for {len(column.labels)} labels; give one a label.")
        return [label for label, mark in zip(column.labels, of_each, strict=True) if mark]
    names = (_named(column, part) for part in parts if not is_missing(part))
    return list(dict.fromkeys(name for name in names if name))


@functools.lru_cache(maxsize=1024)
def _word(mark: str) -> str:
    """A mark as it is compared with `YES` and `NO`; "" for a missing one."""
    return "" if is_missing(mark) else whole_number(label_name(mark).lower())


def _marked(column: HeadColumn, cell: dict[str, Any]) -> Any:
    """Labels from one column a label."""
    found, given = [], False
    for name, mark in cell.items():
        word = _word(mark) if isinstance(mark, str) else _word("" if is_missing(mark) else label_name(mark))
        if word and word not in YES | NO:
            raise ValueError(f"reads column {name!r}, which holds {str(mark)[:40]!r}; write 1 or 0.")
        given = given or bool(word)
        if word in YES:
            found.append(_named(column, name))
    if column.several:
        return found if given else ([] if column.empty == "none" else None)
    if len(found) > 1:
        raise ValueError(f"has several labels, {' and '.join(found)}; that needs problem: multi_label.")
    return found[0] if found else None


def _level(column: HeadColumn, cell: Any) -> str | None:
    if is_missing(cell):
        return None
    separator = (column.separator or ">").strip() or column.separator
    parts = [_named(column, part) for part in str(cell).split(separator)]
    if len(parts) > len(column.levels):
        raise ValueError(f"has {len(parts)} levels in {str(cell)[:60]!r}, but `levels:` names {len(column.levels)}.")
    own = column.levels.index(column.name)
    return (parts[own] or None) if own < len(parts) else None


def _number(column: HeadColumn, cell: Any) -> float | None:
    if is_missing(cell):
        return None
    value = read_number(cell)
    if value is None:
        raise ValueError(f"is regression, but {str(cell)[:40]!r} is not a number.")
    return value
