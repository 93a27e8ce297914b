"""Hashtags of a row: the categories that a checkpoint is sure of, and keywords of the text.

Keywords are noun phrases (noun_phrases.py), ranked by where, how often, how long and as what a phrase stands in the
text, as in YAKE; the longer name wins over its pieces.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ...inference.predictor import Predictor
from ...inference.table import extend_table
from ...models.text_cleaning import TextCleaner
from .noun_phrases import Phrase, check_kiwi, find_phrases

MAX_CHARACTERS = 5_000
"""What comes later in a text gives no keywords: no encoder of usual length reads as far."""
WINDOW = 64
"""Rows that are classified together."""


class Hashtagger:
    """Make hashtags with a checkpoint.

    Args:
        predictor: the checkpoint.
        keywords: how many keywords of the text, at most.
        min_score: a category is used from this probability on.
        most: hashtags of a row, at most; the categories come first.

    Raises:
        ValueError: for a number outside its range.
        ImportError: if Kiwi is not installed, unless no keywords are wanted.

    Example:
        >>> tagger = Hashtagger(Predictor.from_pretrained("runs/tour-mini"))  # doctest: +SKIP
        >>> next(tagger(["남해 바다의 일출 명소다."]))["text"]  # doctest: +SKIP
        '#자연 #자연관광지 #해수욕장 #남해바다 #일출명소'
    """

    def __init__(self, predictor: Predictor, keywords: int = 5, min_score: float = 0.5, most: int = 30) -> None:
        if not 0 <= keywords <= 50:
            raise ValueError(f"keywords must be from 0 to 50, not {keywords}.")
        if most < 1:
            raise ValueError(f"most must be 1 or more, not {most}.")
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score must be from 0 to 1, not {min_score}.")
        self.predictor = predictor
        self.keywords = keywords
        self.min_score = min_score
        self.most = most
        if keywords:
            check_kiwi()
        self.heads = [head.name for head in predictor.model.config.heads if head.rules.has_labels]

    def __call__(self, rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """Make the hashtags of rows.

        Args:
            rows: as for `Predictor`.

        Yields:
            for each row, in order, `text` (the hashtags in a line), `hashtags` (a list), `categories` (`tag`, `head`,
            `score`: the probability) and `keywords` (`tag`, `score`: above 0 for those better than the text's other
            phrases); `{"error": sentence}` for a row that can't be used.
        """
        source = iter([rows] if isinstance(rows, str | dict) else rows)
        while window := list(islice(source, WINDOW)):
            answers = list(self.predictor(window, threshold=self.min_score, heads=self.heads))
            for row, answer in zip(window, answers, strict=True):
                text = row.get("text") if isinstance(row, dict) else row
                found = keywords_of(text, self.keywords) if isinstance(text, str) and self.keywords else []
                yield answer if isinstance(answer.get("error"), str) else self._join(answer, found)

    def _join(self, answer: dict[str, Any], keywords: list[tuple[str, float]]) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {}
        for head in self.heads:
            for item in answer[head] or []:
                for tag in label_tags(item["label"] or ""):
                    found.setdefault(tag, {"tag": tag, "head": head, "score": item["score"]})
        categories = list(found.values())[: self.most]
        others = [(tag, score) for tag, score in keywords if not any(tag in category for category in found)]
        kept = [{"tag": tag, "score": round(score, 4)} for tag, score in others[: self.most - len(categories)]]
        tags = [f"#{item['tag']}" for item in [*categories, *kept]]
        return {"text": " ".join(tags), "hashtags": tags, "categories": categories, "keywords": kept}


def label_tags(label: str) -> list[str]:
    """Write a label as hashtags: without what stands in brackets, one for each of its names.

    Args:
        label: such as "야영장,오토캠핑장".

    Example:
        >>> label_tags("야영장,오토캠핑장"), label_tags("인문(문화/예술/역사)"), label_tags("육상 레포츠")
        (['야영장', '오토캠핑장'], ['인문'], ['육상레포츠'])
    """
    outside = re.sub(r"\([^)]*\)|\[[^\]]*\]", " ", label)
    tags = [re.sub(r"[^\w]", "", part) for part in re.split(r"[/,·]", outside)]
    return list(dict.fromkeys(tag for tag in tags if tag and not tag.isdigit()))


def hashtag_table(tagger: Hashtagger, source: str | Path, target: str | Path, *columns: Any) -> dict[str, int]:
    """Write a table again with `hashtags` and `error`; `columns` are `text` to `on_rows` as for `predict_table`."""

    def answer(rows: list[dict[str, Any]]) -> list[list[Any]]:
        return [[made.get("text"), made.get("error")] for made in tagger(rows)]

    return extend_table(tagger.predictor, source, target, answer, ["hashtags", "error"], *columns)


# ----------------------------------------------------------------------------------------------------- which keywords

_clean = TextCleaner(["html", "url", "normalize", "whitespace"])


def keywords_of(text: str, count: int = 5) -> list[tuple[str, float]]:
    """Find a text's keywords, none inside another: the best first, each with its score.

    Scores are above 0 for those better than the text's other phrases.
    """
    text = _clean(text[:MAX_CHARACTERS])
    found: dict[str, list[Phrase]] = {}
    for phrase in find_phrases(text):
        found.setdefault(phrase.tag, []).append(phrase)
    # A piece of a name of one word speaks for the name: 고성 for 고성박물관.
    times = {tag: len(phrases) for tag, phrases in found.items()}
    names = [tag for tag, phrases in found.items() if phrases[0].proper and phrases[0].words == tag]
    names = [name for name in names if not any(name != other and name in other for other in names)]
    for piece in found:
        longer = [name for name in names if piece != name and piece in name]
        if longer:
            times[max(longer, key=lambda name: (len(found[name]), len(name)))] += len(found[piece])
            del times[piece]
    weights = {}
    for tag, often in times.items():
        # Often, early, long, a name, a topic: each counts a little. Chosen on rows that are not measured.
        first = found[tag][0]
        weights[tag] = (
            math.log1p(often)
            + 0.3 * (1 - first.start / len(text))
            + 0.5 * min(len(tag), 6) / 6
            + 0.3 * first.proper
            + 0.5 * (text[first.end : first.end + 1] in ("은", "는"))
        )
    chosen: list[str] = []
    for tag in sorted(weights, key=lambda tag: -weights[tag]):
        if len(chosen) < count and not any(tag in other or other in tag for other in chosen):
            chosen.append(tag)
    mean = sum(weights.values()) / max(len(weights), 1)
    return [(tag, weights[tag] - mean) for tag in chosen]
