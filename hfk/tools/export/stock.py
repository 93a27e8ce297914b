"""`hfk export`: one head of a text-only or image-only checkpoint as a stock transformers classifier, with equal logits.

Servers and widgets that run no remote code take `AutoModelForSequenceClassification` and its image sibling. Stock text
classifiers read the first token through `dense → activation → linear`; a linear head of hfk fits in where the
activation can be made to do nothing: tanh is linear near 0, so the dense layer scales down and the last one up; ReLU
and GELU do nothing to what is large, so the dense layer adds a bound that layer normalisation guarantees (which costs
digits: those families keep their logits in float32 only). The text preparation (prefix, Unicode normalisation,
whitespace) goes into the tokenizer's own normaliser; HTML entities are not resolved there. Every export is compared
with the checkpoint before it is written.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from tokenizers import Regex, normalizers
from torch import nn
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from ...files import replacing
from ...hub.publishing import check_checkpoint
from ...models.configuration_multihead import HeadConfig
from ...models.heads import Head
from ...models.modeling_multihead import MultiHeadForClassification
from ...models.processing_multihead import MultiHeadProcessor

TASKS = ("sequence-classification", "image-classification")


class TextHead(NamedTuple):
    """Where a stock text classifier keeps its head: the layers before and after its activation.

    Where that is not tanh, `bounded_by` is the LayerNorm of the last layer whose output the head reads.
    """

    dense: str
    activation: str
    out: str
    bounded_by: str | None = None


_ROBERTA = TextHead("classifier.dense", "tanh", "classifier.out_proj")
_ELECTRA = "electra.encoder.layer.{last}.output.LayerNorm"
_DISTILBERT = "distilbert.transformer.layer.{last}.output_layer_norm"
TEXT_HEADS = {
    "albert": TextHead("albert.pooler", "tanh", "classifier"),
    "bert": TextHead("bert.pooler.dense", "tanh", "classifier"),
    "camembert": _ROBERTA,
    "deberta-v2": TextHead("pooler.dense", "gelu", "classifier", "deberta.encoder.layer.{last}.output.LayerNorm"),
    "distilbert": TextHead("pre_classifier", "relu", "classifier", _DISTILBERT),
    "electra": TextHead("classifier.dense", "gelu", "classifier.out_proj", _ELECTRA),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
"""All of them read the first token."""
IMAGE_HEADS = {
    "deit": ("cls", "classifier"),
    "dinov2": ("cls", "classifier"),
    "efficientnet": ("mean", "classifier"),
    "regnet": ("mean", "classifier.1"),
    "resnet": ("mean", "classifier.1"),
    "swin": ("mean", "classifier"),
    "vit": ("cls", "classifier"),
}
"""Pooling and last layer; nothing stands between them."""

# tanh(y) = y - y³/3: at y = x/4096, |x| ≤ 20, the error is below 1e-5 of x; half precision holds it too.
_SCALE = 2.0**12
# gelu(y) = y to the last bit of float32 from y = 8 on.
_MARGIN = 8.0
_SENTENCES = ["해 뜨는 바닷가", " 오래된 절에서\n하룻밤을 보낸 이야기, 그리고 2층 카페 "]
_TOLERANCE = 1e-4


def export(checkpoint: str | Path, output: str | Path, head: str, task: str) -> None:
    """Write one head of a text-only or image-only checkpoint as a stock classifier without hfk or remote code.

    Its labels come as `id2label`; its temperature, or a regression's unit, is folded in. Other heads are left behind,
    and with them the agreement of a hierarchy. ValueError if no stock class gives the same logits; it says what would.
    """
    folder, target = Path(checkpoint), Path(output)
    if task not in TASKS:
        raise ValueError(f"there is no export as {task!r}; use {' or '.join(TASKS)}.")
    check_checkpoint(folder, str(folder))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not empty: choose another output folder.")
    model = MultiHeadForClassification.from_pretrained(folder, dtype=torch.float32).eval()
    processor = MultiHeadProcessor.from_pretrained(folder)
    names = [found.name for found in model.config.heads]
    if head not in names:
        raise ValueError(f"no head is called {head!r}; heads: {', '.join(names)}.")
    text = task == TASKS[0]
    if (model.config.text_config is not None) != text or (model.config.vision_config is None) != text:
        reads = [part for part in ("text", "vision") if getattr(model.config, f"{part}_config") is not None]
        raise ValueError(
            f"{folder} reads {' and '.join(reads).replace('vision', 'images')}: a stock {task} model reads "
            f"{'text' if text else 'images'} alone."
        )
    config = model.config.head(head)
    stock = (_text_classifier if text else _image_classifier)(model, config, model.heads.layers[names.index(head)])
    preparation = _tokenizer(processor) if text else processor.image_processor
    _compare(model, processor, stock, preparation, config)
    with replacing(target) as part:
        stock.save_pretrained(part)
        preparation.save_pretrained(part)
    if config.parent or any(other.parent == head for other in model.config.heads):
        warnings.warn(
            f"head {head!r} is one of a hierarchy: alone it may choose a label outside the others' path.", stacklevel=2
        )


def _text_classifier(model: MultiHeadForClassification, config: HeadConfig, head: Head) -> PreTrainedModel:
    family = model.config.text_config.model_type
    where = _find_place(family, TEXT_HEADS)
    kinds = ("linear", "mlp") if where.activation == "relu" else ("linear",)
    _check_options(family, config, kinds, "text_pooling", model.config.text_pooling, "cls")
    if family == "deberta-v2" and model.config.text_config.pooler_hidden_act != "gelu":
        raise ValueError("this DeBERTa's pooler has another activation than GELU and can't be exported.")
    stock = AutoModelForSequenceClassification.from_config(_stock_config(model.config.text_config, config))
    _take_encoder(stock, model.text_encoder)
    dense, out = stock.get_submodule(where.dense), stock.get_submodule(where.out)
    weight, bias = _last_layer(model, head, config)
    if config.kind == "mlp":
        _fill(dense, *_standardized(model, head.long[0]))
    elif where.activation == "tanh":
        _fill(dense, torch.eye(weight.shape[1]) / _SCALE, torch.zeros(weight.shape[1]))
        weight = weight * _SCALE
    else:
        size = weight.shape[1]
        norm = stock.get_submodule(where.bounded_by.format(last=model.config.text_config.num_hidden_layers - 1))
        # A normalised vector of d numbers has none above √d.
        bound = (norm.weight.abs() * size**0.5 + norm.bias.abs()).detach().double() + _MARGIN
        _fill(dense, torch.eye(size), bound)
        warnings.warn(f"load this {family} model in float32: half precision would blur its logits.", stacklevel=3)
        bias = bias - weight @ bound
    _fill(out, weight, bias)
    return stock.eval()


def _image_classifier(model: MultiHeadForClassification, config: HeadConfig, head: Head) -> PreTrainedModel:
    family = model.config.vision_config.model_type
    pooling, name = _find_place(family, IMAGE_HEADS)
    _check_options(family, config, ("linear",), "image_pooling", model.config.image_pooling, pooling)
    stock = AutoModelForImageClassification.from_config(_stock_config(model.config.vision_config, config))
    _take_encoder(stock, model.vision_encoder)
    weight, bias = _last_layer(model, head, config)
    out = stock.get_submodule(name)
    # DINOv2's classifier reads the patches' mean beside the first token: its weights there are 0.
    _fill(out, nn.functional.pad(weight, (0, out.in_features - weight.shape[1])), bias)
    return stock.eval()


def _find_place(family: str, known: dict[str, Any]) -> Any:
    if family not in known:
        raise ValueError(
            f"{family!r} can't be exported: transformers has no classifier for it that reads what this head reads; "
            f"possible are {', '.join(known)}."
        )
    return known[family]


def _check_options(
    family: str, head: HeadConfig, kinds: tuple[str, ...], option: str, pooling: str, needed: str
) -> None:
    if pooling != needed:
        raise ValueError(
            f"{option}={pooling} can't be exported: a stock {family} classifier pools by {needed}; train with "
            f"{option}={needed}."
        )
    if head.kind not in kinds:
        raise ValueError(
            f"head {head.name!r} is of kind {head.kind}, which a stock {family} classifier has not; train with "
            f"head_kind={' or '.join(kinds)}."
        )


def _stock_config(encoder: Any, head: HeadConfig) -> Any:
    labels = head.labels or [head.name]
    config = type(encoder).from_dict(encoder.to_dict())
    config.architectures = []  # the encoder's own; where a family has two classifiers, the first is meant
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = head.problem if head.problem == "regression" else f"{head.problem}_classification"
    return config


def _take_encoder(stock: PreTrainedModel, encoder: PreTrainedModel) -> None:
    found = stock.base_model.load_state_dict(encoder.state_dict(), strict=False)
    missing = [name for name in found.missing_keys if not name.startswith("pooler")]
    if missing or found.unexpected_keys:
        raise ValueError(
            f"a stock {encoder.config.model_type} classifier has other weights than this encoder, such as "
            f"{[*missing, *found.unexpected_keys][0]}."
        )


def _last_layer(model: MultiHeadForClassification, head: Head, config: HeadConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the head's last layer, with temperature or the target's unit folded in."""
    if head.long is None:
        weight, bias = _standardized(model, head.short)
    else:
        weight, bias = head.long[-1].weight.detach().double(), head.long[-1].bias.detach().double()
    if config.problem == "regression":
        return weight * config.std, bias * config.std + config.mean
    return weight / config.temperature, bias / config.temperature


def _standardized(model: MultiHeadForClassification, layer: nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a head's first layer, with the standardisation before it folded in, in float64."""
    before = model.fusion.standardization
    weight = layer.weight.detach().double() * before.scale.double()
    return weight, layer.bias.detach().double() - weight @ before.mean.double()


@torch.no_grad()
def _fill(layer: nn.Linear, weight: torch.Tensor, bias: torch.Tensor) -> None:
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def _tokenizer(processor: MultiHeadProcessor) -> PreTrainedTokenizerFast:
    """The processor's tokenizer, with its text preparation inside."""
    tokenizer = processor.tokenizer
    if processor.text_cleaning:
        raise ValueError(
            "this checkpoint cleans its texts (text_cleaning), which no stock tokenizer does; train without it."
        )
    if not tokenizer.is_fast:
        raise ValueError("this tokenizer has no tokenizer.json, which stock servers need; it can't be exported.")
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"[\s\p{Cc}]+"), " "), normalizers.Strip()]
    if processor.text_prefix:
        steps.append(normalizers.Prepend(processor.text_prefix))
    backend.normalizer = normalizers.Sequence([*steps, *([backend.normalizer] if backend.normalizer else [])])
    # The plain class reads tokenizer.json as it is; a family's own may build its normaliser anew.
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=processor.max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        model_input_names=tokenizer.model_input_names,
        **tokenizer.special_tokens_map,
    )


@torch.inference_mode()
def _compare(
    model: MultiHeadForClassification,
    processor: MultiHeadProcessor,
    stock: PreTrainedModel,
    preparation: Any,
    head: HeadConfig,
) -> None:
    """Refuse to write what does not answer as the checkpoint does."""
    if isinstance(preparation, PreTrainedTokenizerFast):
        inputs = processor(text=_SENTENCES)
        own = preparation(_SENTENCES, padding=True, truncation=True, return_tensors="pt")
        same = torch.equal(own["input_ids"], inputs["input_ids"])
        inputs = {name: inputs[name] for name in preparation.model_input_names if name in inputs}
    else:
        pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), dtype=np.uint8)
        pictures = [Image.fromarray(values) for values in pixels]
        inputs = {"pixel_values": processor(images=pictures)["pixel_values"]}
        same = torch.equal(preparation(pictures, return_tensors="pt")["pixel_values"], inputs["pixel_values"])
    expected = model(**inputs).logits[head.name]
    expected = expected * head.std + head.mean if head.problem == "regression" else expected / head.temperature
    found = stock(**{name: own[name] for name in inputs} if "input_ids" in inputs else inputs).logits
    apart = (found - expected).abs().max().item()
    if not same or not apart <= _TOLERANCE * (1 + expected.abs().max().item()):
        raise ValueError(
            f"a stock classifier would not answer as this checkpoint does: {apart:.1e} apart; not written."
        )
