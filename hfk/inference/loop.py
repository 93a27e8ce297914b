"""THE loop over rows, for whatever makes answers of them; neither torch nor transformers is imported.

Rows are read a window at a time and sorted by length inside it, so that a batch holds texts of like length and little
padding; results come back in input order. A generator in gives a generator out, and no more than one window of rows is
in memory. A bad row costs itself only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any


def run(
    rows: Iterable[Any],
    prepare: Callable[[Any], Any],
    answer: Callable[[list[Any]], Iterable[Any]],
    failed: Callable[[str], Any],
    batch_size: int,
    window: int,
    each: Callable[..., Iterable[Any]] = map,
    advance: Callable[[int], Any] = lambda count: None,
) -> Iterator[Any]:
    """Give a result for every row, in order.

    Args:
        rows: each a str, a picture, or a dict with `text`, `image` or both.
        prepare: makes what `answer` takes of one row, or a str that says why the row can't be used.
        answer: makes the results of a batch of prepared rows.
        failed: makes the result of a row that can't be used, from that sentence.
        batch_size: rows that are answered together.
        window: rows that are read and sorted together.
        each: `map`, or one that prepares rows side by side.
        advance: called with the number of rows after every batch.
    """
    source = iter(rows)
    while taken := list(islice(source, window)):
        results: list[Any] = [None] * len(taken)
        order = sorted(range(len(taken)), key=lambda index: _length(taken[index]))
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            prepared = {}
            for index, row in zip(indices, each(prepare, [taken[i] for i in indices]), strict=True):
                if isinstance(row, str):
                    results[index] = failed(row)
                else:
                    prepared[index] = row
            if prepared:
                for index, result in zip(prepared, answer([*prepared.values()]), strict=True):
                    results[index] = result
            advance(len(indices))
        yield from results


def _length(row: Any) -> int:
    text = row.get("text") if isinstance(row, dict) else row
    return len(text) if isinstance(text, str) else 0
