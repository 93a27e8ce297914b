"""Hashtags of a text or of a table's rows: `hfk hashtags`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import BatchSize, Checkpoint, Device, Revision, count_rows


def command(
    checkpoint: Checkpoint,
    source: Annotated[Path | None, typer.Argument(metavar="[INPUT", help="Table, in place of one text.")] = None,
    target: Annotated[Path | None, typer.Argument(metavar="OUTPUT]", help="File to write, format by suffix.")] = None,
    text: Annotated[str | None, typer.Option(help="The text; with a table, the name of its text column.")] = None,
    image: Annotated[str | None, typer.Option(help="The picture's file; with a table, its column.")] = None,
    keywords: Annotated[int, typer.Option(help="Keywords of the text, at most.")] = 5,
    min_score: Annotated[float, typer.Option(help="Use categories from this probability on.")] = 0.5,
    most: Annotated[int, typer.Option(help="Hashtags of a row, at most; the categories come first.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print scores too, as JSON.")] = False,
    batch_size: BatchSize = 32,
    device: Device = None,
    revision: Revision = None,
) -> None:
    """Make hashtags: the categories that the checkpoint is sure of, and keywords of the text."""
    from tqdm import tqdm

    from ...inference.predictor import Predictor
    from ...inference.table import read_task_file
    from .hashtagger import Hashtagger, hashtag_table

    if source is not None and target is None:
        raise ValueError(f"name the file to write after {source}.")
    if source is not None and not source.is_file():
        raise FileNotFoundError(f"input file {source} does not exist.")
    predictor = Predictor.from_pretrained(checkpoint, device, batch_size=batch_size, revision=revision)
    tagger = Hashtagger(predictor, keywords, min_score, most)
    if source is None:
        (made,) = tagger([{"text": text, "image": image}])
        if "error" in made:
            raise ValueError(made["error"])
        typer.echo(json.dumps(made, ensure_ascii=False) if as_json else made["text"])
        return
    columns = read_task_file(checkpoint, revision)
    with tqdm(unit=" rows", disable=not sys.stderr.isatty()) as bar:
        counts = hashtag_table(tagger, source, target, [text] if text else None, image, None, columns, bar.update)
    typer.echo(f"wrote {target}: {count_rows(counts)}")
