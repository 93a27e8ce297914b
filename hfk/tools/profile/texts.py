"""What a task's texts are like: scripts, lengths, words by class with their clouds, examples.

Every function takes the rows or their texts, before and (or None) after cleaning.
"""

from __future__ import annotations

import io
import math
import random
import re
from collections import Counter, defaultdict
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
LISTED_CLASSES = 60  # of one head, in the tables of words and examples
PRIOR_WORDS = 500  # weight of the words of all classes, against which a class's own are held


def text_facts(texts: Sequence[str | None], cleaned: list[str | None] | None, ids: Sequence[str]) -> dict[str, Any]:
    """Say how many texts there are, what they are written in, and what cleaning changes."""
    present = [text for text in texts if text]
    kinds = {
        "Hangul": "[가-힣]",
        "Hanja": "[㐀-䶿一-鿿]",
        "Latin letters": "[A-Za-z]",
        "digits": r"\d",
        "markup": r"</?[a-zA-Z][^<>]*>|&\w+;",
        "web addresses": r"https?://|www\.",
    }
    facts: dict[str, Any] = {
        "present": len(present),
        "absent": len(texts) - len(present),
        "kinds": {name: sum(1 for text in present if re.search(kind, text)) for name, kind in kinds.items()},
    }
    if cleaned is not None:
        pairs = [(i, one, two) for i, one, two in zip(ids, texts, cleaned, strict=True) if one]
        facts["changed"] = sum(" ".join(one.split()) != two for _, one, two in pairs)
        facts["emptied"] = [(identity, one) for identity, one, two in pairs if not two]
        words = ({word for text in column if text for word in WORD.findall(text)} for column in (texts, cleaned))
        facts["vocabulary"] = [len(found) for found in words]
    return facts


def measure_lengths(
    texts: Sequence[str | None], cleaned: list[str | None] | None, tokenizer: Any, text_prefix: str
) -> dict[str, Any]:
    """Measure texts before and perhaps after cleaning, in characters and, with a tokenizer, in tokens with the prefix.

    Returns:
        `characters` and perhaps `tokens`: each `before` and perhaps `after`, an int array.
    """
    columns = {"before": [text for text in texts if text]}
    if cleaned is not None:
        columns["after"] = [text for text in cleaned if text]
    result = {"characters": {name: np.array([len(text) for text in column]) for name, column in columns.items()}}
    if tokenizer is not None:
        result["tokens"] = {}
        for name, column in columns.items():
            lengths: list[int] = []
            for start in progress(range(0, len(column), 1000), "tokens"):
                # The tokenizer warns of texts above its own maximum; how many there are is what is asked here.
                batch = [text_prefix + text for text in column[start : start + 1000]]
                lengths += map(len, tokenizer(batch, verbose=False)["input_ids"])
            result["tokens"][name] = np.array(lengths)
    return result


def words_of_classes(
    rows: Rows, cleaned: list[str | None] | None, heads: list[HeadConfig]
) -> tuple[dict[str, dict[str, dict[str, list[tuple[str, int]]]]], dict[str, Any]]:
    """Find each class's most frequent and most typical words, before and after cleaning, and draw their clouds.

    Typical are words that the class has more often than the other classes, by the z-score of log-odds with an
    informative Dirichlet prior (Monroe, Colaresi & Quinn 2008). A word is counted once a text.

    Returns:
        head → label → `before`, `after`, `typical` → (word, texts); and the clouds of one head: `head`, `classes`
        (label → `before`, `after` → PNG), `left_out`.
    """
    columns = {
        when: [set(WORD.findall(text)) if text else () for text in progress(column, "words")]
        for when, column in (("before", rows.texts), ("after", cleaned))
        if column is not None
    }
    last, chosen = list(columns)[-1], _head_of_clouds(heads)
    words: dict[str, Any] = {}
    clouds: dict[str, Any] = {}
    for head in heads:
        if not head.rules.has_labels:
            continue
        counts = {name: {label: Counter() for label in head.labels} for name in columns}
        sizes: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for row, labels in enumerate(rows.labels[head.name]):
            if labels is not None:
                total.update(columns[last][row])
            for label in labels or ():
                sizes[label] += 1
                for name, column in columns.items():
                    counts[name][label].update(column[row])
        largest = [label for label, _ in sizes.most_common(LISTED_CLASSES)]
        typical = _typical(counts[last], total, largest)
        words[head.name] = {
            label: {name: _most(by_label[label]) for name, by_label in counts.items()} | {"typical": typical[label]}
            for label in largest
        }
        if head.name == chosen:
            drawn = largest[:CLOUD_CLASSES]
            clouds = {"head": head.name, "left_out": len(sizes) - len(drawn), "classes": {}}
            for label in progress(drawn, "clouds"):
                most = {name: dict(_most(by_label[label], CLOUD_WORDS)) for name, by_label in counts.items()}
                clouds["classes"][label] = {name: word_cloud_png(found) for name, found in most.items()}
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


def _most(counts: Counter[str], limit: int = SHOWN) -> list[tuple[str, int]]:
    """The most frequent words; of equally frequent ones the first by the alphabet, so that a page is the same twice."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]


def _head_of_clouds(heads: list[HeadConfig]) -> str | None:
    """The head whose classes get clouds: the finest of few enough classes, else the coarsest."""
    found = [head for head in heads if head.rules.has_labels]
    few = [head for head in found if len(head.labels) <= CLOUD_CLASSES]
    if few:
        return max(few, key=lambda head: (head.rules.exclusive, len(head.labels))).name
    return min(found, key=lambda head: len(head.labels)).name if found else None


def _typical(
    counts: dict[str, Counter[str]], total: Counter[str], labels: list[str]
) -> dict[str, list[tuple[str, int]]]:
    everything = sum(total.values())
    prior_words = min(PRIOR_WORDS, everything / 10)
    weight = prior_words / max(everything, 1)
    result = {}
    for label in labels:
        own, size = counts[label], sum(counts[label].values())
        scored = []
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
) -> dict[str, dict[str, list[tuple[str, str, str | None]]]]:
    """Draw a few rows of each class of the finest head: head → label → (id, text, text after cleaning)."""
    found = [head for head in heads if head.rules.has_labels]
    if not found:
        return {}
    head = max(found, key=lambda head: (head.name == finest_head(heads), len(head.labels)))
    members: dict[str, list[int]] = defaultdict(list)
    for row, labels in enumerate(rows.labels[head.name]):
        for label in labels or ():
            if rows.texts[row]:
                members[label].append(row)
    largest = sorted(members, key=lambda label: -len(members[label]))[:LISTED_CLASSES]
    draw = random.Random(SEED)
    return {
        head.name: {
            label: [
                (rows.ids[row], rows.texts[row], cleaned and cleaned[row])
                for row in draw.sample(members[label], min(EXAMPLES, len(members[label])))
            ]
            for label in head.labels
            if label in largest
        }
    }


def length_lines(facts: dict[str, Any]) -> list[list[str]]:
    """The lengths as the lines of a table: what is counted, mean, quantiles, and the share beyond `max_length`."""
    lines = []
    for unit, columns in facts["lengths"].items():
        for when, values in columns.items():
            if len(values):
                name = f"{unit}, {when} cleaning" if len(columns) > 1 else unit
                limit = facts["max_length"] if unit == "tokens" else None
                quantiles = [f"{int(np.quantile(values, q)):,}" for q in (0, 0.5, 0.95, 0.99, 1)]
                beyond = f"{(values > limit).mean():.2%}" if limit else ""
                lines.append([name, f"{values.mean():.1f}", *quantiles, beyond])
    return lines
