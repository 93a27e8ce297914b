"""The "multi-head-classification" pipeline: text, pictures or both in; labels by name out.

Stock pipelines collate rows after tokenizing each alone, which fails when one row has a picture and the next has none.
Here a batch of raw rows goes to the processor at once, so rows of all kinds may be mixed in one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from .decoding import readable

POSTPROCESS = ("top_k", "threshold", "heads", "min_score", "paths")


class MultiHeadClassificationPipeline(Pipeline):
    """Classify text, pictures, or both, with every head of the model.

    Call it with a str, a dict `{"text": …, "image": path | URL | bytes | PIL image}` with either or both, a picture, or
    a list, Dataset or generator of these. Two texts are a list under `text`, `text` and `text_pair`, or a tuple.

    Options of a call:

    - `top_k`: how many labels to list a head; by default the one chosen label, and of a multi-label head every label
      that reaches the threshold.
    - `threshold`: labels with a lower probability are left out (default 0.5 for multi-label heads, none for others).
    - `heads`: names of the heads to return, or one name; all by default.
    - `min_score`: a single-label answer of a lower score is given as `{"label": None, "score": …}`: "other", as is all
      that lies under it in a hierarchy.
    - `paths`: how many whole paths through the hierarchy to list, under the key `paths`: finest head → list of
      `{"labels": {head: label}, "score": float}`, most probable first.
    - `batch_size`: rows a forward pass; 1 by default.

    A call returns one dict a row: head name → list of `{"label": str, "score": float}`, the chosen label first; for a
    regression head, the number. A list for a list, an iterator for a Dataset or generator.

    Example:
        >>> classify = pipeline("multi-head-classification", model="runs/tour-mini")  # doctest: +SKIP
        >>> classify({"text": "해 뜨는 바닷가", "image": "photo.jpg"}, top_k=3)  # doctest: +SKIP
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Classify `inputs`; see the class."""
        if hasattr(inputs, "column_names"):  # a `datasets` table, which Pipeline does not know to be one
            inputs = (row for row in inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **options)

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict, dict, dict]:
        unknown = sorted(set(parameters) - set(POSTPROCESS))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no option of this pipeline; options: {', '.join(POSTPROCESS)}.")
        return {}, {}, parameters

    def preprocess(self, rows: Any) -> dict[str, torch.Tensor]:
        """Prepare one row, or a list of rows, as the model's tensors."""
        rows = [as_row(row) for row in (rows if isinstance(rows, list) else [rows])]
        return self.processor(
            text=[row.get("text") for row in rows] if self.model.config.text_config is not None else None,
            images=[row.get("image") for row in rows] if self.model.config.vision_config is not None else None,
        )

    def _forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return dict(self.model(**inputs).logits)

    def postprocess(self, logits: dict[str, torch.Tensor], **options: Any) -> dict[str, Any]:
        """Turn one row's logits into labels by name."""
        return self._answers(logits, **options)[0]

    def _answers(self, logits: dict[str, torch.Tensor], **options: Any) -> list[dict[str, Any]]:
        options["only"] = options.pop("heads", None)
        return readable(logits, self.model.config.heads, **options)

    def get_iterator(
        self, inputs: Any, num_workers: int, batch_size: int, _: dict, forward_params: dict, postprocess_params: dict
    ) -> PipelineIterator:
        """Run over many rows, `batch_size` at a time; see `Pipeline.get_iterator`."""
        sized = isinstance(inputs, Sized)
        rows = (PipelineDataset if sized else PipelineIterator)(inputs, as_row, {})
        workers = num_workers if sized else min(num_workers, 1)
        batches = DataLoader(rows, batch_size, num_workers=workers, collate_fn=self.preprocess)
        return _RowIterator(PipelineIterator(batches, self.forward, forward_params), self._answers, postprocess_params)

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Save model and processor; the model takes the pipeline's code along."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)


class _RowIterator(PipelineIterator):
    """Answers row by row, made a batch at a time: one by one, a small model's time would go into tensors of one row."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for logits in self.loader:
            yield from self.infer(logits, **self.params)


def as_row(row: Any) -> dict[str, Any]:
    """One input as a dict of `text`, `image` or both, a tuple as several texts; a ValueError for another dict."""
    if isinstance(row, str):
        return {"text": row}
    if isinstance(row, tuple):
        return {"text": list(row)}
    if not isinstance(row, dict):
        return {"image": row}
    if "text_pair" in row:
        return row | {"text": [row.get("text"), row["text_pair"]]}
    if "text" not in row and "image" not in row:
        has = ", ".join(map(str, row)) or "nothing"
        raise ValueError(f"an input dict needs 'text', 'image' or both; it has: {has}.")
    return row
