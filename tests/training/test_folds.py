"""What must hold of cross-validation: every row held out once by a run that never saw it or its look-alikes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModel, AutoProcessor

from hfk import MultiHeadEnsemble, MultiHeadTrainer, load_task, train
from hfk.evaluation.metrics import score_heads
from hfk.evaluation.predictions import Predictions
from hfk.models.decoding import probabilities
from hfk.runs.recipe import Recipe
from hfk.runs.run import Run, last_checkpoint, load_rows, open_task
from hfk.tasks.split import divide, strata, thin_classes
from hfk.tools.audit.suspects import audit
from hfk.training.folds import train_folds
from tests import tiny

FOLDS = 3


def write_titles(folder: Path, rows: list[tuple[str, str, str]], **keys) -> str:
    """Write a task of (id, text, label) rows."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["no", "text", "kind"], *rows])
    task = {"data": "table.csv", "text": "text", "id": "no", "heads": [{"name": "kind"}]} | keys
    (folder / "task.yaml").write_text(yaml.safe_dump(task, allow_unicode=True), encoding="utf-8")
    return str(folder / "task.yaml")


def titles(count: int = 90, labels: int = 3) -> list[tuple[str, str, str]]:
    """Rows of which each text is another, but for one look-alike in ten; the label is told by the first word."""
    words = [sentence.split() for sentence in tiny.SENTENCES]
    rows = []
    for row in range(count):
        if row % 10 == 9:
            text, label = rows[-1][1] + "!", rows[-1][2]
        else:
            kind, generator = row % labels, np.random.default_rng(row)
            text = (
                words[kind][0]
                + " "
                + " ".join(generator.choice([word for own in words[3:] for word in own], 4))
                + f" {row}호"
            )
            label = "가나다라마"[kind]
        rows.append((f"r{row}", text, label))
    return rows


def leave_run(recipe, output_dir, overrides=None, resume=True) -> None:
    """In place of `train`: leave the folder of a run, whose model and answers are drawn by the seed."""
    recipe = Recipe.read(recipe, {**(overrides or {}), "output_dir": str(output_dir)})
    task, data = load_rows(recipe)
    run = Run.start(output_dir, recipe, resume)
    run.begin()
    torch.manual_seed(recipe.arguments.seed)
    model, rows = tiny.model(heads=task.heads), data["validation"]
    run.save(model, tiny.processor(), task, recipe)
    logits = {head.name: torch.randn(len(rows), head.num_outputs).numpy() for head in task.heads}
    run.report(Predictions.of(rows, task.heads, logits), {})


@pytest.fixture
def untrained(monkeypatch):
    """Folds whose runs are left by `leave_run`."""
    monkeypatch.setattr("hfk.training.folds.train", leave_run)


@pytest.fixture(scope="module")
def cross_validated(tmp_path_factory, text_options, places):
    """Three folds of the small task with every kind of head, and its pictures left out."""
    folder = tmp_path_factory.mktemp("folds") / "cv"
    return folder, train_folds(str(places), folder, FOLDS, overrides=text_options)


def test_every_row_but_the_test_rows_is_held_out_once(cross_validated, places):
    folder, _ = cross_validated
    data = load_task(str(places)).load()
    table = pq.read_table(folder / "out_of_fold.parquet")
    assert sorted(table["id"].to_pylist()) == sorted([*data["train"]["id"], *data["validation"]["id"]])
    assert not set(table["id"].to_pylist()) & set(data["test"]["id"])
    for fold in range(FOLDS):
        own = pq.read_table(folder / f"fold-{fold}" / "predictions.parquet")["id"].to_pylist()
        where = [i for i, f in zip(table["id"].to_pylist(), table["fold"].to_pylist(), strict=True) if f == fold]
        assert sorted(own) == sorted(where) and own
        facts = json.loads((folder / f"fold-{fold}" / "report" / "metrics.json").read_text())["extra"]
        assert facts["rows"] == {"train": 60 - len(own), "validation": len(own)} and facts["fold"] == f"{fold} of 3"


def test_the_columns_are_those_that_other_tools_read(cross_validated, places):
    folder, _ = cross_validated
    task = load_task(str(places))
    data = task.load()
    rows = {row["id"]: row for split in ("train", "validation") for row in data[split]}
    table = pq.read_table(folder / "out_of_fold.parquet")
    assert table.column_names == ["id", "text", "fold"] + [
        f"{head.name}_{part}" for head in task.heads for part in ("label", "pred", "logits")
    ]
    cat2, tags = task.heads[1], task.heads[2]
    for line in table.to_pylist():
        row = rows[line["id"]]
        assert line["cat2_label"] == cat2.labels[row["cat2"]]
        assert line["tags_label"] == [tags.labels[index] for index in sorted(row["tags"])]
        assert line["price_label"] == row["price"] and len(line["price_logits"]) == 1
        assert np.exp(line["cat2_logits"]).sum() == pytest.approx(1, abs=1e-5) and len(line["cat2_logits"]) == 3


def test_what_a_run_says_is_what_its_checkpoint_says(cross_validated, places):
    folder, _ = cross_validated
    said = Predictions.load(folder / "fold-1" / "predictions.parquet")
    model = AutoModel.from_pretrained(folder / "fold-1")
    processor = AutoProcessor.from_pretrained(folder / "fold-1")
    data = load_task(str(places)).load()
    texts = {row["id"]: row["text"] for split in ("train", "validation") for row in data[split]}
    probs = probabilities(model(**processor(text=[texts[i] for i in said.ids[:4]])).logits, model.config.heads)
    for name, values in said.probabilities.items():
        np.testing.assert_allclose(values[:4], probs[name].detach().numpy(), rtol=1e-4, atol=1e-5)


def test_the_report_scores_the_out_of_fold_rows(cross_validated, places):
    folder, results = cross_validated
    assert results["counts"]["rows"] == 60 and (folder / "report" / "report.html").is_file()
    task = load_task(str(places))
    said = Predictions.load(folder / "out_of_fold.parquet")
    assert sorted(said.ids) == sorted(task.pool(FOLDS).rows["id"])
    assert score_heads(said) == pytest.approx(results["scores"], rel=1e-4)
    assert set(results["extra"]["runs"]) == {"summary", "fold-0", "fold-1", "fold-2"}


def test_the_ensemble_holds_all_runs_and_is_scored_on_the_test_rows(cross_validated):
    folder, _ = cross_validated
    ensemble = AutoModel.from_pretrained(folder / "ensemble")
    assert type(ensemble) is MultiHeadEnsemble and len(ensemble.members) == FOLDS
    processor = AutoProcessor.from_pretrained(folder / "ensemble")
    inputs = processor(text=tiny.SENTENCES)
    runs = [AutoModel.from_pretrained(folder / f"fold-{fold}") for fold in range(FOLDS)]
    expected = sum(run(**inputs).logits["cat2"].softmax(-1) for run in runs) / FOLDS
    np.testing.assert_allclose(
        ensemble(**inputs).logits["cat2"].exp().detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-6
    )
    results = json.loads((folder / "ensemble" / "report" / "metrics.json").read_text())
    assert results["extra"]["split"] == "test" and results["counts"]["rows"] == 12


def test_finished_folds_are_kept_and_others_are_trained(cross_validated, text_options, places, monkeypatch):
    folder, results = cross_validated
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("fold-*/model.safetensors")}
    (folder / "fold-1" / "predictions.parquet").unlink()
    trained = []
    monkeypatch.setattr(
        "hfk.training.folds.train", lambda *args, **kw: (trained.append(Path(args[1]).name), train(*args, **kw))[1]
    )
    # What changes nothing in the result may change between calls.
    again = train_folds(str(places), folder, FOLDS, overrides=text_options | {"logging_steps": 3})
    assert trained == ["fold-1"]
    changed = {path.parent.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {"fold-1"}
    assert again["scores"] == pytest.approx(results["scores"], abs=1e-6)


@pytest.mark.parametrize(
    ("folds", "seeds", "change", "message"),
    [
        (FOLDS, None, {"learning_rate": 1e-5}, "learning_rate was 0.002 there and is 1e-05 now"),
        (FOLDS, None, {"label_smoothing": 0.1}, "label_smoothing was None there and is 0.1 now"),
        (4, None, {}, "folds was 3 there and is 4 now"),
        (FOLDS, [1, 2], {}, r"seeds was None there and is \[1, 2\] now"),
    ],
)
def test_another_recipe_in_the_same_folder_is_refused(
    cross_validated, text_options, places, folds, seeds, change, message
):
    folder, _ = cross_validated
    with pytest.raises(ValueError, match=message) as caught:
        train_folds(str(places), folder, folds, seeds, text_options | change)
    assert "--fresh" in str(caught.value) and "\n" not in str(caught.value)


def test_a_call_that_failed_at_once_binds_nobody(places, tmp_path):
    for encoder in ("no-such-encoder", "nor-this-one"):
        with pytest.raises(ValueError, match=encoder):
            train_folds(str(places), tmp_path, 2, overrides=tiny.RECIPE | {"text_encoder": encoder})


def test_changed_rows_in_the_same_folder_are_refused(untrained, tmp_path):
    task = write_titles(tmp_path / "task", titles(30), split=None)
    train_folds(task, tmp_path / "cv", 2, overrides=tiny.RECIPE)
    rows = titles(30)
    write_titles(tmp_path / "task", [*rows[:-1], (rows[-1][0], rows[-1][1], "다")], split=None)
    with pytest.raises(ValueError, match="the rows or their labels have changed"):
        train_folds(task, tmp_path / "cv", 2, overrides=tiny.RECIPE)
    results = train_folds(task, tmp_path / "cv", 2, overrides=tiny.RECIPE, resume=False)
    assert results["counts"]["rows"] == 30
    # One file was divided: its rows come out in its order, whatever fold they were in.
    ids = pq.read_table(tmp_path / "cv" / "out_of_fold.parquet")["id"].to_pylist()
    assert ids == [f"r{number}" for number in range(30)]
    assert not (tmp_path / "cv" / "ensemble" / "report").exists()  # every row was learned by some member


def test_seeds_are_averaged(untrained, tmp_path):
    task = write_titles(tmp_path / "task", titles(30), split={"test": 0.2, "seed": 1})
    results = train_folds(task, tmp_path / "cv", 2, [1, 2], tiny.RECIPE)
    assert results["extra"]["seeds"] == [1, 2]
    runs = [Predictions.load(tmp_path / "cv" / f"fold-0-seed-{seed}" / "predictions.parquet") for seed in (1, 2)]
    assert runs[0].ids == runs[1].ids  # the division does not depend on them
    whole = Predictions.load(tmp_path / "cv" / "out_of_fold.parquet")
    values = [run.probabilities["kind"] for run in runs]
    assert np.abs(values[0] - values[1]).max() > 1e-4
    mean = whole.select([whole.ids.index(identity) for identity in runs[0].ids]).probabilities["kind"]
    np.testing.assert_allclose(mean, (values[0] + values[1]) / 2, rtol=1e-5)
    assert len(AutoModel.from_pretrained(tmp_path / "cv" / "ensemble").members) == 4


def test_a_recipe_may_divide_the_rows_in_its_own_way(untrained, tmp_path):
    """The task keeps a third of its rows for a test; the recipe keeps none, and what reads the runs later knows."""
    task = write_titles(tmp_path / "task", titles(30), split={"test": 0.34, "seed": 1})
    options = tiny.RECIPE | {"split": {"validation": 0.5, "test": 0}}
    assert train_folds(task, tmp_path / "cv", 2, overrides=options)["counts"]["rows"] == 30
    assert audit(tmp_path / "cv")
    leave_run(options | {"task": task}, tmp_path / "run")
    assert Run.open(tmp_path / "run").task().load().num_rows == {"train": 15, "validation": 15}
    with pytest.raises(ValueError, match="split: 'tset' is not one of"):
        open_task(Recipe.read(options | {"task": "ynat-mini", "split": {"tset": 0.5}}))


def test_an_interrupted_cross_validation_goes_on_where_it_stopped(text_options, places, tmp_path, monkeypatch):
    """Interrupted inside the second fold: the first is kept, the second resumes, and its scores are the same."""
    options = text_options | {"num_train_epochs": 2}
    monkeypatch.setattr(
        "hfk.training.folds.train",
        lambda recipe, folder, resume: (train if folder.name == "fold-1" else leave_run)(recipe, folder, resume=resume),
    )
    step = MultiHeadTrainer.training_step

    def stop(self, *args):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(MultiHeadTrainer, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train_folds(str(places), tmp_path / "cv", 2, overrides=options)
    assert last_checkpoint(tmp_path / "cv" / "fold-1") and not (tmp_path / "cv" / "out_of_fold.parquet").exists()
    stamp = (tmp_path / "cv" / "fold-0" / "model.safetensors").stat().st_mtime_ns
    train_folds(str(places), tmp_path / "cv", 2, overrides=options)
    assert (tmp_path / "cv" / "fold-0" / "model.safetensors").stat().st_mtime_ns == stamp
    resumed = Run.open(tmp_path / "cv" / "fold-1")
    assert resumed.facts["resumed"] is True
    whole = train(str(places), tmp_path / "whole", options | {"split": resumed.recipe["split"]})
    assert resumed.results["scores"] == pytest.approx(whole["scores"], abs=1e-4)


def test_look_alikes_and_labels_are_spread_as_they_should_be(tmp_path):
    rows = titles(90)
    task = load_task(write_titles(tmp_path, rows, split={"validation": 0.2, "seed": 3}))
    pool = task.pool(5)
    pooled, numbers = pool.rows, pool.folds
    assert np.array(pooled["id"])[pool.order].tolist() == [row[0] for row in rows]
    where = dict(zip(pooled["id"], numbers.tolist(), strict=True))
    for row in range(9, 90, 10):
        assert where[f"r{row}"] == where[f"r{row - 1}"]
    assert max(np.bincount(numbers)) - min(np.bincount(numbers)) <= 4
    for label in range(3):
        own = np.bincount(numbers[np.array(pooled["kind"]) == label], minlength=5)
        assert own.max() - own.min() <= 2
    # Neither the order of the rows nor where validation was cut off matters.
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    other = load_task(write_titles(tmp_path / "other", shuffled, split=None))
    again = other.pool(5).rows
    assert dict(zip(again["id"], divide(again, other.heads, 5, 3).tolist(), strict=True)) == where
    assert divide(pooled, task.heads, 5, 4).tolist() != numbers.tolist()


def test_heads_are_stratified_together(places):
    task = load_task(str(places))
    rows = task.pool(2).rows
    names = strata(rows, task.heads, 2)
    assert len(set(names)) > len(set(rows["cat2"])) == 3
    assert set(strata(rows, task.heads, 1000)) == {"산", "바다", "한식"}  # too few rows of each combination


def test_a_fold_without_a_class_is_said(tmp_path, recwarn):
    rows = [*titles(40), ("r40", "하나뿐인 분류의 글", "라")]
    task = load_task(write_titles(tmp_path, rows, split=None))
    pooled, numbers = (pool := task.pool(4)).rows, pool.folds
    sentence = thin_classes(pooled, task.heads, numbers)
    fold = numbers[pooled["id"].index("r40")] if hasattr(pooled["id"], "index") else numbers[-1]
    assert sentence.startswith(f"all rows of label '라' (head 'kind') are in fold {fold}: the run that holds them out")
    task.split = task.division(4, int(fold))
    parts = task.load()
    label = task.heads[0].labels.index("라")
    assert label not in parts["train"]["kind"] and label in parts["validation"]["kind"]
    assert thin_classes(pooled.select(range(40)), task.heads, numbers[:40]) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": {"folds": 2}}, "fold must be from 0 to 1 for 2 folds, not None"),
        ({"split": {"folds": 2, "fold": 2}}, "not 2"),
        ({"fold": 1}, r"option 'fold' is now 'split\.fold'"),
        ({"split": {"folds": 1, "fold": 0}}, "folds must be 2 or more"),
        ({"split": {"folds": 500, "fold": 0}}, "500 folds can't be made of"),
    ],
)
def test_wrong_folds_are_one_sentence(text_options, places, tmp_path, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        train(str(places), tmp_path / "run", text_options | options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--folds", "2", "--seeds", "1,x"], "--seeds needs whole numbers"),
        (["--folds", "2", "--seeds", "1,1"], "seeds must be different"),
        (["--seeds", "1,2"], "--seeds goes with --folds"),
        (["--folds", "2", "push_to_hub=true", "hub_model_id=a/b"], "push over each other"),
    ],
)
def test_the_command_says_what_is_wrong(fails, places, tmp_path, words, message):
    assert message in fails("train", places, "--output-dir", tmp_path / "cv", *words)
    assert not (tmp_path / "cv").exists()
