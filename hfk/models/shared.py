"""What several modules here need: checks of options, letters in one form in bounded time, and the choice of the modules
that travel with a checkpoint.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Any

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Characters of the Unicode category Cc."""
MOST_MARKS = 30
"""Combining marks that may follow each other, as in UAX #15's Stream-Safe Text Format; no script comes near it."""
_LAST_MARK = 0x1E94A  # of those that Unicode 16 sorts
_MARKS = "".join(
    chr(point)
    for point in range(0x300, _LAST_MARK + 1)
    if unicodedata.combining(unicodedata.normalize("NFKD", chr(point))[0])
)
_MANY_MARKS = re.compile(rf"([{re.escape(_MARKS)}]{{{MOST_MARKS}}})[{re.escape(_MARKS)}]+")
_HUGE_NUMBER = re.compile(r"&#0*[1-9][0-9]{7,};?")


def normalize_letters(text: str, form: str = "NFC") -> str:
    """Bring letters to a Unicode normal form, in a time that grows with the text's length.

    Python sorts the marks of a letter by insertion, so 100,000 of them would take minutes, and no thread would run
    beside: of more than `MOST_MARKS` in a row only the first are kept.

    Args:
        text: any text.
        form: as for `unicodedata.normalize`.

    Example:
        >>> normalize_letters("e\u0301"), len(normalize_letters("e" + "\u0316\u0301" * 50_000))
        ('é', 30)
    """
    if text.isascii():
        return text
    if len(text) > MOST_MARKS:
        text = _MANY_MARKS.sub(r"\1", text)
    return unicodedata.normalize(form, text)


def unescape(text: str) -> str:
    """Resolve HTML entities; one of a number that no character has is U+FFFD, however many digits it has."""
    return html.unescape(_HUGE_NUMBER.sub("\ufffd", text)) if "&" in text else text


def check_choice(what: str, value: Any, known: Collection[str | None]) -> None:
    """Refuse a value that is none of `known`; ValueError."""
    if value not in known:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(map(str, known))}.")


def check_range(options: Any, *names: str, high: float = 1, where: str = "") -> None:
    """Refuse options outside of [0, high), by default those that are no share such as a dropout probability."""
    for name in names:
        value = getattr(options, name)
        if not 0 <= value < high:
            raise ValueError(f"{where}{name} must be in [0, {high}), not {value}.")


def check_fields(where: str, values: Collection[str], known: Collection[str]) -> None:
    """Refuse fields of a saved file that this version doesn't know; ValueError."""
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(
            f"{where} has the field {unknown[0]!r}, which is not known here: if a newer hfk saved the checkpoint, "
            "upgrade (pip install -U hfk)."
        )


def keep_imports(folder: Path, module: str, needed: Collection[str]) -> None:
    """Take out of a saved checkpoint the modules that only others need.

    Transformers copies what a module imports, and reads that off its lines `from .name import …`. Of those in
    `folder / module`, the ones of `needed` stay; then the modules go to which no way leads any more.
    """
    from transformers.dynamic_module_utils import get_relative_import_files  # no need of it where texts are cleaned

    path = folder / f"{module}.py"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    dropped = {line for line in lines if (found := re.match(r"from \.(\w+) import", line)) and found[1] not in needed}
    before = set(get_relative_import_files(path))
    path.write_text("".join(line for line in lines if line not in dropped), encoding="utf-8")
    others = {str(other) for other in folder.glob("*.py")} - before
    reached = others.union(*map(get_relative_import_files, others))
    for file in before - reached:
        Path(file).unlink()
