"""The `hfk` command as a user meets it: help, one-sentence errors, and tables that come out whole."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from PIL import Image
from transformers import pipeline

from hfk import MultiHeadForClassification, Predictor, cli
from hfk.inference.table import predict_table
from hfk.tasks.tables import read_table
from tests import tiny
from tests.models.test_input import huge_header

ROOT = Path(__file__).resolve().parents[1]


def commands(command, *words) -> list[tuple[str, ...]]:
    """Every command of hfk, as its words."""
    inner = getattr(command, "commands", {})
    return [words, *(found for name in inner for found in commands(inner[name], *words, name))]


COMMANDS = commands(typer.main.get_command(cli.app))
ANSWERS = [f"{head}_{part}" for head in ("cat1", "cat2", "tags", "price") for part in ("pred", "score")] + ["error"]


def jpeg(size=(64, 48)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------------ general


def test_help_explains_every_option(hfk):
    assert ("data", "profile") in COMMANDS and len(COMMANDS) > 25
    for words in COMMANDS:
        code, output, _ = hfk(*words, "--help")
        assert code == 0
        assert output.startswith(f"Usage: {' '.join(['hfk', *words])}")
        entries = re.findall(r"^  (\S.*?)(?:\s{2,}(\S.*))?$(?=((?:\n {6,}\S.*)*))", output.split("\n\n", 2)[2], re.M)
        assert entries
        for name, explanation, continued in entries:
            assert explanation or continued.strip(), f"{name} of {words} has no help"


def test_the_version(hfk):
    assert hfk("--version") == (0, f"hfk {version('hfk')}\n", "")


def test_lists(hfk):
    for words, wanted in ((["tasks"], "tour-mini"), (["recipes"], "ynat"), (["backbones", "list"], "e5-small-ko")):
        code, output, errors = hfk(*words)
        assert (code, errors) == (0, "")
        assert any(line.split()[0] == wanted and len(line.split()) > 3 for line in output.splitlines())


def test_a_slip_of_the_pen_is_answered(hfk):
    code, output, errors = hfk("trian")
    assert code == 2 and output == "" and "No such command 'trian'" in errors
    assert hfk("predict", "run")[0] == 2
    code, _, errors = hfk("predict", "run", "a.csv", "b.csv", "--threshold", "3")
    assert code == 2 and "--threshold" in errors


def test_hfk_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("HFK_DEBUG", "1")
    with pytest.raises(ValueError, match="no recipe 'nope'"):
        cli.main(["train", "nope"])


def test_no_error_from_below_is_a_traceback(fails, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("upload\nfailed.") from ConnectionError("no route to host")

    for error, sentence in (
        (RuntimeError("CUDA out of memory"), "RuntimeError: CUDA out of memory; HFK_DEBUG=1 shows where."),
        (IndexError(), "IndexError; HFK_DEBUG=1 shows where."),
        (KeyError("cat9"), "KeyError: 'cat9'; HFK_DEBUG=1 shows where."),
    ):
        monkeypatch.setattr("hfk.tasks.list_tasks", lambda error=error: (_ for _ in ()).throw(error))
        assert fails("tasks") == f"hfk: {sentence}\n"
    monkeypatch.setattr("hfk.tasks.list_tasks", broken)
    sentence = "RuntimeError: upload failed, because of no route to host; HFK_DEBUG=1 shows where."
    assert fails("tasks") == f"hfk: {sentence}\n"


def test_the_shell_completes_commands(hfk, monkeypatch):
    monkeypatch.setenv("_HFK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "hfk data p")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert hfk()[:2] == (0, "push\nprofile\n")


def test_interruption_is_no_traceback(hfk, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hfk.training.train.train", interrupt)
    code, output, errors = hfk("train", "tour-mini")
    assert (code, output) == (130, "") and errors.count("\n") == 1


def test_in_a_pipe_there_is_text_alone(finished_run, tmp_path):
    """The one real process: a cp949 table, no progress bars, warnings of one line."""
    (tmp_path / "old.csv").write_bytes(f"no,overview\n007,{tiny.SENTENCES[0]}\n".encode("cp949"))
    words = ["predict", finished_run, tmp_path / "old.csv", tmp_path / "new.csv"]
    command = [sys.executable, "-m", "hfk.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote {tmp_path / 'new.csv'}: 1 rows\n"
    assert done.stderr.splitlines() == ["hfk: old.csv is not UTF-8; it was read as cp949. Save it as UTF-8 to be sure."]
    row = read_table(tmp_path / "new.csv").iloc[0]
    assert (row["no"], row["overview"], row["error"]) == ("007", tiny.SENTENCES[0], None)
    assert row["cat1_pred"] in ("자연", "음식")


# ------------------------------------------------------------------------------------------------------------ predict


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz"])
def test_a_table_comes_out_whole_with_answers(hfk, finished_run, tmp_path, suffix):
    table = pd.DataFrame(
        {
            "no": ["007", "", "1e3", "0.10", " 5 "],
            "overview": [tiny.SENTENCES[0], 'Ein "Wort", zwei', "두 줄\n글", "", tiny.SENTENCES[1]],
            "memo": [None, "a,b\tc", "NULL", "nan", "끝"],
        },
        dtype=object,
    )
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    if suffix == ".parquet":
        table.to_parquet(source)
    elif suffix == ".jsonl":
        source.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in table.to_dict("records")))
    else:
        table.to_csv(source, index=False, sep="\t" if suffix == ".tsv" else ",")
    code, output, errors = hfk("predict", finished_run, source, target)
    assert (code, errors) == (0, ""), errors
    assert output == f"wrote {target}: 5 rows, 1 with an error (see the column `error`)\n"
    before, after = read_table(source), read_table(target)
    assert list(after.columns) == ["no", "overview", "memo", *ANSWERS]
    pd.testing.assert_frame_equal(after[["no", "overview", "memo"]], before)
    assert [bool(error) for error in after["error"]] == [False, False, False, True, False]
    assert after.loc[3, ANSWERS[:-1]].isna().all() and "no text or image" in after.loc[3, "error"]
    classify = pipeline("multi-head-classification", model=str(finished_run))
    for row in (0, 1, 2, 4):
        answer = classify(before.loc[row, "overview"])
        assert after.loc[row, "cat1_pred"] == answer["cat1"][0]["label"]
        assert float(after.loc[row, "cat1_score"]) == pytest.approx(answer["cat1"][0]["score"], abs=1e-4)
        assert sorted(json.loads(after.loc[row, "tags_pred"])) == sorted(item["label"] for item in answer["tags"])
        assert len(json.loads(after.loc[row, "tags_score"])) == len(answer["tags"])
        assert float(after.loc[row, "price_pred"]) == pytest.approx(answer["price"], abs=1e-3)
        assert after.loc[row, "price_score"] is None


def test_a_bad_row_gets_an_error_and_the_others_their_answers(hfk, finished_run, tmp_path):
    good = jpeg()
    pictures = {"good.jpg": good, "cut.jpg": good[:300], "zero.png": b"", "huge.png": huge_header(), "note.jpg": b"hi"}
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    text = tiny.SENTENCES[2]
    rows = [
        (text, "good.jpg", None),
        (text, "missing.jpg", "does not exist"),
        ("", "good.jpg", None),
        (text, "cut.jpg", "damaged"),
        (" ", "", "no text or image"),
        (text, "zero.png", "empty"),
        (text, "huge.png", "pixels"),
        ("가" * 100_000, "", None),
        (text, "note.jpg", "not a picture"),
        ("美 👍🏽 \x00", "good.jpg", None),
        (text, "", None),
    ]
    table = pd.DataFrame(rows, columns=["overview", "photo", "expected"])
    table[["overview", "photo"]].to_json(tmp_path / "in.jsonl", orient="records", lines=True, force_ascii=False)
    code, output, errors = hfk(
        "predict", finished_run, tmp_path / "in.jsonl", tmp_path / "out.csv", "--batch-size", "4"
    )
    assert (code, errors) == (0, "") and "11 rows, 6 with an error" in output
    result = read_table(tmp_path / "out.csv")
    assert len(result) == len(rows)
    for row, (_, _, expected) in enumerate(rows):
        error, answers = result.loc[row, "error"], result.loc[row, ["cat1_pred", "cat2_pred", "tags_pred"]]
        if expected is None:
            assert error is None and answers.notna().all()
        else:
            assert expected in error and answers.isna().all()
    alone = tmp_path / "alone.jsonl"
    alone.write_text(json.dumps({"overview": text, "photo": ""}, ensure_ascii=False))
    hfk("predict", finished_run, alone, tmp_path / "alone.csv")
    assert read_table(tmp_path / "alone.csv").loc[0, "cat1_score"] == result.loc[10, "cat1_score"]


def test_chosen_heads_threshold_columns_and_folder(hfk, finished_run, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(jpeg())
    pd.DataFrame({"title": ["해 뜨는"], "body": ["바닷가"], "file": ["a.jpg"]}).to_csv(tmp_path / "in.csv", index=False)
    words = ["--text", "title", "--text", "body", "--image", "file", "--image-dir", tmp_path / "pictures"]
    words += ["--head", "cat2", "--head", "tags", "--threshold", "1"]
    code, _, errors = hfk("predict", finished_run, tmp_path / "in.csv", tmp_path / "out.csv", *words)
    assert code == 0, errors
    result = read_table(tmp_path / "out.csv")
    assert list(result.columns)[3:] == ["cat2_pred", "cat2_score", "tags_pred", "tags_score", "error"]
    assert result.loc[0, ["cat2_pred", "cat2_score", "error"]].isna().all()
    assert (result.loc[0, "tags_pred"], result.loc[0, "tags_score"]) == ("[]", "[]")


def test_a_table_of_texts_or_pictures_alone(hfk, finished_run, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    for column, cell in (("overview", tiny.SENTENCES[0]), ("photo", "a.jpg")):
        pd.DataFrame({column: [cell]}).to_csv(tmp_path / "in.csv", index=False)
        assert hfk("predict", finished_run, tmp_path / "in.csv", tmp_path / "out.csv")[0] == 0
        assert read_table(tmp_path / "out.csv")["error"].tolist() == [None]


def test_a_folder_of_pictures_is_a_table_and_every_probability_may_be_written(hfk, finished_run, tmp_path):
    for name in ("a.jpg", "안/b.jpg", "안/.hidden.jpg", "__MACOSX/a.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(jpeg())
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    words = ("--top-k", "2", "--probabilities", "--head", "cat1", "--head", "price")
    code, output, errors = hfk("predict", finished_run, tmp_path / "in", tmp_path / "out.xlsx", *words)
    assert (code, errors) == (0, "") and "3 rows, 1 with an error" in output
    result = read_table(tmp_path / "out.xlsx")
    each = ["cat1_p_음식", "cat1_p_자연"]
    answers = ["cat1_pred", "cat1_score", "price_pred", "price_score", "cat1_top", *each, "error"]
    assert list(result.columns) == ["file", *answers]
    assert result["file"].tolist() == ["a.jpg", "c.png", "안/b.jpg"]
    first, second = json.loads(result.loc[0, "cat1_top"])
    assert (first["label"], first["score"]) == (result.loc[0, "cat1_pred"], result.loc[0, "cat1_score"])
    assert second["score"] == min(result.loc[0, each]) and sum(result.loc[0, each]) == pytest.approx(1, abs=1e-5)
    assert result.loc[1, answers[:-1]].isna().all() and "not a picture" in result.loc[1, "error"]


def test_an_input_is_read_as_it_is_said_to_be(hfk, finished_run, tmp_path):
    (tmp_path / "in.txt").write_text(f"{tiny.SENTENCES[0]}||7\n{tiny.SENTENCES[1]}||8\n")
    words = ("--read", "header=false", "--read", "delimiter='||'", "--text", "0")
    code, output, errors = hfk("predict", finished_run, tmp_path / "in.txt", tmp_path / "out.csv", *words)
    assert (code, errors) == (0, "") and "2 rows" in output
    assert read_table(tmp_path / "out.csv")["1"].tolist() == ["7", "8"]
    (tmp_path / "in.txt").write_text(
        f"overview||photo||cat1\n{tiny.SENTENCES[0]}||||자연\n{tiny.SENTENCES[1]}||||음식\n"
    )
    words = ("--data", tmp_path / "in.txt", "--read", "delimiter='||'", "--output-dir", tmp_path / "report")
    code, output, errors = hfk("evaluate", finished_run, *words)
    assert code == 0 and re.search(r"cat1 +2 ", output), errors


def test_uncertain_answers_are_left_open_and_paths_are_listed(hfk, finished_run, tmp_path):
    pd.DataFrame({"overview": [tiny.SENTENCES[0], " "]}).to_csv(tmp_path / "in.csv", index=False)
    words = ("--paths", "2", "--min-score", "1.0")
    assert hfk("predict", finished_run, tmp_path / "in.csv", tmp_path / "out.csv", *words)[0] == 0
    result = read_table(tmp_path / "out.csv")
    assert result["cat1_pred"].tolist() == result["cat2_pred"].tolist() == [None, None]
    assert 0 < float(result.loc[0, "cat2_score"]) < 1
    first, second = json.loads(result.loc[0, "paths"])["cat2"]
    assert set(first["labels"]) == {"cat1", "cat2"} and first["score"] >= second["score"]
    assert result.loc[1, "paths"] is None and "no text" in result.loc[1, "error"]


def test_a_header_alone_gives_a_header(hfk, finished_run, tmp_path):
    (tmp_path / "in.csv").write_text("no,overview\n")
    code, output, errors = hfk("predict", finished_run, tmp_path / "in.csv", tmp_path / "out.csv")
    assert (code, errors) == (0, "") and "0 rows" in output
    assert list(read_table(tmp_path / "out.csv").columns) == ["no", "overview", *ANSWERS]


def test_parquet_keeps_its_types_when_the_first_rows_are_all_bad(finished_run, tmp_path):
    rows = [" ", " ", tiny.SENTENCES[0]]
    pd.DataFrame({"overview": rows}).to_parquet(tmp_path / "in.parquet")
    predictor = Predictor.from_pretrained(finished_run, window=2)
    counts = predict_table(predictor, tmp_path / "in.parquet", tmp_path / "out.parquet", text=["overview"])
    assert counts == {"rows": 3, "errors": 2}
    result = pd.read_parquet(tmp_path / "out.parquet")
    assert result["cat1_score"].dtype == result["price_pred"].dtype == np.float64
    assert result["price_pred"].notna().tolist() == [False, False, True]


def test_predict_refuses_in_one_sentence(fails, finished_run, encoders, tmp_path, monkeypatch):
    table, target = tmp_path / "in.csv", tmp_path / "out.csv"
    table.write_text("overview,cat1_pred\n바다,x\n")
    (tmp_path / "other.csv").write_text("title\n바다\n")
    (tmp_path / "half.csv").write_text('overview,n\n"바다, 산,1\n')
    run = finished_run
    assert "does not exist" in fails("predict", run, tmp_path / "missing.csv", target)
    assert "already has a column 'cat1_pred'" in fails("predict", run, table, target)
    assert "no head is called 'cat9'; heads: cat1" in fails("predict", run, table, target, "--head", "cat9")
    assert "no column 'overview' or 'photo'" in fails("predict", run, tmp_path / "other.csv", target)
    message = fails("predict", run, tmp_path / "other.csv", target, "--text", "body")
    assert "column 'body' is missing from other.csv; it has: title" in message
    message = fails("predict", run, tmp_path / "other.csv", target, "--text", "title", "--image", "file")
    assert "column 'file' is missing" in message
    assert "never closed" in fails("predict", run, tmp_path / "half.csv", target)
    assert "no table that hfk writes" in fails("predict", run, table, tmp_path / "out.txt")
    assert "create it first" in fails("predict", run, table, tmp_path / "no" / "out.csv")
    assert "is the input itself" in fails("predict", run, tmp_path / "other.csv", tmp_path / "other.csv")
    assert "dtype 'int8' is not one of" in fails("predict", run, table, target, "--dtype", "int8")
    assert "device 'abacus' can't be used" in fails("predict", run, table, target, "--device", "abacus")
    assert "of type 'bert', not a multi-head one" in fails("predict", encoders["text_encoder"], table, target)
    assert "has no config.json, so it is not a checkpoint" in fails("predict", tmp_path, table, target)
    assert "neither a checkpoint's folder nor" in fails("predict", tmp_path / "nothing", table, target)
    with monkeypatch.context() as several:
        several.setenv("WORLD_SIZE", "2")
        assert "runs in one process" in fails("predict", run, table, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.csv", "in.csv", "other.csv"]


def test_an_interrupted_prediction_leaves_the_old_file(hfk, finished_run, tmp_path, monkeypatch):
    (tmp_path / "in.csv").write_text("overview\n바다\n")
    (tmp_path / "out.csv").write_text("yesterday's")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(MultiHeadForClassification, "forward", interrupt)
    assert hfk("predict", finished_run, tmp_path / "in.csv", tmp_path / "out.csv")[0] == 130
    assert (tmp_path / "out.csv").read_text() == "yesterday's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


# ----------------------------------------------------------------------------------------------------------- evaluate


def test_evaluation_reports_what_training_reported(hfk, finished_run, places, tmp_path):
    table = read_table(places.parent / "places.csv")
    test = table[table["part"] == "test"]
    test.to_csv(tmp_path / "test.csv", index=False)
    words = ["--output-dir", tmp_path / "report", "--image-dir", places.parent]
    code, output, errors = hfk("evaluate", finished_run, "--data", tmp_path / "test.csv", *words)
    assert code == 0, errors
    assert "mean macro-F1" in output and f"report: {tmp_path / 'report' / 'report.html'}" in output
    here, there = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "report", finished_run / "report")
    )
    assert here["scores"] == pytest.approx(there["scores"], abs=1e-4)
    assert {"report.html", "per_class.csv", "predictions.csv"} <= {
        path.name for path in (tmp_path / "report").iterdir()
    }


def test_evaluation_goes_beside_the_checkpoint_by_default(hfk, tmp_path, checkpoint):
    """A checkpoint that `hfk train` did not make has no task.json: columns are then called like the heads."""
    pd.DataFrame(
        {
            "text": tiny.SENTENCES[:2],
            "cat1": ["자연", "음식"],
            "cat2": ["바다", "한식"],
            "tags": ['["일출"]', "[]"],
            "price": [1, 2],
        }
    ).assign(image=None).to_csv(tmp_path / "new.csv", index=False)
    shutil.copytree(checkpoint, tmp_path / "copy")
    code, _, errors = hfk("evaluate", tmp_path / "copy", "--data", tmp_path / "new.csv", "--batch-size", "1")
    assert code == 0, errors
    assert (tmp_path / "copy" / "report-new" / "metrics.json").is_file()


def test_evaluation_takes_what_labels_there_are_and_numbers_rows_without_an_id(hfk, finished_run, places, tmp_path):
    table = read_table(places.parent / "places.csv").head(6)[["overview", "photo", "cat2"]]
    table.to_csv(tmp_path / "some.csv", index=False)
    words = ["--output-dir", tmp_path / "report", "--image-dir", places.parent]
    code, output, errors = hfk("evaluate", finished_run, "--data", tmp_path / "some.csv", *words)
    assert code == 0 and re.search(r"cat1 +0 +– .*\ncat2 +6 +[01]\.\d", output), errors
    assert read_table(tmp_path / "report" / "predictions.csv")["id"].tolist() == list("012345")


def test_evaluate_refuses_in_one_sentence(fails, finished_run, places, tmp_path):
    table = read_table(places.parent / "places.csv").head(6)

    def evaluate(frame: pd.DataFrame) -> str:
        frame.to_csv(tmp_path / "data.csv", index=False)
        words = ["--output-dir", tmp_path / "report", "--image-dir", places.parent]
        return fails("evaluate", finished_run, "--data", tmp_path / "data.csv", *words)

    wrong = table.copy()
    wrong.loc[3, "cat2"] = wrong.loc[5, "cat2"] = "사막"
    wrong.loc[4, ["cat1", "cat2"]] = ["없음", "늪"]
    message = evaluate(wrong)
    assert "data.csv, row 5 (id '004'): '없음' is not a label of head 'cat1'" in message
    rows = "data.csv, row 4 (id '003'), data.csv, row 6 (id '005'): '사막'; data.csv, row 5 (id '004'): '늪'"
    assert f"{rows} are not labels of head 'cat2'; its " in message
    bare = table[["no", "overview", "photo"]]
    assert "data.csv has no labels to score by: none of the columns 'cat1', 'cat2', 'tags', 'price'" in evaluate(bare)
    message = evaluate(bare.assign(cat1=None))
    assert "no row of data.csv has a label to score by; `hfk predict` classifies such rows" in message
    assert "column 'overview' is missing" in evaluate(table.rename(columns={"overview": "text"}))
    assert "'비쌈' is not a number" in evaluate(table.assign(price="비쌈"))
    assert "there is no file" in fails("evaluate", finished_run, "--data", tmp_path / "missing.csv")
    assert not (tmp_path / "report").exists()


# ---------------------------------------------------------------------------------------------------- init and train


@pytest.fixture
def table(tmp_path) -> Path:
    """Sixty different texts of two moods and four topics."""
    draw = random.Random(0)
    rows = []
    for row in range(60):
        topic = row % 4
        words = draw.sample("".join(tiny.SENTENCES[topic : topic + 2]).split(), 4)
        rows.append(
            (f"{row:03}", f"{' '.join(words)} {draw.random():.6f}", ["기쁨", "슬픔"][topic // 2], f"주제{topic}")
        )
    pd.DataFrame(rows, columns=["no", "sentence", "mood", "topic"]).to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path / "mine.csv"


def test_init_train_evaluate_predict(hfk, fails, table, encoders, tmp_path):
    code, output, errors = hfk("init", table)
    assert (code, errors) == (0, "") and output.startswith(f"wrote {tmp_path / 'mine.yaml'}")
    assert "exists already" in fails("init", table)
    assert hfk("init", table, "--force")[0] == 0
    fixed = tmp_path / "fixed.csv"
    fixed.write_text("id,head,from,to,reason\n000,topic,주제0,주제1,\n", encoding="utf-8")
    options = tiny.RECIPE | encoders | {"num_train_epochs": 1, "corrections": str(fixed)}
    del options["disable_tqdm"]
    words = [f"{key}={json.dumps(value)}" for key, value in options.items()]
    code, output, errors = hfk("train", tmp_path / "mine.yaml", "--output-dir", tmp_path / "run", *words)
    assert code == 0, errors
    assert f"checkpoint: {tmp_path / 'run'}" in output and "mean macro-F1" in output
    (corrected,) = re.findall(r"fixed\.csv: 1 label corrected \(.*1 topic.*\)", output)
    assert json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())["extra"]["corrections"] == corrected
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["corrections"] == str(fixed)
    assert hfk("evaluate", tmp_path / "run", "--data", table)[0] == 0
    assert hfk("predict", tmp_path / "run", table, tmp_path / "out.csv")[0] == 0
    result = read_table(tmp_path / "out.csv")
    tree = dict(zip(*(read_table(table)[column] for column in ("topic", "mood")), strict=True))
    assert [tree[topic] for topic in result["topic_pred"]] == result["mood_pred"].tolist()


def test_init_refuses_in_one_sentence(fails, table, tmp_path):
    assert "there is no file" in fails("init", tmp_path / "missing.csv")
    assert "x.yaml: No such file or directory" in fails("init", table, "--output", tmp_path / "no" / "x.yaml")
    (tmp_path / "empty.csv").write_text("")
    assert "is empty" in fails("init", tmp_path / "empty.csv")


def test_train_refuses_in_one_sentence(fails, places, tmp_path):
    assert "no recipe 'nope'; built in:" in fails("train", "nope")
    assert "Did you mean 'learning_rate'?" in fails("train", "tour-mini", "learning_rat=1")
    assert "write key=value" in fails("train", "tour-mini", "fast")
    assert "needs a number, not 'fast'" in fails("train", "tour-mini", "learning_rate=fast")
    (tmp_path / "bad.yaml").write_text("task: [")
    assert "not valid YAML" in fails("train", tmp_path / "bad.yaml")
    assert "packaged backbones" in fails("train", places, "text_encoder=nope", "--output-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_backbones_refuse_in_one_sentence(fails):
    assert "no packaged backbone 'nope'" in fails("backbones", "prepare", "nope")


def test_warnings_of_other_libraries_stay_as_they_are(hfk, monkeypatch):
    def warn():
        for line in (1, 2):  # of two places that say the same, one line
            warnings.warn("of ours", stacklevel=line)
        warnings.warn("of theirs", FutureWarning, stacklevel=1)
        return {}

    monkeypatch.setattr("hfk.tasks.list_tasks", lambda: warn() or {"a": "b"})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        _, _, errors = hfk("tasks")
    assert errors == "hfk: of ours\n" and [str(warning.message) for warning in seen] == ["of theirs"]
