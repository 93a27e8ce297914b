"""What each column of a table is: its form (pictures, numbers, lists, long texts, few values), and what its name says.

A column is scored as a target: `label`, `분류` and the like are meant to be learned, dates, ages, counters and names of
people are not, whatever their values look like. What scores below 0 is a doubtful head, which is proposed in a comment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...tasks.columns import is_missing, label_name, marks, read_list, read_number
from ...tasks.folders import IMAGE_SUFFIXES
from ...tasks.names import canonical, whole_number
from ...tasks.source import split_name

MANY_LABELS = 300
RARE = 20  # rows below which a value of a long-tailed multi-label column is left out
SEPARATORS = (" . ", " | ", "|", "; ", ";", ", ", ",", " / ", "/", " #", "\t")
LEVELS = (" > ", ">", "›", "»")
LABELED = ("label", "labels", "marks", "levels", "number")
"""Roles that can be heads."""

_WORDS = {  # words of a name → what they say of it
    "target": (
        "label labels gold class classes category categories target y topic intent sentiment emotion emotions genre "
        "tag tags polarity stance rating score stars star grade similarity answer 라벨 레이블 분류 유형 카테고리 감정 "
        "의도 주제 정답 클래스 태그 종류 대분류 중분류 소분류 세분류 등급 평점 별점 점수 유사도 장르 극성 "
        "choices majority consensus final 최종 다수결"
    ),
    "text": (
        "text sentence document comment comments review reviews content contents body title question utterance "
        "overview message description 문장 내용 본문 제목 리뷰 질문 댓글 텍스트 발화 후기 설명 상품명 문의"
    ),
    "group": (
        "author user userid speaker patient writer reviewer customer conversation dialogue dialog thread 작성자 이용자 "
        "사용자 유저 화자 환자 고객 닉네임 대화 글쓴이 회원"
    ),
    "id": "id ids idx index guid uuid hash key no num number seq 번호 순번 아이디 식별자",
    "date": "date time datetime timestamp created updated year month day 날짜 일시 일자 작성일 등록일 시간 연도 년도",
    "about": (
        "age sex annotator annotators worker rater votes vote count cnt views likes clicks reads length len size width "
        "height xmin xmax ymin ymax bbox lat lng lon latitude longitude phone tel zip url link href source src version "
        "fold weight agreement confidence ip email address utc completed total cancelled "
        "project days press publisher reporter "
        "언론사 매체 기자 출판사 일수 수량 나이 연령 연령대 성별 검수자 작업자 평가자 조회수 "
        "추천수 좋아요 공감수 댓글수 개수 건수 횟수 위도 경도 전화 주소 출처 링크 버전 길이"
    ),
    "perhaps": "region city country lang language locale province status price 지역 시도 시군구 언어 상태 가격 금액",
}
_SAYS = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_RATES = frozenset("rating score stars star grade similarity 평점 별점 점수 등급 유사도".split())  # noqa: SIM905
_SCORES = {"target": 2, "perhaps": -1, "about": -2, "date": -2, "id": -2, "group": -2}
_DECIMAL_COMMA = re.compile(r"-?\d+,\d{1,2}")
_TIME = r"(?:[\s\d:.,+()TZ-]|오전|오후|AM|PM|am|pm|GMT|UTC|KST|[월화수목금토일](?:요일)?|\d시|\d분|\d초){0,32}"
_DATE = re.compile(
    rf"(19|20)\d\d\s*[-./년]\s*\d{{1,2}}월?(\s*[-./]?\s*\d{{1,2}}일?)?{_TIME}|(19|20)\d\d[01]\d[0-3]\d|"
    rf"\d{{1,2}}[-/.]\d{{1,2}}[-/.](19|20)?\d\d{_TIME}|\d{{1,2}}:\d\d(:\d\d)?"
)
_MEASURE = 0.3  # share of digits in short values, above which they are sizes and codes, not sentences


@dataclass(eq=False)
class Column:
    """One column, and what was found out about it; `codes` number its cells by value, -1 where missing."""

    name: str
    cells: list[Any]
    role: str = "left out"
    why: str = ""
    score: float = 0  # as a target
    separator: str | None = None
    min_rows: int = 1
    parent: str | None = None
    conflicts: int = 0  # rows that put a label under another parent than most rows do
    qualify: bool = False
    labels: Any = None  # what the YAML says under `labels:`
    columns: list[str] = field(default_factory=list)  # of a head that has one column a label
    levels: list[str] = field(default_factory=list)
    exclusive: bool = False  # one label a row, although the form has room for several
    values: list[str] = field(default_factory=list)  # the different values, as text
    codes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=int))
    counts: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=int))
    image_dir: str = ""
    image: str = ""  # a pattern of the file names

    def __post_init__(self) -> None:
        texts = [cell if type(cell) is str or cell is None else _spelled(cell) for cell in self.cells]
        raw, uniques = pd.factorize(np.array(texts, dtype=object))
        given = np.array([not is_missing(value) for value in uniques], dtype=bool)
        raw = np.append(np.where(given, np.cumsum(given) - 1, -1), -1)[raw]
        names = [canonical(value) for value, there in zip(uniques, given, strict=True) if there]
        if all(re.fullmatch(r"-?\d+(\.0+)?", name) for name in names):
            names = [whole_number(name) for name in names]
        again, values = pd.factorize(np.array(names, dtype=object))
        self.codes = np.append(again, -1)[raw] if len(names) else raw
        self.values = list(values)
        self.counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))

    @property
    def distinct(self) -> int:
        """How many different values there are."""
        return len(self.values)

    @property
    def rows(self) -> int:
        """How many rows have a value."""
        return int(self.counts.sum())

    @property
    def words(self) -> list[str]:
        """The words of the name, the last one first: `userId` and `user_id` are two."""
        return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[가-힣]+", self.name)][::-1]

    @property
    def says(self) -> str:
        """What the name says of the column, by its last word that says something; "" for nothing."""
        said = [_SAYS[part] for word in self.words for part in (word, word[-3:], word[-2:]) if _korean_end(part, word)]
        return "target" if said[:1] == ["id"] and "target" in said else next(iter(said), "")

    @property
    def mean(self) -> float:
        """Characters of a value, on average over the rows."""
        return float(np.dot(self.counts, [len(value) for value in self.values]) / max(1, self.rows))

    @property
    def digits(self) -> float:
        """The share of the values' characters that are digits."""
        sample = "".join(self.values[:: max(1, self.distinct // 200)])
        return sum(map(str.isdigit, sample)) / max(1, len(sample))

    @property
    def spaced(self) -> float:
        """The share of values of several words."""
        sample = self.values[:: max(1, self.distinct // 200)]
        return sum(" " in value for value in sample) / max(1, len(sample))


def _spelled(cell: Any) -> str | None:
    return None if is_missing(cell) else str(cell)


def _korean_end(part: str, word: str) -> bool:
    return part in _SAYS and (part == word or "가" <= part[0] <= "힣")


def classify(column: Column, folder: Path) -> None:
    """Find a column's role by its form, and its score by its name and how its values recur."""
    given = np.flatnonzero(column.codes >= 0)
    says = column.says
    column.score = _SCORES.get(says, 0)
    if not len(given):
        column.why = "every cell is empty"
        return
    if not column.name:
        column.why = "it has no name; pandas writes the rows' numbers so"
        return
    if column.distinct == 1 and not isinstance(column.cells[given[0]], (dict, bytes)):
        column.why = f"one value only ({column.values[0][:30]!r})"
        return
    sample = [column.cells[row] for row in given[:: max(1, len(given) // 200)].tolist()]
    for form in (_inside, _lists, _files, _split, _numbers_or_dates, _levels, _several, _one):
        if form(column, sample, folder, says):
            return


# Each of these looks for one form, and says whether the column has it.


def _inside(column: Column, sample: list[Any], folder: Path, says: str) -> bool:
    if not isinstance(sample[0], (dict, bytes, bytearray)):
        return False
    if isinstance(sample[0], dict) and not {"bytes", "path"} & sample[0].keys():
        column.why = "it holds objects, not values"
    else:
        column.role, column.why = "image", "pictures inside the table"
    return True


def _lists(column: Column, sample: list[Any], folder: Path, says: str) -> bool:
    lists = [read_list(cell) for cell in sample]
    if all(found is None for found in lists):
        return False
    lone = [cell for cell in sample if read_list(cell) is None]
    mixed = len(lone) > 0.1 * len(lists)
    quoted = all(isinstance(cell, list) or re.search("[\"']", cell) for cell in sample if read_list(cell) is not None)
    if mixed and (len(lone) < 3 * len(set(map(str, lone))) or not quoted):
        return False
    lists = [found for cell in column.values for found in [read_list(cell)] if found is not None]
    sizes = {len(found) for found in lists}
    column.role = "labels"
    if (
        len(sizes) == 1
        and sizes != {1}
        and all(map(marks, lists))
        and any(len(set(found)) < len(found) for found in lists)
    ):
        column.labels = [str(place) for place in range(sizes.pop())]
        column.why = f"vectors of 0 and 1 for {len(column.labels)} labels; replace these numbers by their names"
        return True
    parts = [read_list(cell) if read_list(cell) is not None else [cell] for cell in column.values]
    vocabulary = _vocabulary(column, [[label_name(value) for value in found] for found in parts])
    _note_vocabulary(column, vocabulary, "lists over")
    column.labels = sorted(vocabulary) if mixed else None
    long = sum(len(part) * count for part, count in vocabulary.items()) > 25 * vocabulary.total()
    if any(isinstance(value, (list, dict)) for found in lists[:50] for value in found):
        column.role, column.why = (
            "left out",
            "it holds lists of lists, such as parts of a text, which hfk doesn't learn",
        )
    elif vocabulary.total() < 1.5 * len(vocabulary) or (long and vocabulary.total() < 10 * len(vocabulary)):
        column.role = "left out"
        column.why = "it holds lists of texts or numbers; hfk reads one text a row, so write one object a text"
    return True


def _files(column: Column, sample: list[Any], folder: Path, says: str) -> bool:
    texts = [str(cell).strip() for cell in sample]
    if sum(text.startswith(("http://", "https://")) for text in texts) > 0.8 * len(texts):
        column.why = "addresses; training fetches nothing, so download the files and name them here"
        return True
    names = [text.replace("\\", "/") for text in texts]
    if sum(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names) > 0.8 * len(names):
        found = _folder_of(names, folder)
        column.role, column.image_dir = "image", found or ""
        column.why = "file names of pictures" + ("" if found is not None else ", but no such files: set image_dir")
        return True
    if column.distinct > 0.9 * column.rows and " " not in "".join(names[:5]) and max(map(len, names)) < 100:
        for suffix in (".jpg", ".png", ".jpeg", ".webp"):
            found = _folder_of([name + suffix for name in names[:5]], folder)
            if found is not None:
                column.role, column.why = "image", "names of pictures without their suffix"
                column.image = f"{found}/{{{column.name}}}{suffix}".lstrip("/")
                return True
    return False


def _folder_of(names: list[str], folder: Path) -> str | None:
    """What the names are relative to: "" for the table's folder, a folder in it, or None if no file is found."""
    children = sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    for name in ("", *children):
        if all((folder / name / value).is_file() for value in names[:5]):
            return name
    return None


def _split(column: Column, sample: list[Any], folder: Path, says: str) -> bool:
    if not 2 <= column.distinct <= 4:
        return False
    try:
        splits = {split_name(value) for value in column.values}
    except ValueError:
        return False
    if len(splits) < 2:
        return False
    column.role, column.why = "split", f"which split a row is in: {', '.join(column.values)}"
    if "train" not in splits:
        column.role, column.why = "left out", f"it names splits ({', '.join(column.values)}), but none to train on"
    return True


def _numbers_or_dates(column: Column, sample: list[Any], folder: Path, says: str) -> bool:
    texts = [str(cell).strip() for cell in sample]
    numbers = [read_number(text) for text in texts]
    dated = sum(bool(_DATE.fullmatch(text)) for text in texts) > 0.9 * len(texts)
    if dated and says == "target" and column.rows >= 3 * column.distinct:
        column.role = "label"
        return True
    if dated and (says == "date" or None in numbers or (says != "target" and column.distinct > 20)):
        column.role, column.why = "left out", "dates or times"
        return True
    if says == "target" and _RATES & set(column.words) and all(map(_DECIMAL_COMMA.fullmatch, column.values)):
        column.why = "numbers with a comma for the decimal point; write 4.5 in place of 4,5"
        return True
    if None in numbers or any(number is None for number in map(read_number, column.values)):
        return False
    if _unique_id(column, says):
        return True
    values = [read_number(value) for value in column.values]
    whole = all(value.is_integer() for value in values) and not any("," in value for value in column.values)
    enough = column.rows >= 3 * column.distinct
    close = column.distinct <= 2 or max(values) - min(values) < 4 * column.distinct
    named = says == "target" and not _RATES & set(column.words)
    if whole and enough and (named or (close and column.distinct <= 50) or column.distinct <= 10):
        column.role = "label"
        return True
    column.role, column.why = "number", f"numbers from {min(values):g} to {max(values):g}"
    column.score += 0 if says == "target" else -1.5
    if says in ("id", "group"):
        column.role, column.why = "left out", f"{column.why}, named as an id, and repeated"
    return True


def _unique_id(column: Column, says: str) -> bool:
    """Whether the column tells rows apart: a different value on each, and a name or a form that says so."""
    if column.distinct != column.rows or column.rows <= 2 or column.spaced >= 0.1 or column.rows < len(column.cells):
        return False
    sample = column.values[:: max(1, column.distinct // 200)]
    digits = sum(any(character.isdigit() for character in value) for value in sample)
    numeric = all(read_number(value) is not None for value in sample)
    named = says in ("id", "group") or column.name.lower().startswith(("unnamed", "row"))
    if not (named or (not numeric and digits > 0.9 * len(sample) and max(map(len, sample)) <= 64)):
        return False
    column.role, column.why = "id", "a different value on each row"
    return True


def _levels(column: Column, sample: list[Any], folder: Path, says: str) -> bool:
    for separator in LEVELS:
        depths = Counter(len(str(cell).split(separator)) for cell in sample)
        if depths[1] < 0.2 * len(sample) and max(depths) <= 6 and column.rows >= 2 * column.distinct:
            column.role, column.separator = "levels", separator
            column.levels = [f"{column.name}{number}" for number in range(1, max(depths) + 1)]
            column.why = f"{max(depths)} levels, such as {column.values[0]}"
            return True
    return False


def _several(column: Column, sample: list[Any], folder: Path, says: str) -> bool:
    """Whether a separator cuts cells into labels: parts that also stand alone, or that are combined in many ways."""
    if column.mean > 200:
        return False
    tags = bool({"tag", "tags", "태그", "해시태그", "keywords", "키워드"} & {*column.words})
    hashes = sum(value.startswith("#") for value in column.values) > 0.8 * column.distinct
    for separator in (*(["#"] if hashes else []), *SEPARATORS, *([" "] if tags else [])):
        if not any(separator in value for value in column.values):
            continue
        cut = [[part.strip() for part in value.split(separator) if part.strip()] for value in column.values]
        combined = [number for number, parts in enumerate(cut) if len(parts) > 1]
        several = int(column.counts[combined].sum())
        if not several or column.rows < 4:
            continue
        vocabulary = _vocabulary(column, cut)
        total = sum(vocabulary.values())
        if sum(len(part) * count for part, count in vocabulary.items()) > 12 * total:
            continue
        alone = {parts[0] for parts in cut if len(parts) == 1}
        known = sum(int(column.counts[number]) for number in combined if alone.issuperset(cut[number]))
        shared = sum(count for count in vocabulary.values() if count >= max(2, min(RARE, column.rows // 50))) / total
        ways = len(combined) > len(set().union(*(cut[number] for number in combined))) or column.distinct > 20
        if (len(combined) > 1 and known >= 0.8 * several and len(vocabulary) <= 0.5 * total) or (
            several >= 0.2 * column.rows and ways and shared >= (0.3 if tags else 0.6) and len(vocabulary) < 0.4 * total
        ):
            column.role, column.separator = "labels", separator
            _note_vocabulary(column, vocabulary, f"cells cut at {separator!r} into")
            return True
    return False


def _vocabulary(column: Column, cut: Sequence[Sequence[str]]) -> Counter[str]:
    """How many rows have each part of the values."""
    vocabulary: Counter[str] = Counter()
    for parts, count in zip(cut, column.counts.tolist(), strict=True):
        for part in set(parts):
            vocabulary[part] += count
    return vocabulary


def _note_vocabulary(column: Column, vocabulary: Counter[str], how: str) -> None:
    column.why = f"{how} {len(vocabulary)} labels: {', '.join(sorted(vocabulary)[:6])}"
    column.why += ", …" if len(vocabulary) > 6 else ""
    if len(vocabulary) > MANY_LABELS:
        column.min_rows = RARE
        frequent = sum(count >= RARE for count in vocabulary.values())
        column.why += f"; {frequent} of them on {RARE} rows or more"


def _one(column: Column, sample: list[Any], folder: Path, says: str) -> bool:
    if _unique_id(column, says):
        return True
    recurs = column.rows / column.distinct
    long = column.mean > 25 or (column.mean > 15 and column.spaced > 0.5)
    needed = {"target": (1.5, 2), "text": (10, 30)}.get(says, (3, 10))[long]
    if recurs >= needed or (column.distinct <= 2 and column.rows > 2):
        column.role = "label"
        if says == "group" and column.distinct >= 10 and column.counts.max() <= 0.2 * column.rows:
            column.role, column.why = "group", f"{column.distinct} values that recur: whose rows these are"
    elif says in ("group", "about", "target"):
        column.why = f"{column.distinct} values on {column.rows} rows, too many to be learned, and no text by its name"
    elif (column.spaced >= 0.3 or column.mean >= 15) and (
        says == "text" or column.mean >= 25 or column.digits < _MEASURE
    ):
        column.role, column.why = "text", f"{column.mean:.0f} characters on average"
    else:
        column.why = (
            f"{column.distinct} different values in {column.rows} rows: too many for labels, too short for text"
        )
    return True
