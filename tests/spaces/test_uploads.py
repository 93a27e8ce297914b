"""What visitors upload for a batch: a table within limits, or one sentence; nothing is unpacked where it should not."""

from __future__ import annotations

import csv
import io
import struct
import zipfile

import pytest
from PIL import Image

from tests.spaces.conftest import STUDIO  # noqa: F401  (puts the Space on the path, or skips)

uploads = pytest.importorskip("uploads")
from text import Trouble

from hfk.tasks.tables import read_table


def png(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, "PNG")
    return buffer.getvalue()


def make_zip(path, entries: dict[str, bytes], **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def inbox(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "ours").mkdir()
    return tmp_path / "in", tmp_path / "ours"


def test_names_in_a_zip_are_shown_and_never_used_as_paths(inbox, tmp_path):
    there, ours = inbox
    names = [
        "../../evil.png",
        "/etc/evil.png",
        "C:\\evil.png",
        "a/../../evil.png",
        "=1+1.png",
        "바다.png",
        "__MACOSX/x",
    ]
    job = uploads.open_upload(make_zip(there / "photos.zip", dict.fromkeys(names, png())), ours)
    assert job.rows == 6 and not job.reasons
    assert sorted(path.name for path in (ours / "photos").iterdir()) == [f"{n:06d}" for n in range(6)]
    assert not list(tmp_path.rglob("*evil*"))
    with open(job.table, encoding="utf-8", newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == names[:6]


def test_korean_names_of_windows_zips_are_read(inbox):
    there, ours = inbox
    path = make_zip(there / "w.zip", {"AAAA.png": png()})
    path.write_bytes(path.read_bytes().replace(b"AAAA", "바다".encode("cp949")))
    job = uploads.open_upload(path, ours)
    assert "바다.png" in job.table.read_text(encoding="utf-8")


def test_bombs_cost_their_own_row_or_are_refused(inbox, monkeypatch):
    there, ours = inbox
    monkeypatch.setattr(uploads, "MAX_PHOTO_MB", 1)
    entries = {"bomb.png": bytes(900_000), "large.png": bytes(1_500_000), "good.png": png()}
    job = uploads.open_upload(make_zip(there / "b.zip", entries, compression=zipfile.ZIP_DEFLATED), ours)
    assert job.rows == 3 and set(job.reasons) == {0, 1}
    assert "tightly" in job.reasons[0] and "more than 1 MB" in job.reasons[1]
    assert [path.stat().st_size > 0 for path in sorted((ours / "photos").iterdir())] == [False, False, True]
    monkeypatch.setattr(uploads, "MAX_UNPACKED_MB", 2)
    (ours / "again").mkdir()
    with pytest.raises(Trouble, match="unpack to more than 2 MB"):
        uploads.open_upload(there / "b.zip", ours / "again")


def test_a_zip_that_lies_about_sizes_writes_no_more_than_it_says(inbox):
    there, ours = inbox
    path = make_zip(there / "l.zip", {"a.png": bytes(3_000_000)}, compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<L", 5_000)  # the directory says 5 kB
    path.write_bytes(bytes(data))
    job = uploads.open_upload(path, ours)
    assert (ours / "photos" / "000000").stat().st_size <= 5_000
    assert "damaged" in job.reasons[0]


def test_other_zips_are_refused_in_a_sentence(inbox, monkeypatch):
    there, ours = inbox
    monkeypatch.setattr(uploads, "MAX_PHOTOS", 3)
    cases = {
        "more than 3 files": make_zip(there / "many.zip", {f"{n}.png": b"" for n in range(4)}),
        "holds no files": make_zip(there / "none.zip", {}),
    }
    (there / "not.zip").write_bytes(b"no zip at all")
    cases["not a whole ZIP"] = there / "not.zip"
    whole = make_zip(there / "whole.zip", {"a.png": png()}).read_bytes()
    (there / "cut.zip").write_bytes(whole[:-30])
    cases["not a whole ZIP file"] = there / "cut.zip"
    huge = bytearray(whole)
    at = huge.rfind(b"PK\x05\x06")
    huge[at + 12 : at + 16] = struct.pack("<L", 50_000_000)
    (there / "huge.zip").write_bytes(bytes(huge))
    cases["too many files"] = there / "huge.zip"
    for number, (sentence, path) in enumerate(cases.items()):
        folder = ours / str(number)
        folder.mkdir()
        with pytest.raises(Trouble, match=sentence) as caught:
            uploads.open_upload(path, folder)
        assert str(there) not in str(caught.value)


def test_a_locked_entry_says_so(inbox):
    there, ours = inbox
    path = make_zip(there / "locked.zip", {"a.png": png(), "b.png": png()})
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    job = uploads.open_upload(path, ours)
    assert job.reasons == {1: "the file is locked by a password."}


def sheet(path, rows):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_a_sheet_keeps_every_row(inbox):
    there, ours = inbox
    rows = [["id", "overview", "수"], [1, "바닷가", 2.5], [None, None, None], [3, "여러\n줄, 쉼표", "=A1"], [None] * 3]
    job = uploads.open_upload(sheet(there / "places.xlsx", rows), ours)
    assert job.columns == ["id", "overview", "수"]
    found = read_table(job.table)
    assert found["id"].tolist() == [1, None, 3] and found["overview"][2] == "여러\n줄, 쉼표"


def test_sheets_beyond_the_limits_are_refused(inbox, monkeypatch):
    there, ours = inbox
    monkeypatch.setattr(uploads, "MAX_ROWS", 5)
    with pytest.raises(Trouble, match="more than 5 rows"):
        uploads.open_upload(sheet(there / "long.xlsx", [["a"]] + [["b"]] * 6), ours)
    entries = {"xl/workbook.xml": b"<", "xl/sharedStrings.xml": bytes(65_000_000)}
    bomb = make_zip(there / "bomb.xlsx", entries, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(Trouble, match="unpack to more than 64 MB"):
        uploads.open_upload(bomb, ours)
    with pytest.raises(Trouble, match="is a ZIP archive"):
        uploads.open_upload(make_zip(there / "odd.xlsx", {"a": b"b"}), ours)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.exe", b"MZ", "none of .csv"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"text\n", "no rows"),
        ("a.csv", b"text,b\none\n", "line 2: 1 cells"),
        ("a.jsonl", b"{", "not valid JSON"),
        ("a.csv", b"text\n" + b"x\n" * 5001, "more than 5,000 rows"),
        ("a.csv", b"\xff\xfe\x00\x00\n\x80\x81", "UTF-8"),
        ("a.csv", b"\x1f\x8b\x08\x00", "is packed"),
        ("a.csv", b"PK\x03\x04", "not a whole ZIP"),
        ("a.csv", b",".join(b"c%d" % n for n in range(201)) + b"\n" + b"," * 200 + b"\n", "200 columns"),
    ],
)
def test_tables_that_cannot_be_read_are_one_sentence(inbox, name, content, sentence):
    there, ours = inbox
    (there / name).write_bytes(content)
    with pytest.raises(Trouble, match=sentence) as caught:
        uploads.open_upload(there / name, ours)
    assert "\n" not in str(caught.value) and str(there) not in str(caught.value)
    assert uploads.header_of(there / name, ours) == []
