"""What a test holds of the stand-in for the Hub: an account of its own, and ways to run the real clients against it.

`huggingface_hub` reads its settings once, at import, and the test process is offline. `Hub.here` changes them for one
test, so that what downloads or trains runs in this process, with a client that reaches this server and nothing else;
`Hub.api` alone is enough for calls that only ask or upload. What must not find hfk runs in a process of its own
(`Hub.run`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import datasets
import evaluate
import httpx2
import huggingface_hub
import pytest
import transformers
from huggingface_hub import constants

from .server import Fault, HubServer

ROOT = Path(__file__).resolve().parents[2]

__all__ = ["Fault", "Hub", "HubServer"]


class Hub:
    """A user on the stand-in, with an organization and nothing else.

    Attributes:
        endpoint: the server's address.
        user, organization: namespaces that the user may write, empty.
        token, read_token: the user's tokens.
        folder: a folder of the test's own; `HF_HOME` of a process is `folder / "home"`.
    """

    def __init__(self, server: HubServer, user: str, folder: Path) -> None:
        self.server, self.endpoint, self.folder = server, server.endpoint, folder
        self.user, self.organization = user, f"{user}-lab"
        tokens = server.store.add_user(user, (self.organization,))
        self.token, self.read_token = tokens["write"], tokens["read"]
        self._processes: list[subprocess.Popen] = []

    def fault(self, route: str, action: str, **options: int) -> Fault:
        """Have something go wrong; see `Fault`."""
        self.server.faults.append(Fault(route, action, **options))
        return self.server.faults[-1]

    def environment(self, token: str | None = "", home: str = "home") -> dict[str, str]:
        """Return the environment of a process that takes the stand-in for the Hub.

        Args:
            token: `HF_TOKEN`; by default the user's, None for nobody.
            home: name of `HF_HOME` below `folder`: another name is another machine, with nothing in its cache.
        """
        names = ("TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE")
        environment = {name: value for name, value in os.environ.items() if name not in names} | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(self.folder / home),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "PYTHONPATH": str(ROOT),
        }
        token = self.token if token == "" else token
        return environment | ({"HF_TOKEN": token} if token else {})

    def start(self, code: str, token: str | None = "", home: str = "home") -> subprocess.Popen:
        """Start Python code in a process of its own, in `folder`; it is killed when the test ends."""
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=self.folder,
            env=self.environment(token, home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def run(self, code: str, token: str | None = "", home: str = "home", timeout_seconds: float = 300) -> str:
        """Run Python code in a process of its own, in `folder`; returns what it printed, fails where it fails."""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=self.folder,
            env=self.environment(token, home),
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def here(self, monkeypatch: pytest.MonkeyPatch, token: str | None = "") -> None:
        """Have this process take the stand-in for the Hub, online, as a process of `environment` would."""
        for module in (datasets.config, evaluate.config):
            for name, value in list(vars(module).items()):
                if name.startswith("HUB_") and isinstance(value, str):
                    monkeypatch.setattr(module, name, value.replace(module.HF_ENDPOINT, self.endpoint))
            monkeypatch.setattr(module, "HF_ENDPOINT", self.endpoint)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, self.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", self.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", self.endpoint)
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
        huggingface_hub.set_client_factory(self._client)
        token = self.token if token == "" else token
        monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN", raising=False)

    def api(self, token: str | bool | None = None) -> huggingface_hub.HfApi:
        """Return a client in this process; `token` is the user's by default, False for nobody."""
        huggingface_hub.set_client_factory(self._client)
        return huggingface_hub.HfApi(endpoint=self.endpoint, token=self.token if token is None else token)

    def close(self) -> None:
        """Heal what the test broke, and end what it left running."""
        for process in self._processes:
            process.kill()
            process.communicate()
        for fault in self.server.faults:
            fault.released.set()
        self.server.faults.clear()
        huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)

    def _client(self) -> httpx2.Client:
        def only_here(request: httpx2.Request) -> None:
            if request.url.port != httpx2.URL(self.endpoint).port:
                raise httpx2.ConnectError(f"a test asked for {request.url}")

        return httpx2.Client(event_hooks={"request": [only_here]}, follow_redirects=True, timeout=None, trust_env=False)
