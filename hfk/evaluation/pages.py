"""The HTML of a report: one page without scripts, with its style and pictures inside, readable on a phone.

Every piece of text that comes from outside (labels, texts, ids, `extra`) goes through `html.escape`, in the few helpers
at the end of the file that make elements.
"""

from __future__ import annotations

import base64
import html
import json
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --muted: #5f6b77; --rule: #dfe4e9; --paper: #ffffff;
  --card: #f6f8fa; --accent: #0b5c92; --bad: #a94400; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --muted: #9aa7b4; --rule: #323b45; --paper: #14181d;
  --card: #1d232a; --accent: #7cbce8; --bad: #f0a070; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR",
  sans-serif; word-break: keep-all; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .75rem; padding-top: 1.25rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
p, .note { margin: .25rem 0 .75rem; }
.note { color: var(--muted); font-size: .9rem; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
.numbers div { background: var(--card); border-radius: .5rem; padding: .8rem 1rem; }
.numbers b { display: block; font-size: 1.5rem; font-weight: 600; line-height: 1.2; }
.numbers span { color: var(--muted); font-size: .85rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .95rem; }
a { color: var(--accent); }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { text-align: right; padding: .4rem .6rem; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--muted); font-weight: 500; font-size: .85rem; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
th.text, td.text { text-align: left; }
td.number { white-space: nowrap; }
td.text, th.text { min-width: 4.5rem; max-width: 20rem; }
td small { display: block; color: var(--muted); font-size: .78rem; white-space: nowrap; }
.wrong { color: var(--bad); }
article { padding: .6rem 0; border-bottom: 1px solid var(--rule); font-size: .93rem; }
article p { margin: 0; }
article small { color: var(--muted); }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem;
  align-items: start; }
img { display: block; max-width: min(100%, 46rem); height: auto; margin: 0 auto; }
figure { margin: 0; padding: .25rem; border: 1px solid var(--rule); border-radius: .5rem; background: #fff; }
figure.wide { grid-column: 1 / -1; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .25rem 1.25rem; margin: 0; }
dt { color: var(--muted); } dd { margin: 0; }
pre { margin: 0; white-space: pre-wrap; font-size: .85rem; }
@media (max-width: 40rem) { body { padding: 1.25rem 1rem 3rem; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; } }
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } }
"""

# What a head's line of figures may hold, in this order.
FIGURES = {
    "accuracy": "accuracy",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "samples_f1": "sample-wise F1",
    "top3_accuracy": "top-3 accuracy",
    "map": "mAP",
    "ece": "ECE",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
}
SCORE_NAMES = {"single_label": "confidence", "multi_label": "off by at most", "regression": "off by"}


def render_page(
    results: dict[str, Any],
    tables: list[tuple[list[str], list[list[str]]]],
    overall: list[tuple[str, str]],
    sections: list[dict[str, Any]],
    pictures: dict[str, bytes],
) -> str:
    """Render the report page.

    Args:
        results: what `metrics.json` holds.
        tables: (header, lines) for each problem, the head's name first in a line.
        overall: (name, value) of the scores over all heads.
        sections: what to say about each head: `name`, `stem`, `problem`, `labelled`, `wide` (its confusion needs the
            page's width) and where known `confused`, `weakest`, `worst` and `calibration` (a sentence).
        pictures: file name → PNG.

    Returns:
        A whole HTML document.
    """
    extra = dict(results["extra"])
    title = str(extra.pop("title", "Evaluation"))
    numbers = [("rows", f"{results['counts']['rows']:,}"), *overall]
    links = (f'<a href="#{_text(section["stem"])}">{_text(section["name"])}</a>' for section in sections)
    body = [
        f"<h1>{_text(title)}</h1>",
        f"<nav>{''.join(links)}</nav>",
        '<div class="numbers">' + "".join(f"<div><b>{_text(v)}</b><span>{_text(n)}</span></div>" for n, v in numbers),
        "</div>",
        *(_scores_table(header, lines, results["intervals"]) for header, lines in tables),
    ]
    if any("majority" in " ".join(header) for header, _ in tables):
        body.append(
            '<p class="note">majority: always answering with the most frequent label of the training rows. '
            "Small figures: 95% bootstrap intervals.</p>"
        )
    elif results["intervals"]:
        body.append('<p class="note">Small figures: 95% bootstrap intervals.</p>')
    if "training_curves.png" in pictures:
        body += ["<h2>Training</h2>", _picture("training_curves.png", "training curves", pictures)]
    body += [_head_section(section, results["scores"], pictures) for section in sections]
    if extra:
        body += ["<h2>How this was made</h2>", _facts(extra)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _scores_table(header: list[str], lines: list[list[str]], intervals: dict[str, list[float]]) -> str:
    suffixes = {"accuracy": "accuracy", "macro-F1": "macro_f1"}
    body = []
    for name, *cells in lines:
        line = [_cell(name, "text")]
        for column, cell in zip(header[1:], cells, strict=True):
            interval = intervals.get(f"{name}_{suffixes.get(column)}")
            small = f"<small>{interval[0]:.3f}–{interval[1]:.3f}</small>" if interval else ""
            line.append(f'<td class="number">{_text(cell)}{small}</td>')
        body.append("".join(line))
    return _table(header, body, text_columns=1)


def _head_section(section: dict[str, Any], scores: dict[str, float], pictures: dict[str, bytes]) -> str:
    name, stem = section["name"], section["stem"]
    parts = [f'<h2 id="{_text(stem)}">{_text(name)}</h2>']
    if not section["labelled"]:
        return "\n".join([*parts, '<p class="note">No row is labelled for this head, so it has no scores.</p>'])
    own = {key.removeprefix(f"{name}_"): value for key, value in scores.items() if key.startswith(f"{name}_")}
    figures = (f"{title} {own[key]:.3f}" for key, title in FIGURES.items() if key in own)
    parts.append(f'<p class="note">{" · ".join(figures)}</p>')
    drawn = [
        _picture(f"{kind}_{stem}.png", f"{kind} of {name}", pictures, wide=kind == "confusion" and section["wide"])
        for kind in ("confusion", "reliability", "rejection", "calibration")
        if f"{kind}_{stem}.png" in pictures
    ]
    if section.get("calibration"):
        parts.append(f'<p class="note">{_text(section["calibration"])}</p>')
    if drawn:
        parts.append(f'<div class="pictures">{"".join(drawn)}</div>')
    if section.get("confused"):
        lines = [
            _cell(right, "text")
            + _cell(taken, "text wrong")
            + _cell(f"{count:,}")
            + _cell(f"{count / max(support, 1):.1%}")
            for right, taken, count, support in section["confused"]
        ]
        parts += ["<h3>Mixed up most often</h3>"]
        parts += [_table(["right", "chosen", "rows", "of this label"], lines, text_columns=2)]
    if section.get("weakest"):
        weakest = section["weakest"][:10]
        lines = [
            _cell(label, "text") + "".join(_cell(f"{value:.3f}") for value in values) + _cell(f"{support:,}")
            for label, *values, support in weakest
        ]
        parts += [f"<h3>{'Weakest labels' if len(section['weakest']) > 10 else 'Labels, weakest first'}</h3>"]
        parts += [_table(["label", "precision", "recall", "F1", "rows"], lines, text_columns=1)]
    if section.get("worst"):
        regression = section["problem"] == "regression"
        parts += [f"<h3>{'Largest errors' if regression else 'Wrong with most confidence'}</h3>"]
        parts += [_example(*example, score_name=SCORE_NAMES[section["problem"]]) for example in section["worst"]]
    return "\n".join(parts)


def _example(row: str, text: str, right: str, chosen: str, score: float, score_name: str) -> str:
    return (
        f'<article><p>{_text(right)} → <span class="wrong">{_text(chosen)}</span> '
        f"<small>{_text(score_name)} {score:.3g} · id {_text(row)}</small></p><p>{_text(_cut(text))}</p></article>"
    )


def _facts(extra: dict[str, Any]) -> str:
    lines = []
    for key, value in extra.items():
        plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
        lines.append(
            f"<dt>{_text(key)}</dt><dd>{f'<pre>{_text(plain)}</pre>' if chr(10) in plain else _text(plain)}</dd>"
        )
    return f"<dl>{''.join(lines)}</dl>"


def _table(header: list[str], lines: list[str], text_columns: int) -> str:
    styles = [' class="text"'] * text_columns + [""] * (len(header) - text_columns)
    head = "".join(f"<th{style}>{_text(title)}</th>" for title, style in zip(header, styles, strict=True))
    rows = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>'


def _cell(content: str, style: str = "number") -> str:
    return f'<td class="{style}">{_text(content)}</td>'


def _picture(file: str, description: str, pictures: dict[str, bytes], wide: bool = False) -> str:
    data = base64.b64encode(pictures[file]).decode("ascii")
    style = ' class="wide"' if wide else ""
    return f'<figure{style}><img alt="{_text(description)}" src="data:image/png;base64,{data}"></figure>'


def _cut(text: str, most: int = 240) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most] + "…"


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
