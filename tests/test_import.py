"""`import hfk` and `hfk --help` are light, and the models are registered whatever is imported first."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hfk

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ["torch", "transformers", "datasets", "evaluate", "peft", "sklearn", "pandas", "numpy", "matplotlib", "gradio"]


def run(code: str) -> str:
    """Run code in a fresh interpreter; returns what it prints last."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def heavy(code: str) -> list[str]:
    return json.loads(run(f"import json, sys\n{code}\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"))


def test_importing_hfk_loads_nothing_heavy():
    assert heavy("import hfk; dir(hfk)") == []


def test_no_help_loads_anything_heavy():
    code = """
import typer
from hfk.cli import app, main

def visit(command, words):
    for name, inner in getattr(command, "commands", {}).items():
        visit(inner, [*words, name])
    try:
        main([*words, "--help"])
    except SystemExit as end:
        assert not end.code, words

visit(typer.main.get_command(app), [])
"""
    assert heavy(code) == []


def test_checkpoints_load_without_remote_code_when_a_name_of_hfk_is_imported_first(checkpoint):
    """That hfk comes first and then transformers, every test of the pipeline in pytest's own process shows."""
    code = f"""
import hfk, importlib.util
importlib.util.find_spec('transformers')  # which asks only
from hfk import HeadConfig
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline
classes = [part.from_pretrained({str(checkpoint)!r}) for part in (AutoConfig, AutoModel, AutoProcessor)]
assert all(type(part).__module__.startswith("hfk.models.") for part in classes), classes
print(*pipeline("multi-head-classification", model={str(checkpoint)!r})("바닷가"))
"""
    assert run(code) == "cat1 cat2 tags price"


def test_hfk_registers_itself_when_transformers_is_there_already(monkeypatch):
    from transformers.pipelines import PIPELINE_REGISTRY

    monkeypatch.delitem(PIPELINE_REGISTRY.supported_tasks, "multi-head-classification")
    monkeypatch.delitem(sys.modules, "hfk.models.registration")
    importlib.reload(hfk)
    assert "multi-head-classification" in PIPELINE_REGISTRY.supported_tasks


def test_every_public_name_is_there():
    for name in hfk.__all__:
        assert getattr(hfk, name) is not None
    assert set(hfk.__all__) <= set(dir(hfk))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hfk.nothing
