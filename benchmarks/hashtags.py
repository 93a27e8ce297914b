"""Hashtags against the tags that people gave: words of the text, and tags learned from other rows.

The rows are those of the run `benchmarks/hashtags.yaml`, which learned from the train rows alone. A hashtag is right if
it is one of the row's tags, letter for letter. TF-IDF and `keywords` rank the same phrases of the text (document
frequencies are those of the train rows); `phrases` is the most that a perfect ranking of them could have; `frequent`
are the five most frequent tags of the train rows, whatever the text. `learned` puts the checkpoint's tags first, as
`hfk hashtags` does, from the `--min-score` on that is best on the validation rows.

    hfk train benchmarks/hashtags.yaml --output-dir runs/hashtags
    python benchmarks/hashtags.py runs/hashtags
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from transformers.utils import logging

from hfk.runs.run import Run
from hfk.tasks.tables import read_table
from hfk.tools.hashtags.hashtagger import Hashtagger, keywords_of
from hfk.tools.hashtags.noun_phrases import find_phrases

COUNT = 5
CORPUS = 2000  # train rows that document frequencies are counted on
MIN_SCORES = (0.5, 0.2, 0.1, 0.05, 0.02)


def tfidf(texts: Sequence[str], corpus: Sequence[str]) -> list[list[str]]:
    """Rank the phrases of texts by how often they stand in a text, and how rarely in others."""
    seen = Counter(tag for text in corpus for tag in {phrase.tag for phrase in find_phrases(text)})
    result = []
    for text in texts:
        counts = Counter(phrase.tag for phrase in find_phrases(text))
        scores = {tag: count * math.log((1 + len(corpus)) / (1 + seen[tag])) for tag, count in counts.items()}
        chosen: list[str] = []
        for tag in sorted(scores, key=lambda tag: -scores[tag]):
            if len(chosen) < COUNT and not any(tag in other or other in tag for other in chosen):
                chosen.append(tag)
        result.append(chosen)
    return result


def hits(found: list[list[str]], given: list[set[str]]) -> list[float]:
    """Precision of the first five hashtags of each row; fewer than five count as wrong."""
    return [len(set(tags[:COUNT]) & own) / COUNT for tags, own in zip(found, given, strict=True)]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of the run")
    parser.add_argument("--table", type=Path, default=Path("../shared/data/tour/places.csv.gz"))
    parser.add_argument("--rows", type=int, default=1000, help="the first rows with tags of each split that are used")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    table = read_table(arguments.table).dropna(subset=["overview", "tags"])
    given = {
        str(name): set(tags.split()) for name, tags in zip(table["id"], table["tags"], strict=True) if tags.strip()
    }
    run = Run.open(arguments.run)
    data, predictor = run.task().load(), run.predictor()
    texts, tags = {}, {}
    for split, rows in data.items():
        chosen = [
            (text, given[name]) for name, text in zip(rows["id"][:], rows["text"][:], strict=True) if name in given
        ]
        texts[split], tags[split] = zip(*chosen if split == "train" else chosen[: arguments.rows], strict=True)
    print(", ".join(f"{len(rows):,} {split}" for split, rows in texts.items()), "rows with tags")

    def learned(min_score: float, split: str) -> list[list[str]]:
        tagger = Hashtagger(predictor, COUNT, min_score)
        return [[tag[1:] for tag in made["hashtags"]] for made in tagger(texts[split])]

    tried = {score: statistics.mean(hits(learned(score, "validation"), tags["validation"])) for score in MIN_SCORES}
    print("validation:", ", ".join(f"{value:.3f} from {score}" for score, value in tried.items()))
    best = max(tried, key=tried.get)
    frequent = [tag for tag, _ in Counter(tag for own in tags["train"] for tag in own).most_common(COUNT)]
    asked, own = texts["test"], tags["test"]
    ways = {
        "TF-IDF": tfidf(asked, texts["train"][:CORPUS]),
        "keywords": [[tag for tag, _ in keywords_of(text, COUNT)] for text in asked],
        "phrases": [
            sorted({phrase.tag for phrase in find_phrases(text)} & right)
            for text, right in zip(asked, own, strict=True)
        ],
        "frequent": [frequent] * len(asked),
        f"learned, from {best}": learned(best, "test"),
    }
    print("| hashtags | precision@5 | standard error |\n|---|---|---|")
    for way, found in ways.items():
        scores = hits(found, own)
        print(
            f"| {way} | {statistics.mean(scores):.3f} | {statistics.stdev(scores) / len(scores) ** 0.5:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
