"""Downloads in this process, which tests of `pull` need: all other tests run offline."""

from __future__ import annotations

import pytest
from huggingface_hub import constants


@pytest.fixture
def online(monkeypatch):
    """Let this process download; `hub.api()` reaches the stand-in and nothing else."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
