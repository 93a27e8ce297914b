"""This process online, which all other tests are not: for a client that is given, or for all that asks the Hub."""

from __future__ import annotations

import pytest
from huggingface_hub import constants


@pytest.fixture
def online(monkeypatch):
    """Let this process download; `hub.api()` reaches the stand-in and nothing else."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub_here(hub, monkeypatch):
    """The stand-in as this process's Hub, and the user's folder as the one that the process runs in."""
    hub.here(monkeypatch)
    monkeypatch.chdir(hub.folder)
    return hub
