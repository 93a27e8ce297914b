"""The door: what every request passes, and what is done when the Space is told to stop.

It counts the requests under way, tells whoever is turned away when to come again, reads nobody's request for ever, and
has gradio forget a caller who has the answer: gradio keeps for every call of the API what it keeps for a visitor of the
page, some 190 kB, and a few hundred bytes of it for ever. On SIGTERM nobody comes in any more; those inside get their
answers.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect

SESSIONS = 256
"""Visitors that are remembered: whoever comes back after so many others begins anew."""
DRAIN_SECONDS = 30
"""Answers under way when the Space is told to stop have so long."""
QUIET_SECONDS = 1
"""Without a request for so long, nobody is between two steps of one, such as asking and fetching the answer."""
LOST_SECONDS = 5
"""Answers that nobody has fetched for so long, are not fetched any more."""

READING_SECONDS, SLOWEST_BYTES = 30, 50_000
"""Whoever sends a request has so long to send all of it, and a second more for each so many bytes."""
MAX_QUESTION_BYTES = 10_000_000
"""Of a request that is no upload: a million characters, of which the first are read."""
ROOM_BYTES = 500_000_000
"""Uploads are refused when the disk has less room."""

Message = MutableMapping[str, Any]


class Door:
    """Who comes in and who is inside; `page` is set once it is served.

    Example:
        >>> page.launch(app_kwargs={"middleware": [door.middleware]}, state_session_capacity=SESSIONS)  # doctest: +SKIP
        >>> door.serve()  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self.page: gr.Blocks | None = None
        self.closing = threading.Event()
        self.open = 0  # requests under way
        self.last = time.monotonic()  # when the last one ended
        self.middleware = Middleware(_Requests, self)

    def seconds_to_wait(self) -> int:
        """Say after how many seconds there will be room in the queue."""
        if self.closing.is_set() or self.page is None:
            return DRAIN_SECONDS
        queue = self.page._queue
        mean = max((known.avg_time for known in queue.process_time_per_fn.values()), default=1.0)
        return min(DRAIN_SECONDS, max(1, math.ceil(len(queue) * mean / 2)))

    def serve(self) -> None:
        """Wait for SIGTERM or Ctrl-C, then until nobody is inside; at most `DRAIN_SECONDS`."""
        signal.signal(signal.SIGTERM, lambda *_: self.closing.set())
        try:
            while not self.closing.wait(0.2):
                pass
        except KeyboardInterrupt:
            self.closing.set()
        print("stopping: no new questions; those under way are answered", flush=True)
        began = time.monotonic()
        while self._is_somebody_inside() and time.monotonic() - began < DRAIN_SECONDS:
            time.sleep(0.05)
        self.page.close(verbose=False)

    def _is_somebody_inside(self) -> bool:
        queue, quiet = self.page._queue, time.monotonic() - self.last
        if self.open or len(queue) or queue.get_active_worker_count() or quiet < QUIET_SECONDS:
            return True
        return quiet < LOST_SECONDS and any(queue.pending_event_ids_session.values())

    def forget(self, session: str) -> None:
        """Have gradio drop what it keeps for a caller who has nothing to wait for."""
        queue, held = self.page._queue, self.page.app.state_holder
        if not queue.pending_event_ids_session.get(session):
            for kept in (queue.pending_event_ids_session, queue.pending_messages_per_session):
                kept.pop(session, None)
            with held.lock:
                held.session_data.pop(session, None)
                held.time_last_used.pop(session, None)

    def forget_the_lost(self) -> None:
        """Drop what gradio keeps of callers whose messages it has dropped already."""
        queue = self.page._queue
        for session in set(queue.pending_event_ids_session) - set(queue.pending_messages_per_session):
            queue.pending_event_ids_session.pop(session, None)


class _Requests:
    """What each request passes."""

    def __init__(self, app: Callable[..., Awaitable[None]], door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        door, path = self.door, scope.get("path", "")
        if scope["type"] != "http" or "/heartbeat/" in path:
            await self.app(scope, receive, send)
            return

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(True)
                more = [
                    (b"x-content-type-options", b"nosniff")
                ]  # an upload is shown as what it is called, or not at all
                if message["status"] == 503:
                    more.append((b"retry-after", str(door.seconds_to_wait()).encode()))
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        async def refuse(status: int, why: str) -> None:
            headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
            await send_more({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": f'{{"detail": "{why}"}}'.encode()})

        async def receive_in_time() -> Message:
            """Read the request on, until it is all there; whoever takes too long, or sends too much, has gone."""
            nonlocal room, until
            if until is None:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.01, until - time.monotonic()))
            except TimeoutError:
                return {"type": "http.disconnect"}
            size = len(message.get("body", b""))
            room, until = room - size, until + size / SLOWEST_BYTES if message.get("more_body") else None
            return message if room >= 0 else {"type": "http.disconnect"}

        uploads, started = path.endswith("/upload"), []
        room, until = math.inf if uploads else MAX_QUESTION_BYTES, time.monotonic() + READING_SECONDS

        begins = scope["method"] == "POST" and not path.endswith("/cancel")
        if door.closing.is_set() and (begins or path == "/"):
            await refuse(503, "The server is about to stop.")
            return
        size = dict(scope.get("headers", ())).get(b"content-length", b"0")
        if not uploads and size.isdigit() and int(size) > MAX_QUESTION_BYTES:
            await refuse(413, f"A question has {MAX_QUESTION_BYTES:,} bytes at most.")
            return
        if uploads and shutil.disk_usage(tempfile.gettempdir()).free < ROOM_BYTES:
            await refuse(503, "There is no room for files now.")
            return
        door.open += 1
        try:
            await self.app(scope, receive_in_time, send_more)
        except ClientDisconnect:
            if not started:
                await refuse(408, "The request has not come, or not in time.")
        finally:
            door.open -= 1
            door.last = time.monotonic()
            if scope["method"] == "GET" and "/call/" in path:  # an answer of the API, which has no other visits
                door.forget(path.rpartition("/")[2])
                door.forget_the_lost()
