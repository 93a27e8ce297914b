"""`MultiHeadProcessor`: from rows of text and pictures to the model's tensors, the same way in training and in service.

It is saved with the checkpoint, so that whoever loads the model prepares input exactly as its training did.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    BatchFeature,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.dynamic_module_utils import custom_object_save
from transformers.image_utils import SizeDict
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from .checked_files import check_configs, check_tokenizer_of
from .image_preparation import letterbox, open_image
from .named_encoders import locate
from .optional_cleaning import TextCleaner
from .shared import check_choice, check_fields, keep_imports
from .text_preparation import ENCODING, TextPreparation

TRUNCATIONS = ("head", "tail", "middle")
MAX_LENGTH, MAX_PREFIX = 100_000, 1_000
"""Tokens that a text may be cut to, and characters that may stand before or between texts."""
PICTURE_PIXELS = 1_000_000
"""Larger pictures are turned into the model's pixels one by one, so that a batch holds nothing larger."""

_COUNT_FROM_PADDING = re.compile("roberta|camembert|data2vec-text|longformer|ibert|luke|mpnet|xmod")
"""Encoders whose first position is that after padding's id, so that RoBERTa reads two tokens fewer than it has."""

_SAVED_BESIDES = ("has_tokenizer", "processor_class", "auto_map", "chat_template", "count")
"""What processor_config.json holds beside the options; the count is that of an ensemble's processors."""


class RowError(ValueError):
    """A row that can't be classified; `row` is its position in the batch and the message says why."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row}: {reason}")
        self.row = row
        self.reason = reason


class MultiHeadProcessor(TextPreparation, ProcessorMixin):
    """Prepare text and pictures for `MultiHeadForClassification`.

    Args:
        image_processor: any transformers image processor; None for a text-only model.
        tokenizer: any transformers tokenizer; None for an image-only model.
        max_length: tokens a text is cut to, special tokens included; 3 or more.
        encoder: how the text encoder is named whose tokenizer this is, see `named_encoders.name_encoder`: the tokenizer
            is then not saved; None to save it.
        truncation: what is read of a longer text: its `head`, its `tail`, or `middle`: half of either, without what
            lies between (Sun et al. 2019, arXiv:1905.05583).
        text_prefix: put before every text, such as "query: " for E5 encoders.
        text_cleaning: preset or steps of `text_cleaning.TextCleaner`, run on every text before the prefix; None for
            none. Kept, and saved, as the list of steps.
        text_separator: put between the texts of a row that has several, such as " [SEP] ".
        letterbox: keep a picture's shape and fill up with white, instead of squeezing it into the encoder's.

    Example:
        >>> processor = MultiHeadProcessor.from_pretrained("runs/tour-mini")  # doctest: +SKIP
        >>> batch = processor(text=["해 뜨는 바닷가"], images=["photo.jpg"])  # doctest: +SKIP
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        max_length: int = 128,
        text_prefix: str = "",
        text_cleaning: str | list[Any] | None = None,
        text_separator: str = " ",
        letterbox: bool = False,
        truncation: str = "head",
        encoder: dict[str, str] | None = None,
    ) -> None:
        check_choice("truncation", truncation, TRUNCATIONS)
        if tokenizer is None and image_processor is None:
            raise ValueError("a processor needs a tokenizer, an image processor, or both.")
        if not isinstance(max_length, int) or not 3 <= max_length <= MAX_LENGTH:
            raise ValueError(
                f"max_length must be 3 or more (two special tokens and one more), and {MAX_LENGTH:,} at most, "
                f"not {max_length!r:.40}."
            )
        for name, value in (("text_prefix", text_prefix), ("text_separator", text_separator)):
            if not isinstance(value, str) or len(value) > MAX_PREFIX:
                raise ValueError(f"{name} must be a text of at most {MAX_PREFIX:,} characters.")
        if getattr(image_processor, "do_resize", True) is False:
            raise ValueError("an image processor must bring pictures to one size: its do_resize is false.")
        # Not through super().__init__: it insists on every part, and a text-only model has no image processor.
        self.chat_template = None
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.max_length, self.text_prefix, self.text_separator = max_length, text_prefix, text_separator
        self.cleaner = TextCleaner(text_cleaning) if text_cleaning else None
        self.letterbox, self.truncation, self.encoder = letterbox, truncation, encoder
        if tokenizer is not None:
            if truncation == "middle" and not tokenizer.is_fast:
                raise ValueError("truncation: middle needs a tokenizer with a tokenizer.json: take head or tail.")
            tokenizer.truncation_side = "left" if truncation == "tail" else "right"

    @classmethod
    def from_encoders(
        cls,
        text: str | None = None,
        vision: str | None = None,
        max_length: int = 128,
        text_prefix: str = "",
        image_size: int | None = None,
        text_cleaning: str | list[Any] | None = None,
        letterbox: bool = False,
        truncation: str = "head",
    ) -> MultiHeadProcessor:
        """Build the processor that fits `MultiHeadForClassification.from_encoders(text, vision)`.

        Args:
            text: Hub id or folder of the text encoder, or None.
            vision: Hub id or folder of the vision encoder, or None.
            max_length: tokens a text is cut to; lowered to what the tokenizer allows, and the encoder's positions.
            text_prefix: put before every text.
            image_size: pixels a side that pictures are resized to, for encoders that read any size; the encoder's own
                by default. A smaller one is faster by its square.
            text_cleaning: see the class.
            letterbox: see the class.
            truncation: see the class.

        Raises:
            ValueError: if the tokenizer has pieces that the encoder does not know.
            ImportError: if the tokenizer needs sentencepiece, which is not installed.
        """
        image_processor = AutoImageProcessor.from_pretrained(vision, trust_remote_code=False) if vision else None
        if image_processor is not None and letterbox and image_size is None:
            size = getattr(image_processor, "crop_size", None) or image_processor.size
            image_size = size["height"] or size["shortest_edge"]
        if image_processor is not None and image_size is not None:
            if hasattr(image_processor, "crop_pct"):  # ConvNeXt's takes no other
                image_processor.size = SizeDict(shortest_edge=image_size)
                image_processor.crop_pct = 1.0 if letterbox else image_processor.crop_pct
            else:
                image_processor.size = SizeDict(height=image_size, width=image_size)
            if getattr(image_processor, "crop_size", None):
                image_processor.crop_size = {"height": image_size, "width": image_size}
        tokenizer = _load_tokenizer(text) if text else None
        separator = " "
        if tokenizer is not None:
            positions = _count_positions(text, tokenizer)
            max_length = int(min(max_length, tokenizer.model_max_length, positions))
            separator = separator_of(tokenizer)
        cleaning = text_cleaning if text else None
        return cls(image_processor, tokenizer, max_length, text_prefix, cleaning, separator, letterbox, truncation)

    @property
    def text_cleaning(self) -> list[Any] | None:
        """The steps that every text goes through, presets spelled out; None for none."""
        return self.cleaner.steps if self.cleaner is not None else None

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that a call returns."""
        text = [*self.tokenizer.model_input_names, "text_present"] if self.tokenizer is not None else []
        return text + (["pixel_values", "image_present"] if self.image_processor is not None else [])

    def __call__(
        self,
        text: str | Sequence[str | None] | None = None,
        images: Any = None,
        padding: bool | str = True,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Prepare a batch.

        Args:
            text: one text or one a row; None, NaN or blank where a row has none.
            images: one picture or one a row, each as `open_image` takes it; None where a row has none.
            padding: as for the tokenizer; True pads to the longest row.
            return_tensors: only "pt".

        Returns:
            `input_ids`, `attention_mask` (and what else the tokenizer gives), `text_present`, `pixel_values`,
            `image_present`. The text or image tensors are left out if no row has any.

        Raises:
            RowError: if a row has nothing this processor can read, or its picture can't be used.
        """
        if text is None and images is None:
            raise ValueError("there is no input: give text, images or both.")
        texts = [text] if isinstance(text, str) else list(text) if text is not None else None
        if images is not None and not isinstance(images, list | tuple):
            images = [images]
        texts = [None] * len(images) if texts is None else texts
        images = [None] * len(texts) if images is None else images
        if len(texts) != len(images):
            raise ValueError(
                f"text has {len(texts)} rows and images have {len(images)}; give one of each for every row."
            )
        prepared = []
        for row, (one_text, one_image) in enumerate(zip(texts, images, strict=True)):
            try:
                prepared.append(self.settle(self.prepare_row(one_text, one_image)))
            except ValueError as error:
                raise RowError(row, str(error)) from None
        return BatchFeature(self.to_tensors(prepared, padding), tensor_type=return_tensors)

    def prepare_row(self, text: Any = None, image: Any = None) -> tuple[str | None, Any]:
        """Clean the text and open the picture of one row.

        Returns the clean text and the RGB picture, None for what is not there or what this model does not read.
        ValueError if there is nothing this model can read, or text or picture can't be used.
        """
        row = self.read(text, None if self.image_processor is None or is_absent(image) else open_image(image))
        if row is not None:
            return row
        if self.cleaner is not None and isinstance(text, str) and text.strip():
            raise ValueError(f"text_cleaning leaves nothing of the text {text.strip()[:40]!r}.")
        parts = ["text"] * (self.tokenizer is not None) + ["image"] * (self.image_processor is not None)
        raise ValueError(f"there is no {' or '.join(parts)} to classify.")

    def read(self, text: Any, image: Any) -> tuple[str | None, Any] | None:
        """Clean the text of a row, and take its opened picture; None if there is nothing this model can read."""
        clean = self.clean(text) if self.tokenizer is not None else None
        seen = image if self.image_processor is not None else None
        if seen is not None and self.letterbox:
            size = self.image_processor.size
            seen = letterbox(seen, size["height"] or size["shortest_edge"], size["width"] or size["shortest_edge"])
        return None if clean is None and seen is None else (clean, seen)

    def settle(self, row: tuple[str | None, Any]) -> tuple[str | None, Any]:
        """Replace a large picture of a row from `prepare_row` by the pixels that the model sees of it."""
        text, image = row
        if image is None or image.width * image.height <= PICTURE_PIXELS:
            return row
        return text, self.image_processor([image], return_tensors="pt")["pixel_values"][0]

    def to_tensors(self, rows: list[tuple[str | None, Any]], padding: bool | str = True) -> dict[str, torch.Tensor]:
        """Turn rows from `prepare_row`, settled or not, into the model's tensors; see `__call__` for which."""
        texts, images = [text for text, _ in rows], [image for _, image in rows]
        data: dict[str, torch.Tensor] = {}
        has_text, has_image = (torch.tensor([one is not None for one in side]) for side in (texts, images))
        if has_text.any():
            data.update(self._tokenize([self.text_prefix + self.shorten(text or "") for text in texts], padding))
        if has_image.any():
            # One blank pixel grid of the right shape stands in for missing pictures; the model never reads it.
            opened = [image for image in images if not (image is None or isinstance(image, torch.Tensor))]
            made = iter(self.image_processor(opened, return_tensors="pt")["pixel_values"] if opened else ())
            found = torch.stack([i if isinstance(i, torch.Tensor) else next(made) for i in images if i is not None])
            data["pixel_values"] = found.new_zeros(len(images), *found.shape[1:])
            data["pixel_values"][has_image] = found
        if self.tokenizer is not None and self.image_processor is not None:
            data |= {"text_present": has_text, "image_present": has_image}
        return data

    def _tokenize(self, texts: list[str], padding: bool | str) -> dict[str, torch.Tensor]:
        """Tokenize a batch.

        A tokenizer's call spends more time on wrapping what its backend found than the backend on finding it, half of
        all where the encoder is small: what is asked for here, always the same, is taken from the backend directly.
        """
        tokenizer, names = self.tokenizer, self.tokenizer.model_input_names
        stock = getattr(type(tokenizer), "_encode_plus", None) is PreTrainedTokenizerFast._encode_plus
        if padding is not True or not stock or not set(names) <= set(ENCODING):
            options = {"truncation": True, "max_length": self.max_length, "padding": padding}
            return dict(tokenizer(texts, **options, return_tensors="pt"))
        return {name: torch.from_numpy(values) for name, values in self.encode(texts, names).items()}

    @property
    def backend(self) -> Tokenizer | None:  # noqa: D102
        return self.tokenizer.backend_tokenizer if self.tokenizer.is_fast else None

    def _cut_and_fill(self) -> None:
        self.tokenizer.set_truncation_and_padding(
            PaddingStrategy.LONGEST, TruncationStrategy.LONGEST_FIRST, self.max_length, 0, None, None
        )

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Save tokenizer, image processor and options into one folder, loadable with `AutoProcessor`.

        `push_to_hub` also pushes the folder, with what else is given (`repo_id`, `token` and the like).
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        # ProcessorMixin.save_pretrained asks every part to save itself and fails on a part that is None.
        custom_object_save(self, folder, config=self)
        keep_imports(folder, "optional_cleaning", {"text_cleaning"} if self.cleaner is not None else ())
        self.save_parts(folder)
        self.to_json_file(folder / "processor_config.json")
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)
        return [str(folder / "processor_config.json")]

    def save_parts(self, folder: Path) -> None:
        """Save what has files of its own."""
        if self.tokenizer is not None and self.encoder is None:
            self.tokenizer.save_pretrained(folder)

    def to_dict(self) -> dict[str, Any]:
        """Serialize all but the tokenizer, which has files of its own."""
        result = {
            "processor_class": type(self).__name__,
            "has_tokenizer": self.tokenizer is not None,
            "max_length": self.max_length,
            "text_prefix": self.text_prefix,
            "text_separator": self.text_separator,
        }
        if self.letterbox:
            result["letterbox"] = True
        if self.truncation != "head":
            result["truncation"] = self.truncation
        if self.encoder is not None:
            result["encoder"] = self.encoder
        if self.cleaner is not None:
            result["text_cleaning"] = self.cleaner.steps
        if self.image_processor is not None:
            preparation = self.image_processor.to_dict()
            preparation.pop("auto_map", None)  # as of a tokenizer
            result["image_processor"] = preparation
        return result | ({"auto_map": self.auto_map} if hasattr(self, "auto_map") else {})

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: str, processor_dict: dict | None = None, **kwargs: Any
    ) -> list:
        source, has = pretrained_model_name_or_path, processor_dict or {}
        if "has_tokenizer" not in has:  # else prefix, length and image preparation would silently differ
            raise OSError(f"{source} has no processor_config.json of a multi-head checkpoint.")
        known = (*inspect.signature(cls.__init__).parameters, *_SAVED_BESIDES)
        check_fields(f"{source}: processor_config.json", has, known)
        check_configs(source, **kwargs)
        kwargs["trust_remote_code"] = False  # both parts are stock classes; left out, it would be asked for
        pictures = AutoImageProcessor.from_pretrained(source, **kwargs) if "image_processor" in has else None
        if not has.pop("has_tokenizer"):
            return [pictures, None]
        if has.get("encoder"):
            source, origin = locate(has["encoder"], kwargs.get("token"))
            return [pictures, _load_tokenizer(source, **origin)]
        return [pictures, AutoTokenizer.from_pretrained(source, **kwargs)]


def separator_of(tokenizer: Any) -> str:
    """What to put between the texts of a row: the sign that the tokenizer has for it."""
    return f" {tokenizer.sep_token or tokenizer.eos_token or '/'} "


def _load_tokenizer(text: str, **origin: Any) -> Any:
    check_tokenizer_of(text, **origin)
    try:
        tokenizer = AutoTokenizer.from_pretrained(text, trust_remote_code=False, **origin)
        tokenizer.init_kwargs.pop("auto_map", None)  # code that did not run need not travel
        return tokenizer
    except Exception as error:  # which names tiktoken where a SentencePiece model can't be read
        named = any(package in str(error).lower() for package in ("sentencepiece", "tiktoken"))
        if not named or importlib.util.find_spec("sentencepiece") is not None:
            raise
        raise ImportError(f"the tokenizer of {text} is a SentencePiece model: pip install sentencepiece") from None


def _count_positions(text: str, tokenizer: Any) -> float:
    try:
        config = AutoConfig.from_pretrained(text, trust_remote_code=False)
    except (OSError, ValueError):  # a tokenizer alone, or an encoder whose code comes with it
        return math.inf
    return count_positions(getattr(config, "text_config", None) or config, tokenizer, text)


def count_positions(config: Any, tokenizer: Any, text: str) -> float:
    """How many tokens an encoder can tell the places of; ValueError if the tokenizer is not the encoder's.

    Args:
        config: the text encoder's.
        tokenizer: that is to read for it.
        text: what they are called.
    """
    known, pieces = getattr(config, "vocab_size", None), 1 + max(tokenizer.get_vocab().values())
    if known is not None and pieces > known:
        raise ValueError(
            f"{text}: the tokenizer has {pieces:,} pieces and the encoder knows {known:,}; put the tokenizer that the "
            "encoder was trained with there, or resize the encoder's embeddings."
        )
    positions = getattr(config, "max_position_embeddings", None) or 0
    if _COUNT_FROM_PADDING.search(config.model_type):
        positions -= config.pad_token_id + 1
    return positions if positions > 0 else math.inf


def is_absent(image: Any) -> bool:
    """Tell whether a row has no picture: None, an empty path, or a missing value of a table."""
    if image is None or (isinstance(image, float) and math.isnan(image)) or (isinstance(image, str) and not image):
        return True
    return isinstance(image, dict) and image.get("bytes") is None and not image.get("path")


MultiHeadProcessor.register_for_auto_class()
