"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) on the encoders' linear layers; their own weights stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from ...files import write_atomic
from ...runs.card import public_name
from ...runs.recipe import MultiHeadTrainingArguments
from ...tasks import Task
from .base import Technique

ADAPTER = "adapter"
"""Folder of the adapters, beside the merged checkpoint."""
_CARD = """---
library_name: peft
tags: [lora, hfk]
base_model: {bases}
---

# Adapters

Low-rank adapters (rank {rank}, alpha {alpha}) for the linear layers of {names}, and the weights of fusion and heads,
which were trained whole. The folder above holds the model with all of them merged: use that. To go on from the
adapters, put them on what `hfk.training.classification.build` makes of recipe.yaml and the model's heads.
"""


class Lora(Technique, key="lora"):
    """Adapters are trained, and fusion and heads whole; the finished checkpoint has them merged.

    Args:
        rank: of the adapters.
        alpha: their scale.
        dropout: dropout probability inside them.
    """

    last: ClassVar[bool] = True

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05

    def encoders(
        self, encoders: dict[str, str | None], task: Task, arguments: MultiHeadTrainingArguments
    ) -> dict[str, str | None]:
        """Note what the adapters are for."""
        self._bases = [name for name in map(public_name, encoders.values()) if name]
        return encoders

    def model(self, model: nn.Module) -> PeftModel:
        """Wrap the model; ValueError if no encoder has a linear layer."""
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        targets = [name for name in linear if name.startswith(("text_encoder.", "vision_encoder."))]
        if not targets:
            raise ValueError("lora needs linear layers in an encoder, and this one has none: train it without lora.")
        size = {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
        return get_peft_model(model, LoraConfig(**size, target_modules=targets, modules_to_save=["fusion", "heads"]))

    def finish(self, trainer: Any) -> None:
        """Save the adapters by themselves, with a card."""
        if not trainer.args.should_save:
            return
        folder, bases = Path(trainer.args.output_dir) / ADAPTER, getattr(self, "_bases", [])
        if len(bases) == 1:
            trainer.model.peft_config["default"].base_model_name_or_path = bases[0]
        trainer.model.save_pretrained(folder)
        names = " and ".join(f"`{name}`" for name in bases) or "the encoders that recipe.yaml names"
        card = _CARD.format(bases=json.dumps(bases), names=names, rank=self.rank, alpha=self.alpha)
        write_atomic(folder / "README.md", card)  # peft's own is a form that nobody has filled in
