"""`MultiHeadTrainer`: a `transformers.Trainer` that knows heads, and folds over techniques.

It adds what several heads need and nothing else: the loss of every head in the log, metrics of every head, and
checkpoints without pickled arguments. What else may change training is a technique (see `techniques.base`), and none is
named here. Pushing while training goes on is the work of `hfk.hub.training_checkpoints`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import EvalPrediction, PrinterCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..evaluation.metrics import score_heads
from ..evaluation.predictions import Predictions
from ..hub.training_checkpoints import push_checkpoint, push_run, write_training_card
from ..models.configuration_multihead import HeadConfig
from ..models.encoder_base import TextEncoder
from ..models.modeling_multihead import MultiHeadForClassification
from ..models.processing_multihead import MultiHeadProcessor
from ..runs.recipe import MultiHeadTrainingArguments
from ..runs.run import scored_split
from ..tasks import Task
from ..tasks.collator import MultiHeadCollator
from ..tasks.labels import soft_columns
from .callbacks import Clock, LogLine, SaveAtEpochEnd
from .order import EpochSampler, count_tokens, length_groups, row_seed
from .saving import SavingTrainer
from .techniques.base import Setting, Technique, make_techniques, overriding


class MultiHeadTrainer(SavingTrainer):
    """Train `MultiHeadForClassification`.

    With `push_to_hub`, `hub_strategy` says what comes to the Hub when; see `hfk.hub.training_checkpoints`.

    Args:
        model: the model.
        args: the training arguments.
        processing_class: the processor, which prepares input; saved with every checkpoint.
        train_dataset: rows in a task's columns, or None to evaluate only.
        eval_dataset: likewise, for evaluation during training.
        techniques: what changes training; those that are on by default, if none are given.
        task: what the rows are rows of, for techniques that ask.
        rows: split → rows, for techniques that look at more than those two.
        **kwargs: passed to `transformers.Trainer`.

    Example:
        >>> trainer = MultiHeadTrainer(  # doctest: +SKIP
        ...     model, args, processing_class=processor, train_dataset=data["train"], eval_dataset=data["validation"]
        ... )
        >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        args: MultiHeadTrainingArguments,
        processing_class: MultiHeadProcessor,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        techniques: Sequence[Technique] | None = None,
        task: Task | None = None,
        rows: Mapping[str, Dataset] | None = None,
        **kwargs: Any,
    ) -> None:
        self.heads: list[HeadConfig] = model.config.heads
        self.processor, self.task = processing_class, task
        self.splits = dict(rows or {}) | {
            name: part for name, part in (("train", train_dataset), ("validation", eval_dataset)) if part is not None
        }
        self.techniques = list(techniques if techniques is not None else make_techniques({}))
        self.parameters = sum(weight.numel() for weight in model.parameters())
        self._model_takes = set(inspect.signature(model.forward).parameters)
        drawing = overriding(self.techniques, "sampler")
        if len(drawing) > 1:
            both = " and ".join(technique.key for technique in drawing)
            raise ValueError(f"{both} both say how training rows are drawn: leave one of them out.")
        soft = soft_columns(next(iter(self.splits.values()))) if self.splits else ()
        collator = kwargs.pop("data_collator", None) or MultiHeadCollator(self.processor, self.heads, soft)
        setting = Setting(args, self.heads, self.processor, model.head_losses, self.splits, task, collator)
        for technique in self.techniques:
            technique.begin(setting)
        for technique in self.techniques if train_dataset is not None else ():
            model = technique.model(model)
            train_dataset = technique.rows(train_dataset)
        self._head_losses: dict[str, Tensor] = {}
        self._head_loss_steps = 0
        self._logits: dict[str, dict[str, np.ndarray]] = {}
        kwargs["data_collator"] = setting.collator
        kwargs.setdefault("compute_metrics", self.compute_head_metrics)
        if args.ddp_find_unused_parameters is None:  # a batch without any picture leaves the vision encoder unused
            args.ddp_find_unused_parameters = None not in (model.config.text_config, model.config.vision_config)
        super().__init__(
            model,
            args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            # The Trainer aligns special tokens with any processor's tokenizer, and fails where there is none.
            processing_class=processing_class if processing_class.tokenizer is not None else None,
            **kwargs | {"callbacks": [Clock(), *self.techniques, *(kwargs.get("callbacks") or ()), SaveAtEpochEnd()]},
        )
        if args.disable_tqdm:
            self.remove_callback(PrinterCallback)
            self.add_callback(LogLine())

    def compute_head_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Score every head; see `hfk.evaluation.metrics.score_heads`."""
        return score_heads(Predictions(None, self.heads, prediction.predictions, prediction.label_ids))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer; the techniques say how fast each weight learns."""
        if self.optimizer is None:
            model = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            decayed = set(self.get_decay_parameter_names(model))
            groups = [
                {"params": [weight], "name": name, "lr": self.args.learning_rate,
                 "weight_decay": self.args.weight_decay if name in decayed else 0.0}
                for name, weight in model.named_parameters() if weight.requires_grad
            ]  # fmt: skip
            for technique in self.techniques:
                groups = technique.groups(groups)
            merged: dict[tuple[float, float], dict[str, Any]] = {}
            for group in groups:
                shared = {name: group[name] for name in ("lr", "weight_decay")}
                merged.setdefault(tuple(shared.values()), shared | {"params": []})["params"] += group["params"]
            self.optimizer = kind([merged[key] for key in sorted(merged, reverse=True)], **options)
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the loss, in training the techniques' part included, and keep each head's for the log."""
        techniques = self.techniques if model.training else ()
        for technique in techniques:
            inputs = technique.batch(inputs)
        outputs = model(**{name: value for name, value in inputs.items() if name in self._model_takes})
        loss = outputs.loss
        for technique in techniques:
            loss = technique.loss(loss, outputs, inputs)
        if model.training and outputs.losses:
            for name, value in outputs.losses.items():
                self._head_losses[name] = self._head_losses.get(name, 0.0) + value.detach()
            self._head_loss_steps += 1
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the mean training loss of every head since the last time."""
        if "loss" in logs and self._head_loss_steps:
            totals = self.accelerator.gather(torch.stack(list(self._head_losses.values()))[None]).mean(0)
            for name, total in zip(self._head_losses, totals, strict=True):
                logs[f"loss_{name}"] = round((total / self._head_loss_steps).item(), 4)
            self._head_losses, self._head_loss_steps = {}, 0
        super().log(logs, start_time)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate, with the weights that techniques want evaluated."""
        with self._serving_weights():
            return super().evaluation_loop(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """Load training batches, as the techniques want them made; evaluation's stay as they are."""
        collator = self.data_collator
        try:
            for technique in self.techniques:
                self.data_collator = technique.collator(self.data_collator)
            return super().get_train_dataloader()
        finally:
            self.data_collator = collator

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        rows = train_dataset if train_dataset is not None else self.train_dataset
        for technique in overriding(self.techniques, "sampler"):
            return technique.sampler(rows)
        if isinstance(rows, Dataset) and self.args.train_sampling_strategy == "group_by_length":
            # Upstream's order hangs on each process's random state: lost in a resumed epoch, other for each of several.
            lengths = count_tokens(rows, self.processor)
            return EpochSampler(partial(length_groups, lengths, self.args), len(rows), row_seed(self.args))
        return super()._get_train_sampler(train_dataset)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler | None:
        # Upstream groups evaluation rows by length too, in an order of its own; ids and texts must stay beside logits.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    @contextmanager
    def _serving_weights(self) -> Iterator[None]:
        with ExitStack() as stack:
            for technique in self.techniques:
                stack.enter_context(technique.weights(self.model))
            yield

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self._load_weights(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        for technique in self.techniques:
            technique.load(Path(resume_from_checkpoint), self.model)

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
        folder = Path(output_dir if output_dir is not None else self.args.output_dir)
        resumable = folder.name.startswith(PREFIX_CHECKPOINT_DIR)
        with self._serving_weights():
            if resumable or state_dict is not None or not hasattr(self.model, "merge_and_unload"):
                super()._save(output_dir, state_dict)
            elif self.args.should_save:  # to be used, adapters are merged; what training goes on from has them alone
                unwrap(copy.deepcopy(self.model)).save_pretrained(folder)
        if self.args.should_save:
            for technique in self.techniques if resumable else ():
                technique.save(folder)
            self.processor.save_pretrained(folder)

    def finish(self) -> None:
        """Let the encoder, then the techniques, do what is left when training has ended."""
        if isinstance(encoder := getattr(self.model, "text_encoder", None), TextEncoder):
            encoder.compact()
            self.model.config.text_config = encoder.config
        for technique in self.techniques:
            technique.finish(self)

    @property
    def scored(self) -> str:
        """The split that a report is about: test, or else validation, or else train."""
        return scored_split(self.splits)

    def predictions(self, split: str | None = None) -> Predictions:
        """Return what the model says of a split, by default of the one that is scored; it is asked once."""
        split = split or self.scored
        if split not in self._logits:
            self._logits[split] = self.predict(self.splits[split], metric_key_prefix=split).predictions
        return Predictions.of(self.splits[split], self.heads, self._logits[split])

    def facts(self) -> dict[str, Any]:
        """Return what the report says of the training."""
        log, args = self.state.log_history, self.args
        seconds = next(entry["train_seconds"] for entry in reversed(log) if "train_seconds" in entry)
        a_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * max(args.world_size, 1)
        facts = {
            "seed": args.seed,
            "parameters": self.parameters,
            "train_seconds": seconds,
            "train_rows_per_second": round(self.state.global_step * a_step / max(seconds, 1e-9), 1),
        }
        for technique in self.techniques:
            facts |= technique.facts()
        return facts

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write hfk's card for what is about to be pushed, unless the run folder has one."""
        write_training_card(self)

    def push_to_hub(self, commit_message: str | None = "End of training", **options: Any) -> Any:
        """Push what was trained, arguments as upstream; see `hfk.hub.training_checkpoints.push_run`."""
        return push_run(self, commit_message, **options)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        push_checkpoint(self, checkpoint_folder)


def unwrap(model: nn.Module) -> MultiHeadForClassification:
    """Return the plain model: adapters merged into its weights if there are any."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
