"""Pictures, each returned as the bytes of a PNG: confusion, reliability, rejection, training curves, lengths, and those
that compare runs.

Figures are made with matplotlib's object-oriented API, never pyplot, so a user's backend, style and open figures stay
as they are. Korean comes from a packaged font (`pip install "hfk[plots]"`), or from one that the system has; characters
that it lacks fall back to matplotlib's own. Colours are Okabe and Ito's colour-blind-safe set and one blue ramp.
"""

from __future__ import annotations

import importlib.util
import io
import math
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics import most_confused, rejection_curve, rejection_scores
from .modules.single_label_scores import expected_calibration_error, reliability_bins

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
_TIMES = {
    1: "1 s", 3: "3 s", 10: "10 s", 30: "30 s", 60: "1 min", 180: "3 min", 600: "10 min", 1800: "30 min", 3600: "1 h",
    10_800: "3 h", 36_000: "10 h", 86_400: "1 day",
}  # fmt: skip

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
    # Bars of whole numbers: others would hold two lengths here and three there, and show peaks that are none.
    width = max(1, math.ceil(end / 50))
    edges = np.arange(0, math.ceil(end / width) * width + width, width) - 0.5
    axes.hist(np.minimum(lengths, end), bins=edges, color=BLUE, alpha=0.85, zorder=2)
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


def calibration_png(
    before: np.ndarray, after: np.ndarray, right: np.ndarray, title: str = "Calibration", note: str = ""
) -> bytes:
    """Draw accuracy against confidence before and after calibration, with the histograms of the confidence.

    Args:
        before: `(rows,)`, the confidence before.
        after: `(rows,)`, the confidence after.
        right: bool `(rows,)`, whether the answer was right.
        title: what stands above.
        note: what else the line under the title says.

    Returns:
        a PNG.
    """
    figure, axes = _figure(4.6, 3.5)
    below = figure.add_axes((0, -0.36, 1, 0.28))
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.1, linestyle="--", zorder=2, label="as right as confident")
    errors = []
    for name, confidence, colour, dash in (("before", before, VERMILLION, ":"), ("after", after, BLUE, "-")):
        count, mean_confidence, accuracy = reliability_bins(confidence, right)
        filled = count > 0
        axes.plot(mean_confidence[filled], accuracy[filled], dash, color=colour, linewidth=1.4, zorder=3)
        # A bin of three rows says little: what it holds is the size of its dot.
        sizes = 8 + 110 * count[filled] / count.max()
        axes.scatter(mean_confidence[filled], accuracy[filled], s=sizes, color=colour, alpha=0.75, zorder=4, label=name)
        edges = np.linspace(0, 1, len(count) + 1)
        below.stairs(count, edges, color=colour, linewidth=1.5, linestyle=dash, fill=False)
        errors.append(f"{name} {expected_calibration_error(confidence, right):.3f}")
    axes.set_ylabel("share that is right", fontsize=9, color=MUTED)
    _plain(axes, x=(0, 1), y=(0, 1.02), grid="y")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    axes.tick_params(labelbottom=False)
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -0.52), ncols=3, fontsize=8, frameon=False, labelcolor=INK,
        columnspacing=1.2, handlelength=1.4,
    )  # fmt: skip
    for handle in legend.legend_handles[1:]:
        handle.set_sizes([24])
    below.set_ylabel("rows", fontsize=9, color=MUTED)
    below.set_xlabel("confidence in the chosen label", fontsize=9, color=MUTED)
    _plain(below, x=(0, 1), grid="y")
    below.set_ylim(bottom=0)
    below.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    below.locator_params(axis="y", nbins=3, integer=True)
    _titles(axes, title, f"ECE {', '.join(errors)}{f'; {note}' if note else ''}")
    return _png(figure)


def rejection_png(
    confidence: np.ndarray, right: np.ndarray, title: str = "Answered and left open", wanted: float = 0.95
) -> bytes:
    """Draw how right the answers are when only those of a certain confidence are given.

    Args:
        confidence: `(rows,)`, the probability of the chosen label.
        right: bool `(rows,)`, whether it was right.
        title: what stands above.
        wanted: an accuracy, whose threshold is marked.

    Returns:
        a PNG.
    """
    _, coverage, accuracy = rejection_curve(confidence, right)
    scores = rejection_scores(confidence, right, wanted)
    # The first few rows make the curve jump, and say nothing about the model.
    shown = coverage * len(right) >= min(20, len(right))
    figure, axes = _figure(4.6, 3.5)
    axes.plot(coverage[shown], accuracy[shown], color=BLUE, linewidth=1.8, zorder=3)
    low = min(float(accuracy[shown].min()), wanted)
    _plain(axes, x=(0, 1.01), y=(max(0.0, low - 0.15 * (1 - low) - 0.01), 1.005), grid="y")
    axes.axhline(wanted, color=INK, linewidth=1, linestyle="--", zorder=2)
    if scores["coverage"] is not None:
        axes.axvline(scores["coverage"], color=VERMILLION, linewidth=1, linestyle=":", zorder=2)
        height = accuracy[np.isclose(coverage, scores["coverage"])][0]
        axes.scatter([scores["coverage"]], [height], s=34, color=VERMILLION, zorder=4, clip_on=False)
        reach = f"{wanted:.0%} right on the {scores['coverage']:.1%} of confidence ≥ {scores['threshold']:.3f}"
    else:
        reach = f"no threshold makes {wanted:.0%} of the answers right"
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if low < 0.97 else f"{value:.1%}")
    axes.set_xlabel("rows that are answered, the most confident first", fontsize=9, color=MUTED)
    axes.set_ylabel("share that is right", fontsize=9, color=MUTED)
    _titles(axes, title, f"AURC {scores['aurc']:.4f}; {reach}")
    return _png(figure)


def trials_png(
    values: np.ndarray, parameters: dict[str, list[Any]], pruned: np.ndarray, log: set[str], goal: str, title: str
) -> bytes:
    """Draw what each parameter of a search did: a panel a parameter, a dot a trial.

    Args:
        values: `(trials,)`, what each trial reached.
        parameters: name → one value a trial; words are put side by side.
        pruned: bool `(trials,)`, those that were stopped early.
        log: the parameters whose axis is logarithmic.
        goal: what `values` are called.
        title: what stands above.

    Returns:
        a PNG.
    """
    width, height, gap, columns = 2.5, 2.1, 0.35, 3
    figure, first = _figure(width, height)
    for place, (name, given) in enumerate(parameters.items()):
        left, down = (place % columns) * (1 + gap / width), -(place // columns) * (1 + 0.75 / height)
        axes = figure.add_axes((left, down, 1, 1)) if place else first
        words = any(not isinstance(value, int | float) or isinstance(value, bool) for value in given)
        names = list(dict.fromkeys(map(str, given)))
        points = np.array([names.index(str(value)) for value in given] if words else given, dtype=float)
        _plain(axes, grid="y")
        if words:
            axes.set_xticks(range(len(names)), [_shorten(value, 12) for value in names])
            axes.set_xlim(-0.5, len(names) - 0.5)
        elif name in log:
            axes.set_xscale("log")
            axes.minorticks_off()
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        else:
            axes.locator_params(axis="x", nbins=4)
        axes.scatter(points[~pruned], values[~pruned], s=22, color=BLUE, alpha=0.8, zorder=3)
        axes.scatter(points[pruned], values[pruned], s=22, facecolors="none", edgecolors=MUTED, zorder=2)
        axes.set_xlabel(name, fontsize=9, color=MUTED)
        if place % columns == 0:
            axes.set_ylabel(goal, fontsize=9, color=MUTED)
        else:
            axes.tick_params(labelleft=False)
        axes.set_ylim(*_spread(values[~pruned] if (~pruned).any() else values))
    hollow = f", {int(pruned.sum())} of them stopped early (hollow; not all fit)" if pruned.any() else ""
    _titles(first, title, f"{len(values)} trials{hollow}")
    return _png(figure)


def ladder_png(
    rungs: list[tuple[str, float, float, float, float]], title: str, score: str = "accuracy", note: str = ""
) -> bytes:
    """Draw what a score costs: each model's score against its training time.

    Args:
        rungs: (name, seconds of training, score, low, high) of each model; low and high end its interval.
        title: what stands above.
        score: what the score is called.
        note: the line under the title.

    Returns:
        a PNG.
    """
    figure, axes = _figure(6.2, 3.9)
    seconds = np.array([max(rung[1], 0.1) for rung in rungs])
    middle, low, high = (np.array([rung[place] for rung in rungs]) for place in (2, 3, 4))
    axes.errorbar(
        seconds, middle, yerr=[np.maximum(middle - low, 0), np.maximum(high - middle, 0)], fmt="o", color=BLUE,
        ecolor="#9fb3c4", elinewidth=1.3, markersize=6, zorder=3,
    )  # fmt: skip
    axes.set_xscale("log")
    wide = np.log10(seconds.max() / seconds.min())
    axes.set_xlim(seconds.min() / 10 ** (0.12 * wide + 0.1), seconds.max() * 10 ** (0.12 * wide + 0.1))
    axes.set_ylim(*_spread(np.concatenate([low, high])))
    _plain(axes, grid="y")
    low_tick, high_tick = axes.get_xlim()
    ticks = [step for step in _TIMES if low_tick <= step <= high_tick]
    if len(ticks) > 1:
        axes.set_xticks(ticks, [_TIMES[step] for step in ticks])
        axes.minorticks_off()
    axes.set_xlabel("time to train", fontsize=9, color=MUTED)
    axes.set_ylabel(score, fontsize=9, color=MUTED)
    _place_labels(axes, [rung[0] for rung in rungs], seconds, middle, low, high)
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


def _spread(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis that leave some room around the values."""
    low, high = float(values.min()), float(values.max())
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _place_labels(
    axes: Axes, names: list[str], x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray
) -> None:
    """Write a name beside each point, where it covers no point, no interval from `low` to `high` and no other name.

    Near places are tried before far ones; from a far one a thin line leads to the point.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    unit = axes.figure.dpi / 72
    to_pixels = axes.transData.transform
    places = to_pixels(np.column_stack([x, y]))
    ends = [to_pixels(np.column_stack([x, values]))[:, 1] for values in (low, high)]
    taken = [Bbox.from_extents(*(place - 5 * unit), *(place + 5 * unit)) for place in places]
    taken += [Bbox.from_extents(p[0] - unit, b, p[0] + unit, t) for p, b, t in zip(places, *ends, strict=True)]
    inside = axes.get_window_extent(renderer)
    directions = ((1, 0), (-1, 0), (1, 0.6), (-1, 0.6), (1, -0.6), (-1, -0.6), (0, 1), (0, -1))
    waiting = [int(index) for index in np.argsort(places[:, 0])]
    distances = (8, 18, 30, 45, 62, 80, 0)  # 0: what found no free place stands beside its point all the same
    for away in distances:
        for index in list(waiting):  # every name that finds a near place takes it before any goes far
            for dx, dy in directions:
                near = away <= 8 and dy == 0
                text = axes.annotate(
                    names[index], (x[index], y[index]), xytext=(dx * (away or 8), dy * away),
                    textcoords="offset points", fontsize=9, color=INK, fontfamily=font_families(), parse_math=False,
                    ha=("center", "left", "right")[dx], va="center" if dx else ("bottom" if dy > 0 else "top"),
                    arrowprops=None if near else {"arrowstyle": "-", "color": "#9fb3c4", "lw": 0.8, "shrinkB": 4},
                )  # fmt: skip
                text.update_positions(renderer)
                box = Text.get_window_extent(text, renderer)  # an annotation's own extent includes its line
                free = box.x0 >= inside.x0 and box.x1 <= inside.x1 and not any(box.overlaps(other) for other in taken)
                if free or not away:
                    taken.append(box)
                    waiting.remove(index)
                    break
                text.remove()


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
