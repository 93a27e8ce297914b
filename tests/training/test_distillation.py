"""What must hold of distillation: the losses are those of the paper, the teacher is asked once, labels must match."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from torch.nn import functional as F
from transformers import AutoModel

from hfk import HeadConfig, MultiHeadForClassification, MultiHeadTrainer, load_task, train
from hfk.inference.loading import load_checkpoint
from hfk.runs.run import Run, last_checkpoint
from hfk.training.ensemble import build_ensemble
from hfk.training.students import keep_layers, student_recipe
from hfk.training.techniques import distillation, make_techniques
from hfk.training.techniques.distillation import match_labels, soft_loss, teacher_logits
from tests import tiny
from tests.training.small import arguments, pictures, rows, without_dropout
from tests.training.test_folds import titles


@pytest.fixture(scope="module")
def teacher(text_run) -> Path:
    return text_run


def distill(teacher, folder: Path, student=None, options: dict | None = None) -> dict:
    return train(student_recipe(str(teacher), student, options), folder)


# --------------------------------------------------------------------------------------------------------- the losses


def test_the_soft_loss_is_that_of_the_paper():
    topic = HeadConfig("topic", ["a", "b", "c"])
    student, teacher = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    found = soft_loss(student, teacher, None, topic, 2.0, 0.3)
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    assert found.item() == pytest.approx((4 * (p * (p / q).log()).sum() / 5).item(), rel=1e-5)
    # T² keeps the gradient's size: for high temperatures it is the difference of the centered logits over their number.
    (gradient,) = torch.autograd.grad(soft_loss(student, teacher, None, topic, 1000.0, 0.3), student)
    centered = (student - student.mean(1, keepdim=True) - teacher + teacher.mean(1, keepdim=True)) / 3 / 5
    torch.testing.assert_close(gradient, centered.detach(), rtol=1e-2, atol=1e-3)
    assert soft_loss(teacher, teacher, None, topic, 3.0, 0.3).item() == pytest.approx(0, abs=1e-6)


def test_the_soft_loss_of_tags_and_of_numbers():
    tags = HeadConfig("tags", ["x", "y"], problem="multi_label")
    student, teacher = torch.randn(4, 2), torch.randn(4, 2)
    p, q = (teacher / 2).sigmoid(), (student / 2).sigmoid()
    expected = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean(-1).sum() / 4
    assert soft_loss(student, teacher, None, tags, 2.0, 0.5).item() == pytest.approx(expected.item(), rel=1e-5)
    price = HeadConfig("price", problem="regression", mean=10.0, std=4.0)
    values, said = torch.tensor([[14.0], [2.0]]), torch.tensor([[1.0], [0.0]])
    assert soft_loss(said, values, None, price, 2.0, 0.5).item() == pytest.approx((0 + 4) / 2)


def test_labelled_rows_weigh_alpha_and_unlabelled_ones_are_the_teachers_alone():
    topic = HeadConfig("topic", ["a", "b"])
    student, teacher = torch.randn(3, 2), torch.randn(3, 2)
    each = torch.stack([soft_loss(student[i : i + 1], teacher[i : i + 1], None, topic, 1.0, 0.25) for i in range(3)])
    labels = torch.tensor([1, -100, 0])
    found = soft_loss(student, teacher, labels, topic, 1.0, 0.25)
    assert found.item() == pytest.approx(((0.25 * each[0] + each[1] + 0.25 * each[2]) / 3).item(), rel=1e-5)
    teacher[2] = float("nan")  # which it could not read
    found = soft_loss(student, teacher, labels, topic, 1.0, 0.25)
    assert found.item() == pytest.approx(((0.25 * each[0] + each[1]) / 3).item(), rel=1e-5)
    soft_labels = torch.tensor([[0.5, 0.5], [float("nan")] * 2, [1.0, 0.0]])
    assert soft_loss(student, teacher, soft_labels, topic, 1.0, 0.25).item() == pytest.approx(found.item())


def small_trainer(folder, teacher, rows=None, **options):
    """A student without dropout, whose teacher is at hand as rows of logits, and a batch for it."""
    model, processor = without_dropout(tiny.model(heads=tiny.heads()[:1])), tiny.processor()
    techniques = make_techniques({"distillation": {"teacher": str(teacher), **options}, "standardize_rows": 0})
    rows = Dataset.from_list([
        {"id": str(n), "text": text, "cat1": n % 2 if n < 4 else None} for n, text in enumerate(tiny.SENTENCES)
    ])  # fmt: skip
    args = arguments(folder, max_steps=3, per_device_train_batch_size=6)
    made = MultiHeadTrainer(model, args, processor, rows, techniques=techniques)
    return made, next(iter(made.get_train_dataloader()))


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_the_loss_is_the_sum_of_its_parts(teacher, tmp_path, alpha, monkeypatch):
    made, batch = small_trainer(tmp_path, teacher, alpha=alpha)
    made.model.train()
    found = made.compute_loss(made.model, batch)
    logits = made.model(**{name: value for name, value in batch.items() if name != "teacher"}).logits["cat1"]
    labels, said = batch["labels"]["cat1"], batch["teacher"]["cat1"]
    soft = soft_loss(logits, said, labels, made.heads[0], 2.0, alpha)
    hard = F.cross_entropy(logits[labels >= 0], labels[labels >= 0], reduction="sum") / 6
    assert found.item() == pytest.approx(((1 - alpha) * hard + soft).item(), rel=1e-4)
    monkeypatch.setattr("hfk.training.techniques.r_drop.disagreement", lambda *a: torch.tensor(3.0))
    (r_drop,) = [technique for technique in make_techniques({"r_drop": 2.0}) if technique.key == "r_drop"]
    r_drop.begin(made.techniques[0].setting)
    monkeypatch.setattr(r_drop, "batch", lambda batch: batch)
    made.techniques.append(r_drop)  # what it adds is not the label's, and keeps its weight
    assert made.compute_loss(made.model, batch).item() == pytest.approx(found.item() + 3.0, rel=1e-4)
    made.model.eval()  # evaluation is by the labels alone
    assert made.compute_loss(made.model, batch).item() == pytest.approx(hard.item(), rel=1e-4)


def test_embeddings_of_another_width_go_through_a_layer_that_is_learned_and_not_kept(tmp_path):
    torch.manual_seed(0)
    wide = tiny.model("roberta", heads=tiny.heads()[:1])
    wide.config.text_config.hidden_size = 48
    MultiHeadForClassification(wide.config).save_pretrained(tmp_path / "wide")
    tiny.processor().save_pretrained(tmp_path / "wide")
    made, batch = small_trainer(tmp_path, tmp_path / "wide", hidden=1.0)
    technique = next(one for one in made.techniques if one.key == "distillation")
    layer = technique._projection
    before, said = layer.weight.detach().clone(), batch["teacher"]["embedding of teacher"]
    inputs = {name: value for name, value in batch.items() if name != "teacher"}
    assert said.shape == (6, 48)
    with torch.no_grad():
        outputs = made.model(**inputs)
        expected = 1 - F.cosine_similarity(outputs.embedding @ before.T, said).mean()
        found = technique._distance(outputs.embedding, said)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    made.train()
    assert not torch.equal(before, layer.weight) and (layer.weight.grad is None or not layer.weight.grad.any())
    made.model.save_pretrained(tmp_path / "model")
    assert AutoModel.from_pretrained(tmp_path / "model").config.embedding_size == 32
    with torch.no_grad():
        assert technique._distance(made.model(**inputs).embedding, said) < found


# ------------------------------------------------------------------------------------------------------------- a run


def test_a_student_learns_what_its_teacher_says_whatever_the_order_of_its_labels(teacher, text_options, tmp_path):
    """With alpha 1 the labels do not count: a student of shuffled labels ends where its teacher is."""
    task = tiny.write_task(
        tmp_path / "task",
        heads=[{"name": "cat2", "labels": ["한식", "산", "바다"]}, {"name": "price", "problem": "regression"}],
    )
    options = text_options | {"distillation.alpha": 1.0, "num_train_epochs": 6}
    results = distill(str(teacher), tmp_path / "student", str(task), options)
    answers = []
    for folder in (teacher, tmp_path / "student"):
        model, processor = load_checkpoint(folder)
        with torch.no_grad():
            chosen = model(**processor(text=tiny.SENTENCES[:3])).logits["cat2"].argmax(-1)
        answers.append([model.config.head("cat2").labels[index] for index in chosen])
    assert answers[0] == answers[1]
    assert results["extra"]["distillation"]["teacher"] == "one"
    log = json.loads((tmp_path / "student" / "training_log.json").read_text())
    assert {"loss_cat2", "loss_cat2_teacher", "loss_price_teacher"} <= {name for entry in log for name in entry}
    losses = [entry["loss_cat2_teacher"] for entry in log if "loss_cat2_teacher" in entry]
    assert np.mean(losses[-6:]) < 0.3 * np.mean(losses[:6])
    recipe = yaml.safe_load((tmp_path / "student" / "recipe.yaml").read_text())
    assert recipe["distillation"] == {"teacher": str(teacher), "alpha": 1.0}


def test_the_teachers_logits_are_kept_and_asked_for_again_only_if_something_changed(
    teacher, places, tmp_path, monkeypatch
):
    rows = load_task(str(places)).load()["train"]
    args = arguments(tmp_path)
    asked = []
    load = distillation.load_checkpoint
    monkeypatch.setattr(distillation, "load_checkpoint", lambda name: (asked.append(name), load(name))[1])
    first = teacher_logits(str(teacher), rows, args)
    assert len(first["cat2"]) == len(rows) and len(asked) == 1
    model, processor = load(teacher)
    for place in (0, 7, 20):
        with torch.no_grad():
            logits = model(**processor(text=[rows[place]["text"]])).logits
        assert first["cat2"][place].tolist() == pytest.approx(logits["cat2"][0].tolist(), abs=1e-4)
        price = model.config.heads[3]
        expected = logits["price"].item() * price.std + price.mean
        assert first["price"][place].item() == pytest.approx(expected, abs=1e-3)
    again = teacher_logits(str(teacher), rows, args)
    assert len(asked) == 1 and torch.equal(again["cat1"], first["cat1"])
    teacher_logits(str(teacher), rows.select(range(10)), args)
    assert len(asked) == 2
    teacher_logits(str(teacher), rows.select(range(10)), args, with_embedding=True)
    assert len(asked) == 3
    teacher_logits(str(teacher), rows, args)
    assert len(asked) == 3 and not list(tmp_path.glob(".*"))


def test_an_interrupted_distillation_goes_on_without_asking_again(teacher, text_options, places, tmp_path, monkeypatch):
    step = MultiHeadTrainer.training_step

    def stop(self, model, inputs, *args):
        if self.state.global_step == 8:
            raise KeyboardInterrupt
        return step(self, model, inputs, *args)

    options = text_options | {"num_train_epochs": 2, "distillation.hidden": 0.5}
    with monkeypatch.context() as patch:
        patch.setattr(MultiHeadTrainer, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            distill(str(teacher), tmp_path / "run", str(places), options)
    assert last_checkpoint(tmp_path / "run").endswith("checkpoint-6")
    monkeypatch.setattr(distillation, "load_checkpoint", lambda name: pytest.fail("the teacher was asked again"))
    assert distill(str(teacher), tmp_path / "run", str(places), options)["extra"]["resumed"]


def test_an_ensemble_teaches_one_model(teacher, text_options, places, tmp_path):
    build_ensemble([teacher, shutil.copytree(teacher, tmp_path / "other")], tmp_path / "both")
    # The ensemble's embedding is both members', so the student's is projected.
    options = text_options | {"distillation.hidden": 0.1}
    results = distill(str(tmp_path / "both"), tmp_path / "student", str(places), options)
    assert type(AutoModel.from_pretrained(tmp_path / "student")) is MultiHeadForClassification
    assert results["extra"]["distillation"]["hidden"] == 0.1
    assert not list((tmp_path / "student").rglob("projection*"))


def test_rows_that_the_teacher_cannot_read_are_learned_from_labels(tmp_path):
    """A teacher that reads pictures alone, and rows of which some have none."""
    heads = tiny.heads()[:1]
    tiny.model(None, "resnet", heads=heads).save_pretrained(tmp_path / "eye")
    tiny.processor(None, "resnet").save_pretrained(tmp_path / "eye")
    data = rows(24, missing=False)
    images = [None if number in (3, 7) else one["image"] for number, one in enumerate(pictures(24))]
    data = data.add_column("image", images)
    techniques = make_techniques({"distillation": str(tmp_path / "eye"), "standardize_rows": 0})
    made = MultiHeadTrainer(
        tiny.model(heads=heads), arguments(tmp_path, num_train_epochs=1), tiny.processor(), data, techniques=techniques
    )
    made.train()
    assert made.facts()["distillation"]["rows_without_answer"] == 2
    assert np.isfinite(made.state.log_history[-1]["train_loss"])
    blind = data.remove_columns("image").add_column("image", [None] * 24)
    with pytest.raises(ValueError, match="can't read any of the rows"):
        MultiHeadTrainer(tiny.model(heads=heads), arguments(tmp_path), tiny.processor(), blind, techniques=techniques)


# --------------------------------------------------------------------------------------------------- unlabeled rows


def write_table(path: Path, rows: list[list[str]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_unlabelled_rows_are_used_and_said(teacher, text_options, places, tmp_path):
    data = load_task(str(places)).load()
    new = [text for _, text, _ in titles(60) if not text.endswith("!")]
    known, held_out = data["train"]["text"][0], data["test"]["text"][0]
    texts = [*new, known, held_out, "", new[0]]
    table = write_table(tmp_path / "more.csv", [["overview", "x"], *([text, 1] for text in texts)])
    options = text_options | {"distillation.unlabelled": str(table), "distillation.alpha": 0.0}
    results = distill(str(teacher), tmp_path / "student", str(places), options)
    said = results["extra"]["distillation"]
    assert said["unlabelled_rows"] == len(new) and said["note"] == f"used {len(new)} unlabeled rows of more.csv"
    assert said["unlabelled_left_out"] == {"empty": 1, "repeated, or among the labeled rows": 3}
    assert results["extra"]["rows"]["train"] == len(data["train"])  # the labeled ones, as before
    log = json.loads((tmp_path / "student" / "training_log.json").read_text())
    assert max(entry["step"] for entry in log) == -(-(len(data["train"]) + len(new)) // 8)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([["title"], ["새 글"]], {}, "column 'overview' is missing from more.csv; it has: title.*--text"),
        ([["title"], [""]], {"distillation.unlabelled_text": "title"}, "no text that is not empty"),
        (None, {}, "more.csv does not exist"),
    ],
)
def test_wrong_unlabelled_tables_are_one_sentence(teacher, text_options, places, tmp_path, rows, options, message):
    if rows:
        write_table(tmp_path / "more.csv", rows)
    options = text_options | {"distillation.unlabelled": str(tmp_path / "more.csv")} | options
    with pytest.raises((ValueError, OSError), match=message) as caught:
        distill(str(teacher), tmp_path / "student", str(places), options)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": ["자연", "음료"]},
            "the teacher T has other labels than the student; only the student knows '음료'",
        ),
        ({"labels": ["자연", "음식", "숙박"]}, "only the student knows '숙박'"),
        ({"name": "kind"}, "the teacher T has no head 'kind'; it has: cat1, cat2, tags, price"),
        ({"problem": "multi_label"}, "'cat1' is multi_label for the student and single_label for the teacher T"),
    ],
)
def test_teacher_and_student_of_different_labels_are_one_sentence(change, message):
    student = replace(tiny.heads()[0], **change)
    with pytest.raises(ValueError, match=message):
        match_labels([student], tiny.heads(), "T")


def test_the_whole_command_refuses_other_labels_before_it_trains(teacher, text_options, hfk, tmp_path):
    task = tiny.write_task(tmp_path / "task", heads=[{"name": "part"}], split=None)
    words = [f"{key}={json.dumps(value)}" for key, value in text_options.items()]
    code, _, errors = hfk("distill", teacher, "--student", task, "--output-dir", tmp_path / "run", *words)
    assert code == 2 and "has no head 'part'; it has: cat1" in errors


# ------------------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize(
    ("family", "layers"),
    [
        *((family, [1, 3]) for family in ("bert", "roberta", "electra", "distilbert", "deberta-v2", "clip-text")),
        ("modernbert", [0, 3]),  # its first layer is another
    ],
)
def test_picked_layers_are_the_teachers_own(family, layers, tmp_path):
    config = tiny.TEXT[family]()
    config.num_hidden_layers = 4
    if getattr(config, "layer_types", None):
        config.layer_types = ["full_attention", "sliding_attention"] * 2
    encoder = AutoModel.from_config(config).eval()
    weights = {name: value.clone() for name, value in encoder.state_dict().items()}
    keep_layers(encoder, layers)
    encoder.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert again.config.num_hidden_layers == 2
    inputs = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).last_hidden_state, encoder(**inputs).last_hidden_state)
    for name, value in again.state_dict().items():
        old = re.sub(r"(layers?\.)(\d+)\.", lambda m: f"{m[1]}{layers[int(m[2])]}.", name, count=1)
        torch.testing.assert_close(value, weights[old])


@pytest.mark.parametrize(
    ("family", "layers", "message"),
    [
        ("bert", [2], "layers must be different numbers from 0 to 1, not 2"),
        ("bert", [0, 0], "different numbers"),
        ("bert", [], "different numbers"),
        ("albert", [0], "layers of a 'albert' encoder can't be picked"),
        ("modernbert", [1], "layer 0 of a 'modernbert' encoder is built in another way than layer 1"),
    ],
)
def test_wrong_layers_are_one_sentence(family, layers, message):
    config = tiny.TEXT[family]()
    with pytest.raises(ValueError, match=message):
        keep_layers(AutoModel.from_config(config), layers)


def test_a_student_of_the_teachers_layers(teacher, hfk, tmp_path):
    """Without --student, by the teacher's own recipe."""
    words = ["--layers", "1", "--alpha", "0.7", "--temperature", "3", "--hidden-weight", "0.2", "num_train_epochs=1"]
    code, _, errors = hfk("distill", teacher, "--output-dir", tmp_path / "small", *words)
    assert code == 0, errors
    student, _ = load_checkpoint(tmp_path / "small")
    master, _ = load_checkpoint(teacher)
    assert student.config.text_config.num_hidden_layers == 1
    own = AutoModel.from_pretrained(tmp_path / "small" / "student_encoder")
    kept = dict(master.text_encoder.named_parameters())
    for name, value in own.named_parameters():
        if "pooler" not in name:
            torch.testing.assert_close(value, kept[name.replace("layer.0.", "layer.1.")])
    said = Run.open(tmp_path / "small").facts["distillation"]
    assert (said["alpha"], said["temperature"], said["hidden"]) == (0.7, 3.0, 0.2)


def test_a_teacher_that_is_none_is_one_sentence(text_options, places, tmp_path):
    with pytest.raises(ValueError, match="neither a checkpoint's folder nor") as caught:
        train(str(places), tmp_path / "run", text_options | {"distillation": "no-such-teacher"})
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"no recipe.yaml to train the student by"):
        student_recipe(str(tmp_path))
