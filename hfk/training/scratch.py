"""Encoders that start from nothing, as `backbones.registry.FROM_SCRATCH` names them.

A text encoder's tokenizer is trained on the run's own training texts (`hfk tokenizer` trains one alone), and what else
can be learned before the first step is: how rare each n-gram is, or word vectors. What comes of it is an encoder folder
like any other inside the run's folder, so that the rest of the house, several processes and resumed runs included, need
not know how it was made. The same texts give the same tokenizer.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    set_seed,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from ..backbones.registry import NOTICES, keep_prompt, prepare, prompt_of, resolve
from ..files import replacing
from ..models.modeling_cnn import CNNConfig, MLPConfig
from ..models.modeling_morphemes import MorphemesConfig, MorphemesModel, PieceTable
from ..models.modeling_ngram import NGramConfig, NGramModel
from ..models.modeling_recurrent import RecurrentConfig
from ..models.modeling_side_by_side import (
    SideBySideConfig,
    SideBySideModel,
    SideBySideVisionConfig,
    SideBySideVisionModel,
)
from ..models.modeling_textcnn import TextCNNConfig
from ..models.processing_multihead import MultiHeadProcessor, separator_of
from ..runs.recipe import Recipe, unknown_option
from ..tasks import load_task
from .morphemes import MORPHEMES, morpheme_ngrams, morpheme_tokenizer, morpheme_vectors

_CONFIGS = (
    MorphemesConfig, NGramConfig, RecurrentConfig, SideBySideConfig, TextCNNConfig, CNNConfig, MLPConfig,
    SideBySideVisionConfig,
)  # fmt: skip
ENCODERS = {kind.model_type: kind for kind in _CONFIGS}
FOLDERS = {"text": "text_encoder", "vision": "vision_encoder"}
"""Where in a run's folder an encoder waits for the first step; a finished run needs it no more."""

_NGRAM_TOKENIZER = {"kind": "character", "vocab_size": 16000, "lowercase": True}

KINDS = ("bpe", "character", "word")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NAMES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
_FITTING_ROWS = 512
_WORDS = 0.7  # how far n-grams spread texts, relative to the encoder beside them; benchmarks/few_shot.md
_BLANK = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
"""Stands for the tokenizer of a processor that only has texts to clean."""


def make_encoder(recipe: Recipe, side: str, rows: Dataset, anew: bool) -> str:
    """Make the encoder folder of a recipe that starts from nothing, in the folder of its run, and return its path.

    `side` is `text` or `vision`. Processes that do not save find the folder made. `anew=False` takes what an
    interrupted run has left.
    """
    args = recipe.arguments
    target = Path(args.output_dir) / FOLDERS[side]
    if not args.should_save or (not anew and (target / "config.json").is_file()):
        return str(target)
    model, reader = _text_encoder(recipe, rows) if side == "text" else _vision_encoder(recipe)
    with replacing(target) as part:
        model.save_pretrained(part)
        reader.save_pretrained(part)
        if isinstance(model, SideBySideModel):
            keep_prompt(part, prompt_of(recipe.text_config["encoder"]))
    for name in NOTICES if side == "text" and recipe.embeddings == MORPHEMES else ():
        shutil.copy(prepare(MORPHEMES) / name, args.output_dir)
    return str(target)


def _vision_encoder(recipe: Recipe) -> tuple[PreTrainedModel, Any]:
    if recipe.vision_encoder == SideBySideVisionConfig.model_type:
        return _vision_encoders(recipe)
    known = {} if recipe.image_size is None else {"image_size": recipe.image_size}
    config = _configure("vision_config", ENCODERS[recipe.vision_encoder], recipe.vision_config, known)
    set_seed(recipe.arguments.seed)
    size = {"height": config.image_size, "width": config.image_size}
    return AutoModel.from_config(config), ViTImageProcessorPil(size=size)


def _vision_encoders(recipe: Recipe) -> tuple[PreTrainedModel, Any]:
    """Several pretrained encoders, and the image processor of the first, at the size of the largest."""
    options = dict(recipe.vision_config or {})
    names = options.pop("encoders", None)
    if not isinstance(names, list) or len(names) < 2 or options:
        raise ValueError("side-by-side-vision needs vision_config: {encoders: [NAME, NAME]}, two or more.")
    folders = [resolve(name, "vision") for name in names]
    parts = [AutoModel.from_pretrained(folder) for folder in folders]
    whole = [MultiHeadProcessor.from_encoders(vision=folder, image_size=recipe.image_size) for folder in folders]
    readers = [processor.image_processor for processor in whole]
    shown = [getattr(reader, "crop_size", None) or reader.size for reader in readers]
    sizes = [size["height"] or size["shortest_edge"] for size in shown]
    config = SideBySideVisionConfig(
        encoders=[part.config for part in parts],
        sizes=sizes,
        means=[list(reader.image_mean) for reader in readers],
        deviations=[list(reader.image_std) for reader in readers],
    )
    processor = MultiHeadProcessor.from_encoders(vision=folders[0], image_size=max(sizes))
    return SideBySideVisionModel(config, parts).eval(), processor.image_processor


def _text_encoder(recipe: Recipe, rows: Dataset) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    if recipe.text_encoder == SideBySideConfig.model_type:
        return _side_by_side(recipe, rows)
    if recipe.text_encoder == "ngram" and recipe.embeddings != "random":
        raise ValueError("an ngram encoder has no embeddings of words: leave embeddings out.")
    prefix = recipe.text_prefix or ""
    texts = _clean_texts(rows["text"], _processor(recipe, _BLANK, prefix))
    if not texts:
        raise ValueError(f"text_encoder {recipe.text_encoder!r} starts from nothing, and no training row has a text.")
    tokenizer = _make_tokenizer(recipe, texts)
    config = _text_config(recipe, tokenizer, texts)
    processor = _processor(recipe, tokenizer, prefix, separator_of(tokenizer))
    set_seed(recipe.arguments.seed)
    model = AutoModel.from_config(config)
    if isinstance(model, NGramModel):
        model.fit(_read(rows, processor))
    elif recipe.embeddings != "random":
        if recipe.embeddings == MORPHEMES:
            vectors = morpheme_vectors(tokenizer, config.embedding_size)
        else:
            vectors = train_vectors(texts, tokenizer, config.embedding_size, recipe.arguments.seed)
        vectors *= config.initializer_range / vectors.std()
        vectors[tokenizer.pad_token_id] = 0.0
        table = model.get_input_embeddings()
        if isinstance(table, PieceTable):
            table.fill(vectors)
        else:
            table.weight.data.copy_(vectors)
    if isinstance(model, MorphemesModel) and model.ngrams is not None:
        special = set(tokenizer.all_special_tokens)
        pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        model.learn_letters(["" if piece in special else piece.replace("▁", " ") for piece in pieces])
        spelled = (model.spell(*batch) for batch in _read(rows, processor))
        model.ngrams.fit((letters, letters != 0) for letters in spelled)
    return model, tokenizer


def _side_by_side(recipe: Recipe, rows: Dataset) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A pretrained encoder with its tokenizer, and n-grams that mean what the package of morphemes says."""
    options = dict(recipe.text_config or {})
    name = options.pop("encoder", None)
    if not isinstance(name, str) or recipe.embeddings != MORPHEMES or recipe.tokenizer is not None:
        raise ValueError(
            "a side-by-side encoder needs text_config: {encoder: NAME}, embeddings: kiwi-morphemes and no tokenizer."
        )
    folder = resolve(name, "text")
    encoder, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    known = {"encoder": encoder.config, "scale": 1.0}
    model = SideBySideModel(_configure("text_config", SideBySideConfig, options, known), encoder).eval()
    (start,), special = tokenizer.tokenize("a"), {None, *tokenizer.all_special_tokens}  # None has no piece
    before = len(tokenizer.convert_tokens_to_string([start]))  # what comes after it begins with a space, or does not
    pieces = tokenizer.convert_ids_to_tokens(range(encoder.config.vocab_size))
    model.learn_letters(
        ["" if piece in special else tokenizer.convert_tokens_to_string([start, piece])[before:] for piece in pieces]
    )
    shape = model.ngrams.config
    model.ngrams.adopt(*morpheme_ngrams(shape.embedding_size, shape.char_ngrams[1]))
    # Both halves are brought to one scale, on which one penalty fits both.
    prefix = prompt_of(folder) if recipe.text_prefix is None else recipe.text_prefix
    some = rows.shuffle(recipe.arguments.seed).select(range(min(len(rows), _FITTING_ROWS)))
    with torch.inference_mode():
        halves = [
            model(*batch).pooler_output
            for batch in _read(some, _processor(recipe, tokenizer, prefix, separator_of(tokenizer)))
        ]
    spread = torch.cat(halves).var(0, correction=0)
    theirs, ours = (half.sum().clamp_min(1e-6) for half in spread.tensor_split([-shape.hidden_size]))
    model.config.scale = _WORDS * float((theirs / ours).sqrt())
    return model, tokenizer


def _make_tokenizer(recipe: Recipe, texts: list[str]) -> PreTrainedTokenizerFast:
    wanted = recipe.tokenizer
    if recipe.embeddings == MORPHEMES:
        if isinstance(wanted, str):
            raise ValueError(f"embeddings: {MORPHEMES} brings its tokenizer: of `tokenizer`, say vocab_size alone.")
        _check("tokenizer", wanted or {}, ("vocab_size",))
        return morpheme_tokenizer(texts, **(wanted or {}), keep_spaces=recipe.text_encoder == "morphemes")
    if isinstance(wanted, str):
        if not Path(wanted).is_dir():
            raise ValueError(
                f"tokenizer {wanted!r} is no folder; name one that `hfk tokenizer` made, or say what to train, such as "
                "{kind: bpe, vocab_size: 8000}."
            )
        return AutoTokenizer.from_pretrained(wanted, trust_remote_code=False)
    options = ({"kind": "bpe"} if recipe.text_encoder != "ngram" else _NGRAM_TOKENIZER) | (wanted or {})
    _check("tokenizer", options, ("kind", "vocab_size", "lowercase"))
    return train_tokenizer(texts, **options)


def _text_config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> PreTrainedConfig:
    """A text encoder's configuration: the recipe's `text_config`, and what the tokenizer decides."""
    kind = ENCODERS[recipe.text_encoder]
    known = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if kind is NGramConfig:
        known["unk_token_id"] = tokenizer.unk_token_id
        known["space_token_id"] = tokenizer.convert_tokens_to_ids(" ")
        known["sep_token_id"] = tokenizer.sep_token_id
        if known["space_token_id"] in (None, tokenizer.unk_token_id):
            raise ValueError("an ngram encoder needs a tokenizer of single characters: kind character.")
    if kind is MorphemesConfig and recipe.embeddings == MORPHEMES:  # its first pieces are those of the texts
        known["num_trained"] = 1 + max(max(ids, default=0) for ids in tokenizer(texts)["input_ids"])
        known["space_token_id"] = tokenizer.convert_tokens_to_ids(" ")
    return _configure("text_config", kind, recipe.text_config, known)


def _configure(
    where: str, kind: type[PreTrainedConfig], options: dict[str, Any] | None, known: dict[str, Any]
) -> PreTrainedConfig:
    """Make a configuration of a recipe's options and of what is known without them."""
    options = dict(options or {})
    names = [field.name for field in dataclasses.fields(kind) if field.name in kind.__annotations__]
    _check(where, options, [name for name in names if name not in known])
    try:
        return kind(**options, **known)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from None


def _check(where: str, options: dict[str, Any], known: list[str] | tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            raise unknown_option(name, known, where)


def _processor(recipe: Recipe, tokenizer: Any, prefix: str, separator: str = " ") -> MultiHeadProcessor:
    """What will prepare the recipe's texts."""
    how = {"text_cleaning": recipe.text_cleaning, "max_length": recipe.max_length, "truncation": recipe.truncation}
    return MultiHeadProcessor(tokenizer=tokenizer, text_prefix=prefix, text_separator=separator, **how)


def _read(rows: Dataset, processor: MultiHeadProcessor) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and mask of the rows' texts, as training and service will read them."""
    texts = sorted(filter(None, map(processor.clean, rows["text"])), key=len)  # for little padding; order is nothing
    for start in range(0, len(texts), _FITTING_ROWS):
        batch = processor.to_tensors([(text, None) for text in texts[start : start + _FITTING_ROWS]])
        yield batch["input_ids"], batch["attention_mask"]


def train_vectors(texts: list[str], tokenizer: PreTrainedTokenizerFast, size: int, seed: int = 42) -> Tensor:
    """Train fastText vectors (Bojanowski et al. 2017, arXiv:1607.04606), one a piece of a tokenizer: `(pieces, size)`.

    Skip-grams with a window of 3 over the texts' pieces; a piece's vector is the mean of its own and its 1- to
    4-grams', so that rare pieces, and those that no text has, get theirs from what they are written with.
    """
    try:
        from gensim.models import FastText
    except ImportError:
        raise ImportError('embeddings: fasttext needs gensim: pip install "hfk[fasttext]"') from None
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    sentences = [[pieces[i] for i in ids] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    # The default of two million buckets takes 800 MB; several workers finish in an order of chance.
    options = {"window": 3, "min_count": 1, "sg": 1, "epochs": 10, "min_n": 1, "max_n": 4, "bucket": 50_000}
    model = FastText(sentences, vector_size=size, workers=1, seed=seed, **options)
    return torch.stack([torch.from_numpy(model.wv[piece].copy()) for piece in pieces])


# ---------------------------------------------------------------------------------------------------------- tokenizers


def train_tokenizer(
    texts: Iterable[str], kind: str, vocab_size: int = 8000, lowercase: bool = False
) -> PreTrainedTokenizerFast:
    """Train a tokenizer.

    Args:
        texts: the training texts, prepared as they will be when it is used.
        kind: `bpe` (pieces of words, merged by frequency; `[CLS]` before and `[SEP]` after a text), `character`
            (every character and space), or `word` (what stands between spaces and punctuation, `[CLS]` before a text).
        vocab_size: most pieces, five special ones included. `character` needs as many as there are characters and
            leaves out the rarest if that is more, as `word` does with words; `bpe` gives a third of it to single
            characters at most.
        lowercase: make no difference between capital and small letters.

    Example:
        >>> tokenizer = train_tokenizer(["해 뜨는 바닷가", "바다"], "character")
        >>> tokenizer.tokenize("바다 해")
        ['바', '다', ' ', '해']
    """
    if kind not in KINDS:
        raise ValueError(f"tokenizer kind {kind!r} is not one of {', '.join(KINDS)}.")
    if vocab_size < 32:
        raise ValueError(f"vocab_size must be 32 or more, not {vocab_size}.")
    normalizer = normalizers.Sequence([normalizers.NFC()] + [normalizers.Lowercase()] * lowercase)
    clean = [normalizer.normalize_str(text) for text in texts]
    counts = Counter("".join(clean))
    counts.pop(" ", None)
    ranked = sorted(counts, key=lambda letter: (-counts[letter], letter))  # ties by code point
    if not ranked:
        raise ValueError("there are no texts to train a tokenizer on.")
    if kind == "character":
        letters = [" ", *ranked[: vocab_size - len(SPECIAL) - 1]]
        # Without merges, byte-pair encoding leaves every character alone, and is the quickest model to do so.
        vocabulary = {piece: number for number, piece in enumerate((*SPECIAL, *sorted(letters)))}
        raw = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]", cache_capacity=0))
    elif kind == "word":
        split = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("removed")])
        counts = Counter(word for text in clean for word, _ in split.pre_tokenize_str(text))
        words = sorted(counts, key=lambda word: (-counts[word], word))[: vocab_size - len(SPECIAL)]
        raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate((*SPECIAL, *words))}, unk_token="[UNK]"))
        raw.pre_tokenizer = split
        raw.post_processor = processors.TemplateProcessing("[CLS] $A", special_tokens=[("[CLS]", 2)])
    else:
        rare = {ord(letter): " " for letter in ranked[vocab_size // 3 :]}  # not known to it
        raw = Tokenizer(models.BPE(unk_token="[UNK]"))
        raw.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, special_tokens=list(SPECIAL))
        raw.train_from_iterator([text.translate(rare) for text in clean], trainer)
        marks = [(token, raw.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        raw.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=marks)
    raw.normalizer = normalizer
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **dict(zip(_NAMES, SPECIAL, strict=True)),
    )


def train_task_tokenizer(
    task: str,
    output_dir: str | Path,
    kind: str,
    vocab_size: int = 8000,
    data: str | None = None,
    lowercase: bool = False,
) -> dict[str, Any]:
    """Train a tokenizer on a task's training texts, save it for `AutoTokenizer`, and see how it does on other texts.

    Returns how many `pieces` there are; and of the held-out texts (the training texts, if there are no others) `split`,
    `tokens` a text, and `unknown`, the share of tokens that are not known. The arguments are those of `load_task` and
    `train_tokenizer`.
    """
    loaded = load_task(task, **({"data": data} if data else {}))
    if not loaded.text:
        raise ValueError(f"task {loaded.name!r} has no text to train a tokenizer on.")
    rows = loaded.load()
    texts = {name: _clean_texts(part["text"], MultiHeadProcessor(tokenizer=_BLANK)) for name, part in rows.items()}
    if "train" not in texts:
        raise ValueError(f"task {loaded.name!r} has no train split; it has: {', '.join(texts)}.")
    tokenizer = train_tokenizer(texts["train"], kind, vocab_size, lowercase)
    tokenizer.save_pretrained(output_dir)
    split = next((name for name in ("validation", "test") if name in texts), "train")
    encoded = tokenizer(texts[split], add_special_tokens=False)["input_ids"]
    count = sum(map(len, encoded))
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in encoded)
    shares = {"tokens": count / max(len(encoded), 1), "unknown": unknown / max(count, 1)}
    return {"pieces": len(tokenizer), "split": split} | shares


def _clean_texts(texts: Iterable[str | None], processor: MultiHeadProcessor) -> list[str]:
    """Prepare texts as training and service will, without tokenizing them; empty ones are left out."""
    found = (processor.clean(text) for text in texts)
    return [processor.text_prefix + text for text in found if text is not None]
