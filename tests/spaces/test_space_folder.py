"""The Space's folder: what the Hub reads of it, what it installs, and the checkpoints that come along."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
import yaml
from datasets import concatenate_datasets
from packaging.requirements import Requirement

from hfk import Predictor
from hfk.tasks import load_task
from tests.spaces.conftest import ROOT, STUDIO

CHECKPOINTS = sorted((STUDIO / "checkpoints").iterdir())
HEADLINES = STUDIO / "checkpoints" / "headlines"
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_front_matter_is_what_the_hub_takes():
    import gradio

    text = (STUDIO / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.S).group(1))
    assert front["sdk"] == "gradio" and front["sdk_version"] == gradio.__version__
    assert (STUDIO / front["app_file"]).is_file()
    assert {front["colorFrom"], front["colorTo"]} <= COLORS
    assert len(front["short_description"]) <= 60 and front["python_version"] == "3.11"
    assert isinstance(front["models"], list) and front["pinned"] is False


def test_requirements_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = [word for word in project["optional-dependencies"]["space"] if not word.startswith("gradio")]
    lines = (STUDIO / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line[0] != "#")
    allowed = {wanted.name: wanted.specifier for wanted in map(Requirement, project["dependencies"] + extra)}
    assert pinned.keys() == allowed.keys()
    assert all(allowed[name].contains(version) for name, version in pinned.items())


def test_the_checkpoints_are_small_and_hold_nothing_else():
    assert [path.name for path in CHECKPOINTS] == ["clothes", "headlines", "tour-tiny", "tour-tiny-text", "tourism"]
    files = [path for folder in CHECKPOINTS for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".csv", ".png", ".md", ".txt", ""}
    for folder in CHECKPOINTS:
        assert sum(path.stat().st_size for path in (folder / "report").glob("*")) <= 500_000
    for path in files:
        if path.suffix == ".json" and path.name != "tokenizer.json":
            assert not re.search(r'"/|"auto_map"|tmp', path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(
    "folder",
    [STUDIO / "checkpoints" / name for name in ("tour-tiny", "tour-tiny-text")],
    ids=lambda folder: folder.name,
)
def test_the_scores_on_the_page_are_those_of_the_checkpoint(folder):
    metrics = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    task = load_task(metrics["extra"]["task"])
    rows = concatenate_datasets([task.load()["test"]])
    columns = [name for name in ("text", "image") if name in rows.column_names]
    answers = list(Predictor.from_pretrained(folder)({name: row[name] for name in columns} for row in rows))
    for head in task.heads:
        right = [
            answer[head.name][0]["label"] == head.labels[index]
            for answer, index in zip(answers, rows[head.name], strict=True)
        ]
        assert sum(right) / len(right) == pytest.approx(metrics["scores"][f"{head.name}_accuracy"], abs=0.02)


@pytest.mark.data
def test_headlines_are_told_on_real_rows_that_it_did_not_see(real_data):
    metrics = json.loads((HEADLINES / "report" / "metrics.json").read_text(encoding="utf-8"))
    split = {"validation": 0.05, "test": 0.1, "seed": 42}  # as its card says
    task = load_task("ynat", data=str(real_data / "ynat" / "train.csv"), split=split)
    rows = task.load()["test"]
    assert len(rows) == metrics["counts"]["rows"] > 3000
    answers = Predictor.from_pretrained(HEADLINES)({"text": text} for text in rows["text"][:500])
    names = [task.heads[0].labels[index] for index in rows["topic"][:500]]
    right = [answer["topic"][0]["label"] == name for answer, name in zip(answers, names, strict=True)]
    assert sum(right) / len(right) == pytest.approx(metrics["scores"]["topic_accuracy"], abs=0.04)
    assert metrics["scores"]["topic_accuracy"] > 0.87


def test_headlines_says_whose_rows_it_learned_from():
    card = (HEADLINES / "README.md").read_text(encoding="utf-8")
    assert "cc-by-sa-4.0" in card and "KLUE" in card and "Kiwi" in card


@pytest.mark.parametrize(
    "path", sorted(path for path in STUDIO.glob("*.*") if path.suffix != ".png"), ids=lambda path: path.name
)
def test_the_page_names_no_other_host(path):
    hosts = set(re.findall(r"https?://([\w.-]+)", path.read_text(encoding="utf-8")))
    assert hosts <= {"127.0.0.1"}


@pytest.mark.parametrize("path", sorted(STUDIO.glob("*.py")), ids=lambda path: path.name)
def test_modules_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
