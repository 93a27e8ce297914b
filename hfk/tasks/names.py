"""How names are compared: labels, columns, folders, files and corrections all go through `canonical`.

A table from a Mac writes 문화 in five letters, a web page leaves zero-width signs and hard spaces behind, pandas writes
1 as 1.0 once a cell is empty. What looks the same is the same name here; what is only alike (Shopping, shopping) stays
two, and is remarked on.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from ..models.shared import normalize_letters

# Zero-width and direction signs; the joiner between the parts of an emoji means something and stays.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]|(?<=\\w)[\u200c\u200d]|[\u200c\u200d]$")
_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d])[\s_·ㆍ・/&.,-]+(?=[^\W\d])")
_WHOLE = re.compile(r"-?\d+\.0+")


def canonical(name: str) -> str:
    """A name as it is compared and kept: composed letters (NFC), no invisible signs, one space between words.

    Args:
        name: any name.

    Example:
        >>> canonical("\u1106\u116e\u11ab\u1112\u116a\u200b ") == "문화"
        True
    """
    if name.isascii() and name.isalnum():
        return name
    name = name.encode("utf-8", "ignore").decode()  # half of a surrogate pair is no letter
    return " ".join(_INVISIBLE.sub("", normalize_letters(name)).split())


def whole_number(name: str) -> str:
    """`1.0` as `1`; any other name as it is."""
    return name.partition(".")[0] if _WHOLE.fullmatch(name) else name


def near_equal(names: Iterable[str]) -> list[list[str]]:
    """Groups of different names that differ in case, width, or the signs between words only.

    Args:
        names: canonical names.

    Example:
        >>> near_equal(["Shopping", "shopping", "생활문화", "생활/문화", "1.1", "11"])
        [['Shopping', 'shopping'], ['생활/문화', '생활문화']]
    """
    groups = defaultdict(set)
    for name in names:
        folded = normalize_letters(name, "NFKC").casefold()
        groups[_BETWEEN_LETTERS.sub("", folded)].add(name)
    return [sorted(group) for group in groups.values() if len(group) > 1]
