"""In which order training rows are drawn: by the seed and the epoch alone.

So a run that is resumed in the middle of an epoch goes on with the rows that it had not seen, and every process of
several draws the same order, whatever its own random state has come to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from ..models.processing_multihead import MultiHeadProcessor


class EpochSampler(Sampler[int]):
    """Rows in an order that is drawn anew in every epoch: `draw` makes `count` row numbers with a generator."""

    def __init__(self, draw: Callable[[torch.Generator], Sequence[int]], count: int, seed: int) -> None:
        self.draw, self.count, self.seed = draw, count, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0; accelerate calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(self.draw(torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)))


def length_groups(lengths: Sequence[int], arguments: TrainingArguments, generator: torch.Generator) -> list[int]:
    """Draw an order in which the rows of one step, those of all processes, are of like length: little padding."""
    step = arguments.train_batch_size * arguments.gradient_accumulation_steps * max(arguments.world_size, 1)
    return get_length_grouped_indices(lengths, step, generator=generator)


def row_seed(arguments: TrainingArguments) -> int:
    """What draws among the rows are seeded by."""
    return arguments.seed if arguments.data_seed is None else arguments.data_seed


def count_tokens(rows: Dataset, processor: MultiHeadProcessor) -> list[int]:
    """Count the tokens that the model reads of every row's text; 0 where it reads none.

    Characters would be had for less, but headlines of as many characters differ in tokens, and batches grouped by
    characters hold more padding (`python benchmarks/ynat_experiments.py --padding` counts it).
    """
    if "text" not in rows.column_names or processor.tokenizer is None:
        return [0] * len(rows)
    counts: list[int] = []
    for batch in rows.select_columns("text").iter(1000):
        texts = [processor.text_prefix + (processor.clean(text) or "") for text in batch["text"]]
        encoded = processor.tokenizer(texts, truncation=True, max_length=processor.max_length)
        counts += [len(ids) for ids in encoded["input_ids"]]
    return counts
