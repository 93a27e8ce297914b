"""One question to one checkpoint, from what a visitor sent to a plain dict, and that dict as HTML panels.

Page and API go through `ask`, so both answer alike. Pictures come as files that were uploaded; they are opened from
their bytes by `open_image`, with its limits, and no name or address that a visitor sends is ever opened. Whatever ends
up in HTML, labels included, is escaped here.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from about import head_words, is_outside
from loading import Checkpoint
from PIL.Image import Image
from text import Trouble, both, pair

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
    if not isinstance(name, str) or name not in checkpoints:
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
    text = text[:MAX_CHARACTERS]
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
        `checkpoint`, `milliseconds`, `read` (which of text and image), `read_share` (of the text, from 0 to 1),
        `outside` (whether the text is none that the checkpoint knows), `notes` (keys of sentences), `paths` (finest
        head → the likeliest whole paths, each `labels` and `score`) and `heads`: name → `problem` with `label`,
        `score`, `path`, `uncertain` (`single_label`), `labels` (`multi_label`) or `value` (`regression`), and `top`,
        the candidates with their scores.

    Raises:
        Trouble: if there is nothing to classify, or the picture can't be used.
    """
    given = len((text or "").strip())
    text, picture, notes = read(checkpoint, text, photo)
    answer, energies, seconds, read_share = checkpoint.answer(text, picture)
    if isinstance(answer.get("error"), str):  # such as a text of nothing but control characters
        raise Trouble("no_input", answer["error"])
    heads = {
        head.name: _one_head(head, checkpoint.heads, answer[head.name], max(1, int(top_k)), threshold)
        for head in checkpoint.heads
    }
    return {
        "checkpoint": checkpoint.name,
        "milliseconds": round(seconds * 1000, 1),
        "read": [kind for kind, given in (("text", text), ("image", picture)) if given],
        "read_share": read_share * len(text) / given if text else None,
        "outside": not picture and is_outside(checkpoint, text, energies),
        "notes": notes,
        "threshold": threshold,
        "paths": {
            leaf: [{"labels": path["labels"], "score": round(path["score"], 4)} for path in ways[: max(1, int(top_k))]]
            for leaf, ways in answer.get("paths", {}).items()
        },
        "heads": heads,
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


def panels(checkpoint: Checkpoint, result: dict[str, Any]) -> str:
    """The answer as HTML: a panel a hierarchy and one for each other head, and below them what was read."""
    paths, inside = result["paths"], {name for ways in result["paths"].values() for name in ways[0]["labels"]}
    cards = "".join(_path_panel(checkpoint, result, leaf) for leaf in paths)
    cards += "".join(
        _panel(head_words(checkpoint, name), head) for name, head in result["heads"].items() if name not in inside
    )
    cards = f'<div class="panels">{cards}</div>'
    if result["outside"]:
        cards = (
            f'<p class="note outside" role="status">{both("outside")}</p>'
            f'<details class="anyway"><summary>{both("anyway")}</summary>{cards}</details>'
        )
    return f"{cards}{below_the_panels(result)}"


def below_the_panels(result: dict[str, Any]) -> str:
    """What stands under the heads: time, and what was read."""
    parts = [f'<span class="time">{both("took")} <strong>{result["milliseconds"]:.0f} ms</strong></span>']
    parts += [f"<span>{both(f'read_{kind}')}</span>" for kind in result["read"]]
    if result["read_share"] is not None and result["read_share"] < 1:
        parts.append(f'<strong class="cut">{both("cut", share=max(1, int(result["read_share"] * 100)))}</strong>')
    parts += [f'<span class="aside">{both(key)}</span>' for key in result["notes"]]
    return f'<p class="facts">{"".join(parts)}</p>'


def _path_panel(checkpoint: Checkpoint, result: dict[str, Any], leaf: str) -> str:
    """One panel for a hierarchy: the likeliest path, others beside it, and each head folded away."""
    heads, ways = result["heads"], result["paths"][leaf]
    names = [name for name in heads if name in ways[0]["labels"]]
    words = [head_words(checkpoint, name) for name in names]
    title = pair(" › ".join(ko for ko, _ in words), " › ".join(en for _, en in words))
    best = ways[0]
    doubtful = best["score"] < result["threshold"]
    steps = "".join(
        f"<li{' class=maybe' if doubtful and heads[name]['uncertain'] else ''}>{html.escape(heads[name]['label'])}</li>"
        for name in names
    )
    badge = f'<span class="badge">{both("uncertain")}</span>' if doubtful else ""
    bars = [
        bar(" › ".join(way["labels"][name] for name in names[-2:]), way["score"], f"{way['score']:.1%}", place == 0)
        for place, way in enumerate(ways)
    ]
    each = "".join(_panel(head_words(checkpoint, name), heads[name], crumbs=False) for name in names)
    return (
        f'<div class="panel path{" doubtful" if doubtful else ""}" role="group" aria-label="{html.escape(leaf)}">'
        f'<h3><span>{title}</span>{badge}</h3><ol class="crumbs">{steps}</ol>'
        f'<p class="odds">{both("path")} <strong>{best["score"]:.0%}</strong></p>'
        f'<ul class="bars wide">{"".join(bars)}</ul>'
        f'<details class="each"><summary>{both("each_head")}</summary><div class="panels">{each}</div></details></div>'
    )


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


def _panel(name: tuple[str, str], head: dict[str, Any], crumbs: bool = True) -> str:
    badge, path, body = "", "", ""
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
        path = f'<ol class="crumbs">{steps}</ol>' if crumbs else ""
        bars = [bar(i["label"], i["score"], f"{i['score']:.1%}", place == 0) for place, i in enumerate(head["top"])]
        body = f'<ul class="bars">{"".join(bars)}</ul>'
        if head["score"] < max(item["score"] for item in head["top"]):
            body += f'<p class="aside">{both("consistent")}</p>'
    doubtful = " doubtful" if head.get("uncertain") else ""
    return (
        f'<div class="panel{doubtful}" role="group" aria-label="{html.escape(name[0])}"><h3>{pair(*name)}{badge}</h3>'
        f"{path}{body}</div>"
    )
