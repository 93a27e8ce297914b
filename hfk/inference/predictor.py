"""`Predictor`: rows through a model, for answers that people read, for scores, and for whatever else is asked.

The loop itself is in loop.py. A small model runs in one thread: see `graph.choose_threads`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn
from tqdm import tqdm

from ..evaluation.predictions import Predictions
from ..models.decoding import readable
from ..models.modeling_ensemble import MultiHeadEnsemble
from ..models.modeling_multihead import MultiHeadForClassification
from ..models.pipeline_multihead import as_row
from ..models.processing_ensemble import MultiHeadEnsembleProcessor
from ..models.processing_multihead import MultiHeadProcessor
from .graph import GRAPH_FILE, SMALL
from .graph_model import GraphModel, load_graph
from .loading import load_checkpoint
from .loop import run

DECODING_THREADS = 4
KEYS = ("text", "image")  # of a row


def find_device(device: str | torch.device | None = None) -> torch.device:
    """Say where to run: on the named device, else on an accelerator if there is one, else on the CPU."""
    if device is None:
        return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".: ")
        raise ValueError(f"device {str(device)!r} can't be used here: {reason}.") from error


@dataclass(slots=True)
class Output:
    """What a model says of one row."""

    logits: dict[str, np.ndarray] | None = None  # head name → float32 `(outputs,)`, before the temperature
    embedding: np.ndarray | None = None  # float32 `(size,)`, where it was asked for
    error: str | None = None  # why the row can't be used, one sentence; there is nothing else then


class Predictor:
    """Classify rows of text, pictures, or both.

    Args:
        model: the model; set to evaluation mode.
        processor: its processor.
        batch_size: rows a forward pass; by default 512 for a small model and 32 for others.
        window: rows that are read, sorted by length and batched together; larger wastes less padding, smaller gives
            the first results sooner and holds fewer rows in memory.
        device: where the model is moved to; it stays where it is by default.
        autocast: the precision that its layers compute in, such as `torch.bfloat16`; that of its weights by default.

    Attributes:
        small: whether a second thread costs this model more than it brings.
        threads: that a forward pass takes at most.
        graph: what runs in place of the model's own code, or None.

    Example:
        >>> predictor = Predictor.from_pretrained("runs/ynat")  # doctest: +SKIP
        >>> list(predictor(["코스피 사상 최고", {"text": "손흥민 두 골"}]))  # doctest: +SKIP
    """

    def __init__(
        self,
        model: MultiHeadForClassification | MultiHeadEnsemble | GraphModel,
        processor: MultiHeadProcessor | MultiHeadEnsembleProcessor,
        batch_size: int | None = None,
        window: int = 2048,
        device: str | torch.device | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        if (batch_size is not None and batch_size < 1) or window < 1:
            raise ValueError(f"batch_size and window must be 1 or more, not {batch_size} and {window}.")
        self.model = model.eval() if device is None else model.to(device).eval()
        self.processor = processor
        self.graph = model.graph if isinstance(model, GraphModel) else None
        size = self.graph.about["multiplications"] if self.graph else count_multiplications(model)
        self.small = size < SMALL
        self.threads = 1 if self.small else torch.get_num_threads()
        self.batch_size = batch_size or (512 if self.small else 32)
        self.window = window
        self.autocast = autocast

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        batch_size: int | None = None,
        window: int = 2048,
        revision: str | None = None,
        token: str | bool | None = None,
        backend: str | None = None,
    ) -> Predictor:
        """Load a checkpoint; for the arguments that are not named here see the class and `load_checkpoint`.

        Args:
            checkpoint: folder or Hub id. hfk's own code is used; none is taken from the Hub.
            device: where to run; an accelerator if there is one, else the CPU.
            dtype: "auto" takes the checkpoint's; "bfloat16" is faster on recent CPUs and GPUs. Of a
                graph, OpenVINO's layers alone compute in it.
            backend: `onnx` or `openvino` for a folder that `hfk export` made; by default what the folder holds.
        """
        if backend not in (None, "torch") or (backend is None and Path(checkpoint, GRAPH_FILE).is_file()):
            model, processor = load_graph(checkpoint, backend or "onnx", half=str(dtype).endswith("bfloat16"))
            return cls(model, processor, batch_size, window)
        where = find_device(device)
        model, processor = load_checkpoint(checkpoint, dtype, revision, token)
        return cls(model.to(where), processor, batch_size, window)

    def __call__(
        self,
        rows: Any,
        top_k: int | None = None,
        threshold: float | None = None,
        heads: str | list[str] | None = None,
        min_score: float | None = None,
        paths: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Classify rows; `top_k`, `threshold`, `heads`, `min_score` and `paths` are as for the pipeline.

        Args:
            rows: each a str, a picture, or a dict with `text`, `image` or both, as for the pipeline; or a pandas table
                of such columns, or one of them.

        Returns:
            an iterator: for each row, in order, what the pipeline returns; `{"error": sentence}` for a row that can't
            be used.

        Raises:
            ValueError: for a table without such a column; at the first row for an unknown head or a wrong `top_k` or
                `paths`.
        """
        options = {"top_k": top_k, "threshold": threshold, "only": heads, "min_score": min_score, "paths": paths}

        def read(output: Any) -> list[dict[str, Any]]:
            return readable(output.logits, self.model.config.heads, **options)

        return self._run(_as_rows(rows), read, lambda reason: {"error": reason})

    def outputs(self, rows: Iterable[Any], embedding: bool = False, progress: str | None = None) -> Iterator[Output]:
        """Say what the model says of rows, before anything is decided: one `Output` a row, in order.

        Rows are as for a call, such as a data set's in a task's columns. With `embedding`, the embeddings come too;
        `progress` names a progress bar.
        """

        def read(output: Any) -> Iterator[Output]:
            names, columns = list(output.logits), [_array(values) for values in output.logits.values()]
            vectors = _array(output.embedding) if embedding else None
            for row, own in enumerate(zip(*columns, strict=True)):
                yield Output(dict(zip(names, own, strict=True)), None if vectors is None else vectors[row])

        return self._run(rows, read, lambda reason: Output(error=reason), progress)

    def predictions(self, rows: Dataset, progress: str | None = "predict") -> Predictions:
        """Run the model on rows in a task's columns; a row that can't be used is a ValueError that names its id."""
        heads = [replace(head) for head in self.model.config.heads]
        logits = {head.name: np.zeros((len(rows), head.num_outputs), np.float32) for head in heads}
        inputs = rows.select_columns([name for name in KEYS if name in rows.column_names])
        for row, output in enumerate(self.outputs(inputs, progress=progress)):
            if output.error is not None:
                raise ValueError(f"row with id {rows['id'][row]!r}: {output.error}")
            for name, values in output.logits.items():
                logits[name][row] = values
        return Predictions.of(rows, heads, logits)

    def _run(
        self,
        rows: Iterable[Any],
        read: Callable[[Any], Iterable[Any]],
        failed: Callable[[str], Any],
        progress: str | None = None,
    ) -> Iterator[Any]:
        """Prepare, batch and run rows; `read` makes one result a row of a batch's output."""
        total = len(rows) if hasattr(rows, "__len__") else None
        silent = progress is None or not sys.stderr.isatty()
        with (
            ThreadPoolExecutor(DECODING_THREADS) as pool,
            tqdm(total=total, desc=progress, unit=" rows", disable=silent) as bar,
        ):
            # Pictures are worth a thread each, texts are not.
            each = map if getattr(self.processor, "image_processor", pool) is None else pool.map

            def answer(prepared: list[Any]) -> Iterable[Any]:
                return read(self._forward(prepared))

            yield from run(rows, self._prepare, answer, failed, self.batch_size, self.window, each, bar.update)

    def logits(self, prepared: list[tuple[str | None, Any]]) -> dict[str, torch.Tensor]:
        """Run the model on rows from `MultiHeadProcessor.prepare_row`; head name → `(rows, outputs)`."""
        return self._forward(prepared).logits

    @torch.inference_mode()
    def _forward(self, prepared: list[tuple[str | None, Any]]) -> Any:
        tensors = self.processor.to_tensors(prepared)
        device, before = self.model.device, torch.get_num_threads()
        torch.set_num_threads(min(self.threads, before))
        try:
            with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
                return self.model(**{name: values.to(device) for name, values in tensors.items()})
        finally:
            torch.set_num_threads(before)

    def _prepare(self, row: Any) -> tuple[str | None, Any] | str:
        try:
            row = as_row(row)
            return self.processor.settle(self.processor.prepare_row(row.get("text"), row.get("image")))
        except ValueError as error:
            return str(error)


def count_multiplications(model: nn.Module) -> int:
    """How many multiplications by weights a token takes, or a picture's grid of 100 places; look-ups take none."""
    layers = [
        module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.RNNBase)
    ]
    return sum(
        weights.numel() * (100 if isinstance(layer, nn.Conv2d) else 1)
        for layer in layers
        for weights in layer.parameters(recurse=False)
    )


def _as_rows(rows: Any) -> Iterable[Any]:
    """The rows of a table or a column; one row alone, as a list."""
    if isinstance(rows, pd.DataFrame):
        columns = [name for name in (*KEYS, "text_pair") if name in rows]
        if not {*columns} & {*KEYS}:
            has = ", ".join(map(str, rows.columns)) or "none"
            raise ValueError(f"the table needs a column 'text', 'image' or both; it has: {has}.")
        return rows[columns].astype(object).where(rows[columns].notna(), None).to_dict("records")
    if isinstance(rows, pd.Series):
        return rows.astype(object).where(rows.notna(), None).tolist()
    return [rows] if isinstance(rows, str | dict) else rows


def _array(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
