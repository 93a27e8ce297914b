"""What there is to learn: built-in tasks, and a user's own table through a YAML file.

`load_task("tour-mini").load()` gives a `DatasetDict` in the canonical columns (see `Task.load`) and fixes `task.heads`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..models.configuration_multihead import HeadConfig
from .columns import HeadColumn
from .dialect import dialect_mini_task, dialect_task
from .fashion import fashion_mini_task, fashion_task
from .reviews import reviews_mini_task
from .samples import unseen_places
from .split import finest_head
from .task import DEFAULT_SPLIT, Task, complete_split
from .tour import tour_mini_task, tour_task, tour_tree
from .translation import dialect_translation_mini_task, dialect_translation_task
from .yaml_task import load_yaml, table_task
from .ynat import TOPICS, ynat_mini_task, ynat_task

__all__ = [
    "ABOUT_ROWS",
    "DEFAULT_SPLIT",
    "TOPICS",
    "HeadColumn",
    "Task",
    "finest_head",
    "list_tasks",
    "load_task",
    "tour_tree",
    "unseen_places",
]

_PICTURES = ("image_dir", "missing_images")
ABOUT_ROWS = ("data", "split", "corrections", "bad_rows", *_PICTURES)
"""The options of `load_task` that a recipe may set too: they say which rows there are, and what they are for."""

_BUILT_IN: dict[str, tuple[Callable[..., Task], str, tuple[str, ...]]] = {
    "tour": (
        tour_task,
        "tourism, the competition's files: overview + photo → cat1 > cat2 > cat3 (6, 18, 128 classes)",
        ("data", "labels", "split", "bad_rows", *_PICTURES),
    ),
    "tour-mini": (
        tour_mini_task,
        "tourism, embedded sample: texts from templates + drawn pictures, 16 of the 128 classes",
        ("data", "labels", "split", "bad_rows", *_PICTURES),
    ),
    "ynat": (
        ynat_task,
        "news headlines → 7 topics: the competition's csv, KLUE's json, or the Hub's klue/ynat",
        ("data", "split", "bad_rows"),
    ),
    "ynat-mini": (
        ynat_mini_task,
        "news headlines, embedded sample from templates → 7 topics",
        ("data", "split", "bad_rows"),
    ),
    "reviews-mini": (
        reviews_mini_task,
        "film reviews, embedded sample from templates → 긍정 or 부정",
        ("data", "split", "bad_rows"),
    ),
    "fashion": (
        fashion_task,
        "Fashion-How, the contest's files: a photo and its box → daily, gender, embellishment (or color)",
        ("data", "split", "bad_rows", *_PICTURES),
    ),
    "fashion-mini": (
        fashion_mini_task,
        "Fashion-How, embedded sample: drawn figures with boxes → daily 7, gender 6, embellishment 3",
        ("data", "split", "bad_rows", *_PICTURES),
    ),
    "dialect": (
        dialect_task,
        "dialect, tables of pairs or AI-Hub's json: a sentence → region, or standard",
        ("data", "split", "bad_rows"),
    ),
    "dialect-mini": (
        dialect_mini_task,
        "dialect, embedded sample: sentences from templates → standard and four regions",
        ("data", "split", "bad_rows"),
    ),
    "dialect-translation": (
        dialect_translation_task,
        "dialect, the same pairs: a sentence and a region → the sentence as it is said there, or in the standard",
        ("data", "split"),
    ),
    "dialect-translation-mini": (
        dialect_translation_mini_task,
        "dialect, the same embedded sample, translated",
        ("data", "split"),
    ),
}


def list_tasks() -> dict[str, str]:
    """The built-in tasks: name → one line about it.

    Example:
        >>> "ynat" in list_tasks()
        True
    """
    return {name: description for name, (_, description, _) in _BUILT_IN.items()}


def load_task(task: str | Path | Mapping[str, Any], **overrides: Any) -> Task:
    """Make a task; no rows are read before `Task.load`.

    Args:
        task: the name of a built-in task, the path of a YAML file, or a mapping of the same keys.
        **overrides: replaces what the task says: `data` (a file, or a mapping such as `{"test": "new.csv"}`), `split`,
            and the YAML's other keys. `heads` may be a list of head names to keep only those, or of finished
            `HeadConfig`s, such as a checkpoint's: then their labels, order and options hold, and a row with another
            label is an error. `corrections` is a file of corrected labels (see `corrections.apply_corrections`).

    Returns:
        The task.

    Raises:
        FileNotFoundError: if a file doesn't exist.
        ValueError: for an unknown name or option; the sentence lists what there is.

    Example:
        >>> load_task("tour-mini").image
        True
    """
    heads, corrections = overrides.pop("heads", None), overrides.pop("corrections", None)
    made = _make(task, overrides)
    if corrections is not None:
        made.corrections = Path(corrections)
    if heads is not None:
        made.source.heads = _override_heads(made.source.heads, list(heads))
    return made


def _make(task: str | Path | Mapping[str, Any], overrides: dict[str, Any]) -> Task:
    if isinstance(task, Mapping):
        return table_task({**task, **overrides})
    name = str(task)
    if name in _BUILT_IN:
        make, description, known = _BUILT_IN[name]
        for option in overrides:
            if option not in known:
                raise ValueError(f"task {name!r} has no option {option!r}; it has: {', '.join((*known, 'heads'))}.")
        made = make(**{option: value for option, value in overrides.items() if option in ("data", "labels")})
        of_source = {option: overrides[option] for option in ("bad_rows", *_PICTURES) if overrides.get(option)}
        if "image_dir" in of_source:
            of_source["image_dir"] = Path(of_source["image_dir"])
        made.source, made.description = replace(made.source, **of_source), description
        made.divide_by(complete_split(overrides["split"], made.split) if "split" in overrides else made.split)
        return made
    path = Path(name)
    if path.suffix.lower() in (".yaml", ".yml"):
        return load_yaml(path, **overrides)
    if path.is_file():
        raise ValueError(
            f"{path.name} is not a task file; describe the table in one: `hfk init {path.name}` writes it."
        )
    near = difflib.get_close_matches(name, _BUILT_IN, n=1)
    raise ValueError(
        f"there is no task {name!r}{f' (did you mean {near[0]!r}?)' if near else ''}; built-in tasks: "
        f"{', '.join(_BUILT_IN)}. For your own table give the path of a YAML file."
    )


def _override_heads(columns: list[HeadColumn], heads: list[Any]) -> list[HeadColumn]:
    by_name = {column.name: column for column in columns}
    labels = {head.name: head.labels for head in heads if isinstance(head, HeadConfig)}
    result = []
    for head in heads:
        if isinstance(head, HeadConfig):
            parents = None
            if head.parent is not None:
                above = labels.get(head.parent)
                if above is None:
                    raise ValueError(f"head {head.name!r}: its parent {head.parent!r} is not among the heads given.")
                parents = {label: above[index] for label, index in zip(head.labels, head.parent_of, strict=True)}
            result.append(HeadColumn.from_head(head, by_name.get(head.name), parents))
        elif isinstance(head, str) and head in by_name:
            result.append(by_name[head])
        else:
            raise ValueError(f"there is no head {head!r} in this task; heads: {', '.join(by_name)}.")
    return result
