"""`Predictions`: what a model said of some rows, beside what the rows say themselves.

A test split, out-of-fold rows, the rows that a teacher answered, those that an ensemble's weights are fitted on: all
are this one object, and scores, reports, calibration and audits take nothing else. Labels are read once, where they
are first asked for (`target`). On disk it is one Parquet file that a person can open too; labels stand in it by name,
and the heads in its metadata, so it needs neither the task nor the model to be understood.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from scipy.special import logit

from ..files import replacing
from ..models.configuration_multihead import HeadConfig
from ..models.decoding import as_tensors, decide, probabilities
from ..tasks.labels import label_arrays

Arrays = dict[str, np.ndarray]
METADATA = b"hfk"
LEAST = 1e-12  # the smallest probability that a logarithm is taken of


class Target(NamedTuple):
    """One head's labels in one form, zeros where missing."""

    present: np.ndarray  # bool (rows,)
    values: np.ndarray  # int64 (rows,), bool (rows, labels) of multi_label, or float64 (rows,) of regression


@dataclass
class Predictions:
    """What a model said of some rows.

    Args:
        ids: one id a row; row numbers if None.
        heads: the heads' configurations, with the temperatures that count.
        logits: head name → `(rows, outputs)`, for every head.
        labels: head name → `single_label`: int `(rows,)` with -100 where missing, or float `(rows, labels)`, a
            distribution whose largest entry is taken as the label, NaN rows missing; `multi_label`: 0/1 float
            `(rows, labels)`, NaN rows missing; `regression`: float `(rows,)` in the target's own unit, NaN missing.
            A head may be absent.
        texts: one text a row, or None in it.
        folds: int `(rows,)`, which fold's run a row was held out from, for out-of-fold predictions.

    Raises:
        ValueError: if logits are missing, of the wrong shape or not finite, or something has another number of rows;
            the sentence names the head and the row.

    Example:
        >>> topic = HeadConfig("topic", ["정치", "경제"])
        >>> said = Predictions(None, [topic], {"topic": np.array([[2.0, 0], [0, 1]])}, {"topic": np.array([0, -100])})
        >>> said.names(topic, said.chosen["topic"]), said.target["topic"].present.tolist()
        (['정치', '경제'], [True, False])
    """

    ids: Sequence[Any] | None
    heads: list[HeadConfig]
    logits: Arrays
    labels: Arrays = dataclasses.field(default_factory=dict)
    texts: Sequence[str | None] | None = None
    folds: np.ndarray | None = None

    def __post_init__(self) -> None:
        rows = len(self.logits[self.heads[0].name]) if self.heads and self.heads[0].name in self.logits else 0
        self.logits = {head.name: self._checked(head, rows) for head in self.heads}
        self.ids = list(range(rows) if self.ids is None else self.ids)
        for name in ("ids", "texts", "folds"):
            values = getattr(self, name)
            if values is not None and len(values) != rows:
                raise ValueError(f"{name} has {len(values)} entries for {rows} rows of logits.")

    def _checked(self, head: HeadConfig, rows: int) -> np.ndarray:
        """A head's logits, `(rows, outputs)` and finite."""
        where = f"head {head.name!r}"
        if head.name not in self.logits:
            raise ValueError(f"{where}: there are no logits for it; there are some for {list(self.logits)}.")
        values = np.asarray(self.logits[head.name])
        values = values[:, None] if values.ndim == 1 and head.num_outputs == 1 else values
        if values.shape != (rows, head.num_outputs):
            raise ValueError(f"{where}: its logits have the shape {values.shape}, not {(rows, head.num_outputs)}.")
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if broken.size:
            raise ValueError(
                f"{where}, row {broken[0]}: the logits are not finite ({broken.size} such rows of {rows}); training "
                "has probably diverged: try a lower learning rate, or bf16 instead of fp16."
            )
        return values

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, rows: Dataset, heads: list[HeadConfig], logits: Arrays) -> Predictions:
        """Put logits beside the ids, texts and labels of rows in a task's columns; a head may have no column."""
        texts = rows["text"][:] if "text" in rows.column_names else None
        return cls(rows["id"][:], heads, logits, label_arrays(rows, heads), texts)

    @classmethod
    def mean(
        cls,
        parts: Sequence[Predictions],
        weights: dict[str, list[float]] | None = None,
        heads: list[HeadConfig] | None = None,
    ) -> Predictions:
        """Average what several models said of the same rows, in one order: their probabilities, and their numbers.

        Args:
            parts: the predictions; ids, labels, texts, and the scale of numbers without `heads`, are the first one's.
            weights: head name → one weight a part; all alike by default.
            heads: the scales that numbers get. Temperatures become 1.
        """
        first, logits = parts[0], {}
        heads = [replace(head, temperature=1.0) for head in heads or first.heads]
        for head in heads:
            members = [next(own for own in part.heads if own.name == head.name) for part in parts]
            said = [torch.as_tensor(part.logits[head.name]) for part in parts]
            shares = torch.tensor(weights[head.name] if weights else [1.0] * len(parts)).expand(len(first), -1)
            logits[head.name] = head.rules.vote(members, said, shares).numpy()
        return replace(first, heads=heads, logits=logits)

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """Put predictions of different rows one after the other, at temperature 1.

        The parts have the same heads, but for temperatures and scales; texts, folds and a head's labels are kept where
        all parts have them.
        """
        parts = [cls.mean([part], heads=parts[0].heads) for part in parts]
        heads, labels = parts[0].heads, [name for name in parts[0].labels if all(name in part.labels for part in parts)]
        return cls(
            [identity for part in parts for identity in part.ids],
            heads,
            {head.name: np.concatenate([part.logits[head.name] for part in parts]) for head in heads},
            {name: np.concatenate([part.labels[name] for part in parts]) for name in labels},
            None if any(part.texts is None for part in parts) else [text for part in parts for text in part.texts],
            None if any(part.folds is None for part in parts) else np.concatenate([part.folds for part in parts]),
        )

    @cached_property
    def probabilities(self) -> Arrays:
        """Probabilities after the heads' temperatures, or values in the target's unit, exactly as the model's own."""
        with torch.inference_mode():
            return {name: values.numpy() for name, values in probabilities(as_tensors(self.logits), self.heads).items()}

    @cached_property
    def chosen(self) -> Arrays:
        """The answers that users get: `hfk.models.decoding.decide`, the best path in a hierarchy."""
        return self.decide()

    def decide(self, consistent_paths: bool = True) -> Arrays:
        """Choose answers; see `hfk.models.decoding.decide`."""
        with torch.inference_mode():
            chosen = decide(as_tensors(self.probabilities), self.heads, consistent_paths=consistent_paths)
            return {name: values.numpy() for name, values in chosen.items()}

    @cached_property
    def target(self) -> dict[str, Target]:
        """The labels: head name → `Target`; ValueError, naming head and row, where one is out of range."""
        return {head.name: Target(*head.rules.read(self.labels.get(head.name), len(self))) for head in self.heads}

    def known(self, head: HeadConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, answers and probabilities of the rows that have a label of this head."""
        present, target = self.target[head.name]
        return target[present], self.chosen[head.name][present], self.probabilities[head.name][present]

    @property
    def labelled(self) -> dict[str, int]:
        """How many rows have a label, head by head."""
        return {name: int(target.present.sum()) for name, target in self.target.items()}

    @staticmethod
    def names(head: HeadConfig, values: np.ndarray, present: np.ndarray | None = None) -> list[Any]:
        """Name answers or labels, `chosen` or `Target.values`: a name, a list of them, a number, or None, a row."""
        found = [head.rules.pick(_NAME)(head, value) for value in values]
        return found if present is None else [one if there else None for one, there in zip(found, present, strict=True)]

    def select(self, rows: Sequence[int] | np.ndarray) -> Predictions:
        """Take some rows, by number, in the order given."""
        rows = np.asarray(rows, dtype=np.int64)
        return Predictions(
            [self.ids[row] for row in rows],
            self.heads,
            {name: values[rows] for name, values in self.logits.items()},
            {name: np.asarray(values)[rows] for name, values in self.labels.items()},
            None if self.texts is None else [self.texts[row] for row in rows],
            None if self.folds is None else np.asarray(self.folds)[rows],
        )

    def save(self, path: str | Path) -> None:
        """Write a Parquet file, whole or not at all.

        Its columns are `id`, `text` and `fold` where there are any, and for each head `{head}_label`, `{head}_pred`
        (both by name) and `{head}_logits`, before the temperature.
        """
        columns: dict[str, pa.Array] = {"id": pa.array([str(identity) for identity in self.ids], pa.string())}
        if self.texts is not None:
            columns["text"] = pa.array(self.texts, pa.string())
        if self.folds is not None:
            columns["fold"] = pa.array(self.folds, pa.int32())
        for head in self.heads:
            target = self.target[head.name]
            kind = head.rules.pick(_TYPE)
            columns[f"{head.name}_label"] = pa.array(self.names(head, target.values, target.present), kind)
            columns[f"{head.name}_pred"] = pa.array(self.names(head, self.chosen[head.name]), kind)
            logits = np.ascontiguousarray(self.logits[head.name], np.float32)
            columns[f"{head.name}_logits"] = pa.FixedSizeListArray.from_arrays(logits.ravel(), head.num_outputs)
        heads = json.dumps([dataclasses.asdict(head) for head in self.heads], ensure_ascii=False)
        with replacing(path) as part:
            pq.write_table(pa.table(columns).replace_schema_metadata({METADATA: heads}), part)

    @classmethod
    def load(cls, path: str | Path, heads: list[HeadConfig] | None = None) -> Predictions:
        """Read what `save` wrote, or an `out_of_fold.parquet` of hfk 0.1.

        Args:
            path: the file.
            heads: the task's heads as they are now. They are needed for a file of 0.1, which names none; another one
                must have the same labels as them. Heads that the file does not have are passed over.

        Raises:
            ValueError: if the file can't be read or does not fit the heads; the sentence names column or row.
        """
        name = Path(path).name
        try:
            table = pq.read_table(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{name} is no Parquet file that can be read: {str(error).splitlines()[0]}") from None
        if "id" not in table.column_names:
            raise ValueError(f"column 'id' is missing from {name}; it has: {', '.join(table.column_names)}.")
        own = _own_heads(table)
        if own is None and heads is None:
            raise ValueError(f"{name} does not say what its heads are: it was written by hfk 0.1; give the task.")
        kind = "probabilities" if own is None else "logits"
        now = {head.name: head for head in heads or own}
        used = [head for head in own or heads if head.name in now and f"{head.name}_{kind}" in table.column_names]
        if not used:
            wanted = ", ".join(f"{head}_{kind}" for head in now)
            raise ValueError(f"{name} has no {kind} for the task's heads: none of {wanted}.")
        ids = [str(identity) for identity in table["id"].to_pylist()]
        labels, logits = {}, {}
        for head in used:
            labels[head.name] = _read_names(table, now[head.name], ids, name)
            logits[head.name] = _read_numbers(table, f"{head.name}_{kind}", now[head.name], ids, name)
            if head.labels != now[head.name].labels:
                raise ValueError(f"{name}: head {head.name!r} has other labels than the task has now.")
        if own is None:
            used = [replace(head, temperature=1.0) for head in used]
            logits = {head.name: head.rules.pick(_INVERSE)(head, logits[head.name].astype(float)) for head in used}
        texts = table["text"].to_pylist() if "text" in table.column_names else None
        folds = table["fold"].to_numpy() if "fold" in table.column_names else None
        return cls(ids, used, logits, labels, texts, folds)


# A target or answer as Parquet holds it: its type and its value, by problem.
_TYPE = {"single_label": pa.string(), "multi_label": pa.list_(pa.string()), "regression": pa.float64()}
_NAME = {
    "single_label": lambda head, value: head.rules.names(value)[0],
    "multi_label": lambda head, value: head.rules.names(value),
    "regression": lambda head, value: float(value),
}
# From probabilities, which hfk 0.1 kept, back to logits.
_INVERSE = {
    "single_label": lambda head, probs: head.rules.as_logits(torch.tensor(probs.clip(LEAST)).log()).numpy(),
    "multi_label": lambda head, probs: logit(probs.clip(LEAST, 1 - LEAST)),
    "regression": lambda head, values: ((values.reshape(-1) - head.mean) / head.std)[:, None],
}


def count_labeled(labels: Arrays, heads: list[HeadConfig]) -> dict[str, int]:
    """Count the labeled rows of each head; `labels` as in `Predictions`."""
    return {head.name: int(head.rules.read(labels.get(head.name))[0].sum()) for head in heads}


def _own_heads(table: pa.Table) -> list[HeadConfig] | None:
    """The heads that a file names; None for one of hfk 0.1."""
    content = (table.schema.metadata or {}).get(METADATA)
    known = {field.name for field in dataclasses.fields(HeadConfig)}  # another version may have had more options
    if content is None:
        return None
    return [HeadConfig(**{key: one[key] for key in one if key in known}) for one in json.loads(content)]


def _read_names(table: pa.Table, head: HeadConfig, ids: list[str], file: str) -> np.ndarray:
    """One head's labels, which stand there by name."""
    if f"{head.name}_label" not in table.column_names:
        raise ValueError(f"column '{head.name}_label' is missing from {file}.")
    place, found = {label: index for index, label in enumerate(head.labels)}, []
    for row, cell in enumerate(table[f"{head.name}_label"].to_pylist()):
        try:
            named = isinstance(cell, str | list)
            found.append(cell if not named else place[cell] if isinstance(cell, str) else [place[one] for one in cell])
        except KeyError:
            raise ValueError(
                f"{file}, row with id {ids[row]!r}: {head.name}_label {cell!r} is no label of the task as it is now."
            ) from None
    return head.rules.tensor(found).numpy()


def _read_numbers(table: pa.Table, column: str, head: HeadConfig, ids: list[str], file: str) -> np.ndarray:
    """One head's logits or probabilities, `(rows, outputs)`."""
    cells = table[column].combine_chunks()
    sizes = np.asarray(cells.value_lengths().fill_null(0)) if len(cells) else np.zeros(0)
    wrong = np.flatnonzero(sizes != head.num_outputs)
    if wrong.size:
        raise ValueError(
            f"{file}, row with id {ids[wrong[0]]!r}: {column} has {sizes[wrong[0]]} numbers for {head.num_outputs} "
            "labels of the task as it is now."
        )
    values = np.array(cells.flatten(), np.float32).reshape(-1, head.num_outputs)  # a copy: Arrow's can't be written
    if not np.isfinite(values).all():
        raise ValueError(f"{file}: {column} holds numbers that are not finite.")
    return values
