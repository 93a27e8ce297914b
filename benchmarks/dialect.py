"""Where a sentence comes from, on real rows: the split of benchmarks/dialect.md, its baseline, and the scores of runs.

python benchmarks/dialect.py split ../shared/data/dialect runs/dialect-rows
python benchmarks/dialect.py tfidf runs/dialect-rows
python benchmarks/dialect.py score runs/dialect-rows runs/dialect-1 runs/dialect-2 runs/dialect-3
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import confusion_matrix, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from hfk.tasks.dialect import BLOCK, STANDARD, Pair, read_pairs

TALK = "aihub_utterances.tsv"
SENTENCES = ("blessingdev_chungcheong_sentences.tsv", "jit_jeju_sentences.tsv")
WORDS = ("inistory_gyeongsang_words.tsv", "mireu_jeju_words.tsv", "jeju_dictionary.tsv")
HEADER = ("region", "dialect", "standard", "utterance_id", "conversation_id")


def draw(name: str) -> float:
    """A number from 0 to 1 that depends on a name only."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) / 2**32


def split(data: Path, folder: Path) -> None:
    """Divide the pairs: of each AI-Hub conversation the last 30 % are test, every fourth block before is validation."""
    parts: dict[str, list[Pair]] = defaultdict(list)
    talks: dict[str, list[Pair]] = defaultdict(list)
    for pair in read_pairs(data / TALK):
        talks[pair.conversation].append(pair)
    for pairs in talks.values():
        cut = int(0.7 * len(pairs))
        for place, pair in enumerate(pairs):
            held_out = place // BLOCK % 4 == 1
            parts["test" if place >= cut else "validation" if held_out else "train"].append(pair)
    for file in SENTENCES:
        for pair in read_pairs(data / file):
            chance = draw(pair.standard)
            parts["test" if chance < 0.2 else "validation" if chance < 0.35 else "train"].append(pair)
    said = {pair.dialect for part in ("test", "validation") for pair in parts[part]}
    for file in WORDS:
        parts["words"] += [pair for pair in read_pairs(data / file) if pair.dialect not in said]
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for part, pairs in parts.items():
        cells = [(pair.region, pair.dialect, pair.standard, pair.id, pair.conversation) for pair in pairs]
        with open(folder / f"{part}.tsv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
            writer.writerow(HEADER)
            writer.writerows(cells)
        tables[part] = Dataset.from_list([dict(zip(HEADER, row, strict=True)) for row in cells])
        print(f"{part}: {len(pairs)} pairs, {sum(pair.dialect != pair.standard for pair in pairs)} differ")
    words = tables.pop("words")
    DatasetDict(tables).save_to_disk(folder / "pairs")
    DatasetDict(tables | {"train": concatenate_datasets([tables["train"], words])}).save_to_disk(folder / "with_words")


def rows_of(path: Path) -> list[tuple[str, str, bool, bool]]:
    """Text, label, whether the sides differ, whether it is talk; of every row that the task makes of a table."""
    rows = []
    for pair in read_pairs(path):
        differs, talk = pair.dialect != pair.standard, pair.conversation.startswith(("DK", "DJ", "DZ"))
        rows += [(pair.dialect, pair.region, differs, talk)] * differs + [(pair.standard, STANDARD, differs, talk)]
    return rows


def report(name: str, path: Path, answer: object, confusion: bool = False) -> dict[str, float]:
    """Print macro-F1 on AI-Hub's talk and on all sentences, of pairs that differ and of all; `answer` takes texts."""
    rows = rows_of(path)
    given = np.array(answer([row[0] for row in rows]))
    label, differs, talk = (np.array(column) for column in list(zip(*rows, strict=True))[1:])
    scores = {}
    for part, chosen in (
        ("talk, differing", talk & differs),
        ("talk, all", talk),
        ("sentences, differing", differs),
        ("sentences, all", differs | True),
    ):
        labels = sorted(set(label[chosen]))
        scores[part] = f1_score(label[chosen], given[chosen], labels=labels, average="macro", zero_division=0)
    print(f"{name:44}", *(f"{score:.4f}" for score in scores.values()), flush=True)
    if confusion:
        names = sorted(set(label[talk]) | set(given[talk]))
        print(names, confusion_matrix(label[talk & differs], given[talk & differs], labels=names).tolist())
    return scores


def baseline(folder: Path, words: bool = False, **options: object) -> object:
    """TF-IDF of character 1- to 4-grams and a linear SVM, as the ladder's `tfidf` has them."""
    rows = rows_of(folder / "train.tsv") + (rows_of(folder / "words.tsv") if words else [])
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    return make_pipeline(vectorizer, LinearSVC(**options)).fit([row[0] for row in rows], [row[1] for row in rows])


def score(folder: Path, run: Path) -> dict[str, float]:
    from hfk.inference.predictor import Predictor

    predictor = Predictor.from_pretrained(str(run), batch_size=256)

    def answer(texts: list[str]) -> list[str]:
        return [found["region"][0]["label"] for found in predictor(texts, top_k=1)]

    return report(run.name, folder / "test.tsv", answer, confusion=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["split", "tfidf", "score"])
    parser.add_argument("folders", nargs="+", type=Path)
    arguments = parser.parse_args()
    first, *others = arguments.folders
    if arguments.what == "split":
        split(first, *others)
    elif arguments.what == "tfidf":
        for words in (False, True):
            model = baseline(first, words)
            report(f"TF-IDF + LinearSVC{', words too' * words}", first / "test.tsv", model.predict, confusion=True)
    else:
        found = [score(first, run) for run in others]
        for part in found[0]:
            values = np.array([scores[part] for scores in found])
            print(f"{part}: {values.mean():.4f} ± {values.std(ddof=1) if len(values) > 1 else 0:.4f}")
