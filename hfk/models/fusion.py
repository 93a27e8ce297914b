"""From the encoders' token sequences to one embedding: pooling, and the fusion of text and image.

Each fusion holds a learned "absent" vector for either side, which a row gets in place of the tokens that it lacks. So
one batch may mix rows of all kinds, and its shapes never depend on them, which `torch.export` needs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from .configuration_multihead import MultiHeadConfig, encoder_hidden_size

Side = tuple[Tensor | None, Tensor | None, Tensor]
"""Text or image of a batch: tokens `(batch, tokens, size)`, None if no row has any; mask `(batch, tokens)`, non-zero
where a token counts, None where all do; and bool `(batch,)`, which rows have it."""


class Standardization(nn.Module):
    """Shift and scale every feature to mean 0 and deviation 1 over the training rows, as measured before training.

    The vectors of a pretrained encoder lie close together (Ethayarajh 2019, arXiv:1909.00512), and new layers on top
    learn slowly what tells them apart; see benchmarks/README.md. Measuring once instead of by batch keeps rows
    independent (data-dependent initialization: Krähenbühl et al. 2016, arXiv:1511.06856).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self, features: Tensor) -> Tensor:
        """Standardize `(…, size)`."""
        return (features - self.mean) * self.scale

    @torch.no_grad()
    def fit(self, count: int, total: Tensor, squares: Tensor) -> None:
        """Take mean and deviation from how many vectors there are, their sum and that of their squares, `(size,)`."""
        if count < 2:
            return
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0.0).sqrt()
        # A feature that is nearly always 0 would explode in the one row where it is not.
        deviation = deviation.clamp_min(deviation.mean().item() / 10 + 1e-6)
        self.mean.copy_(mean)
        self.scale.copy_(1 / deviation)


class Pooling(nn.Module):
    """Pool `(batch, tokens, size)` by `cls` (first token), `mean`, `max` or `attention` (a learned query's weights)."""

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        self.kind = kind
        self.score = nn.Linear(size, 1) if kind == "attention" else None
        self.standardization = Standardization(size)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool to `(batch, size)`, standardized; `mask` is `(batch, tokens)`, non-zero where a token counts."""
        return self.standardization(self.features(tokens, mask))

    def features(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool without standardizing."""
        if self.kind == "cls":
            return tokens[:, 0]
        if mask is None:
            mask = tokens.new_ones(tokens.shape[:2])
        mask = mask.to(tokens.dtype).unsqueeze(-1)
        if self.kind == "mean":
            return (tokens * mask).sum(1) / mask.sum(1).clamp_min(1.0)
        hidden = torch.finfo(tokens.dtype).min
        if self.kind == "max":
            return tokens.masked_fill(mask == 0, hidden).amax(1)
        weights = self.score(tokens).masked_fill(mask == 0, hidden).float().softmax(1).to(tokens.dtype)
        return (tokens * weights).sum(1)


class Projection(nn.Module):
    """Project every token, standardized, from `size` to `outputs` features."""

    def __init__(self, size: int, outputs: int) -> None:
        super().__init__()
        self.standardization = Standardization(size)
        self.linear = nn.Linear(size, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `(batch, tokens, size)` to `(batch, tokens, outputs)`."""
        return self.linear(self.standardization(tokens))

    def features(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the tokens that count, `(vectors, size)`: what is standardized."""
        return tokens.flatten(0, 1) if mask is None else tokens[mask.bool()]


class FusionLayer(nn.TransformerEncoderLayer):
    """PyTorch's layer; its own attention lays the mask out by head, by strides that `torch.export` can't compare."""

    def _sa_block(
        self, x: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None, is_causal: bool = False
    ) -> Tensor:
        attention = self.self_attn
        inputs = linear(x, attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = inputs.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = attention.dropout if self.training else 0.0
        mask = None if key_padding_mask is None else key_padding_mask[:, None, None]
        mixed = scaled_dot_product_attention(query, key, value, mask, dropout)
        return self.dropout1(attention.out_proj(mixed.transpose(1, 2).flatten(2)))


class TokensFusion(nn.Module):
    """Both token sequences, projected to one width, and a learned CLS, through a small TransformerEncoder.

    As in VisualBERT (Li et al. 2019, arXiv:1908.03557), but on top of two pretrained encoders.
    """

    def __init__(self, config: MultiHeadConfig) -> None:
        super().__init__()
        size = config.fusion_size
        self.text = Projection(encoder_hidden_size(config.text_config), size)
        self.image = Projection(encoder_hidden_size(config.vision_config), size)
        self.modality = nn.Embedding(2, size)  # 0 text, 1 image
        self.absent = nn.Embedding(2, size)
        self.cls = nn.Embedding(1, size)
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(config.fusion_dropout)
        layer = FusionLayer(
            size, config.fusion_heads, 4 * size, config.fusion_dropout, "gelu", batch_first=True, norm_first=True
        )
        # Nested tensors would make shapes depend on the mask's values.
        self.encoder = nn.TransformerEncoder(
            layer, config.fusion_layers, nn.LayerNorm(size), enable_nested_tensor=False
        )

    def forward(self, text: Side, image: Side) -> Tensor:
        """Fuse one batch to `(batch, fusion_size)`."""
        batch = text[2].shape[0]
        parts, masks = [self.cls.weight.expand(batch, 1, -1)], [text[2].new_ones(batch, 1)]
        for index, ((tokens, mask, present), projection) in enumerate(((text, self.text), (image, self.image))):
            absent = self.absent.weight[index].expand(batch, 1, -1)
            if tokens is None:
                part, mask = absent, present.new_ones(batch, 1)
            else:
                part = torch.where(present[:, None, None], projection(tokens), absent)
                # An absent side is one token: its first position stays visible, the rest is masked.
                first = torch.arange(tokens.shape[1], device=tokens.device)[None, :] == 0
                mask = present.new_ones(tokens.shape[:2]) if mask is None else mask.bool()
                mask = (present[:, None] & mask) | (~present[:, None] & first)  # ONNX Runtime has no `where` of bools
            parts.append(part + self.modality.weight[index])
            masks.append(mask)
        sequence = self.dropout(self.norm(torch.cat(parts, 1)))
        return self.encoder(sequence, src_key_padding_mask=~torch.cat(masks, 1))[:, 0]


class VectorFusion(nn.Module):
    """Fusion of two pooled vectors: side by side (`pooled`), or as a gated sum (`gated`).

    `pooled` lets linear heads start as a linear probe on both encoders, and learns fastest from few rows. `gated` is
    the gated multimodal unit of Arevalo et al. 2017 (arXiv:1702.01992).
    """

    def __init__(self, config: MultiHeadConfig) -> None:
        super().__init__()
        text_size, image_size = encoder_hidden_size(config.text_config), encoder_hidden_size(config.vision_config)
        size = config.fusion_size
        self.text = Pooling(config.text_pooling, text_size)
        self.image = Pooling(config.image_pooling, image_size)
        self.absent_text = nn.Embedding(1, text_size)
        self.absent_image = nn.Embedding(1, image_size)
        self.dropout = nn.Dropout(config.fusion_dropout)
        self.gated = config.fusion == "gated"
        if self.gated:
            self.text_projection, self.image_projection = nn.Linear(text_size, size), nn.Linear(image_size, size)
            self.gate = nn.Linear(text_size + image_size, size)
            for layer in (self.text_projection, self.image_projection):
                # From standardized features to outputs of deviation 1: smaller ones make the heads start slowly.
                layer.initializer_std = layer.in_features**-0.5

    def forward(self, text: Side, image: Side) -> Tensor:
        """Fuse one batch to `(batch, fusion_size)`."""
        text = self._vector(text, self.text, self.absent_text)
        image = self._vector(image, self.image, self.absent_image)
        joined = torch.cat([text, image], -1)
        if not self.gated:
            return joined
        gate = torch.sigmoid(self.gate(joined))
        return gate * torch.tanh(self.text_projection(text)) + (1 - gate) * torch.tanh(self.image_projection(image))

    def _vector(self, side: Side, pooling: Pooling, absent: nn.Embedding) -> Tensor:
        tokens, mask, present = side
        vector = absent.weight.expand(present.shape[0], -1)
        if tokens is not None:
            vector = torch.where(present[:, None], pooling(tokens, mask), vector)
        return self.dropout(vector)


def drop_modalities(text_present: Tensor, image_present: Tensor, probability: float) -> tuple[Tensor, Tensor]:
    """Modality dropout: rows that have both lose text or image, at even odds, with this probability."""
    draw = torch.rand(text_present.shape, device=text_present.device)
    both = text_present & image_present
    return text_present & ~(both & (draw < probability / 2)), image_present & ~(both & (draw > 1 - probability / 2))
