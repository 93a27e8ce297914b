"""Ways to deal with rare classes, against each other: one task, one split, one table.

Each way is a few options of a recipe (`METHODS`). The table gives macro and weighted F1 of the finest head on the test
split, F1 of its frequent, middling and rare classes (at least 100, 20 to 99, and fewer training rows, as Liu et al.
2019, arXiv:1904.05160, divide them), and macro F1 on the validation split, by which a way is to be chosen. TF-IDF and a
linear SVM on the same text stand beside.

    python benchmarks/imbalance.py --prepare --data ../shared/data/tour/places.csv.gz
    python benchmarks/imbalance.py --seeds 1 2 3 --output-dir runs/tour_places/ngram text_encoder=ngram
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score, precision_recall_fscore_support
from sklearn.svm import LinearSVC
from transformers.utils import logging

from hfk import load_task, train
from hfk.runs.recipe import parse_overrides
from hfk.tasks.labels import label_arrays
from hfk.tasks.split import finest_head
from hfk.tasks.tables import read_table

PLACES = Path(__file__).parents[1] / "runs" / "tour_places" / "places.csv"
METHODS = {
    "plain": {},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "sampling sqrt": {"sampling": "sqrt"},
    "sampling balanced": {"sampling": "balanced"},
    "weights sqrt": {"class_weights": "sqrt"},
    "weights balanced": {"class_weights": "balanced"},
    "weights effective 0.99": {"class_weights": {"value": "effective", "beta": 0.99}},
    "weights effective 0.999": {"class_weights": "effective"},
    "focal 1": {"focal": 1.0},
    "focal 2": {"focal": 2.0},
    "logit adjustment 0.5": {"logit_adjustment": 0.5},
    "logit adjustment 1": {"logit_adjustment": 1.0},
    "logit adjustment 1.5": {"logit_adjustment": 1.5},
    "augmentation": {"eda": True},
    "marginal": {"hierarchy_loss": "marginal"},
    "adjustment + augmentation": {"logit_adjustment": 1.0, "eda": True},
    "adjustment + marginal": {"logit_adjustment": 1.0, "hierarchy_loss": "marginal"},
}
GROUPS = {"frequent": (100, None), "middling": (20, 99), "rare": (0, 19)}
COLUMNS = ("validation macro", "macro", "weighted", *GROUPS, "consistent alone", "macro alone", "seconds")


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
    """Write the labelled places with their names masked; returns what was done, in a sentence."""
    rows = read_table(source)
    rows = rows[rows["weak_cat3"].notna()]
    masked = [mask_name(text, place) for text, place in zip(rows["overview"], rows["place"], strict=True)]
    changed = sum(new != old for new, old in zip(masked, rows["overview"], strict=True))
    target.parent.mkdir(parents=True, exist_ok=True)
    labels = rows[["weak_cat1", "weak_cat2", "weak_cat3"]]
    pd.concat([rows[["id"]].assign(overview=masked), labels], axis=1).to_csv(target, index=False)
    return f"wrote {target}: {len(rows):,} places; {changed:,} overviews named theirs, which is masked"


def group_scores(f1: dict[str, float], counts: dict[str, int]) -> dict[str, float]:
    """Mean F1 over the classes of each group.

    Args:
        f1: class → F1 on the rows scored.
        counts: class → training rows.

    Returns:
        group → mean; a group without a class is left out.
    """
    scores = {}
    for name, (low, high) in GROUPS.items():
        group = [f1[label] for label in f1 if low <= counts[label] and (high is None or counts[label] <= high)]
        if group:
            scores[name] = statistics.mean(group)
    return scores


def read_run(folder: Path, head: str, counts: dict[str, int]) -> dict[str, float]:
    """Scores of a finished run."""
    results = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    log = json.loads((folder / "training_log.json").read_text(encoding="utf-8"))
    with open(folder / "report" / "per_class.csv", encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["head"] == head and int(row["support"])]
    scores = results["scores"]
    return {
        "validation macro": max(entry.get(f"eval_{head}_macro_f1", 0.0) for entry in log),
        "macro": scores[f"{head}_macro_f1"],
        "weighted": scores[f"{head}_weighted_f1"],
        **group_scores({row["label"]: float(row["f1"]) for row in rows}, counts),
        "consistent alone": scores.get("hierarchy_consistency_independent", 1.0),
        "macro alone": scores.get(f"{head}_macro_f1_independent", scores[f"{head}_macro_f1"]),
        "seconds": results["extra"]["train_seconds"],
    }


def svm_scores(texts: dict[str, list[str]], labels: dict[str, np.ndarray], names: list[str], weights: str | None):
    """Scores of TF-IDF char(1–4) and a linear SVM, by the names of `read_run`."""
    start = time.perf_counter()
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    model = LinearSVC(class_weight=weights).fit(vectorizer.fit_transform(texts["train"]), labels["train"])
    seconds = time.perf_counter() - start
    chosen = {split: model.predict(vectorizer.transform(texts[split])) for split in ("validation", "test")}
    _, _, f1, support = precision_recall_fscore_support(labels["test"], chosen["test"], labels=range(len(names)),
                                                        zero_division=0)  # fmt: skip
    counts = dict(zip(names, np.bincount(labels["train"], minlength=len(names)).tolist(), strict=True))
    return {
        "validation macro": f1_score(labels["validation"], chosen["validation"], average="macro", zero_division=0),
        "macro": f1_score(labels["test"], chosen["test"], average="macro", zero_division=0),
        "weighted": f1_score(labels["test"], chosen["test"], average="weighted", zero_division=0),
        **group_scores({name: value for name, value, rows in zip(names, f1, support, strict=True) if rows}, counts),
        "seconds": seconds,
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true", help="write the masked table of places, and no more")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tour/places.csv.gz"), help="for --prepare")
    parser.add_argument("--task", default=str(Path(__file__).parent / "tour_places.yaml"), help="a task YAML")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/imbalance"))
    parser.add_argument("options", nargs="*", help="key=value for every run")
    arguments = parser.parse_intermixed_args()
    if arguments.prepare:
        print(prepare(arguments.data))
        return
    logging.disable_progress_bar()
    overrides = {"disable_tqdm": True} | parse_overrides(arguments.options)
    task = load_task(arguments.task)
    data = task.load()
    name = finest_head(task.heads)
    head = next(head for head in task.heads if head.name == name)
    labels = {split: label_arrays(rows, [head])[name] for split, rows in data.items()}
    texts = {
        split: [text or "" for text, label in zip(rows["text"], labels[split], strict=True) if label >= 0]
        for split, rows in data.items()
    }
    labels = {split: values[values >= 0] for split, values in labels.items()}
    counts = dict(zip(head.labels, np.bincount(labels["train"], minlength=len(head.labels)).tolist(), strict=True))
    found = {
        "TF-IDF + SVM": [svm_scores(texts, labels, head.labels, None)],
        "TF-IDF + SVM balanced": [svm_scores(texts, labels, head.labels, "balanced")],
    }
    for method in arguments.methods:
        for seed in arguments.seeds:
            folder = arguments.output_dir / f"{method.replace(' ', '-').replace('+', 'and')}-{seed}"
            if not (folder / "report" / "metrics.json").is_file():  # a finished run is not done again
                train(arguments.task, folder, overrides | METHODS[method] | {"seed": seed})
            found.setdefault(method, []).append(read_run(folder, name, counts))
    sizes = {group: sum(low <= n and (high is None or n <= high) for n in counts.values())
             for group, (low, high) in GROUPS.items()}  # fmt: skip
    lines = [
        f"{name}: {len(counts)} classes, {', '.join(f'{size} {group}' for group, size in sizes.items())}; "
        f"{', '.join(f'{len(values):,} {split}' for split, values in labels.items())} rows",
        "",
        f"| way | {' | '.join(COLUMNS)} |",
        "|---|" + "---|" * len(COLUMNS),
        *(f"| {method} | {' | '.join(spread(runs, column) for column in COLUMNS)} |" for method, runs in found.items()),
    ]
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    (arguments.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (arguments.output_dir / "scores.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print("\n".join(lines))


def spread(runs: list[dict[str, float]], key: str) -> str:
    """Mean ± standard deviation over the seeds, as text."""
    values = [run[key] for run in runs if key in run]
    if not values:
        return "–"
    form = ".0f" if key == "seconds" else ".3f"
    return f"{statistics.mean(values):{form}}" + (f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
