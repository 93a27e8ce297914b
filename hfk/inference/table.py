"""Batch prediction: a table in, the same table out with an answer and a score a head, and an `error` column.

Every input row comes out, in order, whatever is wrong with it. Which columns hold text and pictures is read from the
checkpoint's `task.json`, as training left it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from transformers.utils import cached_file

from ..models.configuration_multihead import HeadConfig
from ..tasks.table_writer import TableWriter
from ..tasks.tables import iter_table
from .predictor import Predictor

TASK_FILE = "task.json"


def read_task_file(checkpoint: str | Path, revision: str | None = None) -> dict[str, Any]:
    """Read what the training data's columns were called.

    Returns:
        `task`, `text` (list of columns), `image`, `id`, `heads` (head name → column, separator and the like); empty for
        a checkpoint, in a folder or on the Hub, that was not made by `hfk train`.
    """
    path = cached_file(
        str(checkpoint), TASK_FILE, revision=revision, _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False,
    )  # fmt: skip
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def predict_table(
    predictor: Predictor,
    source: str | Path,
    target: str | Path,
    text: list[str] | None = None,
    image: str | None = None,
    image_dir: str | Path | None = None,
    heads: list[str] | None = None,
    threshold: float | None = None,
    columns: dict[str, Any] | None = None,
    on_rows: Callable[[int], None] | None = None,
    min_score: float | None = None,
    paths: int | None = None,
) -> dict[str, int]:
    """Classify every row of a table.

    Args:
        predictor: the loaded checkpoint.
        source: CSV, TSV, JSONL or Parquet file, read in chunks.
        target: file to write, format by suffix; it appears when all rows are done.
        text: text columns, joined by a space; by default those of `columns` or else `text`, if the table has them.
        image: picture column; by default that of `columns` or else `image`, if the table has it.
        image_dir: what picture paths are relative to; the source's folder by default.
        heads: names of the heads to write; all by default.
        threshold: as for the pipeline; a `single_label` answer below it is left empty.
        columns: what the training data's columns were called, from `read_task_file`.
        on_rows: called with the number of rows after every chunk.
        min_score: as for the pipeline: a `single_label` answer below it, and what lies under it, is left empty with its
            score beside.
        paths: as for the pipeline; they come as JSON in one more column, `paths`.

    Returns:
        `{"rows": …, "errors": …}`.

    Raises:
        FileNotFoundError: if the source is missing.
        ValueError: if a column is missing, or an output column's name is taken; the sentence names it. Also if source
            and target are one file.
    """
    config = predictor.model.config
    for name in heads or []:
        if name not in [head.name for head in config.heads]:
            raise ValueError(f"no head is called {name!r}; heads: {', '.join(head.name for head in config.heads)}.")
    chosen = [head for head in config.heads if heads is None or head.name in heads]
    added = [f"{head.name}_{part}" for head in chosen for part in ("pred", "score")]
    added += ["error"] if paths is None else ["paths", "error"]
    numbers = [f"{head.name}_{part}" for head in chosen for part in head.rules.number_cells]
    names = [head.name for head in chosen]

    def answer(rows: list[dict[str, Any]]) -> list[list[Any]]:
        answers = predictor(rows, None, threshold, names, min_score, paths)
        return [_cells(found, chosen, paths is not None) for found in answers]

    return extend_table(predictor, source, target, answer, added, text, image, image_dir, columns, on_rows, numbers)


def extend_table(
    predictor: Predictor,
    source: str | Path,
    target: str | Path,
    answer: Callable[[list[dict[str, Any]]], list[list[Any]]],
    added: list[str],
    text: list[str] | None = None,
    image: str | None = None,
    image_dir: str | Path | None = None,
    columns: dict[str, Any] | None = None,
    on_rows: Callable[[int], None] | None = None,
    numbers: Iterable[str] = (),
) -> dict[str, int]:
    """Write a table again with more columns, chunk by chunk; what is not named here is as for `predict_table`.

    Args:
        predictor: whose input the rows are.
        source: see there.
        target: see there.
        answer: makes the new cells of some rows (`text` and `image`), of each in the order of `added`.
        added: names of the new columns; the last is `error`, None for a row that is well.
        text, image, image_dir, columns, on_rows: see there.
        numbers: which of `added` hold numbers.
    """
    if Path(target).exists() and Path(target).resolve() == Path(source).resolve():
        raise ValueError(f"{target} is the input itself; write to another file.")
    folder = Path(image_dir) if image_dir is not None else Path(source).parent
    counts = {"rows": 0, "errors": 0}
    with TableWriter(target, list(numbers)) as writer:
        for chunk in iter_table(source, chunk_rows=predictor.window):
            if not counts["rows"]:
                names = list(chunk.columns)
                text, image = _find_columns(names, predictor, text, image, columns or {}, Path(source).name)
                taken = [name for name in added if name in names]
                if taken:
                    raise ValueError(f"{Path(source).name} already has a column {taken[0]!r}; rename it first.")
            rows = [
                {"text": _join(row, text), "image": _locate(row.get(image), folder) if image else None}
                for row in chunk.to_dict("records")
            ]
            made = pd.DataFrame(answer(rows), columns=added, dtype=object)
            writer.write(pd.concat([chunk.reset_index(drop=True), made], axis=1))
            counts["rows"] += len(chunk)
            counts["errors"] += int(made["error"].notna().sum())
            if on_rows is not None:
                on_rows(len(chunk))
    return counts


def _find_columns(
    table: list[str],
    predictor: Predictor,
    text: list[str] | None,
    image: str | None,
    known: dict[str, Any],
    file: str,
) -> tuple[list[str], str | None]:
    reads_text, reads_image = predictor.processor.tokenizer is not None, predictor.processor.image_processor is not None
    for asked, reads, kind in ((text, reads_text, "text"), ([image] if image else None, reads_image, "images")):
        if asked and not reads:
            raise ValueError(f"column {asked[0]!r} was named, but this checkpoint reads no {kind}.")
    texts = (text or known.get("text") or ["text"]) if reads_text else []
    picture = (image or known.get("image") or "image") if reads_image else None
    found = [name for name in texts if name in table]
    # A table may have texts alone, or pictures alone; not half of the text columns, nor less than was asked for.
    must = [*(texts if text or found else []), *([image] if image else [])]
    missing = [name for name in must if name not in table]
    if missing:
        raise ValueError(f"column {missing[0]!r} is missing from {file}; it has: {', '.join(table)}.")
    if not found and picture not in table:
        wanted = " or ".join(repr(name) for name in [*texts, *([picture] if picture else [])])
        raise ValueError(
            f"{file} has no column {wanted} to classify; it has: {', '.join(table)}. Use --text or --image."
        )
    return found, picture if picture in table else None


def _join(row: dict[str, Any], columns: list[str]) -> str | None:
    parts = [row[name] for name in columns if row[name] is not None and row[name] == row[name]]
    return " ".join(str(part).strip() for part in parts) or None


def _locate(cell: Any, folder: Path) -> Any:
    if not isinstance(cell, str) or not cell.strip() or cell.startswith(("http://", "https://")):
        return cell if not isinstance(cell, str) or cell.strip() else None
    return os.path.join(folder, cell.strip())


def _cells(answer: dict[str, Any], heads: list[HeadConfig], paths: bool) -> list[Any]:
    if len(answer) == 1 and isinstance(answer.get("error"), str):
        return [None, None] * len(heads) + [None] * paths + [answer["error"]]
    cells = [cell for head in heads for cell in head.rules.cells(answer[head.name])]
    if paths:
        cells.append(json.dumps(answer["paths"], ensure_ascii=False))
    return [*cells, None]
