"""Translation between dialects and the standard language: each pair of sentences as two rows, one a direction.

Pairs are read, cleaned and grouped as for detection (`dialect.py`); here they keep both sides. Words are trained on and
never scored, and pairs whose sides are equal give one row, into the standard language: a model must learn to copy.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from .dialect import GROUPS, SPLIT, STANDARD, Pair, clean_pairs
from .samples import read_sample
from .source import SPLITS, WHOLE, RawTable, TableSource, as_files, read_files
from .split import split_indices
from .task import Task


class TranslationTask(Task):
    """Rows with `id`, `text`, `target`, and what they are in and shall become: `source` and `to`.

    Args:
        name: what it is called.
        read: lists the tables of pairs.
        split: as in `Task`; `group` is one of `dialect.GROUPS`.

    Example:
        >>> TranslationTask("pairs", partial(read_sample, "dialect_mini")).load()["test"][0]["to"]  # doctest: +SKIP
        'standard'
    """

    kind = "translation"

    def __init__(self, name: str, read: Callable[[], list[RawTable]], split: dict[str, Any] | None = None) -> None:
        super().__init__(name, TableSource(read, heads=[], text=["text"], id="id"), split)

    def pairs(self) -> dict[str, list[Pair]]:
        """The pairs with both sides, by split."""
        if self.source.group not in (None, *GROUPS):
            raise ValueError(f"split: group {self.source.group!r} is not one of {', '.join(GROUPS)}.")
        parts: dict[str, list[Pair]] = defaultdict(list)
        for table in self.source.read():
            for pairs in clean_pairs(table.chunks, table.file):
                for pair in pairs:
                    split = "train" if pair.is_word and table.split == WHOLE else table.split
                    useful = pair.region and pair.dialect and pair.standard
                    if useful and not (pair.is_word and split not in ("train", WHOLE)):
                        parts[split].append(pair)
        whole = parts.pop(WHOLE, [])
        if not (whole or parts):
            raise ValueError(f"task {self.name!r} has no pair with a region and both sides.")
        for name, chosen in self._divided(whole, {name for name in parts if name != "train"}).items():
            parts[name] += [whole[row] for row in chosen]
        return {name: parts[name] for name in SPLITS if parts.get(name)}

    def _divided(self, pairs: list[Pair], given: set[str]) -> dict[str, list[int]]:
        if not pairs:
            return {}
        texts, regions = [pair.standard for pair in pairs], [pair.region for pair in pairs]
        groups = [getattr(pair, self.source.group or "id", None) or pair.id for pair in pairs]
        shares = {name: share for name, share in self.shares.items() if name not in given}
        divided, said = split_indices(texts, None, regions, shares, self.seed, groups=groups)
        for sentence in said:
            warnings.warn(sentence, stacklevel=4)
        return divided

    def load(self, cache_dir: str | Path | None = None) -> datasets.DatasetDict:
        """Read and divide the pairs; see `Task.load`."""
        parts = {}
        own = {table.split for table in self.source.read()}
        for name, pairs in self.pairs().items():
            columns = zip(*(row for pair in pairs for row in _directions(pair)), strict=True)
            table = dict(zip(("id", "text", "target", "source", "to"), map(list, columns), strict=True))
            origin = datasets.NamedSplit(name if name in own else "train")
            parts[name] = datasets.Dataset.from_dict(table, split=origin)
        return datasets.DatasetDict(parts)


def _directions(pair: Pair) -> list[tuple[str, ...]]:
    into = (f"{pair.id}/{STANDARD}", pair.dialect, pair.standard, pair.region, STANDARD)
    out = (f"{pair.id}/{pair.region}", pair.standard, pair.dialect, STANDARD, pair.region)
    return [into, out] if pair.dialect != pair.standard else [into]


def dialect_translation_task(data: Any = None) -> Task:
    """The task `dialect-translation`; arguments as for `dialect.dialect_task`."""
    if data is None:
        raise ValueError(
            "pairs of dialect and standard are not part of hfk: give yours, `data=pairs.tsv`, or use the embedded "
            "sample, dialect-translation-mini."
        )
    return TranslationTask("dialect-translation", partial(read_files, as_files(data)), SPLIT)


def dialect_translation_mini_task(data: Any = None) -> Task:
    """The task `dialect-translation-mini`: sentences from templates; with `data`, those files."""
    if data is not None:
        return dialect_translation_task(data)
    read = partial(read_sample, "dialect_mini")
    return TranslationTask("dialect-translation-mini", read, SPLIT | {"test": 0.2})
