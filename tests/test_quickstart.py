"""The quickstart runs from its first cell to its last, and learns."""

from __future__ import annotations

import json
import re
import runpy
from functools import partial
from pathlib import Path

import pytest

import hfk

SCRIPT = Path(__file__).parents[1] / "scripts" / "quickstart.py"


@pytest.mark.slow
def test_the_quickstart_runs_and_learns(tmp_path, monkeypatch, capsys):
    short = {"max_steps": 8, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    monkeypatch.setattr(
        hfk, "MultiHeadTrainingArguments", partial(hfk.MultiHeadTrainingArguments, **short), raising=False
    )
    monkeypatch.setattr("sys.argv", [str(SCRIPT), str(tmp_path / "run")])
    runpy.run_path(str(SCRIPT))
    scores = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text(encoding="utf-8"))["scores"]
    assert scores["topic_accuracy"] > 0.5  # one of seven by chance
    output = capsys.readouterr().out
    assert re.search(r"{'topic': \[{'label': '\w+', 'score': 0\.\d+}, {.*'letters': \d", output)
    assert "{'error': 'there is no text to classify.'}" in output
    assert not list((tmp_path / "run").glob("*.bin"))
