"""Heads that are fitted instead of trained: they are at the optimum, and a run of no steps is a whole run."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hfk import HeadConfig, Predictor
from hfk.models.problems import HeadLoss
from hfk.runs.run import Run
from hfk.training.techniques.fitted_heads import fit_head
from hfk.training.train import train
from tests import tiny


def test_a_head_is_at_the_optimum_of_the_penalty_that_folds_chose():
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(60, 90, generator=random) + 2 * torch.nn.functional.one_hot(labels, 90) + 5
    rules = HeadConfig("topic", ["a", "b", "c"]).rules
    weight, bias, penalty = fit_head(features, labels, 3, partial(rules.loss, options=HeadLoss()), 5, labels.tolist())
    size = (features - features.mean(0)).square().sum(1).mean().sqrt()
    ours = torch.nn.functional.linear(features, weight, bias).softmax(1)
    theirs = LogisticRegression(C=1 / (2 * penalty), tol=1e-6, max_iter=1000).fit(features / size, labels)
    np.testing.assert_allclose(ours, theirs.predict_proba(features / size), atol=0.01)


def test_a_run_without_steps_learns_every_head(places, encoders, tmp_path):
    options = tiny.RECIPE | encoders | {"num_train_epochs": 0, "load_best_model_at_end": False}
    for name, folds in (("run", 3), ("none", 0)):
        train(str(places), tmp_path / name, options | {"fitted_heads": folds})
    fitted, untouched = (Run.open(tmp_path / name) for name in ("run", "none"))
    logits, others = fitted.predictions().logits, untouched.predictions().logits
    assert set(fitted.facts["fitted_heads"]) == set(logits)
    assert all(not np.allclose(logits[name], others[name]) for name in logits)
    assert next(Predictor.from_pretrained(str(tmp_path / "run"))(tiny.SENTENCES[:1]))


def test_heads_with_layers_are_refused(places, encoders, tmp_path):
    with pytest.raises(ValueError, match="fits linear heads, and head 'cat1' is mlp"):
        train(str(places), tmp_path / "run", tiny.RECIPE | encoders | {"fitted_heads": 3, "head_kind": "mlp"})
