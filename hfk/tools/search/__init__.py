"""A search for better options of a recipe: `hfk search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import quiet


def command(
    recipe: Annotated[str, typer.Argument(help="Built-in recipe, or a recipe's or task's YAML.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=low:high, key=low:high:log or key=a|b to search (learning rates, label smoothing, weight "
            "decay and epochs around the recipe's own by default); key=value for every trial."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those that the folder holds included.")] = 20,
    output_dir: Annotated[Path, typer.Option(help="Folder of the search.")] = Path("runs/search"),
) -> None:
    """Search for better options on the validation rows. The same command goes on with an interrupted search."""
    from ...runs.recipe import parse_overrides
    from .trials import parse_ranges, search

    ranges, others = parse_ranges(options or [])
    typer.echo(f"\n{search(recipe, output_dir, trials, ranges, quiet(parse_overrides(others)))}")
    typer.echo(f"\nbest recipe: {output_dir / 'best.yaml'}    trials: {output_dir / 'trials.png'}")
