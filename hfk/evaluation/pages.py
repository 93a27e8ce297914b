"""Pages for people: `render` fills a jinja2 template with facts and gives one HTML document that stands alone.

`templates/base.html` owns the head, `style.css` the look, `base.js` what a reader may do, `macros.html` tables and
figures, `ko.json` the Korean of what passes the filter `t`; a tool's template stands beside the tool and extends them.
Whatever a template prints is escaped, and a fact that is missing is an error, so that labels and texts from outside can
neither run nor vanish. The palette is that of the pictures in `plots.py`.
"""

from __future__ import annotations

import base64
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..models.image_preparation import ImageError, open_image

TEMPLATES = Path(__file__).with_name("templates")
PALETTE = {
    "ink": "#1f2933", "muted": "#5f6b77", "rule": "#dfe4e9", "pale": "#eef2f6",
    "blue": "#0072b2", "vermillion": "#d55e00", "green": "#009e73", "orange": "#e69f00",
    "pink": "#cc79a7", "sky": "#56b4e9", "gray": "#7f7f7f",
}  # fmt: skip
"""Okabe and Ito's colors, which color-blind readers tell apart (https://jfly.uni-koeln.de/color/), and grays."""


def render(template: str | Path, block: str | None = None, **facts: Any) -> str:
    """Fill a template: the name of a file in `templates/`, or the path of a tool's own.

    With `block`, that block of it alone, as a part of somebody else's page. A template that shows a fact which is not
    given is a `jinja2.UndefinedError`.
    """
    path = TEMPLATES / template  # an absolute path stays as it is
    found = _environment(path.parent).get_template(path.name)
    return found.render(facts) if block is None else "".join(found.blocks[block](found.new_context(facts)))


def thumbnail(source: Any, pixels: int) -> bytes | None:
    """Make a JPEG of a picture, at most so many pixels a side; None without one, or if it can't be read."""
    if source is None:
        return None
    try:
        picture = open_image(source)
    except ImageError:
        return None
    picture.thumbnail((pixels, pixels))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


@cache
def _environment(folder: Path) -> Environment:
    made = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.globals["palette"] = PALETTE
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    made.filters |= {
        "number": "{:,}".format,
        "percent": lambda share, digits=1: f"{share:.{digits}%}",
        "fixed": lambda value, digits=3: f"{value:.{digits}f}",
        "cut": lambda text, most=240: text if len(text) <= most else text[:most] + "…",
        "picture": _data_url,
        "t": _in_both_languages,
    }
    return made


def _in_both_languages(english: str) -> str:
    """What a page's reader may switch between: the words as they are, and in Korean where `ko.json` has them."""
    korean = _korean().get(english)
    if korean is None:
        return english
    return Markup('<span class="t" lang="en">{}</span><span class="t" lang="ko">{}</span>').format(english, korean)


@cache
def _korean() -> dict[str, str]:
    return json.loads((TEMPLATES / "ko.json").read_text(encoding="utf-8"))


def _data_url(picture: bytes) -> str:
    """A PNG or JPEG as an address that needs no network."""
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
