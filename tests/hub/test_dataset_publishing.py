"""A task's rows come back from the Hub as they were: features, splits, pictures; and the card counts them."""

from __future__ import annotations

import re

import pytest
from datasets import Image, load_dataset

from hfk import load_task
from hfk.hub.datasets import dataset_card, publishable, push_dataset
from hfk.hub.publishing import Target
from tests import tiny


def test_rows_come_back_with_their_features(hub_here, places):
    hub, task = hub_here, load_task(str(places))
    repo_id = f"{hub.user}/places"
    first = push_dataset(task, Target(repo_id, private=True), "cc-by-4.0")
    again = push_dataset(task, Target(repo_id), "cc-by-4.0")
    sent, got = publishable(task.load()), load_dataset(repo_id, revision=again.sha)
    assert list(got) == list(sent) == ["train", "validation", "test"]
    for split in sent:
        assert got[split].features == sent[split].features
        plain = [name for name in sent[split].column_names if name != "image"]
        assert got[split].select_columns(plain)[:] == sent[split].select_columns(plain)[:]
        for ours, theirs in zip(sent[split], got[split], strict=True):
            assert ours["image"].tobytes() == theirs["image"].tobytes()
    raw = got["train"].cast_column("image", Image(decode=False))
    assert "자연" in str(raw.features["cat1"]) and "/" not in raw[0]["image"]["path"]
    info = hub.api().dataset_info(repo_id)
    assert info.private and info.sha == again.sha == first.sha  # the same rows again are no new commit
    card = info.card_data
    assert card["license"] == "cc-by-4.0" and card["language"] == ["ko"]
    assert set(card["task_categories"]) == {"text-classification", "image-classification"}
    assert [part["split"] for part in card["configs"][0]["data_files"]] == ["train", "validation", "test"]
    assert {split["name"]: split["num_examples"] for split in card["dataset_info"]["splits"]}["train"] == 48


def test_the_card_counts_every_label_and_shows_the_tree(places):
    task = load_task(str(places))
    rows = publishable(task.load())
    card = dataset_card(task, rows, "me/places", "other")
    data, text = card.data, card.text
    assert data.size_categories == "n<1K" and data.license == "other"
    labels = task.heads[1].labels
    (line,) = re.findall(r"^\| 산 \| (.*) \|$", text, re.M)
    counts = [int(number) for number in line.split(" | ")]
    assert counts == [sum(value == labels.index("산") for value in rows[split]["cat2"]) for split in rows] != [0, 0, 0]
    assert "자연" in text and "each lies under a label of cat1" in text
    assert re.search(r"^\| train \| 48 \| 0 \|", text, re.M)  # price: known and least


def test_a_branch_or_a_pull_request_gets_rows_and_card(hub_here, tmp_path):
    hub = hub_here
    few, more = (tiny.write_task(tmp_path / str(rows), rows=rows, image=None) for rows in (18, 36))
    repo_id = f"{hub.user}/texts"
    targets = Target(repo_id), Target(repo_id, create_pr=True), Target(repo_id, revision="v2")
    pushed = [push_dataset(load_task(str(t)), to, "mit") for t, to in zip((few, more, more), targets, strict=True)]
    assert pushed[1].url.endswith("/discussions/1")
    for revision, rows in (("main", 12), ("refs/pr/1", 24), ("v2", 24)):
        card = hub.api().dataset_info(repo_id, revision=revision).card_data
        assert card["dataset_info"]["splits"][0]["num_examples"] == rows
        assert card["license"] == "mit" and card["task_categories"] == ["text-classification"] and card["configs"]


def test_refusals_are_sentences(hub, places, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ValueError, match="you are not logged in"):
        push_dataset(load_task(str(places)), Target(f"{hub.user}/places"), "mit", hub.api(token=False))
    with pytest.raises(ValueError, match="may not write to"):
        push_dataset(load_task(str(places)), Target("somebody/places"), "mit", hub.api())
