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


def render_audit(
    name: str,
    rows: Rows,
    suspects: list[Suspect],
    earlier: list[list[str]],
    max_given: float,
) -> str:
    """Render the page.

    Args:
        name: the task's name.
        rows: the out-of-fold rows.
        suspects: what was found, in order; those of one row's hierarchy stand together.
        earlier: lines of corrections that the rows already had; they are saved along.
        max_given: as in `audit`, for the explanation.

    Returns:
        a whole HTML document.
    """
    heads, ids = rows.said.heads, rows.said.ids
    roots = tree_roots(heads)
    names = [head.name for head in heads]
    items = []
    for (row, root), found in groupby(suspects, key=lambda suspect: (suspect.row, roots[suspect.head])):
        by_head = {suspect.head: suspect for suspect in found}
        items.append(
            {
                "id": ids[row],
                "text": rows.texts[row],
                "picture": thumbnail(rows.images[row], PICTURE_PIXELS) if len(items) < MAX_PICTURES else None,
                "ticked": any(suspect.proposed for suspect in by_head.values()),
                "reasons": [suspect.reason for suspect in by_head.values() if suspect.found],
                # A hierarchy is there whole, so that it can be kept.
                "changes": [
                    _change(head, by_head.get(head.name), rows.labels[head.name][row])
                    for head in heads
                    if roots[head.name] == root
                ],
            }
        )
    data = {
        "heads": {
            head.name: {
                "labels": head.labels,
                "parent": head.parent if head.parent in names else None,
                "parent_of": head.parent_of,
            }
            for head in heads
        },
        "earlier": earlier,
        "key": hashlib.sha256(repr((name, [(ids[s.row], s.head) for s in suspects])).encode()).hexdigest()[:16],
    }
    return render(
        TEMPLATE,
        title=f"{name}: labels to look at again",
        rows=len(ids),
        items=items,
        most=MAX_ITEMS,
        pairs=_pairs(suspects),
        data=data,
        max_given=max_given,
    )


def _change(head: HeadConfig, suspect: Suspect | None, label: Any) -> dict[str, Any]:
    """One label of a row: as it is given, and as it should be; of several labels, which go and which come."""
    change = {
        "head": head.name,
        "suspect": suspect,
        "given": written(label),
        "to": written(suspect.suggested if suspect else label),
        "menu": head.rules.exclusive,
        "changed": [],
    }
    if suspect and isinstance(label, list):
        change["changed"] = [(False, one) for one in label if one not in suspect.suggested]
        change["changed"] += [(True, one) for one in suspect.suggested if one not in label]
        change["shown"] = ", ".join(label) or "none"
    return change


def _pairs(suspects: list[Suspect]) -> list[tuple[str, str, str, str, str]]:
    """Which labels are doubted most often: head, given, suggested, how often listed and proposed."""
    listed: Counter[tuple[str, str, str]] = Counter()
    proposed: Counter[tuple[str, str, str]] = Counter()
    for suspect in suspects:
        if suspect.found and isinstance(suspect.given, str):
            pair = suspect.head, suspect.given, suspect.suggested
            listed[pair] += 1
            proposed[pair] += suspect.proposed
    most = sorted(listed.items(), key=lambda entry: (-entry[1], entry[0]))[:20]
    return [(*pair, f"{count:,}", f"{proposed[pair]:,}") for pair, count in most]
