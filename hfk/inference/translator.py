"""Translators from checkpoints: loading one by hfk's own code, and what a trained one leaves in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import cached_file

from ..files import write_atomic
from ..models.checked_files import check_configs, check_weights
from ..models.dialect_seq2seq import Seq2SeqRewriter
from ..models.dialect_translator import RULES_FILE, DialectTranslator
from ..models.pipeline_dialect import DialectTranslationPipeline

PIPELINE = "dialect-translation"


def is_translator(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's configuration, read as JSON, is a translator's."""
    return PIPELINE in (config.get("custom_pipelines") or {})


def load_translator(checkpoint: str | Path, by: str | None = None, revision: str | None = None) -> DialectTranslator:
    """Load a translator's checkpoint; no code is taken from it.

    Args:
        checkpoint: folder or Hub id.
        by: `rules` leaves the seq2seq where it is; it is loaded too for `model`, `vote` and by default.
        revision: commit, tag or branch of a Hub checkpoint.

    Raises:
        ValueError: if there is no such checkpoint, or it is of another kind.

    Example:
        >>> translator = load_translator("runs/dialect-translation")  # doctest: +SKIP
        >>> next(translator(["밥 먹는디"], to="standard"))["text"]  # doctest: +SKIP
        '밥 먹는데'
    """
    name, origin = str(checkpoint), {"revision": revision or "main"}
    try:
        check_configs(name, **origin)
        config = PreTrainedConfig.get_config_dict(name, **origin)[0]
        if not is_translator(config):
            kind = f"a checkpoint of type {config['model_type']!r}" if "model_type" in config else "no checkpoint"
            raise ValueError(f"{name} is {kind}: give a translator's folder or Hub id.")
        rules, rewriter = cached_file(name, RULES_FILE, **origin), None
        if by != "rules":
            check_weights(name, **origin)
            origin["trust_remote_code"] = False
            model = AutoModelForSeq2SeqLM.from_pretrained(name, use_safetensors=True, **origin)
            rewriter = Seq2SeqRewriter(model, AutoTokenizer.from_pretrained(name, **origin))
    except (OSError, HFValidationError) as error:
        raise ValueError(f"{name!r} is neither a translator's folder nor a Hub checkpoint that can be read.") from error
    return DialectTranslator.from_json(rules, rewriter)


class DialectProcessor:
    """What a trained translator needs beside its weights.

    Args:
        tokenizer: of the seq2seq.
        translator: with the rules that were learned from the same rows.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, translator: DialectTranslator) -> None:
        self.tokenizer, self.translator = tokenizer, translator
        self.text_prefix, self.max_length = "", tokenizer.model_max_length

    def attach(self, model: PreTrainedModel) -> None:
        """Say in a model's configuration where the pipeline is."""
        impl = f"{DialectTranslationPipeline.__module__.rpartition('.')[2]}.{DialectTranslationPipeline.__name__}"
        model.config.custom_pipelines = {PIPELINE: {"impl": impl, "pt": ["AutoModelForSeq2SeqLM"]}}

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the tokenizer, the rules and the pipeline's code."""
        self.tokenizer.save_pretrained(folder)
        write_atomic(Path(folder) / RULES_FILE, self.translator.to_json())
        custom_object_save(DialectTranslationPipeline, folder)
