"""What must hold of putting runs together: members that vote as they should, soups of what can be averaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoProcessor

from hfk import HeadConfig, MultiHeadEnsemble, MultiHeadForClassification, load_task
from hfk.evaluation.metrics import score_heads
from hfk.evaluation.predictions import Predictions
from hfk.hub.publishing import Target, pull, push
from hfk.inference.loading import load_checkpoint
from hfk.models.decoding import probabilities
from hfk.runs.run import Run
from hfk.training.ensemble import build_ensemble, cook_soup, fit_weights
from tests import tiny


def save_like(source: Path, folder: Path, change=lambda weights: None, **options) -> Path:
    """Copy a run with other weights, or other options in its processor's file."""
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))
    return folder


def shake(size: float):
    """Add noise to the weights: another run from the same start, or one that has forgotten what it knew."""

    def change(weights: dict[str, torch.Tensor]) -> None:
        generator = torch.Generator().manual_seed(0)
        for name in [name for name, weight in weights.items() if weight.is_floating_point() and weight.dim() > 1]:
            weights[name] += size * weights[name].std() * torch.randn(weights[name].shape, generator=generator)

    return change


@pytest.fixture(scope="module")
def runs(tmp_path_factory, text_run) -> list[Path]:
    """Three runs from the same start, the last one as good as untrained."""
    folder = tmp_path_factory.mktemp("runs")
    one = save_like(text_run, folder / "one")
    return [one, save_like(one, folder / "two", shake(0.1)), save_like(one, folder / "poor", shake(5.0))]


@pytest.fixture(scope="module")
def pair(tmp_path_factory, runs) -> Path:
    """The ensemble of the first two."""
    folder = tmp_path_factory.mktemp("ensembles") / "both"
    build_ensemble(runs[:2], folder)
    return folder


def wide(folder: Path, source: Path) -> Path:
    """A run of the same heads and another architecture, without training."""
    config = AutoConfig.from_pretrained(source)
    for head in config.heads:
        head.kind = "mlp"
    run = Run(shutil.copytree(source, folder))
    run.save(MultiHeadForClassification(config), AutoProcessor.from_pretrained(source))
    return folder


def test_runs_vote_and_are_scored_on_rows_that_none_has_seen(runs, pair):
    facts = json.loads((pair / "ensemble.json").read_text())
    model, processor = load_checkpoint(pair)
    assert type(model) is MultiHeadEnsemble and facts["members"] == 2
    assert facts["weights"]["cat1"] == [0.5, 0.5] and facts["runs"] == ["one", "two"]
    results = json.loads((pair / "report" / "metrics.json").read_text())
    assert (results["extra"]["split"], results["counts"]["rows"]) == ("test", 12)
    assert json.loads((pair / "task.json").read_text())["id"] == "no"
    inputs = processor(text=tiny.SENTENCES)
    members = [AutoModel.from_pretrained(run) for run in runs[:2]]
    expected = sum(probabilities(m(**inputs).logits, m.config.heads)["tags"] for m in members) / 2
    torch.testing.assert_close(probabilities(model(**inputs).logits, model.config.heads)["tags"], expected)
    names = {path.suffix for path in pair.iterdir() if path.is_file()}
    assert names <= {".json", ".safetensors", ".py", ".md", ".parquet"}


def test_fitted_weights_are_at_least_as_good_as_equal_ones(runs, places, tmp_path):
    facts = build_ensemble(runs, tmp_path / "fitted", fit_on="validation")
    assert facts["fitted_on"] | {"members": 0, "ensemble": 0} == {
        "rows": 12, "source": "the validation rows of task", "members": 0, "ensemble": 0,
    }  # fmt: skip
    build_ensemble(runs, tmp_path / "equal")
    rows = load_task(str(places)).load()["validation"]

    def losses(folder) -> dict[str, float]:
        said = Run(folder).predictor().predictions(rows)
        probs, target = said.probabilities, {name: one.values for name, one in said.target.items()}
        values = {name: -np.log(probs[name][range(12), target[name]]).mean() for name in ("cat1", "cat2")}
        return values | {"price": np.square(probs["price"] - target["price"]).mean()}

    fitted, equal = losses(tmp_path / "fitted"), losses(tmp_path / "equal")
    for name, loss in fitted.items():
        assert loss <= equal[name] + 1e-5
    weights = load_checkpoint(tmp_path / "fitted")[0].config.member_weights("cat2")
    assert sum(weights) == pytest.approx(1) and min(weights) >= 0
    assert weights[2] < 0.2  # what has hardly been trained has little to say


def fitted(head: HeadConfig, labels: np.ndarray, *logits: np.ndarray) -> dict[str, list[float]]:
    return fit_weights([Predictions(None, [head], {head.name: one}, {head.name: labels}) for one in logits])


def test_the_best_weights_are_found():
    """One member knows, one guesses, one is always wrong; and mixtures that are better than each alone."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 600)
    head = HeadConfig("topic", ["a", "b", "c"])
    knows = np.full((600, 3), -1.0)
    knows[np.arange(600), labels] = 2.0
    wrong = np.roll(knows, 1, axis=1)
    weights = fitted(head, labels, np.zeros((600, 3)), knows, wrong)["topic"]
    assert weights[1] > 0.99 and weights[2] == 0
    # Two experts of halves of the rows: the best mixture is even.
    one, two = np.where(np.arange(600)[:, None] < 300, knows, 0), np.where(np.arange(600)[:, None] < 300, 0, knows)
    assert fitted(head, labels, one, two)["topic"] == pytest.approx([0.5, 0.5], abs=0.06)
    # A value between two members', each off by its own amount.
    price = HeadConfig("price", problem="regression", mean=1e6, std=1e5)
    truth = generator.normal(1e6, 1e5, 600)
    found = fitted(price, truth, (truth - 3e4 - 1e6) / 1e5, (truth + 1e4 - 1e6) / 1e5)["price"]
    assert found == pytest.approx([0.25, 0.75], abs=1e-3)
    tags = HeadConfig("tags", ["x", "y"], problem="multi_label")
    many = (generator.random((600, 2)) < 0.3).astype(np.float32)
    sure = np.where(many == 1, 2.0, -2.0)
    assert fitted(tags, many, -sure, sure)["tags"][1] > 0.99
    assert fitted(head, np.full(600, -100), knows, wrong) == {}


def test_an_ensemble_of_ensembles_has_all_their_members(runs, pair, tmp_path):
    build_ensemble([pair, runs[2]], tmp_path / "three")
    model, processor = load_checkpoint(tmp_path / "three")
    assert len(model.members) == 3
    inputs = processor(text=tiny.SENTENCES[:2])
    expected = sum(AutoModel.from_pretrained(run)(**inputs).logits["cat1"].softmax(-1) for run in runs) / 3
    torch.testing.assert_close(model(**inputs).logits["cat1"].exp(), expected)


def test_a_uniform_soup_is_the_mean_of_the_weights(runs, tmp_path):
    facts = cook_soup(runs[:2], tmp_path / "soup")
    assert facts["kept"] == ["one", "two"]
    soup = load_file(tmp_path / "soup" / "model.safetensors")
    one, two = (load_file(run / "model.safetensors") for run in runs[:2])
    assert set(soup) == set(one)
    for name, value in soup.items():
        torch.testing.assert_close(value, (one[name] + two[name]) / 2)
    assert type(AutoModel.from_pretrained(tmp_path / "soup")) is MultiHeadForClassification
    assert (tmp_path / "soup" / "report" / "metrics.json").is_file()


def test_a_greedy_soup_is_never_worse_than_its_best_run(runs, places, tmp_path):
    facts = cook_soup(runs, tmp_path / "soup", "greedy")
    rows = load_task(str(places)).load()["validation"]
    scores = []
    for folder in (*runs, tmp_path / "soup"):
        scores.append(score_heads(Run(folder).predictor().predictions(rows))["mean_macro_f1"])
    assert scores[-1] >= max(scores[:-1]) - 1e-6
    assert facts["kept"][0] == runs[int(np.argmax(scores[:-1]))].name
    assert facts["scored_on"]["soup"]["mean_macro_f1"] == pytest.approx(scores[-1], abs=1e-4)


def test_calibrated_runs_make_an_uncalibrated_soup(runs, tmp_path):
    hot = tmp_path / "hot"
    shutil.copytree(runs[1], hot)
    config = json.loads((hot / "config.json").read_text())
    config["heads"][0]["temperature"] = 3.0
    (hot / "config.json").write_text(json.dumps(config))
    cook_soup([runs[0], hot], tmp_path / "soup")
    assert all(head.temperature == 1 for head in AutoModel.from_pretrained(tmp_path / "soup").config.heads)


def other_heads(folder: Path, source: Path) -> Path:
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    config["heads"][0]["labels"] = ["자연", "음료"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_cannot_be_put_together_is_one_sentence(runs, pair, tmp_path):
    cases = [
        (lambda: build_ensemble([runs[0]], tmp_path / "x"), "give two runs or more"),
        (lambda: build_ensemble([runs[0], tmp_path / "no"], tmp_path / "x"), "there is no folder"),
        (lambda: build_ensemble([runs[0], runs[0]], tmp_path / "x"), "named twice"),
        (lambda: build_ensemble(runs, runs[0]), "is a run; name another --output-dir"),
        (
            lambda: build_ensemble([runs[0], other_heads(tmp_path / "o", runs[1])], tmp_path / "x"),
            "'음료' is in one of",
        ),
        (lambda: cook_soup([runs[0], tmp_path / "o"], tmp_path / "x"), "differ in head cat1: labels"),
        (lambda: cook_soup(runs, tmp_path / "x", "thick"), "not one of uniform, greedy"),
        (lambda: build_ensemble(runs, tmp_path / "x", fit_on=tmp_path / "no.csv"), "no.csv"),
        (
            lambda: cook_soup([runs[0], wide(tmp_path / "wide", runs[0])], tmp_path / "x"),
            "differ in head cat1: kind",
        ),
        (
            lambda: cook_soup([runs[0], save_like(runs[0], tmp_path / "short", max_length=8)], tmp_path / "x"),
            "prepares its input in another way",
        ),
        (lambda: cook_soup([runs[0], pair], tmp_path / "x"), "a soup is made of single models"),
    ]
    for call, message in cases:
        with pytest.raises((ValueError, OSError), match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_a_soup_of_strangers_warns(runs, tmp_path):
    """Weights of another starting point, which averaging destroys."""

    def turn(weights: dict[str, torch.Tensor]) -> None:
        """The same function with the signs of the embedding's two sides turned round."""
        for name in weights:
            if name.startswith(("heads.", "fusion.standardization.mean")) and "bias" not in name:
                weights[name] *= -1
            if name.endswith(("output.LayerNorm.weight", "output.LayerNorm.bias")) and ".1." in name:
                weights[name] *= -1

    strange = save_like(runs[0], tmp_path / "strange", turn)
    with pytest.warns(UserWarning, match="did not start from the same weights"):
        cook_soup([runs[0], strange], tmp_path / "soup", fit_on="validation")


def test_the_command_prints_what_it_made(runs, hfk, tmp_path):
    code, output, _ = hfk("ensemble", *runs, "--output-dir", tmp_path / "e", "--fit-on", "validation")
    assert code == 0 and "ensemble of 3 runs" in output and "weights of cat2: " in output
    code, output, _ = hfk("ensemble", *runs, "--output-dir", tmp_path / "s", "--soup", "greedy")
    assert code == 0 and "greedy soup of 3 runs, kept: " in output


def test_an_ensemble_has_a_card_and_goes_to_the_hub_and_back_whole(runs, tmp_path, hub):
    """Its members may differ in all but their heads: each has a processor of its own."""
    short = wide(tmp_path / "short", save_like(runs[0], tmp_path / "other", max_length=16))
    build_ensemble([runs[0], short], tmp_path / "both")
    assert "made of: ensemble of 2 runs" in (tmp_path / "both" / "README.md").read_text(encoding="utf-8")
    repo = f"{hub.user}/both"
    push(tmp_path / "both", Target(repo), api=hub.api())
    pull(repo, tmp_path / "again", api=hub.api())
    answers = []
    for folder in ("both", "again"):
        model, processor = load_checkpoint(tmp_path / folder)
        assert len(processor.processors) == 2
        answers.append(model(**processor(text=tiny.SENTENCES)).logits["cat2"])
    torch.testing.assert_close(*answers)


def test_the_commands_take_an_ensemble_for_any_checkpoint(pair, places, hfk, tmp_path):
    table = places.parent / "places.csv"
    assert hfk("predict", pair, table, tmp_path / "out.csv")[0] == 0
    assert hfk("evaluate", pair, "--data", table, "--output-dir", tmp_path / "report")[0] == 0
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) == 73
    assert (tmp_path / "report" / "report.html").is_file()
