"""Pictures, each as the bytes of a PNG: confusion, reliability, rejection, training curves, lengths, ladders.

Figures are made with matplotlib's object-oriented API, never pyplot (which scikit-learn's displays import), so a
user's backend, style and open figures stay as they are. Korean comes from a packaged font (`pip install "hfk[plots]"`),
or from one that the system has; characters that it lacks fall back to matplotlib's own. Colors are the pages' palette
and one blue ramp. A tool draws its own pictures with `new_figure`, `plain`, `titles` and `to_png`.
"""

from __future__ import annotations

import importlib.util
import io
import math
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics import most_confused, rejection_curve, rejection_scores
from .modules.single_label_scores import expected_calibration_error, reliability_bins
from .pages import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
COUNTS_UP_TO = 25  # labels; beyond, a cell has no room for its count
MATRIX_UP_TO = 60  # labels; beyond, nobody can read the matrix: the pairs that are mixed up are drawn instead

INK, MUTED, RULE, PALE = (PALETTE[name] for name in ("ink", "muted", "rule", "pale"))
BLUE, VERMILLION = PALETTE["blue"], PALETTE["vermillion"]
FAINT_BLUE = "#9fb3c4"
LINES = [PALETTE[name] for name in ("blue", "vermillion", "green", "pink", "orange", "sky", "gray")]
DASHES = ("-", "--", ":", "-.")
# Steep at the low end: a mistake that takes 5% of a line must not look white.
RAMP = ((0, "#ffffff"), (0.04, "#e3eef6"), (0.2, "#aecfe5"), (0.55, "#4a90c2"), (1, "#0b4f82"))
TIMES = {
    1: "1 s", 3: "3 s", 10: "10 s", 30: "30 s", 60: "1 min", 180: "3 min", 600: "10 min", 1800: "30 min", 3600: "1 h",
    10_800: "3 h", 36_000: "10 h", 86_400: "1 day",
}  # fmt: skip

PACKAGED_FONT = "pylopdf_fonts_ko", "NotoSansKR-Regular.otf"
SYSTEM_FONTS = (
    "Noto Sans KR", "Noto Sans CJK KR", "Pretendard", "NanumGothic", "Apple SD Gothic Neo", "Malgun Gothic",
)  # fmt: skip


def confusion_png(target: np.ndarray, chosen: np.ndarray, labels: list[str], title: str = "Confusion") -> bytes:
    """Draw which labels are taken for which, of `(rows,)` label indices; labels that do not occur are left out.

    Colors are shares of a row (of a right label); up to 25 labels the cells carry counts; above 60 labels the most
    confused pairs are drawn as bars instead.
    """
    occurring = np.union1d(target, chosen)
    size = len(occurring)
    if size > MATRIX_UP_TO:
        return _confused_pairs_png(target, chosen, labels, title)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (np.searchsorted(occurring, target), np.searchsorted(occurring, chosen)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    cell, font_size = (0.62, 10) if size <= 8 else (0.44, 9) if size <= COUNTS_UP_TO else (0.2, 7)
    figure, (axes,) = new_figure(size * cell, size * cell)
    from matplotlib.colors import LinearSegmentedColormap  # after `new_figure`, which says what to install

    ramp = LinearSegmentedColormap.from_list("hfk", RAMP)
    image = axes.imshow(shares, cmap=ramp, vmin=0, vmax=1, interpolation="nearest")
    names = [_shorten(labels[index]) for index in occurring]
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if size <= 8 else {"rotation": 90}
    axes.set_xticks(range(size), names, **slanted)
    axes.set_yticks(range(size), names)
    axes.tick_params(length=0, labelsize=font_size, labelcolor=INK, pad=4)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PALE, linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_color(RULE)
    axes.set_xlabel("predicted", fontsize=10, color=MUTED, labelpad=8)
    axes.set_ylabel("true", fontsize=10, color=MUTED, labelpad=8)
    for row, column in np.argwhere(counts) if size <= COUNTS_UP_TO else ():
        count = counts[row, column]
        small = font_size - (0 if count < 1000 else 1.5 if count < 10_000 else 2.5)
        ink = "white" if shares[row, column] > 0.55 else INK
        axes.text(column, row, str(count), ha="center", va="center", fontsize=small, color=ink)
    width = size * cell
    scale = figure.colorbar(image, cax=figure.add_axes((1 + 0.15 / width, 0, 0.1 / width, 1)), ticks=[0, 0.5, 1])
    scale.ax.set_yticklabels(["0%", "50%", "100%"], fontsize=8, color=MUTED)
    scale.ax.tick_params(length=0)
    scale.outline.set_visible(False)
    left_out = "" if size == len(labels) else f"; {size} of {len(labels)} labels occur"
    unit = "numbers are rows, " if size <= COUNTS_UP_TO else ""
    titles(axes, title, f"{len(target):,} rows; {unit}colors are shares of a line{left_out}")
    return to_png(figure)


def _confused_pairs_png(target: np.ndarray, chosen: np.ndarray, labels: list[str], title: str) -> bytes:
    pairs = most_confused(target, chosen, labels, limit=25)
    figure, (axes,) = new_figure(4.2, max(0.24 * len(pairs), 0.5))
    bars = axes.barh(range(len(pairs)), [count for _, _, count, _ in pairs], 0.68, color=BLUE, alpha=0.85, zorder=2)
    shares = [f"{count:,} of {support:,} ({count / max(support, 1):.0%})" for _, _, count, support in pairs]
    axes.bar_label(bars, shares, padding=5, fontsize=8, color=MUTED)
    axes.set_yticks(range(len(pairs)), [f"{_shorten(right)} → {_shorten(taken)}" for right, taken, _, _ in pairs])
    plain(axes, y=(len(pairs) - 0.4, -0.6), grid="x")
    axes.tick_params(axis="y", labelsize=9, labelcolor=INK)
    axes.locator_params(axis="x", integer=True, nbins=5)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_visible(True)
    wrong, shown = int((target != chosen).sum()), sum(count for _, _, count, _ in pairs)
    note = f"true → predicted; these {len(pairs)} pairs are {shown:,} of {wrong:,} mistakes in {len(target):,} rows"
    titles(axes, title, note if wrong else f"no mistakes in {len(target):,} rows")
    return to_png(figure)


def reliability_png(
    confidence: np.ndarray, right: np.ndarray, title: str = "Reliability", calibrated: np.ndarray | None = None
) -> bytes:
    """Draw accuracy against the confidence in chosen labels, with the confidence's histogram and the ECE.

    `calibrated` is the confidence after calibration, to be drawn beside the one before; all are `(rows,)`.
    """
    figure, (axes, below) = new_figure(4.6, 3.5, 0.98, gap=0.28)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.1, linestyle="--", zorder=2, label="as right as confident")
    curves = [("rows of this confidence", confidence, BLUE, "-")]
    if calibrated is not None:
        curves = [("before", confidence, VERMILLION, ":"), ("after", calibrated, BLUE, "-")]
    for name, values, color, dash in curves:
        count, mean_confidence, accuracy = reliability_bins(values, right)
        filled = count > 0
        # A bin of three rows says little: what it holds is the size of its dot.
        sizes = 8 + 110 * count[filled] / count.max()
        axes.plot(mean_confidence[filled], accuracy[filled], dash, color=color, linewidth=1.4, zorder=3)
        look = {"color": color, "alpha": 0.75, "zorder": 4, "clip_on": False}
        axes.scatter(mean_confidence[filled], accuracy[filled], s=sizes, label=name, **look)
        edges, fill = np.linspace(0, 1, len(count) + 1), calibrated is None
        below.stairs(count, edges, color=FAINT_BLUE if fill else color, linewidth=1.5, linestyle=dash, fill=fill)
    plain(axes, x=(0, 1), y=(0, 1.02))
    plain(below)
    below.set_ylim(bottom=0)
    _percents(axes.yaxis)
    _percents(below.xaxis)
    name_axes(axes, "", "share that is right")
    name_axes(below, "confidence in the chosen label", "rows")
    below.locator_params(axis="y", nbins=3, integer=True)
    look = {"fontsize": 8, "frameon": False, "labelcolor": INK, "columnspacing": 1.2, "handlelength": 1.4}
    legend = axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.52), ncols=3, **look)
    for handle in legend.legend_handles[1:]:
        handle.set_sizes([24])
    errors = [expected_calibration_error(values, right) for _, values, _, _ in curves]
    mean = f"{len(confidence):,} rows, on average {np.mean(confidence):.1%} confident, {np.mean(right):.1%} right"
    note = f"{errors[0]:.3f}; {mean}" if calibrated is None else f"before {errors[0]:.3f}, after {errors[1]:.3f}"
    titles(axes, title, f"ECE {note}")
    return to_png(figure)


def rejection_png(
    confidence: np.ndarray, right: np.ndarray, title: str = "Answered and left open", wanted: float = 0.95
) -> bytes:
    """Draw how right the answers of a certain confidence and above are; the `wanted` accuracy's threshold is marked."""
    _, coverage, accuracy = rejection_curve(confidence, right)
    scores = rejection_scores(confidence, right, wanted)
    # The first few rows make the curve jump, and say nothing about the model.
    shown = coverage * len(right) >= min(20, len(right))
    figure, (axes,) = new_figure(4.6, 3.5)
    axes.plot(coverage[shown], accuracy[shown], color=BLUE, linewidth=1.8, zorder=3)
    low = min(float(accuracy[shown].min()), wanted)
    plain(axes, x=(0, 1.01), y=(max(0.0, low - 0.15 * (1 - low) - 0.01), 1.005))
    axes.axhline(wanted, color=INK, linewidth=1, linestyle="--", zorder=2)
    reach = f"no threshold makes {wanted:.0%} of the answers right"
    if scores["coverage"] is not None:
        axes.axvline(scores["coverage"], color=VERMILLION, linewidth=1, linestyle=":", zorder=2)
        height = accuracy[np.isclose(coverage, scores["coverage"])][0]
        axes.scatter([scores["coverage"]], [height], s=34, color=VERMILLION, zorder=4, clip_on=False)
        reach = f"{wanted:.0%} right on the {scores['coverage']:.1%} of confidence ≥ {scores['threshold']:.3f}"
    _percents(axes.xaxis)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if low < 0.97 else f"{value:.1%}")
    name_axes(axes, "rows that are answered, the most confident first", "share that is right")
    titles(axes, title, f"AURC {scores['aurc']:.4f}; {reach}")
    return to_png(figure)


def training_curves_png(log_history: list[dict[str, Any]], title: str = "Training") -> bytes | None:
    """Draw loss, macro F1 of each head, and learning rate of a `Trainer.state.log_history`; None if it has none."""
    logged = dict.fromkeys(key for entry in log_history for key in entry)
    macro = [key for key in logged if key.startswith("eval_") and key.endswith("_macro_f1")]
    heads = {key.removeprefix("eval_").removesuffix("_macro_f1"): key for key in macro}
    if "mean" in heads:  # the heads as they come, their mean last
        heads["mean"] = heads.pop("mean")
    panels = []
    for name, keys, height in (
        ("loss", {"training": "loss", "validation": "eval_loss"}, 2.1),
        ("macro F1", heads, 2.1),
        ("learning rate", {"": "learning_rate"}, 0.9),
    ):
        lines = {label: series for label, key in keys.items() if len((series := _series(log_history, key))[0])}
        if lines:
            panels.append((name, lines, height))
    if not panels:
        return None
    last = max(steps[-1] for _, lines, _ in panels for steps, _ in lines.values())
    figure, all_axes = new_figure(6.2, *(height for _, _, height in panels))
    for axes, (name, lines, _) in zip(all_axes, panels, strict=True):
        for place, (label, (steps, values)) in enumerate(lines.items()):
            color, dash = LINES[place % len(LINES)], DASHES[place // len(LINES) % len(DASHES)]
            color, width = (INK, 1.2) if label == "mean" else (color, 1.6)
            marker = "o" if len(steps) < 40 and name != "learning rate" and label != "training" else None
            axes.plot(steps, values, dash, color=color, linewidth=width, marker=marker, markersize=3.2, label=label)
        plain(axes, x=(0, max(last, 1) * 1.01))
        name_axes(axes, "", name)
        if name == "learning rate":
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
            axes.yaxis.get_offset_text().set(fontsize=8, color=MUTED)
            axes.locator_params(axis="y", nbins=3)
        else:
            beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.03), "borderaxespad": 0}
            axes.legend(**beside, fontsize=8, frameon=False, labelcolor=INK)
    name_axes(all_axes[-1], "step", panels[-1][0])
    titles(all_axes[0], title, f"{last:,} steps")
    return to_png(figure)


def _series(log_history: list[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Collect (steps, values) of one key; a resumed run may log a step twice, the later entry counts."""
    found = {entry["step"]: entry[key] for entry in log_history if key in entry and "step" in entry}
    points = sorted((step, value) for step, value in found.items() if np.isfinite(value))
    return np.array([step for step, _ in points]), np.array([value for _, value in points])


def lengths_png(
    lengths: np.ndarray, title: str = "Text lengths", unit: str = "tokens", limit: int | None = None
) -> bytes:
    """Draw a histogram of text lengths in `unit`, to choose a `max_length` by; `limit`, the planned one, is marked."""
    # A few very long texts would squeeze all others into one bar: the last bar gathers what is beyond.
    end = max(float(np.quantile(lengths, 0.995)), (limit or 0) * 1.1, 1.0)
    figure, (axes,) = new_figure(6.2, 2.6)
    # Bars of whole numbers: others would hold two lengths here and three there, and show peaks that are none.
    width = max(1, math.ceil(end / 50))
    edges = np.arange(0, math.ceil(end / width) * width + width, width) - 0.5
    axes.hist(np.minimum(lengths, end), bins=edges, color=BLUE, alpha=0.85, zorder=2)
    plain(axes, x=(0, end * 1.01))
    name_axes(axes, unit, "texts")
    if limit is not None:
        axes.axvline(limit, color=VERMILLION, linewidth=1.4, zorder=3)
        axes.annotate(
            f"{limit:,}: {np.mean(lengths > limit):.1%} are longer",
            (limit, 0.97), xycoords=("data", "axes fraction"), xytext=(-5, 0), textcoords="offset points",
            ha="right", va="top", fontsize=9, color=VERMILLION,
        )  # fmt: skip
    half, most, longest = (int(np.quantile(lengths, q)) for q in (0.5, 0.95, 1))
    reach = f"half up to {half:,} {unit}, 95% up to {most:,}, the longest {longest:,}"
    titles(axes, title, f"{lengths.size:,} texts; {reach}")
    return to_png(figure)


def ladder_png(
    rungs: list[tuple[str, float, float, float, float]], title: str, score: str = "accuracy", note: str = ""
) -> bytes:
    """Draw each model's score against its training time.

    `rungs` are (name, seconds of training, score, low, high); low and high end the score's interval.
    """
    figure, (axes,) = new_figure(6.2, 3.9)
    names, seconds, middle, low, high = zip(*rungs, strict=True)
    seconds, middle, low, high = np.maximum(seconds, 0.1), *map(np.array, (middle, low, high))
    reach = [np.maximum(middle - low, 0), np.maximum(high - middle, 0)]
    look = {"color": BLUE, "ecolor": FAINT_BLUE, "elinewidth": 1.3, "markersize": 6, "zorder": 3}
    axes.errorbar(seconds, middle, reach, fmt="o", **look)
    axes.set_xscale("log")
    room = 10 ** (0.12 * np.log10(seconds.max() / seconds.min()) + 0.1)
    above = 0.08 * (high.max() - low.min()) or 0.05 * abs(high.max()) or 1.0
    plain(axes, x=(seconds.min() / room, seconds.max() * room), y=(low.min() - above, high.max() + above))
    ticks = {step: said for step, said in TIMES.items() if seconds.min() / room <= step <= seconds.max() * room}
    if len(ticks) < 2:  # too narrow for round times: those of the first and the last
        ticks = {each: f"{each:.3g} s" for each in (seconds.min(), seconds.max())}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    name_axes(axes, "time to train", score)
    # Names stand in a column beside the axes, a line of text or more apart; a thin line leads to each point.
    order, apart = np.argsort(middle), 0.046 * np.arange(len(rungs))
    share = (middle[order] - low.min() + above) / (high.max() - low.min() + 2 * above)
    heights = np.minimum(np.maximum.accumulate(share - apart) + apart, 1 - apart[::-1])
    line = {"arrowstyle": "-", "color": FAINT_BLUE, "lw": 0.8, "shrinkB": 4, "relpos": (0, 0.5)}
    for index, height in zip(order, heights, strict=True):
        axes.annotate(
            names[index], (seconds[index], middle[index]), xytext=(1.03, height), textcoords="axes fraction",
            fontsize=9, color=INK, va="center", arrowprops=line,
        )  # fmt: skip
    titles(axes, title, note)
    return to_png(figure)


def new_figure(width: float, *heights: float, gap: float = 0.3) -> tuple[Figure, list[Axes]]:
    """Make a figure of axes one above the other, in inches; labels lie outside, `to_png` makes room for them."""
    _font_manager()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, sum(heights) + gap * (len(heights) - 1)), facecolor="white")
    inside = {"left": 0, "right": 1, "bottom": 0, "top": 1, "hspace": gap / np.mean(heights)}
    made = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights, gridspec_kw=inside)
    return figure, list(made.flat)


def plain(axes: Axes, x: tuple | None = None, y: tuple | None = None, grid: str = "y") -> None:
    """Leave of an axes what is needed: a base line, a faint grid, small ticks; `x` and `y` are its limits."""
    axes.spines[:].set_visible(False)
    axes.spines[:].set_color(RULE)
    axes.spines["bottom"].set_visible(True)
    axes.grid(visible=False)
    axes.grid(visible=True, axis=grid, color=RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=MUTED, pad=5)
    axes.set(**{f"{side}lim": limits for side, limits in (("x", x), ("y", y)) if limits})


def titles(axes: Axes, title: str, note: str) -> None:
    """Write the title, and a note under it, above the axes, flush left."""
    at = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(title, (0, 1), xytext=(0, 27), fontsize=13, color=INK, va="bottom", **at)
    axes.annotate(note, (0, 1), xytext=(0, 11), fontsize=8.5, color=MUTED, va="bottom", **at)


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG; the same numbers give the same bytes."""
    from matplotlib.text import Text

    families = font_families()
    for axes in figure.axes:
        axes.tick_params(which="both", labelfontfamily=families[0])
    for text in figure.findobj(match=Text):
        text.set_fontfamily(families)
        text.set_parse_math(False)  # a label may well contain dollar signs
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.25, metadata={"Software": None})
    return buffer.getvalue()


@cache
def font_families() -> list[str]:
    """Name the font families that pictures use: one with Korean, if there is any, and matplotlib's own behind it."""
    manager, fallback = _font_manager(), "DejaVu Sans"
    package, file = PACKAGED_FONT
    found = importlib.util.find_spec(package)  # without importing it
    if found and found.origin:
        path = Path(found.origin).with_name(file)
        manager.fontManager.addfont(path)  # which changes no setting
        return [manager.FontProperties(fname=path).get_name(), fallback]
    known = {font.name for font in manager.fontManager.ttflist}
    installed = [name for name in SYSTEM_FONTS if name in known][:1]
    if not installed:
        warnings.warn('no Korean font was found, labels will show as boxes: pip install "hfk[plots]"', stacklevel=2)
    return [*installed, fallback]


def font_path() -> str:
    """The file of the first of `font_families`."""
    manager = _font_manager()
    return manager.findfont(manager.FontProperties(family=font_families()[0]))


def _percents(axis: Any) -> None:
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])


def name_axes(axes: Axes, x: str, y: str) -> None:
    """Say what lies along an axes."""
    axes.set_xlabel(x, fontsize=9, color=MUTED)
    axes.set_ylabel(y, fontsize=9, color=MUTED)


def _shorten(label: str, most: int = 18) -> str:
    label = " ".join(label.split())
    return label if len(label) <= most else label[: most - 1] + "…"


def _font_manager() -> Any:
    try:
        from matplotlib import font_manager
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "hfk[plots]"') from error
    return font_manager
