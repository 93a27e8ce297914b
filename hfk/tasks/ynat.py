"""News topics: a Korean headline → one of seven topics, as in KLUE-YNAT and the DACON competition made of it.

Three sources give the same task: the competition's csv (index, title, topic_idx), KLUE's json (guid, title, label), or,
without a file, the Hub's `klue` data set. The task `ynat-mini` is an embedded sample of headlines from templates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .columns import HeadColumn
from .samples import read_sample, sample_stamp
from .source import RawTable, TableSource, as_files, file_stamps
from .tables import Chunk, iter_columns
from .task import Task

TOPICS = ("IT과학", "경제", "사회", "생활문화", "세계", "스포츠", "정치")
_LABEL_COLUMNS = ("topic_idx", "label", "topic", "predefined_news_category")
_ID_COLUMNS = ("index", "guid", "id")


def ynat_task(data: Any = None) -> Task:
    """The task `ynat`.

    Args:
        data: the competition's csv, KLUE's json, or a mapping from split to such files; None reads `klue`, `ynat` from
            the Hugging Face Hub.
    """
    files = None if data is None else as_files(data)
    source = _source(read_hub if files is None else partial(read_ynat, files))
    source.fingerprint = "hub" if files is None else file_stamps(files)
    return Task("ynat", source, split={"validation": 0.1, "seed": 42})


def ynat_mini_task(data: Any = None) -> Task:
    """The task `ynat-mini`: an embedded sample of headlines from templates.

    Args:
        data: files to read instead, as in `ynat_task`; to score a model of the sample on other rows.
    """
    if data is not None:
        return ynat_task(data)
    source = _source(partial(read_sample, "ynat_mini"))
    source.fingerprint = sample_stamp("ynat_mini")
    return Task("ynat-mini", source, split={"validation": 0.15, "test": 0.15, "seed": 42})


def _source(read: Any) -> TableSource:
    return TableSource(read=read, heads=[HeadColumn("topic", labels=list(TOPICS))], text=["title"], id="id")


def read_ynat(files: dict[str, list[Path]]) -> list[RawTable]:
    """The competition's csv or KLUE's json as tables of id, title and topic (a name, or None where a file has none).

    Other columns stay, for `split: {group: …}`.

    Args:
        files: files by split.
    """
    return [
        RawTable(path.name, partial(_canonical, partial(iter_columns, path), path.name), split=split)
        for split, paths in files.items()
        for path in paths
    ]


def read_hub() -> list[RawTable]:
    """Read `klue`, `ynat` from the Hugging Face Hub, or from the cache that an earlier read left.

    Raises:
        ValueError: if the Hub can't be reached and nothing is cached.
    """
    from datasets import load_dataset

    try:
        loaded = load_dataset("klue", "ynat")
    except Exception as error:  # no network, no such repository, a proxy's refusal: one remedy for all
        raise ValueError(
            'the Hub\'s klue data set can\'t be reached; give a file, load_task("ynat", data="train_data.csv"), or use '
            f"the embedded sample, ynat-mini ({type(error).__name__})."
        ) from error
    return [
        RawTable(name, partial(_canonical, partial(part.iter, batch_size=8192), name), split=split)
        for split, part in loaded.items()
        for name in [f"klue/ynat {split}"]
    ]


def _canonical(read: Callable[[], Iterator[Chunk]], file: str) -> Iterator[Chunk]:
    row = 0
    for chunk in read():
        if "title" not in chunk:
            raise ValueError(f"column 'title' is missing from {file}; it has: {', '.join(chunk)}.")
        column = next((name for name in _LABEL_COLUMNS if name in chunk), None)
        if column is None:
            raise ValueError(f"column 'topic_idx' is missing from {file}; it has: {', '.join(chunk)}.")
        identity = next((name for name in _ID_COLUMNS if name in chunk), None)
        ids = range(row, row + len(chunk["title"])) if identity is None else chunk[identity]
        topics = [_topic(cell, f"{file}, row {number}: {column}") for number, cell in enumerate(chunk[column], row + 1)]
        yield chunk | {"id": list(map(str, ids)), "topic": topics}
        row += len(topics)


def _topic(cell: Any, where: str) -> str | None:
    name = None if cell is None or cell != cell else str(cell).strip()
    name = name.removesuffix(".0") if name else None
    if name and name.isdecimal():
        if int(name) >= len(TOPICS):
            raise ValueError(f"{where} {name} is none of 0–{len(TOPICS) - 1}.")
        name = TOPICS[int(name)]
    return {"생활/문화": "생활문화"}.get(name, name)
