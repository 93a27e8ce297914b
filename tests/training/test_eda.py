"""Easy data augmentation: what a copy may be, who gets one, and that nothing but seed, epoch and row decides."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from functools import partial

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hfk import MultiHeadTrainer
from hfk.training.techniques import make_techniques
from hfk.training.techniques.eda import (
    AugmentedRows,
    change_words,
    copy_probabilities,
    delete_words,
    draw_copies,
    swap_words,
)
from tests import tiny
from tests.training.small import arguments

WORDS = st.lists(st.sampled_from(["해", "뜨는", "바닷가", "마을", "절"]), max_size=12)
CHANGE = partial(change_words, swap=0.1, delete=0.1)


@given(WORDS, st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_copy_is_made_of_the_texts_words(words, share, seed):
    assert Counter(swap_words(words, share, random.Random(seed))) == Counter(words)
    kept = delete_words(words, share, random.Random(seed))
    rest = iter(words)
    assert all(word in rest for word in kept)  # in their order
    assert bool(kept) == bool(words)


def test_shares_say_how_much_changes():
    words = [str(number) for number in range(2000)]
    swapped = swap_words(words, 0.1, random.Random(0))
    moved = sum(new != old for new, old in zip(swapped, words, strict=True))
    assert 300 < moved < 400  # 200 pairs, some of them twice
    assert 1750 < len(delete_words(words, 0.1, random.Random(0))) < 1850
    assert swap_words(["하나"], 0.5, random.Random(0)) == ["하나"]
    assert swap_words(["가", "나"], 0.01, random.Random(0)) == ["나", "가"]
    long = ["바닷가"] * 12_500
    assert all(10_000 < len(CHANGE(long, random.Random(seed))) <= 12_500 for seed in range(4))


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
    return Dataset.from_dict({"id": [str(number) for number in range(count)], "text": texts, "cat1": labels})


LENGTHS = [len(text) for text in rows()["text"]]


def augmented(seed: int = 42) -> AugmentedRows:
    data = rows()
    return AugmentedRows(data, np.array(data["cat1"]), CHANGE, str.strip, seed, LENGTHS)


def test_rows_come_as_they_are_and_copies_behind_them():
    data = augmented()
    assert len(data) == 70 and len(data.copies) == 10  # every row of the rare class
    assert data.__getitems__([7]) == [rows()[7]]
    for place, source in enumerate(data.copies.tolist()):
        (copy,), original = data.__getitems__([60 + place]), rows()[source]
        assert copy["cat1"] == 1 and copy["id"] == original["id"]
        assert set(copy["text"].split()) <= set(original["text"].split())
    assert data.lengths[:60] == LENGTHS and len(data.lengths) == 70
    some = Dataset.from_dict({"id": ["0", "1", "2"], "text": ["가 나", "다 라", None], "cat1": [0, 0, 1]})
    copied = AugmentedRows(some, np.array([0, 0, 1]), CHANGE, lambda text: text, 42)
    assert copied.copies.tolist() == [2] and copied.__getitems__([3])[0]["text"] is None
    assert len(AugmentedRows(some, np.array([0, 1, 2]), CHANGE, str.strip, 42)) == 3  # classes of one size get none
    with pytest.raises(ValueError, match="this task has no text"):
        AugmentedRows(some.remove_columns("text"), np.array([0, 0, 1]), CHANGE, str.strip, 42)


def test_copies_depend_on_seed_epoch_and_row_alone():
    left, right = augmented(), augmented()
    copies = list(range(60, 70))
    first = {row["id"]: row["text"] for row in left.__getitems__(copies)}
    assert first == {row["id"]: row["text"] for row in right.__getitems__(copies[::-1])}
    assert first == {row["id"]: row["text"] for row in pickle.loads(pickle.dumps(left)).__getitems__(copies)}
    left.set_epoch(1)
    second = {row["id"]: row["text"] for row in left.__getitems__(copies)}
    right.set_epoch(5)
    right.set_epoch(1)
    assert first != second == {row["id"]: row["text"] for row in right.__getitems__(copies)}
    assert first != {row["id"]: row["text"] for row in augmented(seed=1).__getitems__(copies)}


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_training_reads_all_rows_and_each_epochs_copies_and_evaluation_the_rows(tmp_path, capsys, strategy):
    data, read = rows(), []
    techniques = make_techniques({"eda": True, "standardize_rows": 0})
    args = arguments(tmp_path, num_train_epochs=2, train_sampling_strategy=strategy)
    model = tiny.model("bert", heads=tiny.heads()[:1])
    made = MultiHeadTrainer(model, args, tiny.processor(), data, data, techniques)
    collate = made.data_collator
    made.data_collator = lambda batch: (read.extend(row["text"] for row in batch), collate(batch))[1]
    made.train()
    assert "eda: 10 changed copies an epoch beside 60 rows" in capsys.readouterr().out
    assert made.facts()["copies_an_epoch"] == 10 and made.state.global_step == 2 * 9 and len(read) == 140
    epochs = [Counter(read[:70]), Counter(read[70:])]
    assert all(not Counter(data["text"]) - epoch for epoch in epochs) and epochs[0] != epochs[1]
    assert len(made.predictions("validation").logits["cat1"]) == 60
