"""Easy data augmentation: what a copy may be, who gets one, and that nothing but seed, epoch and row decides."""

from __future__ import annotations

import pickle
import random
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from hfk.training.techniques.eda import (
    AugmentedRows,
    EasyDataAugmentation,
    EpochSampler,
    copy_probabilities,
    delete_words,
    draw_copies,
    insert_words,
    read_synonyms,
    replace_words,
    swap_words,
)

WORDS = st.lists(st.sampled_from(["해", "뜨는", "바닷가", "마을", "절"]), max_size=12)
TABLE = {"바닷가": ["해변"], "마을": ["동네", "고을"]}


@given(WORDS, st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_copy_is_made_of_the_texts_words(words, share, seed):
    swapped = swap_words(words, share, random.Random(seed))
    assert Counter(swapped) == Counter(words)
    kept = delete_words(words, share, random.Random(seed))
    rest = iter(words)
    assert all(word in rest for word in kept)  # in their order
    assert bool(kept) == bool(words)
    synonyms = {word for others in TABLE.values() for word in others}
    inserted = insert_words(words, share, TABLE, random.Random(seed))
    assert [word for word in inserted if word not in synonyms] == words
    replaced = replace_words(words, share, TABLE, random.Random(seed))
    assert all(new == old or new in TABLE.get(old, []) for new, old in zip(replaced, words, strict=True))


def test_shares_say_how_much_changes():
    words = [str(number) for number in range(2000)]
    swapped = swap_words(words, 0.1, random.Random(0))
    moved = sum(new != old for new, old in zip(swapped, words, strict=True))
    assert 300 < moved < 400  # 200 pairs, some of them twice
    assert 1750 < len(delete_words(words, 0.1, random.Random(0))) < 1850
    assert swap_words(["하나"], 0.5, random.Random(0)) == ["하나"]
    assert swap_words(["가", "나"], 0.01, random.Random(0)) == ["나", "가"]


def test_only_swap_and_delete_are_on():
    words = ["바닷가", "마을", "절"]
    augmentation = EasyDataAugmentation()
    for seed in range(50):
        assert set(augmentation.change(words, random.Random(seed))) <= set(words)
    assert (augmentation.replace, augmentation.insert) == (0.0, 0.0)


def test_synonyms_come_from_a_file(tmp_path):
    (tmp_path / "groups.csv").write_text("바닷가, 해변,해안\n절\n절,사찰\n", encoding="utf-8")
    table = read_synonyms(tmp_path / "groups.csv")
    assert table["바닷가"] == ["해변", "해안"] and table["해안"] == ["바닷가", "해변"]
    assert table["절"] == ["사찰"] and len(table) == 5
    replacing = EasyDataAugmentation(swap=0, delete=0, replace=0.5, synonyms=str(tmp_path / "groups.csv"))
    changed = replacing.change(["해", "뜨는", "바닷가"], random.Random(0))
    assert changed[:2] == ["해", "뜨는"] and changed[2] in ("해변", "해안")
    inserting = EasyDataAugmentation(swap=0, delete=0, insert=0.5, synonyms=str(tmp_path / "groups.csv"))
    assert sorted(inserting.change(["절"], random.Random(0))) == ["사찰", "절"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("swap", "augmentation is `eda` or a mapping of swap, delete"),
        ({"swop": 0.1}, "no option 'swop'; options: swap, delete, replace, insert, synonyms, head"),
        ({"swap": 1.5}, r"swap must be a number in \[0, 1\), not 1.5"),
        ({"delete": "0.1"}, "delete must be a number"),
        ({"swap": 0, "delete": 0}, "no text would change"),
        ({"replace": 0.1}, "need `synonyms`"),
    ],
)
def test_wrong_options_are_one_sentence(option, message):
    with pytest.raises(ValueError, match=message) as caught:
        EasyDataAugmentation.from_option(option)
    assert "\n" not in str(caught.value)


def test_wrong_files_of_synonyms_are_one_sentence(tmp_path):
    (tmp_path / "single.csv").write_text("바닷가\n절\n", encoding="utf-8")
    (tmp_path / "cp949.csv").write_bytes("바닷가,해변".encode("cp949"))
    for name, message in (("none.csv", "does not exist"), ("single.csv", "no line with two"), ("cp949.csv", "UTF-8")):
        with pytest.raises(ValueError, match=message):
            read_synonyms(tmp_path / name)


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=60))
def test_rarer_classes_are_copied_more_often_and_the_most_frequent_never(labels):
    labels = np.array(labels)
    chances = copy_probabilities(labels)
    assert ((chances >= 0) & (chances <= 1)).all() and (chances[labels < 0] == 0).all()
    counts = Counter(labels[labels >= 0].tolist())
    if len(set(counts.values())) < 2:
        assert not chances.any()
        return
    by_class = {name: chances[labels == name][0] for name in counts}
    order = sorted(counts, key=counts.__getitem__)
    assert by_class[order[0]] == 1 and by_class[order[-1]] == 0
    assert np.diff([by_class[name] for name in order]).max() <= 0


def test_the_chance_is_the_scaled_root_by_hand():
    labels = np.repeat([0, 1, 2], [100, 25, 4])
    # sqrt(129 / n): 1.1358, 2.2716, 5.6789
    assert copy_probabilities(labels)[[0, 100, 125]] == pytest.approx([0.0, 0.25, 1.0], abs=1e-9)


@given(st.lists(st.floats(0, 1), max_size=40), st.integers(0, 99))
def test_every_draw_has_as_many_rows_and_none_twice(chances, seed):
    chances = np.array(chances)
    drawn = draw_copies(chances, np.random.default_rng(seed))
    assert len(drawn) == len(set(drawn.tolist())) == int(chances.sum() + 1e-9)
    assert (chances[drawn] > 0).all()


def test_rows_are_drawn_with_their_probability():
    chances = np.array([0.05, 0.3, 0.5, 0.9, 1.0, 0.25])  # 3 in all
    drawn = Counter(row for seed in range(4000) for row in draw_copies(chances, np.random.default_rng(seed)).tolist())
    shares = np.array([drawn[row] / 4000 for row in range(6)])
    assert shares == pytest.approx(chances, abs=0.03)  # four standard errors
    assert drawn[4] == 4000


def rows(count: int = 60) -> Dataset:
    labels = [0 if number % 6 else 1 for number in range(count)]
    texts = [f"줄 {number} 의 글 {'가 ' * (number % 7)}" for number in range(count)]
    return Dataset.from_dict({"id": [str(number) for number in range(count)], "text": texts, "cat": labels})


def augmented(seed: int = 42, **options) -> AugmentedRows:
    data = rows()
    return AugmentedRows(data, np.array(data["cat"]), EasyDataAugmentation(**options), str.strip, seed)


def test_rows_come_as_they_are_and_copies_behind_them():
    data = augmented()
    assert len(data) == 70 and len(data.copies) == 10  # every row of the rare class
    assert data[7] == rows()[7]
    for place, source in enumerate(data.copies.tolist()):
        copy, original = data[60 + place], rows()[source]
        assert copy["cat"] == 1 and copy["id"] == original["id"]
        assert set(copy["text"].split()) <= set(original["text"].split())
    assert data.lengths[:60] == [len(text) for text in rows()["text"]] and len(data.lengths) == 70


def test_copies_depend_on_seed_epoch_and_row_alone():
    left, right = augmented(), augmented()
    first = {row["id"]: row["text"] for row in left.__getitems__(list(range(60, 70)))}
    assert first == {row["id"]: row["text"] for row in [right[index] for index in reversed(range(60, 70))]}
    assert first == {
        row["id"]: row["text"] for row in pickle.loads(pickle.dumps(left)).__getitems__(list(range(60, 70)))
    }
    left.set_epoch(1)
    second = {row["id"]: row["text"] for row in left.__getitems__(list(range(60, 70)))}
    assert first != second
    right.set_epoch(5)
    right.set_epoch(1)
    assert second == {row["id"]: row["text"] for row in right.__getitems__(list(range(60, 70)))}
    other = augmented(seed=1)
    assert first != {row["id"]: row["text"] for row in other.__getitems__(list(range(60, 70)))}


@pytest.mark.parametrize("group", [None, 8])
def test_an_epoch_has_every_row_once_in_an_order_of_its_own(group):
    data = augmented()
    sampler = EpochSampler(data, group)
    first, again = list(sampler), list(sampler)
    assert first == again and sorted(first) == list(range(70))
    sampler.set_epoch(1)
    assert list(sampler) != first and data.epoch == 1
    batches = list(DataLoader(data, batch_size=8, sampler=sampler, collate_fn=lambda rows: rows))
    assert sorted(row["id"] for rows in batches for row in rows) == sorted([*data.rows["id"], *map(str, data.copies)])
    if group:
        lengths = np.array(data.lengths)
        neighbours = np.abs(np.diff(lengths[list(sampler)])).mean()
        assert neighbours < 0.5 * np.abs(np.diff(lengths[list(EpochSampler(data))])).mean()


def test_what_has_no_text_can_not_be_augmented():
    pictures = Dataset.from_dict({"id": ["1"], "cat": [0]})
    with pytest.raises(ValueError, match="this task has no text"):
        AugmentedRows(pictures, np.array([0]), EasyDataAugmentation(), str.strip)


def test_a_row_without_text_is_copied_as_it_is():
    data = Dataset.from_dict({"id": ["0", "1", "2"], "text": ["가 나", "다 라", None], "cat": [0, 0, 1]})
    copied = AugmentedRows(data, np.array([0, 0, 1]), EasyDataAugmentation(), lambda text: text)
    assert copied.copies.tolist() == [2] and copied[3]["text"] is None


def test_classes_of_one_size_get_no_copies():
    data = Dataset.from_dict({"id": ["0", "1"], "text": ["가 나", "다 라"], "cat": [0, 1]})
    assert len(AugmentedRows(data, np.array([0, 1]), EasyDataAugmentation(), str.strip)) == 2


def test_a_text_of_fifty_thousand_characters_is_changed():
    words = ["바닷가"] * 12_500
    for seed in range(4):
        assert 10_000 < len(EasyDataAugmentation().change(words, random.Random(seed))) <= 12_500
