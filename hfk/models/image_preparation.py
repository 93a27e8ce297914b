"""Opening pictures from anywhere, safely: size is checked before a single pixel is decoded, and memory is bounded.

Whatever a table or a user hands over comes out as an upright RGB picture, or as one `ImageError` that says what is
wrong. A picture of more than `KEPT_PIXELS`, far above what encoders look at, comes out smaller: a JPEG is decoded at a
half, a quarter or an eighth at once, others are reduced before they are copied. All threads of a process together
decode what fits into `DECODING_BYTES`, and what does not fit alone.

A path may end in a box, `photo.jpg#xywh=160,120,320,240` as in W3C Media Fragments, or `#xyxy=160,120,480,360`: what is
outside is cut off. Resizing and normalizing are left to the vision encoder's own transformers image processor.
"""

from __future__ import annotations

import http.client
import io
import math
import os
import re
import socket
import ssl
import stat
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 50_000_000
"""Pictures with more pixels are refused: 50 megapixels is above any camera phone and 150 MB of RGB."""
MAX_BYTES = 64 * 1024 * 1024
"""Files and downloads with more bytes are refused."""
DEADLINE_SECONDS = 20
"""A download is given up after so long, however it drips."""
KEPT_PIXELS = 1_500_000
"""Pictures with more pixels are made smaller while they are opened."""
DECODING_BYTES = 50_000_000
"""What the pictures being decoded at one time may take; one that takes more has to wait until it is alone."""
MOST_PIXELS_A_BYTE = 256
"""A picture that takes more than `DECODING_BYTES` and is packed more tightly than this is made to fill memory."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are decoded; the rarer decoders of Pillow are left closed."""
_ORIENTATION = 0x0112  # in EXIF; from 5 on, width and height change places
_BOX = re.compile(r"(?s)(.*)#(xywh|xyxy)=(.*)")


class ImageError(ValueError):
    """A picture that can't be used; the message is one sentence that says why."""


def open_image(source: Any) -> Image.Image:
    """Open a picture as upright RGB.

    Args:
        source: path, `http(s)://` URL, bytes, `{"bytes": …, "path": …}` as in a `datasets` image column, or a PIL
            image. Of an animation, the first frame is taken; transparency is laid over white; 16-bit gray is scaled to
            8 bits; the EXIF orientation is applied. A box at the end of a path or URL, in pixels of the upright
            picture, is cut out; it ends where the picture does. What has more than `KEPT_PIXELS` is made smaller.

    Raises:
        ImageError: if it is missing, no regular file, empty, too large, too slow to come, of an unknown format, or
            damaged.
    """
    if isinstance(source, Image.Image):
        with _opened("the picture", source) as image:
            return _to_rgb(image, "the picture")
    name, data, box = _fetch(source)
    with _opened(name, data) as image:
        factor = _shrinking(image) if box is None else 1
        smaller = (image.width // factor, image.height // factor) if factor > 1 else None
        with _decoding(_prepare(image, smaller, box is not None, name, len(data))):
            return _to_rgb(image, name) if box is None else _shrink(_crop(_upright(image), box, name))


def glance(source: Any, side: int) -> tuple[bytes, Image.Image]:
    """Refuse what `open_image` refuses, for less: JPEG is decoded at a fraction of its size, of `side` pixels or more.

    Returns the bytes of the file, and the whole picture, upright RGB; a box is checked and not cut out.
    """
    name, data, box = _fetch(source)
    with _opened(name, data) as image:
        size = image.size[::-1] if image.getexif().get(_ORIENTATION, 1) >= 5 else image.size
        with _decoding(_prepare(image, (side, side), False, name, len(data))):
            picture = _to_rgb(image, name)
    if box is not None:
        _inside(box, size, name)
    return data, picture


def _fetch(source: Any) -> tuple[str, bytes, tuple[float, float, float, float] | None]:
    """What a source is called in messages, its bytes, and the box at its end."""
    data = None
    if isinstance(source, dict):
        data, source = source.get("bytes"), source.get("path")
    source, box = split_box(source)
    name = Path(source).name if isinstance(source, str | os.PathLike) and source else "the picture"
    if data is None:
        if isinstance(source, str) and source.startswith(("http://", "https://")):
            name, data = source, _download(source)
        elif isinstance(source, str | os.PathLike):
            data = _read(Path(source))
        elif isinstance(source, bytes | bytearray | memoryview):
            data = bytes(source)
        else:
            raise ImageError(f"a picture must be a path, URL, bytes or PIL image, not {type(source).__name__}.")
    if not data:
        raise ImageError(f"{name} is empty (0 bytes).")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} has {len(data):,} bytes; the limit is {MAX_BYTES:,}.")
    return name, data, box


@contextmanager
def _opened(name: str, source: bytes | Image.Image) -> Iterator[Image.Image]:
    """Open a file; whatever the decoder raises, then or later, becomes one sentence."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of decompression bombs at its own, higher limit; ours is checked before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                yield source
                return
            with Image.open(io.BytesIO(source), formats=FORMATS) as image:
                yield image
    except Image.DecompressionBombError:
        raise ImageError(f"{name} claims a size far above the limit of {MAX_PIXELS:,} pixels.") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not a picture in a known format ({', '.join(FORMATS)}).") from None
    except ImageError:
        raise
    except Exception as error:  # Pillow lets through whatever a broken picture makes its parsers raise
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ImageError(f"{name} is damaged or cut short: {reason}.") from None


def split_box(source: Any) -> tuple[Any, tuple[float, float, float, float] | None]:
    """Tell a path or URL from the box at its end: left, top, right, bottom in pixels, or None.

    Raises:
        ImageError: for a box that is no four numbers, or is empty.

    Example:
        >>> split_box("photo.jpg#xywh=160,120,320,240"), split_box("photo.jpg")
        (('photo.jpg', (160.0, 120.0, 480.0, 360.0)), ('photo.jpg', None))
    """
    found = _BOX.fullmatch(source) if isinstance(source, str) else None
    if found is None:
        return source, None
    path, kind, text = found.groups()
    try:
        left, top, right, bottom = (float(number) for number in text.split(","))
    except ValueError:
        raise ImageError(f"{Path(path).name} has the box {text!r}; four numbers are needed.") from None
    if kind == "xywh":
        right, bottom = left + right, top + bottom
    if not all(map(math.isfinite, (left, top, right, bottom))) or left >= right or top >= bottom:
        raise ImageError(
            f"{Path(path).name} has the box {text}, which is empty: right is not beyond left, or bottom top."
        )
    return path, (left, top, right, bottom)


def _crop(image: Image.Image, box: tuple[float, float, float, float] | None, name: str) -> Image.Image:
    return image if box is None else image.crop(_inside(box, image.size, name))


def _inside(box: tuple[float, float, float, float], size: tuple[int, int], name: str) -> tuple[int, int, int, int]:
    """The part of a box that lies inside a picture of some size."""
    width, height = size
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, round(box[2])), min(height, round(box[3]))
    if left >= right or top >= bottom:
        raise ImageError(f"{name} has {width}×{height} pixels, and its box {tuple(map(round, box))} lies outside.")
    return left, top, right, bottom


def letterbox(image: Image.Image, height: int, width: int) -> Image.Image:
    """Make a picture as large as fits, its shape kept, in the middle of a white one of this size."""
    return ImageOps.pad(image, (width, height), Image.Resampling.BICUBIC, color="white")


def _prepare(image: Image.Image, smaller: tuple[int, int] | None, whole: bool, name: str, size: int) -> int:
    """Check an opened picture, set it to be decoded small where it can be; returns how many bytes that will take."""
    _check_size(image, name)
    pixels = image.width * image.height
    if smaller is not None:
        image.draft(None, smaller)
    # As measured with Pillow 12; a progressive JPEG is held whole, whatever size comes out.
    each = 16 if image.format == "WEBP" else {"1": 2, "L": 2}.get(image.mode, 5)
    cost = 8 * pixels if image.info.get("progressive") else each * image.width * image.height * (3 if whole else 1)
    if cost > DECODING_BYTES and pixels > MOST_PIXELS_A_BYTE * size:
        raise ImageError(
            f"{name} has {pixels:,} pixels in {size:,} bytes, packed more tightly than any photo. Make it smaller."
        )
    return cost


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} has {width}×{height} pixels; the limit is {MAX_PIXELS:,}. Make it smaller.")
    if min(width, height) < 1:
        raise ImageError(f"{name} has {width}×{height} pixels: there is nothing to see.")


def _shrinking(image: Image.Image) -> int:
    """By what whole number the sides of a picture must be divided so that `KEPT_PIXELS` are not exceeded."""
    return math.ceil(math.sqrt(image.width * image.height / KEPT_PIXELS))


def _shrink(image: Image.Image) -> Image.Image:
    factor = _shrinking(image)
    return image if factor == 1 else image.reduce(tuple(min(factor, side) for side in image.size))


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    _check_size(image, name)
    image.load()
    if _shrinking(image) > 1:
        if image.mode in ("P", "PA"):  # between two of its numbers lies no color
            image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
        elif image.mode == "1" or image.mode.startswith("I;16"):
            image = image.convert(image.mode[0].replace("1", "L"))
        image = _shrink(image)
    return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    if image.getexif().get(_ORIENTATION, 1) != 1:  # else it would only be copied
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16- and 32-bit gray: convert("RGB") would clip instead of scale
        pixels = np.asarray(image, dtype=np.float32)
        top = 65535.0 if image.mode.startswith("I") and pixels.max(initial=0) > 255 else max(pixels.max(initial=0), 1.0)
        image = Image.fromarray((pixels.clip(0, top) / top * 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


class _Decoding:
    """Pictures that the threads of a process are decoding."""

    def __init__(self) -> None:
        self.bytes, self.changed = 0, threading.Condition()


_decodings: dict[int, _Decoding] = {}  # by process: what other threads decode at a fork, they don't in the child


@contextmanager
def _decoding(cost: int) -> Iterator[None]:
    """Wait until what is being decoded and this fit into `DECODING_BYTES`, or nothing else is."""
    now = _decodings.setdefault(os.getpid(), _Decoding())
    with now.changed:
        now.changed.wait_for(lambda: not now.bytes or now.bytes + cost <= DECODING_BYTES)
        now.bytes += cost
    try:
        yield
    finally:
        with now.changed:
            now.bytes -= cost
            now.changed.notify_all()


def _read(path: Path) -> bytes:
    try:
        # Without waiting: a pipe would be opened only when somebody writes into it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ImageError(f"{path.name or path} is no regular file: a picture is read from nothing else.")
            if found.st_size > MAX_BYTES:
                raise ImageError(f"{path.name} has {found.st_size:,} bytes; the limit is {MAX_BYTES:,}.")
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImageError(f"picture file {path} does not exist.") from None
    except OSError as error:
        raise ImageError(f"picture file {path} can't be read: {error.strerror}.") from None
    except ImageError:
        raise
    except ValueError:  # a NUL, or half of a surrogate pair
        raise ImageError(f"picture file {str(path)!a} can't be read: that is no file name.") from None


class _Timed(io.RawIOBase):
    """What comes from a socket until a point in time, be it byte by byte."""

    def __init__(self, stream: Any, connection: socket.socket, end: float) -> None:
        self.stream, self.connection, self.end = stream, connection, end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"it took more than {DEADLINE_SECONDS} seconds")
        self.connection.settimeout(left)
        return self.stream.readinto(buffer)

    def close(self) -> None:
        self.stream.close()
        super().close()


def _open_url(url: str, end: float) -> Any:
    """Open an address, redirections followed; nothing is read from it after `end`."""

    def response(connection: socket.socket, *arguments: Any, **options: Any) -> http.client.HTTPResponse:
        made = http.client.HTTPResponse(connection, *arguments, **options)
        made.fp = io.BufferedReader(_Timed(made.fp.detach(), connection, end))
        return made

    def connect(kind: Any) -> Any:
        def make(host: str, **options: Any) -> http.client.HTTPConnection:
            made = kind(host, **options)
            made.response_class = response
            return made

        return make

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, request: Any) -> Any:
            return self.do_open(connect(http.client.HTTPConnection), request)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, request: Any) -> Any:
            secure = ssl.create_default_context()
            return self.do_open(connect(http.client.HTTPSConnection), request, context=secure)

    request = urllib.request.Request(url, headers={"User-Agent": "hfk"})
    return urllib.request.build_opener(Plain, Secure).open(request, timeout=max(0.1, end - time.monotonic()))


def _download(url: str) -> bytes:
    try:
        with _open_url(url, time.monotonic() + DEADLINE_SECONDS) as response:
            data = response.read(MAX_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ImageError(f"{url} can't be fetched: {reason}.") from None
    if len(data) > MAX_BYTES:
        raise ImageError(f"{url} has more than {MAX_BYTES:,} bytes.")
    return data
