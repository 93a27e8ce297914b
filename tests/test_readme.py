"""What the README shows runs as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(number, checkpoint, tmp_path, monkeypatch, capsys):
    shutil.copytree(checkpoint, tmp_path / "runs" / "tour-mini")
    Image.new("RGB", (64, 48), "skyblue").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(BLOCKS[number], f"README block {number}", "exec"), names)
    if isinstance(names.get("answer"), dict):
        assert {"cat1", "cat2"} <= set(names["answer"])
    if "chosen" in names:
        assert set(names["chosen"]) == {"cat1", "cat2", "mood"}
        assert names["chosen"]["cat2"].shape == (1,)


def test_there_is_code_to_run():
    assert len(BLOCKS) >= 4


def test_the_yaml_is_a_task(tmp_path):
    import yaml

    from hfk import load_task

    (text,) = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    (tmp_path / "places.csv").write_text("title,overview,photo,cat1,cat2,mood,rating\n", encoding="utf-8")
    (tmp_path / "places.yaml").write_text(text, encoding="utf-8")
    task = load_task(tmp_path / "places.yaml")
    assert [column.name for column in task.source.heads] == ["cat1", "cat2", "mood", "rating"]
    assert yaml.safe_load(text)["recipe"] == task.recipe


def test_every_recipe_and_option_named_exists():
    from hfk.training.arguments import list_recipes, parse_overrides

    text = README.read_text(encoding="utf-8")
    for line in re.findall(r"^(?:hfk train|accelerate launch .*?train\.py) (.*)$", text, re.M):
        words = line.split("#")[0].split()
        assert words[0].endswith(".yaml") or words[0] in list_recipes(), line
        parse_overrides([word for word in words[1:] if "=" in word and not word.startswith("--")])
