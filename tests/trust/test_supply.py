"""What is installed is known by its hash, and the same source, texts and seed give the same bytes in every process."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hfk.backbones import registry

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
APART = {"torch"}
"""What the Makefile installs first, in the build that fits the machine."""


def locked(name: str) -> dict[str, list[tuple[str, str]]]:
    """Package → versions, and what stands behind them, of a lock file."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#":
            package, version, rest = re.fullmatch(r"([\w.-]+)==([\w.+-]+)(.*)", line).groups()
            found.setdefault(package, []).append((version, rest))
    return found


def wanted(extra: str) -> list[Requirement]:
    """What the package with an extra asks for, extras of extras included."""
    project, asked = PROJECT["project"], []
    rows = [*project["dependencies"], *project["optional-dependencies"][extra]]
    while rows:
        one = Requirement(rows.pop())
        if one.name == "hfk":
            rows += [row for name in one.extras for row in project["optional-dependencies"][name]]
        else:
            asked.append(one)
    return asked


@pytest.mark.parametrize("name", ["dev", "space", "release"])
def test_every_pin_has_hashes(name):
    for package, versions in locked(name).items():
        for _, rest in versions:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), package


@pytest.mark.parametrize("name", ["dev", "space"])
def test_the_lock_is_of_what_the_package_asks_for(name):
    pins = locked(name)
    for one in wanted(name):
        if one.name not in APART:
            versions = [version for version, _ in pins[re.sub(r"[-_.]+", "-", one.name).lower()]]
            assert versions and all(one.specifier.contains(version) for version in versions), f"{one}: run make lock"
    assert not pins.keys() & APART and not [name for name in pins if name.startswith("nvidia-")]


def test_weights_of_a_package_are_known_by_their_hash_before_they_are_read(tmp_path, monkeypatch):
    backbone = next(iter(registry.PACKAGED.values()))
    module, _, file = backbone.file.partition("/")
    (tmp_path / module / file).parent.mkdir(parents=True)
    (tmp_path / module / "__init__.py").touch()
    (tmp_path / module / file).write_bytes(b"exchanged")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ValueError, match="is damaged or of another version"):
        registry.prepare(backbone.name, cache_dir=tmp_path / "cache")
    assert all(re.fullmatch("[0-9a-f]{64}", packaged.sha256) for packaged in registry.PACKAGED.values())


def test_the_wheel_is_the_same_at_every_try(tmp_path, monkeypatch):
    """From two folders, at two times, under two umasks."""
    pytest.importorskip("hatchling")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    sums = set()
    for number, mask in enumerate((0o022, 0o077)):
        source, before = tmp_path / str(number), os.umask(mask)
        try:
            source.mkdir()
            for name in ("pyproject.toml", "README.md", "LICENSE"):
                shutil.copyfile(ROOT / name, source / name)
            shutil.copytree(ROOT / "hfk", source / "hfk", ignore=shutil.ignore_patterns("__pycache__"))
            command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
            subprocess.run(command, cwd=source, check=True, capture_output=True)
        finally:
            os.umask(before)
        (wheel,) = (source / "dist").glob("*.whl")
        sums.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(sums) == 1
    names = zipfile.ZipFile(wheel).namelist()
    assert "hfk/models/checked_files.py" in names and not [name for name in names if "tests" in name]


TOKENIZERS = """
    import hashlib
    from hfk.training.scratch import train_tokenizer
    from tests.tiny import SENTENCES

    texts = [f"{one} {other}" for one in SENTENCES for other in reversed(SENTENCES)]
    said = []
    for kind, size in (("bpe", 120), ("bpe", 400), ("character", 40), ("character", 400)):
        made = train_tokenizer(texts, kind, size)
        said.append(hashlib.sha256(made.backend_tokenizer.to_str().encode()).hexdigest())
    print(*said)
"""


MORPHEMES = """
    import hashlib
    from hfk.training.morphemes import morpheme_tokenizer
    from tests.tiny import SENTENCES

    texts = [f"{one} 뷁 {other} 꿹뷁 꿹" for one in SENTENCES for other in reversed(SENTENCES)]
    print(hashlib.sha256(morpheme_tokenizer(texts).backend_tokenizer.to_str().encode()).hexdigest())
"""


@pytest.mark.parametrize("program", [TOKENIZERS, pytest.param(MORPHEMES, marks=pytest.mark.trust)])
def test_the_same_texts_give_the_same_tokenizer_in_every_process(program):
    """Whatever order a process keeps its sets and hash tables in."""
    said = set()
    for seed in ("0", "1", "random"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", textwrap.dedent(program)]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        said.add(done.stdout)
    assert len(said) == 1 and said.pop().strip()
