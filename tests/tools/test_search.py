"""A search tries the recipe first, goes on where it was stopped, and leaves a recipe that trains."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

optuna = pytest.importorskip("optuna", reason='the search needs Optuna: pip install "hfk[search]"')

from hfk.runs.recipe import Recipe, load_recipe
from hfk.tools.search import trials
from hfk.tools.search.trials import Range, default_ranges, parse_ranges, search
from tests import tiny

RANGES = {"learning_rate": Range(1e-5, 1e-2, log=True), "text_pooling": Range(choices=("mean", "cls"))}
RECIPE = {"task": "ynat-mini", "learning_rate": 1e-3, "text_pooling": "mean", "seed": 42}


def read(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def untrained(monkeypatch):
    """Trials that train nothing: the nearer a learning rate is to 1e-3 the better, and one above 1 diverges."""

    def prepare(options, folder, overrides, resume, callbacks=()):
        def train():
            rate = overrides["learning_rate"]
            if rate > 1:
                raise ValueError("head 'topic': the logits are not finite")
            score = {"eval_mean_macro_f1": 1 / (1 + abs(math.log(rate / 1e-3)))}
            callbacks[0].on_evaluate(None, SimpleNamespace(global_step=1), None, score)

        args = SimpleNamespace(metric_for_best_model="mean_macro_f1", greater_is_better=True, seed=options["seed"])
        trainer = SimpleNamespace(args=args, train=train)
        return SimpleNamespace(data={"train": [], "validation": []}, task=SimpleNamespace(name="t"), trainer=trainer)

    monkeypatch.setattr(trials, "prepare", prepare)
    monkeypatch.setattr(trials, "_draw_trials", lambda *_: None)
    return prepare


def test_the_first_trial_is_the_recipe_and_the_best_one_is_a_recipe(encoders, tmp_path, capsys):
    task = str(tiny.write_task(tmp_path / "task", rows=36, image=None, heads=[{"name": "cat1"}]))
    options = tiny.RECIPE | {"num_train_epochs": 1, "text_encoder": encoders["text_encoder"]}
    said = search(task, tmp_path / "search", 2, RANGES, options)
    rows = read(tmp_path / "search")
    assert [row["trial"] for row in rows] == ["0", "1"]
    assert float(rows[0]["learning_rate"]) == options["learning_rate"] and rows[0]["text_pooling"] == "mean"
    assert "trial 1: done, mean_macro_f1" in capsys.readouterr().out and "trial" in said
    assert (tmp_path / "search" / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert not list((tmp_path / "search").glob("**/checkpoint-*"))

    trainer = trials.prepare(task, tmp_path / "plain", options | {"load_best_model_at_end": False}).trainer
    trainer.train()
    reached = [entry["eval_mean_macro_f1"] for entry in trainer.state.log_history if "eval_mean_macro_f1" in entry][-1]
    assert float(rows[0]["mean_macro_f1"]) == pytest.approx(reached, abs=1e-6)

    best = max(rows, key=lambda row: float(row["mean_macro_f1"]))
    recipe = Recipe.read(tmp_path / "search" / "best.yaml")
    assert recipe.arguments.learning_rate == pytest.approx(float(best["learning_rate"]))
    assert (recipe.text_pooling, recipe.task) == (best["text_pooling"], task)


def test_more_trials_are_added_and_another_search_is_refused(untrained, tmp_path):
    search(RECIPE, tmp_path, 1, RANGES)
    search(RECIPE, tmp_path, 2, RANGES)
    rows = read(tmp_path)
    assert len(rows) == 2 and rows[0]["learning_rate"] != rows[1]["learning_rate"]
    search(RECIPE, tmp_path, 2, RANGES)
    assert read(tmp_path) == rows
    with pytest.raises(ValueError, match=r"a search with options\.seed 42, not 7; choose another --output-dir"):
        search(RECIPE, tmp_path, 3, RANGES, {"seed": 7})
    with pytest.raises(ValueError, match=r"a search with options\.text_pooling|a search with ranges\.text_pooling"):
        search(RECIPE, tmp_path, 3, {"learning_rate": RANGES["learning_rate"]})


def test_what_a_killed_search_cut_short_is_tried_again(untrained, tmp_path, monkeypatch):
    calls = []

    def interrupted(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 2:  # the first looks at the task; the second is that of trial 0
            raise KeyboardInterrupt
        return untrained(*arguments, **keywords)

    monkeypatch.setattr(trials, "prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(RECIPE, tmp_path, 2, RANGES)
    search(RECIPE, tmp_path, 2, RANGES)
    rows = read(tmp_path)
    assert [row["state"] for row in rows] == ["complete", "complete"]
    assert float(rows[0]["learning_rate"]) == RECIPE["learning_rate"]


def test_a_trial_that_diverges_costs_itself_only(untrained, tmp_path, capsys):
    search(RECIPE, tmp_path, 6, {"learning_rate": Range(choices=(1e-3, 1e38))})
    rows = read(tmp_path)
    failed = [row for row in rows if row["state"] == "fail"]
    assert len(rows) == 6 and failed and all("not finite" in row["note"] for row in failed)
    assert "failed: head" in capsys.readouterr().out
    assert load_recipe(tmp_path / "best.yaml")["learning_rate"] == 1e-3


def test_a_search_in_which_all_fail_says_why(untrained, tmp_path):
    with pytest.raises(ValueError, match=r"none of 2 trials came to an end; the last: .*not finite"):
        search(RECIPE, tmp_path, 2, {"learning_rate": Range(choices=(1e38,))})


def test_what_is_wrong_is_said_before_the_first_trial(encoders, tmp_path):
    task = tiny.write_task(tmp_path / "task", rows=24, split="none", image=None, heads=[{"name": "cat1"}])
    options = tiny.RECIPE | {"text_encoder": encoders["text_encoder"]}
    with pytest.raises(ValueError, match="a search needs validation rows; task 'task' has: train"):
        search(str(task), tmp_path / "search", 2, RANGES, options)
    with pytest.raises(ValueError, match=r"no option 'learing_rate'.*'learning_rate'"):
        search(str(task), tmp_path / "search", 2, {"learing_rate": Range(1e-5, 1e-3)}, options)
    assert not (tmp_path / "search" / "trials.sqlite").exists()


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


def test_the_default_ranges_hold_the_recipes_own_values():
    recipe = load_recipe("ynat")
    ranges = default_ranges(recipe)
    for name, values in ranges.items():
        assert values.holds(recipe[name]), name
