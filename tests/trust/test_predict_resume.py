"""An interrupted `hfk predict` says what it left, and the same command goes on from there to the very same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hfk import Predictor
from hfk.inference.table import predict_table
from hfk.models.modeling_multihead import MultiHeadForClassification
from hfk.tasks.tables import read_table
from tests import tiny

ROWS, WINDOW = 50, 8
KINDS = ["csv", "tsv.gz", "jsonl", "jsonl.gz", "parquet"]


@pytest.fixture
def table(tmp_path) -> Path:
    lines = [{"id": number, "text": tiny.SENTENCES[number % 6] if number % 9 else None} for number in range(ROWS)]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return tmp_path / "in.jsonl"


@pytest.fixture
def small_windows(checkpoint, monkeypatch) -> None:
    loaded = Predictor.from_pretrained

    def load(*arguments, **options) -> Predictor:
        return loaded(*arguments, **options | {"window": WINDOW})

    monkeypatch.setattr(Predictor, "from_pretrained", load)


@pytest.fixture
def forward(monkeypatch) -> Iterator[dict[str, int]]:
    """Counts the batches that the model runs, and interrupts it before batch number `stop`."""
    count, run = {"batches": 0, "stop": -1}, MultiHeadForClassification.forward

    def counted(*arguments, **options):
        if count["batches"] == count["stop"]:
            raise KeyboardInterrupt
        count["batches"] += 1
        return run(*arguments, **options)

    monkeypatch.setattr(MultiHeadForClassification, "forward", counted)
    return count


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("in.jsonl", "whole", "image.png"))


@pytest.mark.parametrize("kind", [*KINDS, "xlsx"])
def test_the_same_command_goes_on_to_the_same_bytes(hfk, checkpoint, table, tmp_path, small_windows, forward, kind):
    (tmp_path / "whole").mkdir()
    words = ["predict", checkpoint, table]
    assert hfk(*words, tmp_path / "whole" / f"out.{kind}", "--probabilities")[0] == 0
    forward["batches"], forward["stop"] = 0, 3
    code, _, errors = hfk(*words, tmp_path / f"out.{kind}", "--probabilities")
    assert code == 130 and f"24 rows of out.{kind} are answered and kept; the same command goes on" in errors
    assert left(tmp_path) == [f".out.{kind}.parts"]
    forward["stop"] = 5  # a second interrupt
    assert "40 rows" in hfk(*words, tmp_path / f"out.{kind}", "--probabilities")[2]
    forward["stop"] = -1
    code, _, errors = hfk(*words, tmp_path / f"out.{kind}", "--probabilities")
    assert code == 0 and f"out.{kind} goes on after 40 rows that an interrupt left" in errors
    assert forward["batches"] == 7 and left(tmp_path) == [f"out.{kind}"]
    if kind == "xlsx":  # which holds the time when it was written
        assert read_table(tmp_path / "out.xlsx").equals(read_table(tmp_path / "whole" / "out.xlsx"))
    else:
        assert (tmp_path / f"out.{kind}").read_bytes() == (tmp_path / "whole" / f"out.{kind}").read_bytes()


def test_another_input_model_option_or_picture_refuses_and_says_so(
    hfk, fails, checkpoint, table, tmp_path, small_windows, forward
):
    image = tmp_path / "image.png"
    tiny.Image.new("RGB", (40, 40)).save(image)
    rows = [json.loads(line) | {"image": str(image)} for line in table.read_text().splitlines()]
    table.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    words, before = ["predict", checkpoint, table, tmp_path / "out.csv"], table.read_text()
    forward["stop"] = 2
    assert hfk(*words)[0] == 130
    forward["stop"] = -1
    table.write_text(before.replace(tiny.SENTENCES[1], tiny.SENTENCES[2], 1))
    assert "out.csv was begun with another input: give the same again, or start anew with --fresh" in fails(*words)
    table.write_text(before)
    assert "was begun with another set of options" in fails(*words, "--top-k", "2")
    other = shutil.copytree(checkpoint, tmp_path / "other")
    torch.manual_seed(1)
    tiny.model("bert", "resnet").save_pretrained(other)
    assert "was begun with another checkpoint" in fails("predict", other, *words[2:])
    tiny.Image.new("RGB", (41, 41)).save(image)
    assert "begun with other texts or pictures in rows 1 to 8: put them back" in fails(*words)
    assert left(tmp_path) == [".out.csv.parts", "other"]
    code, _, errors = hfk(*words, "--fresh")
    assert code == 0 and "goes on" not in errors
    assert left(tmp_path) == ["other", "out.csv"]


def test_a_damaged_part_is_answered_again(checkpoint, table, tmp_path, small_windows, forward):
    predictor = Predictor.from_pretrained(str(checkpoint))
    forward["stop"] = 3
    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="24 rows"):
        predict_table(predictor, table, tmp_path / "out.csv", resume=True)
    next((tmp_path / ".out.csv.parts").glob("000000000008-*")).write_text("[")
    forward["stop"], forward["batches"] = -1, 0
    with pytest.warns(UserWarning, match="goes on after"):
        counts = predict_table(predictor, table, tmp_path / "out.csv", resume=True)
    assert counts == {"rows": ROWS, "errors": 6} and forward["batches"] == 5


def test_whoever_does_not_ask_for_it_keeps_nothing(checkpoint, table, tmp_path, small_windows, forward):
    forward["stop"] = 3
    with pytest.raises(KeyboardInterrupt):
        predict_table(Predictor.from_pretrained(str(checkpoint)), table, tmp_path / "out.csv")
    assert left(tmp_path) == []


@pytest.mark.trust
def test_killed_again_and_again_it_ends_with_the_same_bytes(checkpoint, tmp_path, record_figures):
    """SIGKILL at any moment, as the system's own when memory is short."""
    lines = [{"id": number, "text": " ".join(tiny.SENTENCES * (1 + number % 3))} for number in range(20_000)]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    words = [sys.executable, "-m", "hfk.cli", "predict", str(checkpoint), str(tmp_path / "in.jsonl")]
    generator, kills = random.Random(0), 0
    subprocess.run([*words, str(tmp_path / "whole.csv")], check=True, capture_output=True)
    while not (tmp_path / "out.csv").exists():
        process = subprocess.Popen([*words, str(tmp_path / "out.csv")], stdout=subprocess.DEVNULL)
        parts = tmp_path / ".out.csv.parts"
        known = len(list(parts.glob("*-*.json")))
        wanted = known + generator.randint(1, 4)
        while process.poll() is None and len(list(parts.glob("*-*.json"))) < wanted:
            time.sleep(0.01)
        time.sleep(generator.random() * 0.2)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    record_figures(f"hfk predict, {len(lines):,} rows: killed {kills} times, the same bytes at the end")
    assert kills > 1
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
