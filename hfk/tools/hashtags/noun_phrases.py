"""Noun phrases of a Korean text, as candidates for keywords: by Kiwi or Mecab where installed, else by endings alone.

With an analyzer, a phrase is a run of nouns, over spaces too where no particle stands between (일출 명소 → 일출명소). A
proper noun keeps what follows it (남해 바다 → 남해바다), and two proper nouns stay two (강릉 안목해변). Without one,
`plain` takes particles off the ends of words by a table, minds whether a final consonant agrees with them, and leaves
out what looks like a verb; it needs nothing installed and errs more often. Analyzers are loaded at the first text.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...models.text_cleaning import ANALYZERS as PACKAGES

ANALYZERS = ("auto", *PACKAGES, "plain")
LONGEST = 12
"""Letters of a phrase, spaces aside; longer ones are no hashtags."""
MOST_WORDS = 3


@dataclass(frozen=True)
class Phrase:
    """A noun phrase where it stands.

    Args:
        words: as in the text, one space between words.
        start: place of its first character.
        end: place behind its last.
        proper: whether a proper noun is in it.
    """

    words: str
    start: int
    end: int
    proper: bool = False

    @property
    def tag(self) -> str:
        """Without spaces, as in a hashtag."""
        return self.words.replace(" ", "")


@dataclass(frozen=True)
class Token:
    """A morpheme: its Sejong tag and where it stands."""

    tag: str
    start: int
    end: int


def choose_analyzer(name: str = "auto") -> str:
    """Say which analyzer to use.

    Args:
        name: `kiwi`, `mecab`, `plain`, or `auto` for the first of these that is installed.

    Raises:
        ValueError: for another name.
        ImportError: if the named one is not installed.
    """
    if name not in ANALYZERS:
        raise ValueError(f"analyzer {name!r} is not one of {', '.join(ANALYZERS)}.")
    installed = [known for known, (module, _) in PACKAGES.items() if importlib.util.find_spec(module) is not None]
    if name == "auto":
        return [*installed, "plain"][0]
    if name != "plain" and name not in installed:
        raise ImportError(f'analyzer {name!r} is not installed: pip install {PACKAGES[name][1]}, or "hfk[korean]".')
    return name


def find_phrases(text: str, analyzer: str = "auto") -> list[Phrase]:
    """Find the noun phrases of a text, in order, each as often as it occurs.

    Args:
        text: a Korean text.
        analyzer: as for `choose_analyzer`.

    Example:
        >>> [phrase.tag for phrase in find_phrases("남해 바다의 일출 명소를 걷는다.", "plain")]
        ['남해바다', '남해', '바다', '일출명소', '일출', '명소']
    """
    analyzer = choose_analyzer(analyzer)
    runs = _plain_runs(text) if analyzer == "plain" else _analyzed_runs(text, _analyze(analyzer, text))
    return [phrase for run in runs for phrase in _phrases(text, run)]


# Letters and digits, at least two letters; no measure: 1.2km쯤, 300년, 2층.
_FORM = re.compile(r"(?!\d+(?:[a-z]{1,2}|.)(?:쯤|여|가량|정도|대)?$)(?=(?:\d*[^\W\d]){2})\w+")


@dataclass(frozen=True)
class _Word:
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


# ---------------------------------------------------------------------------------------------------------- analyzers

_NOUNS = frozenset({"NNG", "NNP", "SL", "SH", "XR"})
_INSIDE = _NOUNS | {"XPN", "XSN", "SN", "NNB"}
_loaded: dict[str, Callable[[str], list[Token]]] = {}
_loading = threading.RLock()


def _analyze(name: str, text: str) -> list[Token]:
    with _loading:  # neither is safe in two threads at once
        if name not in _loaded:
            _loaded[name] = {"kiwi": _load_kiwi, "mecab": _load_mecab}[name]()
        return _loaded[name](text)


def _load_kiwi() -> Callable[[str], list[Token]]:
    kiwi = importlib.import_module("kiwipiepy").Kiwi(num_workers=1)
    return lambda text: [Token(t.tag.split("-")[0], t.start, t.start + t.len) for t in kiwi.tokenize(text)]


def _load_mecab() -> Callable[[str], list[Token]]:
    mecab = importlib.import_module("mecab").MeCab()

    def analyze(text: str) -> list[Token]:
        tokens = []
        for found in mecab.parse(text):
            tag = found.feature.pos.split("+")[0]
            tag = {"NNBC": "NNB"}.get(tag, tag)
            if tag == "NNG" and found.feature.semantic == "지명":
                tag = "NNP"
            tokens.append(Token(tag, found.span.start, found.span.end))
        return tokens

    return analyze


def _analyzed_runs(text: str, tokens: list[Token]) -> list[list[_Word]]:
    runs: list[list[_Word]] = []
    place, open_end = 0, -1  # where a run may go on
    while place < len(tokens):
        if tokens[place].tag not in _INSIDE:
            place += 1
            continue
        first = place
        while (
            place < len(tokens)
            and tokens[place].tag in _INSIDE
            and (place == first or tokens[place].start == tokens[place - 1].end)
        ):
            place += 1
        part = tokens[first:place]
        follows = tokens[place] if place < len(tokens) and tokens[place].start == part[-1].end else None
        if follows is not None and follows.tag in ("XSV", "XSA", "VV", "VA", "VX"):  # 설치하다: a verb
            continue
        while part and (
            part[-1].tag in ("SN", "NNB", "XPN")
            or text[part[-1].start : part[-1].end] in ("들", "쯤", "씩", "여", "간")
        ):
            part = part[:-1]
        if not any(token.tag in _NOUNS for token in part):
            continue
        proper = any(token.tag == "NNP" for token in part)
        word = _Word(part[0].start, part[-1].end, proper, part[0].tag == "NNP")
        joins = runs and open_end >= 0 and not text[open_end : word.start].strip(" ") and word.start == open_end + 1
        if joins and not word.leads:
            runs[-1].append(word)
        else:
            runs.append([word])
        open_end = word.end if word.end == tokens[place - 1].end and follows is None else -1
    return runs


# -------------------------------------------------------------------------------------------------------------- plain

_AFTER_CONSONANT = (
    "으로는", "으로도", "이라는", "이라고", "이라면", "으로", "이며", "이나", "이다", "이란", "과의", "과는", "은",
    "을", "이", "과",
)  # fmt: skip
_AFTER_VOWEL = ("라는", "라고", "로는", "로도", "로", "며", "와의", "와는", "는", "를", "가", "와")
_AFTER_ANY = (
    "에서는", "에서도", "에서의", "에게서", "까지는", "까지도", "부터는", "에서", "에게", "에는", "에도", "까지",
    "부터", "마다", "처럼", "보다", "들의", "들은", "들이", "들을", "들과", "입니다", "의", "에",
)  # fmt: skip
_PARTICLES = sorted(
    [(end, True) for end in _AFTER_CONSONANT] + [(end, False) for end in _AFTER_VOWEL]
    + [(end, None) for end in _AFTER_ANY],
    key=lambda pair: -len(pair[0]),
)  # fmt: skip
# Nouns that end like a noun with a particle, or like a verb.
_KEPT_ENDS = re.compile(
    r"(?:놀이|구이|맞이|잡이|걸이|나들이|어린이|길이|높이|넓이|깊이|바다|바닷가|호숫가|강가|회의|강의|창고|저장고)$"
)
_VERBAL = re.compile(
    r"(?:한|된|할|될|든|른|던|다운|로운|러운|까운|가운|적인|어진|아진|겨진|려진|쳐진|워진|해진|지은|높은|좋은|많은|넓은|작은|"
    r"깊은|맑은|밝은|푸른|굽은|같은|하는|되는|있는|없는|오르는|흐르는|이르는|이루는|어지는|아지는|려지는|쳐지는|여지는|해지는|"
    r"워지는|오는|가는|보는|나는|쓰는|주는|내는|도는|하여|되어|해서|돼|져|려|러|어서|아서|하기|보기|따라|통해|위해|대한|관한|"
    r"고|으며|하며|되며|지며|면서|는데|지만|도록|으면|하면|되면|오면|지면|나면|타면|하게|롭게|답게|있게|럽게|함께|르게|히|"
    r"있어|없이|같이|빼어난|뛰어난|이름난|오래|매우|가장|아주|바로|모두|또한|하지만|물론|직접|멀리|가까이|나란히|모든|어느|새로|"
    r"한다|된다|이다|있다|없다|했다|됐다|었다|았다|였다|렸다|졌다|진다|난다|른다|온다|간다|본다|킨다|긴다|친다|인다|린다|는다|"
    r"니다|롭다|같다|좋다|많다|높다|넓다)$"
)
_SHORT_VERBAL = re.compile(r".(?:은|는|를|에|의|며|게)$")
_WORD = re.compile(r"[가-힣A-Za-z0-9]+")


def _plain_runs(text: str) -> list[list[_Word]]:
    runs: list[list[_Word]] = []
    before: tuple[int, bool] | None = None  # the end of the word before, and whether it stands without a particle
    for match in _WORD.finditer(text):
        word = match[0]
        end = _stem(word, at_sentence_end=text[match.end() : match.end() + 1] in (".", "!", "?"))
        if end is None:
            before = None
            continue
        found = _Word(match.start(), match.start() + end, False, False)
        if before is not None and before[1] and match.start() == before[0] + 1 and text[before[0]] == " ":
            runs[-1].append(found)
        else:
            runs.append([found])
        before = match.end(), end == len(word)
    return runs


def _stem(word: str, at_sentence_end: bool) -> int | None:
    """How many letters of a word are its noun; None if it looks like none."""
    if not re.search(r"[가-힣A-Za-z]", word) or re.match(r"\d+[가-힣]?$", word) or word in STOP_WORDS:
        return None
    if _KEPT_ENDS.search(word):
        return len(word)
    if at_sentence_end and word.endswith("이다") and len(word) > 3:
        return len(word) - 2
    if len(word) == 2 and _SHORT_VERBAL.match(word):  # a verb, or one letter with its particle
        return None
    if _VERBAL.search(word) or (at_sentence_end and word.endswith("다")):
        stem = word[:-1]
        return len(stem) if at_sentence_end and _KEPT_ENDS.search(stem) else None
    for particle, consonant in _PARTICLES:
        stem = word[: -len(particle)]
        if len(stem) < 2 or not word.endswith(particle):
            continue
        final = (ord(stem[-1]) - 0xAC00) % 28 if "가" <= stem[-1] <= "힣" else None
        if consonant is not None and final is not None:
            agrees = bool(final) is consonant or (final == 8 and particle.startswith("로"))  # ㄹ takes 로
            if not agrees:
                continue
        return None if stem in STOP_WORDS or _VERBAL.search(stem) else len(stem)
    return len(word) if len(word) > 1 else None


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
