"""The handler that is pushed with a checkpoint answers without hfk, opens nothing, and a bad row costs itself only."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image
from transformers import pipeline

from hfk.hub import endpoint_handler
from hfk.hub.endpoint_handler import EndpointHandler

TEXT = "해 뜨는 모습이 아름다운 동해의 바닷가"


@pytest.fixture(scope="module")
def handler(checkpoint):
    return EndpointHandler(str(checkpoint))


def encoded(size=(40, 30), kind="PNG") -> str:
    buffer = io.BytesIO()
    Image.new("RGB", size, "skyblue").save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def test_it_answers_as_the_pipeline_does(handler, checkpoint):
    text, both, nothing = handler(
        {"inputs": [TEXT, {"text": TEXT, "image": encoded()}, {"text": " "}], "parameters": {"top_k": 2}}
    )
    classify = pipeline("multi-head-classification", model=str(checkpoint))
    expected = classify([TEXT, {"text": TEXT, "image": base64.b64decode(encoded())}], top_k=2)
    for answer, own in zip((text, both), expected, strict=True):
        assert set(answer) == {"cat1", "cat2", "tags", "price"}
        assert [item["label"] for item in answer["cat2"]] == [item["label"] for item in own["cat2"]]
        assert answer["cat1"][0]["score"] == pytest.approx(own["cat1"][0]["score"], abs=1e-5)
    assert nothing == {"error": "there is no text or image to classify."}


def test_paths_and_uncertain_answers(handler):
    answer = handler({"inputs": TEXT, "parameters": {"paths": 2, "min_score": 1}})
    assert [way["labels"].keys() for way in answer["paths"]["cat2"]] == [{"cat1", "cat2"}] * 2
    assert answer["cat1"][0]["label"] is None


def test_one_input_gives_one_answer_and_a_list_a_list(handler):
    assert set(handler({"inputs": TEXT})) == {"cat1", "cat2", "tags", "price"}
    assert len(handler({"inputs": [TEXT]})) == 1
    assert handler({"inputs": []}) == []
    assert set(
        handler({"inputs": {"image": f"data:image/png;base64,{encoded()}"}, "parameters": {"heads": ["cat1"]}})
    ) == {"cat1"}
    assert set(handler({"inputs": Image.new("RGB", (30, 30))})) == {"cat1", "cat2", "tags", "price"}


def test_a_text_is_prepared_once(handler):
    odd = "&amp;lt;b&amp;gt; 바닷가"  # unescaped twice, it would be another text
    answer = handler({"inputs": odd, "parameters": {"heads": ["price"]}})
    assert answer["price"] == pytest.approx(handler.classify(odd)["price"], abs=1e-6)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"image": "https://example.com/a.png"}, "addresses and paths are not opened"),
        ({"image": "file:///etc/passwd"}, "addresses and paths are not opened"),
        ({"image": "/etc/passwd"}, "addresses and paths are not opened"),
        ({"image": "photo.jpg"}, "addresses and paths are not opened"),
        ({"image": "data:image/png,plain"}, "addresses and paths are not opened"),
        ({"image": "etc/passwd00"}, "not a picture in a known format"),  # happens to be base64; nothing is opened
        ({"image": base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode()}, "not a picture"),
        ({"image": encoded((60, 40))[:80]}, "damaged|not a picture"),
        ({"image": 5}, "must be given as base64"),
        ({"image": {"path": "/etc/passwd", "bytes": None}}, "must be given as base64"),
        ({"text": "가" * 100_001}, "the limit is 100,000"),
        ({"text": 5}, "a text must be a str"),
        ({}, "there is no text or image"),
        (None, "there is no text or image"),
    ],
)
def test_a_bad_row_never_takes_its_neighbors_down(handler, row, sentence):
    first, bad, last = handler({"inputs": [TEXT, row, TEXT]})
    assert list(bad) == ["error"] and pytest.approx(first["cat1"][0]["score"]) == last["cat1"][0]["score"]
    assert re.search(sentence, bad["error"]), bad


def test_a_picture_above_the_limit_is_refused_before_it_is_decoded(handler, monkeypatch):
    monkeypatch.setattr(endpoint_handler, "MAX_IMAGE_BYTES", 100)
    for image in (encoded((200, 200), "BMP"), base64.b64decode(encoded((200, 200), "BMP"))):
        assert "more than 100 bytes" in handler({"inputs": {"image": image}})["error"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({}, 'needs "inputs"'),
        ([TEXT], 'needs "inputs"'),
        ({"inputs": [TEXT] * 257}, "may have 256 rows; this one has 257"),
        ({"inputs": TEXT, "parameters": {"top": 1}}, "'top' is no parameter; parameters: top_k, threshold, heads"),
        ({"inputs": TEXT, "parameters": {"top_k": 0}}, "top_k must be"),
        ({"inputs": TEXT, "parameters": {"top_k": True}}, "top_k must be"),
        ({"inputs": TEXT, "parameters": {"threshold": "high"}}, "threshold must be"),
        ({"inputs": TEXT, "parameters": {"threshold": 2}}, "threshold must be"),
        ({"inputs": TEXT, "parameters": {"min_score": -1}}, "min_score must be a number between 0 and 1, not -1"),
        ({"inputs": TEXT, "parameters": {"paths": 1.5}}, "paths must be a whole number of 1 or more, not 1.5"),
        ({"inputs": TEXT, "parameters": {"heads": ["nothing"]}}, "heads must be a list of these: cat1, cat2"),
        ({"inputs": TEXT, "parameters": {"heads": "cat1"}}, "heads must be a list of these: cat1, cat2"),
        ({"inputs": TEXT, "parameters": "all"}, "'all' is no parameter"),
    ],
)
def test_a_request_that_can_not_be_answered_is_one_sentence(handler, data, sentence):
    with pytest.raises(ValueError, match=sentence):
        handler(data)


def test_the_file_stands_alone():
    text = Path(endpoint_handler.__file__).read_text(encoding="utf-8")
    assert "hfk." not in text.replace("`hfk", "") and "from ." not in text
