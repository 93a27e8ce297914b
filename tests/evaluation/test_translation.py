from __future__ import annotations

import json

import pytest

from hfk.evaluation.modules.translation_scores import translation_scores
from hfk.evaluation.translation import Translations, fit_judge, write_translation_report

SOURCES = ["나 밥 먹는디 가게", "집이 가자"]
REFERENCES = ["나 밥 먹는데 가자", "집에 가자"]


def test_copying_changes_nothing_right_and_nothing_wrong():
    scores = translation_scores(SOURCES, SOURCES, REFERENCES)
    assert (scores["edits_right"], scores["edits_wrong"], scores["exact"]) == (0, 0, 0)
    assert scores["wer"] == pytest.approx(100 * 3 / 6)


def test_what_is_changed_is_right_or_harm():
    scores = translation_scores(SOURCES, ["나 밥 먹는데 가게", "집에 오자"], REFERENCES)
    assert scores["edits_right"] == pytest.approx(100 * 2 / 3) and scores["edits_wrong"] == pytest.approx(100 / 3)
    perfect = translation_scores(SOURCES, REFERENCES, REFERENCES)
    assert perfect == {"bleu": pytest.approx(100), "chrf": 100, "exact": 100, "wer": 0, "edits_right": 100,
                       "edits_wrong": 0}  # fmt: skip
    assert translation_scores([], [], []) == {}


def test_words_put_in_and_left_out_count_as_errors():
    assert translation_scores(["가 나"], ["가 나 다"], ["가 나"])["wer"] == 50
    assert translation_scores(["가 나"], [""], ["가 나"])["wer"] == 100


def test_a_report_tells_directions_and_differing_rows_apart(tmp_path):
    said = Translations(
        ["1", "2", "3"], ["jeju", "jeju", "standard"], ["standard", "standard", "jeju"],
        ["집이 가게", "밥 <먹자>", "집에 가자"], ["집에 가자", "밥 <먹자>", "집이 가게"],
        {"copy": ["집이 가게", "밥 <먹자>", "집에 가자"], "rules": ["집에 가자", "밥 <먹자>", "집이 가자"]},
        fit_judge(["집이 가게", "집에 가자"], ["jeju", "standard"]),
    )  # fmt: skip
    results = write_translation_report(tmp_path, said, {"title": "test"})
    lines = {(line["from"], line["part"], line["way"]): line for line in results["translations"]}
    assert lines["jeju", "all", "rules"]["exact"] == 100 and lines["jeju", "differing", "copy"]["exact"] == 0
    assert lines["standard", "all", "copy"]["target"] == 0 and lines["jeju", "differing", "rules"]["target"] == 100
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == results
    assert "밥 &lt;먹자&gt;" in (tmp_path / "report.html").read_text(encoding="utf-8")
