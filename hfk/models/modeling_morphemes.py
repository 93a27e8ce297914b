"""`MorphemesModel`: a text read twice, as pieces with a meaning and as letters (wide and deep, arXiv:1606.07792).

Deep: the pieces' vectors, their mean and the maxima of convolutions over them, through one hidden layer. Wide: the sum
of the embeddings of the text's hashed n-grams of letters, which the pieces are spelled out for; it knows the names that
no vocabulary has. Both stand side by side, and a linear head above adds them up.

The first pieces, those of the training texts, have weights of their own; all others keep the vectors they came with, in
one byte a number, so that words of later texts still mean something. `compact` does that to all of them in the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.utils import can_return_tuple

from .encoder_base import TextEncoder, register_encoder
from .modeling_ngram import NGramConfig, NGramModel
from .shared import check_range

_UNKNOWN_LETTER, _SPACE = 0xFFFD, ord(" ")
LONGEST = 8
"""Letters of a piece that n-grams are made of; of longer ones, the first."""


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
        """Return the configuration of the letters' half; its ids are code points."""
        fixed = {"vocab_size": 1 << 16, "pad_token_id": 0, "unk_token_id": _UNKNOWN_LETTER, "space_token_id": _SPACE}
        for name in self.ngrams:
            if name in fixed or name not in NGramConfig.__annotations__:
                raise ValueError(f"ngrams has no option {name!r}.")
        return NGramConfig(**self.ngrams, **fixed)


class PieceTable(nn.Module):
    """Vectors of pieces: weights of the first `num_trained`, the others' in one byte a number with a scale each."""

    def __init__(self, config: MorphemesConfig) -> None:
        super().__init__()
        self.count, size = config.num_trained, config.embedding_size
        fixed = max(config.vocab_size - self.count, 1)  # one that nothing leads to, where there is none
        self.trained = nn.Embedding(self.count, size, padding_idx=config.pad_token_id)
        self.register_buffer("codes", torch.zeros(fixed, size, dtype=torch.int8))
        self.register_buffer("scales", torch.zeros(fixed, 1))

    def forward(self, ids: Tensor) -> Tensor:
        """Look up `(…)` ids: `(…, size)`."""
        rows = (ids - self.count).clamp_min(0)
        fixed = self.codes[rows].to(self.scales.dtype) * self.scales[rows]
        return torch.where(ids[..., None] < self.count, self.trained(ids.clamp_max(self.count - 1)), fixed)

    @torch.no_grad()
    def fill(self, vectors: Tensor) -> None:
        """Take `(vocab_size, size)` vectors."""
        self.trained.weight.copy_(vectors[: self.count])
        if len(others := vectors[self.count :]):
            self.scales.copy_(others.abs().amax(1, keepdim=True) / 127)
            self.codes.copy_((others / self.scales.clamp_min(1e-12)).round())


class MorphemesModel(TextEncoder):
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
        elif isinstance(module, PieceTable | MorphemesModel):
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
        # In one row where the n-grams have a say too: `hfk explain` then asks the whole model, not the vectors alone.
        vectors = self.embeddings(ids) if self.ngrams is None else self.embeddings(ids.flatten()).view(*ids.shape, -1)
        if self.config.space_token_id is not None:  # pieces move together, spaces to the end
            mask = mask & (ids != self.config.space_token_id)
            order = (~mask).int().argsort(dim=1, stable=True)
            order = order[:, : _longest(mask)]
            mask, vectors = mask.gather(1, order), vectors.gather(1, order[..., None].expand(-1, -1, vectors.shape[-1]))
        if self.training and self.config.word_dropout:
            mask = mask & (torch.rand(mask.shape, device=mask.device) >= self.config.word_dropout)
        mask = mask[..., None]
        vectors = torch.where(mask, self.dropout(vectors), 0.0)
        found = [vectors.sum(1) / mask.sum(1).clamp_min(1)]
        for window, convolution in zip(self.config.windows, self.convolutions, strict=True):
            padded = nn.functional.pad(vectors.transpose(1, 2), ((window - 1) // 2, window // 2))
            here = nn.functional.relu(convolution(padded)).transpose(1, 2)
            found.append(torch.where(mask, here, 0.0).amax(1))
        output = torch.cat(found, -1)
        return output if self.dense is None else nn.functional.gelu(self.dense(self.dropout(output)))

    def spell(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the letters of texts as code points, int32 `(batch, letters)`; zeros fill up."""
        letters = self.letters[input_ids].int() & 0xFFFF
        letters = (letters * attention_mask[..., None].to(letters.dtype)).flatten(1)
        letters = letters.gather(1, (letters == 0).int().argsort(dim=1, stable=True))
        return letters[:, : _longest(letters != 0)]

    def learn_letters(self, pieces: list[str]) -> None:
        """Take what the vocabulary's pieces are spelled like, in small letters; an empty one is spelled as nothing."""
        letters = np.zeros(self.letters.shape, np.uint16)
        for row, piece in zip(letters, pieces, strict=True):
            points = [min(ord(letter), _UNKNOWN_LETTER) for letter in piece.lower()[:LONGEST]]
            row[: len(points)] = points
        self.letters.copy_(torch.from_numpy(letters.view(np.int16)))  # `spell` turns the upper half back

    def compact(self) -> None:
        """Bring the vectors to one byte a number, but for padding's; they can't be trained after that."""
        vectors = self.embeddings(torch.arange(self.config.vocab_size, device=self.device)).detach()
        self.config.num_trained = 1
        self.embeddings = PieceTable(self.config).to(vectors)
        self.embeddings.fill(vectors)


def _longest(mask: Tensor) -> int | None:
    """How many places the fullest row of a mask takes; None, for all, where shapes must not depend on the texts."""
    fixed = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return None if fixed else max(1, int(mask.sum(1).max()))


register_encoder(MorphemesConfig, MorphemesModel)
