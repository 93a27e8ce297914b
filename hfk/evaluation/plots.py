"""Pictures of an evaluation, each returned as the bytes of a PNG: confusion, reliability, training curves, lengths.

Figures are made with matplotlib's object-oriented API, never pyplot, so a user's backend, style and open figures stay
as they are. Korean comes from a packaged font (`pip install "hfk[plots]"`), or from one that the system has; characters
that it lacks fall back to matplotlib's own. Colours are Okabe and Ito's colour-blind-safe set and one blue ramp.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics import expected_calibration_error, most_confused, reliability_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
COUNTS_UP_TO = 25  # labels; beyond, a cell has no room for its count
MATRIX_UP_TO = 60  # labels; beyond, nobody can read the matrix: the pairs that are mixed up are drawn instead

INK, MUTED, RULE, PALE = "#1f2933", "#66727f", "#d9dee4", "#eef2f6"
BLUE, VERMILLION = "#0072B2", "#D55E00"
LINES = (BLUE, VERMILLION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
DASHES = ("-", "--", ":", "-.")
# Steep at the low end: a mistake that takes 5% of a line must not look white.
RAMP = ((0, "#ffffff"), (0.04, "#e3eef6"), (0.2, "#aecfe5"), (0.55, "#4a90c2"), (1, "#0b4f82"))

# Packages are looked up without being imported: koreanize_matplotlib changes the user's settings on import.
_PACKAGED_FONTS = (
    ("pylopdf_fonts_ko", "NotoSansKR-Regular.otf"),
    ("koreanize_matplotlib", "fonts/NanumGothic.ttf"),
)
_SYSTEM_FONTS = (
    "Noto Sans KR",
    "Noto Sans CJK KR",
    "Pretendard",
    "NanumGothic",
    "Apple SD Gothic Neo",
    "Malgun Gothic",
)


def confusion_png(target: np.ndarray, chosen: np.ndarray, labels: list[str], title: str = "Confusion") -> bytes:
    """Draw which labels are taken for which.

    Only labels that occur are drawn. Colours are shares of a row (of a right label); up to 25 labels the cells carry
    counts; above 60 labels the most confused pairs are drawn as bars instead.

    Args:
        target: int `(rows,)`, the right labels.
        chosen: int `(rows,)`, the chosen labels.
        labels: label names in index order.
        title: what stands above.

    Returns:
        a PNG.
    """
    occurring = np.union1d(target, chosen)
    if len(occurring) > MATRIX_UP_TO:
        return _confused_pairs_png(target, chosen, labels, title)
    size = len(occurring)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (np.searchsorted(occurring, target), np.searchsorted(occurring, chosen)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    cell, font_size = next(
        look for limit, *look in ((8, 0.62, 10), (COUNTS_UP_TO, 0.44, 9), (999, 0.2, 7)) if size <= limit
    )
    figure, axes = _figure(size * cell, size * cell)
    image = axes.imshow(shares, cmap=_ramp(), vmin=0, vmax=1, interpolation="nearest")
    names = [_shorten(labels[index]) for index in occurring]
    axes.set_xticks(range(size), names, rotation=90 if size > 8 else 45, ha="center" if size > 8 else "right")
    if size <= 8:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")
    axes.set_yticks(range(size), names)
    axes.tick_params(length=0, labelsize=font_size, labelcolor=INK, pad=4)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PALE, linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_color(RULE)
    axes.set_xlabel("chosen", fontsize=10, color=MUTED, labelpad=8)
    axes.set_ylabel("right", fontsize=10, color=MUTED, labelpad=8)
    if size <= COUNTS_UP_TO:
        for row, column in np.argwhere(counts):
            ink = "white" if shares[row, column] > 0.55 else INK
            count = counts[row, column]
            small = font_size - (0 if count < 1000 else 1.5 if count < 10_000 else 2.5)
            axes.text(column, row, str(count), ha="center", va="center", fontsize=small, color=ink)
    width = size * cell
    bar = figure.add_axes((1 + 0.15 / width, 0, 0.1 / width, 1))
    scale = figure.colorbar(image, cax=bar, ticks=[0, 0.5, 1])
    scale.ax.set_yticklabels(["0%", "50%", "100%"], fontsize=8, color=MUTED)
    scale.ax.tick_params(length=0)
    scale.outline.set_visible(False)
    left_out = "" if size == len(labels) else f"; {size} of {len(labels)} labels occur"
    unit = "numbers are rows, " if size <= COUNTS_UP_TO else ""
    _titles(axes, title, f"{len(target):,} rows; {unit}colours are shares of a line{left_out}")
    return _png(figure)


def reliability_png(confidence: np.ndarray, right: np.ndarray, title: str = "Reliability") -> bytes:
    """Draw accuracy against confidence, with a histogram of the confidence and the ECE.

    Args:
        confidence: `(rows,)`, the probability of the chosen label.
        right: bool `(rows,)`, whether it was right.
        title: what stands above.

    Returns:
        a PNG.
    """
    count, mean_confidence, accuracy = reliability_bins(confidence, right)
    edges = np.linspace(0, 1, len(count) + 1)
    middle, width = (edges[:-1] + edges[1:]) / 2, edges[1] * 0.86
    filled = count > 0
    figure, axes = _figure(4.6, 3.5)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.1, linestyle="--", zorder=3, label="as right as confident")
    axes.bar(middle[filled], accuracy[filled], width, color=BLUE, alpha=0.85, zorder=2, label="rows of this confidence")
    axes.scatter(
        mean_confidence[filled], accuracy[filled], s=16, color=VERMILLION, zorder=4, label="at the mean confidence"
    )
    axes.set_ylabel("share that is right", fontsize=9, color=MUTED)
    _plain(axes, x=(0, 1), y=(0, 1.02), grid="y")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    axes.tick_params(labelbottom=False)
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -0.52), ncols=3, fontsize=8, frameon=False, labelcolor=INK,
        columnspacing=1.2, handlelength=1.4,
    )  # fmt: skip
    below = figure.add_axes((0, -0.36, 1, 0.28))
    below.bar(middle, count, width, color="#9fb3c4", zorder=2)
    below.set_ylabel("rows", fontsize=9, color=MUTED)
    below.set_xlabel("confidence in the chosen label", fontsize=9, color=MUTED)
    _plain(below, x=(0, 1), grid="y")
    below.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    below.locator_params(axis="y", nbins=3, integer=True)
    ece = expected_calibration_error(confidence, right)
    mean = f"{np.mean(confidence):.1%} confident, {np.mean(right):.1%} right"
    _titles(axes, title, f"ECE {ece:.3f}; {len(confidence):,} rows, on average {mean}")
    return _png(figure)


def training_curves_png(log_history: list[dict[str, Any]], title: str = "Training") -> bytes | None:
    """Draw loss, macro F1 of each head, and learning rate over the steps.

    Args:
        log_history: the entries of `Trainer.state.log_history`.
        title: what stands above.

    Returns:
        a PNG, or None when the history holds nothing to draw.
    """
    logged = dict.fromkeys(key for entry in log_history for key in entry)
    macro = [key for key in logged if key.startswith("eval_") and key.endswith("_macro_f1")]
    macro.sort(key=lambda key: _head_of(key) == "mean")  # the heads as they come, their mean last
    panels = [
        ("loss", {"training": _series(log_history, "loss"), "validation": _series(log_history, "eval_loss")}, 2.1),
        ("macro F1", {_head_of(key): _series(log_history, key) for key in macro}, 2.1),
        ("learning rate", {"": _series(log_history, "learning_rate")}, 0.9),
    ]
    panels = [(name, {n: s for n, s in lines.items() if len(s[0])}, height) for name, lines, height in panels]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return None
    last = max(steps[-1] for _, lines, _ in panels for steps, _ in lines.values())
    figure, axes = _figure(6.2, panels[0][2])
    top, gap = axes, 0.3
    bottom = 0.0
    for index, (name, lines, height) in enumerate(panels):
        if index:
            bottom -= (height + gap) / panels[0][2]
            axes = figure.add_axes((0, bottom, 1, height / panels[0][2]))
        for place, (label, (steps, values)) in enumerate(lines.items()):
            colour, dash = LINES[place % len(LINES)], DASHES[place // len(LINES) % len(DASHES)]
            colour, width = (INK, 1.2) if label == "mean" else (colour, 1.6)
            marker = "o" if len(steps) < 40 and name != "learning rate" and label != "training" else None
            axes.plot(steps, values, dash, color=colour, linewidth=width, marker=marker, markersize=3.2, label=label)
        axes.set_ylabel(name, fontsize=9, color=MUTED)
        _plain(axes, x=(0, max(last, 1) * 1.01), grid="y")
        if name == "learning rate":
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
            axes.yaxis.get_offset_text().set(fontsize=8, color=MUTED)
            axes.locator_params(axis="y", nbins=3)
        if list(lines) != [""]:
            axes.legend(
                loc="upper left",
                bbox_to_anchor=(1.01, 1.03),
                fontsize=8,
                frameon=False,
                labelcolor=INK,
                borderaxespad=0,
            )
        axes.tick_params(labelbottom=index == len(panels) - 1)
    axes.set_xlabel("step", fontsize=9, color=MUTED)
    _titles(top, title, f"{last:,} steps")
    return _png(figure)


def lengths_png(
    lengths: np.ndarray, title: str = "Text lengths", unit: str = "tokens", limit: int | None = None
) -> bytes:
    """Draw a histogram of text lengths, to choose a `max_length` by.

    Args:
        lengths: one length a text.
        title: what stands above.
        unit: what the lengths count.
        limit: the planned maximum; drawn as a line, with the share of texts beyond it.

    Returns:
        a PNG.
    """
    lengths = np.asarray(lengths)
    if lengths.size == 0:
        raise ValueError("there are no lengths to draw.")
    # A few very long texts would squeeze all others into one bar: the last bar gathers what is beyond.
    end = max(float(np.quantile(lengths, 0.995)), (limit or 0) * 1.1, 1.0)
    figure, axes = _figure(6.2, 2.6)
    axes.hist(
        np.minimum(lengths, end), bins=min(50, max(5, int(end))), range=(0, end), color=BLUE, alpha=0.85, zorder=2
    )
    _plain(axes, x=(0, end * 1.01), grid="y")
    axes.set_xlabel(unit, fontsize=9, color=MUTED)
    axes.set_ylabel("texts", fontsize=9, color=MUTED)
    half, most, longest = (int(np.quantile(lengths, q)) for q in (0.5, 0.95, 1))
    note = f"{lengths.size:,} texts; half up to {half:,} {unit}, 95% up to {most:,}, the longest {longest:,}"
    if limit is not None:
        axes.axvline(limit, color=VERMILLION, linewidth=1.4, zorder=3)
        axes.annotate(
            f"{limit:,}: {np.mean(lengths > limit):.1%} are longer",
            (limit, 0.97), xycoords=("data", "axes fraction"), xytext=(-5, 0), textcoords="offset points",
            ha="right", va="top", fontsize=9, color=VERMILLION,
        )  # fmt: skip
    _titles(axes, title, note)
    return _png(figure)


@lru_cache(maxsize=1)
def font_families() -> list[str]:
    """Name the font families that pictures use: one with Korean, if there is any, and matplotlib's own behind it.

    A packaged font is registered with matplotlib's font manager, which adds it to the list of known fonts and changes
    no setting.

    Returns:
        family names, the first preferred.
    """
    manager = _font_manager()
    fallback = "DejaVu Sans"
    for package, file in _PACKAGED_FONTS:
        found = importlib.util.find_spec(package)
        path = Path(found.origin).parent / file if found and found.origin else None
        if path and path.is_file():
            manager.fontManager.addfont(path)
            return [manager.FontProperties(fname=path).get_name(), fallback]
    known = {font.name for font in manager.fontManager.ttflist}
    for name in _SYSTEM_FONTS:
        if name in known:
            return [name, fallback]
    warnings.warn('no Korean font was found, labels will show as boxes: pip install "hfk[plots]"', stacklevel=2)
    return [fallback]


def _confused_pairs_png(target: np.ndarray, chosen: np.ndarray, labels: list[str], title: str) -> bytes:
    pairs = most_confused(target, chosen, labels, limit=25)
    figure, axes = _figure(4.2, max(0.24 * len(pairs), 0.5))
    shares = [count / support if support else 0 for _, _, count, support in pairs]
    axes.barh(range(len(pairs)), [count for _, _, count, _ in pairs], 0.68, color=BLUE, alpha=0.85, zorder=2)
    for place, ((_, _, count, support), share) in enumerate(zip(pairs, shares, strict=True)):
        axes.annotate(
            f"{count:,} of {support:,} ({share:.0%})", (count, place), xytext=(5, 0), textcoords="offset points",
            va="center", fontsize=8, color=MUTED,
        )  # fmt: skip
    names = [f"{_shorten(right)} → {_shorten(taken)}" for right, taken, _, _ in pairs]
    axes.set_yticks(range(len(pairs)), names)
    _plain(axes, y=(len(pairs) - 0.4, -0.6), grid="x")
    axes.tick_params(axis="y", labelsize=9, labelcolor=INK)
    axes.locator_params(axis="x", integer=True, nbins=5)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_visible(True)
    wrong = int((target != chosen).sum())
    shown = sum(count for _, _, count, _ in pairs)
    note = f"right → chosen, rows; these {len(pairs)} pairs are {shown:,} of {wrong:,} mistakes in {len(target):,} rows"
    _titles(axes, title, note if wrong else f"no mistakes in {len(target):,} rows")
    return _png(figure)


def _series(log_history: list[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Collect (steps, values) of one key; a resumed run may log a step twice, the later entry counts."""
    found = {entry["step"]: entry[key] for entry in log_history if key in entry and "step" in entry}
    points = sorted((step, value) for step, value in found.items() if np.isfinite(value))
    return np.array([step for step, _ in points]), np.array([value for _, value in points])


def _head_of(key: str) -> str:
    return key.removeprefix("eval_").removesuffix("_macro_f1")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure whose one axes is `width` × `height` inches; labels lie outside, `_png` makes room for them."""
    _font_manager()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    return figure, figure.add_axes((0, 0, 1, 1), facecolor="white")


def _plain(axes: Axes, x: tuple | None = None, y: tuple | None = None, grid: str = "y") -> None:
    """Leave of an axes what is needed: a base line, a faint grid, small ticks."""
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)
    axes.grid(visible=False)
    axes.grid(visible=True, axis=grid, color=RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=MUTED, pad=5)
    if x:
        axes.set_xlim(*x)
    if y:
        axes.set_ylim(*y)


def _titles(axes: Axes, title: str, note: str) -> None:
    """Write the title, and a note under it, above the axes, flush left."""
    at = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(title, (0, 1), xytext=(0, 27), fontsize=13, color=INK, va="bottom", **at)
    axes.annotate(note, (0, 1), xytext=(0, 11), fontsize=8.5, color=MUTED, va="bottom", **at)


def _png(figure: Figure) -> bytes:
    from matplotlib.text import Text

    families = font_families()
    for axes in figure.axes:
        axes.tick_params(which="both", labelfontfamily=families[0])
    for text in figure.findobj(match=Text):
        text.set_fontfamily(families)
        text.set_parse_math(False)  # a label may well contain dollar signs
    buffer = io.BytesIO()
    # No software tag: the same numbers give the same bytes.
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.25, metadata={"Software": None})
    return buffer.getvalue()


def _ramp() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("hfk", RAMP)


def _shorten(label: str, most: int = 18) -> str:
    label = " ".join(label.split())
    return label if len(label) <= most else label[: most - 1] + "…"


def _font_manager() -> Any:
    try:
        from matplotlib import font_manager
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "hfk[plots]"') from error
    return font_manager
