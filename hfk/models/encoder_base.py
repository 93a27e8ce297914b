"""What the encoders of hfk's own have in common.

An encoder is a configuration, a model and one call of `register_encoder`, and a line in encoders.py; its `forward`
stands under transformers' `can_return_tuple` and returns a `ModelOutput`.
"""

from __future__ import annotations

from transformers import PreTrainedConfig, PreTrainedModel

ENCODERS: dict[str, type[PreTrainedModel]] = {}
"""Model type → model. Not transformers' own list, in which one checkpoint's code would stand in for another's."""


class TextEncoder(PreTrainedModel):
    """Base of encoders whose `embeddings` hold the vectors of what the tokenizer gives."""

    main_input_name = "input_ids"
    input_modalities = ("text",)
    _input_embed_layer = "embeddings"

    def compact(self) -> None:
        """Become as small as may be when training has ended; what changes in shape stands in `config`."""


def register_encoder(config: type[PreTrainedConfig], model: type[PreTrainedModel]) -> None:
    """Enter an encoder in `ENCODERS`, and let its code go along with its checkpoints."""
    config.register_for_auto_class()
    model.register_for_auto_class("AutoModel")
    ENCODERS[config.model_type] = model
