"""`Task`: what there is to learn, from which rows, split how; `Task.load` gives the data set every other room reads.

A task is a `TableSource` (which columns of which tables), a split and a default recipe. Loading cleans all rows, fixes
the heads, writes canonical columns as Arrow through `TaskBuilder` (cached by the files' state, so a changed file is
read again) and divides them. The division is a list of row numbers beside the Arrow cache. Pictures are never decoded
for training here, only looked at once, small, to keep look-alikes in one split.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import statistics
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pandas as pd

from ..models.configuration_multihead import HeadConfig
from ..models.problems import HeadLoss
from .builder import TaskBuilder
from .columns import resolve_heads, resolve_losses
from .corrections import apply_corrections, describe
from .look_alikes import split_indices
from .source import SPLITS, WHOLE, CleanRows, TableSource, report_conflicts

DEFAULT_SPLIT = {"validation": 0.1, "test": 0.1, "seed": 42}


@dataclass
class Task:
    """A classification task: its rows, heads, split and default recipe.

    Args:
        name: what it is called; names the cache folder too.
        source: where its rows come from.
        split: shares of the rows for `validation` and `test`, and a `seed`; splits that the source already has are
            kept as they are, the others are taken out of `train`. None divides nothing.
        recipe: the name of the default training recipe, a mapping of overrides to it, or None.
        description: one line for `hfk tasks`.
        heads: the heads, coarse to fine; final after `load` (labels inferred, parents filled in, regression scaled).
        head_losses: how each head is trained, as far as the task says so; final after `load`.
        corrections: a file of corrected labels, applied by `load`; see `corrections.apply_corrections`.
        corrected: what `load` says about it, for people; empty without corrections.

    Example:
        >>> task = load_task("tour-mini")  # doctest: +SKIP
        >>> task.load()["train"][0]  # doctest: +SKIP
    """

    name: str
    source: TableSource
    split: dict[str, Any] | None = field(default_factory=lambda: dict(DEFAULT_SPLIT))
    recipe: str | dict[str, Any] | None = None
    description: str = ""
    heads: list[HeadConfig] = field(default_factory=list)
    head_losses: dict[str, HeadLoss] = field(default_factory=dict)
    corrections: Path | None = None
    corrected: str = ""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.split or {}) - {"validation", "test", "seed"})
        if unknown:
            raise ValueError(f"split: {unknown[0]!r} is not one of validation, test, seed, column.")

    @property
    def text(self) -> bool:
        """Whether rows may have a text."""
        return bool(self.source.text)

    @property
    def image(self) -> bool:
        """Whether rows may have a picture."""
        return self.source.image is not None

    @property
    def id_column(self) -> str | None:
        """The user's id column; None where rows are numbered."""
        return self.source.id

    def load(
        self, streaming: bool = False, cache_dir: str | Path | None = None
    ) -> datasets.DatasetDict | datasets.IterableDatasetDict:
        """Read, check, encode and divide the rows.

        Args:
            streaming: return iterable data sets and write no Arrow files. The table's cells are held in memory either
                way; pictures given as paths are not.
            cache_dir: where the Arrow files go; the `datasets` cache by default.

        Returns:
            The splits there are of `train`, `validation`, `test`, with columns `id`, `text` (str or None; if the task
            has text), `image` (`{"path", "bytes"}` or None, not decoded; if it has pictures) and one a head: a label
            index, a list of them (`multi_label`; None unknown, empty none), a float (`regression`), or a list of
            probabilities (soft labels). None is a missing label.

        Raises:
            FileNotFoundError: if a data file is missing.
            ValueError: for whatever is wrong with the rows, naming file, row and column.
        """
        cleaned = self.source.clean()
        frames = divided = {split: part.frame for split, part in cleaned.items()}
        applied = None
        if self.corrections is not None:
            # Corrected rows are divided as the uncorrected ones are, or no two scores could be compared.
            divided = {split: frame.copy() for split, frame in frames.items()}
            applied = apply_corrections(self.corrections, cleaned, self.source.heads)
        report_conflicts(cleaned, self.source.heads)
        heads = self._resolve(cleaned)
        state = json.dumps(
            [
                self.source.digest(cleaned),
                [asdict(head) for head in heads],
                *([] if applied is None else [hashlib.blake2b(self.corrections.read_bytes()).hexdigest()]),
            ],
            ensure_ascii=False,
        )
        digest = hashlib.blake2b(state.encode(), digest_size=12).hexdigest()
        with _quiet_progress():
            builder = TaskBuilder(
                cache_dir=None if cache_dir is None else str(cache_dir),
                dataset_name=re.sub(r"[^\w-]", "_", self.name),
                config_id=f"default-{digest}",
                frames=frames,
                heads=heads,
            )
            indices = self._indices(divided, heads, Path(builder.cache_dir).parent)
            if streaming:
                loaded = builder.as_streaming_dataset()
            else:
                builder.download_and_prepare()
                loaded = builder.as_dataset()
        self.heads = self._scale(heads, frames, indices)
        self.corrected = "" if applied is None else describe(applied.by_split(indices), applied)
        if streaming:
            parts = {
                name: loaded[split]
                if rows is None
                else loaded[split].filter(partial(_among, set(rows)), with_indices=True)
                for name, (split, rows) in indices.items()
            }
            return datasets.IterableDatasetDict(parts)
        return datasets.DatasetDict(
            {
                name: loaded[split] if rows is None else loaded[split].select(rows)
                for name, (split, rows) in indices.items()
            }
        )

    def _resolve(self, cleaned: dict[str, CleanRows]) -> list[HeadConfig]:
        rows = [row for part in cleaned.values() for row in part.rows]
        values = {
            column.name: [value for part in cleaned.values() for value in part.frame[column.name]]
            for column in self.source.heads
        }
        texts = [text for part in cleaned.values() for text in part.frame["text"]] if self.text else None
        heads = resolve_heads(self.source.heads, values, rows.__getitem__, texts)
        self.head_losses = resolve_losses(self.source.heads, heads, values)
        start = 0
        for part in cleaned.values():
            for column in self.source.heads:
                if column.conflicts == "ignore":
                    for name in filter(None, (column.name, column.parent)):
                        part.frame[name] = pd.Series(values[name][start : start + len(part.frame)], dtype=object)
            start += len(part.frame)
        return heads

    def _indices(
        self, frames: dict[str, Any], heads: list[HeadConfig], folder: Path
    ) -> dict[str, tuple[str, list[int] | None]]:
        """For each split: the builder's split it is taken from, and which of its rows (None for all)."""
        given = {name: (name, None) for name in SPLITS if name in frames}
        source = WHOLE if WHOLE in frames else "train"
        shares = {name: float((self.split or {}).get(name) or 0) for name in ("validation", "test")}
        shares = {name: share for name, share in shares.items() if share > 0 and name not in given}
        if source not in frames or not shares:
            return {**given, **({"train": (WHOLE, None)} if source == WHOLE else {})}
        frame, seed = frames[source], int((self.split or {}).get("seed", 42))
        head = finest_head(heads)
        key = hashlib.blake2b(repr((2, source, seed, shares, head)).encode(), digest_size=8).hexdigest()
        cache = folder / f"split-{key}.json"
        if cache.is_file():
            parts = json.loads(cache.read_text(encoding="utf-8"))
        else:
            labels = None if head is None else [_hard(value, heads, head) for value in frame[head]]
            texts = frame["text"].tolist() if self.text else None
            images = frame["image"].tolist() if self.image else None
            if texts is None and images is None and labels is None:
                raise ValueError("there is nothing to divide the rows by: the task has neither text nor image.")
            parts = split_indices(texts, images, labels, shares, seed=seed)
            folder.mkdir(parents=True, exist_ok=True)
            part = cache.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(parts), encoding="utf-8")
            os.replace(part, cache)
        for name in shares:
            if not parts[name]:
                warnings.warn(f"{len(frame)} rows are too few for the split {name!r}; it was left out.", stacklevel=3)
        result = {**given, **{name: (source, rows) for name, rows in parts.items() if rows}}
        return {name: result[name] for name in SPLITS if name in result}

    def _scale(
        self, heads: list[HeadConfig], frames: dict[str, Any], indices: dict[str, tuple[str, list[int] | None]]
    ) -> list[HeadConfig]:
        """Set each regression head's mean and deviation from the train rows, unless they were given."""
        given = {column.name: column.options for column in self.source.heads}
        for head in heads:
            if head.problem != "regression" or "train" not in indices:
                continue
            split, rows = indices["train"]
            column = frames[split][head.name]
            values = [value for value in (column if rows is None else column.iloc[rows]) if value is not None]
            if len(set(values)) < 2 and given[head.name].get("std") is None:
                raise ValueError(f"head {head.name!r} has one value only in train: nothing to predict; leave it out.")
            if given[head.name].get("mean") is None:
                head.mean = statistics.fmean(values)
            if given[head.name].get("std") is None:
                head.std = statistics.pstdev(values)
        return heads


def finest_head(heads: list[HeadConfig]) -> str | None:
    """The head to stratify by: the `single_label` head of most labels, a child before its parent at a tie.

    Args:
        heads: the heads.

    Returns:
        Its name, None without a `single_label` head.
    """
    single = [head for head in heads if head.problem == "single_label"]
    return max(single, key=lambda head: (len(head.labels), head.parent is not None)).name if single else None


def _hard(value: Any, heads: list[HeadConfig], name: str) -> Any:
    if not isinstance(value, list):
        return value
    labels = next(head.labels for head in heads if head.name == name)
    return labels[max(range(len(value)), key=value.__getitem__)]


def _among(rows: set[int], _: dict[str, Any], index: int) -> bool:
    return index in rows


@contextlib.contextmanager
def _quiet_progress() -> Iterator[None]:
    """No bars of `datasets` where nobody watches: in a pipe, a log, a test."""
    watched = sys.stderr is not None and sys.stderr.isatty()
    if watched or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
