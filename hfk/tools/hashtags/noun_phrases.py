"""Noun phrases of a Korean text, as candidates for keywords, found by Kiwi.

A phrase is a run of nouns, over spaces too where no particle stands between (일출 명소 → 일출명소). A proper noun keeps
what follows it (남해 바다 → 남해바다), and two proper nouns stay two (강릉 안목해변).
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

LONGEST = 12
"""Letters of a phrase, spaces aside; longer ones are no hashtags."""
MOST_WORDS = 3


@dataclass(frozen=True)
class Phrase:
    """A noun phrase, one space between its words, where it stands; `proper` if a proper noun is in it."""

    words: str
    start: int
    end: int
    proper: bool = False

    @property
    def tag(self) -> str:
        """Without spaces, as in a hashtag."""
        return self.words.replace(" ", "")


class Token(NamedTuple):
    """A morpheme: its Sejong tag and where it stands."""

    tag: str
    start: int
    end: int


def check_kiwi() -> None:
    """Raise an ImportError if Kiwi is not installed."""
    if importlib.util.find_spec("kiwipiepy") is None:
        raise ImportError('keywords need the analyzer Kiwi, which is not installed: pip install "hfk[korean]".')


def find_phrases(text: str) -> list[Phrase]:
    """Find the noun phrases of a Korean text, in order, each as often as it occurs.

    Example:
        >>> [phrase.tag for phrase in find_phrases("남해 바다의 일출 명소를 걷는다.")]
        ['남해바다', '일출명소', '일출']
    """
    with _lock:  # Kiwi is not safe in two threads at once
        tokens = [Token(t.tag.split("-")[0], t.start, t.start + t.len) for t in _kiwi().tokenize(text)]
    return [phrase for run in _runs(text, tokens) for phrase in _phrases(text, run)]


@cache
def _kiwi() -> Any:
    """Loaded at the first text: that takes seconds."""
    check_kiwi()
    return importlib.import_module("kiwipiepy").Kiwi(num_workers=1)


# Letters and digits, at least two letters; no measure: 1.2km쯤, 300년, 2층, and none inside: 남북22m.
_FORM = re.compile(
    r"(?!\d+(?:[a-z]{1,2}|.)(?:쯤|여|가량|정도|대)?$)(?!\w*\d(?:[ckm]?m|ha|kg|㎞|㎡|m²)(?![a-z]))(?=(?:\d*[^\W\d]){2})\w+"
)


class _Word(NamedTuple):
    """The nouns of one word between spaces."""

    start: int
    end: int
    proper: bool
    leads: bool  # begins with a proper noun


def _phrases(text: str, run: list[_Word]) -> Iterable[Phrase]:
    """The whole run, and its parts, except those that would tear a name apart."""
    while run and text[run[0].start : run[0].end] in STOP_WORDS:
        run = run[1:]
    while run and text[run[-1].start : run[-1].end] in STOP_WORDS - TAILS:
        run = run[:-1]
    whole = bool(run) and run[0].leads and len(run) <= MOST_WORDS  # a name: 남해 of 남해 바다 alone is another place
    spans = [(first, last) for last in range(len(run)) for first in range(last + 1) if last - first < MOST_WORDS]
    for first, last in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        if whole and (first, last) != (0, len(run) - 1):
            continue
        part = run[first : last + 1]
        words = [text[word.start : word.end] for word in part]
        phrase = Phrase(" ".join(words), part[0].start, part[-1].end, any(word.proper for word in part))
        if 2 <= len(phrase.tag) <= LONGEST and _FORM.fullmatch(phrase.tag) and not all(w in STOP_WORDS for w in words):
            yield phrase


# --------------------------------------------------------------------------------------------------------- from tokens

_NOUNS = frozenset({"NNG", "NNP", "SL", "SH", "XR"})
_BEFORE = frozenset({"XPN", "SN", "NNB", "NR", "MM"})  # at the beginning alone: 삼천포항 is 삼천/NR and 포항
_INSIDE = _NOUNS | _BEFORE | {"XSN"}
_SUFFIXES = ("들", "쯤", "씩", "여", "간")
_RELATIONS = frozenset("때 후 전 뒤 앞 옆 안 밖 위 밑 중 내 등 적".split())  # noqa: SIM905
"""Words of one letter that say when and where: they end a phrase. So do nouns in -적, which describe."""
_lock = threading.Lock()


def _runs(text: str, tokens: list[Token]) -> list[list[_Word]]:
    """The nouns of the text's words, those of words that may stand in one phrase together."""
    runs: list[list[_Word]] = []
    place, open_end = 0, -1  # where a run may go on
    while place < len(tokens):
        first = place
        while (
            place < len(tokens)
            and tokens[place].tag in _INSIDE
            and (place == first or tokens[place].start == tokens[place - 1].end)
        ):
            place += 1
        part = tokens[first:place]
        if not part:
            place += 1
            continue
        end = part[-1].end
        follows = tokens[place] if place < len(tokens) and tokens[place].start == end else None
        if follows is not None and follows.tag in ("XSV", "XSA", "VV", "VA", "VX"):  # 설치하다: a verb
            continue
        while part and (part[-1].tag in _BEFORE or text[part[-1].start : part[-1].end] in _SUFFIXES):
            part = part[:-1]
        inside = bool(part) and part[0].start > 0 and text[part[0].start - 1].isalnum()
        words = {text[token.start : token.end] for token in part[-1:]}
        if inside or words & _RELATIONS or not any(token.tag in _NOUNS for token in part):
            open_end = -1
            continue
        proper = any(token.tag == "NNP" for token in part)
        word = _Word(part[0].start, part[-1].end, proper, part[0].tag == "NNP")
        if open_end >= 0 and not word.leads and word.start == open_end + 1 and text[open_end] == " ":
            runs[-1].append(word)
        else:
            runs.append([word])
        open_end = end if word.end == end and follows is None else -1
    return runs


STOP_WORDS = frozenset(
    """
    이곳 그곳 저곳 여기 거기 저기 위치 이용 이용객 가능 다양 모습 주변 인근 일대 부근 근처 이름 규모 국내
    국외 최대 최고 최초 전국 전체 하나 이상 이하 정도 시간 방문 방문객 관광객 여행객 사람 사람들 이들 운영
    조성 시설 자리 길이 높이 넓이 깊이 면적 현재 당시 이후 이전 최근 오늘날 옛날 예전 지역 내부 외부 곳곳
    사이 가운데 중심 대표 특징 장소 공간 분위기 경우 때문 덕분 정보 문의 주차 주차장 입장료 요금 도보 자신
    모두 각각 역시 매년 해마다 올해 작년 주말 평일 아침 저녁 오전 오후 하루 이틀 순간 동안 처음 마지막 다음
    다른 여러 모든 그것 이것 무엇 우리 자체 자연 마련 준비 시작 이유 방법 종류 부분 정상 입구 출구 아래 위쪽
    아래쪽 앞쪽 뒤편 뒤쪽 옆쪽 안쪽 바깥쪽 너머 한눈 발아래 발밑 발길 사진 수십 수백 수천 년대 세기 명소 인기
    상태 관리 제공 설치 이동 소개 진행 관람 감상 체험 행사 개최
    """.split()  # noqa: SIM905
)
"""Words that say little of a place when they stand alone; inside a longer phrase they may stand (일출 명소)."""
TAILS = frozenset({"명소", "체험", "시설", "공간", "행사", "관람", "장소", "입구", "주차장"})
"""Stop words that may end a phrase: 일출 명소, 숲 체험."""
