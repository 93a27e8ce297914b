"""What a stranger's tokenizer.json would cost whoever runs it, looked at before it is loaded.

The library of tokenizers does what the file says outside of Python: it can't be interrupted, and what goes wrong in it
ends the process. A `Replace` that doubles a text sixty times fills any memory, a pattern that backtracks takes hours
over one text, and WordPiece takes the square of the longest word that it is told to read.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 256 * 1024**2
"""Of a tokenizer.json: that of a vocabulary of a quarter of a million pieces has 17 to 40 million."""
MAX_PARTS = 64
"""Of normalizers, pre-tokenizers and post-processors."""
MAX_GROWTH = 64
"""By what a text may grow at most before it is cut into tokens; bytes as letters are 3."""
MAX_WORD = 1_000
"""Characters of the longest word that WordPiece reads; BERT's is 100."""
MAX_PATTERN = 20_000
MAX_OPTIONAL = 2

_ATOM = re.compile(r"\\[pP]\{[^}]*\}|\\.|\[(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|.", re.DOTALL)
_OFTEN = re.compile(r"[*+][?+]?|\{(?:\d*,|\d\d+,?\d*|\d?,\d\d+|9,?\d*)\}[?+]?")
_SELDOM = re.compile(r"\?|\{[^}]*\}|\((?!\?)")
_ELSEWHERE = re.compile(r"\\[gk1-9]")  # calls of groups, and references back to them
_FORBIDDEN = re.compile(r"\)[*+{]|\(\?~")  # groups that are repeated, and absence
_KNOWN = (
    r" ?[^\s\p{L}\p{N}]+[\r\n]*", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r" ?[\p{P}\p{S}]+[\r\n]*", r"\s*[\r\n]+", r"\s*[\r\n]", r" ?[^\s\p{L}\p{N}]++[\r\n]*", r"[^\r\n\p{L}\p{N}]?+\p{L}+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
)  # fmt: skip
"""Of the patterns of GPT-4, Llama 3, Mistral, Qwen and DeepSeek: repetitions that can't take over."""


def check_tokenizer(path: str | os.PathLike, where: str) -> None:
    """Refuse a tokenizer.json that would take time or memory without measure; a ValueError that says `where`."""
    found = os.stat(path)
    _check(str(path), where, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=16)  # model, processor and configuration are each checked before they are loaded
def _check(path: str, where: str, size: int, changed: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{where} has {size:,} bytes; {MAX_FILE_BYTES:,} are allowed.")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        parts = list(_parts([content.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor")]))
        growth, word = math.prod(map(_growth, parts)), content["model"].get("max_input_chars_per_word", 0)
        around = max(map(_around, parts), default=0)
        patterns = [part["pattern"]["Regex"] for part in parts if "Regex" in (part.get("pattern") or ())]
        endless = [pattern for pattern in patterns if not is_bounded(pattern)]
        reasons = {
            f"has {len(parts)} steps; {MAX_PARTS} are allowed": len(parts) > MAX_PARTS,
            f"would make texts {growth:,.0f} times as long": growth > MAX_GROWTH,
            f"would read words of {word:,} characters; {MAX_WORD:,} are allowed": word > MAX_WORD,
            f"would put {around:,} tokens around a text; {MAX_PARTS} are allowed": around > MAX_PARTS,
            f"has the pattern {endless[:1]}, which could search a text for hours": endless,
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(f"{where} is damaged, or no tokenizer's: save the tokenizer again.") from None
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(f"{where} {reason}.")


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every step of a tokenizer, those inside of sequences too."""
    if isinstance(value, list):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, dict):
        if "type" in value:
            yield value
        for name in ("normalizers", "pretokenizers", "processors"):
            yield from _parts(value.get(name))


def _growth(part: dict[str, Any]) -> float:
    """By what a step may make a text longer, at most."""
    if part["type"] == "ByteLevel":
        return 3
    if part["type"] == "Prepend":
        return max(1, len(part["prepend"]))
    if part["type"] == "Precompiled":
        charts = base64.b64decode(part["precompiled_charsmap"] or "")
        pieces = charts[4 + int.from_bytes(charts[:4], "little") :].split(b"\0")
        return max(1, max(map(len, pieces)) / 16)  # Unicode's own longest is of 18 letters, and rare
    if part["type"] == "Replace":
        pattern, content = part["pattern"], len(part["content"])
        if "String" in pattern:
            return max(1, content / len(pattern["String"])) if pattern["String"] else 1 + content
        return 1 + content if content > 1 else 1.25 if content else 1  # a pattern may find nothing, between all letters
    return 1


def _around(part: dict[str, Any]) -> int:
    """How many tokens a template puts around a text."""
    tokens = part.get("special_tokens")
    found = [len(part.get(kind) or ()) for kind in ("single", "pair")]
    return max(found) + (sum(len(token["ids"]) for token in tokens.values()) if isinstance(tokens, dict) else 0)


def is_bounded(pattern: str) -> bool:
    """Tell whether a pattern searches a text in a time that grows with its square at most.

    Between `|` there may be one repetition and few options: nothing then takes over what another gave back.

    Example:
        >>> is_bounded(r"\\s+(?!\\S)|\\p{N}{1,3}| ?\\p{L}+"), is_bounded("(a+)+$"), is_bounded("a.*b.*c")
        (True, False, False)
    """
    depth, ways, plain = 0, [""], [""]  # what stands between the outer |, as it is and with an x for each class
    atoms = _ATOM.findall(pattern)
    for atom in atoms:
        depth += (atom == "(") - (atom == ")")
        outer = atom == "|" and not depth
        ways.append("") if outer else ways.append(ways.pop() + atom)
        plain.append("") if outer else plain.append(plain.pop() + ("x" if len(atom) > 1 else atom))
    if len(pattern) > MAX_PATTERN or any(map(_ELSEWHERE.match, atoms)) or any(map(_FORBIDDEN.search, plain)):
        return False
    often = [len(_OFTEN.findall(text)) for text in plain]
    seldom = [len(_SELDOM.findall(_OFTEN.sub("", text).replace("(?", ""))) for text in plain]
    counts = zip(ways, often, seldom, strict=True)
    return all(way in _KNOWN or (one <= 1 and other <= MAX_OPTIONAL) for way, one, other in counts)
