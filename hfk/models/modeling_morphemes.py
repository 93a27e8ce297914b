"""`MorphemesModel`: a text read twice, as pieces with a meaning and as letters (wide and deep, arXiv:1606.07792).

Deep: the pieces' vectors, their mean and the maxima of convolutions over them, through one hidden layer. Wide: the sum
of the embeddings of the text's hashed n-grams of letters, which the pieces are spelled out for; it knows the names that
no vocabulary has. Both stand side by side, and a linear head above adds them up.

The first pieces, those of the training texts, have weights of their own; all others keep the vectors they came with, in
one byte a number, so that words of later texts still mean something. `compact` does that to all of them, and to those
of n-grams, in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.utils import can_return_tuple

from .encoder_base import register_encoder
from .modeling_ngram import (
    LONGEST,
    CodedTable,
    NGramConfig,
    NGramModel,
    SpellingEncoder,
    is_traced,
    letters_config,
    to_front,
)
from .shared import check_range


class MorphemesConfig(PreTrainedConfig):
    """Shape of a wide-and-deep text encoder; a ValueError for a wrong option."""

    model_type = "morphemes"

    vocab_size: int = 30000  # pieces that the tokenizer knows
    num_trained: int | None = None  # the first pieces, with weights; the others' vectors are fixed. None for all
    embedding_size: int = 256  # width of a piece's vector
    windows: list[int] | tuple[int, ...] = (
        1,
        2,
        3,
    )  # of the convolutions, in pieces, from 1 to 32; () for the mean alone
    num_filters: int = 128  # of each window size
    deep_size: int = 256  # width of the hidden layer above mean and convolutions; 0 for none
    ngrams: dict[str, Any] | None = None  # options of NGramConfig, such as {"char_ngrams": [1, 4]}; None for no letters
    dropout: float = 0.4  # probability, on the vectors and before the hidden layer
    word_dropout: float = 0.1  # in training, the share of pieces that is left out of the deep half
    initializer_range: float = 0.3  # standard deviation of the vectors at first
    pad_token_id: int | None = 0  # padding comes after a text, never before it
    space_token_id: int | None = None  # the piece that is a space between words, which only the n-grams see

    def __post_init__(self, **kwargs):
        self.windows = list(self.windows)
        if any(not 1 <= window <= 32 for window in self.windows):
            raise ValueError(f"windows must be sizes from 1 to 32, as [1, 2, 3], not {self.windows}.")
        if self.num_trained is None:
            self.num_trained = self.vocab_size
        check_range(self, "dropout", "word_dropout")
        if not 1 <= self.num_trained <= self.vocab_size:
            raise ValueError(f"num_trained must be from 1 to {self.vocab_size}, not {self.num_trained}.")
        if self.ngrams is not None:
            self.ngram_config()
        kwargs.pop("hidden_size", None)
        super().__post_init__(**kwargs)

    @property
    def found_size(self) -> int:
        """Width of what the deep half finds: the mean, and every filter's maximum."""
        return self.embedding_size + len(self.windows) * self.num_filters

    @property
    def hidden_size(self) -> int:
        """Width of the output: both halves."""
        return (self.deep_size or self.found_size) + (self.ngram_config().hidden_size if self.ngrams else 0)

    def ngram_config(self) -> NGramConfig:
        """Return the configuration of the letters' half."""
        return letters_config(self.ngrams)


class PieceTable(CodedTable):
    """Vectors of pieces: weights of the first `num_trained`, the others' in one byte a number."""

    def __init__(self, config: MorphemesConfig) -> None:
        size = config.embedding_size
        # one that nothing leads to, where there is none
        super().__init__(max(config.vocab_size - config.num_trained, 1), size)
        self.count = config.num_trained
        self.trained = nn.Embedding(self.count, size, padding_idx=config.pad_token_id)

    def forward(self, ids: Tensor) -> Tensor:
        """Look up `(…)` ids: `(…, size)`."""
        fixed = super().forward((ids - self.count).clamp_min(0))
        return torch.where(ids[..., None] < self.count, self.trained(ids.clamp_max(self.count - 1)), fixed)

    @torch.no_grad()
    def fill(self, vectors: Tensor) -> None:
        """Take `(vocab_size, size)` vectors."""
        self.trained.weight.copy_(vectors[: self.count])
        if len(others := vectors[self.count :]):
            super().fill(others)


class MorphemesModel(SpellingEncoder):
    """The encoder: one vector a text."""

    config_class = MorphemesConfig
    base_model_prefix = "morphemes"

    def __init__(self, config: MorphemesConfig):
        super().__init__(config)
        self.embeddings = PieceTable(config)
        self.dropout = nn.Dropout(config.dropout)
        width = config.embedding_size
        self.convolutions = nn.ModuleList(nn.Conv1d(width, config.num_filters, window) for window in config.windows)
        self.dense = nn.Linear(config.found_size, config.deep_size) if config.deep_size else None
        self.ngrams = NGramModel(config.ngram_config()) if config.ngrams is not None else None
        letters = torch.zeros(config.vocab_size, LONGEST, dtype=torch.int16)
        self.register_buffer("letters", letters if self.ngrams is not None else None)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Conv1d | nn.Linear):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            init.zeros_(module.bias)
        elif isinstance(module, CodedTable | MorphemesModel):
            for values in module.buffers(recurse=False):
                init.zeros_(values)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode texts: int64 `(batch, tokens)`, of which the first ones of every row count, by `attention_mask`.

        Returns:
            `pooler_output` `(batch, hidden_size)`: the deep half, then the n-grams; `last_hidden_state` `(batch,
            tokens, hidden_size)`: the same vector at every token, so that every pooling gives it back.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        output = self._deep(input_ids, mask.bool())
        if self.ngrams is not None:
            letters = self.spell(input_ids, mask)
            output = torch.cat([output, self.ngrams(letters, letters != 0, return_dict=True).pooler_output], -1)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=output[:, None].expand(-1, input_ids.shape[1], -1), pooler_output=output
        )

    def _deep(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.config.space_token_id is not None:  # pieces move together, spaces to the end
            mask = mask & (ids != self.config.space_token_id)
            ids, mask = to_front(ids, mask), to_front(mask, mask)
        if self.training and self.config.word_dropout:
            mask = mask & (torch.rand(mask.shape, device=mask.device) >= self.config.word_dropout)
        place, vectors, total = self._look_up(ids, mask)
        found = [total / mask.sum(1, keepdim=True).clamp_min(1)]
        # A convolution over looked-up vectors is a sum of products with its kernel's columns, each moved to its place.
        for window, convolution in zip(self.config.windows, self.convolutions, strict=True):
            here = convolution.bias
            for column, kernel in enumerate(convolution.weight.unbind(2), -((window - 1) // 2)):
                here = here + _shift(place(vectors @ kernel.T), column)
            found.append(torch.where(mask[..., None], here, 0.0).amax(1).relu())
        output = torch.cat(found, -1)
        return output if self.dense is None else nn.functional.gelu(self.dense(self.dropout(output)))

    def _look_up(self, ids: Tensor, mask: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
        """The vectors of a batch's pieces, how to put what is made of them in `(batch, tokens)`, and a text's sum.

        Where nothing is dropped at random, a piece that comes many times is one vector, so that all products with it
        are made once: most of a large batch's work.
        """
        if self.training or is_traced():
            vectors = torch.where(mask[..., None], self.dropout(self.embeddings(ids)), 0.0)
            return (lambda values: values), vectors, vectors.sum(1)
        pieces, places = ids.unique(return_inverse=True)
        places = places.masked_fill(~mask, len(pieces))  # zeros after the last
        vectors = nn.functional.pad(self.embeddings(pieces), (0, 0, 0, 1))
        total = nn.functional.embedding_bag(places, vectors, mode="sum")
        return (lambda values: nn.functional.embedding(places, values)), vectors, total

    def compact(self) -> None:
        """Bring the vectors to one byte a number, but for padding's; they can't be trained after that."""
        if self.ngrams is not None:
            self.ngrams.quantize()
            self.config.ngrams = self.config.ngrams | {"coded": True}
        vectors = self.embeddings(torch.arange(self.config.vocab_size, device=self.device)).detach()
        self.config.num_trained = 1
        self.embeddings = PieceTable(self.config).to(vectors)
        self.embeddings.fill(vectors)


def _shift(values: Tensor, by: int) -> Tensor:
    """Bring what stands at place t + `by` of `(batch, tokens, size)` to place t; zeros come in."""
    padded = nn.functional.pad(values, (0, 0, max(-by, 0), max(by, 0)))
    return padded[:, by:] if by > 0 else padded[:, : values.shape[1]]


register_encoder(MorphemesConfig, MorphemesModel)
