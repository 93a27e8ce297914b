"""Labels that are probably wrong, found in out-of-fold predictions: `hfk audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Folder that `hfk train --folds` wrote, or its out_of_fold.parquet.")],
    output_dir: Annotated[Path | None, typer.Option(help="Folder to write to; RUN/audit by default.")] = None,
    max_given: Annotated[float, typer.Option(min=0, max=0.99, help="Largest probability of what to correct.")] = 0.02,
) -> None:
    """List labels that are probably wrong: a table, a page to review them, a corrections.csv of the clearest."""
    from .suspects import audit

    typer.echo(audit(run, output_dir, max_given))
