"""Drawings for the embedded fashion sample: two figures a picture, and the box of the one that the labels speak of.

What is worn tells `daily`, its color `gender`, and its pattern `embellishment`; the other figure wears anything, so
that a model that does not look at the box can't tell which of the two is meant. The numbers mean nothing else.
"""

from __future__ import annotations

import colorsys
import random

from PIL import Image, ImageDraw

Color = tuple[int, int, int]
HUES = (0.0, 0.09, 0.16, 0.33, 0.58, 0.8)
PATTERNS = ("plain", "stripes", "dots")
_HIGH = 400  # of the canvas
_SKIN = ((244, 214, 190), (224, 172, 132), (150, 104, 78))


def draw_outfits(garment: int, hue: int, pattern: int, rng: random.Random) -> tuple[Image.Image, list[int]]:
    """Draw two figures side by side.

    Args:
        garment: index into `GARMENTS` of what the first figure wears.
        hue: index into `HUES`.
        pattern: index into `PATTERNS`.
        rng: decides everything that varies, and which figure stands on the left.

    Returns:
        the picture, and the first figure's box: left, top, right, bottom in pixels.
    """
    wide = rng.randint(300, 520)
    shade = rng.randint(150, 250)
    image = Image.new("RGB", (wide, _HIGH), tuple(min(255, shade + rng.randint(-12, 12)) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 340, wide, _HIGH], fill=(shade - 40, shade - 46, shade - 52))
    own = (garment, hue, pattern)
    other = (rng.randrange(len(GARMENTS)), rng.randrange(len(HUES)), rng.randrange(len(PATTERNS)))
    figures = [(own, True), (other, False)]
    rng.shuffle(figures)
    box = [0, 0, 0, 0]
    for place, ((what, color, how), asked) in enumerate(figures):
        middle = round(wide * (0.27 + 0.46 * place)) + rng.randint(-12, 12)
        size, foot = rng.uniform(0.82, 1.0), 368 + rng.randint(-8, 8)
        _figure(image, middle, foot, size, GARMENTS[what], _color(color, rng), PATTERNS[how], rng)
        if asked:
            half, margin = round(68 * size), rng.randint(2, 10)
            box = [middle - half - margin, foot - round(330 * size) - margin, middle + half + margin, foot + margin]
    scale = rng.uniform(0.32, 0.4)
    small = image.resize((round(wide * scale), round(_HIGH * scale)), Image.Resampling.LANCZOS)
    return small, [round(number * scale) for number in box]


def _color(hue: int, rng: random.Random) -> Color:
    share = (HUES[hue] + rng.uniform(-0.018, 0.018)) % 1
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(share, rng.uniform(0.6, 0.85), rng.uniform(0.6, 0.85)))


def _figure(
    image: Image.Image, x: int, foot: int, size: float, garment: list, color: Color, pattern: str, rng: random.Random
) -> None:
    draw = ImageDraw.Draw(image)
    skin = rng.choice(_SKIN)

    def at(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x + across * size, foot - up * size) for across, up in points]

    for side in (-1, 1):
        draw.polygon(at([(side * 8, 160), (side * 34, 160), (side * 30, 0), (side * 12, 0)]), fill=skin)
        draw.polygon(at([(side * 36, 258), (side * 52, 250), (side * 62, 150), (side * 50, 148)]), fill=skin)
    draw.rectangle([*at([(-12, 282)])[0], *at([(12, 250)])[0]], fill=skin)
    draw.ellipse([*at([(-26, 330)])[0], *at([(26, 272)])[0]], fill=skin)
    draw.pieslice([*at([(-28, 332)])[0], *at([(28, 276)])[0]], 180, 360, fill=(rng.randint(20, 90), 30, 20))
    draw.polygon(at(_TRUNK), fill=(238, 236, 230))
    mask = Image.new("L", image.size)
    for shape in garment:
        ImageDraw.Draw(mask).polygon(at(shape), fill=255)
    cloth = Image.new("RGB", image.size, color)
    marks = ImageDraw.Draw(cloth)
    light = tuple(min(255, channel + 105) for channel in color)
    step = 22
    if pattern == "stripes":
        for top in range(0, _HIGH, step):
            marks.rectangle([0, top, image.width, top + 8], fill=light)
    elif pattern == "dots":
        for row, top in enumerate(range(0, _HIGH, step)):
            for left in range(step // 2 * (row % 2), image.width, step):
                marks.ellipse([left, top, left + 10, top + 10], fill=light)
    image.paste(cloth, mask=mask)


def _both(points: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    return [[(side * across, up) for across, up in points] for side in (-1, 1)]


_TRUNK = [(-38, 262), (38, 262), (36, 150), (-36, 150)]
_SHORT = _both([(34, 262), (60, 246), (64, 205), (42, 205)])
_LONG = _both([(34, 262), (58, 250), (68, 142), (46, 140)])
GARMENTS = (
    [_TRUNK, *_SHORT],  # a T-shirt
    [_TRUNK, *_LONG],  # a sweater
    [[(-30, 262), (30, 262), (26, 195), (64, 70), (-64, 70), (-26, 195)]],  # a dress
    [[(-28, 172), (28, 172), (58, 88), (-58, 88)]],  # a skirt
    _both([(0, 172), (36, 172), (38, 8), (10, 8)]),  # trousers
    [[(-42, 264), (42, 264), (56, 40), (-56, 40)], *_LONG],  # a coat
    [_TRUNK, *_both([(0, 172), (36, 172), (42, 95), (6, 95)])],  # a sleeveless top and shorts
)
