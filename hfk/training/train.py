"""One training run, from a recipe to a checkpoint folder with its report: what `hfk train` and scripts/train.py call.

`train` is the story; what may change training is in `techniques`, which Trainer a task gets in `kinds`, what a
run's folder holds in `hfk.runs.run`. While it trains, `checkpoint-*` folders make it resumable; they go at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import DatasetDict
from huggingface_hub import HfApi
from transformers import TrainerCallback

from ..evaluation.metrics import majority_baseline
from ..evaluation.predictions import Predictions
from ..evaluation.report import format_table
from ..hub import publishing
from ..runs.card import public_name, write_card
from ..runs.facts import data_facts, environment, peak_memory
from ..runs.overview import overview
from ..runs.recipe import Recipe
from ..runs.run import Run, load_rows, state_of, state_of_model
from ..tasks import Task
from ..tasks.labels import label_arrays
from . import scratch
from .kinds import build_trainer
from .techniques import make_techniques
from .trainer import MultiHeadTrainer, unwrap


class Prepared(NamedTuple):
    """A run that is ready for its first step; `checkpoint` is what training goes on from, or None."""

    run: Run
    recipe: Recipe
    task: Task
    data: DatasetDict
    trainer: MultiHeadTrainer
    checkpoint: str | None


def train(
    recipe: str | Path | Mapping[str, Any],
    output_dir: str | Path,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Train by a recipe, evaluate, and leave the checkpoint, its report and its card.

    Args:
        recipe: name of a built-in recipe, path of a recipe or task YAML, or a mapping of options.
        output_dir: folder of the run. A run that was interrupted there goes on from its last complete checkpoint.
        overrides: options that replace the recipe's; `lora.rank` replaces one of a mapping.
        resume: False starts anew, whatever the folder holds.
        callbacks: told of every step, as by `transformers.Trainer`.

    Returns:
        what the report's `metrics.json` holds; empty on processes other than the main one.
    """
    ready = prepare(recipe, output_dir, overrides, resume, callbacks)
    trainer = ready.trainer
    with ready.run as run:
        trainer.train(resume_from_checkpoint=ready.checkpoint)
        trainer.finish()
        predictions = trainer.predictions()
        if not trainer.args.should_save:
            return {}
        run.save(unwrap(trainer.model), trainer.processor, ready.task, ready.recipe, trainer.state.log_history)
        results = run.report(predictions, **_told(ready, predictions))
        write_card(run.folder, trainer.hub_model_id if trainer.args.push_to_hub else None)
        print(format_table(results))
        _close(run, trainer)
    return results


def prepare(
    recipe: Any, output_dir: str | Path, overrides: Any = None, resume: bool = True, callbacks: Any = ()
) -> Prepared:
    """Do all of `train` before the first step: read the recipe, load its rows, build its model; arguments as there."""
    recipe = Recipe.read(recipe, {**(overrides or {}), "output_dir": str(output_dir)})
    techniques, args = make_techniques(recipe.techniques), recipe.arguments
    task, data = load_rows(recipe)
    with Run.start(output_dir, recipe, resume) as run:
        if args.should_save:
            run.agree(**state_of(task, data))
        checkpoint = run.checkpoint if resume else None
        trainer = build_trainer(recipe, techniques, task, data, checkpoint, callbacks=callbacks)
        if args.should_save:
            run.agree(**state_of_model(trainer.model.config, trainer.processor))
            run.begin()
            print(overview(data, trainer.heads, trainer.processor), flush=True)
    return Prepared(run, recipe, task, data, trainer, checkpoint)


def _told(ready: Prepared, predictions: Predictions) -> dict[str, Any]:
    """What a run's report tells beside the predictions."""
    _, recipe, task, data, trainer, checkpoint = ready
    labels, facts = label_arrays(data["train"], trainer.heads), trainer.facts()
    calibration = facts.pop("calibration", None)
    facts |= {"title": f"{task.name}: {trainer.scored}", "task": task.name, "split": trainer.scored}
    facts |= {"resumed": checkpoint is not None, "peak_memory_mib": peak_memory(), "environment": environment()}
    facts["encoders"] = {kind: public_name(getattr(recipe, f"{kind}_encoder")) for kind in ("text", "vision")}
    facts |= data_facts(task, data, trainer.heads, labels)
    baseline = majority_baseline(labels, predictions)
    return {"facts": facts, "baseline": baseline, "log": trainer.state.log_history, "calibration": calibration}


def _close(run: Run, trainer: MultiHeadTrainer) -> None:
    """Remove what only training needed, let others at the folder, and push if that was asked."""
    args, to = trainer.args, trainer.hub_model_id if trainer.args.push_to_hub else None
    run.close(args.keep_checkpoints, scratch.FOLDERS.values())
    if to is not None:
        target = publishing.Target(to, args.hub_private_repo, args.hub_revision, message="Finish training")
        print(f"pushed: {publishing.push(run.folder, target, HfApi(token=args.hub_token)).url}")
