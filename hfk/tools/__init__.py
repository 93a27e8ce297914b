"""Commands beyond the core, a folder each; the core imports no tool, and no tool another.

A tool's `__init__.py` holds its `command`, which is called as its folder (or as `NAME = "data profile"` says), and
nothing that is slow to import: whoever asks for help must not wait for torch. What the command calls stands in the
folder's other files, with its template, and is imported inside the command. Here is what commands share.
"""

from __future__ import annotations

import pkgutil
import sys
from typing import Annotated, Any

import typer

TOOLS = tuple(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
"""Every folder here is a tool; cli.py collects them."""

Checkpoint = Annotated[str, typer.Argument(help="Folder or Hub id.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows a forward pass.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, …")]
Revision = Annotated[str | None, typer.Option(help="Commit of a Hub checkpoint.")]


def group(app: typer.Typer, name: str) -> typer.Typer:
    """Give the app of a group of commands, such as `data` of `hfk data profile`."""
    return next(found.typer_instance for found in app.registered_groups if found.name == name)


def numbers(text: str | None, option: str) -> list[int] | None:
    """Read an option's whole numbers, such as `1,2,3`."""
    try:
        return None if text is None else [int(number) for number in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"{option} needs whole numbers, such as 1,2,3, not {text!r}.") from None


def quiet(overrides: dict[str, Any]) -> dict[str, Any]:
    """Leave progress bars out of a recipe's options where nobody watches."""
    return overrides if sys.stderr.isatty() else {"disable_tqdm": True} | overrides


def count_rows(counts: dict[str, int]) -> str:
    """Say how many rows a table command wrote, and how many of them are errors."""
    wrong = f", {counts['errors']} with an error (see the column `error`)" if counts["errors"] else ""
    return f"{counts['rows']} rows{wrong}"
