"""An explanation as a page and as a picture: highlighted words, and a heat map over the photo.

Blue speaks for the label and orange against it, and nothing is said by color alone: words carry their number and a
solid or a dashed line, cells of the photo a plus or a minus as large as their weight. The words may be part of somebody
else's page (`render_words`); the whole page is page.html.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from ...evaluation.pages import PALETTE, render
from ...files import write_atomic
from .attribution import Explanation

TEMPLATE = Path(__file__).with_name("page.html")
FOR, AGAINST = (ImageColor.getrgb(PALETTE[name]) for name in ("blue", "vermillion"))
NOTABLE = 0.15
"""Words and cells from this share of the strongest one on are marked beyond color."""
LONGEST_SIDE = 640
"""Pixels of a heat map's longer side."""
TOP_WORDS = 10


def render_words(explanation: Explanation) -> str:
    """The text as HTML, each word marked by what it adds; empty without a text."""
    return render(TEMPLATE, "words", marks=list(_marks(explanation))) if explanation.words else ""


def _marks(explanation: Explanation) -> Iterator[tuple[str, str, float, str]]:
    """Each word, its CSS classes, its share of the strongest one, and its score where it is marked with it."""
    most = max((abs(word.score or 0.0) for word in explanation.words), default=0.0) or 1.0
    for word in explanation.words:
        if word.score is None:
            yield word.word, "unread", 0.0, ""
            continue
        share, side = abs(word.score) / most, "for" if word.score >= 0 else "against"
        notable = share >= NOTABLE and abs(word.score) >= 0.005
        yield word.word, f"{side} notable" if notable else side, share, signed(word.score) if notable else ""


def signed(score: float) -> str:
    """A score with its sign, as page and chart show it."""
    return f"{score:+.2f}".replace("-", "−") if abs(score) >= 0.005 else "0.00"


def draw_patches(explanation: Explanation) -> Image.Image:
    """Draw the picture with what each of its cells adds: blue and a plus, orange and a minus; ValueError without."""
    if explanation.patches is None or explanation.picture is None:
        raise ValueError("there was no picture to explain.")
    scores = np.array(explanation.patches)
    shares = np.abs(scores) / (np.abs(scores).max() or 1.0)
    scale = LONGEST_SIDE / max(explanation.picture.size)
    width, height = (max(1, round(side * scale)) for side in explanation.picture.size)
    # Grayed and a little paler, so that the only colors are those that mean something.
    gray = explanation.picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC).convert("L")
    drawn = gray.point(lambda value: 48 + value * 175 // 255).convert("RGB")
    sides = np.where(scores[..., None] >= 0, FOR, AGAINST)
    colors, cover = (
        Image.fromarray(layer.round().astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
        for layer in (sides, 200 * shares)
    )
    drawn.paste(colors, mask=cover)
    draw = ImageDraw.Draw(drawn)
    across, down = width / scores.shape[1], height / scores.shape[0]
    for row, column in np.argwhere(shares >= NOTABLE):
        reach = 0.42 * shares[row, column] ** 0.5 * min(across, down)
        x, y, thick = (column + 0.5) * across, (row + 0.5) * down, max(1, round(reach / 4))
        for color, wider in (("black", 2), ("white", 0)):
            draw.line((x - reach, y, x + reach, y), color, thick + wider)
            if scores[row, column] >= 0:
                draw.line((x, y - reach, x, y + reach), color, thick + wider)
    return drawn


def png_of(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def render_page(explanation: Explanation, title: str = "Why") -> str:
    """Render a whole HTML document under a heading, such as the checkpoint's name; its picture is inside."""
    why = explanation
    figures = [(why.head, why.label if why.label is not None else f"{why.value:,.4g}")]
    figures += [("probability", f"{why.probability:.1%}")] if why.probability is not None else []
    figures += [(f"{_unit(why)}, without and with the input", f"{why.baseline:.2f} → {why.value:.2f}")]
    if why.by_text is not None and why.by_image is not None:
        figures += [("from the words", signed(why.by_text)), ("from the photo", signed(why.by_image))]
    facts: dict[str, Any] = {"why": why, "unit": _unit(why), "error": None if why.error is None else signed(why.error)}
    facts |= {"marks": list(_marks(why)), "strongest": [(word, signed(score)) for word, score in strongest_words(why)]}
    facts |= {"heat_map": None, "where": None}
    if why.patches is not None:
        facts |= {"heat_map": png_of(draw_patches(why)), "where": describe_patches(why)}
    return render(TEMPLATE, title=title, figures=figures, **facts)


_WRITERS: dict[str, Callable[[Explanation, str], bytes]] = {
    ".html": lambda why, title: render_page(why, title).encode(),
    ".png": lambda why, _: png_of(draw_patches(why)),
    ".json": lambda why, _: (json.dumps(why.to_dict(), ensure_ascii=False, indent=1) + "\n").encode(),
}


def check_target(path: Path) -> None:
    """Refuse a file name whose suffix `write_explanation` does not know."""
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"{path} is none of .html, .png or .json, which an explanation can be written as.")


def write_explanation(explanation: Explanation, path: Path, title: str = "Why") -> None:
    """Write an explanation as its suffix says: a page (.html), the heat map alone (.png), or the numbers (.json)."""
    write_atomic(path, _WRITERS[path.suffix.lower()](explanation, title))


def summarize(explanation: Explanation) -> str:
    """The explanation in a line or two for a terminal."""
    why = explanation
    answer = f"{why.label} ({why.probability:.1%})" if why.label is not None else f"{why.value:,.4g}"
    parts = [f"{word} {signed(score)}" for word, score in strongest_words(why, 5)]
    parts += [f"photo {signed(why.by_image)}"] if why.by_image is not None else []
    lines = [f"{why.head}: {answer}, {_unit(why)} {why.baseline:.2f} → {why.value:.2f}: {', '.join(parts)}"]
    if why.error is not None and abs(why.error) > 0.1 * abs(why.value - why.baseline):
        lines.append(f"the parts miss {signed(why.error)} of that: more --steps make them more exact")
    return "\n".join(lines)


def strongest_words(explanation: Explanation, count: int = TOP_WORDS) -> list[tuple[str, float]]:
    """The words that weigh most, equal ones added up, by the size of what they add."""
    sums: Counter[str] = Counter()
    for word in explanation.words:
        if word.score is not None:
            sums[word.word] += word.score
    return sorted(sums.items(), key=lambda item: -abs(item[1]))[:count]


def describe_patches(explanation: Explanation) -> str:
    """Say in words where the picture's weight lies."""
    scores = np.array(explanation.patches)
    y, x = np.unravel_index(np.abs(scores).argmax(), scores.shape)
    return (
        f"The photo adds {signed(scores.sum())} in all, its strongest cell {signed(scores[y, x])}: row {y + 1} of "
        f"{len(scores)} from the top, column {x + 1} of {scores.shape[1]} from the left."
    )


def _unit(explanation: Explanation) -> str:
    return "value" if explanation.label is None else "logit"
