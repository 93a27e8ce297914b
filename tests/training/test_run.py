"""What must hold of a whole run: from a recipe to a folder that another run, or a user, can go on from."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from transformers import ElectraConfig, ElectraModel

from hfk import MultiHeadForClassification, MultiHeadProcessor, train
from hfk.cli import main
from hfk.runs.recipe import Recipe
from hfk.runs.run import Run
from hfk.runs.score import evaluate
from hfk.tasks.tables import read_table
from hfk.tasks.tour import tour_tree
from hfk.training.classification import build
from hfk.training.train import prepare
from tests import tiny
from tests.training.small import Slow, killed

ROOT = Path(__file__).resolve().parents[2]
ONE_EPOCH = {"num_train_epochs": 1}


def scores(folder: Path) -> dict[str, float]:
    return json.loads((folder / "report" / "metrics.json").read_text())["scores"]


def last_step(folder: Path) -> int:
    return max(entry["step"] for entry in json.loads((folder / "training_log.json").read_text()))


def text_only(folder: Path, heads: list[dict], header: list[str], rows: list[list], **keys) -> str:
    """Write a task of texts without pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    task = {"data": "table.csv", "text": "text", "heads": heads, "split": {"column": "part"}} | keys
    (folder / "task.yaml").write_text(yaml.safe_dump(task, allow_unicode=True), encoding="utf-8")
    return str(folder / "task.yaml")


@pytest.mark.parametrize(("given", "used"), [({}, "query: "), ({"text_prefix": ""}, "")])
def test_the_prompt_is_the_encoders_own_unless_a_recipe_says_another(given, used, encoders, tmp_path):
    own = tmp_path / "tiny-e5"
    shutil.copytree(encoders["text_encoder"], own)
    recipe = Recipe.read("ynat", {"text_encoder": str(own)} | given)
    assert build(recipe, tiny.heads(), str(own), None)[1].text_prefix == used
    assert build(recipe, tiny.heads(), encoders["text_encoder"], None)[1].text_prefix == ""


def test_a_finished_run_holds_what_a_user_needs_and_no_pickles(finished_run):
    names = {path.relative_to(finished_run).as_posix() for path in finished_run.rglob("*")}
    wanted = {
        "config.json", "model.safetensors", "modeling_multihead.py", "processing_multihead.py", "pipeline_multihead.py",
        "processor_config.json", "tokenizer.json", "recipe.yaml", "task.json", "training_log.json",
        "report/metrics.json", "report/report.html", "report/per_class.csv", "report/predictions.csv",
    }  # fmt: skip
    assert wanted <= names
    assert not [name for name in names if name.startswith("checkpoint-") or name.endswith((".bin", ".pt", ".pth"))]
    extra = json.loads((finished_run / "report" / "metrics.json").read_text())["extra"]
    assert extra["rows"] == {"train": 48, "validation": 12, "test": 12}
    assert extra["split"] == "test" and extra["environment"]["world_size"] == 1
    columns = json.loads((finished_run / "task.json").read_text())
    assert (columns["text"], columns["image"], columns["id"]) == (["overview"], "photo", "no")
    model = MultiHeadForClassification.from_pretrained(finished_run)
    assert [head.name for head in model.config.heads] == ["cat1", "cat2", "tags", "price"]
    assert model.config.heads[3].std > 0
    assert MultiHeadProcessor.from_pretrained(finished_run).max_length == 32


def test_the_recipe_that_is_left_trains_again_to_the_same_scores(finished_run, tmp_path):
    again = train(finished_run / "recipe.yaml", tmp_path / "again")
    assert again["scores"] == pytest.approx(scores(finished_run), abs=1e-6)
    left, right = (
        yaml.safe_load((folder / "recipe.yaml").read_text()) for folder in (finished_run, tmp_path / "again")
    )
    assert left | {"output_dir": None} == right | {"output_dir": None}


def test_a_killed_run_goes_on_to_where_an_uninterrupted_one_ends(finished_run, encoders, places, tmp_path):
    def run() -> None:
        train(str(places), tmp_path, tiny.RECIPE | encoders, callbacks=[Slow()])

    assert killed(run, when=(tmp_path / "checkpoint-6" / "trainer_state.json").exists)
    assert not (tmp_path / "report").exists()
    result = train(str(places), tmp_path, tiny.RECIPE | encoders)
    log = json.loads((tmp_path / "training_log.json").read_text())
    seconds = [entry["train_seconds"] for entry in log]
    assert seconds == sorted(seconds) and result["extra"]["train_seconds"] == seconds[-1] > 0.6  # the killed part too
    assert log[-1]["train_runtime"] >= 0 and last_step(tmp_path) == last_step(finished_run) == 18
    assert result["scores"] == pytest.approx(scores(finished_run), abs=1e-4)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_resume_false_starts_anew(encoders, places, tmp_path):
    (tmp_path / "checkpoint-99").mkdir()
    (tmp_path / "checkpoint-99" / "trainer_state.json").write_text("{}")
    ready = prepare(str(places), tmp_path, tiny.RECIPE | encoders, resume=False)
    assert ready.checkpoint is None and not (tmp_path / "checkpoint-99").exists()


def test_adapters_of_encoders_that_nobody_else_can_name_are_in_the_checkpoint_only(encoders, places, tmp_path, capsys):
    train(str(places), tmp_path, tiny.RECIPE | encoders | ONE_EPOCH | {"lora": {"rank": 4}})
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pth")]
    MultiHeadForClassification.from_pretrained(tmp_path)
    assert not (tmp_path / "adapter").exists()
    said = capsys.readouterr().out
    assert "the adapters of the text encoder are in the checkpoint only: it is no packaged or Hub encoder." in said


def test_pictures_are_found_again_in_the_folder_beside_a_new_table(encoders, tmp_path, capsys):
    task = tiny.write_task(tmp_path / "task", image_dir="photos")
    (task.parent / "photos").mkdir()
    for picture in task.parent.glob("*.png"):
        picture.rename(task.parent / "photos" / picture.name)
    train(str(task), tmp_path / "run", tiny.RECIPE | encoders | ONE_EPOCH)
    new = (task.parent / "places.csv").rename(task.parent / "new.csv")
    for command in (
        ("predict", new, tmp_path / "out.csv"),
        ("evaluate", "--data", new, "--output-dir", tmp_path / "e"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([command[0], str(tmp_path / "run"), *map(str, command[1:])])
        assert not ended.value.code, capsys.readouterr()
    assert not read_table(tmp_path / "out.csv")["error"].any()


def test_a_task_of_numbers_alone(encoders, tmp_path):
    rows = [[f"{sentence} {row}", row % 6, "test" if row > 20 else "validation" if row > 15 else "train"]
            for row, sentence in enumerate(tiny.SENTENCES * 4)]  # fmt: skip
    task = text_only(tmp_path / "task", [{"name": "stars", "problem": "regression"}], ["text", "stars", "part"], rows)
    result = train(task, tmp_path / "run", tiny.RECIPE | encoders | {"num_train_epochs": 8})
    assert result["scores"]["stars_mae"] < result["baseline"]["stars_mae"]
    log = json.loads((tmp_path / "run" / "training_log.json").read_text())
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert len(losses) == 8 and losses[-1] < losses[0]


def test_a_task_without_validation_trains_to_the_end(encoders, tmp_path):
    heads = [{"name": "cat1"}]
    task = tiny.write_task(tmp_path / "task", rows=24, split="none", heads=heads)
    result = train(str(task), tmp_path / "run", tiny.RECIPE | encoders | ONE_EPOCH | {"early_stopping": 2})
    assert result["extra"]["split"] == "train" and result["extra"]["rows"] == {"train": 24}
    assert last_step(tmp_path / "run") == 3


def test_soft_labels_train_and_are_scored(encoders, tmp_path):
    soft = ["[0.8, 0.2]", "[0.1, 0.9]", "", "음식"]
    rows = [[f"{sentence} {row}", soft[row % 4], "test" if row > 19 else "validation" if row > 15 else "train"]
            for row, sentence in enumerate(tiny.SENTENCES * 4)]  # fmt: skip
    task = text_only(tmp_path / "task", [{"name": "cat1", "labels": ["자연", "음식"]}], ["text", "cat1", "part"], rows)
    result = train(task, tmp_path / "run", tiny.RECIPE | encoders | ONE_EPOCH | {"class_weights": "balanced"})
    assert result["counts"]["labelled"]["cat1"] == 3
    assert np.isfinite(result["scores"]["cat1_accuracy"])
    evaluate(tmp_path / "run", tmp_path / "task" / "table.csv", tmp_path / "report")
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["counts"]["labelled"]["cat1"] == 18


def test_options_fall_to_the_heads_that_leave_them_open(encoders, places, tmp_path):
    task = tiny.write_task(
        tmp_path / "task", rows=24, heads=[{"name": "cat1", "kind": "mlp"}, {"name": "cat2", "parent": "cat1"}]
    )
    options = {"head_kind": "residual", "max_train_rows": 8, "path_weight": 0.2}
    ready = prepare(str(task), tmp_path / "run", tiny.RECIPE | encoders | options)
    cat1, cat2 = ready.trainer.heads
    assert (cat1.kind, cat2.kind) == ("mlp", "residual")
    assert (cat1.path_weight, cat2.path_weight) == (0.2, 1.0)  # nothing refines cat2
    assert len(ready.trainer.train_dataset) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learing_rate": 1}, "no option 'learing_rate'. Did you mean 'learning_rate'?"),
        ({"ema_decay": 0.9}, "'ema_decay' is now 'ema'"),
        ({"fusion": "mix"}, "not one of tokens, pooled, gated"),
        ({"task": "tuor"}, "did you mean 'tour'"),
        ({"text_encoder": None, "vision_encoder": None}, "names no encoder"),
        ({"text_encoder": "no-such-encoder"}, "packaged backbones"),
        ({"sampling": {"value": "balanced", "head": "tags"}}, "needs a single_label head"),
    ],
)
def test_wrong_options_are_one_sentence(encoders, places, tmp_path, options, message):
    recipe = {"task": str(places)} | tiny.RECIPE | encoders | options
    with pytest.raises(ValueError, match=message) as caught:
        train(recipe, tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_make_each_fold_once(encoders, places, tmp_path):
    """One fold is finished by one process; two processes make the other, as one process would.

    Its rows fill whole batches: accelerate completes the last one with rows from the beginning.
    """
    options = tiny.RECIPE | encoders | {"use_cpu": True, "num_train_epochs": 2, "per_device_train_batch_size": 4}
    del options["disable_tqdm"]
    for fold, folder in enumerate([tmp_path / "cv" / "fold-0", tmp_path / "one"]):
        train(str(places), folder, options | {"split": {"column": "part", "folds": 2, "fold": fold}})
    words = ["--config_file", "scripts/accelerate/cpu-2.yaml", "scripts/train.py", str(places), "--folds", "2"]
    options["per_device_train_batch_size"] //= 2
    words += ["--output-dir", str(tmp_path / "cv"), *(f"{key}={json.dumps(value)}" for key, value in options.items())]
    command = [sys.executable, "-m", "accelerate.commands.launch", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "run 1 of 2" not in done.stdout and done.stdout.count("run 2 of 2") == 1
    assert done.stdout.count("eval_loss") == 2  # once an epoch
    assert "it/s" not in done.stdout + done.stderr and "%|" not in done.stdout + done.stderr  # no bars in a pipe
    one, two = Run.open(tmp_path / "one"), Run.open(tmp_path / "cv" / "fold-1")
    assert two.facts["environment"]["world_size"] == 2
    logs = [json.loads((run.folder / "training_log.json").read_text()) for run in (one, two)]
    losses = [[entry[key] for entry in log for key in ("loss", "loss_cat1", "eval_loss") if key in entry]
              for log in logs]  # fmt: skip
    assert losses[1] == pytest.approx(losses[0], rel=1e-3, abs=1e-3)
    assert two.results["scores"] == pytest.approx(one.results["scores"], abs=1e-3)
    assert two.predictions().ids == one.predictions().ids
    whole = Run.open(tmp_path / "cv")
    rows = pd.read_parquet(whole.folder / "out_of_fold.parquet")
    assert rows["id"].is_unique and sum(whole.facts["rows_per_fold"]) == len(rows) > 50
    assert (whole.folder / "ensemble" / "config.json").is_file()


def test_every_accelerate_file_is_one_that_accelerate_reads():
    from accelerate.commands.config.config_args import load_config_from_file

    files = sorted((ROOT / "scripts" / "accelerate").glob("*.yaml"))
    assert {file.name for file in files} >= {"cpu-2.yaml", "gpu-1-bf16.yaml", "gpu-multi-fp16.yaml"}
    for file in files:
        assert load_config_from_file(str(file)).num_processes >= 1


# ------------------------------------------------------------------------------------------------- built-in recipes

QUICK = {"bf16": False, "fp16": False, "disable_tqdm": True, "fusion_layers": 1, "image_size": 32, "max_length": 16,
         "num_train_epochs": 1, "standardize_rows": 0, "max_train_rows": 32}  # fmt: skip


@pytest.fixture(scope="module")
def contest(tmp_path_factory) -> Path:
    """A train.csv as the competition's, with its columns and pictures: 4 of the 128 classes, 25 rows each."""
    folder = tmp_path_factory.mktemp("contest")
    (folder / "image").mkdir()
    tree = tour_tree()
    with open(folder / "train.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "img_path", "overview", "cat1", "cat2", "cat3"])
        for number in range(100):
            cat1, cat2, cat3, _ = tree[[0, 30, 60, 90][number % 4]]
            Image.fromarray(np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)).save(
                folder / "image" / f"{number:03}.jpg"
            )
            letters = np.random.default_rng(number).integers(0xAC00, 0xD7A3, (6, 3))  # no two alike
            text = tiny.SENTENCES[number % 4] + " " + " ".join("".join(map(chr, word)) for word in letters)
            writer.writerow([f"TRAIN_{number:05}", f"./image/{number:03}.jpg", text, cat1, cat2, cat3])
    return folder / "train.csv"


@pytest.mark.parametrize("name", ["tour-lora", "tour-image", "tour-text"])
def test_recipes_for_large_encoders_train_with_stand_ins(name, contest, encoders, tmp_path):
    """Another family of text encoders is one changed option."""
    config = ElectraConfig(vocab_size=200, embedding_size=16, hidden_size=32, num_hidden_layers=1,
                           num_attention_heads=2, intermediate_size=32, max_position_embeddings=64)  # fmt: skip
    ElectraModel(config).save_pretrained(tmp_path / "electra")
    tiny.tokenizer().save_pretrained(tmp_path / "electra")
    stand_ins = encoders | {"text_encoder": str(tmp_path / "electra")}
    recipe = Recipe.read(name, {"fp16": False})
    stand_ins = {key: folder for key, folder in stand_ins.items() if getattr(recipe, key) is not None}
    results = train(name, tmp_path / "run", QUICK | stand_ins | {"data": str(contest)})
    assert results["extra"]["split"] == "test" and results["scores"]["hierarchy_consistency"] == 1.0
    assert {"cat3_weighted_f1", "cat3_weighted_f1_independent"} <= set(results["scores"])
    model = MultiHeadForClassification.from_pretrained(tmp_path / "run")
    assert [len(head.labels) for head in model.config.heads] == [6, 18, 128]
    assert (model.text_encoder is None, model.vision_encoder is None) == (name == "tour-image", name == "tour-text")
    assert not (tmp_path / "run" / "adapter").exists()  # of encoders that only this machine has
    if model.text_encoder is not None:
        assert model.text_encoder.config.model_type == "electra"
