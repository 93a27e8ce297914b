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
from collections.abc import Callable
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


def rows_of(path: Path) -> list[tuple[str, str, bool, bool, float]]:
    """Text, label, whether the sides differ, whether it is talk, and the share of words that are not the other side's;
    of every row that the task makes of a table."""
    rows = []
    for pair in read_pairs(path):
        differs, talk = pair.dialect != pair.standard, pair.conversation.startswith(("DK", "DJ", "DZ"))
        words = pair.dialect.split()
        share = sum(word not in pair.standard.split() for word in words) / max(1, len(words))
        rows += [(pair.dialect, pair.region, differs, talk, share)] * differs
        rows.append((pair.standard, STANDARD, differs, talk, share))
    return rows


Answer = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]
"""Texts → the label of each, and how sure the model is of it."""


def report(name: str, folder: Path, answer: Answer, coverage: float | None = None) -> dict[str, float]:
    """Print macro-F1 on AI-Hub's talk and on all sentences, of pairs that differ and of all.

    With `coverage`, also what is left when the least sure answers are withheld, by a threshold that leaves that share
    of the validation rows, each region's F1, and the accuracy by how many of a text's words are not the standard's.
    """
    rows = rows_of(folder / "test.tsv")
    given, sure = answer([row[0] for row in rows])
    label, differs, talk = (np.array(column) for column in list(zip(*rows, strict=True))[1:4])
    parts = {
        "talk, differing": talk & differs,
        "talk, all": talk,
        "sentences, differing": differs,
        "sentences, all": differs | True,
    }
    scores = {part: macro_f1(label[chosen], given[chosen]) for part, chosen in parts.items()}
    print(f"{name:44}", *(f"{score:.4f}" for score in scores.values()), flush=True)
    if coverage is None:
        return scores
    known = rows_of(folder / "validation.tsv")
    there = np.array([row[3] for row in known])
    least = np.quantile(answer([row[0] for row in known])[1][there], 1 - coverage)
    for part in ("talk, differing", "talk, all"):
        kept = parts[part] & (sure >= least)
        scores[f"{part}, sure"] = macro_f1(label[kept], given[kept])
        scores[f"{part}, coverage"] = kept.sum() / parts[part].sum()
        macro, covered = scores[f"{part}, sure"], scores[f"{part}, coverage"]
        before, after = (((given == label)[chosen]).mean() for chosen in (parts[part], kept))
        print(f"  {part}, from {least:.3f}: covered {covered:.3f}, macro-F1 {macro:.4f}")
        print(f"    accuracy {before:.4f}, of what is covered {after:.4f}")
    names = sorted(set(label[talk]) | set(given[talk]))
    both = parts["talk, differing"]
    each = f1_score(label[both], given[both], labels=names, average=None, zero_division=0)
    print(
        "  F1, talk, differing:", ", ".join(f"{region} {value:.3f}" for region, value in zip(names, each, strict=True))
    )
    print(f"  {names} {confusion_matrix(label[both], given[both], labels=names).tolist()}")
    share = np.array([row[4] for row in rows])
    for low, high in ((0, 0), (0, 0.15), (0.15, 0.3), (0.3, 0.5), (0.5, 1)):
        chosen = talk & (label != STANDARD) & (share > low) & (share <= high) if high else talk & ~differs
        accuracy = (given == label)[chosen].mean()
        print(f"  words that differ {low:.0%}-{high:.0%}: {chosen.sum()} rows, accuracy {accuracy:.3f}")
    return scores


def macro_f1(label: np.ndarray, given: np.ndarray) -> float:
    return f1_score(label, given, labels=sorted(set(label)), average="macro", zero_division=0)


def baseline(folder: Path, words: bool = False, **options: object) -> Answer:
    """TF-IDF of character 1- to 4-grams and a linear SVM, as the ladder's `tfidf` has them; surest by its margin."""
    rows = rows_of(folder / "train.tsv") + (rows_of(folder / "words.tsv") if words else [])
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    model = make_pipeline(vectorizer, LinearSVC(**options)).fit([row[0] for row in rows], [row[1] for row in rows])

    def answer(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        values = model.decision_function(texts)
        top = np.sort(values, axis=1)
        return model.classes_[values.argmax(axis=1)], top[:, -1] - top[:, -2]

    return answer


def score(folder: Path, run: Path) -> dict[str, float]:
    from hfk.inference.predictor import Predictor

    predictor = Predictor.from_pretrained(str(run), batch_size=256)

    def answer(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        found = [answer["region"][0] for answer in predictor(texts, top_k=1)]
        return np.array([one["label"] for one in found]), np.array([one["score"] for one in found])

    return report(run.name, folder, answer, coverage=0.8)


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
            report(f"TF-IDF + LinearSVC{', words too' * words}", first, baseline(first, words), coverage=0.8)
    else:
        found = [score(first, run) for run in others]
        for part in found[0]:
            values = np.array([scores[part] for scores in found])
            print(f"{part}: {values.mean():.4f} ± {values.std(ddof=1) if len(values) > 1 else 0:.4f}")
