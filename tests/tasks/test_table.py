from __future__ import annotations

import json
import math
import random
import unicodedata
from functools import partial

import datasets
import pytest

from hfk import HeadConfig
from hfk.models.problems import HeadLoss
from hfk.tasks import load_task
from hfk.tasks.tables import iter_columns

WHOLE = {"split": None}


def places(rows=20):
    """A table with every kind of head; distinct texts."""
    lines = ["id,title,overview,cat1,cat2,mood,stars"]
    for n in range(rows):
        cat2 = ["해변", "산", "한식", "일식"][n % 4]
        text = "".join(chr(random.Random(n).randint(0xAC00, 0xD7A3)) for _ in range(3)) + f"{n * 7919}번 {cat2}"
        cat1, mood = "음식" if n % 4 > 1 else "자연", ["넓은", "맛있는"][n % 2]
        lines.append(f'P{n},{n}호,{text},{cat1},{cat2},"조용한, {mood}",{n}.5')
    return "\n".join(lines) + "\n"


HEADS = [
    {"name": "cat2", "parent": "cat1", "weight": 2.0, "kind": "mlp", "focal_gamma": 2.0},
    {"name": "cat1"},
    {"name": "mood", "problem": "multi_label", "separator": ","},
    {"name": "rating", "column": "stars", "problem": "regression"},
]


def test_every_kind_of_head_in_canonical_columns(task):
    made = task(places(), text=["title", "overview"], id="id", heads=HEADS, split=None)
    assert (made.text, made.image) == (True, False)
    rows = made.load()["train"]
    assert rows.features == datasets.Features(
        {
            "id": datasets.Value("string"),
            "text": datasets.Value("string"),
            "cat2": datasets.ClassLabel(names=["산", "일식", "한식", "해변"]),
            "cat1": datasets.ClassLabel(names=["음식", "자연"]),
            "mood": datasets.List(datasets.ClassLabel(names=["넓은", "맛있는", "조용한"])),
            "rating": datasets.Value("float32"),
        }
    )
    assert rows[0]["id"] == "P0"
    assert rows[0]["text"].startswith("0호␟")
    assert rows[0]["text"].endswith("0번 해변")
    assert {name: rows[0][name] for name in ("cat2", "cat1", "mood", "rating")} == {
        "cat2": 3,
        "cat1": 1,
        "mood": [2, 0],
        "rating": 0.5,
    }
    cat2 = made.heads[0]
    assert (cat2.parent, cat2.parent_of, cat2.kind) == ("cat1", [1, 0, 0, 1], "mlp")
    assert made.head_losses["cat2"] == HeadLoss(weight=2.0, focal_gamma=2.0)


def test_splits_and_scale_come_from_train_alone(task):
    made = task(places(60), text="overview", heads=HEADS, split={"validation": 0.2, "test": 0.2, "seed": 3})
    loaded = made.load()
    assert {name: len(part) for name, part in loaded.items()} == {"train": 36, "validation": 12, "test": 12}
    assert all(sorted(part["cat2"]).count(0) == len(part) // 4 for part in loaded.values())
    stars = loaded["train"]["rating"]
    mean = sum(stars) / len(stars)
    assert made.heads[3].mean == pytest.approx(mean)
    assert made.heads[3].std == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in stars) / len(stars)))


def test_shuffled_rows_fall_into_the_same_splits(task):
    header, *lines = places(60).splitlines()
    settings = {"text": "overview", "id": "id", "heads": HEADS, "split": {"validation": 0.2, "test": 0.2}}
    one = task("\n".join([header, *lines]), **settings).load()
    random.Random(0).shuffle(lines)
    two = task("\n".join([header, *lines]), **settings).load()
    assert all(set(one[name]["id"]) == set(two[name]["id"]) for name in one)
    assert one["train"]["id"][:] != two["train"]["id"][:]


def test_chunks_leave_no_trace(task, monkeypatch):
    """Rows, row numbers in errors and ids are the same however few rows are read at a time."""
    settings = {"text": "overview", "heads": HEADS, "split": {"validation": 0.2}}
    whole = task(places(40), **settings).load()
    monkeypatch.setattr("hfk.tasks.source.iter_columns", partial(iter_columns, chunk_rows=3))
    monkeypatch.setattr("hfk.tasks.source._VERSION", "anew")
    pieces = task(places(40), **settings).load()
    assert all(pieces[name].to_list() == whole[name].to_list() for name in ("train", "validation"))
    csv = places(40).replace("\nP30,30호,", "\nP30,30호,  ").replace(",30.5", ",viel")
    with pytest.raises(ValueError, match=r"data\.csv, row 31: head 'rating' is regression, but 'viel'"):
        task(csv, **settings).load()


def test_a_fold_is_a_way_of_dividing(task):
    settings = {"text": "overview", "id": "id", "heads": HEADS}
    folds = [task(places(30), **settings, split={"folds": 3, "fold": fold}).load() for fold in range(3)]
    assert [list(rows) for rows in folds] == [["train", "validation"]] * 3
    held_out = [set(rows["validation"]["id"]) for rows in folds]
    assert sorted(map(len, held_out)) == [10, 10, 10] and len(set.union(*held_out)) == 30
    assert all(not set(rows["train"]["id"]) & own for rows, own in zip(folds, held_out, strict=True))
    # What is kept for a test stays out, and what a task does otherwise is kept.
    made = task(places(30), **settings, split={"test": 0.2, "seed": 1})
    test = set(made.load()["test"]["id"])
    pool = made.pool(3)
    assert test.isdisjoint(pool.rows["id"]) and len(pool.rows) == 30 - len(test)
    made.split = made.division(3, 1)
    assert made.fold == (1, 3) and made.split == {"test": 0.2, "seed": 1, "folds": 3, "fold": 1}
    rows = made.load()
    assert rows["validation"]["id"][:] == [i for i, fold in zip(pool.rows["id"], pool.folds, strict=True) if fold == 1]
    csv = "\n".join(
        f"{line},{'part' if not n else ['train', 'test'][n % 5 == 0]}" for n, line in enumerate(places(30).splitlines())
    )
    made = task(csv, **settings, split={"column": "part", "folds": 2, "fold": 0})
    assert len(made.load()["validation"]) == 12 and made.division(2, 1)["column"] == "part"


@pytest.mark.parametrize("fold", [None, 3, -1, True])
def test_a_fold_that_is_none_is_refused(task, fold):
    with pytest.raises(ValueError, match="fold must be from 0 to 2 for 3 folds"):
        task(places(30), text="overview", heads=HEADS, split={"folds": 3, "fold": fold}).load()


def test_a_changed_file_is_read_again(task):
    made = task(places(20), text="overview", heads=["cat1"], **WHOLE)
    assert len(made.load()["train"]) == 20
    made = task(places(24), text="overview", heads=["cat1"], **WHOLE)
    assert len(made.load()["train"]) == 24


def test_a_second_load_reads_the_cache(task, monkeypatch):
    made = task(places(), text="overview", heads=HEADS)
    made.load()
    monkeypatch.setattr("hfk.tasks.source.TableSource._clean", None)
    monkeypatch.setattr("hfk.tasks.task.split_indices", None)
    assert len(made.load()["train"]) == 16


def test_no_progress_bars_in_a_pipe(task, capfd):
    task(places(), text="overview", heads=HEADS).load()
    assert capfd.readouterr() == ("", "")


def test_a_split_column(task):
    csv = "text,y,part\n하나,a,train\n둘,b,Train\n셋,a,dev\n넷,b,test\n"
    loaded = task(csv, text="text", heads=["y"], split={"column": "part"}).load()
    assert {name: part["text"][:] for name, part in loaded.items()} == {
        "train": ["하나", "둘"],
        "validation": ["셋"],
        "test": ["넷"],
    }
    with pytest.raises(ValueError, match=r"row 4: 'hidden' in column 'part' is no split"):
        task(csv.replace("b,test", "b,hidden"), text="text", heads=["y"], split={"column": "part"}).load()


def test_a_file_a_split(task, write):
    write("a.csv", "text,y\n" + "\n".join(f"글 {n} {n * n},{'ab'[n % 2]}" for n in range(20)))
    write("b.jsonl", '{"text": "새 글", "y": "a"}\n')
    loaded = task(data={"train": "a.csv", "test": "b.jsonl"}, text="text", heads=["y"]).load()
    assert {name: len(part) for name, part in loaded.items()} == {"train": 18, "validation": 2, "test": 1}
    loaded = task(data={"train": "a.csv", "test": "b.jsonl"}, text="text", heads=["y"], split=None).load()
    assert {name: len(part) for name, part in loaded.items()} == {"train": 20, "test": 1}


def test_soft_labels(task, write):
    rows = [{"text": "하나", "y": [0.25, 0.75]}, {"text": "둘", "y": "a"}, {"text": "셋", "y": None}]
    write("soft.jsonl", "\n".join(map(json.dumps, rows)))
    made = task(data="soft.jsonl", text="text", heads=[{"name": "y", "labels": ["a", "b"]}], split=None)
    assert made.load()["train"]["y"][:] == [[0.25, 0.75], [1.0, 0.0], None]
    assert made.heads[0].problem == "single_label"


@pytest.mark.parametrize(
    ("cell", "message"),
    [([0.5], "1 probabilities for 2 labels"), ([0.5, 0.2], "sum to 0.7"), (["a", "b"], "multi_label")],
)
def test_bad_soft_labels(task, write, cell, message):
    write("soft.jsonl", json.dumps({"text": "하나", "y": cell}))
    with pytest.raises(ValueError, match=f"row 1: .*{message}"):
        task(data="soft.jsonl", text="text", heads=[{"name": "y", "labels": ["a", "b"]}]).load()


def test_missing_labels_and_empty_cells(task):
    csv = 'text,y,m,r\n하나,a,"p,q",1\n둘,,,\n셋,nan,p,\n넷,b,q,2\n다섯,a,p,3\n여섯,b,q,4\n'
    heads = ["y", {"name": "m", "problem": "multi_label", "separator": ","}, {"name": "r", "problem": "regression"}]
    rows = task(csv, text="text", heads=heads, **WHOLE).load()["train"]
    assert rows["y"][:3] == [0, None, None]
    assert rows["m"][:3] == [[0, 1], None, [0]]
    assert rows["r"][:3] == [1.0, None, None]
    heads[1]["empty"] = "none"
    assert task(csv, text="text", heads=heads, **WHOLE).load()["train"]["m"][1] == []


def test_none_and_na_are_words(task):
    csv = "text,y\n하나,none\n둘,NA\n셋,none\n넷,NA\n"
    made = task(csv, text="text", heads=["y"], **WHOLE)
    made.load()
    assert made.heads[0].labels == ["NA", "none"]


def test_rare_values_are_left_out(task):
    csv = 'text,m\n하나,"p,q"\n둘,"p,q"\n셋,"p,z"\n넷,w\n'
    heads = [{"name": "m", "problem": "multi_label", "separator": ",", "min_rows": 2}]
    made = task(csv, text="text", heads=heads, **WHOLE)
    assert made.load()["train"]["m"][:] == [[0, 1], [0, 1], [0], []]
    assert made.heads[0].labels == ["p", "q"]


def test_numbers_sort_as_numbers(task):
    csv = "text,y\n" + "\n".join(f"글 {n},{label}" for n, label in enumerate(["10", "9", "2"] * 2))
    made = task(csv, text="text", heads=["y"], **WHOLE)
    made.load()
    assert made.heads[0].labels == ["2", "9", "10"]


def test_class_weights_by_name_and_balanced(task):
    csv = "text,y\n하나,a\n둘,a\n셋,a\n넷,b\n다섯,b\n"
    made = task(csv, text="text", heads=[{"name": "y", "class_weights": {"b": 3}}], **WHOLE)
    made.load()
    assert made.head_losses["y"].class_weights == [1.0, 3.0]
    made = task(csv, text="text", heads=[{"name": "y", "class_weights": "balanced"}], **WHOLE)
    made.load()
    assert made.head_losses["y"].class_weights == pytest.approx([5 / 6, 5 / 4])


def test_a_checkpoints_heads_hold_on_a_new_file(task, tmp_path):
    made = task(places(), text="overview", heads=HEADS)
    made.load()
    file = str(tmp_path / "data.csv")
    again = load_task({"data": file, "text": "overview", "heads": HEADS, "split": None}, heads=made.heads)
    again.load()
    assert again.heads == made.heads
    heads = [HeadConfig("cat1", ["음식", "쇼핑"])]
    with pytest.raises(ValueError, match=r"data\.csv, row 1, .* more: '자연' is not a label of head 'cat1'"):
        load_task({"data": file, "text": "overview", "heads": HEADS}, heads=heads).load()


# ------------------------------------------------------------------------------------------------------------ images


def photo_table(write, picture, names, text="글"):
    for number, name in enumerate(names):
        if name and number != 1:
            path = write(f"photos/{name}", "")
            path.write_bytes(picture((number * 20, 0, 0)))
    lines = [f"{text}{number},{name},{'ab'[number % 2]}" for number, name in enumerate(names)]
    return "\n".join(["text,photo,y", *lines]) + "\n"


def test_images_are_paths_and_not_decoded(task, write, picture, tmp_path):
    write("photos/0.png", "").write_bytes(picture())
    write("photos/1.png", "").write_bytes(picture())
    csv = "text,photo,y\n하나,0.png,a\n둘,1.png,b\n셋,,a\n"
    made = task(csv, text="text", image="photo", image_dir="photos", heads=["y"], **WHOLE)
    rows = made.load()["train"]
    assert made.image
    assert rows.features["image"] == datasets.Image(decode=False)
    assert rows["image"][:] == [
        {"bytes": None, "path": str(tmp_path / "photos/0.png")},
        {"bytes": None, "path": str(tmp_path / "photos/1.png")},
        None,
    ]


def test_missing_image_files_are_counted(task, write, picture):
    csv = photo_table(write, picture, ["0.png", "1.png", "2.png", "3.png"])
    settings = {"text": "text", "image": "photo", "image_dir": "photos", "heads": ["y"], "split": None}
    with pytest.raises(
        ValueError, match=r"1 of 4 rows can't be used: data\.csv, row 2: the picture .*1\.png doesn't exist"
    ):
        task(csv, **settings).load()
    with pytest.warns(UserWarning, match="1 of 4 rows .* left out"):
        assert task(csv, **settings, missing_images="drop").load()["train"]["text"][:] == ["글0", "글2", "글3"]
    with pytest.warns(UserWarning, match="text only"):
        assert task(csv, **settings, missing_images="text_only").load()["train"]["image"][1] is None


def test_pictures_that_cannot_be_opened_are_found_before_training(task, write, picture, monkeypatch):
    csv = photo_table(write, picture, ["0.png", "", "2.png", "3.png"])
    write("photos/2.png", "").write_bytes(picture()[:45])
    write("photos/3.png", "no picture")
    settings = {"text": "text", "image": "photo", "image_dir": "photos", "heads": ["y"], "split": None}
    message = (
        r"2 of 4 rows can't be used: data\.csv, row 3: the picture 2\.png is damaged .*; data\.csv, row 4: "
        r"the picture 3\.png is not a picture .*\. Mend them, or leave them out with `bad_rows: drop`"
    )
    with pytest.raises(ValueError, match=message):
        task(csv, **settings).load()
    with pytest.warns(UserWarning, match="2 of 4 rows .* They are left out"):
        assert task(**settings, bad_rows="drop").load()["train"]["text"][:] == ["글0", "글1"]
    monkeypatch.setattr("hfk.tasks.source.open_all", None)  # what was opened once is known
    with pytest.warns(UserWarning, match="2 of 4 rows are read as text only"):
        assert task(**settings, missing_images="text_only").load()["train"]["image"][2:] == [None, None]


def test_pictures_are_found_as_people_name_them(task, write, picture, tmp_path):
    for name in ("photos/7.png", "photos/안/8.png", unicodedata.normalize("NFD", "photos/바다.png")):
        write(name, "").write_bytes(picture())
    csv = "no,photo,y\n7,안\\8.png,a\n7,바다.png,b\n"
    settings = {"image_dir": "photos", "heads": ["y"], "split": None}
    rows = task(csv, image="photo", **settings).load()["train"]
    assert [unicodedata.normalize("NFC", image["path"]) for image in rows["image"]] == [
        str(tmp_path / "photos/안/8.png"),
        str(tmp_path / "photos/바다.png"),
    ]
    rows = task(csv, image="{no}.png", **settings).load()["train"]
    assert rows["image"][1]["path"] == str(tmp_path / "photos/7.png")
    with pytest.raises(ValueError, match=r"row 2: the picture is an address, and none is fetched"):
        task(csv.replace("바다.png", "https://a.b/c.png"), image="photo", **settings).load()


def test_rows_of_one_input_with_different_labels_are_counted_and_kept(task, write, picture):
    write("photos/a.png", "").write_bytes(picture())
    write("photos/b.png", "").write_bytes(picture())
    rows = [
        ("바다", "a.png", "자연", "넓은, 맑은", 1), ("바다", "a.png", "음식", "맑은, 넓은", 2),  # y, and a number
        ("바다", "b.png", "음식", "", 1), ("산", "a.png", "자연", "넓은", 1), ("산", "a.png", "", "넓은", 1),
        ("강", "", "자연", "넓은", 1), ("강", "", "자연", "맑은", 1),
    ]  # fmt: skip
    csv = "text,photo,y,mood,stars\n" + "".join(f'{t},{p},{y},"{mood}",{stars}\n' for t, p, y, mood, stars in rows)
    heads = ["y", {"name": "mood", "problem": "multi_label", "separator": ","}]
    heads.append({"name": "stars", "problem": "regression"})
    message = r"4 rows share .* not their label of y, mood \(data\.csv, row 1; .*row 7\)\. "
    made = task(csv, text="text", image="photo", image_dir="photos", heads=heads, **WHOLE)
    with pytest.warns(UserWarning, match=message) as said:
        rows = made.load()["train"]
    assert len(rows) == 7
    assert sum("share their input" in str(warning.message) for warning in said) == 1


def test_a_folder_of_pictures(task, write, picture):
    for number in range(20):
        write(f"set/{['고양이', '개'][number % 2]}/{number}.png", "").write_bytes(picture((number * 9, 0, 0)))
    made = task(data="set", heads=["label"])
    loaded = made.load()
    assert {name: len(part) for name, part in loaded.items()} == {"train": 16, "validation": 2, "test": 2}
    assert made.heads[0].labels == ["개", "고양이"]
    assert (made.text, made.image) == (False, True)
    assert "0.png" in loaded["train"][0]["id"] or "png" in loaded["train"][0]["id"]


def test_a_folder_is_read_again_when_it_has_other_pictures(write, picture, tmp_path, monkeypatch):
    """Also where another folder of the same relative name has been read before."""
    seen = []
    for place in ("one", "two"):
        for number in range(4):
            file = write(f"{place}/photos/{'산' if number % 2 else '바다'}/{number}.png", "")
            file.write_bytes(picture((number * 9, 0, 0)))
        monkeypatch.chdir(tmp_path / place)
        rows = load_task({"data": "photos", "split": None}).load()["train"]
        seen.append({row["image"]["path"].split("/")[-4] for row in rows})
    assert seen == [{"one"}, {"two"}]
    write("two/photos/산/9.png", "").write_bytes(picture("blue"))
    assert load_task({"data": "photos", "split": None}).load()["train"].num_rows == 5


def test_folders_named_after_splits(task, write, picture):
    for split in ("train", "val", "test"):
        for label in "ab":
            for number in range(2):
                write(f"set/{split}/{label}/{number}.png", "").write_bytes(picture())
    assert {name: len(part) for name, part in task(data="set", heads=["label"]).load().items()} == {
        "train": 4,
        "validation": 4,
        "test": 4,
    }


# --------------------------------------------------------------------------------------------------------- bad input

ROWS = (
    "id,overview,cat1,cat2\n" + "\n".join(f"{n},글 {n},{'가나'[n % 2]},{'가나다라'[n % 4]}" for n in range(12)) + "\n"
)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"heads": ["cat3"]}, r"column 'cat3' is missing from data\.csv; it has: id, overview, cat1, cat2\. "
         r"Name it under heads: in task\.yaml"),
        ({"text": "body"}, r"column 'body' is missing .* under text:"),
        ({"id": "no"}, r"column 'no' is missing"),
        ({"heads": [{"name": "number", "column": "id"}]}, "different value on each of its 12 rows"),
        ({"heads": ["overview"]}, "which is the text input"),
        ({"heeds": ["cat1"]}, r"task\.yaml: unknown key 'heeds'; did you mean 'heads'\?"),
        ({"heads": [{"name": "cat1", "wieght": 1}]}, "unknown key 'wieght'; did you mean 'weight'"),
        ({"split": {"validaton": 0.1}}, "did you mean 'validation'"),
        ({"split": {"validation": 0.6, "test": 0.5}}, "leave some for train"),
        ({"split": {"validation": 2}}, "share in"),
        ({"heads": [{"name": "cat1", "parent": "cat2"}, {"name": "cat2", "parent": "cat1"}]}, "in a circle: cat1 →"),
        ({"heads": [{"name": "cat1", "parent": "cat0"}]}, "its parent 'cat0' is not a head"),
        ({"heads": ["cat1", "cat1"]}, "two heads are called 'cat1'"),
        ({"heads": [{"name": "cat1", "problem": "multi"}]}, "is not one of single_label"),
        ({"heads": [{"name": "text", "column": "cat1"}]}, "can't be called 'text'"),
        ({"heads": []}, "must be a list"),
        ({"text": None}, "there is no input"),
        ({"heads": [{"name": "cat1", "labels": ["가", "다"]}]}, r"row 2, .* 3 more: '나' is not a label of head"),
        ({"heads": [{"name": "cat1", "problem": "regression"}]}, r"rows 1, 3, .*: .* but '가' is not a number"),
        ({"heads": [{"name": "cat1", "problem": "multi_label"}]}, "separator"),
        ({"missing_images": "skip"}, "missing_images must be one of"),
        ({"heads": [{"name": "cat2", "parent": "cat1"}, "cat1"], "split": {"column": "cat1"}}, "is no split"),
    ],
)  # fmt: skip
def test_bad_settings_get_one_sentence(task, keys, message):
    with pytest.raises(ValueError, match=message) as caught:
        task(ROWS, **{"text": "overview", "heads": ["cat1"], **keys}).load()
    assert "\n" not in str(caught.value)


def test_a_child_with_two_parents_names_the_rows(task):
    csv = ROWS.replace("6,글 6,가,다", "6,글 6,나,다")
    heads = ["cat1", {"name": "cat2", "parent": "cat1"}]
    message = r"cat2 '다' has 2 parents in cat1: '가' in data\.csv, row 3, data\.csv, row 11; '나' in data\.csv, row 7"
    with pytest.raises(ValueError, match=message):
        task(csv, text="overview", heads=heads).load()
    heads[1]["conflicts"] = "ignore"
    with pytest.warns(UserWarning, match="1 rows put a cat2 under another cat1"):
        rows = task(csv, text="overview", heads=heads, **WHOLE).load()["train"]
    assert (rows["cat1"][6], rows["cat2"][6]) == (None, None)
    assert None not in rows["cat2"][7:]


def test_a_column_of_one_value_is_refused(task):
    with pytest.raises(ValueError, match=r"'y' has one value only \('a'\)"):
        task("text,y\n하나,a\n둘,a\n셋,\n", text="text", heads=["y"]).load()
    with pytest.raises(ValueError, match="every cell is empty"):
        task("text,y\n하나,\n둘,\n", text="text", heads=["y"]).load()


def test_a_column_that_repeats_the_text_is_refused(task):
    csv = "text,y\n" + "\n".join(f"{word},{word}" for word in ["바다", "산"] * 5)
    with pytest.raises(ValueError, match="repeats the text in 10 of 10 rows"):
        task(csv, text="text", heads=["y"]).load()


def test_a_test_table_without_labels_or_rows_is_said(task, write):
    write("test.csv", "text\n글\n")
    data = {"train": "data.csv", "test": "test.csv"}
    csv = "text,y\n" + "".join(f"글 {n * 7919},{'ab'[n % 2]}\n" for n in range(20))
    with pytest.raises(ValueError, match=r"test\.csv has no labels in column 'y', .* `hfk predict` classify it"):
        task(csv, text="text", heads=["y"], data=data).load()
    write("test.csv", "text,y\n")
    with pytest.warns(UserWarning, match=r"test\.csv has a header and no rows"):
        assert set(task(csv, text="text", heads=["y"], data=data).load()) == {"train", "validation"}


def test_a_class_with_one_row_warns_and_stays_in_train(task):
    csv = "text,y\n" + "\n".join(f"글 {n * 7919},{'ab'[n % 2]}" for n in range(20)) + "\n외톨이 하나,c\n"
    made = task(csv, text="text", heads=["y"])
    with pytest.warns(UserWarning, match=r"1 label of 'y' \(c\) with one row only"):
        loaded = made.load()
    assert 2 in loaded["train"]["y"][:]


def test_duplicate_ids_are_named(task):
    with pytest.raises(ValueError, match=r"more than once in column 'id': '3' \(the first in data\.csv, row 4 .* and "):
        task(ROWS.replace("5,글 5", "3,글 5"), text="overview", id="id", heads=["cat1"]).load()


def test_blank_text_is_none_and_no_input_is_an_error(task, write, picture):
    write("0.png", "").write_bytes(picture())
    csv = "id,text,photo,y\nA,  ,0.png,a\nB,글,,b\n"
    rows = task(csv, id="id", text="text", image="photo", heads=["y"], **WHOLE).load()["train"]
    assert rows["text"][:] == [None, "글"]
    with pytest.raises(ValueError, match=r"1 of 3 rows .*: data\.csv, row 3 \(id 'C'\): neither text nor image"):
        task(csv + "C,\t,,a\n", id="id", text="text", image="photo", heads=["y"], **WHOLE).load()
    with pytest.raises(ValueError, match=r"row 1: no text"):
        task(csv, text="text", heads=["y"], **WHOLE).load()


def test_all_bad_rows_are_named_at_once_or_left_out(task):
    csv = "text,y,stars\n하나,a,1\n ,b,2\n셋,a,많이\n,b,3\n넷,다,4\n다섯,b,5\n"
    heads = [{"name": "y", "labels": ["a", "b"]}, {"name": "stars", "problem": "regression"}]
    settings = {"text": "text", "heads": heads, "split": None}
    message = (
        r"3 of 6 rows can't be used: data\.csv, rows 2, 4: no text; data\.csv, row 3: head 'stars' is regression, "
        r"but '많이' is not a number\. Mend them, or leave them out with `bad_rows: drop`"
    )
    with pytest.raises(ValueError, match=message):
        task(csv, **settings).load()
    with pytest.warns(
        UserWarning, match="5 of 7 rows .*'다' is not one of the 2 labels of head 'y'.*They are left out"
    ):
        rows = task(csv + "여섯\n", **settings, bad_rows="drop").load()["train"]
    assert rows["text"][:] == ["하나", "다섯"]


def test_texts_of_several_columns_stay_apart(task):
    csv = "앞,뒤,y\n사과,배 감,a\n사과 배,감,b\n사과,,a\n"
    rows = task(csv, text=["앞", "뒤"], heads=["y"], **WHOLE).load()["train"]
    assert rows["text"][:] == ["사과␟배 감", "사과 배␟감", "사과␟"]


def test_files_are_joined_by_a_key(task, write):
    write("labels.tsv", "id\ty\n2\tb\n1.0\ta\n3\tb\n")
    keys = {"text": "text", "heads": ["y"], "join": {"file": "labels.tsv", "on": "id"}, "split": None}
    assert task("id,text\n1,하나\n2,둘\n3,셋\n", **keys).load()["train"]["y"][:] == [0, 1, 1]
    with pytest.warns(UserWarning, match=r"1 rows of data\.csv have no row of labels\.tsv"):
        assert task("id,text\n1,하나\n2,둘\n4,넷\n", **keys).load()["train"]["y"][2] is None
    with pytest.raises(ValueError, match=r"data\.csv has a column 'y' as labels\.tsv has"):
        task("id,text,y\n1,하나,a\n", **keys).load()
    write("labels.tsv", "id\ty\n2\tb\n2\ta\n")
    with pytest.raises(ValueError, match=r"labels\.tsv has '2' twice in column 'id'"):
        task("id,text\n1,하나\n", **keys).load()


def test_a_task_says_how_its_table_is_read(task):
    rows = task("하나;a\n둘;b\n셋;a\n", text="0", heads=[{"name": "y", "column": "1"}], header=False, **WHOLE).load()
    assert rows["train"]["text"][:] == ["하나", "둘", "셋"]


def test_a_saved_data_set_is_a_table(task, tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "y": datasets.ClassLabel(names=["나", "가"])})
    part = datasets.Dataset.from_dict({"text": ["하나", "둘"], "y": [0, 1]}, features=features)
    datasets.DatasetDict(train=part, test=part).save_to_disk(tmp_path / "saved")
    made = task(data="saved", text="text", heads=["y"], **WHOLE)
    assert {name: len(rows) for name, rows in made.load().items()} == {"train": 2, "test": 2}
    assert made.heads[0].labels == ["가", "나"]


def test_emoji_hanja_and_long_text_pass_through(task):
    long = "가" * 100_000
    csv = f"text,y\n🏖️ 美전역 韓食,a\n{long},b\n하나,a\n둘,b\n"
    assert task(csv, text="text", heads=["y"], **WHOLE).load()["train"]["text"][:2] == ["🏖️ 美전역 韓食", long]


def test_cp949_tables_load_with_a_warning(task, write):
    write("k.csv", "글,갈래\n하나,가\n둘,나\n", "cp949")
    made = task(data="k.csv", text="글", heads=[{"name": "y", "column": "갈래", "labels": ["가", "나"]}], **WHOLE)
    with pytest.warns(UserWarning, match="cp949"):
        loaded = made.load()
    assert loaded["train"]["text"][:] == ["하나", "둘"]


def test_files_that_are_not_there(task, write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.csv"):
        task(data="none.csv", text="text", heads=["y"])
    with pytest.raises(FileNotFoundError, match="hfk init"):
        load_task(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match=r"bad\.yaml, line 3: not valid YAML"):
        load_task(write("bad.yaml", "data: a.csv\nheads: [\n"))
    with pytest.raises(ValueError, match="must be a mapping"):
        load_task(write("bad.yaml", "- a\n"))
