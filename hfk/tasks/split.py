"""Dividing rows so that scores are honest: stratified, seeded, blind to row order, no look-alikes on two sides.

Rows whose texts or pictures are the same or nearly so are grouped first (`look_alikes.py`); then whole groups are
dealt, label by label, to train, validation and test (`split_indices`) or to folds (`fold_numbers`). What decides is a
hash of the seed and the rows' content, never their position, so shuffling a table moves no row to another side.
The second half divides a task's loaded rows into folds: train and validation together, a task's own test rows stay out.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from ..files import write_atomic
from ..models.configuration_multihead import HeadConfig
from .look_alikes import describe_images, duplicate_groups, normalize


def split_indices(
    texts: Sequence[str | None] | None,
    images: Sequence[Any] | None,
    labels: Sequence[Any] | None,
    fractions: Mapping[str, float],
    seed: int = 42,
    near_duplicates: bool = True,
    groups: Sequence[Any] | None = None,
) -> tuple[dict[str, list[int]], list[str]]:
    """Divide rows into train and the named splits.

    Args:
        texts: one text a row, None where a row has none; None for a task without text.
        images: one picture a row: a path, bytes, or a dict with `bytes` or `path`; None where a row has none.
        labels: one label a row to stratify by (hashable; None where missing); None to divide without strata.
        fractions: share of the rows in each split but train, such as `{"validation": 0.1, "test": 0.1}`.
        seed: another seed gives another division.
        near_duplicates: whether near-duplicates are kept together too, not only exact ones.
        groups: rows of one value stay together, such as those of an author; None belongs to no group.

    Returns:
        Row numbers by split, `train` first, each list ascending; together they are all rows, each once. A label with
        one row, or one group of look-alikes, is in train. And in sentences what could not be given as asked, and why.

    Raises:
        ValueError: if fractions are negative, sum to 1 or more, or the sequences differ in length.

    Example:
        >>> parts, _ = split_indices(["가", "나", "다", "라"], None, ["x", "x", "y", "y"], {"test": 0.5})
        >>> len(parts["train"]), len(parts["test"])
        (2, 2)
    """
    if "train" in fractions or any(not 0 <= share < 1 for share in fractions.values()) or sum(fractions.values()) >= 1:
        raise ValueError(
            f"split fractions {dict(fractions)} must each be in [0, 1) and sum to less than 1; train takes the rest."
        )
    grouped = groups is not None
    groups = _Groups(texts, images, labels, seed, near_duplicates, groups)
    parts, rows = ("train", *fractions), len(groups.of_row)
    part_of, given, lone, strata = _deal(groups, [*groups.strata()], fractions, grouped)
    if grouped and not all(given.values()):  # too few for every label to keep its last one in train
        part_of, given, lone, strata = _deal(groups, [np.arange(len(groups.sizes))], fractions, grouped)
    largest = int(groups.sizes.max(initial=0))
    said = []
    if rows >= 50 and largest > 0.1 * rows:
        cause = "" if grouped else "; a placeholder picture or a template may be the cause"
        what = "by its column or as look-alikes" if grouped else "of the same or nearly the same text or picture"
        said.append(f"{largest} of {rows} rows are one group {what}, kept in one split{cause}.")
    asked = {part: max(1, round(rows * share)) for part, share in fractions.items()}
    short = [part for part in fractions if given[part] < 0.8 * asked[part] or not given[part]]
    if short:
        listed = " and ".join(f"{part} has {given[part]:,} rows of about {asked[part]:,}" for part in short)
        listed += "; a split without rows is left out" if not all(given[part] for part in short) else ""
        said.append(f"{listed}: {_why_short(rows, len(groups.sizes), lone, strata)}.")
    of_row = part_of[groups.of_row]
    return {part: np.flatnonzero(of_row == number).tolist() for number, part in enumerate(parts)}, said


def _deal(
    groups: _Groups, strata: list[np.ndarray], fractions: Mapping[str, float], grouped: bool
) -> tuple[np.ndarray, dict[str, int], int, int]:
    """Deal groups to train, number 0, and the named splits.

    `grouped` says that a column makes groups: large ones would fit no label's share, so the share of all so far counts.
    Returns each group's part, the rows that each split is given, and how many strata have one group, and how many
    there are.
    """
    parts, given, part_of = ("train", *fractions), dict.fromkeys(fractions, 0), np.zeros(len(groups.sizes), dtype=int)
    seen, rows = 0, len(groups.of_row)
    for dealt in strata:
        dealt = dealt[groups.by_digest(dealt)]
        size = int(groups.sizes[dealt].sum())
        # Cumulative rounding: shares are right over all labels even where each label has few rows. What a label can't
        # give, because its groups are large or its last is train's, the next ones do, up to their rounded-up share.
        seen += size
        need = {
            part: min(math.floor(seen * share + 0.5) - given[part], seen if grouped else math.ceil(size * share))
            for part, share in fractions.items()
        }
        for group, count in zip(dealt[:-1].tolist(), groups.sizes[dealt[:-1]].tolist(), strict=True):
            room = [part for part in need if need[part] >= (count / 2 if grouped else count)]
            if room:
                # Of equal needs the first, unless another lacks a tenth of its rows: thin labels give nothing but ties.
                lag = {name: int(10 * (seen - given[name] / fractions[name]) / rows) for name in room}
                part = max(room, key=lambda name: (need[name], lag[name]))
                part_of[group] = parts.index(part)
                need[part] -= count
                given[part] += count
            elif not any(left > 0 for left in need.values()):
                break
    return part_of, given, sum(len(dealt) == 1 for dealt in strata), len(strata)


def _why_short(rows: int, groups: int, lone: int, strata: int) -> str:
    """Why a split could not be given the rows that were asked for."""
    reasons = []
    if groups < 0.9 * rows:
        reasons.append(f"{rows:,} rows are {groups:,} different ones, as what is the same or nearly so stays together")
    if lone:
        reasons.append(f"{lone:,} of {strata:,} labels have one such row or group, which stays in train")
    return ", and ".join(reasons) or f"{rows:,} rows are too few"


def fold_numbers(
    texts: Sequence[str | None] | None,
    images: Sequence[Any] | None,
    labels: Sequence[Any] | None,
    folds: int,
    seed: int = 42,
    near_duplicates: bool = True,
    groups: Sequence[Any] | None = None,
) -> np.ndarray:
    """Deal rows to folds of like size, as `split_indices` divides them: int array `(rows,)`, from 0.

    Raises:
        ValueError: if there are fewer rows, or groups of look-alikes, than folds, or the sequences differ in length.

    Example:
        >>> sorted(fold_numbers(["가", "나", "다", "라"], None, ["x", "x", "y", "y"], 2).tolist())
        [0, 0, 1, 1]
    """
    if folds < 2:
        raise ValueError(f"folds must be 2 or more, not {folds}.")
    groups = _Groups(texts, images, labels, seed, near_duplicates, groups)
    if len(groups.sizes) < folds:
        raise ValueError(
            f"{folds} folds can't be made of {len(groups.sizes)} different rows; look-alikes, and rows of one group, "
            "count as one."
        )
    fold_of, total = np.zeros(len(groups.sizes), dtype=int), [0] * folds
    for dealt in groups.strata():
        own = [0] * folds
        # Large groups first, or the last one could unbalance what was even.
        dealt = dealt[groups.by_digest(dealt)]
        dealt = dealt[np.argsort(-groups.sizes[dealt], kind="stable")]
        for group, count in zip(dealt.tolist(), groups.sizes[dealt].tolist(), strict=True):
            fold = min(range(folds), key=lambda number: (own[number], total[number], number))
            fold_of[group] = fold
            own[fold] += count
            total[fold] += count
    return fold_of[groups.of_row]


class _Groups:
    """Groups of look-alikes: the group `of_row`, numbered by first rows, their `sizes`, and what they are dealt by."""

    def __init__(
        self,
        texts: Sequence[str | None] | None,
        images: Sequence[Any] | None,
        labels: Sequence[Any] | None,
        seed: int,
        near_duplicates: bool,
        groups: Sequence[Any] | None = None,
    ) -> None:
        columns = [column for column in (texts, images, labels, groups) if column is not None]
        if not columns or len({len(column) for column in columns}) != 1:
            raise ValueError("texts, images and labels must be given for the same rows, and at least one of them.")
        rows = len(columns[0])
        images = None if images is None else describe_images(images, near_duplicates)
        found = duplicate_groups(texts, images, rows, near_duplicates=near_duplicates)
        if groups is not None:
            found = _joined(found, groups)
        _, first, of_row = np.unique(found, return_index=True, return_inverse=True)
        self.of_row = np.argsort(np.argsort(first))[of_row]
        self.sizes = np.bincount(self.of_row, minlength=len(first))
        # A group's digest is the least of its rows': as two numbers, most significant first.
        high, low = content_digests(texts, images, rows, seed).T
        order = np.lexsort((low, high, self.of_row))
        least = order[np.concatenate([[0], np.cumsum(self.sizes)[:-1]])] if rows else order
        self._high, self._low = high[least], low[least]
        self._labels = self._usual_labels(labels)

    def _usual_labels(self, labels: Sequence[Any] | None) -> np.ndarray:
        """The label on most of a group's rows, of several the first by name; as its number in the order of names."""
        if labels is None:
            return np.zeros(len(self.sizes), dtype=int)
        names = ["" if label is None else str(label) for label in labels]
        number = {name: place for place, name in enumerate(sorted(set(names)))}
        codes = np.fromiter(map(number.__getitem__, names), dtype=np.int64, count=len(names))
        pairs, counts = np.unique(self.of_row * len(number) + codes, return_counts=True)
        group, label = np.divmod(pairs, max(1, len(number)))
        order = np.lexsort((label, -counts, group))
        return label[order[np.unique(group[order], return_index=True)[1]]]

    def strata(self) -> Iterator[np.ndarray]:
        """The groups of each label, labels by name, groups by their first rows."""
        order = np.argsort(self._labels, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(self._labels[order])) + 1)

    def by_digest(self, groups: np.ndarray) -> np.ndarray:
        """What sorts some groups by their digests."""
        return np.lexsort((self._low[groups], self._high[groups]))


def _joined(look_alikes: np.ndarray, groups: Sequence[Any]) -> np.ndarray:
    """Number the groups of rows that are joined by their look-alikes, by what a column says, or by both in turn.

    Where look-alikes would chain most of the column's groups to one, which could not be divided, the column decides.
    """
    own = {}  # rows of no group are one each
    codes = np.array([own.setdefault(row if name is None else (name,), len(own)) for row, name in enumerate(groups)])
    rows, alike = len(codes), int(look_alikes.max(initial=0)) + 1
    edges = (look_alikes, codes + alike)
    size = alike + len(own)
    graph = sparse.coo_array((np.ones(rows, dtype=bool), edges), shape=(size, size))
    joined = connected_components(graph, directed=False)[1][look_alikes]
    largest, column = np.bincount(joined).max(initial=0), np.bincount(codes).max(initial=0)
    return joined if largest <= max(column, rows // 5) else codes


def content_digests(
    texts: Sequence[str | None] | None, images: Sequence[Any] | None, rows: int, seed: int
) -> np.ndarray:
    """One 16-byte hash a row, of the seed, the text's letters and digits, and the picture's bytes.

    A uint64 array `(rows, 2)`, the more significant half first.
    """
    pictures = itertools.repeat(None, rows) if images is None else describe_images(images, near_duplicates=False)
    digests, start = bytearray(), hashlib.blake2b(str(seed).encode(), digest_size=16)
    for text, picture in zip(itertools.repeat(None, rows) if texts is None else texts, pictures, strict=True):
        hasher = start.copy()
        hasher.update(b"\0text" + ("" if text is None else normalize(text)).encode("utf-8", "surrogatepass"))
        hasher.update(b"\0image" + (b"" if picture is None else picture.digest))
        digests += hasher.digest()
    return np.frombuffer(digests, dtype=">u8").reshape(rows, 2).astype(np.uint64)


# ------------------------------------------------------------------------------------------------------------- folds


def without_folds(split: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is left of a task's `split` where no fold is held out; None for nothing."""
    return {key: value for key, value in (split or {}).items() if key not in ("folds", "fold")} or None


def digest(state: Any, names: Iterable[str | None]) -> str:
    """A hash, of whatever has a `repr` and of rows' names or labels, that names a division in a cache."""
    hasher = hashlib.blake2b(repr(state).encode(), digest_size=8)
    for name in names:
        hasher.update(f"{name}\0".encode("utf-8", "surrogatepass"))
    return hasher.hexdigest()


def divide(
    rows: Dataset,
    heads: list[HeadConfig],
    folds: int,
    seed: int,
    folder: Path | None = None,
    groups: list[str | None] | None = None,
    images: Sequence[Any] | None = None,
) -> np.ndarray:
    """Say which fold each pooled row is in, as `fold_numbers`; stratified on all heads where rows suffice (`strata`).

    `folder` keeps the division for the next time; it must be another one where texts or pictures differ. `images` are
    the rows' pictures, if they have been opened.
    """
    labels = strata(rows, heads, folds)
    # Looking for near-duplicate pictures takes minutes where there are many.
    cache = None if folder is None else folder / f"folds-{digest([folds, seed, groups], [*rows['id'], *labels])}.json"
    if cache is not None and cache.is_file():
        return np.array(json.loads(cache.read_text(encoding="utf-8")))
    texts = rows["text"][:] if "text" in rows.column_names else None
    if images is None and "image" in rows.column_names:
        images = rows["image"][:]
    numbers = fold_numbers(texts, images, labels, folds, seed, groups=groups)
    if cache is not None:
        write_atomic(cache, json.dumps(numbers.tolist()))
    return numbers


def strata(rows: Dataset, heads: list[HeadConfig], folds: int) -> list[str]:
    """Name what each row is stratified by: the combination of its labels in all heads that have no child.

    A combination of fewer rows than folds can't be spread; those rows go by the finest head alone.
    """
    parents = {head.parent for head in heads}
    columns = {
        head.name: ["\1".join(head.rules.names(value)) for value in rows[head.name]]
        for head in heads
        if head.rules.has_labels and head.name not in parents and head.name in rows.column_names
    }
    finest = finest_head(heads)
    alone = columns.get(finest, [""] * len(rows))
    combined = ["\0".join(names) for names in zip(*columns.values(), strict=True)] if columns else alone
    counts = Counter(combined)
    return [whole if counts[whole] >= folds else own for whole, own in zip(combined, alone, strict=True)]


def thin_classes(rows: Dataset, heads: list[HeadConfig], numbers: np.ndarray) -> str | None:
    """Say which labels some fold's run never sees in training, because one fold holds all their rows; None if none."""
    found = []
    for head in heads:
        if not head.rules.has_labels or head.name not in rows.column_names:
            continue
        where: dict[str, set[int]] = {label: set() for label in head.labels}
        for value, fold in zip(rows[head.name], numbers, strict=True):
            for label in head.rules.names(value):
                where[label].add(int(fold))
        found += [(head.name, label, next(iter(inside))) for label, inside in where.items() if len(inside) == 1]
    if not found:
        return None
    head, label, fold = found[0]
    more = f", and {len(found) - 1} more labels are in one fold only" if len(found) > 1 else ""
    return (
        f"all rows of label {label!r} (head {head!r}) are in fold {fold}{more}: the run that holds them out never "
        "learns them. Give them more rows, or merge them with another label."
    )


def finest_head(heads: list[HeadConfig]) -> str | None:
    """The name of the head to stratify by: the `single_label` one of most labels, a child before its parent."""
    single = [head for head in heads if head.rules.exclusive]
    return max(single, key=lambda head: (len(head.labels), head.parent is not None)).name if single else None
