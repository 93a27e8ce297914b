"""All rows of a head together: settling names, inferring labels, finding parents, refusing nonsense.

`settle` makes names agree that a table writes in several ways; `resolve_heads` returns the final heads, and
`resolve_losses` how each is trained.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..models.configuration_multihead import HeadConfig, validate_heads, validate_parents
from ..models.problems import LOSS_OPTIONS, HeadLoss
from .columns import HEAD_OPTIONS, HeadColumn
from .names import near_equal, whole_number

Where = Callable[[int], str]
_SHOWN = 5
PATH = " > "
"""Stands between a parent and its child in the name of a qualified label."""


def settle(columns: Sequence[HeadColumn], values: dict[str, list[Any]], where: Where) -> dict[str, list[Any]]:
    """Make labels agree that a table writes in several ways.

    `1.0` is `1` in a column of whole numbers, names under several parents are qualified where the head says so, and
    where a row has a label but not its parent, the parent that all other rows give it is filled in.

    Args:
        columns: the heads as asked for.
        values: for each head, its clean values, one a row.
        where: names a row.

    Returns:
        the same with new lists for what changed.
    """
    validate_parents(columns)
    values = {column.name: _fold_numbers(column, values[column.name]) for column in columns}
    for column in columns:
        if column.qualify:
            _qualify(column, values)
    for column in reversed(_coarse_to_fine(columns)):
        if column.parent is not None:
            _fill_parents(column, values, where)
    return values


def _coarse_to_fine(columns: Sequence[HeadColumn]) -> list[HeadColumn]:
    by_name = {column.name: column for column in columns}

    def depth(column: HeadColumn | None) -> int:
        return 0 if column is None else 1 + depth(by_name.get(column.parent))

    return sorted(columns, key=depth)


def _fold_numbers(column: HeadColumn, values: list[Any]) -> list[Any]:
    names = _counts(column, values)
    allowed = column.labels if column.labels is not None else column.known
    if allowed is None:
        new = {name: whole_number(name) for name in names}
        if not all(name.lstrip("-").isdecimal() for name in new.values()):
            return values
    else:
        folded = {whole_number(label): label for label in allowed}
        new = {name: folded.get(whole_number(name), name) for name in names if name not in allowed}
    if all(name == to for name, to in new.items()):
        return values
    return _renamed(values, new)


def _renamed(values: list[Any], new: Mapping[str, str]) -> list[Any]:
    """Values with other names; lists of numbers stay."""
    return [
        list(dict.fromkeys(new.get(name, name) for name in value)) if isinstance(value, list) else new.get(value, value)
        for value in values
    ]


def _qualify(column: HeadColumn, values: dict[str, list[Any]]) -> None:
    """Put the parent's name before the names that stand under several."""
    if column.parent is None:
        raise ValueError(f"head {column.name!r}: `qualify` puts a parent's name before its labels; name its `parent:`.")
    children, parents = values[column.name], values[column.parent]
    allowed = column.labels if column.labels is not None else column.known
    if allowed is not None:
        ambiguous = {label.rpartition(PATH)[2] for label in allowed} - set(allowed)
    else:
        above = _parents_of(column, values)
        ambiguous = {child for child, found in above.items() if len(found) > 1}
    values[column.name] = [
        child if child not in ambiguous else (None if parent is None else f"{parent}{PATH}{child}")
        for child, parent in zip(children, parents, strict=True)
    ]
    without = sum(child in ambiguous and parent is None for child, parent in zip(children, parents, strict=True))
    if without:
        warnings.warn(
            f"head {column.name!r}: {_count(without, 'row')} with a name that stands under several {column.parent} "
            f"({', '.join(sorted(ambiguous)[:_SHOWN])}) say under which; the label counts as missing there.",
            stacklevel=3,
        )


def _parents_of(column: HeadColumn, values: dict[str, list[Any]]) -> dict[str, dict[str, list[int]]]:
    """child → parent → the rows that say so."""
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (child, parent) in enumerate(zip(values[column.name], values[column.parent], strict=True)):
        if isinstance(child, str) and isinstance(parent, str):
            found[child][parent].append(row)
    return found


def _fill_parents(column: HeadColumn, values: dict[str, list[Any]], where: Where) -> None:
    children, parents = values[column.name], values[column.parent]
    lacking = [row for row, parent in enumerate(parents) if parent is None and isinstance(children[row], str)]
    if not lacking:
        return
    known = {child: next(iter(above)) for child, above in _parents_of(column, values).items() if len(above) == 1}
    known |= column.parents or {}
    filled = [row for row in lacking if children[row] in known]
    parents = list(parents)
    for row in filled:
        parents[row] = known[children[row]]
    if filled:
        values[column.parent] = parents
        warnings.warn(
            f"{_count(len(filled), 'row')} with a {column.name} but no {column.parent} get the {column.parent} that it "
            f"has elsewhere ({_rows(filled, where)}).",
            stacklevel=4,
        )


def resolve_heads(
    columns: Sequence[HeadColumn],
    values: dict[str, list[Any]],
    where: Where,
    texts: Sequence[str | None] | None = None,
) -> list[HeadConfig]:
    """Make the final heads: labels, parents, checks; means and deviations are not set yet, they come from `train`.

    Args:
        columns: the heads as asked for.
        values: for each head, its settled values, one a row (all splits together). Rows that contradict a parent lose
            both labels in place, if the head says `conflicts: ignore`.
        where: names a row in an error.
        texts: the rows' texts, to notice a label column that repeats them.

    Raises:
        ValueError: for a column that can't be a label, an unknown label, or a label with two parents; naming rows.
    """
    if not columns:
        raise ValueError("there are no heads: name at least one label column under heads:.")
    for column in columns:
        if column.parent is not None and column.conflicts == "ignore":
            _ignore_conflicts(column, values, where)
    _check_allowed(columns, values, where)
    texts = None if texts is None else [(text or "").strip() for text in texts]
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
    _remark(columns, values)
    return heads


def resolve_losses(
    columns: Sequence[HeadColumn], heads: Sequence[HeadConfig], values: dict[str, list[Any]]
) -> dict[str, HeadLoss]:
    """Say how each head is trained, as far as its column says so; ValueError for options that it can't have."""
    losses = {}
    for column, head in zip(columns, heads, strict=True):
        options = {key: column.options[key] for key in LOSS_OPTIONS if column.options.get(key) is not None}
        options["class_weights"] = _class_weights(column, head.labels, values[column.name])
        losses[head.name] = HeadLoss(**options)
        head.rules.validate_loss(losses[head.name])
    return losses


def _counts(column: HeadColumn, values: list[Any]) -> Counter[str]:
    """How many rows have each label; distributions count for none."""
    counts = Counter([value for value in values if isinstance(value, str)])
    if column.several:
        counts.update(label for value in values if value for label in value)
    return counts


def _labels(column: HeadColumn, values: list[Any], where: Where, texts: list[str] | None) -> list[str]:
    name = (
        f"head {column.name!r} (column {column.column!r})" if column.column != column.name else f"head {column.name!r}"
    )
    if not column.rules.has_labels:
        numbers = {value for value in values if value is not None}
        if not numbers:
            raise ValueError(f"{name} has no numbers: every cell is empty; leave the column out.")
        return []
    counts = _counts(column, values)
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
        same = sum(value is not None and value == text for value, text in zip(values, texts, strict=True))
        if same > 0.9 * given:
            raise ValueError(
                f"{name} repeats the text in {same} of {given} rows: it is the input; leave the column out."
            )
    if given >= 3 and len(counts) == given and max(counts.values()) == 1:
        raise ValueError(
            f"{name} has a different value on each of its {given} rows: it looks like an id, no class could be learnt; "
            "leave the column out."
        )
    return sort_labels(counts)


def _remark(columns: Sequence[HeadColumn], values: dict[str, list[Any]]) -> None:
    """Say which labels that the rows alone tell have one row only, or nearly the same name."""
    lone, alike = [], []
    for column in columns:
        if not column.rules.has_labels or column.labels is not None or column.known is not None:
            continue
        counts = _counts(column, values[column.name])
        counts = {label: count for label, count in counts.items() if count >= column.min_rows}
        if single := sorted(label for label, count in counts.items() if count == 1):
            lone.append(f"{_count(len(single), 'label')} of {column.name!r} ({_some(single)})")
        alike += [(column.name, *group) for group in near_equal(counts)]
    if lone:
        warnings.warn(
            f"{' and '.join(lone)} with one row only; such rows stay in train, so no score can be measured for them.",
            stacklevel=3,
        )
    if alike:
        pairs = [f"{' and '.join(map(repr, group))} of {name!r}" for name, *group in alike]
        _, one, other = alike[0][:3]
        warnings.warn(
            f"{_some(pairs)} are different labels; if they mean one, map them in `labels:`, as in "
            f"{{{one}: {other}, …}}.",
            stacklevel=3,
        )


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Sort label names: by value if all are whole numbers, else by code point (for Hangul, 가나다 order).

    Example:
        >>> sort_labels(["10", "9"]), sort_labels(["음식", "숙박"])
        (['9', '10'], ['숙박', '음식'])
    """
    labels = list(labels)
    if all(label.lstrip("-").isdecimal() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _check_allowed(columns: Sequence[HeadColumn], values: dict[str, list[Any]], where: Where) -> None:
    """Refuse labels that the heads don't have, all in one message."""
    said = []
    for column in columns:
        allowed = column.labels if column.labels is not None else column.known
        if not column.rules.has_labels or allowed is None or column.min_rows > 1:
            continue
        unknown = set(_counts(column, values[column.name])) - set(allowed)
        found: dict[str, list[int]] = {}
        for row, value in enumerate(values[column.name] if unknown else ()):
            for label in sorted(unknown.intersection([value] if isinstance(value, str) else value or [])):
                found.setdefault(label, []).append(row)
        if not found:
            continue
        named = [f"{_rows(rows, where)}: {label!r}" for label, rows in found.items()]
        more = f" and {len(named) - _SHOWN:,} more" * (len(named) > _SHOWN)
        said.append(
            f"{'; '.join(named[:_SHOWN])}{more} {'is not a label' if len(named) == 1 else 'are not labels'} of head "
            f"{column.name!r}; its {len(allowed):,} labels: {', '.join(allowed[:8])}{', …' * (len(allowed) > 8)}."
        )
    if said:
        raise ValueError(f"{' '.join(said)} Correct the rows, or leave their cells empty.")


def _ignore_conflicts(column: HeadColumn, values: dict[str, list[Any]], where: Where) -> None:
    children, parents = values[column.name], values[column.parent]
    above = _parents_of(column, values)
    usual = {child: min(found, key=lambda name: (-len(found[name]), name)) for child, found in above.items()}
    usual |= column.parents or {}
    wrong = [
        position
        for position, (child, parent) in enumerate(zip(children, parents, strict=True))
        if isinstance(child, str) and isinstance(parent, str) and usual[child] != parent
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
    column: HeadColumn, labels: dict[str, list[str]], values: dict[str, list[Any]], where: Where
) -> list[int]:
    above = _parents_of(column, values)
    given, parents = column.parents or {}, {}
    for label in labels[column.name]:
        found = above.get(label, {})
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
                f"{column.name} {label!r} has {len(found)} parents in {column.parent}: {sides}. If these are different "
                f"things of one name, say `qualify: true` for head {column.name!r}: they become "
                f"{' and '.join(repr(parent + PATH + label) for parent in sorted(found)[:2])}. Else correct the rows, "
                "or say `conflicts: ignore`, or take its `parent:` out."
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


def _rows(positions: list[int], where: Where) -> str:
    shown = ", ".join(where(position) for position in positions[:3])
    return shown if len(positions) <= 3 else f"{shown} and {len(positions) - 3} more"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
