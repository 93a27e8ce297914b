"""`import hfk` and `hfk --help` are light, and the models are registered whatever is imported first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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


IMPORTS = [
    "from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline\nimport hfk",
    "import hfk, importlib.util\nimportlib.util.find_spec('transformers')  # which asks only\n"
    "from hfk import HeadConfig\nfrom transformers import AutoConfig, AutoModel, AutoProcessor, pipeline",
]
"""Tests of the pipeline that run in pytest's own process have hfk first, and then transformers."""


def test_checkpoints_load_without_remote_code_whatever_is_imported_first(checkpoint):
    """Each order in a process of its own, which shares what importing torch takes."""
    use = f"""
classes = [part.from_pretrained({str(checkpoint)!r}) for part in (AutoConfig, AutoModel, AutoProcessor)]
assert all(type(part).__module__.startswith("hfk.models.") for part in classes), classes
answer = pipeline("multi-head-classification", model={str(checkpoint)!r})("바닷가")
assert list(answer) == ["cat1", "cat2", "tags", "price"], answer
"""
    code = f"""
import os, sys, torch
assert "transformers" not in sys.modules
for number, imports in enumerate({IMPORTS!r}):
    child = os.fork()
    if not child:
        exec(imports + {use!r})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, imports
print("whatever comes first")
"""
    assert run(code) == "whatever comes first"


def test_every_public_name_is_there():
    import hfk

    for name in hfk.__all__:
        assert getattr(hfk, name) is not None
    assert set(hfk.__all__) <= set(dir(hfk))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hfk.nothing
