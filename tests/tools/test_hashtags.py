"""Hashtags: names whole, particles off, none twice, categories that are sure, and rows that can't be used."""

from __future__ import annotations

import csv
import importlib.util
import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hfk import HeadConfig, Predictor
from hfk.tools.hashtags.hashtagger import Hashtagger, hashtag_table, keywords_of, label_tags
from hfk.tools.hashtags.noun_phrases import LONGEST, STOP_WORDS, find_phrases
from tests import tiny

SEA = "강릉 안목해변은 남해 바다의 일출 명소다. 커피 거리와 모래사장을 걷는다. 커피 거리는 밤에 붐빈다."
TWICE = "커피 거리와 모래사장을 걷는다. 커피 거리는 밤에 붐빈다."


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(tiny.model("bert", "vit", fusion="gated", fusion_size=16), tiny.processor("bert", "vit"))


def tags_of(text: str) -> list[str]:
    return [phrase.tag for phrase in find_phrases(text)]


# ------------------------------------------------------------------------------------------------------- noun phrases


def test_particles_are_off_and_compounds_joined():
    found = tags_of(SEA)
    assert {"커피거리", "모래사장"} <= set(found)
    assert not [tag for tag in found if tag.endswith(("의", "을", "은", "는"))]
    assert not {"걷는다", "붐빈다", "걷는", "밤에"} & set(found)


def test_names_stay_whole():
    found = tags_of(SEA)
    assert {"강릉", "안목해변", "남해바다", "일출명소"} <= set(found)
    assert not {"남해", "안목", "강릉안목해변", "해변", "바다"} & set(found)
    assert next(phrase for phrase in find_phrases(SEA) if phrase.tag == "남해바다").proper


@settings(max_examples=12, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_borne_and_phrases_are_where_they_say(text):
    text = text.encode("utf-8", "ignore").decode()
    for phrase in find_phrases(text):
        assert 0 <= phrase.start < phrase.end <= len(text)
        assert re.sub(r"\s+", " ", text[phrase.start : phrase.end]) == phrase.words
        assert 2 <= len(phrase.tag) <= LONGEST and phrase.words not in STOP_WORDS


def test_measures_are_no_hashtags():
    found = tags_of("모래밭이 1.2km쯤 이어진다. 300년 된 나무가 있고 2층은 카페다. 2024년 5월에 문을 열었다.")
    assert "모래밭" in found and not [tag for tag in found if any(letter.isdigit() for letter in tag)]


def test_the_longer_name_wins_and_none_begins_inside_a_word():
    text = "고성박물관은 고성에 있다. 고성에는 공룡이 살았고, 고성의 역사를 본다. 삼천포항에서 남북22m를 걷는다."
    found = [tag for tag, _ in keywords_of(text, 20)]
    assert found[0] == "고성박물관" and "고성" not in found
    assert "포항" not in found and not [tag for tag in found if "22" in tag]


def test_kiwi_that_is_missing_is_one_sentence(predictor, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "kiwipiepy" else found(name))
    with pytest.raises(ImportError, match=r"hfk\[korean\]"):
        Hashtagger(predictor)
    assert next(Hashtagger(predictor, keywords=0, min_score=0.0)([SEA]))["categories"]


# ----------------------------------------------------------------------------------------------------------- hashtags


def test_form_of_the_hashtags(predictor):
    (made,) = Hashtagger(predictor, min_score=0.0)([{"text": SEA}])
    assert made["text"] == " ".join(made["hashtags"]) and len(made["keywords"]) <= 5
    assert all(re.fullmatch(r"#\w+", tag) for tag in made["hashtags"])
    assert len(set(made["hashtags"])) == len(made["hashtags"])
    heads = [item["head"] for item in made["categories"]]
    assert heads[:2] == ["cat1", "cat2"] and "price" not in heads
    assert made == json.loads(json.dumps(made))


def test_no_keyword_is_inside_another(predictor):
    tagger = Hashtagger(predictor, keywords=50, min_score=1.0)
    (made,) = tagger([SEA])
    found = [item["tag"] for item in made["keywords"]]
    assert len(found) > 3
    assert not [(a, b) for a in found for b in found if a != b and a in b]


def test_categories_that_are_not_sure_are_left_out(predictor):
    (everything,) = Hashtagger(predictor, min_score=0.0)([SEA])
    (none,) = Hashtagger(predictor, min_score=1.0)([SEA])
    assert everything["categories"] and none["categories"] == [] and none["keywords"]


def test_at_most_so_many_and_the_surest_tags_come_first():
    heads = [HeadConfig("tags", ["바다", "산", "절"], problem="multi_label")]
    tagged = Predictor(tiny.model("bert", heads=heads), tiny.processor())
    (whole,) = Hashtagger(tagged, min_score=0.0)([SEA])
    scores = [item["score"] for item in whole["categories"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True) and len(whole["keywords"]) > 1
    (two,), (four,) = (list(Hashtagger(tagged, min_score=0.0, most=most)([SEA])) for most in (2, 4))
    assert two["hashtags"] == whole["hashtags"][:2] and two["keywords"] == []
    assert four["hashtags"] == whole["hashtags"][:4] and len(four["keywords"]) == 1


def test_a_keyword_that_is_a_category_comes_once():
    heads = [HeadConfig("cat1", ["해수욕장/해변", "해수욕장/해변 둘"])]
    predictor = Predictor(tiny.model("bert", heads=heads), tiny.processor())
    (made,) = Hashtagger(predictor, min_score=0.0)(["낙산 해변은 이름난 해변이다. 안목의 해변도 있다."])
    assert made["hashtags"].count("#해변") == 1 and "#해수욕장" in made["hashtags"]


@pytest.mark.parametrize(
    ("label", "tags"),
    [
        ("육상 레포츠", ["육상레포츠"]),
        ("야영장,오토캠핑장", ["야영장", "오토캠핑장"]),
        ("인문(문화/예술/역사)", ["인문"]),
        ("5일장", ["5일장"]),
        ("<script>x</script>", ["scriptx", "script"]),
        ("2024", []),
        ("()", []),
    ],
)
def test_labels_as_hashtags(label, tags):
    assert label_tags(label) == tags


def test_what_stands_beside_a_row_changes_nothing(predictor):
    tagger = Hashtagger(predictor, min_score=0.0)
    rows = [SEA, "직접 담근 장으로 끓인 된장찌개와 보리밥을 내는 한식당이다.", "조선 시대의 오래된 절과 석탑이 있다."]
    together = list(tagger(rows * 22))  # more than a window
    assert len(together) == 66
    for row, made in zip(rows, together, strict=False):
        (alone,) = tagger([row])
        assert alone["hashtags"] == made["hashtags"]


def test_pictures_texts_and_what_is_neither(predictor):
    picture = Image.new("RGB", (32, 32), "navy")
    tagger = Hashtagger(predictor, min_score=0.0)
    both, photo, nothing, bad = tagger(
        [{"text": SEA, "image": picture}, {"image": picture}, {"text": " "}, {"text": 3}]
    )
    assert both["categories"] and both["keywords"]
    assert photo["categories"] and photo["keywords"] == []
    assert "no text or image" in nothing["error"] and "str" in bad["error"]


def test_a_checkpoint_that_reads_no_text_ranks_by_where_phrases_stand():
    predictor = Predictor(tiny.model(None, "vit"), tiny.processor(None, "vit"))
    picture = Image.new("RGB", (32, 32), "navy")
    (made,) = Hashtagger(predictor)([{"text": TWICE, "image": picture}])
    assert made["keywords"][0]["tag"] == "커피거리"


def test_a_text_of_50000_characters_and_one_of_markup(predictor):
    tagger = Hashtagger(predictor, min_score=0.0)
    long, markup = tagger([f"{SEA} " * 900, "<p><br></p> <img src='x.png'>"])
    assert 0 < len(long["keywords"]) <= 5 and markup["keywords"] == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"keywords": -1}, "keywords must be from 0"),
        ({"min_score": 2}, "min_score must be"),
        ({"most": 0}, "most must be 1"),
    ],
)
def test_wrong_options_are_one_sentence(predictor, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Hashtagger(predictor, **options)


# ------------------------------------------------------------------------------------------------------------ command


def test_a_table_comes_back_whole(predictor, tmp_path):
    source, target = tmp_path / "places.csv", tmp_path / "tagged.csv"
    source.write_text(f'id,text\n1,"{SEA}"\n2,\n3,한식당의 된장찌개\n', encoding="utf-8")
    tagger = Hashtagger(predictor)
    assert hashtag_table(tagger, source, target) == {"rows": 3, "errors": 1}
    with open(target, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["hashtags"].startswith("#") and "no text" in rows[1]["error"] and not rows[1]["hashtags"]
    with pytest.raises(ValueError, match="the input itself"):
        hashtag_table(tagger, source, source)
    with pytest.raises(ValueError, match="already has a column 'hashtags'"):
        hashtag_table(tagger, target, tmp_path / "again.csv")


def test_the_command(checkpoint, tmp_path, hfk):
    options = ["hashtags", str(checkpoint), "--min-score", "0"]
    code, out, _ = hfk(*options, "--text", SEA)
    assert code == 0 and re.fullmatch(r"(#\w+ ?)+\n", out)
    code, made, _ = hfk(*options, "--text", SEA, "--json")
    assert code == 0 and json.loads(made)["text"] == out.strip()
    (tmp_path / "t.csv").write_text(f'설명\n"{SEA}"\n', encoding="utf-8")
    table = [str(tmp_path / "t.csv"), str(tmp_path / "out.jsonl")]
    code, _, err = hfk(*options, *table)
    assert code == 2 and "설명" in err
    code, text, _ = hfk(*options, *table, "--text", "설명")
    assert code == 0 and "1 rows" in text
    row = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert row["hashtags"] == out.strip()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere.csv", "out.csv"], "nowhere.csv does not exist"),
        (["nowhere.csv"], "name the file to write"),
        ([], "no text or image"),
    ],
)
def test_the_command_says_what_is_wrong(checkpoint, tmp_path, hfk, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, err = hfk("hashtags", str(checkpoint), *words)
    assert code == 2 and sentence in err and len(err.strip().splitlines()) == 1
