"""The house's rules, read from the code itself: who may import whom, and what every file must have."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ["files", "models", "backbones", "tasks", "evaluation", "inference", "runs", "hub", "training", "tools", "cli"]
"""A room may import only rooms to its left."""
MODELS_MAY_IMPORT = {"torch", "transformers", "numpy", "PIL", "tokenizers", "safetensors"}


class Import(NamedTuple):
    """One import of a file: absolute module name, imported names, the functions around it."""

    module: str
    names: tuple[str, ...]
    inside: tuple[str, ...]


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path) -> tuple[Import, ...]:
    """Every import of a file, those inside functions and those for type checkers included."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]

    def visit(node: ast.AST, inside: tuple[str, ...]) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, (), inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield Import(module, tuple(alias.name for alias in node.names), inside)
        else:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = (*inside, node.name)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    return tuple(visit(tree_of(path), ()))


def modules(found: Import) -> list[str]:
    """The modules of hfk that an import names: `from . import x` names x where that is one."""
    if found.module.split(".")[0] != "hfk":
        return []
    folder = ROOT / found.module.replace(".", "/")
    inner = [name for name in found.names if (folder / name).is_dir() or (folder / f"{name}.py").is_file()]
    return [f"{found.module}.{name}" for name in inner] or [found.module]


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "hfk" and len(parts) > 1 and parts[1] in ROOMS else None


def own_room(path: Path) -> str:
    return path.relative_to(ROOT / "hfk").parts[0].removesuffix(".py")


LIBRARY = files("hfk")
USERS = files("scripts", "spaces", "benchmarks", "tests")


def test_imports_point_one_way():
    backwards: dict[tuple[str, str], list[str]] = {}
    for path in LIBRARY:
        room = own_room(path)
        for found in imports(path):
            for target in filter(None, map(room_of, modules(found))):
                if room != "__init__" and (room not in ROOMS or ROOMS.index(target) > ROOMS.index(room)):
                    backwards.setdefault((room, target), []).append(name_of(path))
    assert not backwards


def test_siblings_are_imported_at_the_top():
    """But in cli.py and in a tool's `command`: whoever asks for help must not wait for torch."""
    inside: dict[str, int] = {}
    for path in LIBRARY:
        for found in imports(path):
            siblings = found.inside and modules(found)
            command = own_room(path) == "cli" or (own_room(path) == "tools" and found.inside[:1] == ("command",))
            if siblings and not command and path != ROOT / "hfk" / "__init__.py":
                inside[name_of(path)] = inside.get(name_of(path), 0) + 1
    assert not inside


def test_no_private_name_crosses_a_file():
    private: dict[str, int] = {}
    for path in LIBRARY + USERS:
        for found in imports(path):
            names = [name for module in modules(found) for name in [*module.split("."), *found.names]]
            if any(name.startswith("_") and not name.startswith("__") for name in names):
                private[name_of(path)] = private.get(name_of(path), 0) + 1
    assert not private


def test_no_tool_imports_another_and_the_core_none():
    tools = {path.name for path in (ROOT / "hfk" / "tools").iterdir() if (path / "__init__.py").is_file()}
    for path in LIBRARY:
        own = path.relative_to(ROOT / "hfk").parts[1] if own_room(path) == "tools" else None
        for found in imports(path):
            named = {parts[2] for parts in (module.split(".") for module in modules(found)) if parts[1:2] == ["tools"]
                     and len(parts) > 2}  # fmt: skip
            assert named & tools <= {own}, f"{name_of(path)} imports {named - {own}}"


def test_every_tool_has_a_command_and_is_a_folder():
    for path in (ROOT / "hfk" / "tools").iterdir():
        if path.suffix == ".py":
            assert path.name == "__init__.py", f"{name_of(path)} belongs into its tool's folder"
        elif (path / "__init__.py").is_file():
            assert "command" in [node.name for node in tree_of(path / "__init__.py").body if hasattr(node, "name")]


@pytest.mark.parametrize("path", files("hfk/models"), ids=name_of)
def test_what_travels_with_a_checkpoint_stands_alone(path):
    assert path.parent == ROOT / "hfk" / "models", "the folder is flat, as transformers copies it"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            # `from . import x` would not be copied along with a checkpoint.
            assert node.level == 1 and node.module and "." not in node.module, f"line {node.lineno}"
            assert (path.parent / f"{node.module}.py").is_file()
    for found in imports(path):
        top = found.module.split(".")[0]
        if top == "hfk":
            assert found.module.startswith("hfk.models."), found
        else:
            assert top in sys.stdlib_module_names or top in MODELS_MAY_IMPORT, found


def test_every_file_says_what_it_is():
    for path in LIBRARY + USERS:
        text = path.read_text(encoding="utf-8")
        assert not text.strip() or "from __future__ import annotations" in text, name_of(path)
        assert path in USERS or ast.get_docstring(tree_of(path)), f"{name_of(path)} has no module docstring"


def test_no_path_of_one_machine_and_no_trace_of_a_merge():
    folders = (".ci", "benchmarks", "docs", "hfk", "model_cards", "scripts", "spaces", "tests")
    texts = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts += [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml", "CONTRIBUTING.md", "CHANGELOG.md")]
    for path in texts:
        if path.suffix in (".py", ".md", ".yaml", ".toml", ".txt", ".html", ".sh", "") and path.name != ".DS_Store":
            text = path.read_text(encoding="utf-8")
            found = re.findall(r"(?<![\w.~])/(?:work|root|home)/[\w.-]+", text)
            found += re.findall(r"^(?:<{7}|={7}|>{7})(?: .*)?$", text, re.MULTILINE)
            assert not found, f"{name_of(path)}: {found}"


def lines_of(path: str, name: str | None = None) -> int:
    """Lines of a file, or of one class or function in it."""
    if name is None:
        return len((ROOT / path).read_text(encoding="utf-8").splitlines())
    return next(n.end_lineno - n.lineno + 1 for n in tree_of(ROOT / path).body if getattr(n, "name", None) == name)


def test_the_story_of_training_stays_short():
    assert lines_of("hfk/training/train.py") <= 120
    assert lines_of("hfk/training/train.py", "train") <= 35
    assert lines_of("hfk/training/trainer.py", "MultiHeadTrainer") <= 260


def test_a_heads_problem_is_asked_in_few_places():
    """What depends on it is a method of its `Problem`, reached as `head.rules`."""
    lines = [line for path in LIBRARY for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(bool(re.search(r"\.problem\b", line)) for line in lines) <= 40


def test_hfk_does_not_grow():
    pages = [path for kind in ("*.html", "*.js", "*.css") for path in (ROOT / "hfk").rglob(kind)]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in LIBRARY + pages)
    assert lines <= 29_574  # the aim: 18,500
