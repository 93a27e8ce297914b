"""Whole paths with probabilities, and answers that are too uncertain to be given."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import pipeline

from hfk import HeadConfig, Predictor
from hfk.models.configuration_multihead import validate_heads
from hfk.models.decoding import decide, probabilities, readable
from hfk.models.hierarchy import best_path, top_paths
from tests import tiny
from tests.models.test_heads import forests


@given(forests(), st.integers(1, 30))
def test_paths_are_all_paths_in_order_and_their_scores_share_1(case, k):
    logs, parents = case
    names = list(logs)
    ((leaf, (scores, labels)),) = top_paths(logs, parents, k).items()
    assert leaf == names[-1] and list(labels) == names
    for row in range(3):
        joint = {}
        for path in itertools.product(*(range(logs[name].shape[1]) for name in names)):
            way = dict(zip(names, path, strict=True))
            if all(parent_of[way[name]] == way[parent] for name, (parent, parent_of) in parents.items()):
                joint[path] = sum(logs[name][row, way[name]].item() for name in names)
        total = torch.tensor(list(joint.values())).logsumexp(0).item()
        found = [tuple(labels[name][row, rank].item() for name in names) for rank in range(scores.shape[1])]
        assert len(set(found)) == len(found) == min(k, len(joint))
        best = sorted(joint.values(), reverse=True)[: len(found)]
        torch.testing.assert_close(scores[row], (torch.tensor(best) - total).exp(), rtol=1e-4, atol=1e-6)
        assert [joint[path] for path in found] == pytest.approx(best, abs=1e-5)


@given(st.integers(0, 1000))
def test_the_first_path_is_the_answer_where_heads_branch_too(seed):
    torch.manual_seed(seed)
    parents = {"b": ("a", [0, 0, 1]), "c": ("a", [0, 1, 1]), "d": ("b", [0, 1, 2, 2])}
    sizes = {"a": 2, "b": 3, "c": 3, "d": 4}
    logs = {name: torch.randn(5, size).log_softmax(-1) for name, size in sizes.items()}
    chosen = best_path(logs, parents)
    ranked = top_paths(logs, parents, 2)
    assert list(ranked) == ["c", "d"]
    for _, labels in ranked.values():
        for name, values in labels.items():
            assert torch.equal(values[:, 0], chosen[name])


LOGITS = {
    "cat1": torch.tensor([[2.0, 0.0], [0.1, 0.0]]),
    "cat2": torch.tensor([[0.2, 0.1, -1.0], [3.0, 0.0, 0.0]]),
    "tags": torch.zeros(2, 3),
    "price": torch.zeros(2, 1),
}


def test_an_uncertain_answer_is_null_with_its_score_and_so_is_all_under_it():
    first, second = readable(LOGITS, tiny.heads(), min_score=0.6, top_k=2)
    assert [item["label"] for item in first["cat1"]] == ["자연", "음식"]
    assert first["cat2"] == [{"label": None, "score": pytest.approx(LOGITS["cat2"][0].softmax(-1)[0].item())}]
    assert second["cat1"][0]["label"] is None and second["cat1"][0]["score"] == pytest.approx(0.525, abs=0.001)
    # Sure of itself, but of what kind is not known.
    assert second["cat2"] == [{"label": None, "score": pytest.approx(LOGITS["cat2"][1].softmax(-1)[0].item())}]
    assert second["cat2"][0]["score"] > 0.6
    assert len(first["tags"]) == 2 and isinstance(first["price"], float)
    assert readable(LOGITS, tiny.heads(), min_score=0.0) == readable(LOGITS, tiny.heads())
    (only, _) = readable(LOGITS, tiny.heads(), min_score=0.6, only=["cat2"])
    assert list(only) == ["cat2"] and only["cat2"][0]["label"] is None


def test_paths_by_name():
    row, _ = readable(LOGITS, tiny.heads(), paths=2)
    first, second = row["paths"]["cat2"]
    assert first["labels"] == {"cat1": "자연", "cat2": "산"} and second["labels"] == {"cat1": "자연", "cat2": "바다"}
    assert 1 > first["score"] > second["score"] > 0
    assert list(row) == ["cat1", "cat2", "tags", "price", "paths"]
    row, _ = readable(LOGITS, tiny.heads(), paths=99, only=["cat1"])
    assert list(row) == ["cat1", "paths"] and row["paths"] == {}
    row, _ = readable(LOGITS, tiny.heads(), paths=99)
    assert sum(path["score"] for path in row["paths"]["cat2"]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("heads", "count", "message"),
    [
        (tiny.heads(), 0, "paths must be 1 or more, not 0"),
        ([HeadConfig("topic", ["a", "b"])], 2, "paths need heads with parents"),
    ],
)
def test_paths_that_can_not_be_are_refused(heads, count, message):
    logits = {head.name: torch.zeros(1, head.num_outputs) for head in heads}
    with pytest.raises(ValueError, match=message):
        readable(logits, heads, paths=count)


def test_the_pipeline_and_the_predictor_take_both_options(checkpoint):
    rows = [{"text": sentence} for sentence in tiny.SENTENCES[:3]]
    options = {"paths": 2, "min_score": 0.9}
    slow = pipeline("multi-head-classification", model=str(checkpoint))(rows, batch_size=2, **options)
    fast = list(Predictor.from_pretrained(str(checkpoint))(rows, **options))
    for left, right in zip(slow, fast, strict=True):
        assert left["cat2"] == [{"label": None, "score": pytest.approx(right["cat2"][0]["score"], abs=1e-5)}]
        assert [path["labels"] for path in left["paths"]["cat2"]] == [path["labels"] for path in right["paths"]["cat2"]]
        assert [path["score"] for path in left["paths"]["cat2"]] == pytest.approx(
            [path["score"] for path in right["paths"]["cat2"]], abs=1e-5
        )


def test_a_path_that_no_other_branch_can_complete_is_not_listed():
    heads = [
        HeadConfig("a", ["x", "y"]),
        HeadConfig("b", ["x1", "y1"], parent="a", parent_of=[0, 1]),
        HeadConfig("c", ["x2", "x3"], parent="a", parent_of=[0, 0]),  # nothing under y
    ]
    logits = {"a": torch.tensor([[0.0, 5.0]]), "b": torch.tensor([[0.0, 5.0]]), "c": torch.tensor([[1.0, 0.0]])}
    (row,) = readable(logits, heads, paths=2)
    assert [path["labels"] for path in row["paths"]["b"]] == [{"a": "x", "b": "x1"}]
    assert row["paths"]["b"][0]["score"] == pytest.approx(1.0)
    assert row["b"][0]["label"] == "x1" and row["c"][0]["label"] == "x2"


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 1.0]))
def test_coarse_heads_may_have_less_to_say(seed, weight):
    torch.manual_seed(seed)
    heads = [
        HeadConfig("a", ["x", "y"], path_weight=weight),
        HeadConfig("b", ["p", "q", "r"], parent="a", parent_of=[0, 1, 1]),
    ]
    probs = probabilities({"a": 3 * torch.randn(6, 2), "b": torch.randn(6, 3)}, heads)
    chosen = decide(probs, heads)
    joint = probs["b"] * probs["a"][:, [0, 1, 1]] ** weight
    assert torch.equal(chosen["b"], joint.argmax(-1))
    assert torch.equal(chosen["a"], torch.tensor([0, 1, 1])[chosen["b"]])
    alone = decide(probs, heads, consistent_paths=False)
    assert all(torch.equal(alone[name], probs[name].argmax(-1)) for name in probs)
    rows = readable({name: values.log() for name, values in probs.items()}, heads, paths=1)
    for row, label, score in zip(
        rows, chosen["b"].tolist(), (joint / joint.sum(-1, keepdim=True)).amax(-1), strict=True
    ):
        assert row["b"][0]["label"] == row["paths"]["b"][0]["labels"]["b"] == "pqr"[label]
        assert row["paths"]["b"][0]["score"] == pytest.approx(score.item(), abs=1e-5)


def test_a_finest_head_must_have_a_say():
    heads = [HeadConfig("a", ["x", "y"]), HeadConfig("b", ["p", "q"], parent="a", parent_of=[0, 1], path_weight=0)]
    with pytest.raises(ValueError, match="head 'b': path_weight 0 is for heads that another one refines"):
        validate_heads(heads)
    with pytest.raises(ValueError, match=r"path_weight must be in \[0, inf\), not -1"):
        HeadConfig("a", ["x", "y"], path_weight=-1)
