"""A sentence or a table's rows into another region's dialect, or the standard language: `hfk translate`."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from .. import count_rows


def command(
    source: Annotated[str, typer.Argument(metavar="TEXT|INPUT", help="Text to translate, or a table.")],
    target: Annotated[Path | None, typer.Argument(metavar="[OUTPUT]", help="File to write, format by suffix.")] = None,
    pairs: Annotated[
        list[Path] | None, typer.Option(help="Table (region, dialect, standard) to learn the rules from; repeatable.")
    ] = None,
    to: Annotated[str, typer.Option(help="A region of the pairs, or standard.")] = "standard",
    origin: Annotated[str | None, typer.Option("--from", help="What the texts are in; found out by default.")] = None,
    column: Annotated[str, typer.Option("--text", help="Column of a table's texts.")] = "text",
) -> None:
    """Translate dialect by rules that are learned from pairs: TEXT is printed, INPUT written with two more columns."""
    from ...inference.translator import DialectTranslator
    from ...tasks.dialect import read_pairs
    from .table import translate_table

    if Path(source).is_file() != (target is not None):
        raise ValueError(f"there is no file {source} to read." if target else f"name the file to write after {source}.")
    if not pairs:
        raise ValueError("name what to translate by: --pairs pairs.tsv, a table of region, dialect and standard.")
    translator = DialectTranslator.learn(chain.from_iterable(map(read_pairs, pairs)))
    if target is not None:
        counts = translate_table(translator, source, target, to, origin, column)
        typer.echo(f"wrote {target}: {count_rows(counts)}")
        return
    (answer,) = translator([source], to, origin)
    if "error" in answer:
        raise ValueError(answer["error"])
    typer.echo(answer["text"])
