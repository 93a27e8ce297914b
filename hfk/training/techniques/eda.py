"""Easy data augmentation (Wei & Zou 2019, arXiv:1901.11196): changed copies of training rows, more of rarer classes.

What lives here is how a text is changed, how likely a row is to get a copy, and `AugmentedRows`, the training rows
followed by an epoch's copies. Nothing is written out: copies are drawn and changed anew in every epoch, from the seed,
the epoch and the row alone, so that neither batch order nor resuming nor the number of workers changes them. There are
as many in every epoch, because the learning rate's schedule counts steps.
"""

from __future__ import annotations

import csv
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


@dataclass(frozen=True)
class EasyDataAugmentation:
    """How texts are changed: each copy by one operation, drawn among those whose share is above 0.

    `swap` and `delete` need nothing but the words. `replace` and `insert` are off: a Korean word carries its particles,
    which depend on the sound before them (바다를, 해변을), so that few words are found in a table of synonyms and some
    of those that are fit neither grammar nor sense.

    Args:
        swap: words that change places with another, as a share of the words; one pair at least.
        delete: each word's chance to be left out; one word always stays.
        replace: words replaced by a synonym, as a share of the words; one at least, if any has one.
        insert: synonyms of words that are put in at random places, likewise.
        synonyms: UTF-8 file with one group of words a line, separated by commas; what `replace` and `insert` need.
        head: the `single_label` head whose classes count; the one with most labels by default.

    Raises:
        ValueError: if a share is not in [0, 1), all are 0, or `replace` or `insert` lack their `synonyms`.

    Example:
        >>> " ".join(EasyDataAugmentation(delete=0).change("해 뜨는 바닷가 마을".split(), random.Random(1)))
        '뜨는 해 바닷가 마을'
    """

    swap: float = 0.1
    delete: float = 0.1
    replace: float = 0.0
    insert: float = 0.0
    synonyms: str | None = None
    head: str | None = None

    def __post_init__(self) -> None:
        for name in ("swap", "delete", "replace", "insert"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
                raise ValueError(f"augmentation: {name} must be a number in [0, 1), not {value!r}.")
        if not (self.swap or self.delete or self.replace or self.insert):
            raise ValueError("augmentation: every share is 0, so no text would change; leave augmentation out.")
        if (self.replace or self.insert) and self.synonyms is None:
            raise ValueError("augmentation: replace and insert need `synonyms`, a file with a group of words a line.")

    @classmethod
    def from_option(cls, option: str | dict[str, Any] | None) -> EasyDataAugmentation | None:
        """Read a recipe's `augmentation`: `eda`, or a mapping of the arguments; None for none.

        Raises:
            ValueError: for anything else.
        """
        return read_option(cls, "augmentation", "eda", option)

    @cached_property
    def table(self) -> dict[str, list[str]]:
        """Each word's synonyms."""
        return {} if self.synonyms is None else read_synonyms(self.synonyms)

    def change(self, words: Sequence[str], generator: random.Random) -> list[str]:
        """Change a text's words by one operation.

        Args:
            words: the text, split at spaces.
            generator: draws the operation and the words.
        """
        operations = [name for name in ("swap", "delete", "replace", "insert") if getattr(self, name)]
        name = generator.choice(operations)
        share = getattr(self, name)
        if name == "swap":
            return swap_words(words, share, generator)
        if name == "delete":
            return delete_words(words, share, generator)
        return (replace_words if name == "replace" else insert_words)(words, share, self.table, generator)


def read_option(kind: type, name: str, short: str, option: str | dict[str, Any] | None) -> Any:
    """Read a recipe's option that says how rows are changed.

    Args:
        kind: the dataclass to make.
        name: of the option, for errors.
        short: the word for its defaults.
        option: that word, a mapping of the dataclass's arguments, or None for none.

    Raises:
        ValueError: for anything else.
    """
    if option is None:
        return None
    names = [field.name for field in dataclasses.fields(kind)]
    if isinstance(option, dict):
        unknown = sorted(set(map(str, option)) - set(names))
        if unknown:
            raise ValueError(f"{name} has no option {unknown[0]!r}; options: {', '.join(names)}.")
        return kind(**option)
    if option != short:
        raise ValueError(f"{name} is `{short}` or a mapping of {', '.join(names)}, not {option!r}.")
    return kind()


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


def replace_words(
    words: Sequence[str], share: float, table: dict[str, list[str]], generator: random.Random
) -> list[str]:
    """Replace `share` of the words, among those in `table`, by a synonym."""
    words = list(words)
    found = [place for place, word in enumerate(words) if word in table]
    for place in generator.sample(found, min(_count(words, share), len(found))):
        words[place] = generator.choice(table[words[place]])
    return words


def insert_words(
    words: Sequence[str], share: float, table: dict[str, list[str]], generator: random.Random
) -> list[str]:
    """Put a synonym of one of the words at a random place, as often as `share` of the words."""
    words = list(words)
    found = [word for word in words if word in table]
    for _ in range(_count(words, share) if found else 0):
        words.insert(generator.randrange(len(words) + 1), generator.choice(table[generator.choice(found)]))
    return words


def read_synonyms(path: str | Path) -> dict[str, list[str]]:
    """Read groups of synonyms: one group a line, words separated by commas.

    Args:
        path: the UTF-8 file.

    Returns:
        word → the other words of its groups.

    Raises:
        ValueError: if there is no such file, it is not UTF-8, or it has no group of two words.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"augmentation: the file of synonyms {path} does not exist.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"augmentation: {path.name} is not UTF-8; save it as UTF-8.") from None
    table: dict[str, list[str]] = {}
    for group in csv.reader(lines):
        words = [word.strip() for word in group if word.strip()]
        for word in words:
            table.setdefault(word, []).extend(other for other in words if other != word)
    table = {word: list(dict.fromkeys(others)) for word, others in table.items() if others}
    if not table:
        raise ValueError(f"augmentation: {path.name} has no line with two words or more, separated by commas.")
    return table


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
        augmentation: how texts are changed.
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
        augmentation: EasyDataAugmentation,
        clean: Callable[[str | None], str | None],
        seed: int = 42,
        lengths: Sequence[int] | None = None,
    ) -> None:
        if "text" not in rows.column_names:
            raise ValueError("augmentation changes words, and this task has no text: leave augmentation out.")
        self.rows = rows
        self.probabilities = copy_probabilities(np.asarray(labels))
        self.augmentation = augmentation
        if augmentation.replace or augmentation.insert:
            augmentation.table  # noqa: B018  (a wrong file is said now, not in the first batch)
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
            if index >= first and (text := self.clean(row["text"])):
                generator = random.Random(f"{self.seed}/{self.epoch}/{place}")
                row["text"] = " ".join(self.augmentation.change(text.split(), generator))
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
