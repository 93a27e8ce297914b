"""A checkpoint from a stranger that would do more than classify is refused, whichever door it comes through."""

from __future__ import annotations

import importlib.util
import json
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi
from transformers import pipeline

from hfk import Predictor
from hfk.files import parse_yaml
from hfk.hub.endpoint_handler import EndpointHandler
from hfk.hub.training_checkpoints import fetch_checkpoint
from hfk.inference.loading import load_checkpoint
from hfk.models import checked_files
from hfk.models.modeling_multihead import MultiHeadForClassification
from tests import tiny

STUDIO = Path(__file__).resolve().parents[2] / "spaces" / "studio"


# ----------------------------------------------------------------------------------------- what strangers may have made


def change(path: Path, **keys) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(content | keys, ensure_ascii=False), encoding="utf-8")


def code(folder: Path) -> str:
    """Code beside the checkpoint that leaves a mark when it is run; returns how it is named."""
    mark = str(folder.parent / "it-ran")
    (folder / "evil.py").write_text(f"open({mark!r}, 'w').close()\nclass Evil: ...\n", encoding="utf-8")
    return "evil.Evil"


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def tokenizer_code(folder: Path) -> None:
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [code(folder), code(folder)]})


def picture_code(folder: Path) -> None:
    change(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": code(folder)})


def processor_code(folder: Path) -> None:
    inner = {"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": code(folder)}}
    change(folder / "processor_config.json", image_processor=inner)


def elsewhere(folder: Path) -> None:
    change(folder / "config.json", auto_map={"AutoConfig": "else/where--evil.Evil"})


def pipeline_elsewhere(folder: Path) -> None:
    impl = {"impl": "else/where--evil.Evil", "pt": ["AutoModel"]}
    change(folder / "config.json", custom_pipelines={"multi-head-classification": impl})


def kernel(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(folder / "config.json", text_config=config["text_config"] | {"_attn_implementation_internal": "some/kernel"})


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(folder.parent / "it-ran")))


def outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"metadata": {}, "weight_map": {"heads.bias": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def adapter(folder: Path) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": "else/where", "r": 1, "target_modules": ["query"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def long_header(folder: Path) -> None:
    length = checked_files.MAX_HEADER_BYTES + 1
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}".ljust(length))


def many_tensors(folder: Path) -> None:
    entry = b'"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    header = b"{" + entry * checked_files.MAX_TENSORS + entry[:-1] + b"}"
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def deep(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


def sizes(folder: Path) -> None:
    change(folder / "config.json", num_labels=10**9)


def growing(folder: Path) -> None:
    steps = [{"type": "Replace", "pattern": {"String": "가"}, "content": "가가"}] * 60
    change(folder / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": steps})


def backbone(folder: Path) -> None:
    found = {"model_type": "dpt", "backbone": "else/where", "use_pretrained_backbone": True}
    change(folder / "config.json", vision_config=found)


STRANGE = {
    "tokenizer code": (tokenizer_code, "auto_map.* of tokenizer_config.json would have code"),
    "picture code": (picture_code, "auto_map.* of preprocessor_config.json would have code"),
    "processor code": (processor_code, "image_processor.auto_map.* of processor_config.json would have code"),
    "code from elsewhere": (elsewhere, "auto_map would run code from another repository"),
    "pipeline from elsewhere": (pipeline_elsewhere, "custom_pipelines would run code from another repository"),
    "kernel": (kernel, "would run a kernel from the Hub"),
    "pickle": (pickled, r"only the pickle pytorch_model\.bin"),
    "outside": (outside, "names no shards in its own folder"),
    "adapter": (adapter, r"has an adapter_config\.json"),
    "long header": (long_header, r"has a header of 16,777,217 bytes"),
    "many tensors": (many_tensors, "has more than 100,000 tensors"),
    "deep": (deep, "tokenizer_config.json is nested too deeply|tokenizer_config.json is damaged"),
    "sizes": (sizes, r"num_labels is 1e\+09"),
    "growing": (growing, "would make texts"),
    "backbone": (backbone, "use_pretrained_backbone would have other weights"),
}


# ------------------------------------------------------------------------------------------------------------ the doors


@pytest.fixture
def doors(finished_run, places, tmp_path, fails, request) -> dict[str, Callable[[Path], object]]:
    """Door → what takes a checkpoint's folder through it: an error, or a command's sentence."""
    table = places.with_name("places.csv")
    task = str(places)

    def studio(folder: Path) -> None:
        spec = importlib.util.spec_from_file_location("studio_loading", STUDIO / "loading.py")
        loading = importlib.util.module_from_spec(spec)
        request.getfixturevalue("monkeypatch").setitem(sys.modules, "studio_loading", loading)
        spec.loader.exec_module(loading)
        checkpoint = loading.Checkpoint("strange", str(folder))
        checkpoint.load()
        assert "\n" not in checkpoint.error
        if checkpoint.error:
            raise ValueError(checkpoint.error)

    def distill(folder: Path) -> str:
        return fails("distill", folder, "--output-dir", tmp_path / "student", "--student", task, "use_cpu=true")

    def pull(folder: Path) -> str:
        hub = request.getfixturevalue("hub")
        hub.here(request.getfixturevalue("monkeypatch"))
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        api.create_repo(f"{hub.user}/strange")
        api.upload_folder(repo_id=f"{hub.user}/strange", folder_path=folder, allow_patterns=["*"])
        said = fails("pull", f"{hub.user}/strange", "--output-dir", tmp_path / "pulled")
        assert not (tmp_path / "pulled").exists()
        return said

    return {
        "Predictor": Predictor.from_pretrained,
        "pipeline": lambda folder: pipeline("multi-head-classification", model=str(folder)),
        "model": MultiHeadForClassification.from_pretrained,
        "predict": lambda folder: fails("predict", folder, table, tmp_path / "out.csv"),
        "evaluate": lambda folder: fails("evaluate", folder, "--data", table, "--output-dir", tmp_path / "report"),
        "push": lambda folder: fails("push", folder, "me/strange", "--dry-run"),
        "pull": pull,
        "ensemble": lambda folder: fails("ensemble", finished_run, folder, "--output-dir", tmp_path / "both"),
        "distill": distill,
        "Space": studio,
        "endpoint": lambda folder: EndpointHandler(str(folder)),
    }


DOORS = (
    "Predictor", "pipeline", "model", "predict", "evaluate", "push", "pull", "ensemble", "distill", "Space", "endpoint",
)  # fmt: skip
QUICK = [(kind, "Predictor") for kind in STRANGE] + [("adapter", door) for door in DOORS[1:]]
"""What `make test` tries; `make trust` tries everything at every door."""


@pytest.fixture
def strange(finished_run, tmp_path, monkeypatch) -> Path:
    """A finished run, for a stranger to change; whoever asks on the terminal fails."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it was asked on the terminal"))
    folder = tmp_path / "shelf" / "strange"
    skipped = shutil.ignore_patterns("report*", "checkpoint-*")
    return Path(shutil.copytree(finished_run, folder, ignore=skipped))


def refused(strange: Path, doors: dict[str, Callable], kind: str, door: str) -> None:
    harm, reason = STRANGE[kind]
    harm(strange)
    match door:
        case "Predictor" | "pipeline" | "model" | "Space" | "endpoint":
            with pytest.raises((ValueError, OSError), match=reason):
                doors[door](strange)
        case _:
            said = doors[door](strange)
            assert re.search(reason, said), said
    assert not (strange.parent / "it-ran").exists()


@pytest.mark.parametrize(("kind", "door"), QUICK)
def test_a_stranger_is_refused(strange, doors, kind, door):
    refused(strange, doors, kind, door)


@pytest.mark.trust
@pytest.mark.parametrize(("kind", "door"), [pair for pair in product(STRANGE, DOORS) if pair not in QUICK])
def test_every_stranger_is_refused_at_every_door(strange, doors, kind, door):
    refused(strange, doors, kind, door)


def test_the_doors_are_open_for_others(strange):
    """What is refused above is refused for what the stranger has done."""
    assert next(Predictor.from_pretrained(str(strange))([tiny.SENTENCES[0]]))["cat1"]
    assert pipeline("multi-head-classification", model=str(strange))(tiny.SENTENCES[0])["cat1"]
    assert EndpointHandler(str(strange))({"inputs": tiny.SENTENCES[0]})["cat1"]
    (strange / "pytorch_model.bin").write_bytes(b"beside safetensors it is not even looked at")
    load_checkpoint(strange)


# ------------------------------------------------------------------------------------------------------ what else comes


@pytest.mark.parametrize("step", ['"400/../../../precious"', "-1", "true", "null", "4.0", "[" * 100_000])
def test_a_fetched_state_names_no_folder_outside(hub, tmp_path, monkeypatch, step):
    hub.here(monkeypatch)
    precious = tmp_path / "precious"
    (tmp_path / "made" / "last-checkpoint").mkdir(parents=True)
    (tmp_path / "made" / "last-checkpoint" / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    precious.mkdir()
    (precious / "kept").touch()
    api = hub.api()
    api.create_repo(f"{hub.user}/run")
    api.upload_folder(repo_id=f"{hub.user}/run", folder_path=tmp_path / "made")
    run = tmp_path / "a" / "b" / "c"
    with pytest.raises(ValueError, match="names no step to go on from"):
        fetch_checkpoint(f"{hub.user}/run", run, api=api)
    assert (precious / "kept").is_file() and not list(run.glob("checkpoint-*"))
    with pytest.raises(ValueError, match="is no checkpoint's folder"):
        fetch_checkpoint(f"{hub.user}/run", run, name="../last-checkpoint", api=api)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS, "aliases stand for more than 1,000,000 values"),
        ("a: &a [*a]", "aliases stand for more than"),
        ("a: " + "[" * 1_500, "nested too deeply"),
        ("a: " + "{b: " * 1_500, "nested too deeply"),
    ],
    ids=["laughs", "circle", "deep list", "deep mapping"],
)
def test_a_yaml_without_measure_is_one_sentence(text, reason, tmp_path, fails):
    with pytest.raises(yaml.YAMLError, match=reason):
        parse_yaml(text)
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    assert reason in fails("train", path)


def test_a_yaml_of_a_few_aliases_is_read():
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: 3}}") == {"a": [1, 2], "b": [1, 2], "c": {"d": 3}}
