"""A run is calibrated at its end or afterwards, with the same outcome; what it answers stays as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hfk import Predictor, train
from hfk.runs.run import Run
from hfk.runs.score import calibrate_checkpoint
from tests import tiny

HEADS = [
    {"name": "cat1"},
    {"name": "cat2", "parent": "cat1"},
    {"name": "tags", "problem": "multi_label", "separator": ","},
    {"name": "price", "problem": "regression"},
]


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    return tiny.write_task(tmp_path_factory.mktemp("task"), image=None, heads=HEADS)


@pytest.fixture(scope="module")
def options(encoders) -> dict:
    return tiny.RECIPE | {"num_train_epochs": 1, "text_encoder": encoders["text_encoder"]}


@pytest.fixture(scope="module")
def runs(task, options, tmp_path_factory) -> dict[bool, Path]:
    """The same run twice, without and with `calibrate`."""
    folder = tmp_path_factory.mktemp("runs")
    for calibrated in (False, True):
        train(str(task), folder / str(calibrated), options | {"calibrate": calibrated})
    return {calibrated: folder / str(calibrated) for calibrated in (False, True)}


def temperatures(folder: Path) -> dict[str, float]:
    heads = json.loads((folder / "config.json").read_text())["heads"]
    return {head["name"]: head["temperature"] for head in heads}


def results(folder: Path) -> dict:
    return json.loads((folder / "report" / "metrics.json").read_text())


def test_a_run_is_calibrated_on_validation_and_measured_on_test(runs):
    found = temperatures(runs[True])
    assert found["cat1"] == found["cat2"] != 1.0 and found["tags"] != 1.0 and found["price"] == 1.0
    said = results(runs[True])["calibration"]
    assert (said["fitted_rows"], said["measured_on"]) == (12, "test")
    assert {name: scores["temperature"] for name, scores in said["heads"].items()} == {
        name: found[name] for name in ("cat1", "cat2", "tags")
    }
    assert set(temperatures(runs[False]).values()) == {1.0} and "calibration" not in results(runs[False])


def test_answers_stay_and_scores_follow(runs):
    plain, calibrated = (results(runs[state])["scores"] for state in (False, True))
    for name in plain:
        if not name.endswith(("ece", "map")):
            assert calibrated[name] == pytest.approx(plain[name], abs=1e-9), name
    said = results(runs[True])["calibration"]["heads"]["cat2"]
    assert plain["cat2_ece"] == pytest.approx(said["ece_before"], abs=1e-6)
    assert calibrated["cat2_ece"] == pytest.approx(said["ece_after"], abs=1e-6)
    rows = [{"text": sentence} for sentence in tiny.SENTENCES]
    before, after = (list(Predictor.from_pretrained(str(runs[state]))(rows)) for state in (False, True))
    for left, right in zip(before, after, strict=True):
        for head in ("cat1", "cat2"):
            assert left[head][0]["label"] == right[head][0]["label"]
            assert left[head][0]["score"] != right[head][0]["score"]
        assert [tag["label"] for tag in left["tags"]] == [tag["label"] for tag in right["tags"]]


def test_a_finished_run_is_calibrated_to_the_same_checkpoint(runs, tmp_path):
    shutil.copytree(runs[False], tmp_path / "run")
    said = calibrate_checkpoint(tmp_path / "run")
    assert temperatures(tmp_path / "run") == pytest.approx(temperatures(runs[True]), rel=1e-3)
    before, after = (json.loads((run / "config.json").read_text()) for run in (runs[False], tmp_path / "run"))
    for head in (*before["heads"], *after["heads"]):
        del head["temperature"]
    assert before == after
    assert "fitted on 12 rows, measured on: test" in said
    left, right = results(runs[True]), results(tmp_path / "run")
    assert right["scores"] == pytest.approx(left["scores"], abs=1e-4)
    assert right["extra"] == results(runs[False])["extra"] and right["baseline"] == left["baseline"]
    once = (tmp_path / "run" / "config.json").read_bytes()
    calibrate_checkpoint(tmp_path / "run")  # it starts from the logits, not from the last temperature
    assert (tmp_path / "run" / "config.json").read_bytes() == once


def test_any_checkpoint_is_calibrated_on_a_table(runs, task, tmp_path):
    shutil.copytree(runs[False], tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").unlink()
    with pytest.raises(ValueError, match=r"no recipe\.yaml .* give labeled rows that it has not seen, with --data"):
        calibrate_checkpoint(tmp_path / "run")
    said = calibrate_checkpoint(tmp_path / "run", task.parent / "places.csv")
    assert "fitted on 72 rows, measured on: the same rows, each half" in said
    assert temperatures(tmp_path / "run")["cat1"] != 1.0
    assert (tmp_path / "run" / "report-places" / "report.html").is_file()
    assert "calibration" not in results(tmp_path / "run")
    with pytest.raises(ValueError, match=r"there is no folder .*nothing; .* `hfk pull`"):
        calibrate_checkpoint(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"split": "none"}, "calibrate needs validation rows"),
        ({"heads": [{"name": "price", "problem": "regression"}]}, "labels of a classification head; there are none"),
    ],
)
def test_what_can_not_be_calibrated_is_said_before_training(options, tmp_path, keys, message):
    task = tiny.write_task(tmp_path / "task", rows=18, image=None, **({"heads": HEADS[:1]} | keys))
    with pytest.raises(ValueError, match=message):
        train(str(task), tmp_path / "run", options | {"calibrate": True})
    assert not Run(tmp_path / "run").started
