"""Text cleaning: named steps in an order of one's own, saved with a checkpoint as that list of names and arguments.

Nothing here needs a package. Every step gives the same text when it is run on its own result, words of a user's own
excepted. Leaving out parts of speech and spelling out abbreviations are gone: no model was better for it
(benchmarks/README.md).
"""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from .hanja_readings import READINGS
from .shared import CONTROL, normalize_letters, unescape

Step = Callable[[str], str]
Replacements = Mapping[str, str | None] | None
HANJA = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # for a regular expression

# As headlines write them with one sign. Surnames (朴, 安, 尹 …) are read as they sound: whose they are changes.
HANJA_WORDS = {
    "美": "미국", "北": "북한", "韓": "한국", "中": "중국", "日": "일본", "英": "영국", "獨": "독일",
    "佛": "프랑스", "伊": "이탈리아", "印": "인도", "亞": "아시아", "南": "남한", "露": "러시아", "蘇": "소련",
    "臺": "대만", "台": "대만", "濠": "호주", "越": "베트남", "泰": "태국", "靑": "청와대", "青": "청와대",
    "與": "여당", "野": "야당", "檢": "검찰", "警": "경찰", "軍": "군", "文": "문재인", "中企": "중소기업",
    "外人": "외국인",
}  # fmt: skip
# Behind a name they stand for a longer word than at its beginning: 현대重, 우리銀, 신세계百, 기계硏, 방통委.
HANJA_SUFFIXES = {"重": "중공업", "銀": "은행", "百": "백화점", "硏": "연구원", "研": "연구원", "委": "위원회"}

SIMPLE = ["html", "url", "normalize", "hanja_words", "hanja", "symbols", "quotes", "repeat", "whitespace"]
"""The preset `simple`: the same thing is written one way."""
MAX_STEPS, MAX_WORDS, MAX_WORD = 64, 10_000, 100
"""Of a checkpoint: how many steps and words of its own it may have, and how long what takes a word's place may be."""
_GONE = ("elaborate", "abbreviations", "numbers", "morphemes")  # what a checkpoint of before may name


class TextCleaner:
    """Runs steps one after the other.

    Args:
        steps: `simple`, or a list of steps: each a name, `simple` among them, or a mapping of one name to its options.

    Example:
        >>> TextCleaner(["hanja_words", "hanja", "quotes"])("美·中 정상 “訪韓” 무산")
        '미국·중국 정상 "방한" 무산'
        >>> TextCleaner([{"hanja_words": {"words": {"尹": "윤석열"}}}])("尹대통령 訪美")
        '윤석열대통령 訪美'
    """

    def __init__(self, steps: str | Sequence[Any]) -> None:
        self.steps = expand_steps(steps)
        self._functions = [_make(step) for step in self.steps]

    def __call__(self, text: str) -> str:
        """Clean one text; lone surrogates go and control characters become spaces, whatever the steps."""
        text = CONTROL.sub(" ", text.encode("utf-8", "ignore").decode())
        most = 4 * len(text) + 1_000  # where words are written out again and again
        for function in self._functions:
            text = function(text)[:most]
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return TextCleaner, (self.steps,)  # the functions can't be pickled; they are made again


def expand_steps(steps: str | Sequence[Any]) -> list[Any]:
    """Replace `simple` by what it stands for, so that what is saved stays the same when it changes."""
    if isinstance(steps, str):
        steps = [steps]
    if not isinstance(steps, Sequence):
        raise ValueError(f"text_cleaning is `simple` or a list of steps, not {steps!r}.")
    result: list[Any] = []
    for step in steps:
        name, options = step, {}
        if isinstance(step, Mapping) and len(step) == 1:
            ((name, options),) = step.items()
        if not isinstance(name, str) or not isinstance(options or {}, Mapping):
            raise ValueError(
                f"text_cleaning: {step!r} is no step; write a name, or a name with its options, such as "
                "{repeat: {limit: 2}}."
            )
        if name in _GONE:
            raise ValueError(f"text_cleaning: {name!r} is gone, for no model was better with it; train again without.")
        if name == "simple" and not options:
            result += SIMPLE
        elif name in STEPS:
            result.append({name: dict(options)} if options else name)
        else:
            raise ValueError(f"text_cleaning has no step {name!r}; it has: simple, {', '.join(STEPS)}.")
    if len(result) > MAX_STEPS:
        raise ValueError(f"text_cleaning has {len(result):,} steps; {MAX_STEPS} are the most.")
    return result


def _make(step: str | dict[str, Any]) -> Step:
    name, options = (step, {}) if isinstance(step, str) else next(iter(step.items()))
    known = inspect.signature(_WITH_OPTIONS[name]).parameters if name in _WITH_OPTIONS else {}
    for option in options:
        if option not in known:
            has = f"it has: {', '.join(known)}" if known else "it has none"
            raise ValueError(f"text_cleaning: step {name!r} has no option {option!r}; {has}.")
    try:
        return _PLAIN[name] if name in _PLAIN else _WITH_OPTIONS[name](**options)
    except ValueError as error:
        raise ValueError(f"text_cleaning: step {name!r}: {error}") from None


# -- markup, signs

_AMPERSANDS = re.compile(r"&(?:amp;)+(?=#?\w+;)")
_HIDDEN = re.compile(r"<(!--|(?:script|style)\b[^<>]*>)", re.IGNORECASE)
_ENDS = {start: re.compile(end, re.IGNORECASE)
         for start, end in (("!--", "-->"), ("scr", r"</script\s*>"), ("sty", r"</style\s*>"))}  # fmt: skip
_ELEMENTS = (
    "a abbr article aside b blockquote body br button caption center cite code col dd del div dl dt em embed "
    "figcaption figure font footer form h[1-6] head header hr html i iframe img input ins label li link main "
    "mark meta nav o:p object ol option p param pre q s script section select small source span strike "
    "strong style sub sup svg table tbody td textarea tfoot th thead title tr u ul video"
)
_BOOLEAN = "allowfullscreen async autoplay checked controls defer disabled hidden loop muted nowrap open selected"
# An element's own attributes, so that "a<b 이고 c>d" stays.
_MARKUP = re.compile(
    rf"</?(?:{_ELEMENTS.replace(' ', '|')})(?:\s+(?:{_BOOLEAN.replace(' ', '|')}))*"
    r"(?:\s+[a-z][a-z0-9:_-]*\s*=[^<>]*)?\s*/?>|<![a-z][^<>]*>",
    re.IGNORECASE | re.ASCII,
)
_URL = re.compile(
    r"(?:https?://|www\.)[^\s가-힣<>\"']+|(?<![\w.+-])[\w.+-]+@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+", re.ASCII
)
_COMPATIBILITY_JAMO = re.compile("[^\u3131-\u318e…]+")
_HALFWIDTH_JAMO = {point: int(unicodedata.decomposition(chr(point)).split()[1], 16)
                   for point in range(0xFFA0, 0xFFDD) if unicodedata.decomposition(chr(point))}  # fmt: skip


def _table(signs_of: Mapping[str, str]) -> dict[int, str]:
    return {ord(sign): plain for plain, signs in signs_of.items() for sign in signs}


_SIGNS = _table({
    "·": "\u318d\u119e\u2027\u2022\u2219\u22c5\u30fb\uff65\u0387", "→": "⇒⇨➔➙➜➝➞➡▶►▷⟶", "~": "∼～〜˜", "-": "‐‑‒–—―−",
    "…": "⋯︙", "x": "×✕✖",
})  # fmt: skip
_QUOTES = _table({
    '"': "“”„‟″〝〞＂《》『』«»", "'": "‘’‚‛′´`＇〈〉「」‹›", "[": "【〔［｢", "]": "】〕］｣", "(": "（❨", ")": "）❩",
})  # fmt: skip
_ELLIPSIS = re.compile(r"(?:\.{2,}|‥|…)+")
_INVISIBLE = re.compile(
    "[\u00ad\u115f\u1160\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2064\u3164\ufeff\uffa0]"
)


def html(text: str) -> str:
    """Resolve entities, even where they were escaped twice, and put a space for each tag, comment, script or style.

    Only HTML's own elements are tags: `<KBS 뉴스>` stays.
    """
    text = unescape(_AMPERSANDS.sub("&", text)) if "&" in text else text
    return _MARKUP.sub(" ", _without_hidden(text)) if "<" in text else text


def _without_hidden(text: str) -> str:
    """Cut comments, scripts and styles that end. One `.*?` would take minutes on a text that only begins them."""
    parts, place, endless = [], 0, set()
    for start in _HIDDEN.finditer(text):
        kind = start[1][:3].lower()
        if start.start() < place or kind in endless:
            continue
        end = _ENDS[kind].search(text, start.end())
        if end is None:
            endless.add(kind)
            continue
        parts += [text[place : start.start()], " "]
        place = end.end()
    return "".join([*parts, text[place:]])


def url(text: str) -> str:
    """Put a space for web and mail addresses; Hangul behind one ("…co.kr에서") stays."""
    return _URL.sub(" ", text) if "." in text or "://" in text else text


def normalize(text: str) -> str:
    """Unify how letters are encoded, by NFKC but for single letters such as ㅋ, and ….

    NFKC would turn those letters into half syllables, which no tokenizer knows, and … into three stops.
    """
    if text.isascii():
        return text
    return _COMPATIBILITY_JAMO.sub(lambda part: normalize_letters(part[0], "NFKC"), text.translate(_HALFWIDTH_JAMO))


def symbols(text: str) -> str:
    """Write dots of all kinds as ·, arrows as →, dashes as -, tildes as ~, and two stops or more as …."""
    return text if text.isascii() and ".." not in text else _ELLIPSIS.sub("…", text.translate(_SIGNS))


def quotes(text: str) -> str:
    """Write quotation marks as " and ' (《》 and 『』 are double ones in Korean spelling), brackets as [ ] and ( )."""
    return text if text.isascii() else text.translate(_QUOTES)


def repeat(limit: int = 2) -> Step:
    """Shorten runs of one letter or sign to `limit`: ㅋㅋㅋㅋ → ㅋㅋ, !!!! → !!. Digits, capitals and Hanja stay."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit must be a whole number of at least 1, not {limit!r}.")
    run = re.compile(rf"([ㄱ-ㆎ가-힣a-z!?.,~…^♥♡★☆※*=_-])\1{{{limit},}}")
    return lambda text: run.sub(lambda match: match[1] * limit, text)


def whitespace(text: str) -> str:
    """Take out characters that no one sees, and write every run of white space as one space."""
    return " ".join(_INVISIBLE.sub("", text).split())


# -- Hanja


def hanja_words(words: Replacements = None, suffixes: Replacements = None) -> Step:
    """Spell out the Hanja abbreviations of headlines: 美 → 미국, and behind a name 현대重 → 현대중공업.

    Only before a space, a sign or Hangul ("日정부"), never inside a word of several Hanja, which are for `hanja`. The
    particle behind one then fits the longer word: 美와 → 미국과.
    `words` and `suffixes` are added to `HANJA_WORDS` and `HANJA_SUFFIXES`; null takes one out.
    """
    found = _merge(HANJA_WORDS, words, "words")
    behind = _merge(HANJA_SUFFIXES, suffixes, "suffixes")
    first = _alternatives(found, rf"(?<!\w)({{}})(?![0-9{HANJA}])")
    second = _alternatives(behind, rf"(?<=[가-힣A-Za-z])({{}})(?![{HANJA}])")
    return lambda text: second.sub(_expand(behind), first.sub(_expand(found), text))


# After a consonant, after a vowel.
_PARTICLES = (("은", "는"), ("이", "가"), ("을", "를"), ("과", "와"), ("으로", "로"))
_PARTICLE = f"(?:({'|'.join(one for pair in _PARTICLES for one in pair)})(?=(?:의|는|도|만|서|써)?(?![가-힣])))?"


def _expand(words: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    """What puts words in place of what `_alternatives` finds, with the particle that fits."""

    def replace(match: re.Match[str]) -> str:
        word, particle = words[match[1]], match[2] or ""
        if particle and word and "가" <= word[-1] <= "힣":
            final = (ord(word[-1]) - 0xAC00) % 28
            closed = final not in (0, 8) if particle in ("으로", "로") else final != 0  # 서울로
            particle = next(pair[0 if closed else 1] for pair in _PARTICLES if particle in pair)
        return word + particle

    return replace


def _merge(own: dict[str, str], given: Replacements, option: str) -> dict[str, str]:
    given = given or {}
    if not isinstance(given, Mapping) or not all(
        isinstance(word, str) and word and isinstance(replacement, str | None) for word, replacement in given.items()
    ):
        raise ValueError(f"{option} must map words to what replaces them, not {given!r:.200}.")
    if len(given) > MAX_WORDS or any(len(word or "") > MAX_WORD for word in given.values()):
        raise ValueError(f"{option} may be {MAX_WORDS:,} words, and what replaces one {MAX_WORD} characters long.")
    return {word: replacement for word, replacement in {**own, **given}.items() if replacement is not None}


def _alternatives(words: Mapping[str, str], pattern: str) -> re.Pattern[str]:
    listed = "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))
    return re.compile(pattern.format(listed or r"(?!)") + _PARTICLE)


_HANJA_RUN = re.compile(f"[{HANJA}]+")
# One reading each is right for most words; these are the words of the news in which it is another.
_READING_OF = {"車": "차", "更": "경", "畫": "화", "滑": "활", "廓": "곽", "暈": "훈", "研": "연"}
_LONE = {"金": "김", "茶": "차", "沈": "심"}  # a surname, or a word of its own
_WORDS = {
    "自轉車": "자전거", "人力車": "인력거", "停車場": "정거장", "更新": "갱신", "更生": "갱생", "更年期": "갱년기",
    "復活": "부활", "復興": "부흥", "敗北": "패배", "相殺": "상쇄", "殺到": "쇄도", "省略": "생략", "容易": "용이",
    "難易": "난이", "簡易": "간이", "安易": "안이", "平易": "평이", "音樂": "음악", "樂器": "악기", "樂團": "악단",
    "聲樂": "성악", "國樂": "국악", "農樂": "농악", "樂譜": "악보", "樂曲": "악곡", "樂章": "악장", "遊說": "유세",
    "標識": "표지", "沙糖": "사탕", "砂糖": "사탕", "雪糖": "설탕", "降伏": "항복", "降服": "항복", "投降": "투항",
    "謁見": "알현", "便所": "변소", "小便": "소변", "大便": "대변", "便器": "변기", "人參": "인삼", "紅參": "홍삼",
    "海參": "해삼", "山參": "산삼", "綠茶": "녹차", "紅茶": "홍차", "茶禮": "차례", "宅內": "댁내", "率直": "솔직",
    "輕率": "경솔", "引率": "인솔", "統率": "통솔", "憎惡": "증오", "嫌惡": "혐오", "一切": "일체", "要塞": "요새",
    "令狀": "영장", "賞狀": "상장", "暴惡": "포악", "橫暴": "횡포", "龜裂": "균열", "拓本": "탁본", "洞察": "통찰",
    "訴狀": "소장", "告發狀": "고발장", "委任狀": "위임장", "信任狀": "신임장", "推薦狀": "추천장", "招請狀": "초청장",
    "招待狀": "초대장", "請牒狀": "청첩장", "案內狀": "안내장", "感謝狀": "감사장", "挑戰狀": "도전장", "計畫": "계획",
    "企畫": "기획", "區畫": "구획", "畫期": "획기", "畫一": "획일", "金海": "김해", "金浦": "김포", "金泉": "김천",
    "金堤": "김제", "金九": "김구", "金氏": "김씨", "承諾": "승낙", "受諾": "수락", "許諾": "허락", "大怒": "대로",
    "十月": "시월", "六月": "유월",
    "金正恩": "김정은", "金正日": "김정일", "金日成": "김일성", "金大中": "김대중", "金泳三": "김영삼",
}  # fmt: skip
# Words of their own also as the second part of a compound, where the first sound changes too: 국민연금, 해외여행.
_COMPOUNDED = (
    "年金 年俸 年度 年齡 女性 女子 女王 女優 女高 女大 落選 落札 來日 來韓 冷房 冷戰 老人 老朽 勞動 勞使 "
    "勞組 路線 露出 綠色 錄音 論文 論理 論議 論爭 論難 量産 力量 歷史 旅客 旅券 旅行 連帶 聯盟 聯邦 聯合 "
    "戀愛 練習 列車 廉恥 零下 領空 領事 領域 領土 領海 例外 禮節 料金 料理 療法 龍山 流入 流出 流通 流行 "
    "留學 陸軍 陸上 倫理 離婚 利益 利用 利子 理念 理論 理事 理解 臨床 臨時 立法 立場"
)
_YEARS = "少靑青今昨每來數多學老中壯幼當前後週周停定豊凶明千百十"  # before 年 they are one word with it: 청소년 금융
_SECOND = rf"(?:(?<=..)|(?<=[新舊非反總駐]))(?<![{_YEARS}](?=年))(?:{_COMPOUNDED.replace(' ', '|')})"
_WORD_OR_SIGN = re.compile("|".join([*sorted(_WORDS, key=len, reverse=True), _SECOND, "."]))
_GOLD = tuple("融利額錢屬庫塊銀曜冠賞品剛門星山言色字管型髮箔鑛製一城光石泉")  # behind 金, of which it is gold
_INITIAL = dict(zip("녀뇨뉴니라래로뢰루르랴려례료류리", "여요유이나내노뇌누느야여예요유이", strict=True))


def hanja(text: str) -> str:
    """Write Hanja as Hangul, with the changes that spelling asks for at the beginning of a word and after a vowel."""
    return text if text.isascii() else _HANJA_RUN.sub(_read, text)


def _read(match: re.Match[str]) -> str:
    text, start = match.string, match.start()
    before = text[start - 1] if start else ""
    run = unicodedata.normalize("NFC", match[0])  # compatibility ideographs
    if len(run) == 1 and run in _LONE and not before.isalnum() and not text.startswith(_METAL, match.end()):
        return _LONE[run]
    return _read_signs(run, before, text[match.end() :][:1])


def _read_signs(run: str, before: str, after: str) -> str:
    """Read a run of Hanja between two signs."""
    readings, result, place = _readings(), "", 0
    if len(run) > 2 and run[0] == "金" and not before.isalnum() and not run[1:].startswith(_GOLD):
        readings = readings | {"金": "김"}  # a name: 金哲洙
    for piece in _WORD_OR_SIGN.findall(run):
        place += len(piece)
        if piece in _WORDS:
            result += _WORDS[piece]
        elif piece in readings:
            following = readings.get(run[place], "") if place < len(run) else after
            result += _spell(piece, readings[piece], (result or before)[-1:], following)
        elif len(piece) > 1:
            result += _read_signs(piece, "", run[place : place + 1] or after)
        else:  # a sign that Korean does not use
            result += piece
    return result


# 金 before these is gold, not a surname.
_METAL = (
    *("메달", "값", "은", "·銀", "·은", "과 銀", "과 은", "테크", "거래", "반지", "괴", "광", "목걸이", "도금"),
    *(" 값", " 가격", " 시세", " 투자", " 선물", " 거래"),
)


def _spell(sign: str, syllable: str, previous: str, following: str) -> str:
    if sign == "不" and following and "가" <= following <= "힣" and (ord(following) - 0xAC00) // 588 in (3, 12):
        return "부"  # before ㄷ and ㅈ: 부동산, 부정
    if not previous.isalnum():
        return _at_the_beginning(syllable)
    if syllable in ("렬", "률") and "가" <= previous <= "힣" and (ord(previous) - 0xAC00) % 28 in (0, 4):
        return "열" if syllable == "렬" else "율"  # after a vowel or ㄴ: 비율, 선율, but 능률
    return syllable


@lru_cache(maxsize=1)
def _readings() -> dict[str, str]:
    """Hanja → reading, from the table in which each syllable is followed by what is read so."""
    readings, syllable = {}, ""
    for sign in READINGS:
        if "가" <= sign <= "힣":
            syllable = sign
        elif not sign.isspace():
            readings[sign] = syllable
    return readings | _READING_OF


@lru_cache(maxsize=512)
def _at_the_beginning(syllable: str) -> str:
    """Change the first sound: 녀 → 여, 로 → 노, 량 → 양, whatever consonant ends the syllable."""
    final = (ord(syllable) - 0xAC00) % 28
    return chr(ord(_INITIAL.get(chr(ord(syllable) - final), chr(ord(syllable) - final))) + final)


_PLAIN: dict[str, Step] = {step.__name__: step for step in (html, url, normalize, hanja, symbols, quotes, whitespace)}
_WITH_OPTIONS: dict[str, Callable[..., Step]] = {step.__name__: step for step in (hanja_words, repeat)}
STEPS = _PLAIN | _WITH_OPTIONS
"""Step name → the step itself, or the function that makes it of its options."""
