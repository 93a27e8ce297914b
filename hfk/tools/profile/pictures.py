"""What a task's pictures are like: how many can be read, how large they are, and a sheet of some of all classes."""

from __future__ import annotations

import io
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...evaluation.pages import thumbnail
from ...evaluation.plots import BLUE, MUTED, name_axes, new_figure, plain, titles, to_png
from ...tasks import finest_head
from ...tasks.look_alikes import Picture, describe_images, image_bytes
from .rows import SEED, HeadConfig, Rows, progress

SHEET = 48  # pictures on the contact sheet
TILE = 112  # pixels a side


def look_at_images(rows: Rows) -> tuple[list[Picture | None], dict[str, Any]]:
    """Open every picture once.

    Returns:
        what `describe_images` says of each row; and `present`, `missing`, `unreadable` ((id, file) of pictures that
        can't be read), `sizes` (int array `(pictures, 2)`, width and height in pixels), `formats`.
    """
    pictures: list[Picture | None] = []
    sizes, unreadable, formats = [], [], Counter()
    for identity, image in zip(rows.ids, progress(rows.images, "pictures"), strict=True):
        data = image_bytes(image)
        (picture,) = describe_images([data]) if data else (None,)
        pictures.append(picture)
        if picture is not None and picture.thumbnail is not None:
            with Image.open(io.BytesIO(data)) as opened:
                sizes.append(opened.size)
                formats[opened.format] += 1
        elif image is not None:
            unreadable.append((identity, Path(image.get("path") or "").name))
    missing = sum(image is None for image in rows.images)
    return pictures, {
        "present": len(rows.images) - missing,
        "missing": missing,
        "unreadable": unreadable,
        "sizes": np.array(sizes, dtype=int).reshape(-1, 2),
        "formats": dict(formats.most_common()),
    }


def contact_sheet(rows: Rows, pictures: list[Picture | None], heads: list[HeadConfig]) -> list[dict[str, Any]]:
    """Choose pictures of all classes in turn: `id`, `label`, `jpeg` (bytes, at most `TILE` pixels a side)."""
    head = finest_head(heads)
    members: dict[str, list[int]] = defaultdict(list)
    for row, picture in enumerate(pictures):
        if picture is not None and picture.thumbnail is not None:
            members[rows.first_label(head, row)].append(row)
    draw = random.Random(SEED)
    queues = [draw.sample(members[label], len(members[label])) for label in sorted(members)]
    chosen: list[int] = []
    while len(chosen) < SHEET and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    sheet = [
        {"id": rows.ids[row], "label": rows.first_label(head, row), "jpeg": thumbnail(rows.images[row], TILE)}
        for row in chosen[:SHEET]
    ]
    return sorted(sheet, key=lambda tile: tile["label"])


def image_sizes_png(sizes: np.ndarray) -> bytes:
    """Draw how wide and high pictures are: a bubble for each size, its area by the number of pictures."""
    distinct, count = np.unique(sizes, axis=0, return_counts=True)
    different = len(distinct)
    if different > 400:  # a cloud of single sizes: 40 steps a side show the same
        step = max(1, int(np.ceil(sizes.max() / 40)))
        distinct, count = np.unique(sizes // step * step + step // 2, axis=0, return_counts=True)
    figure, (axes,) = new_figure(4.6, 3.6)
    end = float(sizes.max()) * 1.12
    axes.plot([0, end], [0, end], color=MUTED, linewidth=0.8, linestyle="--", zorder=1)
    axes.scatter(*distinct.T, s=10 + 240 * count / count.max(), color=BLUE, alpha=0.35, zorder=2)
    plain(axes, x=(0, end), y=(0, end), grid="both")
    name_axes(axes, "width, pixels", "height, pixels")
    beside = {"xytext": (-4, -14), "textcoords": "offset points", "ha": "right"}
    axes.annotate("square", (end, end), fontsize=8, color=MUTED, **beside)
    width, height = np.median(sizes, axis=0).astype(int)
    titles(axes, "Picture sizes", f"{len(sizes):,} pictures of {different:,} sizes; the median is {width}×{height}")
    return to_png(figure)
