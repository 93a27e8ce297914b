"""Hyper-parameter search with Optuna, from a recipe to a better recipe: what `hfk search` calls.

A range is an option of the recipe with its limits (`learning_rate=1e-5:5e-4:log`, `text_pooling=mean|cls`). Every trial
is prepared as `hfk train` would, so any option may be searched, and is scored on the validation rows after its last
epoch; the first trial is the recipe as it is. Trials live in a SQLite file in the folder: a search that was interrupted
goes on, one that has finished can be given more trials. Of a trial only figures are kept; `hfk train best.yaml` makes
the checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from transformers import TrainerCallback

from ...evaluation import plots
from ...files import write_atomic
from ...runs.recipe import Recipe, check_renamed, load_recipe, merge, without_tokens
from ...training.train import prepare

STORAGE = "trials.sqlite"
STARTUP_TRIALS = 4  # not pruned, and drawn at random: before them there is nothing to compare with
_IN_A_TRIAL = {
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "early_stopping": False,
    "push_to_hub": False,
    "report_to": "none",
    "calibrate": False,
}
"""No trial is kept or stopped by patience: the last epoch is what is compared."""


@dataclasses.dataclass(frozen=True)
class Range:
    """What values an option may take: those of a choice, or numbers between two, drawn evenly or by their logarithm."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Any, name: str) -> Any:
        """Let an Optuna trial draw a value."""
        if self.choices:
            return trial.suggest_categorical(name, list(self.choices))
        draw = trial.suggest_int if self.whole else trial.suggest_float
        return draw(name, self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Tell whether a value is one of the range's."""
        if self.choices:
            return value in self.choices
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and (not self.whole or float(value).is_integer())


def parse_ranges(items: list[str]) -> tuple[dict[str, Range], list[str]]:
    """Tell ranges and choices by option among `key=value` words from plain options; ValueError for a wrong range.

    A range between two whole numbers without a point draws whole numbers.

    Example:
        >>> parse_ranges(["weight_decay=0.0:0.1", "seed=7"])
        ({'weight_decay': Range(low=0.0, high=0.1, log=False, whole=False, choices=())}, ['seed=7'])
    """
    ranges, others = {}, []
    for item in items:
        name, _, value = item.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        parts = [part.strip() for part in value.split(":")]
        if "|" in value:
            ranges[name] = Range(choices=tuple(yaml.safe_load(choice) for choice in value.split("|")))
        elif len(parts) > 1 and all(map(_number, parts[:2])):
            low, high = float(parts[0]), float(parts[1])
            log = parts[2:] == ["log"]
            if parts[2:] not in ([], ["log"]) or not (math.isfinite(low) and low < high < math.inf):
                raise ValueError(f"{item!r} is no range: write low:high or low:high:log, such as {name}=1e-5:1e-3:log.")
            if log and low <= 0:
                raise ValueError(f"{item!r}: a logarithmic range starts above 0.")
            whole = all(part.lstrip("-").isdecimal() for part in parts[:2])
            ranges[name] = Range(int(low), int(high), log, whole=True) if whole else Range(low, high, log)
        else:
            others.append(item)
    check_renamed(ranges)
    return ranges, others


def _own_values(options: dict[str, Any]) -> dict[str, Any]:
    """What a recipe says of every option, those included that it leaves to their defaults."""
    recipe = Recipe.read(options)
    values = {"head_learning_rate": 10 * recipe.arguments.learning_rate}
    return values | vars(recipe.arguments) | vars(recipe) | recipe.techniques


def default_ranges(options: dict[str, Any]) -> dict[str, Range]:
    """Give the ranges that are searched when none are named: around the values of a recipe's options."""
    own = _own_values(options)
    rate, head, epochs = own["learning_rate"], own["head_learning_rate"], max(1, round(own["num_train_epochs"]))
    return {
        "learning_rate": Range(rate / 4, rate * 4, log=True),
        "head_learning_rate": Range(head / 5, head * 5, log=True),
        "label_smoothing": Range(0.0, 0.2),
        "weight_decay": Range(1e-4, 0.1, log=True),
        "num_train_epochs": Range(max(1, epochs - 1), epochs + 2, whole=True),
    }


def search(
    recipe: str | Path | dict[str, Any],
    output_dir: str | Path,
    trials: int,
    ranges: dict[str, Range] | None = None,
    overrides: dict[str, Any] | None = None,
) -> str:
    """Search for better options of a recipe on its validation rows until there are so many trials in all.

    TPE draws the trials (Bergstra et al. 2011), and one that is worse than the median of the others at the same step is
    stopped. The folder gets `best.yaml`, a recipe for `hfk train`; `trials.csv`; `trials.png`; and the trials' storage.
    Returns a table of the best trials, for a terminal.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError('the search needs Optuna: pip install "hfk[search]"') from error
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("the search runs in one process; start it without several.")
    options = merge(recipe if isinstance(recipe, dict) else load_recipe(recipe), overrides or {})
    options.pop("output_dir", None)
    ranges = ranges or default_ranges(options)
    folder = Path(output_dir)
    trial_folder = folder / "trial"  # nothing in it is kept
    least = {name: values.choices[0] if values.choices else values.low for name, values in ranges.items()}
    # This names what is wrong before the first trial.
    run = prepare(options, trial_folder, least | _IN_A_TRIAL, resume=False)
    if "validation" not in run.data:
        raise ValueError(f"a search needs validation rows; task {run.task.name!r} has: {', '.join(run.data)}.")
    arguments = run.trainer.args
    goal = arguments.metric_for_best_model.removeprefix("eval_")
    fixed = {name: value for name, value in without_tokens(options).items() if name not in ranges}
    drawn = {name: dataclasses.asdict(values) for name, values in ranges.items()}
    _check_same(folder / "search.json", _jsonable({"goal": goal, "options": fixed, "ranges": drawn}))

    study = optuna.create_study(
        study_name="search",
        storage=f"sqlite:///{(folder / STORAGE).resolve()}",
        load_if_exists=True,
        direction="maximize" if arguments.greater_is_better else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
    )
    # Going on must not draw the first trials again.
    seed = (arguments.seed * 1009 + len(study.trials)) % 2**32
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)
    _queue(study, _own_values(options), ranges)
    for _ in range(trials - len(_counted(study))):
        trial = study.ask()
        values = {name: own.suggest(trial, name) for name, own in ranges.items()}
        reporter = _Reporter(trial, goal)
        try:
            prepare(options, trial_folder, values | _IN_A_TRIAL, resume=False, callbacks=[reporter]).trainer.train()
            outcome = {"values": reporter.reached}
        except optuna.TrialPruned:
            outcome = {"state": optuna.trial.TrialState.PRUNED}
        except ValueError as error:  # logits that are not finite, mostly: too high a learning rate
            trial.set_user_attr("failed", " ".join(str(error).split()))
            outcome = {"state": optuna.trial.TrialState.FAIL}
        told = study.tell(trial, **outcome)
        said = "  ".join(f"{name} {_short(value)}" for name, value in told.params.items())
        print(f"trial {told.number}: {_outcome(told, goal)}  {said}", flush=True)
    shutil.rmtree(trial_folder, ignore_errors=True)

    if not study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        reasons = [trial.user_attrs["failed"] for trial in study.trials if "failed" in trial.user_attrs]
        raise ValueError(f"none of {len(reasons)} trials came to an end; the last: {reasons[-1]}")
    best = study.best_trial
    text = f"# Trial {best.number} of {len(study.trials)}: {goal} {best.value:.4f} on validation.\n"
    text += yaml.safe_dump(_jsonable(merge(without_tokens(options), best.params)), allow_unicode=True, sort_keys=False)
    write_atomic(folder / "best.yaml", text)
    _write_trials(folder, study, ranges, goal)
    _draw_trials(folder, study, ranges, goal, run.task.name)
    return _best_lines(study, ranges, goal)


class _Reporter(TrainerCallback):
    """Tells a trial what its run has reached at every evaluation, and stops it where others were better by then."""

    def __init__(self, trial: Any, goal: str) -> None:
        self.trial, self.goal, self.reached = trial, goal, math.nan

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        import optuna

        self.reached = metrics[f"eval_{self.goal}"]
        self.trial.report(self.reached, step=state.global_step)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _queue(study: Any, own: dict[str, Any], ranges: dict[str, Range]) -> None:
    """Queue what is to be tried first: the recipe's own values, and again whatever an interruption cut short."""
    if not study.trials and all(values.holds(own.get(name)) for name, values in ranges.items()):
        study.enqueue_trial({name: own[name] for name in ranges})
    for trial in study.trials:
        if trial.state.name == "RUNNING":
            study.tell(trial.number, state=type(trial.state).FAIL)
            if trial.params:
                study.enqueue_trial(trial.params)


def _counted(study: Any) -> list[Any]:
    """Trials that came to an end of some kind; those that were interrupted do not count."""
    ended = [trial for trial in study.trials if trial.state.is_finished()]
    return [trial for trial in ended if trial.state.name != "FAIL" or "failed" in trial.user_attrs]


def _check_same(path: Path, search: dict[str, Any]) -> None:
    """Note what is searched, and refuse to add trials to a search of another kind."""
    if not path.is_file():
        write_atomic(path, json.dumps(search, ensure_ascii=False, indent=1))
        return
    told = json.loads(path.read_text(encoding="utf-8")), search
    old, new = (pd.json_normalize(one, max_level=1).to_dict("records")[0] for one in told)
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            raise ValueError(
                f"{path.parent} holds a search with {name} {_short(old.get(name))}, not {_short(new.get(name))}; "
                "choose another --output-dir, or delete the folder."
            )


def _write_trials(folder: Path, study: Any, ranges: dict[str, Range], goal: str) -> None:
    lines = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            goal: None if trial.value is None else f"{trial.value:.6f}",
            "seconds": f"{trial.duration.total_seconds():.1f}",
            **{name: trial.params.get(name) for name in ranges},
            "note": trial.user_attrs.get("failed"),
        }
        for trial in _counted(study)
    ]
    write_atomic(folder / "trials.csv", pd.DataFrame(lines).to_csv(index=False))


def _draw_trials(folder: Path, study: Any, ranges: dict[str, Range], goal: str, task: str) -> None:
    """Draw Optuna's slice plot in the colors of the other pictures."""
    try:
        from matplotlib import pyplot
        from optuna.visualization.matplotlib import plot_slice
    except ImportError:
        warnings.warn('the search has no picture: pip install "hfk[plots]"', stacklevel=3)
        return
    with pyplot.rc_context({"backend": "agg"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plot is marked as experimental
        panels = np.ravel(plot_slice(study, params=list(ranges), target_name=goal.replace("_", " ")))
        figure = panels[0].figure
        figure.suptitle("")
        for axes in panels:
            plots.plain(axes)
            axes.set_facecolor("white")
        plots.titles(panels[0], f"{task}: what each option did", f"{len(_counted(study))} trials, later ones darker")
        write_atomic(folder / "trials.png", plots.to_png(figure))
        pyplot.close(figure)


def _best_lines(study: Any, ranges: dict[str, Range], goal: str) -> str:
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    complete.sort(key=lambda trial: trial.value, reverse=study.direction.name == "MAXIMIZE")
    lines = [f"{'trial':>5}  {goal:>16}  {'  '.join(ranges)}"]
    for trial in complete[:10]:
        values = "  ".join(f"{_short(trial.params[name]):>{len(name)}}" for name in ranges)
        lines.append(f"{trial.number:>5}  {trial.value:>16.4f}  {values}")
    first = next((trial for trial in complete if trial.number == 0), None)
    if first is not None and complete[0] is not first:
        gain = f"the best trial is {abs(complete[0].value - first.value):.4f} better, on the rows that chose it."
        lines.append(f"\nThe recipe as it is (trial 0) reached {first.value:.4f}; {gain}")
    return "\n".join(lines)


def _outcome(trial: Any, goal: str) -> str:
    if trial.state.name == "FAIL":
        return f"failed: {trial.user_attrs.get('failed', 'there is no score')}"
    return f"{'stopped at' if trial.state.name == 'PRUNED' else 'done,'} {goal} {trial.value:.4f}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _jsonable(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
