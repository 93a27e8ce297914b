"""The tab Dialect: where a sentence seems to be from, and how every region says it. Also the API's `/translate`.

The translator is that of `HFK_TRANSLATOR`, a folder or Hub id; without it, rules that are learned when the page starts
from the embedded sample, a few sentences of our own a region: they show what is done, and know few words.
"""

from __future__ import annotations

import difflib
import html
import os
from typing import Any

import gradio as gr
from text import Trouble, both, i18n, pair

from hfk.inference.translator import load_translator
from hfk.models.dialect_translator import DialectTranslator
from hfk.tasks.samples import read_sample

MAX_CHARACTERS = 500
REGIONS = {
    "standard": ("표준어", "Standard"),
    "gyeongsang": ("경상", "Gyeongsang"),
    "jeolla": ("전라", "Jeolla"),
    "chungcheong": ("충청", "Chungcheong"),
    "gangwon": ("강원", "Gangwon"),
    "jeju": ("제주", "Jeju"),
}
EXAMPLES = ("점심에 수제비 뭇나?", "오늘 장터에 같이 가입시더.")
STANDARD = "standard"
HALF = 0.5
"""Of a word: where no region's rules expect more to change, a sentence is taken for standard, as by `detect`."""


def load() -> tuple[DialectTranslator, bool]:
    """Load the translator, and say whether it is the sample's."""
    named = os.environ.get("HFK_TRANSLATOR")
    if named:
        source, _, revision = named.partition("@")
        return load_translator(source, revision=revision or None), False
    pairs = []
    for table in read_sample("dialect_mini"):
        for chunk in table.chunks():
            pairs += zip(chunk["region"], chunk["dialect"], chunk["standard"], strict=True)
    return DialectTranslator.learn(pairs), True


def translate_all(translator: DialectTranslator, text: str, source: str | None = None) -> dict[str, Any]:
    """Say where a text is from, and how it is said elsewhere.

    Args:
        translator: what translates.
        text: a sentence or a few.
        source: the region that it is in; found out without.

    Returns:
        `source`, `shares` (region → its share of the words that all rules would change, half a word being the standard
        language's) and `translations` (region → text).

    Raises:
        Trouble: for no text, or an unknown region.
    """
    text = " ".join((text or "").split())[:MAX_CHARACTERS]
    if not text:
        raise Trouble("no_dialect")
    if source and source not in translator.regions:
        raise Trouble("unknown_region", str(source)[:100])
    expected = {STANDARD: HALF} | {region: into.changes(text) for region, (into, _) in translator.rules.items()}
    whole = sum(expected.values())
    found = source or translator.detect(text)
    made = translator.rewrite([text] * len(translator.regions), [found] * len(translator.regions), translator.regions)
    return {
        "source": found,
        "shares": {region: round(value / whole, 4) for region, value in expected.items()},
        "translations": dict(zip(translator.regions, made, strict=True)),
        "text": text,
    }


def build() -> None:
    """Lay the tab out."""
    translator, sample = load()
    note = f'<p class="aside">{both("dialect_sample")}</p>' if sample else ""
    gr.HTML(f'<p class="lead">{both("dialect_lead")}</p>{note}')
    with gr.Row(elem_classes="examples cards"):
        chosen = [gr.Button(words, size="sm", min_width=120) for words in EXAMPLES]
    text = gr.Textbox(
        label=i18n("text"), placeholder=" / ".join(EXAMPLES), lines=2, max_lines=6, elem_id="dialect-text"
    )
    choices = [(i18n("find_out"), "")] + [(" · ".join(REGIONS.get(r, (r, r))), r) for r in translator.regions]
    origin = gr.Dropdown(choices, value="", label=i18n("said_in"), interactive=True)
    with gr.Row(elem_classes="buttons"):
        go = gr.Button(i18n("translate"), variant="primary", min_width=160, elem_id="translate")
    answer = gr.HTML(f'<p class="empty">{both("empty_dialect")}</p>', elem_id="translated", elem_classes="answer")

    def show(text: str, origin: str) -> str:
        try:
            return _cards(translate_all(translator, text, origin or None))
        except Trouble as trouble:
            return trouble.html()

    def translate(text: str, source: str = "") -> dict[str, Any]:
        """Say which region's dialect of Korean a sentence is in, and translate it into every region's.

        Args:
            text: a sentence or a few.
            source: the region that it is in, such as jeju or standard; found out when empty.

        Returns:
            source, shares of the regions, and translations: region to text.
        """
        try:
            return translate_all(translator, text, source or None)
        except Trouble as trouble:
            raise gr.Error(str(trouble), print_exception=False) from None

    limits = {"concurrency_id": "ask", "concurrency_limit": 2}
    shown = {"api_visibility": "private", "show_progress": "minimal", **limits}
    gr.on([go.click, text.submit], show, [text, origin], answer, **shown)
    for button, words in zip(chosen, EXAMPLES, strict=True):
        filled = button.click(
            lambda words=words: (words, ""), None, [text, origin], api_visibility="private", queue=False
        )
        filled.then(show, [text, origin], answer, **shown)
    source = gr.Textbox("", visible=False, label="source")
    gr.on([], translate, [text, source], gr.JSON(visible=False), api_name="translate", **limits)


def _cards(made: dict[str, Any]) -> str:
    """One card a region, that of the text first."""
    regions = sorted(made["translations"], key=lambda region: region != made["source"])
    cards = ""
    for region in regions:
        words, own = pair(*REGIONS.get(region, (region, region))), region == made["source"]
        said = made["translations"][region]
        badge = f'<span class="chip">{both("this_one")}</span>' if own else ""
        copy = f'<button type="button" class="copy" data-copy="{html.escape(said)}">{both("copy")}</button>'
        cards += (
            f'<div class="panel region{" own" if own else ""}" role="group" aria-label="{html.escape(region)}">'
            f"<h3><span>{words}{badge}</span><span>{made['shares'][region]:.0%}</span></h3>"
            f'<p class="said">{_marked(made["text"], said)}</p>{copy}</div>'
        )
    return f'<div class="columns">{cards}</div><p class="aside">{both("dialect_shares")}</p>'


def _marked(text: str, said: str) -> str:
    """A translation with the words marked that are others than in the text."""
    before, after = text.split(), said.split()
    parts = []
    for kind, _, _, start, end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        words = html.escape(" ".join(after[start:end]))
        if words:
            parts.append(words if kind == "equal" else f"<mark>{words}</mark>")
    return " ".join(parts)
