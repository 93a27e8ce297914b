"""The tab Classify: a text, a photo, or both, to one panel a head; then hashtags, and why. Also in the API."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from about import about, examples_in, head_choices, in_short, said, titles
from answers import ask, find, panels
from loading import Checkpoint
from parts import photo_box
from text import Trouble, both, i18n
from why import chips, find_hashtags, find_why, why_answer, why_panel

from hfk.tasks import unseen_places

LABEL_CHARACTERS = 34
LINK_CHARACTERS = 2000
GIVEN = "() => { if (!new URLSearchParams(location.search).get('text')) throw 'no question'; }"
PLACE = "직접 담근 장으로 끓인 된장찌개가 이름난 한식당이다. 점심에는 나물 반찬이 함께 나온다."


def find_examples(checkpoint: Checkpoint) -> list[tuple[str, str | None]]:
    """Examples for a checkpoint: (text, picture file or None); none of them is in the rows that it learned from."""
    folder = checkpoint.folder / "examples" if checkpoint.folder else None
    photos = sorted(folder.glob("*.jpg")) if folder is not None and checkpoint.reads_image else []
    found: list[tuple[str, str | None]] = [(text, None) for text in examples_in(checkpoint)]
    found += [("", str(photo)) for photo in photos]
    if found or (checkpoint.task or "").removesuffix("-mini") != "tour":
        return found
    made = Path(tempfile.mkdtemp(prefix="hfk-examples-"))
    for number, place in enumerate(unseen_places()):
        file = made / f"{number}.png"
        place["image"].save(file)
        found.append((place["text"], str(file) if checkpoint.reads_image else None))
    return [*found, (PLACE, None)] + ([("", found[0][1])] if checkpoint.reads_image else [])


def build(checkpoints: dict[str, Checkpoint]) -> dict[str, Any]:
    """Lay the tab out.

    Args:
        checkpoints: all of them, by name.

    Returns:
        `wrong` (the button to the feedback tab) and `last` (state: the last question and its answer).
    """
    choices = titles(checkpoints)
    first = choices[0][1] if choices else None
    last = gr.State(None)
    with gr.Row(elem_classes="two"):
        with gr.Column(scale=5, min_width=300):
            name = gr.Dropdown(choices, value=first, label=i18n("checkpoint"), interactive=True, elem_id="model")
            facts = gr.HTML(about(checkpoints[first]) if first else "", elem_id="about")
            examples = _example_rows(checkpoints, first)
            text = gr.Textbox(**_text_box(checkpoints[first] if first else None), lines=3, max_lines=12)
            with gr.Column(visible=first is None or checkpoints[first].reads_image) as photo_side:
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
            checkpoint = find(checkpoints, name)
            result = ask(checkpoint, text, photo, top_k, threshold)
        except Trouble as trouble:
            return trouble.html(), None, gr.Row(visible=False), gr.skip(), "", ""
        kept = {"text": text, "photo": photo, "result": result}
        heads = head_choices(checkpoint)
        return (
            _titled(panels(checkpoint, result)),
            kept,
            gr.Row(visible=True),
            gr.Dropdown(heads, value=heads[-1][1]),
            "",
            "",
        )

    def choose(name: str) -> tuple[Any, ...]:
        checkpoint = checkpoints[name]
        rows = [gr.Column(visible=chosen == name) for chosen, _, _ in examples]
        return about(checkpoint), gr.Textbox(**_text_box(checkpoint)), gr.Column(visible=checkpoint.reads_image), *rows

    def follow(request: gr.Request) -> tuple[Any, ...]:
        """Fill in what a link to this page says: `?model=…&text=…`."""
        asked = dict(request.query_params) if request else {}
        model = asked.get("model") if asked.get("model") in dict(map(reversed, choices)) else gr.skip()
        return model, asked.get("text", "")[:LINK_CHARACTERS] or gr.skip()

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
        text: str = "", image: str | None = None, checkpoint: str | None = None, top_k: int = 3, threshold: float = 0.5
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

    def hashtags(
        text: str = "", image: str | None = None, checkpoint: str | None = None, keywords: int = 5
    ) -> dict[str, Any]:
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

    def explain(
        text: str = "", image: str | None = None, checkpoint: str | None = None, head: str | None = None
    ) -> dict[str, Any]:
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

    classify.__doc__ = classify.__doc__.replace("a checkpoint.", f"a checkpoint. {in_short(checkpoints)}", 1)
    events = {"api_visibility": "private", "concurrency_id": "ask", "concurrency_limit": 2, "show_progress": "minimal"}
    # After the answer, on a worker of their own: what they cost, no answer waits for.
    later = events | {"concurrency_id": "aside", "concurrency_limit": 1}

    def answer_to(event: Any) -> None:
        event(show, question, shown, **events).then(
            tag, [last, threshold], tags, **(later | {"show_progress": "hidden"})
        )

    answer_to(lambda *arguments, **options: gr.on([go.click, text.submit], *arguments, **options))
    quiet = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
    name.change(choose, name, [facts, text, photo_side, *(row for _, row, _ in examples)], **quiet)
    for _, _, buttons in examples:
        for button, words, picture in buttons:
            filled = button.click(lambda words=words, picture=picture: (words, picture), None, [text, photo], **quiet)
            answer_to(filled.then)
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
    return {"wrong": wrong, "last": last, "follow": lambda page: _follow(page, follow, [name, text], answer_to)}


def _follow(page: gr.Blocks, follow: Any, filled: list[Any], answer_to: Any) -> None:
    """When the page is opened by a link to a question, ask it."""
    opened = page.load(follow, None, filled, api_visibility="private", queue=False, show_progress="hidden")
    answer_to(lambda *arguments, **options: opened.then(None, None, None, js=GIVEN).success(*arguments, **options))


def _text_box(checkpoint: Checkpoint | None) -> dict[str, Any]:
    """What the box for the text is like for a checkpoint."""
    hint = said(checkpoint, "placeholder") if checkpoint else None
    return {
        "label": i18n("text"),
        "placeholder": " / ".join(hint) if hint else i18n("text_hint"),
        "visible": checkpoint is None or checkpoint.reads_text,
    }


def _example_rows(checkpoints: dict[str, Checkpoint], first: str | None) -> list[tuple[str, Any, list[Any]]]:
    """A row of buttons for each checkpoint that has examples: its name, the row, and (button, text, picture)."""
    rows = []
    for name, checkpoint in checkpoints.items():
        examples = [] if checkpoint.error else find_examples(checkpoint)
        if not examples:
            continue
        buttons = []
        with gr.Column(visible=name == first, elem_classes="examples") as row:
            gr.HTML(f"<h2>{both('examples')}</h2>")
            with gr.Row(elem_classes="cards"):
                for words, picture in examples:
                    short = words if len(words) <= LABEL_CHARACTERS else words[:LABEL_CHARACTERS].rstrip() + "…"
                    button = gr.Button(short or i18n("example_photo"), icon=picture, size="sm", min_width=120)
                    buttons.append((button, words, picture))
        rows.append((name, row, buttons))
    return rows


def _asked(checkpoints: dict[str, Checkpoint], last: dict[str, Any]) -> tuple[Checkpoint, str, str | None]:
    return find(checkpoints, last["result"]["checkpoint"]), last["text"], last["photo"]


def _empty() -> str:
    return f'<p class="empty">{both("empty")}</p>'


def _titled(panels: str) -> str:
    return f'<h2 class="unseen">{both("answer")}</h2>{panels}'
