"""Files that are whole or not there: the one way in which hfk writes what another program may read, and reads YAML.

Everything is written beside its place, under a name of its own, brought to the disk, and moved there when it is
complete; so whoever is interrupted, killed or out of disk leaves the old file, and a reader never sees half of the new
one. What a killed process has left beside a place is removed by the next that writes there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

MAX_YAML_NODES = 1_000_000
"""Values that a YAML may have when its aliases are written out; nine lines of them can mean a billion."""
_PART = re.compile(r"\..*\.(?P<pid>\d+)-(?P<host>[0-9a-f]{6})-[0-9a-f]{8}\.part")
_SYNCING_THREADS = 8
_NAME_LENGTH = 48  # of a part's name, in letters: with four bytes each, what is added must fit into 255
_swept: set[Path] = set()


def _host() -> str:
    """Whose process numbers these are: of a machine, or of a container on it."""
    with suppress(OSError):
        return hashlib.sha256(f"{platform.node()} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:6]
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def part_of(path: str | os.PathLike) -> Path:
    """Return a new name beside `path` to write it under, which says whose it is; see `sweep`."""
    path = Path(path)
    return path.with_name(f".{path.name[:_NAME_LENGTH]}.{os.getpid()}-{_host()}-{secrets.token_hex(4)}.part")


def sweep(folder: str | os.PathLike) -> None:
    """Remove what processes of this machine that are no more have left half written in a folder."""
    host = _host()
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = _PART.fullmatch(entry.name)
            if found and found["host"] == host and not _is_alive(int(found["pid"])):
                remove(entry.path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def remove(path: str | os.PathLike) -> None:
    """Remove a file or a folder, if it is there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: str | os.PathLike) -> None:
    """Bring a file, or a folder with all that is in it, to the disk: a power cut may empty what was only renamed."""
    path = Path(path)
    below = sorted(path.rglob("*"), reverse=True) if path.is_dir() else []
    if not below:
        sync_entry(path)
        return
    with ThreadPoolExecutor(_SYNCING_THREADS) as pool:  # written at once: one by one takes ten times as long
        list(pool.map(sync_entry, below))
    sync_entry(path)


def sync_entry(path: str | os.PathLike) -> None:
    """Bring one file to the disk; of a folder, what the files in it are called, after some were renamed."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # a folder, where folders can't be opened
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    finally:
        os.close(handle)


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
    if path.parent not in _swept:  # once: a folder may hold a million other files
        _swept.add(path.parent)
        sweep(path.parent)
    part, old = part_of(path), None
    try:
        yield part
        sync(part)
        if part.is_dir() and path.is_dir():  # no folder can be moved over another
            old = part_of(path)
            os.replace(path, old)
        os.replace(part, path)
    except BaseException:
        if old is not None and not path.exists():
            os.replace(old, path)
        remove(part)
        raise
    if old is not None:
        remove(old)


def write_atomic(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8, its line ends as they are."""
    with replacing(path) as part:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def out_of_room(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it came from, means that the disk or the user's share of it is full."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        # What libraries in other languages say: tokenizers and safetensors, PyTorch, SQLite.
        said = str(error)
        signs = ("os error 28", "No space left", "PytorchStreamWriter failed", "inline_container.cc", "disk is full")
        if any(sign in said for sign in signs):
            return True
        error = error.__cause__ or error.__context__
    return False


def parse_yaml(text: str) -> Any:
    """Read YAML as data, as `yaml.safe_load` does; one that is nested or repeats itself without end is a YAMLError.

    Example:
        >>> parse_yaml("heads: [{name: topic}]")
        {'heads': [{'name': 'topic'}]}
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MAX_YAML_NODES:
            raise yaml.YAMLError(f"its aliases stand for more than {MAX_YAML_NODES:,} values")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a YAML's node stands for, every alias written out."""
    if id(node) not in known:
        known[id(node)] = MAX_YAML_NODES + 1  # until it is known: a node inside itself has no end
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_count(part, known) for part in inner)
    return known[id(node)]
