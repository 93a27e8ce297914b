"""The audit finds labels that were moved, keeps the hierarchy whole, and leaves a file that training applies."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

pytest.importorskip("cleanlab", reason='the audit needs cleanlab: pip install "hfk[audit]"')

from hfk.tasks import load_task
from hfk.tools.audit.suspects import audit
from tests import tiny

LEAVES = [("자연", "산"), ("자연", "바다"), ("음식", "한식"), ("음식", "일식")]
CAT2 = [leaf for _, leaf in LEAVES]
TAGS = ["일출", "가족", "야경"]
ROWS = 240


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("arrow"))


def sure(row: int, right: int, size: int, best: float) -> list[float]:
    values = np.full(size, (1 - best) / (size - 1)) * np.random.default_rng(row).uniform(0.5, 1.5, size)
    values[right] = best
    return (values / values.sum()).tolist()


def write_run(folder: Path, **recipe) -> dict[str, set[str]]:
    """A table, its task, and what a good model would say of its rows; returns by head the rows that lie."""
    folder.mkdir(parents=True, exist_ok=True)
    lies = {"cat2": {"5", "50", "77"}, "tags": {"12", "90"}, "price": {"33"}}
    lines, columns = [], {name: [] for name in ("cat1", "cat2", "tags", "price")}
    probabilities = {name: [] for name in columns}
    for row in range(ROWS):
        leaf, tag = row % 4, row // 4 % 3
        shown = (leaf + 2) % 4 if str(row) in lies["cat2"] else leaf
        tags = [TAGS[tag]] if str(row) not in lies["tags"] else [TAGS[(tag + 1) % 3]]
        price = 10.0 + leaf + (90 if str(row) in lies["price"] else 0)
        columns["cat1"].append(LEAVES[shown][0])
        columns["cat2"].append(LEAVES[shown][1])
        columns["tags"].append(tags)
        columns["price"].append(price)
        lines.append([row, f"{LEAVES[leaf][1]} 곁의 집 {row} 호 <b>&", *LEAVES[shown], ",".join(tags), price])
        best = 0.99 if row % 10 else 0.6
        # Labels are sorted by name: 음식 < 자연, 바다 < 산 < 일식 < 한식, 가족 < 야경 < 일출.
        probabilities["cat1"].append(sure(row, leaf < 2, 2, best))
        probabilities["cat2"].append(sure(row, sorted(CAT2).index(CAT2[leaf]), 4, best))
        probabilities["tags"].append([0.985 if name == TAGS[tag] else 0.012 for name in sorted(TAGS)])
        probabilities["price"].append([10.0 + leaf + 0.1 * np.sin(row)])
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text", "cat1", "cat2", "tags", "price"], *lines])
    heads = [
        {"name": "cat1"},
        {"name": "cat2", "parent": "cat1", "conflicts": "ignore"},
        {"name": "tags", "problem": "multi_label", "separator": ","},
        {"name": "price", "problem": "regression"},
    ]
    task = {"data": "table.csv", "text": "text", "id": "id", "heads": heads, "split": {"validation": 0.2}, "name": "집"}
    (folder / "task.yaml").write_text(yaml.safe_dump(task, allow_unicode=True), encoding="utf-8")
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"task": str(folder / "task.yaml"), **recipe}))
    table = {"id": [str(row) for row in range(ROWS)], "fold": [row % 3 for row in range(ROWS)]}
    for name in columns:
        table[f"{name}_label"] = columns[name]
        table[f"{name}_probabilities"] = pa.array(probabilities[name], pa.list_(pa.float32()))
    pq.write_table(pa.table(table), folder / "out_of_fold.parquet")
    return lies


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_moved_labels_are_listed_with_what_they_should_be(tmp_path):
    lies = write_run(tmp_path)
    said = audit(tmp_path)
    listed = read(tmp_path / "audit" / "label_errors.csv")
    for head in ("cat2", "tags", "price"):  # of row 50 the model itself is not sure
        assert {line["id"] for line in listed if line["head"] == head} == lies[head] - {"50"}, head
    cat2 = {line["id"]: line for line in listed if line["head"] == "cat2"}
    assert (cat2["5"]["given"], cat2["5"]["suggested"]) == ("일식", "바다")
    assert "rows labeled 일식 get" in cat2["5"]["reason"] and float(cat2["5"]["given_probability"]) < 0.02
    tags = next(line for line in listed if line["id"] == "12" and line["head"] == "tags")
    assert (json.loads(tags["given"]), json.loads(tags["suggested"])) == (["가족"], ["일출"])
    price = next(line for line in listed if line["head"] == "price")
    assert float(price["suggested"]) == pytest.approx(11, abs=0.2) and price["proposed"] == "no"
    assert re.search(r"cat2 +240 +99% +2 +2\n", said) and "at most 2%" in said


def test_the_proposal_is_a_file_that_the_task_applies(tmp_path):
    """What is proposed for one head brings the labels along that its hierarchy needs."""
    lies = write_run(tmp_path)
    audit(tmp_path, tmp_path / "out")
    lines = read(tmp_path / "out" / "corrections.csv")
    assert list(lines[0]) == ["id", "head", "from", "to", "reason"]
    proposed = {line["id"] for line in lines if line["head"] == "cat2"}
    assert proposed == {line["id"] for line in lines if line["head"] == "cat1"}
    assert proposed == lies["cat2"] - {"50"}
    made = load_task(tmp_path / "task.yaml", corrections=tmp_path / "out" / "corrections.csv")
    rows = made.load()
    assert f"{len(lines)} labels corrected" in made.corrected
    by_id = {row["id"]: row for part in rows.values() for row in part}
    cat1, cat2 = made.heads[:2]
    assert (cat1.labels[by_id["5"]["cat1"]], cat2.labels[by_id["5"]["cat2"]]) == ("자연", "바다")


def test_a_second_audit_keeps_the_first_ones_corrections(tmp_path):
    write_run(tmp_path, corrections=str(tmp_path / "first.csv"))
    (tmp_path / "first.csv").write_text("id,head,from,to,reason\n1,tags,\"[\"\"일출\"\"]\",\"[]\",seen\n")  # fmt: skip
    audit(tmp_path)
    lines = read(tmp_path / "audit" / "corrections.csv")
    assert lines[0]["reason"] == "seen" and len(lines) > 1


def test_a_higher_bound_proposes_more_and_a_row_without_label_is_passed_over(tmp_path):
    write_run(tmp_path)
    table = pq.read_table(tmp_path / "out_of_fold.parquet").to_pydict()
    table["cat2_label"][5] = None
    pq.write_table(pa.table(table), tmp_path / "out_of_fold.parquet")
    audit(tmp_path, max_given=0.4)
    listed = read(tmp_path / "audit" / "label_errors.csv")
    assert {line["id"] for line in listed if line["head"] == "cat2"} == {"50", "77"}
    assert {line["proposed"] for line in listed if line["head"] == "cat2"} == {"yes"}


def broken(path: Path, **columns) -> None:
    table = pq.read_table(path / "out_of_fold.parquet").to_pydict() | columns
    pq.write_table(
        pa.table({name: values for name, values in table.items() if values is not None}), path / "out_of_fold.parquet"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": None}, "column 'id' is missing from out_of_fold.parquet"),
        ({"id": ["0"] * ROWS}, "the id '0' more than once"),
        ({"id": [f"x{row}" for row in range(ROWS)]}, "240 rows that task '집' does not have, such as id 'x0'"),
        ({"cat2_label": None}, "column 'cat2_label' is missing"),
        ({"cat2_label": ["호수"] * ROWS}, "row with id '0': cat2_label '호수' is no label of the task"),
        ({"cat2_probabilities": [[0.5, 0.5]] * ROWS}, "row with id '0': cat2_probabilities has 2 numbers for 4 labels"),
        ({"cat2_probabilities": [[float("nan")] * 4] * ROWS}, "numbers that are not finite"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(tmp_path, columns, message):
    write_run(tmp_path)
    broken(tmp_path, **columns)
    with pytest.raises(ValueError, match=message) as caught:
        audit(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_said_with_its_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--folds 5 --output-dir .* makes one"):
        audit(tmp_path)
    write_run(tmp_path)
    (tmp_path / "recipe.yaml").unlink()
    with pytest.raises(ValueError, match=r"no recipe\.yaml that says which task"):
        audit(tmp_path)
    write_run(tmp_path)
    (tmp_path / "out_of_fold.parquet").write_bytes(b"not parquet")
    with pytest.raises(ValueError, match=r"out_of_fold\.parquet is no Parquet file"):
        audit(tmp_path / "out_of_fold.parquet")
    with pytest.raises(ValueError, match="must be in"):
        audit(tmp_path, max_given=1.5)


def test_rows_with_pictures_show_them(tmp_path):
    task = tiny.write_task(tmp_path, rows=36, heads=[{"name": "cat1"}])
    generator = np.random.default_rng(0)
    rows = [{"id": f"{row:03}", "cat1_label": tiny.PLACES[row % 3][0]} for row in range(36)]
    rows[3]["cat1_label"] = "음식"
    for row, line in enumerate(rows):
        nature = row % 3 < 2
        share = generator.uniform(0.9, 0.99)
        line["cat1_probabilities"] = [1 - share, share] if nature else [share, 1 - share]  # 음식, 자연
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "out_of_fold.parquet")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"task": str(task)}))
    audit(tmp_path, max_given=0.2)
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert page.count("<article") == 1 and page.count("data:image/jpeg;base64,") == 1
    assert "http" not in page.split("</style>")[0] and "<link" not in page


@pytest.mark.slow
def test_the_page_is_reviewed_by_keyboard_and_saves_what_was_chosen(tmp_path, chromium):
    write_run(tmp_path)
    audit(tmp_path)
    complaints = []
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url)
            if not request.url.startswith(("file:", "data:", "blob:")) else None)  # fmt: skip
    page.goto((tmp_path / "audit" / "audit.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("article b", has_text="<b>").count() == 0  # what rows say is text, not markup

    def count() -> list[int]:
        return [int(number) for number in re.findall(r"\d+", page.locator("#count").inner_text())]

    shown, ticked, total = count()
    assert (shown, ticked, total) == (5, page.locator("article input:checked").count(), 5)

    page.locator("#head").select_option("cat2")
    page.locator("#given").select_option("일식")
    assert count()[0] == 2  # the rows 5 and 77
    page.locator("#none").click()
    page.keyboard.press("j")
    page.keyboard.press("Space")
    assert count()[1] == ticked - 1
    article = page.locator("article:not([hidden])").first
    identity = article.get_attribute("data-id")
    page.keyboard.press("k")

    # Another leaf by hand: its branch follows.
    article.locator("select[data-head=cat2]").focus()
    article.locator("select[data-head=cat2]").select_option("한식")
    assert article.locator("select[data-head=cat1]").input_value() == "음식"
    # A branch by hand leaves the leaf open, as no one has said it.
    article.locator("select[data-head=cat1]").select_option("자연")
    assert article.locator("select[data-head=cat2]").input_value() == ""
    article.locator("select[data-head=cat2]").select_option("산")

    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "corrections.csv"
    download.value.save_as(tmp_path / "saved.csv")
    page.reload()  # what was chosen is still there
    assert page.locator(f'article[data-id="{identity}"] select[data-head=cat2]').input_value() == "산"
    assert count()[1] == ticked - 1
    assert not complaints
    saved = read(tmp_path / "saved.csv")
    own = {line["head"]: (line["from"], line["to"]) for line in saved if line["id"] == identity}
    assert own == {"cat1": ("음식", "자연"), "cat2": ("일식", "산")}
    made = load_task(tmp_path / "task.yaml", corrections=tmp_path / "saved.csv")
    made.load()
    assert f"{len(saved)} labels corrected" in made.corrected
