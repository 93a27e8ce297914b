"""Killed at any step of any training, a run goes on and ends bit by bit where one that nobody killed does."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from hfk import train
from hfk.runs.checkpoints import damage, last_checkpoint, list_checkpoints
from hfk.runs.run import Run
from tests import tiny
from tests.training.small import trainer
from tests.training.test_resume import CASES
from tests.trust.attacks import DIED, die, in_child

STRATEGIES = {
    "every step": {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1},
    "every third step": {"save_strategy": "steps", "save_steps": 3, "save_total_limit": None},
    "every epoch": {"save_strategy": "epoch", "save_total_limit": 2},
    "the best": {
        "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "save_total_limit": 1,
        "load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": False,
    },
}  # fmt: skip
EVENTS = ("on_step_begin", "on_pre_optimizer_step", "on_step_end", "on_save", "on_log")
RUNS_EACH = 4
"""Of every technique with every strategy; every second one is killed twice: 11 × 4 × 6 kills."""


class Killer(TrainerCallback):
    """Kills the process at an event of a step."""

    def __init__(self, event: str, step: int) -> None:
        self.step = step
        setattr(self, event, self._look)

    def _look(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            die()


def digest(weights: dict[str, torch.Tensor]) -> str:
    hasher = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        hasher.update(name.encode() + weight.detach().contiguous().numpy().tobytes())
    return hasher.hexdigest()


def go(folder: Path, case: str, strategy: str, teacher: str, result: Path, *killers: Killer) -> int:
    """Train, from the last whole checkpoint if there is one, in a child; its last weights' digest is the result."""

    def work() -> None:
        techniques, options = CASES[case]
        if "distillation" in techniques:
            techniques = {"distillation": techniques["distillation"] | {"teacher": teacher}}
        options = {"max_steps": 11, "learning_rate": 1e-2, "per_device_train_batch_size": 4} | options
        if options.get("gradient_accumulation_steps"):
            options["per_device_train_batch_size"] = 2
        patient = "early_stopping" in techniques  # which evaluates in its own way
        options |= {k: v for k, v in STRATEGIES[strategy].items() if not (patient and k.startswith(("eval", "metric")))}
        made = trainer(folder, techniques, callbacks=list(killers), logging_steps=1, **options)
        made.train(resume_from_checkpoint=last_checkpoint(folder))
        result.write_text(digest(made.model.state_dict()))

    return in_child(work)


def kill_and_go_on(case: str, strategy: str, teacher: str, folder: Path, runs: int, seed: int) -> None:
    draw = random.Random(f"{case} {strategy} {seed}")
    whole = folder / "whole.txt"
    assert go(folder / "whole", case, strategy, teacher, whole) == 0
    for number in range(runs):
        run, result = folder / str(number), folder / f"{number}.txt"
        killers = [Killer(draw.choice(EVENTS), step) for step in sorted(draw.sample(range(1, 11), 1 + number % 2))]
        died = []
        for killer in killers:
            died.append(go(run, case, strategy, teacher, result, killer))
            if died[-1] != DIED:
                break  # it ended before that moment came; going on from `max_steps` would take one more step
        for path in list_checkpoints(run):
            assert damage(path) is None or path.name != Path(last_checkpoint(run) or "none").name
        if died[-1] == DIED:
            assert go(run, case, strategy, teacher, result) == 0
        assert result.read_text() == whole.read_text(), (case, strategy, [vars(killer) for killer in killers], died)
        assert DIED in died or strategy != "every step", "nobody was killed"
        shutil.rmtree(run)


@pytest.mark.parametrize(("case", "strategy"), [("eda, r_drop, ema, rates", "every step")])
def test_a_killed_run_ends_where_another_does(case, strategy, wide_teacher, tmp_path):
    kill_and_go_on(case, strategy, wide_teacher, tmp_path, 1, seed=0)


@pytest.mark.trust
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES)
def test_every_technique_and_strategy_survives_kills(case, strategy, wide_teacher, tmp_path):
    kill_and_go_on(case, strategy, wide_teacher, tmp_path, RUNS_EACH, seed=1)


# ------------------------------------------------------------------------------------ whole runs, and who is refused


def table(folder: Path, rename: str | None = None, change: str | None = None) -> Path:
    """A task of texts; a class may be renamed, a text changed."""
    path = tiny.write_task(folder, 36, image=None, heads=[{"name": "cat2"}])
    rows = (folder / "places.csv").read_text(encoding="utf-8")
    if rename:
        rows = rows.replace(",바다,", f",{rename},")
    if change:
        rows = rows.replace("동해의", change)
    (folder / "places.csv").write_text(rows, encoding="utf-8")
    return path


OPTIONS = tiny.RECIPE | {
    "text_encoder": "ngram", "vision_encoder": None, "use_cpu": True, "save_strategy": "steps", "save_steps": 2,
    "eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 2, "text_config": {"num_buckets": 1024},
}  # fmt: skip


def interrupted(task: Path, folder: Path, options: dict | None = None, step: int = 3) -> None:
    killer = Killer("on_step_end", step)
    assert in_child(lambda: train(str(task), folder, OPTIONS | (options or {}), callbacks=[killer])) == DIED
    assert last_checkpoint(folder)


def said_of(folder: Path) -> dict:
    run = Run.open(folder)
    return {name: values.tolist() for name, values in run.predictions().logits.items()} | run.results["scores"]


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("unkilled")
    train(str(table(folder / "task")), folder / "run", OPTIONS)
    return folder / "task" / "task.yaml", said_of(folder / "run")


def test_a_run_whose_table_or_recipe_changed_is_refused_and_says_what(tmp_path):
    task = table(tmp_path / "task")
    interrupted(task, tmp_path / "run")
    for change, options, reason in [
        ({"rename": "강"}, {}, r"labels of cat2 was \['바다', '산', '한식'\] there and is \['강', '산', '한식'\] now"),
        ({"change": "서해의"}, {}, "the rows or their labels have changed since"),
        ({}, {"text_encoder": "recurrent", "text_config": None}, "text_config was|text_encoder was 'ngram' there"),
        ({}, {"seed": 7}, "seed was 42 there and is 7 now"),
    ]:
        table(tmp_path / "task", **change)
        with pytest.raises(ValueError, match=reason):
            train(str(task), tmp_path / "run", OPTIONS | options)
    table(tmp_path / "task")
    assert train(str(task), tmp_path / "run", OPTIONS)["extra"]["resumed"]


def test_an_encoder_that_is_another_by_now_is_refused(encoders, tmp_path):
    """The folder is called as before; what is in it was exchanged."""
    task = table(tmp_path / "task")
    mine = Path(shutil.copytree(encoders["text_encoder"], tmp_path / "mine"))
    options = {"text_encoder": str(mine), "text_config": None}
    interrupted(task, tmp_path / "run", options)
    kept = {name: (mine / name).read_text(encoding="utf-8") for name in ("config.json", "tokenizer.json")}
    config = json.loads(kept["config.json"])
    for name, content, what in [
        ("config.json", config | {"hidden_act": "relu"}, "the text encoder has changed since"),
        ("tokenizer.json", json.loads(kept["tokenizer.json"]) | {"normalizer": None}, "the tokenizer, or how input"),
    ]:
        (mine / name).write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ValueError, match=what):
            train(str(task), tmp_path / "run", OPTIONS | options)
        (mine / name).write_text(kept[name], encoding="utf-8")
    assert train(str(task), tmp_path / "run", OPTIONS | options)["extra"]["resumed"]


def test_a_folder_belongs_to_one_process_and_a_dead_one_keeps_nobody_out(unkilled, tmp_path):
    task, expected = unkilled
    said = tmp_path / "said.txt"
    refused = []

    class Second(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if not refused:
                refused.append(in_child(lambda: second(), said))

    def second() -> None:
        train(str(task), tmp_path / "run", OPTIONS | {"seed": 7})

    train(str(task), tmp_path / "run", OPTIONS, callbacks=[Second()])
    assert refused == [99] and "another process is training in" in said.read_text(encoding="utf-8")
    assert said_of(tmp_path / "run") == expected
    interrupted(task, tmp_path / "dead")
    assert (tmp_path / "dead" / "run.lock").is_file(), "left by the dead one"
    train(str(task), tmp_path / "dead", OPTIONS)
    assert said_of(tmp_path / "dead") == expected and not (tmp_path / "dead" / "run.lock").exists()


def test_who_is_refused_leaves_no_folder(tmp_path):
    task = table(tmp_path / "task")
    with pytest.raises(ValueError, match="learning_rtae"):
        train(str(task), tmp_path / "run", OPTIONS | {"learning_rtae": 1})
    with pytest.raises(ValueError, match="text_config has no option"):
        train(str(task), tmp_path / "run", OPTIONS | {"text_config": {"windws": 1}})
    assert not (tmp_path / "run").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:99])


def flip(path: Path, place: float = 0.5) -> None:
    """Change one bit; the file is as long as before."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def fill(path: Path) -> None:
    """Zeros, as a power cut leaves what was only renamed."""
    path.write_bytes(bytes(path.stat().st_size))


DAMAGE = {
    "empty state": lambda path: (path / "trainer_state.json").write_bytes(b""),
    "cut weights": lambda path: (path / "model.safetensors").write_bytes(
        (path / "model.safetensors").read_bytes()[:99]
    ),
    "no optimizer": lambda path: (path / "optimizer.pt").unlink(),
    "no random state": lambda path: (path / "rng_state.pth").unlink(),
    "no seal": lambda path: (path / "files.json").unlink(),
    "another's state": lambda path: (path / "trainer_state.json").write_text('{"global_step": 77}'),
    "a bit of the weights": lambda path: flip(path / "model.safetensors", 0.9),
    "a bit of the header": lambda path: flip(path / "model.safetensors", 0.001),
    "a bit of the optimizer": lambda path: flip(path / "optimizer.pt"),
    "a bit of the random state": lambda path: flip(path / "rng_state.pth"),
    "a bit of the seal": lambda path: flip(path / "files.json"),
    "zeros for weights": lambda path: fill(path / "model.safetensors"),
    "zeros for a state": lambda path: fill(path / "trainer_state.json"),
    "zeros for a seal": lambda path: fill(path / "files.json"),
    "no scheduler": lambda path: (path / "scheduler.pt").unlink(),
    "a folder for a file": lambda path: ((path / "optimizer.pt").unlink(), (path / "optimizer.pt").mkdir()),
}


QUICK = ("empty state", "no optimizer", "a bit of the weights")


@pytest.mark.parametrize(
    "damage", [one if one in QUICK else pytest.param(one, marks=pytest.mark.trust) for one in DAMAGE]
)
def test_a_damaged_checkpoint_is_passed_over_for_the_newest_whole_one(damage, unkilled, tmp_path, capsys):
    task, expected = unkilled
    interrupted(task, tmp_path / "run", {"save_total_limit": None}, step=5)
    DAMAGE[damage](tmp_path / "run" / "checkpoint-4")
    capsys.readouterr()
    assert train(str(task), tmp_path / "run", OPTIONS | {"save_total_limit": None})["extra"]["resumed"]
    said = capsys.readouterr().out
    assert "resuming from step 2" in said
    assert "checkpoint-4 is left out, as it was not finished" in said or "checkpoint-4 is damaged, as" in said
    assert said_of(tmp_path / "run") == expected
    assert not list((tmp_path / "run").glob("*checkpoint-*"))
