"""Pictures made to break, fill or hold whoever opens them: each is a picture or one sentence, within bounds."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from hfk import Predictor
from hfk.models import image_preparation
from hfk.models.image_preparation import DECODING_BYTES, KEPT_PIXELS, MAX_PIXELS, ImageError, open_image
from tests import tiny
from tests.trust import hostile
from tests.trust.measure import least, taking

MANY = pytest.param(3_000, marks=pytest.mark.trust)


@pytest.fixture(scope="module")
def predictor(checkpoint) -> Predictor:
    return Predictor.from_pretrained(str(checkpoint))


@pytest.mark.parametrize("count", [200, MANY])
def test_every_picture_is_answered_or_refused_in_one_sentence(predictor, count):
    names, pictures = zip(*hostile.pictures(1, count), strict=True)
    answers = list(predictor([{"image": picture} for picture in pictures], heads="cat1"))
    assert len(answers) == count
    for name, answer in zip(names, answers, strict=True):
        if "error" in answer:
            assert answer["error"].startswith("the picture ") and "\n" not in answer["error"], name
    refused = {name for name, answer in zip(names, answers, strict=True) if "error" in answer}
    assert not refused & set(hostile.whole_pictures())
    assert set(hostile.bombs()) <= refused


def test_pictures_stay_in_their_places(predictor):
    """Each among others that can't be used is answered as alone."""
    whole = list(hostile.whole_pictures().values())
    mixed = [{"image": one} for picture in whole for one in (b"", picture, b"no picture")]
    answers = list(predictor(mixed, heads="cat1"))
    assert ["error" in answer for answer in answers] == [True, False, True] * len(whole)
    for picture, among in zip(whole, answers[1::3], strict=True):
        (alone,) = predictor([{"image": picture}], heads="cat1")
        assert among["cat1"][0]["score"] == pytest.approx(alone["cat1"][0]["score"], abs=1e-5)


@pytest.mark.trust
def test_a_picture_costs_fifty_milliseconds_and_fifty_megabytes(record_figures):
    """Beyond the model: opened, made small, and made the model's pixels."""
    processor, seconds, most = tiny.processor(None, "vit"), [], 0.0
    for _, picture in hostile.pictures(2, 3_000):

        def prepare(picture: bytes = picture) -> None:
            with contextlib.suppress(ImageError):
                processor.to_tensors([processor.settle(processor.prepare_row(image=picture))])

        taken = least(prepare)
        seconds.append(taken.seconds)
        most = max(most, taken.mb)
    record_figures("pictures", seconds, most)
    assert max(seconds) <= 0.075 and most <= 50  # half as much again is for neighbors


def encoded(form: str, size: tuple[int, int], mode: str = "RGB", **options) -> bytes:
    """A picture that is packed as photos are."""
    small = np.random.default_rng(0).integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BILINEAR).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def test_many_copies_of_a_small_file_that_fills_memory_are_refused(predictor):
    bomb = hostile.bombs()["flat png"]
    assert len(bomb) < 200_000
    with taking() as taken:
        answers = list(predictor([{"image": bomb}] * 32))
    assert all("packed more tightly than any photo" in answer["error"] for answer in answers)
    assert taken.mb < 50


def test_a_large_photo_comes_out_smaller_and_a_small_one_as_it_is():
    large, small = encoded("JPEG", (4000, 3000)), encoded("JPEG", (1400, 1000))
    with taking() as taken:
        opened = open_image(large)
    assert opened.size == (1000, 750) and taken.mb < 50
    assert opened.size[0] * opened.size[1] <= KEPT_PIXELS
    assert np.array_equal(np.asarray(open_image(small)), np.asarray(Image.open(io.BytesIO(small))))
    for form, mode, fast in (
        ("PNG", "RGB", {"compress_level": 1}),
        ("PNG", "P", {"compress_level": 1}),
        ("PNG", "1", {}),
        ("WEBP", "RGB", {"method": 0}),
        ("TIFF", "CMYK", {}),
    ):
        assert open_image(encoded(form, (2200, 1800), mode, **fast)).size == (1100, 900), (form, mode)


def test_a_box_is_cut_out_before_anything_is_made_smaller(tmp_path):
    (tmp_path / "large.jpg").write_bytes(encoded("JPEG", (4000, 3000)))
    whole = Image.open(tmp_path / "large.jpg")
    cut = open_image(f"{tmp_path}/large.jpg#xywh=1000,800,300,200")
    assert np.array_equal(np.asarray(cut), np.asarray(whole.crop((1000, 800, 1300, 1000))))


def test_a_shrunk_picture_is_answered_like_the_whole(predictor):
    large = encoded("JPEG", (4000, 3000))
    whole = Image.open(io.BytesIO(large)).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    seen = predictor.processor(images=[large])["pixel_values"]
    assert (seen - predictor.processor(images=[whole])["pixel_values"]).abs().max() < 0.1


def test_the_threads_of_a_process_decode_no_more_than_fits(monkeypatch):
    """Counted, not measured: bytes under way at any time."""
    under_way, most, lock, load = [0], [0], threading.Lock(), Image.Image.reduce
    each = 2600 * 2500 * 5

    def slow(image: Image.Image, *arguments):
        with lock:
            under_way[0] += each
            most[0] = max(most[0], under_way[0])
        time.sleep(0.01)
        with lock:
            under_way[0] -= each
        return load(image, *arguments)

    monkeypatch.setattr(Image.Image, "reduce", slow)
    picture = encoded("PNG", (2600, 2500), compress_level=1)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(open_image, [picture] * 4))) == 4
    assert each <= most[0] <= DECODING_BYTES


# ------------------------------------------------------------------------------------------------- what never ends


@pytest.fixture
def pipe(tmp_path) -> str:
    os.mkfifo(tmp_path / "photo.jpg")
    return str(tmp_path / "photo.jpg")


def test_only_regular_files_are_opened(pipe, tmp_path):
    for path in (pipe, "/dev/zero", str(tmp_path)):
        with pytest.raises(ImageError, match=r"no regular file|can't be read"):
            open_image(path)
    for name in ("a\0b.png", "\ud800.png"):
        with pytest.raises(ImageError, match="that is no file name"):
            open_image(name)
    (tmp_path / "link.png").symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="no regular file"):
        open_image(tmp_path / "link.png")


def test_what_is_larger_than_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(image_preparation, "MAX_BYTES", 1000)
    (tmp_path / "large.png").write_bytes(bytes(1001))
    for source in (tmp_path / "large.png", bytes(1001), {"bytes": bytes(1001), "path": None}):
        with pytest.raises(ImageError, match="the limit is 1,000"):
            open_image(source)


@pytest.fixture(params=["in the headers", "in the body", "in chunks", "before anything", "after redirections"])
def dripping(request) -> Iterator[str]:
    """The address of a server that sends a byte now and then, for ever."""
    starts = {
        "in the headers": b"HTTP/1.1 200 OK\r\nX: ",
        "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        "in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "before anything": b"",
        "after redirections": b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n",
    }
    done, threads = threading.Event(), []

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(10_000)
                connection.sendall(starts[request.param])
                while request.param != "after redirections" and not done.wait(0.02):
                    connection.sendall(b"1\r\n1\r\n" if request.param == "in chunks" else b"a")
            except OSError:
                pass

    def accept() -> None:
        while not done.is_set():
            try:
                threads.append(threading.Thread(target=drip, args=(server.accept()[0],), daemon=True))
            except OSError:
                return
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/photo.jpg"
        done.set()


def test_a_server_that_drips_is_given_up_in_time(dripping, monkeypatch):
    monkeypatch.setattr(image_preparation, "DEADLINE_SECONDS", 0.4)
    started = time.monotonic()
    with pytest.raises(ImageError, match="can't be fetched"):
        open_image(dripping)
    assert time.monotonic() - started < 5


def test_the_limit_of_pixels_stands(predictor):
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(ImageError, match="the limit is 50,000,000"):
        open_image(encoded("JPEG", (side, side), "L", quality=20))
