"""Tokenizers trained on a task's own texts, for encoders that start from nothing: what `hfk tokenizer` calls.

Every kind ends as an ordinary `PreTrainedTokenizerFast` folder. The same texts give the same tokenizer, except for
`unigram`: the library's trainer goes through its words in an order of chance, so that sums and ties fall differently
each time. Its WordPiece trainer numbers letters in such an order too; here they are numbered before it starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from ..models.processing_multihead import MultiHeadProcessor
from ..tasks import load_task

KINDS = ("wordpiece", "bpe", "unigram", "character", "jamo")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NAMES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


def train_tokenizer(
    texts: Iterable[str], kind: str, vocab_size: int = 8000, lowercase: bool = False
) -> PreTrainedTokenizerFast:
    """Train a tokenizer.

    Args:
        texts: the training texts, prepared as they will be when it is used.
        kind: `wordpiece` or `bpe` (pieces of words, merged by frequency), `unigram` (pieces of words, chosen by
            likelihood), `character` (every character and space), or `jamo` (every letter of Hangul, likewise).
        vocab_size: most pieces, five special ones included. `character` and `jamo` need as many as there are characters
            and leave out the rarest if that is more; the others give a third of it to single characters at most.
        lowercase: make no difference between capital and small letters.

    Returns:
        the tokenizer. `wordpiece`, `bpe` and `unigram` put `[CLS]` before and `[SEP]` after a text.

    Raises:
        ValueError: for an unknown kind, a `vocab_size` that is too small, or texts without any letter.

    Example:
        >>> tokenizer = train_tokenizer(["해 뜨는 바닷가", "바다"], "character")
        >>> tokenizer.tokenize("바다 해")
        ['바', '다', ' ', '해']
    """
    if kind not in KINDS:
        raise ValueError(f"tokenizer kind {kind!r} is not one of {', '.join(KINDS)}.")
    if vocab_size < 32:
        raise ValueError(f"vocab_size must be 32 or more, not {vocab_size}.")
    steps = [normalizers.NFD() if kind == "jamo" else normalizers.NFC()] + [normalizers.Lowercase()] * lowercase
    normalizer = normalizers.Sequence(steps)
    clean = [normalizer.normalize_str(text) for text in texts]
    whole = kind in ("character", "jamo")
    limit = vocab_size - len(SPECIAL) if whole else vocab_size // 3
    letters = _letters(clean, limit, keep_space=whole)
    if not letters - {" "}:
        raise ValueError("there are no texts to train a tokenizer on.")
    if whole:
        # Without merges, byte-pair encoding leaves every character alone, and is the quickest model to do so.
        vocabulary = {piece: number for number, piece in enumerate((*SPECIAL, *sorted(letters)))}
        raw = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]", cache_capacity=0))
    else:
        raw = _train_pieces(clean, letters, kind, vocab_size)
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
    """Train a tokenizer on a task's training texts, save it, and see how it does on the others.

    Args:
        task: name of a built-in task, or path of a task YAML.
        output_dir: folder to make; `AutoTokenizer` loads it.
        kind: as for `train_tokenizer`.
        vocab_size: as for `train_tokenizer`.
        data: data file of a built-in task.
        lowercase: as for `train_tokenizer`.

    Returns:
        `pieces`: how many there are; and of the held-out texts (the training texts, if there are no others) `split`,
        `tokens` a text, and `unknown`, the share of tokens that are not known.

    Raises:
        ValueError: if the task has no texts, or as `train_tokenizer`.
    """
    loaded = load_task(task, **({"data": data} if data else {}))
    if not loaded.text:
        raise ValueError(f"task {loaded.name!r} has no text to train a tokenizer on.")
    rows = loaded.load()
    texts = {name: clean_texts(part["text"], MultiHeadProcessor(tokenizer=BLANK)) for name, part in rows.items()}
    if "train" not in texts:
        raise ValueError(f"task {loaded.name!r} has no train split; it has: {', '.join(texts)}.")
    tokenizer = train_tokenizer(texts["train"], kind, vocab_size, lowercase)
    tokenizer.save_pretrained(output_dir)
    split = next((name for name in ("validation", "test") if name in texts), "train")
    encoded = tokenizer(texts[split], add_special_tokens=False)["input_ids"]
    count = sum(map(len, encoded))
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in encoded)
    return {
        "pieces": len(tokenizer),
        "split": split,
        "tokens": count / max(len(encoded), 1),
        "unknown": unknown / max(count, 1),
    }


def clean_texts(texts: Iterable[str | None], processor: MultiHeadProcessor) -> list[str]:
    """Prepare texts as training and service will, without tokenizing them; empty ones are left out."""
    found = (processor.clean(text) for text in texts)
    return [processor.text_prefix + text for text in found if text is not None]


BLANK = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
"""Stands for the tokenizer of a processor that only has texts to clean."""


def _letters(texts: list[str], limit: int, keep_space: bool) -> set[str]:
    """The most frequent characters, ties by code point; the space is kept or left out whatever its count."""
    counts = Counter()
    for text in texts:
        counts.update(text)
    counts.pop(" ", None)
    ranked = sorted(counts, key=lambda letter: (-counts[letter], letter))
    return {*ranked[: limit - keep_space], *([" "] if keep_space else [])}


def _train_pieces(texts: list[str], letters: set[str], kind: str, vocab_size: int) -> Tokenizer:
    """Train a model of pieces of words; characters outside `letters` are not known to it."""
    rare = {ord(letter): " " for letter in set().union(*map(set, texts)) - letters - {" "}}
    texts = [text.translate(rare) for text in texts]
    options: dict[str, Any] = {"vocab_size": vocab_size, "show_progress": False}
    if kind == "wordpiece":
        splitter = pre_tokenizers.BertPreTokenizer()
        words = {word for text in texts for word, _ in splitter.pre_tokenize_str(text)}
        inner = {f"##{letter}" for word in words for letter in word[1:]}
        draft = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        draft.pre_tokenizer = splitter
        # Special tokens are numbered first and in this order. Otherwise inner letters are numbered as a hash table
        # comes across them, and pairs of like frequency are merged in the order of their numbers.
        start = [*SPECIAL, *sorted({word[0] for word in words}), *sorted(inner)]
        draft.train_from_iterator(texts, trainers.WordPieceTrainer(special_tokens=start, **options))
        # The draft takes letters for special tokens; a new one takes its vocabulary alone.
        raw = Tokenizer(models.WordPiece(draft.get_vocab(), unk_token="[UNK]", max_input_chars_per_word=200))
        raw.pre_tokenizer = splitter
        return raw
    options["special_tokens"] = list(SPECIAL)
    if kind == "bpe":
        raw, trainer = Tokenizer(models.BPE(unk_token="[UNK]")), trainers.BpeTrainer(**options)
    else:
        raw, trainer = Tokenizer(models.Unigram()), trainers.UnigramTrainer(unk_token="[UNK]", **options)
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.train_from_iterator(texts, trainer)
    return raw
