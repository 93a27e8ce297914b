"""The stand-in for the Hugging Face Hub as a running server on loopback, and what may go wrong on its wire.

For the real clients: `HF_ENDPOINT=http://127.0.0.1:PORT HF_HUB_DISABLE_XET=1`. What is answered stands in `routes.py`,
what is kept in `store.py`. By hand: `python -m tests.hub_server --port 8080 --folder hub --user me`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import secrets
import threading
import time
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from .routes import answer_error, router
from .store import HubError, Store


@dataclasses.dataclass
class Fault:
    """Something that goes wrong on the wire, `times` times from the `at`-th request on that matches `route`.

    Args:
        route: regular expression for `METHOD /path`, e.g. `PUT /lfs/`, `POST .*/commit/`.
        action: `refuse` (answer `status`), `drop` (close the connection unanswered), `cut` (close it amid the answer),
            `hold` (wait until `released` is set, then go on).
        at: which matching request is the first to fail, from 1.
        times: how many fail.
        status: what `refuse` answers; clients retry 5xx for half a minute, others not at all.
    """

    route: str
    action: str
    at: int = 1
    times: int = 1
    status: int = 403
    seen: int = 0
    reached: threading.Event = dataclasses.field(default_factory=threading.Event)
    released: threading.Event = dataclasses.field(default_factory=threading.Event)

    def strikes(self, line: str) -> bool:
        if not re.search(self.route, line):
            return False
        self.seen += 1
        return self.at <= self.seen < self.at + self.times


class Wire:
    """What every request passes first: the log, the faults, and the path, left percent-encoded.

    Revisions and folders travel as one segment (`refs%2Fpr%2F1`); decoded before routing they would fall apart.
    """

    def __init__(self, app: Callable, log: list[str], faults: list[Fault]) -> None:
        self.app, self.log, self.faults = app, log, faults

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        scope["path"] = scope["raw_path"].decode("ascii")
        line = f"{scope['method']} {scope['path']}"
        self.log.append(line)
        fault = next((fault for fault in self.faults if fault.strikes(line)), None)
        if fault is None:
            return await self.app(scope, receive, send)
        fault.reached.set()
        if fault.action == "hold":
            while not fault.released.is_set():
                await asyncio.sleep(0.01)
            return await self.app(scope, receive, send)
        if fault.action == "refuse":
            answer = JSONResponse({"error": "The stand-in was told to refuse this."}, fault.status)
            return await answer(scope, receive, send)
        if fault.action == "drop":  # a promised body that never comes makes uvicorn close the connection
            return await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        left = 0

        async def cut(message: dict) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                left = int(dict(message["headers"]).get(b"content-length", b"0")) // 2
            elif left <= 0:
                return
            else:
                message = message | {"body": message["body"][:left], "more_body": True}
                left -= len(message["body"])
            await send(message)

        await self.app(scope, receive, cut)


class HubServer:
    """The stand-in, served by a thread of this process.

    Args:
        folder: where its state lives.
        port: 0 for any free one.
        part_bytes: LFS files larger than this are asked for in parts.
        page_size: entries a page of a listing.

    Attributes:
        endpoint: what `HF_ENDPOINT` must be.
        store: accounts and repositories.
        log: every request, as `METHOD /path`.
        faults: add a `Fault` to have something go wrong.
    """

    def __init__(
        self, folder: str | os.PathLike, port: int = 0, part_bytes: int = 50_000_000, page_size: int = 1000
    ) -> None:
        self.store, self.log, self.faults = Store(folder), [], []
        self.app = FastAPI(openapi_url=None, redirect_slashes=False)
        self.app.include_router(router)
        self.app.add_exception_handler(HubError, answer_error)
        state = self.app.state
        state.store, state.secret = self.store, secrets.token_bytes(32)
        state.part_bytes, state.page_size = part_bytes, page_size
        wire = Wire(self.app, self.log, self.faults)
        config = uvicorn.Config(wire, "127.0.0.1", port, log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> HubServer:
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the stand-in for the Hub did not start; is its port free?")
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def stop(self) -> None:
        for fault in self.faults:
            fault.released.set()
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
