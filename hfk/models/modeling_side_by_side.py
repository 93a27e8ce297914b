"""Encoders whose vectors stand side by side: `SideBySideModel` for texts, `SideBySideVisionModel` for pictures.

Of a text: a pretrained encoder's vector, and the sum of those of the n-grams it is made of. Both read the same pieces,
which the bag of n-grams spells out. What the n-grams mean comes from elsewhere, such as the vectors of a language's
morphemes; that costs nothing beside the encoder, and knows other things than it. Made for few labels, where new weights
can't be learned: see the recipe `few-shot`. Of a picture: the vectors of several pretrained encoders, each of which
sees it in its own size and normalization.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.utils import can_return_tuple

from .encoder_base import ENCODERS, register_encoder
from .modeling_ngram import LONGEST, NGramModel, SpellingEncoder, letters_config


class SideBySideConfig(PreTrainedConfig):
    """A pretrained encoder's configuration and that of n-grams; a ValueError for a wrong option."""

    model_type = "side-by-side"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012

    encoder: dict[str, Any] | PreTrainedConfig | None = None  # any `AutoModel` text encoder's
    ngrams: dict[str, Any] | None = None  # options of NGramConfig
    scale: float = 1.0  # length of the n-grams' vector beside the encoder's, whose length is 1

    def __post_init__(self, **kwargs):
        self.encoder = _read_config(self.encoder)
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


class SideBySideVisionConfig(PreTrainedConfig):
    """Several pretrained encoders of pictures.

    Args:
        encoders: their configurations.
        sizes: side in pixels of what each is shown.
        means: what its image processor takes from each channel.
        deviations: by what it divides each channel then. Pictures come prepared for the first encoder.
    """

    model_type = "side-by-side-vision"

    encoders: list[Any] | None = None
    sizes: list[int] | None = None
    means: list[list[float]] | None = None
    deviations: list[list[float]] | None = None

    def __post_init__(self, **kwargs):
        self.encoders = [_read_config(part) for part in self.encoders or ()]
        kwargs.pop("hidden_size", None)  # the encoders'
        super().__post_init__(**kwargs)

    @property
    def image_size(self) -> int:
        """Side in pixels that pictures are prepared for: the largest."""
        return max(self.sizes or [0])

    @property
    def hidden_size(self) -> int:
        """Width of the output: all vectors."""
        return sum(part.hidden_size for part in self.encoders)

    def to_dict(self) -> dict[str, Any]:
        """Serialize, the encoders' configurations included."""
        parts = [{k: v for k, v in part.to_dict().items() if k != "auto_map"} for part in self.encoders]
        return super().to_dict() | {"encoders": parts}


def _read_config(config: dict[str, Any] | PreTrainedConfig | None) -> PreTrainedConfig | None:
    if not isinstance(config, dict):
        return config
    if (kind := config.get("model_type")) in ENCODERS:
        return ENCODERS[kind].config_class.from_dict(config)
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"the encoder's model_type {kind!r} is unknown to the installed transformers.")
    return CONFIG_MAPPING[kind].from_dict(config)


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


class SideBySideVisionModel(PreTrainedModel):
    """The encoders: one vector a picture.

    Args:
        config: their configuration.
        encoders: the pretrained encoders, if they are at hand; built from the configuration by default.
    """

    config_class = SideBySideVisionConfig
    base_model_prefix = "side_by_side_vision"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: SideBySideVisionConfig, encoders: Sequence[PreTrainedModel] = ()):
        super().__init__(config)
        made = list(encoders) or [
            ENCODERS[part.model_type]._from_config(part) if part.model_type in ENCODERS else AutoModel.from_config(part)
            for part in config.encoders
        ]
        for encoder in made:
            if list((getattr(encoder, "pooler", None) and encoder.pooler.parameters()) or ()):
                encoder.pooler = None  # nobody reads it
        self.encoders = nn.ModuleList(made)
        self.post_init()

    @can_return_tuple
    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode pictures `(batch, channels, image_size, image_size)`, normalized as the first encoder wants them.

        `pooler_output` `(batch, hidden_size)` is the mean over places of what each encoder makes of its size of them,
        one after the other; `last_hidden_state` the same as one token.
        """
        config, vectors = self.config, []
        mean, deviation = (pixel_values.new_tensor(own[0])[:, None, None] for own in (config.means, config.deviations))
        for encoder, size, own_mean, own_deviation in zip(
            self.encoders, config.sizes, config.means, config.deviations, strict=True
        ):
            pixels = pixel_values
            if (own_mean, own_deviation) != (config.means[0], config.deviations[0]):
                own = (pixels.new_tensor(values)[:, None, None] for values in (own_mean, own_deviation))
                pixels = (pixels * deviation + mean - next(own)) / next(own)
            if tuple(pixels.shape[-2:]) != (size, size):
                pixels = nn.functional.interpolate(pixels.float(), (size, size), mode="bilinear", antialias=True)
                pixels = pixels.to(pixel_values.dtype)
            states = encoder(pixel_values=pixels).last_hidden_state
            vectors.append(states.mean((2, 3)) if states.dim() == 4 else states.mean(1))
        output = torch.cat(vectors, -1)
        return BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=output[:, None], pooler_output=output)


register_encoder(SideBySideConfig, SideBySideModel)
register_encoder(SideBySideVisionConfig, SideBySideVisionModel)
