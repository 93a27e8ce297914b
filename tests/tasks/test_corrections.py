"""A corrections file is applied whole, says what it did, and is refused in one sentence that names the line."""

from __future__ import annotations

import csv
import hashlib
import io

import pytest

from hfk import HeadConfig
from hfk.tasks import load_task

HEADER = "id,head,from,to,reason\n"
HEADS = [
    {"name": "cat1"},
    {"name": "cat2", "parent": "cat1"},
    {"name": "mood", "problem": "multi_label", "separator": ","},
    {"name": "stars", "problem": "regression"},
]
TREE = {"해변": "자연", "산": "자연", "한식": "음식", "일식": "음식"}


def table(rows=40, start=0):
    lines = ["id,text,cat1,cat2,mood,stars"]
    for n in range(start, start + rows):
        cat2 = list(TREE)[n % 4]
        # Texts that share nothing, so that each row is a group of its own when rows are divided.
        text = " ".join(hashlib.md5(f"{n}{part}".encode()).hexdigest()[:9] for part in range(5))
        lines.append(f'P{n},{text},{TREE[cat2]},{cat2},"조용한,{["넓은", "좁은"][n % 2]}",{n}.5')
    return "\n".join(lines) + "\n"


@pytest.fixture
def places(task, write):
    """Make the task with a corrections file of these lines."""

    def places(lines, **keys):
        text = lines if lines.startswith("id") or not lines else HEADER + lines
        write("corrections.csv", text)
        keys = {"heads": HEADS, "split": None, "corrections": "corrections.csv", **keys}
        return task(table(), text="text", id="id", **keys)

    return places


def labels(rows, head):
    names = rows.features[head].names
    found = zip(rows["id"], rows[head], strict=True)
    return {identity: None if label is None else names[label] for identity, label in found}


def test_every_kind_of_label_is_corrected_and_counted(places):
    made = places(
        "P0,cat2,해변,산,절벽이다\n"
        "P2,cat2,한식,해변,\nP2,cat1,음식,자연,\n"
        'P4,mood,"[""조용한"", ""넓은""]","[""좁은""]",\n'
        "P5,stars,5.5,3,\n"
        "P6,cat2,한식,,누구도 모른다\n"
    )
    rows = made.load()["train"]
    assert labels(rows, "cat2") == {f"P{n}": list(TREE)[n % 4] for n in range(40)} | {
        "P0": "산", "P2": "해변", "P6": None,
    }  # fmt: skip
    assert labels(rows, "cat1")["P2"] == "자연"
    by_id = dict(zip(rows["id"], rows, strict=True))
    assert by_id["P4"]["mood"] == [rows.features["mood"].feature.str2int("좁은")]
    assert by_id["P5"]["stars"] == 3.0
    assert made.corrected == "corrections.csv: 6 labels corrected (train: 3 cat2, 1 cat1, 1 mood, 1 stars)"


def test_lines_that_say_what_is_so_change_nothing(places):
    made = places("P0,cat1,음식,자연,\nP1,cat2,해변,산,\nP1,cat2,해변,산,again\n")
    rows = made.load()["train"]
    assert labels(rows, "cat2")["P1"] == "산"
    assert made.corrected == "corrections.csv: 0 labels corrected (train: none); 2 were so already"


def test_a_later_line_goes_on_from_an_earlier_one(places):
    made = places("P0,cat2,해변,산,\nP0,cat2,산,해변,back\nP1,cat2,산,해변,\nP1,cat2,해변,,\n")
    rows = made.load()["train"]
    assert labels(rows, "cat2")["P0"] == "해변" and labels(rows, "cat2")["P1"] is None
    assert made.corrected == "corrections.csv: 1 label corrected (train: 1 cat2); 1 was so already"


def test_all_splits_are_corrected_and_divided_as_before(task, places):
    keys = {"split": {"validation": 0.25, "test": 0.25, "seed": 1}}
    plain = task(table(), text="text", id="id", heads=HEADS, **keys).load()
    lines = "".join(f"P{n},cat2,해변,산,\n" for n in range(0, 40, 4))
    made = places(lines, **keys)
    corrected = made.load()
    for name in ("train", "validation", "test"):
        assert corrected[name]["id"] == plain[name]["id"]
        before, after = labels(plain[name], "cat2"), labels(corrected[name], "cat2")
        count = sum(label == "해변" for label in before.values())
        assert count and sum(before[row] != after[row] for row in before) == count
        assert f"{name}: {count} cat2" in made.corrected
    assert "해변" not in {*labels(corrected["train"], "cat2").values()}


def test_a_changed_file_is_read_again(places):
    assert labels(places("P0,cat2,해변,산,\n").load()["train"], "cat2")["P0"] == "산"
    assert labels(places("P1,cat2,산,해변,\n").load()["train"], "cat2")["P0"] == "해변"


def test_a_task_may_be_given_a_file(write):
    path = write("fixed.csv", HEADER)
    made = load_task("ynat-mini", corrections=path)
    first = made.load()["train"][0]
    topic = next(head for head in made.heads if head.name == "topic")
    given, right = topic.labels[first["topic"]], topic.labels[first["topic"] - 1]
    write("fixed.csv", f"{HEADER}{first['id']},topic,{given},{right},\n")
    made = load_task("ynat-mini", corrections=path)
    assert topic.labels[made.load()["train"][0]["topic"]] == right
    assert "1 topic" in made.corrected


def test_rows_of_the_space_are_found_by_their_text(places):
    """Their ids are hashes; with consent the text is there, guarded against spreadsheets and cut to one line."""
    text = table().splitlines()[1].split(",")[1]
    assert labels(places(gathered((text, "해변", "산", "2025-01-01"))).load()["train"], "cat2")["P0"] == "산"


def gathered(*said: tuple[str, str, str, str]) -> str:
    """A file that a Space has gathered: text, what the model said, what is right, when."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["id", "head", "from", "to", "reason", "checkpoint", "time", "text", "image"])
    for text, given, right, time in said:
        writer.writerow(["9f86d081884c7d65", "cat2", given, right, "", "tiny", time, f"  {text}\n", ""])
    return buffer.getvalue()


def test_of_what_a_space_gathered_the_newest_holds_and_strangers_rows_are_counted(places):
    """Its `from` is what a model said, which need not be the row's label."""
    text = table().splitlines()[1].split(",")[1]
    said = [
        (text, "한식", "산", "2025-02-02"),
        (text, "산", "해변", "2025-01-01"),
        ("어디에도 없는 글", "산", "해변", "2025-03-03"),
    ]
    task = places(gathered(*said, ("", "산", "해변", "2025-03-04")))
    assert labels(task.load()["train"], "cat2")["P0"] == "산"
    assert task.corrected.endswith("; 2 of rows that are not in the table")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("P99,cat1,자연,음식,\n", r"corrections.csv, row 1: 'P99' is no row's id, and the line has no `text`"),
        ("P0,cat2,해변,산,\nP0,cat9,자연,음식,\n", r"row 2: 'cat9' is no head of the task; heads: cat1, cat2"),
        ("P0,cat2,해변,호수,\n", r"row 1: '호수' is not a label of head 'cat2'; its labels: 산, 일식"),
        ('P4,mood,"[""조용한"",""넓은""]","[""시끄러운""]",\n', "'시끄러운' is not a label of head 'mood'"),
        ("P0,cat2,산,한식,\n", r"row 1: cat2 of data.csv, row 1 \(id 'P0'\) is '해변', not '산' as `from` says"),
        ("P0,cat2,해변,산,\nP0,cat2,해변,한식,\n", r"row 2: .* is '산' after .*, row 1, not '해변' .* contradict"),
        ("P2,cat2,한식,해변,\n", r"row 1: .*cat2 '해변' under cat1 '음식', but it belongs to '자연'.* its cat1 too"),
        ("P2,cat1,음식,자연,\n", r"row 1: .*cat2 '한식' under cat1 '자연', but it belongs to '음식'.* its cat2 too"),
        ("P5,stars,5.5,many,\n", "row 1, `to`: head 'stars' is regression, but 'many' is not a number"),
        ('P4,mood,"[""조용한""","[]",\n', r"row 1: mood of .* is \['조용한'"),
        ("id,head,from,reason\nP0,cat2,해변,\n", "column 'to' is missing from corrections.csv; it has: id, head, from"),
        ("P0,cat2,해변\n", "corrections.csv"),
        ('P0,cat2,해변,"산\n', "corrections.csv"),
        ("", "corrections.csv"),
    ],
)  # fmt: skip
def test_what_can_not_be_applied_is_one_sentence(places, lines, message):
    with pytest.raises(ValueError, match=message) as caught:
        places(lines).load()
    assert "\n" not in str(caught.value)


def test_a_file_in_another_encoding_is_read_and_none_is_said(places, write, task):
    made = places(HEADER)
    write("corrections.csv", HEADER + "P0,cat2,해변,산,가\n", encoding="utf-16")
    made.load()
    assert made.corrected.startswith("corrections.csv: 1 label corrected")
    with pytest.raises(FileNotFoundError, match=r"no corrections file .*nothing\.csv"):
        task(table(), text="text", id="id", heads=HEADS, corrections="nothing.csv").load()


def test_a_text_that_no_row_has_is_said(places):
    line = "id,head,from,to,reason,text\n9f86d081884c7d65,cat2,해변,산,,처음 보는 글\n"
    with pytest.raises(ValueError, match="row 1: '9f86d081884c7d65' is no row's id, and its `text` is no row's text"):
        places(line).load()


def test_an_id_of_two_splits_names_neither(write, task):
    write("test.csv", table(8, start=100).replace("P100,", "P0,", 1))
    write("corrections.csv", HEADER + "P0,cat2,해변,산,\n")
    write("data.csv", table())
    made = task(
        text="text", id="id", heads=HEADS, data={"train": "data.csv", "test": "test.csv"}, split=None,
        corrections="corrections.csv",
    )  # fmt: skip
    with pytest.raises(ValueError, match="id 'P0' is a row of train and test"):
        made.load()


def test_a_hierarchy_that_is_wrong_in_the_table_can_be_corrected(task, write):
    """Most rows tell what belongs where, as they are after the corrections."""
    rows = table().replace("자연,해변", "음식,해변", 1)
    keys = {"text": "text", "id": "id", "heads": HEADS[:2], "split": None}
    with pytest.raises(ValueError, match="2 parents"):
        task(rows, **keys).load()
    write("corrections.csv", HEADER + "P0,cat1,음식,자연,\n")
    made = task(rows, corrections="corrections.csv", **keys)
    assert labels(made.load()["train"], "cat1")["P0"] == "자연"


def test_a_checkpoints_labels_hold_for_corrections_too(write, task, tmp_path):
    """Scoring other rows keeps the checkpoint's labels: `to` may be one that these rows lack."""
    write("corrections.csv", HEADER + "P0,cat1,자연,쇼핑,\n")
    task(table(), text="text", id="id", heads=["cat1"], split=None, corrections="corrections.csv")
    made = load_task(tmp_path / "task.yaml", heads=[HeadConfig("cat1", ["자연", "음식", "쇼핑"])])
    assert labels(made.load()["train"], "cat1")["P0"] == "쇼핑"
