"""The "dialect-translation" pipeline, which travels with a translator's checkpoint: a text in, a text out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers import Pipeline
from transformers.utils import cached_file

from .dialect_seq2seq import Seq2SeqRewriter
from .dialect_translator import RULES_FILE, DialectTranslator


class DialectTranslationPipeline(Pipeline):
    """Translate texts between regions and the standard language.

    Call it with a text, or an iterable of texts.

    Args:
        to: a region of the checkpoint, or `standard`, the default.
        source: what the texts are in; found out text by text by default.
        by: `vote` of the checkpoint's rules and its seq2seq, the default, or `rules` or `model` alone.

    Returns:
        a dict a text, with `text` and `source`, or `error`; a list for several.

    Example:
        >>> translate = pipeline("dialect-translation", model="runs/dialect", trust_remote_code=True)  # doctest: +SKIP
        >>> translate("밥 먹는디", to="standard")["text"]  # doctest: +SKIP
        '밥 먹는데'
    """

    _load_processor = False
    _load_tokenizer = True
    _load_image_processor = False
    _load_feature_extractor = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.model.config
        rules = cached_file(config._name_or_path, RULES_FILE, revision=getattr(config, "_commit_hash", None))
        self.translator = DialectTranslator.from_json(rules, Seq2SeqRewriter(self.model, self.tokenizer))

    def __call__(self, inputs: str | Iterable[str | None], **options: Any) -> Any:
        """Translate; see the class."""
        if inputs is None or isinstance(inputs, str):
            return next(self.preprocess([inputs], **options))
        return list(self.preprocess(inputs, **options))

    def preprocess(self, inputs: Iterable[str | None], to: str = "standard", **options: Any) -> Any:
        """Translate texts one by one, as they are asked for."""
        return self.translator(inputs, to, **options)

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict, dict, dict]:
        return parameters, {}, {}

    def _forward(self, inputs: Any) -> Any:
        return inputs

    def postprocess(self, outputs: Any) -> Any:
        """Give answers out as they are."""
        return outputs
