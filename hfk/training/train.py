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
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset, DatasetDict
from huggingface_hub import HfApi
from torch.utils.data import DataLoader
from transformers import set_seed

from ..backbones import registry as backbones
from ..evaluation.calibration import calibrate
from ..evaluation.metrics import majority_baseline
from ..evaluation.predictions import Predictions, count_labelled
from ..evaluation.report import format_table, write_report
from ..hub import publishing
from ..hub.commits import Target
from ..models.configuration_multihead import HeadConfig
from ..models.modeling_multihead import MultiHeadForClassification
from ..models.problems import HeadLoss
from ..models.processing_multihead import MultiHeadProcessor
from ..runs import card as cards
from ..runs.recipe import MultiHeadTrainingArguments, RecipeArguments, load_recipe, parse_recipe
from ..tasks import ABOUT_ROWS, Task, list_tasks, load_task
from ..tasks.collator import MultiHeadCollator
from ..tasks.labels import label_arrays, soft_columns
from . import scratch
from .folds import PREDICTIONS
from .techniques import distillation
from .techniques.rates import add_adapters
from .trainer import MultiHeadTrainer, last_checkpoint, unwrap


@dataclass
class Prepared:
    """A run that is ready for its first step.

    Args:
        options: the recipe's options as they were given.
        recipe: they, read: what is trained on what.
        args: they, read: how.
        task: the loaded task.
        data: its rows by split.
        heads: the final heads.
        processor: prepares input.
        trainer: holds the model.
        parameters: how many numbers the model has.
        checkpoint: what training goes on from, or None.
        lesson: what a teacher said, or None.
    """

    options: dict[str, Any]
    recipe: RecipeArguments
    args: MultiHeadTrainingArguments
    task: Task
    data: DatasetDict
    heads: list[HeadConfig]
    processor: MultiHeadProcessor
    trainer: MultiHeadTrainer
    parameters: int
    checkpoint: str | None
    lesson: Any


def prepare(
    recipe: str | Path | dict[str, Any],
    output_dir: str | Path,
    overrides: dict[str, Any] | None = None,
    resume: bool = True,
) -> Prepared:
    """Read a recipe, load its rows and build its model: all of `train` before the first step.

    Args:
        recipe: as for `train`.
        output_dir: as for `train`.
        overrides: as for `train`.
        resume: as for `train`.

    Raises:
        ValueError: as `train`.
    """
    options = dict(recipe) if isinstance(recipe, dict) else load_recipe(recipe)
    options |= (overrides or {}) | {"output_dir": str(output_dir)}
    recipe_args, args = parse_recipe(options)
    folder = Path(output_dir)
    with args.main_process_first(desc="preparing data and backbones"):
        task = open_task(recipe_args)
        data = task.load()
        if recipe_args.student_layers:
            distillation.teacher_encoder(recipe_args, task, folder, args.should_save)
        names = [
            backbones.resolve(name, kind) if name and not (kind == "text" and name in backbones.FROM_SCRATCH) else None
            for name, kind in zip(_encoder_names(recipe_args, task), ("text", "vision"), strict=True)
        ]
    if task.corrected and args.should_save:
        print(task.corrected, flush=True)
    if "train" not in data:
        raise ValueError(f"task {task.name!r} has no train split; it has: {', '.join(data)}.")
    if recipe_args.max_train_rows and recipe_args.max_train_rows < len(data["train"]):
        data["train"] = data["train"].shuffle(args.seed).select(range(recipe_args.max_train_rows))
    heads, losses = _finish_heads(task, recipe_args, data)
    if recipe_args.calibrate:  # said now, not after the training
        check_calibration_rows(data, heads)
    checkpoint = last_checkpoint(folder) if resume else None
    if args.should_save:
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            _remove_checkpoints(folder)
    if task.text and recipe_args.text_encoder in backbones.FROM_SCRATCH:
        with args.main_process_first(desc="making the text encoder"):
            names[0] = scratch.make_encoder(recipe_args, args, data["train"], anew=checkpoint is None)

    set_seed(args.seed)
    model, processor = build(recipe_args, heads, *names, losses)
    _refuse_emptied_texts(processor, data)
    parameters = sum(weight.numel() for weight in model.parameters())
    validation = data.get("validation")
    if validation is None:
        args.eval_strategy, args.load_best_model_at_end, args.early_stopping_patience = "no", False, None
    if not any(head.problem != "regression" for head in heads) and args.metric_for_best_model == "mean_macro_f1":
        args.metric_for_best_model, args.greater_is_better = "loss", False
    if args.greater_is_better is None:
        args.greater_is_better = not args.metric_for_best_model.endswith(("loss", "_mae", "_rmse"))
    if checkpoint is None and recipe_args.standardize_rows:
        standardize(model.to(args.device), processor, data["train"], recipe_args.standardize_rows, args)
    lesson = None
    if recipe_args.teacher:
        lesson = distillation.prepare_lesson(recipe_args, args, task, heads, processor, data)
    trainer_class = partial(distillation.DistillationTrainer, lesson=lesson) if lesson else MultiHeadTrainer
    trainer = trainer_class(
        add_adapters(model, args) if args.lora else model,
        args,
        processor,
        lesson.rows if lesson else data["train"],
        validation,
        soft_columns(data["train"]),
    )
    return Prepared(options, recipe_args, args, task, data, heads, processor, trainer, parameters, checkpoint, lesson)


def train(
    recipe: str | Path | dict[str, Any],
    output_dir: str | Path,
    overrides: dict[str, Any] | None = None,
    resume: bool = True,
) -> dict[str, Any]:
    """Train by a recipe, evaluate, write the checkpoint and its report.

    Args:
        recipe: name of a built-in recipe, path of a recipe or task YAML, or a dict of options.
        output_dir: folder of the run. A run that was interrupted there goes on from its last complete checkpoint.
        overrides: options that replace the recipe's.
        resume: False starts anew, whatever the folder holds.

    Returns:
        what the report's `metrics.json` holds; empty on processes other than the main one.

    Raises:
        ValueError: for a wrong option, or data that can't be used.

    Example:
        >>> results = train("tour-mini", "runs/tour-mini", {"num_train_epochs": 1})  # doctest: +SKIP
        >>> results["scores"]["cat1_accuracy"]  # doctest: +SKIP
    """
    run = prepare(recipe, output_dir, overrides, resume)
    options, recipe_args, args, task, data = run.options, run.recipe, run.args, run.task, run.data
    heads, processor, trainer, checkpoint, lesson = run.heads, run.processor, run.trainer, run.checkpoint, run.lesson
    folder, validation = Path(output_dir), data.get("validation")
    trainer.train(resume_from_checkpoint=checkpoint)
    seconds = trainer.state.log_history[-1]["train_seconds"]  # of all parts, where the run was resumed

    split = next((name for name in ("test", "validation") if name in data), "train")
    output = trainer.predict(data[split], metric_key_prefix=split)
    calibration = None
    if recipe_args.calibrate:
        scored = Predictions.of(data[split], heads, output.predictions)
        fitted = scored
        if split != "validation":
            fitted = Predictions.of(validation, heads, trainer.predict(validation).predictions)
        calibration = calibrate(fitted, scored if split != "validation" else None)
        for configured in (heads, trainer.heads):
            calibration.apply(configured)
    if not args.should_save:
        return {}
    if args.lora:
        trainer.model.save_pretrained(folder / "adapter")
    unwrap(trainer.model).save_pretrained(folder)
    processor.save_pretrained(folder)
    _write_task_file(folder, recipe_args, task)
    log = trainer.state.log_history
    (folder / "training_log.json").write_text(json.dumps(log, indent=1), encoding="utf-8")
    chosen = {name: getattr(args, name) for name in options if hasattr(args, name) and not name.endswith("_token")}
    used = asdict(recipe_args) | chosen
    (folder / "recipe.yaml").write_text(yaml.safe_dump(_plain(used), allow_unicode=True), encoding="utf-8")
    train_labels = label_arrays(data["train"], heads)
    predictions = Predictions.of(data[split], heads, output.predictions)
    if task.fold:
        predictions.folds = np.full(len(predictions), task.fold[0])
    results = write_report(
        folder / "report",
        predictions,
        log=log,
        baseline=majority_baseline(train_labels, predictions),
        calibration=calibration,
        facts={
            "title": f"{task.name}: {split}",
            "task": task.name,
            "split": split,
            "rows": {name: len(rows) for name, rows in data.items()},
            "seed": args.seed,
            "parameters": run.parameters,
            "train_seconds": seconds,
            "train_rows_per_second": round(trainer.state.global_step * _rows_a_step(args) / max(seconds, 1e-9), 1),
            "resumed": checkpoint is not None,
            "peak_memory_mib": peak_memory(),
            "environment": environment(),
            "encoders": {
                kind: cards.public_name(getattr(recipe_args, f"{kind}_encoder")) for kind in ("text", "vision")
            },
            **({"corrections": task.corrected} if task.corrected else {}),
            **({"fold": f"{task.fold[0]} of {task.fold[1]}"} if task.fold else {}),
            **({"distillation": lesson.facts} if lesson else {}),
            **({"copies_an_epoch": len(trainer.train_dataset.copies)} if args.augmentation else {}),
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


def check_calibration_rows(data: DatasetDict, heads: list[HeadConfig]) -> None:
    """Refuse to calibrate where no validation row is labelled for a classification head; ValueError."""
    labels = label_arrays(data["validation"], heads) if "validation" in data else {}
    if not any(count_labelled(labels, [head])[head.name] for head in heads if head.problem != "regression"):
        raise ValueError(
            "calibrate needs validation rows with labels of a classification head; there are none. Give the task a "
            "validation split, or leave calibrate out."
        )


def open_task(recipe: RecipeArguments, heads: list[HeadConfig] | None = None) -> Task:
    """Make the task that a recipe names, with the recipe's own data, split and corrections.

    Args:
        recipe: gives `task`, and the options of `ABOUT_ROWS`.
        heads: a checkpoint's heads, whose labels then hold.
    """
    given = {name: getattr(recipe, name) for name in ABOUT_ROWS} | {"heads": heads}
    task = load_task(recipe.task, **{name: value for name, value in given.items() if value})
    if recipe.folds:  # as recipes said it before folds became a way of dividing
        task.split = (task.split or {}) | {"folds": recipe.folds, "fold": recipe.fold}
    return task


def build(
    recipe: RecipeArguments,
    heads: list[HeadConfig],
    text: str | None,
    vision: str | None,
    losses: dict[str, HeadLoss] | None = None,
) -> tuple[MultiHeadForClassification, MultiHeadProcessor]:
    """Build model and processor for a recipe.

    Args:
        recipe: gives fusion, pooling and input options.
        heads: the final heads.
        text: Hub id or folder of the text encoder, or None.
        vision: likewise for images.
        losses: how each head is trained.
    """
    model = MultiHeadForClassification.from_encoders(
        text,
        vision,
        heads,
        fusion=recipe.fusion,
        fusion_layers=recipe.fusion_layers,
        fusion_dropout=recipe.fusion_dropout,
        text_pooling=recipe.text_pooling,
        image_pooling=recipe.image_pooling,
    )
    model.set_training(losses, recipe.modality_dropout, recipe.modality_loss, recipe.hierarchy_loss)
    processor = MultiHeadProcessor.from_encoders(
        text, vision, recipe.max_length, recipe.text_prefix, recipe.image_size, recipe.text_cleaning
    )
    return model, processor


def standardize(
    model: MultiHeadForClassification,
    processor: MultiHeadProcessor,
    rows: Dataset,
    count: int,
    args: MultiHeadTrainingArguments,
) -> None:
    """Measure the encoders' features on some training rows; see `MultiHeadForClassification.standardize`.

    Args:
        model: the model, changed in place.
        processor: prepares the rows.
        rows: the training rows.
        count: how many of them are measured, drawn by the seed.
        args: gives seed and batch size.
    """
    chosen = rows.shuffle(args.seed).select(range(min(count, len(rows))))
    loader = DataLoader(chosen, args.per_device_eval_batch_size, collate_fn=MultiHeadCollator(processor, []))
    model.standardize(loader)


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
        if head.problem == "regression" or not present.any():
            continue
        target = target[present]
        many = head.problem == "multi_label"
        counts = target.sum(axis=0) if many else np.bincount(target, minlength=len(head.labels))
        rare = {label: int(n) for label, n in zip(head.labels, counts, strict=True) if n < cards.FEW_ROWS}
        if rare:
            few[head.name] = rare
    if few:
        facts["few_training_rows"] = few
    if "text" in data["train"].column_names:
        texts = [text for text in data["train"]["text"] if text]
        korean = sum(any("가" <= letter <= "힣" for letter in text) for text in texts)
        facts["korean_share"] = round(korean / max(len(texts), 1), 3)
    if task.description and task.name not in list_tasks():
        facts["description"] = task.description
    return facts


def _encoder_names(recipe: RecipeArguments, task: Task) -> tuple[str | None, str | None]:
    text = recipe.text_encoder if task.text else None
    vision = recipe.vision_encoder if task.image else None
    if text is None and vision is None:
        has = " and ".join([name for name, there in (("text", task.text), ("images", task.image)) if there])
        raise ValueError(f"task {task.name!r} has {has}, but the recipe names no encoder for it: set text_encoder.")
    return text, vision


def _refuse_emptied_texts(processor: MultiHeadProcessor, data: DatasetDict) -> None:
    """Say before training of which rows `text_cleaning` leaves nothing; the collator would stop at the first."""
    if processor.text_cleaning is None or "text" not in next(iter(data.values())).column_names:
        return
    emptied = []
    for split, rows in data.items():
        pictures = processor.image_processor is not None and "image" in rows.column_names
        for row, text in enumerate(rows["text"]):
            if text and processor.clean(text) is None and not (pictures and rows[row]["image"]):
                emptied.append((split, rows[row]["id"], text))
    if emptied:
        split, identity, text = emptied[0]
        count = f"{len(emptied)} texts, such as" if len(emptied) > 1 else "a text,"
        raise ValueError(
            f"text_cleaning leaves nothing of {count} that of the row with id {identity!r} in {split} ({text[:40]!r}); "
            "let it drop less, or take these rows out."
        )


def _finish_heads(
    task: Task, recipe: RecipeArguments, data: DatasetDict
) -> tuple[list[HeadConfig], dict[str, HeadLoss]]:
    """Give heads and their losses the recipe's options where the task leaves them open, and what rows tell of them."""
    default = HeadConfig("default", ["a", "b"])
    refined = {head.parent for head in task.heads}
    finished, losses = [], {}
    for head in task.heads:
        options: dict[str, Any] = {}
        for name, value in (("kind", recipe.head_kind), ("dropout", recipe.head_dropout)):
            if getattr(head, name) == getattr(default, name):
                options[name] = value
        if head.name in refined and head.path_weight == default.path_weight:
            options["path_weight"] = recipe.path_weight
        finished.append(replace(head, **options))
        loss = losses[head.name] = replace(task.head_losses.get(head.name) or HeadLoss())
        if head.rules.has_labels:
            loss.label_smoothing = loss.label_smoothing or recipe.label_smoothing
            loss.focal_gamma = loss.focal_gamma or recipe.focal_gamma
        if head.rules.exclusive:
            loss.logit_adjustment = loss.logit_adjustment or recipe.logit_adjustment
            labels = head.rules.tensor(data["train"][head.name], head.name in soft_columns(data["train"])).numpy()
            if recipe.class_weights != "none" and loss.class_weights is None and labels.ndim == 1:
                loss.class_weights = balanced_weights(
                    labels, len(head.labels), recipe.class_weights, recipe.class_weights_beta
                )
            if loss.logit_adjustment and loss.prior is None:
                loss.prior = label_prior(labels, len(head.labels))
    return finished, losses


def label_prior(labels: np.ndarray, classes: int) -> list[float]:
    """Return each label's share of the labelled rows.

    Args:
        labels: int `(rows,)`, negative where unknown; or `(rows, classes)`, distributions with NaN rows.
        classes: number of classes.

    Returns:
        one share a class, in all 1; a class without rows counts as if it had one, for its logarithm's sake.
    """
    if labels.ndim == 1:
        counts = np.bincount(labels[labels >= 0], minlength=classes).astype(float)
    else:
        counts = np.nansum(labels, axis=0)
    counts = np.maximum(counts, 1.0)
    return [float(share) for share in counts / counts.sum()]


def balanced_weights(labels: np.ndarray, classes: int, kind: str, beta: float = 0.999) -> list[float]:
    """Weigh classes by rarity, so that the mean weight over the labelled rows is 1.

    Args:
        labels: int `(rows,)`, negative where unknown.
        classes: number of classes.
        kind: `balanced` (1 / count), `sqrt` (1 / √count) or `effective` ((1 - β) / (1 - β^count)).
        beta: the β of `effective`.

    Returns:
        one weight a class; 1.0 for classes without rows.
    """
    counts = np.bincount(labels[labels >= 0], minlength=classes).astype(float)
    weights = np.ones(classes)
    seen = counts > 0
    if kind == "effective":
        weights[seen] = (1 - beta) / (1 - beta ** counts[seen])
    else:
        weights[seen] = counts[seen] ** (-0.5 if kind == "sqrt" else -1.0)
    weights[seen] *= counts.sum() / (weights[seen] * counts[seen]).sum()
    return [round(float(weight), 6) for weight in weights]


def _write_task_file(folder: Path, recipe: RecipeArguments, task: Task) -> None:
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


def _rows_a_step(args: MultiHeadTrainingArguments) -> int:
    return args.per_device_train_batch_size * args.gradient_accumulation_steps * max(args.world_size, 1)


def _plain(value: Any) -> Any:
    """Make values fit for YAML: enums and paths become text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    return str(getattr(value, "value", value))


def _remove_checkpoints(folder: Path) -> None:
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
