"""Settings for every test: offline, one thread a process, tiny checkpoints of our own, and `hfk` in this process.

With pytest-xdist every worker makes the session's fixtures for itself; all are tiny. A command is run through `hfk` or
`fails` rather than in a process of its own, which would cost seconds for importing torch again.
"""

from __future__ import annotations

import atexit
import io
import os
import random
import secrets
import shutil
import tempfile

# Before torch is imported: two processes that fight over the cores become many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"  # the stand-in for the Hub takes LFS
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# Arrow files, dynamic modules and trackers' databases of the tests go with the tests; prepared backbones stay.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hfk-tests-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)

import re
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from PIL import Image

torch.set_num_threads(1)

from hfk import cli
from tests import tiny

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    settings.register_profile("hfk", deadline=None, max_examples=25)  # a busy machine is no failure
    settings.load_profile("hfk")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real rows beside the project; the test is skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip("the real rows are not beside this checkout")
    return DATA


@pytest.fixture(scope="session", autouse=True)
def draw():
    """Save every matplotlib figure as one small PNG of noise, for drawing costs a second a run; gives what draws it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        yield None
        return
    buffer = io.BytesIO()
    Image.frombytes("RGB", (64, 48), random.Random(0).randbytes(64 * 48 * 3)).save(buffer, "PNG")
    with pytest.MonkeyPatch.context() as patch:
        drawing = Figure.savefig
        patch.setattr(Figure, "savefig", lambda _, file, **__: file.write(buffer.getvalue()))
        yield drawing


@pytest.fixture(scope="session")
def wide_teacher(tmp_path_factory) -> str:
    """A teacher whose embedding is wider than the student's, so that a layer between them is learned."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teacher")
    config = tiny.model("roberta").config
    config.text_config.hidden_size = 48
    from hfk import MultiHeadForClassification

    MultiHeadForClassification(config).save_pretrained(folder)
    tiny.processor().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def chromium():
    """The system's browser, started for one test."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason='browser tests need playwright: pip install "hfk[dev]"'
    )
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("browser tests need a browser: apt-get install chromium fonts-nanum")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A tiny text-and-image checkpoint with every kind of head, processor included."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    model = tiny.model("bert", "resnet")
    model.save_pretrained(folder)
    tiny.processor("bert", "resnet").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoders(tmp_path_factory) -> dict[str, str]:
    """Recipe options that name a tiny text and a tiny vision encoder, as folders."""
    torch.manual_seed(0)
    return tiny.save_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="session")
def places(tmp_path_factory) -> Path:
    """The YAML of a small table task with pictures and every kind of head."""
    return tiny.write_task(tmp_path_factory.mktemp("places"))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, encoders, places) -> Path:
    """Folder of a finished run on `places`; read it, change nothing."""
    from hfk import train

    folder = tmp_path_factory.mktemp("run") / "run"
    train(str(places), folder, tiny.RECIPE | encoders)
    return folder


@pytest.fixture(scope="session")
def hub_server(tmp_path_factory):
    """The stand-in for the Hub, one for all tests."""
    from tests.hub_server import HubServer

    server = HubServer(tmp_path_factory.mktemp("hub-server")).start()
    yield server
    server.stop()


@pytest.fixture
def hub(hub_server, tmp_path_factory):
    """A user of their own on the stand-in for the Hub; see `tests.hub_server.Hub`."""
    from tests.hub_server import Hub

    folder = tmp_path_factory.mktemp("hub")
    hub = Hub(hub_server, f"user-{secrets.token_hex(4)}", folder)
    yield hub
    hub.close()


@pytest.fixture
def hfk(capsys):
    """Run `hfk WORDS` in this process; returns exit code, standard output and standard error."""

    def run(*words) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main([str(word) for word in words])
        output = capsys.readouterr()
        return caught.value.code or 0, output.out, output.err

    return run


@pytest.fixture
def fails(hfk):
    """Run `hfk WORDS`, which must fail with one sentence; returns the sentence."""

    def run(*words) -> str:
        code, output, errors = hfk(*words)
        assert (code, output) == (2, ""), errors
        assert re.fullmatch(r"hfk: [^\n]+\n", errors), errors
        return errors

    return run
