"""`SideBySideModel`: a pretrained text encoder, and beside its vector the sum of those of the n-grams it is made of.

Both read the same pieces, which the bag of n-grams spells out. What the n-grams mean comes from elsewhere, such as the
vectors of a language's morphemes; that costs nothing beside the encoder, and knows other things than it. Made for few
labels, where new weights can't be learned: see the recipe `few-shot`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.utils import can_return_tuple

from .encoder_base import register_encoder
from .modeling_ngram import LONGEST, NGramModel, SpellingEncoder, letters_config


class SideBySideConfig(PreTrainedConfig):
    """A pretrained encoder's configuration and that of n-grams; a ValueError for a wrong option."""

    model_type = "side-by-side"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012

    encoder: dict[str, Any] | PreTrainedConfig | None = None  # any `AutoModel` text encoder's
    ngrams: dict[str, Any] | None = None  # options of NGramConfig
    scale: float = 1.0  # length of the n-grams' vector beside the encoder's, whose length is 1

    def __post_init__(self, **kwargs):
        if isinstance(self.encoder, dict):
            if (kind := self.encoder.get("model_type")) not in CONFIG_MAPPING:
                raise ValueError(f"the encoder's model_type {kind!r} is unknown to the installed transformers.")
            self.encoder = CONFIG_MAPPING[kind].from_dict(self.encoder)
        self.ngrams = dict(self.ngrams or {})
        letters_config(self.ngrams)
        for name in ("hidden_size", "vocab_size", "pad_token_id"):  # the encoder's
            kwargs.pop(name, None)
        # The base class gives the encoder its own attention, None here: keep what it was built with.
        kwargs.setdefault("attn_implementation", getattr(self.encoder, "_attn_implementation", None))
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Width of the output: both vectors."""
        return (self.encoder.hidden_size if self.encoder is not None else 0) + letters_config(self.ngrams).hidden_size


class SideBySideModel(SpellingEncoder):
    """The encoder: one vector a text.

    Args:
        config: its configuration.
        encoder: the pretrained encoder, if it is at hand; built from the configuration by default.
    """

    config_class = SideBySideConfig
    base_model_prefix = "side_by_side"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: SideBySideConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config)
        self.encoder = AutoModel.from_config(config.encoder) if encoder is None else encoder
        if hasattr(self.encoder, "pooler"):
            self.encoder.pooler = None  # nobody reads it
        self.ngrams = NGramModel(letters_config(config.ngrams))
        self.register_buffer("letters", torch.zeros(config.encoder.vocab_size, LONGEST, dtype=torch.int16))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: Any):
        if isinstance(module, SideBySideModel):
            module.letters.zero_()
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode texts: int64 `(batch, tokens)`, of which those count where `attention_mask` is non-zero.

        `pooler_output` `(batch, hidden_size)` is the direction of the mean of the encoder's states, then that of the
        n-grams' vector; `last_hidden_state` the same vector at every token, so that every pooling gives it back.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        counted = mask[..., None].to(states.dtype)
        letters = self.spell(input_ids, mask)
        words = self.ngrams(letters, letters != 0, return_dict=True).pooler_output.to(states.dtype)
        ours, theirs = (nn.functional.normalize(half, dim=-1) for half in (words, (states * counted).sum(1)))
        output = torch.cat([theirs, self.config.scale * ours], -1)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=output[:, None].expand(-1, input_ids.shape[1], -1), pooler_output=output
        )


register_encoder(SideBySideConfig, SideBySideModel)
