from __future__ import annotations

import csv
import json
import re
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfk.evaluation import metrics, report
from hfk.evaluation.predictions import Predictions
from hfk.models.configuration_multihead import HeadConfig
from hfk.models.problems import MISSING

from .. import tiny

EVIL = "<script>alert('x')</script>"
COARSE = HeadConfig("대분류", ["자연", EVIL])
FINE = HeadConfig("a/b c", ["야영장,오토캠핑장", "바다", "한식"], parent="대분류", parent_of=[0, 0, 1])
MOODS = HeadConfig("mood", ["조용한", "활기찬"], problem="multi_label")
PRICE = HeadConfig("price", problem="regression")
EMPTY = HeadConfig("unlabelled", ["x", "y"])
HEADS = [COARSE, FINE, MOODS, PRICE, EMPTY]
LOG = [{"loss": 2.0, "learning_rate": 1e-4, "step": 10}, {"eval_loss": 1.0, "eval_mean_macro_f1": 0.5, "step": 10}]


@pytest.fixture(scope="module")
def case() -> Predictions:
    generator = np.random.default_rng(0)
    fine = generator.integers(3, size=30)
    labels = {
        "대분류": np.array([0, 0, 1])[fine],
        "a/b c": np.where(np.arange(30) < 3, MISSING, fine),
        "mood": (generator.random((30, 2)) < 0.5).astype(float),
        "price": generator.normal(size=30),
    }
    logits = {head.name: generator.normal(size=(30, head.num_outputs)) for head in HEADS}
    ids = [f"TRAIN_{row:03}" for row in range(30)]
    return Predictions(ids, HEADS, logits, labels, [f"본문 {EVIL} & {row}" for row in range(30)])


@pytest.fixture(scope="module")
def written(case, tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("report") / "run"
    results = report.write_report(
        folder,
        case,
        {"title": f"보고서 {EVIL}", "seed": np.int64(42), "nan": float("nan"), "path": Path("data")},
        baseline=metrics.majority_baseline(case.labels, case),
        log=LOG,
    )
    return folder, results


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_json_is_what_was_returned_and_what_score_heads_says(case, written):
    folder, results = written
    text = (folder / "metrics.json").read_text("utf-8")
    assert json.loads(text) == results
    assert results["scores"] == metrics.score_heads(case)
    assert results["counts"] == {
        "rows": 30,
        "labelled": {"대분류": 30, "a/b c": 27, "mood": 30, "price": 30, "unlabelled": 0},
    }
    assert results["extra"] == {"title": f"보고서 {EVIL}", "seed": 42, "nan": None, "path": "data"}
    assert "대분류" in text  # not escaped into \u sequences
    low, high = results["intervals"]["대분류_accuracy"]
    assert low <= results["scores"]["대분류_accuracy"] <= high


def test_every_picture_is_a_png_with_a_safe_name(written):
    pytest.importorskip("matplotlib")
    folder, _ = written
    pictures = sorted(folder.glob("*.png"))
    assert len(pictures) == 7  # two heads with three each, and the training curves
    for path in pictures:
        assert re.fullmatch(r"(confusion|reliability|rejection)_(대분류|a_b_c)\.png|training_curves\.png", path.name)
        with Image.open(path) as image:
            image.verify()
            assert image.format == "PNG"


def test_per_class_scores_add_up_to_macro_f1(written):
    folder, results = written
    lines = [line for line in read_csv(folder / "per_class.csv") if line["head"] == "a/b c"]
    assert [line["label"] for line in lines] == FINE.labels
    assert sum(int(line["support"]) for line in lines) == 27
    assert np.mean([float(line["f1"]) for line in lines]) == pytest.approx(
        results["scores"]["a/b c_macro_f1"], abs=1e-5
    )


def test_a_multi_label_head_with_one_label_is_scored_on_that_label():
    head = HeadConfig("sale", ["할인"], problem="multi_label")
    labels = {"sale": np.array([[1.0], [1.0], [0.0]])}
    said = Predictions(None, [head], {"sale": np.array([[1.0], [-1.0], [-1.0]])}, labels)
    assert report.per_class(said) == [("sale", "할인", 1.0, 0.5, pytest.approx(2 / 3), 2)]


def test_predictions_hold_every_row_in_order_and_name_the_labels(written):
    folder, results = written
    lines = read_csv(folder / "predictions.csv")
    assert [line["id"] for line in lines] == [f"TRAIN_{row:03}" for row in range(30)]
    right = [line["대분류_gold"] == line["대분류_pred"] for line in lines]
    assert np.mean(right) == pytest.approx(results["scores"]["대분류_accuracy"])
    assert lines[0]["a/b c_gold"] == ""
    assert lines[0]["a/b c_pred"] in FINE.labels
    assert set(json.loads(lines[0]["mood_pred"])) <= set(MOODS.labels)


class _Page(HTMLParser):
    """Collect the elements, and what they link to; fail on tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.ids, self.targets, self.open = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.sources += [values["src"]] if "src" in values else []
        self.ids += [values["id"]] if "id" in values else []
        self.targets += [values["href"]] if "href" in values else []
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_self_contained_and_escapes_everything(written):
    folder, _ = written
    text = (folder / "report.html").read_text("utf-8")
    page = _Page()
    page.feed(text)
    assert not page.open
    assert "link" not in page.tags and "<script" not in tiny.without_script(text)
    assert EVIL not in text
    assert "&lt;script&gt;" in text
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.targets == [f"#{name}" for name in page.ids if name != "language"]
    assert "http" not in text.split("</style>")[0]
    for shown in ("야영장,오토캠핑장", "No row is labeled", "majority accuracy", "TRAIN_", 'name="viewport"'):
        assert shown in text


@pytest.mark.slow
def test_a_reader_sorts_unfolds_and_reads_korean(written, chromium):
    page = chromium.new_context(locale="ko-KR", viewport={"width": 390, "height": 800}).new_page()
    page.set_default_timeout(20_000)
    page.goto((written[0] / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("th", has_text="정확도").first.is_visible()
    page.locator("#language").click()
    assert page.locator("th", has_text="accuracy").first.is_visible()

    part = page.locator(f"#{report.file_stems(HEADS)['a/b c']}")
    assert not part.locator("h3").first.is_visible()
    page.locator("nav a", has_text="a/b c").click()
    assert part.locator("h3").first.is_visible()
    table = part.locator("table", has=page.locator("th", has_text="precision"))
    table.locator("th", has_text="precision").click()
    column = [float(cell) for cell in table.locator("tbody td:nth-child(2)").all_inner_texts()]
    assert len(column) == 3 and column == sorted(column, reverse=True)


def test_without_matplotlib_there_is_a_report_and_one_warning(case, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.warns(UserWarning, match=r'no pictures: .*pip install "hfk\[plots\]"') as caught:
        report.write_report(tmp_path, case, log=LOG)
    assert len(caught) == 1
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"metrics.json", "per_class.csv", "predictions.csv", "report.html"}


def test_a_report_can_be_written_again_into_its_folder(case, written):
    folder, first = written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert report.write_report(folder, case, log=LOG)["scores"] == first["scores"]


def test_file_stems_are_safe_and_differ():
    names = ["cat1", "Cat1", "cat 1", "cat/1", "대분류", "소분류", "../..", "x" * 200, "con"]
    stems = report.file_stems([HeadConfig(name, ["a", "b"]) for name in names])
    assert (stems["cat1"], stems["대분류"], stems["cat 1"]) == ("cat1", "대분류", "cat_1")
    assert len({stem.lower() for stem in stems.values()}) == len(names)
    assert all(re.fullmatch(r"[\w-]{1,60}", stem) for stem in stems.values())


def test_the_table_is_aligned_with_korean_of_double_width(written):
    scores, text = written[1]["scores"], report.format_table(written[1])
    first, second, third, overall = text.split("\n\n")
    header = re.split(" {2,}", first.splitlines()[0])
    assert header == ["head", "rows", "accuracy", "macro-F1", "majority accuracy", "majority macro-F1"]
    for block in (first, second, third):
        assert len({report._width(line) for line in block.splitlines()}) == 1
    assert f"{scores['대분류_accuracy']:.3f}" in first
    assert re.search(r"unlabelled +0 +– +– +– +–", first)
    assert ("mAP" in second, "R²" in third, "mean macro-F1" in overall) == (True, True, True)


def test_width_counts_terminal_columns():
    import unicodedata

    assert report._width("가나다") == report._width(unicodedata.normalize("NFD", "가나다")) == 6
    assert report._width("é a") == 3
