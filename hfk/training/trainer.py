"""`MultiHeadTrainer`: a `transformers.Trainer` that knows heads.

It adds what several heads need and nothing else: learning rates by depth, sampling by class, the loss of every head in
the log, metrics of every head, and checkpoints, here and on the Hub, without pickled arguments. Publishing a run that
has finished is the work of `hfk.hub.publishing`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import recursively_apply
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, SequentialSampler, WeightedRandomSampler
from transformers import EarlyStoppingCallback, EvalPrediction, PrinterCallback, Trainer, TrainerCallback
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..evaluation.metrics import score_heads
from ..evaluation.predictions import Predictions
from ..hub.training_checkpoints import push_checkpoint, write_training_card
from ..models.configuration_multihead import HeadConfig
from ..models.heads import disagreement
from ..models.modeling_multihead import MultiHeadForClassification
from ..models.processing_multihead import MultiHeadProcessor
from ..runs.recipe import MultiHeadTrainingArguments
from ..tasks.collator import MultiHeadCollator
from .techniques.averaging import WeightAverage
from .techniques.eda import AugmentedRows, EasyDataAugmentation, EpochSampler
from .techniques.pictures import ImageAugmentation
from .techniques.rates import parameter_groups


class MultiHeadTrainer(Trainer):
    """Train `MultiHeadForClassification`, bare or wrapped by peft.

    With `push_to_hub`, `hub_strategy` says what comes to the Hub when; see `hfk.hub.training_checkpoints`.

    Args:
        model: the model.
        args: the training arguments.
        processor: prepares input; saved with every checkpoint.
        train_dataset: rows in a task's columns, or None to evaluate only.
        eval_dataset: likewise, for evaluation during training.
        soft: names of `single_label` heads whose column holds distributions.
        **kwargs: passed to `transformers.Trainer`.

    Example:
        >>> trainer = MultiHeadTrainer(model, args, processor, data["train"], data["validation"])  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        args: MultiHeadTrainingArguments,
        processor: MultiHeadProcessor,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        soft: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        if args.image_augmentation and processor.image_processor is None:
            raise ValueError("image_augmentation changes pictures, and this model reads none: leave it out.")
        self.heads: list[HeadConfig] = model.config.heads
        self._head_losses: dict[str, Tensor] = {}
        self._head_loss_steps = 0
        kwargs.setdefault("data_collator", MultiHeadCollator(processor, self.heads, soft))
        kwargs.setdefault("compute_metrics", self.compute_head_metrics)
        if args.ddp_find_unused_parameters is None:  # a batch without any picture leaves the vision encoder unused
            args.ddp_find_unused_parameters = None not in (model.config.text_config, model.config.vision_config)
        super().__init__(
            model,
            args,
            train_dataset=_with_length(train_dataset, args, processor),
            eval_dataset=eval_dataset,
            # The Trainer aligns special tokens with any processor's tokenizer, and fails where there is none.
            processing_class=processor if processor.tokenizer is not None else None,
            **kwargs,
        )
        self.processor = processor
        self.add_callback(Clock())
        self.average = WeightAverage(args.ema_decay) if args.ema_decay else None
        if self.average is not None:
            self.add_callback(self.average)
        if args.augmentation and isinstance(train_dataset, Dataset):
            self.train_dataset = self._augment(train_dataset, EasyDataAugmentation.from_option(args.augmentation))
        if args.disable_tqdm:
            self.remove_callback(PrinterCallback)
            self.add_callback(LogLine())
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    def compute_head_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Score every head; see `hfk.evaluation.metrics.score_heads`."""
        return score_heads(Predictions(None, self.heads, prediction.predictions, prediction.label_ids))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer with the groups of `optimization.parameter_groups`."""
        if self.optimizer is None:
            model = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            groups = parameter_groups(model, self.args, self.get_decay_parameter_names(model))
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Learn from a batch; from the batch twice over with `r_drop`."""
        if self.args.r_drop:
            inputs = recursively_apply(lambda values: torch.cat([values, values]), inputs)
        return super().training_step(model, inputs, *args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the model's own loss, and keep each head's for the log."""
        outputs = model(**inputs)
        total, losses = outputs.loss, dict(outputs.losses or {})
        if model.training and self.args.r_drop:
            losses["r_drop"] = disagreement(outputs.logits, self.heads, unwrap(self.model).head_losses)
            # Half of the paper's weight: it adds the two passes' losses, and here is their mean.
            total = total + self.args.r_drop / 2 * losses["r_drop"]
        if model.training and losses:
            for name, loss in losses.items():
                self._head_losses[name] = self._head_losses.get(name, 0.0) + loss.detach()
            self._head_loss_steps += 1
        return (total, outputs) if return_outputs else total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the mean training loss of every head since the last time."""
        if "loss" in logs and self._head_loss_steps:
            totals = self.accelerator.gather(torch.stack(list(self._head_losses.values()))[None]).mean(0)
            for name, total in zip(self._head_losses, totals, strict=True):
                logs[f"loss_{name}"] = round((total / self._head_loss_steps).item(), 4)
            self._head_losses, self._head_loss_steps = {}, 0
        super().log(logs, start_time)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the averaged weights, where training keeps an average."""
        with self.average.applied() if self.average is not None else nullcontext():
            return super().evaluation_loop(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """Load training batches, whose pictures alone are changed by `image_augmentation`."""
        collator, change = self.data_collator, ImageAugmentation.from_option(self.args.image_augmentation)
        try:
            if change is not None:
                self.data_collator = copy(collator)
                self.data_collator.change_image = change
            return super().get_train_dataloader()
        finally:
            self.data_collator = collator

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        rows = train_dataset if train_dataset is not None else self.train_dataset
        if isinstance(rows, AugmentedRows):
            grouped = self.args.train_sampling_strategy == "group_by_length"
            group = self.args.train_batch_size * self.args.gradient_accumulation_steps if grouped else None
            return EpochSampler(rows, group, self.args.data_seed or self.args.seed)
        if self.args.sampling == "natural" or rows is None:
            return super()._get_train_sampler(train_dataset)
        head = self._class_head(f"sampling {self.args.sampling!r}", self.args.sampling_head)
        weights = sampling_weights(np.asarray(head.rules.tensor(rows[head.name])), self.args.sampling)
        generator = torch.Generator().manual_seed(self.args.data_seed or self.args.seed)
        return WeightedRandomSampler(weights.tolist(), len(rows), generator=generator)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler | None:
        # Upstream groups evaluation rows by length too, in an order of its own; ids and texts must stay beside answers.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def _augment(self, rows: Dataset, augmentation: EasyDataAugmentation) -> AugmentedRows:
        head = self._class_head("augmentation", augmentation.head)
        labels = head.rules.tensor(rows[head.name]).numpy()
        seed = self.args.data_seed or self.args.seed
        lengths = count_tokens(rows, self.processor) if self.args.train_sampling_strategy == "group_by_length" else None
        augmented = AugmentedRows(rows, labels, augmentation, self.processor.clean, seed, lengths)
        if self.args.should_log:
            copies = len(augmented.copies)
            print(f"augmentation: {copies:,} changed copies an epoch beside {len(rows):,} rows", flush=True)
        return augmented

    def _class_head(self, asks: str, name: str | None) -> HeadConfig:
        """The head whose classes count: the named one, or the single-label one of most labels."""
        soft = getattr(self.data_collator, "soft", ())
        single = [head for head in self.heads if head.problem == "single_label" and head.name not in soft]
        if name is not None:
            single = [head for head in single if head.name == name]
        if not single:
            raise ValueError(f"{asks} needs a single_label head with hard labels.")
        return max(single, key=lambda head: len(head.labels))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self._load_weights(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            self.average.load(self.model, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if not self._load_weights(self.state.best_model_checkpoint):
            super()._load_best_model()
        if self.average is not None:
            self.average.forget()  # what was loaded is an average

    def _load_weights(self, folder: str) -> bool:
        """Load a whole model's weights; False where upstream must do it (adapters, FSDP, DeepSpeed)."""
        if not isinstance(self.model, MultiHeadForClassification) or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return False
        # Upstream loads a checkpoint under the names it was saved with, which are not those of the modules in ViT and
        # others, warns, and goes on with the weights at hand (transformers #48805); from_pretrained converts the names.
        self.model.load_state_dict(MultiHeadForClassification.from_pretrained(folder).state_dict())
        return True

    def _save(self, output_dir: str | None = None, state_dict: Mapping | None = None) -> None:
        folder = Path(output_dir if output_dir is not None else self.args.output_dir)
        if self.average is None:
            super()._save(output_dir, state_dict)
        else:
            with self.average.applied():
                super()._save(output_dir)
            if folder.name.startswith(PREFIX_CHECKPOINT_DIR) and self.args.should_save:
                self.average.save(folder)
        if self.args.should_save:
            self.processor.save_pretrained(folder)
            # Upstream pickles the arguments; JSON (with tokens masked) says the same and runs nothing when read.
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            (folder / "training_arguments.json").write_text(self.args.to_json_string(), encoding="utf-8")

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write hfk's card for what is about to be pushed."""
        write_training_card(self)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        push_checkpoint(self, checkpoint_folder)


class Clock(TrainerCallback):
    """Write into every log entry how many seconds training has taken; a resumed run goes on counting from its log."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start from what the log of the resumed checkpoint says, if there is one."""
        before = [entry["train_seconds"] for entry in state.log_history if "train_seconds" in entry]
        self.started = time.perf_counter() - max(before, default=0.0)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the time to the entry that was just written; evaluation without training has none."""
        if hasattr(self, "started") and state.log_history:
            state.log_history[-1]["train_seconds"] = round(time.perf_counter() - self.started, 1)


class LogLine(TrainerCallback):
    """Print one short line a log entry, in place of the Trainer's dict of everything; for logs that people read."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Print losses, macro F1 and the main score."""
        shown = {
            name: value
            for name, value in (logs or {}).items()
            if name.startswith(("loss", "eval_")) and name.endswith(("loss", "macro_f1", "_mae", "exact_match"))
        }
        if shown and state.is_world_process_zero:
            values = "  ".join(f"{name} {float(value):.4f}" for name, value in shown.items())
            print(f"epoch {state.epoch or 0:5.2f}/{args.num_train_epochs:g}  {values}", flush=True)


def sampling_weights(labels: np.ndarray, sampling: str) -> np.ndarray:
    """Weight every row by the rarity of its class.

    Args:
        labels: int `(rows,)`, negative where unknown; those rows get the mean weight.
        sampling: `balanced` (1 / count) or `sqrt` (1 / √count).

    Returns:
        float64 `(rows,)`, mean 1.
    """
    known = labels >= 0
    counts = np.bincount(labels[known])
    weights = np.ones(len(labels))
    weights[known] = 1.0 / counts[labels[known]] ** (0.5 if sampling == "sqrt" else 1.0)
    weights[~known] = weights[known].mean() if known.any() else 1.0
    return weights / weights.mean()


def unwrap(model: nn.Module) -> MultiHeadForClassification:
    """Return the plain model: adapters merged into its weights if there are any."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _with_length(
    rows: Dataset | None, args: MultiHeadTrainingArguments, processor: MultiHeadProcessor
) -> Dataset | None:
    """Add the length that the Trainer groups by."""
    grouped = args.train_sampling_strategy == "group_by_length" and args.sampling == "natural" and not args.augmentation
    if not isinstance(rows, Dataset) or not grouped or args.length_column_name in rows.column_names:
        return rows
    return rows.add_column(args.length_column_name, count_tokens(rows, processor))


def count_tokens(rows: Dataset, processor: MultiHeadProcessor) -> list[int]:
    """Count the tokens of every row's text.

    Characters would be had for less, but headlines of as many characters differ in tokens, and batches grouped by
    characters hold more padding (`python benchmarks/ynat_experiments.py --padding` counts it).

    Args:
        rows: rows in a task's columns.
        processor: tells what the model reads of a text.

    Returns:
        tokens a row, at most the processor's `max_length`; 0 where no text is read.
    """
    if "text" not in rows.column_names or processor.tokenizer is None:
        return [0] * len(rows)
    counts: list[int] = []
    for batch in rows.select_columns("text").iter(1000):
        texts = [processor.text_prefix + (processor.clean(text) or "") for text in batch["text"]]
        encoded = processor.tokenizer(texts, truncation=True, max_length=processor.max_length)
        counts += [len(ids) for ids in encoded["input_ids"]]
    return counts


def last_checkpoint(folder: str | os.PathLike) -> str | None:
    """Return the newest complete `checkpoint-*` folder, or None.

    A checkpoint is complete when its `trainer_state.json`, which the Trainer writes last, is there; one that an
    interruption left half-written is passed over.
    """
    found = [path for path in Path(folder).glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return str(max(found, key=lambda path: int(path.name.split("-")[1]))) if found else None
