"""`Parts`: the answers for a table, kept chunk by chunk beside it until it is whole: an interrupt costs one chunk.

A part holds what the model said of one chunk of rows, as JSON, and a digest of what it was asked. The table itself is
written anew from its input and these, so it has the same bytes as without an interrupt. What was made by another model,
or of another input, is never used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from .. import __version__
from ..files import write_atomic
from ..models.image_preparation import split_box
from ..models.processing_ensemble import processor_state
from .predictor import Predictor

MANIFEST = "manifest.json"
_BLOCK = 1 << 20


class Parts:
    """The answers that earlier, interrupted runs of the same command have left, and those of this one.

    Args:
        target: the table that is being written; the parts lie beside it, in `.NAME.parts`, and go when it is whole.
        made_of: what the answers depend on, by name, such as a digest of the model; kept in a manifest.
        fresh: drop what is there.

    Attributes:
        rows: how many rows are answered in parts.

    Raises:
        ValueError: if there are parts made of something else; the sentence names it.
    """

    def __init__(self, target: Path, made_of: dict[str, str], fresh: bool = False) -> None:
        self.target, self.made_of, self.rows, self._left = target, made_of, 0, 0
        self.folder = target.with_name(f".{target.name}.parts")
        if fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        try:
            before = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(self.folder, ignore_errors=True)  # without a manifest nobody knows of what they are made
            return
        changed = [name for name, digest in made_of.items() if before.get(name) != digest]
        if changed:
            raise ValueError(
                f"{target.name} was begun with another {changed[0]}: give the same again, or start anew with --fresh."
            )
        self.rows = self._left = sum(int(path.stem.partition("-")[2]) for path in self.folder.glob("*-*.json"))

    def __enter__(self) -> Parts:
        return self

    def answers(self, first: int, rows: list[dict[str, Any]]) -> list[list[Any]] | None:
        """Return what was said of these rows, of which `first` is the number of the first one; None if nothing was.

        Raises:
            ValueError: if it was said of other rows; such as of pictures that have been replaced.
        """
        try:
            digest, cells = json.loads(self._path(first, rows).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if digest != digest_rows(rows):
            raise ValueError(
                f"{self.target.name} was begun with other texts or pictures in rows {first + 1:,} to "
                f"{first + len(rows):,}: put them back, or start anew with --fresh."
            )
        if self._left:
            warnings.warn(f"{self.target.name} goes on after {self._left:,} rows that an interrupt left.", stacklevel=3)
            self._left = 0  # said
        return cells

    def keep(self, first: int, rows: list[dict[str, Any]], cells: list[list[Any]]) -> list[list[Any]]:
        """Keep what was said of some rows; returns it as it will be read again."""
        if not (self.folder / MANIFEST).exists():
            write_atomic(self.folder / MANIFEST, json.dumps(self.made_of, indent=1))
        text = json.dumps([digest_rows(rows), cells])
        write_atomic(self._path(first, rows), text)
        self.rows += len(rows)
        return json.loads(text)[1]

    def _path(self, first: int, rows: list[dict[str, Any]]) -> Path:
        return self.folder / f"{first:012}-{len(rows)}.json"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self.rows and not isinstance(error, ValueError):  # which says itself what to do
            warnings.warn(
                f"{self.rows:,} rows of {self.target.name} are answered and kept; the same command goes on after them.",
                stacklevel=2,
            )


def digest_rows(rows: Iterable[dict[str, Any]]) -> str:
    """Return a digest of what rows ask: their texts, and the pictures or, of files, their names, sizes and times."""
    hasher = hashlib.blake2b(digest_size=16)
    for row in rows:
        for cell in row.values():
            hasher.update(cell if isinstance(cell, bytes) else f"\0{cell}\0".encode("utf-8", "surrogatepass"))
        if isinstance(row["image"], str):
            try:
                found = os.stat(split_box(row["image"])[0])
                hasher.update(f"{found.st_size} {found.st_mtime_ns}".encode())
            except (OSError, ValueError):
                hasher.update(b"none")
    return hasher.hexdigest()


def digest_input(source: Path) -> str:
    """Return a digest of a table's bytes; of a folder, of what is in it: names, sizes and times."""
    hasher = hashlib.blake2b(digest_size=16)
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            found = path.stat()
            stamp = f"{path.relative_to(source)}\0{found.st_size} {found.st_mtime_ns}\0"
            hasher.update(stamp.encode("utf-8", "surrogateescape"))
        return hasher.hexdigest()
    with source.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()


def digest_model(predictor: Predictor) -> str:
    """Return a digest of all that a model's answers depend on to the last bit: weights, input, batches, versions."""
    model = predictor.model
    how = [__version__, torch.__version__, model.device.type, predictor.batch_size, predictor.window]
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    how += [str(predictor.autocast), config, processor_state(predictor.processor)]
    hasher = hashlib.blake2b(json.dumps(how, sort_keys=True, default=str).encode(), digest_size=16)
    for name, weights in model.state_dict().items():
        hasher.update(f"\0{name} {weights.dtype} {tuple(weights.shape)}\0".encode())
        hasher.update(weights.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()
