"""The real clients against the stand-in for the Hub: what holds there must hold here, or tests would prove nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time

import httpx2
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, CommitScheduler
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from tests import tiny
from tests.hub_server import Hub, HubServer

WEIGHTS = os.urandom(300_000)
CARD = "---\nlicense: mit\nlanguage: ko\ntags: [장소]\n---\n# 모델\n"


def files(folder, **content: bytes | str):
    """Write a folder; `__` in a name stands for a slash, `_` before the suffix for the dot."""
    for name, data in content.items():
        path = folder / re.sub(r"_(\w+)$", r".\1", name.replace("__", "/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


@pytest.fixture
def repo(hub, tmp_path) -> str:
    """A model repository with a card, a small file and an LFS file."""
    repo = f"{hub.user}/model"
    hub.api().create_repo(repo)
    source = files(tmp_path / "v1", README_md=CARD, config_json="{}", model_safetensors=WEIGHTS)
    hub.api().upload_folder(repo_id=repo, folder_path=source, commit_message="v1")
    return repo


def seen(hub: Hub, since: int, pattern: str) -> list[str]:
    """Return the requests from number `since` on that match."""
    return [line for line in hub.server.log[since:] if re.search(pattern, line)]


def test_a_folder_comes_back_as_it_went(hub, repo):
    api = hub.api()
    entries = {entry.path: entry for entry in api.list_repo_tree(repo)}
    assert set(entries) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert entries["config.json"].lfs is None
    assert entries["config.json"].blob_id == hashlib.sha1(b"blob 2\0{}").hexdigest()
    assert entries["model.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    info = api.model_info(repo, files_metadata=True)
    assert info.card_data.license == "mit" and info.tags == ["장소"] and not info.private
    assert {file.rfilename: file.size for file in info.siblings}["model.safetensors"] == len(WEIGHTS)
    assert api.model_info(repo, expand=["siblings"]).card_data is None
    out = hub.run(f"""
        import hashlib, json, pathlib
        from huggingface_hub import snapshot_download
        folder = pathlib.Path(snapshot_download({repo!r}))
        print(json.dumps({{path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}}))
    """)
    got = json.loads(out.splitlines()[-1])
    assert set(got) == set(entries)
    assert got["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert got["README.md"] == hashlib.sha256(CARD.encode()).hexdigest()


def test_unchanged_files_are_not_sent_again(hub, repo, tmp_path):
    api, start = hub.api(), len(hub.server.log)
    sha = api.model_info(repo).sha
    assert api.upload_folder(repo_id=repo, folder_path=tmp_path / "v1").oid == sha, "nothing changed, so no commit"
    assert not seen(hub, start, "PUT /lfs/")
    api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="copy.safetensors", repo_id=repo)
    assert not seen(hub, start, "PUT /lfs/"), "the content is there under another name"


def test_the_cache_asks_once_for_each_revision(hub, repo):
    sha = hub.api().model_info(repo).sha
    get = f"""
        from huggingface_hub import hf_hub_download
        print(hf_hub_download({repo!r}, "model.safetensors", revision=%r))
    """
    first = hub.run(get % "main")
    start = len(hub.server.log)
    assert hub.run(get % "main") == first
    assert len(seen(hub, start, "HEAD .*/resolve/main/")) == 1 and not seen(hub, start, "GET")
    start = len(hub.server.log)
    assert hub.run(get % sha) == first
    assert hub.server.log[start:] == [], "a commit never changes"


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, repo):
    hub.fault("GET /cdn/", "cut")
    out = hub.run(f"""
        import hashlib, pathlib
        from huggingface_hub import hf_hub_download
        print(hashlib.sha256(pathlib.Path(hf_hub_download({repo!r}, "model.safetensors")).read_bytes()).hexdigest())
    """)
    assert out.splitlines()[-1] == hashlib.sha256(WEIGHTS).hexdigest()
    url = f"{hub.endpoint}/{repo}/resolve/main/model.safetensors"
    moved = httpx2.get(url)
    assert moved.status_code == 302 and moved.headers["location"].startswith("http://localhost:")
    assert moved.headers["x-linked-size"] == str(len(WEIGHTS))
    part = httpx2.get(moved.headers["location"], headers={"Range": "bytes=1000-1999"})
    assert part.status_code == 206 and part.content == WEIGHTS[1000:2000]
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(WEIGHTS)}"
    assert httpx2.get(moved.headers["location"], headers={"Range": "bytes=999999-"}).status_code == 416
    assert httpx2.get(moved.headers["location"] + "0").status_code == 403, "only signed addresses are served"
    with_token = httpx2.get(moved.headers["location"], headers={"Authorization": f"Bearer {hub.token}"})
    assert with_token.status_code == 400, "a token must not reach the storage host"


def test_branches_tags_and_pull_requests(hub, repo):
    api = hub.api()
    first = api.model_info(repo).sha
    api.create_tag(repo, tag="v1", tag_message="first")
    api.create_branch(repo, branch="trial")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch(repo, branch="trial")
    trial = api.upload_file(path_or_fileobj=b"1", path_in_repo="a/b.txt", repo_id=repo, revision="trial").oid
    assert api.model_info(repo).sha == first, "main stands"
    pull = api.upload_file(path_or_fileobj=b"2", path_in_repo="c.txt", repo_id=repo, create_pr=True)
    assert pull.pr_revision == "refs/pr/1"
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": first, "trial": trial}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first}
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
    assert api.file_exists(repo, "c.txt", revision="refs/pr/1") and not api.file_exists(repo, "c.txt")
    assert [entry.path for entry in api.list_repo_tree(repo, "a", revision="trial")] == ["a/b.txt"]
    api.upload_file(path_or_fileobj=b"3", path_in_repo="meanwhile.txt", repo_id=repo)
    api.merge_pull_request(repo, 1)
    assert {"c.txt", "meanwhile.txt"} <= set(api.list_repo_files(repo))
    out = hub.run(f"""
        from huggingface_hub import hf_hub_download
        for revision, name in (("refs/pr/1", "c.txt"), ("trial", "a/b.txt")):
            print(open(hf_hub_download({repo!r}, name, revision=revision)).read())
    """)
    assert out.split() == ["2", "1"]
    api.delete_branch(repo, branch="trial")
    api.delete_tag(repo, tag="v1")
    for revision in ("trial", "v1", "f" * 40):
        with pytest.raises(RevisionNotFoundError):
            api.model_info(repo, revision=revision)
    with pytest.raises(HfHubHTTPError, match="main"):
        api.delete_branch(repo, branch="main")


def test_commits_delete_copy_and_say_who_did_what(hub, repo):
    api = hub.api()
    api.upload_file(path_or_fileobj=b"x", path_in_repo="notes/a.txt", repo_id=repo, commit_message="add notes")
    api.create_commit(
        repo,
        [
            CommitOperationDelete("notes/"),
            CommitOperationCopy("model.safetensors", "old.safetensors"),
            CommitOperationCopy("config.json", "old.json"),
        ],
        commit_message="tidy",
    )
    entries = {entry.path: entry for entry in api.list_repo_tree(repo, recursive=True, expand=True)}
    assert "notes/a.txt" not in entries and "notes" not in entries
    assert entries["old.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert entries["old.json"].last_commit.title == "tidy"
    assert entries["config.json"].last_commit.title == "v1"
    history = api.list_repo_commits(repo)
    assert [commit.title for commit in history] == ["tidy", "add notes", "v1", "initial commit"]
    assert history[0].authors == [hub.user]
    assert [entry.path for entry in api.get_paths_info(repo, ["config.json", "nothing.txt"])] == ["config.json"]
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_file("nothing.txt", repo)
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(repo, "nothing"))
    assert len(api.list_repo_commits(repo)) == 4, "a refused commit leaves no trace"


def test_a_commit_on_an_overtaken_revision_is_refused(hub, repo):
    api = hub.api()
    old = api.model_info(repo).sha
    new = api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=repo, parent_commit=old).oid
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        api.upload_file(path_or_fileobj=b"2", path_in_repo="b.txt", repo_id=repo, parent_commit=old)
    assert api.model_info(repo).sha == new


def test_a_moved_repository_answers_under_both_names(hub, repo):
    api, new = hub.api(), f"{hub.organization}/renamed"
    api.move_repo(repo, new)
    assert api.model_info(repo).id == new
    out = hub.run(f"""
        from huggingface_hub import snapshot_download
        import os
        print(sorted(os.listdir(snapshot_download({repo!r}))))
    """)
    assert "model.safetensors" in out
    api.upload_file(path_or_fileobj=WEIGHTS[1:], path_in_repo="b.safetensors", repo_id=repo)
    assert api.file_exists(new, "b.safetensors")
    assert [model.id for model in api.list_models(author=hub.organization)] == [new]
    api.delete_repo(new)
    assert not api.repo_exists(new)
    api.delete_repo(new, missing_ok=True)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(new)


def test_who_may_not_see_or_write_is_told_so(hub, repo, hub_server, tmp_path):
    api, nobody, reader = hub.api(), hub.api(False), hub.api(hub.read_token)
    stranger = Hub(hub_server, f"{hub.user}-other", tmp_path)
    other = hub.api(stranger.token)
    assert api.whoami()["orgs"][0]["name"] == hub.organization
    assert nobody.model_info(repo).id == repo
    for client, sentence in ((reader, "write token"), (other, "rights to write"), (nobody, "Invalid username")):
        with pytest.raises(HfHubHTTPError, match=sentence):
            client.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=repo)
    with pytest.raises(HfHubHTTPError, match="rights to create"):
        other.create_repo(f"{hub.user}/theirs")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        hub.api("hf_wrong").model_info(repo)
    offered = other.upload_file(path_or_fileobj=WEIGHTS[2:], path_in_repo="b.safetensors", repo_id=repo, create_pr=True)
    assert offered.pr_num == 1, "anyone may propose"

    api.update_repo_settings(repo, private=True)
    assert api.model_info(repo).private and reader.model_info(repo).id == repo
    for client in (nobody, other):
        with pytest.raises(RepositoryNotFoundError):
            client.model_info(repo)
        assert repo not in [model.id for model in client.list_models()]
    api.update_repo_settings(repo, private=False, gated="manual")
    assert nobody.model_info(repo).gated == "manual", "everyone sees that it is there"
    for client in (nobody, other):
        with pytest.raises(GatedRepoError, match="restricted"):
            client.auth_check(repo)
    get = f"""
        from huggingface_hub import hf_hub_download
        try:
            print(open(hf_hub_download({repo!r}, "config.json")).read())
        except Exception as error:
            print(type(error).__name__, error.response.status_code)
    """
    assert hub.run(get, token=None).split() == ["GatedRepoError", "401"]
    assert hub.run(get, token=stranger.token).split() == ["GatedRepoError", "403"]
    api.grant_access(repo, stranger.user)
    assert hub.run(get, token=stranger.token).split() == ["{}"]


def test_unknown_repositories_and_files(hub, repo):
    api = hub.api()
    for name in (f"{hub.user}/nothing", "nothing-without-owner"):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info(name)
        with pytest.raises(RepositoryNotFoundError):
            api.get_hf_file_metadata(url=f"{hub.endpoint}/{name}/resolve/main/config.json")
    with pytest.raises(RemoteEntryNotFoundError):
        api.get_hf_file_metadata(url=f"{hub.endpoint}/{repo}/resolve/main/nothing.json")
    assert str(api.create_repo(repo, exist_ok=True)) == f"{hub.endpoint}/{repo}"
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo(repo)


@pytest.mark.parametrize(
    ("card", "kind", "said"),
    [
        ("---\nlicense: [mit\n---\n", "model", "bad YAML"),
        ("---\nbase_model: a/b/c\n---\n", "model", "base_model"),
        ("---\nmodel-index:\n- results: []\n---\n", "model", "name"),
        ("---\nsdk: gradio\ncolorFrom: teal\n---\n", "space", "colorFrom"),
        ("---\nsdk: gradio\nsdk_version: 6.0\n---\n", "space", "sdk_version"),
    ],
)
def test_a_card_that_breaks_the_rules_is_refused_before_anything_is_sent(hub, card, kind, said):
    api, repo = hub.api(), f"{hub.user}/card"
    api.create_repo(repo, repo_type=kind, space_sdk="gradio" if kind == "space" else None)
    with pytest.raises(ValueError, match=f"(?s)Invalid metadata.*{said}"):
        api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repo, repo_type=kind)
    assert len(api.list_repo_commits(repo, repo_type=kind)) == 1


def test_gitignore_and_spaces(hub, tmp_path):
    api, repo = hub.api(), f"{hub.user}/space"
    api.create_repo(repo, repo_type="space", space_sdk="gradio")
    assert api.space_info(repo).sdk == "gradio"
    folder = files(tmp_path / "space", app_py="1", cache__x_safetensors=WEIGHTS, debug_log="2")
    (folder / ".gitignore").write_text("cache/\n*.log\n")
    api.upload_folder(repo_id=repo, repo_type="space", folder_path=folder)
    assert set(api.list_repo_files(repo, repo_type="space")) == {".gitattributes", ".gitignore", "README.md", "app.py"}


def test_two_uploads_at_the_same_time_both_stay(hub, repo):
    api, hold = hub.api(), hub.fault("POST .*/commit/", "hold", times=2)
    contents = [os.urandom(50_000) for _ in range(2)]
    code = """
        from huggingface_hub import HfApi
        HfApi().upload_file(path_or_fileobj=bytes.fromhex({data!r}), path_in_repo={name!r}, repo_id={repo!r})
    """
    started = [
        hub.start(code.format(data=data[:20000].hex(), name=f"{number}.safetensors", repo=repo))
        for number, data in enumerate(contents)
    ]
    deadline = time.monotonic() + 60
    while hold.seen < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert hold.seen == 2, "both wait before their commit"
    hold.released.set()
    assert [process.wait(60) for process in started] == [0, 0]
    assert {"0.safetensors", "1.safetensors", "model.safetensors"} <= set(api.list_repo_files(repo))
    assert len(api.list_repo_commits(repo)) == 4


def test_many_threads_lose_no_commit(hub, repo):
    api = hub.api()
    threads = [
        threading.Thread(
            target=api.upload_file,
            kwargs={"path_or_fileobj": b"%d" % number, "path_in_repo": f"{number}.txt", "repo_id": repo},
        )
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"{number}.txt" for number in range(12)} <= set(api.list_repo_files(repo))
    assert len(api.list_repo_commits(repo)) == 14


@pytest.mark.parametrize("where", ["PUT /lfs/", "POST .*/commit/"])
def test_an_upload_killed_half_way_leaves_the_old_revision_served(hub, repo, tmp_path, where):
    api = hub.api()
    before = api.model_info(repo).sha
    source = files(tmp_path / "v2", config_json='{"v": 2}', model_safetensors=WEIGHTS[::-1], more_safetensors=b"m" * 99)
    hold = hub.fault(where, "hold")
    upload = f"""
        from huggingface_hub import HfApi
        print(HfApi().upload_folder(repo_id={repo!r}, folder_path={str(source)!r}).oid)
    """
    process = hub.start(upload)
    assert hold.reached.wait(60)
    process.kill()
    process.wait()
    hold.released.set()
    time.sleep(0.2)
    assert api.model_info(repo).sha == before
    out = hub.run(f"""
        import hashlib, pathlib
        from huggingface_hub import snapshot_download
        weights = pathlib.Path(snapshot_download({repo!r})) / "model.safetensors"
        print(hashlib.sha256(weights.read_bytes()).hexdigest())
    """)
    assert out.splitlines()[-1] == hashlib.sha256(WEIGHTS).hexdigest()
    again = hub.run(upload).split()[-1]
    assert api.model_info(repo).sha == again != before, "the next try goes through"
    assert api.get_paths_info(repo, "model.safetensors")[0].lfs.sha256 == hashlib.sha256(WEIGHTS[::-1]).hexdigest()


def test_a_connection_that_drops_is_tried_again(hub, repo):
    drop = hub.fault("PUT /lfs/", "drop")
    hub.api().upload_file(path_or_fileobj=WEIGHTS[3:], path_in_repo="b.safetensors", repo_id=repo)
    assert drop.seen == 2
    refuse = hub.fault("POST .*/commit/", "refuse", status=500)
    with pytest.raises(HfHubHTTPError, match="told to refuse"):
        hub.api().upload_file(path_or_fileobj=b"1", path_in_repo="c.txt", repo_id=repo)
    assert refuse.seen == 1 and not hub.api().file_exists(repo, "c.txt")


def test_uploads_in_parts_pages_of_listings_and_a_restart(hub, tmp_path):
    server = HubServer(tmp_path / "state", part_bytes=100_000, page_size=3).start()
    try:
        own = Hub(server, "someone", tmp_path)
        api = own.api()
        api.create_repo("someone/big", private=True)
        api.upload_file(path_or_fileobj=WEIGHTS + b"end", path_in_repo="model.safetensors", repo_id="someone/big")
        assert len([line for line in server.log if re.fullmatch(r"PUT /lfs/\w+/\w+/\d", line)]) == 4
        api.create_commit(
            "someone/big",
            [CommitOperationAdd(f"folder/{n}.txt", b"%d" % n) for n in range(10)],
            commit_message="many",
        )
        assert len(api.list_repo_files("someone/big")) == 12
        sha = api.model_info("someone/big").sha
    finally:
        server.stop()
    server = HubServer(tmp_path / "state").start()
    try:
        own = Hub(server, "someone", tmp_path)
        assert own.api().model_info("someone/big").sha == sha and own.api().model_info("someone/big").private
        code = 'from huggingface_hub import hf_hub_download\nprint(hf_hub_download("someone/big", "model.safetensors"))'
        with open(own.run(code).split()[-1], "rb") as file:
            assert file.read() == WEIGHTS + b"end"
        own.close()
    finally:
        server.stop()
        hub.api()  # the next test's client is for the other server again


def test_a_damaged_upload_is_refused(hub, repo):
    api = hub.api()
    oid = hashlib.sha256(b"promised").hexdigest()
    answer = httpx2.post(
        f"{hub.endpoint}/{repo}.git/info/lfs/objects/batch",
        headers={"Authorization": f"Bearer {hub.token}"},
        json={"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": 8}]},
    )
    upload = answer.json()["objects"][0]["actions"]["upload"]["href"]
    assert httpx2.put(upload, content=b"something else").status_code == 400
    line = {"key": "lfsFile", "value": {"path": "x.bin", "algo": "sha256", "oid": oid, "size": 8}}
    commit = httpx2.post(
        f"{hub.endpoint}/api/models/{repo}/commit/main",
        headers={"Authorization": f"Bearer {hub.token}"},
        content="\n".join(json.dumps(item) for item in ({"key": "header", "value": {"summary": "s"}}, line)),
    )
    assert commit.status_code == 400 and "does not exist" in commit.json()["error"]
    assert not api.file_exists(repo, "x.bin")


def test_a_commit_scheduler_appends(hub, tmp_path):
    folder = tmp_path / "feedback"
    with CommitScheduler(
        repo_id="feedback", repo_type="dataset", folder_path=folder, every=60, hf_api=hub.api()
    ) as scheduler:
        with scheduler.lock:
            (folder / "rows.jsonl").write_text('{"text": "바다"}\n')
        scheduler.trigger().result()
        assert hub.api().file_exists(f"{hub.user}/feedback", "rows.jsonl", repo_type="dataset")


def test_datasets_go_and_come_with_their_splits_and_labels(hub, monkeypatch):
    hub.here(monkeypatch)
    repo = f"{hub.user}/places"
    features = Features({"text": Value("string"), "label": ClassLabel(names=["자연", "음식"])})
    train, test = (
        Dataset.from_dict({"text": words, "label": [0, 1]}, features=features)
        for words in (["바다", "국밥"], ["산", "떡"])
    )
    sha = DatasetDict(train=train, test=test).push_to_hub(repo, private=True).oid
    got = load_dataset(repo, revision=sha)
    assert got["train"]["text"][:] == ["바다", "국밥"] and got["test"]["label"][:] == [0, 1]
    assert got["test"].features["label"].names == ["자연", "음식"]
    assert next(iter(load_dataset(repo, split="test", streaming=True)))["text"] == "산"
    card = hub.api().dataset_info(repo).card_data
    assert [split["name"] for split in card["dataset_info"]["splits"]] == ["train", "test"]


def test_transformers_pushes_and_loads(hub, monkeypatch):
    hub.here(monkeypatch)
    repo = f"{hub.user}/bert"
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=tiny.VOCABULARY_SIZE, **sizes)).eval()
    tokenizer = tiny.tokenizer()
    sha = model.push_to_hub(repo).oid
    tokenizer.push_to_hub(repo)
    loaded = AutoModel.from_pretrained(repo, revision=sha)
    batch = AutoTokenizer.from_pretrained(repo)("바닷가의 절", return_tensors="pt")
    assert batch["input_ids"].tolist() == [tokenizer("바닷가의 절")["input_ids"]]
    torch.testing.assert_close(loaded(**batch).last_hidden_state, model(**batch).last_hidden_state)
    assert seen(hub, 0, f"HEAD /{repo}/resolve/{sha}/model.safetensors")


def test_the_hub_command_logs_in_and_downloads(hub, repo):
    out = hub.run(f"""
        import subprocess, sys
        for words in (["auth", "whoami"], ["download", {repo!r}, "model.safetensors", "--local-dir", "got"]):
            subprocess.run([sys.executable, "-m", "huggingface_hub.cli.hf", *words], check=True)
    """)
    assert hub.user in out and (hub.folder / "got" / "model.safetensors").read_bytes() == WEIGHTS
