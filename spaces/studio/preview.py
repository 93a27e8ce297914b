"""What a link to the page looks like where it is shared: our title, a sentence and a picture in place of gradio's.

gradio writes its own name into the page's head, where those look who make previews, and they run no script. So the head
is changed on its way out, and the picture is served beside it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware

TITLE = "hfk 스튜디오 · hfk studio"
ABOUT = "한국어 글과 사진을 여러 갈래로 한 번에 분류합니다. Classifies Korean text and photos, several answers at once."
PICTURE = Path(__file__).with_name("preview.png")
ROUTE = "/preview.png"
_TAGS = re.compile(rb'<meta (?:property="og:|name="twitter:)[^>]*>')

Message = MutableMapping[str, Any]


class _Preview:
    """Changes the head of the page, and serves the picture."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or path not in ("/", ROUTE):
            await self.app(scope, receive, send)
            return
        if path == ROUTE:
            content = PICTURE.read_bytes()
            headers = [(b"content-type", b"image/png"), (b"content-length", str(len(content)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content if scope["method"] == "GET" else b""})
            return
        start: Message = {}
        parts: list[bytes] = []

        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                headers = dict(start["headers"])
                body = b"".join(parts)
                if headers.get(b"content-type", b"").startswith(b"text/html") and b"content-encoding" not in headers:
                    body = with_preview(body, address(scope))
                kept = [(name, value) for name, value in start["headers"] if name != b"content-length"]
                kept.append((b"content-length", str(len(body)).encode()))
                await send({**start, "headers": kept})
                await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, hold)


def address(scope: Message) -> str:
    """The page's own address, as whoever asks for it calls it."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    scheme = headers.get("x-forwarded-proto", scope.get("scheme", "http")).split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "")).split(",")[0].strip()
    return f"{scheme}://{host}"


def with_preview(page: bytes, address: str) -> bytes:
    """Put our tags in place of those of a page that say what a preview shows."""
    shown = {"og:type": "website", "og:title": TITLE, "og:description": ABOUT, "og:image": f"{address}{ROUTE}"}
    tags = [f'<meta property="{name}" content="{html.escape(value)}">' for name, value in shown.items()]
    tags += [f"<title>{html.escape(TITLE)}</title>", f'<meta name="description" content="{html.escape(ABOUT)}">']
    tags.append('<meta name="twitter:card" content="summary_large_image">')
    return _TAGS.sub(b"", page).replace(b"<head>", b"<head>" + "".join(tags).encode(), 1)


middleware = Middleware(_Preview)
