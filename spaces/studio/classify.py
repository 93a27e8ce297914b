"""The tab Classify: a text, a photo, or both, to one panel a head. Also the API's `/classify`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from answers import ask, find, panels, usable
from loading import Checkpoint
from parts import photo_box
from text import Trouble, both, i18n

from hfk.tasks import unseen_places

LABEL_CHARACTERS = 34
HEADLINES = (
    "코스피 이틀째 상승…반도체주 강세",
    "프로야구 선발 투수 완봉승…팀 5연승",
    "국회 예산안 처리 두고 여야 밤샘 협상",
)
PLACE = "직접 담근 장으로 끓인 된장찌개가 이름난 한식당이다. 점심에는 나물 반찬이 함께 나온다."


def find_examples(task: str | None) -> list[tuple[str, str | None]]:
    """Examples for a checkpoint: (text, picture file or None). None of them is in the sample that the models learned.

    Args:
        task: the checkpoint's task; others than the built-in ones have no examples here.
    """
    if task in ("ynat", "ynat-mini"):
        return [(headline, None) for headline in HEADLINES]
    if task not in ("tour", "tour-mini"):
        return []
    folder = Path(tempfile.mkdtemp(prefix="hfk-examples-"))
    examples: list[tuple[str, str | None]] = []
    for number, place in enumerate(unseen_places()):
        file = folder / f"{number}.png"
        place["image"].save(file)
        examples.append((place["text"], str(file)))
    return [*examples, (PLACE, None), ("", examples[0][1])]


def build(checkpoints: dict[str, Checkpoint]) -> dict[str, Any]:
    """Lay the tab out.

    Args:
        checkpoints: all of them, by name.

    Returns:
        `wrong` (the button to the feedback tab) and `last` (state: the last question and its answer).
    """
    names = usable(checkpoints)
    first = names[0] if names else None
    last = gr.State(None)
    with gr.Row(elem_classes="two"):
        with gr.Column(scale=5, min_width=300):
            name = gr.Dropdown(names, value=first, label=i18n("checkpoint"), interactive=True)
            text = gr.Textbox(label=i18n("text"), placeholder=i18n("text_hint"), lines=4, max_lines=12)
            photo = photo_box()
            with gr.Accordion(i18n("options"), open=False):
                top_k = gr.Slider(1, 10, value=3, step=1, label=i18n("top_k"))
                threshold = gr.Slider(0, 1, value=0.5, step=0.05, label=i18n("threshold"))
            with gr.Row(elem_classes="buttons"):
                clear = gr.Button(i18n("clear"), variant="secondary", min_width=80)
                go = gr.Button(i18n("classify"), variant="primary", min_width=160, elem_id="classify")
        with gr.Column(scale=7, min_width=300):
            answer = gr.HTML(_empty(), elem_id="answer", elem_classes="answer")
            wrong = gr.Button(i18n("wrong"), variant="secondary", visible=False, elem_id="wrong", min_width=120)
    question, shown = [name, text, photo, top_k, threshold], [answer, last, wrong]

    def show(name: str, text: str, photo: str | None, top_k: int, threshold: float) -> tuple[str, Any, Any]:
        try:
            result = ask(find(checkpoints, name), text, photo, top_k, threshold)
        except Trouble as trouble:
            return trouble.html(), None, gr.Button(visible=False)
        return _titled(panels(result)), {"text": text, "photo": photo, "result": result}, gr.Button(visible=True)

    def classify(
        text: str, image: str | None, checkpoint: str | None, top_k: int = 3, threshold: float = 0.5
    ) -> dict[str, Any]:
        """Classify a Korean text, a picture, or both, by every head of a checkpoint.

        Args:
            text: the text; may be empty when there is a picture.
            image: the picture; may be left out when there is a text.
            checkpoint: name of the checkpoint; the first one when empty.
            top_k: candidates a head.
            threshold: probability below which an answer is uncertain.

        Returns:
            checkpoint, milliseconds, and for each head its label, score, path, uncertain and top candidates.
        """
        try:
            return ask(find(checkpoints, checkpoint), text, image, top_k, threshold)
        except Trouble as trouble:
            raise gr.Error(str(trouble), print_exception=False) from None

    events = {"api_visibility": "private", "concurrency_id": "ask", "concurrency_limit": 2, "show_progress": "minimal"}
    gr.on([go.click, text.submit], show, question, shown, **events)
    clear.click(
        lambda: ("", None, _empty(), None, gr.Button(visible=False)),
        None,
        [text, photo, answer, last, wrong],
        api_visibility="private",
        queue=False,
    )
    gr.on(
        [],
        classify,
        [text, photo, name, top_k, threshold],
        gr.JSON(visible=False),
        api_name="classify",
        concurrency_id="ask",
        concurrency_limit=2,
    )
    _examples(checkpoints, name, text, photo, lambda event: event.then(show, question, shown, **events))
    return {"wrong": wrong, "last": last}


def _examples(checkpoints: dict[str, Checkpoint], name: Any, text: Any, photo: Any, then: Any) -> None:
    """A row of buttons for each kind of checkpoint; that of the chosen checkpoint shows."""
    kinds = {checkpoint.name: _kind(checkpoint) for checkpoint in checkpoints.values() if not checkpoint.error}
    groups = {kind: find_examples(kind) for kind in dict.fromkeys(kinds.values())}
    groups = {kind: examples for kind, examples in groups.items() if examples}
    rows = []
    for kind, examples in groups.items():
        with gr.Column(visible=kinds.get(name.value) == kind, elem_classes="examples") as row:
            gr.HTML(f"<h2>{both('examples')}</h2>")
            with gr.Row(elem_classes="cards"):
                for words, picture in examples:
                    short = words if len(words) <= LABEL_CHARACTERS else words[:LABEL_CHARACTERS].rstrip() + "…"
                    button = gr.Button(
                        short or i18n("example_photo"), icon=picture, variant="secondary", size="md", min_width=180
                    )
                    fill = button.click(
                        lambda words=words, picture=picture: (words, picture),
                        None,
                        [text, photo],
                        api_visibility="private",
                        queue=False,
                        show_progress="hidden",
                    )
                    then(fill)
        rows.append((kind, row))
    if rows:
        name.change(
            lambda chosen: [gr.Column(visible=kinds.get(chosen) == kind) for kind, _ in rows],
            name,
            [row for _, row in rows],
            api_visibility="private",
            queue=False,
            show_progress="hidden",
        )


def _kind(checkpoint: Checkpoint) -> str | None:
    return (checkpoint.task or "").removesuffix("-mini") or None


def _empty() -> str:
    return f'<p class="empty">{both("empty")}</p>'


def _titled(panels: str) -> str:
    return f'<h2 class="unseen">{both("answer")}</h2>{panels}'
