from __future__ import annotations

import pytest

from hfk.tasks import load_task


@pytest.fixture
def pairs(tmp_path):
    def pairs(rows):
        path = tmp_path / "pairs.tsv"
        path.write_text("\n".join(["region\tdialect\tstandard", *("\t".join(row) for row in rows)]), encoding="utf-8")
        return path

    return pairs


def test_a_pair_goes_both_ways_and_equal_sides_one(pairs):
    path = pairs([("jeju", "집이 가게", "집에 가자"), ("jeju", "밥 먹자", "밥 먹자"), ("jeolla", "밥 먹소", "")])
    rows = load_task("dialect-translation", data=path, split=None).load()["train"]
    assert [(row["text"], row["target"], row["source"], row["to"]) for row in rows] == [
        ("집이 가게", "집에 가자", "jeju", "standard"),
        ("집에 가자", "집이 가게", "standard", "jeju"),
        ("밥 먹자", "밥 먹자", "jeju", "standard"),
    ]


def test_both_ways_of_a_pair_are_in_one_split_and_words_in_train(pairs):
    words = [("jeju", f"낭{n}", f"나무{n}") for n in range(20)]
    path = pairs([("jeju", f"{n * 7919} 집이 가게", f"{n * 7919} 집에 가자") for n in range(60)] + words)
    rows = load_task("dialect-translation", data=path).load()
    ids = [{identity.rpartition("/")[0] for identity in part["id"]} for part in rows.values()]
    assert list(rows) == ["train", "validation", "test"] and sum(map(len, ids)) == len(set.union(*ids)) == 80
    assert all(" " in text for name in ("validation", "test") for text in rows[name]["text"])


def test_no_pair_is_one_sentence(pairs):
    with pytest.raises(ValueError, match="dialect-translation-mini"):
        load_task("dialect-translation")
    with pytest.raises(ValueError, match="no pair with a region and both sides"):
        load_task("dialect-translation", data=pairs([("jeju", "집이 가게", "")])).load()


def test_several_files_are_one_task(pairs, tmp_path):
    first = pairs([("jeju", "집이 가게", "집에 가자")]).rename(tmp_path / "first.tsv")
    second = pairs([("jeolla", "밥 먹소", "밥 먹어")])
    task = load_task("dialect-translation", data=[str(first), str(second)], split=None)
    assert {row["to"] for row in task.load()["train"]} == {"standard", "jeju", "jeolla"}
