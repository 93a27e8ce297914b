from __future__ import annotations

import pytest

from hfk.models.dialect_rules import Rules
from hfk.models.dialect_translator import RULES_FILE, DialectTranslator

PAIRS = [
    *(("chungcheong", f"{word}는디 몰러.", f"{word}는데 몰라.") for word in "먹가자오" * 4),
    *(("chungcheong", f"집에 {word}는겨", f"집에 {word}는 거야") for word in "먹가자오" * 4),
    *(("jeju", f"{word} 혼저 옵서", f"{word} 어서 오세요") for word in ("삼춘", "할망", "아방")),
]


@pytest.fixture(scope="module")
def translator():
    return DialectTranslator.learn(PAIRS)


def translate(translator, text, to, source=None):
    return next(translator([text], to, source))


def test_an_ending_is_learned_and_used_on_words_never_seen(translator):
    assert translate(translator, "밥을 만드는디 몰러!", "standard", "chungcheong")["text"] == "밥을 만드는데 몰라!"


def test_two_words_become_one_and_one_becomes_two(translator):
    assert translate(translator, "집에 보는 거야.", "chungcheong", "standard")["text"] == "집에 보는겨."
    assert translate(translator, "집에 보는겨.", "standard", "chungcheong")["text"] == "집에 보는 거야."


def test_the_way_between_regions_leads_through_the_standard(translator):
    assert translate(translator, "삼춘 어서 오는디", "jeju", "chungcheong")["text"] == "삼춘 혼저 오는데"


def test_the_source_is_found_and_the_standard_is_left_alone(translator):
    assert translate(translator, "할망 혼저 옵서", "standard") == {"text": "할망 어서 오세요", "source": "jeju"}
    assert translate(translator, "먹는디", "standard")["source"] == "chungcheong"
    assert translate(translator, "창문을 닫았다", "standard") == {"text": "창문을 닫았다", "source": "standard"}


@pytest.mark.parametrize("text", ["3.5 km, 2026-11-28", "Seoul 🙂", "김가람 " * 2000, "ㅎㅏㄴ ﾡ", "..."])
def test_what_no_pair_speaks_of_is_copied(translator, text):
    for to in ("standard", "jeju", "chungcheong"):
        assert translate(translator, text, to)["text"] == " ".join(text.split())


def test_an_empty_text_costs_itself_only_and_a_wrong_region_is_one_sentence(translator):
    answers = list(translator(["", "먹는디", None, float("nan")], "standard"))
    assert [set(answer) for answer in answers] == [{"error"}, {"text", "source"}, {"error"}, {"error"}]
    with pytest.raises(ValueError, match="no rules of 'busan'; regions: standard, chungcheong, jeju"):
        translate(translator, "밥", "busan")
    with pytest.raises(ValueError, match="nothing to learn from"):
        DialectTranslator.learn([(None, "가게", "가자")])
    with pytest.raises(ValueError, match="no way 'model' of translating; there is: rules"):
        translator(["밥"], "jeju", by="model")


def test_a_rule_of_an_ending_yields_to_what_is_known_of_the_word():
    rules = Rules.learn([("먹는디", "먹는데"), ("가는디", "가는데"), ("어디", "어디"), ("어디", "어디")])
    assert rules("어디 자는디") == "어디 자는데"


def test_words_that_only_a_dialect_has_go_and_their_sign_stays():
    rules = Rules.learn([("가자 이.", "가자."), ("먹자 이", "먹자")] * 3)
    assert rules("오자 이.") == "오자."
    assert rules("이") == "이"  # nothing is no translation


def test_letters_taken_apart_are_composed(translator):
    assert translate(translator, "\u1106\u1165\u11a8\u1102\u1173\u11ab\u1103\u1175", "standard")["text"] == "먹는데"


def test_rules_from_a_file_are_the_rules_that_were_written(translator, tmp_path):
    (tmp_path / RULES_FILE).write_text(translator.to_json(), encoding="utf-8")
    again = DialectTranslator.from_json(tmp_path / RULES_FILE)
    assert again.regions == translator.regions
    for text in ("밥을 만드는디 몰러!", "할망 혼저 옵서", "집에 보는 거야."):
        for to in again.regions:
            assert translate(again, text, to) == translate(translator, text, to)
    (tmp_path / RULES_FILE).write_text('{"regions": {"jeju": 3}}', encoding="utf-8")
    with pytest.raises(ValueError, match="is damaged"):
        DialectTranslator.from_json(tmp_path / RULES_FILE)


def test_a_dictionary_is_looked_up_whole_and_yields_to_the_texts():
    rules = Rules.learn(
        [("집에 가게", "집에 가자"), ("할망 가게", "할머니 가자"), ("낭", "나무"), ("할망", "할멈")] * 3
    )
    assert rules("낭 할망") == "나무 할머니"
    assert rules("배낭 가게") == "배낭 가자"  # 낭 is no ending
