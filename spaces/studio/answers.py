"""One question to one checkpoint, from what a visitor sent to a plain dict, and that dict as HTML panels.

Page and API go through `ask`, so both answer alike. Pictures come as files that were uploaded; they are opened from
their bytes by `open_image`, with its limits, and no name or address that a visitor sends is ever opened. Whatever ends
up in HTML, labels included, is escaped here.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from loading import Checkpoint
from PIL.Image import Image
from text import Trouble, both

from hfk import HeadConfig
from hfk.models.image_preparation import ImageError, open_image

MAX_CHARACTERS = 20_000
"""Longer texts are cut: no encoder reads as much, and a page need not wait for it."""


def usable(checkpoints: dict[str, Checkpoint]) -> list[str]:
    """Names of the checkpoints that loaded."""
    return [name for name, checkpoint in checkpoints.items() if not checkpoint.error]


def find(checkpoints: dict[str, Checkpoint], name: str | None) -> Checkpoint:
    """The checkpoint of that name, the first that loaded without one; Trouble if it can't be used."""
    if not name:
        name = next(iter(usable(checkpoints)), "")
        if not name:
            raise Trouble("no_checkpoint")
    if name not in checkpoints:
        raise Trouble("unknown_checkpoint", str(name)[:100])
    if checkpoints[name].error:
        raise Trouble("broken", checkpoints[name].error)
    return checkpoints[name]


def read(checkpoint: Checkpoint, text: str | None, photo: str | None) -> tuple[str | None, Image | None, list[str]]:
    """Make of what a visitor sent what a checkpoint can read.

    Args:
        checkpoint: who is to read it.
        text: the text; None or blank for none.
        photo: file of an uploaded picture, or None.

    Returns:
        the text and the decoded picture, None for what is not there or not read, and `notes`, keys of sentences.

    Raises:
        Trouble: if nothing is left, or the picture can't be used.
    """
    text = (text or "").strip()
    notes = []
    if len(text) > MAX_CHARACTERS:
        text = text[:MAX_CHARACTERS]
        notes.append("cut")
    if text and not checkpoint.reads_text:
        notes.append("ignored_text")
    if photo and not checkpoint.reads_image:
        notes.append("ignored_image")
    text, photo = text if checkpoint.reads_text else "", photo if checkpoint.reads_image else None
    if not text and not photo:
        raise Trouble("no_input" if not notes else "no_image" if checkpoint.reads_image else "no_text")
    try:
        return text or None, open_image(Path(photo).read_bytes()) if photo else None, notes
    except ImageError as error:
        raise Trouble("bad_picture", str(error)) from None


def ask(
    checkpoint: Checkpoint, text: str | None, photo: str | None, top_k: int = 3, threshold: float = 0.5
) -> dict[str, Any]:
    """Classify one text, picture, or both.

    Args:
        checkpoint: whom to ask.
        text: the text; None or blank for none.
        photo: file of an uploaded picture, or None.
        top_k: candidates a head.
        threshold: a `single_label` answer below this probability is uncertain; a `multi_label` label at or above it is
            chosen.

    Returns:
        `checkpoint`, `milliseconds`, `read` (which of text and image), `notes` (keys of sentences) and `heads`: name →
        `problem` with `label`, `score`, `path`, `uncertain` (`single_label`), `labels` (`multi_label`) or `value`
        (`regression`), and `top`, the candidates with their scores.

    Raises:
        Trouble: if there is nothing to classify, or the picture can't be used.
    """
    text, picture, notes = read(checkpoint, text, photo)
    answer, seconds = checkpoint.answer(text, picture)
    if isinstance(answer.get("error"), str):  # such as a text of nothing but control characters
        raise Trouble("no_input", answer["error"])
    return {
        "checkpoint": checkpoint.name,
        "milliseconds": round(seconds * 1000, 1),
        "read": [kind for kind, given in (("text", text), ("image", picture)) if given],
        "notes": notes,
        "heads": {
            head.name: _one_head(head, checkpoint.heads, answer[head.name], max(1, int(top_k)), threshold)
            for head in checkpoint.heads
        },
    }


def path_of(head: HeadConfig, label: str, heads: list[HeadConfig]) -> list[str]:
    """The labels from the root of the hierarchy down to this one.

    Args:
        head: the label's head.
        label: one of its labels.
        heads: all heads.
    """
    path = [label]
    while head.parent is not None:
        index = head.parent_of[head.labels.index(path[0])]
        head = next(other for other in heads if other.name == head.parent)
        path.insert(0, head.labels[index])
    return path


def _one_head(head: HeadConfig, heads: list[HeadConfig], value: Any, top_k: int, threshold: float) -> dict[str, Any]:
    if head.problem == "regression":
        return {"problem": head.problem, "value": float(value)}
    everything = [{"label": item["label"], "score": round(item["score"], 4)} for item in value]
    top = everything[:top_k]
    if head.problem == "multi_label":
        labels = [item["label"] for item in everything if item["score"] >= threshold]
        return {"problem": head.problem, "labels": labels, "top": everything[: max(top_k, len(labels))]}
    label, score = top[0]["label"], top[0]["score"]
    return {
        "problem": head.problem,
        "label": label,
        "score": score,
        "path": path_of(head, label, heads),
        "uncertain": score < threshold,
        "top": top,
    }


def panels(result: dict[str, Any]) -> str:
    """The answer as HTML: one panel a head, and below them what `below_the_panels` adds."""
    cards = "".join(_panel(name, head) for name, head in result["heads"].items())
    return f'<div class="panels">{cards}</div>{below_the_panels(result)}'


def below_the_panels(result: dict[str, Any]) -> str:
    """What stands under the heads: time, and what was read."""
    parts = [f'<span class="time">{both("took")} <strong>{result["milliseconds"]:.0f} ms</strong></span>']
    parts += [f"<span>{both(f'read_{kind}')}</span>" for kind in result["read"]]
    parts += [f'<span class="aside">{both(key)}</span>' for key in result["notes"]]
    return f'<p class="facts">{"".join(parts)}</p>'


def bar(label: str, share: float, value: str, strong: bool = False, mark: str = "") -> str:
    """One line of a bar chart, as a list item.

    Args:
        label: what it is; escaped.
        share: length of the bar, from 0 to 1.
        value: what stands at its end; escaped.
        strong: whether it is the one that counts.
        mark: HTML behind the label.
    """
    return (
        f'<li class="bar{" strong" if strong else ""}"><span class="label">{html.escape(label)}{mark}</span>'
        f'<span class="track" aria-hidden="true"><span style="width:{max(0.0, min(1.0, share)):.1%}"></span></span>'
        f'<span class="value">{html.escape(value)}</span></li>'
    )


def _panel(name: str, head: dict[str, Any]) -> str:
    badge, crumbs, body = "", "", ""
    if head["problem"] == "regression":
        body = f'<p class="number">{head["value"]:,.4g}</p>'
    elif head["problem"] == "multi_label":
        mark = f' <span class="chip">{both("chosen")}</span>'
        bars = [
            bar(
                i["label"],
                i["score"],
                f"{i['score']:.1%}",
                i["label"] in head["labels"],
                mark * (i["label"] in head["labels"]),
            )
            for i in head["top"]
        ]
        body = f'<ul class="bars">{"".join(bars)}</ul>'
        if not head["labels"]:
            badge = f'<span class="badge">{both("none_chosen")}</span>'
    else:
        if head["uncertain"]:
            badge = f'<span class="badge">{both("uncertain")}</span>'
        steps = "".join(f"<li>{html.escape(label)}</li>" for label in head["path"])
        crumbs = f'<ol class="crumbs">{steps}</ol>'
        bars = [bar(i["label"], i["score"], f"{i['score']:.1%}", place == 0) for place, i in enumerate(head["top"])]
        body = f'<ul class="bars">{"".join(bars)}</ul>'
        if head["score"] < max(item["score"] for item in head["top"]):
            body += f'<p class="aside">{both("consistent")}</p>'
    title = html.escape(name)
    doubtful = " doubtful" if head.get("uncertain") else ""
    return f'<div class="panel{doubtful}" role="group" aria-label="{title}"><h3>{title}{badge}</h3>{crumbs}{body}</div>'
