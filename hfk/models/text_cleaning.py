"""Text cleaning: named steps in an order of one's own, saved with a checkpoint as that list of names and arguments.

Nothing here needs a package but `morphemes`, whose analyzer is looked up when the cleaner is made, so that a checkpoint
that can't be served as it was trained says so when it is loaded. Every step gives the same text when it is run on its
own result, `morphemes` and words of a user's own excepted.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any

from transformers.utils import logging

from .hanja_readings import READINGS
from .shared import CONTROL, check_choice, normalize_letters, unescape

logger = logging.get_logger(__name__)

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

ABBREVIATIONS = {
    "3D": "3차원", "4G": "4세대 이동통신", "5G": "5세대 이동통신", "6G": "6세대 이동통신", "AI": "인공지능",
    "AFC": "아시아축구연맹", "AR": "증강현실", "CEO": "최고경영자", "CES": "세계가전전시회",
    "CIA": "미국 중앙정보국", "DLF": "파생결합펀드", "DMZ": "비무장지대", "ECB": "유럽중앙은행",
    "ELS": "주가연계증권", "EPL": "잉글랜드 프로축구", "ETF": "상장지수펀드", "ETN": "상장지수증권",
    "EU": "유럽연합", "FBI": "미국 연방수사국", "FIFA": "국제축구연맹", "FOMC": "미국 연방공개시장위원회",
    "FTA": "자유무역협정", "GDP": "국내총생산", "GPS": "위성항법장치", "IAEA": "국제원자력기구",
    "ICBM": "대륙간탄도미사일", "ICT": "정보통신기술", "IMF": "국제통화기금", "IOC": "국제올림픽위원회",
    "IPO": "기업공개", "IPTV": "인터넷 텔레비전", "IT": "정보기술", "IoT": "사물인터넷", "KAIST": "한국과학기술원",
    "KBL": "한국프로농구", "KBO": "한국프로야구", "KIST": "한국과학기술연구원", "KOVO": "한국배구연맹",
    "KTX": "고속철도", "LA": "로스앤젤레스", "LPGA": "미국 여자프로골프", "LTE": "4세대 이동통신",
    "MLB": "미국 프로야구", "MOU": "양해각서", "MVP": "최우수선수", "MWC": "모바일 박람회",
    "NASA": "미국 항공우주국", "NATO": "북대서양조약기구", "NBA": "미국 프로농구", "NGO": "비정부기구",
    "NSC": "국가안전보장회의", "NYT": "뉴욕타임스", "OECD": "경제협력개발기구", "OLED": "유기발광다이오드",
    "OS": "운영체제", "PGA": "미국 프로골프", "R&D": "연구개발", "RFA": "자유아시아방송",
    "SLBM": "잠수함발사탄도미사일", "SNS": "사회관계망서비스", "SUV": "스포츠유틸리티차", "TF": "전담조직",
    "TV": "텔레비전", "UAE": "아랍에미리트", "UEFA": "유럽축구연맹", "UN": "유엔", "VOA": "미국의 소리",
    "VR": "가상현실", "WHO": "세계보건기구", "WKBL": "한국여자농구연맹", "WNBA": "미국 여자프로농구",
    "WP": "워싱턴포스트", "WSJ": "월스트리트저널", "WTI": "서부텍사스산 원유", "WTO": "세계무역기구",
}  # fmt: skip

TAGS = (
    "NNG", "NNP", "NNB", "NR", "NP", "VV", "VA", "VX", "VCP", "VCN", "MM", "MAG", "MAJ", "IC",
    "JKS", "JKC", "JKG", "JKO", "JKB", "JKV", "JKQ", "JX", "JC", "EP", "EF", "EC", "ETN", "ETM",
    "XPN", "XSN", "XSV", "XSA", "XR", "SF", "SP", "SS", "SE", "SO", "SW", "SL", "SH", "SN", "UN",
    "W_URL", "W_EMAIL", "W_HASHTAG", "W_MENTION", "W_SERIAL", "W_EMOJI",
)  # fmt: skip
"""Part-of-speech tags of the Sejong corpus, and Kiwi's for what it finds on the web; UN is what no analyzer knows."""

DROPPED = (
    "NNB", "NP", "NR", "VCP", "VCN", "MM", "MAG", "MAJ", "IC", "J*", "E*", "XPN", "XSN", "XSV", "XSA", "SF", "SE",
    "SS", "SL", "SN",
)  # fmt: skip
"""What `morphemes` drops by default: particles, endings, affixes, numbers, foreign letters; nouns and verbs stay."""

ANALYZERS = {"kiwi": ("kiwipiepy", "kiwipiepy"), "mecab": ("mecab", "python-mecab-ko")}
"""Analyzer → its module and its package."""
_DICTIONARIES = {"kiwi": "kiwipiepy_model", "mecab": "python-mecab-ko-dic"}

PRESETS: dict[str, list[Any]] = {
    "simple": ["html", "url", "normalize", "hanja_words", "hanja", "symbols", "quotes", "repeat", "whitespace"],
    "elaborate": [
        "html", "url", "normalize", "hanja_words", "hanja", "abbreviations", "numbers", "symbols", "quotes", "repeat",
        "morphemes", "whitespace",
    ],
}  # fmt: skip
"""`simple` writes the same thing one way and needs no package; `elaborate` also filters by part of speech."""


class TextCleaner:
    """Runs steps one after the other.

    Args:
        steps: a preset's name, or a list of steps: each a name, or a mapping of one name to its options. A preset's
            name may stand in the list too.

    Example:
        >>> TextCleaner(["hanja_words", "hanja", "quotes"])("美·中 정상 “訪韓” 무산")
        '미국·중국 정상 "방한" 무산'
        >>> TextCleaner([{"hanja_words": {"words": {"尹": "윤석열"}}}])("尹대통령 訪美")
        '윤석열대통령 訪美'
    """

    def __init__(self, steps: str | Sequence[Any]) -> None:
        self.steps = [_with_version(step) for step in expand_steps(steps)]
        self._functions = [_make(step) for step in self.steps]

    def __call__(self, text: str) -> str:
        """Clean one text; lone surrogates go and control characters become spaces, whatever the steps."""
        text = CONTROL.sub(" ", text.encode("utf-8", "ignore").decode())
        for function in self._functions:
            text = function(text)
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return TextCleaner, (self.steps,)  # the functions hold analyzers; they are made again where they are needed


def expand_steps(steps: str | Sequence[Any]) -> list[Any]:
    """Replace presets by what they stand for, so that what is saved stays the same when a preset changes."""
    if isinstance(steps, str):
        check_choice("text_cleaning", steps, PRESETS)
        steps = [steps]
    if not isinstance(steps, Sequence):
        raise ValueError(f"text_cleaning is a preset ({', '.join(PRESETS)}) or a list of steps, not {steps!r}.")
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
        known_preset = name in PRESETS and not options
        if not known_preset and name not in STEPS:
            raise ValueError(f"text_cleaning has no step {name!r}; it has: {', '.join(STEPS)}.")
        result += PRESETS[name] if known_preset else [{name: dict(options)} if options else name]
    return result


def _parts(step: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return (step, {}) if isinstance(step, str) else next(iter(step.items()))


def _make(step: str | dict[str, Any]) -> Step:
    name, options = _parts(step)
    known = inspect.signature(_WITH_OPTIONS[name]).parameters if name in _WITH_OPTIONS else {}
    for option in options:
        if option not in known:
            has = f"it has: {', '.join(known)}" if known else "it has none"
            raise ValueError(f"text_cleaning: step {name!r} has no option {option!r}; {has}.")
    try:
        return _PLAIN[name] if name in _PLAIN else _WITH_OPTIONS[name](**options)
    except ValueError as error:
        raise ValueError(f"text_cleaning: step {name!r}: {error}") from None


def _with_version(step: str | dict[str, Any]) -> str | dict[str, Any]:
    """Note which analyzer takes the texts apart, if the step does not say it yet."""
    name, options = _parts(step)
    analyzer = options.get("analyzer", "kiwi")
    if name != "morphemes" or "version" in options or analyzer not in ANALYZERS:
        return step
    return {name: options | {"version": analyzer_version(analyzer)}}


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
_NUMBER_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
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


def numbers(text: str) -> str:
    """Take the comma out of 1,350."""
    return _NUMBER_COMMA.sub("", text) if "," in text else text


def repeat(limit: int = 2) -> Step:
    """Shorten runs of one letter or sign to `limit`: ㅋㅋㅋㅋ → ㅋㅋ, !!!! → !!. Digits, capitals and Hanja stay."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit must be a whole number of at least 1, not {limit!r}.")
    run = re.compile(rf"([ㄱ-ㆎ가-힣a-z!?.,~…^♥♡★☆※*=_-])\1{{{limit},}}")
    return lambda text: run.sub(lambda match: match[1] * limit, text)


def whitespace(text: str) -> str:
    """Take out characters that no one sees, and write every run of white space as one space."""
    return " ".join(_INVISIBLE.sub("", text).split())


# -- Hanja, abbreviations


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


def abbreviations(words: Replacements = None) -> Step:
    """Spell out English abbreviations in Korean: IMF가 → 국제통화기금이; `words` are added to `ABBREVIATIONS`."""
    found = _merge(ABBREVIATIONS, words, "words")
    pattern = _alternatives(found, r"(?<![A-Za-z0-9])({})(?![A-Za-z0-9])")
    return lambda text: pattern.sub(_expand(found), text)


_PARTICLES = (
    ("은", "는"),
    ("이", "가"),
    ("을", "를"),
    ("과", "와"),
    ("으로", "로"),
)  # after a consonant, after a vowel
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
        raise ValueError(f"{option} must map words to what replaces them, not {given!r}.")
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


# -- morphemes


def morphemes(
    analyzer: str = "kiwi", drop: list[str] | None = None, keep: list[str] | None = None, version: str | None = None
) -> Step:
    """Take a text apart into morphemes and leave out some by their part of speech; those left are joined by spaces.

    A text of letters or digits of which nothing would be left, such as a product's name alone, stays as it is.

    Args:
        analyzer: `kiwi` (package kiwipiepy) or `mecab` (python-mecab-ko); their tags are brought to those of `TAGS`.
        drop: tags to leave out, `DROPPED` by default; "J*" stands for all that begin with J.
        keep: in place of `drop`: the tags that stay.
        version: of the analyzer in training, noted by `TextCleaner`; others may take words apart in another way.
    """
    check_choice("analyzer", analyzer, ANALYZERS)
    if drop is not None and keep is not None:
        raise ValueError("say drop or keep, not both.")
    if keep is not None:
        left = _match_tags(keep, "keep")
    else:
        left = set(TAGS) - _match_tags(DROPPED if drop is None else drop, "drop")
    module, package = ANALYZERS[analyzer]
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f"texts are cleaned with the analyzer {analyzer!r} here, which is not installed: pip install {package}, or "
            '"hfk[korean]".'
        )
    installed = analyzer_version(analyzer)
    if version is not None and version != installed:
        logger.warning(
            f"texts were cleaned with {version} in training, and {installed} is here: it may take words apart in "
            "another way, which changes answers."
        )

    def analyze(text: str) -> str:
        found = " ".join(form for form, tag in _analyze(analyzer, text) if tag in left)
        return found or (text if any(map(str.isalnum, text)) else "")

    # Analysis costs a hundred times what the other steps do, and training sees each text once an epoch. Longer texts
    # are not held, so that the memory this takes has a bound.
    remembered = lru_cache(maxsize=1 << 16)(analyze)
    return lambda text: remembered(text) if len(text) <= 200 else analyze(text)


def _match_tags(tags: Any, option: str) -> set[str]:
    if isinstance(tags, str) or not isinstance(tags, Sequence):
        raise ValueError(f"{option} must be a list of part-of-speech tags, not {tags!r}.")
    found = set()
    for tag in tags:
        stem = str(tag).removesuffix("*")
        matched = [known for known in TAGS if known == tag or (stem != str(tag) and known.startswith(stem))]
        if not matched:
            raise ValueError(
                f"there is no part-of-speech tag {tag!r}; there are {' '.join(TAGS)}, and J*, E* and the like."
            )
        found.update(matched)
    return found


Analyzer = Callable[[str], list[tuple[str, str]]]
_loaded: dict[tuple[str, int], Analyzer] = {}
_locks: dict[int, threading.Lock] = {}  # by process: who holds a lock at a fork isn't in the child to give it back


def analyzer_version(name: str) -> str | None:
    """Say which packages an analyzer is here, as "kiwipiepy 0.22.0, kiwipiepy_model 0.22.0"; None if it is not."""
    try:
        packages = (ANALYZERS[name][1], _DICTIONARIES[name])
        return ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    except metadata.PackageNotFoundError:
        return None


def _analyze(name: str, text: str) -> list[tuple[str, str]]:
    """Take a text apart, one at a time, for Mecab's tagger keeps the sentence it is at.

    An analyzer is loaded at a process's first text: that takes seconds, and a fork does not copy threads.
    """
    key = name, os.getpid()
    with _locks.setdefault(os.getpid(), threading.Lock()):
        if key not in _loaded:
            _loaded[key] = {"kiwi": _load_kiwi, "mecab": _load_mecab}[name]()
        return _loaded[key](text)


def _load_kiwi() -> Analyzer:
    kiwi = importlib.import_module("kiwipiepy").Kiwi(num_workers=1)
    return lambda text: [(token.form, _sejong(token.tag, token.form)) for token in kiwi.tokenize(text)]


def _load_mecab() -> Analyzer:
    mecab = importlib.import_module("mecab").MeCab()

    def analyze(text: str) -> list[tuple[str, str]]:
        result = []
        for found in mecab.parse(text):
            parts = [[found.surface, found.feature.pos]]
            if found.feature.type == "Inflect" and found.feature.expression:
                # "아름답/VA/*+ᆫ/ETM/*": the parts, not the contracted whole
                parts = [part.split("/") for part in found.feature.expression.split("+")]
            result += [(part[0], _sejong(part[1], part[0])) for part in parts if len(part) > 1]
        return result

    return analyze


_SAME_TAG = {"NNBC": "NNB", "SSO": "SS", "SSC": "SS", "SC": "SP", "SB": "SW", "XSM": "XSA", "Z_CODA": "EF"}
_SIGN_TAGS = {"SF": ".?!", "SE": "…", "SS": "\"'“”‘’()[]<>{}", "SP": ",·:/", "SO": "-~"}


@lru_cache(maxsize=4096)
def _sejong(tag: str, form: str) -> str:
    """An analyzer's tag in the words of the Sejong corpus."""
    if tag == "SY":  # Mecab's for most signs, and for two of any
        return next((kind for kind, signs in _SIGN_TAGS.items() if all(sign in signs for sign in form)), "SW")
    tag = tag.split("+")[0].split("-")[0]  # a compound's first part; Kiwi's mark of irregular verbs
    tag = _SAME_TAG.get(tag, "NNP" if tag.startswith("USER") else tag)
    return tag if tag in TAGS else "UN"


_PLAIN: dict[str, Step] = {
    step.__name__: step for step in (html, url, normalize, hanja, numbers, symbols, quotes, whitespace)
}
_WITH_OPTIONS: dict[str, Callable[..., Step]] = {
    step.__name__: step for step in (hanja_words, abbreviations, repeat, morphemes)
}
STEPS = _PLAIN | _WITH_OPTIONS
"""Step name → the step itself, or the function that makes it of its options."""
