"""`Task`: what there is to learn, from which rows, split how; `Task.load` gives the data set every other room reads.

A task is a `TableSource` (which columns of which tables) and a split. Loading reads the clean rows from their Arrow
file (made anew when a table has changed), fixes the heads, puts the labels' numbers beside the inputs, and divides:
into shares or folds, as row numbers that are kept in the cache. Pictures are never decoded for training here, only
looked at once, small, to keep look-alikes in one split.
"""

from __future__ import annotations

import json
import statistics
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
import pyarrow as pa

from ..files import write_atomic
from ..models.configuration_multihead import HeadConfig
from ..models.problems import HeadLoss
from .corrections import apply_corrections, describe
from .heads import resolve_heads, resolve_losses, settle
from .labels import encode_labels
from .look_alikes import Picture
from .source import SPLITS, WHOLE, Cells, Rows, TableSource, report_conflicts
from .split import digest, divide, finest_head, split_indices

DEFAULT_SPLIT = {"validation": 0.1, "test": 0.1, "seed": 42}
SPLIT_KEYS = ("validation", "test", "seed", "group", "folds", "fold")


def complete_split(split: Mapping[str, Any] | None, default: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a task's `split` leaves open as `default` has it: seed, group, and the shares if it names none of them.

    Example:
        >>> complete_split({"group": "author"}, {"validation": 0.1, "seed": 42})
        {'validation': 0.1, 'seed': 42, 'group': 'author'}
        >>> complete_split({"test": 0.2}, {"validation": 0.1, "seed": 42})
        {'seed': 42, 'test': 0.2}
    """
    if split is None:
        return None
    shared = {"validation", "test", "folds"} & set(split)
    return {key: value for key, value in default.items() if not (shared and key in ("validation", "test"))} | split


@dataclass
class Pool:
    """The rows that are divided into folds.

    Args:
        rows: those of train, then those of validation.
        folds: int array `(rows,)`: the fold that each is in, from 0.
        order: puts the rows in the order of the task's own tables.
    """

    rows: datasets.Dataset
    folds: np.ndarray
    order: np.ndarray


@dataclass
class Task:
    """A task: its rows, heads and split. A subclass of another `kind` has rows for another Trainer (`training.kinds`).

    Args:
        name: what it is called; names the cache folder too.
        source: where its rows come from.
        split: shares of the rows for `validation` and `test`, and a `seed`; splits that the source already has are
            kept as they are, the others are taken out of `train`. None divides nothing. With `folds` and `fold` the
            rows of train and validation are divided into so many parts, of which this one, from 0, is validation and
            the others are train; test rows are left out. Rows of one value in the column `group` stay together.
        description: one line for `hfk tasks`.
        heads: the heads, coarse to fine; final after `load` (labels inferred, parents filled in, regression scaled).
        head_losses: how each head is trained, as far as the task says so; final after `load`.
        corrections: a file of corrected labels, applied by `load`; see `corrections.apply_corrections`.
        corrected: what `load` says about it, for people; empty without corrections.

    Example:
        >>> task = load_task("tour-mini")  # doctest: +SKIP
        >>> task.load()["train"][0]  # doctest: +SKIP
    """

    kind: ClassVar[str] = "classification"

    name: str
    source: TableSource
    split: dict[str, Any] | None = field(default_factory=lambda: dict(DEFAULT_SPLIT))
    description: str = ""
    heads: list[HeadConfig] = field(default_factory=list)
    head_losses: dict[str, HeadLoss] = field(default_factory=dict)
    corrections: Path | None = None
    corrected: str = ""
    _places: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _folder: Path | None = field(default=None, init=False, repr=False)
    _groups: Cells | None = field(default=None, init=False, repr=False)
    _pictures: list[Picture | None] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.divide_by(self.split)

    def divide_by(self, split: dict[str, Any] | None) -> None:
        """Set `split`; a ValueError for one that can't be."""
        unknown = sorted(set(split or {}) - set(SPLIT_KEYS))
        if unknown:
            raise ValueError(f"split: {unknown[0]!r} is not one of {', '.join(SPLIT_KEYS)}, column.")
        self.split, self.source.group = split, (split or {}).get("group")

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
        return (self.split.get("fold"), self.split["folds"]) if (self.split or {}).get("folds") else None

    @property
    def shares(self) -> dict[str, float]:
        """The share of the rows that each split which is taken out of others is meant to have."""
        if self.fold is not None:
            return {"validation": 1 / self.fold[1]}
        return {name: share for name in ("validation", "test") if (share := float((self.split or {}).get(name) or 0))}

    def division(self, folds: int, fold: int) -> dict[str, Any]:
        """What `split:` says to have fold number `fold` of `folds` as validation."""
        column = {} if self.source.split_column is None else {"column": self.source.split_column}
        return {**(self.split or {}), **column, "folds": folds, "fold": fold}

    def pool(self, folds: int, cache_dir: str | Path | None = None) -> Pool:
        """Load the rows of train and validation and divide them into so many folds; see `split.divide`."""
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
            data, self._pictures = self._load(cache_dir), None  # no folds will be asked for
            return data
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
        places = np.concatenate([self._places[name] for name in names])
        groups = None if self._groups is None else list(self._groups.take(places))
        pictures = None if self._pictures is None else [self._pictures[place] for place in places.tolist()]
        return Pool(
            rows, divide(rows, self.heads, folds, self.seed, self._folder, groups, pictures), np.argsort(places)
        )

    def look(self, cache_dir: str | Path | None = None) -> None:
        """Read and check all rows and finish the heads, as `load` does, without dividing them."""
        self._read(cache_dir)

    def _load(self, cache_dir: str | Path | None) -> datasets.DatasetDict:
        rows, values, divided, applied = self._read(cache_dir)
        folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "hfk" / rows.stamp
        indices = self._divide(rows, divided, self.heads, folder)
        self.heads = self._scale(self.heads, values, indices)
        self.corrected = "" if applied is None else describe(applied.by_split(indices), applied)
        self._places, self._folder = indices, folder
        self._groups, self._pictures = rows.cells("_group"), rows.pictures
        return _dataset(rows, values, self.heads, indices)

    def _read(self, cache_dir: str | Path | None) -> tuple[Rows, dict[str, list[Any]], dict[str, list[Any]], Any]:
        """All rows, their labels, the labels that they are divided by, and what was corrected; sets the heads."""
        columns = self.source.heads
        rows = self.source.rows(cache_dir)
        values = {column.name: rows.labels(number) for number, column in enumerate(columns)}
        values = divided = settle(columns, values, rows.where)
        applied = None
        if self.corrections is not None:
            # Corrected rows are divided as the uncorrected ones are, or no two scores could be compared.
            values, applied = apply_corrections(self.corrections, rows, columns, values)
        report_conflicts(rows, columns, values)
        self.heads = resolve_heads(columns, values, rows.where, rows.cells("text"))
        self.head_losses = resolve_losses(columns, self.heads, values)
        return rows, values, divided, applied

    def _divide(
        self, rows: Rows, values: dict[str, list[Any]], heads: list[HeadConfig], folder: Path
    ) -> dict[str, np.ndarray]:
        """The numbers of each split's rows."""
        source = WHOLE if WHOLE in rows.parts else "train"
        split = self.split or {}
        shares = {name: float(split.get(name) or 0) for name in ("validation", "test")}
        shares = {name: share for name, share in shares.items() if share > 0 and name not in rows.parts}
        given = {"train" if name == WHOLE else name: chosen for name, chosen in rows.parts.items()}
        # Beside rows that are yet to be divided, a table may have some that are only trained on.
        beside = rows.parts.get("train", np.array([], dtype=int)) if source == WHOLE else np.array([], dtype=int)
        if source not in rows.parts or not shares:
            return given | {"train": np.concatenate([beside, given["train"]])} if len(beside) else given
        own, head = rows.parts[source], finest_head(heads)
        labels = None
        if head is not None:
            names = next(column.labels for column in heads if column.name == head)
            labels = [_hard(values[head][row], names) for row in own.tolist()]
        cache = folder / f"split-{digest([source, self.seed, shares, split.get('group')], labels or ())}.json"
        if cache.is_file():
            parts, said = json.loads(cache.read_text(encoding="utf-8"))
        else:
            texts, images, groups = (
                cells and cells.take(own) for cells in map(rows.cells, ("text", "image", "_group"))
            )
            if rows.pictures is not None:
                images = [rows.pictures[row] for row in own.tolist()]
            parts, said = split_indices(texts, images, labels, shares, seed=self.seed, groups=groups)
            write_atomic(cache, json.dumps([parts, said]))
        for sentence in said:
            warnings.warn(sentence, stacklevel=3)
        result = {**given, **{name: own[chosen] for name, chosen in parts.items() if chosen}}
        if len(beside):
            result["train"] = np.concatenate([beside, result["train"]])
        return {name: result[name] for name in SPLITS if name in result}

    def _scale(
        self, heads: list[HeadConfig], values: dict[str, list[Any]], indices: dict[str, np.ndarray]
    ) -> list[HeadConfig]:
        """Set each regression head's mean and deviation from the train rows, unless they were given."""
        given = {column.name: column.options for column in self.source.heads}
        for head in heads:
            if head.rules.has_labels or "train" not in indices:
                continue
            numbers = [value for row in indices["train"].tolist() if (value := values[head.name][row]) is not None]
            if len(set(numbers)) < 2 and given[head.name].get("std") is None:
                raise ValueError(f"head {head.name!r} has one value only in train: nothing to predict; leave it out.")
            if given[head.name].get("mean") is None:
                head.mean = statistics.fmean(numbers)
            if given[head.name].get("std") is None:
                head.std = statistics.pstdev(numbers)
        return heads


def _dataset(
    rows: Rows, values: dict[str, list[Any]], heads: list[HeadConfig], indices: dict[str, np.ndarray]
) -> datasets.DatasetDict:
    """The canonical columns, by split: inputs as they lie on disk, and beside them the labels as numbers."""
    inputs = rows.data.select_columns([name for name in ("id", "text", "image") if name in rows.data.column_names])
    columns = {head.name: encode_labels(values[head.name], head) for head in heads}
    features = datasets.Features({name: feature for name, (feature, _) in columns.items()})
    table = pa.Table.from_arrays([cells for _, cells in columns.values()], schema=features.arrow_schema)
    labels = datasets.Dataset(datasets.table.InMemoryTable(table), info=datasets.DatasetInfo(features=features))
    whole = datasets.concatenate_datasets([inputs, labels], axis=1)
    parts = {}
    for name, chosen in indices.items():
        source = next(own for own, of_source in rows.parts.items() if np.isin(chosen[:1], of_source).all())
        part = datasets.Dataset(whole.data, info=whole.info, split=datasets.NamedSplit(source))
        parts[name] = part.select(chosen)
    return datasets.DatasetDict(parts)


def _hard(value: Any, labels: list[str]) -> Any:
    """A label, or of a distribution over the labels the likeliest."""
    return labels[max(range(len(value)), key=value.__getitem__)] if isinstance(value, list) else value
