"""One training run, from a recipe to a checkpoint folder with its report: what `hfk train` and scripts/train.py call.

A run folder holds, when the run has finished: the checkpoint (model.safetensors, config, processor, remote code),
`recipe.yaml` (every option as used), `training_log.json`, and `report/` (metrics, tables, pictures). While it runs,
`checkpoint-*` folders of the Trainer make it resumable; they hold PyTorch's own optimizer files and go at the end.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import DatasetDict
from huggingface_hub import HfApi
from transformers import TrainerCallback

from ..evaluation.metrics import majority_baseline
from ..evaluation.predictions import count_labelled
from ..evaluation.report import format_table, write_report
from ..hub import publishing
from ..hub.publishing import Target
from ..models.configuration_multihead import HeadConfig
from ..runs import card as cards
from ..runs.recipe import MultiHeadTrainingArguments, Recipe
from ..tasks import ABOUT_ROWS, Task, list_tasks, load_task
from ..tasks.labels import label_arrays
from . import scratch
from .classification import build_trainer
from .folds import PREDICTIONS
from .techniques import make_techniques
from .trainer import MultiHeadTrainer, last_checkpoint, unwrap


@dataclass
class Prepared:
    """A run that is ready for its first step.

    Args:
        recipe: what is trained on what, and how.
        args: how.
        task: the loaded task.
        data: its rows by split.
        trainer: holds the model.
        checkpoint: what training goes on from, or None.
    """

    recipe: Recipe
    args: MultiHeadTrainingArguments
    task: Task
    data: DatasetDict
    trainer: MultiHeadTrainer
    checkpoint: str | None


def prepare(
    recipe: str | Path | Mapping[str, Any],
    output_dir: str | Path,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
) -> Prepared:
    """Read a recipe, load its rows and build its model: all of `train` before the first step.

    Args:
        recipe: as for `train`.
        output_dir: as for `train`.
        overrides: as for `train`.
        resume: as for `train`.
        callbacks: as for `train`.

    Raises:
        ValueError: as `train`.
    """
    read = Recipe.read(recipe, {**(overrides or {}), "output_dir": str(output_dir)})
    techniques, args, folder = make_techniques(read.techniques), read.arguments, Path(output_dir)
    with args.main_process_first(desc="preparing rows"):
        task = open_task(read)
        data = task.load()
    if task.corrected and args.should_save:
        print(task.corrected, flush=True)
    if read.max_train_rows and read.max_train_rows < len(data.get("train", ())):
        data["train"] = data["train"].shuffle(args.seed).select(range(read.max_train_rows))
    checkpoint = last_checkpoint(folder) if resume else None
    if args.should_save:
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            _remove_checkpoints(folder)
    trainer = build_trainer(read, techniques, task, data, checkpoint, callbacks=callbacks)
    return Prepared(read, args, task, data, trainer, checkpoint)


def train(
    recipe: str | Path | Mapping[str, Any],
    output_dir: str | Path,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Train by a recipe, evaluate, write the checkpoint and its report.

    Args:
        recipe: name of a built-in recipe, path of a recipe or task YAML, or a dict of options.
        output_dir: folder of the run. A run that was interrupted there goes on from its last complete checkpoint.
        overrides: options that replace the recipe's; `lora.rank` replaces one of a mapping.
        resume: False starts anew, whatever the folder holds.
        callbacks: told of every step, as by `transformers.Trainer`.

    Returns:
        what the report's `metrics.json` holds; empty on processes other than the main one.

    Raises:
        ValueError: for a wrong option, or data that can't be used.

    Example:
        >>> results = train("tour-mini", "runs/tour-mini", {"num_train_epochs": 1})  # doctest: +SKIP
        >>> results["scores"]["cat1_accuracy"]  # doctest: +SKIP
    """
    run = prepare(recipe, output_dir, overrides, resume, callbacks)
    recipe, args, task, data, trainer = run.recipe, run.args, run.task, run.data, run.trainer
    folder, heads = Path(output_dir), trainer.heads
    trainer.train(resume_from_checkpoint=run.checkpoint)
    trainer.finish()
    predictions, split = trainer.predictions(), trainer.scored
    if not args.should_save:
        return {}
    unwrap(trainer.model).save_pretrained(folder)
    trainer.processor.save_pretrained(folder)
    _write_task_file(folder, recipe, task)
    log = trainer.state.log_history
    (folder / "training_log.json").write_text(json.dumps(log, indent=1), encoding="utf-8")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict(), allow_unicode=True), encoding="utf-8")
    train_labels = label_arrays(data["train"], heads)
    if task.fold:
        predictions.folds = np.full(len(predictions), task.fold[0])
    facts = trainer.facts()
    results = write_report(
        folder / "report",
        predictions,
        log=log,
        baseline=majority_baseline(train_labels, predictions),
        calibration=facts.pop("calibration", None),
        facts={
            "title": f"{task.name}: {split}",
            "task": task.name,
            "split": split,
            "rows": {name: len(rows) for name, rows in data.items()},
            **facts,
            "resumed": run.checkpoint is not None,
            "peak_memory_mib": peak_memory(),
            "environment": environment(),
            "encoders": {kind: cards.public_name(getattr(recipe, f"{kind}_encoder")) for kind in ("text", "vision")},
            **({"corrections": task.corrected} if task.corrected else {}),
            **({"fold": f"{task.fold[0]} of {task.fold[1]}"} if task.fold else {}),
            **_data_facts(task, data, heads, train_labels),
        },
    )
    cards.write_card(folder, trainer.hub_model_id if args.push_to_hub else None)
    shutil.rmtree(folder / scratch.FOLDER, ignore_errors=True)
    if not args.keep_checkpoints:
        _remove_checkpoints(folder)
    predictions.save(folder / PREDICTIONS)  # last of all: it also says that the run has finished
    print(format_table(results))
    if args.push_to_hub:
        target = Target(trainer.hub_model_id, args.hub_private_repo, args.hub_revision, message="Finish training")
        print(f"pushed: {publishing.push(folder, target, HfApi(token=args.hub_token)).url}")
    return results


def open_task(recipe: Recipe, heads: list[HeadConfig] | None = None) -> Task:
    """Make the task that a recipe names, with the recipe's own data, split and corrections.

    Args:
        recipe: gives `task`, and the options of `ABOUT_ROWS`.
        heads: a checkpoint's heads, whose labels then hold.
    """
    given = {name: getattr(recipe, name) for name in ABOUT_ROWS} | {"heads": heads}
    return load_task(recipe.task, **{name: value for name, value in given.items() if value})


def environment() -> dict[str, Any]:
    """Describe the machine and the versions that a figure depends on."""
    import accelerate
    import datasets
    import transformers

    from .. import __version__

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return {
        "hfk": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "datasets": datasets.__version__,
        "accelerate": accelerate.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else str(device or "cpu"),
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "world_size": int(os.environ.get("WORLD_SIZE", 1)),
    }


def peak_memory() -> dict[str, int]:
    """Return the most memory this process has held, in MiB: `cpu`, and `gpu` where CUDA was used; {} on Windows."""
    try:
        import resource
    except ImportError:
        return {}
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    peak = {"cpu": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit >> 20}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peak["gpu"] = torch.cuda.max_memory_allocated() >> 20
    return peak


def _cpu_name() -> str | None:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or None


def _data_facts(
    task: Task, data: DatasetDict, heads: list[HeadConfig], train_labels: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Say about the rows what the model card tells, and what can't be known again without them."""
    # A split that hfk took out of other rows still carries their split's name.
    own = [name for name in ("validation", "test") if name in data and str(data[name].split) != name]
    division = {"shares": {name: task.shares[name] for name in own}, "seed": task.seed} if own else {}
    facts: dict[str, Any] = {"division": division, "train_labelled": count_labelled(train_labels, heads)}
    few = {}
    for head in heads:
        present, target = head.rules.read(train_labels.get(head.name))
        if present.any() and head.rules.has_labels:
            counts = zip(head.labels, head.rules.counts(target[present]), strict=True)
            few[head.name] = {label: int(count) for label, count in counts if count < cards.FEW_ROWS}
    few = {name: rare for name, rare in few.items() if rare}
    if few:
        facts["few_training_rows"] = few
    if "text" in data["train"].column_names:
        texts = [text for text in data["train"]["text"] if text]
        korean = sum(any("가" <= letter <= "힣" for letter in text) for text in texts)
        facts["korean_share"] = round(korean / max(len(texts), 1), 3)
    if task.description and task.name not in list_tasks():
        facts["description"] = task.description
    return facts


def _write_task_file(folder: Path, recipe: Recipe, task: Task) -> None:
    """Leave what the columns are called beside the checkpoint, so that `hfk predict` and `hfk evaluate` find them."""
    source = task.source
    heads = [
        {
            key: value
            for key, value in head.to_dict().items()
            if key in ("name", "column", "problem", "separator", "empty")
        }
        for head in source.heads
    ]
    columns = {"text": source.text, "image": source.image, "id": source.id, "heads": heads}
    if recipe.task in list_tasks():
        columns["task"] = recipe.task
    (folder / "task.json").write_text(json.dumps(columns, ensure_ascii=False, indent=1), encoding="utf-8")


def _remove_checkpoints(folder: Path) -> None:
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
