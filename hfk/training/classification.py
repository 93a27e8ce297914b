"""A classifier's Trainer, built from a recipe and a task: encoders, heads, model, processor, and what is checked first.

`build_trainer` is what `train` calls; `build` makes model and processor alone, for whoever loads adapters by hand. What
may change training is in `techniques`; what an encoder that starts from nothing learns before the first step, in
`scratch`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import set_seed

from ..backbones.registry import FROM_SCRATCH, prompt_of, resolve
from ..models.configuration_multihead import HeadConfig
from ..models.modeling_multihead import MultiHeadForClassification
from ..models.processing_multihead import MultiHeadProcessor
from ..runs.recipe import MultiHeadTrainingArguments, Recipe
from ..tasks import Task
from . import scratch
from .techniques import Technique
from .trainer import MultiHeadTrainer


def build_trainer(
    recipe: Recipe,
    techniques: Sequence[Technique],
    task: Task,
    rows: Mapping[str, Dataset],
    checkpoint: str | None = None,
    **kwargs: Any,
) -> MultiHeadTrainer:
    """Build the Trainer of a recipe and a loaded task, with a model that is ready for its first step.

    `checkpoint` is what training will go on from, if something was interrupted; `kwargs` are passed to
    `MultiHeadTrainer`. ValueError, one sentence, for a wrong option, or rows that can't be used.
    """
    args = recipe.arguments
    with args.main_process_first(desc="preparing encoders"):
        names = _encoder_names(recipe, techniques, task)
        known = {side: (None, *own) for side, own in FROM_SCRATCH.items()}
        from_nothing = [side for side, name in names.items() if name in FROM_SCRATCH[side]]
        names = {side: name if name in known[side] else resolve(name, side) for side, name in names.items()}
    for side in from_nothing:
        with args.main_process_first(desc=f"making the {side} encoder"):
            names[side] = scratch.make_encoder(recipe, side, rows["train"], anew=checkpoint is None)
    heads = finish_heads(task.heads, recipe)
    set_seed(args.seed)
    model, processor = build(recipe, heads, names["text"], names["vision"])
    model.set_training({name: replace(loss) for name, loss in task.head_losses.items()})  # as far as the task says
    _refuse_emptied_texts(processor, rows)
    _say_how_to_evaluate(args, heads, "validation" in rows)
    return MultiHeadTrainer(
        model, args, processor, rows["train"], rows.get("validation"), techniques, task, rows, **kwargs
    )


def build(
    recipe: Recipe, heads: list[HeadConfig], text: str | None, vision: str | None
) -> tuple[MultiHeadForClassification, MultiHeadProcessor]:
    """Build model and processor for a recipe with its final heads; `text` and `vision` name encoders, or are None."""
    options = ("fusion", "fusion_layers", "fusion_dropout", "text_pooling", "image_pooling")
    model = MultiHeadForClassification.from_encoders(
        text, vision, heads, **{name: getattr(recipe, name) for name in options}
    )
    prefix = recipe.text_prefix
    if prefix is None:
        prefix = prompt_of(text) if text else ""
    processor = MultiHeadProcessor.from_encoders(
        text,
        vision,
        recipe.max_length,
        prefix,
        recipe.image_size,
        recipe.text_cleaning,
        recipe.letterbox,
        recipe.truncation,
    )
    return model, processor


def finish_heads(heads: list[HeadConfig], recipe: Recipe) -> list[HeadConfig]:
    """Give heads the recipe's `head_kind`, `head_dropout` and `path_weight` where the task leaves them open."""
    default = HeadConfig("default", ["a", "b"])
    refined = {head.parent for head in heads}
    finished = []
    for head in heads:
        wanted = {"kind": recipe.head_kind, "dropout": recipe.head_dropout}
        if head.name in refined:
            wanted["path_weight"] = recipe.path_weight
        open_ones = {name: value for name, value in wanted.items() if getattr(head, name) == getattr(default, name)}
        finished.append(replace(head, **open_ones))
    return finished


def _encoder_names(recipe: Recipe, techniques: Sequence[Technique], task: Task) -> dict[str, str | None]:
    names = {"text": recipe.text_encoder if task.text else None}
    names["vision"] = recipe.vision_encoder if task.image else None
    for technique in techniques:
        names = technique.encoders(names, task, recipe.arguments)
    if not any(names.values()):
        has = " and ".join([name for name, there in (("text", task.text), ("images", task.image)) if there])
        raise ValueError(f"task {task.name!r} has {has}, but the recipe names no encoder for it: set text_encoder.")
    return names


def _say_how_to_evaluate(args: MultiHeadTrainingArguments, heads: list[HeadConfig], validated: bool) -> None:
    """Fill in what the arguments leave to the task: whether there is anything to evaluate on, and what is better."""
    if not validated:
        args.eval_strategy, args.load_best_model_at_end = "no", False
    if not any(head.rules.has_labels for head in heads) and args.metric_for_best_model == "mean_macro_f1":
        args.metric_for_best_model, args.greater_is_better = "loss", False
    if args.greater_is_better is None:
        args.greater_is_better = not args.metric_for_best_model.endswith(("loss", "_mae", "_rmse"))


def _refuse_emptied_texts(processor: MultiHeadProcessor, rows: Mapping[str, Dataset]) -> None:
    """Say before training of which rows `text_cleaning` leaves nothing; the collator would stop at the first."""
    if processor.text_cleaning is None or "text" not in next(iter(rows.values())).column_names:
        return
    emptied = []
    for split, part in rows.items():
        pictures = processor.image_processor is not None and "image" in part.column_names
        for row, text in enumerate(part["text"]):
            if text and processor.clean(text) is None and not (pictures and part[row]["image"]):
                emptied.append((split, part[row]["id"], text))
    if emptied:
        split, identity, text = emptied[0]
        count = f"{len(emptied)} texts, such as" if len(emptied) > 1 else "a text,"
        raise ValueError(
            f"text_cleaning leaves nothing of {count} that of the row with id {identity!r} in {split} ({text[:40]!r}); "
            "let it drop less, or take these rows out."
        )
