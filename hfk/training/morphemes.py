"""The start of an encoder from `kiwi-morphemes`: its tokenizer, and the vectors of the tokenizer's pieces.

The vocabulary begins with the pieces that the training texts have, numbers and foreign words of theirs among them, and
goes on with the most frequent ones of the package up to the size that is asked for. So an encoder can give weights of
their own to the first, and a checkpoint keeps no more rows than it needs. Leaving pieces out that no training text uses
leaves the training texts cut as they were.
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


@cache
def package() -> tuple[PreTrainedTokenizerFast, Tensor]:
    """Load the package's tokenizer and its vectors, float32 `(pieces, 512)`; once."""
    folder = prepare(MORPHEMES)
    vectors = MorphemesModel.from_pretrained(folder).get_input_embeddings().trained.weight.detach()
    return AutoTokenizer.from_pretrained(folder), vectors


def morpheme_tokenizer(texts: list[str], vocab_size: int = 30000, keep_spaces: bool = False) -> PreTrainedTokenizerFast:
    """Make a tokenizer of the package's pieces for a run's training texts.

    Args:
        texts: the training texts, prepared.
        vocab_size: most pieces.
        keep_spaces: give spaces between words as pieces too, with id 2.

    Raises:
        ImportError: if the package is not installed.
    """
    backend = package()[0].backend_tokenizer
    scores = dict(json.loads(backend.to_str())["model"]["vocab"][_SPECIAL:])
    normal = map(backend.normalizer.normalize_str, texts)
    words = Counter(word for text in normal for word in set(_WHOLE_WORDS.findall(text)))
    rarest = min(scores.values())
    scores |= {word: rarest for word, count in words.items() if count > 1 and word not in scores}
    every = build_word_tokenizer(list(scores), list(scores.values()))
    used = Counter(number for ids in every(texts)["input_ids"] for number in ids if number >= _SPECIAL)
    pieces = list(scores)
    seen = [pieces[number - _SPECIAL] for number, _ in sorted(used.items(), key=lambda item: (-item[1], item[0]))]
    known = set(seen)
    others = [piece for piece in pieces if piece not in known and scores[piece] > rarest]
    chosen = [*[" "] * keep_spaces, *seen, *others][: vocab_size - _SPECIAL]
    return build_word_tokenizer(chosen, [scores.get(piece, 0.0) for piece in chosen], keep_spaces)


def morpheme_vectors(tokenizer: PreTrainedTokenizerFast, size: int) -> Tensor:
    """Give the package's vectors of a tokenizer's pieces, centered.

    Args:
        tokenizer: of `morpheme_tokenizer`; a piece that the package lacks has the vector of its first character.
        size: width of a vector; below the package's 512, as many principal components.

    Returns:
        float32 `(pieces, size)`; zeros for padding and spaces.

    Raises:
        ValueError: if the package's vectors are narrower than that.
    """
    source, table = package()
    if size > table.shape[1]:
        raise ValueError(f"{MORPHEMES} has vectors of {table.shape[1]} numbers, and embedding_size is {size}.")
    table = table - table.mean(0)
    if size < table.shape[1]:
        table = table @ torch.linalg.eigh(table.T @ table).eigenvectors[:, -size:].flip(1)
    known = source.get_vocab()
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    rows = [known.get(piece, known.get(piece[0], source.unk_token_id)) for piece in pieces]
    vectors = table[rows]
    vectors[[tokenizer.pad_token_id, *(number for number, piece in enumerate(pieces) if piece == " ")]] = 0.0
    return vectors
