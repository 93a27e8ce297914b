"""Pictures changed a little each time they are trained on: mirrored, cropped, in another light.

What a label is must not hang on any of that; where it does (left and right shoe, colors as classes), its share is set
to 0. Pillow does the work, before the encoder's own image processor resizes and normalizes.
"""

from __future__ import annotations

import math
from copy import copy
from functools import partial
from typing import Any, ClassVar

import torch
from PIL import Image, ImageEnhance, ImageOps

from .base import Setting, Technique

_TRIES = 10


class ImageAugmentation(Technique, key="pictures"):
    """How a picture is changed, drawn anew each time with PyTorch's generator.

    Args:
        flip: chance that it is mirrored left to right.
        crop: smallest share of its area that is kept; the share is drawn evenly from here to 1, the box's shape within
            3:4 and 4:3 of the picture's, its place evenly (Szegedy et al. 2014, arXiv:1409.4842). 1 keeps all.
        light: brightness, contrast and saturation are each multiplied by a number up to this far from 1; 0 leaves them.

    Raises:
        ValueError: for a value out of these ranges, or if nothing would change.
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
        collator = copy(collator)
        collator.change_image = partial(change_picture, flip=self.flip, crop=self.crop, light=self.light)
        return collator


def change_picture(image: Image.Image, flip: float, crop: float, light: float) -> Image.Image:
    """Change a picture; arguments as for `ImageAugmentation`.

    Returns:
        a new picture, smaller where it was cropped.
    """
    if crop < 1:
        image = image.crop(_box(*image.size, crop))
    if _draw() < flip:
        image = ImageOps.mirror(image)
    if light:
        for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = kind(image).enhance(1 + light * (2 * _draw() - 1))
    return image


def _box(width: int, height: int, crop: float) -> tuple[int, int, int, int]:
    """Draw left, top, right and bottom of what is kept."""
    for _ in range(_TRIES):
        area = width * height * (crop + (1 - crop) * _draw())
        shape = width / height * math.exp(math.log(4 / 3) * (2 * _draw() - 1))
        wide, high = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(_draw() * (width - wide + 1)), int(_draw() * (height - high + 1))
            return left, top, left + wide, top + high
    return 0, 0, width, height  # nearly all of it was asked for, in a shape that does not fit


def _draw() -> float:
    return torch.rand(()).item()
