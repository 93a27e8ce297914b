"""A task from a YAML file: any table, or a folder of pictures, with its label columns named.

The file is checked key by key before any row is read: unknown keys, columns that are input and label at once, parents
that run in a circle. Paths in it are relative to the file's own folder. `hfk init TABLE` writes such a file.

    data: places.csv                # or {train: a.csv, test: b.csv}, or a folder with a subfolder for each class
    text: [title, overview]         # one column or several, which stay apart: a pair for the tokenizer
    box: [left, top, right, bottom] # columns: what of each picture is looked at, in pixels
    image: photo                    # a column of paths, relative to image_dir or else to the table; or images/{id}.jpg
    bad_rows: drop                  # leave out rows that can't be used, and say so; an error by default
    join: {file: labels.csv, on: id}                    # more columns, from the row of that id
    header: false                   # how the table is read, if it can't be seen: delimiter, quoting, encoding, sheet
    id: id
    heads:
      - {name: cat1, labels: {0: 음식, 1: 숙박}}            # or the names in order, or a file of them
      - {name: cat2, parent: cat1, qualify: true}
      - {column: category, levels: [group, kind], separator: ">"}
      - {name: mood, problem: multi_label, separator: ","}
      - {name: feeling, problem: multi_label, columns: [joy, anger]}
      - {name: rating, column: stars, problem: regression, weight: 0.5}
    split: {validation: 0.1, test: 0.1, seed: 42, group: author}     # or {column: split}, or {folds: 5, fold: 0}
    corrections: corrections.csv    # columns id, head, from, to, reason; see `corrections.py`
    recipe: table
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ..files import parse_yaml
from ..models.configuration_multihead import validate_parents
from .columns import OPTIONS, HeadColumn, label_name
from .fashion import boxed
from .folders import folder_stamps, picture_folders, read_folders
from .names import canonical
from .source import BAD_ROWS, MISSING_IMAGES, WHOLE, TableSource, as_files, file_stamps, read_files
from .tables import READING, check_file, read_table
from .task import DEFAULT_SPLIT, SPLIT_KEYS, Task, complete_split

KEYS = (
    "name", "description", "data", "text", "image", "image_dir", "box", "id", "heads", "split", "recipe",
    "missing_images", "corrections", "bad_rows", "join", *READING,
)  # fmt: skip
HEAD_KEYS = (
    "name", "column", "columns", "problem", "separator", "levels", "parent", "qualify", "labels", "empty", "conflicts",
    "min_rows", *OPTIONS,
)  # fmt: skip


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
        content = parse_yaml(path.read_text(encoding="utf-8-sig"))
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
    text, heads = [_column(name) for name in text], spec.get("heads")
    image, identity = _column(spec.get("image")), _column(spec.get("id"))
    directories = picture_folders(spec["data"], folder)
    if directories is not None:
        read, fingerprint = partial(read_folders, directories), folder_stamps(directories)
        image, identity, heads = image or "image", identity or "file", heads or ["label"]
    else:
        files = as_files(spec["data"], folder)
        reading = {name: spec[name] for name in READING if spec.get(name) is not None}
        if spec.get("bad_rows") == "drop":
            reading["ragged"] = "empty"
        join = _join(spec.get("join"), at, folder)
        stamps = [*file_stamps(files), *file_stamps({"": [path for path, _ in join]})]
        read, fingerprint = partial(read_files, files, join, **reading), [stamps, reading, [key for _, key in join]]
    if spec.get("box") is not None:
        if not image or not isinstance(spec["box"], (list, tuple)) or len(spec["box"]) != 4:
            raise ValueError(f"{at}`box:` names four columns beside `image:`: left, top, right, bottom in pixels.")
        image = boxed(image, [_column(name) for name in spec["box"]])
    if not text and not image:
        raise ValueError(f"{at}there is no input: name a column under `text:` or `image:` or both.")
    if isinstance(heads, (str, Mapping)) or not heads:
        raise ValueError(f"{at}`heads:` must be a list with an entry for each label column.")
    columns = [column for head in heads for column in _head_columns(head, at, folder)]
    try:
        validate_parents(columns)
    except ValueError as error:
        raise ValueError(f"{at}{error}") from error
    for column in columns:
        for role, names in (("text", text), ("image", [image]), ("id", [identity])):
            if column.columns is None and column.column in names:
                raise ValueError(
                    f"{at}head {column.name!r} reads column {column.column!r}, which is the {role} input; a label "
                    "can't repeat the input."
                )
    for key, known in (("missing_images", MISSING_IMAGES), ("bad_rows", BAD_ROWS)):
        if spec.get(key, "error") not in known:
            raise ValueError(f"{at}{key} must be one of {', '.join(known)}.")
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
        bad_rows=spec.get("bad_rows", "error"),
        header=spec.get("header"),
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


def _join(given: Any, at: str, folder: Path) -> list[tuple[Path, str]]:
    """The files that `join:` names, and the column by which their rows are found."""
    found = []
    for entry in [given] if isinstance(given, Mapping) else given or []:
        if not isinstance(entry, Mapping) or set(entry) != {"file", "on"}:
            raise ValueError(
                f"{at}`join:` must be such as {{file: labels.csv, on: id}}, or a list of such; one is {entry!r}."
            )
        found.append((folder / str(entry["file"]), canonical(str(entry["on"]))))
        check_file(found[-1][0])
    return found


def _column(name: Any) -> str | None:
    return None if name is None else canonical(str(name))


def _head_columns(entry: Any, at: str, folder: Path) -> list[HeadColumn]:
    """The heads of an entry under `heads:`: one, or with `levels:` one a level."""
    if isinstance(entry, HeadColumn):
        return [entry]
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name") or entry.get("column"), str):
        raise ValueError(f"{at}each entry under `heads:` needs a `name`, such as `- name: cat1`; one is {entry!r}.")
    name = canonical(entry.get("name") or entry["column"])
    _check_keys(entry, HEAD_KEYS, f"{at}head {name!r}: ")
    fields = {key: value for key, value in entry.items() if key not in OPTIONS and value is not None}
    options = {key: value for key, value in entry.items() if key in OPTIONS and value is not None}
    try:
        if "labels" in fields:
            fields["labels"], codes = read_names(fields["labels"], name, fields.get("column") or name, folder)
            fields["codes"] = codes
        levels = fields.get("levels")
        if levels is None:
            return [HeadColumn(**{**fields, "name": name}, options=options)]
        if not isinstance(levels, (list, tuple)) or not all(isinstance(level, str) for level in levels):
            raise ValueError(f"head {name!r}: `levels:` must list the names of the heads, coarse to fine.")
        fields = {"column": name, "qualify": True} | fields | {"levels": [canonical(level) for level in levels]}
        if name in fields["levels"] and "name" in entry:
            fields["qualify"] = name != fields["levels"][0]
            return [HeadColumn(**{**fields, "name": name}, options=options)]
        above = [None, *fields["levels"]]
        return [
            HeadColumn(**{**fields, "name": level, "parent": parent, "qualify": parent is not None}, options=options)
            for level, parent in zip(fields["levels"], above, strict=False)
        ]
    except ValueError as error:
        raise ValueError(f"{at}{error}") from error


def read_names(given: Any, head: str, column: str, folder: Path = Path()) -> tuple[list[str], dict[str, str] | None]:
    """The names of a head's classes, in order, and what the rows call them.

    Args:
        given: a list of names; a mapping from what the rows say to names; or a file of either: a table of two columns,
            a JSON list or mapping, or names line by line, whose numbers count from 0.
        head: the head's name, for errors.
        column: the column that it reads; a table of names may have one of that name.
        folder: what the file's path is relative to.
    """
    if isinstance(given, str):
        path = folder / given
        if not path.is_file():
            raise ValueError(f"head {head!r}: `labels` must be a list of names or a file of them; there is no {path}.")
        given = _names_file(path, column)
    if isinstance(given, Mapping):
        if given and all(isinstance(value, int) for value in given.values()):  # name → number, as label2id is written
            given = {number: name for name, number in sorted(given.items(), key=lambda item: item[1])}
        codes = {label_name(code): canonical(str(name)) for code, name in given.items()}
        return list(dict.fromkeys(codes.values())), codes
    if not isinstance(given, Iterable):
        raise ValueError(f"head {head!r}: `labels` must be a list of names, a mapping to names, or a file of them.")
    return [canonical(str(name)) for name in given], None


def _names_file(path: Path, column: str) -> dict[Any, Any]:
    if path.suffix.lower() == ".json":
        names = json.loads(path.read_text(encoding="utf-8-sig"))
        return names if isinstance(names, dict) else dict(enumerate(names))
    if path.suffix.lower() == ".txt":
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        return dict(enumerate(line.strip() for line in lines if line.strip()))
    table = read_table(path)
    names = list(table.columns)
    if len(names) == 1:
        return dict(enumerate(table[names[0]]))
    numeric = [name for name in names if all(str(cell).isdecimal() for cell in table[name])]
    codes = column if column in names else (numeric or names)[0]
    called = [name for name in names if name != codes]
    if table[codes].duplicated().any():
        raise ValueError(f"{path.name} has several rows for {table[codes][table[codes].duplicated()].iloc[0]!r}.")
    if len(called) > 1:
        raise ValueError(
            f"{path.name} has {len(names)} columns; a file of class names has two, what rows say and name."
        )
    return dict(zip(table[codes], table[called[0]], strict=True))


def _split(spec: Mapping[str, Any], at: str, given: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    default = dict(DEFAULT_SPLIT)
    if WHOLE not in given and set(given) != {"train"}:
        del default["test"]
    split = spec.get("split", default)
    if split is None or split is False or split == "none":
        return None, None
    if not isinstance(split, Mapping):
        raise ValueError(f"{at}`split:` must be shares such as {{validation: 0.1, test: 0.1}}, or {{column: NAME}}.")
    _check_keys(split, (*SPLIT_KEYS, "column"), f"{at}split: ")
    split = {key: _column(value) if key == "group" else value for key, value in split.items()}
    if "column" in split:
        column = _column(split.pop("column"))
        if "test" in split:
            raise ValueError(f"{at}split: give either `column` or shares, not both.")
        return split or None, column
    for name in ("validation", "test"):
        share = split.get(name) or 0
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise ValueError(f"{at}split: {name} must be a share in [0, 1), such as 0.1, not {share!r}.")
    if (split.get("validation") or 0) + (split.get("test") or 0) >= 1:
        raise ValueError(f"{at}split: validation and test take all rows; leave some for train.")
    return complete_split(split, default), None


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
