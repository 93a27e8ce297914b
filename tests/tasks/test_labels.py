"""How cells become labels: one name however it is written, the forms of several labels, names for codes, levels."""

from __future__ import annotations

import json
import unicodedata

import pytest

from hfk import HeadConfig
from hfk.tasks import load_task
from hfk.tasks.columns import HeadColumn, clean_labels, read_list
from hfk.tasks.heads import resolve_heads
from hfk.tasks.labels import encode_labels
from hfk.tasks.names import canonical

WHOLE = {"split": None}


def nfd(text):
    return unicodedata.normalize("NFD", text)


def rows(*cells, header="text,y"):
    return header + "\n" + "".join(f"글 {number},{cell}\n" for number, cell in enumerate(cells))


def labels_of(made, head=0):
    made.load()
    return made.heads[head].labels


def read(cell, **options):
    return clean_labels(HeadColumn("y", **options), [cell], lambda _: "t.csv, row 1")[0]


def test_one_name_however_it_is_written(task):
    made = task(
        rows("문화", nfd("문화"), "문화\u200b", " 문화 ", "여행\xa0지", "여행 지"), text="text", heads=["y"], **WHOLE
    )
    assert labels_of(made) == ["문화", "여행 지"]
    made = task(
        rows("문화", "여행"), text="text", heads=[{"name": nfd("갈래"), "column": "y", "labels": [nfd("여행"), "문화"]}]
    )
    assert labels_of(made) == ["여행", "문화"] and made.heads[0].name == "갈래"
    assert canonical("👨\u200d👩") == "👨\u200d👩"


def test_whole_numbers_are_written_in_one_way(task):
    made = task(rows("0.0", "1.0", "", "2", "0"), text="text", heads=["y"], **WHOLE)
    assert labels_of(made) == ["0", "1", "2"]
    assert labels_of(task(rows("1.0", "1.5", "2.0", "1.5"), text="text", heads=["y"], **WHOLE)) == ["1.0", "1.5", "2.0"]
    # A checkpoint's labels hold, whichever way a new file writes them.
    head = made.heads[0]
    again = load_task(
        {"data": str(made.source.read()[0].folder / "data.csv"), "text": "text", "heads": ["y"]}, heads=[head]
    )
    assert task(rows("2.0", "0"), text="text", heads=["y"], **WHOLE) and again.load()["train"]["y"][:] == [2, 0]


def test_names_that_are_nearly_equal_are_remarked_on(task):
    with pytest.warns(UserWarning, match="'Shopping' and 'shopping' of '.*' are different labels"):
        assert (
            len(labels_of(task(rows("Shopping", "shopping", "문화", "문화"), text="text", heads=["y"], **WHOLE))) == 3
        )


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        ("['기쁨', '슬픔']", ["기쁨", "슬픔"]), ('["기쁨"]', ["기쁨"]), ("['기쁨' '슬픔']", ["기쁨", "슬픔"]),
        ("[기쁨, 슬픔]", ["기쁨", "슬픔"]), ("[1 2]", ["1", "2"]), ("[]", []), ("{'a'}", ["a"]),
        ("('a', 'b')", ["a", "b"]), (["a", None], ["a"]), ("['don\\'t', \"a, b\"]", ["don't", "a, b"]),
    ],
)  # fmt: skip
def test_lists_are_read_however_they_are_written(cell, values):
    assert read(cell, problem="multi_label") == values
    assert read(cell, problem="multi_label", separator=",") == values
    assert read_list("[속보]['a") is None


def test_a_list_of_one_is_a_label_and_words_for_nothing_are_none():
    assert [read(cell) for cell in (["가"], [], [3], "[3]", "없음", "NA")] == ["가", None, "3", "3", "없음", "NA"]
    assert [read(cell) for cell in ("-", "N/A", "null", "NULL", "#N/A")] == [None] * 5
    assert [read(cell, labels=["N/A", "-"]) for cell in ("N/A", "-", "null")] == ["N/A", "-", None]
    with pytest.raises(ValueError, match="several labels a row need problem: multi_label"):
        read(["가", "나"])


def test_vectors_of_0_and_1_need_names():
    names = ["기쁨", "슬픔", "분노"]
    for cell in ("[1, 0, 1]", [1.0, 0.0, 1.0], "[1. 0. 1.]"):
        assert read(cell, problem="multi_label", labels=names) == ["기쁨", "분노"]
    assert read("1 0 1", problem="multi_label", labels=names, separator=" ") == ["기쁨", "분노"]
    with pytest.raises(ValueError, match=r"row 1: head 'y' holds a vector of 0 and 1.* list the head's `labels`"):
        read("[0, 0, 1]", problem="multi_label")
    assert read("[0, 1]", problem="multi_label", labels=["0", "1"]) == ["0", "1"]  # codes, as in K-MHaS


def test_one_column_a_label(task, write):
    csv = "text,mood_joy,mood_anger,b\n하나,1,0,?\n둘,True,O,?\n셋,0,n,?\n넷,,,?\n"
    for columns in (["mood_joy", "mood_anger"], "mood_*"):
        made = task(csv, text="text", heads=[{"name": "mood", "problem": "multi_label", "columns": columns}], **WHOLE)
        assert made.load()["train"]["mood"][:] == [[1], [1, 0], [], None]
        assert made.heads[0].labels == ["mood_anger", "mood_joy"]
    named = {"mood_joy": "기쁨", "mood_anger": "분노"}
    head = {"name": "mood", "columns": "mood_*", "labels": named}
    with pytest.raises(ValueError, match=r"row 2: head 'mood' has several labels, 기쁨 and 분노; .* multi_label"):
        task(csv, text="text", heads=[head], **WHOLE).load()
    made = task(csv.replace("True,O", "0,O"), text="text", heads=[head], **WHOLE)
    assert made.load()["train"]["mood"][:] == [1, 0, None, None]  # YAML sorts what the fixture dumps
    with pytest.raises(ValueError, match="column 'mood_z' is missing"):
        task(csv, text="text", heads=[{"name": "m", "columns": ["mood_joy", "mood_z"]}]).load()
    with pytest.raises(ValueError, match="reads column 'b', which holds '\\?'; write 1 or 0"):
        task(csv, text="text", heads=[{"name": "m", "columns": ["mood_joy", "b"]}]).load()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("names.csv", "y,주제\n0,음식\n1,여행\n"), ("names.csv", "topic,code\n음식,0\n여행,1\n"),
        ("names.txt", "음식\n여행\n"),
        ("names.json", '{"음식": 0, "여행": 1}'), ("names.json", '["음식", "여행"]'), (None, {0: "음식", 1: "여행"}),
    ],
)  # fmt: skip
def test_names_for_classes(task, write, file, content):
    if file:
        write(file, content)
    made = task(rows("1", "0", "1.0", "여행"), text="text", heads=[{"name": "y", "labels": file or content}], **WHOLE)
    assert made.load()["train"]["y"][:] == [1, 0, 1, 1] and made.heads[0].labels == ["음식", "여행"]
    with pytest.raises(ValueError, match="'2' is not a label of head 'y'"):
        task(rows("1", "2"), text="text", heads=[{"name": "y", "labels": file or content}]).load()


def test_what_a_checkpoint_keeps_reads_the_table_again(task):
    head = {"name": "y", "labels": {0: "음식", 1: "여행"}}
    made = task(rows("1", "0"), text="text", heads=[head], **WHOLE)
    made.load()
    kept = json.loads(json.dumps([column.reading() for column in made.source.heads]))
    again = load_task(
        {"data": str(made.source.read()[0].folder / "data.csv"), "text": "text", "heads": kept}, heads=made.heads
    )
    again.split = None
    assert again.load()["train"]["y"][:] == [1, 0]


PATHS = ["식품 > 과일", "식품 > 기타", "의류>상의", "의류 > 기타", "의류", "의류 > 상의"]


def test_levels_of_one_cell(task):
    made = task(rows(*PATHS), text="text", heads=[{"column": "y", "levels": ["대", "중"]}], **WHOLE)
    data = made.load()["train"]
    assert [head.name for head in made.heads] == ["대", "중"] and made.heads[1].parent == "대"
    assert made.heads[1].labels == ["과일", "상의", "식품 > 기타", "의류 > 기타"]
    assert data["대"][:] == [0, 0, 1, 1, 1, 1] and data["중"][:] == [0, 2, 1, 3, None, 1]
    again = [column.reading() for column in made.source.heads]  # as a checkpoint's task.json says it
    file = str(made.source.read()[0].folder / "data.csv")
    again = load_task({"data": file, "text": "text", "heads": again, **WHOLE}, heads=made.heads)
    assert again.load()["train"]["중"][:] == data["중"][:]
    with pytest.raises(ValueError, match=r"row 1: head '대' has 3 levels in 'a > b > c', but `levels:` names 2"):
        task(rows("a > b > c"), text="text", heads=[{"column": "y", "levels": ["대", "중"]}]).load()


def test_qualified_names_hold_on_a_new_table(task, write):
    heads = [{"name": "a"}, {"name": "b", "parent": "a", "qualify": True}]
    csv = "text,a,b\n하나,식품,기타\n둘,의류,기타\n셋,식품,과일\n넷,의류,\n다섯,,기타\n여섯,식품,과일\n"
    made = task(csv, text="text", heads=heads, **WHOLE)
    with pytest.warns(UserWarning, match="1 row with a name that stands under several a"):
        assert made.load()["train"]["b"][:] == [1, 2, 0, None, None, 0]
    with pytest.raises(
        ValueError, match=r"2 parents in a: .* say `qualify: true` for head 'b': they become '식품 > 기타'"
    ):
        task(csv, text="text", heads=["a", {"name": "b", "parent": "a"}]).load()
    folder = made.source.read()[0].folder
    new = {"data": str(folder / "data.csv"), "text": "text", "heads": heads, "split": None}
    write("data.csv", "text,a,b\n하나,의류,기타\n둘,,과일\n")
    assert load_task(new, heads=made.heads).load()["train"]["b"][:] == [2, 0]


def test_an_empty_parent_is_filled_in(task):
    csv = "text,a,b\n하나,식품,과일\n둘,,과일\n셋,의류,상의\n넷,,\n"
    made = task(csv, text="text", heads=["a", {"name": "b", "parent": "a"}], **WHOLE)
    with pytest.warns(
        UserWarning, match=r"1 row with a b but no a get the a that it has elsewhere \(data\.csv, row 2\)"
    ):
        assert made.load()["train"]["a"][:] == [0, 0, 1, None]


@pytest.mark.parametrize(
    ("cell", "number"), [("12,900원", 12900), ("₩3,000", 3000), ("35%", 35), ("1e-3", 0.001), (4, 4)]
)
def test_numbers_are_read_as_people_write_them(cell, number):
    assert read(cell, problem="regression") == number


@pytest.mark.parametrize("cell", ["1,2", "2024-01-02", "약 3", "inf"])
def test_what_is_no_number(cell):
    with pytest.raises(ValueError, match="is not a number"):
        read(cell, problem="regression")


@pytest.mark.parametrize("name", ["mean", "error", "paths"])
def test_reserved_names_are_refused(name):
    with pytest.raises(ValueError, match=f"can't be called '{name}'"):
        HeadColumn(name)


def test_rows_of_one_group_stay_in_one_split_and_fold(task):
    csv = "text,y,who\n" + "".join(f"글 {n * 7919},{'가나'[n % 2]},u{n % 20}\n" for n in range(200))
    made = task(csv, text="text", heads=["y"], split={"validation": 0.2, "test": 0.2, "group": "who"})
    loaded = made.load()
    whose = [{f"u{int(text.split()[1]) // 7919 % 20}" for text in part["text"]} for part in loaded.values()]
    assert len(whose) == 3 and sum(map(len, whose)) == 20
    pool = made.pool(3)
    folds = {}
    for text, fold in zip(pool.rows["text"], pool.folds, strict=True):
        folds.setdefault(int(text.split()[1]) // 7919 % 20, set()).add(int(fold))
    assert all(len(found) == 1 for found in folds.values())


def test_a_label_too_rare_to_be_learned_is_no_mistake_where_the_model_is_scored():
    """A run keeps `min_rows` with how a head is read, so that other rows lose such labels as the training rows did."""
    column = HeadColumn("mood", problem="multi_label", separator=",", min_rows=20, qualify=False)
    again = HeadColumn(**column.reading())
    assert again.min_rows == 20 and "min_rows" not in HeadColumn("mood").reading()
    head = HeadConfig("mood", ["가벼운", "편안한"], problem="multi_label")
    labeled = HeadColumn.from_head(head, again)
    values = clean_labels(labeled, ["가벼운,드문", "드문"], str)
    assert resolve_heads([labeled], {"mood": values}, str)[0].labels == head.labels
    assert encode_labels(values, head)[1].to_pylist() == [[0], []]
