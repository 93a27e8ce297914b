"""Whether cleaning texts helps: ways to clean against none, on real tables, with a linear SVM and an n-gram encoder.

A tenth of the rows is validation, a fifth is test (hfk's split, seed 42), and nothing is chosen by the test rows. The
SVM (TF-IDF of one to four letters) is fitted three times, each without one third of the other rows, and its validation
score is of that third; the encoder (the recipe `ynat-ngram`, or another) is trained with three seeds. What keeps only
some parts of speech, by Kiwi, is no step of hfk any more: this is what it did.

    python benchmarks/cleaning.py ynat hate intent places
    python benchmarks/cleaning.py ynat hate intent --recipe ynat-ngram --output-dir runs/cleaning
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from hfk import load_task, train
from hfk.models.text_cleaning import TextCleaner
from hfk.runs.recipe import load_recipe

SETS = {
    "ynat": ("ynat/train.csv", "title", "topic_idx"),
    "hate": ("korean_hate_speech/train.csv", "comments", "hate"),
    "intent": ("intent_3i4k/train.csv", "text", "label"),
    "places": ("tour/places.csv.gz", "overview", "content_type"),
}
SEEDS = (1, 2, 3)


@cache
def _kiwi():
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


def content_words(text: str) -> str:
    """Nouns, verbs, adjectives and roots, as the preset `elaborate` left them."""
    simple = TextCleaner("simple")(text)
    found = [token.form for token in _kiwi().tokenize(simple) if token.tag.startswith(("NNG", "NNP", "VV", "VA", "XR"))]
    return " ".join(found) or simple


WAYS: dict[str, Callable[[str], str]] = {
    "none": str,
    "simple": TextCleaner("simple"),
    "simple, content words": content_words,
}


def rows_of(name: str, data: Path) -> pd.DataFrame:
    """A set's rows with columns text, label and split."""
    path, text, label = SETS[name]
    heads = [{"name": "label", "column": label, "min_rows": 20}]
    task = load_task({"data": str(data / path), "text": text, "heads": heads, "bad_rows": "drop",
                      "split": {"validation": 0.1, "test": 0.2, "seed": 42}})  # fmt: skip
    parts = [pd.DataFrame({"text": rows["text"], "label": rows["label"], "split": split})
             for split, rows in task.load().items()]  # fmt: skip
    return pd.concat(parts, ignore_index=True).dropna(subset=["label"]).astype({"label": int})


def macro_f1(labels: list[int], answers: list[int]) -> float:
    """Macro-F1 in points."""
    return 100 * f1_score(labels, answers, average="macro", zero_division=0)


def svm(rows: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Validation and test scores of the three models."""
    test, rest = rows[rows["split"] == "test"], rows[rows["split"] != "test"]
    scores = [], []
    for fitted, held in StratifiedKFold(3, shuffle=True, random_state=42).split(rest["text"], rest["label"]):
        features = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
        model = make_pipeline(features, LinearSVC()).fit(rest["text"].iloc[fitted], rest["label"].iloc[fitted])
        for found, part in zip(scores, (rest.iloc[held], test), strict=True):
            found.append(macro_f1(part["label"], model.predict(part["text"])))
    return scores


def encoder(rows: pd.DataFrame, recipe: str, folder: Path) -> tuple[list[float], list[float]]:
    """Validation and test scores with three seeds; finished runs are not done again."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "rows.csv", index=False)
    task = {"data": "rows.csv", "text": "text", "heads": [{"name": "label"}], "split": {"column": "split"}}
    (folder / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    scores = [], []
    for seed in SEEDS:
        run = folder / f"seed-{seed}"
        if not (run / "report" / "metrics.json").is_file():
            train(load_recipe(recipe) | {"task": str(folder / "task.yaml"), "seed": seed, "disable_tqdm": True}, run)
        log = json.loads((run / "training_log.json").read_text(encoding="utf-8"))
        results = json.loads((run / "report" / "metrics.json").read_text(encoding="utf-8"))
        scores[0].append(100 * max(entry["eval_label_macro_f1"] for entry in log if "eval_label_macro_f1" in entry))
        scores[1].append(100 * results["scores"]["label_macro_f1"])
    return scores


def spread(values: list[float]) -> str:
    """Mean ± standard deviation, as text."""
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--recipe", help="train this one's encoder, in place of the SVM")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/cleaning"))
    arguments = parser.parse_args()
    columns = ("set", "model", "way", "rows changed", "validation macro-F1", "test macro-F1", "against none")
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    for name in arguments.sets:
        rows, plain = rows_of(name, arguments.data), None
        for way in arguments.ways:
            cleaned = [WAYS[way](text) or text for text in rows["text"]]
            changed = sum(new != old for new, old in zip(cleaned, rows["text"], strict=True)) / len(rows)
            table = rows.assign(text=cleaned)
            if arguments.recipe is None:
                validation, test = svm(table)
            else:
                folder = arguments.output_dir / arguments.recipe / name / way.replace(", ", "-").replace(" ", "-")
                validation, test = encoder(table, arguments.recipe, folder)
            plain = plain or test
            gains = [new - old for new, old in zip(test, plain, strict=True)]
            cells = [spread(found) for found in (validation, test, gains)]
            print(f"| {name} | {arguments.recipe or 'SVM'} | {way} | {changed:.0%} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
