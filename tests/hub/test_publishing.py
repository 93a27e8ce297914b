"""A checkpoint goes to the Hub whole, in one commit, and comes back from there with nothing trusted blindly."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard, parse_eval_result_entries
from huggingface_hub.errors import RepositoryNotFoundError
from transformers import AutoModel

from hfk import cli
from hfk.hub.publishing import Target, plan_push, pull, push
from hfk.inference.remote_code import code_files
from hfk.models.checked_files import check_remote_code
from tests import tiny
from tests.hub_server import ROOT

PUSH = str(ROOT / "scripts" / "push_to_hub.py")


@pytest.fixture
def run(finished_run, tmp_path):
    """A finished run that a test may change, with what training and a user leave behind."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    (folder / "checkpoint-9").mkdir()
    for name in ("optimizer.pt", "checkpoint-9/model.safetensors", "notes.txt", "unused.py"):
        (folder / name).write_bytes(b"x = 1")
    return folder


@pytest.fixture
def small(checkpoint, tmp_path):
    """A saved checkpoint that a test may change."""
    shutil.copytree(checkpoint, tmp_path / "small")
    return tmp_path / "small"


def files_of(hub, repo_id, revision="main", repo_type="model") -> set[str]:
    return set(hub.api().list_repo_files(repo_id, revision=revision, repo_type=repo_type)) - {".gitattributes"}


def head_of(hub, repo_id, revision="main") -> str:
    return hub.api().repo_info(repo_id, revision=revision).sha


def new_weights(folder) -> None:
    model = AutoModel.from_pretrained(folder)
    torch.nn.init.normal_(model.heads.layers[0].short.weight)
    model.save_pretrained(folder)


# -- push ----------------------------------------------------------------------------------------------------


def test_what_is_sent_is_what_a_checkpoint_is_made_of(run):
    plan = plan_push(run, "me/places")
    sent = set(plan.files)
    assert {
        "config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
        "README.md", "handler.py", "task.json", "recipe.yaml", "training_log.json", "metrics.json",
        "modeling_multihead.py", "configuration_multihead.py", "processing_multihead.py", "pipeline_multihead.py",
    } <= sent  # fmt: skip
    assert not [
        name for name in sent if name.startswith("checkpoint") or name.endswith((".pt", ".bin", ".csv", ".html"))
    ]
    assert {"notes.txt", "unused.py", "optimizer.pt", "checkpoint-9/", "report/predictions.csv"} <= set(plan.left_out)
    shown = {name for name in sent if name.startswith("report/")}
    card = (run / "README.md").read_text(encoding="utf-8")
    assert shown and all(name in card for name in shown)
    recipe = plan.files["recipe.yaml"].decode()
    assert str(run.parent) not in recipe and "learning_rate" in recipe


def test_only_the_code_that_the_configuration_leads_to_is_needed(small):
    configs = [json.loads((small / name).read_text()) for name in ("config.json", "processor_config.json")]
    (small / "extra.py").write_text("from .decoding import decide\n", encoding="utf-8")
    needed = code_files(small, *configs)
    assert "extra.py" not in needed
    assert {"modeling_multihead.py", "hierarchy.py", "image_preparation.py"} <= needed
    configs[0]["auto_map"]["AutoModelForMaskedLM"] = "extra.Model"
    assert code_files(small, *configs) == needed | {"extra.py"}
    (small / "hierarchy.py").unlink()
    with pytest.raises(ValueError, match=r"hierarchy\.py is missing"):
        code_files(small, *configs)


def test_a_dry_run_lists_sizes_and_sends_nothing(run, hub_server, capsys):
    before = len(hub_server.log)
    with pytest.raises(SystemExit) as caught:
        cli.main(["push", str(run), "me/places", "--dry-run"])
    assert not caught.value.code and len(hub_server.log) == before
    out = capsys.readouterr().out
    assert re.search(r"^model\.safetensors +[\d,]+$", out, re.M)
    assert re.search(r"^config\.json +[\d,]+$", out, re.M)
    assert "optimizer.pt: a pickle" in out


def test_a_card_that_was_edited_is_kept_and_any_other_gets_the_repository_name(hub, small):
    push(small, Target(f"{hub.user}/a"), hub.api())
    assert f"{hub.user}/a" in (small / "README.md").read_text(encoding="utf-8")
    card = (small / "README.md").read_text(encoding="utf-8").replace(f"{hub.user}/a", "mine")
    (small / "README.md").write_text(card, encoding="utf-8")
    push(small, Target(f"{hub.user}/b"), hub.api())
    assert (small / "README.md").read_text(encoding="utf-8") == card
    push(small, Target(f"{hub.user}/b"), hub.api(), license="mit")
    licensed = ModelCard.load(small / "README.md")
    assert licensed.data.license == "mit" and licensed.text == ModelCard(card).text


def test_the_license_that_the_user_names_is_on_the_page(hub_here, small, hfk):
    repo_id = f"{hub_here.user}/places"
    assert hfk("push", small, repo_id)[0] == 0
    assert hub_here.api().model_info(repo_id).card_data.license is None
    (small / "README.md").unlink()
    assert hfk("push", small, repo_id, "--license", "cc-by-4.0")[0] == 0
    assert hub_here.api().model_info(repo_id).card_data.license == "cc-by-4.0"


def test_scores_of_a_benchmarks_own_rows_are_where_the_hub_looks_for_them(hub, online, run):
    """The format is huggingface_hub's own; nothing of rows that hfk held out, and nothing stale stays."""
    repo, api = f"{hub.user}/places", hub.api()
    assert not [name for name in plan_push(run, repo).files if "eval_results" in name], "a table is on no leaderboard"
    recipe = yaml.safe_load((run / "recipe.yaml").read_text()) | {"benchmark": "owner/places:coarse"}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    first = push(run, Target(repo), api)
    name = ".eval_results/hfk-coarse.yaml"
    content = Path(api.hf_hub_download(repo, name, revision=first.sha)).read_text(encoding="utf-8")
    entries = parse_eval_result_entries(yaml.safe_load(content))
    scores = json.loads((run / "report" / "metrics.json").read_text())["scores"]
    assert {(entry.dataset_id, entry.task_id) for entry in entries} == {("owner/places", "coarse")}
    expected = {"cat1": "cat1_macro_f1", "cat2": "cat2_macro_f1", "tags": "tags_macro_f1", "price": "price_mae"}
    assert {re.search(r" of (\w+), on rows of its test split", entry.notes)[1]: entry.value for entry in entries} == {
        head: round(scores[key], 4) for head, key in expected.items()
    }
    metrics = json.loads((run / "report" / "metrics.json").read_text())
    metrics["extra"]["division"] = {"shares": {"test": 0.1}, "seed": 42}
    (run / "report" / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert name not in files_of(hub, repo, push(run, Target(repo), api).sha)


def test_a_branch_or_a_pull_request_leaves_main_alone(hub, small):
    repo_id = f"{hub.user}/places"
    first = push(small, Target(repo_id), hub.api())
    new_weights(small)
    branch = push(small, Target(repo_id, revision="v2", message="Second weights"), hub.api())
    request = push(small, Target(repo_id, create_pr=True), hub.api())
    assert head_of(hub, repo_id) == first.sha
    assert head_of(hub, repo_id, "v2") == branch.sha != first.sha
    assert head_of(hub, repo_id, "refs/pr/1") == request.sha and "/discussions/1" in request.url
    assert hub.api().list_repo_commits(repo_id, revision="v2")[0].title == "Second weights"


def test_a_private_repository_stays_unseen_and_is_not_pushed_to_as_a_public_one(hub, small):
    repo_id = f"{hub.user}/secret"
    push(small, Target(repo_id, private=True), hub.api())
    with pytest.raises(RepositoryNotFoundError):
        hub.api(token=False).repo_info(repo_id)
    before = head_of(hub, repo_id)
    with pytest.raises(ValueError, match="exists and is private, not public"):
        push(small, Target(repo_id, private=False), hub.api())
    assert head_of(hub, repo_id) == before


def test_older_weights_never_stand_beside_newer_ones(hub, small):
    repo_id = f"{hub.user}/places"
    push(small, Target(repo_id), hub.api())
    (small / "model.safetensors").unlink()
    AutoModel.from_config(tiny.model("bert", "resnet").config).save_pretrained(small, max_shard_size="20KB")
    push(small, Target(repo_id), hub.api())
    weights = {name for name in files_of(hub, repo_id) if "safetensors" in name}
    assert "model.safetensors" not in weights and "model.safetensors.index.json" in weights and len(weights) > 2
    for path in small.glob("model*safetensors*"):
        path.unlink()
    tiny.model("bert", "resnet").save_pretrained(small)
    push(small, Target(repo_id), hub.api())
    assert {name for name in files_of(hub, repo_id) if "safetensors" in name} == {"model.safetensors"}


def test_of_two_pushes_at_once_one_is_whole_and_the_other_is_told(hub, small, tmp_path):
    repo_id = f"{hub.user}/places"
    push(small, Target(repo_id), hub.api())
    other = tmp_path / "other"
    shutil.copytree(small, other)
    new_weights(small)
    new_weights(other)
    fault, api = hub.fault(r"POST .*/commit/", "hold"), hub.api()
    told: list[Exception] = []

    def slow() -> None:
        try:
            push(small, Target(repo_id), api)
        except ValueError as error:
            told.append(error)

    thread = threading.Thread(target=slow)
    thread.start()
    assert fault.reached.wait(60)
    winner = push(other, Target(repo_id), api)
    fault.released.set()
    thread.join(60)
    assert len(told) == 1 and "another push changed" in str(told[0])
    assert head_of(hub, repo_id) == winner.sha


def test_an_upload_that_breaks_off_leaves_the_last_good_revision(hub, small):
    repo_id = f"{hub.user}/places"
    good = push(small, Target(repo_id), hub.api())
    new_weights(small)
    hub.fault(r"PUT .*/lfs/", "refuse", times=99)
    with pytest.raises(ConnectionError, match=r"model\.safetensors.* serves is as it was"):
        push(small, Target(repo_id), hub.api())
    assert head_of(hub, repo_id) == good.sha
    hub.server.faults.clear()
    assert push(small, Target(repo_id), hub.api()).sha == head_of(hub, repo_id) != good.sha


def test_refusals_are_one_sentence_that_says_what_to_do(hub, small, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    repo_id = f"{hub.user}/places"
    with pytest.raises(ValueError, match=r"you are not logged in.*hf auth login"):
        push(small, Target(repo_id), hub.api(token=False))
    with pytest.raises(ValueError, match="does not accept your token") as caught:
        push(small, Target(repo_id), hub.api(token="hf_mistyped"))
    assert "hf_mistyped" not in str(caught.value)
    with pytest.raises(ValueError, match=f"may not write to {repo_id}"):
        push(small, Target(repo_id), hub.api(token=hub.read_token))
    with pytest.raises(ValueError, match="may not write to somebody/places"):
        push(small, Target("somebody/places"), hub.api())
    for wrong in ("places", "a/b/c", "me/pl aces", "me/.git", "https://huggingface.co/me/places"):
        with pytest.raises(ValueError, match="is no repository's id"):
            Target(wrong)
    with pytest.raises(ValueError, match="pull request is opened against main"):
        Target(repo_id, revision="v2", create_pr=True)
    assert not list(hub.api().list_models(author=hub.user))


def test_a_card_that_the_hub_refuses_leaves_no_empty_repository(hub, small):
    (small / "README.md").write_text("---\nlanguage: [ko]\nlicense: [\n---\n# x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md has no front matter in YAML"):
        push(small, Target(f"{hub.user}/places"), hub.api())
    (small / "README.md").write_text("---\nbase_model_relation: guessed\n---\n# x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md: the Hub refuses"):
        push(small, Target(f"{hub.user}/places"), hub.api())
    assert not list(hub.api().list_models(author=hub.user))


def test_a_token_in_a_file_is_never_sent(hub, small):
    secret = "hf_" + "A1b2" * 9
    (small / "task.json").write_text(json.dumps({"note": secret}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"task\.json holds what looks like a Hub token") as caught:
        push(small, Target(f"{hub.user}/places"), hub.api())
    assert secret not in str(caught.value)
    assert not list(hub.api().list_models(author=hub.user))


def test_offline_and_out_of_reach_are_said(hub, small):
    unreachable = HfApi(endpoint="http://127.0.0.1:9", token="hf_x")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set, so me/places can't be reached"):
        push(small, Target("me/places"), unreachable)  # as all tests run offline
    hub.api()
    with pytest.raises(ConnectionError, match=r"the Hub at http://127\.0\.0\.1:9 can't be reached"):
        push(small, Target("me/places"), unreachable)


@pytest.mark.parametrize(
    ("breaks", "sentence"),
    [
        (lambda folder: shutil.rmtree(folder), "there is no folder"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json, so it is not a checkpoint"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json is damaged"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "type 'bert', not a multi-head"),
        (lambda folder: (folder / "processor_config.json").unlink(), r"has no processor_config\.json"),
        (lambda folder: (folder / "tokenizer_config.json").unlink(), r"has no tokenizer_config\.json, but reads text"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"has no model\.safetensors\."),
        (lambda folder: (folder / "model.safetensors").rename(folder / "model.bin"), r"only the pickle model\.bin"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), r"model\.safetensors is damaged"),
        (lambda folder: (folder / "heads.py").unlink(), r"heads\.py is missing"),
        (lambda folder: (folder / "README.md").write_text("# no front matter\n"), "has no front matter"),
        (
            lambda folder: (folder / "README.md").write_text("---\nlicense: mit\n---\n![x](../../secret.png)\n"),
            "is no picture in",
        ),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_whole_checkpoint_is_named(small, breaks, sentence):
    breaks(small)
    with pytest.raises(ValueError, match=sentence):
        plan_push(small, "me/places")


def test_a_missing_shard_is_named(small):
    (small / "model.safetensors").unlink()
    tiny.model("bert", "resnet").save_pretrained(small, max_shard_size="20KB")
    shard = sorted(small.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ValueError, match=f"the shard {shard.name} is missing"):
        plan_push(small, "me/places")


# -- pull ----------------------------------------------------------------------------------------------------


def test_pull_brings_the_same_files_at_a_pinned_commit(hub, online, small, tmp_path):
    repo_id, api = f"{hub.user}/places", hub.api()
    push(small, Target(repo_id), api)
    new_weights(small)
    second = push(small, Target(repo_id), api)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="training_state.pkl", repo_id=repo_id)
    pulled, latest = tmp_path / "pinned", tmp_path / "latest"
    assert pull(repo_id, pulled, second.sha, api=api) == second.sha
    names = {path.relative_to(pulled).as_posix() for path in pulled.rglob("*") if path.is_file()}
    assert names == files_of(hub, repo_id, second.sha)
    assert (pulled / "model.safetensors").read_bytes() == (small / "model.safetensors").read_bytes()
    assert pull(repo_id, latest, api=api) == head_of(hub, repo_id) != second.sha
    assert not (latest / "training_state.pkl").exists() and not list(tmp_path.glob("*.part"))
    with pytest.raises(ValueError, match="is not empty"):
        pull(repo_id, latest, api=api)
    with pytest.raises(ValueError, match="has no such branch, tag or commit"):
        pull(repo_id, tmp_path / "old", "nope", api=api)
    assert plan_push(pulled, repo_id).files


def test_an_interrupted_pull_leaves_no_folder_and_goes_on(hub, online, small, tmp_path):
    repo_id, api = f"{hub.user}/places", hub.api()
    push(small, Target(repo_id), api)
    hub.fault(r"GET /cdn/", "refuse", times=99)
    with pytest.raises((ConnectionError, ValueError)):
        pull(repo_id, tmp_path / "got", api=api)
    hub.server.faults.clear()
    (part,) = tmp_path.glob("got.*.part")
    assert not (tmp_path / "got").exists() and (part / "config.json").is_file()
    pull(repo_id, tmp_path / "got", api=api)
    assert (tmp_path / "got" / "model.safetensors").read_bytes() == (small / "model.safetensors").read_bytes()
    assert not (tmp_path / "got" / ".cache").exists() and not part.exists()


def test_pull_says_what_can_not_be_had(hub, online, small, tmp_path):
    gated, pickled, foreign, private = (f"{hub.user}/{name}" for name in ("gated", "pickled", "foreign", "private"))
    push(small, Target(gated), hub.api())
    hub.api().update_repo_settings(gated, gated="manual")
    push(small, Target(private, private=True), hub.api())
    hub.api().create_repo(pickled)
    for name in ("config.json", "model.safetensors"):
        path = "pytorch_model.bin" if name.startswith("model") else name
        hub.api().upload_file(path_or_fileobj=str(small / name), path_in_repo=path, repo_id=pickled)
    push(small, Target(foreign), hub.api())
    config = json.loads((small / "config.json").read_text())
    config["auto_map"]["AutoModel"] = "else/where--modeling_multihead.MultiHeadForClassification"
    hub.api().upload_file(path_or_fileobj=json.dumps(config).encode(), path_in_repo="config.json", repo_id=foreign)
    visitor = hub.api(hub.server.store.add_user("visitor")["read"])
    before = len(hub.server.log)
    for repo, sentence in (
        (gated, f"access to {gated} is restricted"),
        (pickled, "only the pickle pytorch_model.bin"),
        (foreign, "code from another repository, 'else/where'"),
        (private, f"no {private} that you may see"),
        ("nobody/nothing", "no nobody/nothing that you may see"),
    ):
        with pytest.raises(ValueError, match=sentence) as caught:
            pull(repo, tmp_path / "got", api=visitor)
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    fetched = [line for line in hub.server.log[before:] if line.startswith("GET") and "resolve" in line]
    assert not [line for line in fetched if "safetensors" in line or "pytorch_model" in line]
    pull(foreign, tmp_path / "got", allow_foreign_code=True, api=visitor)
    assert (tmp_path / "got" / "config.json").is_file()


# -- the commands ------------------------------------------------------------------------------------------------------


def test_the_commands_print_what_a_stranger_needs(hub_here, small, places, tmp_path, hfk, capsys, monkeypatch):
    hub = hub_here
    space = tmp_path / "space"
    space.mkdir()
    (space / "app.py").write_text("x = 1\n", encoding="utf-8")
    (space / "README.md").write_text('---\ntitle: x\nsdk: gradio\nsdk_version: "6.31.0"\n---\n', encoding="utf-8")

    def run(*words: object) -> str:
        code, output, errors = hfk(*words)
        assert code == 0, errors
        return output

    monkeypatch.setattr(sys, "argv", [PUSH, str(small), f"{hub.user}/model", "--private", "--message", "First"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(PUSH, run_name="__main__")
    assert not end.value.code
    out = capsys.readouterr().out
    out += run("data", "push", places, f"{hub.user}/rows", "--license", "mit")
    out += run("metrics", "push", f"{hub.user}/scores", "--metric", "regression_scores")
    out += run("space", "push", space, f"{hub.user}/app", "--public")
    out += run("pull", f"{hub.user}/model", "--output-dir", "pulled")
    out += run("space", "push", space, f"{hub.user}/other", "--dry-run")
    sha = head_of(hub, f"{hub.user}/model")
    assert f'model="{hub.user}/model", revision="{sha}", trust_remote_code=True)' in out
    assert (
        f"to have the same again, say --revision {sha}" in out and (hub.folder / "pulled/model.safetensors").is_file()
    )
    sha = hub.api().dataset_info(f"{hub.user}/rows").sha
    assert f'load_dataset("{hub.user}/rows", revision="{sha}")' in out
    sha = hub.api().space_info(f"{hub.user}/scores").sha
    assert f'evaluate.load("{hub.user}/scores", revision="{sha}")' in out
    assert f"{hub.endpoint}/spaces/{hub.user}/app/commit/{hub.api().space_info(f'{hub.user}/app').sha}" in out
    assert re.search(r"^app\.py +6$", out, re.M) and not hub.api().repo_exists(f"{hub.user}/other", repo_type="space")


# -- what a configuration would run ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoModel": "else/where--modeling.Model"}},
        {"auto_map": {"AutoTokenizer": [None, "else/where--tokenization.Tokenizer"]}},
        {"custom_pipelines": {"multi-head-classification": {"impl": "else/where--pipe.Pipe", "pt": ["AutoModel"]}}},
        {"text_config": {"auto_map": {"AutoConfig": "else/where--configuration.Config"}}},
        {"_attn_implementation_internal": "else/where"},
        {"_attn_implementation": "else/where:flash"},
        {"attn_implementation": {"text_config": "else/where@v1:flash"}},
        {"vision_config": {"attn_implementation": "kernels:flash"}},
        {"text_config": {"parts": [{"_attn_implementation_internal": "else/where"}]}},
        {"_experts_implementation_internal": "else/where"},
    ],
)
def test_code_from_elsewhere_is_refused_unless_asked(config):
    with pytest.raises(ValueError, match=r"^owner/name: .*--allow-foreign-code\.$"):
        check_remote_code(config, "owner/name")
    check_remote_code(config, "owner/name", allow_foreign_code=True)


def test_a_checkpoints_own_code_passes(checkpoint):
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        check_remote_code(json.loads((checkpoint / name).read_text()), "owner/name")
    check_remote_code({"auto_map": {"AutoModel": "owner/name--modeling.Model"}}, "owner/name")
    check_remote_code({"attn_implementation": "sdpa", "text_config": {"_attn_implementation": None}}, "owner/name")


def test_foreign_code_is_not_passed_on(hub, small):
    config = json.loads((small / "config.json").read_text())
    config["text_config"]["_attn_implementation_internal"] = "else/where"
    (small / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="kernel from the Hub"):
        push(small, Target(f"{hub.user}/places"), hub.api())
    with pytest.raises(ValueError, match="is not empty"):
        pull(f"{hub.user}/places", small, api=hub.api())
