"""The packaged backbones, prepared once for all tests in a cache of their own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from hfk.backbones import registry as backbones


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hfk-cache")


def _prepared(name: str, cache: Path) -> Path:
    package = backbones.PACKAGED[name]
    if importlib.util.find_spec(package.file.partition("/")[0]) is None:
        pytest.skip(f"the package {package.package} is not installed")
    return backbones.prepare(name, cache)


@pytest.fixture(scope="session")
def e5_small_ko(cache) -> Path:
    return _prepared("e5-small-ko", cache)


@pytest.fixture(scope="session")
def efficientnet_lite0(cache) -> Path:
    return _prepared("efficientnet-lite0", cache)


@pytest.fixture(scope="session")
def kiwi_morphemes(cache) -> Path:
    return _prepared("kiwi-morphemes", cache)
