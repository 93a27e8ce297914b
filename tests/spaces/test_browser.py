"""Every tab used as a person would, in a real Chromium: both languages, wide and 390 pixels narrow, light and dark.

Two of the four looks are walked through, which have each language, width and scheme once. With `HFK_SCREENSHOTS`, a
folder, it is all four, and screenshots go there. The browser is the system's; without it, or without playwright, the
tests are skipped. Pages of one look share what the browser has fetched.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.spaces.conftest import HOSTILE
from tests.spaces.test_uploads import make_zip, png

sync_api = pytest.importorskip("playwright.sync_api", reason='browser tests need playwright: pip install "hfk[dev]"')
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason='they need axe: pip install "hfk[dev]"')

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="browser tests need a browser: apt-get install chromium fonts-nanum"),
]
SCREENSHOTS = os.environ.get("HFK_SCREENSHOTS")
TABS = {
    "ko": ("분류", "비교", "여러 건", "데이터와 성적", "의견", "사투리"),
    "en": ("Classify", "Compare", "Batch", "Data & report", "Feedback", "Dialect"),
}
LOOKS = [("ko", 1280, "light"), ("en", 390, "dark")]
LOOKS += [("en", 1280, "dark"), ("ko", 390, "light")] if SCREENSHOTS else []
PHOTO = "[data-testid=image] img"  # the photo's box, once it is there
SERIOUS = {"resultTypes": ["violations"]}
SEA = "동해의 해 뜨는 모습이 아름다운 바닷가다."


class Visitor:
    """A person with a browser, who notices what a page should not do."""

    def __init__(self, page, url: str, language: str, width: int, name: str) -> None:
        self.page, self.url, self.language, self.width, self.name = page, url, language, width, name
        self.complaints: list[str] = []
        page.set_default_timeout(30_000)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self.watch)
        page.goto(url)
        page.wait_for_selector("#classify")
        page.wait_for_function("document.documentElement.lang === " + repr(language))

    def watch(self, request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"asked {request.url}")

    def open(self, place: int) -> None:
        name = TABS[self.language][place]
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if not (tab.count() and tab.first.is_visible()):  # behind the three dots on a narrow screen
            self.page.locator(".overflow-menu > button").first.click()
            tab = self.page.locator(".overflow-dropdown button", has_text=name)
        tab.first.click()

    def upload(self, selector: str, file: Path, shown: str) -> None:
        """Give a file to an upload box, and wait until it is there."""
        self.page.locator(selector).first.set_input_files(file)
        self.page.wait_for_selector(shown)

    def choose(self, checkpoint: str) -> None:
        self.page.locator("input[aria-label='모델']:visible").first.click()
        self.page.get_by_role("option", name=checkpoint, exact=True).click()

    def look(self, what: str) -> None:
        """Take a picture; the page must be no wider than the screen, and nothing may have gone wrong."""
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(SCREENSHOTS) / f"{self.name}-{what}.png", full_page=True)
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.width, f"{what} is too wide"
        assert not self.complaints, self.complaints

    def inspect(self, what: str) -> None:
        """Look, once what moves has come to rest; the page must have no serious accessibility fault."""
        self.page.wait_for_function("document.getAnimations().every(a => a.playState !== 'running')")
        self.look(what)
        found = axe.Axe().run(self.page, options=SERIOUS).response["violations"]
        assert not [(f["id"], f["nodes"][0]["target"]) for f in found if f["impact"] in ("serious", "critical")], what

    def text_of(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as play:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        yield play.chromium.launch(executable_path=CHROMIUM, args=options)


@pytest.fixture(scope="module")
def contexts() -> dict:
    """Language, width and scheme → the browser's profile."""
    return {}


@pytest.fixture
def visit(browser, contexts, studio):
    pages = []

    def make(language: str = "ko", width: int = 1280, scheme: str = "light", name: str = "") -> Visitor:
        look = f"{language}-{width}-{scheme}"
        if look not in contexts:
            locale = {"ko": "ko-KR", "en": "en-US"}[language]
            size = {"width": width, "height": 900}
            contexts[look] = browser.new_context(locale=locale, viewport=size, color_scheme=scheme)
        pages.append(contexts[look].new_page())
        return Visitor(pages[-1], studio.url, language, width, name or look)

    yield make
    for page in pages:
        page.evaluate("localStorage.clear()")
        page.close()


@pytest.mark.parametrize(("language", "width", "scheme"), LOOKS, ids=lambda value: str(value))
def test_every_tab(visit, tmp_path, language, width, scheme):
    visitor = visit(language, width, scheme)
    page, korean = visitor.page, language == "ko"
    visitor.look("0-start")

    page.locator(".examples button:visible").first.click()  # classify an example
    page.wait_for_selector("#answer .panel")
    assert page.locator("#answer .panel:visible").count() == 1  # a path, not a card a head
    assert visitor.text_of("#answer .path > h3").startswith(
        "분류 › 세부 › 종류" if korean else "category › subcategory"
    )
    assert visitor.text_of("#answer .path > .crumbs").split("\n") == ["자연", "자연관광지", "해수욕장"]
    if width < 700:  # the answer came into sight
        page.wait_for_function("document.querySelector('#answer').getBoundingClientRect().top < innerHeight / 2")
    page.locator("#answer .each summary").click()
    assert page.locator("#answer .each .panel:visible").count() == 3
    assert ("걸린 시간" if korean else "Took") in visitor.text_of("#answer .facts")
    page.wait_for_selector("#tags .tag")
    assert all(tag.startswith("#") for tag in page.locator("#tags .tag").all_inner_texts())
    visitor.look("1-classify")

    page.click("#why")  # and why
    page.wait_for_selector("#reasons .why .w")
    words, text = visitor.text_of("#reasons .why"), page.locator("textarea:visible").first.input_value()
    assert all(word in words for word in text.split())
    assert page.locator("#reasons .why .notable sub").count() == page.locator("#reasons .why .notable").count() > 0
    assert page.locator("#reasons figure img[alt]").count() == 1
    assert ("왜?" if korean else "why") in visitor.text_of("#reasons h3")
    visitor.inspect("7-why")

    page.click("#wrong")  # say that it is wrong
    page.wait_for_selector("#which input")
    page.click("#right input")
    page.get_by_role("option", name="음식 › 음식점 › 한식").click()
    visitor.look("5-feedback")
    page.click("#send")
    page.wait_for_selector("#outcome .note.good")
    assert page.locator("#outcome li").count() == 3
    visitor.inspect("6-feedback-sent")

    visitor.open(1)  # compare
    page.locator("textarea:visible").first.fill("직접 담근 장으로 끓인 된장찌개가 이름난 한식당이다.")
    page.click("#compare")
    page.wait_for_selector("#compared .panel")
    assert page.locator("#compared .column").count() == 2 == page.locator("#compared .path").count()
    visitor.inspect("2-compare")

    visitor.open(2)  # a table
    table = tmp_path / "places.csv"
    table.write_text(f"id,설명,메모\n1,{SEA},=1+1\n2,,빈 글\n3,<script>alert(1)</script> 한식당,-5\n", encoding="utf-8")
    visitor.upload("#upload input[type=file]", table, "#upload .file-preview")
    page.click("#start")
    page.wait_for_selector("#progress .note")  # which column is the text in?
    page.get_by_label("글이 있는 열" if korean else "Text columns").click()
    page.get_by_role("option", name="설명").click()
    page.keyboard.press("Escape")
    page.click("#start")
    page.wait_for_selector("#progress table")
    assert page.locator("#progress tbody tr").count() == 3 and page.locator("#progress tr.bad").count() == 1
    assert sum(map(int, page.locator("#progress .summary .value").all_inner_texts())) == 2
    with page.expect_download() as download:
        page.locator("#workbook").click()
    assert download.value.suggested_filename == "places_tour-tiny.xlsx"
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "places_tour-tiny.csv"
    assert Path(download.value.path()).read_text(encoding="utf-8-sig").count("'=1+1") == 1
    visitor.inspect("3-batch")

    visitor.open(3)  # scores and data
    page.wait_for_selector("#report figure img")
    assert page.locator("#report figure").count() == 7
    assert page.locator("#report img:not([alt]), #report img[alt='']").count() == 0
    page.locator("#report figure").first.click()
    page.wait_for_selector("#report figure.large")
    page.keyboard.press("Escape")
    assert page.locator("#report figure.large").count() == 0
    visitor.inspect("4-report")

    visitor.open(5)  # a sentence in every region
    page.locator("#dialect-text textarea").fill("점심에 수제비 뭇나?")
    page.click("#translate")
    page.wait_for_selector("#translated .region")
    first = page.locator("#translated .region").first
    assert ("경상" if korean else "Gyeongsang") in first.inner_text() and first.locator("mark").count() == 0
    assert "먹었니" in page.locator("[aria-label=standard] mark").inner_text()
    visitor.inspect("8-dialect")


def test_hashtags_and_reasons_go_with_their_answer(visit):
    visitor = visit(name="asides")
    page = visitor.page
    assert not page.locator("#why").is_visible()
    page.locator("textarea:visible").first.fill(f"{SEA} 남해 바다의 일출 명소다.")
    page.click("#classify")
    page.wait_for_selector("#tags .tag")
    assert "#남해바다" in visitor.text_of("#tags")
    page.click("#why-head input")
    page.get_by_role("option", name="분류 · category").click()
    page.click("#why")
    page.wait_for_selector("#reasons .why")
    assert "cat1" in visitor.text_of("#reasons h3") and page.locator("#reasons figure").count() == 0
    page.locator("textarea:visible").first.fill("")
    page.click("#classify")  # the next question, which can't be answered
    page.wait_for_selector("#answer .note")
    assert page.locator("#tags .tag, #reasons .why").count() == 0 and not page.locator("#why").is_visible()


def test_the_language_can_be_changed_and_is_remembered(visit):
    visitor = visit(name="language")
    page = visitor.page
    assert page.locator("#classify").inner_text() == "분류하기"
    page.locator("[data-language=en]").click()
    page.wait_for_function("document.querySelector('#classify').innerText === 'Classify'")
    assert "Classifies Korean text" in visitor.text_of(".masthead") and "분류합니다" not in visitor.text_of(".masthead")
    page.reload()
    page.wait_for_function("document.querySelector('#classify')?.innerText === 'Classify'")
    visitor.language = "en"
    visitor.look("remembered")


def test_the_keyboard_is_enough(visit):
    page = visit(name="keyboard").page
    page.locator("#classify").wait_for()
    page.keyboard.press("Tab")
    for _ in range(30):
        if page.evaluate("document.activeElement.tagName") == "TEXTAREA":
            break
        page.keyboard.press("Tab")
    page.keyboard.type(SEA)
    for _ in range(30):
        if page.evaluate("document.activeElement.id") == "classify":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer .panel")
    for _ in range(40):
        if page.evaluate("document.activeElement.innerText") == "비교":
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#compare:visible")


def test_wrong_input_is_a_sentence_on_the_page(visit, tmp_path):
    visitor = visit(name="wrong-input")
    page = visitor.page
    page.click("#classify")
    page.wait_for_selector("#answer .note")
    assert "글이나 사진을 넣어 주세요" in visitor.text_of("#answer")
    (tmp_path / "page.png").write_bytes(b"<html><script>alert(1)</script></html>")
    visitor.upload("input[type=file]", tmp_path / "page.png", PHOTO)
    page.click("#classify")
    page.wait_for_function("document.querySelector('#answer').innerText.includes('사진을 쓸 수 없습니다')")
    visitor.look("page-as-picture")
    visitor.open(2)
    page.click("#start")
    page.wait_for_selector("#progress .note")
    assert "파일을 먼저 올려" in visitor.text_of("#progress")


def test_a_batch_can_be_stopped(visit, studio, tmp_path):
    visitor = visit(name="stop")
    page = visitor.page
    visitor.open(2)
    table = tmp_path / "long.csv"
    table.write_text("overview\n" + f"{SEA * 40}\n" * 4000, encoding="utf-8")
    visitor.upload("#upload input[type=file]", table, "#upload .file-preview")
    others = set(studio.scratch.rglob("hfk-batch-*"))  # of another worker's visitors
    page.click("#start")
    page.wait_for_selector("#progress [role=progressbar]")
    visitor.look("running")
    (own,) = set(studio.scratch.rglob("hfk-batch-*")) - others
    page.get_by_role("button", name="그만두기").click()
    page.wait_for_function("document.querySelector('#progress').innerText.includes('그만두었습니다')")
    with page.expect_download() as download:  # what was done until then, and all rows
        page.locator("#download").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 4001 and lines[-1].endswith("stopped before this row.") and "stopped" not in lines[1]
    for _ in range(100):
        if not own.exists():
            break
        page.wait_for_timeout(100)
    assert not own.exists()


def test_a_zip_of_photos(visit, tmp_path):
    visitor = visit(name="zip")
    page = visitor.page
    visitor.open(2)
    entries = {f"바다 {number}.png": png("navy") for number in range(3)} | {"<img src=x onerror=alert(1)>.png": b"no"}
    photos = make_zip(tmp_path / "photos.zip", entries)
    visitor.upload("#upload input[type=file]", photos, "#upload .file-preview")
    page.click("#start")
    page.wait_for_selector("#progress table")
    assert page.locator("#progress tbody tr").count() == 4 and page.locator("#progress tr.bad").count() == 1
    assert page.locator("#progress img").count() == 0
    visitor.look("done")


def test_a_model_says_what_goes_in_and_what_it_can_tell(visit):
    """And shows no box for what it does not read; a text that is none that it knows is answered as such."""
    visitor = visit(name="models")
    page = visitor.page
    assert page.locator("[data-testid=image]:visible").count() == 1
    visitor.choose("뉴스 제목 · News headlines")
    page.wait_for_selector("#about .figure:has-text('87.7')")
    assert "일곱 주제" in visitor.text_of("#about") and page.locator("[data-testid=image]:visible").count() == 0
    assert "뉴스 제목" in page.locator("textarea:visible").first.get_attribute("placeholder")
    page.locator(".examples button:visible").first.click()
    page.wait_for_selector("#answer .panel:has-text('경제')")
    for text in ("asdf 12345", "The quick brown fox jumps over the lazy dog"):
        page.locator("textarea:visible").first.fill(text)
        page.click("#classify")
        page.wait_for_selector("#answer .outside")
        assert page.locator("#answer .panel:visible").count() == 0
    visitor.inspect("outside")


def test_a_link_leads_to_an_answer(visit, studio):
    visitor = visit(name="link")
    page = visitor.page
    page.goto(f"{studio.url}?model=headlines&text=코스피 사상 최고치 경신")
    page.wait_for_selector("#answer .panel")
    assert page.locator("#model input").input_value() == "뉴스 제목 · News headlines"
    assert "경제" in visitor.text_of("#answer")


def test_a_link_that_is_shared_shows_our_title_and_picture(studio):
    page = httpx.get(studio.url).text
    assert page.count('property="og:title"') == 1 and "hfk 스튜디오" in page.split("og:title")[1][:60]
    picture = httpx.get(re.search(r'og:image" content="([^"]+)"', page)[1])
    assert picture.headers["content-type"] == "image/png" and picture.content.startswith(b"\x89PNG")


def test_script_in_text_and_labels_is_shown_and_never_run(visit, tmp_path):
    visitor = visit(name="hostile")
    page = visitor.page
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    visitor.choose("odd")
    assert "damaged" in visitor.text_of("#broken") and "쓸 수 없습니다" in visitor.text_of("#broken")
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "p.png")
    page.locator("textarea:visible").first.fill("<img src=x onerror=alert(1)> </textarea><script>alert(2)</script>")
    visitor.upload("input[type=file]", tmp_path / "p.png", PHOTO)
    page.click("#classify")
    page.wait_for_selector("#answer .panel")
    assert page.locator("#answer > * .panels > .panel:visible").count() == 3  # a path, and two heads beside it
    page.locator("#answer .each summary").click()
    assert HOSTILE in visitor.text_of("#answer") and "<b>tags</b>" in visitor.text_of("#answer")
    visitor.look("answer")
    for head, words in (("cat1", "분류 · category"), ("<b>tags</b>", "<b>tags</b>"), ("price", "price")):
        page.click("#why-head input")
        page.get_by_role("option", name=words, exact=True).click()
        page.click("#why")
        page.wait_for_function(f"document.querySelector('#reasons h3')?.innerText.includes({head!r})")
    assert "onerror=alert(1)>" in visitor.text_of("#reasons .why") and page.locator("#reasons img").count() == 1
    visitor.look("why")
    page.click("#wrong")
    page.wait_for_selector("#which input")
    for head, field in (
        ("분류 · category", "#right"),
        ("<b>tags</b>", "label:has-text('일출')"),
        ("price", "input[type=number]"),
    ):
        page.get_by_role("radio", name=head).check()
        page.wait_for_selector(f"{field}:visible")
    visitor.look("feedback")
    visitor.open(3)
    visitor.choose("odd")
    page.wait_for_selector("#report .empty")
    visitor.look("report")
    assert not dialogs and page.evaluate("window.hit") is None
