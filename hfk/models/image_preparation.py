"""Opening pictures from anywhere, safely: size is checked before a single pixel is decoded.

Whatever a table or a user hands over comes out as an upright RGB picture, or as one `ImageError` that says what is
wrong. Resizing and normalizing are left to the vision encoder's own transformers image processor.
"""

from __future__ import annotations

import http.client
import io
import os
import urllib.request
import warnings
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


class ImageError(ValueError):
    """A picture that can't be used; the message is one sentence that says why."""


def open_image(source: Any) -> Image.Image:
    """Open a picture as upright RGB.

    Args:
        source: path, `http(s)://` URL, bytes, `{"bytes": …, "path": …}` as in a `datasets` image column, or a PIL
            image. Of an animation, the first frame is taken; transparency is laid over white; 16-bit grey is scaled to
            8 bits; the EXIF orientation is applied.

    Raises:
        ImageError: if it is missing, empty, too large, of an unknown format, or damaged.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source, "the picture")
    if isinstance(source, dict):
        source = source.get("bytes") if source.get("bytes") is not None else source.get("path")
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        name, data = source, _download(source)
    elif isinstance(source, str | os.PathLike):
        name, data = Path(source).name, _read(Path(source))
    elif isinstance(source, bytes | bytearray | memoryview):
        name, data = "the picture", bytes(source)
    else:
        raise ImageError(f"a picture must be a path, URL, bytes or PIL image, not {type(source).__name__}.")
    if not data:
        raise ImageError(f"{name} is empty (0 bytes).")
    try:
        with warnings.catch_warnings():
            # Pillow warns of decompression bombs at its own, higher limit; ours is checked below, before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _to_rgb(image, name)
    except Image.DecompressionBombError:
        raise ImageError(f"{name} claims a size far above the limit of {MAX_PIXELS:,} pixels.") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not a picture in a known format ({', '.join(FORMATS)}).") from None
    except ImageError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{name} is damaged or cut short: {error}.") from None


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} has {width}×{height} pixels; the limit is {MAX_PIXELS:,}. Make it smaller.")
    if min(width, height) < 1:
        raise ImageError(f"{name} has {width}×{height} pixels: there is nothing to see.")
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
