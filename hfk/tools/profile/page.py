"""The HTML of a data profile: one page without scripts, with its pictures inside, in the style of the report.

`profile.write_profile` computes the facts; here they become sections, tables and bars. Bars are CSS, so they follow the
reader's light or dark setting. Every text from outside is escaped, as in `report_page`.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np

from ...evaluation.pages import STYLE, _cell, _cut, _table, _text
from ...models.configuration_multihead import HeadConfig

OWN_STYLE = """
.findings { margin: 0 0 1rem; padding: .9rem 1.1rem .9rem 2.2rem; background: var(--card); border-radius: .5rem; }
.findings li { margin: .2rem 0; }
.bar { display: flex; min-width: 9rem; height: .8rem; margin-top: .35rem; border-radius: .15rem; overflow: hidden;
  background: transparent; }
.bar i { display: block; height: 100%; }
.train { background: #0072b2; } .validation { background: #e69f00; } .test { background: #009e73; }
.key { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem; margin: 0 .3rem 0 .9rem; }
.key:first-child { margin-left: 0; }
td.bars { width: 45%; }
.tree, .tree ul { list-style: none; margin: 0; padding-left: 1.1rem; }
.tree { padding-left: 0; columns: 2 18rem; font-size: .93rem; }
.tree li { break-inside: avoid; }
.tree > li { margin-bottom: .5rem; }
.tree ul { border-left: 1px solid var(--rule); margin-left: .3rem; }
.tree b { font-weight: 600; } .tree span { color: var(--muted); font-variant-numeric: tabular-nums; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: .6rem; }
.sheet figure { border: 1px solid var(--rule); padding: .2rem; background: #fff; }
.sheet img { width: 100%; height: 6.5rem; object-fit: contain; }
.sheet figcaption { font-size: .75rem; color: #5f6b77; padding: .15rem .2rem 0; line-height: 1.3; }
.clouds { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; margin-bottom: .75rem; }
.clouds.one { grid-template-columns: minmax(0, 31rem); }
.clouds figcaption { font-size: .78rem; color: #5f6b77; padding: .1rem .4rem .2rem; }
.words { font-size: .88rem; }
.words td { max-width: 24rem; }
.words small { display: inline; }
mark { background: none; color: var(--accent); font-weight: 600; }
.half { max-width: 31rem; }
details > summary { cursor: pointer; color: var(--accent); margin: .5rem 0; }
@media (max-width: 40rem) { .clouds { grid-template-columns: 1fr; } td.bars { min-width: 7rem; } }
"""
SPLITS = ("train", "validation", "test")
LONG = 30  # lines of a table, beyond which the rest is folded away


def render_profile(facts: dict[str, Any]) -> str:
    """Render the page.

    Args:
        facts: what `profile.write_profile` returns.

    Returns:
        A whole HTML document.
    """
    sections = [("classes", "Classes", _classes(facts)), ("texts", "Texts", _texts(facts))]
    sections += [("words", "Words", _words(facts)), ("pictures", "Pictures", _images(facts))]
    sections += [
        ("duplicates", "Duplicates", _duplicates(facts)),
        ("conflicts", "One input, two answers", _conflicts(facts)),
    ]
    sections += [
        ("disagreements", "Text against picture", _disagreements(facts)),
        ("examples", "Examples", _examples(facts)),
    ]
    sections = [section for section in sections if section[2]]
    numbers = [
        ("rows", facts["rows"]),
        *((split, facts["splits"][split]) for split in SPLITS if split in facts["splits"]),
    ]
    numbers += [("head" if len(facts["heads"]) == 1 else "heads", len(facts["heads"]))]
    if "text" in facts["duplicates"]:
        found = facts["duplicates"]["text"]
        numbers.append(("repeated texts", found["same"] + found["near"]))
    if "image" in facts["duplicates"]:
        found = facts["duplicates"]["image"]
        numbers.append(("repeated pictures", found["same"] + found["near"]))
    title = f"{facts['title']}: data profile"
    body = [
        f"<h1>{_text(title)}</h1>",
        "<nav>" + "".join(f'<a href="#{anchor}">{_text(name)}</a>' for anchor, name, _ in sections) + "</nav>",
        '<div class="numbers">' + "".join(f"<div><b>{n:,}</b><span>{_text(name)}</span></div>" for name, n in numbers),
        "</div>",
    ]
    if facts["findings"]:
        items = "".join(f"<li>{_text(finding)}</li>" for finding in facts["findings"])
        body += ["<h3>What to look at first</h3>", f'<ul class="findings">{items}</ul>']
    body += [f'<h2 id="{anchor}">{_text(name)}</h2>\n{content}' for anchor, name, content in sections]
    return (
        '<!doctype html>\n<html lang="ko">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


# ------------------------------------------------------------------------------------------------------------- classes


def _classes(facts: dict[str, Any]) -> str:
    splits = [split for split in SPLITS if split in facts["splits"]]
    keys = "".join(f'<span class="key {split}"></span>{split}' for split in splits)
    parts = [f'<p class="note">{keys}</p>' if facts["classes"] else ""]
    if facts["augmented"]:
        note = "train, augmented: training rows, and the copies to expect in an epoch with <code>eda: true</code>."
        parts.append(f'<p class="note">{note}</p>')
    heads: list[HeadConfig] = facts["heads"]
    for number, head in enumerate(heads):
        missing = facts["missing"][head.name]
        known = facts["rows"] - sum(missing.values())
        note = f"{head.problem.replace('_', ' ')}, {known:,} of {facts['rows']:,} rows labelled"
        if missing:
            note += " (missing: " + ", ".join(f"{split} {count:,}" for split, count in missing.items()) + ")"
        parts.append(f'<h3>{_text(head.name)}</h3><p class="note">{_text(note)}</p>')
        if head.problem == "regression":
            parts.append(_picture(facts["pictures"].get(f"values_{number}"), f"values of {head.name}"))
            continue
        parts.append(_counts_table(head, facts, splits, known))
    tree = _tree(heads, facts["classes"])
    return "\n".join([*parts, *(["<h3>Hierarchy</h3>", tree] if tree else [])])


def _counts_table(head: HeadConfig, facts: dict[str, Any], splits: list[str], known: int) -> str:
    classes = facts["classes"][head.name]
    totals = {label: sum(counts.values()) for label, counts in classes.items()}
    most = max(totals.values(), default=0) or 1
    augmented = facts["augmented"].get(head.name)
    lines = []
    for label in sorted(classes, key=lambda label: -totals[label]):
        bar = "".join(
            f'<i class="{split}" style="width:{100 * classes[label].get(split, 0) / most:.2f}%"></i>'
            for split in splits
        )
        lines.append(
            _cell(label, "text")
            + f'<td class="bars"><div class="bar">{bar}</div></td>'
            + _cell(f"{totals[label]:,}")
            + _cell(f"{totals[label] / max(known, 1):.1%}")
            + "".join(_cell(f"{classes[label].get(split, 0):,}") for split in splits)
            + (_cell(f"{augmented[label]:,.0f}") if augmented else "")
        )
    return _folded(
        ["label", "", "rows", "share", *splits, *(["train, augmented"] if augmented else [])], lines, text_columns=1
    )


def _folded(header: list[str], lines: list[str], text_columns: int, limit: int = LONG) -> str:
    shown = _table(header, lines[:limit], text_columns)
    if len(lines) <= limit:
        return shown
    rest = _table(header, lines[limit:], text_columns)
    return f"{shown}<details><summary>{len(lines) - limit:,} more</summary>{rest}</details>"


def _tree(heads: list[HeadConfig], classes: dict[str, Any]) -> str:
    by_parent = {head.parent: head for head in heads if head.parent is not None and head.parent_of is not None}
    roots = [head for head in heads if head.parent is None and head.name in by_parent]

    def count(head: HeadConfig, label: str) -> int:
        return sum(classes[head.name][label].values())

    def items(head: HeadConfig, labels: list[int]) -> str:
        child = by_parent.get(head.name)
        lines = []
        for index in sorted(labels, key=lambda index: -count(head, head.labels[index])):
            below = [i for i, parent in enumerate(child.parent_of) if parent == index] if child else []
            name = f"<b>{_text(head.labels[index])}</b>" if child else _text(head.labels[index])
            inner = f"<ul>{items(child, below)}</ul>" if child and below else ""
            lines.append(f"<li>{name} <span>{count(head, head.labels[index]):,}</span>{inner}</li>")
        return "".join(lines)

    return "".join(
        f'<p class="note">{_text(" > ".join(_chain(root, by_parent)))}</p>'
        f'<ul class="tree">{items(root, list(range(len(root.labels))))}</ul>'
        for root in roots
    )


def _chain(head: HeadConfig, by_parent: dict[str, HeadConfig]) -> list[str]:
    names = [head.name]
    while names[-1] in by_parent:
        names.append(by_parent[names[-1]].name)
    return names


# --------------------------------------------------------------------------------------------------------------- texts


def _texts(facts: dict[str, Any]) -> str:
    texts = facts.get("texts")
    if texts is None:
        return ""
    kinds = ", ".join(
        f"{name} in {count / max(texts['present'], 1):.1%}" for name, count in texts["kinds"].items() if count
    )
    note = f"{texts['present']:,} texts; {kinds}."
    if texts["absent"]:
        note += f" {texts['absent']:,} rows have none."
    parts = [f"<p>{_text(note)}</p>"]
    if facts["cleaning"] is not None:
        before, after = texts["vocabulary"]
        says = "would change" if facts["trial"] else "changes"
        steps = ", ".join(
            step if isinstance(step, str) else json.dumps(step, ensure_ascii=False) for step in facts["cleaning"]
        )
        parts.append(
            f"<p>Cleaning {says} {texts['changed']:,} of them; different words: {before:,} before, {after:,} after. "
            f'<span class="note">Steps: {_text(steps)}.</span></p>'
        )
        if texts["emptied"]:
            lines = [_cell(identity, "text") + _cell(_cut(text, 80), "text") for identity, text in texts["emptied"]]
            parts += ["<h3>Nothing left after cleaning</h3>", _folded(["id", "text"], lines, 2)]
    lines = []
    for unit, columns in facts["lengths"].items():
        for when, values in columns.items():
            if not len(values):
                continue
            name = f"{unit}, {when} cleaning" if len(columns) > 1 else unit
            cells = [f"{int(np.quantile(values, q)):,}" for q in (0, 0.5, 0.95, 0.99, 1)]
            limit = facts["max_length"] if unit == "tokens" else None
            beyond = f"{(values > limit).mean():.2%}" if limit else ""
            lines.append(
                _cell(name, "text") + _cell(f"{values.mean():.1f}") + "".join(map(_cell, cells)) + _cell(beyond)
            )
    header = ["length in", "mean", "shortest", "half up to", "95%", "99%", "longest", "beyond max_length"]
    parts.append(_table(header, lines, 1))
    if facts["tokenizer"]:
        note = f"Tokens of {facts['tokenizer']}, special tokens and prefix included"
        parts.append(f'<p class="note">{_text(note)}; training cuts at {facts["max_length"]}.</p>')
    else:
        parts.append('<p class="note">No tokenizer was at hand, so tokens were not counted.</p>')
    drawn = [
        _picture(picture, f"histogram of {name}")
        for name, picture in facts["pictures"].items()
        if name.startswith("lengths_")
    ]
    return "\n".join([*parts, f'<div class="pictures">{"".join(drawn)}</div>'])


def _words(facts: dict[str, Any]) -> str:
    parts = []
    clouds = facts.get("clouds") or {}
    if clouds:
        left = f"; the {clouds['left_out']} smaller classes are left out" if clouds["left_out"] > 0 else ""
        note = f"Word clouds by {clouds['head']}{left}. A word counts once a text."
        parts.append(f'<p class="note">{_text(note)}</p>')
        for label, columns in clouds["classes"].items():
            drawn = [
                f'<figure><img alt="{_text(f"word cloud of {label}, {when} cleaning")}" src="{_data(picture)}">'
                + (f"<figcaption>{when} cleaning</figcaption>" if len(columns) > 1 else "")
                + "</figure>"
                for when, picture in columns.items()
                if picture
            ]
            if drawn:
                style = "clouds" if len(columns) > 1 else "clouds one"
                parts.append(f'<h3>{_text(label)}</h3><div class="{style}">{"".join(drawn)}</div>')
    for head, labels in facts.get("words", {}).items():
        after = any("after" in words for words in labels.values())
        names = {"before": "most frequent" + (", before cleaning" if after else ""), "after": "most frequent, after"}
        columns = [name for name in ("before", "after", "typical") if any(name in words for words in labels.values())]
        lines = [
            _cell(label, "text") + "".join(f'<td class="text">{_word_list(words[name], name)}</td>' for name in columns)
            for label, words in labels.items()
        ]
        header = ["label", *(names.get(name, "typical: more often than in the other classes") for name in columns)]
        parts += [
            f"<h3>Words by {_text(head)}</h3>",
            f'<div class="words">{_folded(header, lines, len(header), LONG // 2)}</div>',
        ]
    return "\n".join(parts)


def _word_list(words: list[tuple[str, int]], name: str) -> str:
    return ", ".join(
        f"{f'<mark>{_text(word)}</mark>' if name == 'typical' else _text(word)} <small>{count:,}</small>"
        for word, count in words
    )


def _examples(facts: dict[str, Any]) -> str:
    parts = []
    for head, labels in facts.get("examples", {}).items():
        parts.append(f'<p class="note">Drawn by chance, by {_text(head)}.</p>')
        for place, (label, rows) in enumerate(labels.items()):
            if place == LONG:
                parts.append(f"<details><summary>{len(labels) - LONG} more</summary>")
            parts.append(f"<h3>{_text(label)}</h3>")
            for identity, text, cleaned in rows:
                after = (
                    f"<p><small>after cleaning:</small> {_text(_cut(cleaned or '—'))}</p>"
                    if cleaned not in (None, text)
                    else ""
                )
                parts.append(
                    f"<article><p>{_text(_cut(text))} <small>id {_text(identity)}</small></p>{after}</article>"
                )
        parts.append("</details>" if len(labels) > LONG else "")
    return "\n".join(parts)


# ------------------------------------------------------------------------------------------------ pictures, duplicates


def _images(facts: dict[str, Any]) -> str:
    images = facts.get("images")
    if images is None:
        return ""
    note = f"{images['present']:,} rows with a picture, {images['missing']:,} without"
    if images["formats"]:
        note += "; " + ", ".join(f"{count:,} {name}" for name, count in images["formats"].items())
    drawn = _picture(facts["pictures"].get("sizes"), "picture sizes")
    parts = [f"<p>{_text(note)}.</p>", f'<div class="pictures half">{drawn}</div>']
    if images["unreadable"]:
        lines = [_cell(identity, "text") + _cell(file, "text") for identity, file in images["unreadable"]]
        parts += [f"<h3>{len(lines):,} that can't be read</h3>", _folded(["id", "file"], lines, 2)]
    if facts.get("sheet"):
        tiles = "".join(_tile(f"{tile['label']}", tile["id"], tile["jpeg"]) for tile in facts["sheet"])
        parts += ["<h3>Some of all classes</h3>", f'<div class="sheet">{tiles}</div>']
    return "\n".join(parts)


def _tile(label: str, identity: str, jpeg: bytes) -> str:
    caption = f"{_text(label)}<br>{_text(identity)}" if label else _text(identity)
    picture = f'<img alt="{_text(f"{label} {identity}")}" src="{_data(jpeg)}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _duplicates(facts: dict[str, Any]) -> str:
    found, parts = facts["duplicates"], []
    for kind, name in (("text", "texts"), ("image", "pictures")):
        if kind not in found:
            continue
        own = found[kind]
        note = (
            f"{own['same']:,} rows repeat the {kind} of an earlier row exactly, {own['near']:,} nearly; "
            f"{own['in_groups']:,} rows are in such groups."
        )
        parts.append(f"<h3>{name.capitalize()}</h3><p>{_text(note)}</p>")
        if not own["groups"]:
            continue
        if kind == "text":
            lines = []
            for number, group in enumerate(own["groups"], 1):
                cells = "".join(
                    f"<p>{_text(_cut(text, 110))} <small>{_text(split)}, id {_text(identity)}</small></p>"
                    for identity, split, text in group
                )
                lines.append(_cell(str(number)) + f'<td class="text">{cells}</td>')
            parts.append(
                "<details><summary>The largest groups</summary>"
                f'<div class="words">{_table(["", "rows"], lines, 2)}</div></details>'
            )
        else:
            for group in own["groups"][:6]:
                tiles = "".join(_tile(split, identity, jpeg) for identity, split, jpeg in group)
                parts.append(f'<div class="sheet" style="margin-bottom:.6rem">{tiles}</div>')
    if len(facts["splits"]) > 1:
        across = ", ".join(f"{count:,} rows of {split}" for split, count in found["across"].items())
        note = f"{across} have a look-alike in train." if across else "No look-alikes stand on two sides of a split."
        parts.append(f"<p>{_text(note)}</p>")
    return "\n".join(parts)


def _conflicts(facts: dict[str, Any]) -> str:
    if not facts["conflicts"]:
        return ""
    lines = []
    for conflict in facts["conflicts"]:
        answers = "".join(
            f"<p>{_text(label)} <small>{_text(split)}, id {_text(identity)}</small></p>"
            for identity, split, label in conflict["rows"][:6]
        )
        lines.append(
            _cell(_cut(conflict["text"], 110), "text")
            + _cell(conflict["head"], "text")
            + f'<td class="text">{answers}</td>'
        )
    note = "The same letters and digits, and the same picture, with different labels. At most one of them can be right."
    return f'<p class="note">{note}</p>' + f'<div class="words">{_folded(["input", "head", "labels"], lines, 3)}</div>'


def _disagreements(facts: dict[str, Any]) -> str:
    if not facts["disagreements"]:
        return ""
    lines = [
        _cell(row["id"], "text")
        + _cell(_cut(row["text"], 110), "text")
        + _cell(row["head"], "text")
        + "".join(_cell(row[name], "text") for name in ("label", "by_text", "by_image"))
        + _cell(f"{row['distance']:.3f}")
        for row in facts["disagreements"]
    ]
    note = (
        "Rows for which the checkpoint, given the text alone and the picture alone, is surest of different labels: "
        "a wrong picture, a wrong text, or a wrong label. The distance is the Jensen-Shannon divergence, 0 to 1."
    )
    header = ["id", "text", "head", "label", "by text", "by picture", "distance"]
    return f'<p class="note">{note}</p><div class="words">{_folded(header, lines, 6)}</div>'


def _picture(picture: bytes | None, description: str) -> str:
    if picture is None:
        return ""
    return f'<figure><img alt="{_text(description)}" src="{_data(picture)}"></figure>'


def _data(picture: bytes) -> str:
    kind = "jpeg" if re.match(rb"\xff\xd8", picture) else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
