"""The data profile: what is found in the rows is what is there, and the page shows it safely and without network."""

from __future__ import annotations

import csv
import io
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from hfk.inference.predictor import Predictor
from hfk.tasks import load_task
from hfk.tools.profile import texts
from hfk.tools.profile.facts import profile_task
from hfk.tools.profile.rows import Rows, find_disagreements
from tests import tiny

pytest.importorskip("wordcloud")


CLOUD = texts.word_cloud_png


@pytest.fixture(scope="module", autouse=True)
def _clouds_cost_nothing():
    """Only tests of clouds draw them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(texts, "word_cloud_png", lambda counts: b"\x89PNG" if counts else None)
        yield


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """A table with one of every fault that the profile should name; no splits are drawn."""
    tmp_path = tmp_path_factory.mktemp("messy")
    rows = [
        ("0", "美 대통령 訪韓 소식 <script>alert('x')</script>", "a.png", "정치", "train"),
        ("1", "바닷가의 오래된 절과 석탑", "b.png", "여행", "train"),
        ("2", "바닷가의 오래된 절과 석탑", "b.png", "문화", "train"),  # the same, another label
        ("3", "바닷가의 오래된 절과 석탑!", "a.png", "여행", "validation"),  # a look-alike in train
        ("4", "소나무 숲길을 따라 걷는 산책로", "", "여행", "train"),
        ("5", "https://a.kr/1", "", "정치", "train"),
        ("6", "숲길 산책 ㅋㅋㅋㅋ", "c.png", "", "train"),
        ("7", "프로야구 개막전 만원 관중", "", "스포츠", "validation"),  # no training row
        *(
            (str(n), f"{n}번째 여행 기사 {'가나다라마바사아자차'[n % 10]} {n * 7919}", "", "여행", "train")
            for n in range(8, 22)
        ),
        ("22", "열리지 않는 사진", "broken.png", "여행", "train"),
    ]
    with open(tmp_path / "news.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "photo", "topic", "part"])
        writer.writerows(rows)
    generator = np.random.default_rng(0)
    for name, size in (("a.png", (40, 20)), ("b.png", (24, 24)), ("c.png", (30, 60))):
        Image.fromarray(generator.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    task = {
        "data": "news.csv",
        "text": "title",
        "image": "photo",
        "id": "id",
        "heads": [{"name": "topic", "labels": ["정치", "여행", "문화", "스포츠", "세계"]}],
        "split": {"column": "part"},
    }
    path = tmp_path / "news.yaml"
    path.write_text(yaml.safe_dump(task, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def written(messy, encoders, tmp_path_factory):
    """The facts of that table, and the page."""
    folder = tmp_path_factory.mktemp("page")
    recipe = {"text_cleaning": ["url", "hanja"], "max_length": 8, "text_prefix": "query: "}
    task = with_recipe(messy, folder, recipe | encoders, name="<b>news</b>")
    page = folder / "out" / "page.html"
    facts = profile_task(task, page)
    return facts, page


def test_every_fault_is_found_and_named(written):
    facts, _ = written
    assert facts["splits"] == {"train": 20, "validation": 2}
    assert facts["classes"]["topic"] == {
        "정치": {"train": 2},
        "여행": {"train": 16, "validation": 1},
        "문화": {"train": 1},
        "스포츠": {"validation": 1},
        "세계": {},
    }
    assert facts["missing"] == {"topic": {"train": 1}}
    augmented = facts["augmented"]["topic"]  # the commonest class gets no copies, the rarest as many as it has rows
    assert augmented["여행"] == 16 and augmented["문화"] == 2 and 2 < augmented["정치"] < 4 and augmented["세계"] == 0
    assert facts["duplicates"]["text"]["same"] == 1 and facts["duplicates"]["text"]["near"] == 1
    assert facts["duplicates"]["image"]["same"] == 2
    assert facts["duplicates"]["across"] == {"validation": 1}
    (conflict,) = facts["conflicts"]
    assert [(identity, label) for identity, _, label in conflict["rows"]] == [("1", "여행"), ("2", "문화")]
    assert facts["images"]["missing"] == 17
    assert facts["images"]["sizes"] == [[24, 20], [30, 24], [40, 60]]
    assert facts["texts"]["emptied"] == [("5", "https://a.kr/1")] and facts["texts"]["kinds"]["Hanja"] == 1
    found = " ".join(facts["findings"])
    for sentence in (
        "topic: no training row of 스포츠, 세계",
        "topic: fewer than 10 training rows of 정치, 문화",
        "the largest class has 17 times",
        "topic: 1 row without a label",
        "nothing of 1 text",
        "longer than max_length (8 tokens)",
        "1 of 23 rows can't be used: news.csv, row 23",
        "17 rows without a picture",
        "1 row of validation with a look-alike in train",
        "1 input with more than one answer (topic)",
    ):
        assert sentence in found, sentence


def test_the_page_stands_alone_and_runs_nothing(written):
    _, page = written
    text = page.read_text(encoding="utf-8")
    assert "<script" not in tiny.without_script(text) and "&lt;script&gt;" in text and "&lt;b&gt;news&lt;/b&gt;" in text
    assert not re.findall(r'(?:src|href)="(?!data:image/|#)', text)
    assert not re.findall(r"url\(|@import", text)
    anchors = set(re.findall(r'href="#(\w+)"', text))
    assert {"classes", "texts", "words", "pictures", "duplicates", "conflicts", "examples"} == anchors
    assert all(f'id="{anchor}"' in text for anchor in anchors)
    for opening, closing in (("<table", "</table>"), ("<details", "</details>"), ("<figure", "</figure>")):
        assert text.count(opening) == text.count(closing)
    assert list(page.parent.iterdir()) == [page]  # nothing half-written is left


def test_every_kind_of_head_and_the_hierarchy_are_shown(places, tmp_path):
    task = with_recipe(places, tmp_path, {"text_encoder": None, "vision_encoder": None})
    facts = profile_task(task, tmp_path / "page.html", text_cleaning="none")
    assert facts["max_length"] is None  # without a tokenizer there is nothing to hold it against
    assert (facts["numbers"]["price"]["min"], facts["numbers"]["price"]["max"]) == (0, 5)
    assert sum(sum(c.values()) for c in facts["classes"]["tags"].values()) > 72  # several labels a row
    assert sum(sum(c.values()) for c in facts["classes"]["cat2"].values()) == 72
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.search(
        r"<b>자연</b> <span>48</span><ul><li>바다 <span>24</span></li><li>산 <span>24</span></li></ul>", text
    )
    assert "cat1 &gt; cat2" in text and "No tokenizer was at hand" in text
    labels = [tile["label"] for tile in facts["sheet"]]
    assert {labels.count(label) for label in ("산", "바다", "한식")} == {16}  # 48 tiles, of all classes alike


def test_words_are_counted_once_a_text_and_typical_ones_tell_classes_apart(monkeypatch):
    monkeypatch.setattr(texts, "word_cloud_png", CLOUD)
    rows = Rows(["train"] * 40, [str(n) for n in range(40)], None, None)
    rows.texts = ["공 공 공 경기 오늘"] * 20 + ["주가 경제 오늘"] * 20
    from hfk import HeadConfig

    head = HeadConfig("topic", ["스포츠", "경제"])
    rows.labels = {"topic": [("스포츠",)] * 20 + [("경제",)] * 20}
    words, clouds = texts.words_of_classes(rows, ["공 경기"] * 20 + ["주가 경제"] * 20, [head])
    assert words["topic"]["스포츠"]["before"] == [("경기", 20), ("공", 20), ("오늘", 20)]
    assert words["topic"]["경제"]["after"] == [("경제", 20), ("주가", 20)]
    assert words["topic"]["스포츠"]["typical"] == [("경기", 20), ("공", 20)]
    assert set(clouds["classes"]) == {"스포츠", "경제"} and clouds["left_out"] == 0
    picture = Image.open(io.BytesIO(clouds["classes"]["경제"]["after"]))
    assert picture.size == texts.CLOUD


def test_a_cloud_draws_korean_and_is_the_same_twice():
    one = CLOUD({"바다": 3, "산": 2, "절": 1})
    assert one == CLOUD({"절": 1, "산": 2, "바다": 3})
    # Were the glyphs missing, every syllable would be the same box.
    assert one != CLOUD({"파도": 3, "산": 2, "절": 1})
    assert CLOUD({}) is None


def test_a_built_in_task_is_profiled_with_its_recipe(tmp_path, monkeypatch):
    from hfk.backbones import registry as backbones

    def nowhere(*args):
        raise ValueError("no such encoder here")

    monkeypatch.setattr(backbones, "resolve", nowhere)
    with pytest.warns(UserWarning, match="tokens are not counted: no such encoder here"):
        facts = profile_task("ynat-mini", tmp_path / "ynat-mini.html")
    assert facts["rows"] == 210 and facts["trial"] and facts["tokenizer"] is None
    assert [len(rows) for rows in facts["examples"].values()] == [3] * 7
    with pytest.raises(ValueError, match="no step 'stem'"):
        profile_task("ynat-mini", tmp_path / "x.html", text_cleaning=["stem"])
    assert not (tmp_path / "x.html").exists()


def with_recipe(task, folder, recipe, **more):
    """The same task, to be trained by a recipe of its own."""
    options = yaml.safe_load(task.read_text(encoding="utf-8")) | {"recipe": recipe} | more
    path = folder / task.name
    path.write_text(yaml.safe_dump(options | {"data": str(task.parent / options["data"])}, allow_unicode=True))
    return path


def test_the_recipes_cleaning_and_tokenizer_count(messy, tmp_path, encoders):
    recipe = {"text_cleaning": ["hanja_words"], "text_encoder": encoders["text_encoder"], "max_length": 7}
    trained = with_recipe(messy, tmp_path, recipe)
    facts = profile_task(trained, tmp_path / "page.html")
    assert facts["cleaning"] == ["hanja_words"] and not facts["trial"] and facts["texts"]["changed"] == 1
    assert facts["max_length"] == 7 and facts["tokenizer"] == encoders["text_encoder"]
    assert facts["lengths"]["tokens"].min() > 2
    assert profile_task(trained, tmp_path / "page.html", text_cleaning="none")["cleaning"] is None


def test_rows_whose_text_and_picture_disagree_are_listed(places, tmp_path, monkeypatch):
    task = load_task(places)
    task.load()
    tiny.model("bert", "vit", heads=task.heads).save_pretrained(tmp_path / "run")
    tiny.processor("bert", "vit").save_pretrained(tmp_path / "run")
    labels = task.heads[1].labels

    def forward(self, prepared):
        """A model to which texts tell all, while every picture is of a restaurant, the greener the more surely."""
        assert len({image is None for _, image in prepared}) == 1
        result = torch.zeros(len(prepared), len(labels))
        for row, (text, image) in enumerate(prepared):
            if text is not None:
                assert image is None
                word = {"바닷가": "바다", "숲길을": "산", "된장찌개가": "한식"}
                result[row, labels.index(next(label for sign, label in word.items() if sign in text))] = 5
            else:
                result[row, labels.index("한식")] = 2 + np.asarray(image)[..., 1].mean() / 100
        return SimpleNamespace(logits={"cat1": torch.zeros(len(prepared), 2), "cat2": result})

    monkeypatch.setattr(Predictor, "_forward", forward)
    facts = profile_task(places, tmp_path / "page.html", checkpoint=str(tmp_path / "run"), text_cleaning="none")
    found = facts["disagreements"]
    assert len(found) == 48 == len({row["id"] for row in found})  # all but the restaurants
    assert all(row["by_text"] == row["label"] != row["by_image"] == "한식" for row in found)
    assert [row["distance"] for row in found] == sorted((row["distance"] for row in found), reverse=True)
    assert 0 < found[-1]["distance"] < found[0]["distance"] < 1
    assert 'id="disagreements"' in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_checkpoint_that_cannot_disagree_is_refused(places, tmp_path):
    task = load_task(places)
    data = task.load()
    tiny.model("bert").save_pretrained(tmp_path / "text")
    tiny.processor("bert").save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="does not read both text and pictures"):
        find_disagreements(data, task.heads, tmp_path / "text")
    from hfk import HeadConfig

    tiny.model("bert", "vit", heads=[HeadConfig("other", ["a", "b"])]).save_pretrained(tmp_path / "other")
    tiny.processor("bert", "vit").save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="has no head of the task"):
        find_disagreements(data, task.heads, tmp_path / "other")


def test_the_command_writes_the_page_and_says_the_findings(messy, tmp_path, monkeypatch, capsys):
    from hfk.cli import main

    task = with_recipe(messy, tmp_path, {"text_encoder": None, "vision_encoder": None})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["data", "profile", str(task), "--text-cleaning", "[url, {repeat: {limit: 1}}]"])
    assert end.value.code in (0, None)
    said = capsys.readouterr().out
    assert "- topic: no training row of 스포츠, 세계." in said and "wrote profile-news.html: 22 rows" in said
    assert (tmp_path / "profile-news.html").is_file()
    with pytest.raises(SystemExit) as end:
        main(["data", "profile", "nonsense"])
    assert end.value.code == 2 and "there is no task 'nonsense'" in capsys.readouterr().err


def test_a_task_of_pictures_alone(tmp_path):
    for label in ("산", "바다"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 255, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    shutil.copy(tmp_path / "photos" / "산" / "0.png", tmp_path / "photos" / "바다" / "3.png")
    (tmp_path / "photos.yaml").write_text("{data: photos, heads: [{name: label}], split: null}")
    facts = profile_task(tmp_path / "photos.yaml", tmp_path / "page.html")
    assert facts["texts"] is None and len(facts["sheet"]) == 7
    assert facts["conflicts"] and "repeated texts" not in (tmp_path / "page.html").read_text(encoding="utf-8")
