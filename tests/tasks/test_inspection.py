from __future__ import annotations

import warnings

import pytest
import yaml

from hfk.tasks import load_task
from hfk.tasks.table_writer import TableWriter
from hfk.tasks.tables import read_table
from hfk.tools.init.inspection import inspect_table


def rows(count=60):
    lines = ["code,photo,title,kind,kind_name,group,tags,price,note,same,empty"]
    for n in range(count):
        kind = n % 4
        tags = ["조용한", "넓은", "맛있는", "깨끗한"]
        lines.append(
            f"K-{n:03},{n}.png,{n * 7919}번째 제목은 이렇게 조금 길다,{kind},{['해변', '산', '한식', '일식'][kind]},"
            f"{['자연', '음식'][kind // 2]},{tags[n % 4]};{tags[(n // 4) % 4]},{n * 1.37:.2f},{n * 31 % 59}x,y,"
        )
    return "\n".join(lines) + "\n"


def test_each_column_is_recognised(write, picture, tmp_path):
    for n in range(60):
        write(f"pics/{n}.png", "").write_bytes(picture((n, 0, 0)))
    text = inspect_table(write("data.csv", rows()))
    assert yaml.safe_load(text) == {
        "data": "data.csv",
        "text": "title",
        "image": "photo",
        "image_dir": "pics",
        "id": "code",
        "heads": [
            {"name": "group"},
            {"name": "kind_name", "parent": "group"},
            {"name": "tags", "problem": "multi_label", "separator": ";"},
            {"name": "price", "problem": "regression"},
        ],
        "split": {"validation": 0.1, "test": 0.1, "seed": 42},
        "recipe": "table",
    }
    for reason in (
        "kind: says the same as 'kind_name'",
        "same: one value only ('y')",
        "empty: every cell is empty",
        "note: 59 different values in 60 rows",
    ):
        assert reason in text
    task = load_task(write("task.yaml", text))
    task.load()
    assert [head.name for head in task.heads] == ["group", "kind_name", "tags", "price"]


def test_data_is_named_from_where_the_yaml_stands(write, tmp_path):
    table = write("data.csv", rows().replace(",photo,", ",file,").replace(".png", ""))
    assert yaml.safe_load(inspect_table(table, folder=tmp_path.parent))["data"] == f"{tmp_path.name}/data.csv"
    assert yaml.safe_load(inspect_table(table, folder=tmp_path / "runs"))["data"] == str(table)


def test_a_few_slips_do_not_hide_a_hierarchy(write):
    lines = ["text,a,b"] + [f"{n * 7919}번째 글은 조금 길다,{'가나'[n % 2]},{n % 4}" for n in range(2000)]
    lines[6] = lines[6].replace(",나,", ",가,")
    text = inspect_table(write("data.csv", "\n".join(lines)))
    assert yaml.safe_load(text)["heads"] == [{"name": "a"}, {"name": "b", "parent": "a", "conflicts": "ignore"}]
    assert "1 rows contradict a" in text
    with pytest.warns(UserWarning, match="are ignored"):
        load_task(write("task.yaml", text)).load()


def test_text_that_spells_out_the_labels_is_left_out(write):
    tags = ["조용한", "넓은", "맛있는", "깨끗한"]
    lines = ["body,all,tags"]
    for n in range(60):
        pair = [tags[n % 4], tags[(n // 4) % 4]]
        lines.append(f"{n * 7919}번째 글은 이렇게 조금 길다,{n * 7919}번째 글에는 {pair[0]} {pair[1]},{'|'.join(pair)}")
    text = inspect_table(write("data.csv", "\n".join(lines)))
    assert yaml.safe_load(text)["text"] == "body"
    assert "all: it spells out the labels of 'tags'" in text


def test_a_folder_of_pictures(write, picture, tmp_path):
    for n in range(8):
        write(f"set/{'ab'[n % 2]}/{n}.png", "").write_bytes(picture((n, 0, 0)))
    task = load_task(write("task.yaml", inspect_table(tmp_path / "set", folder=tmp_path)))
    task.load()
    assert task.heads[0].labels == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b\n", "no rows"), ("a,b\nx,1\ny,2\n", "no column looks like"), ("a\nx\nx\n", "no column looks like text")],
)
def test_tables_that_tell_nothing(write, text, message):
    with pytest.raises(ValueError, match=message):
        inspect_table(write("data.csv", text))


@pytest.mark.data
@pytest.mark.parametrize(
    ("table", "heads", "text"),
    [
        (
            "fashion_items/items.csv",
            {"slot_name": None, "category_name": "slot_name", "emotion": None},
            ["form", "material", "color"],
        ),
        (
            "fashion_products/products.csv",
            {
                "gender": None,
                "master_category": None,
                "sub_category": "master_category",
                "article_type": "sub_category",
                "base_colour": None,
                "season": None,
                "usage": None,
            },
            "product_name",
        ),
        (
            "korean_hate_speech/train.csv",
            {"contain_gender_bias": None, "bias": "contain_gender_bias", "hate": None},
            ["comments", "news_title"],
        ),
        ("intent_3i4k/train.csv", {"label": None}, "text"),
    ],
)
def test_real_tables_load_unedited(real_data, write, tmp_path, table, heads, text):
    if not (real_data / table).is_file():
        pytest.skip(f"{table} is not beside this checkout")
    path = write("task.yaml", inspect_table(real_data / table, folder=tmp_path))
    guess = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert guess["text"] == text
    with TableWriter(tmp_path / "some.csv") as writer:  # all rows were looked at; some tell that the task loads
        rows = read_table(real_data / table)
        writer.write(rows.iloc[:: max(1, len(rows) // 300)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = load_task(path, data=tmp_path / "some.csv", image_dir=(real_data / table).parent)
        loaded = task.load()
    assert {head.name: head.parent for head in task.heads} == heads
    assert list(loaded) == ["train", "validation", "test"]
