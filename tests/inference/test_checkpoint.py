"""Checkpoints that are not whole, or no checkpoints at all: one sentence, and never an answer drawn by chance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hfk import MultiHeadForClassification, Predictor
from hfk.inference.predictor import find_device, load_checkpoint
from hfk.runs.score import evaluate
from tests import tiny

INDEX = "model.safetensors.index.json"


@pytest.fixture
def sharded(checkpoint, tmp_path) -> Path:
    """A copy of the tiny checkpoint in several files of weights."""
    folder = tmp_path / "sharded"
    shutil.copytree(checkpoint, folder)
    (folder / "model.safetensors").unlink()
    MultiHeadForClassification.from_pretrained(checkpoint).save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return folder


def shard(folder: Path) -> Path:
    return sorted(folder.glob("model-*.safetensors"))[1]


def without_the_heads(folder: Path) -> None:
    for file in folder.glob("model-*.safetensors"):
        weights = {name: weight for name, weight in load_file(file).items() if not name.startswith("heads.")}
        save_file(weights, file, metadata={"format": "pt"})


def in_a_circle(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["heads"][0] |= {"parent": "cat2", "parent_of": [0, 2]}
    (folder / "config.json").write_text(json.dumps(config))


DAMAGE = {
    "missing shard": (lambda folder: shard(folder).unlink(), "not whole: .*model-00002-of"),
    "cut shard": (lambda folder: shard(folder).write_bytes(shard(folder).read_bytes()[:2000]), "not whole"),
    "missing index": (lambda folder: (folder / INDEX).unlink(), "not whole: .*no file named model.safetensors"),
    "missing heads": (without_the_heads, r"not whole: \d+ weights are missing, such as heads"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON file"),
    "circle of parents": (in_a_circle, "run in a circle: cat1 → cat2 → cat1"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "not whole"),
    "no processor": (lambda folder: (folder / "processor_config.json").unlink(), "not whole"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_sentence(sharded, damage):
    harm, message = DAMAGE[damage]
    harm(sharded)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        Predictor.from_pretrained(sharded)
    assert "\n" not in str(caught.value)
    with pytest.raises((ValueError, OSError), match=message):
        evaluate(sharded, "any.csv", "anywhere")


def test_shards_hold_what_one_file_held(sharded, checkpoint):
    rows = [{"text": text} for text in tiny.SENTENCES]
    assert list(Predictor.from_pretrained(sharded)(rows)) == list(Predictor.from_pretrained(checkpoint)(rows))


def test_other_things_are_refused(checkpoint, encoders, tmp_path):
    for name in ("no-such-checkpoint", "owner/no-such-checkpoint", str(tmp_path / "no" / "such" / "folder"), "a b"):
        with pytest.raises(ValueError, match="neither a checkpoint's folder nor a Hub checkpoint"):
            load_checkpoint(name)
    with pytest.raises(ValueError, match="of type 'bert', not a multi-head one"):
        load_checkpoint(encoders["text_encoder"])
    with pytest.raises(ValueError, match="'int8' is not one of auto"):
        load_checkpoint(checkpoint, "int8")
    with pytest.raises(ValueError, match="'abacus' can't be used here"):
        find_device("abacus")


def test_numbers_of_half_the_bytes_on_request(checkpoint):
    for dtype in ("bfloat16", torch.bfloat16):
        predictor = Predictor.from_pretrained(checkpoint, device="cpu", dtype=dtype)
        assert {weight.dtype for weight in predictor.model.parameters()} == {torch.bfloat16}
        assert next(predictor([tiny.SENTENCES[0]]))["cat1"][0]["label"] in ("자연", "음식")


def test_a_config_that_would_run_code_from_elsewhere_is_refused(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["_attn_implementation_internal"] = "someone/kernel"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="someone/kernel"):
        Predictor.from_pretrained(folder)
