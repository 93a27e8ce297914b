"""Text encoders that start from nothing: `text_encoder: ngram`, `recurrent` or `textcnn` in a recipe.

Their tokenizer is trained on the run's own training texts, and what else can be learned before the first step is: how
rare each n-gram is, or word vectors. What comes of it is an encoder folder like any other inside the run's folder, so
that the rest of the house, several processes and resumed runs included, need not know how it was made.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase, set_seed

from ..backbones.registry import FROM_SCRATCH
from ..models.modeling_ngram import NGramConfig, NGramModel
from ..models.modeling_recurrent import RecurrentConfig
from ..models.modeling_textcnn import TextCNNConfig
from ..models.processing_multihead import MultiHeadProcessor
from ..runs.recipe import Recipe
from .tokenizer_training import BLANK, clean_texts, train_tokenizer

ENCODERS: dict[str, type[PreTrainedConfig]] = dict(
    zip(FROM_SCRATCH, (NGramConfig, RecurrentConfig, TextCNNConfig), strict=True)
)
FOLDER = "text_encoder"
"""Where in a run's folder the encoder waits for the first step; a finished run needs it no more."""

TOKENIZERS = {"ngram": {"kind": "character", "vocab_size": 16000, "lowercase": True}}
"""What `tokenizer` says of each encoder's by default; `kind: bpe` where nothing is said."""

_FITTING_ROWS = 512


def make_encoder(recipe: Recipe, rows: Dataset, anew: bool) -> str:
    """Make the encoder folder of a recipe that starts from nothing, in the folder of its run.

    Args:
        recipe: gives `text_encoder`, `text_config`, `tokenizer`, `embeddings`, how texts are prepared, the run's
            folder, the seed, and whether this process writes; the others find the folder made.
        rows: the training rows.
        anew: False takes what an interrupted run has left.

    Returns:
        the encoder's folder.

    Raises:
        ValueError: for a wrong option.
        ImportError: if `embeddings` needs a package that is not installed.
    """
    args = recipe.arguments
    folder = Path(args.output_dir)
    target = folder / FOLDER
    if not args.should_save or (not anew and (target / "config.json").is_file()):
        return str(target)
    processor = MultiHeadProcessor(
        tokenizer=BLANK,
        max_length=recipe.max_length,
        text_prefix=recipe.text_prefix,
        text_cleaning=recipe.text_cleaning,
    )
    texts = clean_texts(rows["text"], processor)
    if not texts:
        raise ValueError(f"text_encoder {recipe.text_encoder!r} starts from nothing, and no training row has a text.")
    tokenizer = _make_tokenizer(recipe, texts)
    config = _make_config(recipe, tokenizer)
    set_seed(args.seed)
    model = AutoModel.from_config(config)
    if isinstance(model, NGramModel):
        if recipe.embeddings != "random":
            raise ValueError("an ngram encoder has no embeddings of words: leave embeddings out.")
        model.fit(_batches(texts, tokenizer, recipe.max_length))
    elif recipe.embeddings == "fasttext":
        vectors = train_vectors(texts, tokenizer, config.embedding_size, args.seed)
        weight = model.get_input_embeddings().weight
        with torch.no_grad():
            weight.copy_(vectors / vectors.std() * config.initializer_range)
            weight[tokenizer.pad_token_id] = 0.0
    part = folder / f".{FOLDER}.part"
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(part, target)
    return str(target)


def _make_tokenizer(recipe: Recipe, texts: list[str]) -> PreTrainedTokenizerBase:
    wanted = recipe.tokenizer
    if isinstance(wanted, str):
        if not Path(wanted).is_dir():
            raise ValueError(
                f"tokenizer {wanted!r} is no folder; name one that `hfk tokenizer` made, or say what to train, such as "
                "{kind: bpe, vocab_size: 8000}."
            )
        return AutoTokenizer.from_pretrained(wanted)
    options = {"kind": "bpe"} | TOKENIZERS.get(recipe.text_encoder, {}) | (wanted or {})
    _check("tokenizer", options, ("kind", "vocab_size", "lowercase"))
    return train_tokenizer(texts, **options)


def _make_config(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """The encoder's configuration: the recipe's `text_config`, and what the tokenizer decides."""
    kind = ENCODERS[recipe.text_encoder]
    known = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    options = dict(recipe.text_config or {})
    if kind is NGramConfig:
        known["unk_token_id"] = tokenizer.unk_token_id
        known["space_token_id"] = tokenizer.convert_tokens_to_ids(" ")
        if known["space_token_id"] in (None, tokenizer.unk_token_id):
            raise ValueError("an ngram encoder needs a tokenizer of single characters: kind character or jamo.")
    names = [field.name for field in dataclasses.fields(kind) if field.name in kind.__annotations__]
    _check("text_config", options, [name for name in names if name not in known])
    try:
        return kind(**options, **known)
    except (TypeError, ValueError) as error:
        raise ValueError(f"text_config: {' '.join(str(error).split())}") from None


def _check(where: str, options: dict[str, Any], known: list[str] | tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" It has: {', '.join(known)}."
            raise ValueError(f"{where} has no option {name!r}.{hint}")


def _batches(texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[tuple[Tensor, Tensor]]:
    texts = sorted(texts, key=len)  # for little padding; what is counted has no order
    for start in range(0, len(texts), _FITTING_ROWS):
        batch = tokenizer(
            texts[start : start + _FITTING_ROWS],
            truncation=True,
            max_length=max_length,
            padding=True,
            return_tensors="pt",
        )
        yield batch["input_ids"], batch["attention_mask"]


def train_vectors(texts: list[str], tokenizer: PreTrainedTokenizerBase, size: int, seed: int = 42) -> Tensor:
    """Train fastText vectors (Bojanowski et al. 2017, arXiv:1607.04606) for a tokenizer's pieces.

    Skip-grams with a window of 3 over the texts' pieces; a piece's vector is the mean of its own and its 1- to
    4-grams', so that rare pieces, and those that no text has, get theirs from what they are written with.

    Args:
        texts: the training texts, prepared.
        tokenizer: splits them.
        size: width of a vector.
        seed: of the initial vectors.

    Returns:
        float32 `(pieces, size)`, in the order of the tokenizer's ids.

    Raises:
        ImportError: if gensim is not installed.
    """
    try:
        from gensim.models import FastText
    except ImportError:
        raise ImportError('embeddings: fasttext needs gensim: pip install "hfk[fasttext]"') from None
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    sentences = [[pieces[i] for i in ids] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    model = FastText(
        sentences,
        vector_size=size,
        window=3,
        min_count=1,
        sg=1,
        epochs=10,
        min_n=1,
        max_n=4,
        bucket=50_000,  # the default of two million takes 800 MB
        workers=1,  # several finish in an order of chance
        seed=seed,
    )
    return torch.stack([torch.from_numpy(model.wv[piece].copy()) for piece in pieces])
