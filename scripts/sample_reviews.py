"""Film reviews of our own in two classes: what `make_samples.py` makes `reviews_mini` of.

A review is one to three clauses about parts of a film. Praise and blame may be denied ("뻔하지 않았다"), and after
a "-지만" the last clause counts. No sentence is taken from a data set.
"""

from __future__ import annotations

import random

PARTS = {  # what a clause is about → what is said of it: stems of praise, stems of blame
    "배우들 연기": (("훌륭하", "자연스럽", "섬세하", "뛰어나"), ("어색하", "과하", "밋밋하", "답답하")),
    "주인공": (("매력적이", "사랑스럽", "든든하", "멋지"), ("답답하", "비호감이", "평면적이", "밋밋하")),
    "이야기": (("탄탄하", "신선하", "감동적이", "흥미진진하"), ("뻔하", "산만하", "지루하", "억지스럽")),
    "결말": (("통쾌하", "감동적이", "인상적이", "깔끔하"), ("허무하", "뻔하", "찝찝하", "억지스럽")),
    "음악": (("아름답", "웅장하", "인상적이", "감미롭"), ("시끄럽", "거슬리", "밋밋하", "과하")),
    "영상미": (("아름답", "화려하", "눈부시", "뛰어나"), ("조잡하", "칙칙하", "어설프", "촌스럽")),
    "대사": (("재치있", "따뜻하", "맛깔나", "인상적이"), ("유치하", "오글거리", "어색하", "진부하")),
    "연출": (("세련되", "섬세하", "영리하", "탄탄하"), ("엉성하", "산만하", "촌스럽", "진부하")),
    "액션": (("시원하", "통쾌하", "화려하", "짜릿하"), ("지루하", "조잡하", "허술하", "시끄럽")),
    "웃음 포인트": (("확실하", "신선하", "재치있", "유쾌하"), ("유치하", "억지스럽", "뻔하", "진부하")),
}
WHO = (
    "",
    "",
    "",
    "기대했는데 ",
    "친구랑 봤는데 ",
    "주말에 봤는데 ",
    "아이와 봤는데 ",
    "극장에서 봤는데 ",
    "혼자 봤는데 ",
)
BEFORE = ("", "", "정말 ", "너무 ", "꽤 ", "생각보다 ", "솔직히 ", "의외로 ", "끝까지 ")
GOOD = ("또 보고 싶다", "주변에 추천했다", "시간 가는 줄 몰랐다", "돈이 아깝지 않다", "지루할 틈이 없었다",
        "눈물이 났다", "두 번 봐도 좋겠다", "올해 본 것 중 최고다", "별 다섯 개를 준다",
        "여운이 오래 남는다")  # fmt: skip
BAD = ("다시는 안 본다", "추천은 못 하겠다", "시간이 아깝다", "돈이 아까웠다", "웃을 일이 없었다", "중간에 나왔다",
       "졸다가 나왔다", "올해 본 것 중 최악이다", "별 하나도 많다", "남는 것이 없다")  # fmt: skip
_IRREGULAR = {"럽": "러웠", "답": "다웠", "롭": "로웠"}
_PAST = {"하": "했", "이": "이었", "나": "났", "지": "졌", "되": "됐", "있": "있었", "리": "렸", "시": "셨", "프": "펐"}


def _past(stem: str) -> str:
    return stem[:-1] + (_IRREGULAR | _PAST)[stem[-1]]


def _subject(noun: str) -> str:
    return noun + ("이" if (ord(noun[-1]) - ord("가")) % 28 else "가")


def _clause(rng: random.Random, part: str, good: bool, ending: str) -> str:
    """One clause, plain or denied; `ending` follows the stem of the past."""
    denied = rng.random() < 0.25
    stem = rng.choice(PARTS[part][good == denied])
    verb = f"{stem}지 않았" if denied else _past(stem)
    return f"{_subject(part)} {rng.choice(BEFORE)}{verb}{ending}"


def review(rng: random.Random, good: bool) -> str:
    """A review that is for the film, or against it."""
    (first, second, third), against = rng.sample(sorted(PARTS), 3), not good
    end, shape = rng.choice(WHO) + rng.choice(GOOD if good else BAD), rng.randrange(4)
    if shape == 0:  # the last clause decides
        return f"{_clause(rng, first, against, '지만')} {_clause(rng, second, good, '다')}. {end}."
    if shape == 1:
        return f"{rng.choice(WHO)}{_clause(rng, first, good, '고')} {_clause(rng, second, good, '다')}."
    if shape == 2:
        return f"{_clause(rng, first, good, '다')}. {end}!"
    so = f"{_clause(rng, second, good, '고')} {_clause(rng, third, good, '다')}."
    return f"{_clause(rng, first, against, '지만')} {so}"
