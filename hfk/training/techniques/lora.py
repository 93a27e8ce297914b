"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) on the encoders' linear layers; their own weights stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from .base import Technique

ADAPTER = "adapter"
"""Folder of the adapters, beside the merged checkpoint."""


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

    def model(self, model: nn.Module) -> PeftModel:
        """Wrap the model; ValueError if no encoder has a linear layer."""
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        targets = [name for name in linear if name.startswith(("text_encoder.", "vision_encoder."))]
        if not targets:
            raise ValueError("lora needs linear layers in an encoder, and this one has none: train it without lora.")
        size = {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
        return get_peft_model(model, LoraConfig(**size, target_modules=targets, modules_to_save=["fusion", "heads"]))

    def finish(self, trainer: Any) -> None:
        """Save the adapters by themselves."""
        if trainer.args.should_save:
            trainer.model.save_pretrained(Path(trainer.args.output_dir) / ADAPTER)
