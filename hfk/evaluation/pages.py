"""Pages for people: `render` fills a jinja2 template with facts and gives one HTML document that stands alone.

`templates/base.html` owns the head, `style.css` the look, `macros.html` tables and figures; a tool's template stands
beside the tool and extends them. Whatever a template prints is escaped, and a fact that is missing is an error, so that
labels and texts from outside can neither run nor vanish. The palette is that of the pictures in `plots.py`.
"""

from __future__ import annotations

import base64
import html
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")
PALETTE = {
    "ink": "#1f2933", "muted": "#5f6b77", "rule": "#dfe4e9", "pale": "#eef2f6",
    "blue": "#0072b2", "vermillion": "#d55e00", "green": "#009e73", "orange": "#e69f00",
    "pink": "#cc79a7", "sky": "#56b4e9", "gray": "#7f7f7f",
}  # fmt: skip
"""Okabe and Ito's colors, which color-blind readers tell apart (https://jfly.uni-koeln.de/color/), and grays."""


def render(template: str | Path, block: str | None = None, **facts: Any) -> str:
    """Fill a template.

    Args:
        template: name of a file in `templates/`, or the path of a tool's own.
        block: render this block of it alone, as a part of somebody else's page.
        facts: what the template shows.

    Returns:
        the HTML.

    Raises:
        jinja2.UndefinedError: if the template shows a fact that is not given.

    Example:
        >>> page = render("report.html", title="<b>", results=results, tables=[])  # doctest: +SKIP
    """
    path = TEMPLATES / template  # an absolute path stays as it is
    found = _environment(path.parent).get_template(path.name)
    return found.render(facts) if block is None else "".join(found.blocks[block](found.new_context(facts)))


@cache
def _environment(folder: Path) -> Environment:
    made = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["palette"] = PALETTE
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    made.filters |= {
        "number": "{:,}".format,
        "percent": lambda share, digits=1: f"{share:.{digits}%}",
        "fixed": lambda value, digits=3: f"{value:.{digits}f}",
        "cut": lambda text, most=240: text if len(text) <= most else text[:most] + "…",
        "picture": _data_url,
    }
    return made


def _data_url(picture: bytes) -> str:
    """A PNG or JPEG as an address that needs no network."""
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


# ------------------------------------------------------------------- what pages that are not yet templates still use

STYLE = _environment(TEMPLATES).get_template("base.html").render(title="").split("<style>")[1].split("</style>")[0]


def _table(header: list[str], lines: list[str], text_columns: int) -> str:
    styles = [' class="text"'] * text_columns + [""] * (len(header) - text_columns)
    head = "".join(f"<th{style}>{_text(title)}</th>" for title, style in zip(header, styles, strict=True))
    rows = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>'


def _cell(content: str, style: str = "number") -> str:
    return f'<td class="{style}">{_text(content)}</td>'


def _cut(text: str, most: int = 240) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most] + "…"


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
