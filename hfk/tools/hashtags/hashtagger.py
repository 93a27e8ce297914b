"""Hashtags of a row: the categories that a checkpoint is sure of, and keywords of the text.

Keywords are noun phrases (noun_phrases.py), ranked by `statistics`: where, how often, how long and as what a phrase
stands in the text, as in YAKE; the longer name wins over its pieces. `both` gives equal weight to how near the
encoder's vector of the phrase is to that of the whole text, as in KeyBERT, and keeps keywords apart by maximal marginal
relevance (Carbonell and Goldstein 1998): many times slower, and with an encoder that was trained for its heads, which
draws all that is of one category together, no better (benchmarks/hashtags.py).
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
from torch.nn.functional import cosine_similarity, normalize

from ...inference.predictor import Predictor
from ...inference.table import extend_table
from ...models.text_cleaning import TextCleaner
from .noun_phrases import Phrase, choose_analyzer, find_phrases

MAX_CHARACTERS = 5_000
"""What comes later in a text gives no keywords: no encoder of usual length reads as far."""
MOST_CANDIDATES = 20
"""Phrases of a text that are compared with it, the best by where and how often they stand."""
DIVERSITY = 0.2
"""From 0 to 1: how much being like a keyword that is chosen already counts against a phrase."""
RANKINGS = ("both", "statistics")
WINDOW = 64
"""Rows whose phrases are encoded together."""

Candidates = dict[str, tuple[str, float]]
"""Phrases of a text: as a hashtag → as they stand there, and their weight by where and how often."""


class Hashtagger:
    """Make hashtags with a checkpoint.

    Args:
        predictor: the checkpoint.
        keywords: how many keywords of the text, at most.
        min_score: a category is used from this probability on.
        analyzer: `kiwi`, `mecab`, or `auto` for the first of these that is installed.
        ranking: what ranks keywords: `statistics`, which asks no encoder, or `both`.

    Raises:
        ValueError: for an unknown analyzer or ranking, or a number outside its range.
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
        ranking: str = "statistics",
    ) -> None:
        if ranking not in RANKINGS:
            raise ValueError(f"ranking {ranking!r} is not one of {', '.join(RANKINGS)}.")
        if not 0 <= keywords <= 50:
            raise ValueError(f"keywords must be from 0 to 50, not {keywords}.")
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score must be from 0 to 1, not {min_score}.")
        self.predictor = predictor
        self.keywords = keywords
        self.min_score = min_score
        self.analyzer = choose_analyzer(analyzer) if keywords else None
        self.heads = [head.name for head in predictor.model.config.heads if head.rules.has_labels]
        self.encoder = getattr(predictor.model, "text_encoder", None) if ranking == "both" else None

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
            texts = [row.get("text") if isinstance(row, dict) else row for row in window]
            found = self.extract([text if isinstance(text, str) else "" for text in texts])
            for answer, keywords in zip(answers, found, strict=True):
                yield answer if isinstance(answer.get("error"), str) else self._join(answer, keywords)

    def extract(self, texts: list[str]) -> list[list[tuple[str, float]]]:
        """Find the keywords of texts, which may be empty: for each the best first, with their scores."""
        candidates = [_candidates(text, self.analyzer) if text and self.keywords else {} for text in texts]
        groups = [
            [text[:MAX_CHARACTERS], *(words for words, _ in found.values())]
            if found and self.encoder is not None
            else []
            for text, found in zip(texts, candidates, strict=True)
        ]
        unique = list(dict.fromkeys(one for group in groups for one in group))
        vectors = dict(zip(unique, self._encode(unique), strict=True)) if unique else {}
        return [
            _choose(found, torch.stack([vectors[one] for one in group]) if group else None, self.keywords)
            for found, group in zip(candidates, groups, strict=True)
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

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> Tensor:
        """Encode texts as means of their token vectors, `(texts, size)`; zeros where cleaning leaves nothing."""
        processor, size = self.predictor.processor, self.predictor.batch_size
        clean = [processor.clean(text) for text in texts]
        order = sorted((index for index, text in enumerate(clean) if text), key=lambda index: len(clean[index]))
        vectors: Tensor | None = None
        for indices in (order[first : first + size] for first in range(0, len(order), size)):
            batch = processor.to_tensors([(clean[index], None) for index in indices])
            names = ("input_ids", "attention_mask", "token_type_ids")
            inputs = {name: batch[name].to(self.encoder.device) for name in names if name in batch}
            tokens = self.encoder(**inputs).last_hidden_state.float()
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
    """Write a table again with `hashtags` and `error`; `columns` are `text` to `on_rows` as for `predict_table`."""

    def answer(rows: list[dict[str, Any]]) -> list[list[Any]]:
        return [[made.get("text"), made.get("error")] for made in tagger(rows)]

    return extend_table(tagger.predictor, source, target, answer, ["hashtags", "error"], *columns)


# ----------------------------------------------------------------------------------------------------- which keywords

_clean = TextCleaner(["html", "url", "normalize", "whitespace"])


def keywords_of(text: str, count: int = 5, analyzer: str = "auto") -> list[tuple[str, float]]:
    """Find a text's keywords by `statistics`: the best first, with their scores."""
    return _choose(_candidates(text, choose_analyzer(analyzer)), None, count)


def _candidates(text: str, analyzer: str | None) -> Candidates:
    text = _clean(text[:MAX_CHARACTERS])
    found: dict[str, list[Phrase]] = {}
    for phrase in find_phrases(text, analyzer):
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
    for tag, count in times.items():
        # Often, early, long, a name, a topic: each counts a little. Chosen on rows that are not measured.
        first = found[tag][0]
        weights[tag] = (
            math.log1p(count)
            + 0.3 * (1 - first.start / len(text))
            + 0.5 * min(len(tag), 6) / 6
            + 0.3 * first.proper
            + 0.5 * (text[first.end : first.end + 1] in ("은", "는"))
        )
    best = sorted(weights, key=lambda tag: -weights[tag])[:MOST_CANDIDATES]
    return {tag: (found[tag][0].words, weights[tag]) for tag in best}


def _choose(found: Candidates, vectors: Tensor | None, count: int) -> list[tuple[str, float]]:
    """Choose keywords by maximal marginal relevance, none inside another; vectors are the text's, then the phrases'."""
    if not found:
        return []
    tags = list(found)
    scores = _standardize(torch.tensor([weight for _, weight in found.values()]))
    likeness = torch.zeros(len(tags), len(tags))
    if vectors is not None:
        own = vectors[1:]
        scores = (scores + _standardize(cosine_similarity(own, vectors[:1]))) / 2
        # Vectors of one encoder lie in a narrow cone: what a text's phrases share says nothing of their likeness.
        own = normalize(own - own.mean(0), dim=-1)
        likeness = own @ own.T
    chosen: list[int] = []
    left = list(range(len(tags)))
    while left and len(chosen) < count:
        alike = {i: max((float(likeness[i, j]) for j in chosen), default=0.0) for i in left}
        # 0.3 brings scores, of deviation 1, to the size of cosines
        best = max(left, key=lambda i: (1 - DIVERSITY) * 0.3 * float(scores[i]) - DIVERSITY * alike[i])
        left.remove(best)
        if not any(tags[best] in tags[other] or tags[other] in tags[best] for other in chosen):
            chosen.append(best)
    return [(tags[index], float(scores[index])) for index in chosen]


def _standardize(values: Tensor) -> Tensor:
    return (values - values.mean()) / (values.std(unbiased=False) + 1e-9)
