"""Charts of the report as HTML: bars and a histogram in the page's own colors and fonts, and pictures as data."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import numpy as np
from answers import bar

BINS = 24
WIDTH, HEIGHT, FOOT = 480, 120, 22


def counts_chart(counts: dict[str, int]) -> str:
    """Rows by label, most first.

    Args:
        counts: label → rows.
    """
    most = max([*counts.values(), 1])
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    bars = "".join(bar(label, count / most, f"{count:,}") for label, count in ordered)
    return f'<ul class="bars counts">{bars}</ul>'


def histogram(lengths: list[int], description: str) -> str:
    """A histogram as SVG.

    Args:
        lengths: the values; a few of the largest are gathered in the last bar.
        description: for those who can't see it.
    """
    values = np.asarray(lengths)
    end = max(float(np.quantile(values, 0.99)), 1.0)
    heights, edges = np.histogram(np.minimum(values, end), bins=min(BINS, int(end)), range=(0, end))
    step, tallest = WIDTH / len(heights), max(int(heights.max()), 1)
    bars = "".join(
        f'<rect x="{place * step + 1:.1f}" y="{HEIGHT - height / tallest * HEIGHT:.1f}" width="{step - 2:.1f}" '
        f'height="{height / tallest * HEIGHT:.1f}"/>'
        for place, height in enumerate(heights)
    )
    ticks = "".join(
        f'<text x="{share * WIDTH:.0f}" y="{HEIGHT + FOOT - 6}" text-anchor="{anchor}">{edges[-1] * share:.0f}</text>'
        for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    return (
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" role="img" '
        f'aria-label="{html.escape(description)}"><g>{bars}</g><g>{ticks}</g></svg>'
    )


def picture(path: Path, alt: str, caption: str) -> str:
    """A picture file as a figure; empty if there is no such file.

    Args:
        path: a PNG.
        alt: for those who can't see it; escaped.
        caption: HTML under it.
    """
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure class="zoom" tabindex="0" role="button"><img src="data:image/png;base64,{data}" '
        f'alt="{html.escape(alt)}" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
