"""Which Trainer a task gets: one builder for each kind of task, all called alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers import Trainer

from ..runs.recipe import Recipe
from ..tasks import Task
from . import classification, translation
from .techniques import Technique

BUILDERS = {"classification": classification.build_trainer, "translation": translation.build_trainer}


def build_trainer(
    recipe: Recipe,
    techniques: Sequence[Technique],
    task: Task,
    rows: Mapping[str, Dataset],
    checkpoint: str | None = None,
    **kwargs: Any,
) -> Trainer:
    """Build the Trainer of a task's kind, ready for its first step; see the builder for the arguments."""
    if "train" not in rows:
        raise ValueError(f"task {task.name!r} has no train split; it has: {', '.join(rows)}.")
    return BUILDERS[task.kind](recipe, techniques, task, rows, checkpoint, **kwargs)
