"""An exported head answers as its checkpoint does, with stock classes alone."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from hfk.models.decoding import probabilities
from hfk.tools.export.stock import IMAGE_HEADS, TEXT_HEADS, export
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TEXTS = ["해 뜨는 바닷가", "  조선 시대에 지어진\t오래된 절과 석탑 ", "KTX"]
TEXT_TASK, IMAGE_TASK = "sequence-classification", "image-classification"


def save(folder, text=None, vision=None, kind="linear", prefix="query: ", **options):
    """A tiny checkpoint with a temperature and a measured standardization; returns model and processor."""
    torch.manual_seed(1)
    heads = tiny.heads(kind=kind)
    heads[0].temperature = 1.7
    model = tiny.model(text, vision, heads=heads, **options)
    model.fusion.standardization.mean.normal_()
    model.fusion.standardization.scale.uniform_(0.5, 3.0)
    for module in model.text_encoder.modules() if text else ():
        if (
            isinstance(module, torch.nn.LayerNorm) and module.bias is not None
        ):  # as in trained encoders, not all 1 and 0
            torch.nn.init.normal_(module.weight, mean=1.0, std=0.3)
            torch.nn.init.normal_(module.bias, std=0.3)
    processor = tiny.processor(text, vision, text_prefix=prefix)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def pictures() -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    return [Image.fromarray(values) for values in pixels]


@torch.no_grad()
def expected(model, inputs, head):
    """What the stock logits must be: calibrated, and in the target's unit."""
    logits, config = model(**inputs).logits, model.config.head(head)
    if config.problem == "regression":
        return probabilities(logits, [config])[head][:, None]
    return logits[head] / config.temperature


def cases(families, whole: str) -> list[tuple[str, str]]:
    """Every family with one kind of head or another, and one of them with all."""
    heads = ("cat1", "tags", "price")
    some = {(family, heads[number % 3]) for number, family in enumerate(sorted(families))}
    return sorted(some | {(whole, head) for head in heads})


@pytest.mark.parametrize(("family", "head"), cases(set(TEXT_HEADS) & set(tiny.TEXT), "bert"))
def test_a_text_head_has_the_same_logits_from_raw_text(family, head, tmp_path):
    model, processor = save(tmp_path / "run", text=family, text_pooling="cls")
    export(tmp_path / "run", tmp_path / "stock", head, TEXT_TASK)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "stock").eval()
    tokens = AutoTokenizer.from_pretrained(tmp_path / "stock")(
        TEXTS, padding=True, truncation=True, return_tensors="pt"
    )
    assert type(stock).__module__.startswith("transformers.")
    found = stock(**tokens).logits.detach()
    torch.testing.assert_close(found, expected(model, processor(text=TEXTS), head), rtol=1e-5, atol=1e-5)
    assert list(stock.config.id2label.values()) == (model.config.head(head).labels or [head])


@pytest.mark.parametrize(("family", "head"), cases(set(IMAGE_HEADS) & set(tiny.VISION), "vit"))
def test_an_image_head_has_the_same_logits_from_a_picture(family, head, tmp_path):
    model, processor = save(tmp_path / "run", vision=family, image_pooling=IMAGE_HEADS[family][0])
    export(tmp_path / "run", tmp_path / "stock", head, IMAGE_TASK)
    stock = AutoModelForImageClassification.from_pretrained(tmp_path / "stock").eval()
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "stock")(pictures(), return_tensors="pt")
    found = stock(**pixels).logits.detach()
    torch.testing.assert_close(found, expected(model, processor(images=pictures()), head), rtol=1e-5, atol=1e-5)


def test_every_family_of_the_tables_is_tested_or_a_sibling_of_a_tested_one():
    assert set(TEXT_HEADS) - set(tiny.TEXT) == {"camembert"}  # RoBERTa's classes under another name
    assert set(IMAGE_HEADS) - set(tiny.VISION) == {"deit", "regnet"}  # ViT's and ResNet's


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("camembert", {"vocab_size": 200, "max_position_embeddings": 64, "pad_token_id": 0, "hidden_size": 32}),
        ("deit", {"image_size": 32, "patch_size": 8, "hidden_size": 24}),
        ("regnet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 8}),
    ],
)
def test_the_siblings_too(name, config, tmp_path, monkeypatch):
    from transformers import AutoConfig

    layers = {} if name == "regnet" else {"num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 2}
    monkeypatch.setitem(
        tiny.TEXT if name == "camembert" else tiny.VISION, name, lambda: AutoConfig.for_model(name, **config, **layers)
    )
    if name == "camembert":
        test_a_text_head_has_the_same_logits_from_raw_text(name, "cat1", tmp_path)
    else:
        test_an_image_head_has_the_same_logits_from_a_picture(name, "cat1", tmp_path)


def test_distilbert_carries_an_mlp_head_as_it_is(tmp_path):
    model, processor = save(tmp_path / "run", text="distilbert", kind="mlp", text_pooling="cls")
    export(tmp_path / "run", tmp_path / "stock", "cat2", TEXT_TASK)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "stock").eval()
    inputs = processor(text=TEXTS)
    found = stock(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.detach()
    torch.testing.assert_close(found, expected(model, inputs, "cat2"), rtol=1e-5, atol=1e-5)


def test_it_answers_in_a_stock_pipeline_without_remote_code(tmp_path):
    model, processor = save(tmp_path / "run", text="roberta", text_pooling="cls")
    export(tmp_path / "run", tmp_path / "stock", "cat2", TEXT_TASK)
    (found,) = pipeline("text-classification", model=str(tmp_path / "stock"), top_k=None)(TEXTS[:1])
    answer = {item["label"]: item["score"] for item in found}
    scores = probabilities(model(**processor(text=TEXTS[:1])).logits, model.config.heads)["cat2"][0]
    assert answer == pytest.approx(dict(zip(model.config.head("cat2").labels, scores.tolist(), strict=True)), abs=1e-5)
    assert not list((tmp_path / "stock").glob("*.py"))
    for file in (tmp_path / "stock").glob("*.json"):
        assert not re.search("auto_map|hfk|MultiHead", file.read_text(encoding="utf-8")), file


def test_problems_become_the_stock_ones(tmp_path):
    save(tmp_path / "run", text="bert", text_pooling="cls")
    for head, problem in (("cat1", "single_label_classification"), ("tags", "multi_label_classification")):
        export(tmp_path / "run", tmp_path / head, head, TEXT_TASK)
        assert json.loads((tmp_path / head / "config.json").read_text())["problem_type"] == problem
    export(tmp_path / "run", tmp_path / "price", "price", TEXT_TASK)
    (answer,) = pipeline("text-classification", model=str(tmp_path / "price"))(TEXTS[0])
    assert answer["label"] == "price" and not 0 < answer["score"] < 1  # the number itself, not a sigmoid


@pytest.mark.parametrize(
    ("options", "head", "task", "sentence"),
    [
        ({"text": "bert"}, "cat1", TEXT_TASK, "text_pooling=mean can't be exported: .* train with text_pooling=cls"),
        ({"text": "bert", "text_pooling": "cls", "kind": "mlp"}, "cat1", TEXT_TASK, "kind mlp, .* head_kind=linear"),
        (
            {"text": "distilbert", "text_pooling": "cls", "kind": "residual"}, "cat1", TEXT_TASK,
            "kind residual, .* head_kind=linear or mlp",
        ),
        ({"text": "modernbert", "text_pooling": "cls"}, "cat1", TEXT_TASK, "'modernbert' can't be exported: .*bert"),
        ({"vision": "vit"}, "cat1", IMAGE_TASK, "image_pooling=mean can't be exported: .* image_pooling=cls"),
        ({"vision": "convnext"}, "cat1", IMAGE_TASK, "'convnext' can't be exported: .*resnet"),
        ({"vision": "resnet", "kind": "mlp"}, "cat1", IMAGE_TASK, "kind mlp, .* head_kind=linear"),
        ({"vision": "resnet"}, "cat1", TEXT_TASK, "reads images: a stock sequence-classification model reads text"),
        ({"text": "bert"}, "nothing", TEXT_TASK, "no head is called 'nothing'; heads: cat1, cat2, tags, price"),
        ({"text": "bert"}, "cat1", "token-classification", "no export as 'token-classification'"),
    ],
)  # fmt: skip
def test_what_can_not_be_equal_is_refused_with_the_reason(options, head, task, sentence, tmp_path):
    save(tmp_path / "run", **options)
    with pytest.raises(ValueError, match=sentence):
        export(tmp_path / "run", tmp_path / "stock", head, task)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_what_an_export_loses_is_said(tmp_path):
    save(tmp_path / "run", text="electra", text_pooling="cls")
    with pytest.warns(UserWarning, match="hierarchy|float32") as told:
        export(tmp_path / "run", tmp_path / "stock", "cat2", TEXT_TASK)
    said = " ".join(str(warning.message) for warning in told)
    assert "in float32" in said and "head 'cat2' is one of a hierarchy" in said


def test_cleaning_that_no_stock_tokenizer_does_is_refused(tmp_path):
    save(tmp_path / "run", text="bert", text_pooling="cls")
    tiny.processor("bert", None, text_cleaning="simple").save_pretrained(tmp_path / "run")
    with pytest.raises(ValueError, match="cleans its texts"):
        export(tmp_path / "run", tmp_path / "stock", "cat1", TEXT_TASK)


def test_two_inputs_and_a_folder_in_use_are_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="reads text and images: a stock"):
        export(checkpoint, tmp_path / "stock", "cat1", TEXT_TASK)
    save(tmp_path / "run", text="bert", text_pooling="cls")
    with pytest.raises(ValueError, match="is not empty"):
        export(tmp_path / "run", tmp_path / "run", "cat1", TEXT_TASK)
