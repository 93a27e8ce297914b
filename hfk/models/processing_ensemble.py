"""`MultiHeadEnsembleProcessor`: one row prepared for members that read it in different ways.

Members whose processors are identical share one `MultiHeadProcessor`. Where there are several, they are numbered:
number 0 lies in the checkpoint's folder like any processor, so that `AutoTokenizer` finds its tokenizer there, number k
in the subfolder `processor_k`; its tensors have the prefix `processor{k}_`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import ProcessorMixin

from .processing_multihead import MultiHeadProcessor

READS = "reads"
"""Name of the tensor that says which rows a processor can read, bool `(batch,)`."""


def input_prefix(number: int) -> str:
    """Return what stands before the names of a processor's tensors."""
    return f"processor{number}_" if number else ""


class MultiHeadEnsembleProcessor(ProcessorMixin):
    """Prepare text and pictures for `MultiHeadEnsemble`, once for each way of reading that its members have.

    It is called like a `MultiHeadProcessor`. A row is refused only if no processor can read it.

    Args:
        processors: the different processors, two or more.

    Example:
        >>> processor, readers = MultiHeadEnsembleProcessor.join([one, two, like_one])  # doctest: +SKIP
        >>> readers  # doctest: +SKIP
        [0, 1, 0]
    """

    def __init__(self, processors: list[MultiHeadProcessor]) -> None:
        self.chat_template = None
        self.processors = processors

    @classmethod
    def join(
        cls, processors: Sequence[MultiHeadProcessor]
    ) -> tuple[MultiHeadProcessor | MultiHeadEnsembleProcessor, list[int]]:
        """Find out which of the members' processors are identical, and keep one of each.

        Returns the ensemble's processor (an ordinary one if all are identical), and each member's number in it.
        """
        states = [processor_state(processor) for processor in processors]
        kept = dict(zip(states, processors, strict=True))
        # Number 0 has its files where AutoTokenizer looks: the first that has a tokenizer.
        front = next((state for state in kept if kept[state].tokenizer is not None), states[0])
        order = sorted(kept, key=lambda state: state != front)
        processor = processors[0] if len(order) == 1 else cls([kept[state] for state in order])
        return processor, [order.index(state) for state in states]

    def _first(self, part: str) -> Any:
        return next(filter(None, (getattr(processor, part) for processor in self.processors)), None)

    @property
    def tokenizer(self) -> Any:
        """The first tokenizer; None if no member reads text."""
        return self._first("tokenizer")

    @property
    def image_processor(self) -> Any:
        """The first image processor; None if no member reads images."""
        return self._first("image_processor")

    @property
    def cleaner(self) -> Any:
        """The first text cleaning; None if no member has one."""
        return self._first("cleaner")

    def clean(self, text: Any) -> str | None:
        """Prepare one text as the first member that finds something to read in it does; None if none does."""
        return next(filter(None, (p.clean(text) for p in self.processors if p.tokenizer is not None)), None)

    __call__ = MultiHeadProcessor.__call__
    prepare_row = MultiHeadProcessor.prepare_row
    save_pretrained = MultiHeadProcessor.save_pretrained

    def read(self, text: Any, image: Any) -> list[tuple[str | None, Any] | None] | None:
        """Read one row with every processor, None for one that finds nothing in it; None if none does."""
        rows = [processor.read(text, image) for processor in self.processors]
        return rows if any(rows) else None

    def settle(self, row: list[tuple[str | None, Any] | None]) -> list[tuple[str | None, Any] | None]:
        """Replace a large picture of a row from `prepare_row` by what each processor's model sees of it."""
        return [None if own is None else p.settle(own) for p, own in zip(self.processors, row, strict=True)]

    def to_tensors(
        self, rows: list[list[tuple[str | None, Any] | None]], padding: bool | str = True
    ) -> dict[str, torch.Tensor]:
        """Turn rows from `prepare_row` into the model's tensors; the names of those of processor k have its prefix."""
        data: dict[str, torch.Tensor] = {}
        for number, processor in enumerate(self.processors):
            own = [row[number] for row in rows]
            reads = torch.tensor([row is not None for row in own])
            tensors = processor.to_tensors([(None, None) if row is None else row for row in own], padding)
            for kind, name in (("text_present", "input_ids"), ("image_present", "pixel_values")):
                if kind in tensors and name in tensors:  # a member must be able to run on rows that it abstains from
                    tensors[kind] = tensors[kind] | ~reads
            tensors[READS] = reads
            data |= {input_prefix(number) + name: values for name, values in tensors.items()}
        return data

    def save_parts(self, folder: Path) -> None:
        """Save the processors, each in a folder of its own."""
        for number, processor in enumerate(self.processors):
            _save_alone(processor, folder / _subfolder(number))

    def to_dict(self) -> dict[str, Any]:
        """Serialize: the options of processor 0, and how many there are."""
        result = _plain(self.processors[0]) | {"processor_class": type(self).__name__, "count": len(self.processors)}
        return result | ({"auto_map": self.auto_map} if hasattr(self, "auto_map") else {})

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: str, processor_dict: dict | None = None, **kwargs: Any
    ) -> list:
        if "count" not in (processor_dict or {}):
            raise OSError(f"{pretrained_model_name_or_path} has no processor_config.json of an ensemble.")
        kwargs.pop("trust_remote_code", None)
        processors = [
            MultiHeadProcessor.from_pretrained(pretrained_model_name_or_path, subfolder=_subfolder(number), **kwargs)
            for number in range(processor_dict["count"])
        ]
        processor_dict.clear()  # what else it holds are processor 0's options
        return [processors]


def processor_state(processor: MultiHeadProcessor) -> str:
    """Return a hash of all that a processor's answers depend on: equal hashes, equal tensors."""
    hasher = hashlib.blake2b(digest_size=16)
    with tempfile.TemporaryDirectory() as scratch:
        _save_alone(processor, Path(scratch))
        for path in sorted(Path(scratch).rglob("*")):
            data = path.read_bytes() if path.is_file() else b""
            if path.name == "tokenizer.json":  # how the last batch was cut and filled up is no part of a tokenizer
                content = json.loads(data) | {"padding": None, "truncation": None}
                data = json.dumps(content, sort_keys=True).encode()
            hasher.update(f"\0{path.name}\0".encode() + data)
    return hasher.hexdigest()


def _save_alone(processor: MultiHeadProcessor, folder: Path) -> None:
    """Save a processor without its code, which stands in the ensemble's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    processor.save_parts(folder)
    text = json.dumps(_plain(processor), ensure_ascii=False, indent=2, sort_keys=True)
    (folder / "processor_config.json").write_text(text + "\n", encoding="utf-8")


def _plain(processor: MultiHeadProcessor) -> dict[str, Any]:
    return {name: value for name, value in processor.to_dict().items() if name != "auto_map"}


def _subfolder(number: int) -> str:
    return f"processor_{number}" if number else ""


MultiHeadEnsembleProcessor.register_for_auto_class()
