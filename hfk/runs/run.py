"""`Run`: the folder of a training run, or of what looks like one: an ensemble, a soup, folds, a pulled checkpoint.

The only place that knows what the files of a run are called. `Run.start` makes or goes on with one, and refuses a
folder that holds another; `Run.open` reads a finished one again: its recipe, task, rows, model and predictions. What
is written here is whole or not there, and the predictions come last, so that they also say that a run has finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset, DatasetDict, concatenate_datasets
from filelock import FileLock, Timeout
from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

from ..evaluation.predictions import Predictions
from ..evaluation.report import write_report
from ..evaluation.translation import Translations, write_translation_report
from ..files import parse_yaml, part_of, remove, sweep, sync, sync_entry, write_atomic
from ..inference.loading import load_checkpoint, load_config
from ..inference.predictor import Predictor, find_device
from ..inference.table import TASK_FILE, pictures_beside, read_task_file
from ..models.configuration_multihead import HeadConfig
from ..models.image_preparation import split_box
from ..models.processing_ensemble import processor_state
from ..tasks import ABOUT_ROWS, Task, list_tasks, load_task
from ..tasks.source import TableSource
from .checkpoints import last_checkpoint, remove_checkpoints, set_aside_damaged
from .recipe import Recipe, plain, translate

CONFIG = "config.json"
RECIPE = "recipe.yaml"
"""The options of a finished run, as used."""
STATE = "run.json"
"""What a run is made from: options as given, labels, rows, encoders; by it a folder is known as the same run."""
LOCK = "run.lock"
"""Held by the process that trains here; see `Run.hold`."""
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
    "hub_token", "hub_private_repo", "hub_revision", "hub_always_push", "license", "benchmark",
)  # fmt: skip
"""Options that another call may change and still go on with the same run."""
_CHANGED = {
    "rows": "the rows or their labels have", "pictures": "the pictures have", "text_encoder": "the text encoder has",
    "vision_encoder": "the vision encoder has", "processor": "the tokenizer, or how input is prepared, has",
}  # fmt: skip
"""Facts that are known by a digest, in words."""
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
        self._lock: FileLock | None = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: Any) -> None:
        if error is not None:  # else it is held until it is closed
            self.release()

    @classmethod
    def start(cls, folder: str | Path, recipe: Recipe, resume: bool = True) -> Run:
        """Start a run, or go on with the one that the folder holds, and hold it against others until `release`.

        A finished run, one of other options, or one that another process is at, is a ValueError that says so;
        `resume=False` throws away whatever is there. Nothing else is written before `begin`. Processes that do not save
        leave the folder alone.
        """
        run = cls(folder)
        if not recipe.arguments.should_save:
            return run
        run.hold()
        try:
            if not resume:
                run.clear()
            elif run.finished and not run.started:
                raise ValueError(f"{folder} holds a finished run, which would be lost. {REMEDY}")
            used = recipe.to_dict()
            run.agree(options={name: used[name] for name in recipe.options if name in used and name not in INCIDENTAL})
        except BaseException:
            run.release()
            raise
        sweep(run.folder)
        for sentence in set_aside_damaged(run.folder):
            print(sentence, flush=True)
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

    def hold(self) -> None:
        """Refuse, with a ValueError, a folder that another process trains in, and keep others out of it.

        This is a lock of the operating system (flock), which ends with its process however that ends, so none is ever
        stale. On NFS it holds between machines if the server keeps locks, as NFS 4 does; where a file system knows no
        flock at all, filelock warns and the lock file itself counts.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder.resolve() / LOCK, timeout=0, is_singleton=True)
        try:
            self._lock.acquire()
        except Timeout:
            self._lock = None
            raise ValueError(
                f"another process is training in {self.folder}: wait until it has ended, or choose another "
                "--output-dir."
            ) from None

    def release(self) -> None:
        """Let others at the folder, which goes if nothing has come into it."""
        if self._lock is not None:
            with suppress(OSError):
                os.unlink(self._lock.lock_file)  # while it is held: nobody takes one that is gone
            self._lock.release(force=True)
            self._lock = None
            with suppress(OSError):
                self.folder.rmdir()

    # ----------------------------------------------------------------------------------------------- the same run?

    @property
    def checkpoint(self) -> str | None:
        """The newest whole checkpoint, which training goes on from; see `last_checkpoint`."""
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
                    if old != new and name in _CHANGED:
                        raise ValueError(f"{self.folder}: {_CHANGED[name]} changed since. {REMEDY}")
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
        remove_checkpoints(self.folder)
        for run in self.folder.glob("fold-*"):
            shutil.rmtree(run)
        for name in (STATE, FOLDS_BEFORE, PREDICTIONS, OUT_OF_FOLD):
            (self.folder / name).unlink(missing_ok=True)

    def close(self, keep_checkpoints: bool = False, folders: Iterable[str] = ()) -> None:
        """Remove what only training needed, checkpoints and the named folders, and let others at the run."""
        sync_entry(self.folder)
        if not keep_checkpoints:
            remove_checkpoints(self.folder)
        for folder in folders:
            shutil.rmtree(self.folder / folder, ignore_errors=True)
        self.release()

    # ---------------------------------------------------------------------------------------------------- what it is

    def read(self, name: str, parse: Callable[[str], Any] = json.loads, default: Any = None) -> Any:
        """Read one of the folder's files, `default` without it; what is of another type than that is damaged."""
        default = {} if default is None else default
        try:
            content = parse((self.folder / name).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return default
        except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError):
            content = None
        if not isinstance(content, type(default)):
            remedy = REMEDY if name == STATE else "Copy it again."
            raise ValueError(f"{self.folder / name} is damaged: it can't be read as what a run writes. {remedy}")
        return content

    @property
    def recipe(self) -> dict[str, Any]:
        """The options of recipe.yaml, those of version 0.1 as they are said now; empty without one."""
        return translate(self.read(RECIPE, parse_yaml))

    @cached_property
    def options(self) -> dict[str, Any]:
        """`recipe`, of a run that names its task; any other is a ValueError."""
        options = self.recipe
        if not options.get("task"):
            raise ValueError(
                f"{self.folder} has no {RECIPE} that says which rows it was trained on; give labeled rows that it has "
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
        part = part_of(self.folder / "checkpoint")
        try:
            model.save_pretrained(part)
            processor.save_pretrained(part)
            sync(part)
            self._take_in(part)
        finally:
            remove(part)
        if task is not None:
            write_atomic(self.folder / TASK_FILE, json.dumps(_columns(task, recipe), ensure_ascii=False, indent=1))
        if log is not None:
            write_atomic(self.folder / LOG, json.dumps(log, indent=1))
        if recipe is not None:
            write_atomic(self.folder / RECIPE, yaml.safe_dump(recipe.to_dict(), allow_unicode=True))

    def _take_in(self, part: Path) -> None:
        """Move the files of a checkpoint into the folder, config.json last: there is the whole of one, or none."""
        (self.folder / CONFIG).unlink(missing_ok=True)
        for old in self.folder.glob("model*.safetensors*"):  # other shards must not stand beside the new ones
            old.unlink()
        for path in sorted(part.iterdir(), key=lambda path: path.name == CONFIG):
            remove(self.folder / path.name) if path.is_dir() else None
            os.replace(path, self.folder / path.name)

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
    """Say what of a loaded task's rows a run depends on, for `Run.agree`: labels, and digests of rows and pictures."""
    hashers = {name: hashlib.blake2b(digest_size=16) for name in ("rows", "pictures")}
    for split, rows in data.items():
        for batch in rows.iter(10_000):
            pictures = [_picture(cell) for cell in batch.pop("image", ())]
            for name, content in (("rows", batch), ("pictures", pictures)):
                content = json.dumps([split, content], ensure_ascii=False, default=str)
                hashers[name].update(content.encode("utf-8", "surrogatepass"))
    labels = {f"labels of {head.name}": head.labels or head.problem for head in task.heads}
    return {"labels": labels} | {name: hasher.hexdigest() for name, hasher in hashers.items()}


def _picture(cell: Mapping[str, Any] | None) -> Any:
    """By what a picture is known again: what is inside the table by its bytes, a file by its name and size."""
    if cell is None or cell["bytes"] is not None:
        return None if cell is None else hashlib.blake2b(cell["bytes"], digest_size=16).hexdigest()
    file, box = split_box(cell["path"])
    size = os.path.getsize(file) if os.path.isfile(file) else None
    return [os.path.basename(file), str(box), size]


def state_of_model(config: PreTrainedConfig, processor: ProcessorMixin) -> dict[str, str]:
    """Say what of a new model a run depends on, for `Run.agree`: what its encoders are like, and how input is read."""
    several = hasattr(config, "text_config")
    parts = {f"{side}_encoder": getattr(config, f"{side}_config") for side in ("text", "vision")} if several else {}
    state = {}
    for name, part in (parts or {"text_encoder": config}).items():
        told = {} if part is None else part.to_dict()
        told = {key: value for key, value in told.items() if key[0] != "_" and key != "transformers_version"}
        content = json.dumps(told, sort_keys=True, default=str).encode()
        state[name] = hashlib.blake2b(content, digest_size=16).hexdigest()
    return state | ({"processor": processor_state(processor)} if several else {})


def read_labeled(
    checkpoint: str | Path,
    data: str | Path,
    image_dir: str | Path | None = None,
    revision: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Dataset:
    """Read a labeled table by the columns that a checkpoint was trained on, or some; arguments as `score.evaluate`'s.

    Rows without an id column are numbered; heads without a column are not labeled.
    """
    config, columns = load_config(checkpoint, revision), read_task_file(checkpoint, revision)
    fallback = {
        "text": "text" if config.text_config is not None else None,
        "image": "image" if config.vision_config is not None else None,
        "heads": [{"name": head.name, "problem": head.problem} for head in config.heads],
    }
    if image_dir is None and columns.get("image_dir") and not columns.get("task"):
        image_dir = pictures_beside(Path(data).parent, columns)
    columns.pop("image_dir", None)
    task = columns.pop("task", None) or fallback | columns
    where = dict(reading or {}) | ({} if image_dir is None else {"image_dir": image_dir})
    made = load_task(task, data=str(data), split=None, heads=config.heads, **where)
    _leave_out(made.source, Path(data).name)
    rows = concatenate_datasets(list(made.load().values()))
    if all(label is None for head in made.source.heads for label in rows[head.name]):
        raise ValueError(f"no row of {Path(data).name} has a label to score by; `hfk predict` classifies such rows.")
    return rows


def _leave_out(source: TableSource, file: str) -> None:
    """Do without the id, and without the heads, whose columns a labeled table does not have."""
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
    source.heads = [
        head if head.parent in names else replace(head, parent=None, parents=None, qualify=False) for head in heads
    ]


def _columns(task: Task, recipe: Recipe | None) -> dict[str, Any]:
    """What the columns are called, so that `hfk predict` and `hfk evaluate` find them."""
    heads = [head.reading() for head in task.source.heads]
    columns = {"text": task.source.text, "image": task.source.image, "id": task.source.id, "heads": heads}
    if (pictures := task.source.image_dir) is not None:
        table = Path(task.source.read()[0].folder or "").resolve()
        inside = Path(pictures).resolve().is_relative_to(table)
        columns |= {"image_dir": Path(pictures).resolve().relative_to(table).as_posix()} if inside else {}
    columns |= {} if task.source.header is None else {"header": task.source.header}
    columns |= {} if task.source.bad_rows == "error" else {"bad_rows": task.source.bad_rows}
    named = {"task": recipe.task} if recipe is not None and recipe.task in list_tasks() else {}
    return columns | named
