"""A task from a YAML file: any CSV, TSV, JSONL or Parquet table, or a folder of pictures, with its label columns named.

The file is checked key by key before any row is read: unknown keys, columns that are input and label at once, parents
that run in a circle. Paths in it are relative to the file's own folder. `hfk init TABLE` writes such a file
(`inspection.py`).

    data: places.csv                # or {train: a.csv, test: b.csv}, or a folder with a subfolder for each class
    text: [title, overview]         # one column or several, joined by a space
    image: photo                    # a column of paths, relative to image_dir or else to the table
    id: id
    heads:
      - {name: cat1}
      - {name: cat2, parent: cat1}
      - {name: mood, problem: multi_label, separator: ","}
      - {name: rating, column: stars, problem: regression, weight: 0.5}
    split: {validation: 0.1, test: 0.1, seed: 42}     # or {column: split}, or {folds: 5, fold: 0, seed: 42}
    corrections: corrections.csv    # columns id, head, from, to, reason; see `corrections.py`
    recipe: table
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ..models.configuration_multihead import validate_parents
from .columns import OPTIONS, HeadColumn
from .source import MISSING_IMAGES, WHOLE, RawTable, TableSource, as_files, file_stamps, read_files, split_name
from .tables import Chunk, iter_columns
from .task import DEFAULT_SPLIT, SPLIT_KEYS, Task

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
KEYS = (
    "name", "description", "data", "text", "image", "image_dir", "id", "heads", "split", "recipe", "missing_images",
    "corrections",
)  # fmt: skip
HEAD_KEYS = ("name", "column", "problem", "separator", "parent", "labels", "empty", "conflicts", "min_rows", *OPTIONS)
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def load_yaml(path: str | Path, **overrides: Any) -> Task:
    """Make a task from a YAML file.

    Args:
        path: the file.
        **overrides: keys of the file to replace; relative paths among them are relative to the working directory.

    Raises:
        FileNotFoundError: if the file, or a data file, doesn't exist.
        ValueError: if it is no YAML, or asks for something that can't be; one sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no task file {path}; make one with `hfk init TABLE`.")
    spec = {"name": path.stem, **read_yaml(path, "data: places.csv")}
    for key in ("data", "image_dir"):  # overrides are relative to where the user stands, not to the file
        if overrides.get(key) is not None:
            overrides[key] = _absolute(overrides[key])
    return table_task({**spec, **overrides}, folder=path.parent, settings=path.name)


def read_yaml(path: Path, example: str) -> dict[str, Any]:
    """Read a YAML that maps keys to values; anything else is one sentence, with an `example` of such a line."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8; save it as UTF-8.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path.name}{where}: not valid YAML ({getattr(error, 'problem', error)}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must be a mapping of options, such as `{example}`.")
    return content


def table_task(spec: Mapping[str, Any], folder: str | Path | None = None, settings: str | None = None) -> Task:
    """Make a task from the contents of a YAML file.

    Args:
        spec: the mapping described in this module's docstring.
        folder: what relative paths are relative to; the working directory by default.
        settings: the file's name, for messages.

    Raises:
        FileNotFoundError: if a data file doesn't exist.
        ValueError: if the mapping asks for something that can't be.
    """
    at = f"{settings}: " if settings else ""
    _check_keys(spec, KEYS, at)
    if spec.get("data") is None:
        raise ValueError(f"{at}`data:` is missing; name the table there.")
    folder = Path(folder or "")
    text = [spec["text"]] if isinstance(spec.get("text"), str) else list(spec.get("text") or [])
    image, identity, heads = spec.get("image"), spec.get("id"), spec.get("heads")
    directories = picture_folders(spec["data"], folder)
    if directories is not None:
        read, fingerprint = partial(read_folders, directories), [str(path) for path in directories.values()]
        image, identity, heads = image or "image", identity or "file", heads or ["label"]
    else:
        files = as_files(spec["data"], folder)
        read, fingerprint = partial(read_files, files), file_stamps(files)
    if not text and not image:
        raise ValueError(f"{at}there is no input: name a column under `text:` or `image:` or both.")
    if isinstance(heads, (str, Mapping)) or not heads:
        raise ValueError(f"{at}`heads:` must be a list with an entry for each label column.")
    columns = [_head_column(head, at) for head in heads]
    try:
        validate_parents(columns)
    except ValueError as error:
        raise ValueError(f"{at}{error}") from error
    for column in columns:
        for role, names in (("text", text), ("image", [image]), ("id", [identity])):
            if column.column in names:
                raise ValueError(
                    f"{at}head {column.name!r} reads column {column.column!r}, which is the {role} input; a label "
                    "can't repeat the input."
                )
    if spec.get("missing_images", "error") not in MISSING_IMAGES:
        raise ValueError(f"{at}missing_images must be one of {', '.join(MISSING_IMAGES)}.")
    split, split_column = _split(spec, at, directories if directories is not None else files)
    source = TableSource(
        read=read,
        heads=columns,
        text=text,
        image=image,
        id=identity,
        image_dir=folder / spec["image_dir"] if spec.get("image_dir") else None,
        split_column=split_column,
        missing_images=spec.get("missing_images", "error"),
        fingerprint=fingerprint,
        settings=settings,
    )
    return Task(
        str(spec.get("name") or "table"),
        source,
        split=split,
        description=str(spec.get("description") or ""),
        corrections=folder / spec["corrections"] if spec.get("corrections") else None,
    )


def read_folders(directories: dict[str, Path]) -> list[RawTable]:
    """Tables of folders of pictures: a subfolder a class, or pictures with a metadata file that has a file_name column.

    Args:
        directories: folders by split.

    Returns:
        Tables of file (relative path), image (path) and label (the subfolder's name), or the metadata file's columns
        with file and image added.

    Raises:
        ValueError: for a folder without pictures.
    """
    tables = []
    for split, folder in directories.items():
        metadata = next((folder / name for name in _METADATA if (folder / name).is_file()), None)
        read = partial(_read_pictures, folder) if metadata is None else partial(_read_metadata, metadata)
        tables.append(RawTable((metadata or folder).name, read, folder, split))
    return tables


def _read_pictures(folder: Path) -> Iterator[Chunk]:
    rows = [
        (path.relative_to(folder).as_posix(), str(path), label.name)
        for label in sorted(child for child in folder.iterdir() if child.is_dir())
        for path in sorted(label.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not rows:
        raise ValueError(f"{folder} has no subfolders with pictures; put each class's pictures in its own subfolder.")
    yield dict(zip(("file", "image", "label"), map(list, zip(*rows, strict=True)), strict=True))


def _read_metadata(path: Path) -> Iterator[Chunk]:
    for chunk in iter_columns(path):
        if "file_name" not in chunk:
            raise ValueError(f"{path.name} in {path.parent} has no column 'file_name' that names the pictures.")
        yield {**chunk, "file": chunk["file_name"], "image": chunk["file_name"]}


def picture_folders(data: Any, folder: Path) -> dict[str, Path] | None:
    """Picture folders by split, if `data` names a folder, or folders.

    Args:
        data: what a task's `data:` says. A folder whose subfolders are all named after splits is one folder a split.
        folder: what relative paths are relative to.

    Returns:
        Folders by split; None if `data` names files.
    """
    if isinstance(data, Mapping):
        paths = {split: folder / path for split, path in data.items() if isinstance(path, (str, Path))}
        if not paths or not all(path.is_dir() for path in paths.values()):
            return None
        return {split_name(split): path for split, path in paths.items()}
    if not isinstance(data, (str, Path)) or not (folder / data).is_dir():
        return None
    whole, splits = folder / data, {}
    for child in sorted(whole.iterdir()):
        if child.is_dir():
            try:
                splits[split_name(child.name)] = child
            except ValueError:
                return {WHOLE: whole}
    return splits or {WHOLE: whole}


def _head_column(entry: Any, at: str) -> HeadColumn:
    if isinstance(entry, HeadColumn):
        return entry
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name") or entry.get("column"), str):
        raise ValueError(f"{at}each entry under `heads:` needs a `name`, such as `- name: cat1`; one is {entry!r}.")
    name = entry.get("name") or entry["column"]
    _check_keys(entry, HEAD_KEYS, f"{at}head {name!r}: ")
    fields = {key: value for key, value in entry.items() if key not in OPTIONS and value is not None}
    options = {key: value for key, value in entry.items() if key in OPTIONS and value is not None}
    if "labels" in fields and (isinstance(fields["labels"], str) or not isinstance(fields["labels"], Iterable)):
        raise ValueError(f"{at}head {name!r}: `labels` must be a list of names.")
    try:
        return HeadColumn(**{**fields, "name": name}, options=options)
    except ValueError as error:
        raise ValueError(f"{at}{error}") from error


def _split(spec: Mapping[str, Any], at: str, given: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    if "split" not in spec:
        if WHOLE in given or set(given) == {"train"}:
            return dict(DEFAULT_SPLIT), None
        return {"validation": DEFAULT_SPLIT["validation"], "seed": DEFAULT_SPLIT["seed"]}, None
    split = spec["split"]
    if split is None or split is False or split == "none":
        return None, None
    if not isinstance(split, Mapping):
        raise ValueError(f"{at}`split:` must be shares such as {{validation: 0.1, test: 0.1}}, or {{column: NAME}}.")
    _check_keys(split, (*SPLIT_KEYS, "column"), f"{at}split: ")
    if "column" in split:
        if {"validation", "test"} & set(split):
            raise ValueError(f"{at}split: give either `column` or shares, not both.")
        column = str(split["column"])
        return {key: value for key, value in split.items() if key != "column"} or None, column
    for name in ("validation", "test"):
        share = split.get(name) or 0
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise ValueError(f"{at}split: {name} must be a share in [0, 1), such as 0.1, not {share!r}.")
    if (split.get("validation") or 0) + (split.get("test") or 0) >= 1:
        raise ValueError(f"{at}split: validation and test take all rows; leave some for train.")
    return dict(split), None


def _check_keys(mapping: Mapping[str, Any], known: Iterable[str], at: str) -> None:
    known = list(known)
    for key in mapping:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
            raise ValueError(f"{at}unknown key {key!r}; {hint}")


def _absolute(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _absolute(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_absolute(item) for item in value]
    return os.path.abspath(os.path.expanduser(value))
