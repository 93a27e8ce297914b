"""What a model said survives the disk, averages as probabilities, and still reads files of hfk 0.1."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hfk.evaluation.predictions import Predictions
from hfk.files import replacing, write_atomic
from hfk.models.configuration_multihead import HeadConfig
from hfk.models.problems import MISSING

COARSE = HeadConfig("큰 분류", ["자연", "음식, 술"], temperature=1.7)
FINE = HeadConfig("cat2", ["산", "바다", '한"식'], parent="큰 분류", parent_of=[0, 0, 1])
TAGS = HeadConfig("tags", ["일출", "가족"], problem="multi_label")
PRICE = HeadConfig("price", problem="regression", mean=5.0, std=2.0)
HEADS = [COARSE, FINE, TAGS, PRICE]


ODD = ["", " ", "\x00", "가\n나", '"a",b', "👍🏽", "\u202e", None]


def drawn(seed: int) -> Predictions:
    """Some rows, none with the first seed, with whatever may be missing missing here and there."""
    draw, rows = np.random.default_rng(seed), 2 * seed
    missing = draw.random(rows) < 0.4
    labels = {
        "큰 분류": np.where(missing, MISSING, draw.integers(2, size=rows)),
        "tags": np.where(missing[:, None], np.nan, draw.random((rows, 2)) < 0.5),
        "price": np.where(missing, np.nan, draw.normal(size=rows).astype(np.float32)),
    }
    logits = {head.name: draw.normal(0, 10, (rows, head.num_outputs)).astype(np.float32) for head in HEADS}
    texts = [ODD[row % len(ODD)] for row in range(rows)] if seed % 2 else None
    folds = draw.integers(5, size=rows).astype(np.int32) if seed % 3 else None
    return Predictions([str(text) for text in draw.choice(ODD[:-1], rows)], HEADS, logits, labels, texts, folds)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("predictions") / "predictions.parquet"


@pytest.mark.parametrize("seed", range(5))
def test_what_is_loaded_is_what_was_saved(seed, path):
    said = drawn(seed)
    said.save(path)
    again = Predictions.load(path)
    assert (again.ids, again.heads) == (said.ids, said.heads)
    assert (again.texts is None) == (said.texts is None) and list(again.texts or []) == list(said.texts or [])
    np.testing.assert_array_equal(again.folds, said.folds)
    for head in HEADS:
        np.testing.assert_array_equal(again.logits[head.name], said.logits[head.name])
        np.testing.assert_array_equal(again.chosen[head.name], said.chosen[head.name])
        np.testing.assert_array_equal(again.target[head.name].present, said.target[head.name].present)
        np.testing.assert_array_equal(again.target[head.name].values, said.target[head.name].values)


def some(seed: int = 0, rows: int = 8) -> Predictions:
    generator = np.random.default_rng(seed)
    labels = {"cat2": np.arange(rows) % 3, "price": np.arange(rows, dtype=float)}
    logits = {head.name: generator.normal(size=(rows, head.num_outputs)) for head in HEADS}
    return Predictions([f"{row:02}" for row in range(rows)], HEADS, logits, labels)


def test_a_person_can_read_the_file(path):
    said = some()
    said.save(path)
    table = pq.read_table(path).to_pydict()
    assert list(table)[:4] == ["id", "큰 분류_label", "큰 분류_pred", "큰 분류_logits"]
    assert table["cat2_label"][:3] == FINE.labels and table["큰 분류_label"] == [None] * 8
    assert all(set(tags) <= set(TAGS.labels) for tags in table["tags_pred"])


def test_a_head_that_never_answers_still_has_its_labels(path):
    tags = Predictions(None, [TAGS], {"tags": np.full((2, 2), -5.0)}, {"tags": np.array([[1.0, 0], [0, 0]])})
    tags.save(path)
    assert pq.read_table(path)["tags_label"].to_pylist() == [["일출"], []]


def test_the_mean_is_that_of_probabilities_and_of_numbers():
    one, two = some(1), some(2)
    both = Predictions.mean([one, two])
    for head in HEADS:
        mean = (one.probabilities[head.name] + two.probabilities[head.name]) / 2
        np.testing.assert_allclose(both.probabilities[head.name], mean, atol=1e-5)
    assert [head.temperature for head in both.heads] == [1.0] * 4 and COARSE.temperature == 1.7
    np.testing.assert_array_equal(both.target["cat2"].values, one.target["cat2"].values)


def test_parts_and_rows_are_put_together_in_order():
    said = some()
    whole = Predictions.concatenate([said.select([0, 1, 2]), said.select(range(3, 8))])
    assert whole.ids == said.ids and whole.labelled == {"큰 분류": 0, "cat2": 8, "tags": 0, "price": 8}
    for head in HEADS:
        np.testing.assert_allclose(whole.probabilities[head.name], said.probabilities[head.name], atol=1e-5)
    turned = said.select([5, 0])
    assert turned.ids == ["05", "00"] and turned.target["price"].values.tolist() == [5.0, 0.0]


def test_an_out_of_fold_file_of_the_first_version_is_read(path):
    said = some()
    columns = {"id": said.ids, "fold": pa.array(range(8), pa.int32())}
    for head in HEADS:
        target = said.target[head.name]
        columns[f"{head.name}_label"] = said.names(head, target.values, target.present)
        columns[f"{head.name}_probabilities"] = list(said.probabilities[head.name].reshape(8, -1))
    pq.write_table(pa.table(columns), path)
    with pytest.raises(ValueError, match=r"was written by hfk 0\.1; give the task"):
        Predictions.load(path)
    again = Predictions.load(path, HEADS)
    assert again.ids == said.ids and again.folds.tolist() == list(range(8))
    for head in HEADS:
        np.testing.assert_allclose(again.probabilities[head.name], said.probabilities[head.name], atol=1e-5)
        np.testing.assert_array_equal(again.target[head.name].values, said.target[head.name].values)


def test_a_file_that_does_not_fit_the_task_any_more_is_refused(path):
    some().save(path)
    renamed = [HeadConfig("cat2", ["산", "바다", "양식"])]
    with pytest.raises(ValueError, match=r"row with id '02': cat2_label '한\"식' is no label of the task as it is now"):
        Predictions.load(path, renamed)
    with pytest.raises(ValueError, match="cat2_logits has 3 numbers for 4 labels"):
        Predictions.load(path, [HeadConfig("cat2", [*FINE.labels, "더"])])
    with pytest.raises(ValueError, match="has other labels than the task has now"):
        Predictions.load(path, [HeadConfig("cat2", FINE.labels[::-1])])
    with pytest.raises(ValueError, match="no logits for the task's heads: none of color_logits"):
        Predictions.load(path, [HeadConfig("color", ["a", "b"])])
    assert [head.name for head in Predictions.load(path, [PRICE]).heads] == ["price"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"ids": [1, 2]}, "ids has 2 entries for 8 rows"),
        ({"logits": {}}, "'큰 분류': there are no logits"),
        ({"logits": some().logits | {"cat2": np.zeros((8, 2))}}, r"'cat2': its logits have the shape \(8, 2\)"),
        ({"logits": some().logits | {"cat2": np.full((8, 3), np.nan)}}, "'cat2', row 0: the logits are not finite"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes, error):
    with pytest.raises(ValueError, match=error):
        Predictions(**({"ids": None, "heads": HEADS, "logits": some().logits, "labels": {}} | changes))


def _save_and_die(path: Path) -> None:
    with replacing(path) as part:
        part.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_whoever_is_killed_or_interrupted_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_atomic(path, "old")
    process = multiprocessing.get_context("fork").Process(target=_save_and_die, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and path.read_text() == "old"
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_text(str(1 / 0))
    assert path.read_text() == "old"
    left = [name for name in os.listdir(tmp_path) if name != "metrics.json"]
    assert len(left) == 1 and re.fullmatch(r"\.metrics\.json\.[\w-]+\.part", left[0])  # of the killed one


def test_a_folder_takes_the_place_of_another(tmp_path):
    for content in ("old", "new"):
        with replacing(tmp_path / "encoder") as part:
            part.mkdir()
            (part / f"{content}.txt").write_text(content)
    assert [path.name for path in (tmp_path / "encoder").iterdir()] == ["new.txt"]
    assert os.listdir(tmp_path) == ["encoder"]
