"""The quickstart runs from its first cell to its last, and learns."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "quickstart.py"


@pytest.mark.slow
def test_the_quickstart_runs_and_learns(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HOME": str(tmp_path / "cache")},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text(encoding="utf-8"))["scores"]
    assert scores["topic_accuracy"] > 0.6  # one of seven by chance
    assert re.search(r"{'topic': \[{'label': '\w+', 'score': 0\.\d+}, {.*'letters': \d", done.stdout)
    assert "{'error': 'there is no text to classify.'}" in done.stdout
    assert not list((tmp_path / "run").glob("*.bin"))
