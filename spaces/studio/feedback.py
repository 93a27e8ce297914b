"""The tab Feedback: "this is wrong" about the last answer, and what would be right. Also the API's `/feedback`.

The right answer is one of the head's own labels. A label lies under one label of each coarser head, so a corrected
cat3 corrects cat2 and cat1 with it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any

import gradio as gr
from about import head_choices, head_words, titles
from answers import ask, find, path_of
from loading import Checkpoint
from parts import photo_box
from store import MAX_REASON, Corrections
from text import Trouble, both, i18n, pair

from hfk import HeadConfig


def changes_for(
    checkpoint: Checkpoint, result: dict[str, Any], head_name: str, right: Any
) -> list[tuple[str, str, str]]:
    """Which heads change, from what to what.

    Args:
        checkpoint: who gave the answer.
        result: the answer, from `answers.ask`.
        head_name: the head that is wrong.
        right: the right label; a list of labels (`multi_label`) or a number (`regression`).

    Returns:
        (head, given, right), the named head first, then the coarser ones that differ. Several labels are a JSON list.

    Raises:
        Trouble: if head or label are unknown, or nothing would change.
    """
    head = next((head for head in checkpoint.heads if head.name == head_name), None)
    if head is None:
        raise Trouble("no_head") if not head_name else Trouble("unknown_head", str(head_name)[:100])
    given = result["heads"][head.name]
    if head.problem == "regression":
        try:
            return [(head.name, f"{given['value']:g}", f"{float(right):g}")]
        except (TypeError, ValueError):
            raise Trouble("no_label") from None
    labels = list(right) if isinstance(right, list) else [right] if right else []
    unknown = [label for label in labels if label not in head.labels]
    if unknown:
        raise Trouble("unknown_label", f"{str(unknown[0])[:100]!r}")
    if head.problem == "multi_label":
        if set(labels) == set(given["labels"]):
            raise Trouble("same_label")
        ordered = [label for label in head.labels if label in labels]
        return [(head.name, json.dumps(given["labels"], ensure_ascii=False), json.dumps(ordered, ensure_ascii=False))]
    if len(labels) != 1:
        raise Trouble("no_label")
    if labels[0] == given["label"]:
        raise Trouble("same_label")
    changes = []
    for above, label in zip(
        _upward(head, checkpoint.heads), reversed(path_of(head, labels[0], checkpoint.heads)), strict=True
    ):
        if result["heads"][above.name]["label"] != label:
            changes.append((above.name, result["heads"][above.name]["label"], label))
    return changes


def _upward(head: HeadConfig, heads: list[HeadConfig]) -> list[HeadConfig]:
    """The head, its parent, and so on."""
    line = [head]
    while line[-1].parent is not None:
        line.append(next(other for other in heads if other.name == line[-1].parent))
    return line


def build(
    checkpoints: dict[str, Checkpoint], last: gr.State, tab: gr.Tab, corrections: Corrections
) -> Callable[[Any], None]:
    """Lay the tab out.

    Args:
        checkpoints: all of them, by name.
        last: the last question and its answer, from the tab Classify.
        tab: the tab itself.
        corrections: where rows go.

    Returns:
        a function that, given an event, fills the form in after it.
    """
    gr.HTML(f'<p class="lead">{both("feedback_lead")}</p>')
    summary = gr.HTML(_summary(None), elem_id="summary", elem_classes="answer")
    with gr.Column(visible=False, elem_classes="form") as form:
        which = gr.Radio([], label=i18n("which_head"), interactive=True, elem_id="which")
        one = gr.Dropdown([], label=i18n("right_label"), interactive=True, filterable=True, elem_id="right")
        many = gr.CheckboxGroup([], label=i18n("right_label"), interactive=True, visible=False)
        number = gr.Number(label=i18n("right_number"), interactive=True, visible=False)
        reason = gr.Textbox(label=i18n("reason"), lines=2, max_length=MAX_REASON)
        keep = gr.Checkbox(label=i18n("keep"), value=False)
        with gr.Row(elem_classes="buttons"):
            send = gr.Button(i18n("send"), variant="primary", min_width=160, elem_id="send")
    outcome = gr.HTML("", elem_id="outcome", elem_classes="answer")

    def open_form(last: dict | None) -> tuple[Any, ...]:
        if last is None:
            return _summary(None), gr.Column(visible=False), gr.Radio(choices=[], value=None), ""
        checkpoint = checkpoints[last["result"]["checkpoint"]]
        heads = head_choices(checkpoint)
        return _summary(last, checkpoint), gr.Column(visible=True), gr.Radio(choices=heads, value=heads[-1][1]), ""

    def offer(name: str | None, last: dict | None) -> tuple[Any, Any, Any]:
        if not name or last is None:
            return gr.Dropdown(choices=[], value=None), gr.CheckboxGroup(visible=False), gr.Number(visible=False)
        heads = checkpoints[last["result"]["checkpoint"]].heads
        head = next(head for head in heads if head.name == name)
        given = last["result"]["heads"][name]
        paths = [(" › ".join(path_of(head, label, heads)), label) for label in head.labels]
        return (
            gr.Dropdown(choices=paths, value=None, visible=head.problem == "single_label"),
            gr.CheckboxGroup(choices=head.labels, value=given.get("labels", []), visible=head.problem == "multi_label"),
            gr.Number(value=None, visible=head.problem == "regression"),
        )

    def write(
        last: dict | None, head: str, one: Any, many: list, number: float | None, reason: str, keep: bool,
        request: gr.Request,
    ) -> str:  # fmt: skip
        try:
            if last is None:
                raise Trouble("nothing_yet")
            checkpoint = find(checkpoints, last["result"]["checkpoint"])
            problem = last["result"]["heads"].get(head, {}).get("problem")
            right = {"multi_label": many, "regression": number}.get(problem, one)
            changes = changes_for(checkpoint, last["result"], head, right)
            corrections.count(visitor_of(request))
            corrections.add(changes, last["text"], last["photo"], reason or "", checkpoint.name, keep)
        except Trouble as trouble:
            return trouble.html()
        return _thanks(changes)

    def feedback(
        text: str = "",
        image: str | None = None,
        checkpoint: str | None = None,
        head: str = "",
        label: str = "",
        reason: str = "",
        keep: bool = False,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Say that a checkpoint's answer is wrong, and what is right.

        Args:
            text: the text that was classified; may be empty.
            image: the picture that was classified; may be left out.
            checkpoint: name of the checkpoint; the first one when empty.
            head: the head that is wrong.
            label: the right label; a JSON list for a head of several labels, a number for a regression head.
            reason: why, in a few words.
            keep: whether text and picture may be kept with the correction.

        Returns:
            id of the input, and the changes: head, from, to.
        """
        try:
            found = find(checkpoints, checkpoint)
            result = ask(found, text, image)
            right = json.loads(label) if (label or "").startswith("[") else label
            changes = changes_for(found, result, head, right)
            corrections.count(visitor_of(request))
            identity = corrections.add(changes, text, image, reason or "", found.name, bool(keep))
        except (Trouble, json.JSONDecodeError) as error:
            raise gr.Error(str(error), print_exception=False) from None
        return {
            "id": identity,
            "changes": [dict(zip(("head", "from", "to"), change, strict=True)) for change in changes],
        }

    private = {"api_visibility": "private", "show_progress": "hidden"}

    def fill_in(event: Any) -> None:
        opened = event(open_form, last, [summary, form, which, outcome], **private)
        opened.then(offer, [which, last], [one, many, number], **private)

    fill_in(tab.select)
    which.change(offer, [which, last], [one, many, number], **private)
    send.click(write, [last, which, one, many, number, reason, keep], outcome, **private)
    hidden = {"visible": False, "render": True}
    api_inputs = [
        gr.Textbox(label="text", **hidden),
        photo_box(**hidden),
        gr.Dropdown(titles(checkpoints), label="checkpoint", **hidden),
        gr.Textbox(label="head", **hidden),
        gr.Textbox(label="label", **hidden),
        gr.Textbox(label="reason", **hidden),
        gr.Checkbox(label="keep", **hidden),
    ]
    gr.on(
        [], feedback, api_inputs, gr.JSON(visible=False), api_name="feedback", concurrency_id="ask", concurrency_limit=2
    )
    return lambda event: fill_in(event.then)


def visitor_of(request: gr.Request | None) -> str:
    """Who sends something, as far as a server knows: the address, that before a proxy if one says it."""
    if request is None or request.client is None:
        return ""
    forwarded = request.headers.get("x-forwarded-for", "")
    return forwarded.split(",")[0].strip() or request.client.host


def _summary(last: dict | None, checkpoint: Checkpoint | None = None) -> str:
    if last is None:
        return f'<p class="empty">{both("nothing_yet")}</p>'
    result = last["result"]
    text = html.escape((last["text"] or "")[:200])
    answers = "".join(
        f"<li><strong>{pair(*head_words(checkpoint, name))}</strong> {html.escape(_spoken(head))}</li>"
        for name, head in result["heads"].items()
    )
    quote = f"<blockquote>{text}</blockquote>" if text else ""
    title = f"<span>{both('last_answer')}: {html.escape(result['checkpoint'])}</span>"
    return f'<div class="panel"><h2>{title}</h2>{quote}<ul class="plain">{answers}</ul></div>'


def _spoken(head: dict[str, Any]) -> str:
    if head["problem"] == "regression":
        return f"{head['value']:,.4g}"
    return ", ".join(head["labels"]) or "–" if head["problem"] == "multi_label" else " › ".join(head["path"])


def _thanks(changes: list[tuple[str, str, str]]) -> str:
    lines = "".join(
        f"<li><strong>{html.escape(head)}</strong> <s>{html.escape(given)}</s> → {html.escape(right)}</li>"
        for head, given, right in changes
    )
    return f'<div class="note good" role="status"><p>{both("thanks")}:</p><ul class="plain">{lines}</ul></div>'
