"""`MultiHeadTrainer`: a `transformers.Trainer` that knows heads.

It adds what several heads need and nothing else: learning rates by depth, sampling by class, the loss of every head in
the log, metrics of every head, and checkpoints without pickled arguments.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler, WeightedRandomSampler
from transformers import EarlyStoppingCallback, EvalPrediction, PrinterCallback, Trainer, TrainerCallback
from transformers.trainer import TRAINING_ARGS_NAME

from ..data.collation import MultiHeadCollator, label_tensor
from ..evaluation.metrics import score_heads
from ..models.configuration_multihead import HeadConfig
from ..models.modeling_multihead import MultiHeadForClassification
from ..models.processing_multihead import MultiHeadProcessor
from .arguments import MultiHeadTrainingArguments
from .optimization import parameter_groups


class MultiHeadTrainer(Trainer):
    """Train `MultiHeadForClassification`, bare or wrapped by peft.

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
            train_dataset=_with_length(train_dataset, args),
            eval_dataset=eval_dataset,
            # The Trainer aligns special tokens with any processor's tokenizer, and fails where there is none.
            processing_class=processor if processor.tokenizer is not None else None,
            **kwargs,
        )
        self.processor = processor
        if args.disable_tqdm:
            self.remove_callback(PrinterCallback)
            self.add_callback(LogLine())
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    def compute_head_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Score every head; see `hfk.evaluation.metrics.score_heads`."""
        return score_heads(prediction.predictions, prediction.label_ids, self.heads)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer with the groups of `optimization.parameter_groups`."""
        if self.optimizer is None:
            model = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            groups = parameter_groups(model, self.args, self.get_decay_parameter_names(model))
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the model's own loss, and keep each head's for the log."""
        outputs = model(**inputs)
        if model.training and outputs.losses:
            for name, loss in outputs.losses.items():
                self._head_losses[name] = self._head_losses.get(name, 0.0) + loss.detach()
            self._head_loss_steps += 1
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the mean training loss of every head since the last time."""
        if "loss" in logs and self._head_loss_steps:
            totals = self.accelerator.gather(torch.stack(list(self._head_losses.values()))[None]).mean(0)
            for name, total in zip(self._head_losses, totals, strict=True):
                logs[f"loss_{name}"] = round((total / self._head_loss_steps).item(), 4)
            self._head_losses, self._head_loss_steps = {}, 0
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        rows = train_dataset if train_dataset is not None else self.train_dataset
        if self.args.sampling == "natural" or rows is None:
            return super()._get_train_sampler(train_dataset)
        head = self._sampling_head()
        weights = sampling_weights(np.asarray(label_tensor(rows[head.name], head)), self.args.sampling)
        generator = torch.Generator().manual_seed(self.args.data_seed or self.args.seed)
        return WeightedRandomSampler(weights.tolist(), len(rows), generator=generator)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler | None:
        # Upstream groups evaluation rows by length too, in an order of its own; ids and texts must stay beside answers.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def _sampling_head(self) -> HeadConfig:
        soft = getattr(self.data_collator, "soft", ())
        single = [head for head in self.heads if head.problem == "single_label" and head.name not in soft]
        if self.args.sampling_head is not None:
            single = [head for head in single if head.name == self.args.sampling_head]
        if not single:
            raise ValueError(f"sampling {self.args.sampling!r} needs a single_label head with hard labels.")
        return max(single, key=lambda head: len(head.labels))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self._load_weights(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if not self._load_weights(self.state.best_model_checkpoint):
            super()._load_best_model()

    def _load_weights(self, folder: str) -> bool:
        """Load a whole model's weights; False where upstream must do it (adapters, FSDP, DeepSpeed)."""
        if not isinstance(self.model, MultiHeadForClassification) or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return False
        # Upstream loads a checkpoint under the names it was saved with, which are not those of the modules in ViT and
        # others, warns, and goes on with the weights at hand (transformers #48805); from_pretrained converts the names.
        self.model.load_state_dict(MultiHeadForClassification.from_pretrained(folder).state_dict())
        return True

    def _save(self, output_dir: str | None = None, state_dict: Mapping | None = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir if output_dir is not None else self.args.output_dir)
        if self.args.should_save:
            self.processor.save_pretrained(folder)
            # Upstream pickles the arguments; JSON (with tokens masked) says the same and runs nothing when read.
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            (folder / "training_arguments.json").write_text(self.args.to_json_string(), encoding="utf-8")


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


def _with_length(rows: Dataset | None, args: MultiHeadTrainingArguments) -> Dataset | None:
    """Add the length that the Trainer groups by; characters stand in for tokens, which no one has counted yet."""
    grouped = args.train_sampling_strategy == "group_by_length" and args.sampling == "natural"
    if not isinstance(rows, Dataset) or not grouped or args.length_column_name in rows.column_names:
        return rows
    lengths = [len(text or "") for text in rows["text"]] if "text" in rows.column_names else [0] * len(rows)
    return rows.add_column(args.length_column_name, lengths)


def last_checkpoint(folder: str | os.PathLike) -> str | None:
    """Return the newest complete `checkpoint-*` folder, or None.

    A checkpoint is complete when its `trainer_state.json`, which the Trainer writes last, is there; one that an
    interruption left half-written is passed over.
    """
    found = [path for path in Path(folder).glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return str(max(found, key=lambda path: int(path.name.split("-")[1]))) if found else None
