"""A task's rows as the profile looks at them: all splits one after the other, labels by name."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import DatasetDict
from tqdm import tqdm

from ...models.configuration_multihead import HeadConfig

SHOWN = 12  # examples of each finding
SEED = 0


@dataclass
class Rows:
    """All rows of a task, its splits one after the other; texts or images are None where the task has none of them.

    `labels` has for each head and row a tuple of names (one for `single_label`, any number for `multi_label`), a number
    (`regression`), or None where unknown.
    """

    split: list[str]
    ids: list[str]
    texts: list[str | None] | None
    images: list[Any] | None
    labels: dict[str, list[Any]] = field(default_factory=dict)

    def first_label(self, head: str | None, row: int) -> str:
        """The row's label of a `single_label` head; empty without one."""
        labels = self.labels[head][row] if head else None
        return labels[0] if labels else ""


def read_rows(data: DatasetDict, heads: list[HeadConfig]) -> Rows:
    """Collect the rows of all splits of what `Task.load` returned, labels by name."""
    names = next(iter(data.values())).column_names
    rows = Rows([], [], [] if "text" in names else None, [] if "image" in names else None, {h.name: [] for h in heads})
    for split, part in data.items():
        rows.split += [split] * len(part)
        rows.ids += part["id"]
        if rows.texts is not None:
            rows.texts += part["text"]
        if rows.images is not None:
            rows.images += part["image"]
        for head in heads:
            values = part[head.name] if head.name in part.column_names else [None] * len(part)
            read = (lambda value, rules=head.rules: tuple(rules.names(value))) if head.rules.has_labels else float
            rows.labels[head.name] += [None if value is None or value != value else read(value) for value in values]
    return rows


def progress(items: Sequence[Any] | range, what: str) -> Iterable[Any]:
    """Show how far a loop is, where somebody watches."""
    watched = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(items, desc=f"{what:10}", leave=False, disable=not watched or len(items) < 5)
