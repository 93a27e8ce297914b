"""Ways to deal with rare classes, chosen on folds and then scored once on rows apart, beside TF-IDF and a linear SVM.

Each way is a few options of a recipe (`METHODS`). All are trained on five folds of the rows that are not test rows; the
one of the best out-of-fold macro-F1 of the finest head is trained on all of those rows with three seeds and scored on
the test rows. The SVMs, plain and balanced, are fitted on the same folds and rows. No epoch is chosen. F1 of frequent,
middling and rare classes is that of classes of at least 100, 20 to 99, and fewer training rows (Liu et al. 2019,
arXiv:1904.05160).

    python benchmarks/imbalance.py --prepare --data ../shared/data/tour/places.csv.gz
    python benchmarks/imbalance.py --output-dir runs/tour_places
"""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC
from transformers.utils import logging

from hfk import load_task, train
from hfk.runs.recipe import parse_overrides
from hfk.runs.run import Run
from hfk.tasks.labels import label_arrays
from hfk.tasks.split import finest_head
from hfk.tasks.tables import read_table
from hfk.training.folds import train_folds

PLACES = Path(__file__).parents[1] / "runs" / "tour_places" / "places.csv"
METHODS = {
    "plain": {},
    "class_weights=balanced": {"class_weights": "balanced"},
    "sampling=balanced": {"sampling": "balanced"},
}
SVMS = {"TF-IDF + LinearSVC": None, "the same, balanced class weights": "balanced"}
FOLDS = 5
GROUPS = {"frequent": (100, None), "middling": (20, 99), "rare": (0, 19)}
COLUMNS = ("out of fold", "test", "weighted", *GROUPS)


def mask_name(overview: str, place: str) -> str:
    """Put 이곳 in place of a place's name, however it is spaced, with or without what stands in brackets.

    Args:
        overview: the text.
        place: the name, such as 덕구계곡 (경북 동해안 국가지질공원).

    Returns:
        the text without the name; as it is, where the name has one character.

    Example:
        >>> mask_name("동해의 경포 해수욕장은 넓다. 경포해수욕장에서", "경포해수욕장(강릉)")
        '동해의 이곳은 넓다. 이곳에서'
    """
    bare = re.sub(r"\([^)]*\)|\[[^\]]*\]", "", place)
    for name in sorted({re.sub(r"\s", "", name) for name in (place, bare)}, key=len, reverse=True):
        if len(name) > 1:
            overview = re.sub(r"\s*".join(map(re.escape, name)), "이곳", overview)
    return overview


def prepare(source: Path, target: Path = PLACES) -> str:
    """Write the labeled places with their names masked; returns what was done, in a sentence."""
    rows = read_table(source)
    rows = rows[rows["weak_cat3"].notna()]
    masked = [mask_name(text, place) for text, place in zip(rows["overview"], rows["place"], strict=True)]
    changed = sum(new != old for new, old in zip(masked, rows["overview"], strict=True))
    target.parent.mkdir(parents=True, exist_ok=True)
    labels = rows[["weak_cat1", "weak_cat2", "weak_cat3"]]
    pd.concat([rows[["id"]].assign(overview=masked), labels], axis=1).to_csv(target, index=False)
    return f"wrote {target}: {len(rows):,} places; {changed:,} overviews named theirs, which is masked"


def macro(labels: np.ndarray, answers: np.ndarray) -> float:
    """Macro-F1."""
    return f1_score(labels, answers, average="macro", zero_division=0)


def test_scores(labels: np.ndarray, answers: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Scores of the test rows; `counts` are the training rows of the classes."""
    classes = np.unique(labels)
    f1 = f1_score(labels, answers, labels=classes, average=None, zero_division=0)
    found = {"test": macro(labels, answers), "weighted": f1_score(labels, answers, average="weighted", zero_division=0)}
    for name, (low, high) in GROUPS.items():
        group = f1[(counts[classes] >= low) & (counts[classes] <= (high or counts.max()))]
        if len(group):
            found[name] = group.mean()
    return found


def svms(texts: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
    """What TF-IDF of one to four letters and a linear SVM say of texts: way → answers."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    features, others = vectorizer.fit_transform(texts), vectorizer.transform(asked)
    return {way: LinearSVC(class_weight=weights).fit(features, labels).predict(others) for way, weights in SVMS.items()}


def said(folder: Path, head: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels and answers of the rows that a run, or its folds, did not see."""
    predictions = Run.open(folder).predictions()
    return predictions.known(next(own for own in predictions.heads if own.name == head))[:2]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true", help="write the masked table of places, and no more")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tour/places.csv.gz"), help="for --prepare")
    parser.add_argument("--task", default=str(Path(__file__).parent / "tour_places.yaml"), help="a task YAML")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the runs on the test rows")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/imbalance"))
    parser.add_argument("options", nargs="*", help="key=value for every run")
    arguments = parser.parse_intermixed_args()
    if arguments.prepare:
        print(prepare(arguments.data))
        return
    logging.disable_progress_bar()
    options = {"disable_tqdm": True} | parse_overrides(arguments.options)
    task = load_task(arguments.task)
    pool, test = task.pool(FOLDS), task.load()["test"]
    name = finest_head(task.heads)
    head = next(head for head in task.heads if head.name == name)
    rows = {"train": pool.rows, "test": test}
    labels = {part: label_arrays(data, [head])[name] for part, data in rows.items()}
    known = {part: values >= 0 for part, values in labels.items()}
    texts = {part: np.array(data["text"][:], dtype=object)[known[part]] for part, data in rows.items()}
    labels, folds = {part: values[known[part]] for part, values in labels.items()}, pool.folds[known["train"]]
    counts = np.bincount(labels["train"], minlength=len(head.labels))

    found: dict[str, list[dict[str, float]]] = {}
    held_out = {way: np.empty_like(labels["train"]) for way in SVMS}
    for fold in range(FOLDS):
        others, held = folds != fold, folds == fold
        for way, answers in svms(texts["train"][others], labels["train"][others], texts["train"][held]).items():
            held_out[way][held] = answers
    for way, answers in svms(texts["train"], labels["train"], texts["test"]).items():
        scores = test_scores(labels["test"], answers, counts)
        found[way] = [{"out of fold": macro(labels["train"], held_out[way])} | scores]
    for method in arguments.methods:
        folder = arguments.output_dir / method.replace("=", "-")
        train_folds(arguments.task, folder, FOLDS, overrides=options | METHODS[method] | {"seed": arguments.seeds[0]})
        found[method] = [{"out of fold": macro(*said(folder, name))}]
    chosen = max(arguments.methods, key=lambda method: found[method][0]["out of fold"])
    for seed in arguments.seeds:
        folder = arguments.output_dir / f"chosen-{seed}"
        if not Run(folder).finished:
            train(arguments.task, folder, options | METHODS[chosen] | {"seed": seed})
        found[chosen].append(test_scores(*said(folder, name), counts))

    sizes = {group: int(((counts >= low) & (counts <= (high or counts.max()))).sum())
             for group, (low, high) in GROUPS.items()}  # fmt: skip
    print(
        f"{name}: {len(counts)} classes, {', '.join(f'{size} {group}' for group, size in sizes.items())}; "
        f"{', '.join(f'{len(values):,} {part}' for part, values in labels.items())} rows; chosen: {chosen}\n"
    )
    print(f"| way | {' | '.join(COLUMNS)} |\n|---|" + "---|" * len(COLUMNS))
    for way, runs in found.items():
        print(f"| {way} | {' | '.join(spread(runs, column) for column in COLUMNS)} |")


def spread(runs: list[dict[str, float]], key: str) -> str:
    """Mean ± standard deviation over the seeds, as text."""
    values = [run[key] for run in runs if key in run]
    if not values:
        return ""
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
