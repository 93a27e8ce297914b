from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import re
import unicodedata
import warnings
import zipfile

import datasets
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfk.tasks.table_writer import TableWriter, guard
from hfk.tasks.tables import iter_columns, layout, read_table

CELLS = {"id": ["007", "2"], "text": ['쉼표, 따옴표" 와\n줄바꿈', None], "none": ["none", "NA"]}


def zipped(files):
    """A ZIP archive's bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_csv_cells_stay_as_written(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text,none\n007,"쉼표, 따옴표"" 와\n줄바꿈",none\n2,,NA\n')
    assert read_table(path).to_dict("list") == CELLS


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz", "a.jsonl.gz", "a.xlsx"])
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
    chunks = [chunk["n"] for chunk in iter_columns(path, chunk_rows=10)]
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    assert [cell for chunk in chunks for cell in chunk] == read_table(path)["n"].tolist() == [str(n) for n in range(25)]


def test_a_later_key_of_jsonl_is_a_column_from_the_start(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": null, "b": [1, 2]}\n')
    assert list(iter_columns(path, chunk_rows=1)) == [
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


@pytest.mark.parametrize(
    ("name", "text", "encoding", "said"),
    [
        ("a.csv", "글;갈래\r\n쉼표, 둘;가\r\n", "utf-8", "semicolon-separated"),
        ("a.csv", "sep=|\n글|갈래\n쉼표, 둘|가\n", "utf-8", "bar-separated"),
        ("a.txt", "글\t갈래\n쉼표, 둘\t가\n", "utf-16", "tab-separated, UTF-16"),
        ("a.txt", '글,갈래\n"쉼표, 둘",가\n', "utf-16-le", "comma-separated, UTF-16"),
        ("글", "글\r쉼표, 둘\r", "utf-8", "one column"),
        (
            "a.csv",
            '2026년 집계,,\n,,\n글,갈래,수\n"쉼표, 둘",가,1\n',
            "utf-8",
            "comma-separated, header below 2 lines of titles",
        ),
        ("a.csv", '글,갈래,\n"쉼표, 둘",가,\n', "utf-8", "comma-separated"),
    ],
)
def test_how_a_table_is_written_is_seen_in_it(tmp_path, name, text, encoding, said):
    path = write(tmp_path / name, text, encoding)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = layout(path)
    assert (found.said, found.rows) == (said, 1)
    assert read_table(path)["글"].tolist() == ["쉼표, 둘"]


def test_a_title_above_two_columns(tmp_path):
    path = write(tmp_path / "a.csv", "2026년 집계\n글,갈래\n" + '"쉼표, 둘",가\n' * 12)
    with pytest.warns(UserWarning, match=r"a\.csv: the header is 글, 갈래, and what stands above it is left out"):
        assert read_table(path)["글"].tolist() == ["쉼표, 둘"] * 12
    path = write(tmp_path / "b.csv", ",글\n" + "0,가\n" * 4)
    assert list(read_table(path).columns) == ["", "글"]


@pytest.mark.parametrize("reading", [{"header": "no"}, {"quoting": "none"}, {"delimiter": ""}, {"comment": "#"}])
def test_ways_to_read_that_are_none_are_refused(tmp_path, reading):
    with pytest.raises(ValueError, match=next(iter(reading))):
        layout(write(tmp_path / "a.csv", "a\n1\n"), **reading)


def test_quotes_are_letters_where_every_line_has_the_width_without_them(tmp_path):
    lines = [f"글 {n}\t가" for n in range(60)]
    lines[12], lines[42], lines[50] = '"시작\t가', '"또 시작\t가', '말 "속" 말\t가'
    path = write(tmp_path / "a.tsv", "\n".join(["글\t갈래", *lines]))
    assert layout(path).said == "tab-separated, no quoting"
    assert read_table(path)["글"].tolist() == [line.split("\t")[0] for line in lines]
    # One that ends with a quote makes a cell of 30 rows by CSV's rules, which nobody wrote.
    lines[42], lines[50] = '끝"\t가', "말\t가"
    lines[12] = '가\t"시작'
    lines[42] = '가\t끝"'
    path = write(tmp_path / "b.tsv", "\n".join(["글\t갈래", *lines]))
    with pytest.warns(UserWarning, match=r"b\.tsv: lines 14–44 are read as rows, .* say `quoting: true`"):
        assert len(read_table(path)) == 60
    assert len(read_table(path, quoting=True)) == 30


def test_one_bad_line_does_not_make_a_cell_of_others(tmp_path):
    lines = [f"글 {n}\t가" for n in range(60)]
    for one, other in (('"시작\t가', '"또\t가'), ('가\t"시작', '가\t끝"')):
        lines[12], lines[42], lines[50] = one, other, "둘뿐"
        path = write(tmp_path / "a.tsv", "\n".join(["글\t갈래", *lines]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match="line 52: 1 cells, but the header names 2 columns;"):
                read_table(path)
            assert len(read_table(path, ragged="empty")) == 60


def test_a_careless_writers_quotes_read_where_they_join_no_lines(tmp_path):
    path = write(tmp_path / "a.csv", 'a,b\n1,"x" y\n2,"쉼표, 둘"\n')
    assert read_table(path)["b"].tolist() == ["x y", "쉼표, 둘"]


def test_a_lone_carriage_return_ends_no_line(tmp_path):
    path = write(tmp_path / "a.txt", "글\t갈래\n하나\r둘\t가\n")
    assert read_table(path)["글"].tolist() == ["하나\r둘"]
    with TableWriter(tmp_path / "a.csv") as writer:
        writer.write(pd.DataFrame({"글": ["하나\r둘"], "갈래": ["가"]}))
    assert read_table(tmp_path / "a.csv").values.tolist() == [["하나\r둘", "가"]]


def test_a_first_line_that_is_a_row_is_noticed(tmp_path):
    path = write(tmp_path / "a.tsv", "음식\t국밥\n여행\t바다\n음식\t냉면\n음식\t김밥\n")
    with pytest.warns(UserWarning, match="first line looks like a row.* say `header: false`"):
        assert layout(path).settings == {"header": False}
    assert read_table(path, header=False).to_dict("list") == {
        "0": ["음식", "여행", "음식", "음식"],
        "1": ["국밥", "바다", "냉면", "김밥"],
    }


def test_a_label_called_like_its_column_makes_no_row_of_the_header(tmp_path):
    lines = [f"길고 긴 댓글 {n} 입니다,{'hate' if n % 3 else 'none'},{n % 2 == 0}" for n in range(20)]
    path = write(tmp_path / "a.csv", "\n".join(["comments,hate,bias", *lines]))
    assert layout(path).settings == {}


def test_lines_of_another_width_may_be_rows_without_cells(tmp_path):
    path = write(tmp_path / "a.csv", "a,b\n1,2\n1\n3,4\n")
    assert read_table(path, ragged="empty")["a"].tolist() == ["1", None, "3"]


@pytest.mark.parametrize(
    "document",
    [
        '{"version": 1, "data": [{"글": "하나", "수": {"합": 1}}, {"글": "둘", "수": {"합": 2}}]}',
        '{"kor": {"train": [{"글": "하나", "수": {"합": 1}}, {"글": "둘", "수": {"합": 2}}]}}',
        '{"글": ["하나", "둘"], "수.합": [1, 2]}',
        '{"글": {"0": "하나", "1": "둘"}, "수.합": {"0": 1, "1": 2}}',
        '{"columns": ["글", "수.합"], "index": [0, 1], "data": [["하나", 1], ["둘", 2]]}',
        '{"글": "하나", "수": {"합": 1}}\n{"글": "둘", "수": {"합": 2}}\n',
        '[\n{"글": "하나", "수": {"합": 1}},\n{"글": "둘", "수": {"합": 2}}]',
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.txt"])
def test_json_of_every_shape_reads_whatever_its_name(tmp_path, document, name):
    assert read_table(write(tmp_path / name, document)).to_dict("list") == {"글": ["하나", "둘"], "수.합": [1, 2]}


def test_names_of_columns_are_composed_whatever_wrote_them(tmp_path):
    name = unicodedata.normalize("NFD", "문장")
    for path in (
        write(tmp_path / "a.csv", f"{name},y\n하나,가\n"),
        write(tmp_path / "a.jsonl", json.dumps({name: "하나"})),
    ):
        assert read_table(path)["문장"].tolist() == ["하나"]


def test_a_line_of_json_lines_is_a_row_whatever_it_holds(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"글": "하나", "곳": [{"첫": 0}, {"첫": 3}]}\n')
    assert read_table(path)["곳.첫"].tolist() == [[0, 3]]
    path = write(tmp_path / "a.jsonl", '[\n{"글": "하나"},\n{"글": "둘"}]\n')
    assert read_table(path)["글"].tolist() == ["하나", "둘"]


def test_labels_of_datasets_keep_their_names(tmp_path):
    features = datasets.Features(
        {"y": datasets.ClassLabel(names=["나", "가"]), "m": datasets.List(datasets.ClassLabel(names=["a", "b"]))}
    )
    rows = datasets.Dataset.from_dict({"y": [1, 0, None], "m": [[1], [], None]}, features=features)
    rows.to_parquet(tmp_path / "a.parquet")
    rows.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=rows.select([0]), test=rows.select([1, 2])).save_to_disk(tmp_path / "splits")
    for path in (tmp_path / "a.parquet", tmp_path / "saved", tmp_path / "splits"):
        assert read_table(path).to_dict("list") == {"y": ["가", "나", None], "m": [["b"], [], None]}


def test_a_workbook_reads(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["표지"])
    sheet = book.create_sheet("자료")
    for row in (
        ["2026년 집계"],
        ["담당", None, "기획"],
        ["글", "수", "날"],
        ["=1", 2, datetime.date(2026, 1, 2)],
        [],
        ["둘"],
        [],
    ):
        sheet.append(row)
    sheet["A4"].data_type = "s"
    book.save(tmp_path / "a.xlsx")
    want = {"글": ["=1", None, "둘"], "수": [2, None, None], "날": ["2026-01-02", None, None]}
    assert read_table(tmp_path / "a.xlsx", sheet="자료").to_dict("list") == want
    assert read_table(tmp_path / "a.xlsx", sheet=2).to_dict("list") == want
    with pytest.warns(UserWarning, match="its first sheet is read, 'Sheet'; it has '자료' too"):
        assert read_table(tmp_path / "a.xlsx").to_dict("list") == {"표지": []}
    with pytest.raises(ValueError, match="has no sheet '둘'; it has: Sheet, 자료"):
        read_table(tmp_path / "a.xlsx", sheet="둘")


def test_merged_cells_are_those_of_each_of_their_rows(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["번호", "글", None, "갈래"], [None, "제목", "본문", None], [1, "하나", "가", "큰"], [2, "둘", "나"]):
        sheet.append(row)
    sheet.append([3, "셋", "다", "작은"])
    for merged in ("A1:A2", "B1:C1", "D1:D2", "D3:D4"):
        sheet.merge_cells(merged)
    book.save(tmp_path / "a.xlsx")
    frame = read_table(tmp_path / "a.xlsx")
    assert list(frame.columns) == ["번호", "제목", "본문", "갈래"]
    assert frame["갈래"].tolist() == ["큰", "큰", "작은"] and frame["제목"].tolist() == ["하나", "둘", "셋"]


def test_columns_of_one_name_are_told_apart_and_it_is_said(tmp_path):
    with pytest.warns(UserWarning, match=r"a\.csv: 3 columns are called '글'; the second is '글 \(3\)' here"):
        frame = read_table(write(tmp_path / "a.csv", "글,글 (2),글,글\n1,2,3,4\n"))
    assert frame.to_dict("list") == {"글": ["1"], "글 (2)": ["2"], "글 (3)": ["3"], "글 (4)": ["4"]}


def test_lists_of_objects_become_columns_of_lists(tmp_path):
    """As Label Studio writes annotations: several choices, or one."""
    results = [[{"value": {"choices": ["긍정"]}}], [{"value": {"choices": ["긍정", "배송"]}}], []]
    asked = [
        {"from_name": "어조", "value": {"choices": ["긍정"]}},
        {"from_name": "주제", "value": {"choices": ["배송"]}},
    ]
    frame = read_table(write(tmp_path / "c.json", json.dumps([{"글": "하나", "result": asked}])))
    assert frame.to_dict("list") == {"글": ["하나"], "result.어조.value": [["긍정"]], "result.주제.value": [["배송"]]}
    rows = [{"data": {"text": "글"}, "annotations": [{"by": 1, "result": result}]} for result in results]
    frame = read_table(write(tmp_path / "a.json", json.dumps(rows)))
    assert frame["annotations.result.value"].tolist() == [["긍정"], ["긍정", "배송"], None]
    assert frame["annotations.by"].tolist() == [[1], [1], [1]]
    frame = read_table(write(tmp_path / "b.json", json.dumps([{"y": {"choices": ["가"]}}, {"y": "나"}])))
    assert frame["y"].tolist() == [["가"], "나"]


def test_the_rule_below_a_header_of_markdown_is_no_row(tmp_path):
    frame = read_table(write(tmp_path / "a.md", "| 글 | 갈래 |\n|:---|----|\n| 하나 | 가 |\n| --- | 나 |\n"))
    assert [cell.strip() for cell in frame["글"]] == ["하나", "---"]


def test_csv_is_for_excel_too(tmp_path):
    cells = {"글": ["=1+1", "-3", "@가", "바다"], "수": [-3.5, None, 1, 2]}
    for name in ("a.csv", "a.xlsx", "a.jsonl"):
        with TableWriter(tmp_path / name) as writer:
            writer.write(pd.DataFrame(cells, dtype=object))
    assert (tmp_path / "a.csv").read_bytes().startswith("\ufeff글,수\r\n'=1+1,-3.5\r\n-3,\r\n".encode())
    assert read_table(tmp_path / "a.xlsx").to_dict("list") == read_table(tmp_path / "a.jsonl").to_dict("list") == cells


cells = st.text("가,;|\t\"'\n\r  =😀", max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_rows_out_are_rows_in_or_a_refusal_that_names_the_line(tmp_path_factory, data):
    width, delimiter = data.draw(st.integers(1, 4)), data.draw(st.sampled_from(",;\t|"))
    rows = data.draw(st.lists(st.lists(cells, min_size=width, max_size=width), max_size=6))
    end, quoting = (
        data.draw(st.sampled_from(["\n", "\r\n"])),
        data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    if end == "\n":  # Python's writer leaves a lone carriage return without quotes then: nobody could read it
        rows = [[cell.replace("\r", "") for cell in row] for row in rows]
    ragged = data.draw(st.booleans()) and width > 1
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([[f"열{n}" for n in range(width)], *rows, *[["가"] * (width + 1)] * ragged])
    path = tmp_path_factory.mktemp("any") / data.draw(st.sampled_from(["a.csv", "a.tsv", "a.txt"]))
    path.write_bytes(text.getvalue().encode(data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))))
    found, refused = [], ""
    try:
        found = [row for chunk in iter_columns(path, 2) for row in zip(*chunk.values(), strict=True)]
    except ValueError as error:
        refused = str(error)
    if refused:
        assert re.search(rf"{path.name}, lines? \d", refused)
    elif not ragged:
        assert found == [tuple(cell or None for cell in row) for row in rows]


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
        ("a.xls", b"<html><table><tr><td>a</td></tr></table></html>", "is a web page or XML"),
        ("a.csv.zip", zipped({"a.csv": "a,b"}), r"is a ZIP archive \(a\.csv\); unpack it"),
        ("a.docx", zipped({"[Content_Types].xml": "", "word/document.xml": ""}), "is a document, not a workbook"),
        ("a.hwp", b"\xd0\xcf\x11\xe0 no", "old Excel, of Word or of Hangul"),
        ("a.db", b"SQLite format 3\x00", "is a database"),
        ("a.pkl", b"\x80\x04K\x01.", "is a pickle"),
        ("a.ods", zipped({"mimetype": "", "content.xml": ""}), "is an OpenDocument file"),
        ("a.csv", b"a\n\xff\xfe\x81\n", "neither UTF-8 nor cp949"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "line 2"),
        ("a.jsonl", b"[1]\n", "JSON object"),
        ("a.json", b"[1, 2]", "item 1: expected a JSON object"),
        ("a.parquet", b"PAR1 no", "Parquet"),
        ("a.csv.gz", gzip.compress(b"a\n1\n", mtime=0)[:-6], "gzip"),
        ("a.xlsx", b"PK\x03\x04", "not a whole XLSX workbook"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of an old Excel"),
        ("a.csv", b'a,b\n1,"2,3\n', "line 2: a quote is opened there and never closed"),
        ("a.csv", b'a,b\n1,"2" 3,4\n', "line 2: 3 cells"),
        ("a.csv", b"a,b\n" + b"1,2\n" * 20 + b"1\n1\n1,2,3\n", r"line 22: 1 cells, .*likewise lines 23, 24\)"),
        ("a.tsv", b'a\tb\n"x\ty\nz"\tw\n', "lines 2–3: these are rows, or one quoted cell; say which"),
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


@pytest.mark.parametrize(
    "cell", ["=1+1", "+82", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "-1+2", "- 3", "+"]
)
def test_formulas_are_quoted(cell):
    assert guard(cell) == (cell if cell == "+82" else f"'{cell}")


@pytest.mark.parametrize("cell", ["", "바다", "-3.5", "1e-3", "a=b", "'x"])
def test_other_cells_stay(cell):
    assert guard(cell) == cell
