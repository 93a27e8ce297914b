from __future__ import annotations

import io

import pytest
import yaml
from PIL import Image

from hfk.tasks import load_task


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """A fresh Arrow cache for each test."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("arrow"))


@pytest.fixture
def write(tmp_path):
    """Write a text file into the test's folder."""

    def write(name, text, encoding="utf-8"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.fixture
def task(write):
    """Write task.yaml from keys, with a table of given CSV text as data.csv, and make the task."""

    def task(csv=None, **keys):
        if csv is not None:
            write("data.csv", csv)
        return load_task(write("task.yaml", yaml.safe_dump({"data": "data.csv", **keys}, allow_unicode=True)))

    return task


@pytest.fixture
def picture():
    """PNG bytes of one color."""

    def picture(color="red"):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), color).save(buffer, "PNG")
        return buffer.getvalue()

    return picture
