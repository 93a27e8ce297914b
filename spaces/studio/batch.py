"""The tab Batch: a table or a ZIP of photos in, the same rows with their answers out. Also the API's `/batch`.

The work runs in a thread of its own, by `predict_table`; the function that gradio calls only looks on and reports. When
the visitor leaves, gradio closes that function, and the thread ends at its next step. When the visitor stops it, the
rows that are left are not asked about, and say so: what is done can be had, and no row is lost.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from about import titles
from answers import find
from loading import Checkpoint
from parts import only_uploads
from results import as_workbook, counts, preview, summarize, without_answers
from text import Trouble, both, i18n
from uploads import MAX_MB, MAX_PHOTOS, MAX_ROWS, NO_COLUMN, TABLES, Job, finish, header_of, open_upload

from hfk.inference.predictor import Output
from hfk.inference.table import predict_table

PREVIEW_ROWS = 20


NOT_ASKED = "the batch was stopped before this row."


class _Stopped(Exception):
    """The visitor is gone."""


class _Stoppable:
    """A predictor that asks no more once `stop` is set: what is left has an error that says so."""

    def __init__(self, predictor: Any, stop: threading.Event) -> None:
        self.predictor, self.stop = predictor, stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self.predictor, name)

    def outputs(self, rows: list[Any]) -> Iterable[Output]:
        return [Output(error=NOT_ASKED) for _ in rows] if self.stop.is_set() else self.predictor.outputs(rows)


def run(
    checkpoint: Checkpoint, path: str | None, columns: list[str] | None, stop: threading.Event | None = None
) -> Iterator[dict[str, Any]]:
    """Classify an uploaded file.

    Args:
        checkpoint: whom to ask.
        path: the uploaded file.
        columns: text columns; found by name if there are none.
        stop: once it is set, the rows that are left are not asked about.

    Yields:
        `done`, `rows` and `seconds` as it goes; at last also `errors`, `file` and `workbook` (CSV and XLSX; both are
        gone once the next item is asked for), `header`, `first` (rows to show), `counts` (finest head → label → rows),
        `doubtful` (rows whose answer is less likely than not) and `stopped`.

    Raises:
        Trouble: if the file can't be used.
    """
    if not path:
        raise Trouble("no_file")
    with tempfile.TemporaryDirectory(prefix="hfk-batch-") as scratch:
        folder = Path(scratch)
        job = without_answers(checkpoint, open_upload(path, folder), folder)
        options = _columns(checkpoint, job, columns)
        steps: queue.Queue[Any] = queue.Queue()
        gone, stop = threading.Event(), stop or threading.Event()
        began = time.monotonic()

        def on_rows(count: int) -> None:
            if gone.is_set():
                raise _Stopped
            steps.put(count)

        def work() -> None:
            try:
                with checkpoint.batch_lock:
                    asked = _Stoppable(checkpoint.batch_predictor, stop)
                    predict_table(asked, job.table, folder / "answers.csv", on_rows=on_rows, **options)
                steps.put(None)
            except BaseException as error:  # handed to the looker-on
                steps.put(error)

        thread = threading.Thread(target=work, name="batch", daemon=True)
        thread.start()
        try:
            done = 0
            yield {"done": 0, "rows": job.rows, "seconds": 0.0}
            while (step := steps.get()) is not None:
                if isinstance(step, ValueError):
                    raise Trouble("bad_file", str(step))
                if isinstance(step, BaseException):
                    raise step
                done += step
                yield {"done": done, "rows": job.rows, "seconds": time.monotonic() - began}
            target = folder / f"{Path(path).stem}_{checkpoint.name.replace('/', '_')}.csv"
            header, first, errors = finish(folder / "answers.csv", target, job, PREVIEW_ROWS)
            answered, doubtful = summarize(checkpoint, target)
            yield {
                "done": done,
                "rows": job.rows,
                "seconds": time.monotonic() - began,
                "errors": errors,
                "file": str(target),
                "workbook": str(as_workbook(target)),
                "header": header,
                "first": first,
                "counts": answered,
                "doubtful": doubtful,
                "stopped": stop.is_set(),
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
    choices = titles(checkpoints)
    limits = ", ".join(
        [both("limit_rows", rows=MAX_ROWS), both("limit_photos", photos=MAX_PHOTOS), both("limit_mb", mb=MAX_MB)]
    )
    gr.HTML(f'<p class="lead">{both("batch_lead")}</p><p class="aside">{both("limits")}: {limits}</p>')
    with gr.Row(elem_classes="two"):
        with gr.Column(scale=1, min_width=300):
            file = gr.File(label=i18n("upload"), file_types=[*TABLES, ".zip"], height=160, elem_id="upload")
            only_uploads(file)
        with gr.Column(scale=1, min_width=300):
            name = gr.Dropdown(
                choices, value=choices[0][1] if choices else None, label=i18n("checkpoint"), interactive=True
            )
            columns = gr.Dropdown(
                [], value=[], multiselect=True, allow_custom_value=True, label=i18n("columns"), interactive=True
            )
    with gr.Row(elem_classes="buttons"):
        stop = gr.Button(i18n("stop"), variant="secondary", min_width=100, visible=False)
        go = gr.Button(i18n("start"), variant="primary", min_width=160, elem_id="start")
    with gr.Row(elem_classes="downloads"):
        download = gr.DownloadButton(i18n("download"), visible=False, variant="primary", elem_id="download")
        workbook = gr.DownloadButton(i18n("download_xlsx"), visible=False, variant="secondary", elem_id="workbook")
    progress = gr.HTML("", elem_id="progress", elem_classes="answer")
    shown = [progress, download, workbook, stop]
    stops: dict[str, threading.Event] = {}  # of the visitors whose batch is running or waits

    def show(name: str, path: str | None, columns: list[str], request: gr.Request) -> Iterator[tuple[Any, ...]]:
        hidden = (gr.DownloadButton(visible=False), gr.DownloadButton(visible=False))
        event = stops[request.session_hash] = threading.Event()
        try:
            checkpoint = find(checkpoints, name)
            for state in run(checkpoint, path, columns, event):
                if "file" in state:
                    files = (gr.DownloadButton(value=state[kind], visible=True) for kind in ("file", "workbook"))
                    yield _bar(state) + counts(checkpoint, state) + preview(state), *files, _button(False)
                else:
                    yield _bar(state), *hidden, _button(True)
        except Trouble as trouble:
            yield trouble.html(), *hidden, _button(False)
        finally:
            stops.pop(request.session_hash, None)

    def halt(request: gr.Request) -> Any:
        if request.session_hash in stops:
            stops[request.session_hash].set()
        return _button(False)

    def batch(
        file: str | None, checkpoint: str | None = None, text_columns: list[str] | None = None
    ) -> Iterator[tuple[str | None, dict]]:
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
    go.click(show, [name, file, columns], shown, api_visibility="private", show_progress="minimal", **one)
    stop.click(halt, None, stop, api_visibility="private", queue=False)
    result = gr.File(visible=False)
    gr.on([], batch, [file, name, columns], [result, gr.JSON(visible=False)], api_name="batch", **one)


def _button(visible: bool) -> Any:
    return gr.Button(visible=visible)


def _bar(state: dict[str, Any]) -> str:
    done, rows = state["done"], state["rows"]
    title = both("stopped" if state.get("stopped") else "done" if "file" in state else "working")
    errors = ""
    if done and state["seconds"] > 0.5:
        rate = done / state["seconds"]
        errors = f" · {both('rate', rate=round(rate, 1))}"
        if done < rows:
            errors += f" · {both('time_left', seconds=max(1, round((rows - done) / rate)))}"
    if state.get("errors"):
        errors += f' · <span class="bad">{both("with_error")} {state["errors"]:,}</span>'
    return (
        f'<div class="progress"><p>{title}: {done:,} / {rows:,} {both("rows")}{errors}</p>'
        f'<div class="track" role="progressbar" aria-label="Batch" aria-valuemin="0" aria-valuemax="{rows}" '
        f'aria-valuenow="{done}"><span style="width:{done / rows:.1%}"></span></div></div>'
    )
