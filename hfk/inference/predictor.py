"""`Predictor`: the pipeline's answers, faster, for many rows.

Rows are read a window at a time and sorted by length inside it, so that a batch holds texts of like length and little
padding; results come back in input order. A generator in gives a generator out, and no more than one window of rows is
in memory. A bad row costs itself only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch

from ..models.decoding import readable
from ..models.modeling_ensemble import MultiHeadEnsemble
from ..models.modeling_multihead import MultiHeadForClassification
from ..models.processing_ensemble import MultiHeadEnsembleProcessor
from ..models.processing_multihead import MultiHeadProcessor
from .loading import load_checkpoint

DECODING_THREADS = 4


def find_device(device: str | torch.device | None = None) -> torch.device:
    """Say where to run: on the named device, else on an accelerator if there is one, else on the CPU.

    Args:
        device: such as "cpu" or "cuda:0".

    Raises:
        ValueError: if there is no such device here.
    """
    if device is None:
        return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {str(device)!r} can't be used here: {_first_line(error)}.") from error


class Predictor:
    """Classify rows of text, pictures, or both.

    Args:
        model: the model; set to evaluation mode.
        processor: its processor.
        batch_size: rows a forward pass.
        window: rows that are read, sorted by length and batched together; larger wastes less padding, smaller gives
            the first results sooner and holds fewer rows in memory.

    Raises:
        ValueError: if `batch_size` or `window` is below 1.

    Example:
        >>> predictor = Predictor.from_pretrained("runs/ynat")  # doctest: +SKIP
        >>> list(predictor(["코스피 사상 최고", {"text": "손흥민 두 골"}]))  # doctest: +SKIP
    """

    def __init__(
        self,
        model: MultiHeadForClassification | MultiHeadEnsemble,
        processor: MultiHeadProcessor | MultiHeadEnsembleProcessor,
        batch_size: int = 32,
        window: int = 2048,
    ) -> None:
        if batch_size < 1 or window < 1:
            raise ValueError(f"batch_size and window must be 1 or more, not {batch_size} and {window}.")
        self.model = model.eval()
        self.processor = processor
        self.batch_size = batch_size
        self.window = window

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        batch_size: int = 32,
        window: int = 2048,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Predictor:
        """Load a checkpoint.

        Args:
            checkpoint: folder or Hub id. hfk's own code is used; none is taken from the Hub.
            device: where to run; an accelerator if there is one, else the CPU.
            dtype: "auto" takes the checkpoint's; "bfloat16" is faster on recent CPUs and GPUs.
            batch_size: rows a forward pass.
            window: see the class.
            revision: commit, tag or branch of a Hub checkpoint.
            token: for private checkpoints.

        Raises:
            ValueError: as `load_checkpoint` and `find_device`.
        """
        where = find_device(device)
        model, processor = load_checkpoint(checkpoint, dtype, revision, token)
        return cls(model.to(where), processor, batch_size, window)

    def __call__(
        self,
        rows: Iterable[Any],
        top_k: int | None = None,
        threshold: float | None = None,
        heads: list[str] | None = None,
        min_score: float | None = None,
        paths: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Classify rows.

        Args:
            rows: each a str, a picture, or a dict with `text`, `image` or both, as for the pipeline.
            top_k: as for the pipeline.
            threshold: as for the pipeline.
            heads: as for the pipeline.
            min_score: as for the pipeline.
            paths: as for the pipeline.

        Yields:
            for each row, in order, what the pipeline returns; `{"error": sentence}` for a row that can't be used.

        Raises:
            ValueError: for an unknown head or a wrong `top_k` or `paths`, at the first row.
        """
        options = {"top_k": top_k, "threshold": threshold, "only": heads, "min_score": min_score, "paths": paths}
        source = iter([rows] if isinstance(rows, str | dict) else rows)
        with ThreadPoolExecutor(DECODING_THREADS) as pool:
            while window := list(islice(source, self.window)):
                results: list[dict[str, Any] | None] = [None] * len(window)
                order = sorted(range(len(window)), key=lambda index: _length(window[index]))
                for start in range(0, len(order), self.batch_size):
                    indices = order[start : start + self.batch_size]
                    prepared, kept = [], []
                    # Pictures are worth a thread each, texts are not.
                    each = map if getattr(self.processor, "image_processor", pool) is None else pool.map
                    for index, row in zip(indices, each(self._prepare, [window[i] for i in indices]), strict=True):
                        if isinstance(row, str):
                            results[index] = {"error": row}
                        else:
                            prepared.append(row)
                            kept.append(index)
                    if kept:
                        answers = readable(self.logits(prepared), self.model.config.heads, **options)
                        for index, answer in zip(kept, answers, strict=True):
                            results[index] = answer
                yield from results

    @torch.inference_mode()
    def logits(self, prepared: list[tuple[str | None, Any]]) -> dict[str, torch.Tensor]:
        """Run the model on rows from `MultiHeadProcessor.prepare_row`; head name → `(rows, outputs)`."""
        tensors = self.processor.to_tensors(prepared)
        return self.model(**{name: values.to(self.model.device) for name, values in tensors.items()}).logits

    def _prepare(self, row: Any) -> tuple[str | None, Any] | str:
        try:
            if isinstance(row, dict):
                return self.processor.prepare_row(row.get("text"), row.get("image"))
            return self.processor.prepare_row(*((row, None) if isinstance(row, str) else (None, row)))
        except ValueError as error:
            return str(error)


def _length(row: Any) -> int:
    text = row.get("text") if isinstance(row, dict) else row
    return len(text) if isinstance(text, str) else 0


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".: ")
