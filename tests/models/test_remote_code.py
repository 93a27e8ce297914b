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
    """Checkpoints of every kind that brings code: both encoders, an ensemble, encoders of hfk's own."""
    home = tmp_path_factory.mktemp("kinds")
    torch.manual_seed(0)
    members = [tiny.model("bert"), tiny.model("xlm-roberta", "vit"), tiny.model("electra")]
    processor, readers = MultiHeadEnsembleProcessor.join(
        [tiny.processor(), tiny.processor("bert", "vit", max_length=48), tiny.processor()]
    )
    kinds = {"ensemble": (MultiHeadEnsemble.from_members(members, readers), processor)}
    kinds |= {name: (tiny.model(name), tiny.processor()) for name in ("ngram", "recurrent", "textcnn")}
    for name, parts in kinds.items():
        for part in parts:
            part.save_pretrained(home / name)
    return {"both": checkpoint} | {name: home / name for name in kinds}


def test_every_kind_loads_in_a_process_without_hfk(folders, tmp_path):
    script = textwrap.dedent(
        f"""
        import sys, json
        sys.modules["hfk"] = None
        from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer, pipeline
        text, found = {TEXT!r}, {{}}
        for kind, folder in { ({name: str(folder) for name, folder in folders.items()})!r}.items():
            AutoConfig.from_pretrained(folder, trust_remote_code=True)
            model = AutoModel.from_pretrained(folder, trust_remote_code=True)
            processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
            AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
            if kind == "both":
                AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
            logits = model(**processor(text=[text])).logits
            classify = pipeline("multi-head-classification", model=folder, trust_remote_code=True)
            assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
            if kind in ("ngram", "recurrent", "textcnn"):
                assert type(model.text_encoder).__module__.startswith("transformers_modules")
            else:
                model.save_pretrained({str(tmp_path)!r} + "/" + kind)
                processor.save_pretrained({str(tmp_path)!r} + "/" + kind)
            found[kind] = {{"logits": logits["cat2"].tolist(), "answer": classify(text)}}
            found[kind]["batch"] = classify([text] * 3, batch_size=2)
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
        answer = pipeline("multi-head-classification", model=str(folders[kind]))(TEXT)
        assert remote["answer"]["cat1"][0]["label"] == answer["cat1"][0]["label"]
        assert [row["cat2"] for row in remote["batch"]] == [remote["batch"][0]["cat2"]] * 3
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
