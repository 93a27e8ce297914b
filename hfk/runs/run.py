"""`Run`: the folder of a training run, or of what looks like one: an ensemble, a soup, folds, a pulled checkpoint.

The only place that knows what the files of a run are called. `Run.start` makes or goes on with one, and refuses a
folder that holds another; `Run.open` reads a finished one again: its recipe, task, rows, model and predictions. What
is written here is whole or not there, and the predictions come last, so that they also say that a run has finished.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import PreTrainedModel, ProcessorMixin
from transformers.trainer import TRAINER_STATE_NAME

from ..evaluation.predictions import Predictions
from ..evaluation.report import write_report
from ..evaluation.translation import Translations, write_translation_report
from ..files import write_atomic
from ..inference.loading import load_checkpoint, load_config
from ..inference.predictor import Predictor, find_device
from ..inference.table import TASK_FILE, read_task_file
from ..models.configuration_multihead import HeadConfig
from ..tasks import ABOUT_ROWS, Task, list_tasks, load_task
from ..tasks.source import TableSource
from .recipe import Recipe, plain, translate

CONFIG = "config.json"
RECIPE = "recipe.yaml"
"""The options of a finished run, as used."""
STATE = "run.json"
"""What a run is made from: options as given, labels, rows; by it a folder is known as the same run."""
LOG = "training_log.json"
REPORT = "report"
METRICS = "metrics.json"
PREDICTIONS = "predictions.parquet"
OUT_OF_FOLD = "out_of_fold.parquet"
ENSEMBLE = "ensemble.json"
FOLDS_BEFORE = "folds.json"
"""What version 0.1 wrote in place of `run.json` into a folder of folds."""

INCIDENTAL = (
    "output_dir", "run_name", "disable_tqdm", "logging_steps", "logging_strategy", "log_level", "report_to",
    "keep_checkpoints", "save_total_limit", "dataloader_num_workers", "push_to_hub", "hub_model_id", "hub_strategy",
    "hub_token", "hub_private_repo", "hub_revision", "hub_always_push", "license",
)  # fmt: skip
"""Options that another call may change and still go on with the same run."""
REMEDY = "Choose another --output-dir, or start anew with --fresh."


class Run:
    """A run's folder, which need not be there yet.

    Example:
        >>> run = Run.open("runs/ynat")  # doctest: +SKIP
        >>> run.predictions().labelled, run.facts["seed"]  # doctest: +SKIP
        ({'topic': 4520}, 42)
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.state: dict[str, Any] = {}

    @classmethod
    def start(cls, folder: str | Path, recipe: Recipe, resume: bool = True) -> Run:
        """Start a run, or go on with the one that the folder holds; nothing is written before `begin`.

        A finished run, or one of other options, is a ValueError that names them; `resume=False` throws away whatever
        is there. Processes that do not save leave the folder alone.
        """
        run = cls(folder)
        if not recipe.arguments.should_save:
            return run
        if not resume:
            run.clear()
        elif run.finished and not run.started:
            raise ValueError(f"{folder} holds a finished run, which would be lost. {REMEDY}")
        used = recipe.to_dict()
        run.agree(options={name: used[name] for name in recipe.options if name in used and name not in INCIDENTAL})
        if run.checkpoint is not None:
            print(f"resuming from step {run.checkpoint.rpartition('-')[2]}", flush=True)
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Read a folder again: a finished run of this version or of 0.1, an ensemble, a soup, folds, a checkpoint."""
        run = cls(folder)
        if not run.folder.is_dir():
            raise ValueError(f"there is no folder {folder}: give that of a finished run, such as runs/ynat.")
        return run

    # ----------------------------------------------------------------------------------------------- the same run?

    @property
    def checkpoint(self) -> str | None:
        """The newest complete checkpoint, which training goes on from; see `last_checkpoint`."""
        return last_checkpoint(self.folder)

    @property
    def finished(self) -> bool:
        """Whether the run's last file is there, or a checkpoint that no unfinished run has left."""
        whole = (self.folder / CONFIG).is_file() and not (self.folder / STATE).is_file()
        return (self.folder / PREDICTIONS).is_file() or whole

    @property
    def started(self) -> bool:
        """Whether there is something to go on with: a checkpoint, or a fold that has one or has finished."""
        folds = map(Run, self.folder.glob("fold-*"))
        return self.checkpoint is not None or any(run.finished or run.checkpoint for run in folds)

    def agree(self, **state: Any) -> None:
        """Note facts that this run is made from; a ValueError if what there is to go on with was made from others."""
        state, before = _without_folders(plain(state)), _without_folders(self.read(STATE))
        if self.started:
            for name, value in state.items():
                there = before.get(name, value)
                entries = isinstance(value, dict) and isinstance(there, dict)
                for key in sorted({*there, *value}) if entries else [name]:
                    old, new = (there.get(key), value.get(key)) if entries else (there, value)
                    if old != new and name == "rows":
                        raise ValueError(f"{self.folder}: the rows or their labels have changed since. {REMEDY}")
                    if old != new:
                        raise ValueError(
                            f"{self.folder} holds another run: {key} was {old!r} there and is {new!r} now. {REMEDY}"
                        )
        self.state = before | self.state | state

    def begin(self) -> None:
        """Write down what was agreed on, before the first step; what is refused until then leaves no folder."""
        if self.state:  # a process that does not save has agreed on nothing
            write_atomic(self.folder / STATE, json.dumps(self.state, ensure_ascii=False, indent=1))

    def clear(self) -> None:
        """Remove what would be gone on with: checkpoints, folds, and what says that the run has finished."""
        self.remove_checkpoints()
        for run in self.folder.glob("fold-*"):
            shutil.rmtree(run)
        for name in (STATE, FOLDS_BEFORE, PREDICTIONS, OUT_OF_FOLD):
            (self.folder / name).unlink(missing_ok=True)

    def remove_checkpoints(self) -> None:
        """Remove the Trainer's `checkpoint-*` folders."""
        for path in self.folder.glob("checkpoint-*"):
            (path / TRAINER_STATE_NAME).unlink(missing_ok=True)  # first: half a folder is no checkpoint then
            shutil.rmtree(path)

    # ---------------------------------------------------------------------------------------------------- what it is

    def read(self, name: str, parse: Callable[[str], Any] = json.loads, default: Any = None) -> Any:
        """Read one of the folder's files, `default` without it; what is of another type than that is damaged."""
        default = {} if default is None else default
        try:
            content = parse((self.folder / name).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return default
        except (yaml.YAMLError, ValueError, KeyError, TypeError):
            content = None
        if not isinstance(content, type(default)):
            remedy = REMEDY if name == STATE else "Copy it again."
            raise ValueError(f"{self.folder / name} is damaged: it can't be read as what a run writes. {remedy}")
        return content

    @property
    def recipe(self) -> dict[str, Any]:
        """The options of recipe.yaml, those of version 0.1 as they are said now; empty without one."""
        return translate(self.read(RECIPE, yaml.safe_load))

    @cached_property
    def options(self) -> dict[str, Any]:
        """`recipe`, of a run that names its task; any other is a ValueError."""
        options = self.recipe
        if not options.get("task"):
            raise ValueError(
                f"{self.folder} has no {RECIPE} that says which rows it was trained on; give labelled rows that it has "
                "not seen, with --data."
            )
        return options

    def task(self, heads: list[HeadConfig] | None = None) -> Task:
        """Make the task that the run was trained on; a checkpoint's heads, if given, keep their labels."""
        return open_task(self.options, heads)

    def model(self, dtype: str | torch.dtype = "auto") -> tuple[PreTrainedModel, ProcessorMixin]:
        """Load the model and its processor; see `hfk.inference.loading.load_checkpoint`."""
        return load_checkpoint(self.folder, dtype)

    def predictor(self, batch_size: int = 64, dtype: str | torch.dtype = "auto") -> Predictor:
        """Load the model to be asked, on an accelerator if there is one."""
        return Predictor(*self.model(dtype), batch_size=batch_size, device=find_device())

    def predictions(self) -> Predictions:
        """What the run said of the rows that it was scored on; of folds, what each said of those that it held out."""
        for name in (PREDICTIONS, OUT_OF_FOLD):
            if (self.folder / name).is_file():
                return Predictions.load(self.folder / name)
        raise ValueError(f"{self.folder} has no {PREDICTIONS}: the run has not finished.")

    @property
    def results(self) -> dict[str, Any]:
        """What the report's metrics.json holds; empty without a report."""
        return self.read(f"{REPORT}/{METRICS}")

    @property
    def facts(self) -> dict[str, Any]:
        """What the report tells beside the scores; empty without a report."""
        return self.results.get("extra", {})

    # ---------------------------------------------------------------------------------------------- what is written

    def save(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        task: Task | None = None,
        recipe: Recipe | None = None,
        log: list[dict[str, Any]] | None = None,
    ) -> None:
        """Write the checkpoint, and what belongs to it: `task` is there for `hfk predict` to find its columns."""
        model.save_pretrained(self.folder)
        processor.save_pretrained(self.folder)
        if task is not None:
            write_atomic(self.folder / TASK_FILE, json.dumps(_columns(task, recipe), ensure_ascii=False, indent=1))
        if log is not None:
            write_atomic(self.folder / LOG, json.dumps(log, indent=1))
        if recipe is not None:
            write_atomic(self.folder / RECIPE, yaml.safe_dump(recipe.to_dict(), allow_unicode=True))

    def save_ensemble(
        self, model: PreTrainedModel, processor: ProcessorMixin, like: Run, facts: dict[str, Any]
    ) -> None:
        """Write the checkpoint of what runs were put together to; the columns of `like`, one of them, are theirs."""
        for name in (REPORT, "processor_1"):  # what another ensemble left here
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.save(model, processor)
        if (like.folder / TASK_FILE).is_file():
            shutil.copyfile(like.folder / TASK_FILE, self.folder / TASK_FILE)
        write_atomic(self.folder / ENSEMBLE, json.dumps(facts, ensure_ascii=False, indent=1))

    def report(self, predictions: Predictions | Translations, facts: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Score the run, and leave its report and its predictions; arguments and result as for `write_report`."""
        write = write_translation_report if isinstance(predictions, Translations) else write_report
        results = write(self.folder / REPORT, predictions, facts, **more)
        out_of_fold = any(self.folder.glob("fold-*"))
        predictions.save(self.folder / (OUT_OF_FOLD if out_of_fold else PREDICTIONS))
        return results

    def set_temperatures(self, temperatures: Mapping[str, float]) -> None:
        """Change the temperatures of the named heads in config.json, and nothing else in it."""
        config = self.read(CONFIG)
        for head in config["heads"]:
            head["temperature"] = temperatures.get(head["name"], head.get("temperature", 1.0))
        write_atomic(self.folder / CONFIG, json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


def _without_folders(state: Any) -> Any:
    """Leave of paths their names: a run may be gone on with elsewhere, and what it was made from may be published."""
    if isinstance(state, dict):
        return {name: _without_folders(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_without_folders(value) for value in state]
    return re.split(r"[\\/]", state)[-1] if isinstance(state, str) else state


def last_checkpoint(folder: str | Path) -> str | None:
    """Return the newest complete `checkpoint-*` folder, or None."""
    for path in sorted(Path(folder).glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        with suppress(OSError, ValueError):  # written last: one that was interrupted has none, or half of it
            json.loads((path / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
            return str(path)
    return None


def open_task(recipe: Recipe | Mapping[str, Any], heads: list[HeadConfig] | None = None) -> Task:
    """Make the task that a recipe, or a mapping of options, names; a checkpoint's `heads` keep their labels."""
    options = recipe if isinstance(recipe, Mapping) else vars(recipe)
    given = {name: options.get(name) for name in ABOUT_ROWS} | {"heads": heads}
    return load_task(options["task"], **{name: value for name, value in given.items() if value})


def load_rows(recipe: Recipe) -> tuple[Task, DatasetDict]:
    """Load what a recipe trains on: its task, and the task's rows by split; the main process goes first."""
    args = recipe.arguments
    with args.main_process_first(desc="preparing rows"):
        task = open_task(recipe)
        data = task.load()
    if task.corrected and args.should_save:
        print(task.corrected, flush=True)
    if recipe.max_train_rows and recipe.max_train_rows < len(data.get("train", ())):
        data["train"] = data["train"].shuffle(args.seed).select(range(recipe.max_train_rows))
    return task, data


def scored_split(data: Mapping[str, Any]) -> str:
    """Say which split of `data` a model is scored on: test, else validation, else train."""
    return next(name for name in ("test", "validation", "train") if name in data)


def state_of(task: Task, data: Mapping[str, Dataset]) -> dict[str, Any]:
    """Say what of a loaded task's rows a run depends on, for `Run.agree`: labels, and a digest of texts and labels."""
    hasher = hashlib.blake2b(digest_size=16)
    for split, rows in data.items():
        names = [name for name in rows.column_names if name != "image"]
        for batch in rows.select_columns(names).iter(10_000):
            content = json.dumps([split, batch], ensure_ascii=False, default=str)
            hasher.update(content.encode("utf-8", "surrogatepass"))
    labels = {f"labels of {head.name}": head.labels or head.problem for head in task.heads}
    return {"labels": labels, "rows": hasher.hexdigest()}


def read_labelled(
    checkpoint: str | Path,
    data: str | Path,
    image_dir: str | Path | None = None,
    revision: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Dataset:
    """Read a labelled table by the columns that a checkpoint was trained on, or some; arguments as `score.evaluate`'s.

    Rows without an id column are numbered; heads without a column are not labelled.
    """
    config, columns = load_config(checkpoint, revision), read_task_file(checkpoint, revision)
    fallback = {
        "text": "text" if config.text_config is not None else None,
        "image": "image" if config.vision_config is not None else None,
        "heads": [{"name": head.name, "problem": head.problem} for head in config.heads],
    }
    task = columns.pop("task", None) or fallback | columns
    where = dict(reading or {}) | ({} if image_dir is None else {"image_dir": image_dir})
    made = load_task(task, data=str(data), split=None, heads=config.heads, **where)
    _leave_out(made.source, Path(data).name)
    rows = concatenate_datasets(list(made.load().values()))
    if all(label is None for head in made.source.heads for label in rows[head.name]):
        raise ValueError(f"no row of {Path(data).name} has a label to score by; `hfk predict` classifies such rows.")
    return rows


def _leave_out(source: TableSource, file: str) -> None:
    """Do without the id, and without the heads, whose columns a labelled table does not have."""
    columns = next((list(chunk) for table in source.read() for chunk in table.chunks()), None)
    if columns is None:
        return
    source.id = source.id if source.id in columns else None
    heads = [head for head in source.heads if set(head.sources(columns)) <= set(columns)]
    if not heads:
        wanted = ", ".join(repr(head.column) for head in source.heads)
        raise ValueError(
            f"{file} has no labels to score by: none of the columns {wanted}; it has: {', '.join(map(str, columns))}. "
            "`hfk predict` classifies such rows."
        )
    names = [head.name for head in heads]
    source.heads = [head if head.parent in names else replace(head, parent=None, parents=None) for head in heads]


def _columns(task: Task, recipe: Recipe | None) -> dict[str, Any]:
    """What the columns are called, so that `hfk predict` and `hfk evaluate` find them."""
    heads = [head.reading() for head in task.source.heads]
    columns = {"text": task.source.text, "image": task.source.image, "id": task.source.id, "heads": heads}
    columns |= {} if task.source.header is None else {"header": task.source.header}
    columns |= {} if task.source.bad_rows == "error" else {"bad_rows": task.source.bad_rows}
    named = {"task": recipe.task} if recipe is not None and recipe.task in list_tasks() else {}
    return columns | named
