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
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd

from ..models.configuration_multihead import HeadConfig
from ..models.problems import HeadLoss
from .builder import TaskBuilder
from .columns import resolve_heads, resolve_losses
from .corrections import apply_corrections, describe
from .source import SPLITS, WHOLE, CleanRows, TableSource, report_conflicts
from .split import divide, finest_head, split_indices

DEFAULT_SPLIT = {"validation": 0.1, "test": 0.1, "seed": 42}
SPLIT_KEYS = ("validation", "test", "seed", "folds", "fold")


@dataclass
class Pool:
    """The rows that are divided into folds.

    Args:
        rows: those of train, then those of validation.
        folds: int array `(rows,)`: the fold that each is in, from 0.
        order: the rows' numbers in the order of the task's own table, where it is one; else as they stand.
    """

    rows: datasets.Dataset
    folds: np.ndarray
    order: np.ndarray


@dataclass
class Task:
    """A classification task: its rows, heads, split and default recipe.

    Args:
        name: what it is called; names the cache folder too.
        source: where its rows come from.
        split: shares of the rows for `validation` and `test`, and a `seed`; splits that the source already has are
            kept as they are, the others are taken out of `train`. None divides nothing. With `folds` and `fold` the
            rows of train and validation are divided into so many parts, of which this one, from 0, is validation and
            the others are train; test rows are left out.
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
    _places: dict[str, list[int] | None] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.split or {}) - set(SPLIT_KEYS))
        if unknown:
            raise ValueError(f"split: {unknown[0]!r} is not one of {', '.join(SPLIT_KEYS)}, column.")

    @property
    def text(self) -> bool:
        """Whether rows may have a text."""
        return bool(self.source.text)

    @property
    def image(self) -> bool:
        """Whether rows may have a picture."""
        return self.source.image is not None

    @property
    def seed(self) -> int:
        """The seed that the rows are divided by."""
        return int((self.split or {}).get("seed", DEFAULT_SPLIT["seed"]))

    @property
    def fold(self) -> tuple[int, int] | None:
        """Which fold is validation, and of how many; None where rows are not divided into folds."""
        return (self.split["fold"], self.split["folds"]) if (self.split or {}).get("folds") else None

    @property
    def shares(self) -> dict[str, float]:
        """The share of the rows that each split which is taken out of others is meant to have."""
        if self.fold is not None:
            return {"validation": 1 / self.fold[1]}
        return {name: share for name in ("validation", "test") if (share := float((self.split or {}).get(name) or 0))}

    def division(self, folds: int, fold: int) -> dict[str, Any]:
        """What `split:` says to have one of several folds of this task's rows as validation.

        Args:
            folds: how many.
            fold: which one, from 0.
        """
        column = {} if self.source.split_column is None else {"column": self.source.split_column}
        return {**(self.split or {}), **column, "folds": folds, "fold": fold}

    def pool(self, folds: int, cache_dir: str | Path | None = None) -> Pool:
        """Load the rows of train and validation and divide them into folds; see `split.divide`.

        Args:
            folds: how many.
            cache_dir: as for `load`.

        Raises:
            ValueError: if there is no train split, or too few rows; or as `load`.
        """
        return self._pool(self._load(cache_dir), folds)

    def load(self, cache_dir: str | Path | None = None) -> datasets.DatasetDict:
        """Read, check, encode and divide the rows.

        Args:
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
        if self.fold is None:
            return self._load(cache_dir)
        fold, folds = (self.split.get("fold"), self.split["folds"])
        if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < folds:
            raise ValueError(f"fold must be from 0 to {folds - 1} for {folds} folds, not {fold}.")
        pool = self.pool(folds, cache_dir)
        parts = {"train": np.flatnonzero(pool.folds != fold), "validation": np.flatnonzero(pool.folds == fold)}
        return datasets.DatasetDict({name: pool.rows.select(rows) for name, rows in parts.items()})

    def _pool(self, data: datasets.DatasetDict, folds: int) -> Pool:
        if "train" not in data:
            raise ValueError(f"task {self.name!r} has no train split; it has: {', '.join(data)}.")
        names = [name for name in ("train", "validation") if name in data]
        rows = datasets.concatenate_datasets([data[name] for name in names])
        places = [self._places.get(name) for name in names]
        order = np.arange(len(rows)) if None in places else np.argsort(np.concatenate(places), kind="stable")
        return Pool(rows, divide(rows, self.heads, folds, self.seed), order)

    def _load(self, cache_dir: str | Path | None) -> datasets.DatasetDict:
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
            builder.download_and_prepare()
            loaded = builder.as_dataset()
        self.heads = self._scale(heads, frames, indices)
        self.corrected = "" if applied is None else describe(applied.by_split(indices), applied)
        self._places = {name: rows for name, (split, rows) in indices.items() if split == WHOLE}
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
        split = self.split or {}
        shares = {name: float(split.get(name) or 0) for name in ("validation", "test")}
        shares = {name: share for name, share in shares.items() if share > 0 and name not in given}
        if source not in frames or not shares:
            return {**given, **({"train": (WHOLE, None)} if source == WHOLE else {})}
        frame, seed = frames[source], self.seed
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


def _hard(value: Any, heads: list[HeadConfig], name: str) -> Any:
    if not isinstance(value, list):
        return value
    labels = next(head.labels for head in heads if head.name == name)
    return labels[max(range(len(value)), key=value.__getitem__)]


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
