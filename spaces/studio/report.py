"""The tab Data & report: what a checkpoint learned from, and how well it did, from the report of its training run.

The data is that of the embedded samples, read when somebody looks; other tasks' rows are not on the server. The API's
`/report` gives the numbers.
"""

from __future__ import annotations

import html
import json
import statistics
from collections import Counter
from functools import lru_cache
from typing import Any

import gradio as gr
from about import about, head_words, titles
from answers import find
from charts import counts_chart, histogram, picture
from loading import Checkpoint
from text import Trouble, both, i18n, pair

from hfk.evaluation.report import file_stems

EMBEDDED = ("tour-mini", "ynat-mini")
SCORES = {
    "single_label": ("accuracy", "macro_f1", "majority", "ece"),
    "multi_label": ("micro_f1", "macro_f1", "map"),
    "regression": ("mae", "rmse", "r2"),
}


@lru_cache(maxsize=len(EMBEDDED))
def profile(task: str) -> dict[str, Any]:
    """Count an embedded sample.

    Args:
        task: one of `EMBEDDED`.

    Returns:
        `rows` by split, `labels` (head → label → rows) and `lengths` of the texts in characters.
    """
    from hfk.tasks import load_task

    made = load_task(task)
    data = made.load()
    labels: dict[str, dict[str, int]] = {}
    for head in made.heads:
        counts = Counter(value for rows in data.values() for value in rows[head.name] if value is not None)
        labels[head.name] = {label: counts[index] for index, label in enumerate(head.labels)}
    lengths = [len(text) for rows in data.values() for text in rows["text"] if text]
    return {"rows": {split: len(rows) for split, rows in data.items()}, "labels": labels, "lengths": lengths}


def read_metrics(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """What the training run's report says; None if there is none."""
    path = checkpoint.folder / "report" / "metrics.json" if checkpoint.folder else None
    return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else None


def build(checkpoints: dict[str, Checkpoint], tab: gr.Tab) -> None:
    """Lay the tab out.

    Args:
        checkpoints: all of them, by name.
        tab: the tab; its page is made when it is first opened.
    """
    choices = titles(checkpoints)
    name = gr.Dropdown(choices, value=choices[0][1] if choices else None, label=i18n("checkpoint"), interactive=True)
    page = gr.HTML("", elem_id="report", elem_classes="report")

    def show(name: str) -> str:
        try:
            checkpoint = find(checkpoints, name)
        except Trouble as trouble:
            return trouble.html()
        return about(checkpoint) + _scores(checkpoint) + _data(checkpoint)

    def report(checkpoint: str | None = None) -> dict[str, Any]:
        """Give the scores of a checkpoint's training run and the counts of the sample that it learned from.

        Args:
            checkpoint: name of the checkpoint; the first one when empty.

        Returns:
            metrics (null if it came without a report) and data (null if it is not an embedded sample).
        """
        try:
            found = find(checkpoints, checkpoint)
        except Trouble as trouble:
            raise gr.Error(str(trouble), print_exception=False) from None
        data = profile(found.task) if found.task in EMBEDDED else None
        return {"checkpoint": found.name, "metrics": read_metrics(found), "data": data}

    gr.on([tab.select, name.change], show, name, page, api_visibility="private", show_progress="minimal")
    gr.on([], report, name, gr.JSON(visible=False), api_name="report")


def _scores(checkpoint: Checkpoint) -> str:
    metrics = read_metrics(checkpoint)
    if metrics is None:
        return f'<section><h2>{both("scores")}</h2><p class="empty">{both("no_report")}</p></section>'
    scores, baseline = metrics["scores"], metrics["baseline"]
    tables = ""
    for problem, columns in SCORES.items():
        heads = [head for head in checkpoint.heads if head.problem == problem]
        if not heads:
            continue
        titles = "".join(f'<th scope="col">{both(column)}</th>' for column in ("head", *columns))
        rows = "".join(
            f'<tr><th scope="row">{pair(*head_words(checkpoint, head.name))}</th>'
            + "".join(f"<td>{_number(scores, baseline, head.name, column)}</td>" for column in columns)
            + "</tr>"
            for head in heads
        )
        tables += f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"
    folder, stems = checkpoint.folder / "report", file_stems(checkpoint.heads)
    figures = "".join(
        picture(
            folder / f"{kind}_{stems[head.name]}.png",
            f"{head.name}: {kind}",
            f"{pair(*head_words(checkpoint, head.name))}: {both(kind)}",
        )
        for head in checkpoint.heads
        for kind in ("confusion", "reliability")
    )
    curves = picture(folder / "training_curves.png", "training curves", both("curves"))
    note = both("scores_note", rows=metrics["counts"]["rows"])
    return (
        f'<section><h2>{both("scores")}</h2><p class="aside">{note}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Scores">{tables}</div>'
        f'<div class="figures">{figures}{curves}</div></section>'
    )


def _number(scores: dict[str, float], baseline: dict[str, float], head: str, column: str) -> str:
    value = baseline.get(f"{head}_accuracy") if column == "majority" else scores.get(f"{head}_{column}")
    return "–" if value is None else f"{value:.3f}"


def _data(checkpoint: Checkpoint) -> str:
    if checkpoint.task not in EMBEDDED:
        return f'<section><h2>{both("data")}</h2><p class="empty">{both("no_profile")}</p></section>'
    found = profile(checkpoint.task)
    splits = ", ".join(f"{split} {rows:,}" for split, rows in found["rows"].items())
    charts = "".join(
        f'<div class="panel" role="group" aria-label="{html.escape(head)}"><h3><span>'
        f"{pair(*head_words(checkpoint, head))} · {both('labels_of')}</span></h3>{counts_chart(counts)}</div>"
        for head, counts in found["labels"].items()
    )
    lengths = found["lengths"]
    note = {"rows": len(lengths), "half": int(statistics.median(lengths)), "longest": max(lengths)}
    drawn = histogram(lengths, f"Text lengths: half up to {note['half']} characters, the longest {note['longest']}")
    return (
        f'<section><h2>{both("data")}: {html.escape(checkpoint.task)}</h2><p class="aside">{splits}</p>'
        f'<div class="panels">{charts}<div class="panel"><h3>{both("lengths")}</h3>{drawn}'
        f'<p class="aside">{both("lengths_note", **note)}</p></div></div></section>'
    )
