"""Tables of texts in, the same tables with their translations out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ...models.dialect_translator import DialectTranslator
from ...tasks.inputs import plain_text
from ...tasks.table_writer import TableWriter
from ...tasks.tables import iter_columns


def translate_table(
    translator: DialectTranslator,
    source: str | Path,
    target: str | Path,
    to: str,
    origin: str | None = None,
    column: str = "text",
    by: str | None = None,
) -> dict[str, int]:
    """Write a table again with `translation` and `error`, every row in its place.

    Args:
        translator: what translates.
        source: a table, read in chunks.
        target: file to write, format by suffix.
        to: a region, or `standard`.
        origin: what the texts are in; found out by default.
        column: their column.
        by: as `DialectTranslator` takes it.

    Returns:
        `{"rows": …, "errors": …}`.

    Raises:
        ValueError: if the column is missing, or an output column's name is taken; or for an unknown region.
    """
    if Path(target).exists() and Path(target).resolve() == Path(source).resolve():
        raise ValueError(f"{target} is the input itself; write to another file.")
    counts = {"rows": 0, "errors": 0}
    with TableWriter(target, []) as writer:
        for chunk in iter_columns(source, 1024):
            if column not in chunk:
                has = ", ".join(chunk)
                raise ValueError(f"column {column!r} is missing from {Path(source).name}; it has: {has}. Use --text.")
            taken = [name for name in ("translation", "error") if name in chunk]
            if taken:
                raise ValueError(f"{Path(source).name} already has a column {taken[0]!r}; rename it first.")
            answers = list(translator(map(plain_text, chunk[column]), to, origin, by))
            made = {"translation": [one.get("text") for one in answers], "error": [one.get("error") for one in answers]}
            writer.write(pd.DataFrame(chunk | made, dtype=object))
            counts["rows"] += len(answers)
            counts["errors"] += sum("error" in one for one in answers)
    return counts
