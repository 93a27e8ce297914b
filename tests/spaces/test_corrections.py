"""Feedback: only the head's own labels, the hierarchy followed upwards, and rows that a spreadsheet can open safely."""

from __future__ import annotations

import csv
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from hfk import HeadConfig
from tests.spaces.conftest import STUDIO  # noqa: F401  (puts the Space on the path, or skips)

feedback = pytest.importorskip("feedback")
from store import COLUMNS, Corrections
from text import WORDS, Trouble, both

HEADS = [
    HeadConfig("cat1", ["자연", "음식"]),
    HeadConfig("cat2", ["산", "바다", "한식"], parent="cat1", parent_of=[0, 0, 1]),
    HeadConfig("tags", ["일출", "가족", "야경"], problem="multi_label"),
    HeadConfig("price", problem="regression"),
]
CHECKPOINT = SimpleNamespace(heads=HEADS, name="tiny")
RESULT = {
    "heads": {
        "cat1": {"problem": "single_label", "label": "자연"},
        "cat2": {"problem": "single_label", "label": "산"},
        "tags": {"problem": "multi_label", "labels": ["가족"]},
        "price": {"problem": "regression", "value": 3.0},
    }
}


def test_a_corrected_label_corrects_what_is_above_it():
    changes = feedback.changes_for(CHECKPOINT, RESULT, "cat2", "한식")
    assert changes == [("cat2", "산", "한식"), ("cat1", "자연", "음식")]
    assert feedback.changes_for(CHECKPOINT, RESULT, "cat2", "바다") == [("cat2", "산", "바다")]


def test_a_coarse_label_leaves_the_finer_ones_unsaid():
    assert feedback.changes_for(CHECKPOINT, RESULT, "cat1", "음식") == [("cat1", "자연", "음식")]


def test_several_labels_and_numbers():
    assert feedback.changes_for(CHECKPOINT, RESULT, "tags", ["야경", "일출"]) == [
        ("tags", '["가족"]', '["일출", "야경"]')
    ]
    assert feedback.changes_for(CHECKPOINT, RESULT, "tags", [])[0][2] == "[]"
    assert feedback.changes_for(CHECKPOINT, RESULT, "price", "4.5") == [("price", "3", "4.5")]


@pytest.mark.parametrize(
    ("head", "right", "key"),
    [
        ("cat3", "산", "unknown_head"),
        ("", "산", "no_head"),
        ("cat2", "=cmd()", "unknown_label"),
        ("cat2", "자연", "unknown_label"),
        ("cat2", None, "no_label"),
        ("cat2", ["산", "바다"], "no_label"),
        ("cat2", "산", "same_label"),
        ("tags", ["가족"], "same_label"),
        ("tags", ["x"], "unknown_label"),
        ("price", "비쌈", "no_label"),
    ],
)
def test_anything_else_is_refused(head, right, key):
    with pytest.raises(Trouble) as caught:
        feedback.changes_for(CHECKPOINT, RESULT, head, right)
    assert caught.value.key == key


def rows_of(corrections):
    with open(corrections.file, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_without_consent_only_a_number_is_kept(tmp_path):
    corrections = Corrections(tmp_path / "feedback")
    photo = tmp_path / "p.png"
    Image.new("RGB", (900, 600), "navy").save(photo)
    first = corrections.add([("cat2", "산", "바다")], "비밀", str(photo), "=까닭\n둘째 줄", "tiny", keep=False)
    again = corrections.add([("cat2", "산", "바다")], "비밀", str(photo), "", "tiny", keep=True)
    assert first == again != corrections.add([("cat2", "산", "바다")], "다른 글", None, "", "tiny", keep=False)
    rows = rows_of(corrections)
    assert tuple(rows[0]) == COLUMNS and COLUMNS[:5] == ("id", "head", "from", "to", "reason")
    assert rows[0]["reason"] == "'=까닭 둘째 줄" and rows[0]["text"] == rows[0]["image"] == ""
    assert rows[1]["text"] == "비밀" and rows[1]["image"] == f"images/{first}.jpg"
    with Image.open(tmp_path / "feedback" / rows[1]["image"]) as picture:
        assert picture.size == (512, 341)
    assert "비밀" not in str(rows[0])


def test_rows_of_many_at_once_stay_whole(tmp_path):
    corrections = Corrections(tmp_path / "feedback")
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda n: corrections.add([("a", "b", "c"), ("d", "e", "f")], str(n), None, "", "t", True), range(40)
            )
        )
    rows = rows_of(corrections)
    assert len(rows) == 80 and len({row["id"] for row in rows}) == 40
    assert all(None not in row.values() and None not in row for row in rows)


def test_a_full_folder_takes_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("store.MAX_FOLDER_MB", 0)
    corrections = Corrections(tmp_path / "feedback")
    corrections.add([("a", "b", "c")], "x", None, "", "t", False)
    with pytest.raises(Trouble, match="full"):
        corrections.add([("a", "b", "c")], "x", None, "", "t", False)


def test_rows_reach_a_dataset_on_the_hub_or_stay_here(hub, monkeypatch, tmp_path, capsys):
    hub.here(monkeypatch)
    repo, api = f"{hub.user}/corrections", hub.api()
    for number in range(2):  # two processes of one Space write side by side
        corrections = Corrections(tmp_path / str(number), repo, hub.token)
        corrections.add([("cat1", "자연", "음식")], f"글 {number}", None, "까닭", "tiny", keep=True)
        corrections.scheduler.trigger().result()
        corrections.scheduler.stop()
    assert api.repo_info(repo, repo_type="dataset").private
    names = [name for name in api.list_repo_files(repo, repo_type="dataset") if name.endswith(".csv")]
    paths = [api.hf_hub_download(repo, name, repo_type="dataset") for name in names]
    there = [Path(path).read_text(encoding="utf-8") for path in paths]
    assert len(there) == 2 and all(text.startswith("id,head,from,to,reason") for text in there)
    assert "글 0" in "".join(there) and "글 1" in "".join(there)
    corrections = Corrections(tmp_path / "feedback", "somebody-else/corrections", "hf_wrong")
    corrections.add([("cat1", "자연", "음식")], "글", None, "까닭", "tiny", keep=True)
    said = capsys.readouterr().out
    assert "feedback stays local" in said and "hf_wrong" not in said
    assert "자연,음식" in corrections.file.read_text(encoding="utf-8")


def test_every_sentence_has_both_languages():
    for key, pair in WORDS.items():
        ko, en = pair
        assert ko.strip() and en.strip(), key
        assert sorted(re.findall(r"{(\w+)", ko)) == sorted(re.findall(r"{(\w+)", en)), key


def test_what_fills_a_sentence_is_escaped():
    made = both("limit_mb", mb="<i>")
    assert "<i>" not in made and made.count("&lt;i&gt;") == 2
    assert "<script>" not in Trouble("bad_file", "<script>").html()
