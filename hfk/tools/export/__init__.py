"""One head as a stock transformers classifier: `hfk export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint that reads text alone, or images alone.")],
    output: Annotated[Path, typer.Argument(help="Folder to make.")],
    head: Annotated[str, typer.Option(help="The head to keep.")],
    task: Annotated[str, typer.Option("--as", help="sequence-classification or image-classification.")],
) -> None:
    """Write one head as a stock transformers classifier: the same logits without custom code, where possible."""
    from .stock import export

    export(checkpoint, output, head, task)
    typer.echo(f"wrote {output}: a stock model for {task}; `hf upload OWNER/NAME {output}` sends it to the Hub")
