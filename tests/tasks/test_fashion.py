"""Fashion-How: the contest's table, its boxes, and the embedded sample."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hfk import MultiHeadProcessor, load_task
from hfk.models.image_preparation import ImageError, open_image, split_box
from tests import tiny

HEADER = "image_name,BBox_xmin,BBox_ymin,BBox_xmax,BBox_ymax,Daily,Gender,Embellishment"


def write(folder, boxes, header=HEADER):
    """A table of pictures whose left half is red and whose right half is blue."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [header]
    for number, box in enumerate(boxes):
        pixels = np.zeros((40, 60, 3), dtype=np.uint8)
        pixels[:, :30, 0] = pixels[:, 30:, 2] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{','.join(map(str, box))},{number % 2},{number % 3},{number % 2}")
    (folder / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "train.csv"


def test_what_is_outside_the_box_is_not_seen(tmp_path):
    table = write(tmp_path, [(0, 0, 30, 40), (30, 0, 60, 40), (-5, 10, 10, 99)] * 4)
    rows = load_task("fashion", data=table, split=None).load()
    names = ["id", "image", "daily", "gender", "embellishment"]
    assert rows["train"].column_names == names and rows["train"].num_rows == 12
    seen = {row["id"]: open_image(row["image"]) for part in rows.values() for row in part}
    assert [seen[f"{number}.png"].size for number in range(3)] == [(30, 40), (30, 40), (10, 30)]
    colors = [np.asarray(seen[name]).reshape(-1, 3).min(axis=0) == 255 for name in ("0.png", "1.png")]
    assert [list(color) for color in colors] == [[True, False, False], [False, False, True]]


@pytest.mark.parametrize(
    ("box", "message"), [((20, 0, 10, 40), "box 20,0,10,40, which is empty"), ((70, 0, 90, 9), "lies outside")]
)
def test_a_box_that_shows_nothing_is_found_before_training(tmp_path, box, message):
    table = write(tmp_path, [(0, 0, 30, 40)] * 7 + [box])
    with pytest.raises(ValueError, match=rf"1 of 8 rows can't be used.*{message}"):
        load_task("fashion", data=table).load()
    with pytest.warns(UserWarning, match="left out"):
        rows = load_task("fashion", data=table, missing_images="drop").load()
    assert sum(part.num_rows for part in rows.values()) == 7


def test_any_table_may_have_boxes(tmp_path):
    table = write(tmp_path, [(0, 0, 30, 40)] * 8, "photo,a,b,c,d,kind,y,z")
    task = load_task({"data": str(table), "image": "photo", "box": ["a", "b", "c", "d"], "heads": ["kind"]})
    assert open_image(next(iter(task.load()["train"]))["image"]).size == (30, 40)
    with pytest.raises(ValueError, match="`box:` names four columns"):
        load_task({"data": str(table), "image": "photo", "box": ["a", "b"], "heads": ["kind"]})


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "nan,0,5,5", ""])
def test_a_box_is_four_numbers(text):
    with pytest.raises(ImageError, match="box"):
        split_box(f"photo.jpg#xyxy={text}")
    assert split_box("photo#1.jpg") == ("photo#1.jpg", None)


def test_a_letterboxed_picture_keeps_its_shape(tmp_path):
    tiny.save_encoders(tmp_path)
    processor = MultiHeadProcessor.from_encoders(vision=str(tmp_path / "vision"), image_size=32, letterbox=True)
    processor.save_pretrained(tmp_path / "saved")
    again = MultiHeadProcessor.from_pretrained(tmp_path / "saved")
    picture = Image.new("RGB", (40, 20), "black")
    for each in (processor, again):
        _, seen = each.prepare_row(image=picture)
        assert seen.size == (32, 32)
        assert np.flatnonzero(np.asarray(seen)[:, 16, 0] == 0).tolist() == list(range(8, 24))


def test_the_sample_tells_its_labels_inside_the_box_alone():
    task = load_task("fashion-mini")
    rows = task.load()
    assert {head.name: len(head.labels) for head in task.heads} == {"daily": 7, "gender": 6, "embellishment": 3}
    assert all("#xyxy=" in row["image"]["path"] for part in rows.values() for row in part)


@pytest.mark.data
def test_the_contests_tables_are_read(real_data, tmp_path):
    for name, heads in (
        ("info_etri20_emotion_test_sample.csv", ["daily", "gender", "embellishment"]),
        ("Fashion-How24_sub2_val.csv", ["color"]),
    ):
        task = load_task("fashion", data=real_data / "fashion_how" / name)
        assert [head.name for head in task.source.heads] == heads
        with pytest.raises(ValueError, match=r"20 of 20 rows .*jpg doesn't exist|1,800 of .*jpg doesn't exist"):
            task.load()
