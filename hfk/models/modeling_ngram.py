"""`NGramModel`: a text as the weighted sum of the embeddings of its n-grams, TF-IDF's features with fastText's layers.

The tokenizer gives single characters; hashing them to buckets happens here, in integer tensor operations, so that it is
the same on every machine and under `torch.export`. Character n-grams stay inside words as scikit-learn's `char_wb` ones
do; word n-grams are hashed from their characters. `fit` learns from the training texts how rare each n-gram is, and
which one owns a bucket. One that owns none counts nothing, like a word outside a vocabulary; a check byte tells it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.utils import can_return_tuple

from .encoder_base import TextEncoder, register_encoder
from .shared import check_range

_LOW = (1 << 31) - 1
# Without pattern and below 2**30: with hashes below 2**31 and ids below 2**27, no sum of products reaches 2**62, so no
# machine's way with overflow matters.
_MULTIPLIER, _STEP, _SEED = 0x2545F491, 0x1B873593, 0x3C6EF372
_CHECKS = 255
_LETTER_BITS, _TEXTS = 21, 63
_UNKNOWN_LETTER, _SPACE = 0xFFFD, ord(" ")
LONGEST = 8
"""Letters of a piece that n-grams are made of, where pieces are spelled; of longer ones, the first."""


class NGramConfig(PreTrainedConfig):
    """Shape of an n-gram encoder.

    Args:
        vocab_size: characters that the tokenizer knows.
        num_buckets: rows of the embedding table; the first one is for what is left out. At four bytes a number,
            `num_buckets * embedding_size` decides the checkpoint's size.
        embedding_size: width of an n-gram's embedding.
        hidden_size: width of the output; `embedding_size` unless there are hidden layers.
        num_hidden_layers: fully connected layers above the sum; 0 leaves a model that is linear in the n-grams.
        min_count: training texts that must have an n-gram for it to count.
        char_ngrams: shortest and longest character n-gram, from 1 to 16, inside words with a space at either end; None
            for none.
        word_ngrams: 1 for words, 2 for words and pairs of neighbors; 0 for none.
        sublinear_tf: count an n-gram that comes f times as 1 + ln f.
        dropout: in training, the share of n-grams that is left out of a text.
        hidden_dropout: dropout probability after each hidden layer.
        initializer_range: standard deviation of the embeddings at first.
        pad_token_id: id of padding.
        unk_token_id: id of a character that the tokenizer does not know; no n-gram holds one. None if there is none.
        space_token_id: id of the space between words.
        sep_token_id: id of what stands between a row's texts, each with n-grams of its own then; None if all are one.
        coded: keep the embeddings in one byte a number, when training has ended.
    """

    model_type = "ngram"

    vocab_size: int = 3000
    num_buckets: int = 2**19
    min_count: int = 2
    embedding_size: int = 16
    hidden_size: int | None = None
    num_hidden_layers: int = 0
    char_ngrams: list[int] | tuple[int, ...] | None = (1, 4)
    word_ngrams: int = 0
    sublinear_tf: bool = True
    dropout: float = 0.0
    hidden_dropout: float = 0.1
    initializer_range: float = 0.02
    pad_token_id: int | None = 0
    unk_token_id: int | None = 1
    space_token_id: int = 2
    sep_token_id: int | None = None
    coded: bool = False

    def __post_init__(self, **kwargs):
        if self.char_ngrams is not None:
            self.char_ngrams = list(self.char_ngrams)
            if len(self.char_ngrams) != 2 or not 1 <= self.char_ngrams[0] <= self.char_ngrams[1] <= 16:
                raise ValueError(f"char_ngrams must be two sizes from 1 to 16, as [1, 4], not {self.char_ngrams}.")
        if self.word_ngrams not in (0, 1, 2):
            raise ValueError(f"word_ngrams must be 0, 1 or 2, not {self.word_ngrams}.")
        if self.char_ngrams is None and not self.word_ngrams:
            raise ValueError("an n-gram encoder needs char_ngrams, word_ngrams, or both.")
        for name, low, high in (("num_buckets", 2, _LOW), ("vocab_size", 1, 1 << _LETTER_BITS)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be from {low} to {high}, not {getattr(self, name)}.")
        if self.min_count < 1:
            raise ValueError(f"min_count must be 1 or more, not {self.min_count}.")
        check_range(self, "dropout", "hidden_dropout")
        if self.hidden_size is None:
            self.hidden_size = self.embedding_size
        if not self.num_hidden_layers and self.hidden_size != self.embedding_size:
            raise ValueError(
                f"hidden_size {self.hidden_size} differs from embedding_size {self.embedding_size}, and there is no "
                "hidden layer between them: set num_hidden_layers."
            )
        super().__post_init__(**kwargs)


def letters_config(options: dict[str, Any]) -> NGramConfig:
    """Return the configuration of a bag of n-grams whose ids are code points; ValueError for an unknown option."""
    fixed = {"vocab_size": 1 << 16, "pad_token_id": 0, "unk_token_id": _UNKNOWN_LETTER, "space_token_id": _SPACE}
    for name in options:
        if name in fixed or name not in NGramConfig.__annotations__:
            raise ValueError(f"ngrams has no option {name!r}.")
    return NGramConfig(**options, **fixed)


def code_points(words: Sequence[str], longest: int) -> Tensor:
    """Spell words in small letters, int32 `(words, longest)`; zeros fill up."""
    letters = np.zeros((len(words), longest), np.int32)
    for row, word in zip(letters, words, strict=True):
        points = [min(ord(letter), _UNKNOWN_LETTER) for letter in word.lower()[:longest]]
        row[: len(points)] = points
    return torch.from_numpy(letters)


class SpellingEncoder(TextEncoder):
    """Base of encoders whose pieces are spelled out for a bag of n-grams, their `ngrams`."""

    letters: Tensor | None

    def learn_letters(self, pieces: Sequence[str]) -> None:
        """Take what the vocabulary's pieces are spelled like; an empty one is spelled as nothing."""
        self.letters.copy_(code_points(pieces, LONGEST).to(torch.int16))  # `spell` turns the upper half back

    def spell(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the letters of texts as code points, int32 `(batch, letters)`; zeros fill up."""
        letters = self.letters[input_ids].int() & 0xFFFF
        letters = (letters * attention_mask[..., None].to(letters.dtype)).flatten(1)
        return to_front(letters, letters != 0)


def to_front(values: Tensor, kept: Tensor) -> Tensor:
    """Move what is kept of each row to its beginning, in order; zeros fill up to the fullest row's length.

    Where a graph is made, whose shapes must not depend on the texts, no row gets shorter.
    """
    width = values.shape[1]
    places = torch.where(kept, kept.long().cumsum(1) - 1, width)  # the last one takes what is not kept
    moved = values.new_zeros(values.shape[0], width + 1).scatter(1, places, values)
    return moved[:, : width if is_traced() else max(1, int(kept.sum(1).max()))]


def is_traced() -> bool:
    """Whether a graph is being made for texts of any kind."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


class CodedTable(nn.Module):
    """Vectors in one byte a number, with a scale each; they can't be trained."""

    def __init__(self, rows: int, size: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(rows, size, dtype=torch.int8))
        self.register_buffer("scales", torch.zeros(rows, 1))

    def forward(self, ids: Tensor) -> Tensor:
        """Look up `(…)` ids: `(…, size)`."""
        codes, scales = (table.index_select(0, ids.flatten()) for table in (self.codes, self.scales))
        return (codes.to(scales.dtype) * scales).view(*ids.shape, -1)

    @torch.no_grad()
    def fill(self, vectors: Tensor) -> None:
        """Take `(rows, size)` vectors."""
        self.scales.copy_(vectors.abs().amax(1, keepdim=True) / 127)
        self.codes.copy_((vectors / self.scales.clamp_min(1e-12)).round())


class NGramModel(TextEncoder):
    """The encoder: one vector a text."""

    config_class = NGramConfig
    base_model_prefix = "ngram"

    def __init__(self, config: NGramConfig):
        super().__init__(config)
        shape = config.num_buckets, config.embedding_size
        self.embeddings = CodedTable(*shape) if config.coded else nn.EmbeddingBag(*shape, mode="sum", padding_idx=0)
        widths = [config.embedding_size] + [config.hidden_size] * config.num_hidden_layers
        self.layers = nn.ModuleList(nn.Linear(low, high) for low, high in pairwise(widths))
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.register_buffer("idf", torch.ones(config.num_buckets))
        # The check byte of the n-gram that owns a bucket; 0, as before `fit`, lets every one in.
        self.register_buffer("owners", torch.zeros(config.num_buckets, dtype=torch.uint8))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.EmbeddingBag):
            init.normal_(module.weight, std=self.config.initializer_range)
            init.zeros_(module.weight[0])
        elif isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            init.zeros_(module.bias)
        elif isinstance(module, CodedTable):
            init.zeros_(module.codes)
            init.zeros_(module.scales)
        elif isinstance(module, NGramModel):
            init.ones_(module.idf)
            init.zeros_(module.owners)

    @can_return_tuple
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode texts: int64 `(batch, characters)`, of which those count where `attention_mask` is non-zero.

        `pooler_output` `(batch, hidden_size)` is the embeddings of the text's n-grams, summed by TF-IDF weights of
        length 1 and passed through the hidden layers; `last_hidden_state` the same vector at every character, so that
        every pooling gives it back.
        """
        buckets, weights = self.features(input_ids, attention_mask)
        if self.training and self.config.dropout:
            # not scaled up: the weights are brought to length 1 again
            weights = weights * (torch.rand_like(weights) >= self.config.dropout)
        weights = weights / weights.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
        if self.config.coded or is_traced():  # as ONNX has no bags
            table = self.embeddings
            vectors = table(buckets) if self.config.coded else nn.functional.embedding(buckets, table.weight)
            vector = (weights[:, None].to(vectors.dtype) @ vectors)[:, 0]
        else:
            vector = self.embeddings(buckets, per_sample_weights=weights.to(self.embeddings.weight.dtype))
        for layer in self.layers:
            vector = self.dropout(nn.functional.gelu(layer(vector)))
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=vector[:, None].expand(-1, input_ids.shape[1], -1), pooler_output=vector
        )

    def features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the n-grams of texts in ascending order, and their weights: how often each comes times how rare it is.

        Both are `(batch, n-grams)`. Where a text has a bucket several times, one place has the weight and the others 0.
        """
        buckets, checks = self.hashes(input_ids, attention_mask)
        owners = self.owners.index_select(0, buckets.flatten()).view_as(buckets)  # faster than indexing
        buckets = _sorted(torch.where((owners == 0) | (owners == checks), buckets, 0))
        first = nn.functional.pad(buckets[:, 1:] != buckets[:, :-1], (1, 0), value=True)
        run = first.long().cumsum(1) - 1  # of equal buckets; and how long each is
        count = torch.zeros_like(run).scatter_add(1, run, torch.ones_like(run)).gather(1, run)
        frequency = 1 + count.float().log() if self.config.sublinear_tf else count.float()
        known = first & (buckets > 0)
        rarity = self.idf.index_select(0, buckets.flatten()).view_as(buckets).float()
        return buckets, torch.where(known, frequency * rarity, 0.0)

    def hashes(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Hash every n-gram of texts to a bucket, 0 where there is none, and to a check byte from 1 to 255."""
        config = self.config
        if attention_mask is not None:
            input_ids = torch.where(attention_mask.bool(), input_ids, config.space_token_id)
        longest = config.char_ngrams[1] if config.char_ngrams else 1
        # A word has a space at either end; further ones let every size of window start at every character.
        ids = nn.functional.pad(input_ids.long(), (1, longest), value=config.space_token_id)
        space = ids == config.space_token_id
        unknown = ids == (-1 if config.unk_token_id is None else config.unk_token_id)
        lengths = []
        if config.sep_token_id is not None:
            ends = ids == config.sep_token_id
            space = space | ends
            number = ends.cumsum(1).clamp_max(_TEXTS)  # of the text that a letter is in
            # A letter of the second text is another one than in the first, so that all its n-grams are others. And
            # each text of several has its length, which tells texts apart whose n-grams are all too rare to count.
            ids = torch.where(space, config.space_token_id, ids + (number << _LETTER_BITS))
            lengths = [(_fold((number + 1) * _MULTIPLIER), ~space & (number[:, -1:] > 0))]
        found = self._char_ngrams(ids, space, unknown) if config.char_ngrams else []
        found += self._word_ngrams(ids, space, unknown) if config.word_ngrams else []
        found += lengths
        hashes = torch.cat([torch.where(valid, value, -1) for value, valid in found], 1)
        mixed = hashes * _MULTIPLIER + _SEED
        buckets = (mixed >> 16 & _LOW) % (config.num_buckets - 1) + 1
        checks = _fold(hashes * _STEP + _SEED) % _CHECKS + 1
        return torch.where(hashes >= 0, buckets, 0).int(), checks.to(torch.uint8)

    def _char_ngrams(self, ids: Tensor, space: Tensor, unknown: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For every size, the hash of the window at every place, and whether it is an n-gram of a word."""
        low, high = self.config.char_ngrams
        width = ids.shape[1] - high
        value = torch.full_like(ids[:, :width], _SEED)
        inside = ~unknown[:, :width]
        found = []
        for size in range(1, high + 1):
            last = slice(size - 1, size - 1 + width)
            value = _fold(value * _MULTIPLIER + (ids[:, last] + 1) * _STEP)
            if size > 1:
                inside = inside & ~unknown[:, last]
            if size > 2:  # spaces may stand at the ends of a window only
                inside = inside & ~space[:, size - 2 : size - 2 + width]
            if size >= low:
                blank = space[:, :width] & space[:, last] if size < 3 else torch.zeros_like(inside)
                found.append((value, inside & ~blank))
        return found

    def _word_ngrams(self, ids: Tensor, space: Tensor, unknown: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The hashes of words and of pairs of neighbors, in order, and which places hold one."""
        places = torch.arange(ids.shape[1], device=ids.device)
        # The space before each character's word: the places of all spaces, and of each character the last one's number.
        number = space.long().cumsum(1) - 1  # a text begins with a space
        target = torch.where(space, number, ids.shape[1] - 1)
        before = torch.zeros_like(ids).scatter(1, target, places.expand_as(ids)).gather(1, number)
        # A word's hash is the sum of its characters', each mixed with its place: a difference of two running sums.
        letters = _fold(_fold((ids + 1) * _STEP + (places - before) * _MULTIPLIER) * _MULTIPLIER)
        sums = torch.where(space, 0, letters).cumsum(1)
        strange = unknown.long().cumsum(1)
        word = _fold((sums - sums.gather(1, before)) & _LOW)
        valid = strange == strange.gather(1, before)
        # One place a word in place of one a character; a last one takes what is no word's end.
        most = ids.shape[1] // 2
        ends = ~space & nn.functional.pad(space[:, 1:], (0, 1), value=True)
        target = torch.where(ends, ends.long().cumsum(1) - 1, most)
        empty = torch.full((ids.shape[0], most + 1), -1, dtype=ids.dtype, device=ids.device)
        words = empty.scatter(1, target, torch.where(valid, word, -1))[:, :most]
        found = [(_fold(words.clamp_min(0) * _MULTIPLIER + _STEP), words >= 0)]
        if self.config.word_ngrams == 2:
            left, right = words[:, :-1], words[:, 1:]
            pair = _fold(_fold(left.clamp_min(0) * _MULTIPLIER + 2 * _STEP) * _MULTIPLIER + right.clamp_min(0))
            found.append((pair, (left >= 0) & (right >= 0)))
        return found

    @torch.no_grad()
    def adopt(self, words: Sequence[str], vectors: Tensor, weights: Tensor) -> None:
        """Know these n-grams alone, by their vectors `(words, embedding_size)` and weights `(words,)`.

        Of those that share a bucket, the first one counts. For ids that are code points; a word must not be longer than
        the longest n-gram.
        """
        low, high = self.config.char_ngrams
        letters = code_points(words, high)
        buckets, checks = self.hashes(letters, letters != 0)
        sizes = (letters != 0).sum(1, keepdim=True)
        columns = (sizes - low) * (high + 1) + 1  # of every size, the window that begins after the space in front
        buckets, checks = (found.gather(1, columns)[:, 0] for found in (buckets.long(), checks))
        first = torch.full((self.config.num_buckets,), len(words))
        first = first.scatter_reduce(0, buckets, torch.arange(len(words)), "amin")
        first[0] = len(words)  # what is no n-gram
        owned = (first < len(words)).nonzero()[:, 0]
        self.idf.zero_()
        self.owners.zero_()
        table = torch.zeros(self.config.num_buckets, self.config.embedding_size)
        for target, values in ((self.idf, weights), (self.owners, checks), (table, vectors)):
            target[owned] = values[first[owned]].to(target)
        if self.config.coded:
            self.embeddings.fill(table)
        else:
            self.embeddings.weight.copy_(table)

    def quantize(self) -> None:
        """Bring the embeddings to one byte a number; they can't be trained after that."""
        vectors = self.embeddings.weight.detach()
        self.config.coded = True
        self.embeddings = CodedTable(*vectors.shape).to(vectors)
        self.embeddings.fill(vectors)

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        """Learn from all training texts, as for `forward`, which n-grams there are and how rare each is; once, before.

        A bucket's owner is the n-gram that most texts have, if `min_count` do; its weight is scikit-learn's smoothed
        inverse document frequency, ln((1 + texts) / (1 + texts with it)) + 1.
        """
        texts, waiting = 0, []
        keys = counts = torch.empty(0, dtype=torch.long)
        for input_ids, attention_mask in batches:
            buckets, checks = self.hashes(input_ids, attention_mask)
            found = (buckets.long() << 8 | checks).sort(1).values
            first = nn.functional.pad(found[:, 1:] != found[:, :-1], (1, 0), value=True)
            waiting.append(found[first & (found > _CHECKS)].cpu())
            texts += len(input_ids)
            if sum(map(len, waiting)) > 1 << 23:  # 64 MiB
                keys, counts, waiting = *_add_up(keys, counts, waiting), []
        keys, counts = _add_up(keys, counts, waiting)
        # Keys ascend, and stable sorting keeps the order of equals: ties fall the same way everywhere.
        order = counts.argsort(descending=True, stable=True)
        order = order[(keys[order] >> 8).argsort(stable=True)]
        keys, counts = keys[order], counts[order]
        buckets = keys >> 8
        chosen = nn.functional.pad(buckets[1:] != buckets[:-1], (1, 0), value=True) & (counts >= self.config.min_count)
        rarity = ((1 + texts) / (1 + counts.double())).log() + 1
        self.idf.zero_()
        self.idf[buckets[chosen]] = rarity[chosen].to(self.idf)
        self.owners.zero_()
        self.owners[buckets[chosen]] = (keys[chosen] & 255).to(self.owners)


def _add_up(keys: Tensor, counts: Tensor, waiting: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Count `waiting` on top of counted keys; keys come back unique and in ascending order."""
    every = torch.cat([keys, *waiting])
    weights = torch.cat([counts, torch.ones(len(every) - len(keys), dtype=torch.long)])
    keys, places = every.unique(return_inverse=True)
    return keys, torch.zeros(len(keys), dtype=torch.long).index_add(0, places, weights)


def _sorted(values: Tensor) -> Tensor:
    """Sort rows; NumPy does it in a tenth of the time, for it keeps no places."""
    if is_traced() or values.device.type != "cpu":
        return values.sort(1).values
    return torch.from_numpy(np.sort(values.numpy(), axis=1))


def _fold(value: Tensor) -> Tensor:
    """Mix the high half of a number below 2**62 into the low one, below 2**31."""
    return (value ^ (value >> 31)) & _LOW


register_encoder(NGramConfig, NGramModel)
