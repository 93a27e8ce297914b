"""A model card says what the run's files say, in a form that the Hub takes and that a stranger can run."""

from __future__ import annotations

import csv
import json
import pkgutil
import re
import shutil
from importlib import resources
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.inference._generated import types as hub_tasks
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id
from markdown_it import MarkdownIt
from PIL import Image

from hfk import HeadConfig
from hfk.runs.card import build_card, md, public_name, write_card
from hfk.runs.facts import data_facts
from hfk.tasks import load_task, tour_tree
from scripts.make_cards import EVIDENCE, keep_card
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = sorted(path.parent for path in (ROOT / "model_cards").glob("*/README.md"))
PICTURES_LIMIT = 400 * 1024  # bytes a committed card: seven heads have fourteen pictures

# From the Hub's documentation: identifiers that hfk's cards may need.
LICENSES = {"apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "other", "unknown"}
METRICS = {"accuracy", "f1", "mae", "r_squared"}
RELATIONS = {"adapter", "finetune", "merge", "quantized"}
TASKS = {module.name.replace("_", "-") for module in pkgutil.iter_modules(hub_tasks.__path__)}  # the Hub's own list


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))


def change(folder: Path, **extra) -> Path:
    """Replace keys of `extra` in a copied run's metrics.json; None takes one out."""
    results = metrics_of(folder)
    results["extra"] = {key: value for key, value in (results["extra"] | extra).items() if value is not None}
    (folder / "report" / "metrics.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def plain_folder(folder: Path, text: str | None, vision: str | None, **options) -> Path:
    """A checkpoint that no training run left: no recipe, no report."""
    tiny.model(text, vision, **options).save_pretrained(folder)
    tiny.processor(text, vision).save_pretrained(folder)
    return folder


def section(card: str, title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", card, re.M | re.S)[1]


def tables(text: str) -> list[list[list[str]]]:
    """Every Markdown table of a text, read from its HTML as a reader sees it: rows of cells."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    unescape = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&"}
    found = []
    for table in re.findall(r"<table>(.*?)</table>", html, re.S):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
        cells = [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]
        for entity, sign in unescape.items():
            cells = [[cell.replace(entity, sign) for cell in row] for row in cells]
        found.append(cells)
    return found


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(params=[*COMMITTED, None], ids=lambda path: path.name if path else "a fresh run")
def card_folder(request, finished_run) -> Path:
    return request.param or finished_run


def test_there_are_committed_cards():
    assert {folder.name for folder in COMMITTED} >= {"ynat", "tour-mini"}


# --- front matter ---------------------------------------------------------------------------------------------------


def test_front_matter_follows_the_hubs_rules(card_folder):
    text = (card_folder / "README.md").read_text(encoding="utf-8")
    raw = yaml.safe_load(text.split("---\n")[1])
    card = ModelCard(text)
    assert card.data.to_dict() == raw == ModelCardData(**raw).to_dict()
    assert raw["library_name"] == "hfk" and raw["pipeline_tag"] in TASKS
    assert raw.get("license", "other") in LICENSES
    languages = json.loads(resources.files("datasets").joinpath("utils/resources/languages.json").read_text())
    assert raw.get("language", "ko") in languages and ("language" in raw) == ("korean" in raw["tags"])
    assert {"hfk", "multi-head-classification", "custom_code"} <= set(raw["tags"])
    assert len(set(raw["tags"])) == len(raw["tags"])
    for name in raw.get("base_model", []) + raw.get("datasets", []):
        validate_repo_id(name)
        assert name.count("/") == 1, f"{name} is no id of the Hub"
    assert ("base_model" in raw) == (raw.get("base_model_relation") in RELATIONS)
    assert set(raw["metrics"]) <= METRICS
    name, results = model_index_to_eval_results(raw["model-index"])
    assert name and {result.metric_type for result in results} == set(raw["metrics"])
    assert {result.task_type for result in results} == {raw["pipeline_tag"]}


def test_evaluation_results_are_those_of_the_report(card_folder):
    results = metrics_of(card_folder)
    suffixes = {"accuracy": "accuracy", "macro-F1": "macro_f1", "micro-F1": "micro_f1", "MAE": "mae", "R²": "r2"}
    told = {}
    for result in ModelCard.load(card_folder / "README.md").data.eval_results:
        head, _, title = result.metric_name.rpartition(" ")
        told[f"{head}_{suffixes[title]}"] = result.metric_value
    assert told == {key: round(results["scores"][key], 4) for key in told}
    assert {key.rpartition("_")[0].removesuffix("_macro").removesuffix("_micro") for key in told} == {
        head["name"] for head in results["heads"]
    }


@pytest.mark.parametrize(
    ("text", "vision", "tag", "more"),
    [
        ("bert", None, "text-classification", False),
        (None, "vit", "image-classification", False),
        ("bert", "vit", "image-classification", True),
    ],
)
def test_the_tag_is_one_of_the_hubs_whatever_the_input(tmp_path, text, vision, tag, more):
    data = build_card(plain_folder(tmp_path, text, vision)).data
    assert data.pipeline_tag == tag and tag in TASKS
    assert ({"text-classification", "multimodal"} <= set(data.tags)) == more


def test_encoders_are_named_by_hub_id_and_never_by_folder(run):
    data = build_card(change(run, encoders={"text": "e5-small-ko", "vision": "efficientnet-lite0"})).data
    assert data.base_model == ["intfloat/multilingual-e5-small", "timm/tf_efficientnet_lite0.in1k"]
    assert data.base_model_relation == "finetune"
    card = build_card(change(run, encoders={"text": "klue/roberta-large", "vision": None}))
    assert card.data.base_model == ["klue/roberta-large"]
    assert "An encoder came from a folder" in card.text


def test_no_license_is_claimed_unless_the_user_names_one(run):
    card = build_card(change(run, encoders={"text": "e5-small-ko", "vision": "efficientnet-lite0"}))
    assert card.data.license is None and "whoever trained them has named no license" in card.text
    assert build_card(run, license="cc-by-4.0").data.license == "cc-by-4.0"
    recipe = yaml.safe_load((run / "recipe.yaml").read_text()) | {"license": "mit"}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    card = build_card(run)
    assert card.data.license == "mit" and "- The weights: mit" in card.text


def test_only_public_names_of_encoders_are_written_down(tmp_path, monkeypatch):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    local = ["/data/roberta", "~/roberta", "./roberta", "a/b/c", "models/mine", "C:\\models", "", None]
    assert [public_name(name) for name in local] == [None] * len(local)
    assert [public_name(name) for name in ("e5-small-ko", "klue/bert-base")] == ["e5-small-ko", "klue/bert-base"]


def test_rows_that_hfk_held_out_do_not_pass_for_the_hubs_own_split(run):
    (run / "task.json").write_text('{"task": "ynat"}', encoding="utf-8")
    own = build_card(change(run, split="validation", division={})).data.eval_results[0]
    assert (own.dataset_type, own.dataset_config, own.dataset_split) == ("klue/klue", "ynat", "validation")
    division = {"shares": {"validation": 0.1}, "seed": 42}
    held_out = build_card(change(run, division=division)).data.eval_results[0]
    assert held_out.dataset_split is None and held_out.dataset_args == {"held_out_by_hfk": "validation"}


# --- figures --------------------------------------------------------------------------------------------------------


def test_every_cell_of_the_score_tables_is_in_metrics_json(card_folder):
    results = metrics_of(card_folder)
    scores, labels = results["scores"], {head["name"]: head["labels"] for head in results["heads"]}
    suffixes = {"accuracy": "accuracy", "macro-F1": "macro_f1", "micro-F1": "micro_f1", "mAP": "map", "MAE": "mae",
                "RMSE": "rmse", "R²": "r2"}  # fmt: skip
    of_baseline = {"majority accuracy": "accuracy", "majority micro-F1": "micro_f1", "MAE of the mean": "mae"}
    seen = []
    shown = section((card_folder / "README.md").read_text(encoding="utf-8"), "Scores")
    ladder = card_folder / "report" / "ladder.md"
    for header, *lines in tables(shown):
        if ladder.is_file() and header[0] == "recipe":  # of several runs: as `hfk ladder` wrote it
            assert ladder.read_text(encoding="utf-8").strip() in shown
            continue
        for line in lines:
            cells = dict(zip(header, line, strict=True))
            head = cells.pop("head")
            seen.append(head)
            assert int(cells.pop("labels", labels[head])) == labels[head]
            assert cells.pop("rows") == f"{results['counts']['labelled'][head]:,}"
            for column, cell in cells.items():
                if column in of_baseline:
                    assert cell == f"{results['baseline'][f'{head}_{of_baseline[column]}']:.3f}"
                    continue
                key = f"{head}_{suffixes[column]}"
                interval = results["intervals"].get(key)
                assert cell == f"{scores[key]:.3f}" + (f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else "")
    assert sorted(seen) == sorted(labels)


def test_no_figure_comes_from_elsewhere(card_folder):
    """Every decimal in the text is a rounding of something recorded; code, papers and formulas aside."""
    text = ModelCard.load(card_folder / "README.md").text
    results = metrics_of(card_folder)
    recorded = set()

    def collect(value):
        if isinstance(value, dict):
            [collect(item) for item in value.values()]
        elif isinstance(value, list):
            [collect(item) for item in value]
        elif isinstance(value, str):
            recorded.update(re.findall(r"\d+\.\d+", value))
        elif isinstance(value, int | float):
            recorded.update(f"{abs(value):.{digits}f}" for digits in (1, 2, 3))

    collect(results)
    ladder = card_folder / "report" / "ladder.md"
    collect(ladder.read_text(encoding="utf-8") if ladder.is_file() else "")
    with open(card_folder / "report" / "per_class.csv", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    recorded.update(f"{float(line[key]):.3f}" for line in lines for key in ("precision", "recall", "f1"))
    for head in json.loads((card_folder / "config.json").read_text())["heads"]:
        recorded.update([f"{head['temperature']:.2f}", f"{head['mean']:.4g}", f"{head['std']:.4g}"])
    recorded.add(f"{results['extra']['parameters'] / 1e6:.1f}")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    prose = re.sub(r"\]\(.*?\)|license.*|CC BY-SA \d\.\d|Apache-\d\.\d|\[[\w./-]+\]", "", prose)
    found = re.findall(r"\d+\.\d+", prose)
    assert len(found) >= 5
    assert not [figure for figure in found if figure not in recorded]


def test_every_label_is_listed_with_its_scores(card_folder):
    with open(card_folder / "report" / "per_class.csv", encoding="utf-8-sig") as file:
        lines = [line for line in csv.DictReader(file) if int(line["support"])]
    expected = [
        [line["head"], line["label"], *(f"{float(line[key]):.3f}" for key in ("precision", "recall", "f1")),
         f"{int(line['support']):,}"] for line in lines
    ]  # fmt: skip
    shown = tables(section((card_folder / "README.md").read_text(encoding="utf-8"), "Confidence and mistakes"))[-1]
    assert shown == [["head", "label", "precision", "recall", "F1", "rows"], *expected]


def test_the_hardware_is_what_was_recorded(run):
    around = {"cpu_cores": 16, "threads": 4, "world_size": 2, "device": "NVIDIA H100"}
    card = build_card(change(run, train_seconds=7200, environment=around)).text
    assert "- hardware: 2 × NVIDIA H100; CPU, 16 cores; processes: 2, threads of each: 4" in card
    assert "energy" not in card, "no figure that was not measured"


def test_what_a_run_did_not_record_is_left_out(run):
    nothing = dict.fromkeys(("environment", "train_seconds", "peak_memory_mib", "parameters", "division", "rows"))
    card = build_card(change(run, **nothing)).text
    for word in ("hardware", "energy", "peak memory", "million parameters", "None", "Rows:"):
        assert word not in card


def test_a_resumed_run_says_so(run):
    card = build_card(change(run, train_seconds=300.0, train_rows_per_second=12.5, resumed=True)).text
    assert "- time: 300 s (5 min), 12.5 rows/s, in several parts" in card


# --- use ------------------------------------------------------------------------------------------------------------


def snippets(card: str, folder: Path) -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", section(card, "Use"), re.S)
    assert len(blocks) == 3
    for block in blocks:
        assert '"owner/name"' in block and "<commit sha>" in block
    return [block.replace("owner/name", folder.as_posix()) for block in blocks]


def test_many_rows_are_answered_as_it_says(finished_run, tmp_path, monkeypatch, capsys):
    """The other two ways do without hfk: tests/hub/test_trainer_push.py runs them where it is not installed."""
    Image.new("RGB", (64, 48), "skyblue").save(tmp_path / "photo.jpg")
    _, many, _ = snippets((finished_run / "README.md").read_text(encoding="utf-8"), finished_run)
    monkeypatch.chdir(tmp_path)
    exec(compile(many, "many", "exec"), {})
    answers = capsys.readouterr().out.splitlines()
    assert len(answers) == 2
    assert all(f"'{head}': " in line for line in answers for head in ("cat1", "cat2", "tags", "price"))
    assert "error" not in "".join(answers)


@pytest.mark.parametrize(("text", "vision"), [("bert", None), (None, "vit")])
def test_models_of_one_input_are_used_with_that_alone(tmp_path, monkeypatch, capsys, text, vision):
    folder = plain_folder(tmp_path / "model", text, vision, heads=tiny.heads()[:2])
    Image.new("RGB", (64, 48), "skyblue").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    card = str(build_card(folder))
    for code in snippets(card, folder):
        exec(compile(code, "snippet", "exec"), {})
        output = capsys.readouterr().out
        assert "cat1" in output and "error" not in output
        assert ("photo.jpg" in code) == (vision is not None)
        assert ('"text"' in code or "text=" in code or "글을" in code) == (text is not None)


def test_the_repository_stands_where_one_is_given(finished_run):
    card = build_card(finished_run, "someone/places-ko")
    assert card.text.count('"someone/places-ko"') == 4 and "owner/name" not in card.text
    assert "# places-ko" in card.text and card.data.model_name == "places-ko"


# --- the words of users ---------------------------------------------------------------------------------------------


def test_labels_show_as_they_are(tmp_path):
    labels = [
        "a|b*c",
        "<script>alert(1)</script>",
        "`한` _식_ [링크](x)",
        "1. 첫째",
        "# 제목\n---\n둘째",
        "&amp; $$x$$",
    ]
    heads = [HeadConfig("분류 | *굵게*", labels)]
    card = build_card(plain_folder(tmp_path, "bert", None, heads=heads)).text
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(section(card, "Heads and labels"))
    assert "<script" not in html and "<em>" not in html and "<a " not in html and html.count("<li>") == 1
    for shown in ("a|b*c", "&lt;script&gt;", "`한` _식_ [링크](x)", "1. 첫째", "# 제목 --- 둘째", "&amp;amp; $$x$$"):
        assert shown in html
    assert build_card(tmp_path).data.language == "ko"


@pytest.mark.parametrize(
    "label", ["카약|카누", "야영장,오토캠핑장", "인문(문화/예술/역사)", "a\\b", "*x*", "~~x~~", "- x"]
)
def test_labels_survive_a_markdown_table(label):
    assert tables(f"| 라벨 |\n|---|\n| {md(label)} |\n") == [[["라벨"], [label]]]


def test_a_large_tree_is_folded_and_whole(tmp_path):
    tree = tour_tree()
    columns = [list(dict.fromkeys(row[: level + 1] for row in tree)) for level in range(3)]
    heads = []
    for level, places in enumerate(columns):
        above = {place: number for number, place in enumerate(columns[level - 1])} if level else {}
        parent = {"parent": f"cat{level}", "parent_of": [above[place[:-1]] for place in places]} if level else {}
        heads.append(HeadConfig(f"cat{level + 1}", [" ".join(place[-1:]) for place in places], **parent))
    text = section(build_card(plain_folder(tmp_path, "bert", None, heads=heads)).text, "Heads and labels")
    assert text.lstrip().startswith("<details>\n<summary>cat1 (6), cat2 (18), cat3 (128)</summary>")
    lines = {}
    for line in text.splitlines():
        name, _, leaves = line.strip(" -").partition(": ")
        lines[name] = leaves.split(" · ")
    for _, cat2, cat3, _ in tree:
        assert md(cat3) in lines[md(cat2)]


def test_neither_secrets_nor_local_paths_get_into_a_card(run):
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe |= {"hub_token": "hf_secret", "push_to_hub_token": "hf_secret", "deepspeed": "/srv/me/zero.json"}
    recipe |= {"data": "../somewhere/train.csv", "text_prefix": "```\n# no"}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    card = build_card(run).text
    for word in ("secret", "token:", "/srv", "somewhere", "output_dir", str(run.parent), recipe["text_encoder"]):
        assert word not in card
    (shown,) = re.findall(r"^(`{4,})yaml\n(.*?)^\1$", card, re.M | re.S)
    assert yaml.safe_load(shown[1])["text_prefix"] == "```\n# no"
    assert yaml.safe_load(shown[1])["data"] == "train.csv"


# --- honesty --------------------------------------------------------------------------------------------------------


def test_a_model_of_a_sample_says_so_first():
    for folder in COMMITTED:
        text = ModelCard.load(folder / "README.md").text
        sample = metrics_of(folder)["extra"]["task"].endswith("-mini")
        assert (text.split("## ")[0].count("A demonstration, not a model to use") == 1) == sample


def test_limits_come_from_the_facts(run):
    limits = section(
        build_card(
            change(
                run,
                split="train",
                train_labelled={"cat1": 40, "cat2": 48},
                few_training_rows={"cat2": {"한식": 2}},
            )
        ).text,
        "Limits",
    )
    assert "scored on the rows that it was trained on" in limits
    assert "cat1: 8 of the 48 training rows have no label and don't count." in limits and "cat2: 0 of" not in limits
    assert "cat2: labels with fewer than 10 training rows: 한식 (2)." in limits
    with open(run / "report" / "per_class.csv", encoding="utf-8-sig") as file:
        lines = [line for line in csv.DictReader(file) if line["head"] == "cat2" and int(line["support"])]
    weakest = min(lines, key=lambda line: float(line["f1"]))
    assert (
        f"Weakest labels of cat2: {weakest['label']} (F1 {float(weakest['f1']):.3f}, {weakest['support']} rows)"
        in limits
    )
    assert "chose the best epoch" in section(build_card(change(run, split="validation")).text, "Limits")


def test_training_records_what_the_card_tells(finished_run):
    extra = metrics_of(finished_run)["extra"]
    assert extra["division"] == {} and extra["resumed"] is False and extra["korean_share"] == 1.0
    assert extra["encoders"] == {"text": None, "vision": None}, "local folders are not given away"
    assert extra["train_labelled"] == {"cat1": 48, "cat2": 48, "tags": 48, "price": 48}
    assert extra["peak_memory_mib"]["cpu"] > 100 and extra["environment"]["threads"] >= 1
    card = (finished_run / "README.md").read_text(encoding="utf-8")
    assert "Rows: train 48, validation 12, test 12. The splits are the data's own." in card


def test_a_division_made_by_hfk_is_told_with_its_shares(run, tmp_path):
    path = tiny.write_task(tmp_path / "task", heads=[{"name": "cat1"}], split={"test": 0.25, "seed": 7}, image=None)
    task = load_task(str(path))
    division = data_facts(task, task.load(), [], {})["division"]
    assert division == {"shares": {"test": 0.25}, "seed": 7}
    card = build_card(change(run, division=division, split="test")).text
    assert "hfk divided the rows (25% for test, seed 7): stratified on the finest head" in card


# --- files ----------------------------------------------------------------------------------------------------------


def test_writing_twice_changes_nothing(run):
    (run / "README.md").unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    first = write_card(run).read_bytes()
    assert write_card(str(run)).read_bytes() == first
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert after == before | {run / "README.md": first}
    assert b"\n\n\n" not in first and first.endswith(b"```\n")


def test_a_checkpoint_without_a_report_has_a_card_without_scores(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    card = ModelCard.load(write_card(folder))
    assert card.data.eval_results is None and card.data.model_name is None and "model-index" not in str(card)
    titles = re.findall(r"^## (.+)$", card.text, re.M)
    assert titles == ["Use", "Heads and labels", "Limits", "Licenses", "Citation"]
    with pytest.raises(ValueError, match=r"has no report/metrics\.json"):
        keep_card(folder, tmp_path / "card")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "has no config.json, so it is not a checkpoint"),
        ("config.json", "{", "config.json is damaged"),
        ("config.json", '{"model_type": "bert"}', "not a multi-head one"),
        ("report/metrics.json", "[1]", "metrics.json is damaged"),
        ("report/per_class.csv", "head,label\na,b\n", "per_class.csv is damaged"),
        ("recipe.yaml", "- a\n", "recipe.yaml is damaged"),
        ("recipe.yaml", "a: [", "recipe.yaml is damaged"),
        ("task.json", "no", "task.json is damaged"),
    ],
)
def test_damaged_files_are_one_sentence(run, file, content, message):
    (run / file).unlink()
    if content is not None:
        (run / file).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        write_card(run)
    assert "\n" not in str(caught.value)


def test_a_name_that_the_hub_refuses_is_refused(finished_run):
    with pytest.raises(ValueError, match="name"):
        build_card(finished_run, "a/b/c")


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda path: path.name)
def test_a_committed_card_is_what_its_files_give(folder, tmp_path):
    assert str(build_card(folder)) == (folder / "README.md").read_text(encoding="utf-8"), (
        "run: python scripts/make_cards.py"
    )
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    linked = set(re.findall(r"\]\((report/[^)]+)\)", (folder / "README.md").read_text(encoding="utf-8")))
    assert linked <= names
    assert names <= {*EVIDENCE, "README.md", *linked}
    assert sum((folder / name).stat().st_size for name in names if name.endswith(".png")) <= PICTURES_LIMIT


def test_a_kept_card_is_that_of_the_run(run, tmp_path):
    kept = keep_card(run, tmp_path / "cards" / "task")
    assert keep_card(kept.parent, kept.parent).read_text() == kept.read_text()
    at_home = ModelCard.load(write_card(run))
    assert ModelCard.load(kept).data.to_dict() == at_home.data.to_dict()
    assert section(kept.read_text(), "Scores") == section(str(at_home), "Scores")
    recipe = yaml.safe_load((kept.parent / "recipe.yaml").read_text())
    assert "output_dir" not in recipe and recipe["task"] == "task.yaml"
    with pytest.raises(ValueError, match="holds a checkpoint"):
        keep_card(run, shutil.copytree(run, tmp_path / "another"))
    for picture in (kept.parent / "report").glob("*.png"):
        with Image.open(picture) as small, Image.open(run / "report" / picture.name) as large:
            assert small.size == large.size
        assert picture.stat().st_size < (run / "report" / picture.name).stat().st_size / 2
