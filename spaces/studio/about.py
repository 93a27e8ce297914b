"""What a checkpoint is, in a visitor's words: its title, what goes in, what comes out, how good it is, and examples.

Some checkpoints bring `space.json` along; of the others it is made from their heads, their report and the examples in
their card (`widget` in its front matter). A pair of strings is Korean and English.

`space.json` may hold `title`, `about`, `figure` (how good on rows that it has not seen), `care`, `placeholder` and
`heads` (name → what it is called), each value a pair; `examples`, a list of texts; and `scope`, which says what is no
text for the model: one of less than `min_korean` of Korean among its letters, or whose `head` says less than
`min_energy`, the logarithm of the sum of its exponentiated logits (Liu et al. 2020, arXiv:2010.03759).
"""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import Any

from huggingface_hub import RepoCard
from loading import Checkpoint
from text import both, pair

Pair = tuple[str, str]
HEAD_WORDS: dict[str, Pair] = {
    "cat1": ("분류", "category"),
    "cat2": ("세부", "subcategory"),
    "cat3": ("종류", "kind"),
    "topic": ("주제", "topic"),
    "label": ("답", "answer"),
}
"""What common heads are called."""
MOST_LABELS = 8
"""So many answers are listed; of more, the number and some."""
MOST_EXAMPLES = 6
_LETTER, _HANGUL = re.compile(r"[^\W\d_]"), re.compile(r"[가-힣]")


def read_about(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read what a checkpoint's folder says of it; {} for nothing, or what can't be read."""
    path = checkpoint.folder / "space.json" if checkpoint.folder else None
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def said(checkpoint: Checkpoint, key: str) -> Pair | None:
    """One of the pairs that `space.json` has; None without it."""
    found = read_about(checkpoint).get(key)
    return (str(found[0]), str(found[1])) if isinstance(found, list) and len(found) == 2 else None


def titles(checkpoints: dict[str, Checkpoint]) -> list[tuple[str, str]]:
    """What to choose among: what is shown, and the name."""
    shown = []
    for name, checkpoint in checkpoints.items():
        if not checkpoint.error:
            title = said(checkpoint, "title")
            shown.append((f"{title[0]} · {title[1]}" if title else name, name))
    return shown


def head_words(checkpoint: Checkpoint, head: str) -> Pair:
    """What a head is called."""
    own = read_about(checkpoint).get("heads") or {}
    words = own.get(head) if isinstance(own, dict) else None
    return (str(words[0]), str(words[1])) if words else HEAD_WORDS.get(head, (head, head))


def head_choices(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """The heads to choose among: what is shown, and the name."""
    words = {head.name: head_words(checkpoint, head.name) for head in checkpoint.heads}
    return [(ko if ko == en else f"{ko} · {en}", name) for name, (ko, en) in words.items()]


def about(checkpoint: Checkpoint) -> str:
    """What goes in, which answers there are, and how good it is, as HTML."""
    parts = [f"<p>{pair(*(said(checkpoint, 'about') or _what_it_does(checkpoint)))}</p>"]
    figure = said(checkpoint, "figure") or _figure(checkpoint)
    parts.append(f'<p class="figure">{pair(*figure)}</p>' if figure else f'<p class="aside">{both("no_figure")}</p>')
    care = said(checkpoint, "care")
    if care:
        parts.append(f'<p class="note">{pair(*care)}</p>')
    answers = "".join(
        f"<dt>{pair(*head_words(checkpoint, head.name))}</dt><dd>{_labels(head.labels)}</dd>"
        for head in checkpoint.heads
        if head.labels
    )
    if answers:
        parts.append(f"<details><summary>{both('answers')}</summary><dl>{answers}</dl></details>")
    return f'<div class="about">{"".join(parts)}</div>'


def in_short(checkpoints: dict[str, Checkpoint]) -> str:
    """What each checkpoint does, in English, for agents."""
    usable = {name: checkpoint for name, checkpoint in checkpoints.items() if not checkpoint.error}
    lines = [f"{name}: {(said(c, 'about') or _what_it_does(c))[1].rstrip('.')}" for name, c in usable.items()]
    return f"Checkpoints are {'; '.join(lines)}."


def examples_in(checkpoint: Checkpoint) -> list[str]:
    """Texts to try: those of `space.json`, else those of the card."""
    own = read_about(checkpoint).get("examples")
    if own is None and checkpoint.folder is not None and (checkpoint.folder / "README.md").is_file():
        own = _of_card(checkpoint.folder / "README.md")
    return [text for text in own or [] if isinstance(text, str) and text.strip()][:MOST_EXAMPLES]


def is_outside(checkpoint: Checkpoint, text: str | None, energies: dict[str, float]) -> bool:
    """Tell whether a text is none that the checkpoint has learned to answer; `energies` are its heads'."""
    scope = read_about(checkpoint).get("scope") or {}
    if not text or not scope:
        return False
    letters = len(_LETTER.findall(text))
    korean = len(_HANGUL.findall(text)) / letters if letters else 0.0
    energy = energies.get(scope.get("head"), math.inf)
    return korean < scope.get("min_korean", 0) or energy < scope.get("min_energy", -math.inf)


def _of_card(card: Path) -> list[Any]:
    try:
        widget = getattr(RepoCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data, "widget", None)
    except ValueError:
        return []
    return [entry.get("text") for entry in widget or [] if isinstance(entry, dict)]


def _what_it_does(checkpoint: Checkpoint) -> Pair:
    text, image = checkpoint.reads_text, checkpoint.reads_image
    ko, en = {
        (True, True): ("글과 사진, 또는 둘 중 하나를", "a text, a photo, or both"),
        (True, False): ("글을", "a text"),
        (False, True): ("사진을", "a photo"),
    }[text, image]
    words = [head_words(checkpoint, head.name) for head in checkpoint.heads]
    return (
        f"{ko} 읽고 {', '.join(word for word, _ in words)}에 답합니다.",
        f"Reads {en} and answers with {', '.join(word for _, word in words)}.",
    )


def _figure(checkpoint: Checkpoint) -> Pair | None:
    path = checkpoint.folder / "report" / "metrics.json" if checkpoint.folder else None
    if path is None or not path.is_file():
        return None
    metrics = json.loads(path.read_text(encoding="utf-8"))
    found = [(h, metrics["scores"].get(f"{h.name}_accuracy")) for h in checkpoint.heads if h.problem == "single_label"]
    found = [(head, value) for head, value in found if value is not None]
    if not found:
        return None
    rows = metrics["counts"]["rows"]
    ko = ", ".join(f"{head_words(checkpoint, head.name)[0]} {value:.1%}" for head, value in found)
    en = ", ".join(f"{head_words(checkpoint, head.name)[1]} {value:.1%}" for head, value in found)
    return (f"처음 보는 {rows:,}건에서 맞힌 비율: {ko}", f"Right on {rows:,} unseen rows: {en}")


def _labels(labels: list[str]) -> str:
    some = html.escape(", ".join(labels[:MOST_LABELS]))
    return some if len(labels) <= MOST_LABELS else f"{some} … ({len(labels)})"
