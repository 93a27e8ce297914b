"""The start of an encoder from `kiwi-morphemes`: its tokenizer, and the vectors of the tokenizer's pieces.

The vocabulary begins with the pieces that the training texts have, numbers and foreign words among them, and goes on
with the package's most frequent ones: an encoder can give weights of their own to the first, and a checkpoint keeps no
more rows than it needs.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ..backbones.registry import prepare
from ..backbones.unigram import build_word_tokenizer
from ..models.modeling_morphemes import MorphemesModel

MORPHEMES = "kiwi-morphemes"
_WHOLE_WORDS = re.compile("[0-9]{2,}|[A-Za-z]{2,}|[一-鿿]{2,}")  # one piece each, if two texts have them
_SPECIAL = 2  # [PAD] and [UNK]
_SYLLABLE = 0.3  # weight of an n-gram of one letter


@cache
def package() -> tuple[PreTrainedTokenizerFast, Tensor]:
    """Load the package's tokenizer and its vectors, float32 `(pieces, 512)`; once."""
    folder = prepare(MORPHEMES)
    model = MorphemesModel.from_pretrained(folder, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return tokenizer, model.get_input_embeddings().trained.weight.detach()


def morpheme_tokenizer(texts: list[str], vocab_size: int = 30000, keep_spaces: bool = False) -> PreTrainedTokenizerFast:
    """Make a tokenizer of the package's pieces for a run's training texts, prepared; ImportError without the package.

    Args:
        texts: the texts.
        vocab_size: most pieces.
        keep_spaces: give spaces between words as pieces too, with id 2.
    """
    backend = package()[0].backend_tokenizer
    scores = dict(json.loads(backend.to_str())["model"]["vocab"][_SPECIAL:])
    normal = map(backend.normalizer.normalize_str, texts)
    words = Counter(word for text in normal for word in dict.fromkeys(_WHOLE_WORDS.findall(text)))
    rarest = min(scores.values())
    scores |= {word: rarest for word, count in words.items() if count > 1 and word not in scores}
    every = build_word_tokenizer(list(scores), list(scores.values()))
    used = Counter(number for ids in every(texts)["input_ids"] for number in ids)
    seen = [every.convert_ids_to_tokens(number) for number, _ in used.most_common() if number >= _SPECIAL]
    others = [piece for piece, score in scores.items() if score > rarest]  # characters that no text has are unknown
    pieces = list(dict.fromkeys([*[" "] * keep_spaces, *seen, *others]))[: vocab_size - _SPECIAL]
    return build_word_tokenizer(pieces, [scores.get(piece, 0.0) for piece in pieces], keep_spaces)


def morpheme_vectors(tokenizer: PreTrainedTokenizerFast, size: int) -> Tensor:
    """Give the package's vectors of a tokenizer's pieces, centered: float32 `(pieces, size)`.

    A piece that the package lacks has the vector of its first character; padding and spaces have zeros.

    Args:
        tokenizer: of `morpheme_tokenizer`.
        size: width of a vector; below the package's 512, as many principal components. ValueError above.
    """
    source, table = package()[0], _components(size)
    known = source.get_vocab()
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    vectors = table[[known.get(piece, known.get(piece[0], source.unk_token_id)) for piece in pieces]]
    vectors[[number for number, piece in enumerate(pieces) if piece in (tokenizer.pad_token, " ")]] = 0.0
    return vectors


def morpheme_ngrams(size: int, longest: int) -> tuple[list[str], Tensor, Tensor]:
    """Give the package's pieces as n-grams: which, frequent ones first, their vectors `(pieces, size)` and weights.

    A text is then the sum of whatever it holds, wherever words would be cut. Weights grow with the length, since of
    pieces that overlap the longest means most; single syllables mean little.

    Args:
        size: width of a vector, as for `morpheme_vectors`.
        longest: letters of the longest ones.
    """
    source = package()[0]
    numbers = [number for number in range(_SPECIAL, len(source))]
    pieces = source.convert_ids_to_tokens(numbers)
    kept = [(piece, number) for piece, number in zip(pieces, numbers, strict=True) if len(piece) <= longest]
    weights = torch.tensor([len(piece) if len(piece) > 1 else _SYLLABLE for piece, _ in kept])
    return [piece for piece, _ in kept], _components(size)[[number for _, number in kept]], weights


@cache
def _components(size: int) -> Tensor:
    """Center the package's vectors, and keep as many principal components."""
    table = package()[1]
    if size > table.shape[1]:
        raise ValueError(f"{MORPHEMES} has vectors of {table.shape[1]} numbers, and embedding_size is {size}.")
    table = table - table.mean(0)
    if size < table.shape[1]:
        table = table @ torch.linalg.eigh(table.T @ table).eigenvectors[:, -size:].flip(1)
    return table
