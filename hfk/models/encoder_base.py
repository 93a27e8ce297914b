"""What the encoders of hfk's own have in common: a text encoder's base class, and how transformers gets to know one.

An encoder is a configuration, a model and one call of `register_encoder`; its `forward` stands under transformers'
`can_return_tuple` and returns a `ModelOutput`. Needs only torch and transformers, and travels with every checkpoint.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel


class TextEncoder(PreTrainedModel):
    """Base of encoders whose `embeddings` hold the vectors of what the tokenizer gives."""

    main_input_name = "input_ids"
    input_modalities = ("text",)
    _input_embed_layer = "embeddings"


def register_encoder(config: type[PreTrainedConfig], model: type[PreTrainedModel]) -> None:
    """Let `AutoConfig` and `AutoModel` find an encoder, here and as code beside its checkpoints."""
    config.register_for_auto_class()
    model.register_for_auto_class("AutoModel")
    AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(config, model, exist_ok=True)


def check_share(config: PreTrainedConfig, *names: str) -> None:
    """Refuse options that are no shares below 1, such as a dropout probability; ValueError."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name} must be in [0, 1), not {getattr(config, name)}.")
