"""Fashion-How (ETRI): a photo of clothes with a box → daily, gender, embellishment, or in later seasons color.

The contest's csv has a line a photo: `image_name`, `BBox_xmin`, `BBox_ymin`, `BBox_xmax`, `BBox_ymax` in pixels, and
label columns whose sizes differ by season (7/6/3, 6/5/3, 18 colors), so they are read from the rows. What is outside
the box is cut off when a picture is opened, in training as in service.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from .columns import HeadColumn
from .samples import read_sample, sample_stamp
from .source import TableSource, as_files, file_stamps, read_files
from .tables import iter_columns
from .task import Task

LABELS = ("Daily", "Gender", "Embellishment", "Color")
BOX = ("BBox_xmin", "BBox_ymin", "BBox_xmax", "BBox_ymax")
SPLIT = {"validation": 0.25, "seed": 42}
"""The project's: three quarters to train on, one to judge by."""


def boxed(image: str, box: tuple[str, ...] | list[str]) -> str:
    """The `image:` of a table whose pictures have boxes in four columns: left, top, right, bottom in pixels.

    Example:
        >>> boxed("photo", ["x1", "y1", "x2", "y2"])
        '{photo}#xyxy={x1},{y1},{x2},{y2}'
    """
    path = image if "{" in image else f"{{{image}}}"
    return f"{path}#xyxy={','.join(f'{{{name}}}' for name in box)}"


def fashion_task(data: Any = None) -> Task:
    """The task `fashion` on the contest's files.

    Args:
        data: the csv, or a mapping from split to csv; `image_name` is relative to its folder, or to `image_dir`.

    Raises:
        ValueError: if no file is given, or it has none of the label columns.
    """
    if data is None:
        raise ValueError(
            'the contest\'s rows are not part of hfk: give yours, load_task("fashion", data="…/train.csv"), or use the '
            "embedded sample, fashion-mini."
        )
    files = as_files(data)
    first = next(iter(files.values()))[0]
    columns = next(iter_columns(first, chunk_rows=1))
    labels = [name for name in LABELS if name in columns]
    if not labels:
        raise ValueError(f"{Path(first).name} has none of the label columns {', '.join(LABELS)}.")
    source = TableSource(
        read=partial(read_files, files),
        heads=_heads(labels),
        image=boxed("image_name", BOX) if BOX[0] in columns else "image_name",
        id="image_name",
        fingerprint=file_stamps(files),
    )
    return Task("fashion", source, split=SPLIT)


def fashion_mini_task(data: Any = None) -> Task:
    """The task `fashion-mini`: drawn figures, two a picture, of which the box shows the one that is meant.

    Args:
        data: files to read instead, as in `fashion_task`.
    """
    if data is not None:
        return fashion_task(data)
    source = TableSource(
        read=partial(read_sample, "fashion_mini"),
        heads=_heads(LABELS[:3]),
        image="image",
        id="id",
        fingerprint=sample_stamp("fashion_mini"),
    )
    return Task("fashion-mini", source, split={"validation": 0.15, "test": 0.25, "seed": 42})


def _heads(labels: list[str] | tuple[str, ...]) -> list[HeadColumn]:
    return [HeadColumn(name.lower(), name) for name in labels]
