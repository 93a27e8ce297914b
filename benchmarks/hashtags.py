"""Keywords of hfk's hashtags against TF-IDF: on rows of a table with tags, or on 46 overviews written for this.

Our own set is small: it tells one way from another only where they differ by much (standard error about 0.03), and says
nothing of what others would tag. Half of it, the even rows, was looked at when the weights of `statistics` were chosen.
`--table` names one with columns overview and tags, of which `--rows` are drawn by `--seed`; the weights were chosen on
others. A keyword is right if it is one of the row's tags, letter for letter; `phrases` is the most that a perfect
ranking of the same phrases could have. Categories are those of a checkpoint that learned tags from the table's other
rows (`--rest` writes them); they come first, as in a line of hashtags. TF-IDF's document frequencies are those of the
texts, or of the table `--corpus`.

    python benchmarks/hashtags.py --table ../shared/data/tour/places.csv.gz --rows 1000 --seed 0 --analyzers kiwi
    python benchmarks/hashtags.py --table ../shared/data/tour/places.csv.gz --rows 1000 --rest runs/hashtags/rest.csv
    hfk train benchmarks/hashtags.yaml --output-dir runs/hashtags/places   # then --checkpoint runs/hashtags/places
    python benchmarks/hashtags.py --corpus ../shared/data/tour/places.csv.gz
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from pathlib import Path

from transformers.utils import logging

from hfk import Predictor
from hfk.tasks.tables import read_table
from hfk.tools.hashtags.hashtagger import Hashtagger, keywords_of
from hfk.tools.hashtags.noun_phrases import ANALYZERS, choose_analyzer, find_phrases

SET = Path(__file__).with_name("hashtags.jsonl")
COUNT = 5


def tfidf(texts: list[str], corpus: list[str], analyzer: str) -> list[list[str]]:
    """Rank the same phrases by how often they stand in a text, and how rarely in others."""
    seen = Counter(tag for text in corpus for tag in {phrase.tag for phrase in find_phrases(text, analyzer)})
    result = []
    for text in texts:
        counts = Counter(phrase.tag for phrase in find_phrases(text, analyzer))
        scores = {tag: count * math.log((1 + len(corpus)) / (1 + seen[tag])) for tag, count in counts.items()}
        chosen: list[str] = []
        for tag in sorted(scores, key=lambda tag: -scores[tag]):
            if len(chosen) < COUNT and not any(tag in other or other in tag for other in chosen):
                chosen.append(tag)
        result.append(chosen)
    return result


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="whose categories come before the keywords")
    parser.add_argument("--table", type=Path, help="measure on this table, in place of our own set")
    parser.add_argument("--seed", type=int, default=0, help="draws the table's rows")
    parser.add_argument("--rest", type=Path, help="only write the table's other rows, to train on")
    parser.add_argument("--analyzers", nargs="+", default=list(ANALYZERS[1:]), choices=ANALYZERS[1:])
    parser.add_argument("--corpus", type=Path, help="table of texts for TF-IDF")
    parser.add_argument("--column", default="overview", help="its text column")
    parser.add_argument("--corpus-rows", type=int, default=1500)
    parser.add_argument("--rows", type=int, help="use the first rows alone")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    rows = [json.loads(line) for line in SET.read_text(encoding="utf-8").splitlines()][: arguments.rows]
    if arguments.table:
        table = read_table(arguments.table).replace("", None).dropna(subset=["overview", "tags"])
        drawn = random.Random(arguments.seed).sample(range(len(table)), arguments.rows or len(table))
        if arguments.rest:
            arguments.rest.parent.mkdir(parents=True, exist_ok=True)
            table.drop(table.index[drawn]).to_csv(arguments.rest, index=False)
            return
        table = table.iloc[drawn]
        pairs = zip(table["overview"], table["tags"], strict=True)
        rows = [{"overview": text, "hashtags": tags.split()} for text, tags in pairs]
    texts = [row["overview"] for row in rows]
    corpus = texts
    if arguments.corpus:
        column = read_table(arguments.corpus)[arguments.column].dropna()
        corpus = [str(text)[:600] for text in column.iloc[:: max(1, len(column) // arguments.corpus_rows)]]
    predictor = Predictor.from_pretrained(arguments.checkpoint) if arguments.checkpoint else None
    results: dict[str, dict[str, dict[str, float]]] = {}
    print("| phrases | ranking | precision@5 | standard error | rows/s |\n|---|---|---|---|---|")
    for analyzer in arguments.analyzers:
        choose_analyzer(analyzer)
        find_phrases("가", analyzer)  # loads it

        ways = {
            "phrases": lambda analyzer=analyzer: [
                list({phrase.tag for phrase in find_phrases(text, analyzer)} & set(row["hashtags"]))[:COUNT]
                for text, row in zip(texts, rows, strict=True)
            ],
            "tfidf": lambda analyzer=analyzer: tfidf(texts, corpus, analyzer),
            "statistics": lambda analyzer=analyzer: [
                [tag for tag, _ in keywords_of(text, COUNT, analyzer)] for text in texts
            ],
        }
        if predictor is not None:
            tagger = Hashtagger(predictor, COUNT, analyzer=analyzer)
            ways["categories, statistics"] = lambda tagger=tagger: [
                [tag[1:] for tag in made["hashtags"][:COUNT]] for made in tagger(texts)
            ]
        results[analyzer] = {}
        for name, way in ways.items():
            start = time.perf_counter()
            found = way()
            seconds = time.perf_counter() - start
            hits = [len(set(tags) & set(row["hashtags"])) / COUNT for tags, row in zip(found, rows, strict=True)]
            mean = sum(hits) / len(hits)
            error = (sum((hit - mean) ** 2 for hit in hits) / max(1, len(hits) - 1) / len(hits)) ** 0.5
            results[analyzer][name] = {"precision_at_5": mean, "standard_error": error}
            if name not in ("phrases", "tfidf"):  # whose time goes into counting the corpus
                results[analyzer][name]["rows_per_second"] = len(rows) / seconds
            speed = f"{len(rows) / seconds:.0f}" if "rows_per_second" in results[analyzer][name] else ""
            print(f"| {analyzer} | {name} | {mean:.3f} | {error:.3f} | {speed} |", flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
