"""Text cleaning: what each step does to headlines, what none may ever do, and that it travels with a checkpoint."""

from __future__ import annotations

import copy
import csv
import json
import pickle
import time

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoProcessor

from hfk import MultiHeadProcessor, Predictor, train
from hfk.models.text_cleaning import STEPS, TextCleaner, expand_steps
from tests import tiny

HEADLINE = "美·中 정상 “訪韓” 무산…日정부 ‘유감’ ㅋㅋㅋㅋ"

CASES = {
    "html": [
        ("<p>바다</p><br/>산", " 바다  산"),
        ("A &amp;amp; B &lt;b&gt;굵게&lt;/b&gt;", "A & B  굵게 "),
        ("<script>alert(1)</script>절", " 절"),
        ("3 < 5 > 2, <한글> 그대로", "3 < 5 > 2, <한글> 그대로"),
        ("<KBS 뉴스> a<b 이고 c>d, <A 씨>", "<KBS 뉴스> a<b 이고 c>d, <A 씨>"),
        ("<video controls src='a.mp4'>강</VIDEO ><IMG src=a.png>산", " 강  산"),
    ],
    "url": [("https://a.co.kr/b?c=1에서 www.b.kr, a.b@c.com 끝", " 에서     끝")],
    "normalize": [
        ("ＡＢＣ １２３ ㎞ ㈜", "ABC 123 km (주)"),
        ("ㅋㅋ ㆍ …", "ㅋㅋ ㆍ …"),  # what NFKC itself would take apart
        ("ﾡ", "ㄱ"),
        ("한국", "한국"),
    ],
    "symbols": [("가‧나ㆍ다•라...마‥바 ⇒ 사 1∼2 3–4", "가·나·다·라…마…바 → 사 1~2 3-4")],
    "quotes": [("“가” ‘나’ 「다」 『라』 《마》 〈바〉 【사】", "\"가\" '나' '다' \"라\" \"마\" '바' [사]")],
    "repeat": [("ㅋㅋㅋㅋㅋ 와아아아 !!!! 100000 AAA ㅠㅠ", "ㅋㅋ 와아아 !! 100000 AAA ㅠㅠ")],
    "whitespace": [("  가\u200b나\u3164 \t다\u3000 라 ", "가나 다 라")],
    "hanja_words": [
        ("美·中 정상, 北, 미사일", "미국·중국 정상, 북한, 미사일"),
        ("日정부 靑 與 野 檢 英서", "일본정부 청와대 여당 야당 검찰 영국서"),
        (
            "美中 訪美 4日 책임論 中1",
            "美中 訪美 4日 책임論 中1",
        ),  # in a word, behind a digit or a letter: no abbreviation
        ("현대重에 우리銀·신세계百 기계硏", "현대중공업에 우리은행·신세계백화점 기계연구원"),
        ("重大 銀行 2百", "重大 銀行 2百"),
        ("美와 北이 與가 靑과의 野는 濠로 美와인", "미국과 북한이 여당이 청와대와의 야당은 호주로 미국와인"),
    ],
    "hanja": [
        ("美中 訪韓 大韓民國", "미중 방한 대한민국"),
        ("女性 勞動 李在明 來年 論議 龍 理由", "여성 노동 이재명 내년 논의 용 이유"),  # the initial-sound rule
        ("책임論 2019年 經濟論 少女 料理", "책임론 2019년 경제론 소녀 요리"),
        ("比率 百分率 能率 法律 行列 先烈", "비율 백분율 능률 법률 행렬 선열"),  # after a vowel or ㄴ
        ("不動産 不正 不可能 不安", "부동산 부정 불가능 불안"),
        (
            "音樂 娛樂 敗北 北韓 復活 回復 自轉車 自動車 金融 金메달",
            "음악 오락 패배 북한 부활 회복 자전거 자동차 금융 금메달",
        ),
        ("金 위원장 金正恩", "김 위원장 김정은"),
        ("金철수 金哲洙 金海空港 金氏", "김철수 김철수 김해공항 김씨"),
        ("金 가격 金融街 金曜日 純金", "금 가격 금융가 금요일 순금"),
        ("國民年金 海外旅行 新女性 總領事", "국민연금 해외여행 신여성 총영사"),  # the initial-sound rule in compounds
        ("靑少年金融 每年末 男女", "청소년금융 매년말 남녀"),
        ("起訴狀 計畫 研究院 硏究院 狀態", "기소장 계획 연구원 연구원 상태"),
        ("樂\uf914", "낙락"),  # a compatibility ideograph
    ],
}


@pytest.mark.parametrize(("step", "text", "expected"), [(step, *case) for step in CASES for case in CASES[step]])
def test_a_step_does_what_it_says(step, text, expected):
    assert TextCleaner([step])(text) == expected


def test_options_change_a_step():
    assert TextCleaner([{"hanja_words": {"words": {"尹": "윤석열", "文": None}}}])("尹·文 회동") == "윤석열·文 회동"
    assert TextCleaner([{"hanja_words": {"suffixes": {"社": "회사"}}}])("신문社 현대重") == "신문회사 현대중공업"
    assert TextCleaner([{"repeat": {"limit": 1}}])("ㅋㅋㅋ") == "ㅋ"


def test_the_preset_does_the_whole_headline():
    assert TextCleaner("simple")(HEADLINE) == "미국·중국 정상 \"방한\" 무산…일본정부 '유감' ㅋㅋ"
    assert expand_steps(["simple", "quotes"]) == [*expand_steps("simple"), "quotes"]


# Every Unicode character, lone surrogates and unassigned ones included, and what is likelier to be trouble.
anything = st.text(st.characters() | st.sampled_from("美北金不率車樂ㅋㆍ…“<>&;./@ﾡ\ud800\u200b\u1100\u1161가각ㄱ=-0,A"))


@pytest.mark.parametrize("step", STEPS)
@given(text=anything)
@settings(max_examples=40, deadline=None)
@example(text="&" + "amp;" * 30 + "lt;b&gt;")
@example(text="<" * 50 + "b" + ">b" * 50)
@example(text="a@" * 40 + "b.c")
def test_a_step_never_fails_and_changes_nothing_twice(step, text):
    cleaner = TextCleaner([step])
    once = cleaner(text)
    once.encode("utf-8")  # no lone surrogate
    assert cleaner(once) == once


@given(text=anything)
@settings(max_examples=60, deadline=None)
def test_the_simple_preset_never_fails(text):
    cleaned = TextCleaner("simple")(text)
    cleaned.encode("utf-8")
    assert cleaned == " ".join(cleaned.split())


@pytest.mark.parametrize("nasty", ["<", "&amp;", "<!--", "a@", "<script>", "a.", "www.", "ㅋㅎ", "1,", "&#"])
def test_hostile_texts_take_time_in_proportion_to_their_length(nasty):
    def seconds(letters):
        text = (nasty * letters)[:letters]
        started = time.process_time()
        TextCleaner("simple")(text)
        return time.process_time() - started

    assert seconds(50_000) < 10 * seconds(10_000) + 0.1  # a quadratic step takes 25 times as long, seconds


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("thorough", "no step 'thorough'; it has: simple, html, url"),
        (3, "is `simple` or a list of steps, not 3"),
        ("elaborate", "'elaborate' is gone"),
        (["hanja", "stem"], "no step 'stem'; it has: simple, html, url"),
        ([{"repeat": {"limit": 2}, "url": {}}], "is no step"),
        ([["url"]], "is no step"),
        ([{"repeat": 3}], "is no step"),
        ([{"repeat": {"most": 3}}], "step 'repeat' has no option 'most'; it has: limit"),
        ([{"quotes": {"most": 3}}], "step 'quotes' has no option 'most'; it has none"),
        ([{"repeat": {"limit": 0}}], "step 'repeat': limit must be a whole number"),
        ([{"hanja_words": {"words": ["美"]}}], "words must map words"),
    ],
)
def test_a_wrong_list_is_refused_in_one_sentence(steps, message):
    with pytest.raises(ValueError, match=message) as caught:
        TextCleaner(steps)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", ["numbers", {"morphemes": {"analyzer": "kiwi", "version": "kiwipiepy 0.21"}}])
def test_a_checkpoint_with_a_step_of_before_is_one_sentence(step, tmp_path):
    tiny.processor().save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"text_cleaning": ["url", step]}))
    with pytest.raises(ValueError, match=r"'(numbers|morphemes)' is gone, .*; train again without\.$"):
        MultiHeadProcessor.from_pretrained(tmp_path)


def test_a_cleaner_is_copied_and_pickled_by_its_steps():
    cleaner = TextCleaner(["simple", {"repeat": {"limit": 1}}])
    for again in (copy.deepcopy(cleaner), pickle.loads(pickle.dumps(cleaner))):
        assert again.steps == cleaner.steps
        assert again(HEADLINE) == cleaner(HEADLINE)


def test_the_processor_cleans_before_prefix_and_tokenizer_and_saves_the_steps(tmp_path):
    steps = ["simple", {"hanja_words": {"words": {"尹": "윤석열"}}}, "quotes"]
    processor = tiny.processor(text_prefix="query: ", text_cleaning=steps)
    plain = tiny.processor(text_prefix="query: ")
    clean = "미국·윤석열 회동"
    assert torch.equal(processor(text=["美·尹 회동"])["input_ids"], plain(text=[clean])["input_ids"])
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text(encoding="utf-8"))["text_cleaning"]
    assert saved == expand_steps(steps)  # presets spelled out
    again = AutoProcessor.from_pretrained(tmp_path)
    assert again.text_cleaning == saved
    assert torch.equal(again(text=["美·尹 회동"])["input_ids"], processor(text=["美·尹 회동"])["input_ids"])


def test_a_processor_without_cleaning_saves_none_and_changes_nothing(tmp_path):
    processor = tiny.processor()
    assert processor.text_cleaning is None and "text_cleaning" not in processor.to_dict()
    assert processor.clean("美 ㅋㅋㅋㅋ “訪韓”") == "美 ㅋㅋㅋㅋ “訪韓”"


def test_nothing_left_is_an_error_of_that_row_only(tmp_path):
    url = [{"url": {}}]
    processor = tiny.processor("bert", "resnet", text_cleaning=url)
    predictor = Predictor(tiny.model("bert", "resnet"), processor)
    picture = __import__("PIL.Image").Image.new("RGB", (8, 8))
    results = list(predictor(["바다", "https://a.kr", {"text": "https://a.kr", "image": picture}, " "]))
    assert ["error" in result for result in results] == [False, True, False, True]
    assert results[1]["error"] == "text_cleaning leaves nothing of the text 'https://a.kr'."
    assert "there is no text or image" in results[3]["error"]


def test_training_names_the_rows_of_which_nothing_is_left(tmp_path, encoders):
    table = tmp_path / "news.csv"
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["no", "title", "topic"])
        for row in range(24):
            title = "https://a.kr/7" if row in (7, 9) else f"{tiny.SENTENCES[row % 3]} {row}"
            writer.writerow([f"n{row}", title, ["가", "나", "다"][row % 3]])
    task = {"data": "news.csv", "text": "title", "id": "no", "heads": [{"name": "topic"}], "split": None}
    path = tmp_path / "news.yaml"
    path.write_text(json.dumps(task | {"recipe": tiny.RECIPE | {"text_encoder": encoders["text_encoder"]}}))
    with pytest.raises(ValueError, match=r"nothing of 2 texts, such as that of the row with id 'n7' in train \('https"):
        train(str(path), tmp_path / "run", {"text_cleaning": ["url"]})
    with pytest.raises(ValueError, match="no step 'urls'"):
        train(str(path), tmp_path / "run", {"text_cleaning": ["urls"]})


def test_a_processor_is_made_with_the_cleaning_of_a_recipe(encoders):
    processor = MultiHeadProcessor.from_encoders(text=encoders["text_encoder"], text_cleaning=["hanja"])
    assert processor.text_cleaning == ["hanja"] and processor.clean("訪韓") == "방한"


@pytest.mark.data
def test_no_real_headline_keeps_a_lone_hanja_or_becomes_empty(real_data):
    with open(real_data / "ynat" / "train.csv", encoding="utf-8-sig", newline="") as file:
        titles = [row["title"] for row in csv.DictReader(file)]
    cleaner = TextCleaner("simple")
    cleaned = [cleaner(title) for title in titles]
    assert all(cleaned)
    assert not [text for text in cleaned if any("\u3400" <= letter <= "\u9fff" for letter in text)]
