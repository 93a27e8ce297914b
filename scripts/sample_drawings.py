"""Drawings for the embedded tourism sample: one function a scene, all on a canvas of 4× the final size.

Sky, light, weather, colors, position, size, tilt and noise vary from row to row and say nothing of the category.
"""

from __future__ import annotations

import colorsys
import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Color = tuple[int, int, int]
_CANVAS = 448


def draw_scene(scene: str, rng: random.Random, pixels: int) -> Image.Image:
    """Draw a scene.

    Args:
        scene: a key of `SCENES`.
        rng: decides everything that varies.
        pixels: side of the square picture.
    """
    image = Image.new("RGB", (_CANVAS, _CANVAS))
    if scene != "table":
        _sky(image, rng)
    SCENES[scene](ImageDraw.Draw(image), rng)
    angle = rng.uniform(-4, 4)
    image = image.rotate(angle, Image.Resampling.BICUBIC)
    cut = int(_CANVAS * (0.05 + 0.04 * rng.random()))  # hides the corners that the rotation left empty
    left, top = cut + rng.randint(-8, 8), cut + rng.randint(-8, 8)
    image = image.crop((left, top, left + _CANVAS - 2 * cut, top + _CANVAS - 2 * cut))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.resize((pixels, pixels), Image.Resampling.LANCZOS)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    values = np.asarray(image, dtype=np.float32)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 6), (pixels, pixels, 1))
    values = (values + noise - 127) * rng.uniform(0.85, 1.1) + 127 + rng.uniform(-14, 14)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _hsv(rng: random.Random, hue: float, saturation: float, value: float, spread: float = 0.03) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(
        (hue + rng.uniform(-spread, spread)) % 1,
        min(1, max(0, saturation + rng.uniform(-0.1, 0.1))),
        min(1, max(0, value + rng.uniform(-0.08, 0.08))),
    )
    return round(red * 255), round(green * 255), round(blue * 255)


def _shade(color: Color, factor: float) -> Color:
    return tuple(min(255, max(0, round(channel * factor))) for channel in color)


def _gradient(image: Image.Image, top: Color, bottom: Color, start: int, end: int) -> None:
    draw = ImageDraw.Draw(image)
    for y in range(start, end):
        share = (y - start) / max(1, end - start)
        draw.line(
            [(0, y), (_CANVAS, y)], fill=tuple(round(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
        )


def _sky(image: Image.Image, rng: random.Random) -> None:
    top, bottom = rng.choice(
        [
            ((96, 160, 224), (208, 230, 246)),
            ((60, 120, 200), (170, 210, 240)),
            ((236, 140, 96), (252, 214, 150)),
            ((150, 120, 180), (250, 190, 170)),
            ((160, 170, 180), (214, 218, 220)),
            ((30, 44, 84), (92, 104, 150)),
        ]
    )
    _gradient(image, top, bottom, 0, _CANVAS)
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.6:
        x, y, r = rng.randint(60, 390), rng.randint(40, 110), rng.randint(18, 34)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=_hsv(rng, 0.13, 0.35, 0.98))
    for _ in range(rng.randint(0, 3)):
        x, y, w = rng.randint(20, 400), rng.randint(30, 130), rng.randint(30, 60)
        for shift in (-0.6, 0, 0.6):
            draw.ellipse(
                [x + shift * w - w / 2, y - w / 5, x + shift * w + w / 2, y + w / 4], fill=_shade(bottom, 1.12)
            )


def _ground(draw: ImageDraw.ImageDraw, rng: random.Random, y: int, color: Color) -> None:
    draw.rectangle([0, y, _CANVAS, _CANVAS], fill=color)
    for _ in range(40):
        x, h = rng.randint(0, _CANVAS), rng.randint(y, _CANVAS)
        draw.line([(x, h), (x + rng.randint(6, 30), h)], fill=_shade(color, rng.uniform(0.88, 1.1)), width=3)


def _tree(
    draw: ImageDraw.ImageDraw, rng: random.Random, x: float, base: float, size: float, snow: bool = False
) -> None:
    trunk = _hsv(rng, 0.07, 0.5, 0.35)
    leaf = _hsv(rng, rng.choice([0.3, 0.33, 0.27, 0.09]) if not snow else 0.4, 0.5, 0.42)
    draw.rectangle([x - size * 0.06, base - size * 0.3, x + size * 0.06, base], fill=trunk)
    if snow or rng.random() < 0.5:
        for level in range(3):
            width, top = size * (0.42 - 0.1 * level), base - size * (0.55 + 0.25 * level)
            draw.polygon(
                [
                    (x - width, base - size * (0.2 + 0.25 * level)),
                    (x, top),
                    (x + width, base - size * (0.2 + 0.25 * level)),
                ],
                fill=leaf,
            )
        return
    for dx, dy in ((-0.2, 0.45), (0.2, 0.45), (0, 0.7)):
        r = size * 0.28
        draw.ellipse([x + dx * size - r, base - dy * size - r, x + dx * size + r, base - dy * size + r], fill=leaf)


def _trees(draw: ImageDraw.ImageDraw, rng: random.Random, base: int, most: int = 3) -> None:
    for _ in range(rng.randint(0, most)):
        _tree(
            draw,
            rng,
            rng.choice([rng.randint(10, 90), rng.randint(360, 440)]),
            base + rng.randint(0, 24),
            rng.randint(70, 130),
        )


def _water(draw: ImageDraw.ImageDraw, rng: random.Random, y: int, bottom: int = _CANVAS) -> Color:
    color = _hsv(rng, rng.choice([0.52, 0.56, 0.6]), 0.55, 0.7)
    draw.rectangle([0, y, _CANVAS, bottom], fill=color)
    for _ in range(26):
        x, h, w = rng.randint(-20, _CANVAS), rng.randint(y + 4, bottom), rng.randint(20, 70)
        draw.arc([x, h - 6, x + w, h + 6], 180, 360, fill=_shade(color, rng.uniform(1.1, 1.35)), width=3)
    return color


def _beach(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    horizon, shore = rng.randint(150, 200), rng.randint(250, 300)
    _water(draw, rng, horizon, shore + 20)
    sand = _hsv(rng, 0.11, 0.35, 0.9)
    points = [(x, shore + 16 * math.sin(x / 60 + rng.random() * 0.3)) for x in range(0, _CANVAS + 20, 20)]
    draw.polygon([*points, (_CANVAS, _CANVAS), (0, _CANVAS)], fill=sand)
    draw.line(points, fill=(245, 250, 250), width=9)
    for _ in range(rng.randint(1, 4)):
        x, y, r = rng.randint(50, 400), rng.randint(shore + 40, 400), rng.randint(30, 58)
        draw.line([(x, y), (x + 4, y + r * 1.3)], fill=(110, 84, 60), width=5)
        one, two = _hsv(rng, rng.random(), 0.75, 0.9), (250, 246, 240)
        for part in range(6):
            draw.pieslice(
                [x - r, y - r * 0.8, x + r, y + r * 0.8],
                180 + 30 * part,
                210 + 30 * part,
                fill=one if part % 2 else two,
            )


def _mountain(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    base, hue = rng.randint(310, 360), rng.choice([0.3, 0.35, 0.58, 0.08])
    for layer in range(3):
        color = _hsv(rng, hue, 0.3 + 0.12 * layer, 0.66 - 0.13 * layer)
        for _ in range(rng.randint(2, 3)):
            x, w, peak = rng.randint(0, _CANVAS), rng.randint(120, 200), base - rng.randint(110, 250) + layer * 70
            draw.polygon(
                [
                    (x - w, base + 20),
                    (x - w * 0.3, (base + peak) / 2.1),
                    (x, peak),
                    (x + w * 0.4, (base + peak) / 1.9),
                    (x + w, base + 20),
                ],
                fill=color,
            )
            if layer < 2 and rng.random() < 0.6:
                draw.polygon(
                    [(x, peak), (x - w * 0.14, peak + 44), (x, peak + 30), (x + w * 0.16, peak + 46)],
                    fill=(238, 242, 246),
                )
    _ground(draw, rng, base, _hsv(rng, 0.29, 0.5, 0.45))
    for _ in range(rng.randint(4, 9)):
        _tree(draw, rng, rng.randint(0, _CANVAS), base + rng.randint(10, 70), rng.randint(40, 80))


def _tiled_roof(draw: ImageDraw.ImageDraw, x: float, y: float, w: float, h: float, color: Color, trim: Color) -> None:
    """A Korean roof with upturned eaves, `w` from the middle to the tip."""
    top = [(x - w * 0.6, y - h), (x + w * 0.6, y - h)]
    right = [(x + w * (0.6 + 0.4 * t), y - h + h * (1.25 * t - 0.45 * t * t * t)) for t in np.linspace(0, 1, 9)]
    left = [(2 * x - px, py) for px, py in reversed(right)]
    draw.polygon(
        [*top, *right, (x + w * 0.8, y - h * 0.05), (x, y + h * 0.06), (x - w * 0.8, y - h * 0.05), *left], fill=color
    )
    for step in np.linspace(-0.85, 0.85, 15):
        draw.line(
            [(x + step * w * 0.62, y - h), (x + step * w * 0.95, y - h * 0.08)], fill=_shade(color, 0.78), width=3
        )
    draw.line([(x - w * 0.62, y - h), (x + w * 0.62, y - h)], fill=_shade(color, 0.55), width=9)
    draw.line([(x - w * 0.8, y), (x, y + h * 0.08), (x + w * 0.8, y)], fill=trim, width=7)


def _temple(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    base = rng.randint(330, 370)
    _ground(draw, rng, base - 10, _hsv(rng, 0.1, 0.25, 0.66))
    _trees(draw, rng, base)
    x, w = rng.randint(190, 260), rng.randint(120, 150)
    roof, red, green = _hsv(rng, 0.58, 0.2, 0.34), _hsv(rng, 0.01, 0.7, 0.6), _hsv(rng, 0.43, 0.6, 0.5)
    draw.rectangle([x - w * 0.95, base - 26, x + w * 0.95, base], fill=(176, 170, 160))
    levels = rng.choice([2, 2, 3])
    y, width = base - 26, w
    for _ in range(levels):
        height = 64 if levels == 2 else 48
        draw.rectangle([x - width * 0.72, y - height, x + width * 0.72, y], fill=_hsv(rng, 0.1, 0.3, 0.75))
        for step in (-0.68, -0.34, 0, 0.34, 0.68):
            draw.rectangle([x + step * width - 7, y - height, x + step * width + 7, y], fill=red)
        draw.rectangle([x - width * 0.74, y - height, x + width * 0.74, y - height + 12], fill=green)
        _tiled_roof(draw, x, y - height + 4, width * 1.15, height * 0.72, roof, green)
        y, width = y - height - 30, width * 0.72


def _fortress(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    base, top = rng.randint(350, 390), rng.randint(190, 230)
    stone = _hsv(rng, 0.1, 0.12, 0.6)
    _ground(draw, rng, base, _hsv(rng, 0.27, 0.45, 0.5))
    draw.rectangle([0, top, _CANVAS, base], fill=stone)
    for row, y in enumerate(range(top, base, 26)):
        for x in range(-40 + 22 * (row % 2), _CANVAS, 44):
            draw.rectangle(
                [x, y, x + 42, y + 24], outline=_shade(stone, 0.72), fill=_shade(stone, rng.uniform(0.9, 1.1)), width=3
            )
    for x in range(0, _CANVAS, 56):
        draw.rectangle([x, top - 34, x + 34, top], fill=_shade(stone, 0.95), outline=_shade(stone, 0.7), width=3)
    x, w = rng.randint(170, 280), rng.randint(42, 60)
    dark = (52, 44, 40)
    draw.pieslice([x - w, base - 150, x + w, base - 150 + 2 * w], 180, 360, fill=dark)
    draw.rectangle([x - w, base - 150 + w, x + w, base], fill=dark)
    for _ in range(rng.randint(1, 3)):
        fx, color = rng.randint(40, 400), _hsv(rng, rng.choice([0.0, 0.12, 0.6]), 0.75, 0.85)
        draw.line([(fx, top - 34), (fx, top - 130)], fill=(80, 60, 44), width=6)
        draw.polygon([(fx, top - 130), (fx + 52, top - 114), (fx, top - 92)], fill=color)


def _gallery(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    base = rng.randint(340, 370)
    _ground(draw, rng, base, _hsv(rng, 0.28, 0.35, 0.6))
    _trees(draw, rng, base)
    x, w, h, wall = rng.randint(200, 250), rng.randint(140, 165), rng.randint(130, 170), _hsv(rng, 0.1, 0.1, 0.86)
    draw.rectangle([x - w, base - h, x + w, base], fill=_shade(wall, 0.8))
    for step in range(rng.choice([5, 6, 7])):
        px = x - w + 14 + step * (2 * w - 40) / 5
        if px < x + w - 20:
            draw.rectangle([px, base - h, px + 22, base], fill=wall)
    draw.rectangle([x - w - 10, base - h - 20, x + w + 10, base - h], fill=wall)
    if rng.random() < 0.7:
        draw.polygon(
            [(x - w - 10, base - h - 20), (x, base - h - 84), (x + w + 10, base - h - 20)], fill=_shade(wall, 0.92)
        )
    for step in range(3):
        draw.rectangle(
            [x - w - 14 - 10 * step, base + 10 * step, x + w + 14 + 10 * step, base + 10 + 10 * step],
            fill=_shade(wall, 0.95 - 0.06 * step),
        )
    for side in (-1, 1):
        if rng.random() < 0.6:
            bx = x + side * w * rng.uniform(0.4, 0.7)
            draw.rectangle([bx - 18, base - h + 14, bx + 18, base - 40], fill=_hsv(rng, rng.random(), 0.65, 0.75))


def _yacht(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    horizon = rng.randint(230, 280)
    _water(draw, rng, horizon)
    for _ in range(rng.randint(1, 3)):
        x, y, s = rng.randint(110, 340), rng.randint(horizon + 40, 380), rng.uniform(0.7, 1.25)
        sail, hull = (
            _hsv(rng, rng.random(), rng.choice([0.05, 0.1, 0.6]), 0.95),
            _hsv(rng, rng.random(), 0.5, rng.choice([0.35, 0.9])),
        )
        draw.line([(x, y), (x, y - 190 * s)], fill=(90, 74, 60), width=6)
        draw.polygon([(x + 6, y - 186 * s), (x + 6, y - 20 * s), (x + 92 * s, y - 20 * s)], fill=sail)
        draw.polygon([(x - 6, y - 160 * s), (x - 6, y - 24 * s), (x - 62 * s, y - 24 * s)], fill=_shade(sail, 0.9))
        draw.polygon(
            [(x - 84 * s, y - 8), (x + 104 * s, y - 8), (x + 70 * s, y + 34 * s), (x - 62 * s, y + 34 * s)], fill=hull
        )


def _kayak(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    bank = rng.randint(170, 220)
    draw.rectangle([0, bank - 30, _CANVAS, bank], fill=_hsv(rng, 0.3, 0.45, 0.45))
    for _ in range(rng.randint(2, 6)):
        _tree(draw, rng, rng.randint(0, _CANVAS), bank - 6, rng.randint(50, 90))
    _water(draw, rng, bank)
    for _ in range(rng.randint(1, 3)):
        x, y, s = rng.randint(120, 320), rng.randint(bank + 60, 400), rng.uniform(0.75, 1.15)
        hull = _hsv(rng, rng.choice([0.0, 0.05, 0.13, 0.35, 0.9]), 0.85, 0.9)
        draw.polygon(
            [
                (x - 150 * s, y - 12 * s),
                (x - 60 * s, y + 22 * s),
                (x + 60 * s, y + 22 * s),
                (x + 150 * s, y - 12 * s),
                (x, y + 2 * s),
            ],
            fill=hull,
        )
        for seat in rng.choice([[0], [-45, 45]]):
            px = x + seat * s
            draw.ellipse([px - 20 * s, y - 46 * s, px + 20 * s, y + 8 * s], fill=_hsv(rng, rng.random(), 0.7, 0.8))
            draw.ellipse([px - 14 * s, y - 74 * s, px + 14 * s, y - 46 * s], fill=(232, 190, 160))
            lean = rng.choice([-1, 1])
            ends = [(px - 74 * s, y - 24 * s - lean * 40 * s), (px + 74 * s, y - 24 * s + lean * 40 * s)]
            draw.line(ends, fill=(60, 50, 44), width=6)
            for ex, ey in ends:
                draw.ellipse([ex - 15 * s, ey - 9 * s, ex + 15 * s, ey + 9 * s], fill=(250, 214, 60))


def _camp(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    base = rng.randint(250, 290)
    for _ in range(rng.randint(4, 8)):
        _tree(draw, rng, rng.randint(0, _CANVAS), base + rng.randint(0, 16), rng.randint(90, 170))
    _ground(draw, rng, base, _hsv(rng, 0.26, 0.45, 0.5))
    for _ in range(rng.randint(1, 3)):
        x, y, s, color = (
            rng.randint(90, 350),
            rng.randint(base + 70, 390),
            rng.uniform(0.8, 1.3),
            _hsv(rng, rng.random(), 0.7, 0.85),
        )
        draw.polygon([(x - 84 * s, y), (x - 10 * s, y - 104 * s), (x + 64 * s, y)], fill=color)
        draw.polygon(
            [(x - 10 * s, y - 104 * s), (x + 64 * s, y), (x + 104 * s, y - 22 * s), (x + 40 * s, y - 112 * s)],
            fill=_shade(color, 0.72),
        )
        draw.polygon([(x - 34 * s, y), (x - 10 * s, y - 66 * s), (x + 16 * s, y)], fill=(50, 44, 48))
    if rng.random() < 0.7:
        x, y = rng.randint(80, 370), rng.randint(360, 400)
        draw.polygon([(x - 18, y), (x, y - 56), (x + 18, y)], fill=(248, 150, 40))
        draw.polygon([(x - 9, y), (x, y - 30), (x + 9, y)], fill=(252, 224, 90))
        draw.line([(x - 30, y + 8), (x + 30, y - 4)], fill=(92, 62, 40), width=10)


def _ski(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    left, right = rng.randint(120, 180), rng.randint(290, 350)
    snow = _hsv(rng, 0.58, 0.04, 0.97, 0.01)
    draw.polygon([(0, left), (_CANVAS, right), (_CANVAS, _CANVAS), (0, _CANVAS)], fill=snow)
    for _ in range(12):
        x = rng.randint(0, _CANVAS)
        y = left + (right - left) * x / _CANVAS + rng.randint(20, 180)
        draw.line([(x, y), (x + 90, y + 90 * (right - left) / _CANVAS)], fill=_shade(snow, 0.9), width=4)
    for _ in range(rng.randint(3, 7)):
        x = rng.randint(0, _CANVAS)
        _tree(draw, rng, x, left + (right - left) * x / _CANVAS + 14, rng.randint(50, 100), snow=True)
    for _ in range(rng.randint(1, 3)):
        x = rng.randint(90, 350)
        y, s, color = (
            left + (right - left) * x / _CANVAS + rng.randint(70, 150),
            rng.uniform(0.9, 1.4),
            _hsv(rng, rng.random(), 0.85, 0.85),
        )
        draw.line([(x - 62 * s, y - 20 * s), (x + 62 * s, y + 22 * s)], fill=(40, 44, 56), width=8)
        draw.line([(x, y), (x + 14 * s, y - 34 * s), (x, y - 68 * s)], fill=color, width=round(22 * s))
        draw.ellipse([x - 16 * s, y - 108 * s, x + 16 * s, y - 74 * s], fill=_shade(color, 0.7))
        draw.line([(x + 4 * s, y - 56 * s), (x + 46 * s, y - 6 * s)], fill=(60, 60, 70), width=5)


def _pension(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    base = rng.randint(330, 370)
    _ground(draw, rng, base, _hsv(rng, 0.27, 0.55, 0.6))
    _trees(draw, rng, base, 4)
    x, w, h = rng.randint(190, 260), rng.randint(105, 135), rng.randint(100, 130)
    wall, roof = (
        _hsv(rng, rng.choice([0.1, 0.55, 0.13]), 0.15, 0.93),
        _hsv(rng, rng.choice([0.02, 0.06, 0.6, 0.95]), 0.65, 0.65),
    )
    draw.rectangle([x - w, base - h, x + w, base], fill=wall)
    draw.polygon([(x - w - 22, base - h), (x, base - h - rng.randint(84, 118)), (x + w + 22, base - h)], fill=roof)
    draw.rectangle([x + w * 0.45, base - h - 100, x + w * 0.65, base - h - 40], fill=_shade(roof, 0.7))
    glass = _hsv(rng, 0.55, 0.4, 0.8)
    for px in (-0.62, 0.3):
        draw.rectangle(
            [x + px * w, base - h + 22, x + px * w + 46, base - h + 66], fill=glass, outline=(250, 250, 250), width=6
        )
    draw.rectangle([x - 22, base - 66, x + 22, base], fill=_hsv(rng, 0.07, 0.6, 0.45))
    draw.ellipse([x - 18, base - h - 52, x + 18, base - h - 16], fill=glass, outline=(250, 250, 250), width=5)
    for px in range(round(x - w - 60), round(x + w + 70), 20):
        draw.rectangle([px, base + 8, px + 9, base + 40], fill=(250, 248, 240))


def _hanok(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    base = rng.randint(330, 365)
    _ground(draw, rng, base, _hsv(rng, 0.1, 0.25, 0.74))
    _trees(draw, rng, base)
    x, w, h = rng.randint(205, 245), rng.randint(150, 175), rng.randint(76, 96)
    wood, paper = _hsv(rng, 0.07, 0.55, 0.42), _hsv(rng, 0.12, 0.12, 0.95)
    draw.rectangle([x - w, base - 18, x + w, base + 6], fill=(160, 156, 150))
    draw.rectangle([x - w * 0.9, base - 18 - h, x + w * 0.9, base - 18], fill=paper)
    for part in range(6):
        left = x - w * 0.9 + part * w * 0.3
        draw.rectangle([left, base - 18 - h, left + 12, base - 18], fill=wood)
        if part % 2 and rng.random() < 0.85:
            for line in range(1, 4):
                draw.line(
                    [(left + 14 + line * w * 0.07, base - 14 - h), (left + 14 + line * w * 0.07, base - 24)],
                    fill=wood,
                    width=3,
                )
                draw.line(
                    [(left + 14, base - 18 - h + line * h / 4), (left + w * 0.3, base - 18 - h + line * h / 4)],
                    fill=wood,
                    width=3,
                )
    draw.rectangle([x + w * 0.9 - 12, base - 18 - h, x + w * 0.9, base - 18], fill=wood)
    draw.rectangle([x - w * 0.95, base - 26, x + w * 0.95, base - 14], fill=_shade(wood, 1.2))
    gray = _hsv(rng, 0.6, 0.08, 0.36)
    _tiled_roof(draw, x, base - 14 - h, w * 1.2, rng.randint(74, 92), gray, _shade(wood, 0.8))
    for _ in range(rng.randint(1, 4)):
        px, r = rng.choice([rng.randint(20, 90), rng.randint(350, 420)]), rng.randint(16, 26)
        draw.ellipse([px - r, base + 30 - r * 1.4, px + r, base + 30 + r * 0.6], fill=_hsv(rng, 0.05, 0.6, 0.35))


def _table(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    wood = _hsv(rng, 0.08, rng.choice([0.25, 0.5]), rng.choice([0.45, 0.65, 0.85]))
    draw.rectangle([0, 0, _CANVAS, _CANVAS], fill=wood)
    for y in range(0, _CANVAS, rng.randint(34, 60)):
        draw.line([(0, y), (_CANVAS, y + rng.randint(-6, 6))], fill=_shade(wood, 0.85), width=4)
    for gx, gy in rng.sample([(120, 120), (320, 120), (120, 310), (320, 310), (220, 215)], rng.randint(3, 5)):
        x, y, r = gx + rng.randint(-22, 22), gy + rng.randint(-22, 22), rng.randint(52, 86)
        bowl = _hsv(rng, rng.choice([0.1, 0.55, 0.6]), rng.choice([0.05, 0.25]), rng.choice([0.35, 0.92]))
        draw.ellipse([x - r, y - r + 8, x + r, y + r + 8], fill=_shade(wood, 0.6))
        draw.ellipse([x - r, y - r, x + r, y + r], fill=bowl)
        r *= 0.78
        food = _hsv(rng, rng.choice([0.02, 0.06, 0.1, 0.3, 0.13]), 0.65, 0.75)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=food)
        for _ in range(rng.randint(4, 9)):
            a, q = rng.uniform(0, 6.28), rng.uniform(0, r * 0.7)
            px, py, s = x + q * math.cos(a), y + q * math.sin(a), rng.randint(6, 15)
            draw.ellipse([px - s, py - s, px + s, py + s], fill=_hsv(rng, rng.random() * 0.35, 0.6, 0.8))
    x, color = rng.randint(385, 415), rng.choice([(190, 190, 196), (110, 70, 44)])
    for shift in (0, 14):
        draw.line([(x + shift, 90), (x + shift - 8, 360)], fill=color, width=7)


def _market(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    base = rng.randint(350, 380)
    _ground(draw, rng, base - 40, _hsv(rng, 0.1, 0.2, 0.6))
    x = -20
    while x < _CANVAS:
        w, top, one = rng.randint(130, 180), rng.randint(130, 190), _hsv(rng, rng.random(), 0.75, 0.85)
        for pole in (x + 8, x + w - 12):
            draw.rectangle([pole, top + 40, pole + 6, base], fill=(110, 100, 96))
        stripes = 6
        for part in range(stripes):
            left = x + part * w / stripes
            draw.polygon(
                [(left + 10, top), (left + w / stripes + 8, top), (left + w / stripes, top + 66), (left, top + 66)],
                fill=one if part % 2 else (250, 248, 244),
            )
            draw.pieslice(
                [left, top + 54, left + w / stripes, top + 82], 0, 180, fill=one if part % 2 else (250, 248, 244)
            )
        draw.rectangle([x + 6, base - 66, x + w - 8, base], fill=_hsv(rng, 0.08, 0.5, 0.55))
        for fruit in range(rng.randint(2, 4)):
            color = _hsv(rng, rng.choice([0.0, 0.07, 0.13, 0.3, 0.8]), 0.8, 0.85)
            for bump in range(5):
                fx, fy = x + 16 + fruit * 36 + (bump % 3) * 12, base - 72 - (bump // 3) * 11
                if fx < x + w - 20:
                    draw.ellipse([fx - 8, fy - 8, fx + 8, fy + 8], fill=color)
        x += w + rng.randint(4, 24)


def _store(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    base = rng.randint(370, 400)
    _ground(draw, rng, base, _hsv(rng, 0.6, 0.05, 0.5))
    for _ in range(rng.randint(1, 3)):
        x, w, h = rng.randint(0, 400), rng.randint(40, 70), rng.randint(80, 170)
        draw.rectangle([x, base - h, x + w, base], fill=_hsv(rng, 0.6, 0.1, 0.55))
    x, w, h = rng.randint(190, 260), rng.randint(95, 130), rng.randint(230, 290)
    frame, glass = (
        _hsv(rng, rng.choice([0.1, 0.58]), 0.12, 0.85),
        _hsv(rng, rng.choice([0.5, 0.55, 0.13]), 0.4, rng.choice([0.55, 0.8])),
    )
    draw.rectangle([x - w, base - h, x + w, base], fill=frame)
    columns, rows = rng.randint(4, 6), rng.randint(6, 8)
    for row in range(rows):
        for column in range(columns):
            left, top = x - w + 10 + column * (2 * w - 20) / columns, base - h + 50 + row * (h - 120) / rows
            draw.rectangle(
                [left + 3, top + 3, left + (2 * w - 20) / columns - 3, top + (h - 120) / rows - 3],
                fill=_shade(glass, rng.uniform(0.85, 1.2)),
            )
    sign = _hsv(rng, rng.random(), 0.8, 0.8)
    draw.rectangle([x - w * 0.7, base - h + 10, x + w * 0.7, base - h + 42], fill=sign)
    for part in range(5):
        draw.rectangle(
            [x - w * 0.55 + part * w * 0.23, base - h + 18, x - w * 0.55 + part * w * 0.23 + 12, base - h + 34],
            fill=(252, 250, 246),
        )
    draw.rectangle([x - w, base - 62, x + w, base], fill=_shade(glass, 1.25))
    draw.rectangle([x - w - 12, base - 70, x + w + 12, base - 58], fill=sign)
    for step in range(-3, 4):
        draw.line([(x + step * w / 3.5, base - 58), (x + step * w / 3.5, base)], fill=frame, width=5)


SCENES = {
    "beach": _beach,
    "mountain": _mountain,
    "temple": _temple,
    "fortress": _fortress,
    "gallery": _gallery,
    "yacht": _yacht,
    "kayak": _kayak,
    "camp": _camp,
    "ski": _ski,
    "pension": _pension,
    "hanok": _hanok,
    "table": _table,
    "market": _market,
    "store": _store,
}
