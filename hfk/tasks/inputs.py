"""What a row shows, from its cells: a text of one or several columns, and a picture; the same in training and after it.

Texts of several columns stay apart, for `사과 | 배 감` and `사과 배 | 감` are not the same pair: the processor gives
them to the tokenizer as a pair, or with its separator between them.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..models.text_preparation import SEPARATOR
from .columns import label_name
from .look_alikes import Picture, look

PICTURE = "the picture"
"""What a reason begins with that speaks of a row's picture."""
LONGEST_NAME = 4096  # what no file is called is not looked for under other names


def join_texts(parts: Iterable[Any]) -> str | None:
    """Join a row's texts; None if all are blank. Where one is blank, the others keep their places.

    Example:
        >>> join_texts(["사과", "배 감"]), join_texts(["사과", None]), join_texts([None, " "])
        ('사과␟배 감', '사과␟', None)
    """
    texts = [plain_text(part) or "" for part in parts]
    if not any(texts):
        return None
    return texts[0] if len(texts) == 1 else SEPARATOR.join(text.replace(SEPARATOR, " ").strip() for text in texts)


def picture_columns(image: str | None) -> list[str]:
    """The columns that `image:` names: one, or those in a pattern such as `images/{id}.jpg`."""
    return re.findall(r"\{([^{}]+)\}", image or "") or [name for name in [image] if name]


def picture_cells(image: str, chunk: Mapping[str, list[Any]]) -> list[Any]:
    """The pictures that `image:` names in some rows: a column's cells, or paths by a pattern.

    Example:
        >>> picture_cells("images/{id}.jpg", {"id": [10001.0, None]})
        ['images/10001.jpg', None]
    """
    names = picture_columns(image)
    if names == [image]:
        return chunk[image]
    cells = []
    for row in zip(*(chunk[name] for name in names), strict=True):
        parts = {name: plain_text(cell) and label_name(cell) for name, cell in zip(names, row, strict=True)}
        cells.append(image.format_map(parts) if all(parts.values()) else None)
    return cells


def is_address(cell: Any) -> bool:
    """Whether a cell names a picture on the web."""
    return isinstance(cell, str) and cell.strip().startswith(("http://", "https://"))


def find_picture(folder: str | Path, cell: str) -> str:
    """Where a picture is that a table names; as the table names it if there is none.

    Names of another system are tried too: backslashes between folders, and letters composed as on a Mac or not. A box
    at its end stays.
    """
    cell, *box = re.split(r"(?=#(?:xywh|xyxy)=)", cell.strip(), maxsplit=1)
    return _find(folder, cell) + "".join(box)


def _find(folder: str | Path, cell: str) -> str:
    path = os.path.join(folder, cell)
    if len(cell) <= LONGEST_NAME and not os.path.exists(path):
        for name in (cell, cell.replace("\\", "/")):
            for form in ("NFC", "NFD"):
                other = os.path.join(folder, unicodedata.normalize(form, name))
                if os.path.exists(other):
                    return other
    return path


def as_image(cell: Any, folder: Path | None) -> dict[str, Any] | None:
    """A cell as a picture column of `datasets` holds it; None for an empty one."""
    if isinstance(cell, dict):
        if cell.get("bytes") is not None:
            return {"bytes": cell["bytes"], "path": cell.get("path")}
        cell = cell.get("path")
    elif isinstance(cell, (bytes, bytearray)):
        return {"bytes": bytes(cell), "path": None}
    path = plain_text(cell)
    if path is not None and not is_address(path):
        path = os.path.abspath(find_picture(folder or "", path))
    return path and {"bytes": None, "path": path}


def open_all(images: Iterable[Any], but: set[int]) -> tuple[list[Picture | None], dict[int, str]]:
    """Open pictures as training will: what tells each apart, and row → why it can't be opened."""
    damaged: dict[int, str] = {}
    found: list[Picture | None] = []

    def open_one(numbered: tuple[int, Any]) -> Picture | str | None:
        row, image = numbered
        if image is None or row in but:
            return None
        try:
            return look(image)
        except ValueError as error:
            return f"{PICTURE} {str(error).rstrip('.')}"

    rows = enumerate(images)
    with ThreadPoolExecutor() as pool:
        while some := list(itertools.islice(rows, 256)):
            for (row, _), picture in zip(some, pool.map(open_one, some), strict=True):
                if isinstance(picture, str):
                    damaged[row], picture = picture, None
                found.append(picture)
    return found, damaged


def plain_text(cell: Any) -> str | None:
    """A cell as text; None for an empty or blank one."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return None
    text = str(cell)
    return text if text.strip() else None
