"""A token is never written to a file, and what looks like one is never pushed."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from hfk.hub.publishing import Target, commit, plan_push, pull
from hfk.runs.recipe import Recipe, without_tokens
from hfk.training.folds import train_folds
from tests import tiny

TOKEN = "hf_" + "secretSECRET" * 3


def holding(folder: Path) -> list[str]:
    """Files below a folder that hold the token."""
    return [path.name for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.fixture
def options(encoders, monkeypatch) -> dict:
    made = {"text_encoder": encoders["text_encoder"], "vision_encoder": None, "num_train_epochs": 1, "use_cpu": True}
    return tiny.RECIPE | made | {"hub_token": TOKEN, "keep_checkpoints": True, "report_to": ["tensorboard"]}


def test_no_file_of_a_run_holds_a_token(options, tmp_path, capsys):
    task = tiny.write_task(tmp_path / "task", 36, image=None, heads=[{"name": "cat1"}])
    train_folds(str(task), tmp_path / "out" / "folds", 2, overrides=options)
    assert (tmp_path / "out" / "folds" / "fold-0" / "recipe.yaml").is_file()
    assert list((tmp_path / "out").rglob("training_arguments.json")) and list((tmp_path / "out").rglob("run.json"))
    assert holding(tmp_path / "out") == [] and TOKEN not in capsys.readouterr().out


def test_no_file_of_a_search_holds_a_token(options, tmp_path, capsys):
    pytest.importorskip("optuna")
    from hfk.tools.search.trials import Range, search

    task = tiny.write_task(tmp_path / "task", 36, image=None, heads=[{"name": "cat1"}])
    said = search(str(task), tmp_path / "out", 1, {"weight_decay": Range(0.0, 0.1)}, options | {"report_to": "none"})
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"search.json", "best.yaml", "trials.csv"}
    assert holding(tmp_path / "out") == [] and TOKEN not in said + capsys.readouterr().out


def test_tokens_are_left_out_wherever_they_stand():
    options = {"hub_token": TOKEN, "tracker": {"keys": 1, "wandb_api_key": TOKEN, "token": TOKEN}, "seed": 1}
    assert without_tokens(options) == {"tracker": {"keys": 1}, "seed": 1}
    recipe = Recipe.read({"task": "ynat-mini", "hub_token": TOKEN, "mine": {"some_token": TOKEN}})
    assert TOKEN not in str(recipe.to_dict()) and recipe.arguments.hub_token == TOKEN


LEAKS = {
    "Hub token": "hf_" + "a1B2" * 9,
    "GitHub token": "ghp_" + "a1B2" * 9,
    "GitHub  token": "github_pat_" + "a1B2_" * 12,
    "AWS key": "AKIA" + "ABCDEFGH12345678",
    "OpenAI": "sk-" + "a1B2" * 12,
    "OpenAI ": "sk-proj-" + "a1-_" * 20,
    "Anthropic": "sk-ant-api03-" + "a1-_" * 20,
    "Google key": "AIza" + "a1B2-" * 7,
    "Slack token": "xoxb-1234567890-abcdef",
    "GitLab token": "glpat-" + "a1B2-" * 5,
    "PyPI token": "pypi-AgEIcHlwaS5vcmc" + "a1B2-" * 20,
    "password": "https://somebody:correcthorse@example.org/rows.csv",
    "password in an address": "postgresql://me:s3cret!!@db/rows",
    "private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "private  key": "-----BEGIN PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", LEAKS)
def test_what_looks_like_a_secret_is_not_pushed(kind):
    """Nothing is asked of the Hub before that: no client is given."""
    files = {"README.md": b"# a model", "notes/run.yaml": f"login: {LEAKS[kind]}\n".encode()}
    with pytest.raises(ValueError, match=rf"notes/run\.yaml holds what looks like .*{kind.split()[0]}"):
        commit(Target("me/model"), files, api=object())


def test_a_picture_that_is_text_is_looked_through_too():
    files = {"README.md": b"# a model", "report/a.svg": f"<svg>{LEAKS['Hub token']}</svg>".encode()}
    with pytest.raises(ValueError, match=r"report/a\.svg holds what looks like a Hub token"):
        commit(Target("me/model"), files, api=object())


@pytest.mark.parametrize("name", ["LICENSE", "tokenizer.json", "model.safetensors"])
def test_a_link_out_of_a_checkpoint_is_not_pushed(finished_run, tmp_path, name):
    """As one in an archive from a stranger, to whatever the user can read."""
    folder, secret = Path(shutil.copytree(finished_run, tmp_path / "run")), tmp_path / "secret"
    if (folder / name).exists():
        (folder / name).rename(secret)
    else:
        secret.write_text("precious")
    (folder / name).symlink_to(secret)
    with pytest.raises(ValueError, match=r"is a link to .*secret, outside of the checkpoint"):
        plan_push(folder, "me/model")
    (folder / name).unlink()
    secret.rename(folder / "kept")
    (folder / name).symlink_to("kept")
    assert name in plan_push(folder, "me/model").files


def test_a_file_whose_name_leads_out_of_its_folder_is_not_pulled(tmp_path):
    """The Hub has none; what says it is the Hub may."""
    for name in ("../evil.py", "a/../../evil.py", "/evil.py", "..\\evil.py"):
        siblings = [SimpleNamespace(rfilename=one) for one in ("config.json", "model.safetensors", name)]
        api = SimpleNamespace(repo_info=lambda *_, found=siblings, **__: SimpleNamespace(siblings=found, sha="0" * 40))
        with pytest.raises(ValueError, match="a file whose name leads out of its folder"):
            pull("me/model", tmp_path / "pulled", api=api)


def test_words_that_begin_like_one_are_pushed():
    """They come as far as the client, which is none."""
    words = "task-classification risk-averse-portfolio-management sk-learn-pipelines AKIAK hf_hub xoxb AIza ghp_me "
    words += "https://example.org:8080/@me mailto:me@example.org http://user:pass@host glpat-me"
    with pytest.raises(AttributeError):
        commit(Target("me/model"), {"README.md": words.encode()}, api=object())
