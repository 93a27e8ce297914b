"""From the encoders' token sequences to one embedding: pooling, and the fusion of text and image.

Each fusion holds a learned "absent" vector for either side. A row that lacks its text or its image gets that vector in
place of the missing side's tokens, so one batch may mix rows with text, with an image, and with both; the shapes never
depend on which rows those are, which keeps torch.compile and torch.export content.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .configuration_multihead import MultiHeadConfig, encoder_hidden_size

Side = tuple[Tensor | None, Tensor | None, Tensor]
"""Text or image of a batch: tokens `(batch, tokens, size)`, None if no row has any; mask `(batch, tokens)`, non-zero
where a token counts, None where all do; and bool `(batch,)`, which rows have it."""


class Standardization(nn.Module):
    """Shift and scale every feature to mean 0 and deviation 1 over the training rows, as measured before training.

    The vectors of a pretrained encoder lie close together (Ethayarajh 2019, arXiv:1909.00512): of multilingual E5's
    vectors for descriptions of clothes the mean is 2.5 times as long as a vector's typical distance from it. New layers
    on top learn that direction's noise first, and slowly anything else; see benchmarks/README.md. Measuring once
    instead of by batch keeps rows independent, so that gradient accumulation changes nothing (data-dependent
    initialization: Krähenbühl et al. 2016, arXiv:1511.06856). Nothing is changed until `fit` is called.
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
    """Pool `(batch, tokens, size)` to `(batch, size)`, standardized.

    `kind` is `cls` (first token), `mean`, `max`, or `attention` (a learned query's softmax weights).
    """

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        self.kind = kind
        self.score = nn.Linear(size, 1) if kind == "attention" else None
        self.standardization = Standardization(size)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool `tokens`; `mask` is `(batch, tokens)`, non-zero where a token counts; all count without it."""
        return self.standardization(self.features(tokens, mask))

    def features(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool without standardizing; arguments as for `forward`."""
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


class TokensFusion(nn.Module):
    """Both token sequences, projected to one width, and a learned CLS, through a small TransformerEncoder.

    The design of VisualBERT-style joint encoders (Li et al. 2019, arXiv:1908.03557) on top of two pretrained encoders:
    projection, modality embedding, self-attention over everything; the CLS position is the embedding.
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
        layer = nn.TransformerEncoderLayer(
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
                mask = torch.where(present[:, None], mask, first)
            parts.append(part + self.modality.weight[index])
            masks.append(mask)
        sequence = self.dropout(self.norm(torch.cat(parts, 1)))
        return self.encoder(sequence, src_key_padding_mask=~torch.cat(masks, 1))[:, 0]


class VectorFusion(nn.Module):
    """Fusion of two pooled vectors: concatenated (`pooled`) or as a gated sum (`gated`).

    `pooled` leaves the vectors as they are, so that linear heads start as a linear probe on both encoders; it learns
    fastest from few rows. `gated` is the gated multimodal unit of Arevalo et al. 2017 (arXiv:1702.01992):
    z = g·tanh(U t) + (1 - g)·tanh(V i) with g = sigmoid(W [t; i]).
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
                # From standardised features to outputs of deviation 1: smaller ones make the heads start slowly.
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
    """Modality dropout: hide text or image, at even odds, in rows that have both; no row loses its only side.

    The two masks are bool `(batch,)`; `probability` is how likely a row with both loses one.
    """
    draw = torch.rand(text_present.shape, device=text_present.device)
    both = text_present & image_present
    return text_present & ~(both & (draw < probability / 2)), image_present & ~(both & (draw > 1 - probability / 2))
