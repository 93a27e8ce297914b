"""The tab Batch: a table or a ZIP of photos in, the same rows with their answers out. Also the API's `/batch`.

The work runs in a thread of its own, by `predict_table`; the function that gradio calls only looks on and reports. When
the visitor stops it or leaves, gradio closes that function, and the thread ends at its next step.
"""

from __future__ import annotations

import html
import queue
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from answers import find, usable
from loading import Checkpoint
from parts import only_uploads
from text import Trouble, both, i18n
from uploads import MAX_MB, MAX_PHOTOS, MAX_ROWS, NO_COLUMN, TABLES, Job, finish, header_of, open_upload

from hfk.inference.table import predict_table

PREVIEW_ROWS = 20
PREVIEW_CHARACTERS = 90


class _Stopped(Exception):
    """The visitor is gone."""


def run(checkpoint: Checkpoint, path: str | None, columns: list[str] | None) -> Iterator[dict[str, Any]]:
    """Classify an uploaded file.

    Args:
        checkpoint: whom to ask.
        path: the uploaded file.
        columns: text columns; found by name if there are none.

    Yields:
        `done` and `rows` as it goes; at last also `errors`, `file` (the CSV; it is gone once the next item is asked
        for), `header` and `first` (rows to show).

    Raises:
        Trouble: if the file can't be used.
    """
    if not path:
        raise Trouble("no_file")
    with tempfile.TemporaryDirectory(prefix="hfk-batch-") as scratch:
        folder = Path(scratch)
        job = open_upload(path, folder)
        options = _columns(checkpoint, job, columns)
        steps: queue.Queue[Any] = queue.Queue()
        gone = threading.Event()

        def on_rows(count: int) -> None:
            if gone.is_set():
                raise _Stopped
            steps.put(count)

        def work() -> None:
            try:
                with checkpoint.batch_lock:
                    predict_table(
                        checkpoint.batch_predictor, job.table, folder / "answers.csv", on_rows=on_rows, **options
                    )
                steps.put(None)
            except BaseException as error:  # handed to the looker-on
                steps.put(error)

        thread = threading.Thread(target=work, name="batch", daemon=True)
        thread.start()
        try:
            done = 0
            yield {"done": 0, "rows": job.rows}
            while (step := steps.get()) is not None:
                if isinstance(step, ValueError):
                    raise Trouble("bad_file", str(step))
                if isinstance(step, BaseException):
                    raise step
                done += step
                yield {"done": done, "rows": job.rows}
            target = folder / f"{Path(path).stem}_{checkpoint.name.replace('/', '_')}.csv"
            header, first, errors = finish(folder / "answers.csv", target, job, PREVIEW_ROWS)
            yield {
                "done": done,
                "rows": job.rows,
                "errors": errors,
                "file": str(target),
                "header": header,
                "first": first,
            }
        finally:
            gone.set()
            thread.join()  # the folder is about to go


def _columns(checkpoint: Checkpoint, job: Job, columns: list[str] | None) -> dict[str, Any]:
    """Options of `predict_table`: which columns to read."""
    if job.photos is not None:
        if not checkpoint.reads_image:
            raise Trouble("no_text")
        return {"image": "image", "image_dir": job.photos}
    if not checkpoint.reads_text:
        raise Trouble("no_image")
    known = checkpoint.columns.get("text") or ["text"]
    chosen = list(columns or [])
    if not chosen:
        chosen = known if all(name in job.columns for name in known) else [n for n in ("text",) if n in job.columns]
    if not chosen or any(name not in job.columns for name in chosen):
        raise Trouble("pick_columns", f"({', '.join(job.columns)[:300]})")
    return {"text": chosen, "columns": {"image": NO_COLUMN}}


def build(checkpoints: dict[str, Checkpoint]) -> None:
    """Lay the tab out.

    Args:
        checkpoints: all of them, by name.
    """
    names = usable(checkpoints)
    limits = ", ".join(
        [both("limit_rows", rows=MAX_ROWS), both("limit_photos", photos=MAX_PHOTOS), both("limit_mb", mb=MAX_MB)]
    )
    gr.HTML(f'<p class="lead">{both("batch_lead")}</p><p class="aside">{both("limits")}: {limits}</p>')
    with gr.Row(elem_classes="two"):
        with gr.Column(scale=1, min_width=300):
            file = gr.File(label=i18n("upload"), file_types=[*TABLES, ".zip"], height=160, elem_id="upload")
            only_uploads(file)
        with gr.Column(scale=1, min_width=300):
            name = gr.Dropdown(names, value=names[0] if names else None, label=i18n("checkpoint"), interactive=True)
            columns = gr.Dropdown(
                [], value=[], multiselect=True, allow_custom_value=True, label=i18n("columns"), interactive=True
            )
    with gr.Row(elem_classes="buttons"):
        stop = gr.Button(i18n("stop"), variant="secondary", min_width=100, visible=False)
        go = gr.Button(i18n("start"), variant="primary", min_width=160, elem_id="start")
    progress = gr.HTML("", elem_id="progress", elem_classes="answer")
    download = gr.DownloadButton(i18n("download"), visible=False, variant="primary", elem_id="download")
    shown = [progress, download, stop]

    def show(name: str, path: str | None, columns: list[str]) -> Iterator[tuple[str, Any, Any]]:
        hidden = gr.DownloadButton(visible=False)
        try:
            for state in run(find(checkpoints, name), path, columns):
                if "file" in state:
                    yield (
                        _bar(state) + _preview(state),
                        gr.DownloadButton(value=state["file"], visible=True),
                        _button(False),
                    )
                else:
                    yield _bar(state), hidden, _button(True)
        except Trouble as trouble:
            yield trouble.html(), hidden, _button(False)

    def batch(file: str | None, checkpoint: str | None, text_columns: list[str]) -> Iterator[tuple[str | None, dict]]:
        """Classify every row of a table, or every picture of a ZIP.

        Args:
            file: CSV, TSV, JSONL, XLSX or ZIP.
            checkpoint: name of the checkpoint; the first one when empty.
            text_columns: columns that hold the text; found by name when empty.

        Returns:
            the CSV with the answers, and a dict of rows, done and errors; the file comes with the last one.
        """
        try:
            for state in run(find(checkpoints, checkpoint), file, text_columns):
                yield state.get("file"), {key: state[key] for key in ("rows", "done", "errors") if key in state}
        except Trouble as trouble:
            raise gr.Error(str(trouble), print_exception=False) from None

    def columns_of(path: str | None) -> Any:
        with tempfile.TemporaryDirectory(prefix="hfk-header-") as scratch:
            return gr.Dropdown(choices=header_of(path, Path(scratch)), value=[])

    one = {"concurrency_id": "batch", "concurrency_limit": 1}
    file.change(columns_of, file, columns, api_visibility="private", show_progress="hidden")
    event = go.click(show, [name, file, columns], shown, api_visibility="private", show_progress="hidden", **one)
    stop.click(
        lambda: (f'<p class="note">{both("stopped")}</p>', gr.DownloadButton(visible=False), _button(False)),
        None,
        shown,
        cancels=[event],
        api_visibility="private",
        queue=False,
    )
    result = gr.File(visible=False)
    gr.on([], batch, [file, name, columns], [result, gr.JSON(visible=False)], api_name="batch", **one)


def _button(visible: bool) -> Any:
    return gr.Button(visible=visible)


def _bar(state: dict[str, Any]) -> str:
    done, rows = state["done"], state["rows"]
    title = both("done" if "file" in state else "working")
    errors = ""
    if state.get("errors"):
        errors = f' · <span class="bad">{both("with_error")} {state["errors"]:,}</span>'
    return (
        f'<div class="progress"><p>{title}: {done:,} / {rows:,} {both("rows")}{errors}</p>'
        f'<div class="track" role="progressbar" aria-label="Batch" aria-valuemin="0" aria-valuemax="{rows}" '
        f'aria-valuenow="{done}"><span style="width:{done / rows:.1%}"></span></div></div>'
    )


def _preview(state: dict[str, Any]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in state["header"])
    body = ""
    for cells in state["first"]:
        short = [cell if len(cell) <= PREVIEW_CHARACTERS else cell[:PREVIEW_CHARACTERS] + "…" for cell in cells]
        cells_html = "".join(f"<td{' class=long' * (len(cell) > 16)}>{html.escape(cell)}</td>" for cell in short)
        body += f"<tr{' class=bad' if cells[-1] else ''}>{cells_html}</tr>"
    title = both("first_rows", rows=len(state["first"]))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Preview"><table><caption>{title}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
