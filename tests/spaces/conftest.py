"""The Space as visitors meet it: the real app in a process of its own, on a free port, with nothing but loopback."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hfk import HeadConfig
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
STUDIO = ROOT / "spaces" / "studio"
START_SECONDS = 180  # others may be using the cores

pytest.importorskip("gradio", reason='the Space needs gradio: pip install "hfk[space]"')
sys.path.insert(0, str(STUDIO))

HOSTILE = "<script>window.hit=1</script>"


@dataclass
class Served:
    """A running app."""

    url: str
    log: Path
    feedback: Path
    scratch: Path
    process: subprocess.Popen
    seconds: float


def serve(folder: Path, **environment: str) -> Served:
    """Start the app and wait until it says that it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    log = folder / "app.log"
    own = {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "TMPDIR": str(scratch),
        "HFK_FEEDBACK_DIR": str(folder / "feedback"),
        "PYTHONUNBUFFERED": "1",
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GRADIO_", "HFK_"))}
    started = time.perf_counter()
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, str(STUDIO / "app.py")], cwd=folder, env=kept | own | environment, stdout=out, stderr=out
        )
    while "ready:" not in log.read_text():
        if process.poll() is not None or time.perf_counter() - started > START_SECONDS:
            process.kill()
            pytest.fail(f"the app did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)
    seconds = time.perf_counter() - started
    return Served(f"http://127.0.0.1:{port}/", log, folder / "feedback", scratch, process, seconds)


def stop(served: Served) -> str:
    """Stop the app; returns what it has written."""
    served.process.terminate()
    try:
        served.process.wait(20)
    except subprocess.TimeoutExpired:
        served.process.kill()
    return served.log.read_text()


def unforeseen(log: str) -> list[str]:
    """The exceptions in a log, but for those by which gradio itself refuses a request."""
    return [
        line
        for line in re.findall(r"^[\w.]+(?:Error|Exception|Interrupt|Exit)\b.*", log, re.M)
        if not line.startswith("gradio.exceptions.")
    ]


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """The app with the checkpoints that come with it."""
    served = serve(tmp_path_factory.mktemp("studio"))
    yield served
    assert unforeseen(stop(served)) == []


@pytest.fixture(scope="session")
def odd_checkpoints(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint with every kind of head and hostile labels, and a damaged one."""
    folder = tmp_path_factory.mktemp("odd")
    torch.manual_seed(0)
    heads = [
        HeadConfig("cat1", ["자연", HOSTILE]),
        HeadConfig("cat2", ["산", "바다", "=HYPERLINK(1)"], parent="cat1", parent_of=[0, 0, 1]),
        HeadConfig("<b>tags</b>", ["일출", HOSTILE, "야경"], problem="multi_label"),
        HeadConfig("price", problem="regression", mean=5.0, std=2.0),
    ]
    tiny.model("bert", "resnet", heads=heads).save_pretrained(folder / "odd")
    tiny.processor("bert", "resnet").save_pretrained(folder / "odd")
    shutil.copytree(folder / "odd", folder / "damaged")
    weights = folder / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return {"odd": folder / "odd", "damaged": folder / "damaged"}


@pytest.fixture(scope="session")
def odd_studio(tmp_path_factory, odd_checkpoints):
    """The app with those two and its own."""
    named = ",".join(map(str, odd_checkpoints.values()))
    served = serve(tmp_path_factory.mktemp("odd_studio"), HFK_CHECKPOINTS=named)
    yield served
    assert unforeseen(stop(served)) == []
