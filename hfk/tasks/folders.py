"""Folders of pictures as tables: a folder a split, in it a folder a class, or a metadata file that names the pictures.

Folders are passed through that are the same for every picture (AI-Hub's `1.Training/원천데이터`), and hidden ones, as
macOS and NAS boxes leave them, are not looked into. Two levels of classes are two columns, `label` and `label2`.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .names import canonical
from .source import WHOLE, RawTable, file_stamps, split_name
from .tables import Chunk, is_saved_dataset, iter_columns

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_ONE = "give one of them, or name them in a task's YAML, such as `data: {train: train.csv, test: test.csv}`"
_TABLES = {".csv": _ONE, ".tsv": _ONE, ".xlsx": _ONE, ".jsonl": _ONE, ".parquet": _ONE} | dict.fromkeys(
    (".txt", ".json"), "write them as one table, a row a file, with columns such as text and label"
)
_NOT_OURS = ("__MACOSX", "@eaDir", "Thumbs")


def picture_folders(data: Any, folder: Path) -> dict[str, Path] | None:
    """Picture folders by split, if `data` names a folder, or folders; None if it names files.

    Args:
        data: what a task's `data:` says. A folder whose subfolders are all named after splits is one folder a split.
        folder: what relative paths are relative to.
    """
    if isinstance(data, Mapping):
        paths = {split: folder / path for split, path in data.items() if isinstance(path, (str, Path))}
        if not paths or not all(path.is_dir() and not is_saved_dataset(path) for path in paths.values()):
            return None
        return {split_name(split): path for split, path in paths.items()}
    if not isinstance(data, (str, Path)) or not (folder / data).is_dir() or is_saved_dataset(folder / data):
        return None
    whole = folder / data
    while _metadata(whole) is None:
        children, pictures = _look(whole)
        splits: dict[str, Path] = {}
        for child in children:
            try:
                splits.setdefault(split_name(child.name), child)
            except ValueError:
                break
        if children and len(splits) == len(children):
            return splits
        if pictures or len(children) != 1 or _look(children[0])[1]:
            break
        whole = children[0]
    return {WHOLE: whole}


def read_folders(directories: Mapping[str, Path]) -> list[RawTable]:
    """Tables of folders of pictures by split: columns file (relative path), image and label, label2, …, or a metadata
    file's own with file and image added; ValueError for a folder without pictures.
    """
    tables = []
    for split, folder in directories.items():
        metadata = _metadata(folder)
        read = partial(_read_pictures, directories, split) if metadata is None else partial(_read_metadata, metadata)
        tables.append(RawTable((metadata or folder).name, read, folder, split))
    return tables


def folder_stamps(directories: Mapping[str, Path]) -> list[list[Any]]:
    """What identifies the pictures in folders: where they are and what they are called, or their metadata file."""
    stamps: list[list[Any]] = []
    for split, folder in directories.items():
        metadata = _metadata(folder)
        if metadata is not None:
            stamps += file_stamps({split: [metadata]})
            continue
        names = "\n".join(path.as_posix() for path in pictures_below(folder))
        digest = hashlib.blake2b(names.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        stamps.append([split, str(folder.resolve()), digest])
    return stamps


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _NOT_OURS


def _look(folder: Path) -> tuple[list[Path], bool]:
    """The folders in a folder, and whether pictures lie beside them."""
    inside = sorted(child for child in folder.iterdir() if not _hidden(child.name))
    folders = [child for child in inside if child.is_dir()]
    return folders, any(child.suffix.lower() in IMAGE_SUFFIXES for child in inside if child not in folders)


def pictures_below(folder: Path) -> list[Path]:
    """All pictures below a folder, as paths relative to it, sorted; hidden ones are left out."""
    found = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        here = Path(where).relative_to(folder)
        found += [here / name for name in files if not _hidden(name) and Path(name).suffix.lower() in IMAGE_SUFFIXES]
    return sorted(found, key=lambda path: path.parts)


def _read_pictures(directories: Mapping[str, Path], split: str) -> Iterator[Chunk]:
    pictures = {name: pictures_below(folder) for name, folder in directories.items()}
    levels = [path.parent.parts for paths in pictures.values() for path in paths if path.parent.parts]
    if not any(path.parent.parts for path in pictures[split]):
        folder = directories[split]
        others = sorted({path.suffix.lower() for path in folder.rglob("*.*") if path.is_file()} & set(_TABLES))
        held = f", but {' and '.join(others)} files; {_TABLES[others[0]]}." if others and not pictures[split] else ""
        raise ValueError(
            f"{folder} has no subfolders with pictures" + (held or "; put each class's pictures in its own subfolder.")
        )
    depth = min(map(len, levels))
    used = [level for level in range(depth) if len({parts[level] for parts in levels}) > 1] or [depth - 1]
    mine = [path for path in pictures[split] if path.parent.parts]
    if len(mine) < len(pictures[split]):
        warnings.warn(
            f"{directories[split].name}: {len(pictures[split]) - len(mine)} pictures lie in no class's folder; they "
            "are left out.",
            stacklevel=2,
        )
    yield {
        "file": [canonical(path.as_posix()) for path in mine],
        "image": [path.as_posix() for path in mine],
        **{
            f"label{number}" if number > 1 else "label": [canonical(path.parts[level]) for path in mine]
            for number, level in enumerate(used, 1)
        },
    }


def _read_metadata(path: Path) -> Iterator[Chunk]:
    for chunk in iter_columns(path):
        if "file_name" not in chunk:
            raise ValueError(f"{path.name} in {path.parent} has no column 'file_name' that names the pictures.")
        yield {**chunk, "file": chunk["file_name"], "image": chunk["file_name"]}
