"""Opening pictures from anywhere, safely: size is checked before a single pixel is decoded.

Whatever a table or a user hands over comes out as an upright RGB picture, or as one `ImageError` that says what is
wrong. A path may end in a box, `photo.jpg#xywh=160,120,320,240` as in W3C Media Fragments, or `#xyxy=160,120,480,360`:
what is outside is cut off. Resizing and normalizing are left to the vision encoder's own transformers image processor.
"""

from __future__ import annotations

import http.client
import io
import math
import os
import re
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
URL_TIMEOUT_SECONDS = 10
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
            image. Of an animation, the first frame is taken; transparency is laid over white; 16-bit grey is scaled to
            8 bits; the EXIF orientation is applied. A box at the end of a path or URL, in pixels of the upright
            picture, is cut out; it ends where the picture does.

    Raises:
        ImageError: if it is missing, empty, too large, of an unknown format, or damaged.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source, "the picture")
    name, data, box = _fetch(source)
    with _decoding(name, data) as image:
        return _crop(_to_rgb(image, name), box, name)


def glance(source: Any, side: int) -> tuple[bytes, Image.Image]:
    """Refuse what `open_image` refuses, for less: JPEG is decoded at a fraction of its size, of `side` pixels or more.

    Returns the bytes of the file, and the whole picture, upright RGB; a box is checked and not cut out.
    """
    name, data, box = _fetch(source)
    with _decoding(name, data) as image:
        _check_size(image, name)
        size = image.size[::-1] if image.getexif().get(_ORIENTATION, 1) >= 5 else image.size
        image.draft("RGB", (side, side))
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
    return name, data, box


@contextmanager
def _decoding(name: str, data: bytes) -> Iterator[Image.Image]:
    """Open a file; whatever the decoder raises, then or later, becomes one sentence."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of decompression bombs at its own, higher limit; ours is checked before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                yield image
    except Image.DecompressionBombError:
        raise ImageError(f"{name} claims a size far above the limit of {MAX_PIXELS:,} pixels.") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not a picture in a known format ({', '.join(FORMATS)}).") from None
    except ImageError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{name} is damaged or cut short: {error}.") from None


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


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} has {width}×{height} pixels; the limit is {MAX_PIXELS:,}. Make it smaller.")
    if min(width, height) < 1:
        raise ImageError(f"{name} has {width}×{height} pixels: there is nothing to see.")


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    _check_size(image, name)
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16- and 32-bit grey: convert("RGB") would clip instead of scale
        pixels = np.asarray(image, dtype=np.float32)
        top = 65535.0 if image.mode.startswith("I") and pixels.max(initial=0) > 255 else max(pixels.max(initial=0), 1.0)
        image = Image.fromarray((pixels.clip(0, top) / top * 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"{path.name} has {path.stat().st_size:,} bytes; the limit is {MAX_BYTES:,}.")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"picture file {path} does not exist.") from None
    except OSError as error:
        raise ImageError(f"picture file {path} can't be read: {error.strerror}.") from None


def _download(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "hfk"})
    try:
        with urllib.request.urlopen(request, timeout=URL_TIMEOUT_SECONDS) as response:
            data = response.read(MAX_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ImageError(f"{url} can't be fetched: {error}.") from None
    if len(data) > MAX_BYTES:
        raise ImageError(f"{url} has more than {MAX_BYTES:,} bytes.")
    return data
