"""Pictures changed a little each time they are trained on: mirrored, cropped, in another light.

What a label is must not hang on any of that; where it does (left and right shoe, colours as classes), its share is set
to 0. Pillow does the work, before the encoder's own image processor resizes and normalises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageEnhance, ImageOps

from .eda import read_option

_TRIES = 10


@dataclass(frozen=True)
class ImageAugmentation:
    """How a picture is changed, drawn anew each time with PyTorch's generator.

    Args:
        flip: chance that it is mirrored left to right.
        crop: smallest share of its area that is kept; the share is drawn evenly from here to 1, the box's shape within
            3:4 and 4:3 of the picture's, its place evenly (Szegedy et al. 2014, arXiv:1409.4842). 1 keeps all.
        light: brightness, contrast and saturation are each multiplied by a number up to this far from 1; 0 leaves them.

    Raises:
        ValueError: for a value out of these ranges, or if nothing would change.

    Example:
        >>> ImageAugmentation(crop=0.5)(Image.new("RGB", (64, 64))).size[0] <= 64
        True
    """

    flip: float = 0.5
    crop: float = 0.6
    light: float = 0.2

    def __post_init__(self) -> None:
        for name, low, high in (("flip", 0, 1), ("crop", 0.01, 1), ("light", 0, 1)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"image_augmentation: {name} must be a number from {low} to {high}, not {value!r}.")
        if not self.flip and self.crop == 1 and not self.light:
            raise ValueError("image_augmentation: no picture would change; leave image_augmentation out.")

    @classmethod
    def from_option(cls, option: str | dict[str, Any] | None) -> ImageAugmentation | None:
        """Read a recipe's `image_augmentation`: `basic`, or a mapping of the arguments; None for none.

        Raises:
            ValueError: for anything else.
        """
        return read_option(cls, "image_augmentation", "basic", option)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Change a picture; it comes back as a new one, smaller where it was cropped."""
        if self.crop < 1:
            image = image.crop(self._box(*image.size))
        if _draw() < self.flip:
            image = ImageOps.mirror(image)
        if self.light:
            for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = kind(image).enhance(1 + self.light * (2 * _draw() - 1))
        return image

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Draw left, top, right and bottom of what is kept."""
        for _ in range(_TRIES):
            area = width * height * (self.crop + (1 - self.crop) * _draw())
            shape = width / height * math.exp(math.log(4 / 3) * (2 * _draw() - 1))
            wide, high = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < wide <= width and 0 < high <= height:
                left, top = int(_draw() * (width - wide + 1)), int(_draw() * (height - high + 1))
                return left, top, left + wide, top + high
        return 0, 0, width, height  # nearly all of it was asked for, in a shape that does not fit


def _draw() -> float:
    return torch.rand(()).item()
