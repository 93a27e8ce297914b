"""`Technique`: what may change training, one class a file, and how a recipe names it.

A recipe has one key a technique, whose value is `true`, the technique's main option, or a mapping of its options. The
Trainer folds over the techniques that a recipe names and knows none of them. Defining a subclass registers it, in hfk
or elsewhere; its annotated attributes are its options, the first one is the main one, and their types are checked.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, dataclass_transform, get_type_hints

import numpy as np
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import TrainerCallback

from ...models.configuration_multihead import HeadConfig
from ...models.problems import HeadLoss
from ...models.processing_multihead import MultiHeadProcessor
from ...runs.recipe import ARGUMENTS, MAIN, OWN, MultiHeadTrainingArguments, convert, unknown_option
from ...tasks import Task
from ...tasks.collator import MultiHeadCollator
from ...tasks.labels import label_arrays, soft_columns
from ..order import row_seed

TECHNIQUES: dict[str, type[Technique]] = {}
"""Key in a recipe → technique, in the order in which their hooks run."""


@dataclass
class Setting:
    """What a technique may ask about the training that it is part of.

    Args:
        arguments: how is trained.
        heads: the model's heads.
        processor: prepares input.
        losses: head name → how its loss is made; what is changed here holds.
        rows: split → rows as the task has them; without `train`, there is no training.
        task: what they are rows of, if a task was loaded.
        collator: makes a batch of rows, in training and evaluation; what is put in its place in `begin` holds.
    """

    arguments: MultiHeadTrainingArguments
    heads: list[HeadConfig]
    processor: MultiHeadProcessor
    losses: dict[str, HeadLoss]
    rows: Mapping[str, Dataset] = field(default_factory=dict)
    task: Task | None = None
    collator: MultiHeadCollator | None = None

    @property
    def seed(self) -> int:
        """What draws among the rows are seeded by."""
        return row_seed(self.arguments)

    def labels(self, head: HeadConfig, rows: Dataset | None = None) -> np.ndarray | None:
        """Return the labels of a head, of the training rows by default, as `label_arrays` makes them."""
        rows = self.rows.get("train") if rows is None else rows
        return None if rows is None else label_arrays(rows, [head]).get(head.name)

    def class_head(self, asks: str, name: str | None) -> HeadConfig:
        """Return the head whose classes count: the named one, or the single-label one of most labels.

        ValueError, which begins with what `asks`, if there is none with hard labels.
        """
        soft = soft_columns(self.rows["train"])
        single = [head for head in self.heads if head.rules.exclusive and head.name not in soft]
        if name is not None:
            single = [head for head in single if head.name == name]
        if not single:
            raise ValueError(f"{asks} needs a single_label head with hard labels.")
        return max(single, key=lambda head: len(head.labels))


@dataclass_transform()
class Technique(TrainerCallback):
    """What may change training; every hook may be left out, and so may the events of `TrainerCallback`.

    The hooks run in this order: `encoders` before the model is built; `begin`, `model` and `rows` when the Trainer is;
    `collator`, `sampler` and `groups` when training begins; `batch` and `loss` at every step; `weights` around
    evaluation and saving; `save` and `load` for checkpoints; `finish` and `facts` in the end.

    A subclass names its key: `class Ema(Technique, key="ema")`. It may say `default=` the value that holds where a
    recipe says nothing.

    Attributes:
        key: the recipe's key.
        default: what holds where a recipe says nothing; False leaves the technique out.
        off: values of the main option that leave it out too.
        last: whether its hooks run after all others', because it wraps the model.
        setting: the training that it is part of, from `begin` on.
    """

    key: ClassVar[str]
    default: ClassVar[Any] = False
    off: ClassVar[tuple[Any, ...]] = (0, "none")
    last: ClassVar[bool] = False
    setting: ClassVar[Setting]  # of the instance; a ClassVar is no option

    def __init_subclass__(cls, key: str | None, default: Any = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(cls, eq=False)
        if key is not None:  # None is a base of others
            cls.key, cls.default = key, default
            TECHNIQUES[key] = cls

    @classmethod
    def from_option(cls, value: Any) -> Technique | None:
        """Make a technique of a recipe's value: true, the main option, or a mapping; None if that leaves it out.

        ValueError, one sentence, for an unknown option or a value of the wrong kind.
        """
        kinds = get_type_hints(cls)
        names = [f.name for f in dataclasses.fields(cls)]
        main = names[0] if names else None
        if not isinstance(value, Mapping):
            if value is None or value is False or (value is not True and value in cls.off):
                return None
            if main is None and value is not True:
                raise ValueError(f"{cls.key} is true or false, not {value!r}.")
            value = {} if value is True else {MAIN: value}
        options = {main if name == MAIN else name: option for name, option in value.items()}
        for name in options:
            if name not in names:
                raise unknown_option(name, names, cls.key)
        said = {name: cls.key if set(value) == {MAIN} else f"{cls.key}.{name}" for name in options}
        options = {name: convert(said[name], option, kinds[name]) for name, option in options.items()}
        if options.get(main, True) in cls.off:
            return None
        for option in dataclasses.fields(cls):
            if option.default is dataclasses.MISSING and option.name not in options:
                raise ValueError(f"{cls.key} needs its {option.name}: write {cls.key}=… or {cls.key}.{option.name}=…")
        return cls(**options)

    def begin(self, setting: Setting) -> None:
        """Learn what the training is; refuse what can't work in it."""
        self.setting = setting

    def encoders(
        self, encoders: dict[str, str | None], task: Task, arguments: MultiHeadTrainingArguments
    ) -> dict[str, str | None]:
        """Replace what is to be loaded as encoder: `text` and `vision` → name, or None. One process at a time."""
        return encoders

    def rows(self, rows: Any) -> Any:
        """Change the training rows: a `Dataset`, or what another technique has made of one."""
        return rows

    def model(self, model: nn.Module) -> nn.Module:
        """Change the model before its first step."""
        return model

    def collator(self, collator: Any) -> Any:
        """Change how training rows become a batch; what it is given serves evaluation too, and must stay as it is."""
        return collator

    def sampler(self, rows: Any) -> Sampler | None:
        """Say in which order training rows are drawn; None leaves that to others. One technique may."""
        return None

    def groups(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Change the optimizer's groups; here each is one weight, with its `name`, `lr` and `weight_decay`."""
        return groups

    def batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Change a training batch. Entries that the model does not take are for `loss` alone."""
        return batch

    def loss(self, loss: Tensor, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Change the training loss; what is put into `outputs.losses` is logged."""
        return loss

    def weights(self, model: nn.Module) -> AbstractContextManager:
        """Give the model other weights while it is evaluated or saved."""
        return nullcontext()

    def save(self, folder: Path) -> None:
        """Write into a checkpoint's folder what training goes on from, beside weights and optimizer."""

    def load(self, folder: Path, model: nn.Module) -> None:
        """Go on from a checkpoint that `save` wrote, or a run without this technique; `model` has been loaded."""

    def finish(self, trainer: Any) -> None:
        """Do what is left when training has ended; every process calls it."""

    def facts(self) -> dict[str, Any]:
        """Return what the report and the card say of it."""
        return {}


def make_techniques(options: Mapping[str, Any]) -> list[Technique]:
    """Make a recipe's techniques, those that are on by default included; ValueError for an unknown key or wrong value.

    Example:
        >>> make_techniques({"ema": 0.99, "r_drop": 0})
        [Ema(decay=0.99), Standardization(count=512), LogitAdjustment(strength=0.0), HeadLearningRate(rate=None)]
    """
    for name in options:
        if name not in TECHNIQUES:
            raise unknown_option(name, (*OWN, *ARGUMENTS, *TECHNIQUES))
    made = [kind.from_option(options.get(key, kind.default)) for key, kind in TECHNIQUES.items()]
    return sorted((technique for technique in made if technique is not None), key=lambda technique: technique.last)


def overriding(techniques: Sequence[Technique], hook: str) -> list[Technique]:
    """Return the techniques that have a hook of their own."""
    return [one for one in techniques if getattr(type(one), hook) is not getattr(Technique, hook)]


def check_range(name: str, value: float, below: float = math.inf) -> None:
    """Refuse an option outside [0, below); ValueError, naming it."""
    if not 0 <= value < below:
        raise ValueError(f"{name} must be {'0 or more' if below == math.inf else f'in [0, {below})'}, not {value}.")
