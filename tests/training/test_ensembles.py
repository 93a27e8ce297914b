"""What must hold of putting runs together: members that vote as they should, soups of what can be averaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor

from hfk import HeadConfig, MultiHeadEnsemble, MultiHeadForClassification, cli, load_task, train
from hfk.evaluation.metrics import score_heads
from hfk.evaluation.predictions import Predictions
from hfk.hub.publishing import Target, pull, push
from hfk.inference.loading import load_checkpoint
from hfk.models.decoding import probabilities
from hfk.runs.run import Run
from hfk.training.ensemble import build_ensemble, cook_soup, fit_weights
from tests import tiny

OPTIONS = tiny.RECIPE | {"num_train_epochs": 2, "vision_encoder": None, "use_cpu": True}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, encoders, places) -> list[Path]:
    """Three runs from the same pretrained encoder, the last one hardly trained."""
    folder = tmp_path_factory.mktemp("runs")
    options = OPTIONS | {"text_encoder": encoders["text_encoder"]}
    train(str(places), folder / "one", options | {"seed": 1})
    train(str(places), folder / "two", options | {"seed": 2})
    train(str(places), folder / "poor", options | {"seed": 3, "learning_rate": 1e-6, "head_learning_rate": 1e-6})
    return [folder / name for name in ("one", "two", "poor")]


def test_runs_vote_and_are_scored_on_rows_that_none_has_seen(runs, tmp_path):
    facts = build_ensemble(runs[:2], tmp_path / "both")
    model, processor = load_checkpoint(tmp_path / "both")
    assert type(model) is MultiHeadEnsemble and facts["members"] == 2
    assert facts["weights"]["cat1"] == [0.5, 0.5]
    results = json.loads((tmp_path / "both" / "report" / "metrics.json").read_text())
    assert (results["extra"]["split"], results["counts"]["rows"]) == ("test", 12)
    assert json.loads((tmp_path / "both" / "ensemble.json").read_text())["runs"] == ["one", "two"]
    assert json.loads((tmp_path / "both" / "task.json").read_text())["id"] == "no"
    inputs = processor(text=tiny.SENTENCES)
    members = [AutoModel.from_pretrained(run) for run in runs[:2]]
    expected = sum(probabilities(m(**inputs).logits, m.config.heads)["tags"] for m in members) / 2
    torch.testing.assert_close(probabilities(model(**inputs).logits, model.config.heads)["tags"], expected)
    names = {path.suffix for path in (tmp_path / "both").iterdir() if path.is_file()}
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


def test_an_ensemble_of_ensembles_has_all_their_members(runs, tmp_path):
    build_ensemble(runs[:2], tmp_path / "pair")
    build_ensemble([tmp_path / "pair", runs[2]], tmp_path / "three")
    model, processor = load_checkpoint(tmp_path / "three")
    assert len(model.members) == 3
    inputs = processor(text=tiny.SENTENCES[:2])
    expected = sum(AutoModel.from_pretrained(run)(**inputs).logits["cat1"].softmax(-1) for run in runs) / 3
    torch.testing.assert_close(model(**inputs).logits["cat1"].exp(), expected)


def test_members_may_differ_in_all_but_their_heads(runs, encoders, places, tmp_path):
    options = OPTIONS | {"text_encoder": encoders["text_encoder"], "max_length": 16, "head_kind": "mlp"}
    train(str(places), tmp_path / "other", options)
    facts = build_ensemble([runs[0], tmp_path / "other"], tmp_path / "mixed")
    processor = AutoProcessor.from_pretrained(tmp_path / "mixed")
    assert len(processor.processors) == 2 and facts["members"] == 2
    assert (tmp_path / "mixed" / "report" / "report.html").is_file()


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


def test_what_cannot_be_put_together_is_one_sentence(runs, encoders, places, tmp_path):
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
    ]
    for call, message in cases:
        with pytest.raises((ValueError, OSError), match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()
    train(str(places), tmp_path / "wide", OPTIONS | {"text_encoder": encoders["text_encoder"], "head_kind": "mlp"})
    with pytest.raises(ValueError, match=r"differ in head cat1: kind, so their weights can't be averaged"):
        cook_soup([runs[0], tmp_path / "wide"], tmp_path / "x")
    train(str(places), tmp_path / "short", OPTIONS | {"text_encoder": encoders["text_encoder"], "max_length": 8})
    with pytest.raises(ValueError, match="prepares its input in another way"):
        cook_soup([runs[0], tmp_path / "short"], tmp_path / "x")
    build_ensemble(runs[:2], tmp_path / "pair")
    with pytest.raises(ValueError, match="a soup is made of single models"):
        cook_soup([runs[0], tmp_path / "pair"], tmp_path / "x")


def test_a_soup_of_strangers_warns(runs, tmp_path):
    """Weights of another starting point, which averaging destroys."""
    strange = tmp_path / "strange"
    shutil.copytree(runs[0], strange)
    weights = load_file(strange / "model.safetensors")
    # The same function with the signs of the embedding's two sides turned round.
    for name in weights:
        if name.startswith(("heads.", "fusion.standardization.mean")) and "bias" not in name:
            weights[name] = -weights[name]
    weights = {n: -v if n.endswith(("output.LayerNorm.weight", "output.LayerNorm.bias")) and ".1." in n else v
               for n, v in weights.items()}  # fmt: skip
    save_file(weights, strange / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match="did not start from the same weights"):
        cook_soup([runs[0], strange], tmp_path / "soup", fit_on="validation")


def test_the_command_prints_what_it_made(runs, capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        cli.main(["ensemble", *map(str, runs), "--output-dir", str(tmp_path / "e"), "--fit-on", "validation"])
    output = capsys.readouterr().out
    assert not caught.value.code and "ensemble of 3 runs" in output and "weights of cat2: " in output
    with pytest.raises(SystemExit) as caught:
        cli.main(["ensemble", *map(str, runs), "--output-dir", str(tmp_path / "s"), "--soup", "greedy"])
    assert not caught.value.code and "greedy soup of 3 runs, kept: " in capsys.readouterr().out


def test_an_ensemble_has_a_card_and_goes_to_the_hub_and_back_whole(runs, encoders, places, tmp_path, hub):
    options = OPTIONS | {"text_encoder": encoders["text_encoder"], "max_length": 16}
    train(str(places), tmp_path / "short", options)
    build_ensemble([runs[0], tmp_path / "short"], tmp_path / "both")
    card = (tmp_path / "both" / "README.md").read_text(encoding="utf-8")
    assert "made of: ensemble of 2 runs" in card
    repo = f"{hub.user}/both"
    push(tmp_path / "both", Target(repo), api=hub.api())
    pull(repo, tmp_path / "again", api=hub.api())
    before, after = load_checkpoint(tmp_path / "both"), load_checkpoint(tmp_path / "again")
    for (left, processor), (right, other) in [(before, after)]:
        said, again = left(**processor(text=tiny.SENTENCES)).logits, right(**other(text=tiny.SENTENCES)).logits
        torch.testing.assert_close(said["cat2"], again["cat2"])


def test_the_commands_take_an_ensemble_for_any_checkpoint(runs, places, capsys, tmp_path):
    build_ensemble(runs[:2], tmp_path / "pair")
    table = places.parent / "places.csv"
    for words in (
        ["predict", tmp_path / "pair", table, tmp_path / "out.csv"],
        ["evaluate", tmp_path / "pair", "--data", table, "--output-dir", tmp_path / "report"],
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(word) for word in words])
        assert not caught.value.code, capsys.readouterr().err
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) == 73
    assert (tmp_path / "report" / "report.html").is_file()
