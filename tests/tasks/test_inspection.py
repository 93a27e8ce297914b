from __future__ import annotations

import json
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


def test_each_column_is_recognized(write, picture, tmp_path):
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
        ],
        "split": {"validation": 0.1, "test": 0.1, "seed": 42},
        "recipe": "table",
    }
    for reason in (
        "kind: says the same as 'kind_name'",
        "same: one value only ('y')",
        "empty: every cell is empty",
        "note: 59 different values in 60 rows",
        "# - {name: price, problem: regression}  # numbers from 0 to 80.83",
    ):
        assert reason in text
    task = load_task(write("task.yaml", text))
    task.load()
    assert [head.name for head in task.heads] == ["group", "kind_name", "tags"]


def test_data_is_named_from_where_the_yaml_stands(write, tmp_path):
    table = write("data.csv", rows().replace(",photo,", ",file,").replace(".png", ""))
    assert yaml.safe_load(inspect_table(table, folder=tmp_path.parent))["data"] == f"{tmp_path.name}/data.csv"
    assert yaml.safe_load(inspect_table(table, folder=tmp_path / "runs"))["data"] == str(table)


def test_a_few_slips_do_not_hide_a_hierarchy(write):
    lines = ["text,a,b"] + [f"{n * 7919}번째 글은 조금 길다,{'가나'[n % 2]},{n % 4}" for n in range(2000)]
    lines[6] = lines[6].replace(",나,", ",가,")
    with pytest.warns(UserWarning, match="are ignored"):
        text = inspect_table(write("data.csv", "\n".join(lines)))
    assert yaml.safe_load(text)["heads"] == [{"name": "a"}, {"name": "b", "parent": "a", "conflicts": "ignore"}]
    assert "1 rows contradict a" in text


def test_text_that_spells_out_the_labels_is_left_out(write):
    tags = ["조용한", "넓은", "맛있는", "깨끗한"]
    lines = ["body,all,tags"]
    for n in range(60):
        pair = [tags[n % 4], tags[(n // 4) % 4]]
        lines.append(f"{n * 7919}번째 글은 이렇게 조금 길다,{n * 7919}번째 글에는 {pair[0]} {pair[1]},{'|'.join(pair)}")
    text = inspect_table(write("data.csv", "\n".join(lines)))
    assert yaml.safe_load(text)["text"] == "body"
    assert "all: it spells out the labels of 'tags'" in text


def guess(write, header, make, count=120):
    """What init makes of a table of texts and some more columns; `make` gives a row's cells."""
    lines = [f"문장,{header}"]
    lines += [f"{n * 7919}번째 문장은 이렇게 조금 길다,{','.join(map(str, make(n)))}" for n in range(count)]
    return inspect_table(write("code.csv", "\n".join(lines)))


@pytest.mark.parametrize(
    ("header", "make", "head"),
    [
        ("감정", lambda n: [f"\"['{['기쁨', '슬픔', '분노'][n % 3]}', '불안']\""],
         {"name": "감정", "problem": "multi_label"}),
        ("labels", lambda n: ['"[""a"", ""b""]"' if n % 2 else '"[""c""]"'],
         {"name": "labels", "problem": "multi_label"}),
        ("y", lambda n: [f"\"[{n % 2}, 0, 0, 1]\""],
         {"name": "y", "problem": "multi_label", "labels": ["0", "1", "2", "3"]}),
        ("y", lambda n: [["0", "1", "2", '"0,2"', '"1,2"'][n % 10 // 2 if n % 10 > 5 else n % 3]],
         {"name": "y", "problem": "multi_label", "separator": ","}),
        ("분류", lambda n: [["정치/사회", "경제", "문화/예술"][n % 3]], {"name": "분류"}),
        ("의도", lambda n: ["손님이 담당자의 빠른 답변을 바라는 문의 유형 " + "가나다"[n % 3]], {"name": "의도"}),
        ("class", lambda n: [[101, 205, 999, 1250][n % 4]], {"name": "class"}),
        ("y", lambda n: [["0.0", "1.0", ""][n % 3]], {"name": "y"}),
        ("점수", lambda n: [f"{n % 17 / 4:.2f}"], {"name": "점수", "problem": "regression"}),
        ("경로", lambda n: [["식품 > 과일 > 사과", "식품 > 채소", "의류 > 상의 > 기타"][n % 3]],
         {"column": "경로", "levels": ["경로1", "경로2", "경로3"], "separator": ">"}),
        ("기쁨,분노,불안", lambda n: [n % 2, int(n % 5 == 0), 1],
         {"name": "labels", "problem": "multi_label", "columns": ["기쁨", "분노", "불안"]}),
        ("태그", lambda n: [f"#{'가나다'[n % 3]} #{'라마'[n // 3 % 2]}"],
         {"name": "태그", "problem": "multi_label", "separator": "#"}),
        ("topic", lambda n: ['"{""choices"": [""가"", ""나""]}"' if n % 4 else "다"],
         {"name": "topic", "problem": "multi_label", "labels": ["가", "나", "다"]}),
        ("라벨", lambda n: [f"2023-0{n % 4 + 1}-01"], {"name": "라벨"}),
        ("부서코드", lambda n: [["001", "010", "100"][n % 3]], {"name": "부서코드"}),
        ("y", lambda n: [["가", "나", "N/A", "-", "NULL"][n % 5]], {"name": "y"}),
        ("해,달,별", lambda n: [int(n % 3 == k) for k in range(3)], {"name": "labels", "columns": ["해", "달", "별"]}),
    ],
    ids=["Python", "JSON", "vector", "few combined", "with a slash", "long", "codes", "floats", "number", "levels",
         "columns", "hashtags", "choices", "dates", "its own file names no codes", "missing", "one-hot"],
)  # fmt: skip
def test_the_form_of_labels(write, header, make, head):
    assert yaml.safe_load(guess(write, header, make))["heads"] == [head]


def test_what_is_no_label_has_another_role_or_is_proposed(write):
    header = ",id,작성일,나이,작성자,조회수,feature1,분류,split"
    text = guess(
        write,
        header,
        lambda n: [n, 1000 + n // 2, f"2024-01-{n % 28 + 1:02}", 20 + n % 40, f"u{n % 30}", n * 37, n * 0.37,
                   "가나다"[n % 3], ["train", "train", "valid"][n // 40]],
    )  # fmt: skip
    found = yaml.safe_load(text)
    assert found["heads"] == [{"name": "분류"}] and found["split"] == {"column": "split", "group": "작성자"}
    assert "id" not in found and found["text"] == "문장"
    for line in (
        "# - {name: 나이}",
        "# - {name: 조회수, problem: regression}",
        "#   작성일: dates",
        "#   (no name): it",
    ):
        assert line in text
    # A regression or a fact about the row is a head where nothing else can be.
    assert yaml.safe_load(guess(write, "나이,url", lambda n: [20 + n % 40, f"https://a/{n}"]))["heads"] == [
        {"name": "나이"}
    ]


def test_what_people_export_beside_labels_is_no_label(write):
    text = guess(
        write,
        "타임스탬프,처리일수,크기,언론사,스팸,환불,활성,annotator1,majority",
        lambda n: [f"2024/03/{n % 28 + 1:02} {n % 12}:{n % 60:02}:33 오후 GMT+9", n % 7, f"{n}cm x {n * 7 % 90}cm",
                   "가나다라마"[n % 5], ["TRUE", "FALSE"][n % 2], "YN"[n // 2 % 2], "TRUE", *["가나다"[n % 3]] * 2],
    )  # fmt: skip
    found = yaml.safe_load(text)
    assert [head["name"] for head in found["heads"]] == ["스팸", "환불", "majority"] and found["text"] == "문장"
    for line in (
        "#   타임스탬프: dates",
        "# - {name: 처리일수}",
        "#   크기: ",
        "# - {name: 언론사}",
        "#   활성: one value",
    ):
        assert line in text


def test_exports_of_labeling_tools(write):
    """Lists of one label each are labels; what is of parts of a text is not learned, and it is said."""
    rows = [{"id": n, "text": f"{n * 7919}번째 문장은 길다", "label": [["가"], ["나"], []][n % 3], "Comments": []}
            for n in range(60)]  # fmt: skip
    text = inspect_table(write("all.jsonl", "\n".join(map(json.dumps, rows))))
    assert yaml.safe_load(text)["heads"] == [{"name": "label"}] and "#   Comments: every cell is empty" in text
    assert sum(map(len, load_task(write("task.yaml", text)).load().values())) == 60
    spans = [row | {"label": [[0, row["id"], "PS"], [3, 4, "DT"]]} for row in rows]
    with pytest.raises(
        ValueError, match=r"no column looks like a label; .*label: it holds lists of lists, such as parts"
    ):
        inspect_table(write("spans.jsonl", "\n".join(map(json.dumps, spans))))
    entities = [
        row | {"label": None, "entities": [{"label": "PS", "start_offset": 0, "end_offset": 2}]} for row in rows
    ]
    with pytest.raises(ValueError, match=r"entities\.label: it is of parts of a text, which"):
        inspect_table(write("entities.jsonl", "\n".join(map(json.dumps, entities))))
    texts = [[{"context": f"{n}번째 {kind} 글"} for kind in ("긴", "짧은")] for n in range(30)]
    squad = {"data": [{"title": f"글{n}", "paragraphs": pair} for n, pair in enumerate(texts)]}
    with pytest.raises(
        ValueError, match=r"by hand\. paragraphs\.context: it holds lists of texts.*write one object a text"
    ):
        inspect_table(write("squad.json", json.dumps(squad)))


@pytest.mark.parametrize(
    ("name", "told"), [("가/1.txt", "write them as one table"), ("train.csv", "name them in a task")]
)
def test_a_folder_of_other_files_says_what_to_do(write, tmp_path, name, told):
    write(f"모음/{name}", "글,갈래\n")
    with pytest.raises(ValueError, match=rf"모음.* has no subfolders with pictures, but \.\w+ files; .*{told}"):
        inspect_table(tmp_path / "모음")


def test_a_last_row_of_sums_is_remarked_on(write):
    lines = ["문장,분류,건수"] + [f"{n * 7919}번째 문장은 이렇게 조금 길다,{'가나다'[n % 3]},{n}" for n in range(60)]
    with pytest.warns(UserWarning, match=r"data\.csv: what is in row 61 looks like sums or means"):
        inspect_table(write("data.csv", "\n".join([*lines, "합계,,1770"])))


def test_a_cut_off_line_is_left_out_and_a_table_of_many_such_is_refused(write):
    lines = ["문장,분류"] + [f"{n * 7919}번째 문장은 이렇게 조금 길다,{'가나다'[n % 3]}" for n in range(120)]
    with pytest.warns(UserWarning, match=r"data\.csv, row 121: no text\. They are left out"):
        text = inspect_table(write("data.csv", "\n".join([*lines, "끝이 잘린 줄"])))
    assert yaml.safe_load(text)["bad_rows"] == "drop" and "1 rows have no input (rows 121)" in text
    with pytest.raises(ValueError, match="line 122: 1 cells"):
        inspect_table(write("data.csv", "\n".join([*lines, *["끝이 잘린 줄"] * 9])))


def test_decimal_commas_are_no_labels(write):
    text = guess(write, "분류,평점", lambda n: ["가나다"[n % 3], f'"{n % 5},{n % 7}"'])
    assert yaml.safe_load(text)["heads"] == [{"name": "분류"}] and "평점: numbers with a comma" in text


def test_the_public_and_the_private_test_are_one_split(write):
    text = guess(write, "분류,Usage", lambda n: ["가나다"[n % 3], ["Training", "PublicTest", "PrivateTest"][n // 42]])
    assert yaml.safe_load(text)["split"] == {"column": "Usage", "validation": 0.1}
    loaded = load_task(write("task.yaml", text)).load()
    assert len(loaded["test"]) == 78 and len(loaded["train"]) + len(loaded["validation"]) == 42


def test_names_for_codes_are_looked_for_beside_the_table(write, tmp_path):
    write("topic_dict.csv", "topic_idx,topic\n0,음식\n1,여행\n")
    write("notes.csv", "a,b\n0,1\n")
    text = guess(write, "topic_idx", lambda n: [n % 2])
    assert yaml.safe_load(text)["heads"] == [{"name": "topic_idx", "labels": "topic_dict.csv"}]
    task = load_task(write("task.yaml", text))
    assert task.load()["train"].features["topic_idx"].names == ["음식", "여행"]
    write("분류코드.csv", "코드,명칭\nC01,음식\nC02,여행\n")
    text = guess(write, "분류코드", lambda n: [["C01", "C02"][n % 2]])
    assert yaml.safe_load(text)["heads"] == [{"name": "분류코드", "labels": "분류코드.csv"}]


def test_a_child_of_one_name_under_several_parents_is_qualified(write):
    under = {"식품": ["과일", "채소", "기타"], "의류": ["상의", "하의", "기타"]}
    text = guess(
        write, "대,중", lambda n: ["식품의류"[n % 2 * 2 :][:2], under["식품의류"[n % 2 * 2 :][:2]][n // 2 % 3]]
    )
    assert yaml.safe_load(text)["heads"] == [{"name": "대"}, {"name": "중", "parent": "대", "qualify": True}]
    task = load_task(write("task.yaml", text))
    task.load()
    assert [label for label in task.heads[1].labels if "기타" in label] == ["식품 > 기타", "의류 > 기타"]


def test_long_texts_get_room_and_empty_cells_are_explained(write):
    lines = ["본문,태그"] + [
        f"{n}번 " + "아주 긴 글이다. " * 30 + f",{['', '가|나', '나', '가', '나|다', '다'][n % 6]}" for n in range(40)
    ]
    text = inspect_table(write("data.csv", "\n".join(lines)))
    found = yaml.safe_load(text)
    assert found["recipe"] == {"base": "table", "max_length": 192}
    assert found["heads"][0]["empty"] == "none" and "7 of 40 cells are empty" in text


def test_a_wide_table_takes_its_label(write):
    text = guess(write, ",".join(f"x{k}" for k in range(12)) + ",label", lambda n: [*range(12), "가나"[n % 2]], 60)
    assert yaml.safe_load(text)["heads"] == [{"name": "label"}]
    text = guess(write, ",".join(f"x{k}" for k in range(12)) + ",label",
                 lambda n: [*(n * 7 // (k + 1) % 5 for k in range(12)), "가나"[n % 2]])  # fmt: skip
    assert yaml.safe_load(text)["heads"] == [{"name": "label"}] and "# - {name: x3}" in text


def test_two_levels_of_folders_and_those_that_say_nothing(write, picture, tmp_path):
    for n in range(24):
        split = ["1.Training", "2.Validation"][n % 12 > 8]
        kind = ["밝은색/노랑", "밝은색/분홍", "짙은색/남색"][n % 3]
        write(f"set/{split}/원천데이터/{kind}/{n}.png", "").write_bytes(picture((n * 9, 0, 0)))
    write("set/__MACOSX/x/0.png", "")
    text = inspect_table(tmp_path / "set", folder=tmp_path)
    assert yaml.safe_load(text)["heads"] == [{"name": "label"}, {"name": "label2", "parent": "label"}]
    loaded = load_task(write("task.yaml", text)).load()
    assert {name: len(part) for name, part in loaded.items()} == {"train": 18, "validation": 6}


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
