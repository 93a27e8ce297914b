"""What strangers send: texts and pictures made to break whoever reads them, drawn from a seed."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tests import tiny

MARKS = [chr(point) for point in (0x300, 0x301, 0x316, 0x323, 0x327, 0x344, 0x591, 0x5B0, 0x64B, 0xE38, 0xF73, 0x20D0)]
JAMO = [*map(chr, range(0x1100, 0x1113)), *map(chr, range(0x1161, 0x1176)), *map(chr, range(0x11A8, 0x11C3))]
BIDI = list("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
UNSEEN = list("\u200b\u200c\u200d\u2060\ufeff\u00ad\u3164\u115f\u180e\ufe0f\U000e0061\u2028\u2029\x85\xa0\u3000")
CONTROLS = [*map(chr, range(32)), "\x7f", "\x80", "\x9f"]
PRIVATE = ["\ue000", "\uf8ff", "\U000f0000", "\U0010fffd", "\uffff", "\ufdd0", "\U0001ffff", "\ufffd"]
EMOJI = ["👍🏽", "👨\u200d👩\u200d👧\u200d👦", "🏴\U000e0067\U000e0062\U000e007f", "🇰🇷", "🏖️", "1️⃣", "\u200d", "🇰", "🫠"]
WORDS = " ".join(tiny.SENTENCES).split()
MARKUP = [
    "<script>",
    "</script>",
    "<!--",
    "-->",
    "<b",
    "<a href='",
    "&lt;",
    "&#x110000;",
    "&#0;",
    "&amp;amp;",
    "&",
    "<",
    ">",
]
NUMBERS = ["9" * 400, "1e999", "-0", "1_000", "٣٤", "²", "½", "1,234,567", "0x1F", "&#" + "9" * 5000 + ";", "3.14" * 50]
FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3", "\t=1", "'=1", "＝1", '=HYPERLINK("http://x")']
STRUCTURE = [
    '{"text": "바다"}',
    "[[[[",
    '"',
    '""',
    "'",
    ",",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "␟",
    "\\",
    "\\ud800",
    "NULL",
    "NaN",
    "None",
]
WEB = ["http://" + "a." * 40, "www." * 20, "a@" + "b-" * 40 + ".kr", "https://user:pass@host/%00"]
SURROGATES = ["\ud800", "\udfff", "\udc80", "\ud83d"]
HANJA = ["美", "北", "金", "現代重", "靑", "豈", "\uf900", "𠀀"]
ALL = [MARKS, JAMO, BIDI, UNSEEN, CONTROLS, PRIVATE, EMOJI, WORDS, MARKUP, NUMBERS, FORMULAS, STRUCTURE, WEB, HANJA]


def texts(seed: int, count: int, surrogates: bool = True, longest: int = 150_000) -> Iterator[str]:
    """Draw hostile texts: mostly short, of one kind of letters or of all, one in fifty very long."""
    generator = random.Random(seed)
    kinds = [*ALL, SURROGATES] if surrogates else ALL
    for _ in range(count):
        letters = generator.choice(kinds) if generator.random() < 0.7 else [s for kind in kinds for s in kind]
        size = generator.randrange(40)
        if generator.random() < 0.02:
            size = generator.randrange(1000, longest)
            letters = generator.sample(letters, min(len(letters), generator.randint(1, 4)))
        parts = [generator.choice(letters) for _ in range(min(size, longest // min(map(len, letters))))]
        place = generator.choice([0, len(parts)])
        if generator.random() < 0.5:
            parts.insert(place, generator.choice(WORDS))
        yield generator.choice(["", " "]).join(parts)[:longest]


def _encode(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _png_header(width: int, height: int, color: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


@functools.cache
def whole_pictures() -> dict[str, bytes]:
    """Pictures that can be opened, one of every kind that is met."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA")
    plain, deep = image.convert("RGB"), Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [plain.rotate(90), plain.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    made: dict[str, bytes] = {
        form.lower(): _encode(plain, form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    }
    made |= {f"png {mode}": _encode(image.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGBA")}
    made |= {f"tiff {mode}": _encode(plain.convert(mode), "TIFF") for mode in ("1", "L", "P", "CMYK", "F", "I", "LAB")}
    made |= {f"tiff {kind}": _encode(plain, "TIFF", compression=kind) for kind in ("tiff_lzw", "jpeg", "packbits")}
    made |= {f"{form} frames".lower(): _encode(plain, form, **frames) for form in ("GIF", "WEBP", "PNG", "TIFF")}
    made |= {f"jpeg {turn}": _turned(plain, turn) for turn in range(9)}
    return made | {
        "cmyk": _encode(plain.convert("CMYK"), "JPEG"),
        "progressive": _encode(plain, "JPEG", progressive=True),
        "16 bit": _encode(deep, "PNG"),
        "16 bit tiff": _encode(deep, "TIFF"),
        "see-through palette": _encode(image.convert("P"), "PNG", transparency=3),
        "see-through color": _encode(plain, "PNG", transparency=(1, 2, 3)),
        "lossless": _encode(image, "WEBP", lossless=True),
        "one pixel": _encode(plain.crop((0, 0, 1, 1)), "PNG"),
        "one wide": _encode(plain.resize((5000, 1)), "PNG"),
        "one high": _encode(plain.resize((1, 5000)), "JPEG"),
        "flat progressive": _encode(Image.new("RGB", (2_400, 2_400)), "JPEG", progressive=True),
        "flat tiff": _encode(Image.new("RGB", (3_300, 3_000)), "TIFF", compression="tiff_lzw"),
        "ten megapixels": _encode(plain.resize((4000, 2500)), "JPEG", exif=exif),
        "eight megapixels of png": _encode(
            plain.resize((3200, 2500), Image.Resampling.NEAREST), "PNG", compress_level=1
        ),
    }


def _turned(image: Image.Image, turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    return _encode(image, "JPEG", exif=exif)


@functools.cache
def bombs() -> dict[str, bytes]:
    """Small files that want much memory, or claim to."""
    made = {f"header {width}×{height}": _png_header(width, height) for width, height in
            ((30_000, 30_000), (7_000, 7_000), (2**31 - 1, 1), (1, 2**31 - 1), (0, 5), (50_000, 1000))}  # fmt: skip
    made["flat png"] = _encode(Image.new("RGB", (7_000, 7_000)), "PNG")
    made["flat palette"] = _encode(Image.new("P", (3_300, 3_300)), "PNG")
    made["flat see-through"] = _encode(Image.new("RGBA", (3_300, 3_300)), "PNG")
    made["flat webp"] = _encode(Image.new("RGB", (2_000, 2_000)), "WEBP", method=0)
    made["beyond the limit"] = _encode(Image.new("1", (20_000, 20_000)), "PNG")
    gif = bytearray(_encode(Image.new("P", (8, 8)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    bmp = bytearray(_encode(Image.new("RGB", (8, 8)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 40_000, -40_000)
    return made | {"wide gif": bytes(gif), "wide bmp": bytes(bmp)}


def pictures(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Draw pictures with their kinds: whole ones, bombs, and whole ones that were cut, changed or joined."""
    generator = random.Random(seed)
    whole, large = whole_pictures(), bombs()
    small = {kind: data for kind, data in whole.items() if len(data) < 200_000}
    others = {"empty": b"", "zeros": bytes(100), "text": "글".encode(), "svg": b"<svg/>", "pdf": b"%PDF-1.7"}
    yield from list((whole | large | others).items())[:count]
    harms: list[Callable[[random.Random, bytes], bytes]] = [_cut, _flip, _flip, _splice, _zero, _double]
    for number in range(max(0, count - len(whole | large | others))):
        kind = generator.choice(list(small))
        harm = generator.choice(harms)
        yield f"{kind}{harm.__name__} {number}", harm(generator, small[kind])


def _cut(generator: random.Random, data: bytes) -> bytes:
    return data[: generator.randrange(len(data))]


def _flip(generator: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    reach = generator.choice([64, len(data)])  # headers are where it hurts
    for _ in range(generator.randint(1, 12)):
        changed[generator.randrange(min(reach, len(data)))] = generator.randrange(256)
    return bytes(changed)


def _splice(generator: random.Random, data: bytes) -> bytes:
    start, size = generator.randrange(len(data)), generator.randint(1, 64)
    return data[:start] + generator.randbytes(generator.choice([0, size])) + data[start + size :]


def _zero(generator: random.Random, data: bytes) -> bytes:
    start, size = generator.randrange(len(data)), generator.randint(1, 200)
    return (data[:start] + bytes(size) + data[start + size :])[: len(data)]


def _double(generator: random.Random, data: bytes) -> bytes:
    start = generator.randrange(len(data))
    return data[:start] + data[: generator.randrange(len(data))] + data[start:]
