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


@pytest.mark.parametrize(
    "imports",
    [
        "import hfk, importlib.util\nimportlib.util.find_spec('transformers')  # which asks only\n"
        "from transformers.pipelines import pipeline\nfrom transformers import AutoConfig, AutoModel, AutoProcessor",
        "from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline\nimport hfk",
        "from hfk import HeadConfig\nfrom transformers import AutoConfig, AutoModel, AutoProcessor, pipeline",
    ],
    ids=["hfk first", "transformers first", "a name of hfk first"],
)
def test_checkpoints_load_without_remote_code(imports, checkpoint):
    code = f"""
{imports}
classes = [part.from_pretrained({str(checkpoint)!r}) for part in (AutoConfig, AutoModel, AutoProcessor)]
assert all(type(part).__module__.startswith("hfk.models.") for part in classes), classes
print(*pipeline("multi-head-classification", model={str(checkpoint)!r})("바닷가"))
"""
    assert run(code) == "cat1 cat2 tags price"


def test_every_public_name_is_there():
    import hfk

    for name in hfk.__all__:
        assert getattr(hfk, name) is not None
    assert set(hfk.__all__) <= set(dir(hfk))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hfk.nothing
