"""A search tries the recipe first, goes on where it was stopped, and leaves a recipe that trains."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna", reason='the search needs Optuna: pip install "hfk[search]"')

from hfk import train
from hfk.runs.recipe import Recipe, load_recipe
from hfk.tools.search.trials import Range, default_ranges, parse_ranges, search
from hfk.training.train import prepare
from tests import tiny

RANGES = {"learning_rate": Range(1e-5, 1e-2, log=True), "text_pooling": Range(choices=("mean", "cls"))}


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> str:
    return str(tiny.write_task(tmp_path_factory.mktemp("task"), rows=36, image=None, heads=[{"name": "cat1"}]))


@pytest.fixture(scope="module")
def options(encoders) -> dict:
    return tiny.RECIPE | {"num_train_epochs": 1, "text_encoder": encoders["text_encoder"]}


def read(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_first_trial_is_the_recipe_and_the_best_one_trains(task, options, tmp_path, capsys):
    said = search(task, tmp_path / "search", 3, RANGES, options)
    rows = read(tmp_path / "search")
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["learning_rate"]) == options["learning_rate"] and rows[0]["text_pooling"] == "mean"
    assert "trial 2: done, mean_macro_f1" in capsys.readouterr().out and "trial" in said
    assert (tmp_path / "search" / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert not list((tmp_path / "search").glob("checkpoint-*"))

    plain = train(task, tmp_path / "plain", options | {"load_best_model_at_end": False})
    log = json.loads((tmp_path / "plain" / "training_log.json").read_text())
    reached = next(entry["eval_mean_macro_f1"] for entry in log if "eval_mean_macro_f1" in entry)
    assert float(rows[0]["mean_macro_f1"]) == pytest.approx(reached, abs=1e-6) and plain["scores"]

    best = max(rows, key=lambda row: float(row["mean_macro_f1"]))
    recipe = Recipe.read(tmp_path / "search" / "best.yaml")
    args = recipe.arguments
    assert args.learning_rate == pytest.approx(float(best["learning_rate"]))
    assert recipe.text_pooling == best["text_pooling"]
    assert train(tmp_path / "search" / "best.yaml", tmp_path / "best")["extra"]["split"] == "test"


def test_more_trials_are_added_and_another_search_is_refused(task, options, tmp_path):
    search(task, tmp_path, 1, RANGES, options)
    search(task, tmp_path, 2, RANGES, options)
    rows = read(tmp_path)
    assert len(rows) == 2 and rows[0]["learning_rate"] != rows[1]["learning_rate"]
    search(task, tmp_path, 2, RANGES, options)
    assert read(tmp_path) == rows
    with pytest.raises(ValueError, match=r"a search with options\.seed 42, not 7; choose another --output-dir"):
        search(task, tmp_path, 3, RANGES, options | {"seed": 7})
    with pytest.raises(ValueError, match=r"a search with ranges\.text_pooling"):
        search(task, tmp_path, 3, {"learning_rate": RANGES["learning_rate"]}, options)


def test_what_a_killed_search_cut_short_is_tried_again(task, options, tmp_path, monkeypatch):
    calls = []

    def interrupted(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 2:  # the first looks at the task; the second is that of trial 0
            raise KeyboardInterrupt
        return prepare(*arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr("hfk.tools.search.trials.prepare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(task, tmp_path, 2, RANGES, options)
    with sqlite3.connect(tmp_path / "trials.sqlite") as database:  # as SIGKILL leaves it
        database.execute("update trials set state = 'RUNNING'")
    search(task, tmp_path, 2, RANGES, options)
    rows = read(tmp_path)
    assert len(rows) == 2 and [row["state"] for row in rows] == ["complete", "complete"]
    assert float(rows[0]["learning_rate"]) == options["learning_rate"]


def test_a_trial_that_diverges_costs_itself_only(task, options, tmp_path, capsys):
    ranges = {"learning_rate": Range(choices=(1e-3, 1e38)), "head_learning_rate": Range(choices=(1e-3,))}
    search(task, tmp_path, 4, ranges, options | {"learning_rate": 1e-3, "head_learning_rate": 1e-3, "max_grad_norm": 0})
    rows = read(tmp_path)
    failed = [row for row in rows if row["state"] == "fail"]
    assert failed and all("not finite" in row["note"] for row in failed)
    assert "failed: head" in capsys.readouterr().out
    assert load_recipe(tmp_path / "best.yaml")["learning_rate"] == 1e-3


def test_a_search_in_which_all_fail_says_why(task, options, tmp_path):
    ranges = {"learning_rate": Range(choices=(1e38,))}
    with pytest.raises(ValueError, match=r"none of 2 trials came to an end; the last: .*not finite"):
        search(task, tmp_path, 2, ranges, options | {"max_grad_norm": 0})


def test_a_task_without_validation_rows_is_refused(options, tmp_path):
    task = tiny.write_task(tmp_path / "task", rows=24, split="none", image=None, heads=[{"name": "cat1"}])
    with pytest.raises(ValueError, match="a search needs validation rows; task 'task' has: train"):
        search(str(task), tmp_path / "search", 2, RANGES, options)


def test_words_become_ranges_choices_and_options():
    ranges, others = parse_ranges(
        ["learning_rate=1e-5:5e-4:log", "num-train-epochs=1:4", "weight_decay=0.0:0.1", "lora=true|false", "seed=7"]
    )
    assert ranges == {
        "learning_rate": Range(1e-5, 5e-4, log=True),
        "num_train_epochs": Range(1, 4, whole=True),
        "weight_decay": Range(0.0, 0.1),
        "lora": Range(choices=(True, False)),
    }
    assert others == ["seed=7"]
    assert ranges["num_train_epochs"].holds(3.0) and not ranges["num_train_epochs"].holds(2.5)
    assert not ranges["learning_rate"].holds(1) and not ranges["learning_rate"].holds(None)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("learning_rate=1e-3:1e-5", "is no range: write low:high"),
        ("learning_rate=1e-5:1e-3:linear", "is no range: write low:high"),
        ("learning_rate=0:1e-3:log", "starts above 0"),
        ("ema_decay=0.9:0.99", "ema_decay"),
    ],
)
def test_what_is_no_range_is_one_sentence(word, message):
    with pytest.raises(ValueError, match=message):
        parse_ranges([word])


def test_an_unknown_option_is_one_sentence_before_the_first_trial(task, options, tmp_path):
    with pytest.raises(ValueError, match=r"no option 'learing_rate'.*'learning_rate'"):
        search(task, tmp_path / "search", 2, {"learing_rate": Range(1e-5, 1e-3)}, options)
    assert not (tmp_path / "search" / "trials.sqlite").exists()


def test_the_default_ranges_hold_the_recipes_own_values():
    recipe = load_recipe("ynat")
    ranges = default_ranges(recipe)
    for name, values in ranges.items():
        assert values.holds(recipe[name]), name
