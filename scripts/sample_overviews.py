"""Overviews of invented places for all 128 categories of the tourism tree, from sentences of our own.

`tour_phrases.txt` says of each category how its places are called, what they are, and what is said of them. Here they
become texts of the length that real overviews have, in several styles: a guide's, a list of headings, a visitor's, a
notice's. What says nothing of the category is shared by all, and so are sentences that name places of OTHER categories
nearby: a beach's overview tells of the temple next to it.

`lines` also gives texts that are about no place at all, for the threshold below which an answer is "none of these".
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sample_texts import NAMES, NEARBY, TIMES, TOWNS, fill

PHRASES = Path(__file__).with_name("tour_phrases.txt")

OPENINGS = (
    "{town}에 위치한 {title}은 {what}이다.",
    "{title}은 {town} {near} 부근에 자리한 {what}이다.",
    "{title}은 {what}으로, {town}을 찾는 여행객의 발길이 이어진다.",
    "{what}인 {title}은 {year}년 이후 널리 알려졌다.",
    "* {what}, {title} * {town}에는 {title}이 있다.",
    "{town} {name2}리에 있는 {title}. {what}이다.",
    "{town}의 {title}은 {near}에서 차로 {n}분 거리에 있다.",
    "{title}은 {what}이다.",
    "{what}을 찾는다면 {town} {title}이 제격이다.",
    "{time}에 찾은 {title}은 {what}답게 볼거리가 많았다.",
)
NAMELESS = (
    "{town}에 위치한 이곳은 {what}이다.",
    "{town} {near} 부근에 자리하고 있다. {what}이다.",
    "{what}으로 {year}년부터 사람들이 찾기 시작했다.",
    "이곳은 {what}으로 잘 알려져 있다.",
    "* {what} *",
)
BESIDE = (
    "주변에 {other1}과 {other2}이 있어 함께 둘러보기 좋다.",
    "인근 관광지로는 {other1}, {other2} 등이 있다.",
    "{other1}에서 차로 {n}분 거리이다.",
    "근처의 {other1}과 연계하여 여행하기 좋다.",
    "가는 길에 {other1}도 들러 볼 만하다.",
    "{other1} 옆에 있어 찾기 쉽다.",
)
COMMON = (
    "주차장이 넓고 무료로 이용할 수 있다.",
    "{near}에서 걸어서 {n}분이면 닿는다.",
    "가족 단위 여행객이 많이 찾는다.",
    "연인과 가족이 함께 찾기 좋은 곳이다.",
    "{time}에 특히 아름다워 사진을 찍으려는 사람들이 모인다.",
    "자세한 내용은 누리집에서 확인하거나 전화로 문의하면 된다.",
    "{month}월부터는 찾는 사람이 늘어 미리 예약하는 편이 좋다.",
    "대중교통으로도 쉽게 갈 수 있다.",
    "드라마와 예능 프로그램에 소개되어 널리 알려졌다.",
    "매주 {day}요일은 쉰다.",
    "{town} 나들목에서 {n}분이면 닿을 수 있어 접근성이 좋다.",
    "공기가 맑고 경치가 좋아 도시 생활에 지친 사람들이 휴식을 취하기에 알맞다.",
    "지역 주민뿐 아니라 외국인 관광객도 즐겨 찾는다.",
    "입장료는 어른 {price}원이다.",
    "역사와 자연, 문화가 어우러진 {town}의 자랑이다.",
    "반려동물과 함께 갈 수 있다.",
)


@dataclass(frozen=True)
class Phrases:
    """What is said of one category."""

    endings: tuple[str, ...]
    what: tuple[str, ...]
    sentences: tuple[str, ...]


def read_phrases() -> dict[str, Phrases]:
    """cat3 → what is said of it."""
    found = {}
    for line in PHRASES.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, endings, what, sentences = line.split(" | ")
            found[name] = Phrases(
                tuple(endings.split()), tuple(what.split("/")), tuple(re.split(r"(?<=\.)/", sentences))
            )
    return found


def write_overviews(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Write `count` overviews of every category: pairs of text and cat3, categories by turns."""
    draw, phrases = random.Random(seed), read_phrases()
    for _ in range(count):
        for cat3, own in phrases.items():
            yield write_overview(draw, own, [other for name, other in phrases.items() if name != cat3]), cat3


def write_overview(draw: random.Random, own: Phrases, others: list[Phrases]) -> str:
    """Write one."""
    values = numbers(draw)
    title = f"{draw.choice(NAMES)}{draw.choice(('', ' '))}{draw.choice(own.endings)}"
    values |= {"title": title, "what": fill(draw.choice(own.what), values)}
    values |= {f"other{n}": f"{draw.choice(NAMES)}{draw.choice(draw.choice(others).endings)}" for n in (1, 2)}
    opening = draw.choice(OPENINGS if draw.random() < 0.7 else NAMELESS)
    told = draw.sample(own.sentences, draw.randint(1, min(5, len(own.sentences))))
    told += draw.sample(COMMON, draw.randint(0, 3))
    told += draw.sample(BESIDE, draw.choice((0, 0, 1, 1, 2)))
    draw.shuffle(told)
    if draw.random() < 0.85:
        told.insert(0, opening)
    text = " ".join(fill(sentence, values) for sentence in told)
    if draw.random() < 0.3:  # the polite style of notices
        text = re.sub(r"이다\.", "입니다.", re.sub(r"있다\.", "있습니다.", re.sub(r"한다\.", "합니다.", text)))
    return text


def numbers(draw: random.Random) -> dict[str, str]:
    """Draw what stands in the gaps."""
    first = draw.randint(1, 5)
    return {
        "town": draw.choice(TOWNS), "near": draw.choice(NEARBY), "time": draw.choice(TIMES),
        "name": draw.choice(NAMES), "name2": draw.choice(NAMES), "day": draw.choice("월화수목금"),
        "n": str(draw.randint(10, 60)), "n2": str(draw.choice((90, 100, 120, 150))), "m": str(draw.randint(100, 900)),
        "k": str(draw.randint(2, 9)), "k2": str(draw.randint(11, 19)), "h": draw.choice(("9", "18", "27", "36")),
        "h4": str(draw.randint(300, 1700)), "a": str(first), "b": str(first + 5), "month": str(draw.randint(1, 12)),
        "year": str(draw.randint(1970, 2022)), "year0": str(draw.randint(1600, 1899)),
        "year1": str(draw.randint(1890, 1940)), "price": f"{draw.randint(1, 9)},000",
    }  # fmt: skip
