"""A run that pushes while it trains, against the stand-in for the Hub: what is there, and what others make of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel, TrainerCallback, set_seed

from hfk import (
    MultiHeadForClassification,
    MultiHeadProcessor,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    Predictor,
    train,
)
from hfk.hub.publishing import PICKLES
from hfk.hub.training_checkpoints import fetch_checkpoint
from hfk.runs.run import last_checkpoint
from hfk.tasks import load_task
from hfk.training.techniques import make_techniques
from hfk.training.trainer import unwrap
from tests import tiny

TEXT = "해 뜨는 모습이 아름다운 동해의 바닷가"
SERVED = {
    "README.md", "config.json", "model.safetensors", "processor_config.json", "tokenizer.json",
    "modeling_multihead.py", "processing_multihead.py", "pipeline_multihead.py",
}  # fmt: skip
"""What a stranger needs, the card included; further modules of the remote code may be beside it."""
RESUMABLE = {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}


class Interrupted(Exception):
    """What ends a run that a test interrupts."""


class StopAt(TrainerCallback):
    """End training before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Interrupted


def run(task: str, folder: str, stop_at: int | None = None, resume_from: str | None = None, techniques=None, **options):
    """Train a tiny model on `task` for six steps, saving every second; returns the trainer."""
    set_seed(0)
    task = load_task(task)
    data = task.load()
    args = MultiHeadTrainingArguments(
        output_dir=folder,
        **{
            "max_steps": 6,
            "save_strategy": "steps",
            "save_steps": 2,
            "eval_strategy": "no",
            "load_best_model_at_end": False,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "disable_tqdm": True,
            "bf16": False,
        }
        | options,
    )
    model, processor = tiny.model("bert", "resnet", heads=task.heads), tiny.processor("bert", "resnet")
    callbacks = [StopAt(stop_at)] if stop_at is not None else []
    trainer = MultiHeadTrainer(model, args, processor, data["train"], techniques=techniques, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resume_from)
    return trainer


def top_level(files: list[str]) -> set[str]:
    return {file for file in files if "/" not in file}


def below(files: list[str], folder: str) -> set[str]:
    return {file.removeprefix(f"{folder}/") for file in files if file.startswith(f"{folder}/")}


def test_every_strategy_pushes_what_it_promises(hub_here, places, caplog):
    hub, task = hub_here, str(places)
    hub.fault(f"POST .*/{hub.user}/broken/commit/", "refuse", times=99)
    Path("every_save").mkdir()
    Path("every_save/README.md").write_text("---\nlicense: mit\n---\n내 말\n", encoding="utf-8")
    Path("every_save/rows.csv").write_text("mine")
    for strategy in ("end", "every_save", "checkpoint", "all_checkpoints"):
        options = {"hub_strategy": strategy, "hub_always_push": True, "save_total_limit": 1, "max_steps": 4}
        trainer = run(task, strategy, push_to_hub=True, **options)
        assert not Path(strategy, "_push").exists() and not Path(strategy, "training_args.bin").exists()
        Path("every_save/rows.csv").unlink(missing_ok=True)
        trainer.push_to_hub()
    run(task, "broken", push_to_hub=True, hub_strategy="every_save", max_steps=2)
    api = hub.api()
    titles, listings = {}, {}
    for strategy in ("end", "every_save", "checkpoint", "all_checkpoints"):
        repo = f"{hub.user}/{strategy}"
        commits = api.list_repo_commits(repo)
        titles[strategy] = [commit.title for commit in reversed(commits)][1:]
        listings[strategy] = [api.list_repo_files(repo, revision=commit.commit_id) for commit in reversed(commits)][1:]
        for listing in listings[strategy]:
            pickles = [file for file in top_level(listing) if file.endswith(PICKLES)]
            assert not pickles and "rows.csv" not in listing, f"{strategy}: {sorted(listing)}"
            assert top_level(listing) >= SERVED - {"README.md", "training_arguments.json"}, (
                f"{strategy}: {sorted(listing)}"
            )
        assert top_level(listings[strategy][-1]) >= SERVED - {"training_arguments.json"}
    saves = [f"Training in progress, step {step}" for step in (2, 4)]
    assert titles["end"] == ["End of training"]
    for strategy in ("every_save", "checkpoint", "all_checkpoints"):
        assert titles[strategy] == [*saves, "End of training"]
    for strategy in ("end", "every_save"):
        assert not any("/" in file for listing in listings[strategy] for file in listing)
    for step, listing in zip((2, 4), listings["checkpoint"], strict=False):
        assert below(listing, "last-checkpoint") >= RESUMABLE
        assert {file.split("/")[0] for file in listing if "/" in file} == {"last-checkpoint"}, step
    for count, listing in enumerate(listings["all_checkpoints"][:2], start=1):
        folders = {file.split("/")[0] for file in listing if "/" in file}
        assert folders == {f"checkpoint-{step}" for step in (2, 4)[:count]}
        assert below(listing, f"checkpoint-{2 * count}") >= RESUMABLE
    card = (hub.folder / "every_save" / "README.md").read_text()
    assert card.endswith("내 말\n"), "a card that was there stays"
    assert api.model_info(f"{hub.user}/checkpoint").card_data.to_dict()["library_name"] == "hfk"
    assert f"checkpoint-2 was not pushed to {hub.user}/broken; training goes on." in caplog.text
    with pytest.raises(ValueError, match=f"{hub.user}/every_save has no whole last-checkpoint"):
        fetch_checkpoint(f"{hub.user}/every_save", "fetched")
    with pytest.raises(ValueError, match=f"there is no {hub.user}/nothing"):
        fetch_checkpoint(f"{hub.user}/nothing", "fetched")
    assert fetch_checkpoint(f"{hub.user}/all_checkpoints", "fetched", "checkpoint-4") == "fetched/checkpoint-4"
    assert set(os.listdir(hub.folder / "fetched" / "checkpoint-4")) >= RESUMABLE
    assert not list(hub.folder.rglob("training_args.bin"))


def test_what_a_trainer_with_adapters_pushes_by_hand_answers_where_hfk_is_not_installed(hub_here, places):
    hub, repo = hub_here, f"{hub_here.user}/by-hand"
    hub.api().create_repo(repo)
    for name in ("adapter_config.json", "adapter/adapter_config.json", "last-checkpoint/optimizer.pt"):
        hub.api().upload_file(path_or_fileobj=b'{"base_model_name_or_path": null}', path_in_repo=name, repo_id=repo)
    trainer = run(str(places), "by-hand", techniques=make_techniques({"lora": {"rank": 2}}), hub_model_id=repo)
    Path("by-hand/rows.csv").write_text("mine")
    pushed = trainer.push_to_hub()
    files = hub.api().list_repo_files(repo, revision=pushed.sha)
    assert "last-checkpoint/optimizer.pt" in files, "what a run goes on from stays"
    assert not [name for name in files if "adapter" in name or name == "rows.csv"]
    out = hub.run(
        f"""
        import json, sys
        sys.modules["hfk"] = sys.modules["peft"] = None
        from transformers import pipeline
        classify = pipeline("multi-head-classification", model={repo!r}, trust_remote_code=True)
        print(json.dumps(classify({TEXT!r})["cat2"][0]["score"]))
        """,
        home="stranger",
    )
    (own,) = Predictor(unwrap(trainer.model), trainer.processor)([TEXT])
    assert json.loads(out.splitlines()[-1]) == pytest.approx(own["cat2"][0]["score"], abs=1e-5)


def test_adapters_make_of_each_encoder_on_the_hub_what_the_model_reads_with(hub_here, places, encoders):
    """Loaded by peft and transformers alone; pushed while training too."""
    hub, names = hub_here, {}
    for side, folder in encoders.items():
        names[side] = f"{hub.user}/tiny-{side.replace('_', '-')}"
        hub.api().create_repo(names[side])
        hub.api().upload_folder(repo_id=names[side], folder_path=folder)
    repo = f"{hub.user}/adapted"
    options = {"lora": {"rank": 2}, "learning_rate": 1e-2, "push_to_hub": True, "hub_model_id": repo}
    options |= {"hub_strategy": "every_save", "hub_always_push": True, "num_train_epochs": 1}
    train(str(places), "adapted", tiny.RECIPE | names | options)
    merged, texts = MultiHeadForClassification.from_pretrained("adapted"), {}
    for side in ("text", "vision"):
        card = ModelCard.load(f"adapted/adapter/{side}/README.md")
        assert card.data.base_model == names[f"{side}_encoder"] and card.data.library_name == "peft"
        config = json.loads(Path(f"adapted/adapter/{side}/adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == names[f"{side}_encoder"] and not config["modules_to_save"]
        texts[side] = re.search("```python\n(.*?)```", card.text, re.S)[1]
    before = hub.api().list_repo_files(repo, revision=hub.api().list_repo_commits(repo)[1].commit_id)
    assert {f"adapter/{side}/adapter_model.safetensors" for side in ("text", "vision")} <= set(before)
    assert not [name for name in hub.api().list_repo_files(repo) if name.startswith("adapter")]
    out = hub.run(
        f"""
        import json, os, sys
        sys.modules["hfk"] = None
        os.chdir("adapted")
        from peft import AutoPeftModel
        told = {{}}
        for side, code in {texts!r}.items():
            made = {{}}
            exec(code, made)
            by_itself = AutoPeftModel.from_pretrained("adapter/" + side).merge_and_unload().state_dict()
            encoder = made["encoder"].merge_and_unload().state_dict()
            assert all((by_itself[name] == weight).all() for name, weight in encoder.items() if "pooler" not in name)
            told[side] = {{name: weight.flatten()[:4].tolist() for name, weight in encoder.items()}}
        print(json.dumps(told))
        """,
        home="stranger",
    )
    changed = 0
    for side, weights in json.loads(out.splitlines()[-1]).items():
        own = getattr(merged, f"{side}_encoder").state_dict()
        base = AutoModel.from_pretrained(encoders[f"{side}_encoder"]).state_dict()
        for name in own:
            torch.testing.assert_close(own[name].flatten()[:4], torch.tensor(weights[name]), rtol=1e-4, atol=1e-6)
            changed += not torch.equal(own[name], base[name])
    assert changed > 4


def test_an_interrupted_run_goes_on_elsewhere_to_the_same_end(hub_here, places, tmp_path):
    hub, task = hub_here, str(places)
    repo, api = f"{hub.user}/places", hub.api()
    options = {"push_to_hub": True, "hub_strategy": "checkpoint", "hub_always_push": True, "hub_model_id": repo}
    hub.fault("POST .*/commit/", "refuse", at=2)
    with pytest.raises(Interrupted):  # at step 5; the checkpoint of step 4 has not arrived
        run(task, "here", stop_at=5, **options)
    assert api.list_repo_commits(repo)[0].title == "Training in progress, step 2"
    checkpoint = fetch_checkpoint(repo, "there")
    assert last_checkpoint("there") == checkpoint == "there/checkpoint-2"
    trainer = run(task, "there", resume_from=checkpoint, **options)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    trainer.push_to_hub()
    whole = run(task, str(tmp_path / "whole"))
    assert losses == pytest.approx([entry["loss"] for entry in whole.state.log_history if "loss" in entry], rel=1e-4)
    assert len(losses) == 6
    expected = load_file(tmp_path / "whole" / "checkpoint-6" / "model.safetensors")
    for name, weight in load_file("there/model.safetensors").items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_finished_run_with_adapters_is_pushed_whole_and_answers_where_hfk_is_not_installed(
    hub_here, places, encoders, capsys
):
    hub, repo, folder, adapter = hub_here, f"{hub_here.user}/places", Path("places"), "adapter_config.json"
    hub.api().create_repo(repo, private=True)  # of an earlier run:
    hub.api().upload_file(path_or_fileobj=b'{"base_model_name_or_path": null}', path_in_repo=adapter, repo_id=repo)
    options = tiny.RECIPE | encoders | {"max_steps": 4, "lora": {"rank": 2}, "license": "mit"}
    options |= {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    more = {"push_to_hub": True, "hub_private_repo": True, "hub_strategy": "checkpoint", "hub_always_push": True}
    train(str(places), folder, options | more)
    info = hub.api().model_info(repo)
    assert info.private and f"/commit/{info.sha}" in capsys.readouterr().out and info.card_data.license == "mit"
    before = hub.api().list_repo_commits(repo)[1].commit_id  # the last one of training
    assert "last-checkpoint/optimizer.pt" in hub.api().list_repo_files(repo, revision=before)
    files = {sibling.rfilename for sibling in info.siblings}
    assert files >= SERVED | {"handler.py", "metrics.json", "task.json", "recipe.yaml"}
    assert not [name for name in files if name.endswith(PICKLES) or "adapter" in name or "checkpoint" in name]
    assert f'"{repo}"' in (folder / "README.md").read_text(encoding="utf-8"), "the snippets name the repository"
    Image.new("RGB", (64, 48), "skyblue").save("photo.jpg")
    out = hub.run(
        f"""
        import json, re, sys
        sys.modules["hfk"] = None
        from huggingface_hub import snapshot_download
        folder = snapshot_download({repo!r}, revision={info.sha!r})
        card = open(folder + "/README.md", encoding="utf-8").read().replace("<commit sha>", {info.sha!r})
        blocks = re.findall(r"```python\\n(.*?)```", card, re.S)
        exec(blocks[0])
        exec(blocks[2])
        sys.path.insert(0, folder)
        from handler import EndpointHandler
        (served,) = EndpointHandler(folder)({{"inputs": [{TEXT!r}]}})
        logits = {{name: v.tolist() for name, v in model(**processor(text=[{TEXT!r}])).logits.items()}}
        print(json.dumps([logits, classify({TEXT!r})["cat2"][0]["label"], served["cat2"][0]["label"]]))
        """,
        home="stranger",
    )
    answer, *lines, last = out.splitlines()
    heads = ("cat1", "cat2", "tags", "price")
    assert all(f"'{head}': " in answer for head in heads) and [line.split()[0] for line in lines] == list(heads)
    logits, label, served = json.loads(last)
    model, processor = AutoModel.from_pretrained(folder), MultiHeadProcessor.from_pretrained(folder)
    for name, values in model(**processor(text=[TEXT])).logits.items():
        torch.testing.assert_close(torch.tensor(logits[name]), values, rtol=1e-5, atol=1e-5)
    assert label == served and label in model.config.head("cat2").labels
    # What is fetched from there is known as the run that it is.
    assert fetch_checkpoint(repo, "there", revision=before) == "there/checkpoint-4"
    with pytest.raises(ValueError, match=r"learning_rate was 0\.002 there and is 0\.1 now"):
        train(str(places), "there", options | {"learning_rate": 0.1})
