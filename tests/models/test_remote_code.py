"""A checkpoint loads where hfk is not installed, and without remote code where it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

from hfk import MultiHeadClassificationPipeline, MultiHeadConfig, MultiHeadForClassification, MultiHeadProcessor
from hfk.models.modeling_ensemble import MultiHeadEnsemble
from hfk.models.processing_ensemble import MultiHeadEnsembleProcessor
from tests import tiny

TEXT = "해 뜨는 모습이 아름다운 동해의 바닷가"


@pytest.fixture(scope="module")
def folders(checkpoint, tmp_path_factory) -> dict[str, Path]:
    """Checkpoints of every kind that brings code: both encoders, an ensemble, encoders of hfk's own, text cleaning."""
    home = tmp_path_factory.mktemp("kinds")
    torch.manual_seed(0)
    members = [tiny.model("bert"), tiny.model("xlm-roberta", "vit"), tiny.model("electra")]
    processor, readers = MultiHeadEnsembleProcessor.join(
        [tiny.processor(), tiny.processor("bert", "vit", max_length=48), tiny.processor()]
    )
    kinds = {"ensemble": (MultiHeadEnsemble.from_members(members, readers), processor)}
    kinds |= {name: (tiny.model(name), tiny.processor()) for name in ("ngram", "recurrent", "textcnn")}
    kinds["lite"] = (tiny.model("bert", "efficientnet-lite"), tiny.processor("bert", "vit"))
    kinds["cleaning"] = (tiny.model("bert"), tiny.processor(text_cleaning="simple"))
    for name, parts in kinds.items():
        for part in parts:
            part.save_pretrained(home / name)
    return {"both": checkpoint} | {name: home / name for name in kinds}


OPTIONAL = {
    "encoder_base": {"both", "ensemble", "ngram", "recurrent", "textcnn", "lite", "cleaning"},
    "modeling_ngram": {"ngram"},
    "modeling_recurrent": {"recurrent", "textcnn"},
    "modeling_textcnn": {"textcnn"},
    "modeling_efficientnet_lite": {"lite"},
    "modeling_ensemble": {"ensemble"},
    "text_cleaning": {"cleaning"},
    "hanja_readings": {"cleaning"},
    "registration": set(),
}
"""Module → the kinds of checkpoints that need it."""


def test_only_the_modules_that_a_checkpoint_needs_travel(folders, tmp_path):
    for module, needed_by in OPTIONAL.items():
        assert {kind for kind, folder in folders.items() if (folder / f"{module}.py").is_file()} == needed_by, module
    tiny.model("bert").save_pretrained(tmp_path)  # where another model lay before
    tiny.model("ngram").save_pretrained(tmp_path)
    assert (tmp_path / "modeling_ngram.py").is_file()
    tiny.model("recurrent").config.save_pretrained(tmp_path)
    assert (tmp_path / "modeling_recurrent.py").is_file() and not (tmp_path / "modeling_ngram.py").exists()


def test_every_kind_loads_in_a_process_without_hfk(folders, tmp_path):
    """And each runs its own code: none of them makes itself known to transformers for those loaded after it."""
    script = textwrap.dedent(
        f"""
        import sys, json
        sys.modules["hfk"] = None
        from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer, pipeline
        text, found, packages = {TEXT!r}, {{}}, set()
        for kind, folder in { ({name: str(folder) for name, folder in folders.items()})!r}.items():
            AutoConfig.from_pretrained(folder, trust_remote_code=True)
            model = AutoModel.from_pretrained(folder, trust_remote_code=True)
            processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
            AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
            if kind == "both":
                AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
            logits = model(**processor(text=[text])).logits
            found[kind] = {{"logits": logits["cat2"].tolist(), "clean": processor.clean("美·中 정상 “訪韓” 무산")}}
            parts = [model, model.config, processor]
            if kind in ("ngram", "recurrent", "textcnn"):
                parts += [model.text_encoder, model.config.text_config]
            if kind == "lite":
                parts += [model.vision_encoder, model.config.vision_config]
            homes = {{type(part).__module__.rpartition(".")[0] for part in parts}}
            assert all(home.split(".")[:2] == ["transformers_modules", folder.split("/")[-1]] for home in homes), homes
            assert not homes & packages, homes
            packages |= homes
            if kind in ("both", "ensemble", "textcnn", "cleaning"):
                model.save_pretrained({str(tmp_path)!r} + "/" + kind)
                processor.save_pretrained({str(tmp_path)!r} + "/" + kind)
            if kind in ("both", "ensemble"):
                classify = pipeline("multi-head-classification", model=folder, trust_remote_code=True)
                assert type(classify).__module__.startswith("transformers_modules")
                found[kind] |= {{"answer": classify(text), "batch": classify([text] * 3, batch_size=2)}}
        print(json.dumps(found))
        """
    )
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for kind, remote in json.loads(done.stdout.splitlines()[-1]).items():
        again = [tmp_path / kind] if (tmp_path / kind).is_dir() else []  # what that process saved is whole again
        for place in [folders[kind], *again]:
            model, processor = AutoModel.from_pretrained(place), AutoProcessor.from_pretrained(place)
            expected = model(**processor(text=[TEXT])).logits["cat2"]
            torch.testing.assert_close(torch.tensor(remote["logits"]), expected, rtol=1e-5, atol=1e-6)
            assert {path.name for path in place.glob("*.py")} == {path.name for path in folders[kind].glob("*.py")}
        assert remote["clean"] == processor.clean("美·中 정상 “訪韓” 무산")
        if "answer" in remote:
            answer = pipeline("multi-head-classification", model=str(folders[kind]))(TEXT)
            assert remote["answer"]["cat1"][0]["label"] == answer["cat1"][0]["label"]
            assert [row["cat2"] for row in remote["batch"]] == [remote["batch"][0]["cat2"]] * 3
    assert remote["clean"] == '미국·중국 정상 "방한" 무산'
    assert set(path.name for path in tmp_path.iterdir()) >= {"both", "ensemble"}


def test_local_classes_are_used_where_hfk_is_imported(checkpoint):
    for trust in ({}, {"trust_remote_code": True}):
        assert type(AutoConfig.from_pretrained(checkpoint, **trust)) is MultiHeadConfig
        assert type(AutoModel.from_pretrained(checkpoint, **trust)) is MultiHeadForClassification
        assert type(AutoProcessor.from_pretrained(checkpoint, **trust)) is MultiHeadProcessor
        classify = pipeline("multi-head-classification", model=str(checkpoint), **trust)
        assert type(classify) is MultiHeadClassificationPipeline


def test_the_folder_holds_no_pickle_and_only_known_files(checkpoint):
    suffixes = {path.suffix for path in checkpoint.iterdir()}
    assert suffixes <= {".json", ".safetensors", ".py"}


def test_the_pipeline_saves_a_whole_checkpoint(checkpoint, tmp_path):
    classify = pipeline("multi-head-classification", model=str(checkpoint))
    classify.save_pretrained(tmp_path)
    again = pipeline("multi-head-classification", model=str(tmp_path))
    assert again(TEXT)["cat1"][0]["label"] == classify(TEXT)["cat1"][0]["label"]
    assert json.loads((tmp_path / "config.json").read_text())["custom_pipelines"]


def test_a_missing_shard_is_named(checkpoint, tmp_path):
    import shutil

    import pytest

    shutil.copytree(checkpoint, tmp_path / "broken")
    model = AutoModel.from_pretrained(checkpoint)
    (tmp_path / "broken" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "broken", max_shard_size="20KB")
    shards = sorted((tmp_path / "broken").glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[1].unlink()
    with pytest.raises(OSError, match=shards[1].name):
        AutoModel.from_pretrained(tmp_path / "broken")
