"""From dataset rows to a training batch: inputs through the processor, label columns to one dict of tensors.

Text is tokenized here, batch by batch: fast tokenizers do tens of thousands of titles a second, so nothing is cached
and a batch is only as long as its longest row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from typing import Any

from ..models.configuration_multihead import HeadConfig
from ..models.processing_multihead import MultiHeadProcessor, RowError


class MultiHeadCollator:
    """Turn dataset rows into the arguments of `MultiHeadForClassification.forward`.

    Args:
        processor: prepares text and pictures.
        heads: the heads whose columns are read. A head without a column in the rows gets no labels.
        soft: names of `single_label` heads whose column holds distributions over the labels, not indices.

    Example:
        >>> collator = MultiHeadCollator(processor, task.heads)  # doctest: +SKIP
        >>> collator([{"id": "1", "text": "해 뜨는 바닷가", "cat1": 0}])["labels"]  # doctest: +SKIP
        {'cat1': tensor([0])}
    """

    def __init__(self, processor: MultiHeadProcessor, heads: list[HeadConfig], soft: Collection[str] = ()) -> None:
        self.processor = processor
        self.heads = heads
        self.soft = frozenset(soft)
        self.read: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]] = self._prepare
        self.changes: tuple[Callable[[Mapping[str, Any]], Mapping[str, Any]], ...] = ()
        self.extras: tuple[Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]], ...] = ()

    def also(self, extra: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]) -> MultiHeadCollator:
        """Return a collator that adds what `extra` makes of the rows to every batch, such as columns of a technique."""
        collator = copy(self)
        collator.extras = (*self.extras, extra)
        return collator

    def after(self, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> MultiHeadCollator:
        """Return a collator that has every row changed before it is prepared; for training only."""
        collator = copy(self)
        collator.changes = (*self.changes, change)
        return collator

    def reading(self, read: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]) -> MultiHeadCollator:
        """Return a collator that makes the model's input of rows by `read` in place of the processor."""
        collator = copy(self)
        collator.read = read
        return collator

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Build a batch of a task's rows: the processor's tensors, and `labels`, head name → tensor.

        Raises:
            ValueError: if a row can't be used; the sentence names its id.
        """
        for change in self.changes:
            rows = [change(row) for row in rows]
        try:
            batch = self.read(rows)
        except RowError as error:
            row = rows[error.row]
            raise ValueError(f"row with id {row.get('id', error.row)!r}: {error.reason}") from None
        labels = {
            head.name: head.rules.tensor([row[head.name] for row in rows], head.name in self.soft)
            for head in self.heads
            if head.name in rows[0]
        }
        if labels:
            batch["labels"] = labels
        for extra in self.extras:
            batch |= extra(rows)
        return batch

    def _prepare(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        processor = self.processor
        text = [row.get("text") for row in rows] if processor.tokenizer is not None else None
        images = [row.get("image") for row in rows] if processor.image_processor is not None else None
        return dict(processor(text=text, images=images))
