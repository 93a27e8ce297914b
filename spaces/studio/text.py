"""Every sentence of the page, in Korean and English.

Two ways to the reader: `i18n("key")` for what gradio's own components show, translated in the browser, and
`both("key")` for HTML that the server makes: both languages are in it, and the style sheet shows the page's own. So the
server need not know the reader's language, and an answer is the same for everyone.
"""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

WORDS: dict[str, tuple[str, str]] = {
    "title": ("hfk 스튜디오", "hfk studio"),
    "lead": (
        "한국어 글과 사진을 여러 갈래로 한 번에 분류합니다.",
        "Classifies Korean text and photos, several heads at once.",
    ),
    "tiny": (
        "이름이 -tiny로 끝나는 모델은 스크립트로 만든 작은 예시로 1분쯤 배운 시연용이라, "
        "처음 보는 글에는 자주 틀립니다.",
        "Models whose name ends in -tiny are demonstrations: they learned for about a minute from a small sample that "
        "a script made, and often err on what they have not seen.",
    ),
    "private": (
        "넣은 글과 사진은 이 서버에서만 쓰이고, 의견을 남길 때 직접 고르지 않으면 저장하지 않습니다.",
        "Text and photos are used on this server only, and kept only if you say so when you send feedback.",
    ),
    "api": ("API 문서", "API"),
    "language": ("언어", "Language"),
    "skip": ("본문으로", "Skip to content"),
    # tabs
    "tab_classify": ("분류", "Classify"),
    "tab_compare": ("비교", "Compare"),
    "tab_batch": ("여러 건", "Batch"),
    "tab_report": ("데이터와 성적", "Data & report"),
    "tab_dialect": ("사투리", "Dialect"),
    "tab_feedback": ("의견", "Feedback"),
    # input
    "checkpoint": ("모델", "Model"),
    "checkpoints": ("견줄 모델", "Models to compare"),
    "text": ("글", "Text"),
    "text_hint": ("예: 해 뜨는 모습이 아름다운 바닷가", "A Korean text, such as: 해 뜨는 모습이 아름다운 바닷가"),
    "photo": ("사진 (없어도 됩니다)", "Photo (optional)"),
    "options": ("보기 설정", "Options"),
    "top_k": ("보여 줄 후보 수", "Candidates to show"),
    "threshold": ("이보다 낮으면 불확실", "Uncertain below"),
    "classify": ("분류하기", "Classify"),
    "compare": ("견주어 보기", "Compare"),
    "clear": ("지우기", "Clear"),
    "examples": ("눌러서 해 보기", "Try one"),
    "example_photo": ("사진만", "photo alone"),
    # answers
    "empty": (
        "글이나 사진을 넣고 ‘분류하기’를 누르면 결과가 여기에 나옵니다.",
        "Give a text or a photo and press Classify; the answer appears here.",
    ),
    "empty_compare": (
        "같은 글과 사진에 모델들이 어떻게 답하는지 나란히 보여 줍니다.",
        "Shows side by side what the models make of the same input.",
    ),
    "uncertain": ("불확실", "uncertain"),
    "chosen": ("선택", "chosen"),
    "consistent": (
        "다른 갈래와 앞뒤가 맞도록 고른 답입니다.",
        "Chosen so that the heads agree with each other.",
    ),
    "answer": ("답", "Answer"),
    "none_chosen": ("해당 없음", "none"),
    "took": ("걸린 시간", "Took"),
    "read_text": ("글을 읽었습니다", "read the text"),
    "read_image": ("사진을 보았습니다", "looked at the photo"),
    "ignored_text": ("이 모델은 글을 읽지 않습니다", "this model reads no text"),
    "ignored_image": ("이 모델은 사진을 보지 않습니다", "this model looks at no photos"),
    "cut": ("앞 {share} %만 읽음", "only the first {share} % was read"),
    "path": ("가장 그럴듯한 길", "The likeliest path"),
    "each_head": ("갈래마다 보기", "Each head"),
    "outside": (
        "이 모델이 배운 것과 다른 글로 보입니다. 그래서 답을 내지 않습니다.",
        "This does not look like what the model has learned about, so it gives no answer.",
    ),
    "anyway": ("그래도 고른다면", "If it had to choose"),
    "answers": ("나올 수 있는 답", "The answers there are"),
    "no_figure": (
        "처음 보는 글이나 사진으로 잰 성적이 없습니다.",
        "It came without a figure measured on rows that it has not seen.",
    ),
    "wrong": ("틀렸어요", "This is wrong"),
    # hashtags and why
    "hashtags": ("해시태그", "Hashtags"),
    "why": ("왜?", "Why?"),
    "why_head": ("어느 답이 궁금한가요?", "Which answer?"),
    "why_title": ("{head}: ‘{answer}’, 왜?", "{head}: why “{answer}”?"),
    "why_text": ("글이 더한 값", "from the words"),
    "why_image": ("사진이 더한 값", "from the photo"),
    "why_strongest": ("가장 크게 움직인 낱말", "The words that weighed most"),
    "why_figure": (
        "사진의 어느 곳이 답을 움직였는지: + 는 답 쪽, − 는 반대쪽",
        "Which parts of the photo moved the answer: + for it, − against it",
    ),
    "why_legend": (
        "파랑·실선·+ 는 이 답을 밀어 준 것, 주황·점선·− 는 반대로 당긴 것입니다. 숫자는 로짓에 더한 값이고, 다 더하면 "
        "빈 글과 단색 사진일 때와의 차이가 됩니다. 줄 그은 낱말은 너무 뒤에 있어 읽지 않았습니다.",
        "Blue, solid and + spoke for this answer; orange, dashed and − against it. Numbers are what was added to the "
        "logit; together they make the difference from a blank text and a photo of one color. Words struck out came "
        "too late to be read.",
    ),
    # what can go wrong
    "no_input": (
        "분류할 것이 없습니다. 글이나 사진을 넣어 주세요.",
        "There is nothing to classify: give a text or a photo.",
    ),
    "no_text": (
        "이 모델은 글만 읽습니다. 글을 넣어 주세요.",
        "This model reads text only: give a text.",
    ),
    "no_image": (
        "이 모델은 사진만 봅니다. 사진을 넣어 주세요.",
        "This model looks at photos only: give a photo.",
    ),
    "bad_picture": ("사진을 쓸 수 없습니다.", "The photo can't be used:"),
    "bad_file": ("파일을 쓸 수 없습니다.", "The file can't be used:"),
    "no_file": ("파일을 먼저 올려 주세요.", "Upload a file first."),
    "no_checkpoint": ("쓸 수 있는 모델이 없습니다.", "There is no model that can be used."),
    "unknown_checkpoint": ("그런 모델이 없습니다.", "There is no such model:"),
    "broken": ("이 모델은 쓸 수 없습니다.", "This model can't be used:"),
    "pick_one": ("모델을 하나 이상 고르세요.", "Choose at least one model."),
    "pick_columns": (
        "어느 열에 글이 있는지 ‘글이 있는 열’에서 고르세요.",
        "Choose under ‘Text columns’ which columns hold the text.",
    ),
    # batch
    "batch_lead": (
        "표(CSV, TSV, JSONL, XLSX)나 사진을 모은 ZIP을 올리면 줄마다 답을 달아 돌려줍니다. "
        "쓸 수 없는 줄에는 까닭을 적고, 빠뜨리는 줄은 없습니다.",
        "Upload a table (CSV, TSV, JSONL, XLSX) or a ZIP of photos; every row comes back with its answers. A row that "
        "can't be used says why, and none is lost.",
    ),
    "limits": ("한도", "Limits"),
    "limit_rows": ("표는 {rows:,}줄", "{rows:,} rows a table"),
    "limit_photos": ("ZIP은 사진 {photos:,}장", "{photos:,} photos a ZIP"),
    "limit_mb": ("파일은 {mb} MB", "{mb} MB a file"),
    "upload": ("표 또는 ZIP", "Table or ZIP"),
    "columns": ("글이 있는 열 (고르지 않으면 알아서 찾습니다)", "Text columns (found by name if none is chosen)"),
    "start": ("시작", "Start"),
    "stop": ("그만두기", "Stop"),
    "working": ("분류하는 중", "Classifying"),
    "stopped": ("그만두었습니다.", "Stopped."),
    "done": ("다 되었습니다", "Done"),
    "rows": ("줄", "rows"),
    "with_error": ("오류 있는 줄", "rows with an error"),
    "first_rows": ("앞의 {rows}줄", "The first {rows} rows"),
    "download_xlsx": ("엑셀로 (XLSX)", "As a workbook (XLSX)"),
    "rate": ("1초에 {rate}줄", "{rate} rows a second"),
    "time_left": ("{seconds}초쯤 남음", "about {seconds} s left"),
    "doubtful_rows": ("확률이 절반에 못 미치는 줄: {rows:,}", "Rows whose answer is less likely than not: {rows:,}"),
    "download": ("결과 내려받기 (CSV)", "Download results (CSV)"),
    # dialect
    "dialect_lead": (
        "한 문장이 어느 고장 말인지 짐작하고, 고장마다 어떻게 말하는지 나란히 보여 줍니다.",
        "Guesses which region a sentence is from, and shows side by side how every region says it.",
    ),
    "dialect_sample": (
        "규칙은 hfk에 든 예문 120개에서 배워 아는 낱말이 적습니다. 다른 번역기는 HFK_TRANSLATOR로 씁니다.",
        "Its rules are from the 120 sentences embedded in hfk: it knows few words. HFK_TRANSLATOR names a trained one.",
    ),
    "dialect_shares": (
        "퍼센트는 고장별 규칙이 바꿀 것으로 보는 낱말의 몫이며, 확률로 보정한 값이 아닙니다.",
        "Percentages are shares of the words that each region's rules expect to change, not calibrated probabilities.",
    ),
    "empty_dialect": ("문장을 넣고 ‘바꾸기’를 누르세요.", "Give a sentence and press Translate."),
    "no_dialect": ("바꿀 문장이 없습니다.", "There is nothing to translate."),
    "unknown_region": ("그런 고장이 없습니다.", "There is no such region:"),
    "said_in": ("어느 고장 말인가요?", "Said in"),
    "find_out": ("알아서 찾기", "find out"),
    "translate": ("바꾸기", "Translate"),
    "this_one": ("이 문장", "this one"),
    "copy": ("복사", "Copy"),
    # report
    "scores": ("성적", "Scores"),
    "scores_note": (
        "배울 때 쓰지 않은 {rows}줄로 잰 값입니다. ‘최빈’은 늘 가장 흔한 답을 고를 때의 값입니다.",
        "Measured on {rows} rows that training has not seen. ‘Majority’ always gives the commonest answer.",
    ),
    "head": ("갈래", "Head"),
    "accuracy": ("정확도", "Accuracy"),
    "macro_f1": ("매크로 F1", "Macro-F1"),
    "majority": ("최빈 정확도", "Majority accuracy"),
    "ece": ("보정 오차(ECE)", "Calibration error (ECE)"),
    "micro_f1": ("마이크로 F1", "Micro-F1"),
    "map": ("mAP", "mAP"),
    "mae": ("평균 절대 오차", "MAE"),
    "rmse": ("RMSE", "RMSE"),
    "r2": ("R²", "R²"),
    "confusion": ("혼동 행렬", "Confusion matrix"),
    "reliability": ("신뢰도 그림", "Reliability diagram"),
    "curves": ("학습 곡선", "Training curves"),
    "data": ("데이터", "Data"),
    "labels_of": ("라벨별 줄 수", "Rows by label"),
    "lengths": ("글 길이 (글자 수)", "Text length (characters)"),
    "lengths_note": (
        "{rows:,}줄, 절반은 {half}자 이하, 가장 긴 글은 {longest}자",
        "{rows:,} texts, half of them up to {half} characters, the longest {longest}",
    ),
    "no_report": ("이 모델에는 성적표가 없습니다.", "This model came without a report."),
    "no_profile": (
        "이 모델이 배운 데이터는 여기에 없습니다.",
        "The data that this model learned from is not here.",
    ),
    "learned_from": ("배운 데이터", "Learned from"),
    # feedback
    "feedback_lead": (
        "‘분류’에서 답을 받은 뒤, 틀린 갈래와 맞는 답을 알려 주세요. 다음에 배울 때 쓰입니다.",
        "After an answer under ‘Classify’, say which head is wrong and what is right. The next training uses it.",
    ),
    "nothing_yet": (
        "아직 분류한 것이 없습니다. 먼저 ‘분류’에서 답을 받아 주세요.",
        "Nothing is classified yet: get an answer under Classify first.",
    ),
    "last_answer": ("마지막 답", "The last answer"),
    "which_head": ("틀린 갈래", "Which head is wrong"),
    "right_label": ("맞는 답", "The right answer"),
    "right_number": ("맞는 값", "The right value"),
    "reason": ("까닭 (없어도 됩니다)", "Reason (optional)"),
    "keep": (
        "글과 사진도 저장해도 됩니다 (고르지 않으면 알아볼 수 없는 번호만 남습니다)",
        "Keep the text and photo too (else only an anonymous number is kept)",
    ),
    "send": ("보내기", "Send"),
    "thanks": ("고맙습니다. 적어 두었습니다", "Thank you, it is noted"),
    "no_head": ("틀린 갈래를 고르세요.", "Choose the head that is wrong."),
    "no_label": ("맞는 답을 고르세요.", "Choose the right answer."),
    "same_label": ("지금 답과 같습니다.", "That is what the model said already."),
    "unknown_head": ("그런 갈래가 없습니다.", "There is no such head:"),
    "unknown_label": ("그 갈래에 없는 라벨입니다.", "That is not a label of this head:"),
    "too_many": (
        "한 시간에 보낼 수 있는 의견을 다 보내셨습니다. 나중에 다시 보내 주세요.",
        "You have sent as much feedback as one may in an hour: come back later.",
    ),
    "full": ("의견함이 가득 찼습니다.", "The feedback folder is full."),
}  # fmt: skip

i18n = gr.I18n(
    **{language: {key: pair[place] for key, pair in WORDS.items()} for place, language in enumerate(("ko", "en"))}
)


class Trouble(ValueError):
    """Something the reader can mend. `key` names the sentence; `detail` is what a library said about it, in English.

    As an exception of the API it reads in English; `html()` gives both languages for the page.
    """

    def __init__(self, key: str, detail: str = "") -> None:
        super().__init__(f"{WORDS[key][1]} {detail}".strip())
        self.key, self.detail = key, detail

    def html(self) -> str:
        """The sentence as a note of the page."""
        detail = f' <span class="detail" lang="en">{html.escape(self.detail)}</span>' if self.detail else ""
        return f'<p class="note" role="alert">{both(self.key)}{detail}</p>'


def both(key: str, **values: Any) -> str:
    """A sentence in both languages as HTML, of which the page shows one.

    Args:
        key: of `WORDS`.
        **values: fill the sentence's braces; escaped.
    """
    safe = {name: html.escape(value) if isinstance(value, str) else value for name, value in values.items()}
    ko, en = (html.escape(words, quote=False) for words in WORDS[key])
    if safe:
        ko, en = ko.format(**safe), en.format(**safe)
    return _spans(ko, en)


def pair(ko: str, en: str) -> str:
    """Two sentences that mean the same as HTML, of which the page shows one; escaped."""
    return _spans(html.escape(ko, quote=False), html.escape(en, quote=False))


def _spans(ko: str, en: str) -> str:
    return f'<span class="ko" lang="ko">{ko}</span><span class="en" lang="en">{en}</span>'
