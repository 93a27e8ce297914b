"""What `Predictor` takes for rows, and how it says no."""

from __future__ import annotations

import pandas as pd
import pytest

from hfk import Predictor
from tests import tiny


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny.model("bert", "resnet"), tiny.processor("bert", "resnet"))


def test_tables_and_columns_of_pandas_are_rows(predictor):
    texts = [*tiny.SENTENCES[:2], None]
    answers = list(predictor([{"text": text} for text in texts]))
    table = pd.DataFrame({"no": [1, 2, 3], "text": texts}, index=[7, 5, 5])
    assert list(predictor(table)) == list(predictor(table["text"])) == answers
    assert "there is no text or image" in answers[2]["error"]
    with pytest.raises(ValueError, match="the table needs a column 'text', 'image' or both; it has: no"):
        predictor(table[["no"]])


def test_no_rows_give_no_answers(predictor):
    assert list(predictor([])) == list(predictor(pd.DataFrame({"text": []}))) == []


def test_a_dict_with_other_keys_is_answered_with_the_keys_that_count(predictor):
    wrong, right = predictor([{"txt": "바다", "label": 1}, {"text": "바다", "label": 1}])
    assert wrong == {"error": "an input dict needs 'text', 'image' or both; it has: txt, label."}
    assert set(right) == {"cat1", "cat2", "tags", "price"}


def test_one_head_may_be_named_without_a_list(predictor):
    assert list(predictor("바다", heads="cat2")) == list(predictor("바다", heads=["cat2"]))
    with pytest.raises(ValueError, match="no head is called 'cat3'"):
        next(predictor("바다", heads="cat3"))
