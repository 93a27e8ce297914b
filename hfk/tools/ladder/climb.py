"""Several recipes on the same rows, side by side: what `hfk ladder` calls.

Each recipe is trained by `hfk.train` in a folder of its own; one that has finished is not trained again, so a ladder
that was interrupted goes on, and an entry can be added later. An entry may also be a baseline (see `baselines`), which
leaves no checkpoint to be timed, or several recipes that vote, joined by `+`. All are scored on the same held-out rows.
Inference is timed in one process at the end, the checkpoints taking turns, because only figures of one run on one
machine can be compared; training times are those of each run.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from datasets import Dataset

from ...evaluation import plots
from ...files import write_atomic
from ...inference.predictor import Predictor
from ...runs.card import write_card
from ...runs.recipe import Recipe, load_recipe
from ...runs.run import CONFIG, INCIDENTAL, Run, open_task, scored_split
from ...tasks import finest_head
from ...training.ensemble import build_ensemble
from ...training.techniques import make_techniques
from ...training.train import train
from .baselines import BASELINES, run_baseline

TIMED_ROWS = 1000
"""At least so many rows are timed, the held-out ones over again where there are fewer."""
WARM_UP_ROWS = 128
SECONDS = 10
"""Of slow models fewer: what they answer in about this time, as their warming up says."""
SPENT = ("preparation_seconds", "train_seconds", "fit_seconds")
"""Before, in and after the steps."""
ROUNDS = 3
BATCH_SIZE = 64


def climb(
    task: str,
    recipes: list[str],
    output_dir: str | Path,
    seeds: list[int] | None = None,
    overrides: dict[str, Any] | None = None,
) -> str:
    """Train recipes, whatever task they name, on one task's split, once with each seed, and compare their finest head.

    Writes ladder.md, ladder.csv and ladder.png, and the table, which is returned, into every run's card. ValueError for
    a wrong option, a folder that holds a run of other options, or a task without a `single_label` head.
    """
    folder = Path(output_dir)
    names = [Path(recipe).stem if recipe.endswith((".yaml", ".yml")) else recipe for recipe in recipes]
    if not recipes or len(set(names)) < len(names):
        raise ValueError(f"name different recipes, such as ynat-ngram,ynat; not {', '.join(names) or 'none'}.")
    for name in names:
        if "+" in name and not set(name.split("+")) <= set(names) - set(BASELINES):
            raise ValueError(f"{name} votes with what is no recipe of this ladder; its recipes: {', '.join(names)}.")
    if Path(task).is_dir():
        task = _describe_folder(Path(task), folder / "task.yaml")
    wanted = []
    for name, recipe in zip(names, recipes, strict=True):
        own = {} if name in BASELINES or "+" in name else load_recipe(recipe)
        shared = own | (overrides or {}) | {"task": task}
        for seed in seeds or [None]:
            run = Run(folder / name / ("run" if seed is None else f"seed-{seed}"))
            wanted.append((name, shared | ({} if seed is None else {"seed": seed}), run))
    for _, options, run in wanted:  # what is wrong is said before the first is trained
        _check_options(run, options)
    for number, (name, options, run) in enumerate(sorted(wanted, key=lambda entry: "+" in entry[0]), 1):
        if run.finished:
            print(f"{run.folder}: finished before", flush=True)
            continue
        print(f"\nrun {number} of {len(wanted)}: {run.folder}", flush=True)
        try:
            if name in BASELINES:
                run_baseline(name, options, run)
            elif "+" in name:
                build_ensemble([folder / member / run.folder.name for member in name.split("+")], run.folder)
            else:
                train(options, run.folder)
        except ValueError as error:
            raise ValueError(f"recipe {name}: {error}") from error
    runs = [run for _, _, run in wanted]
    _check_rows(runs)
    made = open_task(Recipe.read(wanted[0][1]))
    data = made.load()
    compared, split = finest_head(made.heads), scored_split(data)
    if compared is None:
        raise ValueError(f"a ladder compares a single_label head; task {made.name!r} has none.")
    entries = [[run for own, _, run in wanted if own == name] for name in names]
    table = pd.DataFrame([_figures(name, own, compared) for name, own in zip(names, entries, strict=True)])
    timed = {name: own[0] for name, own in zip(names, entries, strict=True) if own[0].read(CONFIG)}
    speeds = dict(zip(timed, time_inference(list(timed.values()), data[split]), strict=True))
    table.insert(len(table.columns) - 1, "rows_per_second", table["recipe"].map(speeds))
    spread = f"mean ± sd over seeds {', '.join(map(str, seeds))}" if len(seeds or []) > 1 else "95% bootstrap intervals"
    return _write(folder, made.name, table, runs, f"{len(data[split]):,} {split} rows, head {compared}; {spread}")


def _describe_folder(pictures: Path, path: Path) -> str:
    """Write the task of a folder of pictures, a folder a class, beside the ladder."""
    task = {"data": str(pictures.resolve()), "image": "image", "id": "file", "heads": [{"name": "label"}]}
    write_atomic(path, yaml.safe_dump(task, allow_unicode=True))
    return str(path)


def _check_options(run: Run, options: dict[str, Any]) -> None:
    """Refuse wrong options, and to count a finished run whose options are not those that are asked for."""
    recipe = Recipe.read(options)
    make_techniques(recipe.techniques)
    before, now = run.recipe if run.finished else {}, recipe.to_dict()
    for name in options:
        if name in before and name not in INCIDENTAL and before[name] != now.get(name):
            raise ValueError(
                f"{run.folder} was trained with {name} {before[name]!r}, not {now.get(name)!r}; choose another "
                "--output-dir, or delete that folder."
            )


def _check_rows(runs: list[Run]) -> None:
    """Refuse to compare scores of different rows."""
    first = runs[0].predictions().ids
    for run in runs[1:]:
        if run.predictions().ids != first:
            raise ValueError(
                f"{run.folder} was scored on other rows than {runs[0].folder}: the data or its split has changed "
                "since; delete the older one."
            )


def _figures(recipe: str, runs: list[Run], head: str) -> dict[str, Any]:
    """A recipe's line of ladder.csv but for its speed: means and deviations of several runs, intervals of one."""
    results, line = [run.results for run in runs], {"recipe": recipe}
    for score in ("accuracy", "macro_f1"):
        values = [result["scores"][f"{head}_{score}"] for result in results]
        middle = statistics.fmean(values)
        low, high = results[0]["intervals"][f"{head}_{score}"]
        if len(values) > 1:
            low, high = middle - statistics.stdev(values), middle + statistics.stdev(values)
        line |= {score: middle, f"{score}_low": low, f"{score}_high": high}
    kept, left = (".safetensors", ".json", ".model", ".txt"), ("training_log.json", "task.json", "run.json")
    files = [path for path in runs[0].folder.iterdir() if path.suffix in kept and path.name not in left]
    size = sum(path.stat().st_size for path in files)
    seconds = [sum(run.facts.get(name, 0.0) for name in SPENT) or math.nan for run in runs]  # a vote has none
    line |= {"parameters": runs[0].facts.get("parameters", math.nan), "checkpoint_mb": size / 1e6 or math.nan}
    return line | {"train_seconds": statistics.fmean(seconds), "seeds": len(runs)}


def time_inference(runs: list[Run], rows: Dataset) -> list[float]:
    """Measure rows a second of each run's checkpoint, warm, in rounds in which all take turns.

    The fastest round counts: what else the machine does can only slow one down.
    """
    columns = [name for name in ("text", "image") if name in rows.column_names]
    few = rows.select(range(min(len(rows), 4 * TIMED_ROWS))).select_columns(columns).to_list()
    timed = list(islice(cycle(few), max(TIMED_ROWS, len(few))))
    fastest = [0.0] * len(runs)
    for _ in range(ROUNDS):
        for place, run in enumerate(runs):
            predictor = Predictor.from_pretrained(str(run.folder), device="cpu", batch_size=BATCH_SIZE)
            started = time.perf_counter()
            speed = sum(1 for _ in predictor(timed[:WARM_UP_ROWS])) / (time.perf_counter() - started)
            some = timed[: max(WARM_UP_ROWS, int(speed * SECONDS))]
            started = time.perf_counter()
            count = sum(1 for _ in predictor(some))
            fastest[place] = max(fastest[place], count / (time.perf_counter() - started))
    return fastest


def _write(folder: Path, task: str, table: pd.DataFrame, runs: list[Run], note: str) -> str:
    digits = dict.fromkeys([name for name in table if name.startswith(("accuracy", "macro_f1"))], 4)
    digits |= {"checkpoint_mb": 2, "train_seconds": 1, "rows_per_second": 1}
    write_atomic(folder / "ladder.csv", table.round(digits).to_csv(index=False))
    several = table["seeds"].max() > 1
    lines = [
        f"| {line.recipe} | {_score(line.accuracy, line.accuracy_low, line.accuracy_high, several)} | "
        f"{_score(line.macro_f1, line.macro_f1_low, line.macro_f1_high, several)} | "
        f"{_figure(line.parameters)} | {_figure(line.checkpoint_mb, 1)} | {_figure(line.train_seconds)} | "
        f"{_figure(line.rows_per_second)} |"
        for line in table.itertuples()
    ]
    machine = runs[0].facts["environment"]
    text = "\n".join([
        "| recipe | accuracy | macro-F1 | parameters | checkpoint MB | seconds to train | rows/s |",
        "|---|---|---|---:|---:|---:|---:|",
        *lines,
        "",
        f"{task}: {note}. Trained on: {machine['device']}, {machine['cpu']}, {machine['threads']} threads. rows/s: on "
        f"the CPU with {torch.get_num_threads()} threads, warm, batches of {BATCH_SIZE}, tokenizing included; all in "
        f"one run, the checkpoints taking turns, the fastest of {ROUNDS} rounds.",
    ])  # fmt: skip
    write_atomic(folder / "ladder.md", text + "\n")
    for run in runs:  # the card shows it too
        write_atomic(run.folder / "report" / "ladder.md", text + "\n")
        if run.read(CONFIG):
            write_card(run.folder)
    try:
        points = table[["recipe", "train_seconds", "accuracy", "accuracy_low", "accuracy_high"]].dropna()
        picture = plots.ladder_png(points.values.tolist(), f"{task}: accuracy against training time", note=note)
        write_atomic(folder / "ladder.png", picture)
    except ImportError as error:
        warnings.warn(f"the ladder has no picture: {error}", stacklevel=3)
    return text


def _figure(value: float, digits: int = 0) -> str:
    return "–" if math.isnan(value) else f"{value:,.{digits}f}"


def _score(middle: float, low: float, high: float, several: bool) -> str:
    return f"{middle:.4f} ± {high - middle:.4f}" if several else f"{middle:.4f} ({low:.3f}–{high:.3f})"
