"""Why a checkpoint answers as it does: `hfk explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .. import Checkpoint, Device, Revision


def command(
    checkpoint: Checkpoint,
    text: Annotated[str | None, typer.Option(help="The text.")] = None,
    image: Annotated[str | None, typer.Option(help="The picture's file.")] = None,
    head: Annotated[str | None, typer.Option(help="Head to explain; the last one by default.")] = None,
    label: Annotated[str | None, typer.Option(help="Label to explain; the answer by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="Page (.html), heat map (.png) or numbers (.json).")] = None,
    steps: Annotated[int, typer.Option(help="Points at which gradients are taken; more are more exact.")] = 64,
    device: Device = None,
    revision: Revision = None,
) -> None:
    """Say why: how much each word and each patch of the picture moved one head's answer."""
    from ...inference.predictor import Predictor
    from .attribution import explain
    from .page import check_target, summarize, write_explanation

    if output is not None:
        check_target(output)
    predictor = Predictor.from_pretrained(checkpoint, device, "float32", revision=revision)
    explanation = explain(predictor, text, image, head, label, steps)
    if output is None:
        typer.echo(json.dumps(explanation.to_dict(), ensure_ascii=False))
        return
    write_explanation(explanation, output, Path(checkpoint).name)
    typer.echo(f"{summarize(explanation)}\nwrote {output}")
