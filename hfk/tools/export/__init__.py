"""A checkpoint for other programs: `hfk export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint.")],
    output: Annotated[Path, typer.Argument(help="Folder to make.")],
    task: Annotated[
        str, typer.Option("--as", help="onnx, openvino, sequence-classification or image-classification.")
    ] = "onnx",
    head: Annotated[str | None, typer.Option(help="The one head that a stock classifier keeps.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Of a graph: keep weights in one byte a number.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="Labeled table that tells what int8 costs; the run's validation rows.")
    ] = None,
    max_loss: Annotated[float, typer.Option(min=0, help="The most that int8 may cost a head of its score.")] = 0.003,
) -> None:
    """Write a checkpoint as a graph for ONNX Runtime or OpenVINO, or one head as a stock transformers classifier."""
    if task in ("onnx", "openvino"):
        from .graph import export_graph

        if head is not None:
            raise ValueError(f"--head goes with a stock classifier; --as {task} keeps all heads.")
        about = export_graph(checkpoint, output, task, int8, data, max_loss)
        for name, cost in about["int8"]["heads"].items() if int8 else ():
            typer.echo(f"{name}: {cost['score']} {cost['float32']:.4f}, by int8 {cost['int8']:.4f}")
        typer.echo(f"wrote {output}: `hfk predict {output} INPUT OUTPUT` answers from it")
        return
    from .stock import export

    if head is None:
        raise ValueError(f"--as {task} keeps one head: name it by --head.")
    export(checkpoint, output, head, task)
    typer.echo(f"wrote {output}: a stock model for {task}; `hf upload OWNER/NAME {output}` sends it to the Hub")
