"""What a run says before its first step."""

from __future__ import annotations

from types import SimpleNamespace

import datasets

from hfk import HeadConfig
from hfk.evaluation.report import format_table
from hfk.runs.overview import overview


class Tokenizer:
    """One token a character."""

    def __call__(self, texts, verbose):
        return {"input_ids": [list(text) for text in texts]}


def test_rows_by_split_and_head_labels_never_seen_and_texts_that_are_cut():
    label = datasets.ClassLabel(names=["가", "나", "다"])
    features = datasets.Features({"text": datasets.Value("string"), "갈래": label})
    rows = {"text": ["짧다", "아주 긴 글", None], "갈래": ["가", "나", None]}
    data = datasets.DatasetDict(
        train=datasets.Dataset.from_dict(rows, features),
        validation=datasets.Dataset.from_dict({"text": ["글"], "갈래": ["다"]}, features),
        test=datasets.Dataset.from_dict({"text": ["글"], "갈래": [None]}, features),
    )
    processor = SimpleNamespace(tokenizer=Tokenizer(), max_length=5, text_prefix="", truncation="middle")
    assert overview(data, [HeadConfig("갈래", ["가", "나", "다"])], processor).splitlines() == [
        "      train  validation  test",
        "rows      3           1     1",
        "갈래      2           1     0",
        "no row of test has a label: nothing is scored there",
        "without a training row: 1 of 3 labels of 갈래 (다)",
        "1 of 2 texts are longer than max_length 5 (the longest seen has 6 tokens); of them the beginning and the end "
        "are read, half of either (`truncation: middle`)",
    ]


def test_scores_of_training_rows_say_so():
    results = {"heads": [], "scores": {"exact_match": 1.0}, "counts": {}}
    assert "trained on" not in format_table(results)
    assert "These are the rows that it was trained on" in format_table(results | {"extra": {"split": "train"}})
    extra = {"trained_on": 3, "rows": 10}
    assert "It was trained on 3 of these 10 rows" in format_table(results | {"extra": extra})
