"""The tab Compare: several checkpoints side by side on the same input. Also the API's `/compare`."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr
from about import titles
from answers import ask, find, panels
from loading import Checkpoint
from parts import photo_box
from text import Trouble, both, i18n


def build(checkpoints: dict[str, Checkpoint]) -> None:
    """Lay the tab out.

    Args:
        checkpoints: all of them, by name.
    """
    choices = titles(checkpoints)
    alike = [name for _, name in choices if checkpoints[name].task == checkpoints[choices[0][1]].task][
        :3
    ]  # to begin with
    with gr.Row(elem_classes="two"):
        with gr.Column(scale=7, min_width=300):
            text = gr.Textbox(label=i18n("text"), placeholder=i18n("text_hint"), lines=4, max_lines=12)
            chosen = gr.CheckboxGroup(choices, value=alike, label=i18n("checkpoints"))
        with gr.Column(scale=5, min_width=300):
            photo = photo_box()
    with gr.Row(elem_classes="buttons"):
        go = gr.Button(i18n("compare"), variant="primary", min_width=160, elem_id="compare")
    answer = gr.HTML(f'<p class="empty">{both("empty_compare")}</p>', elem_id="compared", elem_classes="answer")

    def one(name: str, text: str, photo: str | None, top_k: int, threshold: float) -> str:
        try:
            checkpoint = find(checkpoints, name)
            body = panels(checkpoint, ask(checkpoint, text, photo, top_k, threshold))
        except Trouble as trouble:
            body = trouble.html()
        return f'<article class="column"><h2>{html.escape(name)}</h2>{body}</article>'

    def show(text: str, photo: str | None, chosen: list[str]) -> str:
        if not (text or "").strip() and not photo:
            return Trouble("no_input").html()
        if not chosen:
            return Trouble("pick_one").html()
        return f'<div class="columns">{"".join(one(name, text, photo, 3, 0.5) for name in chosen)}</div>'

    def compare(text: str = "", image: str | None = None, models: list[str] | None = None) -> list[dict[str, Any]]:
        """Ask several checkpoints about the same text, picture, or both.

        Args:
            text: the text; may be empty when there is a picture.
            image: the picture; may be left out when there is a text.
            models: names of the checkpoints.

        Returns:
            for each checkpoint what /classify returns, or its name and an error.
        """
        if not models:
            raise gr.Error(str(Trouble("pick_one")), print_exception=False)
        results = []
        for name in models:
            try:
                results.append(ask(find(checkpoints, name), text, image))
            except Trouble as trouble:
                results.append({"checkpoint": name, "error": str(trouble)})
        return results

    limits = {"concurrency_id": "ask", "concurrency_limit": 2}
    gr.on(
        [go.click, text.submit],
        show,
        [text, photo, chosen],
        answer,
        api_visibility="private",
        show_progress="minimal",
        **limits,
    )
    gr.on([], compare, [text, photo, chosen], gr.JSON(visible=False), api_name="compare", **limits)
