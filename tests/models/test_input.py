"""What people really hand over: odd texts, odd pictures, and every form of input that the pipeline promises."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import pipeline

from hfk import MultiHeadProcessor, Predictor
from hfk.models.image_preparation import ImageError, open_image
from hfk.models.processing_multihead import RowError
from hfk.training.scratch import train_tokenizer
from tests import tiny

TEXT = tiny.SENTENCES[0]


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 20), form: str = "PNG", **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA").convert("RGB")
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def huge_header(side: int = 30_000) -> bytes:
    """A PNG that claims side × side pixels in a few dozen bytes."""
    body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data = b"IDAT" + zlib.compress(b"\0" * 64)
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


GOOD = {
    "rgb": picture(),
    "gray": picture("L"),
    "palette": picture("P"),
    "alpha": picture("RGBA"),
    "gray-alpha": picture("LA"),
    "16-bit": picture("I;16"),
    "cmyk": picture("CMYK", form="JPEG"),
    "gif": picture(form="GIF"),
    "animated": picture(form="GIF", save_all=True, append_images=[Image.new("RGB", (40, 20))]),
    "webp": picture(form="WEBP"),
    "bmp": picture(form="BMP"),
}
BAD = {
    "empty": (b"", "empty"),
    "text": (b"this is no picture", "not a picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
    "truncated": (picture(size=(200, 200), form="JPEG")[:800], "damaged"),
    "huge": (huge_header(), "pixels"),
    "just over": (huge_header(8_000), "limit is"),
}


def save_text_encoder(folder, config):
    config.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return str(folder)


def test_a_text_is_cut_to_what_the_encoder_has_positions_for(tmp_path):
    names = {"bert": 64, "roberta": 63, "siglip2-text": 64, "t5": 64}  # RoBERTa counts from padding's id, 0 here
    for name, expected in names.items():
        folder = save_text_encoder(tmp_path / name, tiny.TEXT[name]())
        assert MultiHeadProcessor.from_encoders(folder, max_length=512).max_length == expected


@pytest.mark.parametrize(
    ("truncation", "one", "pair"),
    [
        ("head", "q abcdefghijklm", "q abcde [SEP] klmno"),
        ("tail", "q hijklmnopqrst", "q fghij [SEP] pqrst"),
        ("middle", "q abcdef opqrst", "q ab ij [SEP] kl st"),
    ],
)
def test_what_is_read_of_longer_texts_in_training_and_from_a_checkpoint(truncation, one, pair, tmp_path):
    letters = "abcdefghijklmnopqrst"
    tokenizer = train_tokenizer([f"q {letters}"], "character", 32)
    made = MultiHeadProcessor(None, tokenizer, 15, "q ", text_separator=" [SEP] ", truncation=truncation)
    made.save_pretrained(tmp_path)
    for processor in (made, MultiHeadProcessor.from_pretrained(tmp_path)):
        ids = processor(text=[letters, "abc", [letters[:10], letters[10:]]])["input_ids"].tolist()
        read = [tokenizer.decode(row).replace("[PAD]", "").replace(" ", "") for row in ids]
        assert read == [text.replace(" ", "") for text in (one, "q abc", pair)]
        ends = processor.clean("a" * 10_000 + "b" * 100_000)
        assert ("a" in ends, "b" in ends) == (truncation != "tail", True)


def test_a_tokenizer_that_is_not_the_encoders_is_refused(tmp_path):
    config = tiny.TEXT["bert"]()
    config.vocab_size = 50
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ pieces and the encoder knows 50"):
        MultiHeadProcessor.from_encoders(save_text_encoder(tmp_path, config))


@pytest.mark.skipif(importlib.util.find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_tokenizer_that_is_a_sentencepiece_model_names_the_package(tmp_path):
    tiny.TEXT["bert"]().save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "XLNetTokenizer"}')
    (tmp_path / "spiece.model").write_bytes(b"no model")
    with pytest.raises(ImportError, match="pip install sentencepiece"):
        MultiHeadProcessor.from_encoders(str(tmp_path))


@pytest.mark.parametrize("box", [False, True])
def test_image_size_holds_for_processors_that_know_the_shortest_edge_alone(box, tmp_path):
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    tiny.VISION["convnext"]().save_pretrained(tmp_path)
    ConvNextImageProcessorPil(size={"shortest_edge": 96}).save_pretrained(tmp_path)
    processor = MultiHeadProcessor.from_encoders(None, str(tmp_path), image_size=64, letterbox=box)
    pixels = processor(images=[Image.new("RGB", (90, 30), "black")])["pixel_values"]
    assert pixels.shape == (1, 3, 64, 64)
    assert bool((pixels[0, 0, 0] > 0).all()) == box  # white above the picture


@pytest.mark.parametrize("name", GOOD)
def test_pictures_of_every_kind_become_rgb(name):
    image = open_image(GOOD[name])
    assert (image.mode, image.size) == ("RGB", (40, 20))


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_refused_in_one_sentence(name):
    data, message = BAD[name]
    with pytest.raises(ImageError, match=message) as caught:
        open_image(data)
    assert "\n" not in str(caught.value)


def test_16_bit_gray_is_scaled_not_clipped():
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256).repeat(4, 0)).save(buffer, "PNG")
    pixels = np.asarray(open_image(buffer.getvalue()))[0, :, 0].astype(int)
    assert pixels[0] == 0 and pixels[-1] == 255 and abs(pixels[128] - 128) <= 1


def test_rotated_exif_comes_out_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    assert open_image(picture(form="JPEG", exif=exif)).size == (20, 40)


def test_transparency_lies_on_white():
    buffer = io.BytesIO()
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(buffer, "PNG")
    assert open_image(buffer.getvalue()).getpixel((0, 0)) == (255, 255, 255)


def test_every_source_gives_the_same_picture(tmp_path):
    data = GOOD["rgb"]
    (tmp_path / "a.png").write_bytes(data)
    sources = [
        data,
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        {"bytes": data, "path": None},
        Image.open(io.BytesIO(data)),
    ]
    first = np.asarray(open_image(sources[0]))
    for source in sources[1:]:
        assert np.array_equal(np.asarray(open_image(source)), first)
    with pytest.raises(ImageError, match="does not exist"):
        open_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="not int"):
        open_image(3)


def test_a_picture_by_url(tmp_path):
    import threading
    from functools import partial
    from http.server import HTTPServer, SimpleHTTPRequestHandler

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    (tmp_path / "a.png").write_bytes(GOOD["rgb"])
    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        assert open_image(f"{address}/a.png").size == (40, 20)
        with pytest.raises(ImageError, match="can't be fetched"):
            open_image(f"{address}/missing.png")
    finally:
        server.shutdown()
        server.server_close()


@given(st.text())
@settings(max_examples=60, deadline=None)
def test_cleaning_never_fails_and_changes_nothing_twice(text):
    processor = tiny.processor()
    once = processor.clean(text)
    if once is not None:
        assert once == once.strip() and "\n" not in once
        if "&" not in once:
            assert processor.clean(once) == once


def test_texts_that_are_none():
    processor = tiny.processor()
    assert [processor.clean(text) for text in (None, math.nan, "", "  \n\t", "\x00", "​ ")][:5] == [None] * 5
    assert processor.clean("한국") == "한국"  # decomposed Hangul is composed
    assert processor.clean("A &amp; B") == "A & B"
    with pytest.raises(ValueError, match="must be a str, not int"):
        processor.clean(3)


def test_texts_of_one_row_stay_apart(encoders, tmp_path):
    processor = MultiHeadProcessor.from_encoders(encoders["text_encoder"])
    assert processor.clean(["사과", " 배  감"]) == processor.clean("사과␟배 감") == "사과 [SEP] 배 감"
    assert processor.clean(["사과", None]) == "사과 [SEP]" and processor.clean([None, " "]) is None
    tokens = processor(text=[["산", "바다"], "산␟바다"])["input_ids"]
    assert (tokens == processor.tokenizer.sep_token_id).sum(1).tolist() == [2, 2]
    long = MultiHeadProcessor.from_encoders(encoders["text_encoder"], max_length=12)
    words = TEXT.split()
    read = long(text=[[" ".join(words * 9), words[0]], [words[0], " ".join(words * 9)]])["input_ids"]
    for row, (most, least) in zip(read.tolist(), ((8, 1), (1, 8)), strict=True):
        ends = [place for place, token in enumerate(row) if token == long.tokenizer.sep_token_id]
        assert ends == [most + 1, most + least + 2]
    processor.save_pretrained(tmp_path)
    assert MultiHeadProcessor.from_pretrained(tmp_path).clean("사과␟배 감") == "사과 [SEP] 배 감"
    assert tiny.processor().clean("사과␟배 감") == "사과 배 감"  # as a checkpoint of before was trained


@pytest.mark.parametrize("text", ["가" * 100_000, "👍🏽 관광 🏖️", "美 대통령 訪韓", "<b>굵은</b>", "\ud800 대리"])
def test_odd_texts_are_classified(text):
    batch = tiny.processor()(text=[text])
    assert batch["input_ids"].shape[1] <= 32
    assert tiny.model("bert")(**batch).logits["cat1"].isfinite().all()


def test_rows_without_anything_are_named():
    both, text, image = tiny.processor("bert", "resnet"), tiny.processor(), tiny.processor(None, "resnet")
    with pytest.raises(RowError, match="row 1: there is no text or image"):
        both(text=[TEXT, " "], images=[None, None])
    with pytest.raises(RowError, match="row 0: there is no text to classify"):
        text(text=[None])
    with pytest.raises(RowError, match="row 0: there is no image to classify"):
        image(images=[{"bytes": None, "path": None}])
    with pytest.raises(RowError, match=r"row 1: the picture is empty"):
        both(text=[TEXT, TEXT], images=[None, b""])
    with pytest.raises(ValueError, match="text has 2 rows and images have 1"):
        both(text=[TEXT, TEXT], images=[None])
    with pytest.raises(ValueError, match="there is no input"):
        both()


@pytest.mark.parametrize(("text", "vision"), [("bert", None), (None, "resnet"), ("bert", "resnet")])
def test_processor_round_trip(text, vision, tmp_path):
    processor = tiny.processor(text, vision, max_length=17, text_prefix="query: ")
    processor.save_pretrained(tmp_path)
    again = MultiHeadProcessor.from_pretrained(tmp_path)
    rows = {"text": [TEXT] if text else None, "images": [GOOD["rgb"]] if vision else None}
    before, after = processor(**rows), again(**rows)
    assert set(before) == set(after)
    for name in before:
        assert torch.equal(before[name], after[name]), name
    assert (again.max_length, again.text_prefix) == (17, "query: ")
    assert (again.tokenizer is None, again.image_processor is None) == (text is None, vision is None)


def test_a_processor_of_a_newer_version_is_refused_in_one_sentence(tmp_path):
    tiny.processor().save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lowercase": True}))
    with pytest.raises(
        ValueError, match=r"processor_config\.json has the field 'lowercase', .* \(pip install -U hfk\)\.$"
    ):
        MultiHeadProcessor.from_pretrained(tmp_path)


@pytest.fixture(scope="module")
def classify(checkpoint):
    return pipeline("multi-head-classification", model=str(checkpoint))


@pytest.fixture(scope="module")
def rows():
    return [
        {"text": TEXT, "image": GOOD["rgb"]},
        {"text": tiny.SENTENCES[1]},
        {"image": GOOD["cmyk"]},
        tiny.SENTENCES[2],
        {"text": tiny.SENTENCES[3], "image": None},
    ]


def same(left, right):
    assert json.dumps(left, ensure_ascii=False)  # JSON-serializable
    assert list(left) == list(right)
    for head in left:
        if isinstance(left[head], float):
            assert left[head] == pytest.approx(right[head], abs=1e-4)
        else:
            assert [item["label"] for item in left[head]] == [item["label"] for item in right[head]]
            assert [item["score"] for item in left[head]] == pytest.approx(
                [item["score"] for item in right[head]], abs=1e-4
            )


def test_every_form_of_input_gives_the_same_answers(classify, rows):
    single = [classify(row, top_k=3) for row in rows]
    for batch_size in (1, 2, 5):
        for left, right in zip(classify(rows, top_k=3, batch_size=batch_size), single, strict=True):
            same(left, right)
    for left, right in zip(classify((row for row in rows), top_k=3, batch_size=2), single, strict=True):
        same(left, right)
    table = Dataset.from_dict({"text": [TEXT, tiny.SENTENCES[1]]})
    for left, right in zip(classify(table, top_k=3), [classify(TEXT, top_k=3), single[1]], strict=True):
        same(left, right)
    same(classify(Image.open(io.BytesIO(GOOD["cmyk"])), top_k=3), single[2])
    for pair in ({"text": "산", "text_pair": "바다"}, ("산", "바다")):
        same(classify(pair), classify({"text": ["산", "바다"]}))
    assert classify([]) == []


def test_predictor_answers_like_the_pipeline_in_order(classify, checkpoint, rows):
    many = [*rows * 7, {"text": "산", "text_pair": "바다"}]
    expected = [classify(row, top_k=2) for row in many]
    for batch_size, window in ((3, 8), (32, 2048), (1, 1)):
        predictor = Predictor.from_pretrained(str(checkpoint), batch_size=batch_size, window=window)
        for left, right in zip(predictor(many, top_k=2), expected, strict=True):
            same(left, right)


def test_predictor_reads_no_more_than_a_window_ahead(checkpoint):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield TEXT

    stream = Predictor.from_pretrained(str(checkpoint), window=8)(endless())
    for _ in range(3):
        next(stream)
    assert len(taken) == 8


def test_a_bad_row_never_takes_its_neighbors_down(checkpoint, rows):
    predictor = Predictor.from_pretrained(str(checkpoint))
    mixed = [rows[0], {"text": " "}, {"image": b"no picture"}, {"text": 3}, rows[1], {"image": "missing.jpg"}]
    results = list(predictor(mixed))
    assert ["error" in result for result in results] == [False, True, True, True, False, True]
    assert "there is no text or image" in results[1]["error"]
    same(results[0], next(iter(predictor([rows[0]]))))


def test_pipeline_options(classify):
    assert list(classify(TEXT, heads=["cat2"])) == ["cat2"]
    assert classify(TEXT, threshold=1.0)["cat1"] == []
    with pytest.raises(ValueError, match="'topk' is no option"):
        classify(TEXT, topk=2)
    with pytest.raises(ValueError, match="no head is called 'cat9'"):
        classify(TEXT, heads=["cat9"])
    with pytest.raises(ValueError, match="it has: caption"):
        classify({"caption": TEXT})
