"""Which weights learn how fast: parameter groups for the optimizer, and low-rank adapters.

Fusion and heads start from nothing and learn fast; encoders are pretrained and learn slowly, lower layers the slower
the deeper they lie (`layer_decay`).
"""

from __future__ import annotations

import re

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from ...models.modeling_multihead import MultiHeadForClassification
from ...runs.recipe import MultiHeadTrainingArguments

LAYER = re.compile(r"\.(?:layers?|h|blocks?|stages?)\.(\d+)\.")


def parameter_groups(model: nn.Module, args: MultiHeadTrainingArguments, decayed: list[str]) -> list[dict]:
    """Sort the trainable weights into groups of one learning rate and one weight decay.

    Args:
        model: the model, bare or wrapped.
        args: gives `learning_rate`, `head_learning_rate`, `layer_decay`, `weight_decay`.
        decayed: names of the weights that weight decay applies to.

    Returns:
        optimizer groups with `params`, `lr`, `weight_decay` and a readable `name`, highest learning rate first.
    """
    head_rate = args.head_learning_rate if args.head_learning_rate is not None else 10 * args.learning_rate
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    depth = {encoder: _depth(names, encoder) for encoder in ("text_encoder", "vision_encoder")}
    decayed_names = set(decayed)
    groups: dict[tuple[float, float], dict] = {}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        encoder = next((encoder for encoder in depth if f"{encoder}." in name), None)
        rate = head_rate
        if encoder is not None:
            rate = args.learning_rate * args.layer_decay ** _steps_from_top(name, depth[encoder])
        decay = args.weight_decay if name in decayed_names else 0.0
        group = groups.setdefault(
            (rate, decay), {"params": [], "lr": rate, "weight_decay": decay, "name": f"{encoder or 'heads'}@{rate:.2g}"}
        )
        group["params"].append(weight)
    return [groups[key] for key in sorted(groups, reverse=True)]


def _depth(names: list[str], encoder: str) -> int:
    found = [int(match.group(1)) for name in names if f"{encoder}." in name and (match := LAYER.search(name))]
    return max(found, default=-1) + 1


def _steps_from_top(name: str, depth: int) -> int:
    """0 for the top layer and what comes after it, `depth` for the embeddings and what comes before the first layer."""
    if match := LAYER.search(name):
        return depth - 1 - int(match.group(1))
    return depth if re.search(r"embed|stem", name) else 0


def add_adapters(model: MultiHeadForClassification, args: MultiHeadTrainingArguments) -> PeftModel:
    """Wrap the model with LoRA adapters on the encoders' linear layers; fusion and heads stay fully trainable.

    Args:
        model: the model to wrap.
        args: gives `lora_rank`, `lora_alpha`, `lora_dropout`.

    Raises:
        ValueError: if no encoder has a linear layer.
    """
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(("text_encoder.", "vision_encoder."))
    ]
    if not targets:
        raise ValueError("lora needs linear layers in an encoder, and this one has none: train it without lora.")
    config = LoraConfig(
        r=args.lora_rank,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=targets,
        modules_to_save=["fusion", "heads"],
        task_type=None,
    )
    return get_peft_model(model, config)
