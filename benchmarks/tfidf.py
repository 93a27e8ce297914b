"""What a user would otherwise try first: TF-IDF of character 1- to 4-grams and a linear SVM a head, on hfk's own split.

python benchmarks/tfidf.py ynat --data ../shared/data/ynat/train.csv
python benchmarks/tfidf.py benchmarks/fashion_items.yaml
"""

from __future__ import annotations

import argparse
import time

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from hfk import load_task
from hfk.tasks.labels import label_arrays


def tfidf_scores(task_name: str, data: str | None = None) -> dict[str, float]:
    """Train on the train split, score on test, or on validation where there is no test split."""
    task = load_task(task_name, **({"data": data} if data else {}))
    rows = task.load()
    splits = {"train": rows["train"], "score": rows["test" if "test" in rows else "validation"]}
    scores = {}
    start = time.perf_counter()
    for head in task.heads:
        labels = {split: label_arrays(part, [head])[head.name] for split, part in splits.items()}
        known = {split: values >= 0 if values.ndim == 1 else values[:, 0] >= 0 for split, values in labels.items()}
        texts = {
            split: [text or "" for text, keep in zip(part["text"], known[split], strict=True) if keep]
            for split, part in splits.items()
        }
        target = {split: values[known[split]].astype(int) for split, values in labels.items()}
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
        model = LinearSVC() if head.problem == "single_label" else OneVsRestClassifier(LinearSVC())
        chosen = make_pipeline(vectorizer, model).fit(texts["train"], target["train"]).predict(texts["score"])
        scores[f"{head.name}_macro_f1"] = f1_score(target["score"], chosen, average="macro", zero_division=0)
        if head.problem == "single_label":
            scores[f"{head.name}_accuracy"] = accuracy_score(target["score"], chosen)
        else:
            scores[f"{head.name}_micro_f1"] = f1_score(target["score"], chosen, average="micro")
    return scores | {"train_seconds": time.perf_counter() - start}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="a built-in task or a task YAML")
    parser.add_argument("--data", help="data file of a built-in task")
    arguments = parser.parse_args()
    for name, value in tfidf_scores(arguments.task, arguments.data).items():
        print(f"{name:32}{value:.4f}")
