"""Texts that no model of the Space has anything to say about: other languages, keys struck at random, chat.

What is drawn by one seed calibrates the threshold below which a text is answered as none that the model knows, what is
drawn by another measures it.
"""

from __future__ import annotations

import random


def _words(text: str) -> list[str]:
    return text.split()


ENGLISH = _words(
    """
    the quick brown fox jumps over a lazy dog while people in big cities read short news about trade war weather
    football music and their own small lives every single day
    """
)
CHAT = _words(
    """
    오늘 뭐 먹지 나 지금 너무 졸려 ㅋㅋㅋ 그래서 내가 어제 말했잖아 진짜 미치겠다 왜 답장 안 해 보고 싶어 숙제 다 했어?
    엄마가 전화하래 비밀번호 까먹었어 이거 어떻게 켜는 거야 안녕 반가워 고마워 미안해 잘 자 응 아니 몰라 그냥 그래 헐
    대박 배고파 집에 가고 싶다 내일 시험인데 공부 하나도 안 했어 이 코드 왜 안 돌아가지 에러 나는데 좀 봐 줘 회의
    몇 시야 자료 보내 줄게 확인 부탁해 넵 알겠습니다 수고하세요
    """
)
SYLLABLES = [chr(code) for code in range(0xAC00, 0xD7A4, 7)]
KINDS = ("english", "keys", "chat", "syllables", "letters", "digits")


def foreign_texts(count: int, seed: int) -> list[str]:
    """Draw `count` texts of every kind."""
    draw = random.Random(seed)
    return [_draw(draw, kind) for _ in range(count) for kind in KINDS]


def _draw(draw: random.Random, kind: str) -> str:
    if kind == "english":
        return " ".join(draw.choices(ENGLISH, k=draw.randint(3, 15)))
    if kind == "keys":
        return "".join(draw.choices("asdfghjklqwertyuiop 1234567890", k=draw.randint(5, 30)))
    if kind == "chat":
        return " ".join(draw.choices(CHAT, k=draw.randint(2, 8)))
    if kind == "syllables":
        return " ".join("".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(draw.randint(2, 8)))
    if kind == "letters":
        return "".join(draw.choices("ㅋㅎㅠㅜㄷㄱㅇㅏㅓ", k=draw.randint(3, 20)))
    return " ".join(str(draw.randint(0, 99999)) for _ in range(draw.randint(1, 6)))
