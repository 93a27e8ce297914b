"""Several recipes on the same rows, side by side: what `hfk ladder` calls.

Each recipe is trained by `hfk.train` in a folder of its own; one that has finished is not trained again, so a ladder
that was interrupted goes on, and an entry can be added later. All are scored on the same held-out rows. Inference is
timed in one process at the end, the checkpoints taking turns, because only figures of one run on one machine can be
compared; training times are those of each run.
"""

from __future__ import annotations

import json
import math
import statistics
import time
import warnings
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from datasets import Dataset

from ...evaluation import plots
from ...inference.predictor import Predictor
from ...models.configuration_multihead import HeadConfig
from ...runs.card import write_card
from ...runs.recipe import Recipe, load_recipe
from ...runs.run import INCIDENTAL, open_task
from ...tasks import finest_head
from ...training.techniques import make_techniques
from ...training.train import train

TIMED_ROWS = 1000
"""At least so many rows are timed, the held-out ones over again where there are fewer."""
WARM_UP_ROWS = 128
ROUNDS = 3
BATCH_SIZE = 64


@dataclass
class Entry:
    """A recipe's figures.

    Args:
        recipe: its name.
        runs: the folder of each seed.
        accuracy: of the ladder's head: mean, low and high end.
        macro_f1: likewise.
        parameters: numbers that the model has.
        checkpoint_mb: what its weights, tokenizer and configuration take on disk, in 10⁶ bytes.
        train_seconds: mean over the seeds.
        rows_per_second: at inference; NaN before it is timed.
    """

    recipe: str
    runs: list[Path]
    accuracy: tuple[float, float, float]
    macro_f1: tuple[float, float, float]
    parameters: int
    checkpoint_mb: float
    train_seconds: float
    rows_per_second: float = math.nan

    @classmethod
    def of(cls, recipe: str, runs: list[Path], head: str) -> Entry:
        """Gather the figures of a recipe's finished runs: means and deviations of several, intervals of one."""
        reports = [json.loads((run / "report" / "metrics.json").read_text(encoding="utf-8")) for run in runs]

        def figure(score: str) -> tuple[float, float, float]:
            values = [report["scores"][f"{head}_{score}"] for report in reports]
            if len(values) == 1:
                return values[0], *reports[0]["intervals"][f"{head}_{score}"]
            mean, deviation = statistics.fmean(values), statistics.stdev(values)
            return mean, mean - deviation, mean + deviation

        kept, left = (".safetensors", ".json", ".model", ".txt"), ("training_log.json", "task.json")
        size = sum(path.stat().st_size for path in runs[0].iterdir() if path.suffix in kept and path.name not in left)
        extras = [report["extra"] for report in reports]
        seconds = statistics.fmean(extra["train_seconds"] for extra in extras)
        return cls(recipe, runs, figure("accuracy"), figure("macro_f1"), extras[0]["parameters"], size / 1e6, seconds)


def climb(
    task: str,
    recipes: list[str],
    output_dir: str | Path,
    seeds: list[int] | None = None,
    overrides: dict[str, Any] | None = None,
    head: str | None = None,
) -> str:
    """Train recipes on a task's split and compare them; writes ladder.md, ladder.csv and ladder.png, and the
    table into every run's card.

    Args:
        task: built-in task, or a task's YAML.
        recipes: built-in recipes, or recipes' YAMLs; each is trained on `task`, whatever it names.
        output_dir: the folder: a folder a recipe, in it `seed-1`, …
        seeds: each recipe is trained once with each; the recipe's own by default.
        overrides: options that replace those of every recipe, such as `data`.
        head: the `single_label` head that is compared; the finest by default.

    Returns:
        the table, as Markdown.

    Raises:
        ValueError: for a wrong option, a folder that holds a run of other options, or a task without such a head.

    Example:
        >>> print(climb("ynat-mini", ["ynat-ngram", "ynat-mini"], "runs/ladder"))  # doctest: +SKIP
    """
    folder = Path(output_dir)
    names = [Path(recipe).stem if recipe.endswith((".yaml", ".yml")) else recipe for recipe in recipes]
    if not recipes or len(set(names)) < len(names):
        raise ValueError(f"name different recipes, such as ynat-ngram,ynat; not {', '.join(names) or 'none'}.")
    shared = dict(overrides or {}) | {"task": task}
    wanted = [
        (name, load_recipe(recipe) | shared | ({} if seed is None else {"seed": seed}), _run_folder(folder, name, seed))
        for name, recipe in zip(names, recipes, strict=True)
        for seed in seeds or [None]
    ]
    for _, options, run in wanted:  # all are looked at before the first is trained
        make_techniques(Recipe.read(options).techniques)  # a wrong option is said before the first run
        _check_same(run, options)
    for number, (name, options, run) in enumerate(wanted, 1):
        if is_finished(run):
            print(f"{run}: finished before", flush=True)
            continue
        print(f"\nrun {number} of {len(wanted)}: {run}", flush=True)
        try:
            train(options, run)
        except ValueError as error:
            raise ValueError(f"recipe {name}: {error}") from error
    loaded = open_task(Recipe.read(wanted[0][1]))
    data = loaded.load()
    compared = _head(loaded.heads, head)
    split = next(name for name in ("test", "validation", "train") if name in data)
    by_name = {name: [run for other, _, run in wanted if other == name] for name in names}
    _check_rows(runs=[run for _, _, run in wanted])
    entries = [Entry.of(name, runs, compared) for name, runs in by_name.items()]
    time_inference(entries, data[split])
    spread = f"mean ± sd over seeds {', '.join(map(str, seeds))}" if len(seeds or []) > 1 else "95% bootstrap intervals"
    return _write(folder, loaded.name, entries, f"{len(data[split]):,} {split} rows, head {compared}; {spread}")


def is_finished(run: str | Path) -> bool:
    """Tell whether a run has come to its end: the card is written last."""
    return all(Path(run, name).is_file() for name in ("config.json", "recipe.yaml", "report/metrics.json", "README.md"))


def _run_folder(folder: Path, name: str, seed: int | None) -> Path:
    return folder / name / ("run" if seed is None else f"seed-{seed}")


def _check_same(run: Path, options: dict[str, Any]) -> None:
    """Refuse to count a finished run whose options are not those that are asked for."""
    if not is_finished(run):
        return
    before = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    now = Recipe.read(options).to_dict()
    for name in options:
        if name in INCIDENTAL:
            continue
        value = now.get(name)
        value = json.loads(json.dumps(value, default=lambda other: str(getattr(other, "value", other))))
        if name in before and before[name] != value:
            raise ValueError(
                f"{run} was trained with {name} {before[name]!r}, not {value!r}; choose another --output-dir, or "
                "delete that folder."
            )


def _check_rows(runs: list[Path]) -> None:
    """Refuse to compare scores of different rows."""
    ids = {run: pd.read_csv(run / "report" / "predictions.csv", dtype=str).iloc[:, 0].tolist() for run in runs}
    for run in runs[1:]:
        if ids[run] != ids[runs[0]]:
            raise ValueError(
                f"{run} was scored on other rows than {runs[0]}: the data or its split has changed since; delete the "
                "older one."
            )


def _head(heads: list[HeadConfig], name: str | None) -> str:
    single = [head.name for head in heads if head.rules.exclusive]
    found = finest_head(heads) if name is None else name
    if found not in single:
        raise ValueError(
            f"a ladder compares a single_label head, not {name!r}; there is: {', '.join(single) or 'none'}."
        )
    return found


def time_inference(entries: list[Entry], rows: Dataset) -> None:
    """Measure rows a second of each entry's first checkpoint, warm, in rounds in which all take turns.

    The fastest round counts: what else the machine does can only slow one down.
    """
    columns = [name for name in ("text", "image") if name in rows.column_names]
    some = rows.select(range(min(len(rows), 4 * TIMED_ROWS))).select_columns(columns).to_list()
    timed = list(islice(cycle(some), max(TIMED_ROWS, len(some))))
    speeds: dict[str, list[float]] = {entry.recipe: [] for entry in entries}
    for _ in range(ROUNDS):
        for entry in entries:
            predictor = Predictor.from_pretrained(str(entry.runs[0]), device="cpu", batch_size=BATCH_SIZE)
            for _ in predictor(timed[:WARM_UP_ROWS]):
                pass
            started = time.perf_counter()
            count = sum(1 for _ in predictor(timed))
            speeds[entry.recipe].append(count / (time.perf_counter() - started))
    for entry in entries:
        entry.rows_per_second = max(speeds[entry.recipe])


def _write(folder: Path, task: str, entries: list[Entry], note: str) -> str:
    seeds = max(len(entry.runs) for entry in entries)
    lines = []
    for entry in entries:
        line: dict[str, Any] = {"recipe": entry.recipe}
        for score in ("accuracy", "macro_f1"):
            ends = zip((score, f"{score}_low", f"{score}_high"), getattr(entry, score), strict=True)
            line |= {name: f"{value:.4f}" for name, value in ends}
        line |= {"parameters": entry.parameters, "checkpoint_mb": f"{entry.checkpoint_mb:.2f}"}
        line |= {"train_seconds": f"{entry.train_seconds:.1f}", "rows_per_second": f"{entry.rows_per_second:.1f}"}
        lines.append(line | {"seeds": len(entry.runs)})
    pd.DataFrame(lines).to_csv(folder / "ladder.csv", index=False)
    report = json.loads((entries[0].runs[0] / "report" / "metrics.json").read_text(encoding="utf-8"))
    machine = report["extra"]["environment"]
    table = [
        "| recipe | accuracy | macro-F1 | parameters | checkpoint MB | seconds to train | rows/s |",
        "|---|---|---|---:|---:|---:|---:|",
        *(
            f"| {entry.recipe} | {_score(entry.accuracy, seeds > 1)} | {_score(entry.macro_f1, seeds > 1)} | "
            f"{entry.parameters:,} | {entry.checkpoint_mb:.1f} | {entry.train_seconds:,.0f} | "
            f"{entry.rows_per_second:,.0f} |"
            for entry in entries
        ),
        "",
        f"{task}: {note}. Trained on: {machine['device']}, {machine['cpu']}, {machine['threads']} threads. rows/s: on "
        f"the CPU with {torch.get_num_threads()} threads, warm, batches of {BATCH_SIZE}, tokenizing included; all in "
        f"one run, the checkpoints taking turns, the fastest of {ROUNDS} rounds.",
    ]
    text = "\n".join(table)
    (folder / "ladder.md").write_text(text + "\n", encoding="utf-8")
    for run in (run for entry in entries for run in entry.runs):  # the card shows it too
        (run / "report" / "ladder.md").write_text(text + "\n", encoding="utf-8")
        write_card(run)
    try:
        points = [(entry.recipe, entry.train_seconds, *entry.accuracy) for entry in entries]
        picture = plots.ladder_png(points, f"{task}: accuracy against training time", note=note)
        (folder / "ladder.png").write_bytes(picture)
    except ImportError as error:
        warnings.warn(f"the ladder has no picture: {error}", stacklevel=3)
    return text


def _score(figure: tuple[float, float, float], several: bool) -> str:
    middle, low, high = figure
    return f"{middle:.4f} ± {high - middle:.4f}" if several else f"{middle:.4f} ({low:.3f}–{high:.3f})"
