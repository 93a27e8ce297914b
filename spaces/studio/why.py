"""Under an answer: its hashtags, and why a head answered so. Also the API's `/hashtags` and `/explain`.

Both take longer than the answer, so they come after it and never hold what it waits for: each checkpoint has a second
processor for them (a fast tokenizer can't be used by two threads at once) and a lock of their own; the model is shared.
"""

from __future__ import annotations

import base64
import copy
import html
import threading
from dataclasses import dataclass, field
from typing import Any

from answers import read
from loading import Checkpoint
from text import Trouble, both

from hfk import Predictor
from hfk.tools.explain.attribution import Explanation, explain
from hfk.tools.explain.page import draw_patches, png_of, render_words, signed, strongest_words
from hfk.tools.hashtags.hashtagger import Hashtagger

MOST_KEYWORDS = 20
TOP_WORDS = 5


@dataclass
class Helper:
    """A second way to a checkpoint's model."""

    predictor: Predictor
    lock: threading.Lock = field(default_factory=threading.Lock)


_helpers: dict[str, Helper] = {}
_making = threading.Lock()


def _helper(checkpoint: Checkpoint) -> Helper:
    with _making:
        if checkpoint.name not in _helpers:
            predictor = checkpoint.predictor
            _helpers[checkpoint.name] = Helper(Predictor(predictor.model, copy.deepcopy(predictor.processor)))
        return _helpers[checkpoint.name]


def find_hashtags(
    checkpoint: Checkpoint, text: str | None, photo: str | None, keywords: int = 5, min_score: float = 0.5
) -> dict[str, Any]:
    """Make the hashtags of one text, picture, or both.

    Args:
        checkpoint: whom to ask.
        text: the text; None or blank for none.
        photo: file of an uploaded picture, or None.
        keywords: keywords of the text, at most.
        min_score: categories are used from this probability on.

    Returns:
        what `Hashtagger` gives.

    Raises:
        Trouble: if there is nothing to read.
    """
    text, picture, _ = read(checkpoint, text, photo)
    helper = _helper(checkpoint)
    with helper.lock:
        count, floor = max(0, min(MOST_KEYWORDS, int(keywords))), min(1.0, max(0.0, min_score))
        try:
            tagger = Hashtagger(helper.predictor, count, floor)
        except ImportError:  # no Korean analyzer here: the categories alone
            tagger = Hashtagger(helper.predictor, 0, floor)
        (made,) = tagger([{"text": text, "image": picture}])
    if "error" in made:
        raise Trouble("no_input", made["error"])
    return made


def find_why(checkpoint: Checkpoint, text: str | None, photo: str | None, head: str | None) -> Explanation:
    """Explain what one head answered.

    Args:
        checkpoint: whom to ask.
        text: the text; None or blank for none.
        photo: file of an uploaded picture, or None.
        head: the head's name; the last one without.

    Raises:
        Trouble: if there is nothing to read, or no such head.
    """
    if head and head not in [known.name for known in checkpoint.heads]:
        raise Trouble("unknown_head", str(head)[:100])
    text, picture, _ = read(checkpoint, text, photo)
    helper = _helper(checkpoint)
    try:
        with helper.lock:
            return explain(helper.predictor, text, picture, head or None)
    except ValueError as error:  # such as a text of nothing but control characters
        raise Trouble("no_input", str(error)) from None


def chips(made: dict[str, Any]) -> str:
    """Hashtags as a list of chips, categories first."""
    kinds = {f"#{item['tag']}": "category" for item in made["categories"]}
    items = "".join(f'<li class="tag {kinds.get(tag, "keyword")}">{html.escape(tag)}</li>' for tag in made["hashtags"])
    return f'<div class="tags"><h3>{both("hashtags")}</h3><ul class="plain">{items}</ul></div>' if items else ""


def why_panel(why: Explanation) -> str:
    """An explanation as a panel: marked words, the heat map, and what the marks mean."""
    answer = why.label if why.label is not None else f"{why.value:,.4g}"
    parts = [f"<h3>{both('why_title', head=why.head, answer=answer)}</h3>"]
    sums = [
        (key, value) for key, value in (("why_text", why.by_text), ("why_image", why.by_image)) if value is not None
    ]
    parts.append(f'<p class="facts">{"".join(_fact(key, value) for key, value in sums)}</p>')
    if why.words:
        lines = "".join(
            f"<li><strong>{html.escape(word)}</strong> {signed(score)}</li>"
            for word, score in strongest_words(why, TOP_WORDS)
        )
        parts.append(
            f'{render_words(why)}<p class="aside">{both("why_strongest")}</p><ul class="strongest">{lines}</ul>'
        )
    if why.patches is not None:
        data = base64.b64encode(png_of(draw_patches(why))).decode("ascii")
        parts.append(
            f'<figure><img alt="사진의 어느 곳이 답을 움직였는지 / Which parts of the photo moved the answer" '
            f'src="data:image/png;base64,{data}"><figcaption>{both("why_figure")}</figcaption></figure>'
        )
    parts.append(f'<p class="aside">{both("why_legend")}</p>')
    return f'<div class="panel reasons" role="group" aria-label="{html.escape(why.head)}">{"".join(parts)}</div>'


def why_answer(why: Explanation) -> dict[str, Any]:
    """An explanation as the API gives it: its numbers, and the heat map as a data URL."""
    picture = None
    if why.patches is not None:
        picture = "data:image/png;base64," + base64.b64encode(png_of(draw_patches(why))).decode("ascii")
    return why.to_dict() | {"heat_map": picture}


def _fact(key: str, value: float) -> str:
    return f"<span>{both(key)} <strong>{signed(value)}</strong></span>"
