"""Which checkpoints the page offers, and what becomes of those that can't be used."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import tiny
from tests.spaces.conftest import STUDIO

loading = pytest.importorskip("loading")
import about
from answers import ask, find, panels
from text import Trouble

OWN = ["headlines", "tourism", "clothes", "tour-tiny", "tour-tiny-text"]


@pytest.fixture(autouse=True)
def _nothing_around(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HFK_CHECKPOINTS", raising=False)


def test_what_comes_along_is_always_offered():
    assert [checkpoint.name for checkpoint in loading.find_checkpoints()] == OWN


def test_finished_runs_come_first(tmp_path):
    for name in ("tour-mini", "half"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "tour-mini" / "config.json").write_text("{}")
    assert [checkpoint.name for checkpoint in loading.find_checkpoints()] == ["tour-mini", *OWN]


def test_named_ones_with_their_revisions(tmp_path, monkeypatch):
    (tmp_path / "tour-tiny").mkdir()
    named = f"owner/model@0a1b2c, owner/other\n{tmp_path / 'tour-tiny'},"
    monkeypatch.setenv("HFK_CHECKPOINTS", named)
    found = loading.find_checkpoints()
    assert [(c.name, c.revision) for c in found[:3]] == [
        ("owner/model", "0a1b2c"),
        ("owner/other", None),
        ("tour-tiny", None),
    ]
    assert [c.name for c in found[3:]] == ["headlines", "tourism", "clothes", "tour-tiny'", "tour-tiny-text"]


def test_what_the_hub_preloads_is_offered_at_its_commit():
    lines = ["owner/places config.json,model.safetensors 0a1b2c", "owner/other"]
    front = "\n".join(f"- {line}" for line in lines)
    readme = f"---\ntitle: hfk\npreload_from_hub:\n{front}\n---\n# hfk\n"
    assert loading.preloaded(readme) == ["owner/places@0a1b2c", "owner/other"]
    assert loading.preloaded((STUDIO / "README.md").read_text(encoding="utf-8")) == []


def without_heads(folder):
    config = json.loads((folder / "config.json").read_text())
    config["heads"] = [{"surprise": 1}]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "tokenizer.json").write_text("[]"),
        without_heads,
        shutil.rmtree,
    ],
    ids=["weights", "no weights", "config", "no config", "tokenizer", "heads", "nothing"],
)
def test_a_damaged_one_says_why_in_one_line(tmp_path, harm):
    folder = tmp_path / "place" / "harmed"
    shutil.copytree(STUDIO / "checkpoints" / "tour-tiny-text", folder)
    harm(folder)
    checkpoint = loading.Checkpoint("harmed", str(folder))
    checkpoint.load()
    assert checkpoint.error and "\n" not in checkpoint.error and checkpoint.predictor is None
    assert str(folder.parent) not in checkpoint.error or harm is shutil.rmtree
    with pytest.raises(Trouble, match="can't be used"):
        find({"harmed": checkpoint}, "harmed")
    with pytest.raises(Trouble, match="no model"):
        find({"harmed": checkpoint}, None)


def test_many_threads_and_a_batch_share_one_checkpoint(checkpoint):
    loaded = loading.Checkpoint("tiny", str(checkpoint))
    loaded.load()
    assert not loaded.error
    alone = [ask(loaded, text, None)["heads"] for text in tiny.SENTENCES]

    def batch() -> list:
        return list(loaded.batch_predictor({"text": text} for text in tiny.SENTENCES * 40))

    with ThreadPoolExecutor(9) as pool:
        busy = pool.submit(batch)
        answers = list(pool.map(lambda text: ask(loaded, text, None)["heads"], tiny.SENTENCES * 8))
        rows = busy.result()
    assert answers == alone * 8
    assert [row["cat1"][0]["label"] for row in rows[:6]] == [heads["cat1"]["label"] for heads in alone]


def test_panels_escape_what_they_show(tmp_path):
    head = {"problem": "single_label", "label": "<i>", "score": 0.4, "path": ["<b>", "<i>"], "uncertain": True}
    head["top"] = [{"label": "<i>", "score": 0.4}, {"label": "&", "score": 0.5}]
    several = {"problem": "multi_label", "labels": ["<i>"], "top": [{"label": "<i>", "score": 0.9}]}
    result = {
        "milliseconds": 1.0,
        "read": ["text"],
        "read_share": 0.194,
        "outside": False,
        "notes": [],
        "threshold": 0.5,
        "paths": {},
    }
    named = loading.Checkpoint("named", str(tmp_path))
    made = panels(named, result | {"heads": {'"<h>': head, "t": several}})
    assert not [tag for tag in ("<i>", "<b>", "<h>") if tag in made]
    assert "&lt;b&gt;" in made and 'aria-label="&quot;&lt;h&gt;"' in made and "불확실" in made and "uncertain" in made
    assert "앞 19 %만 읽음" in made
    path = {"labels": {"<a>": "<i>", "t": "<i>"}, "score": 0.4}
    made = panels(named, result | {"paths": {"t": [path]}, "heads": {"<a>": head, "t": head}, "outside": True})
    assert not [tag for tag in ("<i>", "<b>", "<a>") if tag in made]
    assert "40%" in made and "배운 것과 다른 글" in made and made.index("outside") < made.index("<details")


def test_what_a_checkpoint_says_of_itself_is_shown_and_never_trusted(tmp_path, checkpoint):
    folder = tmp_path / "own"
    shutil.copytree(checkpoint, folder)
    loaded = loading.Checkpoint("own", str(folder))
    loaded.load()
    assert about.titles({"own": loaded}) == [("own", "own")]
    assert "글과 사진" in about.about(loaded) and "처음 보는 글이나 사진으로 잰 성적이 없습니다" in about.about(loaded)
    card = "---\nwidget:\n- text: 카드의 보기\n- image: no.jpg\n---\n# own\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    assert about.examples_in(loaded) == ["카드의 보기"]
    words = {
        "title": ["<i>제목", "title"],
        "about": ["<b>글", "text"],
        "heads": {"cat1": ["분류", "kind"]},
        "examples": ["보기", 3],
    }
    (folder / "space.json").write_text(
        json.dumps(words | {"scope": {"min_korean": 0.3, "head": "cat1", "min_energy": -99}}), encoding="utf-8"
    )
    assert about.titles({"own": loaded}) == [("<i>제목 · title", "own")]
    assert "<b>" not in about.about(loaded) and about.examples_in(loaded) == ["보기"]
    assert about.head_words(loaded, "cat1") == ("분류", "kind")
    assert ask(loaded, "asdf 12345", None)["outside"] and not ask(loaded, "바닷가", None)["outside"]
    (folder / "space.json").write_text("{", encoding="utf-8")
    assert about.read_about(loaded) == {}


def test_how_much_of_a_text_was_read_is_said(checkpoint):
    loaded = loading.Checkpoint("tiny", str(checkpoint))
    loaded.load()
    assert ask(loaded, "바닷가", None)["read_share"] == 1
    share = ask(loaded, "바닷가 " * 200, None)["read_share"]
    pieces = len(loaded.predictor.processor.tokenizer("바닷가 " * 200)["input_ids"])
    assert share == pytest.approx(loaded.predictor.processor.max_length / pieces)
