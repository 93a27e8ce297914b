"""One training run, from a recipe to a checkpoint folder with its report: what `hfk train` and scripts/train.py call.

A run folder holds, when the run has finished: the checkpoint (model.safetensors, config, processor, remote code),
`recipe.yaml` (every option as used), `training_log.json`, and `report/` (metrics, tables, pictures). While it runs,
`checkpoint-*` folders of the Trainer make it resumable; they hold PyTorch's own optimizer files and go at the end.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from huggingface_hub import HfApi
from transformers import TrainerCallback

from ..evaluation.metrics import majority_baseline
from ..evaluation.report import format_table
from ..hub import publishing
from ..hub.publishing import Target
from ..runs.card import public_name
from ..runs.facts import data_facts, environment, peak_memory
from ..runs.recipe import Recipe
from ..runs.run import Run, open_task, state_of
from ..tasks import Task
from ..tasks.labels import label_arrays
from . import scratch
from .classification import build_trainer
from .techniques import make_techniques
from .trainer import MultiHeadTrainer, unwrap


@dataclass
class Prepared:
    """A run that is ready for its first step.

    Args:
        run: its folder.
        recipe: what is trained on what, and how.
        task: the loaded task.
        data: its rows by split.
        trainer: holds the model.
        checkpoint: what training goes on from, or None.
    """

    run: Run
    recipe: Recipe
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
    techniques, args = make_techniques(read.techniques), read.arguments
    with args.main_process_first(desc="preparing rows"):
        task = open_task(read)
        data = task.load()
    if task.corrected and args.should_save:
        print(task.corrected, flush=True)
    if read.max_train_rows and read.max_train_rows < len(data.get("train", ())):
        data["train"] = data["train"].shuffle(args.seed).select(range(read.max_train_rows))
    run = Run.start(output_dir, read, resume)
    if args.should_save:
        run.agree(**state_of(task, data))
    checkpoint = run.checkpoint if resume else None
    trainer = build_trainer(read, techniques, task, data, checkpoint, callbacks=callbacks)
    return Prepared(run, read, task, data, trainer, checkpoint)


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
    ready = prepare(recipe, output_dir, overrides, resume, callbacks)
    run, recipe, task, data, trainer = ready.run, ready.recipe, ready.task, ready.data, ready.trainer
    args = recipe.arguments
    trainer.train(resume_from_checkpoint=ready.checkpoint)
    trainer.finish()
    predictions, split = trainer.predictions(), trainer.scored
    if not args.should_save:
        return {}
    log = trainer.state.log_history
    run.save(unwrap(trainer.model), trainer.processor, task, recipe, log)
    train_labels = label_arrays(data["train"], trainer.heads)
    facts = trainer.facts()
    results = run.report(
        predictions,
        log=log,
        baseline=majority_baseline(train_labels, predictions),
        calibration=facts.pop("calibration", None),
        facts={
            "title": f"{task.name}: {split}",
            "task": task.name,
            "split": split,
            **facts,
            "resumed": ready.checkpoint is not None,
            "peak_memory_mib": peak_memory(),
            "environment": environment(),
            "encoders": {kind: public_name(getattr(recipe, f"{kind}_encoder")) for kind in ("text", "vision")},
            **data_facts(task, data, trainer.heads, train_labels),
        },
    )
    run.write_card(trainer.hub_model_id if args.push_to_hub else None)
    shutil.rmtree(run.folder / scratch.FOLDER, ignore_errors=True)
    if not args.keep_checkpoints:
        run.remove_checkpoints()
    print(format_table(results))
    if args.push_to_hub:
        target = Target(trainer.hub_model_id, args.hub_private_repo, args.hub_revision, message="Finish training")
        print(f"pushed: {publishing.push(run.folder, target, HfApi(token=args.hub_token)).url}")
    return results
