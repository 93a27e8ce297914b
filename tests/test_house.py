"""The house's rules, read from the code itself: who may import whom, and what every file must have."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = [
    "files",
    "models",
    "backbones",
    "tasks",
    "evaluation",
    "inference",
    "runs",
    "hub",
    "training",
    "tools",
    "cli_hub",
    "cli",
]
"""A room may import only rooms to its left."""
STILL_BACKWARDS = {("runs", "hub"), ("runs", "training"), ("evaluation", "runs")}
"""Imports that the rooms have yet to lose."""
MODELS_MAY_IMPORT = {"torch", "transformers", "numpy", "PIL", "tokenizers", "safetensors"}
FILES = sorted(path for folder in ("hfk", "scripts", "spaces", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
LIBRARY = [path for path in FILES if path.is_relative_to(ROOT / "hfk")]
TEXTS = [
    path
    for folder in (".ci", "benchmarks", "docs", "hfk", "model_cards", "scripts", "spaces", "tests")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file()
    and (path.suffix in (".py", ".md", ".yaml", ".toml", ".txt", ".html", ".sh", "") or path.name == "run")
] + [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml", "CONTRIBUTING.md", "CHANGELOG.md")]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Every import of a file, lazy ones included: absolute module name, imported names."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module, [alias.name for alias in node.names]


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "hfk" and len(parts) > 1 and parts[1] in ROOMS else None


def own_room(path: Path) -> str:
    return path.relative_to(ROOT / "hfk").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_imports_point_one_way(path):
    room = own_room(path)
    if room == "__init__":
        pytest.skip("the front door names every room, lazily")
    if room not in ROOMS:  # hfk/recipes holds files only
        assert not list(imports(path))[1:], f"{name_of(path)} stands in no room"
        return
    for module, names in imports(path):
        targets = [module] if module != "hfk" else [f"hfk.{name}" for name in names]
        for target in filter(None, map(room_of, targets)):
            if (room, target) in STILL_BACKWARDS:
                continue
            assert ROOMS.index(target) <= ROOMS.index(room), f"{name_of(path)} imports {target}, to the right of {room}"


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_no_room_reaches_into_anothers_private_names(path):
    for module, names in imports(path):
        if room_of(module) and room_of(module) != own_room(path) and own_room(path) != "tools":  # yet to be mended
            private = [name for name in [*module.split("."), *names] if name.startswith("_")]
            assert not private, f"{name_of(path)} imports {private} from {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "hfk" / "models").rglob("*.py")), ids=name_of)
def test_what_travels_with_a_checkpoint_stands_alone(path):
    assert path.parent == ROOT / "hfk" / "models", "the folder is flat, as transformers copies it"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            # `from . import x` would not be copied along with a checkpoint.
            assert node.level == 1 and node.module and "." not in node.module, f"line {node.lineno}"
            assert (path.parent / f"{node.module}.py").is_file()
    for module, _ in imports(path):
        top = module.split(".")[0]
        if top == "hfk":
            assert module.startswith("hfk.models."), module
        else:
            assert top in sys.stdlib_module_names or top in MODELS_MAY_IMPORT, module


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_says_what_it_is(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "no module docstring"
    assert "from __future__ import annotations" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=name_of)
def test_test_files_follow_too(path):
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or "from __future__ import annotations" in text


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_no_path_of_one_machine(path):
    found = re.findall(r"(?<![\w.~])/(?:work|root|home)/[\w.-]+", path.read_text(encoding="utf-8"))
    assert not found, found


def test_importing_hfk_imports_no_more_than_the_model_needs():
    heavy = ["matplotlib", "gradio", "evaluate", "peft", "datasets", "sklearn", "pandas", "typer", "onnxruntime"]
    code = f"import sys, json, hfk; print(json.dumps([m for m in {heavy!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == []


def test_every_public_name_is_there():
    import hfk

    for name in hfk.__all__:
        assert getattr(hfk, name) is not None
    assert set(hfk.__all__) <= set(dir(hfk))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hfk.nothing
