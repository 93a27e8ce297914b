"""Checkpoints without their encoders: what they hold, who loads them, what they share, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import pipeline

from hfk import Predictor, train
from hfk.backbones.registry import PACKAGED, cache_folder
from hfk.hub.publishing import plan_push
from hfk.inference.loading import load_checkpoint
from hfk.models import named_encoders
from hfk.models.named_encoders import name_encoder
from hfk.runs.run import Run
from hfk.training.ensemble import build_ensemble, cook_soup
from tests import tiny

ROW = {"text": "해 뜨는 모습이 아름다운 동해의 바닷가"}
ALONE = f"""
import sys, json
sys.modules["hfk"] = None
from transformers import AutoModel, AutoProcessor
model, processor = (kind.from_pretrained(sys.argv[1], trust_remote_code=True) for kind in (AutoModel, AutoProcessor))
print(json.dumps(model(**processor(text=[{ROW["text"]!r}])).logits["cat2"].tolist()))
"""


@pytest.fixture(scope="module")
def packaged(tmp_path_factory, encoders):
    """The tiny encoders as packaged ones, in a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFK_CACHE", str(tmp_path_factory.mktemp("cache")))
        for side, like in (("text", "e5-small"), ("vision", "efficientnet-lite0")):
            name = f"tiny-{side}"
            patch.setitem(PACKAGED, name, replace(PACKAGED[like], name=name, prompt=""))
            shutil.copytree(encoders[f"{side}_encoder"], cache_folder() / name)
            (cache_folder() / name / "hfk_backbone.json").write_text(json.dumps({"name": name, "revision": 3}))
        yield {"text_encoder": "tiny-text", "vision_encoder": "tiny-vision"}


@pytest.fixture(scope="module")
def runs(packaged, places, tmp_path_factory):
    """Thin runs, of frozen encoders and of adapters."""
    folder = tmp_path_factory.mktemp("thin")
    for name, how in (("frozen", {"unfreezing": 0}), ("other", {"unfreezing": 0, "seed": 1}), ("lora", {"lora": 2})):
        train(str(places), folder / name, tiny.RECIPE | packaged | how | {"thin": True, "num_train_epochs": 1})
    return folder


def logits(checkpoint) -> torch.Tensor:
    output = next(Predictor.from_pretrained(str(checkpoint)).outputs([ROW]))
    return torch.from_numpy(output.logits["cat2"])


@pytest.mark.parametrize("kind", ["frozen", "lora"])
def test_what_was_trained_is_saved_and_answers_as_before(runs, kind):
    with safe_open(runs / kind / "model.safetensors", "pt") as weights:
        assert not [name for name in weights.keys() if name.startswith(("text_encoder", "vision_encoder"))]  # noqa: SIM118
    assert not list((runs / kind).glob("tokenizer*")) and not list((runs / kind).glob("vocab*"))
    said = Predictor.from_pretrained(str(runs / kind))
    run = Run.open(runs / kind)
    rows = run.task().load()["test"]
    before, again = run.predictions(), said.predictions(rows, None)
    for name, values in before.logits.items():  # what was scored before it was saved
        torch.testing.assert_close(torch.from_numpy(values), torch.from_numpy(again.logits[name]), rtol=1e-4, atol=1e-5)


def test_adapters_change_what_the_named_encoder_says(runs):
    model, _ = load_checkpoint(runs / "lora")
    plain, _ = load_checkpoint(runs / "frozen")
    names = list(model.config.adapters)
    assert names and all(name.startswith(("text_encoder", "vision_encoder")) for name in names)
    changed = [not torch.equal(model.get_parameter(name), plain.get_parameter(name)) for name in names]
    assert any(changed)


def test_checkpoints_share_the_encoder_and_nothing_else(runs):
    one, other = (load_checkpoint(runs / name)[0] for name in ("frozen", "other"))
    for (name, weight), same in zip(one.named_parameters(), other.parameters(), strict=True):
        assert (weight.data_ptr() == same.data_ptr()) == ("encoder." in name and "fusion" not in name), name
    one.to(torch.float64)  # which leaves the other as it was
    assert {weight.dtype for weight in other.parameters()} == {torch.float32}


def test_it_is_pushed_pooled_and_piped_like_any_other(runs, tmp_path):
    plan = plan_push(runs / "frozen", "me/places")
    assert "named_encoders.py" in plan.files
    assert plan.files["model.safetensors"].stat().st_size < 300_000
    answer = pipeline("multi-head-classification", model=str(runs / "frozen"))(ROW)
    said = next(Predictor.from_pretrained(str(runs / "frozen"))([ROW]))
    assert answer["cat2"][0]["label"] == said["cat2"][0]["label"]
    build_ensemble([runs / "frozen", runs / "lora"], tmp_path / "vote")
    names = load_file(tmp_path / "vote" / "model.safetensors")
    assert not [name for name in names if "text_encoder" in name.split(".")]
    model, processor = load_checkpoint(tmp_path / "vote")
    with torch.no_grad():
        voted = model(**processor(text=[ROW["text"]])).logits["cat2"].softmax(-1)[0]
    mean = torch.stack([logits(runs / name).softmax(-1) for name in ("frozen", "lora")]).mean(0)
    torch.testing.assert_close(voted, mean, rtol=1e-4, atol=1e-5)
    cook_soup([runs / "frozen", runs / "other"], tmp_path / "soup")
    assert logits(tmp_path / "soup").shape == mean.shape
    with pytest.raises(ValueError, match="adapters of its own; without --soup"):
        cook_soup([runs / "lora", runs / "lora" / ".." / "frozen"], tmp_path / "bad")


def alone(folder, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(folder)],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_hfk_it_needs_the_encoder_only(runs, tmp_path):
    done = alone(runs / "lora", HF_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)[0]), logits(runs / "lora"), rtol=1e-4, atol=1e-5)
    done = alone(runs / "lora", HF_HOME=str(tmp_path), HFK_CACHE=str(tmp_path / "empty"))
    assert 'the encoder tiny-text, which comes with hfk: pip install "hfk[offline]"' in done.stderr.splitlines()[-1]


def test_an_encoder_that_is_missing_or_another_is_one_sentence(runs, tmp_path, encoders):
    def changed(**named) -> str:
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(runs / "frozen", folder)
        for file, place in (("config.json", "encoders"), ("processor_config.json", "encoder")):
            content = json.loads((folder / file).read_text())
            entry = content[place]["text"] if file == "config.json" else content[place]
            entry.update(named)
            (folder / file).write_text(json.dumps(content))
        with pytest.raises(ValueError, match="encoder") as caught:
            load_checkpoint(folder)
        return str(caught.value)

    assert "other weights than those of tiny-text here (their SHA-256 differs)" in changed(sha256="0" * 64)
    assert "which is neither a Hub id nor a packaged one" in changed(name="../../elsewhere")
    assert "hf download someone/gone --revision abc" in changed(name="someone/gone", revision="abc")
    assert "the encoder gone: there is no packaged backbone" in changed(name="gone")


def test_an_encoder_that_learned_is_not_left_out(packaged, places, tmp_path, runs):
    for how, message in (
        ({}, "add unfreezing=0 or lora"),
        ({"unfreezing": 0, "text_encoder": "ngram"}, "names encoders that others can get, and text_encoder is 'ngram'"),
    ):
        with pytest.raises(ValueError, match=message):
            train(str(places), tmp_path / "run", tiny.RECIPE | packaged | how | {"thin": True})
    model, _ = load_checkpoint(runs / "frozen")
    model.text_encoder.requires_grad_(True)
    with pytest.raises(ValueError, match="may have learned, so it can't be left to the encoder that is named"):
        model.save_pretrained(tmp_path / "learned")


def test_weights_are_read_once_and_go_with_the_last_who_uses_them(runs, packaged):
    held = set(named_encoders.LOADED)
    model, _ = load_checkpoint(runs / "frozen")
    assert len(set(named_encoders.LOADED) - held) == 2
    del model
    assert set(named_encoders.LOADED) == held
    weights = (cache_folder() / "tiny-text" / "model.safetensors").read_bytes()
    assert name_encoder("tiny-text")["sha256"] == hashlib.sha256(weights).hexdigest()


def test_an_adapter_that_would_make_more_of_its_factors_than_its_weight_is_refused(runs, tmp_path):
    """Two columns of a million numbers are eight megabytes, and their product four terabytes."""
    folder = tmp_path / "changed"
    shutil.copytree(runs / "lora", folder)
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    name = next(iter(config["adapters"]))
    config["adapters"][name] = [10**6, 1, 10**6]
    for side, shape in (("up", (10**6, 1)), ("down", (1, 10**6))):
        weights[f"adapters.{name.replace('.', '/')}/{side}"] = torch.ones(shape)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="is 1000000 × 1000000, which its weight is not"):
        load_checkpoint(folder)


def test_sizes_of_a_named_encoder_are_not_believed(runs, tmp_path):
    """The stranger's configuration says them, and the encoder's weights are others'."""
    folder = tmp_path / "changed"
    shutil.copytree(runs / "frozen", folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 9_000
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="describes a far larger model"):
        load_checkpoint(folder)
