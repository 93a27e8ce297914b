"""The YAML of a task, written from a look at its table: `hfk init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    table: Annotated[
        Path, typer.Argument(help="Table (CSV, TSV, JSON, Parquet, Excel), or a folder of pictures by class.")
    ],
    output: Annotated[Path | None, typer.Option(help="YAML to write; beside the table by default.")] = None,
    read: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="How it is read, if that can't be seen: sheet=2, …")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the YAML if it exists.")] = False,
) -> None:
    """Look at a table and write the YAML of a task for it, commented, to be checked and trained on."""
    from ...runs.recipe import parse_overrides
    from .inspection import inspect_table

    target = output or table.with_suffix(".yaml")
    if target.exists() and not force:
        raise ValueError(f"{target} exists already; choose another --output, or replace it with --force.")
    text = inspect_table(table, target.parent, **parse_overrides(read or []))
    target.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {target}: read it, correct it, then: hfk train {target} --output-dir runs/{target.stem}")
