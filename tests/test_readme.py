"""What the README and the guide show runs as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README, KOREAN, GUIDE = ROOT / "README.md", ROOT / "README.ko.md", ROOT / "docs" / "guide.md"
PAGES = [README, KOREAN, GUIDE, *sorted((ROOT / "benchmarks").glob("*.md"))]
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(number, checkpoint, tmp_path, monkeypatch, capsys):
    shutil.copytree(checkpoint, tmp_path / "runs" / "tour-mini")
    (tmp_path / "spaces").symlink_to(ROOT / "spaces")
    Image.new("RGB", (64, 48), "skyblue").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(BLOCKS[number], f"README block {number}", "exec"), names)
    if number == 0:  # on a checkpoint that comes along, so as it stands there
        assert "'label': '스포츠'" in capsys.readouterr().out and "there is no text" in names["answer"]["error"]
    elif isinstance(names.get("answer"), dict):
        assert {"cat1", "cat2"} <= set(names["answer"])
    if "chosen" in names:
        assert set(names["chosen"]) == {"cat1", "cat2", "mood"}
        assert names["chosen"]["cat2"].shape == (1,)


def commands(page: Path, program: str) -> list[list[str]]:
    """The words of a page's lines that begin with a program."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in re.findall(rf"^{program} (.*)$", text, re.M)]


def test_there_is_code_to_run():
    assert len(BLOCKS) >= 4


def test_the_yaml_is_a_task(tmp_path):
    import yaml

    from hfk import load_task
    from hfk.runs.recipe import load_recipe

    (text,) = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    (tmp_path / "places.csv").write_text("title,overview,photo,cat1,cat2,mood,rating\n", encoding="utf-8")
    (tmp_path / "places.yaml").write_text(text, encoding="utf-8")
    task = load_task(tmp_path / "places.yaml")
    assert [column.name for column in task.source.heads] == ["cat1", "cat2", "mood", "rating"]
    recipe = yaml.safe_load(text)["recipe"]
    assert recipe.items() <= load_recipe(tmp_path / "places.yaml").items()


def test_the_guides_task_and_recipe_hold(tmp_path):
    import yaml

    from hfk import load_task
    from hfk.runs.recipe import Recipe
    from hfk.training.techniques import make_techniques

    task, *recipes = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    for name in ("places.csv", "held_out.csv"):
        (tmp_path / name).write_text("place_id,title,overview,photo,cat1,cat2,mood,rating\n", encoding="utf-8")
    (tmp_path / "places.yaml").write_text(task, encoding="utf-8")
    assert [column.name for column in load_task(tmp_path / "places.yaml").source.heads] == [
        "cat1", "cat2", "topic", "group", "kind", "mood", "feeling", "rating",
    ]  # fmt: skip
    for recipe in recipes:
        # no accelerator here
        make_techniques(Recipe.read(yaml.safe_load(recipe) | {"fp16": False}).techniques)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_every_recipe_and_option_named_exists(page):
    from hfk.runs.recipe import Recipe, list_recipes, parse_overrides
    from hfk.training.techniques import make_techniques

    lines = commands(page, r"(?:hfk train|accelerate launch .*?train\.py)")
    ladders = [words for words in commands(page, "hfk ladder") if "--recipes" in words]
    named = [words[0] for words in lines]
    named += [name for words in ladders for name in re.split("[,+]", words[words.index("--recipes") + 1])]
    assert {name for name in named if not name.endswith(".yaml")} <= {*list_recipes(), "tfidf", "hog"}
    for words in [*lines, *ladders]:
        given = parse_overrides([word for word in words[1:] if "=" in word and not word.startswith("--")])
        make_techniques(Recipe.read({"task": "ynat-mini"} | given | {"fp16": False}).techniques)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_every_command_and_option_of_hfk_exists(page):
    import typer

    from hfk.cli import app

    root = typer.main.get_command(app)
    for words in commands(page, "hfk"):
        command, line = root, " ".join(words)
        while hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_every_option_of_a_benchmark_exists(page):
    for script, *words in commands(page, "python"):
        source = (ROOT / script).read_text(encoding="utf-8")
        known = re.findall(r"\"(--[a-z-]+)\"", source)
        assert {word for word in words if word.startswith("--")} <= set(known), script


@pytest.mark.parametrize("page", [README, KOREAN, GUIDE], ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
