"""Hostile texts through every door: none crashes, is lost or changes its place, and none costs without bound."""

from __future__ import annotations

import csv
import json
import types
import unicodedata
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import pipeline

from hfk import Predictor
from hfk.models import shared
from hfk.models.text_cleaning import TextCleaner
from hfk.models.text_preparation import CLEANED_CHARACTERS, MAX_CHARACTERS
from hfk.tasks import load_task
from hfk.tasks.dialect import clean_utterance
from hfk.tasks.inputs import find_picture
from hfk.tasks.look_alikes import normalize
from hfk.tasks.names import canonical, near_equal
from hfk.tasks.table_writer import import_openpyxl
from hfk.tasks.tables import read_table
from tests import tiny
from tests.trust import hostile
from tests.trust.measure import least

MANY = pytest.param(20_000, marks=pytest.mark.trust)
MARKS = "가" + "\u0316\u0301" * 60_000
SIGNS = "\u0f73" * 60_000  # each is two marks once it is taken apart


# ------------------------------------------------------------------------------------------------------ counted work


def longest_run(text: str) -> int:
    """Combining marks in a row once letters are taken apart: sorting them costs their square."""
    longest = run = 0
    for sign in text:
        marks = [unicodedata.combining(part) > 0 for part in unicodedata.normalize("NFD", sign)]
        run = run + len(marks) if all(marks) else sum(marks)
        longest = max(longest, run)
    return longest


@pytest.fixture
def normalized(monkeypatch) -> list[str]:
    """All that Python is asked to bring to a normal form."""
    asked: list[str] = []

    def watch(form: str, text: str) -> str:
        asked.append(text)
        return unicodedata.normalize(form, text)

    monkeypatch.setattr(shared, "unicodedata", types.SimpleNamespace(normalize=watch))
    return asked


@pytest.mark.parametrize(
    "door",
    [
        tiny.processor().clean,
        tiny.processor(text_cleaning="simple").clean,
        TextCleaner(["normalize"]),
        canonical,
        normalize,
        clean_utterance,
        lambda text: near_equal([text, "바다"]),
    ],
    ids=["processor", "processor with cleaning", "cleaner", "names", "look-alikes", "dialect", "near-equal names"],
)
@pytest.mark.parametrize("text", [MARKS, SIGNS], ids=["marks", "signs of two marks"])
def test_runs_of_marks_are_cut_before_they_are_sorted(door, text, normalized):
    door(text)
    assert normalized and all(longest_run(asked) <= 2 * shared.MOST_MARKS + 3 for asked in normalized)


def test_letters_with_as_many_marks_as_any_script_has_stay(normalized):
    for word in ("ทั้งนี้", "שָׁלוֹם", "Việt Nam", "ᄀᆞᆸ", "한국", "क्ष्म्य", "༄༅"):
        assert shared.normalize_letters(word) == unicodedata.normalize("NFC", word)
    assert len(normalized) == 7


def test_long_texts_are_cut_before_they_are_cleaned_and_tokenized(normalized, monkeypatch):
    processor = tiny.processor(text_cleaning=["html"])
    cleaned: list[int] = []
    monkeypatch.setattr(processor, "cleaner", lambda text: cleaned.append(len(text)) or text)
    assert len(processor.clean("바다 " * 1_000_000)) <= CLEANED_CHARACTERS
    assert len(processor.clean(["바다 " * 1_000_000] * 3)) <= 3 * (CLEANED_CHARACTERS + 1)
    assert processor.clean("산␟" * 1_000_000)
    assert max(map(len, normalized)) <= MAX_CHARACTERS and sum(map(len, normalized[1:4])) <= MAX_CHARACTERS
    assert max(cleaned) <= CLEANED_CHARACTERS


def test_init_and_a_tasks_rows_sort_no_runs_of_marks(hfk, tmp_path, normalized):
    """In texts, labels and the names of columns."""
    lines = [f"본문{MARKS},갈래{MARKS}"]
    lines += [f"{tiny.SENTENCES[number % 6]}{MARKS},{'산물'[number % 2]}{SIGNS}" for number in range(30)]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, _, errors = hfk("init", tmp_path / "table.csv")
    assert code == 0, errors
    load_task(str(tmp_path / "table.yaml")).load(tmp_path / "cache")
    assert normalized and all(longest_run(asked) <= 2 * shared.MOST_MARKS + 3 for asked in normalized)


def test_a_name_that_no_file_has_is_not_looked_for(tmp_path):
    assert find_picture(tmp_path, MARKS).endswith(MARKS)


# ------------------------------------------------------------------------------------------------------------- doors


@pytest.fixture(scope="module")
def predictor(checkpoint) -> Predictor:
    return Predictor.from_pretrained(str(checkpoint))


@pytest.mark.parametrize("count", [600, MANY])
def test_processor_predictor_and_pipeline_answer_or_refuse_every_row(predictor, checkpoint, count):
    rows = [*hostile.texts(1, count), "", " ", "\x00", MARKS, SIGNS]
    answers = list(predictor(rows, heads="cat1"))
    assert len(answers) == len(rows)
    readable = {}
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        if "error" in answer:
            assert isinstance(answer["error"], str) and "\n" not in answer["error"]
            with pytest.raises(ValueError, match="row 0: "):
                predictor.processor(text=[row])
        else:
            readable[number] = row
    assert len(readable) > len(rows) // 2
    classify = pipeline("multi-head-classification", model=str(checkpoint), batch_size=32)
    for number, answer in zip(readable, classify(list(readable.values()), heads="cat1"), strict=True):
        assert answer["cat1"][0]["label"] == answers[number]["cat1"][0]["label"]


@pytest.mark.trust
@pytest.mark.parametrize("cleaning", [None, "simple"])
def test_a_text_costs_fifty_milliseconds_and_fifty_megabytes(cleaning, record_figures):
    """Beyond the model: cleaned, cut into tokens, and made a tensor."""
    processor, seconds, most = tiny.processor(max_length=512, text_cleaning=cleaning), [], 0.0
    for text in [*hostile.texts(2, 5_000), *hostile.texts(3, 200, longest=2_000_000), MARKS, SIGNS, "<a " * 50_000]:

        def prepare(text: str = text) -> None:
            row = processor.read(text, None)
            if row is not None:
                processor.to_tensors([row])

        taken = least(prepare)
        seconds.append(taken.seconds)
        most = max(most, taken.mb)
    record_figures(f"texts, cleaning {cleaning}", seconds, most)
    assert max(seconds) <= 0.06 and most <= 50  # a fifth of the time is for neighbors


# ---------------------------------------------------------------------------------------------------------- the CLI


def write(path: Path, ids: list[str], texts: list[str]) -> list[str]:
    """Write a table as strangers do, not by our own writer; returns the words that say how it is read."""
    if path.suffix in (".csv", ".tsv"):
        delimiter = "," if path.suffix == ".csv" else "\t"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
            writer.writerows([["id", "text"], *zip(ids, texts, strict=True)])
        return ["--read", "quoting=true", "--read", "delimiter=','" if delimiter == "," else "delimiter=tab"]
    if path.suffix == ".jsonl":
        lines = [json.dumps({"id": one, "text": text}) for one, text in zip(ids, texts, strict=True)]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({"id": ids, "text": texts}), path)
    else:
        openpyxl = import_openpyxl(path.name)
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet()
        sheet.append(["id", "text"])
        for one, text in zip(ids, texts, strict=True):
            text = openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub("", text)[:32_000]
            cell = openpyxl.cell.WriteOnlyCell(sheet, text.replace("\uffff", "").replace("\ufffe", ""))
            cell.data_type = "s"
            sheet.append([one, cell])
        book.save(path)
    return []


def read(path: Path) -> pd.DataFrame:
    if path.suffix in (".csv", ".tsv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, delimiter="," if path.suffix == ".csv" else "\t"))
        return pd.DataFrame(rows[1:], columns=rows[0], dtype=object).replace("", None)
    return read_table(path)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
@pytest.mark.parametrize("count", [120, MANY])
def test_every_row_of_every_table_comes_back_in_its_place(hfk, checkpoint, tmp_path, kind, count):
    texts = [*hostile.texts(4, count - 1, surrogates=kind == "jsonl"), "바다"]
    ids = [f"row {number}" for number in range(count)]
    words = write(tmp_path / f"in.{kind}", ids, texts)
    code, _, errors = hfk("predict", checkpoint, tmp_path / f"in.{kind}", tmp_path / f"out.{kind}", *words)
    assert code == 0, errors
    rows = read(tmp_path / f"out.{kind}")
    assert rows["id"].tolist() == ids
    assert rows["cat1_pred"].notna().sum() > count // 2
    assert (rows["cat1_pred"].notna() | rows["error"].notna()).all()


NESTED = '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"
DIGITS = '{"text": "산", "n": ' + "9" * 5_000 + "}"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_a_cell_that_cannot_be_read_or_written_costs_its_row_only(hfk, checkpoint, tmp_path, kind):
    """Half of a surrogate pair, numbers of more than 64 bits and of thousands of digits, JSON without end."""
    lines = [
        '{"text": "바다", "n": 1}',
        '{"text": "바다 \\ud800", "n": 2}',
        '{"text": "산", "n": ' + str(2**70) + "}",
        NESTED,
        DIGITS,
        json.dumps({"text": "바다", "n": 6}),
        json.dumps({"text": "가" * 40_000, "n": 7}),
        json.dumps({"text": [["바다"]], "n": 8}),
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    code, output, errors = hfk("predict", checkpoint, tmp_path / "in.jsonl", tmp_path / f"out.{kind}")
    assert code == 0 and "wrote" in output, errors
    assert "line 4: it is nested too deeply; the row is left without cells" in errors
    assert "line 5: a number in it has thousands of digits" in errors
    rows = read(tmp_path / f"out.{kind}")
    assert len(rows) == 8 and rows["text"][5] == "바다" and rows["text"][1] == "바다 \ufffd"
    assert "column 'text': half of a surrogate pair is replaced by U+FFFD" in rows["error"][1]
    assert rows["error"][[3, 4]].str.contains("there is no text").all()
    assert rows["error"][[0, 5]].isna().all() and rows["cat1_pred"][[0, 1, 2, 5, 6]].notna().all()
    assert ("is no int64" in (rows["error"][2] or "")) == (kind == "parquet")
    assert ("is cut to 32,767 characters" in (rows["error"][6] or "")) == (kind == "xlsx")


def test_what_does_not_fit_its_column_later_costs_its_cell_only(hfk, checkpoint, tmp_path, monkeypatch):
    rows = [{"text": "바다", "n": number} for number in range(6)] + [{"text": "산", "n": "여섯"}]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    loaded = Predictor.from_pretrained(str(checkpoint), window=4)
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *_, **__: loaded)
    assert hfk("predict", checkpoint, tmp_path / "in.jsonl", tmp_path / "out.parquet")[0] == 0
    made = read_table(tmp_path / "out.parquet")
    assert made["n"].tolist() == [0, 1, 2, 3, 4, 5, None]
    assert made["error"][6] == "column 'n': '여섯' is no int64 like what came first, and is left out"


def test_texts_that_are_no_utf8_inside_parquet_are_read(hfk, checkpoint, tmp_path):
    offsets, data = pa.py_buffer(b"\0\0\0\0\6\0\0\0\10\0\0\0"), pa.py_buffer("바다".encode() + b"\xff\xfe")
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    assert hfk("predict", checkpoint, tmp_path / "a.parquet", tmp_path / "out.csv")[0] == 0
    assert read(tmp_path / "out.csv")["text"].tolist() == ["바다", "\ufffd\ufffd"]
