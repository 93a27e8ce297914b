from __future__ import annotations

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hfk.tasks.tables import TableWriter, iter_table, read_table

CELLS = {"id": ["007", "2"], "text": ['쉼표, 따옴표" 와\n줄바꿈', None], "none": ["none", "NA"]}


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_csv_cells_stay_as_written(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text,none\n007,"쉼표, 따옴표"" 와\n줄바꿈",none\n2,,NA\n')
    assert read_table(path).to_dict("list") == CELLS


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz", "a.jsonl.gz"])
def test_what_is_written_reads_back(tmp_path, name):
    frame = pd.DataFrame(CELLS, dtype=object)
    with TableWriter(tmp_path / name) as writer:
        writer.write(frame.iloc[:1])
        writer.write(frame.iloc[1:])
    assert read_table(tmp_path / name).to_dict("list") == CELLS
    assert [path.name for path in tmp_path.iterdir()] == [name]


def fail_while_writing(path):
    def fail():
        with TableWriter(path) as writer:
            writer.write(pd.DataFrame({"a": [1]}))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()


def test_a_failed_write_leaves_no_file(tmp_path):
    fail_while_writing(tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path):
    write(tmp_path / "a.csv", "a\nold\n")
    fail_while_writing(tmp_path / "a.csv")
    assert read_table(tmp_path / "a.csv")["a"].tolist() == ["old"]


def test_parquet_takes_text_after_a_chunk_of_nones(tmp_path):
    with TableWriter(tmp_path / "a.parquet") as writer:
        writer.write(pd.DataFrame({"error": [None, None], "note": [None, None], "score": [0.5, 0.25]}))
        writer.write(pd.DataFrame({"error": ["no text"], "note": [1], "score": [None]}, dtype=object))
    assert read_table(tmp_path / "a.parquet").to_dict("list") == {
        "error": [None, None, "no text"],
        "note": [None, None, "1"],
        "score": [0.5, 0.25, None],
    }


def test_chunks_of_other_columns_are_refused(tmp_path):
    with TableWriter(tmp_path / "a.csv") as writer:
        writer.write(pd.DataFrame({"a": [1]}))
        with pytest.raises(ValueError, match="columns"):
            writer.write(pd.DataFrame({"b": [1]}))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_chunks_make_up_the_table(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with TableWriter(path) as writer:
        writer.write(pd.DataFrame({"n": [str(n) for n in range(25)]}))
    chunks = list(iter_table(path, chunk_rows=10))
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    assert [chunk.index[0] for chunk in chunks] == [0, 10, 20]
    assert pd.concat(chunks)["n"].tolist() == read_table(path)["n"].tolist()


def test_a_later_key_of_jsonl_is_a_column_from_the_start(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": null, "b": [1, 2]}\n')
    assert [chunk.to_dict("list") for chunk in iter_table(path, chunk_rows=1)] == [
        {"a": [1], "b": [None]},
        {"a": [None], "b": [[1, 2]]},
    ]


def test_json_list_reads(tmp_path):
    path = write(tmp_path / "a.json", json.dumps([{"title": "가"}, {"title": "나"}]))
    assert read_table(path)["title"].tolist() == ["가", "나"]


def test_bom_is_no_part_of_the_first_column(tmp_path):
    assert list(read_table(write(tmp_path / "a.csv", "id,글\n1,가\n", "utf-8-sig")).columns) == ["id", "글"]


def test_cp949_reads_and_says_so(tmp_path):
    path = write(tmp_path / "a.csv", "글\n한글 뷁\n", "cp949")
    with pytest.warns(UserWarning, match="cp949"):
        assert read_table(path)["글"].tolist() == ["한글 뷁"]


def test_long_cells_read(tmp_path):
    path = write(tmp_path / "a.csv", f"text,b\n{'가' * 300_000},1\n")
    assert len(read_table(path)["text"][0]) == 300_000


def test_a_header_alone_is_an_empty_table(tmp_path):
    frame = read_table(write(tmp_path / "a.csv", "a,b\n"))
    assert list(frame.columns) == ["a", "b"]
    assert len(frame) == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b"\n\n", "no header"),
        ("a.csv", b"a,b\n1,2\n1\n", r"a\.csv, line 3: 1 cells"),
        ("a.csv", b'a,b\n1,"x\ny"\n1,2,3\n', r"line 4: 3 cells"),
        ("a.csv", b"a,a\n1,2\n", "two columns are called 'a'"),
        ("a.csv", b"a\n\xff\xfe\x81\n", "neither UTF-8 nor cp949"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "line 2"),
        ("a.jsonl", b"[1]\n", "JSON object"),
        ("a.json", b'{"a": 1}', "list of objects"),
        ("a.parquet", b"PAR1 no", "Parquet"),
        ("a.csv.gz", gzip.compress(b"a\n1\n", mtime=0)[:-6], "gzip"),
        ("a.xlsx", b"PK", r"give \.csv"),
        ("a.csv", b'a,b\n1,"2\n', "line 2"),
    ],
)
def test_bad_files_get_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*b\.csv"):
        read_table(tmp_path / "b.csv")
    with pytest.raises(ValueError, match="directory"):
        read_table(tmp_path)


def test_parquet_types_stay(tmp_path):
    pq.write_table(pa.table({"n": pa.array([1, None]), "l": [["a"], []]}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").to_dict("list") == {"n": [1, None], "l": [["a"], []]}
