"""A look at a task's rows before training: `hfk data profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "data profile"


def command(
    task: Annotated[str, typer.Argument(help="Built-in task (see `hfk tasks`), or a task's or recipe's YAML.")],
    data: Annotated[str | None, typer.Option(help="File of the rows, in place of the task's own.")] = None,
    text_cleaning: Annotated[
        str | None,
        typer.Option(help="simple, none, or a list of steps; the recipe's own by default, or simple."),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Trained on text and pictures: lists the rows for which the two disagree.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="HTML file; profile-TASK.html by default.")] = None,
) -> None:
    """Look at a task's rows before training: classes, lengths, words, pictures, duplicates, contradictions."""
    from ...runs.recipe import parse_overrides
    from .facts import profile_task

    cleaning = parse_overrides([f"text_cleaning={text_cleaning}"])["text_cleaning"] if text_cleaning else None
    output = output or Path(f"profile-{Path(task).stem}.html")
    facts = profile_task(task, output, data=data, text_cleaning=cleaning, checkpoint=checkpoint)
    for finding in facts["findings"]:
        typer.echo(f"- {finding}")
    typer.echo(f"wrote {output}: {facts['rows']:,} rows")
