"""Pictures mixed from two of a batch, and their labels with them: CutMix and MixUp.

Labels become shares, which every problem's loss takes: a row that is 30 % of another picture has 30 % of its labels.
Where one of the two labels is not known, the mixed one is not either. Evaluation sees no mixed picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from datasets import Dataset, concatenate_datasets
from PIL import Image
from torch import Tensor

from ...models.problems import MISSING
from .base import Setting, Technique

_COLUMN = "mixed"  # of the rows: whether this copy is to be mixed


class Mixing(Technique, key=None):
    """What CutMix and MixUp share: which rows are mixed with which others, and their labels.

    Args:
        alpha: the other picture's share is drawn from Beta(alpha, alpha): 1 is every share alike, less is mostly nearly
            none or nearly all.
        share: chance that a row is mixed, in (0, 1].
        copies: so many mixed copies of every row beside the row itself, each epoch; `share` says nothing then.

    Raises:
        ValueError: for a value out of these ranges, and for a model that reads texts: a row's text is not mixed, so
            its label would not be either.
    """

    off: ClassVar[tuple[Any, ...]] = ("none",)

    alpha: float = 1.0
    share: float = 0.5
    copies: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"{self.key}.alpha must be above 0, not {self.alpha}.")
        if not 0 < self.share <= 1:
            raise ValueError(f"{self.key}.share must be in (0, 1], not {self.share}.")
        if self.copies < 0:
            raise ValueError(f"{self.key}.copies must be 0 or more, not {self.copies}.")

    def begin(self, setting: Setting) -> None:
        """Refuse a model that reads anything but pictures."""
        super().begin(setting)
        if setting.processor.image_processor is None or setting.processor.tokenizer is not None:
            raise ValueError(f"{self.key} mixes pictures, and this model does not read pictures alone: leave it out.")

    def rows(self, rows: Any) -> Any:
        """Add the copies."""
        if not self.copies:
            return rows
        if not isinstance(rows, Dataset):
            raise ValueError(f"{self.key}.copies needs plain rows: leave out what else makes more of them.")
        marked = [rows.add_column(_COLUMN, [number > 0] * len(rows)) for number in range(self.copies + 1)]
        return concatenate_datasets(marked)

    def collator(self, collator: Any) -> Any:
        """Tell copies from the rows themselves."""
        return collator.also(_read_marks) if self.copies else collator

    def batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Mix pictures and labels."""
        others = set(batch) - {"pixel_values", "labels", _COLUMN}
        if others:
            raise ValueError(f"{self.key} can't mix {', '.join(sorted(others))}: leave one of the two out.")
        pixels, labels = batch["pixel_values"], batch["labels"]
        if pixels.dim() != 4:
            raise ValueError(f"{self.key} mixes pictures, and what comes here was encoded before: leave one out.")
        count = len(pixels)
        mixed = batch.pop(_COLUMN) if self.copies else torch.rand(count, device=pixels.device) < self.share
        partner = torch.randperm(count, device=pixels.device)
        drawn = torch.distributions.Beta(self.alpha, self.alpha).sample((count,)).to(pixels.device)
        pixels, shares = self.mix(pixels, partner, torch.where(mixed, drawn, 0.0))
        heads = {head.name: len(head.labels) for head in self.setting.heads}
        labels = {name: mix_labels(values, partner, shares, heads[name]) for name, values in labels.items()}
        return batch | {"pixel_values": pixels, "labels": labels}

    def mix(self, pixels: Tensor, partner: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Mix pictures `(batch, channels, height, width)`, each with that of `partner`.

        Args:
            pixels: the pictures.
            partner: whose picture goes into each, `(batch,)`.
            shares: how much of it, `(batch,)`; nothing of it at 0.

        Returns:
            the mixed pictures, and how much of the partner's is really in each.
        """
        raise NotImplementedError


class CutMix(Mixing, key="cutmix"):
    """Paste a box of another picture into a picture (Yun et al. 2019, arXiv:1905.04899).

    The box has the picture's shape and its middle anywhere; what sticks out is cut off, so the labels go by the pixels
    that are really pasted. Of letterboxed pictures, the white around them does not count.
    """

    def begin(self, setting: Setting) -> None:
        """Learn what white looks like where pictures are letterboxed."""
        super().begin(setting)
        self._white: Tensor | None = None
        if setting.processor.letterbox:
            white = setting.processor.image_processor(Image.new("RGB", (64, 64), "white"), return_tensors="pt")
            self._white = white["pixel_values"][0, :, 0, 0]

    def mix(self, pixels: Tensor, partner: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Paste."""
        inside = torch.ones_like(pixels[:, 0], dtype=torch.bool)
        for axis in (1, 2):
            size = pixels.shape[axis + 1]
            middle = torch.rand(len(pixels), device=pixels.device) * size
            half = shares.sqrt() * size / 2
            start, end = ((middle + side).round()[:, None] for side in (-half, half))
            place = torch.arange(size, device=pixels.device)[None]
            inside &= ((place >= start) & (place < end)).unsqueeze(3 - axis)
        shown = self._shown(pixels)
        pasted, kept = (
            (what & shown[whose]).sum((1, 2)) for what, whose in ((inside, partner), (~inside, slice(None)))
        )
        return torch.where(inside[:, None], pixels[partner], pixels), pasted / (pasted + kept).clamp(min=1)

    def _shown(self, pixels: Tensor) -> Tensor:
        """Which pixels are of the picture itself, `(batch, height, width)`: all but white margins."""
        if self._white is None:
            return torch.ones_like(pixels[:, 0], dtype=torch.bool)
        marked = (pixels != self._white.to(pixels)[:, None, None]).any(1)
        rows, columns = marked.any(2), marked.any(1)
        rows, columns = ((side.cumsum(1) > 0) & (side.flip(1).cumsum(1).flip(1) > 0) for side in (rows, columns))
        return rows[:, :, None] & columns[:, None]


class MixUp(Mixing, key="mixup"):
    """Lay another picture over a picture (Zhang et al. 2018, arXiv:1710.09412)."""

    def mix(self, pixels: Tensor, partner: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Lay over."""
        weights = shares.to(pixels.dtype)[:, None, None, None]
        return pixels + weights * (pixels[partner] - pixels), shares


def _read_marks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    return {_COLUMN: torch.tensor([row[_COLUMN] for row in rows])}


def mix_labels(labels: Tensor, partner: Tensor, shares: Tensor, count: int) -> Tensor:
    """Mix labels as pictures were mixed.

    Args:
        labels: as `Problem.loss` takes them.
        partner: row → the row that is mixed into it.
        shares: how much of it, `(batch,)`.
        count: how many labels the head has.

    Returns:
        a distribution `(batch, labels)` where labels were indices, else of the same shape; NaN where one of the two is
        not known.
    """
    if not labels.is_floating_point():
        known = labels != MISSING
        labels = torch.nn.functional.one_hot(labels.where(known, 0), count).float()
        labels[~known] = math.nan
    shares = shares.reshape(-1, *[1] * (labels.dim() - 1))
    return torch.where(shares > 0, (1 - shares) * labels + shares * labels[partner], labels)
