"""The tab Classify: a text, a photo, or both, to one panel a head; then hashtags, and why. Also in the API."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from answers import ask, find, panels, usable
from loading import Checkpoint
from parts import photo_box
from text import Trouble, both, i18n
from why import chips, find_hashtags, find_why, why_answer, why_panel

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
            tags = gr.HTML("", elem_id="tags")
            with gr.Row(visible=False, elem_id="asides") as asides:
                head = gr.Dropdown([], label=i18n("why_head"), elem_id="why-head", min_width=160, scale=3)
                because = gr.Button(i18n("why"), variant="secondary", elem_id="why", min_width=90, scale=1)
                wrong = gr.Button(i18n("wrong"), variant="secondary", elem_id="wrong", min_width=120, scale=1)
            reasons = gr.HTML("", elem_id="reasons", elem_classes="answer")
    question, shown = [name, text, photo, top_k, threshold], [answer, last, asides, head, tags, reasons]

    def show(name: str, text: str, photo: str | None, top_k: int, threshold: float) -> tuple[Any, ...]:
        try:
            result = ask(find(checkpoints, name), text, photo, top_k, threshold)
        except Trouble as trouble:
            return trouble.html(), None, gr.Row(visible=False), gr.skip(), "", ""
        kept = {"text": text, "photo": photo, "result": result}
        heads = list(result["heads"])
        return _titled(panels(result)), kept, gr.Row(visible=True), gr.Dropdown(heads, value=heads[-1]), "", ""

    def tag(last: dict[str, Any] | None, threshold: float) -> str:
        try:
            return chips(find_hashtags(*_asked(checkpoints, last), min_score=threshold)) if last else ""
        except Trouble as trouble:
            return trouble.html()

    def reason(last: dict[str, Any] | None, head: str | None) -> str:
        try:
            return why_panel(find_why(*_asked(checkpoints, last), head)) if last else ""
        except Trouble as trouble:
            return trouble.html()

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

    def hashtags(text: str, image: str | None, checkpoint: str | None, keywords: int = 5) -> dict[str, Any]:
        """Make hashtags: the categories that a checkpoint is sure of, and keywords of the text.

        Args:
            text: the text; may be empty when there is a picture.
            image: the picture; may be left out when there is a text.
            checkpoint: name of the checkpoint; the first one when empty.
            keywords: keywords of the text, at most.

        Returns:
            text (the hashtags in a line), hashtags, categories and keywords with their scores.
        """
        try:
            return find_hashtags(find(checkpoints, checkpoint), text, image, keywords)
        except Trouble as trouble:
            raise gr.Error(str(trouble), print_exception=False) from None

    def explain(text: str, image: str | None, checkpoint: str | None, head: str | None = None) -> dict[str, Any]:
        """Say why: how much each word and each patch of the picture moved one head's answer.

        Args:
            text: the text; may be empty when there is a picture.
            image: the picture; may be left out when there is a text.
            checkpoint: name of the checkpoint; the first one when empty.
            head: name of the head; the last one when empty.

        Returns:
            label, value and baseline (logits), words and patches with what each adds, heat_map as a data URL.
        """
        try:
            return why_answer(find_why(find(checkpoints, checkpoint), text, image, head))
        except Trouble as trouble:
            raise gr.Error(str(trouble), print_exception=False) from None

    events = {"api_visibility": "private", "concurrency_id": "ask", "concurrency_limit": 2, "show_progress": "minimal"}
    # After the answer, on a worker of their own: what they cost, no answer waits for.
    later = events | {"concurrency_id": "aside", "concurrency_limit": 1}

    def answer_to(event: Any) -> None:
        event(show, question, shown, **events).then(
            tag, [last, threshold], tags, **(later | {"show_progress": "hidden"})
        )

    answer_to(lambda *arguments, **options: gr.on([go.click, text.submit], *arguments, **options))
    because.click(reason, [last, head], reasons, **later)
    clear.click(
        lambda: ("", None, _empty(), None, gr.Row(visible=False), "", ""),
        None,
        [text, photo, answer, last, asides, tags, reasons],
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
    aside = {"concurrency_id": "aside", "concurrency_limit": 1}
    for function, more in (
        (hashtags, gr.Number(5, visible=False, precision=0, label="keywords")),
        (explain, gr.Textbox(visible=False, label="head")),
    ):
        api = {"api_name": function.__name__, **aside}
        gr.on([], function, [text, photo, name, more], gr.JSON(visible=False), **api)
    _examples(checkpoints, name, text, photo, lambda event: answer_to(event.then))
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


def _asked(checkpoints: dict[str, Checkpoint], last: dict[str, Any]) -> tuple[Checkpoint, str, str | None]:
    return find(checkpoints, last["result"]["checkpoint"]), last["text"], last["photo"]


def _kind(checkpoint: Checkpoint) -> str | None:
    return (checkpoint.task or "").removesuffix("-mini") or None


def _empty() -> str:
    return f'<p class="empty">{both("empty")}</p>'


def _titled(panels: str) -> str:
    return f'<h2 class="unseen">{both("answer")}</h2>{panels}'
