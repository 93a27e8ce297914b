"""The Space's API by the real gradio_client: what it answers, and how it bears whatever it is sent."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.spaces.conftest import HOSTILE, STUDIO, Served
from tests.spaces.test_uploads import make_zip, png, sheet

gradio_client = pytest.importorskip("gradio_client")
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

pytestmark = pytest.mark.slow  # the app takes its time to start
SEA = "동해의 해 뜨는 모습이 아름다운 바닷가다. 고운 모래밭이 이어진다."


@pytest.fixture(scope="module")
def client(studio: Served) -> Client:
    return Client(studio.url, verbose=False)


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.new("RGB", (120, 80), "skyblue").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def read(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_the_checkpoints_that_come_along_are_all_ready(studio):
    for name in ("tour-tiny", "tour-tiny-text", "headlines", "odd"):
        assert f"{name}: ready" in studio.log
    assert list((studio.space / "hfk" / "models").rglob("*.pyc")), "hfk is the one that came along"


def test_endpoints_have_names_and_types(client):
    api = client.view_api(return_format="dict", print_info=False)
    names = {"/classify", "/hashtags", "/explain", "/compare", "/batch", "/report", "/feedback", "/translate"}
    assert set(api["named_endpoints"]) == names
    assert not api["unnamed_endpoints"]
    for endpoint in api["named_endpoints"].values():
        assert endpoint["description"]
        assert all(parameter["python_type"]["type"] for parameter in endpoint["parameters"])


def test_what_the_readme_shows_runs(studio, tmp_path, monkeypatch, photo):
    text = (STUDIO / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    Image.open(photo).save(tmp_path / "photo.jpg")
    (tmp_path / "places.csv").write_text(f"overview\n{SEA}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code.replace("http://127.0.0.1:7860/", studio.url), names)
    assert len(names["answers"]) == 2 and names["counts"] == {"rows": 1, "done": 1, "errors": 0}
    assert names["noted"]["changes"] and names["report"]["metrics"]
    assert "#남해바다" in names["tags"]["hashtags"] and names["why"]["head"] == "cat3"


def test_text_picture_and_both(client, photo):
    for text, image in ((SEA, None), ("", handle_file(photo)), (SEA, handle_file(photo))):
        answer = client.predict(text, image, "tour-tiny", 2, 0.5, api_name="/classify")
        assert list(answer["heads"]) == ["cat1", "cat2", "cat3"]
        path = answer["heads"]["cat3"]["path"]
        assert path == [answer["heads"][head]["label"] for head in answer["heads"]]
        assert all(len(head["top"]) == 2 for head in answer["heads"].values())
        assert answer["read"] == ["text"] * bool(text) + ["image"] * bool(image)
    assert answer["milliseconds"] < 1000


def test_a_text_is_all_that_must_be_said(client, studio):
    """And the page of the API, which says so, opens."""
    answer = client.predict("코스피 사상 최고치", checkpoint="headlines", api_name="/classify")
    assert answer["heads"]["topic"]["label"] == "경제" and not answer["outside"]
    assert client.predict("asdf 12345", checkpoint="headlines", api_name="/classify")["outside"]
    assert client.predict(SEA, checkpoint="tour-tiny", api_name="/classify")["paths"]["cat3"][0]["labels"]["cat1"]
    for endpoint in ("/hashtags", "/explain"):
        assert client.predict(SEA, checkpoint="tour-tiny", api_name=endpoint)
    with urllib.request.urlopen(f"{studio.url}gradio_api/info") as page:
        assert json.load(page)["named_endpoints"]["/classify"]["parameters"][1]["parameter_has_default"]


def test_an_agent_is_offered_the_endpoints_and_told_what_they_are_for(studio):
    mcp = pytest.importorskip("mcp", reason='needs pip install "hfk[space]"')
    from mcp.client.streamable_http import streamablehttp_client

    async def talk() -> tuple[dict, str]:
        async with (
            streamablehttp_client(f"{studio.url}gradio_api/mcp/") as (read, write, _),
            mcp.ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            said = await session.call_tool("classify", {"text": "코스피 사상 최고치", "checkpoint": "headlines"})
            return tools, said.content[0].text

    tools, said = asyncio.run(talk())
    assert {"classify", "hashtags", "explain", "compare", "batch", "report", "feedback"} <= set(tools)
    assert "headlines: Reads a Korean news headline" in tools["classify"].description
    assert tools["classify"].inputSchema["required"] == ["text"] and "'label': '경제'" in said


def test_the_threshold_says_what_is_uncertain(client):
    for threshold, uncertain in ((0.0, False), (1.0, True)):
        answer = client.predict(SEA, None, "tour-tiny", 3, threshold, api_name="/classify")
        assert answer["heads"]["cat3"]["uncertain"] is uncertain


def test_every_kind_of_head(client, photo):
    answer = client.predict(SEA, handle_file(photo), "odd", 3, 0.5, api_name="/classify")["heads"]
    assert answer["<b>tags</b>"]["problem"] == "multi_label" and len(answer["<b>tags</b>"]["top"]) == 3
    assert isinstance(answer["price"]["value"], float)
    everything = client.predict(SEA, None, "odd", 1, 0.0, api_name="/classify")["heads"]["<b>tags</b>"]
    assert len(everything["labels"]) == 3


def test_compare_gives_each_checkpoint_its_answer_or_error(client, photo):
    answers = client.predict("", handle_file(photo), ["tour-tiny", "headlines"], api_name="/compare")
    assert answers[0]["heads"]["cat1"] and "text only" in answers[1]["error"]


def test_hashtags(client, photo):
    made = client.predict(SEA, None, "tour-tiny", 3, api_name="/hashtags")
    assert made["text"].split() == made["hashtags"] and len(made["keywords"]) == 3
    assert all(tag.startswith("#") for tag in made["hashtags"])
    by_photo = client.predict("", handle_file(photo), "tour-tiny", api_name="/hashtags")
    assert by_photo["keywords"] == []
    with pytest.raises(AppError, match="nothing to classify"):
        client.predict("", None, "tour-tiny", api_name="/hashtags")


def test_why(client, photo):
    answer = client.predict(SEA, handle_file(photo), "tour-tiny", api_name="/classify")["heads"]
    for head in answer:
        why = client.predict(SEA, handle_file(photo), "tour-tiny", head, api_name="/explain")
        assert why["head"] == head and why["label"] == answer[head]["label"]
        assert [word["word"] for word in why["words"]] == SEA.split()
        parts = why["by_text"] + why["by_image"] + why["error"]
        assert why["baseline"] + parts == pytest.approx(why["value"], abs=1e-3)
        assert why["heat_map"].startswith("data:image/png;base64,")
    number = client.predict(SEA, None, "odd", "price", api_name="/explain")
    assert number["label"] is None and number["heat_map"] is None
    with pytest.raises(AppError, match="no such head"):
        client.predict(SEA, None, "tour-tiny", "cat9", api_name="/explain")
    with pytest.raises(AppError, match="nothing to classify"):
        client.predict("\x00", None, "tour-tiny", "cat1", api_name="/explain")


def test_answers_do_not_wait_for_reasons(client, studio):
    """While reasons are asked for, one after the other, and hashtags of a long text, an answer comes and is right."""
    expected = client.predict(SEA, None, "tour-tiny", api_name="/classify")["heads"]
    other = Client(studio.url, verbose=False)
    jobs = [other.submit(SEA, None, "tour-tiny", "cat3", api_name="/explain") for _ in range(6)]
    jobs += [other.submit(SEA * 60, None, "tour-tiny", api_name="/hashtags") for _ in range(2)]
    assert client.predict(SEA, None, "tour-tiny", api_name="/classify")["heads"] == expected
    assert any(not job.done() for job in jobs), "the answer came after all reasons"
    scores = {tuple(word["score"] for word in job.result(timeout=120)["words"]) for job in jobs[:6]}
    assert len(scores) == 1


def test_a_sentence_in_every_region(client):
    made = client.predict("점심에 수제비 뭇나?", api_name="/translate")
    assert made["source"] == "gyeongsang" and made["translations"]["standard"] == "점심에 수제비 먹었니?"
    assert sum(made["shares"].values()) == pytest.approx(1, abs=0.01)
    with pytest.raises(AppError, match="no such region"):
        client.predict("점심", "moon", api_name="/translate")


def test_report(client, studio):
    found = client.predict("tour-tiny", api_name="/report")
    assert found["metrics"]["scores"]["cat1_accuracy"] > 0.5
    assert sum(found["data"]["labels"]["cat1"].values()) == 368
    assert client.predict("headlines", api_name="/report")["metrics"]["scores"]["topic_accuracy"] > 0.85


@pytest.mark.parametrize(
    ("text", "checkpoint", "sentence"),
    [
        ("", "tour-tiny", "nothing to classify"),
        (" \n\x00 ", "tour-tiny", "nothing to classify"),
        ("", "tour-tiny-text", "nothing to classify"),
        ("글", "nobody", "nobody"),
    ],
)
def test_nothing_to_go_by_is_one_sentence(client, text, checkpoint, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(text, None, checkpoint, api_name="/classify")


def test_a_megabyte_of_text_is_cut_and_answered(client):
    for text in ("가나다라마 " * 180_000, "가" * 1_000_000):
        answer = client.predict(text, None, api_name="/classify")
        assert 0 < answer["read_share"] < 0.05 and answer["milliseconds"] < 2000


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("page.png", b"<html><script>alert(1)</script></html>", "not a picture in a known format"),
        ("drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a picture in a known format"),
        ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a picture in a known format"),
        ("cut.png", png()[:40], "damaged|known format"),
        ("empty.png", b"", "empty"),
    ],
)
def test_what_is_no_picture_is_said_to_be_none(client, tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError, match=sentence):
        client.predict(SEA, handle_file(tmp_path / name), api_name="/classify")


def test_a_picture_bomb_is_refused_before_it_is_decoded(client, tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(AppError, match="limit"):
        client.predict(SEA, handle_file(tmp_path / "bomb.png"), api_name="/classify")


def post(url: str, data: object) -> str:
    request = urllib.request.Request(url, json.dumps(data).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read().decode()


@pytest.mark.parametrize(
    "image",
    [
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        {"path": "http://127.0.0.1:9/x.png", "meta": {"_type": "gradio.FileData"}},
        {"path": "https://example.org/x.png", "url": "https://example.org/x.png", "meta": {"_type": "gradio.FileData"}},
    ],
    ids=["file of the server", "loopback address", "address"],
)
def test_a_picture_that_was_not_uploaded_is_not_opened(studio, image):
    event = json.loads(post(f"{studio.url}gradio_api/call/classify", {"data": [SEA, image, "tour-tiny", 3, 0.5]}))[
        "event_id"
    ]
    with urllib.request.urlopen(f"{studio.url}gradio_api/call/classify/{event}", timeout=30) as response:
        answer = response.read().decode()
    assert "event: error" in answer and "heads" not in answer and "root:" not in answer


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../../etc/passwd", "app.py", "studio.css", "checkpoints/tour-tiny/config.json"]
)
def test_files_of_the_server_are_not_served(studio, path):
    for asked in (path, str(studio.space / path)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{studio.url}gradio_api/file={asked}", timeout=20)
        assert caught.value.code in (403, 404)


def test_an_upload_beyond_the_limit_is_refused(studio):
    boundary = "x" * 20
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\n\r\n'.encode()
    body = head + bytes(51_000_000) + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with pytest.raises((urllib.error.HTTPError, urllib.error.URLError, ConnectionError)) as caught:
        urllib.request.urlopen(urllib.request.Request(f"{studio.url}gradio_api/upload", body, kind), timeout=60)
    if isinstance(caught.value, urllib.error.HTTPError):
        assert caught.value.code == 413


# ------------------------------------------------------------------------------------------------------------- batch


def test_a_table_comes_back_whole_with_its_bad_rows_marked(client, tmp_path):
    table = tmp_path / "places.csv"
    table.write_text(f"id,overview,메모\n1,{SEA},=1+1\n2,,@x\n3,한식당,-5\n=4,{SEA},\n", encoding="utf-8")
    file, counts = client.predict(handle_file(table), "tour-tiny", [], api_name="/batch")
    assert counts == {"rows": 4, "done": 4, "errors": 1}
    assert Path(file).read_bytes().startswith(b"\xef\xbb\xbf")  # Excel then reads it as UTF-8
    rows = read(file)
    assert [row["id"] for row in rows] == ["1", "2", "3", "'=4"]
    assert [row["메모"] for row in rows] == ["'=1+1", "'@x", "-5", ""]
    assert "no text" in rows[1]["error"] and not rows[1]["cat1_pred"]
    assert rows[0]["cat3_pred"] and float(rows[0]["cat3_score"]) > 0 and rows[0]["cat1_pred"] == rows[3]["cat1_pred"]


def test_what_the_page_wrote_can_be_answered_again(client, tmp_path):
    table = tmp_path / "places.csv"
    table.write_text(f"overview\n{SEA}\n\n", encoding="utf-8")
    file, _ = client.predict(handle_file(table), "tour-tiny", [], api_name="/batch")
    again, counts = client.predict(handle_file(file), "tour-tiny", [], api_name="/batch")
    assert counts["rows"] == counts["done"] and read(again)[0] == read(file)[0]


def test_labels_are_escaped_in_the_download_too(client, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("text\n" + "\n".join(f"바다 {n}" for n in range(40)), encoding="utf-8")
    file, _ = client.predict(handle_file(table), "odd", [], api_name="/batch")
    rows = read(file)
    assert len(rows) == 40
    assert not [cell for row in rows for cell in row.values() if cell.startswith("=")]


def test_a_sheet_and_other_column_names(client, tmp_path):
    path = sheet(tmp_path / "places.xlsx", [["이름", "설명"], ["가", SEA], ["나", None], ["다", "한식당"]])
    with pytest.raises(AppError, match="이름, 설명"):
        client.predict(handle_file(path), "tour-tiny", [], api_name="/batch")
    file, counts = client.predict(handle_file(path), "tour-tiny", ["설명"], api_name="/batch")
    assert counts["errors"] == 1 and [row["이름"] for row in read(file)] == ["가", "나", "다"]


def test_a_table_cannot_name_pictures_of_the_server(client, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(f"overview,image\n{SEA},/etc/passwd\n,/etc/hostname\n,http://127.0.0.1:9/\n", encoding="utf-8")
    file, counts = client.predict(handle_file(table), "tour-tiny", [], api_name="/batch")
    rows = read(file)
    assert counts["errors"] == 2 and all("there is no text" in row["error"] for row in rows[1:])
    assert rows[0]["cat1_pred"] and "passwd" not in rows[0]["error"]


def test_a_zip_of_photos(client, tmp_path):
    entries = {
        "바다.png": png("blue"),
        "../up.png": png(),
        "note.txt": b"hello",
        "=x.png": png(),
        "page.png": b"<svg/>",
    }
    file, counts = client.predict(
        handle_file(make_zip(tmp_path / "p.zip", entries)), "tour-tiny", [], api_name="/batch"
    )
    rows = read(file)
    assert counts == {"rows": 5, "done": 5, "errors": 2}
    assert [row["file"] for row in rows] == ["바다.png", "../up.png", "note.txt", "'=x.png", "page.png"]
    assert [bool(row["error"]) for row in rows] == [False, False, True, False, True]
    assert rows[2]["error"].startswith("the picture is not a picture")
    assert "image" not in rows[0]


def test_a_bomb_in_a_zip_is_refused(client, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.png", bytes(19_000_000))
    with pytest.raises(AppError, match="unpack to more than"):
        client.predict(handle_file(tmp_path / "bomb.zip"), "tour-tiny", [], api_name="/batch")


@pytest.mark.parametrize(
    ("checkpoint", "name"), [("tour-tiny-text", "p.zip"), ("tour-tiny", "a.exe"), ("tour-tiny", None)]
)
def test_files_that_do_not_fit_are_one_sentence(client, tmp_path, checkpoint, name):
    path = make_zip(tmp_path / name, {"a.png": png()}) if name else None
    with pytest.raises(AppError, match=r"reads text only|none of \.csv|Upload a file"):
        client.predict(handle_file(path) if path else None, checkpoint, [], api_name="/batch")


# ---------------------------------------------------------------------------------------------------- many at a time


def test_sixty_four_at_once_all_get_an_answer(studio):
    """Asked over HTTP: threads that share one of gradio's clients cancel each other's last answers."""
    call = f"{studio.url}gradio_api/call/classify"

    def ask(number: int) -> dict:
        with httpx.Client(timeout=120) as http:  # others may be using the cores
            event = http.post(call, json={"data": [f"{SEA} {number}", None, "tour-tiny", 3, 0.5]}).json()["event_id"]
            stream = http.get(f"{call}/{event}").text
        assert "event: complete" in stream, stream
        return json.loads(stream.rpartition("data: ")[2])[0]

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, range(64)))
    assert all(answer["heads"]["cat3"]["label"] for answer in answers)


def test_a_visitor_who_leaves_takes_the_batch_along(client, studio, tmp_path):
    long, short = tmp_path / "long.csv", tmp_path / "short.csv"
    long.write_text("overview\n" + f"{SEA * 60}\n" * 4000, encoding="utf-8")
    short.write_text(f"overview\n{SEA}\n", encoding="utf-8")
    code = f"""
        import time
        from gradio_client import Client, handle_file
        client = Client({studio.url!r}, verbose=False)
        job = client.submit(handle_file({str(long)!r}), "tour-tiny", [], api_name="/batch")
        while not job.outputs():
            time.sleep(0.05)
        print("begun", flush=True)
        job.result()
        print("done", flush=True)
    """
    others = set(studio.scratch.rglob("hfk-batch-*"))  # of another worker's visitors
    visitor = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert visitor.stdout.readline() == "begun\n"
    (own,) = set(studio.scratch.rglob("hfk-batch-*")) - others
    visitor.kill()
    started = time.perf_counter()
    _, counts = client.predict(handle_file(short), "tour-tiny", [], api_name="/batch")
    assert counts["rows"] == 1
    assert time.perf_counter() - started < 10, "the batch of the one who left went on"
    while own.exists():
        time.sleep(0.05)
        assert time.perf_counter() - started < 20, "its folder stayed"


# ---------------------------------------------------------------------------------------------- feedback and damage


def test_feedback_is_written_with_the_hierarchy(client, studio):
    given = client.predict(SEA, None, "tour-tiny", api_name="/classify")["heads"]
    right = "한식" if given["cat3"]["label"] != "한식" else "산"
    done = client.predict(SEA, None, "tour-tiny", "cat3", right, "시험", False, api_name="/feedback")
    assert done["changes"][0] == {"head": "cat3", "from": given["cat3"]["label"], "to": right}
    with open(Path(studio.folder, "feedback", "corrections.csv"), encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["id"] == done["id"]]
    assert [(row["head"], row["to"]) for row in rows] == [(c["head"], c["to"]) for c in done["changes"]]
    assert SEA not in str(rows)
    with pytest.raises(AppError, match="not a label of this head"):
        client.predict(SEA, None, "tour-tiny", "cat3", HOSTILE, "", False, api_name="/feedback")


def test_a_damaged_checkpoint_is_named_and_the_page_comes_up(studio):
    with urllib.request.urlopen(studio.url, timeout=30) as response:
        page = response.read().decode()
    assert "damaged" in page and "not whole" in page
    assert f"{studio.folder}/damaged" not in page
    assert "Traceback" not in studio.log.split("ready:")[0]


def test_hostile_labels_reach_the_page_escaped_only(studio):
    with urllib.request.urlopen(studio.url, timeout=30) as response:
        assert HOSTILE not in response.read().decode()
