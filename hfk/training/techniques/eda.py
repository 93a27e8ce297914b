"""Easy data augmentation (Wei & Zou 2019, arXiv:1901.11196): changed copies of training rows, more of rarer classes.

Nothing is written out: copies are drawn and changed anew in every epoch, from the seed, the epoch and the row alone, so
that neither batch order nor resuming nor the number of workers changes them. There are as many in every epoch, because
the learning rate's schedule counts steps. The paper's synonyms are left out: a Korean word carries its particles, which
depend on the sound before them (바다를, 해변을).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ...models.text_preparation import SEPARATOR
from ..order import EpochSampler, count_tokens, length_groups
from .base import Setting, Technique, check_range


class EasyDataAugmentation(Technique, key="eda"):
    """Changed copies of training rows: each by one operation, drawn among those whose share is above 0.

    Args:
        swap: words that change places with another, as a share of the words; one pair at least.
        delete: each word's chance to be left out; one word always stays.
        head: the `single_label` head whose classes count; the one with most labels by default.
    """

    off: ClassVar[tuple[Any, ...]] = ("none",)

    swap: float = 0.1
    delete: float = 0.1
    head: str | None = None

    def __post_init__(self) -> None:
        check_range("eda.swap", self.swap, 1)
        check_range("eda.delete", self.delete, 1)
        if not (self.swap or self.delete):
            raise ValueError("eda: every share is 0, so no text would change; leave it out.")

    def begin(self, setting: Setting) -> None:
        """Find the head."""
        super().begin(setting)
        self._head = setting.class_head("eda", self.head)
        self._grouped = setting.arguments.train_sampling_strategy == "group_by_length"

    def rows(self, rows: datasets.Dataset) -> AugmentedRows:
        """Add the copies."""
        setting = self.setting
        lengths = count_tokens(rows, setting.processor) if self._grouped else None
        change = partial(change_words, swap=self.swap, delete=self.delete)
        labels = setting.labels(self._head, rows)
        self._rows = AugmentedRows(rows, labels, change, setting.processor.clean, setting.seed, lengths)
        if setting.arguments.should_log:
            print(f"eda: {len(self._rows.copies):,} changed copies an epoch beside {len(rows):,} rows", flush=True)
        return self._rows

    def sampler(self, rows: AugmentedRows) -> Sampler:
        """Draw rows and copies."""

        def draw(generator: torch.Generator) -> list[int]:
            if self._grouped:
                return length_groups(rows.lengths, self.setting.arguments, generator)
            return torch.randperm(len(rows), generator=generator).tolist()

        return EpochSampler(draw, len(rows), self.setting.seed)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let every epoch have copies of its own."""
        self._rows.set_epoch(int(state.epoch or 0))

    def facts(self) -> dict[str, Any]:
        """Return how many copies an epoch has."""
        return {"copies_an_epoch": len(self._rows.copies)}


def change_words(words: Sequence[str], generator: random.Random, swap: float, delete: float) -> list[str]:
    """Change a text's words by one operation; `swap` and `delete` are those of `EasyDataAugmentation`."""
    change, share = generator.choice([one for one in ((swap_words, swap), (delete_words, delete)) if one[1]])
    return change(words, share, generator)


def swap_words(words: Sequence[str], share: float, generator: random.Random) -> list[str]:
    """Exchange two words, as often as `share` of the words, once at least."""
    words = list(words)
    for _ in range(max(1, round(share * len(words))) if len(words) > 1 else 0):
        one, other = generator.sample(range(len(words)), 2)
        words[one], words[other] = words[other], words[one]
    return words


def delete_words(words: Sequence[str], share: float, generator: random.Random) -> list[str]:
    """Leave out each word with the chance `share`; if none would be left, one of them stays."""
    kept = [word for word in words if generator.random() >= share]
    return kept or [generator.choice(words)] if words else []


def copy_probabilities(labels: np.ndarray) -> np.ndarray:
    """Say how likely each row is to get a copy, by the rarity of its class; unknown ones (negative labels) get 0.

    sqrt(N / n) of N rows and n rows of the class, scaled so that the most frequent class has 0 and the rarest 1; all 0
    where the classes are of one size. The chance changes smoothly with a class's size: filling up all classes below
    some size would put those just below it far above those just above it.

    Example:
        >>> copy_probabilities(np.array([0, 0, 0, 0, 1, -1])).tolist()
        [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    """
    known = labels >= 0
    chances = np.zeros(len(labels))
    rarity = np.sqrt(known.sum() / np.bincount(labels[known])[labels[known]])
    if len(set(rarity)) > 1:
        chances[known] = (rarity - rarity.min()) / (rarity.max() - rarity.min())
    return chances


def draw_copies(probabilities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw the rows that get a copy: each with its probability, and always as many in all, none twice.

    One binomial draw a row would do the same, but give another number of rows each time. Systematic sampling (Madow
    1949) lays the probabilities end to end in random order and takes the rows that lie at u, u + 1, u + 2, …; the total
    is rounded down first, which takes less than one row in all from the chances.
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

    `clean` prepares a text as the processor would, so that its words, which `change` changes, are those that the model
    reads. With `dataloader_persistent_workers`, the workers keep the first epoch's copies.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        labels: np.ndarray,
        change: Callable[[list[str], random.Random], list[str]],
        clean: Callable[[str | None], str | None],
        seed: int,
        lengths: Sequence[int] | None = None,
    ) -> None:
        if "text" not in rows.column_names:
            raise ValueError("eda changes words, and this task has no text: leave it out.")
        self.rows, self.change, self.clean, self.seed = rows, change, clean, seed
        self.probabilities = copy_probabilities(np.asarray(labels))
        self._lengths = np.zeros(len(rows), int) if lengths is None else np.asarray(lengths)
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
