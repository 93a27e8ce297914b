"""Several recipes on the same rows, side by side: `hfk ladder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import numbers, quiet


def command(
    task: Annotated[str, typer.Argument(help="Built-in task, a task's YAML, or a folder of pictures.")],
    recipes: Annotated[str, typer.Option(metavar="A,B,C", help="Recipes, tfidf, hog, or A+B: a vote.")],
    options: Annotated[list[str] | None, typer.Argument(help="key=value for every recipe, such as data=FILE.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="1,2,3", help="For each recipe; its own by default.")] = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of the runs and the table.")] = Path("runs/ladder"),
) -> None:
    """Train several recipes on the same rows and compare quality, size, training time and speed in one table."""
    from ...runs.recipe import parse_overrides
    from .climb import climb

    names = [name.strip() for name in recipes.split(",") if name.strip()]
    overrides = quiet(parse_overrides(options or []))
    typer.echo(f"\n{climb(task, names, output_dir, numbers(seeds, '--seeds'), overrides)}")
    typer.echo(f"\ntable: {output_dir / 'ladder.md'}    picture: {output_dir / 'ladder.png'}")
