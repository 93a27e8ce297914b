"""Hierarchies, answers and configurations: hand-computed values and what must be refused."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from hfk import HeadConfig, MultiHeadConfig, MultiHeadEnsembleConfig
from hfk.models.decoding import decide, probabilities, readable
from hfk.models.hierarchy import best_path
from hfk.tasks.columns import HeadColumn
from tests import tiny


@st.composite
def forests(draw):
    """A chain of two or three heads and their log-probabilities; every parent label has a child."""
    sizes, parents, names = [draw(st.integers(2, 4))], {}, ["level0"]
    for level in range(1, draw(st.integers(2, 3))):
        extra = draw(st.lists(st.integers(0, sizes[-1] - 1), max_size=4))
        parent_of = list(range(sizes[-1])) + extra
        names.append(f"level{level}")
        parents[names[-1]] = (names[-2], parent_of)
        sizes.append(len(parent_of))
    seed = draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)
    logs = {n: torch.randn(3, size, generator=generator).log_softmax(-1) for n, size in zip(names, sizes, strict=True)}
    return logs, parents


def consistent(chosen: dict[str, torch.Tensor], parents: dict) -> bool:
    """Whether each head's label lies under its parent's, in every row."""
    pairs = [(torch.tensor(of)[chosen[name]], chosen[parent]) for name, (parent, of) in parents.items()]
    return all(torch.equal(above, label) for above, label in pairs)


@given(forests())
def test_best_path_is_the_best_of_all_paths(case):
    logs, parents = case
    chosen = best_path(logs, parents)
    assert consistent(chosen, parents)
    names = list(logs)
    for row in range(3):
        best = -torch.inf
        for path in itertools.product(*(range(logs[name].shape[1]) for name in names)):
            label = dict(zip(names, path, strict=True))
            if all(parent_of[label[name]] == label[parent] for name, (parent, parent_of) in parents.items()):
                best = max(best, sum(logs[name][row, label[name]].item() for name in names))
        assert sum(logs[name][row, chosen[name][row]].item() for name in names) == pytest.approx(best, abs=1e-5)


def test_one_parent_with_two_children_decodes_jointly():
    logs = {
        "a": torch.tensor([[0.5, 0.5]]).log(),
        "b": torch.tensor([[0.6, 0.4]]).log(),
        "c": torch.tensor([[0.1, 0.9]]).log(),
    }
    chosen = best_path(logs, {"b": ("a", [0, 1]), "c": ("a", [0, 1])})
    assert {name: int(value) for name, value in chosen.items()} == {"a": 1, "b": 1, "c": 1}


def test_predict_never_leaves_its_parent():
    model = tiny.model("bert")
    ids = torch.randint(5, 100, (200, 6))
    chosen = model.predict(input_ids=ids)
    parent_of = torch.tensor(model.config.head("cat2").parent_of)
    assert torch.equal(parent_of[chosen["cat2"]], chosen["cat1"])


def test_results_by_name():
    heads = tiny.heads()
    logits = {
        "cat1": torch.tensor([[0.4, 0.5]]),
        "cat2": torch.tensor([[3.0, 0.0, 0.0]]),
        "tags": torch.tensor([[2.0, -2.0, 1.0]]),
        "price": torch.tensor([[0.5]]),
    }
    (row,) = readable(logits, heads)
    assert [item["label"] for item in row["cat1"]] == ["자연"]  # the path wins over cat1's own maximum
    assert [item["label"] for item in row["tags"]] == ["일출", "야경"]
    assert row["price"] == pytest.approx(6.0)
    (row,) = readable(logits, heads, top_k=3, only=["cat2", "tags"])
    assert list(row) == ["cat2", "tags"]
    assert [item["label"] for item in row["tags"]] == ["일출", "야경", "가족"]
    assert len(row["cat2"]) == 3
    (row,) = readable(logits, heads, threshold=0.99)
    assert row["cat1"] == [] and row["tags"] == []
    for wrong in ({"only": ["cat9"]}, {"top_k": 0}):
        with pytest.raises(ValueError, match=r"cat9|top_k"):
            readable(logits, heads, **wrong)


def test_temperature_changes_confidence_only():
    logits = {"topic": torch.tensor([[2.0, 0.0]])}
    cool = [HeadConfig("topic", ["a", "b"], temperature=4.0)]
    warm = [HeadConfig("topic", ["a", "b"])]
    assert probabilities(logits, cool)["topic"][0, 0] < probabilities(logits, warm)["topic"][0, 0]
    assert decide(probabilities(logits, cool), cool)["topic"].item() == 0


BAD_HEADS = [
    ({"name": "", "labels": ["a", "b"]}, "no name"),
    ({"name": "h", "labels": ["a", "b"], "problem": "multi"}, "problem 'multi' is not one of"),
    ({"name": "h", "labels": []}, "has no labels"),
    ({"name": "h", "labels": ["a"]}, "one label only"),
    ({"name": "h", "labels": ["a", "a"]}, "listed twice"),
    ({"name": "h", "labels": ["a"], "problem": "regression"}, "takes no `labels`"),
    ({"name": "h", "labels": ["a", "b"], "kind": "deep"}, "kind 'deep'"),
    ({"name": "h", "labels": ["a", "b"], "temperature": 0.0}, "temperature must be above 0"),
    ({"name": "h", "labels": ["a", "b"], "parent": "p"}, "come together"),
    ({"name": "h", "labels": ["a", "b"], "parent": "p", "parent_of": [0]}, "1 entries for 2 labels"),
]


@pytest.mark.parametrize(("options", "message"), BAD_HEADS)
def test_wrong_heads_are_refused_in_one_sentence(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        HeadConfig(**options)
    assert "\n" not in str(caught.value)


def test_heads_that_contradict_each_other_are_refused():
    text = tiny.TEXT["bert"]()
    circle = [
        HeadConfig("a", ["x", "y"], parent="b", parent_of=[0, 1]),
        HeadConfig("b", ["x", "y"], parent="a", parent_of=[0, 1]),
    ]
    cases = [
        (circle, "circle: a → b → a"),
        ([HeadConfig("a", ["x", "y"]), HeadConfig("a", ["x", "y"])], "two heads are called 'a'"),
        ([HeadConfig("a", ["x", "y"], parent="b", parent_of=[0, 1])], "parent 'b' is not a head"),
        (
            [HeadConfig("a", ["x", "y"]), HeadConfig("b", ["x", "y"], parent="a", parent_of=[0, 2])],
            "index 2 is outside",
        ),
        (
            [HeadConfig("a", ["x"], "multi_label"), HeadConfig("b", ["x", "y"], parent="a", parent_of=[0, 0])],
            "only single_label",
        ),
    ]
    for heads, message in cases:
        with pytest.raises(ValueError, match=message):
            MultiHeadConfig(text_config=text, heads=heads)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "sum"}, "fusion 'sum'"),
        ({"text_pooling": "last"}, "text_pooling 'last'"),
        ({"image_pooling": "attention"}, "image_pooling"),
        ({"fusion_size": 30}, "not a multiple of fusion_heads 8"),
        ({"fusion_size": 30, "fusion": "pooled"}, "can't be had with pooled fusion"),
    ],
)
def test_wrong_model_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny.model("bert", "vit", **options)


def test_a_field_of_a_newer_version_is_one_sentence(tmp_path):
    tiny.model("bert").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["heads"][1]["margin"] = 0.5
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"head 'cat2' has the field 'margin', .* upgrade \(pip install -U hfk\)\.$"):
        AutoConfig.from_pretrained(tmp_path)


def test_problems_may_be_spelled_as_transformers_does():
    for spelling, problem in (
        ("single_label_classification", "single_label"),
        ("multi_label_classification", "multi_label"),
    ):
        head = HeadConfig("topic", ["a", "b"], spelling)
        assert head == HeadConfig("topic", ["a", "b"], problem)
        assert HeadColumn("topic", problem=spelling).problem == problem


def test_the_labels_of_a_single_head_are_where_transformers_looks(tmp_path):
    config = tiny.model("bert", heads=[HeadConfig("topic", ["정치", "경제", "사회"])]).config
    config.save_pretrained(tmp_path)
    for one in (config, AutoConfig.from_pretrained(tmp_path), MultiHeadEnsembleConfig([config, config])):
        assert one.id2label == {0: "정치", 1: "경제", 2: "사회"} and one.num_labels == 3
        assert one.label2id == {"정치": 0, "경제": 1, "사회": 2}
    assert "id2label" not in tiny.model("bert").config.to_diff_dict()


def test_config_round_trip_keeps_heads_in_order(tmp_path):
    config = tiny.model("bert", "resnet").config
    config.save_pretrained(tmp_path)
    again = MultiHeadConfig.from_pretrained(tmp_path)
    assert again.heads == config.heads
    assert again.vision_config.model_type == "resnet"
    assert again.to_dict()["heads"] == config.to_dict()["heads"]
