"""A finished checkpoint of heads, fusion and adapters alone, which names the encoders that they stand on."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import AutoConfig

from ...backbones.registry import PACKAGED
from ...models.encoder_base import TextEncoder
from ...models.named_encoders import Adapters, name_encoder
from ...runs.card import public_name
from ...runs.recipe import MultiHeadTrainingArguments
from ...tasks import Task
from .base import Technique
from .rates import encoder_of


class Thin(Technique, key="thin"):
    """Save of the finished model what was trained, and the encoders by name: for `unfreezing: 0` and `lora`.

    Others get an encoder from the Hub, at the revision that was trained on, or from hfk's packaged ones; its weights
    are known by their hash. Models that stand on one encoder share it in memory.

    Raises:
        ValueError: for an encoder that others can't get, or one that learns.
    """

    def encoders(
        self, encoders: dict[str, str | None], task: Task, arguments: MultiHeadTrainingArguments
    ) -> dict[str, str | None]:
        """Note what they are called."""
        self._names = {side: name for side, name in encoders.items() if name}
        for side, name in self._names.items():
            if public_name(name) is None or (name not in PACKAGED and "/" not in name):
                raise ValueError(
                    f"thin names encoders that others can get, and {side}_encoder is {name!r}: leave it out."
                )
        return encoders

    def groups(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Refuse encoders that learn."""
        for group in groups:
            if encoder_of(group["name"]) and "lora_" not in group["name"]:
                raise ValueError("thin leaves the encoders out, so that they may not learn: add unfreezing=0 or lora.")
        return groups

    def finish(self, trainer: Any) -> None:
        """Have model and processor saved without what is named."""
        layers = {name: layer for name, layer in trainer.model.named_modules() if hasattr(layer, "lora_A")}
        factors = {}
        for name, layer in layers.items():
            up, down = (getattr(layer, part)["default"].weight.detach() for part in ("lora_B", "lora_A"))
            name = name.removeprefix("base_model.model.")
            factors[f"{name}.weight"] = (up * layer.scaling["default"], down)
        model = trainer.model.get_base_model() if layers else trainer.model
        named = {side: name_encoder(name, _revision(name)) for side, name in self._names.items()}
        model.config.encoders, model.config.adapters = named, None
        if factors:
            model.config.adapters = {name: [len(up), len(down), down.shape[1]] for name, (up, down) in factors.items()}
            model.adapters = Adapters(model.config.adapters).to(model.device)
            model.adapters.fill(factors)
        for side in named:
            freeze(getattr(model, f"{side}_encoder"))
        trainer.processor.encoder = named.get("text")


def freeze(encoder: nn.Module) -> None:
    """Say that an encoder doesn't learn; ValueError for one that changes its shape when training ends."""
    if isinstance(encoder, TextEncoder):
        raise ValueError("thin is for encoders that stay as they are, which hfk's own small ones do not: leave it out.")
    encoder.requires_grad_(False)


def _revision(name: str) -> str | None:
    return None if name in PACKAGED else AutoConfig.from_pretrained(name, trust_remote_code=False)._commit_hash
