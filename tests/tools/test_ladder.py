"""A ladder trains each recipe once, compares them on the same rows, and goes on where it was stopped."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

import hfk.tools.ladder.climb as ladder
from hfk.evaluation import plots
from hfk.runs.recipe import Recipe
from hfk.runs.run import Run
from hfk.tasks import load_task
from hfk.tools.ladder.climb import climb
from tests import tiny


@pytest.fixture(scope="module", autouse=True)
def _timed_once():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ladder, "ROUNDS", 1)
        patched.setattr(ladder, "TIMED_ROWS", 40)
        patched.setattr(ladder, "WARM_UP_ROWS", 8)
        yield


@pytest.fixture(scope="module")
def ground(tmp_path_factory, encoders) -> dict[str, str]:
    """A task of texts and two recipes for it that differ in their pooling."""
    folder = tmp_path_factory.mktemp("ground")
    heads = [{"name": "cat1"}, {"name": "price", "problem": "regression"}]
    made = {"task": str(tiny.write_task(folder, rows=36, image=None, heads=heads))}
    common = tiny.RECIPE | {"num_train_epochs": 1, "task": "ynat-mini", "text_encoder": encoders["text_encoder"]}
    for name, own in (("mean", {}), ("cls", {"text_pooling": "cls"})):
        made[name] = str(folder / f"{name}.yaml")
        Path(made[name]).write_text(yaml.safe_dump(common | own), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def climbed(ground, tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("ladder")
    train = ladder.train

    def train_one(options, run):
        """The second run is the first one over again, under its own recipe."""
        if run.parent.name == "mean":
            train(options, run)
        else:
            copy_run(folder / "mean" / "run", run, options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ladder, "train", train_one)
        return folder, climb(ground["task"], [ground["mean"], ground["cls"]], folder)


def copy_run(source: Path, target: Path, options: dict) -> None:
    shutil.copytree(source, target)
    (target / "recipe.yaml").write_text(yaml.safe_dump(Recipe.read(options).to_dict()), encoding="utf-8")


def read(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "ladder.csv", encoding="utf-8", newline="") as file:
        return {line["recipe"]: line for line in csv.DictReader(file)}


def test_every_figure_is_that_of_the_run(climbed):
    folder, said = climbed
    rows = read(folder)
    assert list(rows) == ["mean", "cls"]
    for name, row in rows.items():
        run = folder / name / "run"
        results = json.loads((run / "report" / "metrics.json").read_text())
        assert float(row["accuracy"]) == pytest.approx(results["scores"]["cat1_accuracy"], abs=1e-4)
        low, high = results["intervals"]["cat1_macro_f1"]
        assert (float(row["macro_f1_low"]), float(row["macro_f1_high"])) == pytest.approx((low, high), abs=1e-4)
        assert int(row["parameters"]) == results["extra"]["parameters"]
        assert float(row["train_seconds"]) == results["extra"]["train_seconds"]
        weights = (run / "model.safetensors").stat().st_size / 1e6
        assert weights < float(row["checkpoint_mb"]) < weights + 0.2
        assert float(row["rows_per_second"]) > 1
        assert yaml.safe_load((run / "recipe.yaml").read_text())["text_pooling"] == name
    assert (folder / "ladder.md").read_text().strip() == said
    assert said.count("\n| ") == 2 and "6 test rows, head cat1; 95% bootstrap intervals" in said
    assert (folder / "ladder.png").read_bytes().startswith(b"\x89PNG")
    runs = [path.parent for path in folder.glob("*/*/config.json")]
    assert runs
    for run in runs:
        card = (run / "README.md").read_text(encoding="utf-8")
        assert said in card.split("### Beside other recipes, on the same rows")[1].split("## Use")[0]


def test_rows_are_timed_over_again_until_they_are_enough(climbed, monkeypatch):
    seen = []

    class Counted(ladder.Predictor):
        def __call__(self, rows, **options):
            rows = list(rows)
            seen.append(rows)
            return super().__call__(rows, **options)

    monkeypatch.setattr(ladder, "Predictor", Counted)
    rows = load_task("ynat-mini").load()["test"].select(range(9))
    (speed,) = ladder.time_inference([Run(climbed[0] / "mean" / "run")], rows)
    warm, timed = seen
    assert len(timed) == ladder.TIMED_ROWS and warm == timed[: ladder.WARM_UP_ROWS]
    assert timed[:9] == timed[9:18] and speed > 1


def test_finished_runs_are_not_trained_again_and_seeds_are_averaged(climbed, ground, tmp_path, monkeypatch):
    trained = []

    def train(options, folder):
        trained.append(folder.relative_to(tmp_path).as_posix())
        if len(trained) == 2:
            raise KeyboardInterrupt
        copy_run(climbed[0] / "mean" / "run", folder, options)
        results = json.loads((folder / "report" / "metrics.json").read_text())
        results["scores"]["cat1_accuracy"] = options["seed"] / 10
        (folder / "report" / "metrics.json").write_text(json.dumps(results))

    monkeypatch.setattr(ladder, "train", train)
    arguments = (ground["task"], [ground["mean"]], tmp_path, [1, 2])
    with pytest.raises(KeyboardInterrupt):
        climb(*arguments)
    said = climb(*arguments)
    assert trained == ["mean/seed-1", "mean/seed-2", "mean/seed-2"]
    row = read(tmp_path)["mean"]
    assert float(row["accuracy"]) == pytest.approx(0.15, abs=1e-4)
    assert row["seeds"] == "2" and "mean ± sd over seeds 1, 2" in said and "0.1500 ± 0.0707" in said


def test_a_run_of_other_options_or_rows_is_refused(climbed, ground, tmp_path):
    folder = tmp_path / "ladder"
    shutil.copytree(climbed[0], folder)
    with pytest.raises(ValueError, match=r"mean.run was trained with learning_rate 0\.002, not 0\.01; choose another"):
        climb(ground["task"], [ground["mean"]], folder, overrides={"learning_rate": 0.01})
    said = Run(folder / "cls" / "run").predictions()
    said.select(range(len(said) - 1)).save(folder / "cls" / "run" / "predictions.parquet")
    with pytest.raises(ValueError, match=r"cls.run was scored on other rows than .*mean.run"):
        climb(ground["task"], [ground["mean"], ground["cls"]], folder)


def test_wrong_words_are_one_sentence_before_anything_is_trained(ground, tmp_path):
    for recipes, message in (([], "name different recipes"), (["tuor"], "no recipe 'tuor'"),
                             ([ground["mean"]] * 2, "name different recipes")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            climb(ground["task"], recipes, tmp_path)
    with pytest.raises(ValueError, match="not one of none, balanced"):
        climb(ground["task"], [ground["mean"]], tmp_path, overrides={"class_weights": "heavy"})
    assert not list(tmp_path.iterdir())
    bad = tiny.write_task(tmp_path / "bad", rows=6, heads=[{"name": "cat1", "labels": ["자연"]}], image=None)
    with pytest.raises(ValueError, match=r"recipe mean: .*row"):
        climb(str(bad), [ground["mean"]], tmp_path)


def test_names_in_the_picture_cover_neither_points_nor_each_other(monkeypatch):
    """Eight entries, five of them in one corner; the boxes are those that were drawn."""
    pytest.importorskip("matplotlib")
    figures = []
    png = plots.to_png
    monkeypatch.setattr(plots, "to_png", lambda figure: figures.append(figure) or png(figure))
    rungs = [(f"recipe-{n}", 300.0 + 40 * n, 0.85 + 0.002 * n, 0.845, 0.862) for n in range(5)]
    rungs += [("ngram", 20.0, 0.868, 0.86, 0.877), ("e5-small-ko", 1200.0, 0.88, 0.872, 0.889)]
    rungs += [("긴 이름", 3600.0, 0.886, 0.88, 0.89)]
    plots.ladder_png(rungs, "title")
    axes = figures[0].axes[0]
    names = {text.get_text(): text for text in axes.texts if text.get_text() in {rung[0] for rung in rungs}}
    assert len(names) == len(rungs)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    figure = figures[0]
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = []
    for text in names.values():
        text.update_positions(renderer)
        boxes.append(Text.get_window_extent(text, renderer))
    points = axes.transData.transform([(seconds, score) for _, seconds, score, _, _ in rungs])
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])
        assert not any(box.contains(*point) for point in points)


def test_a_folder_of_pictures_climbs_from_baseline_to_vote(tmp_path):
    for number in range(30):
        color = ["navy", "firebrick"][number % 2]
        path = tmp_path / "photos" / color / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 24), color).save(path)
    small = {"image_size": 16, "num_train_epochs": 1, "per_device_train_batch_size": 8, "standardize_rows": 0}
    entries = ["pictures-mlp+pictures-cnn", "hog", "pictures-mlp", "pictures-cnn"]
    said = climb(str(tmp_path / "photos"), entries, tmp_path / "ladder", overrides=small)
    rows = read(tmp_path / "ladder")
    assert list(rows) == entries and float(rows["hog"]["accuracy"]) == 1.0
    members, vote = [float(rows[name]["parameters"]) for name in entries[2:]], rows[entries[0]]
    assert float(vote["parameters"]) == sum(members) and vote["train_seconds"] == "" != rows["hog"]["train_seconds"]
    assert "| hog | 1.0000" in said and "| – | – |" in said
    with pytest.raises(ValueError, match=r"pictures\+hog votes with what is no recipe"):
        climb(str(tmp_path / "photos"), ["hog", "pictures", "pictures+hog"], tmp_path / "ladder")


def test_texts_have_a_baseline_too(ground, tmp_path):
    climb(ground["task"], ["tfidf"], tmp_path)
    assert float(read(tmp_path)["tfidf"]["accuracy"]) == 1.0
    with pytest.raises(ValueError, match="baseline hog reads the column image"):
        climb(ground["task"], ["hog"], tmp_path / "hog")
