"""A sentence, lines or a table's rows into another region's dialect, or the standard language: `hfk translate`."""

from __future__ import annotations

import os
import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from .. import count_rows


def command(
    source: Annotated[str, typer.Argument(metavar="TEXT|INPUT|-", help="Text, a table, or - for lines as they come.")],
    target: Annotated[Path | None, typer.Argument(metavar="[OUTPUT]", help="File to write, format by suffix.")] = None,
    model: Annotated[str | None, typer.Option(help="A translator's checkpoint: folder or Hub id.")] = None,
    pairs: Annotated[
        list[Path] | None, typer.Option(help="Table (region, dialect, standard) to learn rules from; repeatable.")
    ] = None,
    to: Annotated[str, typer.Option(help="A region of the translator, or standard.")] = "standard",
    origin: Annotated[str | None, typer.Option("--from", help="What the texts are in; found out by default.")] = None,
    by: Annotated[
        str | None,
        typer.Option(help="rules, model, or vote of both, which is a checkpoint's default; rules are faster."),
    ] = None,
    column: Annotated[str, typer.Option("--text", help="Column of a table's texts.")] = "text",
) -> None:
    """Translate dialect: TEXT is printed, lines are answered one by one, INPUT is written with two more columns."""
    from ...inference.translator import load_translator
    from ...models.dialect_translator import DialectTranslator
    from ...tasks.dialect import read_pairs
    from .table import translate_table

    if source != "-" and os.path.isfile(source) != (target is not None):  # a text may be too long for Path
        raise ValueError(f"there is no file {source} to read." if target else f"name the file to write after {source}.")
    if (model is None) == (not pairs):
        raise ValueError(
            "name what to translate by: --model, a translator's checkpoint, or --pairs, a table of region, dialect and "
            "standard."
        )
    if model is not None:
        translator = load_translator(model, by)
    else:
        known = chain.from_iterable(map(read_pairs, pairs))
        rows = ((pair.region, pair.dialect, pair.standard) for pair in known)
        translator = DialectTranslator.learn(rows)
    if target is not None:
        counts = translate_table(translator, source, target, to, origin, column, by)
        typer.echo(f"wrote {target}: {count_rows(counts)}")
        return
    for text in sys.stdin if source == "-" else [source]:
        (answer,) = translator([text], to, origin, by)
        if "error" in answer and source != "-":
            raise ValueError(answer["error"])
        typer.echo(answer.get("text", ""))
        sys.stdout.flush()
