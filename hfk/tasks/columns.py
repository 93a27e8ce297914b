"""From the cells of a label column to a `HeadConfig`: cleaning, inferring labels, finding parents, refusing nonsense.

`HeadColumn` says how a head is read from a table; `clean_labels` turns its cells into label names, lists of names or
numbers; `resolve_heads` looks at all rows and returns the final heads. Every refusal is one sentence with the row.
Nothing here reads files or encodes to indices (`source.py` and `builder.py` do).
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..models.configuration_multihead import HEAD_KINDS, HeadConfig, validate_heads, validate_parents
from ..models.problems import LOSS_OPTIONS, PROBLEMS, SPELLINGS, HeadLoss, Problem

RESERVED = ("id", "text", "image")
MISSING_WORDS = frozenset({"", "nan", "NaN", "<NA>", "NaT"})
HEAD_OPTIONS = ("kind", "dropout", "temperature", "path_weight", "mean", "std")
OPTIONS = (*HEAD_OPTIONS, *LOSS_OPTIONS)
_SHOWN = 5


@dataclass
class HeadColumn:
    """How one head is read from a table.

    Args:
        name: the head's name, and the column of the dataset that `Task.load` returns.
        column: the table's column; `name` by default.
        problem: as in `HeadConfig`.
        separator: what separates the values of a `multi_label` cell; surrounding spaces are cut.
        parent: name of the coarser head.
        labels: label names in index order; None infers them from the rows. Other labels in the rows are errors.
        known: names a label may have, in order; the labels are those of them that occur. For `labels="present"` tasks.
        parents: the parent label of each label, where it is known beforehand; rows that contradict it are errors.
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
    problem: str = "single_label"
    separator: str | None = None
    parent: str | None = None
    labels: list[str] | None = None
    known: list[str] | None = None
    parents: dict[str, str] | None = None
    empty: str = "unknown"
    conflicts: str = "error"
    min_rows: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"head {self.name!r}"
        self.column = self.column or self.name
        self.problem = SPELLINGS.get(self.problem, self.problem)
        if self.name in RESERVED:
            raise ValueError(
                f"a head can't be called {self.name!r}: call it something else and say `column: {self.name}`."
            )
        if self.problem not in PROBLEMS:
            raise ValueError(f"{where}: problem {self.problem!r} is not one of {', '.join(PROBLEMS)}.")
        if self.options.get("kind", "linear") not in HEAD_KINDS:
            raise ValueError(f"{where}: kind {self.options['kind']!r} is not one of {', '.join(HEAD_KINDS)}.")
        if self.empty not in ("unknown", "none"):
            raise ValueError(f"{where}: empty {self.empty!r} is not one of unknown, none.")
        if self.conflicts not in ("error", "ignore"):
            raise ValueError(f"{where}: conflicts {self.conflicts!r} is not one of error, ignore.")
        if isinstance(self.min_rows, bool) or not isinstance(self.min_rows, int) or self.min_rows < 1:
            raise ValueError(f"{where}: min_rows must be a whole number of at least 1, not {self.min_rows!r}.")
        if self.separator is not None and (not self.several or not str(self.separator)):
            raise ValueError(f"{where}: a separator belongs to problem multi_label, and can't be empty.")
        if self.labels is not None:
            self.labels = [str(label) for label in self.labels]

    @property
    def rules(self) -> Problem:
        """What follows from the head's problem."""
        return PROBLEMS[self.problem](self)

    @property
    def several(self) -> bool:
        """Whether a row may have several labels."""
        return self.rules.has_labels and not self.rules.exclusive

    @classmethod
    def from_head(
        cls, head: HeadConfig, base: HeadColumn | None = None, parents: dict[str, str] | None = None
    ) -> HeadColumn:
        """A column whose labels and options are those of a finished head, such as a checkpoint's.

        Args:
            head: the finished head.
            base: where it is read from (column, separator, meaning of empty cells); the head's name by default.
            parents: the parent label of each label, for a head with `parent_of`.
        """
        given = {name: value for name, value in (base.options if base else {}).items() if name in LOSS_OPTIONS}
        given |= {name: getattr(head, name) for name in HEAD_OPTIONS}
        return cls(
            name=head.name,
            column=base.column if base else None,
            problem=head.problem,
            separator=base.separator if base else None,
            parent=head.parent,
            labels=list(head.labels) if head.rules.has_labels else None,
            parents=parents,
            empty=base.empty if base else "unknown",
            conflicts=base.conflicts if base else "error",
            min_rows=base.min_rows if base else 1,
            options=given,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for fingerprints."""
        return asdict(self)


def clean_labels(column: HeadColumn, cells: Iterable[Any], where: Callable[[int], str]) -> list[Any]:
    """Turn a column's cells into label names (`single_label`), lists of names (`multi_label`) or numbers.

    A `single_label` cell may be a list of numbers, or the JSON text of one: a soft distribution over `labels`.

    Args:
        column: how the head is read.
        cells: the raw cells.
        where: names a row in an error, from its position.

    Returns:
        One value a row; None where the label is missing.

    Raises:
        ValueError: for a cell that can't be such a value, naming its row.
    """
    read = column.rules.pick({"single_label": _single, "multi_label": _multi, "regression": _number})
    return [read(column, cell, position, where) for position, cell in enumerate(cells)]


def _missing(cell: Any) -> bool:
    return (
        cell is None
        or (isinstance(cell, float) and math.isnan(cell))
        or (isinstance(cell, str) and cell.strip() in MISSING_WORDS)
    )


def _label(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def soft_label(cell: str) -> list[float] | None:
    """The numbers of a cell that is the JSON text of a list of them; None for any other.

    Args:
        cell: the text.
    """
    if not cell.lstrip().startswith("["):
        return None
    try:
        parsed = json.loads(cell)
    except json.JSONDecodeError:
        return None
    is_list = isinstance(parsed, list) and parsed and all(isinstance(p, (int, float)) for p in parsed)
    return parsed if is_list else None


def _single(column: HeadColumn, cell: Any, position: int, where: Callable[[int], str]) -> Any:
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, str):
        cell = soft_label(cell) or cell
    if not isinstance(cell, (list, tuple)):
        return None if _missing(cell) else _label(cell)
    at = f"{where(position)}: head {column.name!r}"
    if not cell or not all(isinstance(p, (int, float)) and 0 <= p <= 1 for p in cell):
        raise ValueError(
            f"{at} holds the list {str(list(cell))[:60]}; a soft label is a list of probabilities in [0, 1], and "
            "several labels a row need problem: multi_label."
        )
    if column.labels is None:
        raise ValueError(
            f"{at} holds a soft label; list the head's `labels`, so that the order of the numbers is known."
        )
    if len(cell) != len(column.labels):
        raise ValueError(f"{at} holds {len(cell)} probabilities for {len(column.labels)} labels; give one a label.")
    if abs(math.fsum(cell) - 1) > 0.01:
        raise ValueError(f"{at}: the probabilities sum to {math.fsum(cell):.4g}, not to 1.")
    return [float(p) / math.fsum(cell) for p in cell]


def _multi(column: HeadColumn, cell: Any, position: int, where: Callable[[int], str]) -> list[str] | None:
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)):
        values = [_label(value) for value in cell if not _missing(value)]
    elif _missing(cell):
        return [] if column.empty == "none" else None
    elif column.separator is not None:
        values = [value.strip() for value in str(cell).split(column.separator)]
    elif isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            values = [_label(value) for value in json.loads(cell)]
        except json.JSONDecodeError as error:
            raise ValueError(f"{where(position)}: head {column.name!r}: {cell[:40]!r} is not a JSON list.") from error
    else:
        raise ValueError(
            f"{where(position)}: head {column.name!r} is multi_label and holds {str(cell)[:40]!r}; say what separates "
            'its values with `separator:`, for example ",".'
        )
    return list(dict.fromkeys(value for value in values if value))


def _number(column: HeadColumn, cell: Any, position: int, where: Callable[[int], str]) -> float | None:
    if _missing(cell):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"{where(position)}: head {column.name!r} is regression, but {str(cell)[:40]!r} is not a number."
        )
    return value


# ------------------------------------------------------------------------------------------------- all rows together


def resolve_heads(
    columns: Sequence[HeadColumn],
    values: dict[str, list[Any]],
    where: Callable[[int], str],
    texts: Sequence[str | None] | None = None,
) -> list[HeadConfig]:
    """Look at all rows and make the final heads: labels, parents, checks.

    Args:
        columns: the heads as asked for.
        values: for each head, its cleaned values, one a row (all splits together). Rows that contradict a parent lose
            both labels in place, if the head says `conflicts: ignore`.
        where: names a row in an error.
        texts: the rows' texts, to notice a label column that repeats them.

    Returns:
        One `HeadConfig` a column, in order. Regression means and deviations are not set yet: they come from `train`.

    Raises:
        ValueError: for a column that can't be a label, an unknown label, or a label with two parents; naming rows.
    """
    if not columns:
        raise ValueError("there are no heads: name at least one label column under heads:.")
    validate_parents(columns)
    for column in columns:
        if column.parent is not None and column.conflicts == "ignore":
            _ignore_conflicts(column, values, where)
    heads, labels = [], {}
    for column in columns:
        labels[column.name] = _labels(column, values[column.name], where, texts)
    for column in columns:
        options = {key: column.options[key] for key in HEAD_OPTIONS if column.options.get(key) is not None}
        if column.parent is not None:
            options["parent"] = column.parent
            options["parent_of"] = _parent_of(column, labels, values, where)
        heads.append(HeadConfig(name=column.name, labels=labels[column.name], problem=column.problem, **options))
    validate_heads(heads)
    return heads


def resolve_losses(
    columns: Sequence[HeadColumn], heads: Sequence[HeadConfig], values: dict[str, list[Any]]
) -> dict[str, HeadLoss]:
    """Say how each head is trained, as far as its column says so: head name → `HeadLoss`.

    Args:
        columns: the heads as asked for.
        heads: the same heads, final.
        values: as for `resolve_heads`.

    Raises:
        ValueError: for options that the head can't have; one sentence.
    """
    losses = {}
    for column, head in zip(columns, heads, strict=True):
        options = {key: column.options[key] for key in LOSS_OPTIONS if column.options.get(key) is not None}
        options["class_weights"] = _class_weights(column, head.labels, values[column.name])
        losses[head.name] = HeadLoss(**options)
        head.rules.validate_loss(losses[head.name])
    return losses


def _labels(
    column: HeadColumn, values: list[Any], where: Callable[[int], str], texts: Sequence[str | None] | None
) -> list[str]:
    name = (
        f"head {column.name!r} (column {column.column!r})" if column.column != column.name else f"head {column.name!r}"
    )
    if not column.rules.has_labels:
        numbers = {value for value in values if value is not None}
        if not numbers:
            raise ValueError(f"{name} has no numbers: every cell is empty; leave the column out.")
        return []
    counts: Counter[str] = Counter()
    for value in values:
        if isinstance(value, str):
            counts[value] += 1
        elif value and column.several:
            counts.update(value)
    allowed = column.labels if column.labels is not None else column.known
    if allowed is not None and column.min_rows == 1:
        _check_allowed(column, allowed, counts, values, where)
    if column.labels is not None:
        return column.labels
    if not counts:
        raise ValueError(f"{name} has no labels: every cell is empty; leave the column out, or list its `labels`.")
    if column.min_rows > 1:
        counts = Counter({label: count for label, count in counts.items() if count >= column.min_rows})
        if not counts:
            raise ValueError(f"{name} has no label on {column.min_rows} rows or more; lower its min_rows.")
    if column.known is not None:
        return [label for label in column.known if label in counts]
    given = sum(value is not None for value in values)
    if len(counts) == 1:
        raise ValueError(
            f"{name} has one value only ({next(iter(counts))!r}): nothing to decide; leave the column out."
        )
    if texts is not None and column.rules.exclusive:
        same = sum(
            value is not None and value == (text or "").strip() for value, text in zip(values, texts, strict=True)
        )
        if same > 0.9 * given:
            raise ValueError(
                f"{name} repeats the text in {same} of {given} rows: it is the input; leave the column out."
            )
    if given >= 3 and len(counts) == given and max(counts.values()) == 1:
        raise ValueError(
            f"{name} has a different value on each of its {given} rows: it looks like an id, no class could be learnt; "
            "leave the column out."
        )
    single = [label for label, count in counts.items() if count == 1]
    if single:
        warnings.warn(
            f"{name}: {_listed(sorted(single), 'label')} with one row only; such rows stay in train, so no score can "
            "be measured for them.",
            stacklevel=2,
        )
    return sort_labels(counts)


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Sort label names: by value if all are whole numbers, else by code point (for Hangul, 가나다 order).

    Args:
        labels: the names.

    Example:
        >>> sort_labels(["10", "9"]), sort_labels(["음식", "숙박"])
        (['9', '10'], ['숙박', '음식'])
    """
    labels = list(labels)
    if all(label.lstrip("-").isdecimal() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _check_allowed(
    column: HeadColumn, allowed: list[str], counts: Counter[str], values: list[Any], where: Callable[[int], str]
) -> None:
    unknown = set(counts) - set(allowed)
    if not unknown:
        return
    for position, value in enumerate(values):
        found = unknown.intersection([value] if isinstance(value, str) else value or [])
        if found:
            more = f" ({len(unknown)} unknown labels in all)" if len(unknown) > 1 else ""
            known = ", ".join(allowed[:8]) + (", …" if len(allowed) > 8 else "")
            raise ValueError(
                f"{where(position)}: {min(found)!r} is not a label of head {column.name!r}{more}; its {len(allowed)} "
                f"labels: {known}. Correct the row, or leave its cell empty."
            )


def _ignore_conflicts(column: HeadColumn, values: dict[str, list[Any]], where: Callable[[int], str]) -> None:
    children, parents = values[column.name], values[column.parent]
    pairs = Counter(
        (child, parent) for child, parent in zip(children, parents, strict=True) if isinstance(child, str) and parent
    )
    usual = dict(column.parents or {})
    for (child, parent), _ in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        usual.setdefault(child, parent)
    wrong = [
        position
        for position, (child, parent) in enumerate(zip(children, parents, strict=True))
        if isinstance(child, str) and parent is not None and usual[child] != parent
    ]
    for position in wrong:
        children[position] = parents[position] = None
    if wrong:
        warnings.warn(
            f"{len(wrong)} rows put a {column.name} under another {column.parent} than most rows do; these labels of "
            f"theirs are ignored ({_rows(wrong, where)}).",
            stacklevel=2,
        )


def _parent_of(
    column: HeadColumn, labels: dict[str, list[str]], values: dict[str, list[Any]], where: Callable[[int], str]
) -> list[int]:
    rows: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, (child, parent) in enumerate(zip(values[column.name], values[column.parent], strict=True)):
        if isinstance(child, str) and isinstance(parent, str):
            rows[child][parent].append(position)
    given, parents = column.parents or {}, {}
    for label in labels[column.name]:
        found = rows.get(label, {})
        if label in given:
            for parent, positions in found.items():
                if parent != given[label]:
                    raise ValueError(
                        f"{_rows(positions, where)}: {column.name} {label!r} stands under {column.parent} {parent!r}, "
                        f"but it belongs to {given[label]!r}; correct the row."
                    )
            parents[label] = given[label]
        elif len(found) > 1:
            sides = "; ".join(f"{parent!r} in {_rows(positions, where)}" for parent, positions in sorted(found.items()))
            raise ValueError(
                f"{column.name} {label!r} has {len(found)} parents in {column.parent}: {sides}. Correct the rows, or "
                f"say `conflicts: ignore` for head {column.name!r}, or take its `parent:` out."
            )
        elif not found:
            raise ValueError(
                f"{column.name} {label!r} has no parent: no row with it has a {column.parent}; fill in {column.parent} "
                "on one such row."
            )
        else:
            parents[label] = next(iter(found))
    index = {label: number for number, label in enumerate(labels[column.parent])}
    lost = sorted({parent for parent in parents.values() if parent not in index})
    if lost:
        raise ValueError(
            f"head {column.name!r}: its parent label {lost[0]!r} is not a label of head {column.parent!r}."
        )
    return [index[parents[label]] for label in labels[column.name]]


def _class_weights(column: HeadColumn, labels: list[str], values: list[Any]) -> list[float] | None:
    wanted = column.options.get("class_weights")
    if wanted is None or isinstance(wanted, (list, tuple)):
        return None if wanted is None else [float(weight) for weight in wanted]
    if isinstance(wanted, dict):
        weights = {str(label): float(weight) for label, weight in wanted.items()}
        unknown = sorted(set(weights) - set(labels))
        if unknown:
            raise ValueError(f"head {column.name!r}: class_weights names {unknown[0]!r}, which is not a label of it.")
        return [weights.get(label, 1.0) for label in labels]
    if wanted != "balanced":
        raise ValueError(f"head {column.name!r}: class_weights is a list, a mapping from label to weight, or balanced.")
    if column.several:
        given = [value for value in values if value is not None]
        counts = Counter(label for value in given for label in value)
        return [max(1.0, (len(given) - counts[label]) / max(1, counts[label])) for label in labels]
    counts = Counter(value for value in values if isinstance(value, str))
    total, present = sum(counts.values()), max(1, len(counts))
    return [total / (present * counts[label]) if counts[label] else 1.0 for label in labels]


def _rows(positions: list[int], where: Callable[[int], str]) -> str:
    shown = ", ".join(where(position) for position in positions[:3])
    return shown if len(positions) <= 3 else f"{shown} and {len(positions) - 3} more"


def _listed(names: list[str], noun: str) -> str:
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''} ({shown})"
