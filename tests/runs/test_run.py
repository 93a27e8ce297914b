"""A folder is known as the same run, and opens again: of this version, of 0.1, or damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset, DatasetDict

from hfk import HeadConfig, load_task
from hfk.evaluation.predictions import Predictions
from hfk.runs.checkpoints import seal
from hfk.runs.recipe import Recipe
from hfk.runs.run import Run, scored_split, state_of

OPTIONS = {"task": "places", "learning_rate": 1e-3, "split": {"folds": 3, "fold": 0}, "output_dir": "here"}


def start(folder: Path, options: dict = OPTIONS, resume: bool = True) -> Run:
    run = Run.start(folder, Recipe.read(options), resume)
    run.begin()
    return run


def save_checkpoint(folder: Path, step: int = 20) -> None:
    (folder / f"checkpoint-{step}").mkdir(parents=True)
    (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    seal(folder / f"checkpoint-{step}")


def predictions(rows: int = 2) -> Predictions:
    head = HeadConfig("topic", ["a", "b"])
    return Predictions(None, [head], {"topic": np.eye(2)[np.arange(rows) % 2]}, {"topic": np.zeros(rows, int)})


def test_an_interrupted_run_goes_on_from_its_last_whole_checkpoint(tmp_path, capsys):
    run = start(tmp_path / "run", OPTIONS)
    assert run.checkpoint is None and not run.started and "resuming" not in capsys.readouterr().out
    save_checkpoint(run.folder, 9)
    save_checkpoint(run.folder, 20)
    (run.folder / "checkpoint-30").mkdir()  # half written
    again = start(run.folder, OPTIONS | {"output_dir": "there", "logging_steps": 3, "disable_tqdm": True})
    assert again.checkpoint.endswith("checkpoint-20") and "resuming from step 20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"learning_rate": 1e-4}, "learning_rate was 0.001 there and is 0.0001 now"),
        ({"task": "other"}, "task was 'places' there and is 'other' now"),
        ({"label_smoothing": 0.1}, "label_smoothing was None there and is 0.1 now"),
        ({"split": {"folds": 3, "fold": 1}}, "split was .*'fold': 0.* there"),
        ({"text_encoder": "/mine/bert"}, "text_encoder was None there and is 'bert' now"),
    ],
)
def test_another_run_in_the_folder_is_refused_and_fresh_replaces_it(tmp_path, change, error):
    folder = tmp_path / "run"
    start(folder, OPTIONS)
    start(folder, OPTIONS | change)  # nothing to go on with: an earlier call may have failed at once
    start(folder, OPTIONS)
    save_checkpoint(folder)
    with pytest.raises(ValueError, match=error) as caught:
        start(folder, OPTIONS | change)
    assert "--fresh" in str(caught.value) and "\n" not in str(caught.value)
    run = start(folder, OPTIONS | change, resume=False)
    assert run.checkpoint is None and json.loads((folder / "run.json").read_text())["options"].get("output_dir") is None


def test_a_run_goes_on_where_its_folders_are_called_otherwise(tmp_path):
    save_checkpoint(start(tmp_path, OPTIONS | {"task": "/here/places.yaml", "data": "rows/a.csv"}).folder)
    start(tmp_path, OPTIONS | {"task": "places.yaml", "data": "C:\\rows\\a.csv"})
    assert "here" not in (tmp_path / "run.json").read_text()


def test_changed_labels_and_rows_are_refused(tmp_path):
    task = load_task("ynat-mini")
    task.heads = [HeadConfig("topic", ["a", "b"])]
    rows = Dataset.from_dict({"id": ["1", "2"], "text": ["x", "y"], "topic": [0, 1]})
    run = start(tmp_path, OPTIONS)
    run.agree(**state_of(task, DatasetDict(train=rows)))
    run.begin()
    save_checkpoint(tmp_path)
    run.agree(**state_of(task, DatasetDict(train=rows)))
    changed = rows.remove_columns("topic").add_column("topic", [0, 0])
    with pytest.raises(ValueError, match="the rows or their labels have changed since"):
        run.agree(**state_of(task, DatasetDict(train=changed)))
    task.heads = [HeadConfig("topic", ["b", "a"])]
    with pytest.raises(ValueError, match=r"labels of topic was \['a', 'b'\] there and is \['b', 'a'\] now"):
        run.agree(**state_of(task, DatasetDict(train=rows)))


def test_a_damaged_state_is_one_sentence(tmp_path):
    start(tmp_path, OPTIONS)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is damaged.*--fresh"):
        start(tmp_path, OPTIONS)


def test_a_process_that_does_not_save_leaves_the_folder_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(type(Recipe.read(OPTIONS).arguments), "should_save", False)
    start(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_predictions_say_that_a_run_has_finished_and_it_is_lost_only_when_asked(tmp_path):
    run = start(tmp_path, OPTIONS)
    with pytest.raises(ValueError, match="the run has not finished"):
        run.predictions()
    results = run.report(predictions(), {"title": "a run", "seed": 7})
    assert run.finished and run.results == results and run.facts["seed"] == 7
    assert run.predictions().ids == ["0", "1"]
    with pytest.raises(ValueError, match=r"holds a finished run, which would be lost\. .*--fresh"):
        start(tmp_path, OPTIONS)
    assert not start(tmp_path, OPTIONS, resume=False).finished
    (tmp_path / "config.json").write_text("{}")
    start(tmp_path, OPTIONS)  # interrupted before its first checkpoint
    (tmp_path / "run.json").unlink()  # and this is somebody else's checkpoint
    with pytest.raises(ValueError, match="holds a finished run"):
        start(tmp_path, OPTIONS)


def test_folds_are_a_run_too(tmp_path):
    run = start(tmp_path, OPTIONS)
    start(tmp_path / "fold-0", OPTIONS).report(predictions(), {})
    assert run.started
    run.report(predictions(4), {})
    assert (
        not run.finished and (tmp_path / "out_of_fold.parquet").is_file() and len(Run.open(tmp_path).predictions()) == 4
    )
    run.clear()
    run.close()
    assert {path.name for path in tmp_path.iterdir()} == {"report"}


def test_the_split_that_is_scored():
    assert scored_split({"train": 0, "validation": 0, "test": 0}) == "test"
    assert scored_split({"train": 0, "validation": 0}) == "validation" and scored_split({"train": 0}) == "train"


def test_a_finished_run_opens_again(finished_run, places):
    run = Run.open(finished_run)
    said = run.predictions()
    rows = run.task().load()["test"]
    assert run.finished and said.ids == rows["id"][:] and said.texts is not None
    again = run.predictor().predictions(rows)
    for head in said.heads:
        np.testing.assert_allclose(again.logits[head.name], said.logits[head.name], atol=1e-4)
    assert run.facts["task"] == "task" and run.read("training_log.json", default=[])
    assert run.options["task"] == str(places) and [head.name for head in run.task().heads] == []


def test_a_run_of_the_first_version_opens_too(finished_run, tmp_path):
    """Its recipe.yaml is flat, names a fold beside the split, and there is no run.json and no predictions.parquet."""
    folder = tmp_path / "old"
    shutil.copytree(finished_run, folder)
    for name in ("run.json", "predictions.parquet"):
        (folder / name).unlink()
    options = yaml.safe_load((folder / "recipe.yaml").read_text())
    old = {"folds": 2, "fold": 1, "ema_decay": 0.0, "lora": False, "lora_rank": 16, "teacher": None}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(options | old))
    run = Run.open(folder)
    assert run.task().fold == (1, 2) and set(run.task().load()) == {"train", "validation"}
    assert run.model()[0].config.heads and run.facts["split"] == "test"


def test_what_is_no_run_is_one_sentence(tmp_path, checkpoint):
    with pytest.raises(ValueError, match="there is no folder"):
        Run.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"has no recipe\.yaml that says which rows"):
        Run.open(checkpoint).task()
