"""A checkpoint that names sizes, lengths or patterns without measure is refused before it costs time or memory."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, normalizers
from transformers import pipeline

from hfk import Predictor
from hfk.models.checked_tokenizer import check_tokenizer, is_bounded
from hfk.models.text_cleaning import TextCleaner
from tests import tiny
from tests.trust.measure import taking

Change = Callable[[dict[str, Any]], Any]


def within(file: str, change: Change) -> Callable[[Path], None]:
    """Change one of a checkpoint's JSON files."""

    def harm(folder: Path) -> None:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        change(content)
        (folder / file).write_text(json.dumps(content), encoding="utf-8")

    return harm


def encoder(**keys: Any) -> Callable[[Path], None]:
    return within("config.json", lambda config: config["text_config"].update(keys))


def processor(**keys: Any) -> Callable[[Path], None]:
    return within("processor_config.json", lambda config: config.update(keys))


def pictures(**keys: Any) -> Callable[[Path], None]:
    return within("processor_config.json", lambda config: config["image_processor"].update(keys))


def tokens(**keys: Any) -> Callable[[Path], None]:
    return within("tokenizer.json", lambda config: config.update(keys))


def text(file: str, old: str, new: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        content = (folder / file).read_text(encoding="utf-8")
        assert old in content
        (folder / file).write_text(content.replace(old, new, 1), encoding="utf-8")

    return harm


def long(file: str, size: int) -> Callable[[Path], None]:
    """A file with a hole of so many bytes, which take no room on the disk."""

    def harm(folder: Path) -> None:
        with (folder / file).open("r+b") as opened:
            opened.truncate(size)

    return harm


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the header of the weights; what it returns, or the header itself, is written."""

    def harm(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        content = json.loads(data[8:end])
        made = (change(content) or json.dumps(content)).encode()
        (folder / "model.safetensors").write_bytes(len(made).to_bytes(8, "little") + made + data[end:])

    return harm


def first(content: dict[str, Any]) -> dict[str, Any]:
    return next(entry for name, entry in content.items() if name != "__metadata__")


def overlapping(content: dict[str, Any]) -> None:
    entries = sorted((e for n, e in content.items() if n != "__metadata__"), key=lambda e: e["data_offsets"])
    entries[1]["data_offsets"] = [0, entries[1]["data_offsets"][1] - entries[1]["data_offsets"][0]]


def twice(content: dict[str, Any]) -> str:
    """Two entries of one name: readers disagree on which counts."""
    entry = json.dumps({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    return f"{json.dumps(content)[:-1]}, {json.dumps(list(content)[-1])}: {entry}}}"


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def steps(*normal: dict[str, Any]) -> Callable[[Path], None]:
    return tokens(normalizer={"type": "Sequence", "normalizers": list(normal)})


TEMPLATE = {
    "type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
    "special_tokens": {"x": {"id": "x", "ids": [1] * 50_000, "tokens": ["x"] * 50_000}},
}  # fmt: skip
BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "wide": (encoder(hidden_size=10**12), "hidden_size is 1e"),
    "many pieces": (encoder(vocab_size=3 * 10**8), "describes a far larger model"),
    "many places": (encoder(max_position_embeddings=10**9), "describes a far larger model"),
    "many layers": (encoder(num_hidden_layers=10**7), r"num_hidden_layers is 1e\+07"),
    "some layers more": (encoder(num_hidden_layers=9_000), "describes a far larger model"),
    "labels by number": (encoder(num_labels=10**8), r"num_labels is 1e\+08"),
    "labels by name": (within("config.json", lambda c: c["heads"][0].update(labels=[*map(str, range(100_001))])),
                       "100,001 labels are more than"),
    "infinite": (text("config.json", '"hidden_size": ', '"hidden_size": 1e999, "x": '), "hidden_size is inf"),
    "no number": (text("config.json", '"hidden_size": ', '"hidden_size": NaN, "x": '), "hidden_size is nan"),
    "below zero": (encoder(hidden_size=-8), "is damaged"),
    "a word for a size": (encoder(hidden_size="a" * 10**6), "is damaged"),
    "a type's function": (within("config.json", lambda c: c.update(dtype="load")), "is damaged"),
    "others' weights": (within("config.json", lambda c: c.update(vision_config={
        "model_type": "dpt", "backbone": "else/where", "use_pretrained_backbone": True})), "use_pretrained_backbone"),
    "others' code": (within("config.json", lambda c: c.update(quantization_config={"quant_method": "gptq", "bits": 4})),
                     "quantization_config"),
    "large file": (long("config.json", 40 * 10**9), "has 40,000,000,000 bytes"),
    "large processor": (long("processor_config.json", 40 * 10**9), "has 40,000,000,000 bytes"),
    "large tokenizer": (long("tokenizer.json", 40 * 10**9), "has 40,000,000,000 bytes"),
    "tokens without end": (processor(max_length=10**9), "max_length must be 3 or more"),
    "more tokens than places": (processor(max_length=5_000), "its encoder reads 64 tokens"),
    "half a token": (processor(max_length=64.5), "max_length must be 3 or more"),
    "long prefix": (processor(text_prefix="가" * 10**6), "text_prefix must be a text of at most 1,000"),
    "long separator": (processor(text_separator="가" * 10**6), "text_separator must be a text of at most 1,000"),
    "words that grow": (processor(text_cleaning=[{"hanja_words": {"words": {"바": "바" * 10**6}}}]), "100 characters"),
    "many steps": (processor(text_cleaning=["html"] * 100_000), "has 100,000 steps"),
    "large pictures": (pictures(size={"height": 10**6, "width": 10**6}), r"size\.height is 1e\+06"),
    "large crops": (pictures(do_center_crop=True, crop_size={"height": 10**5, "width": 9}), "crop_size.height"),
    "pictures of any size": (pictures(do_resize=False), "do_resize is false"),
    "overlapping weights": (header(overlapping), "invalid offset|is not whole"),
    "huge weights": (header(lambda c: first(c).update(shape=[2**62, 4])), "overflow|is not whole"),
    "weights before the file": (header(lambda c: first(c).update(data_offsets=[-8, 4])), "is not whole"),
    "weights twice": (header(twice), "is not whole"),
    "doubled sixty times": (steps(*[replace({"String": "가"}, "가가")] * 60), "times as long"),
    "a letter for a million": (steps(replace({"String": "가"}, "가" * 10**6)), "1,000,000 times as long"),
    "a million between letters": (steps(replace({"Regex": ""}, "가" * 10**6)), "times as long"),
    "a million before": (steps({"type": "Prepend", "prepend": "가" * 10**6}), "times as long"),
    "many bytes": (steps(*[{"type": "ByteLevel"}] * 9), "times as long"),
    "pattern without end": (steps(replace({"Regex": "(.*)*x"}, "")), "could search a text for hours"),
    "pattern of a split": (tokens(pre_tokenizer={
        "type": "Split", "pattern": {"Regex": "(a|a)+$"}, "behavior": "Isolated", "invert": False}), "for hours"),
    "long words": (within("tokenizer.json", lambda c: c["model"].update(max_input_chars_per_word=10**9)), "would read"),
    "tokens around": (tokens(post_processor=TEMPLATE), "tokens around a text"),
    "a piece that is too many": (within("tokenizer.json", lambda c: c["model"]["vocab"].update({"뷁": 4 * 10**9})),
                                 "pieces and the encoder knows"),
    "no tokenizer": (text("tokenizer.json", "{", "[{"), "is damaged"),
    "deep tokenizer": (lambda folder: (folder / "tokenizer.json").write_text('{"a":' * 100_000), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_in_one_sentence_for_next_to_nothing(checkpoint, tmp_path, kind):
    harm, reason = BOMBS[kind]
    folder = Path(shutil.copytree(checkpoint, tmp_path / "strange"))
    harm(folder)
    with taking() as taken, pytest.raises(ValueError, match=reason) as caught:
        Predictor.from_pretrained(str(folder))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 900
    assert taken.mb < 100 and taken.seconds < 20  # on any machine; without the checks it takes gigabytes, or hours


@pytest.mark.parametrize("kind", ["labels by number", "some layers more", "doubled sixty times", "others' weights"])
def test_a_bomb_is_refused_by_the_pipeline(checkpoint, tmp_path, kind):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "strange"))
    BOMBS[kind][0](folder)
    with taking() as taken, pytest.raises(ValueError, match=BOMBS[kind][1]):
        pipeline("multi-head-classification", model=str(folder))
    assert taken.mb < 100


def test_models_of_other_threads_are_not_counted(checkpoint, tmp_path):
    """While one is refused for its size, others load."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "strange"))
    encoder(num_hidden_layers=9_000)(folder)
    found: list[str] = []

    def refuse() -> None:
        for _ in range(3):
            try:
                Predictor.from_pretrained(str(folder))
            except ValueError as error:
                found.append(str(error))

    thread = threading.Thread(target=refuse)
    thread.start()
    for _ in range(5):
        tiny.model("bert", "resnet")
    thread.join()
    assert len(found) == 3 and all("far larger" in said for said in found)


USUAL = [
    r" {2,}", r"\s{2,}|[\n\r\t]", r"\s+", r"^▁+$", r"\A▁", r"\A +| +\z", r" +▁", r"[\s\p{Cc}]+", r"[一-龥぀-ゟ゠-ヿ]+",
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    "|".join(re.escape(f"[unused{number}]") for number in range(1_000)),
]  # fmt: skip
ENDLESS = [
    "(가+)+$", "(a|a|aa)*b", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)*x", "a*a*b", "(a?){8}b", "a?a?a?a?b",
    "(a|a)(a|a)(a|a)b", r"(a)\1+", r"(?<x>a\g<x>?)b", "a{0,99}a{0,99}b", "a{,99}a+b", "[[a]*]+b+", "((a))(((a)))",
    "(?~a)+", "a" * 30_000, "(?:" + "a{0,1000}" * 10 + "){0,1000}",
]  # fmt: skip


def test_the_patterns_of_known_tokenizers_pass_and_those_that_search_for_hours_do_not():
    assert [pattern for pattern in USUAL if not is_bounded(pattern)] == []
    assert [pattern for pattern in ENDLESS if is_bounded(pattern)] == []


def test_what_a_known_tokenizer_does_to_a_text_passes(tmp_path):
    """Those of BERT, T5, Llama, CLIP and what hfk makes itself."""
    made = tiny.tokenizer().backend_tokenizer
    for normal in (
        normalizers.BertNormalizer(),
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]),
        normalizers.Sequence(
            [normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.Replace(Regex(" {2,}"), " ")]
        ),
        normalizers.Sequence([normalizers.ByteLevel(), normalizers.Strip()]),
    ):
        other = Tokenizer.from_str(made.to_str())
        other.normalizer = normal
        other.save(str(tmp_path / "tokenizer.json"))
        check_tokenizer(tmp_path / "tokenizer.json", "here")


def test_words_that_are_written_out_again_and_again_make_no_text_long():
    cleaner = TextCleaner([{"hanja_words": {"words": {"美": "美 " * 50}}}] * 40)
    with taking() as taken:
        assert len(cleaner("美 " * 5_000)) <= 45_000
    assert taken.mb < 50
