"""Losses of every problem: by hand, and whatever labels are missing, soft, or cut into batches."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from hfk import HeadConfig, MultiHeadConfig, MultiHeadForClassification
from hfk.models.heads import disagreement, total_loss
from hfk.models.problems import HeadLoss
from tests import tiny

NAN = float("nan")
TOPIC = HeadConfig("topic", ["a", "b", "c"])
TAGS = HeadConfig("topic", ["a", "b", "c"], "multi_label")
PRICE = HeadConfig("price", problem="regression", mean=10.0, std=5.0)
FOREST = [
    HeadConfig("top", ["x", "y"]),
    HeadConfig("middle", ["x1", "x2", "y1"], parent="top", parent_of=[0, 0, 1]),
    HeadConfig("leaf", ["p", "q", "r", "s"], parent="middle", parent_of=[0, 1, 1, 2]),
]


def loss_of(head: HeadConfig, logits: torch.Tensor, labels: torch.Tensor, **options) -> torch.Tensor:
    return head.rules.loss(logits, labels, HeadLoss(**options))


@st.composite
def losses(draw) -> tuple[HeadConfig, HeadLoss]:
    """A head with labels, trained with any mixture of the options."""
    head = draw(st.sampled_from([TOPIC, TAGS]))
    single = head is TOPIC
    return head, HeadLoss(
        class_weights=draw(st.sampled_from([None, [0.5, 1.0, 4.0]])),
        label_smoothing=draw(st.sampled_from([0.0, 0.1])),
        focal_gamma=draw(st.sampled_from([0.0, 0.5, 2.0])),
        logit_adjustment=draw(st.sampled_from([0.0, 1.0])) if single else 0.0,
        prior=[0.7, 0.2, 0.1] if single else None,
    )


def labels_for(head: HeadConfig, rows: int, soft: bool) -> torch.Tensor:
    """Random labels, some unknown."""
    unknown = torch.rand(rows) < 0.3
    if head is TOPIC and not soft:
        return torch.where(unknown, -100, torch.randint(3, (rows,)))
    values = torch.rand(rows, 3).softmax(-1) if head is TOPIC else (torch.rand(rows, 3) < 0.5).float()
    values[unknown] = NAN
    return values


@given(losses(), st.booleans(), st.integers(0, 1000))
def test_eight_batches_of_one_row_give_the_gradient_of_one_batch_of_eight(case, soft, seed):
    (head, options), _ = case, torch.manual_seed(seed)
    logits, labels = torch.randn(8, 3) * 3, labels_for(head, 8, soft)
    whole, parts = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = head.rules.loss(whole, labels, options)
    loss.backward()
    pieces = torch.stack([head.rules.loss(parts[i : i + 1], labels[i : i + 1], options) for i in range(8)])
    (pieces.sum() / 8).backward()
    torch.testing.assert_close(loss.detach(), pieces.mean().detach())
    torch.testing.assert_close(whole.grad, parts.grad)
    unknown = labels.isnan().any(-1) if labels.dim() == 2 else labels == -100
    assert (whole.grad[unknown] == 0).all() and torch.isfinite(whole.grad).all()
    assert (loss >= 0).all()


@given(losses(), st.integers(0, 1000))
def test_a_hard_label_is_a_distribution_with_one_1(case, seed):
    torch.manual_seed(seed)
    logits, labels = torch.randn(6, 3), labels_for(TOPIC, 6, soft=False)
    soft = F.one_hot(labels.clamp_min(0), 3).float()
    soft[labels == -100] = NAN
    torch.testing.assert_close(TOPIC.rules.loss(logits, labels, case[1]), TOPIC.rules.loss(logits, soft, case[1]))


def test_without_options_the_losses_are_the_usual_ones():
    logits, labels, weights = torch.randn(6, 3), torch.randint(3, (6,)), [0.5, 1.0, 4.0]
    expected = F.cross_entropy(logits, labels, torch.tensor(weights), label_smoothing=0.1, reduction="sum") / 6
    found = loss_of(TOPIC, logits, labels, class_weights=weights, label_smoothing=0.1)
    torch.testing.assert_close(found, expected)
    tags = (torch.rand(6, 3) < 0.5).float()
    expected = F.binary_cross_entropy_with_logits(logits, tags, pos_weight=torch.tensor(weights))
    torch.testing.assert_close(loss_of(TAGS, logits, tags, class_weights=weights), expected)
    found = loss_of(PRICE, torch.tensor([[1.0], [0.0]]), torch.tensor([20.0, NAN]))
    torch.testing.assert_close(found, torch.tensor(0.5))  # (1 - 2)² over two rows


def test_focal_loss_by_hand():
    logits = torch.tensor([[0.8, 0.1, 0.1], [0.4, 0.5, 0.1]]).log()
    expected = -(0.2**2 * torch.tensor(0.8).log() + 0.6**2 * torch.tensor(0.4).log()) / 2
    torch.testing.assert_close(loss_of(TOPIC, logits, torch.tensor([0, 0]), focal_gamma=2.0), expected)
    logits = torch.tensor([[0.9, 0.3, 0.5]]).logit()
    expected = -sum(q**2 * torch.tensor(1 - q).log() for q in (0.1, 0.3, 0.5)) / 3
    torch.testing.assert_close(loss_of(TAGS, logits, torch.tensor([[1.0, 0.0, 0.0]]), focal_gamma=2.0), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_what_is_certain_has_a_finite_gradient(gamma):
    for head, labels in ((TOPIC, torch.tensor([0, 1])), (TAGS, torch.eye(3)[:2])):
        logits = torch.tensor([[200.0, -200.0, 0.0]] * 2, requires_grad=True)
        loss_of(head, logits, labels, focal_gamma=gamma).backward()
        assert torch.isfinite(logits.grad).all()


def test_logit_adjustment_moves_answers_to_rare_labels_and_stays_out_of_them():
    """Nine of ten rows are of one class and the input says nothing: adjusted, the bare logits have no favorite."""
    labels, head = torch.tensor([0] * 9 + [1]), HeadConfig("h", ["common", "rare"])
    gaps = {}
    for strength in (0.0, 1.0):
        bias = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.SGD([bias], lr=4.0)
        for _ in range(100):
            optimizer.zero_grad()
            loss_of(head, bias.expand(10, 2), labels, logit_adjustment=strength, prior=[0.9, 0.1]).backward()
            optimizer.step()
        gaps[strength] = (bias[0] - bias[1]).item()
    assert gaps[0.0] == pytest.approx(2.197, abs=0.01)  # ln 9
    assert gaps[1.0] == pytest.approx(0.0, abs=0.01)


def test_head_weights_scale_the_total_and_the_distance_of_two_passes():
    heads = [HeadConfig("a", ["x", "y"]), HeadConfig("b", ["x", "y"])]
    logits = {"a": torch.randn(4, 2), "b": torch.randn(4, 2)}
    labels = {name: torch.tensor([0, 1, 0, 1]) for name in logits}
    options = {"a": HeadLoss(weight=2.0), "b": HeadLoss(weight=0.0)}
    total, losses = total_loss(logits, labels, heads, options=options)
    torch.testing.assert_close(total, 2 * losses["a"])
    torch.testing.assert_close(disagreement(logits, heads, options), 2 * disagreement(logits, heads[:1]))
    with pytest.raises(ValueError, match="'c', which is no head"):
        total_loss(logits, {"c": labels["a"]}, heads)


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
    sizes = {head.name: len(head.labels) for head in FOREST}
    options = {
        name: HeadLoss(logit_adjustment=strength, prior=[1 / size] * size, focal_gamma=1.0)
        for name, size in sizes.items()
    }
    logits = {name: torch.randn(8, size, requires_grad=True) for name, size in sizes.items()}
    labels = {"top": torch.randint(2, (8,)), "leaf": torch.full((8,), -100)}
    labels["top"][3] = -100
    total, _ = total_loss(logits, labels, FOREST, "marginal", options)
    pieces = [
        total_loss(*[{n: v[i : i + 1] for n, v in part.items()} for part in (logits, labels)], FOREST, "marginal",
                   options)[0]
        for i in range(8)
    ]  # fmt: skip
    torch.testing.assert_close(total, torch.stack(pieces).mean())
    total.backward()
    slope = logits["leaf"].grad
    assert (slope[3] == 0).all() and (slope[labels["top"] >= 0].abs().sum(-1) > 0).all()
    assert logits["middle"].grad is None


def test_a_parent_label_without_children_costs_nothing_and_breaks_nothing():
    heads = [HeadConfig("a", ["x", "y", "empty"]), HeadConfig("b", ["x1", "y1"], parent="a", parent_of=[0, 1])]
    logits = {"a": torch.randn(2, 3), "b": torch.randn(2, 2, requires_grad=True)}
    smooth = {"a": HeadLoss(label_smoothing=0.1)}
    total, _ = total_loss(logits, {"a": torch.tensor([2, 0])}, heads, "marginal", smooth)
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(logits["b"].grad).all()


def test_mistakes_inside_the_right_branch_cost_less():
    near, far = (
        total_loss({"top": torch.zeros(1, 2), "leaf": torch.tensor([leaf])}, {"top": torch.tensor([0])}, FOREST,
                   "marginal")[0]
        for leaf in ([0.0, 5, 0, 0], [0.0, 0, 0, 5])
    )  # fmt: skip
    assert near < far


def test_how_a_model_was_trained_changes_no_answer_and_is_not_saved(tmp_path):
    model = tiny.model("bert")
    ids = torch.randint(5, 100, (4, 6))
    before, config = model.predict(input_ids=ids), model.config.to_dict()
    options = HeadLoss(weight=2.0, focal_gamma=2.0, logit_adjustment=1.0, prior=[0.5, 0.5])
    model.set_training({"cat1": options}, hierarchy_loss="marginal")
    assert model.head_losses["cat1"] == options and model.head_losses["tags"] == HeadLoss()
    assert model.config.to_dict() == config
    model.save_pretrained(tmp_path)
    again = MultiHeadForClassification.from_pretrained(tmp_path)
    assert again.head_losses["cat1"] == HeadLoss() and again.hierarchy_loss == "none"
    after = again.predict(input_ids=ids)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_checkpoints_that_hold_options_of_training_load_without_them(tmp_path):
    model = tiny.model("bert")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for head in config["heads"]:
        head |= {"weight": 2.0, "class_weights": None, "label_smoothing": 0.1, "focal_gamma": 1.0, "prior": None}
    config |= {"hierarchy_loss": "marginal", "modality_dropout": 0.3, "modality_loss": 0.5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = MultiHeadForClassification.from_pretrained(tmp_path)
    assert again.config.to_dict()["heads"] == model.config.to_dict()["heads"]
    assert not {"hierarchy_loss", "modality_dropout", "modality_loss"} & set(again.config.to_dict())
    assert again.hierarchy_loss == "none" and again.modality_dropout == 0.0


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        (TOPIC, {"focal_gamma": -1}, r"focal_gamma must be in \[0"),
        (TOPIC, {"logit_adjustment": -0.5}, "logit_adjustment must be in"),
        (TOPIC, {"label_smoothing": 1.0}, "label_smoothing must be in"),
        (TAGS, {"logit_adjustment": 1.0}, "problem single_label"),
        (TOPIC, {"prior": [0.5, 0.5]}, "prior needs 3 numbers above 0"),
        (TOPIC, {"prior": [0.5, 0.5, 0.0]}, "prior needs 3 numbers above 0"),
        (TAGS, {"class_weights": [1.0]}, "class_weights needs 3 numbers of 0 or more"),
        (PRICE, {"focal_gamma": 2.0}, "predicts a number"),
    ],
)
def test_wrong_loss_options_are_one_sentence(head, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        head.rules.validate_loss(HeadLoss(**options))
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="needs `prior`"):
        loss_of(TOPIC, torch.zeros(1, 3), torch.tensor([0]), logit_adjustment=1.0)
    model = tiny.model("bert", heads=[TOPIC])
    for options, message in (
        ({"hierarchy_loss": "upward"}, "'upward' is not one of none, marginal"),
        ({"hierarchy_loss": "marginal"}, "no head has a `parent`"),
        ({"modality_dropout": 1.5}, "modality_dropout must be in"),
        ({"modality_loss": -1}, r"modality_loss must be in \[0, inf\), not -1"),
        ({"head_losses": {"topic": HeadLoss(weight=-1)}}, "head 'topic': weight must be in"),
    ):
        with pytest.raises(ValueError, match=message):
            model.set_training(**options)
    with pytest.raises(ValueError, match="is an option of training, not of the model"):
        MultiHeadConfig(tiny.TEXT["bert"](), heads=[TOPIC], modality_dropout=0.5)
    with pytest.raises(TypeError, match="label_smoothing"):
        replace(TOPIC, label_smoothing=0.1)
