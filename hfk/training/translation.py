"""A translator's Trainer, built from a recipe and a task: a stock transformers seq2seq and its tokenizer.

The model starts from nothing on letters (syllables, jamo or bytes), or from a Hub checkpoint. What is saved beside it:
the rules that were learned from the same rows (`models.dialect_rules`), and the code of a pipeline for both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)

from ..evaluation.translation import Translations, fit_judge
from ..hub.training_checkpoints import push_checkpoint, write_training_card
from ..inference.translator import DialectProcessor
from ..models.checked_files import check_encoder
from ..models.dialect_seq2seq import Seq2SeqRewriter, pieces, prompt_of, tag_of
from ..models.dialect_translator import WAYS, DialectTranslator
from ..models.shared import check_choice
from ..runs.recipe import MultiHeadTrainingArguments, Recipe, convert, unknown_option
from ..runs.run import scored_split
from ..tasks import Task
from ..tasks.dialect import STANDARD
from .callbacks import Clock, LogLine
from .saving import SavingTrainer
from .techniques import Technique

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"}


@dataclass
class Seq2Seq:
    """What a recipe says under `translation:`."""

    base: str = "bart"  # a model type that starts from nothing (bart, t5, marian), or a Hub id or folder
    config: dict = field(default_factory=dict)  # of a model that starts from nothing: its configuration's options
    tokens: str = "syllable"  # of a model that starts from nothing: syllable, jamo or byte
    words: int = 3  # of a prompt; 0 for whole sentences
    unchanged: float = 1.0  # of the pieces that stay as they are, the share that is trained on

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Seq2Seq:
        """Check a recipe's options; ValueError."""
        known = {part.name: type(part.default) for part in fields(cls)} | {"config": dict}
        for name in options or {}:
            if name not in known:
                raise unknown_option(name, known, "translation")
        made = cls(**{name: convert(name, value, known[name]) for name, value in (options or {}).items()})
        check_choice("translation: tokens", made.tokens, ("syllable", "jamo", "byte"))
        if made.words < 0 or not 0 <= made.unchanged <= 1:
            raise ValueError("translation: words must be 0 or more, and unchanged from 0 to 1.")
        return made


@dataclass
class TranslationArguments(MultiHeadTrainingArguments, Seq2SeqTrainingArguments):
    """The recipe's training arguments, for a `Seq2SeqTrainer`."""


def build_trainer(
    recipe: Recipe,
    techniques: Sequence[Technique],
    task: Task,
    rows: Mapping[str, Dataset],
    checkpoint: str | None = None,
    **kwargs: Any,
) -> TranslationTrainer:
    """Build the Trainer of a recipe and a loaded task; arguments as for `classification.build_trainer`."""
    if recipe.techniques:
        raise ValueError(f"{next(iter(recipe.techniques))!r} is for classifiers; task {task.name!r} translates.")
    if find_spec("sacrebleu") is None:
        raise ImportError('a translator is scored by sacrebleu: pip install "hfk[translation]".')
    options = Seq2Seq.of(recipe.translation)
    args = TranslationArguments(**{part.name: getattr(recipe.arguments, part.name) for part in fields(recipe.arguments)
                                   if part.init})  # fmt: skip
    if "validation" not in rows:
        args.eval_strategy, args.load_best_model_at_end = "no", False
    args.metric_for_best_model, args.greater_is_better = "loss", False
    into = rows["train"].filter(lambda row: row["to"] == STANDARD)
    rules = DialectTranslator.learn(zip(into["source"], into["text"], into["target"], strict=True))
    set_seed(args.seed)
    model, tokenizer = make_model(options, rules.regions, rows["train"])
    learned = {name: rows[name] for name in ("train", "validation") if name in rows}
    encoded = {name: encode(part, tokenizer, options, recipe.max_length) for name, part in learned.items()}
    return TranslationTrainer(model, args, DialectProcessor(tokenizer, rules), rows, encoded, **kwargs)


class TranslationTrainer(SavingTrainer, Seq2SeqTrainer):
    """Train a seq2seq, and let it and the rules translate the scored split.

    Args:
        model: the model.
        args: the training arguments.
        processor: its tokenizer, and the rules learned from the same rows.
        rows: split → rows of a `tasks.translation.TranslationTask`.
        encoded: split → prompts and labels as token ids, of `train` and, if there is one, `validation`.
        **kwargs: passed to `transformers.Seq2SeqTrainer`.
    """

    heads = ()  # a report is of translations

    def __init__(
        self,
        model: PreTrainedModel,
        args: TranslationArguments,
        processor: DialectProcessor,
        rows: Mapping[str, Dataset],
        encoded: Mapping[str, Dataset],
        callbacks: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        self.processor, self.splits = processor, dict(rows)
        super().__init__(
            model,
            args,
            train_dataset=encoded["train"],
            eval_dataset=encoded.get("validation"),
            data_collator=DataCollatorForSeq2Seq(processor.tokenizer, model),
            processing_class=processor.tokenizer,
            callbacks=[Clock(), *callbacks],
            **kwargs,
        )
        if args.disable_tqdm:
            self.remove_callback(PrinterCallback)
            self.add_callback(LogLine())

    def finish(self) -> None:
        """Say in the configuration where the pipeline's code is."""
        self.processor.attach(self.model)

    @property
    def scored(self) -> str:
        """The split that a report is about: test, or else validation, or else train."""
        return scored_split(self.splits)

    def predictions(self, split: str | None = None) -> Translations:
        """Return what becomes of a split's texts: as they are, by the rules, and by the model."""
        rows = self.splits[split or self.scored]
        ids, sources, to, texts, targets = (rows[name][:] for name in ("id", "source", "to", "text", "target"))
        translator = DialectTranslator(
            self.processor.translator.rules, Seq2SeqRewriter(self.model, self.processor.tokenizer)
        )
        made = {"copy": texts} | {way: translator.rewrite(texts, sources, to, way) for way in WAYS}
        learned = self.splits["train"]
        judge = fit_judge([*learned["text"], *learned["target"]], [*learned["source"], *learned["to"]])
        return Translations(ids, sources, to, texts, targets, made, judge)

    def facts(self) -> dict[str, Any]:
        """Return what the report says of the training."""
        seconds = next(entry["train_seconds"] for entry in reversed(self.state.log_history) if "train_seconds" in entry)
        rows = self.state.global_step * self.args.train_batch_size * self.args.gradient_accumulation_steps
        return {
            "seed": self.args.seed,
            "parameters": self.model.num_parameters(),
            "train_seconds": seconds,
            "train_rows_per_second": round(rows / max(seconds, 1e-9), 1),
        }

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write hfk's card for what is about to be pushed, unless the run folder has one."""
        write_training_card(self)

    _push_from_checkpoint = push_checkpoint


def make_model(
    options: Seq2Seq, regions: Sequence[str], rows: Dataset
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Make the model and its tokenizer, with a tag for each of the regions."""
    tags = [tag_of(region) for region in regions]
    if options.base in CONFIG_MAPPING:
        tokenizer = make_tokenizer([*rows["text"], *rows["target"]], options.tokens, tags)
        pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
        ids = {"pad_token_id": pad, "bos_token_id": pad, "eos_token_id": end, "decoder_start_token_id": pad}
        defaults = {"scale_embedding": True} if options.base == "bart" else {}
        config = AutoConfig.for_model(options.base, vocab_size=len(tokenizer), **ids, **defaults | options.config)
        config.forced_eos_token_id = None
        model = AutoModelForSeq2SeqLM.from_config(config)
        model.generation_config.update(**ids, forced_eos_token_id=None)
        if options.base == "bart":
            start_as_copier(model)
    else:
        check_encoder(options.base)
        tokenizer = AutoTokenizer.from_pretrained(options.base, trust_remote_code=False)
        tokenizer.add_special_tokens({"additional_special_tokens": tags})
        model = AutoModelForSeq2SeqLM.from_pretrained(options.base, trust_remote_code=False, use_safetensors=True)
        model.resize_token_embeddings(max(len(tokenizer), model.config.vocab_size))
    model.config.dialect = {"words": options.words, "regions": list(regions)}
    return model, tokenizer


@torch.no_grad()
def start_as_copier(model: PreTrainedModel, sharpness: float = 3.0, gain: float = 3.0) -> None:
    """Give a BART first weights by which it copies its input, letter by letter, from the second token on.

    A dialect differs from the standard language in few letters, and that the others stay is what a random start learns
    last. So some dimensions hold letters, the others positions, as waves, alike in encoder and decoder. Heads of the
    first cross-attention ask for the position after their own, which is a rotation of its waves, and hand on the letter
    that stands there. All of it is learned on.

    Args:
        model: `BartForConditionalGeneration`, of two heads or more; changed in place.
        sharpness: the larger, the less the heads look beside the place they ask for.
        gain: how much the letter counts beside the one that was written last.
    """
    config, encoder, decoder = model.config, model.model.encoder, model.model.decoder
    width = config.d_model // config.decoder_attention_heads
    copying = max(1, 2 * config.decoder_attention_heads // 3)
    letters, waves = copying * width, (config.d_model - copying * width) // 2
    embeddings = model.model.shared.weight
    embeddings.zero_()[:, :letters].normal_(0, config.d_model**-0.5)
    embeddings[config.pad_token_id] = 0
    # From one position to the next; all but half a turn at the most, so that no two positions are alike.
    turn = math.pi * 0.97 * (torch.arange(waves) + 0.5) / waves
    for part in (encoder, decoder):
        table = part.embed_positions.weight.zero_()
        angles = torch.arange(len(table) - part.embed_positions.offset)[:, None] * turn
        size = part.embed_tokens.embed_scale * config.d_model**-0.5
        table[part.embed_positions.offset :, letters:] = size * torch.cat([angles.cos(), angles.sin()], dim=1)
    attention = decoder.layers[0].encoder_attn
    query, key, value, output = (
        getattr(attention, f"{name}_proj").weight.normal_(0, config.init_std) for name in ("q", "k", "v", "out")
    )
    for head in range(copying):
        rows = slice(head * width, (head + 1) * width)
        step = max(1, 2 * waves // width)
        own = torch.arange(waves)[head % step :: step][: width // 2]  # each head knows some of the waves
        cosine, sine = letters + own, letters + waves + own
        first = torch.arange(len(own)) + rows.start
        second = first + width // 2
        query[rows], key[rows], value[rows], output[:, rows] = 0, 0, 0, 0
        key[first, cosine] = key[second, sine] = 1
        query[first, cosine] = query[second, sine] = sharpness * turn[own].cos()
        query[second, cosine], query[first, sine] = sharpness * turn[own].sin(), -sharpness * turn[own].sin()
        value[rows, rows] = torch.eye(width)
        output[rows, rows] = gain * torch.eye(width)


def make_tokenizer(texts: Sequence[str], tokens: str, tags: Sequence[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer of the letters of some texts, for `AutoTokenizer`.

    Example:
        >>> make_tokenizer(["집이 가게"], "syllable", ["<jeju>"]).tokenize("<jeju>가게 집")
        ['<jeju>', '가', '게', ' ', '집']
    """
    normalizer = normalizers.NFD() if tokens == "jamo" else normalizers.NFC()
    letters = {letter for text in texts for letter in normalizer.normalize_str(text)} | {" ", "|"}
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet()) if tokens == "byte" else sorted(letters)
    vocabulary = {piece: place for place, piece in enumerate([*SPECIAL.values(), *tags, *pieces])}
    # Without merges, byte-pair encoding leaves every character alone, and is the quickest model to do so.
    raw = Tokenizer(models.BPE(vocabulary, [], unk_token=SPECIAL["unk_token"], cache_capacity=0))
    raw.normalizer, raw.decoder = normalizer, decoders.Fuse()
    if tokens == "byte":
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        raw.decoder = decoders.ByteLevel()
    end = SPECIAL["eos_token"]
    raw.post_processor = processors.TemplateProcessing(f"$A {end}", special_tokens=[(end, vocabulary[end])])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        additional_special_tokens=list(tags),
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **SPECIAL,
    )


def encode(rows: Dataset, tokenizer: PreTrainedTokenizerFast, options: Seq2Seq, max_length: int) -> Dataset:
    """Turn pairs into prompts and labels; what is longer than `max_length` tokens is left out."""
    draw = torch.Generator().manual_seed(0)
    prompts, answers = [], []
    for text, target, to in zip(rows["text"], rows["target"], rows["to"], strict=True):
        words = text.split()
        for start, end, meant in pieces(words, target.split(), options.words):
            if words[start:end] == meant and torch.rand((), generator=draw) >= options.unchanged:
                continue
            prompts.append(prompt_of(words, start, end, to))
            answers.append(" ".join(meant))
    ids = {"input_ids": tokenizer(prompts)["input_ids"], "labels": tokenizer(answers)["input_ids"]}
    return Dataset.from_dict(ids).filter(lambda row: max(len(row["input_ids"]), len(row["labels"])) <= max_length)
