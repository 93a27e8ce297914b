from __future__ import annotations

import io
import itertools
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from hfk.tasks.look_alikes import TEXT_SIMILARITY, duplicate_groups, image_links, normalize, text_links
from hfk.tasks.split import fold_numbers, split_indices

WORDS = ["바다", "산길", "전망대", "등대", "호수", "숲", "계곡", "미술관", "박물관", "국밥", "온천"]
SHARES = {"validation": 0.2, "test": 0.2}
sentences = st.lists(st.sampled_from(WORDS), min_size=0, max_size=6).map(" ".join)


def grams(text):
    bare = normalize(text)
    return {bare[i : i + 3] for i in range(len(bare) - 2)}


def jaccard(one, two):
    return len(one & two) / len(one | two) if one | two else 0.0


@given(st.lists(sentences, min_size=1, max_size=30))
@settings(max_examples=25, deadline=None)
def test_the_join_finds_exactly_the_pairs_above_the_threshold(texts):
    found = {tuple(sorted(map(int, link[:2]))) for link in text_links(texts)}
    groups = duplicate_groups(texts, None, len(texts), max_group=1000)
    for i, one in enumerate(texts):
        for j in range(i + 1, len(texts)):
            near = jaccard(grams(one), grams(texts[j])) >= TEXT_SIMILARITY - 1e-9
            if normalize(one) and (near or normalize(one) == normalize(texts[j])):
                assert groups[i] == groups[j]
            else:
                assert (i, j) not in found


@given(
    st.lists(st.tuples(sentences, st.sampled_from("abc")), min_size=1, max_size=40),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_the_split_is_exact_stable_and_keeps_look_alikes_together(rows, seed, rng):
    texts, labels = [text or None for text, _ in rows], [label for _, label in rows]
    parts, _ = split_indices(texts, None, labels, SHARES, seed=seed)
    assert list(parts) == ["train", "validation", "test"]
    assert sorted(itertools.chain(*parts.values())) == list(range(len(rows)))

    side = {row: part for part, indices in parts.items() for row in indices}
    for i, j, _ in text_links(texts):
        assert side[int(i)] == side[int(j)]

    order = list(range(len(rows)))
    rng.shuffle(order)
    again, _ = split_indices([texts[i] for i in order], None, [labels[i] for i in order], SHARES, seed=seed)
    for part, indices in again.items():
        # Rows of the same content may stand for each other; whole contents may not change sides.
        assert sorted((texts[order[i]] or "", labels[order[i]]) for i in indices) == sorted(
            (texts[i] or "", labels[i]) for i in parts[part]
        )


def distinct_texts(rows):
    rng = random.Random(0)
    return ["".join(chr(rng.randint(0xAC00, 0xD7A3)) for _ in range(20)) for _ in range(rows)]


def test_shares_hold_in_every_class_and_over_many_small_ones():
    labels = ["large"] * 500 + ["middle"] * 60 + [f"small {n}" for n in range(100) for _ in range(4)]
    parts, _ = split_indices(distinct_texts(len(labels)), None, labels, {"validation": 0.1, "test": 0.1})
    assert {part: len(indices) for part, indices in parts.items()} == {"train": 768, "validation": 96, "test": 96}
    assert sum(labels[i] == "large" for i in parts["validation"]) == 50
    assert {labels[i] for i in parts["train"]} == set(labels)


def test_one_row_classes_are_in_train():
    labels = ["a"] * 40 + list("bcdefghij")
    parts, _ = split_indices(distinct_texts(len(labels)), None, labels, {"test": 0.4})
    assert set("bcdefghij") <= {labels[i] for i in parts["train"]}


def test_seeds_differ():
    texts = distinct_texts(200)
    assert split_indices(texts, None, None, SHARES, seed=1) != split_indices(texts, None, None, SHARES, seed=2)


def test_what_can_not_be_given_is_said_and_shared_fairly():
    """Classes of one row, and of two: a third of the classes can give one row, to either split."""
    labels = [f"one {n}" for n in range(200)] + [f"two {n}" for n in range(100) for _ in range(2)]
    parts, said = split_indices(distinct_texts(400), None, labels, {"validation": 0.2, "test": 0.2})
    assert abs(len(parts["validation"]) - len(parts["test"])) <= 4 and len(parts["test"]) > 40
    assert re.search(r"validation has 5\d rows of about 80 and test has [45]\d rows of about 80", said[0])
    assert "200 of 300 labels have one" in said[0]


@pytest.mark.parametrize("alike", [False, True])
def test_rows_of_one_group_stay_together(alike):
    texts, labels = distinct_texts(300), [f"label {n % 3}" for n in range(300)]
    authors = [None if n % 10 == 9 else f"u{n // 7}" for n in range(300)]
    if alike:  # what two authors write is the same: then they stay together
        texts[7] = texts[0]
    parts, _ = split_indices(texts, None, labels, SHARES, groups=authors)
    folds = fold_numbers(texts, None, labels, 5, groups=authors)
    assert min(len(parts["validation"]), len(parts["test"])) > 40 and np.bincount(folds).min() > 40
    side = {row: part for part, rows in parts.items() for row in rows}
    for one, author in enumerate(authors):
        for two in range(one + 1, 300):
            if author is not None and (author == authors[two] or (alike and {author, authors[two]} == {"u0", "u1"})):
                assert side[one] == side[two] and folds[one] == folds[two]


def test_few_groups_are_divided_though_each_label_has_but_one():
    texts = [f"{n * 7919}번째 글은 {n * 104729}" for n in range(120)]
    groups = [n % 8 for n in range(120)]
    parts, _ = split_indices(texts, None, [n % 8 for n in range(120)], {"validation": 0.1, "test": 0.1}, groups=groups)
    assert len(parts["validation"]) == len(parts["test"]) == 15


def test_other_spaces_case_and_signs_are_the_same_text():
    texts = [
        "KTX 역에서 5분 거리의 카페",
        "ktx역에서 5분 거리의, 카페!",
        "ＫＴＸ 역에서５분 거리의 카페",
        "다른 글이다",
    ]
    assert len(set(duplicate_groups(texts, None, 4)[:3])) == 1
    assert len(set(duplicate_groups(texts, None, 4))) == 2


def test_blank_texts_are_no_duplicates_of_each_other():
    assert len(set(duplicate_groups([None, None, "", " "], None, 4))) == 4


def test_a_chain_of_look_alikes_does_not_swallow_the_table():
    # Each text shares most of its grams with the next, none with those far away.
    letters = distinct_texts(60)[0] + "".join(distinct_texts(60)[1:])
    texts = [letters[i * 2 : i * 2 + 20] for i in range(400)]
    assert max(np.bincount(duplicate_groups(texts, None, 400, max_group=10_000))) == 400
    assert max(np.bincount(duplicate_groups(texts, None, 400))) <= 50


def test_identical_texts_stay_together_however_many():
    texts = ["정보 없음"] * 80 + distinct_texts(120)
    parts, said = split_indices(texts, None, None, SHARES)
    assert "80 of 200 rows" in said[0]
    assert sum(bool(set(range(80)) & set(indices)) for indices in parts.values()) == 1


def test_a_crowded_template_takes_no_quadratic_time(monkeypatch):
    monkeypatch.setattr("hfk.tasks.look_alikes._COMMON", 20)
    texts = [f"대표메뉴는 샤브샤브다 서울에 있는 한식전문점이다 {n}" for n in range(300)]
    assert len(set(duplicate_groups(texts, None, 300, max_group=1000))) == 1


def test_too_many_pairs_are_not_compared_and_that_is_said(monkeypatch):
    """Neighbors in text order are, and equal texts always."""
    monkeypatch.setattr("hfk.tasks.look_alikes._PAIRS", 500)
    texts = [f"{word}에 가는 길은 멀고 {word}에서 오는 길은 가깝다 {n % 100}" for n, word in enumerate(WORDS * 20)]
    with pytest.warns(UserWarning, match="near-duplicates may be missed"):
        groups = duplicate_groups(texts, None, len(texts), max_group=1000)
    for n, text in enumerate(texts):
        assert groups[n] == groups[texts.index(text)]
    assert len(set(groups)) < len(set(texts))


# -------------------------------------------------------------------------------------------------------- pictures


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def drawn(seed, background="white"):
    rng = random.Random(seed)
    image = Image.new("RGB", (96, 96), background)
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y, r = rng.randint(0, 80), rng.randint(0, 80), rng.randint(6, 20)
        draw.ellipse([x, y, x + r, y + r], fill=tuple(rng.randint(0, 255) for _ in range(3)))
    return image


def test_reencoded_and_resized_pictures_are_linked():
    image = drawn(1)
    copies = [encode(image), encode(image, "JPEG", quality=70), encode(image.resize((64, 64)), "WEBP", quality=80)]
    assert len(set(duplicate_groups(None, [*copies, encode(drawn(2))], 4)[:3])) == 1


@pytest.mark.parametrize("background", ["white", "black", (245, 245, 245)])
def test_drawings_on_a_plain_background_stay_apart(background):
    images = [encode(drawn(seed, background)) for seed in range(60)]
    assert len(set(duplicate_groups(None, images, 60))) == 60


def test_pale_small_things_stay_apart():
    images = []
    for n in range(20):
        image = Image.new("RGB", (96, 96), "white")
        ImageDraw.Draw(image).ellipse([n * 4, 40, n * 4 + 10, 50], fill=(228, 228, 228))
        images.append(encode(image))
    assert len(set(duplicate_groups(None, images, 20))) == 20


def test_broken_and_empty_pictures_link_only_to_equal_bytes(tmp_path):
    (tmp_path / "empty.jpg").touch()
    whole = encode(drawn(1), "JPEG")["bytes"]
    images = [{"bytes": whole[:200]}, {"bytes": whole[:200]}, {"bytes": whole[:210]}, str(tmp_path / "empty.jpg"), None]
    images += [str(tmp_path / "absent.jpg")]
    assert [tuple(map(int, link[:2])) for link in image_links(images)] == [(0, 1)]


def test_a_huge_picture_is_not_decoded(monkeypatch):
    monkeypatch.setattr("hfk.models.image_preparation.MAX_PIXELS", 1000)
    assert len(image_links([encode(drawn(1)), encode(drawn(1), "JPEG")])) == 0


def test_pictures_cross_no_split_even_if_texts_differ():
    images = [encode(drawn(seed // 2), "JPEG", quality=70 + seed % 2 * 20) for seed in range(60)]
    parts, _ = split_indices(distinct_texts(60), images, None, SHARES)
    side = {row: part for part, indices in parts.items() for row in indices}
    assert all(side[row] == side[row + 1] for row in range(0, 60, 2))
    assert len(parts["test"]) == 12


@pytest.mark.parametrize("fractions", [{"test": 1.0}, {"test": -0.1}, {"a": 0.6, "b": 0.5}, {"train": 0.5}])
def test_bad_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="train takes the rest"):
        split_indices(["가"], None, None, fractions)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(sentences, st.sampled_from("가나다")), min_size=12, max_size=60), st.integers(2, 5))
def test_folds_keep_look_alikes_together_and_every_row_has_one(rows, folds):
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    groups = duplicate_groups(texts, None, len(rows))
    if len(set(groups)) < folds:
        with pytest.raises(ValueError, match=f"{folds} folds can't be made of"):
            fold_numbers(texts, None, labels, folds)
        return
    numbers = fold_numbers(texts, None, labels, folds)
    assert set(numbers) == set(range(folds))
    assert all(len(set(numbers[groups == group])) == 1 for group in set(groups))
    # Another order of the rows changes nothing, but for rows that are the same to the eye of the hash.
    order = np.random.default_rng(0).permutation(len(rows))
    if len({normalize(text) for text in texts}) == len(texts):
        again = fold_numbers([texts[i] for i in order], None, [labels[i] for i in order], folds)
        assert again.tolist() == numbers[order].tolist()


def test_folds_hold_every_label_in_equal_shares():
    """Groups of one row: no fold has two more rows of a label, or in all, than another."""
    texts, labels = [f"{'가나다라마바사아자차'[n % 10] * 4}{n * 7919}" for n in range(103)], [n % 4 for n in range(103)]
    numbers = fold_numbers(texts, None, labels, 5, near_duplicates=False)
    for rows in (np.ones(103, bool), *(np.array(labels) == label for label in range(4))):
        counts = np.bincount(numbers[rows], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert fold_numbers(texts, None, labels, 5, seed=7, near_duplicates=False).tolist() != numbers.tolist()
