"""Files that are whole or not there: the one way in which hfk writes what another program may read.

Everything is written beside its place, under a name of its own, and moved there when it is complete; so whoever is
interrupted, killed or out of disk leaves the old file, and a reader never sees half of the new one.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a path to write to, a file or a folder, that takes the place of `path` when the block ends well.

    What was written is removed if the block raises. The folder around `path` is made if it is not there.

    Example:
        >>> with replacing("answers.csv") as part:  # doctest: +SKIP
        ...     frame.to_csv(part)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        if part.is_dir() and path.is_dir():  # no folder can be moved over another
            shutil.rmtree(path)
        os.replace(part, path)
    except BaseException:
        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        raise


def write_atomic(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8, its line ends as they are."""
    with replacing(path) as part:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
