"""An explanation as a page and as a picture: highlighted words, and a heat map over the photo.

Blue speaks for the label and orange against it, which most colour-blind readers can tell apart, and nothing is said by
colour alone: words carry their number, a solid line under those for and a dashed one under those against, cells of the
photo a plus or a minus as large as their weight. The page has no scripts and its picture inside; its style is that of
the reports. What comes from outside goes through `html.escape`.
"""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path

from PIL import Image, ImageDraw

from ...evaluation.pages import STYLE
from .attribution import Explanation, Word

FOR, AGAINST = (0, 114, 178), (213, 94, 0)
"""Blue and vermilion of Okabe and Ito's palette (https://jfly.uni-koeln.de/color/)."""
NOTABLE = 0.15
"""Words and cells from this share of the strongest one on are marked beyond colour."""
LONGEST_SIDE = 640
"""Pixels of a heat map's longer side."""
TOP_WORDS = 10

WORDS_STYLE = """
.why { line-height: 2.6; word-break: keep-all; }
.why .w { padding: .15em .2em; border-radius: .2em; border-bottom: .16em solid transparent; }
.why .w sub { font-size: .68em; line-height: 0; margin-left: .15em; font-variant-numeric: tabular-nums; bottom: -.35em;
  position: relative; vertical-align: baseline; }
.why .w sub::before { content: "\\2060"; }
.why .for { background: rgba(0, 114, 178, calc(var(--a) * .42)); }
.why .against { background: rgba(213, 94, 0, calc(var(--a) * .42)); }
.why .for.notable { border-bottom-color: #0072b2; }
.why .against.notable { border-bottom: .16em dashed #d55e00; }
.why .unread { text-decoration: line-through; text-decoration-thickness: 1px; opacity: .75; }
"""


def render_words(explanation: Explanation) -> str:
    """The text as HTML, each word marked by what it adds; needs `WORDS_STYLE`. Empty without a text.

    Args:
        explanation: from `explain`.
    """
    if not explanation.words:
        return ""
    most = max((abs(word.score or 0.0) for word in explanation.words), default=0.0)
    return f'<p class="why" lang="ko">{" ".join(_mark(word, most) for word in explanation.words)}</p>'


def _mark(word: Word, most: float) -> str:
    safe = html.escape(word.word)
    if word.score is None:
        return f'<span class="w unread">{safe}</span>'
    share = abs(word.score) / most if most else 0.0
    side = "for" if word.score >= 0 else "against"
    if share < NOTABLE or abs(word.score) < 0.005:
        return f'<span class="w {side}" style="--a:{share:.2f}">{safe}</span>'
    return f'<span class="w {side} notable" style="--a:{share:.2f}">{safe}<sub>{signed(word.score)}</sub></span>'


def signed(score: float) -> str:
    """A score with its sign, as page and chart show it."""
    return f"{score:+.2f}".replace("-", "−") if abs(score) >= 0.005 else "0.00"


def draw_patches(explanation: Explanation) -> Image.Image:
    """Draw the picture with what each of its cells adds: blue and a plus, orange and a minus.

    Args:
        explanation: from `explain`, with a picture.

    Returns:
        an RGB picture, its longer side `LONGEST_SIDE` pixels at most.

    Raises:
        ValueError: if the explanation is of a text alone.
    """
    if explanation.patches is None or explanation.picture is None:
        raise ValueError("there was no picture to explain.")
    picture = explanation.picture.convert("RGB")
    scale = LONGEST_SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    # Greyed and a little paler, so that the only colours are those that mean something.
    grey = picture.resize((width, height), Image.Resampling.BICUBIC).convert("L").point(lambda v: 48 + v * 175 // 255)
    base = grey.convert("RGB")
    rows, columns = len(explanation.patches), len(explanation.patches[0])
    most = max(abs(score) for row in explanation.patches for score in row) or 1.0
    colours, alpha = Image.new("RGB", (width, height)), Image.new("L", (width, height))
    paint, cover = ImageDraw.Draw(colours), ImageDraw.Draw(alpha)
    signs = []
    for y, row in enumerate(explanation.patches):
        for x, score in enumerate(row):
            box = (x * width // columns, y * height // rows, (x + 1) * width // columns, (y + 1) * height // rows)
            share = abs(score) / most
            paint.rectangle(box, FOR if score >= 0 else AGAINST)
            cover.rectangle(box, round(200 * share))
            if share >= NOTABLE:
                signs.append((box, share, score >= 0))
    base.paste(colours, mask=alpha)
    draw = ImageDraw.Draw(base)
    for (left, top, right, bottom), share, positive in signs:
        reach = 0.42 * share**0.5 * min(right - left, bottom - top)
        x, y, thick = (left + right) / 2, (top + bottom) / 2, max(1, round(reach / 4))
        for colour, wider in (((0, 0, 0), 2), ((255, 255, 255), 0)):
            draw.line((x - reach, y, x + reach, y), colour, thick + wider)
            if positive:
                draw.line((x, y - reach, x, y + reach), colour, thick + wider)
    return base


def png_of(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def render_page(explanation: Explanation, title: str = "Why") -> str:
    """Render a whole HTML document, its picture inside.

    Args:
        explanation: from `explain`.
        title: its heading, such as the checkpoint's name.
    """
    e = explanation
    answer = f"<b>{html.escape(e.label)}</b>" if e.label is not None else f"<b>{e.value:,.4g}</b>"
    figures = [f"<div>{answer}<span>{html.escape(e.head)}</span></div>"]
    if e.probability is not None:
        figures.append(f"<div><b>{e.probability:.1%}</b><span>probability</span></div>")
    figures.append(
        f"<div><b>{e.baseline:.2f} → {e.value:.2f}</b><span>{_unit(e)}, without and with the input</span></div>"
    )
    if e.by_text is not None and e.by_image is not None:
        figures.append(f"<div><b>{signed(e.by_text)}</b><span>from the words</span></div>")
        figures.append(f"<div><b>{signed(e.by_image)}</b><span>from the photo</span></div>")
    body = [f"<h1>{html.escape(title)}</h1>", f'<div class="numbers">{"".join(figures)}</div>']
    if e.words:
        body += ["<h2>Words</h2>", render_words(e), _top_words(e)]
    if e.patches is not None:
        data = base64.b64encode(png_of(draw_patches(e))).decode("ascii")
        alternative = html.escape(describe_patches(e))
        body += ["<h2>Photo</h2>", f'<figure><img alt="{alternative}" src="data:image/png;base64,{data}"></figure>']
        body.append(f'<p class="note">{alternative}</p>')
    body.append(f'<p class="note">{" ".join(_how(e))}</p>')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}{WORDS_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def check_target(path: Path) -> None:
    """Refuse a file name whose suffix `write_explanation` does not know.

    Raises:
        ValueError: naming it.
    """
    if path.suffix.lower() not in (".html", ".png", ".json"):
        raise ValueError(f"{path} is none of .html, .png or .json, which an explanation can be written as.")


def write_explanation(explanation: Explanation, path: Path, title: str = "Why") -> None:
    """Write an explanation as its suffix says: a page (.html), the heat map alone (.png), or the numbers (.json).

    Args:
        explanation: from `explain`.
        path: file to write.
        title: the page's heading.

    Raises:
        ValueError: for another suffix, or for a .png without a picture.
    """
    check_target(path)
    kind = path.suffix.lower()
    if kind == ".png":
        content = png_of(draw_patches(explanation))
    elif kind == ".html":
        content = render_page(explanation, title).encode()
    else:
        content = (json.dumps(explanation.to_dict(), ensure_ascii=False, indent=1) + "\n").encode()
    path.write_bytes(content)


def summarise(explanation: Explanation) -> str:
    """The explanation in a line or two for a terminal."""
    e = explanation
    answer = f"{e.label} ({e.probability:.1%})" if e.label is not None else f"{e.value:,.4g}"
    parts = [f"{word} {signed(score)}" for word, score in strongest_words(e, 5)]
    parts += [f"photo {signed(e.by_image)}"] if e.by_image is not None else []
    lines = [f"{e.head}: {answer}, {_unit(e)} {e.baseline:.2f} → {e.value:.2f}: {', '.join(parts)}"]
    if e.error is not None and abs(e.error) > 0.1 * abs(e.value - e.baseline):
        lines.append(f"the parts miss {signed(e.error)} of that: more --steps make them more exact")
    return "\n".join(lines)


def strongest_words(explanation: Explanation, count: int = TOP_WORDS) -> list[tuple[str, float]]:
    """The words that weigh most, equal ones added up, by the size of what they add."""
    sums: dict[str, float] = {}
    for word in explanation.words:
        if word.score is not None:
            sums[word.word] = sums.get(word.word, 0.0) + word.score
    return sorted(sums.items(), key=lambda item: -abs(item[1]))[:count]


def describe_patches(explanation: Explanation) -> str:
    """Say in words where the picture's weight lies."""
    rows, columns = len(explanation.patches), len(explanation.patches[0])
    cells = {(y, x): score for y, row in enumerate(explanation.patches) for x, score in enumerate(row)}
    (y, x), score = max(cells.items(), key=lambda item: abs(item[1]))
    total = sum(cells.values())
    return (
        f"The photo adds {signed(total)} in all, its strongest cell {signed(score)}: row {y + 1} of {rows} from the "
        f"top, column {x + 1} of {columns} from the left."
    )


def _top_words(explanation: Explanation) -> str:
    lines = "".join(
        f'<tr><td class="text">{html.escape(word)}</td><td class="number">{signed(score)}</td></tr>'
        for word, score in strongest_words(explanation)
    )
    head = '<thead><tr><th class="text">word</th><th>adds</th></tr></thead>'
    return f'<div class="scroll"><table>{head}<tbody>{lines}</tbody></table></div>'


def _unit(explanation: Explanation) -> str:
    return "value" if explanation.label is None else "logit"


def _how(explanation: Explanation) -> list[str]:
    sentences = ["Blue, a solid line or a plus: speaks for the answer. Orange, a dashed line or a minus: against it."]
    if explanation.text_method == "occlusion":
        sentences.append("Words by occlusion: how much the answer loses when an unknown word stands there instead.")
    if explanation.error is not None:
        sentences.append(
            "Integrated gradients from padding in place of words and a photo of one colour: all parts add up to the "
            f"difference of the two {_unit(explanation)}s, but for {signed(explanation.error)}."
        )
    if any(word.score is None for word in explanation.words):
        sentences.append("Struck out: behind the length that the model reads.")
    return sentences
