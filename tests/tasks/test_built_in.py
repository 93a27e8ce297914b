from __future__ import annotations

import csv
import importlib.util
import json
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hfk import HeadConfig
from hfk.tasks import TOPICS, list_tasks, load_task, tour_tree, unseen_places
from hfk.tasks.samples import read_sample

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_tree_is_the_competitions():
    tree = tour_tree()
    assert [len({row[level] for row in tree}) for level in range(3)] == [6, 18, 128]
    assert sum(row[3] for row in tree) == 16_986
    parents = defaultdict(set)
    for cat1, cat2, cat3, _ in tree:
        parents[cat3].add(cat2)
        parents[f"2 {cat2}"].add(cat1)
    assert all(len(found) == 1 for found in parents.values())


@pytest.fixture
def train_csv(tmp_path, picture):
    """A file in the competition's format."""

    def train_csv(rows, images=True):
        path = tmp_path / "train.csv"
        (tmp_path / "image").mkdir(exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", *(["img_path"] if images else []), "overview", "cat1", "cat2", "cat3"])
            for number, labels in enumerate(rows):
                (tmp_path / "image" / f"{number}.png").write_bytes(picture((number, 0, 0)))
                row = [f"TRAIN_{number:05}", f"./image/{number}.png", f"{number * 7919}번째 곳", *labels]
                writer.writerow(row if images else [row[0], *row[2:]])
        return path

    return train_csv


def test_tour_reads_the_competitions_file(train_csv):
    rows = [row[:3] for row in tour_tree()] * 2
    task = load_task("tour", data=train_csv(rows))
    loaded = task.load()
    assert [(head.name, len(head.labels), head.parent) for head in task.heads] == [
        ("cat1", 6, None),
        ("cat2", 18, "cat1"),
        ("cat3", 128, "cat2"),
    ]
    assert sum(map(len, loaded.values())) == 256
    first = loaded["train"][0]
    names = [
        feature.int2str(first[name]) for name, feature in loaded["train"].features.items() if name.startswith("cat")
    ]
    assert tuple(names) == rows[int(first["id"][-5:])]
    assert Path(first["image"]["path"]).is_file()
    for head, above in zip(task.heads[1:], task.heads, strict=False):
        tree = {(row[int(head.name[-1]) - 1], row[int(above.name[-1]) - 1]) for row in tour_tree()}
        assert {(label, above.labels[i]) for label, i in zip(head.labels, head.parent_of, strict=True)} == tree


def test_tour_without_pictures_and_with_present_labels(train_csv):
    rows = [("음식", "음식점", "한식"), ("숙박", "숙박시설", "펜션")] * 4
    task = load_task("tour", data=train_csv(rows, images=False), labels="present", heads=["cat1", "cat3"], split=None)
    with pytest.raises(ValueError, match="its parent 'cat2' is not a head"):
        task.load()
    task = load_task("tour", data=train_csv(rows, images=False), labels="present", split=None)
    assert task.load()["train"].column_names == ["id", "text", "cat1", "cat2", "cat3"]
    assert [head.labels for head in task.heads] == [["숙박", "음식"], ["숙박시설", "음식점"], ["펜션", "한식"]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("음식", "음식점", "펜션"), r"train\.csv, row 3 \(id 'TRAIN_00002'\): cat3 '펜션' stands under cat2 '음식점', "
         "but it belongs to '숙박시설'"),
        (("음식", "음식점", "분식"), r"row 3 .*'분식' is not a label of head 'cat3'"),
        (("자연", "음식점", "한식"), r"row 3 .*cat2 '음식점' stands under cat1 '자연'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("labels", ["all", "present"])
def test_tour_checks_rows_against_the_tree(train_csv, row, message, labels):
    rows = [("음식", "음식점", "한식"), ("숙박", "숙박시설", "펜션"), row, ("자연", "자연관광지", "산")]
    with pytest.raises(ValueError, match=message):
        load_task("tour", data=train_csv(rows), labels=labels).load()


def test_tour_without_a_file_says_what_to_do():
    with pytest.raises(ValueError, match="tour-mini"):
        load_task("tour")


def test_ynat_reads_csv_and_json_alike(tmp_path):
    titles = [f"제목 {n * 7919}" for n in range(14)]
    (tmp_path / "a.csv").write_text(
        "index,title,topic_idx\n" + "\n".join(f"{n},{title},{n % 7}" for n, title in enumerate(titles)),
        encoding="utf-8",
    )
    records = [{"guid": f"y_{n}", "title": title, "label": TOPICS[n % 7]} for n, title in enumerate(titles)]
    (tmp_path / "a.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    one = load_task("ynat", data=tmp_path / "a.csv", split=None).load()["train"]
    two = load_task("ynat", data={"test": tmp_path / "a.json"}, split=None).load()["test"]
    assert one.features["topic"].names == list(TOPICS)
    assert (one["text"][:], one["topic"][:]) == (two["text"][:], two["topic"][:])
    assert (one["id"][1], two["id"][1]) == ("1", "y_1")


def test_every_built_in_task_keeps_a_columns_groups_together_and_drops_bad_rows(tmp_path):
    """The option that a message advises can be given, and what `split` leaves open is the task's own."""
    lines = [f"{n},{n * 7919}번째 제목,{n % 2},기자{n % 20}" for n in range(60)]
    (tmp_path / "news.csv").write_text("index,title,topic_idx,기자\n" + "\n".join(lines) + "\n60,,1,기자1\n", "utf-8")
    with pytest.warns(UserWarning, match="1 of 61 rows can't be used: .* no text. They are left out"):
        rows = load_task("ynat", data=tmp_path / "news.csv", split={"group": "기자"}, bad_rows="drop").load()
    reporters = [{int(number) % 20 for number in rows[split]["id"]} for split in ("train", "validation")]
    assert len(rows["validation"]) == 6 and not reporters[0] & reporters[1]
    for name in list_tasks():
        if name.endswith("-mini"):
            with pytest.raises(ValueError, match=r"'기자' is (missing from \w+_mini\.parquet; it has: |not one of)"):
                load_task(name, split={"group": "기자"}).load()
    assert load_task("dialect-mini", split={"folds": 3, "fold": 0}).split["group"] == "conversation"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,title,topic_idx\n0,제목,7\n", "topic_idx 7 is none of 0–6"),
        ("index,name,topic_idx\n", "column 'title' is missing"),
        ("index,title\n0,제목\n", "column 'topic_idx' is missing"),
        ("index,title,label\n0,제목,날씨\n", "'날씨' is not a label"),
    ],
)
def test_bad_ynat_files(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_task("ynat", data=tmp_path / "a.csv").load()


def test_ynat_without_file_or_network_is_one_sentence():
    with pytest.raises(ValueError, match="can't be reached; give a file") as caught:
        load_task("ynat").load()
    assert "\n" not in str(caught.value)


def test_ynat_reads_the_hubs_columns(monkeypatch):
    import datasets

    features = datasets.Features(
        {
            "guid": datasets.Value("string"),
            "title": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(TOPICS)),
        }
    )
    part = datasets.Dataset.from_dict({"guid": ["a", "b"], "title": ["하나", "둘"], "label": [6, 0]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *names: datasets.DatasetDict(train=part, validation=part))
    loaded = load_task("ynat").load()
    assert list(loaded) == ["train", "validation"]
    assert loaded["train"]["topic"][:] == [6, 0]


def test_unknown_names_list_what_there_is(tmp_path):
    with pytest.raises(ValueError, match=r"no task 'ynatt' \(did you mean 'ynat'\?\).*tour, tour-mini, ynat"):
        load_task("ynatt")
    with pytest.raises(ValueError, match="has no option 'date'"):
        load_task("ynat", date="x")
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match="hfk init"):
        load_task(tmp_path / "a.csv")
    assert list(list_tasks()) == [
        "tour",
        "tour-mini",
        "ynat",
        "ynat-mini",
        "reviews-mini",
        "fashion",
        "fashion-mini",
        "dialect",
        "dialect-mini",
        "dialect-translation",
        "dialect-translation-mini",
    ]


def test_heads_can_be_chosen_or_replaced():
    task = load_task("tour-mini", heads=["cat1", "cat2"])
    assert task.load()["train"].column_names == ["id", "text", "image", "cat1", "cat2"]
    with pytest.raises(ValueError, match="there is no head 'cat4' in this task; heads: cat1, cat2, cat3"):
        load_task("tour-mini", heads=["cat4"])
    heads = [HeadConfig("topic", list(reversed(TOPICS)))]
    task = load_task("ynat-mini", heads=heads)
    task.load()
    assert task.heads[0].labels == list(reversed(TOPICS))


# ----------------------------------------------------------------------------------------------------------- samples


def sample(name):
    (chunk,) = read_sample(name)[0].chunks()
    return pd.DataFrame(chunk, dtype=object)


def test_samples_are_balanced_small_and_in_the_tree():
    tour = sample("tour_mini")
    assert set(Counter(tour["cat3"]).values()) == {23}
    assert tour["cat1"].nunique() == 6
    tree = {row[:3] for row in tour_tree()}
    assert set(zip(tour["cat1"], tour["cat2"], tour["cat3"], strict=True)) <= tree
    assert Counter(sample("ynat_mini")["topic"]) == dict.fromkeys(TOPICS, 30)
    assert sum(path.stat().st_size for path in (REPOSITORY / "hfk/tasks/samples").glob("*.parquet")) < 3_000_000


def test_sample_splits_have_every_class():
    loaded = load_task("tour-mini").load()
    assert all(set(part["cat3"]) == set(range(16)) for part in loaded.values())


def test_unseen_places_are_new():
    seen = set(sample("tour_mini")["overview"])
    places = unseen_places()
    assert len(places) == 2
    assert all(isinstance(place["image"], Image.Image) and place["text"] not in seen for place in places)


def test_the_script_makes_the_samples(monkeypatch):
    """Rows are independent, so the texts of all and the pictures of a few tell."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts"))
    spec = importlib.util.spec_from_file_location("make_samples", REPOSITORY / "scripts" / "make_samples.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    tour, ynat = sample("tour_mini"), sample("ynat_mini")
    columns = ["id", "overview", "cat1", "cat2", "cat3"]
    assert list(script.tour_texts()) == tour[columns].to_dict("records")
    assert list(script.ynat_rows()) == ynat.to_dict("records")
    places = script.PLACES
    for one, two in (("사찰", "성"), ("요트", "카약/카누")):  # told apart by the picture alone
        assert (places[one].openers, places[one].details) == (places[two].openers, places[two].details)
        assert places[one].scene != places[two].scene
    for one, two in (("박물관", "미술관/화랑"), ("한식", "일식")):  # told apart by the text alone
        assert places[one].scene == places[two].scene
    for row in random.Random(0).sample(tour.to_dict("records"), 4):
        made = script.picture(script.PLACES[row["cat3"]].scene, row["id"])
        # Encoders differ a little between versions of Pillow: compare what is seen.
        one, two = (np.asarray(decode(image).convert("RGB"), dtype=float) for image in (made, row["image"]))
        assert np.abs(one - two).mean() < 4
    for module in ("sample_texts", "sample_drawings"):
        sys.modules.pop(module)


def decode(image):
    import io

    return Image.open(io.BytesIO(image["bytes"]))
