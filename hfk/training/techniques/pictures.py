"""Pictures changed a little each time they are trained on: mirrored, cropped, in another light.

What a label is must not hang on any of that; where it does (left and right shoe, colors as classes), its share is set
to 0. Pillow does the work, before the encoder's own image processor resizes and normalizes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, ClassVar

from PIL import Image, ImageEnhance, ImageOps

from ...models.image_preparation import open_image
from .base import Setting, Technique

_TRIES = 10


class ImageAugmentation(Technique, key="pictures"):
    """How a picture is changed, drawn from seed, epoch and row id: twice alike, if a row comes twice in an epoch.

    With `dataloader_persistent_workers`, the workers go on with what they drew in the first epoch.

    Args:
        flip: chance that it is mirrored left to right.
        crop: smallest share of its area that is kept; the share is drawn evenly from here to 1, the box's shape within
            3:4 and 4:3 of the picture's, its place evenly (Szegedy et al. 2014, arXiv:1409.4842). 1 keeps all.
        light: brightness, contrast and saturation are each multiplied by a number up to this far from 1; 0 leaves them.
    """

    off: ClassVar[tuple[Any, ...]] = ("none",)

    flip: float = 0.5
    crop: float = 0.6
    light: float = 0.2

    def __post_init__(self) -> None:
        for name, low in (("flip", 0), ("crop", 0.01), ("light", 0)):
            if not low <= getattr(self, name) <= 1:
                raise ValueError(f"pictures.{name} must be a number from {low} to 1, not {getattr(self, name)}.")
        if not self.flip and self.crop == 1 and not self.light:
            raise ValueError("pictures: no picture would change; leave it out.")

    def begin(self, setting: Setting) -> None:
        """Refuse a model that reads no pictures."""
        super().begin(setting)
        if setting.processor.image_processor is None:
            raise ValueError("pictures are changed by this, and this model reads none: leave it out.")

    def collator(self, collator: Any) -> Any:
        """Change pictures before they are prepared."""
        self._change = PictureChange(asdict(self), self.setting.seed)
        return collator.after(self._change)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Change them in another way than in the epoch before."""
        self._change.epoch = int(state.epoch or 0)


class PictureChange:
    """Changes the picture of a row, in every epoch in another way."""

    def __init__(self, shares: Mapping[str, float], seed: int) -> None:
        self.shares, self.seed, self.epoch = shares, seed, 0

    def __call__(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the row with another picture."""
        if row.get("image") is None:
            return row
        generator = random.Random(f"{self.seed}/{self.epoch}/{row['id']}")
        with suppress(ValueError):  # no picture, which the collator says with the row's id
            return {**row, "image": change_picture(open_image(row["image"]), generator, **self.shares)}
        return row


def change_picture(image: Image.Image, generator: random.Random, flip: float, crop: float, light: float) -> Image.Image:
    """Make a changed picture, smaller where it is cropped; the shares are those of `ImageAugmentation`."""
    draw = generator.random
    if crop < 1:
        image = image.crop(_box(*image.size, crop, draw))
    if draw() < flip:
        image = ImageOps.mirror(image)
    if light:
        for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = kind(image).enhance(1 + light * (2 * draw() - 1))
    return image


def _box(width: int, height: int, crop: float, draw: Callable[[], float]) -> tuple[int, int, int, int]:
    """Draw left, top, right and bottom of what is kept."""
    for _ in range(_TRIES):
        area = width * height * (crop + (1 - crop) * draw())
        shape = width / height * math.exp(math.log(4 / 3) * (2 * draw() - 1))
        wide, high = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(draw() * (width - wide + 1)), int(draw() * (height - high + 1))
            return left, top, left + wide, top + high
    return 0, 0, width, height  # nearly all of it was asked for, in a shape that does not fit
