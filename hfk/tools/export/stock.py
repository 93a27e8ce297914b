"""`hfk export`: one head of a text-only or image-only checkpoint as a stock transformers classifier, with equal logits.

Servers and widgets that run no remote code take `AutoModelForSequenceClassification` and its image sibling. Stock text
classifiers read the first token through `dense → activation → linear`; a linear head of hfk fits in where the
activation can be made to do nothing: tanh is linear near 0, so the dense layer scales down and the last one up; ReLU
and GELU do nothing to what is large, so the dense layer adds a bound that layer normalization guarantees (which costs
digits: those families keep their logits in float32 only). The text preparation (prefix, Unicode normalization,
whitespace) goes into the tokenizer's own normalizer; HTML entities are not resolved there. Every export is compared
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


class Place(NamedTuple):
    """Where a stock classifier keeps its head: how it pools, its last layer, and the layer and activation before it.

    Where that is neither tanh nor nothing, `bounded_by` is the last LayerNorm, whose output the head reads.
    """

    pooling: str
    out: str
    dense: str | None = None
    activation: str | None = None
    bounded_by: str | None = None


_ROBERTA = Place("cls", "classifier.out_proj", "classifier.dense", "tanh")
_DEBERTA_NORM, _ELECTRA_NORM = (f"{name}.encoder.layer.{{last}}.output.LayerNorm" for name in ("deberta", "electra"))
_DISTILBERT_NORM = "distilbert.transformer.layer.{last}.output_layer_norm"
TEXT_HEADS = {
    "albert": Place("cls", "classifier", "albert.pooler", "tanh"),
    "bert": Place("cls", "classifier", "bert.pooler.dense", "tanh"),
    "camembert": _ROBERTA,
    "deberta-v2": Place("cls", "classifier", "pooler.dense", "gelu", _DEBERTA_NORM),
    "distilbert": Place("cls", "classifier", "pre_classifier", "relu", _DISTILBERT_NORM),
    "electra": Place("cls", "classifier.out_proj", "classifier.dense", "gelu", _ELECTRA_NORM),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
IMAGE_HEADS = {
    "deit": Place("cls", "classifier"),
    "dinov2": Place("cls", "classifier"),
    "efficientnet": Place("mean", "classifier"),
    "regnet": Place("mean", "classifier.1"),
    "resnet": Place("mean", "classifier.1"),
    "swin": Place("mean", "classifier"),
    "vit": Place("cls", "classifier"),
}

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
    stock = _classifier(model, config, model.heads.layers[names.index(head)], text)
    preparation = _tokenizer(processor) if text else processor.image_processor
    _compare(model, processor, stock, preparation, config)
    with replacing(target) as part:
        stock.save_pretrained(part)
        preparation.save_pretrained(part)
    if config.parent or any(other.parent == head for other in model.config.heads):
        warnings.warn(
            f"head {head!r} is one of a hierarchy: alone it may choose a label outside the others' path.", stacklevel=2
        )


def _classifier(model: MultiHeadForClassification, config: HeadConfig, head: Head, text: bool) -> PreTrainedModel:
    encoder, option = (model.text_encoder, "text_pooling") if text else (model.vision_encoder, "image_pooling")
    family, pooling = encoder.config.model_type, getattr(model.config, option)
    places = TEXT_HEADS if text else IMAGE_HEADS
    if family not in places:
        raise ValueError(
            f"{family!r} can't be exported: transformers has no classifier for it that reads what this head reads; "
            f"possible are {', '.join(places)}."
        )
    place = places[family]
    if pooling != place.pooling:
        raise ValueError(
            f"{option}={pooling} can't be exported: a stock {family} classifier pools by {place.pooling}; train with "
            f"{option}={place.pooling}."
        )
    kinds = ("linear", "mlp") if place.activation == "relu" else ("linear",)
    if config.kind not in kinds:
        raise ValueError(
            f"head {config.name!r} is of kind {config.kind}, which a stock {family} classifier has not; train with "
            f"head_kind={' or '.join(kinds)}."
        )
    if family == "deberta-v2" and encoder.config.pooler_hidden_act != "gelu":
        raise ValueError("this DeBERTa's pooler has another activation than GELU and can't be exported.")
    labels = config.labels or [config.name]
    stock_config = type(encoder.config).from_dict(encoder.config.to_dict())
    stock_config.architectures = []  # the encoder's own; where a family has two classifiers, the first is meant
    stock_config.id2label = dict(enumerate(labels))
    stock_config.label2id = {label: index for index, label in enumerate(labels)}
    stock_config.problem_type = config.problem + ("" if config.problem == "regression" else "_classification")
    auto = AutoModelForSequenceClassification if text else AutoModelForImageClassification
    stock = auto.from_config(stock_config)
    loaded = stock.base_model.load_state_dict(encoder.state_dict(), strict=False)
    other = [name for name in loaded.missing_keys if not name.startswith("pooler")] + loaded.unexpected_keys
    if other:
        raise ValueError(f"a stock {family} classifier has other weights than this encoder, such as {other[0]}.")

    weight, bias = _last_layer(model, head, config)
    out, size = stock.get_submodule(place.out), weight.shape[1]
    if config.kind == "mlp":
        _fill(stock.get_submodule(place.dense), *_standardized(model, head.long[0]))
    elif place.activation == "tanh":
        _fill(stock.get_submodule(place.dense), torch.eye(size) / _SCALE, torch.zeros(size))
        weight = weight * _SCALE
    elif place.activation is not None:
        norm = stock.get_submodule(place.bounded_by.format(last=encoder.config.num_hidden_layers - 1))
        # A normalized vector of d numbers has none above √d.
        bound = (norm.weight.abs() * size**0.5 + norm.bias.abs()).detach().double() + _MARGIN
        _fill(stock.get_submodule(place.dense), torch.eye(size), bound)
        warnings.warn(f"load this {family} model in float32: half precision would blur its logits.", stacklevel=3)
        bias = bias - weight @ bound
    # DINOv2's classifier reads the patches' mean beside the first token: its weights there are 0.
    _fill(out, nn.functional.pad(weight, (0, out.in_features - size)), bias)
    return stock.eval()


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
    """Weight and bias of a head's first layer, with the standardization before it folded in, in float64."""
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
    if processor.truncation == "middle" or (processor.truncation == "tail" and processor.text_prefix):
        raise ValueError(
            f"this checkpoint reads longer texts with truncation: {processor.truncation}"
            f"{' behind a prefix' * bool(processor.text_prefix)}, which no stock tokenizer does; train with head."
        )
    if not tokenizer.is_fast:
        raise ValueError("this tokenizer has no tokenizer.json, which stock servers need; it can't be exported.")
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"[\s\p{Cc}]+"), " "), normalizers.Strip()]
    if processor.text_prefix:
        steps.append(normalizers.Prepend(processor.text_prefix))
    backend.normalizer = normalizers.Sequence([*steps, *([backend.normalizer] if backend.normalizer else [])])
    # The plain class reads tokenizer.json as it is; a family's own may build its normalizer anew.
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
