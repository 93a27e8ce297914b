"""Easy data augmentation (Wei & Zou 2019, arXiv:1901.11196): changed copies of training rows, more of rarer classes.

What lives here is how a text is changed, how likely a row is to get a copy, and `AugmentedRows`, the training rows
followed by an epoch's copies. Nothing is written out: copies are drawn and changed anew in every epoch, from the seed,
the epoch and the row alone, so that neither batch order nor resuming nor the number of workers changes them. There are
as many in every epoch, because the learning rate's schedule counts steps. The paper's synonyms are left out: a Korean
word carries its particles, which depend on the sound before them (바다를, 해변을).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from ...models.processing_multihead import SEPARATOR
from .base import Setting, Technique, count_tokens


class EasyDataAugmentation(Technique, key="eda"):
    """Changed copies of training rows: each by one operation, drawn among those whose share is above 0.

    Args:
        swap: words that change places with another, as a share of the words; one pair at least.
        delete: each word's chance to be left out; one word always stays.
        head: the `single_label` head whose classes count; the one with most labels by default.

    Raises:
        ValueError: if a share is not in [0, 1), or both are 0.
    """

    off: ClassVar[tuple[Any, ...]] = ("none",)

    swap: float = 0.1
    delete: float = 0.1
    head: str | None = None

    def __post_init__(self) -> None:
        for name in ("swap", "delete"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"eda.{name} must be in [0, 1), not {getattr(self, name)}.")
        if not (self.swap or self.delete):
            raise ValueError("eda: every share is 0, so no text would change; leave it out.")

    def begin(self, setting: Setting) -> None:
        """Find the head."""
        super().begin(setting)
        self._head = setting.class_head("eda", self.head)
        self._copies = 0

    def rows(self, rows: datasets.Dataset) -> AugmentedRows:
        """Add the copies."""
        setting, arguments = self.setting, self.setting.arguments
        lengths = None
        if arguments.train_sampling_strategy == "group_by_length":
            lengths = count_tokens(rows, setting.processor)
        change = partial(change_words, swap=self.swap, delete=self.delete)
        labels = setting.labels(self._head, rows)
        augmented = AugmentedRows(rows, labels, change, setting.processor.clean, setting.seed, lengths)
        self._copies = len(augmented.copies)
        if arguments.should_log:
            print(f"eda: {self._copies:,} changed copies an epoch beside {len(rows):,} rows", flush=True)
        return augmented

    def sampler(self, rows: AugmentedRows) -> Sampler:
        """Draw rows and copies, and let every epoch have copies of its own."""
        arguments = self.setting.arguments
        grouped = arguments.train_sampling_strategy == "group_by_length"
        group = arguments.train_batch_size * arguments.gradient_accumulation_steps if grouped else None
        return EpochSampler(rows, group, self.setting.seed)

    def facts(self) -> dict[str, Any]:
        """Return how many copies an epoch has."""
        return {"copies_an_epoch": self._copies}


def change_words(words: Sequence[str], generator: random.Random, swap: float, delete: float) -> list[str]:
    """Change a text's words by one operation.

    Args:
        words: the text, split at spaces.
        generator: draws the operation and the words.
        swap: as for `EasyDataAugmentation`.
        delete: likewise.

    Example:
        >>> " ".join(change_words("해 뜨는 바닷가 마을".split(), random.Random(1), swap=0.1, delete=0))
        '뜨는 해 바닷가 마을'
    """
    change, share = generator.choice([one for one in ((swap_words, swap), (delete_words, delete)) if one[1]])
    return change(words, share, generator)


def swap_words(words: Sequence[str], share: float, generator: random.Random) -> list[str]:
    """Exchange two words, as often as `share` of the words, once at least; arguments as for `EasyDataAugmentation`."""
    words = list(words)
    for _ in range(_count(words, share) if len(words) > 1 else 0):
        one, other = generator.sample(range(len(words)), 2)
        words[one], words[other] = words[other], words[one]
    return words


def delete_words(words: Sequence[str], share: float, generator: random.Random) -> list[str]:
    """Leave out each word with the chance `share`; if none would be left, one of them stays."""
    kept = [word for word in words if generator.random() >= share]
    return kept or [generator.choice(words)] if words else []


def copy_probabilities(labels: np.ndarray) -> np.ndarray:
    """Say how likely each row is to get a copy, by the rarity of its class.

    sqrt(N / n) of N rows and n rows of the class, scaled so that the most frequent class has 0 and the rarest 1. The
    chance changes smoothly with a class's size: filling up all classes below some size would put those just below it
    far above those just above it.

    Args:
        labels: int `(rows,)`, negative where unknown; those rows get 0.

    Returns:
        float64 `(rows,)` in [0, 1]; all 0 where the classes are of one size.

    Example:
        >>> copy_probabilities(np.array([0, 0, 0, 0, 1, -1])).tolist()
        [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    """
    known = labels >= 0
    counts = np.bincount(labels[known])
    rarity = np.zeros(len(labels))
    if not known.any():
        return rarity
    rarity[known] = np.sqrt(known.sum() / counts[labels[known]])
    low, high = rarity[known].min(), rarity[known].max()
    if low == high:
        return np.zeros(len(labels))
    rarity[known] = (rarity[known] - low) / (high - low)
    return rarity


def draw_copies(probabilities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw the rows that get a copy: each with its probability, and always as many in all.

    One binomial draw a row would do the same, but give another number of rows each time. Systematic sampling (Madow
    1949) lays the probabilities end to end in random order and takes the rows that lie at u, u + 1, u + 2, …; the total
    is rounded down first, which takes less than one row in all from the chances.

    Args:
        probabilities: `(rows,)`, each in [0, 1].
        generator: draws order and start.

    Returns:
        int64 `(floor(total),)`, row numbers, none twice.

    Example:
        >>> sorted(draw_copies(np.array([1.0, 0.0, 1.0]), np.random.default_rng(0)).tolist())
        [0, 2]
    """
    rows = np.flatnonzero(probabilities)
    count = int(probabilities.sum() + 1e-9)
    if not count:
        return np.zeros(0, dtype=np.int64)
    order = generator.permutation(rows)
    edges = np.cumsum(probabilities[order])
    places = np.searchsorted(edges / edges[-1] * count, np.arange(count) + generator.random(), side="right")
    return order[np.minimum(places, len(order) - 1)]


class AugmentedRows(Dataset):
    """Training rows, followed by the epoch's changed copies of some of them.

    `EpochSampler` begins every epoch; with `dataloader_persistent_workers`, the workers keep the first one's copies.

    Args:
        rows: the rows, in a task's columns, with a `text`.
        labels: int `(rows,)`, the class of each row, negative where unknown.
        change: changes a text's words.
        clean: prepares a text as the processor would, so that its words are those that the model reads.
        seed: of the draws.
        lengths: tokens of each row, to put rows of like length together; characters by default.

    Raises:
        ValueError: if the rows have no text.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        labels: np.ndarray,
        change: Callable[[list[str], random.Random], list[str]],
        clean: Callable[[str | None], str | None],
        seed: int = 42,
        lengths: Sequence[int] | None = None,
    ) -> None:
        if "text" not in rows.column_names:
            raise ValueError("eda changes words, and this task has no text: leave it out.")
        self.rows = rows
        self.probabilities = copy_probabilities(np.asarray(labels))
        self.change = change
        self.clean = clean
        self.seed = seed
        self._lengths = np.array([len(text or "") for text in rows["text"]] if lengths is None else lengths)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the copies of an epoch, counted from 0."""
        self.epoch = epoch
        self.copies = draw_copies(self.probabilities, np.random.default_rng([self.seed, epoch]))

    @property
    def lengths(self) -> list[int]:
        """The length of every row and copy; a copy counts as long as its row."""
        return [*self._lengths.tolist(), *self._lengths[self.copies].tolist()]

    def __len__(self) -> int:
        return len(self.rows) + len(self.copies)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Return several rows at once, as `DataLoader` asks for them."""
        first = len(self.rows)
        places = [int(index) if index < first else int(self.copies[index - first]) for index in indices]
        rows = self.rows.__getitems__(places)
        for index, place, row in zip(indices, places, rows, strict=True):
            if index >= first and self.clean(row["text"]):
                generator = random.Random(f"{self.seed}/{self.epoch}/{place}")
                texts = [(self.clean(text) or "").split() for text in row["text"].split(SEPARATOR)]
                row["text"] = SEPARATOR.join(" ".join(self.change(words, generator)) for words in texts)
        return rows


class EpochSampler(Sampler[int]):
    """The order of `AugmentedRows` in each epoch: random, or by like length.

    Args:
        rows: the rows, which are told when an epoch begins.
        group: rows a group of like length; None for random order.
        seed: of the order.
    """

    def __init__(self, rows: AugmentedRows, group: int | None = None, seed: int = 42) -> None:
        self.rows = rows
        self.group = group
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0; accelerate calls this."""
        self.rows.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.rows.epoch)
        if self.group is None:
            return iter(torch.randperm(len(self.rows), generator=generator).tolist())
        return iter(get_length_grouped_indices(self.rows.lengths, self.group, generator=generator))


def _count(words: Sequence[str], share: float) -> int:
    return max(1, round(share * len(words)))
