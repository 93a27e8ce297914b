"""What a task's texts are like: scripts, lengths, words by class with their clouds, examples.

Every function takes the rows or their texts, before and (or None) after cleaning.
"""

from __future__ import annotations

import io
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...evaluation.plots import RAMP, font_path
from ...tasks import finest_head
from .rows import SEED, SHOWN, HeadConfig, Rows, progress

WORD = re.compile(r"\w+")
CLOUD = (620, 310)  # pixels
CLOUD_WORDS = 60
CLOUD_CLASSES = 12  # more clouds than these nobody compares
EXAMPLES = 3  # of each class
LISTED_CLASSES = 60  # of one head, in the table of words
PRIOR_WORDS = 500  # weight of the words of all classes, against which a class's own are held
KINDS = {
    "Hangul": "[가-힣]", "Hanja": "[㐀-䶿一-鿿]", "Latin letters": "[A-Za-z]", "digits": r"\d",
    "markup": r"</?[a-zA-Z][^<>]*>|&\w+;", "web addresses": r"https?://|www\.",
}  # fmt: skip


def text_facts(texts: Sequence[str | None], cleaned: list[str | None] | None, ids: Sequence[str]) -> dict[str, Any]:
    """Say how many texts there are, what they are written in, and what cleaning changes."""
    present = [text for text in texts if text]
    facts: dict[str, Any] = {
        "present": len(present),
        "absent": len(texts) - len(present),
        "kinds": {name: sum(1 for text in present if re.search(kind, text)) for name, kind in KINDS.items()},
    }
    if cleaned is not None:
        pairs = [(i, one, two) for i, one, two in zip(ids, texts, cleaned, strict=True) if one]
        facts["changed"] = sum(" ".join(one.split()) != two for _, one, two in pairs)
        facts["emptied"] = [(identity, one) for identity, one, two in pairs if not two]
        words = ({word for text in column if text for word in WORD.findall(text)} for column in (texts, cleaned))
        facts["vocabulary"] = [len(found) for found in words]
    return facts


def measure_lengths(texts: Sequence[str | None], tokenizer: Any, text_prefix: str) -> dict[str, np.ndarray]:
    """Measure texts in `characters` and, with a tokenizer, in `tokens`, the prefix and special tokens included."""
    present = [text for text in texts if text]
    result = {"characters": np.array([len(text) for text in present])}
    if tokenizer is not None:
        lengths: list[int] = []
        for start in progress(range(0, len(present), 1000), "tokens"):
            # The tokenizer warns of texts above its own maximum; how many there are is what is asked here.
            batch = [text_prefix + text for text in present[start : start + 1000]]
            lengths += map(len, tokenizer(batch, verbose=False)["input_ids"])
        result["tokens"] = np.array(lengths)
    return {unit: values for unit, values in result.items() if len(values)}


def words_of_classes(
    rows: Rows, cleaned: list[str | None] | None, heads: list[HeadConfig]
) -> tuple[dict[str, dict[str, dict[str, list[tuple[str, int]]]]], dict[str, Any]]:
    """Find each class's most frequent and most typical words, before and after cleaning, and draw their clouds.

    Typical are words that the class has more often than the other classes, by the z-score of log-odds with an
    informative Dirichlet prior (Monroe, Colaresi & Quinn 2008). A word is counted once a text.

    Returns head → label → `before`, `after`, `typical` → (word, texts), and the clouds of one head.
    """
    columns = {
        when: [set(WORD.findall(text)) if text else () for text in progress(column, "words")]
        for when, column in (("before", rows.texts), ("after", cleaned))
        if column is not None
    }
    # Clouds are of the finest head of few enough classes, else of the coarsest.
    few = [head for head in heads if len(head.labels) <= CLOUD_CLASSES]
    chosen = max(few, key=lambda head: (head.rules.exclusive, len(head.labels))) if few else None
    chosen = chosen or min(heads, key=lambda head: len(head.labels), default=None)
    words: dict[str, Any] = {}
    clouds: dict[str, Any] = {}
    for head in heads:
        members = sorted(rows.of_labels(head).items(), key=lambda entry: -len(entry[1]))
        members = {label: own for label, own in members if own}
        listed = list(members)[:LISTED_CLASSES]
        counts = {
            when: {label: Counter(word for row in members[label] for word in column[row]) for label in listed}
            for when, column in columns.items()
        }
        last = list(columns)[-1]
        known = [row for row, labels in enumerate(rows.labels[head.name]) if labels is not None]
        typical = _typical(counts[last], Counter(word for row in known for word in columns[last][row]))
        words[head.name] = {
            label: {when: _most(by_label[label]) for when, by_label in counts.items()} | {"typical": typical[label]}
            for label in listed
        }
        if head is chosen:
            drawn = listed[:CLOUD_CLASSES]
            clouds = {"head": head.name, "left_out": len(members) - len(drawn), "classes": {}}
            for label in progress(drawn, "clouds"):
                most = {when: dict(_most(by_label[label], CLOUD_WORDS)) for when, by_label in counts.items()}
                clouds["classes"][label] = {when: word_cloud_png(found) for when, found in most.items()}
    return words, clouds


def word_cloud_png(counts: dict[str, int]) -> bytes | None:
    """Draw words as a PNG, the more frequent the larger and darker; the same words give the same picture, none None."""
    try:
        from wordcloud import WordCloud
    except ImportError as error:
        raise ImportError('word clouds need wordcloud: pip install "hfk[plots]"') from error
    # By the alphabet among equals, so that the order of the rows plays no part.
    counts = dict(_most(counts, len(counts)))
    if not counts:
        return None
    most = max(counts.values())
    dark, light = (np.array([int(RAMP[place][1][i : i + 2], 16) for i in (1, 3, 5)]) for place in (4, 3))

    def color(word: str, **_: object) -> str:
        share = (counts[word] / most) ** 0.5
        return "rgb({}, {}, {})".format(*(light + (dark - light) * share).round().astype(int))

    cloud = WordCloud(
        font_path(), *CLOUD, max_words=CLOUD_WORDS, background_color="white", relative_scaling=0.4, max_font_size=84,
        margin=4, random_state=0, color_func=color,
        prefer_horizontal=1.0,  # Korean standing on its side can't be read
    ).generate_from_frequencies(counts)  # fmt: skip
    buffer = io.BytesIO()
    # Few shades of one color: a palette makes the file a third as large.
    cloud.to_image().quantize(64).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _most(counts: dict[str, int], limit: int = SHOWN) -> list[tuple[str, int]]:
    """The most frequent words; of equally frequent ones the first by the alphabet, so that a page is the same twice."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]


def _typical(counts: dict[str, Counter[str]], total: Counter[str]) -> dict[str, list[tuple[str, int]]]:
    everything = total.total()
    prior_words = min(PRIOR_WORDS, everything / 10)
    weight = prior_words / max(everything, 1)
    result = {}
    for label, own in counts.items():
        scored, size = [], own.total()
        for word, count in own.items():
            if count < 3 or size >= everything:
                continue
            others, prior = total[word] - count, weight * total[word]
            here = math.log((count + prior) / (size + prior_words - count - prior))
            there = math.log((others + prior) / (everything - size + prior_words - others - prior))
            scored.append(((here - there) / math.sqrt(1 / (count + prior) + 1 / (others + prior)), word, count))
        best = sorted(scored, key=lambda item: (-item[0], item[1]))[:SHOWN]
        result[label] = [(word, count) for score, word, count in best if score > 1.96]
    return result


def examples_of_classes(
    rows: Rows, cleaned: list[str | None] | None, heads: list[HeadConfig]
) -> dict[str, list[tuple[str, str, str | None]]]:
    """Draw a few rows of each class of the finest head: label → (id, text, text after cleaning)."""
    draw, found = random.Random(SEED), {}
    head = max(heads, key=lambda head: (head.name == finest_head(heads), len(head.labels)), default=None)
    for label, own in rows.of_labels(head).items() if head else ():
        told = [row for row in own if rows.texts[row]]
        if told:
            drawn = draw.sample(told, min(EXAMPLES, len(told)))
            found[label] = [(rows.ids[row], rows.texts[row], cleaned and cleaned[row]) for row in drawn]
    return found
