"""A head problem that hfk does not know, entered from here alone: ordered labels, by continuation ratios.

Logit k says whether the answer goes beyond label k once it is there: p(k) = σ(-l_k) · Π_{j<k} σ(l_j). Labels in a row
are so near or far, where a softmax knows them as different only. CONTRIBUTING.md shows the class.
"""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hfk import HeadConfig, MultiHeadForClassification, train
from hfk.evaluation.metrics import score_heads
from hfk.evaluation.predictions import Predictions
from hfk.models.decoding import readable
from hfk.models.problems import PROBLEMS, HeadLoss, SingleLabel
from tests import tiny

STARS = ["one", "two", "three", "four"]


class Ordinal(SingleLabel):
    """One of several labels in order."""

    name = "ordinal"

    @property
    def num_outputs(self) -> int:
        return len(self.head.labels) - 1

    def log_probabilities(self, logits: Tensor) -> Tensor:
        beyond, here = F.logsigmoid(logits), F.logsigmoid(-logits)
        return F.pad(beyond.cumsum(-1), (1, 0)) + F.pad(here, (0, 1))

    def as_logits(self, log_probabilities: Tensor) -> Tensor:
        above = log_probabilities.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:]
        return above - log_probabilities[..., :-1]


@pytest.fixture(autouse=True)
def _ordinal(monkeypatch):
    monkeypatch.setitem(PROBLEMS, Ordinal.name, Ordinal)


def head(**options) -> HeadConfig:
    return HeadConfig("stars", STARS, "ordinal", **options)


def test_its_rules_hold_together():
    rules, logits = head(temperature=2.0).rules, torch.randn(5, 3)
    probs = rules.probabilities(logits)
    torch.testing.assert_close(probs.sum(-1), torch.ones(5))
    torch.testing.assert_close(rules.as_logits(rules.log_probabilities(logits)), logits)
    voted = head().rules.vote([head(), head()], [logits, logits], torch.ones(5, 2))
    torch.testing.assert_close(voted, logits)
    assert (rules.disagreement(logits, -logits) > 0).all() and (rules.disagreement(logits, logits) == 0).all()
    torch.testing.assert_close(rules.distillation(logits, logits, 3.0), torch.zeros(5), atol=1e-6, rtol=0)
    (row, *_) = readable({"stars": logits}, [head()], top_k=4)
    assert sorted(item["label"] for item in row["stars"]) == sorted(STARS)
    labels = {"stars": np.array([0, 1, 2, 3, -100])}
    scores = score_heads(Predictions(None, [head()], {"stars": logits.numpy()}, labels))
    assert {"stars_accuracy", "stars_macro_f1", "stars_ece"} <= set(scores)


def test_a_model_learns_saves_and_loads_it(tmp_path):
    model = tiny.model("bert", heads=[head(dropout=0.0)]).train()
    model.set_training({"stars": HeadLoss(label_smoothing=0.01, class_weights=[1.0, 2.0, 1.0, 1.0])})
    inputs, labels = {"input_ids": torch.arange(5, 9)[:, None].expand(4, 3)}, {"stars": torch.arange(4)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        optimizer.step()
    assert model.predict(**inputs)["stars"].tolist() == [0, 1, 2, 3]
    assert model.eval()(**inputs).logits["stars"].shape == (4, 3)
    model.save_pretrained(tmp_path)
    again = MultiHeadForClassification.from_pretrained(tmp_path)
    assert again.config.heads == model.config.heads
    torch.testing.assert_close(again(**inputs).logits["stars"], model(**inputs).logits["stars"])


def test_a_run_of_a_table_trains_evaluates_and_tells_of_it(encoders, tmp_path):
    with open(tmp_path / "table.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "stars", "part"])
        for row, sentence in enumerate(tiny.SENTENCES[:4] * 8):
            part = "test" if row > 27 else "validation" if row > 23 else "train"
            writer.writerow([f"{sentence} {row}", STARS[row % 4], part])
    (tmp_path / "task.yaml").write_text(
        f"data: table.csv\ntext: text\nsplit: {{column: part}}\n"
        f"heads: [{{name: stars, problem: ordinal, labels: {json.dumps(STARS)}}}]\n"
    )
    options = tiny.RECIPE | encoders | {"num_train_epochs": 8, "r_drop": 1.0, "calibrate": True}
    results = train(str(tmp_path / "task.yaml"), tmp_path / "run", options)
    assert results["scores"]["stars_accuracy"] > results["baseline"]["stars_accuracy"]
    metrics = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    assert metrics["scores"] == results["scores"]
    from hfk.runs.score import evaluate

    evaluate(tmp_path / "run", tmp_path / "table.csv", tmp_path / "report")
    again = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert again["counts"]["labelled"]["stars"] == 32
