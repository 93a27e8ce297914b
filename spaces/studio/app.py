"""The Space: one page with a tab for each use of a checkpoint, and the same as an API.

Starts on 127.0.0.1:7860 (`GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT` change that) with the checkpoints that
`loading.find_checkpoints` finds. Neither server nor page asks another host for anything, unless a checkpoint is on the
Hub or feedback is to go there. Each tab is one module with a `build`; a further tab is one more entry in `make_page`.
"""

from __future__ import annotations

import html
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]
# Before gradio and torch are imported. One thread for each of two answers at a time: threads of several answers that
# share two cores make all of them many times slower.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")  # which are kept in memory

import batch  # noqa: E402
import classify  # noqa: E402
import compare  # noqa: E402
import dialect  # noqa: E402
import feedback  # noqa: E402
import gradio as gr  # noqa: E402
import preview  # noqa: E402
import report  # noqa: E402
from answers import usable  # noqa: E402
from door import SESSIONS, Door  # noqa: E402
from loading import Checkpoint, load_checkpoints  # noqa: E402
from store import Corrections  # noqa: E402
from text import WORDS, both, i18n  # noqa: E402
from theme import make_theme  # noqa: E402
from transformers.utils import logging  # noqa: E402
from uploads import MAX_MB  # noqa: E402

WAITING = 96
"""Questions that may wait; whoever comes later is told to try again."""
KEEP_UPLOADS_SECONDS = 3600


def make_page(checkpoints: dict[str, Checkpoint], corrections: Corrections) -> gr.Blocks:
    """Lay out the page.

    Args:
        checkpoints: all of them, by name.
        corrections: where feedback goes.
    """
    with gr.Blocks(title=preview.TITLE, analytics_enabled=False, delete_cache=(600, KEEP_UPLOADS_SECONDS)) as page:
        gr.HTML(_masthead())
        broken = [checkpoint for checkpoint in checkpoints.values() if checkpoint.error]
        if broken or not checkpoints:
            gr.HTML(_broken(broken), elem_id="broken")
        with gr.Tabs() as tabs:
            with gr.Tab(i18n("tab_classify"), id="classify"):
                asked = classify.build(checkpoints)
            with gr.Tab(i18n("tab_compare"), id="compare"):
                compare.build(checkpoints)
            with gr.Tab(i18n("tab_batch"), id="batch"):
                batch.build(checkpoints)
            with gr.Tab(i18n("tab_dialect"), id="dialect"):
                dialect.build()
            with gr.Tab(i18n("tab_report"), id="report") as tab:
                report.build(checkpoints, tab)
            with gr.Tab(i18n("tab_feedback"), id="feedback") as tab:
                open_form = feedback.build(checkpoints, asked["last"], tab, corrections)
        go = asked["wrong"].click(
            lambda: gr.Tabs(selected="feedback"), None, tabs, api_visibility="private", queue=False
        )
        open_form(go)
        asked["follow"](page)
        gr.HTML(_foot(any(name.endswith("-tiny") for name in usable(checkpoints))))
    return page.queue(default_concurrency_limit=2, max_size=WAITING)


def main() -> None:
    """Load what there is, and serve until told to stop; files of visitors are gone then."""
    logging.disable_progress_bar()
    print("loading checkpoints", flush=True)
    parent = os.environ.get("GRADIO_TEMP_DIR")
    if parent:
        os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hfk-studio-", dir=parent, ignore_cleanup_errors=True) as folder:
        tempfile.tempdir, os.environ["GRADIO_TEMP_DIR"] = folder, os.path.join(folder, "uploads")
        _serve(make_page(load_checkpoints(), Corrections.from_environment()))


def _serve(page: gr.Blocks) -> None:
    door = Door()
    _, address, _ = page.launch(
        theme=make_theme(),
        css_paths=HERE / "studio.css",
        head=f"<script>{(HERE / 'studio.js').read_text(encoding='utf-8')}</script>",
        i18n=i18n,
        max_file_size=MAX_MB * 1_000_000,
        mcp_server=importlib.util.find_spec("mcp") is not None,
        footer_links=["api"],  # without it gradio has no API page; studio.css hides the line, our own foot leads there
        run_history=False,
        enable_monitoring=False,
        pwa=False,
        ssr_mode=False,
        show_error=True,
        quiet=True,
        prevent_thread_lock=True,
        state_session_capacity=SESSIONS,
        app_kwargs={"middleware": [door.middleware, preview.middleware]},
    )
    door.page = page
    if page.mcp_error:
        print(f"no MCP tools: {page.mcp_error}", flush=True)
    print(f"ready: {address}", flush=True)
    door.serve()


def _masthead() -> str:
    languages = "".join(
        f'<button type="button" data-language="{code}" lang="{code}" aria-pressed="false">{name}</button>'
        for code, name in (("ko", "한국어"), ("en", "English"))
    )
    label = " / ".join(WORDS["language"])
    return (
        f'<header class="masthead"><div class="words"><h1>{both("title")}</h1><p>{both("lead")}</p></div>'
        f'<div class="languages" role="group" aria-label="{label}">{languages}</div></header>'
    )


def _foot(tiny: bool) -> str:
    lines = ([both("tiny")] if tiny else []) + [both("private")]
    paragraphs = "".join(f"<p>{line}</p>" for line in lines)
    return f'<div class="foot">{paragraphs}<p><a href="?view=api">{both("api")}</a></p></div>'


def _broken(broken: list[Checkpoint]) -> str:
    if not broken:
        return f'<p class="note" role="status">{both("no_checkpoint")}</p>'
    return "".join(
        f'<p class="note" role="status"><strong>{html.escape(checkpoint.name)}</strong>: {both("broken")}'
        f'<span class="detail" lang="en">{html.escape(checkpoint.error)}</span></p>'
        for checkpoint in broken
    )


if __name__ == "__main__":
    main()
