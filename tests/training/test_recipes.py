"""Every recipe of the ladder trains, and what it leaves behind answers where hfk can't be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

from hfk import Predictor, train
from hfk.runs.recipe import list_recipes, load_recipe

FROM_SCRATCH = [name for name in list_recipes() if "text_config" in load_recipe(name)]
TITLES = ["코스피 사상 최고치로 마감", "손흥민 두 골로 승리 이끌어", "北 미사일 발사에 긴급회의"]


def test_the_ladder_has_an_encoder_of_every_kind():
    assert {load_recipe(name)["text_encoder"] for name in FROM_SCRATCH} == {"ngram", "recurrent", "textcnn"}


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_a_checkpoint_answers_without_hfk(name, tmp_path):
    if load_recipe(name).get("embeddings") == "fasttext":
        pytest.importorskip("gensim")
    short = {"task": "ynat-mini", "max_train_rows": 64, "num_train_epochs": 1, "disable_tqdm": True}
    train(name, tmp_path / "run", short)
    script = textwrap.dedent(
        f"""
        import sys, json
        sys.modules["hfk"] = None
        from transformers import pipeline
        classify = pipeline("multi-head-classification", model={str(tmp_path / "run")!r}, trust_remote_code=True)
        print(json.dumps(classify({TITLES!r}, top_k=7)))
        """
    )
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    elsewhere = json.loads(done.stdout.splitlines()[-1])
    for here, there in zip(Predictor.from_pretrained(tmp_path / "run")(TITLES, top_k=7), elsewhere, strict=True):
        assert [answer["label"] for answer in here["topic"]] == [answer["label"] for answer in there["topic"]]
        assert [answer["score"] for answer in here["topic"]] == pytest.approx(
            [answer["score"] for answer in there["topic"]], abs=1e-5
        )
