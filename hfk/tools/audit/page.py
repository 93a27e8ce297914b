"""The page on which a person goes through likely label errors: tick, change, and save corrections.csv from the page.

A list of two thousand rows stays quick because the labels of a menu are filled in when it is opened. What was ticked
is kept in the browser's storage, so that a long review can be put down. What is shown is collected here; the looks are
page.html, what the page does page.js.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...evaluation.metrics import tree_roots
from ...evaluation.pages import render, thumbnail
from ...models.configuration_multihead import HeadConfig

if TYPE_CHECKING:
    from .suspects import Rows, Suspect

TEMPLATE = Path(__file__).with_name("page.html")
MAX_ITEMS = 2000  # on the page; the list has all
MAX_PICTURES = 300
PICTURE_PIXELS = 160


def written(value: Any) -> str:
    """Write a label as corrections.csv does: several as a JSON list, a number with its digits, unknown as nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else f"{value:.9g}"


def render_audit(name: str, rows: Rows, suspects: list[Suspect], earlier: list[list[str]], max_given: float) -> str:
    """Render the page of a task's suspects; the lines of corrections that the rows already had are saved along."""
    heads, ids = rows.said.heads, rows.said.ids
    roots = tree_roots(heads)
    items = []
    for (row, root), found in groupby(suspects, key=lambda suspect: (suspect.row, roots[suspect.head])):
        named = {suspect.head: suspect for suspect in found}
        family = [head for head in heads if roots[head.name] == root]  # whole, so that a hierarchy can be kept
        item = {"id": ids[row], "text": rows.texts[row], "ticked": any(one.proposed for one in named.values())}
        item["picture"] = thumbnail(rows.images[row], PICTURE_PIXELS) if len(items) < MAX_PICTURES else None
        item["reasons"] = [suspect.reason for suspect in named.values() if suspect.found]
        item["changes"] = [_change(head, named.get(head.name), rows.labels[head.name][row]) for head in family]
        items.append(item)
    key = repr((name, [(ids[suspect.row], suspect.head) for suspect in suspects])).encode()
    parents = {head.name: head.parent if head.parent in roots else None for head in heads}
    tree = {h.name: {"labels": h.labels, "parent": parents[h.name], "parent_of": h.parent_of} for h in heads}
    data = {"heads": tree, "earlier": earlier, "key": hashlib.sha256(key).hexdigest()[:16]}
    title = f"{name}: labels to look at again"
    facts = {"rows": len(ids), "items": items, "most": MAX_ITEMS, "pairs": _pairs(suspects), "data": data}
    return render(TEMPLATE, title=title, max_given=max_given, **facts)


def _change(head: HeadConfig, suspect: Suspect | None, label: Any) -> dict[str, Any]:
    """One label of a row: as it is given, and as it should be; of several labels, which go and which come."""
    to = written(suspect.suggested if suspect else label)
    change = {"head": head.name, "suspect": suspect, "given": written(label), "to": to, "changed": []}
    change["menu"] = head.rules.exclusive
    if suspect and isinstance(label, list):
        change["changed"] = [(False, one) for one in label if one not in suspect.suggested]
        change["changed"] += [(True, one) for one in suspect.suggested if one not in label]
        change["shown"] = ", ".join(label) or "none"
    return change


def _pairs(suspects: list[Suspect]) -> list[tuple[str, str, str, str, str]]:
    """Which labels are doubted most often: head, given, suggested, how often listed and proposed."""
    doubted = [((s.head, s.given, s.suggested), s.proposed) for s in suspects if s.found and isinstance(s.given, str)]
    listed, proposed = Counter(pair for pair, _ in doubted), Counter(pair for pair, proposed in doubted if proposed)
    most = sorted(listed.items(), key=lambda entry: (-entry[1], entry[0]))[:20]
    return [(*pair, f"{count:,}", f"{proposed[pair]:,}") for pair, count in most]
