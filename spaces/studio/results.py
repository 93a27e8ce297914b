"""What a batch leaves: a summary of its answers, the first rows, a workbook, and the table without answers again."""

from __future__ import annotations

import csv
import html
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from about import head_words
from answers import bar
from loading import Checkpoint
from text import both, pair
from uploads import Job

from hfk.tasks.table_writer import TableWriter
from hfk.tasks.tables import iter_columns

PREVIEW_CHARACTERS = 90
MOST_CLASSES = 12
"""Of a summary."""


def without_answers(checkpoint: Checkpoint, job: Job, folder: Path) -> Job:
    """Take the answers out of a table that the page has written itself, so that it can be answered anew."""
    added = {f"{head.name}_{part}" for head in checkpoint.heads for part in ("pred", "score")} | {"error"}
    if not {f"{head.name}_pred" for head in checkpoint.heads} <= set(job.columns):
        return job
    kept = [name for name in job.columns if name not in added]
    target = folder / "again.csv"
    with TableWriter(target) as writer:
        for chunk in iter_columns(job.table, 1024):
            writer.write(pd.DataFrame({name: chunk[name] for name in kept}, dtype=object))
    return replace(job, table=target, columns=kept)


def summarize(checkpoint: Checkpoint, answers: Path) -> tuple[dict[str, dict[str, int]], int]:
    """Count the answers of the heads that no other refines, and the rows where one of these is doubtful."""
    above = {head.parent for head in checkpoint.heads}
    heads = [head.name for head in checkpoint.heads if head.problem == "single_label" and head.name not in above]
    counts: dict[str, Counter[str]] = {head: Counter() for head in heads}
    doubtful = 0
    with open(answers, encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row["error"]:
                continue
            for head in heads:
                counts[head][row[f"{head}_pred"]] += 1
            doubtful += any(float(row[f"{head}_score"] or 0) < 0.5 for head in heads)
    return {head: dict(found.most_common()) for head, found in counts.items()}, doubtful


def as_workbook(table: Path) -> Path:
    """Write a CSV of ours as XLSX beside it."""
    target = table.with_suffix(".xlsx")
    with TableWriter(target, [], "error") as writer:
        for chunk in iter_columns(table, 1024):
            writer.write(pd.DataFrame(chunk, dtype=object))
    return target


def counts(checkpoint: Checkpoint, state: dict[str, Any]) -> str:
    """The summary: rows by answer, and how many are doubtful."""
    cards = ""
    for head, counts in state["counts"].items():
        most = max([*counts.values(), 1])
        bars = "".join(bar(name, count / most, f"{count:,}") for name, count in list(counts.items())[:MOST_CLASSES])
        title = pair(*head_words(checkpoint, head))
        cards += f'<div class="panel"><h3><span>{title}</span></h3><ul class="bars counts">{bars}</ul></div>'
    doubtful = f'<p class="aside">{both("doubtful_rows", rows=state["doubtful"])}</p>' if state["counts"] else ""
    return f'<div class="panels summary">{cards}</div>{doubtful}'


def preview(state: dict[str, Any]) -> str:
    """The first rows as a table."""
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
