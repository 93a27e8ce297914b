"""What a test holds of the stand-in for the Hub: an account of its own, and ways to run the real clients against it.

`huggingface_hub` reads its settings once, at import, and the test process is offline; so what downloads or trains runs
in a process of its own (`Hub.run`, `Hub.start`). `Hub.api` is an `HfApi` in this process, for calls that only ask or
upload; it gets a client that reaches this server and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx2
import huggingface_hub

from .server import Fault, HubServer

ROOT = Path(__file__).resolve().parents[2]

__all__ = ["Fault", "Hub", "HubServer"]


class Hub:
    """A user on the stand-in, with an organisation and nothing else.

    Attributes:
        endpoint: the server's address.
        user, organisation: namespaces that the user may write, empty.
        token, read_token: the user's tokens.
        folder: a folder of the test's own; `HF_HOME` of the processes is `folder / "home"`.
    """

    def __init__(self, server: HubServer, user: str, folder: Path) -> None:
        self.server, self.endpoint, self.folder = server, server.endpoint, folder
        self.user, self.organisation = user, f"{user}-lab"
        tokens = server.store.add_user(user, (self.organisation,))
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
        """Run Python code in a process of its own; returns what it printed, fails where it fails."""
        process = self.start(code, token, home)
        out, err = process.communicate(timeout=timeout_seconds)
        assert process.returncode == 0, f"{out[-2000:]}\n{err[-4000:]}"
        return out

    def api(self, token: str | bool | None = None) -> huggingface_hub.HfApi:
        """Return a client in this process; `token` is the user's by default, False for nobody."""
        huggingface_hub.set_client_factory(self._client)
        return huggingface_hub.HfApi(endpoint=self.endpoint, token=self.token if token is None else token)

    def close(self) -> None:
        """End what the test started and heal what it broke."""
        for process in self._processes:
            if process.poll() is None:
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
