"""Hashtags of a row: the categories that a checkpoint is sure of, and keywords of the text.

Keywords are noun phrases (noun_phrases.py), ranked by two things of equal weight: how near the encoder's vector of the
phrase is to that of the whole text, as in KeyBERT, and where, how often and how long the phrase stands there, as in
YAKE. Maximal marginal relevance (Carbonell and Goldstein 1998) keeps them apart. Where there is no text encoder, the
second alone ranks; it is also many times faster, and for an encoder that was trained for its heads, which draws all
that is of one category together, no worse on the small set of benchmarks/hashtags.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...inference.predictor import Predictor
from ...inference.table import extend_table
from ...models.text_cleaning import TextCleaner
from .noun_phrases import Phrase, choose_analyzer, find_phrases

MAX_CHARACTERS = 5_000
"""What comes later in a text gives no keywords: no encoder of usual length reads as far."""
MOST_CANDIDATES = 20
"""Phrases of a text that are compared with it, the best by where and how often they stand."""
RANKINGS = ("both", "statistics")
WINDOW = 64
"""Rows whose phrases are encoded together."""


class Hashtagger:
    """Make hashtags with a checkpoint.

    Args:
        predictor: the checkpoint.
        keywords: how many keywords of the text, at most.
        min_score: a category is used from this probability on.
        analyzer: `kiwi`, `mecab`, or `auto` for the first of these that is installed.
        diversity: from 0 to 1: how much being like a keyword that is chosen already counts against a phrase.
        heads: heads whose labels become hashtags; all but regression heads by default. [] for keywords alone.
        ranking: what ranks keywords: `both`, or `statistics`, which asks no encoder.

    Raises:
        ValueError: for an unknown head, analyzer or ranking, or a number outside its range.
        ImportError: if the analyzer is not installed, unless no keywords are wanted.

    Example:
        >>> tagger = Hashtagger(Predictor.from_pretrained("runs/tour-mini"))  # doctest: +SKIP
        >>> next(tagger(["남해 바다의 일출 명소다."]))["text"]  # doctest: +SKIP
        '#자연 #자연관광지 #해수욕장 #남해바다 #일출명소'
    """

    def __init__(
        self,
        predictor: Predictor,
        keywords: int = 5,
        min_score: float = 0.5,
        analyzer: str = "auto",
        diversity: float = 0.2,
        heads: list[str] | None = None,
        ranking: str = "both",
    ) -> None:
        if ranking not in RANKINGS:
            raise ValueError(f"ranking {ranking!r} is not one of {', '.join(RANKINGS)}.")
        if not 0 <= keywords <= 50:
            raise ValueError(f"keywords must be from 0 to 50, not {keywords}.")
        for name, value in (("min_score", min_score), ("diversity", diversity)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {value}.")
        known = [head.name for head in predictor.model.config.heads if head.rules.has_labels]
        for name in heads or []:
            if name not in known:
                raise ValueError(f"no head with labels is called {name!r}; such heads: {', '.join(known)}.")
        self.predictor = predictor
        self.keywords = keywords
        self.min_score = min_score
        self.analyzer = choose_analyzer(analyzer) if keywords else None
        self.diversity = diversity
        self.heads = known if heads is None else heads
        self.ranking = ranking

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
            usable = [index for index, answer in enumerate(answers) if not isinstance(answer.get("error"), str)]
            texts = [_text_of(window[index]) for index in usable]
            found = dict(zip(usable, self.extract(texts), strict=True))
            for index, answer in enumerate(answers):
                yield self._join(answer, found[index]) if index in found else answer

    def extract(self, texts: list[str]) -> list[list[tuple[str, float]]]:
        """Find the keywords of texts, whatever their categories.

        Args:
            texts: may be empty ones.

        Returns:
            for each text its keywords, the best first, with their scores.
        """
        candidates = [_candidates(text, self.analyzer) if text and self.keywords else {} for text in texts]
        nearness = self._nearness(texts, candidates)
        return [
            _choose(found, vectors, near, self.keywords, self.diversity)
            for found, (vectors, near) in zip(candidates, nearness, strict=True)
        ]

    def _join(self, answer: dict[str, Any], keywords: list[tuple[str, float]]) -> dict[str, Any]:
        categories: dict[str, dict[str, Any]] = {}
        for head in self.heads:
            for item in answer[head] or []:
                for tag in label_tags(item["label"] or ""):
                    categories.setdefault(tag, {"tag": tag, "head": head, "score": item["score"]})
        kept = [(tag, score) for tag, score in keywords if not any(tag in category for category in categories)]
        tags = [f"#{tag}" for tag in [*categories, *(tag for tag, _ in kept)]]
        return {
            "text": " ".join(tags),
            "hashtags": tags,
            "categories": list(categories.values()),
            "keywords": [{"tag": tag, "score": round(score, 4)} for tag, score in kept],
        }

    def _nearness(
        self, texts: list[str], candidates: list[dict[str, _Candidate]]
    ) -> list[tuple[Tensor | None, Tensor | None]]:
        """For each text its phrases' vectors and their cosines to the text's; None for both where no encoder ranks."""
        if self.ranking == "statistics" or getattr(self.predictor.model, "text_encoder", None) is None:
            return [(None, None)] * len(texts)
        texts = [text[:MAX_CHARACTERS] for text in texts]
        words = [[c.words for c in found.values()] for found in candidates]
        unique = {text: None for found in words for text in found}
        unique |= {text: None for text, found in zip(texts, words, strict=True) if found}
        place = {text: index for index, text in enumerate(unique)}
        vectors = self._encode(list(unique))
        result: list[tuple[Tensor | None, Tensor | None]] = []
        for text, found in zip(texts, words, strict=True):
            if not found:
                result.append((None, None))
                continue
            own = vectors[[place[phrase] for phrase in found]]
            near = torch.nn.functional.cosine_similarity(own, vectors[place[text]][None])
            # Vectors of one encoder lie in a narrow cone: what a text's phrases share says nothing of their likeness.
            result.append((torch.nn.functional.normalize(own - own.mean(0), dim=-1), near))
        return result

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> Tensor:
        """Encode texts as means of their token vectors, `(texts, size)`; zeros where cleaning leaves nothing."""
        processor, encoder = self.predictor.processor, self.predictor.model.text_encoder
        clean = [processor.clean(text) for text in texts]
        order = sorted((index for index, text in enumerate(clean) if text), key=lambda index: len(clean[index]))
        vectors: Tensor | None = None
        for first in range(0, len(order), self.predictor.batch_size):
            indices = order[first : first + self.predictor.batch_size]
            batch = processor.to_tensors([(clean[index], None) for index in indices])
            inputs = {
                name: values.to(encoder.device)
                for name, values in batch.items()
                if name in ("input_ids", "attention_mask", "token_type_ids")
            }
            tokens = encoder(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"][..., None].float()
            means = ((tokens * mask).sum(1) / mask.sum(1).clamp_min(1)).cpu()
            if vectors is None:
                vectors = means.new_zeros(len(texts), means.shape[1])
            vectors[indices] = means
        return vectors if vectors is not None else torch.zeros(len(texts), 1)


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
    """Make the hashtags of every row of a table: the input's columns, then `hashtags` and `error`.

    Args:
        tagger: makes them.
        source: CSV, TSV, JSONL or Parquet file, read in chunks.
        target: file to write, format by suffix.
        *columns: `text`, `image`, `image_dir`, `columns` and `on_rows`, as for `predict_table`.

    Returns:
        `{"rows": …, "errors": …}`.

    Raises:
        ValueError: if a column is missing, an output column's name is taken, or source and target are one file.
    """

    def answer(rows: list[dict[str, Any]]) -> list[list[Any]]:
        return [[made.get("text"), made.get("error")] for made in tagger(rows)]

    return extend_table(tagger.predictor, source, target, answer, ["hashtags", "error"], *columns)


# ----------------------------------------------------------------------------------------------------- which keywords

_clean = TextCleaner(["html", "url", "normalize", "whitespace"])


class _Candidate:
    """A phrase of a text and where it stands."""

    def __init__(self, phrase: Phrase, length: int) -> None:
        self.words, self.count, self.proper = phrase.words, 0, phrase.proper
        self.early = 1 - phrase.start / length

    def weight(self, tag: str) -> float:
        """Often, early, long, a name: each counts a little. Weights were chosen on half of the benchmark's rows."""
        return math.log1p(self.count) + 0.3 * self.early + 0.5 * min(len(tag), 6) / 6 + 0.3 * self.proper


def _candidates(text: str, analyzer: str | None) -> dict[str, _Candidate]:
    text = _clean(text[:MAX_CHARACTERS])
    found: dict[str, _Candidate] = {}
    for phrase in find_phrases(text, analyzer):
        found.setdefault(phrase.tag, _Candidate(phrase, len(text))).count += 1
    best = sorted(found, key=lambda tag: -found[tag].weight(tag))[:MOST_CANDIDATES]
    return {tag: found[tag] for tag in best}


def _choose(
    found: dict[str, _Candidate], vectors: Tensor | None, near: Tensor | None, count: int, diversity: float
) -> list[tuple[str, float]]:
    """Choose keywords by maximal marginal relevance, none inside another."""
    if not found:
        return []
    tags = list(found)
    scores = _standardize(torch.tensor([found[tag].weight(tag) for tag in tags]))
    if near is not None:
        scores = (scores + _standardize(near)) / 2
    likeness = vectors @ vectors.T if vectors is not None else torch.zeros(len(tags), len(tags))
    chosen: list[int] = []
    left = list(range(len(tags)))
    while left and len(chosen) < count:
        alike = {i: max((float(likeness[i, j]) for j in chosen), default=0.0) for i in left}
        # 0.3 brings scores, of deviation 1, to the size of cosines
        best = max(left, key=lambda i: (1 - diversity) * 0.3 * float(scores[i]) - diversity * alike[i])
        left.remove(best)
        if not any(tags[best] in tags[other] or tags[other] in tags[best] for other in chosen):
            chosen.append(best)
    return [(tags[index], float(scores[index])) for index in chosen]


def _standardize(values: Tensor) -> Tensor:
    return (values - values.mean()) / (values.std(unbiased=False) + 1e-9)


def _text_of(row: Any) -> str:
    text = row.get("text") if isinstance(row, dict) else row
    return text if isinstance(text, str) else ""
