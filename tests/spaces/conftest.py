"""The Space as visitors meet it: the app in a process of its own, from the very files that are sent to the Hub.

It starts once for all workers of pytest-xdist: the first that needs it starts it, the last one stops it. Besides its
own checkpoints it has one with every kind of head and hostile labels, and a damaged one. It asks loopback for nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from hfk import HeadConfig
from hfk.hub.spaces import plan_space
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
STUDIO = ROOT / "spaces" / "studio"
START_SECONDS = 180  # others may be using the cores

pytest.importorskip("gradio", reason='the Space needs gradio: pip install "hfk[space]"')
sys.path.insert(0, str(STUDIO))

HOSTILE = "<script>window.hit=1</script>"


@dataclass
class Served:
    """A running app: its address, its process, and a folder with its source (`space`) and all that it writes."""

    url: str
    pid: int
    folder: str

    @property
    def space(self) -> Path:
        return Path(self.folder, "space")

    @property
    def log(self) -> str:
        return Path(self.folder, "app.log").read_text()

    @property
    def scratch(self) -> Path:
        return Path(self.folder, "scratch")


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """The app."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    state, lock = shared / "studio.json", FileLock(shared / "studio.lock")
    with lock:
        known = json.loads(state.read_text()) if state.is_file() else {"users": 0}
        if not known["users"]:
            known["app"] = asdict(serve(shared / "studio"))
        state.write_text(json.dumps(known | {"users": known["users"] + 1}))
    served = Served(**known["app"])
    yield served
    with lock:
        known = json.loads(state.read_text())
        state.write_text(json.dumps(known | {"users": known["users"] - 1}))
        if known["users"] == 1:
            stop(served)
            log = served.log
            shutil.rmtree(served.folder)
            assert unforeseen(log) == []


def serve(folder: Path) -> Served:
    """Lay the app out in a new folder, start it, and wait until it says that it is ready."""
    for name, file in plan_space(STUDIO).files.items():
        (folder / "space" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / "space" / name)
    odd_checkpoints(folder)
    (folder / "scratch").mkdir()
    return start(folder)


def start(folder: Path, port: int = 0) -> Served:
    """Start the app from a folder where it is laid out; on any free port, or on this one."""
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    first = [folder / "space" / "checkpoints" / name for name in ("tour-tiny", "tour-tiny-text")]
    own = {
        "GRADIO_SERVER_PORT": str(port),
        "TMPDIR": str(folder / "scratch"),
        "HFK_FEEDBACK_DIR": str(folder / "feedback"),
        "HFK_CHECKPOINTS": ",".join(map(str, [*first, folder / "odd", folder / "damaged"])),
        "PYTHONUNBUFFERED": "1",
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GRADIO_", "HFK_", "PYTHON"))}
    log = folder / "app.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "space/app.py"], cwd=folder, env=kept | own, stdout=out, stderr=out, start_new_session=True
        )
    deadline = time.monotonic() + START_SECONDS
    while "ready:" not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the app did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)
    return Served(f"http://127.0.0.1:{port}/", process.pid, str(folder))


def stop(served: Served, seconds: float = 60) -> None:
    """Tell the app to stop, and wait until it has: it may be the child of another worker."""
    os.kill(served.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and Path(f"/proc/{served.pid}/cmdline").exists():
        if not Path(f"/proc/{served.pid}/cmdline").read_bytes():  # a zombie: whose child it is has not looked yet
            return
        time.sleep(0.05)


def unforeseen(log: str) -> list[str]:
    """The exceptions in a log, but for those by which gradio itself refuses a request."""
    return [
        line
        for line in re.findall(r"^[\w.]+(?:Error|Exception|Interrupt|Exit)\b.*", log, re.M)
        if not line.startswith("gradio.exceptions.")
    ]


def odd_checkpoints(folder: Path) -> None:
    """Make the checkpoint with every kind of head and hostile labels, and the damaged one."""
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
