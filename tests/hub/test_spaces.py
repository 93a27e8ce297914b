"""Spaces go to the Hub with what their front matter promises; a metric loads from its Space without hfk."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import evaluate
import pytest
from huggingface_hub import RepoCard

from hfk.evaluation import modules
from hfk.hub.publishing import Target
from hfk.hub.spaces import METRICS, plan_space, push_metric, push_space, write_metric

STUDIO = Path(__file__).parents[2] / "spaces" / "studio"
FRONT = '---\ntitle: 여행\nsdk: gradio\nsdk_version: "6.31.0"\napp_file: app.py\n---\n# 여행\n'


@pytest.fixture
def space(tmp_path):
    folder = tmp_path / "space"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / ".gradio").mkdir()
    (folder / "pages").mkdir()
    for name in ("app.py", "requirements.txt", "pages/one.py", "__pycache__/app.pyc", ".gradio/x", ".env", "old.pkl"):
        (folder / name).write_text("x = 1\n", encoding="utf-8")
    (folder / "README.md").write_text(FRONT, encoding="utf-8")
    return folder


def test_a_space_is_made_with_its_sdk_and_pushed_in_one_commit(hub, space):
    repo_id = f"{hub.user}/travel"
    pushed = push_space(space, Target(repo_id, private=True), hub.api())
    info = hub.api().space_info(repo_id)
    assert info.sdk == "gradio" and info.private and info.sha == pushed.sha
    files = {sibling.rfilename for sibling in info.siblings} - {".gitattributes"}
    assert files == {"README.md", "app.py", "requirements.txt", "pages/one.py"}
    assert len(hub.api().list_repo_commits(repo_id, repo_type="space")) == 2  # the Hub's own first one, and ours


def test_checkpoints_are_preloaded_at_their_commits(hub, space):
    api, model = hub.api(), f"{hub.user}/places"
    api.create_repo(model, exist_ok=True)
    for name in ("config.json", "model.safetensors", "picture.png"):
        api.upload_file(path_or_fileobj=b"{}", path_in_repo=name, repo_id=model)
    sha = api.model_info(model).sha
    push_space(space, Target(f"{hub.user}/with-places"), api, checkpoints=[f"{model}@main"])
    readme = Path(api.hf_hub_download(f"{hub.user}/with-places", "README.md", repo_type="space"))
    front = RepoCard.load(readme).data
    assert front.models == [model] and front.sdk == "gradio"
    assert front.preload_from_hub == [f"{model} config.json,model.safetensors {sha}"]
    assert "preload" not in (space / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="there is no"):
        push_space(space, Target(f"{hub.user}/with-places"), api, checkpoints=[f"{hub.user}/nothing"])


def test_what_stays_is_said(space):
    assert set(plan_space(space).left_out) == {"__pycache__/app.pyc", ".gradio/x", ".env", "old.pkl"}


@pytest.mark.parametrize(
    ("front", "sentence"),
    [
        ("# no front matter\n", "sdk is None in the front matter"),
        (FRONT.replace("gradio", "flask"), "sdk is 'flask'"),
        (FRONT.replace('sdk_version: "6.31.0"\n', ""), "write sdk_version"),
        (FRONT.replace("app.py", "main.py"), r"has no main\.py"),
        ("---\nsdk: [\n---\n", "is no YAML"),
        (None, r"has no README\.md"),
    ],
)
def test_a_folder_that_is_no_space_is_named(space, front, sentence):
    if front is None:
        (space / "README.md").unlink()
    else:
        (space / "README.md").write_text(front, encoding="utf-8")
    with pytest.raises(ValueError, match=sentence):
        plan_space(space)


def test_every_metric_computes_alike_where_hfk_is_not_installed(hub_here, tmp_path, monkeypatch):
    """The very files that are sent, by `evaluate.load`, the page's own function, and the Hub."""
    hub = hub_here
    pushed = push_metric("multi_head_accuracy", Target(f"{hub.user}/multi_head_accuracy"), hub.api())
    expected = {}
    for name, example in METRICS.items():
        write_metric(name, tmp_path / name)
        class_name = "".join(map(str.capitalize, name.split("_")))
        expected[name] = getattr(modules, class_name)().compute(**example)
    assert expected["hierarchy_consistency"] == {"hierarchy_consistency": 0.5}
    monkeypatch.setenv("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    monkeypatch.setitem(sys.modules, "hfk", None)
    for name, scores in expected.items():
        monkeypatch.chdir(tmp_path)
        assert type(evaluate.load(f"./{name}")).__module__.startswith("evaluate_modules.")
        monkeypatch.chdir(name)
        page = runpy.run_path("app.py")
        assert page["compute"](page["EXAMPLE"]) == pytest.approx(scores)
        with pytest.raises(page["gr"].Error, match="can't be computed"):
            page["compute"]("not JSON")
    metric = evaluate.load(f"{hub.user}/multi_head_accuracy", revision=pushed.sha)
    assert metric.compute(**METRICS["multi_head_accuracy"])["exact_match"] == 0.5


def test_a_metric_needs_a_name_that_python_can_import(tmp_path):
    with pytest.raises(ValueError, match="can't name a metric"):
        write_metric("multi_head_accuracy", tmp_path / "multi-head")
    with pytest.raises(ValueError, match="there is no metric 'accuracy'; metrics: single_label_scores"):
        write_metric("accuracy", tmp_path / "accuracy")


def test_what_the_studio_is_sent_with():
    """tests/spaces starts it from these files."""
    files = plan_space(STUDIO).files
    assert {"app.py", "hfk/cli.py", "hfk/hub/metric_space/app.py.jinja", "checkpoints/headlines/config.json"} <= set(
        files
    )
    assert any(name.startswith("hfk/tasks/samples/") for name in files)
    assert not [name for name in files if name.endswith(".pyc")]


def test_hfk_is_sent_only_where_an_app_needs_it(space):
    assert not [name for name in plan_space(space).files if name.startswith("hfk/")]
    (space / "app.py").write_text("import hfk\n", encoding="utf-8")
    assert "hfk/models/modeling_multihead.py" in plan_space(space).files
    (space / "requirements.txt").write_text("hfk[space]==0.1.0\n", encoding="utf-8")
    assert not [name for name in plan_space(space).files if name.startswith("hfk/")]
