"""The page on which a person goes through likely label errors: tick, change, and save corrections.csv from the page.

One file without network: style, rows and pictures are inside, and corrections.csv is made by the page's own script. A
list of two thousand rows stays quick because the labels of a menu are filled in when it is opened. What was ticked
is kept in the browser's storage, so that a long review can be put down. The script is `page.js`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections import Counter
from importlib import resources
from typing import TYPE_CHECKING, Any

from PIL import Image

from ...evaluation.metrics import tree_roots
from ...evaluation.pages import STYLE, _cell, _cut, _table, _text
from ...models.configuration_multihead import HeadConfig
from ...models.image_preparation import ImageError, open_image

if TYPE_CHECKING:
    from .suspects import Rows, Suspect

MAX_ITEMS = 2000  # on the page; the list has all
MAX_PICTURES = 300
PICTURE_PIXELS = 160

OWN_STYLE = """
#tools { position: sticky; top: 0; z-index: 1; background: var(--paper); padding: .6rem 0; margin: 1rem 0 .5rem;
  border-bottom: 1px solid var(--rule); display: flex; flex-wrap: wrap; gap: .5rem .75rem; align-items: center; }
#tools label { font-size: .85rem; color: var(--muted); display: flex; gap: .35rem; align-items: center; }
select, input[type=search], button { font: inherit; font-size: .9rem; color: var(--ink); background: var(--card);
  border: 1px solid var(--rule); border-radius: .35rem; padding: .25rem .5rem; max-width: 100%; }
select { max-width: 13rem; }
button { cursor: pointer; }
button.main { background: var(--accent); border-color: var(--accent); color: var(--paper); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
article { display: grid; grid-template-columns: 1.6rem 1fr; gap: .1rem .5rem; content-visibility: auto;
  contain-intrinsic-size: auto 6rem; scroll-margin-top: 8rem; }
article.picture { grid-template-columns: 1.6rem 1fr auto; }
article > input { width: 1.15rem; height: 1.15rem; margin: .25rem 0 0; accent-color: var(--accent); }
article img { max-width: 9rem; max-height: 9rem; border-radius: .35rem; margin: 0; }
article.ticked { background: linear-gradient(90deg, var(--card), transparent); }
article .said { font-size: 1rem; }
article .change { display: flex; flex-wrap: wrap; gap: .2rem .5rem; align-items: center; margin: .25rem 0; }
article .change .name { color: var(--muted); min-width: 3.5rem; }
article .keep { color: var(--muted); font-size: .85rem; }
article s { text-decoration: none; color: var(--bad); }
[hidden] { display: none !important; }
kbd { font: inherit; font-size: .8rem; border: 1px solid var(--rule); border-radius: .25rem; padding: 0 .3rem; }
"""


def written(value: Any) -> str:
    """Write a label as corrections.csv does: several as a JSON list, a number with its digits, unknown as nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else f"{value:.9g}"


def render_audit(
    name: str,
    rows: Rows,
    heads: list[HeadConfig],
    suspects: list[Suspect],
    earlier: list[list[str]],
    max_given: float,
) -> str:
    """Render the page.

    Args:
        name: the task's name.
        rows: the out-of-fold rows.
        heads: their heads.
        suspects: what was found, in order; those of one row's hierarchy stand together.
        earlier: lines of corrections that the rows already had; they are saved along.
        max_given: as in `audit`, for the explanation.

    Returns:
        a whole HTML document.
    """
    roots = tree_roots(heads)
    items: list[list[Suspect]] = []
    for suspect in suspects:
        last = items[-1][0] if items else None
        if last and last.row == suspect.row and roots[last.head] == roots[suspect.head]:
            items[-1].append(suspect)
        else:
            items.append([suspect])
    data = {
        "heads": {
            head.name: {"labels": head.labels, "parent": _parent(head, heads), "parent_of": head.parent_of}
            for head in heads
        },
        "earlier": earlier,
        "key": hashlib.sha256(repr((name, [(rows.ids[s.row], s.head) for s in suspects])).encode()).hexdigest()[:16],
    }
    numbers = [
        ("rows", len(rows.ids)),
        ("rows listed", len(items)),
        ("rows proposed", sum(any(suspect.proposed for suspect in item) for item in items)),
    ]
    shown = []
    for place, item in enumerate(items[:MAX_ITEMS]):
        tree = [head for head in heads if roots[head.name] == roots[item[0].head]]
        shown.append(_article(place, item, rows, tree, picture=place < MAX_PICTURES))
    notes = ""
    if len(items) > MAX_ITEMS:
        notes += f" The first {MAX_ITEMS:,} of {len(items):,} rows are here; label_errors.csv lists all."
    if earlier:
        notes += f" The {len(earlier):,} lines of corrections that these rows already had are saved along."
    menu = "".join(f'<option value="{_text(head.name)}">{_text(head.name)}</option>' for head in heads)
    body = f"""<h1>{_text(name)}: labels to look at again</h1>
<p class="note">A model that had not seen the row doubts its label. Ticked: the given label got at most {max_given:.0%}
and another at least half. Tick what is wrong, choose the right label where the suggestion is not it, save
corrections.csv, and train with <code>corrections=corrections.csv</code>.{notes}</p>
<div class="numbers">{"".join(f"<div><b>{value:,}</b><span>{title}</span></div>" for title, value in numbers)}</div>
{_pairs(suspects)}
<div id="tools" role="search">
<label{" hidden" if len(heads) == 1 else ""}>head
<select id="head"><option value="">any</option>{menu}</select></label>
<label>given <select id="given"></select></label>
<label>suggested <select id="suggested"></select></label>
<label>show <select id="only"><option value="">all</option><option value="ticked">ticked</option>
<option value="open">not ticked</option></select></label>
<label><span>search</span><input type="search" id="words"></label>
<button id="all" type="button">Tick shown</button><button id="none" type="button">Untick shown</button>
<button id="save" type="button" class="main">Save corrections.csv</button>
<span id="count" class="note" role="status" style="margin:0"></span>
<span class="note" style="margin:0"><kbd>j</kbd> <kbd>k</kbd> next, previous · <kbd>Space</kbd> tick ·
<kbd>/</kbd> search</span>
</div>
<main>
{"".join(shown) or '<p class="note">No label looks wrong.</p>'}
</main>"""
    script = resources.files(__package__).joinpath("page.js").read_text(encoding="utf-8")
    embedded = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(name)}: label audit</title>\n<style>{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="data">{embedded}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _article(place: int, item: list[Suspect], rows: Rows, tree: list[HeadConfig], picture: bool) -> str:
    """One row: what it says, what its labels are and should be. A hierarchy is there whole, so that it can be kept."""
    row = item[0].row
    thumbnail = _thumbnail(rows.images[row]) if picture and rows.images else ""
    identity, text = rows.ids[row], rows.texts[row]
    ticked = " checked" if any(suspect.proposed for suspect in item) else ""
    by_head = {suspect.head: suspect for suspect in item}
    changes = "".join(_change(head, by_head.get(head.name), rows.labels[head.name][row]) for head in tree)
    reasons = " · ".join(suspect.reason for suspect in item if suspect.found)
    said = f'<p class="said">{_text(_cut(text, 400))}</p>' if text else ""
    label = _text(f"correct the row with id {identity}")
    return (
        f'<article id="i{place}" data-id="{_text(identity)}"{" class=picture" if thumbnail else ""}>'
        f'<input type="checkbox" aria-label="{label}"{ticked}><div>{said}{changes}'
        f"<p><small>{_text(reasons)} · id {_text(identity)}</small></p></div>{thumbnail}</article>\n"
    )


def _change(head: HeadConfig, suspect: Suspect | None, label: Any) -> str:
    """One label of a row: as it is given, and as it should be."""
    given = written(label)
    to = written(suspect.suggested) if suspect else given
    style = "change" if suspect else "change keep"
    left = f"<s>{_text(given)}</s>" if suspect else _text(given or "(unknown)")
    if head.problem == "single_label":
        shares = ["", ""]
        if suspect:
            shares = [f" <small>{p:.1%}</small>" for p in (suspect.given_probability, suspect.suggested_probability)]
        options = f'<option value="{_text(to)}" selected>{_text(to or "(unknown)")}</option>'
        menu = f'<select data-head="{_text(head.name)}" aria-label="{_text(f"right {head.name}")}">{options}</select>'
        left, right = left + shares[0], menu + shares[1]
    elif head.problem == "multi_label":
        removed = [f"<s>− {_text(name)}</s>" for name in label if name not in suspect.suggested]
        added = [f"<b>+ {_text(name)}</b>" for name in suspect.suggested if name not in label]
        left, right = _text(", ".join(label) or "none"), " ".join(removed + added)
    else:
        right = f"<b>{_text(to)}</b>"
    reason = _text(f"audit: {suspect.reason}" if suspect else "audit: by hand, to keep the hierarchy")
    return (
        f'<div class="{style}" data-head="{_text(head.name)}" data-from="{_text(given)}" data-to="{_text(to)}" '
        f'data-reason="{reason}"><span class="name">{_text(head.name)}</span>'
        f"<span>{left}</span><span>→</span><span>{right}</span></div>"
    )


def _pairs(suspects: list[Suspect]) -> str:
    """Which labels are doubted most often, as a table behind a triangle."""
    counts: Counter[tuple[str, str, str]] = Counter()
    proposed: Counter[tuple[str, str, str]] = Counter()
    for suspect in suspects:
        if suspect.found and isinstance(suspect.given, str):
            pair = suspect.head, suspect.given, suspect.suggested
            counts[pair] += 1
            proposed[pair] += suspect.proposed
    if not counts:
        return ""
    lines = [
        "".join(_cell(word, "text") for word in pair) + _cell(f"{count:,}") + _cell(f"{proposed[pair]:,}")
        for pair, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:20]
    ]
    table = _table(["head", "given", "suggested", "listed", "proposed"], lines, text_columns=3)
    return f"<details><summary>Which labels are doubted most often</summary>{table}</details>"


def _thumbnail(source: Any) -> str:
    if source is None:
        return ""
    try:
        picture = open_image(source)
    except ImageError:
        return ""
    picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{data}">'


def _parent(head: HeadConfig, heads: list[HeadConfig]) -> str | None:
    return head.parent if head.parent in [other.name for other in heads] else None
