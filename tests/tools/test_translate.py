from __future__ import annotations

import pytest
from typer.testing import CliRunner

from hfk.cli import app
from hfk.tasks.tables import read_table


@pytest.fixture
def run(tmp_path):
    pairs = tmp_path / "pairs.tsv"
    rows = [f"chungcheong\t{word}는디\t{word}는데" for word in ("먹", "가", "자")]
    pairs.write_text("\n".join(["region\tdialect\tstandard", *rows]), encoding="utf-8")

    def run(*arguments, **options):
        return CliRunner().invoke(app, ["translate", *map(str, arguments), "--pairs", str(pairs)], **options)

    return run


def test_a_text_is_printed(run):
    assert run("밥 보는디.").stdout == "밥 보는데.\n"
    assert run("밥 보는데.", "--to", "chungcheong").stdout == "밥 보는디.\n"


def test_lines_are_answered_one_by_one_an_empty_one_with_an_empty_one(run):
    assert run("-", input="보는디\n\n자는디\n").stdout == "보는데\n\n자는데\n"


def test_every_row_of_a_table_comes_out(run, tmp_path):
    (tmp_path / "in.csv").write_text('id,text\n1,보는디\n2,\n3,"Hello 🙂"\n', encoding="utf-8")
    result = run(tmp_path / "in.csv", tmp_path / "out.csv")
    assert "3 rows, 1 with an error" in result.stdout
    table = read_table(tmp_path / "out.csv")
    assert table["translation"].tolist() == ["보는데", None, "Hello 🙂"]
    assert table["error"].tolist() == [None, "the text is empty.", None]


def test_mistakes_are_sentences(run, tmp_path):
    (tmp_path / "in.csv").write_text("id,body\n1,보는디\n", encoding="utf-8")
    for arguments, message in (
        ((tmp_path / "in.csv", tmp_path / "out.csv"), "column 'text' is missing from in.csv"),
        ((tmp_path / "none.csv", tmp_path / "out.csv"), "there is no file"),
        ((tmp_path / "in.csv",), "name the file to write"),
        (("밥", "--to", "busan"), "no rules of 'busan'"),
        (("밥", "--model", "runs/none"), "name what to translate by"),
        (("",), "the text is empty"),
    ):
        assert message in str(run(*arguments).exception)


def test_a_text_longer_than_a_path_may_be_is_translated(run):
    assert run("보는디 " * 3000).stdout.split() == ["보는데"] * 3000
