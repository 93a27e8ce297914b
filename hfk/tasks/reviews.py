"""Film reviews → for the film or against it: the first steps with texts, on an embedded sample from templates.

A table of one's own, of any two classes, is a YAML like any other; the recipe `reviews` trains on it from nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .columns import HeadColumn
from .samples import read_sample, sample_stamp
from .source import TableSource, as_files, file_stamps, read_files
from .task import Task

LABELS = ("부정", "긍정")


def reviews_mini_task(data: Any = None) -> Task:
    """The task `reviews-mini`.

    Args:
        data: files of columns `id`, `text` and `label` to read instead; to score a model of the sample on other rows.
    """
    files = None if data is None else as_files(data)
    source = TableSource(
        read=partial(read_sample, "reviews_mini") if files is None else partial(read_files, files),
        heads=[HeadColumn("label", labels=list(LABELS))],
        text=["text"],
        id="id",
        fingerprint=sample_stamp("reviews_mini") if files is None else file_stamps(files),
    )
    return Task("reviews-mini", source, split={"validation": 0.15, "test": 0.15, "seed": 42})
