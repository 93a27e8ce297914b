"""Ways of doing the same thing, timed in turns in one process: medians, spread and ratios as JSON, Markdown and PNG.

Other work on the machine slows all ways alike when they take turns, so the ratio of one round holds where rows/s do
not. Both are written down, with the machine, its load, versions, threads and what else a figure depends on.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSIONS = ("hfk", "torch", "transformers", "onnxruntime", "openvino", "scikit-learn", "numpy", "tokenizers")


def machine() -> dict[str, Any]:
    """What a figure depends on beside the code."""
    about = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":")[1].strip() for line in about if "model name" in line), "")
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu, "cores": len(os.sched_getaffinity(0)), "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(), "versions": versions, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }  # fmt: skip


def compare(ways: dict[str, Callable[[], list[Any]]], units: int, rounds: int = 5) -> dict[str, dict[str, Any]]:
    """Time ways in turns; the first is the rival that the others' ratios are to.

    Args:
        ways: name → what is timed; it returns answers, of which the share equal to the first way's is noted.
        units: rows that one call answers.
        rounds: how often each is timed, after one call that is not.

    Returns:
        Name → `per_second` (median), `spread` (lowest and highest), `ratio` (median over rounds of the ratio within one
        round), `ratios` (lowest and highest), `cpu_us` (CPU microseconds a row, median), `same`.
    """
    answers = {name: way() for name, way in ways.items()}
    first, wall, cpu = next(iter(ways)), {name: [] for name in ways}, {name: [] for name in ways}
    for number in range(rounds):
        order = list(ways) if number % 2 == 0 else list(ways)[::-1]
        for name in order:
            start, busy = time.perf_counter(), sum(os.times()[:4])  # of child processes too
            ways[name]()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(sum(os.times()[:4]) - busy)
    results = {}
    for name, seconds in wall.items():
        ratios = [other / own for other, own in zip(wall[first], seconds, strict=True)]
        pairs = zip(answers[name], answers[first], strict=True)
        results[name] = {
            "per_second": units / statistics.median(seconds),
            "spread": [units / max(seconds), units / min(seconds)],
            "ratio": statistics.median(ratios),
            "ratios": [min(ratios), max(ratios)],
            "cpu_us": statistics.median(cpu[name]) / units * 1e6,
            "same": statistics.mean(one == other for one, other in pairs),
        }
    return results


def write(output: Path, title: str, results: dict[str, dict[str, Any]], facts: dict[str, Any], unit: str) -> None:
    """Write `NAME.json`, `.md` and `.png`, and print the table."""
    lines = [
        f"| {title} | {unit}/s (lowest–highest) | ratio (lowest–highest) | CPU µs | same answer |",
        "|---|---|---|---|---|",
    ]
    for name, found in results.items():
        low, high = found["spread"]
        lines.append(
            f"| {name} | {found['per_second']:,.0f} ({low:,.0f}–{high:,.0f}) | {found['ratio']:.2f} "
            f"({found['ratios'][0]:.2f}–{found['ratios'][1]:.2f}) | {found['cpu_us']:,.1f} | {found['same']:.1%} |"
        )
    print("\n".join(lines))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(
        json.dumps({"title": title, **facts, "results": results}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    output.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _draw(output.with_suffix(".png"), title, results)


def _draw(path: Path, title: str, results: dict[str, dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure((8, 0.9 + 0.5 * len(results)), layout="constrained")
    axes = figure.subplots()
    names, ratios = list(results), [found["ratio"] for found in results.values()]
    ends = [[found["ratio"] - found["ratios"][0], found["ratios"][1] - found["ratio"]] for found in results.values()]
    colors = ["#9aa3ad", *["#2f6fde"] * (len(names) - 1)]
    axes.barh(names, ratios, color=colors, xerr=list(zip(*ends, strict=True)), ecolor="#444", capsize=3)
    for place, ratio in enumerate(ratios):
        axes.annotate(f"{ratio:.2f}×", (0, place), (6, 0), textcoords="offset points", va="center", color="white")
    axes.invert_yaxis()
    axes.set_xlabel(f"times as fast as {names[0]}")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
