"""A few labeled rows a class: the recipe `few-shot` beside TF-IDF with a linear SVM, and beside SetFit's way.

Of every set, rows are drawn from the training split, so many of each class and several times over; what was learned is
scored on the held-out split. The recipe's encoder knows no label, so texts are encoded once and heads are fitted to the
rows of each draw by the recipe's own function.

SetFit's way (Tunstall et al. 2022, arXiv:2209.11055) on the same packaged E5: sentences of one class are brought
together and those of two apart, by the cosine of pairs, twenty of either kind a sentence, in one pass with batches of
16 and a learning rate of 2e-5; then logistic regression. `--setfit 8,16` says for how many rows, one draw each.

    python benchmarks/few_shot.py ../shared/data/ynat/train.csv --task ynat --setfit 8,16 --output few_shot.json
    python benchmarks/few_shot.py benchmarks/intent_3i4k.yaml --held-out 2000 --output few_shot.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from transformers import AutoModel, AutoTokenizer

from hfk import HeadConfig, Predictor, load_task
from hfk.backbones.registry import resolve
from hfk.models.problems import HeadLoss
from hfk.tasks.labels import label_arrays
from hfk.training.techniques.fitted_heads import fit_head
from hfk.training.train import prepare

PAIRS, BATCH, RATE = 20, 16, 2e-5
SCORES = ("accuracy", "macro_f1", "seconds")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a task's YAML, or the file of --task")
    parser.add_argument("--task", help="a built-in task, whose data is the source")
    parser.add_argument("--shots", default="8,10,16,50,100", help="rows a class")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--held-out", type=int, default=10**9, help="score on so many rows at most")
    parser.add_argument("--setfit", default="", help="rows a class of which SetFit's way is tried too")
    parser.add_argument("--output", type=Path, required=True, help="JSON, to which the set's figures are added")
    arguments = parser.parse_args()
    task = load_task(arguments.task or arguments.source, **({"data": arguments.source} if arguments.task else {}))
    rows = task.load()
    held_out = rows["test"] if "test" in rows else rows["validation"]
    held_out = held_out.select(range(min(arguments.held_out, len(held_out))))
    shots = [int(count) for count in arguments.shots.split(",")]
    tried = [int(count) for count in arguments.setfit.split(",") if count]
    found = json.loads(arguments.output.read_text(encoding="utf-8")) if arguments.output.is_file() else {}
    for head in [head for head in task.heads if head.rules.exclusive]:
        results = measure(head, rows["train"], held_out, shots, arguments.draws, tried)
        found[f"{task.name} {head.name}"] = results
        arguments.output.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(table(f"{task.name}, {head.name}", results))


def measure(
    head: HeadConfig, train: Dataset, held_out: Dataset, shots: list[int], draws: int, tried: list[int]
) -> list[dict]:
    """Score every way on every draw: one dict each, with `way`, `shots`, `draw`, `accuracy`, `macro_f1`, `seconds`."""
    known, truth = (label_arrays(part, [head])[head.name] for part in (train, held_out))
    drawn = {(count, draw): draw_rows(known, count, draw) for draw in range(draws) for count in shots}
    every = np.unique(np.concatenate(list(drawn.values())))
    place = {row: number for number, row in enumerate(every.tolist())}
    few = train.select(every)
    model, processor = make_model(few, head)
    started = time.perf_counter()
    predictor = Predictor(model, processor, 64)
    seen, asked = (torch.from_numpy(np.stack([output.embedding for output in predictor.outputs(part, True)]))
                   for part in (few.select_columns("text"), held_out.select_columns("text")))  # fmt: skip
    a_text = (time.perf_counter() - started) / (len(seen) + len(asked))
    texts, results = few["text"], []
    for (count, draw), chosen in drawn.items():
        places = np.array([place[row] for row in chosen])
        labels, own = known[chosen], [texts[number] for number in places]

        def add(way: str, answers: np.ndarray, seconds: float) -> None:
            scores = {"accuracy": accuracy_score(truth, answers), "macro_f1": f1_score(truth, answers, average="macro")}
            results.append({"way": way, "shots": count, "draw": draw, "seconds": seconds} | scores)  # noqa: B023

        started = time.perf_counter()
        loss = partial(head.rules.loss, options=HeadLoss())
        target = torch.from_numpy(labels)
        weight, bias, _ = fit_head(seen[places], target, head.num_outputs, loss, 5, labels.tolist())
        answers = torch.nn.functional.linear(asked, weight, bias).argmax(1).numpy()
        add("few-shot", answers, time.perf_counter() - started + a_text * len(own))
        started = time.perf_counter()
        pipe = make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True), LinearSVC())
        add("TF-IDF + LinearSVC", pipe.fit(own, labels).predict(held_out["text"]), time.perf_counter() - started)
        if count in tried and draw == 0:
            started = time.perf_counter()
            encoder = SetFit(own, labels)
            seconds = time.perf_counter() - started
            add("SetFit's way", encoder.predict(held_out["text"]), seconds)
    return results


def draw_rows(labels: np.ndarray, count: int, draw: int) -> np.ndarray:
    """Draw rows, `count` of each class; those of a smaller count are among those of a larger."""
    random = np.random.default_rng(draw)
    return np.concatenate(
        [random.permutation(np.flatnonzero(labels == c))[:count] for c in np.unique(labels[labels >= 0])]
    )


def make_model(rows: Dataset, head: HeadConfig) -> tuple:
    """Make the recipe's encoder, as training would, of a table of these rows."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "few.csv")
        names = [head.labels[label] for label in rows[head.name]]
        Dataset.from_dict({"text": rows["text"], "label": names}).to_csv(table)
        about = {"data": str(table), "text": "text", "heads": [{"name": "label"}], "split": {"test": 0}}
        task = Path(folder, "few.yaml")
        task.write_text(json.dumps(about), encoding="utf-8")
        trainer = prepare("few-shot", Path(folder, "run"), {"task": str(task)}).trainer
        return trainer.model.eval(), trainer.processor


class SetFit:
    """The packaged E5, fine-tuned by pairs, and logistic regression on what it says."""

    def __init__(self, texts: list[str], labels: np.ndarray, seed: int = 0) -> None:
        torch.manual_seed(seed)
        folder = resolve("e5-small-ko", "text")
        self.model, self.tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        random = np.random.default_rng(seed)
        pairs = []
        for row, label in enumerate(labels):
            same = np.flatnonzero((labels == label) & (np.arange(len(labels)) != row))
            other = np.flatnonzero(labels != label)
            for wanted, pool in ((1.0, same), (0.0, other)):
                pairs += [(row, int(random.choice(pool)), wanted) for _ in range(PAIRS)]
        random.shuffle(pairs)
        optimizer = torch.optim.AdamW(self.model.parameters(), RATE, weight_decay=0.01)
        steps = len(pairs) // BATCH
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(step / (0.1 * steps), (steps - step) / (0.9 * steps))
        )
        self.model.train()
        for start in range(0, steps * BATCH, BATCH):
            left, right, wanted = zip(*pairs[start : start + BATCH], strict=True)
            left, right = (self._embed([texts[int(row)] for row in side]) for side in (left, right))
            loss = (torch.cosine_similarity(left, right) - torch.tensor(wanted)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        self.model.eval()
        self.head = LogisticRegression(max_iter=1000).fit(self._encode(texts), labels)

    def _embed(self, texts: list[str]) -> torch.Tensor:
        texts = [f"query: {text}" for text in texts]
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        mask = batch["attention_mask"][..., None]
        states = self.model(**batch).last_hidden_state * mask
        return torch.nn.functional.normalize(states.sum(1) / mask.sum(1))

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> np.ndarray:
        order = np.argsort([len(text) for text in texts])
        result = np.zeros((len(texts), self.model.config.hidden_size), np.float32)
        for part in np.array_split(order, max(1, len(order) // 64)):
            result[part] = self._embed([texts[row] for row in part]).numpy()
        return result

    def predict(self, texts: list[str]) -> np.ndarray:
        """Say the labels of texts."""
        return self.head.predict(self._encode(texts))


def table(title: str, results: list[dict]) -> str:
    """Write means over the draws as Markdown."""
    shots = sorted({one["shots"] for one in results})
    lines = [f"\n{title}\n", f"| way | {' | '.join(map(str, shots))} |", "|---|" + "---|" * len(shots)]
    for way in dict.fromkeys(one["way"] for one in results):
        cells = []
        for count in shots:
            own = [one for one in results if (one["way"], one["shots"]) == (way, count)]
            scores = (
                [np.mean([one[name] for one in own]) for name in ("accuracy", "macro_f1", "seconds")] if own else []
            )
            cells.append("{:.3f} / {:.3f}, {:.0f} s".format(*scores) if own else "")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
