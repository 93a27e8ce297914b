"""Thresholds of several labels: fitted on validation rows, kept in the checkpoint, used wherever no other is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hfk import HeadConfig, MultiHeadForClassification
from hfk.evaluation.calibration import fit_thresholds
from hfk.evaluation.predictions import Predictions
from hfk.models.decoding import readable
from tests.training.small import trainer


def test_the_threshold_of_best_f1_is_found():
    """A shy label that is right from 0.2 on, and a rare one of which nothing can be said."""
    head = HeadConfig("mood", ["편안한", "화려한"], problem="multi_label")
    probs = np.linspace(0.05, 0.45, 20)
    logits = np.stack([np.log(probs / (1 - probs)), np.zeros(20)], axis=1)
    target = np.stack([probs > 0.2, np.arange(20) < 2], axis=1).astype(float)
    (shy, rare) = fit_thresholds(Predictions(None, [head], {"mood": logits}, {"mood": target}))["mood"]
    assert 0.18 < shy < 0.22 and rare == 0.5


def test_a_heads_own_thresholds_hold_where_no_other_is_asked():
    head = HeadConfig("mood", ["a", "b", "c"], problem="multi_label", thresholds=[0.2, 0.5, 0.9])
    logits = {"mood": torch.logit(torch.tensor([[0.3, 0.4, 0.8], [0.1, 0.6, 0.95]]))}

    def said(**options):
        return [[item["label"] for item in row["mood"]] for row in readable(logits, [head], **options)]

    assert said() == [["a"], ["c", "b"]]
    assert said(threshold=0.35) == [["c", "b"], ["c", "b"]] and said(top_k=1) == [["c"], ["c"]]
    with pytest.raises(ValueError, match="thresholds are for problem multi_label, one a label"):
        HeadConfig("mood", ["a", "b"], problem="multi_label", thresholds=[0.5])
    with pytest.raises(ValueError, match="thresholds are for problem multi_label"):
        HeadConfig("topic", ["a", "b"], thresholds=[0.5, 0.5])


def test_training_ends_with_thresholds_in_the_checkpoint(tmp_path):
    made = trainer(tmp_path, {"thresholds": True}, num_train_epochs=1)
    made.train()
    made.finish()
    found = made.facts()["thresholds"]
    assert found["measured_on"].startswith("validation, each half")
    assert set(found["heads"]) == {"tags"} and set(found["heads"]["tags"]) == {"micro_f1_before", "micro_f1_after"}
    made.save_model()
    model = MultiHeadForClassification.from_pretrained(tmp_path)
    fitted = next(head for head in made.heads if head.name == "tags").thresholds
    assert next(head for head in model.config.heads if head.name == "tags").thresholds == fitted and fitted


def test_what_has_nothing_to_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="labels of a multi_label head; there are none"):
        trainer(tmp_path, {"thresholds": True}, vision="resnet")
