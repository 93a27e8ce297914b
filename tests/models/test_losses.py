"""Losses against imbalance and for hierarchies: by hand, and whatever labels are missing, soft, or cut into batches."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from hfk import HeadConfig, MultiHeadConfig, MultiHeadForClassification
from hfk.models.heads import head_loss, total_loss
from tests import tiny

NAN = float("nan")
LABELS = ["a", "b", "c"]
FOREST = [
    HeadConfig("top", ["x", "y"]),
    HeadConfig("middle", ["x1", "x2", "y1"], parent="top", parent_of=[0, 0, 1]),
    HeadConfig("leaf", ["p", "q", "r", "s"], parent="middle", parent_of=[0, 1, 1, 2]),
]


@st.composite
def heads(draw) -> HeadConfig:
    """A single-label or multi-label head with any mixture of the options."""
    problem = draw(st.sampled_from(["single_label", "multi_label"]))
    single = problem == "single_label"
    return HeadConfig(
        "topic",
        LABELS,
        problem,
        class_weights=draw(st.sampled_from([None, [0.5, 1.0, 4.0]])),
        label_smoothing=draw(st.sampled_from([0.0, 0.1])),
        focal_gamma=draw(st.sampled_from([0.0, 0.5, 2.0])),
        logit_adjustment=draw(st.sampled_from([0.0, 1.0])) if single else 0.0,
        prior=[0.7, 0.2, 0.1] if single else None,
    )


def labels_for(head: HeadConfig, rows: int, soft: bool) -> torch.Tensor:
    """Random labels, some unknown."""
    unknown = torch.rand(rows) < 0.3
    if head.problem == "multi_label":
        values = (torch.rand(rows, 3) < 0.5).float()
    elif soft:
        values = torch.rand(rows, 3).softmax(-1)
    else:
        return torch.where(unknown, -100, torch.randint(3, (rows,)))
    values[unknown] = NAN
    return values


@given(heads(), st.booleans(), st.integers(0, 1000))
def test_eight_batches_of_one_row_give_the_gradient_of_one_batch_of_eight(head, soft, seed):
    torch.manual_seed(seed)
    logits, labels = torch.randn(8, 3) * 3, labels_for(head, 8, soft)
    whole, parts = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = head_loss(whole, labels, head)
    loss.backward()
    pieces = torch.stack([head_loss(parts[i : i + 1], labels[i : i + 1], head) for i in range(8)])
    (pieces.sum() / 8).backward()
    torch.testing.assert_close(loss.detach(), pieces.mean().detach())
    torch.testing.assert_close(whole.grad, parts.grad)
    unknown = labels.isnan().any(-1) if labels.dim() == 2 else labels == -100
    assert (whole.grad[unknown] == 0).all() and torch.isfinite(whole.grad).all()
    assert (loss >= 0).all()


@given(heads(), st.integers(0, 1000))
def test_a_hard_label_is_a_distribution_with_one_1(head, seed):
    torch.manual_seed(seed)
    head = replace(head, problem="single_label")
    logits, labels = torch.randn(6, 3), labels_for(head, 6, soft=False)
    soft = F.one_hot(labels.clamp_min(0), 3).float()
    soft[labels == -100] = NAN
    torch.testing.assert_close(head_loss(logits, labels, head), head_loss(logits, soft, head))


@given(st.integers(0, 1000))
def test_without_options_the_losses_are_the_usual_ones(seed):
    torch.manual_seed(seed)
    logits, labels, weights = torch.randn(6, 3), torch.randint(3, (6,)), [0.5, 1.0, 4.0]
    head = HeadConfig("topic", LABELS, class_weights=weights, label_smoothing=0.1)
    expected = F.cross_entropy(logits, labels, torch.tensor(weights), label_smoothing=0.1, reduction="sum") / 6
    torch.testing.assert_close(head_loss(logits, labels, head), expected)
    many, tags = replace(head, problem="multi_label", label_smoothing=0.0), (torch.rand(6, 3) < 0.5).float()
    expected = F.binary_cross_entropy_with_logits(logits, tags, pos_weight=torch.tensor(weights))
    torch.testing.assert_close(head_loss(logits, tags, many), expected)


def test_focal_loss_by_hand():
    head = HeadConfig("topic", ["a", "b"], focal_gamma=2.0)
    logits = torch.tensor([[0.9, 0.1], [0.4, 0.6]]).log()
    expected = -(0.1**2 * torch.tensor(0.9).log() + 0.6**2 * torch.tensor(0.4).log()) / 2
    torch.testing.assert_close(head_loss(logits, torch.tensor([0, 0]), head), expected)
    tags = HeadConfig("tags", ["a", "b"], "multi_label", focal_gamma=2.0)
    logits = torch.tensor([[0.9, 0.3]]).logit()
    expected = -(0.1**2 * torch.tensor(0.9).log() + 0.3**2 * torch.tensor(0.7).log()) / 2
    torch.testing.assert_close(head_loss(logits, torch.tensor([[1.0, 0.0]]), tags), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_what_is_certain_has_a_finite_gradient(gamma):
    for problem, labels in (("single_label", torch.tensor([0, 1])), ("multi_label", torch.eye(2))):
        logits = torch.tensor([[200.0, -200.0], [200.0, -200.0]], requires_grad=True)
        head_loss(logits, labels, HeadConfig("h", ["a", "b"], problem, focal_gamma=gamma)).backward()
        assert torch.isfinite(logits.grad).all()


def test_logit_adjustment_moves_answers_to_rare_labels_and_stays_out_of_them():
    """Nine of ten rows are of one class and the input says nothing: adjusted, the bare logits have no favourite."""
    labels = torch.tensor([0] * 90 + [1] * 10)
    gaps = {}
    for strength in (0.0, 1.0):
        head = HeadConfig("h", ["common", "rare"], logit_adjustment=strength, prior=[0.9, 0.1])
        bias = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.SGD([bias], lr=1.0)
        for _ in range(500):
            optimizer.zero_grad()
            head_loss(bias.expand(100, 2), labels, head).backward()
            optimizer.step()
        gaps[strength] = (bias[0] - bias[1]).item()
    assert gaps[0.0] == pytest.approx(2.197, abs=0.01)  # ln 9
    assert gaps[1.0] == pytest.approx(0.0, abs=0.01)


def test_marginal_loss_by_hand():
    logits = {"top": torch.tensor([[0.6, 0.4]]).log(), "leaf": torch.tensor([[0.4, 0.1, 0.2, 0.3]]).log()}
    logits["middle"] = torch.tensor([[0.2, 0.3, 0.5]]).log()
    labels = {"top": torch.tensor([1]), "middle": torch.tensor([1])}  # the leaf is not known
    total, losses = total_loss(logits, labels, FOREST, "marginal")
    torch.testing.assert_close(losses["top"], -torch.tensor([0.4 * 0.3]).log()[0])
    torch.testing.assert_close(losses["middle"], -torch.tensor([0.3 * 0.3]).log()[0])
    torch.testing.assert_close(total, losses["top"] + losses["middle"])


@given(st.integers(0, 1000), st.sampled_from([0.0, 1.0]))
def test_the_marginal_loss_is_additive_over_rows_and_trains_the_leaf_without_its_labels(seed, strength):
    torch.manual_seed(seed)
    heads = [replace(head, logit_adjustment=strength, prior=[1 / len(head.labels)] * len(head.labels), focal_gamma=1.0)
             for head in FOREST]  # fmt: skip
    logits = {head.name: torch.randn(8, len(head.labels), requires_grad=True) for head in heads}
    labels = {"top": torch.randint(2, (8,)), "leaf": torch.full((8,), -100)}
    labels["top"][3] = -100
    total, _ = total_loss(logits, labels, heads, "marginal")
    pieces = [
        total_loss({n: v[i : i + 1] for n, v in logits.items()}, {n: v[i : i + 1] for n, v in labels.items()}, heads,
                   "marginal")[0]
        for i in range(8)
    ]  # fmt: skip
    torch.testing.assert_close(total, torch.stack(pieces).mean())
    total.backward()
    slope = logits["leaf"].grad
    assert (slope[3] == 0).all() and (slope[labels["top"] >= 0].abs().sum(-1) > 0).all()
    assert logits["middle"].grad is None


def test_a_parent_label_without_children_costs_nothing_and_breaks_nothing():
    heads = [HeadConfig("a", ["x", "y", "empty"], label_smoothing=0.1), HeadConfig("b", ["x1", "y1"], parent="a",
             parent_of=[0, 1])]  # fmt: skip
    logits = {"a": torch.randn(2, 3), "b": torch.randn(2, 2, requires_grad=True)}
    total, _ = total_loss(logits, {"a": torch.tensor([2, 0])}, heads, "marginal")
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(logits["b"].grad).all()


def test_mistakes_inside_the_right_branch_cost_less():
    _, near = total_loss({"top": torch.zeros(1, 2), "leaf": torch.tensor([[0.0, 5, 0, 0]])},
                         {"top": torch.tensor([0])}, FOREST, "marginal")  # fmt: skip
    _, far = total_loss({"top": torch.zeros(1, 2), "leaf": torch.tensor([[0.0, 0, 0, 5]])},
                        {"top": torch.tensor([0])}, FOREST, "marginal")  # fmt: skip
    assert near["top"] < far["top"]


@pytest.mark.parametrize("options", [{"focal_gamma": 2.0}, {"logit_adjustment": 1.0}])
def test_options_and_prior_travel_with_the_checkpoint_and_leave_answers_alone(tmp_path, options):
    model = tiny.model("bert", hierarchy_loss="marginal")
    ids = torch.randint(5, 100, (4, 6))
    before = model.predict(input_ids=ids)
    for head in model.config.heads[:2]:
        for name, value in (options | {"prior": [1 / len(head.labels)] * len(head.labels)}).items():
            setattr(head, name, value)
    model.save_pretrained(tmp_path)
    again = MultiHeadForClassification.from_pretrained(tmp_path)
    assert again.config.heads == model.config.heads and again.config.hierarchy_loss == "marginal"
    after = again.predict(input_ids=ids)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_checkpoints_from_before_these_options_load(tmp_path):
    model = tiny.model("bert")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    new = ("focal_gamma", "logit_adjustment", "prior")
    config["heads"] = [{name: value for name, value in head.items() if name not in new} for head in config["heads"]]
    del config["hierarchy_loss"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = MultiHeadForClassification.from_pretrained(tmp_path)
    assert again.config.heads == model.config.heads and again.config.hierarchy_loss == "none"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"focal_gamma": -1}, r"focal_gamma must be in \[0"),
        ({"logit_adjustment": -0.5}, "logit_adjustment must be in"),
        ({"logit_adjustment": 1.0, "problem": "multi_label"}, "problem single_label"),
        ({"prior": [0.5, 0.5]}, "prior needs 3 numbers above 0"),
        ({"prior": [0.5, 0.5, 0.0]}, "prior needs 3 numbers above 0"),
    ],
)
def test_wrong_loss_options_are_one_sentence(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        HeadConfig("topic", LABELS, **options)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="predicts a number"):
        HeadConfig("price", problem="regression", focal_gamma=2.0)
    with pytest.raises(ValueError, match="needs `prior`"):
        head_loss(torch.zeros(1, 3), torch.tensor([0]), HeadConfig("topic", LABELS, logit_adjustment=1.0))
    flat = [asdict(HeadConfig("topic", LABELS))]
    with pytest.raises(ValueError, match="'upward' is not one of none, marginal"):
        MultiHeadConfig(tiny.TEXT["bert"](), heads=flat, hierarchy_loss="upward")
    with pytest.raises(ValueError, match="no head has a `parent`"):
        MultiHeadConfig(tiny.TEXT["bert"](), heads=flat, hierarchy_loss="marginal")
