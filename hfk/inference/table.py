"""Batch prediction: a table in, the same table out with an answer and a score a head, and an `error` column.

Every input row comes out, in order, whatever is wrong with it; so does one of whose cells the output can't hold. Which
columns hold text and pictures is read from the checkpoint's `task.json`, as training left it. A folder of pictures is a
table of their names.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers.utils import cached_file

from ..models.decoding import readable
from ..tasks.folders import pictures_below
from ..tasks.inputs import find_picture, is_address, join_texts, picture_cells, picture_columns
from ..tasks.table_writer import TableWriter
from ..tasks.tables import Chunk, is_saved_dataset, iter_columns
from .parts import Parts, digest_input, digest_model
from .predictor import Predictor
from .workers import choose_workers, working

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
    top_k: int | None = None,
    probabilities: bool = False,
    reading: Mapping[str, Any] | None = None,
    resume: bool | None = None,
    workers: int | None = 0,
) -> dict[str, int]:
    """Classify every row of a table.

    Args:
        predictor: the loaded checkpoint.
        source: a table, read in chunks, or a folder of pictures.
        target: file to write, format by suffix; it appears when all rows are done.
        text: text columns; by default those of `columns` or else `text`, if the table has them.
        image: picture column, or a pattern such as `images/{id}.jpg`; by default that of `columns` or else `image`, if
            the table has it.
        image_dir: what picture paths are relative to; by default the source's folder, or the one in it that held the
            pictures in training.
        heads: names of the heads to write; all by default.
        threshold: as for the pipeline; a `single_label` answer below it is left empty.
        columns: what the training data's columns were called, from `read_task_file`.
        on_rows: called with the number of rows after every chunk.
        min_score: as for the pipeline: a `single_label` answer below it, and what lies under it, is left empty with its
            score beside.
        paths: as for the pipeline; they come as JSON in one more column, `paths`.
        top_k: also list so many labels of each head with their probabilities, as JSON in a column `HEAD_top`.
        probabilities: also write every label's probability, a column `HEAD_p_LABEL` each.
        reading: how the source is read, where it can't be seen; see `tasks.tables.layout`.
        resume: keep answers beside the target until it is whole, and go on after those of an interrupted call (True),
            or drop those (False). None keeps nothing.
        workers: processes that answer, beside this one, which reads and writes; None for as many as are worth it. The
            table's bytes do not depend on it.

    Returns:
        `{"rows": …, "errors": …}`.

    Raises:
        FileNotFoundError: if the source is missing.
        ValueError: if a column is missing, or an output column's name is taken; the sentence names it. Also if source
            and target are one file, or there are answers of another checkpoint, input or options to go on from.
    """
    parts = None
    if resume is not None:
        options = [text, image, image_dir, heads, threshold, columns, min_score, paths, top_k, probabilities, reading]
        made_of = {"checkpoint": digest_model(predictor), "input": digest_input(Path(source))}
        made_of["set of options"] = json.dumps(options, ensure_ascii=False, default=str)
        parts = Parts(Path(target), made_of, fresh=not resume)
    config = predictor.model.config
    for name in heads or []:
        if name not in [head.name for head in config.heads]:
            raise ValueError(f"no head is called {name!r}; heads: {', '.join(head.name for head in config.heads)}.")
    chosen = [head for head in config.heads if heads is None or head.name in heads]
    labeled = [head for head in chosen if head.rules.has_labels]
    single = [f"{head.name}_p_{label}" for head in labeled if probabilities for label in head.labels]
    added = [f"{head.name}_{part}" for head in chosen for part in ("pred", "score")]
    numbers = [f"{head.name}_{part}" for head in chosen for part in head.rules.number_cells] + single
    added += [f"{head.name}_top" for head in labeled if top_k] + single + ["paths"] * (paths is not None) + ["error"]
    names = [head.name for head in chosen]
    every = max((len(head.labels) for head in labeled), default=1)

    def answer(rows: list[dict[str, Any]]) -> Iterator[list[Any]]:
        outputs = list(predictor.outputs(rows))
        known = [output.logits for output in outputs if output.error is None]
        stacked = {name: torch.from_numpy(np.stack([one[name] for one in known])) for name in known[0]} if known else {}
        answers = readable(stacked, config.heads, None, threshold, names, min_score, paths) if known else []
        ranked = readable(stacked, config.heads, every, 0.0, names) if known and (top_k or probabilities) else answers
        pairs = zip(answers, ranked, strict=True)
        for output in outputs:
            if output.error is not None:
                yield [None] * (len(added) - 1) + [output.error]
                continue
            found, lists = next(pairs)
            cells = [cell for head in chosen for cell in head.rules.cells(found[head.name])]
            for head in labeled if top_k else []:
                cells.append(json.dumps(_rounded(lists[head.name][:top_k]), ensure_ascii=False))
            for head in labeled if probabilities else []:
                scores = {item["label"]: item["score"] for item in _rounded(lists[head.name])}
                cells += [scores[label] for label in head.labels]
            cells += [json.dumps(found["paths"], ensure_ascii=False)] if paths is not None else []
            yield [*cells, None]

    return extend_table(
        predictor, source, target, answer, added, text, image, image_dir, columns, on_rows, numbers, reading, parts,
        choose_workers(Path(source), predictor.small and not predictor.graph) if workers is None else workers,
    )  # fmt: skip


def extend_table(
    predictor: Predictor,
    source: str | Path,
    target: str | Path,
    answer: Callable[[list[dict[str, Any]]], Iterable[list[Any]]],
    added: list[str],
    text: list[str] | None = None,
    image: str | None = None,
    image_dir: str | Path | None = None,
    columns: dict[str, Any] | None = None,
    on_rows: Callable[[int], None] | None = None,
    numbers: Iterable[str] = (),
    reading: Mapping[str, Any] | None = None,
    parts: Parts | None = None,
    workers: int = 0,
) -> dict[str, int]:
    """Write a table again with more columns, chunk by chunk; what is not named here is as for `predict_table`.

    Args:
        predictor: whose input the rows are.
        source, target, text, image, image_dir, columns, on_rows, reading: see there.
        answer: makes the new cells of some rows (`text` and `image`), of each in the order of `added`.
        added: names of the new columns; the last is `error`, None for a row that is well.
        numbers: which of `added` hold numbers.
        parts: where answers are kept until the table is whole.
        workers: processes that make the cells, beside this one, which reads and writes.
    """
    source, target, known = Path(source), Path(target), columns or {}
    if target.exists() and target.resolve() == source.resolve():
        raise ValueError(f"{target} is the input itself; write to another file.")
    if source.is_dir() and not is_saved_dataset(source):
        chunks, folder, known, image = _pictures_of(source, predictor.window), source, {}, "file"
    else:
        header = {} if known.get("header") is None else {"header": known["header"]}
        chunks, folder = iter_columns(source, predictor.window, **header | dict(reading or {})), source.parent
    folder = Path(image_dir) if image_dir is not None else pictures_beside(folder, known)
    read, waiting = 0, deque()  # chunks whose answers are being made
    with (
        parts or contextlib.nullcontext(),
        TableWriter(target, list(numbers), added[-1]) as writer,
        working(lambda inputs: list(answer(inputs)), workers) as begin,
    ):

        def finish() -> None:
            chunk, inputs, cells, answers = waiting.popleft()
            if cells is None:
                cells = answers()
                if parts is not None and len(inputs) == predictor.window:  # the last chunk's would go at once
                    cells = parts.keep(writer.rows, inputs, cells)
            made = pd.DataFrame(cells, columns=added, dtype=object)
            writer.write(pd.concat([pd.DataFrame(chunk, dtype=object), made], axis=1))
            if on_rows is not None:
                on_rows(len(inputs))

        for chunk in chunks:
            if not read:
                text, image = _find_columns(list(chunk), predictor, text, image, known, source.name)
                taken = [name for name in added if name in chunk]
                if taken:
                    raise ValueError(f"{source.name} already has a column {taken[0]!r}; rename it first.")
            rows = len(next(iter(chunk.values())))
            texts = map(join_texts, zip(*map(chunk.get, text), strict=True)) if text else [None] * rows
            images = [_locate(cell, folder) for cell in picture_cells(image, chunk)] if image else [None] * rows
            inputs = [{"text": one, "image": other} for one, other in zip(texts, images, strict=True)]
            cells = parts and parts.answers(read, inputs)
            waiting.append((chunk, inputs, cells, None if cells else begin(inputs)))
            read += rows
            if len(waiting) > 2 * workers:
                finish()
        while waiting:
            finish()
    return {"rows": writer.rows, "errors": writer.bad_rows}


def pictures_beside(folder: Path, known: Mapping[str, Any]) -> Path:
    """Where a table's pictures are, if nobody says: in the folder that held them in training, if it has such a one."""
    return folder / known["image_dir"] if known.get("image_dir") and (folder / known["image_dir"]).is_dir() else folder


def _pictures_of(folder: Path, chunk_rows: int) -> Iterator[Chunk]:
    pictures = [path.as_posix() for path in pictures_below(folder)]
    if not pictures:
        raise ValueError(f"{folder} holds no pictures; give a table, or a folder with pictures in it.")
    for start in range(0, len(pictures), chunk_rows):
        yield {"file": pictures[start : start + chunk_rows]}


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
    must = [*(texts if text or found else []), *(picture_columns(image) if image else [])]
    missing = [name for name in must if name not in table]
    if missing:
        raise ValueError(f"column {missing[0]!r} is missing from {file}; it has: {', '.join(table)}.")
    has_picture = picture is not None and set(picture_columns(picture)) <= set(table)
    if not found and not has_picture:
        wanted = " or ".join(repr(name) for name in [*texts, *([picture] if picture else [])])
        raise ValueError(
            f"{file} has no column {wanted} to classify; it has: {', '.join(table)}. Use --text or --image."
        )
    return found, picture if has_picture else None


def _locate(cell: Any, folder: Path) -> Any:
    if not isinstance(cell, str) or is_address(cell):
        return cell
    return find_picture(folder, cell) if cell.strip() else None


def _rounded(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item | {"score": round(item["score"], 6)} for item in answers]
