"""Sentences of our own in four dialects: what `make_samples.py` makes `dialect_mini` of.

A frame is one sentence in the standard language and in four regions; `{time}`, `{food}`, `{place}` and `{thing}` are
drawn. Gyeongsang asks with -노 and -교, Jeju with -우꽈 and ends on -언 or -수다, Jeolla has -당께 and -잉, Chungcheong
-유, -겨 and -슈. No sentence is taken from a data set.
"""

from __future__ import annotations

import random

REGIONS = ("gyeongsang", "jeju", "jeolla", "chungcheong")
WORDS = {
    "time": ("아침", "점심", "저녁", "새벽", "주말", "어제_밤", "초봄", "한여름", "늦가을"),
    "food": ("국수", "떡국", "고구마", "감자", "수제비", "김치전", "미역국", "팥죽", "만두"),
    "place": ("시장", "바닷가", "읍내", "학교", "우체국", "냇가", "병원", "뒷산", "정류장"),
    "thing": ("우산", "가방", "모자", "장갑", "열쇠", "신발", "바구니", "주전자", "호미"),
}
FRAMES = (
    (
        "{time}에 {food} 먹었니?",
        "{time}에 {food} 뭇나?",
        "{time}이 {food} 먹언?",
        "{time}에 {food} 먹었냐잉?",
        "{time}에 {food} 먹은겨?",
    ),
    (
        "{time}에 {place}에 같이 가자.",
        "{time}에 {place}에 같이 가입시더.",
        "{time}이 {place}에 ᄀᆞ치 가게.",
        "{time}에 {place}에 같이 가장께.",
        "{time}에 {place}에 같이 가유.",
    ),
    (
        "{place}에서 {thing} 어디에 두었니?",
        "{place}에서 {thing} 어데 놔뒀노?",
        "{place}에서 {thing} 어디 놔둔?",
        "{place}에서 {thing} 어따 놔뒀당가?",
        "{place}에서 {thing} 워디다 뒀댜?",
    ),
    (
        "{time}에는 {place} 앞이 너무 추워.",
        "{time}에는 {place} 앞이 억수로 춥다 아이가.",
        "{time}인 {place} 앞이 하영 얼언.",
        "{time}에는 {place} 앞이 겁나게 춥당께.",
        "{time}에는 {place} 앞이 겁나 추워유.",
    ),
    (
        "{food} 많이 사서 {place}에 왔어.",
        "{food} 마이 사가 {place}에 왔다 아이가.",
        "{food} 하영 산 {place}에 완.",
        "{food} 솔찬히 사갖고 {place}에 왔당께.",
        "{food} 많이 사서 {place}에 왔슈.",
    ),
    (
        "나는 {time}에 {place}에 안 갈 거야.",
        "내는 {time}에 {place}에 안 갈끼다.",
        "난 {time}이 {place}에 안 갈 거우다.",
        "나는 {time}에 {place}에 안 갈랑께.",
        "지는 {time}에 {place}에 안 갈규.",
    ),
    (
        "{place}에서 파는 {thing} 얼마예요?",
        "{place}에서 파는 {thing} 얼만교?",
        "{place}에서 ᄑᆞ는 {thing} 얼마우꽈?",
        "{place}에서 파는 {thing} 얼마당가요?",
        "{place}에서 파는 {thing} 얼마래유?",
    ),
    (
        "할머니가 {time}에 {food} 만들어 주셨어.",
        "할매가 {time}에 {food} 맹글어 주셨다 아이가.",
        "할망이 {time}이 {food} 멩글아 줘수다.",
        "할매가 {time}에 {food} 맹글어 줬당께.",
        "할머니가 {time}에 {food} 맹글어 주셨슈.",
    ),
    (
        "{place}에서 {thing} 잃어버려서 큰일 났네.",
        "{place}에서 {thing} 잊아뿌가 큰일 났노.",
        "{place}에서 {thing} 일러부런 큰일 나수다.",
        "{place}에서 {thing} 잃어부러서 큰일 나부렀네잉.",
        "{place}에서 {thing} 잃어버려서 큰일 났구먼유.",
    ),
    (
        "{food} 맛있으니까 {time}에 먹어 봐.",
        "{food} 맛있으니까네 {time}에 무 봐라.",
        "{food} 맛조난 {time}이 먹어 봅서.",
        "{food} 맛나붕께 {time}에 먹어 보랑께.",
        "{food} 맛있으니께 {time}에 먹어 봐유.",
    ),
)


def pair(rng: random.Random, frame: int, region: int) -> tuple[str, str]:
    """One sentence in a region's dialect and in the standard language, with the same words."""
    words = {kind: rng.choice(found).replace("_", " ") for kind, found in WORDS.items()}
    return FRAMES[frame][1 + region].format(**words), FRAMES[frame][0].format(**words)
