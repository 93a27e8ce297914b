"""Tourism: a place's Korean overview and photo → cat1 > cat2 > cat3, as in DACON competition 235978.

The full tree of 6, 18 and 128 categories is built in (`tour_tree.csv`), and rows are checked against it. The
competition's rows and photos are its host's and not part of this package: give your copy with
`load_task("tour", data=".../train.csv")`. The task `tour-mini` is the embedded sample of drawn pictures and texts from
templates (`scripts/make_samples.py`).
"""

from __future__ import annotations

import csv
from functools import lru_cache, partial
from importlib import resources
from typing import Any

from .columns import HeadColumn
from .samples import read_sample, sample_stamp
from .source import TableSource, as_files, file_stamps, read_files
from .tables import iter_columns
from .task import DEFAULT_SPLIT, Task

LEVELS = ("cat1", "cat2", "cat3")


@lru_cache(maxsize=1)
def tour_tree() -> tuple[tuple[str, str, str, int], ...]:
    """The categories of the competition.

    Returns:
        `(cat1, cat2, cat3, rows in the competition's train.csv)` for each of the 128 cat3, in order of their names.
    """
    text = resources.files(__package__).joinpath("tour_tree.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple((row["cat1"], row["cat2"], row["cat3"], int(row["train_count"])) for row in rows)


def tour_heads(labels: str = "all") -> list[HeadColumn]:
    """The three heads of the tree.

    Args:
        labels: `all` for the whole tree, `present` for the categories that occur in the rows.

    Raises:
        ValueError: for another word.
    """
    if labels not in ("all", "present"):
        raise ValueError(f"labels {labels!r} is not one of all, present.")
    tree = tour_tree()
    heads = []
    for level, name in enumerate(LEVELS):
        names = sorted({row[level] for row in tree})
        heads.append(
            HeadColumn(
                name,
                parent=LEVELS[level - 1] if level else None,
                labels=names if labels == "all" else None,
                known=names if labels == "present" else None,
                parents={row[level]: row[level - 1] for row in tree} if level else None,
            )
        )
    return heads


def tour_task(data: Any = None, labels: str = "all") -> Task:
    """The task `tour` on the competition's files.

    Args:
        data: train.csv (columns id, img_path, overview, cat1, cat2, cat3; img_path is relative to the file's folder),
            or a mapping from split to file. A file without img_path makes a text-only task, one without overview an
            image-only one.
        labels: `all` 128 classes, or those `present` in the rows.

    Raises:
        ValueError: if no file is given.
    """
    if data is None:
        raise ValueError(
            'the competition\'s rows are not part of hfk: give yours, load_task("tour", data="…/train.csv"), or use '
            "the embedded sample, tour-mini."
        )
    files = as_files(data)
    columns = next(iter_columns(next(iter(files.values()))[0], chunk_rows=1))
    source = TableSource(
        read=partial(read_files, files),
        heads=tour_heads(labels),
        text=["overview"] if "overview" in columns or "img_path" not in columns else [],
        image="img_path" if "img_path" in columns else None,
        id="id",
        fingerprint=file_stamps(files),
    )
    return Task("tour", source, split=DEFAULT_SPLIT)


def tour_mini_task(data: Any = None, labels: str = "present") -> Task:
    """The task `tour-mini`: the embedded sample of `tour`, with the categories that occur in it.

    Args:
        data: files to read instead, as in `tour_task`; to score a model of the sample on other rows.
        labels: as in `tour_task`.
    """
    if data is not None:
        return tour_task(data, labels)
    source = TableSource(
        read=partial(read_sample, "tour_mini"),
        heads=tour_heads(labels),
        text=["overview"],
        image="image",
        id="id",
        fingerprint=sample_stamp("tour_mini"),
    )
    return Task("tour-mini", source, split={"validation": 0.15, "test": 0.15, "seed": 42})
