"""What must hold of the Trainer, shown on tiny models and rows of our own; techniques have tests of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from hfk import MultiHeadForClassification, MultiHeadProcessor, MultiHeadTrainer
from hfk.runs.run import last_checkpoint
from hfk.tasks.collator import MultiHeadCollator
from hfk.training.order import count_tokens
from hfk.training.techniques import make_techniques
from hfk.training.trainer import unwrap
from tests import tiny
from tests.training.small import Watch, arguments, picture, pictures, rows, trainable, trainer, without_dropout


@pytest.mark.parametrize("name", ["plain", "lora", "losses"])
def test_eight_batches_of_one_equal_one_batch_of_eight(tmp_path, name):
    techniques = {
        "plain": {},
        "lora": {"lora": {"dropout": 0.0}},
        "losses": {"focal": 2.0, "label_smoothing": 0.1, "logit_adjustment": 1.0, "hierarchy_loss": "marginal"},
    }[name]
    weights, losses = [], []
    for size, steps in ((8, 1), (1, 8)):
        torch.manual_seed(0)
        made = trainer(
            tmp_path, techniques, model=without_dropout(tiny.model("bert")), per_device_train_batch_size=size,
            gradient_accumulation_steps=steps, num_train_epochs=1, train_sampling_strategy="sequential",
            learning_rate=1e-3, optim="sgd", max_grad_norm=0.0, logging_steps=1,
        )  # fmt: skip
        without_dropout(made.model)
        made.train()
        weights.append(trainable(unwrap(made.model)))
        losses.append([entry["loss"] for entry in made.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-3, atol=1e-5, msg=name)


def test_training_learns_and_reports_every_head(tmp_path):
    made = trainer(
        tmp_path, {"head_learning_rate": 5e-3}, num_train_epochs=25, learning_rate=5e-3, logging_steps=5,
        eval_strategy="epoch",
    )  # fmt: skip
    made.train()
    scores = made.evaluate()
    assert scores["eval_cat2_accuracy"] == 1.0 and scores["eval_hierarchy_consistency"] == 1.0
    logged = next(entry for entry in made.state.log_history if "loss" in entry)
    assert {"loss_cat1", "loss_cat2", "loss_tags", "loss_price"} <= set(logged)
    assert made.facts()["train_rows_per_second"] > 0


def test_a_checkpoint_is_whole_and_holds_no_pickled_arguments(tmp_path):
    trainer(tmp_path, callbacks=[Watch(2)], num_train_epochs=4).train()
    checkpoint = last_checkpoint(tmp_path)
    names = {path.name for path in Path(checkpoint).iterdir()}
    assert "training_args.bin" not in names
    assert {"model.safetensors", "tokenizer.json", "processor_config.json", "modeling_multihead.py"} <= names
    assert json.loads((Path(checkpoint) / "training_arguments.json").read_text())["num_train_epochs"] == 4
    assert MultiHeadForClassification.from_pretrained(checkpoint).config.heads == tiny.heads()
    (tmp_path / "checkpoint-99").mkdir()  # left half-written by an interruption
    assert last_checkpoint(tmp_path).endswith("checkpoint-2")


def test_collation_of_every_label_kind():
    tags, topic = tiny.heads()[2], tiny.heads()[0]
    assert torch.equal(
        tags.rules.tensor([[0, 2], [], None]).nan_to_num(-1), torch.tensor([[1.0, 0, 1], [0, 0, 0], [-1, -1, -1]])
    )
    nan = float("nan")
    assert topic.rules.tensor([0, None, -1, nan, 1]).tolist() == [0, -100, -100, -100, 1]
    assert tags.rules.tensor([nan, [1]]).nan_to_num(-1).tolist() == [[-1, -1, -1], [0, 1, 0]]
    assert tiny.heads()[3].rules.tensor([nan, None, 2]).nan_to_num(-1).tolist() == [-1, -1, 2]
    assert torch.equal(
        topic.rules.tensor([None, [0.25, 0.75]], soft=True).nan_to_num(-1), torch.tensor([[-1.0, -1], [0.25, 0.75]])
    )
    with pytest.raises(ValueError, match="row with id 'b': there is no text"):
        MultiHeadCollator(tiny.processor(), [topic])([{"id": "a", "text": "가"}, {"id": "b", "text": " "}])


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_names_its_extra(monkeypatch, tmp_path, tracker):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == tracker else find(name))
    with pytest.raises(ImportError, match=rf'report_to={tracker} needs its extra: pip install "hfk\[{tracker}\]"'):
        arguments(tmp_path, report_to=tracker)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"][tracker][0].startswith(tracker)


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio"])
def test_logs_to_trackers(tmp_path, tracker):
    pytest.importorskip(tracker)
    trainer(tmp_path, report_to=tracker, max_steps=1, logging_steps=1, project="hfk-test").train()
    written = {
        "tensorboard": list(tmp_path.rglob("events.out.tfevents.*")),
        "trackio": list(Path(os.environ["HF_HOME"]).rglob("hfk-test.db")),
    }
    assert any(b"loss_cat1" in path.read_bytes() for path in written[tracker])


@pytest.mark.parametrize("lora", [False, True])
def test_the_best_weights_come_back_whatever_they_are_called_on_disk(tmp_path, lora):
    """ViT's modules and its saved weights have different names in transformers 5."""
    args = arguments(
        tmp_path, num_train_epochs=2, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="loss", learning_rate=1e-2, save_total_limit=None, weight_decay=0.5,
    )  # fmt: skip
    data = rows(16)
    pixels = np.random.default_rng(0).integers(0, 255, (len(data), 32, 32, 3), dtype=np.uint8)
    data = data.add_column("image", [picture(one) for one in pixels])

    class FirstIsBest(MultiHeadTrainer):
        def compute_head_metrics(self, prediction):
            weights.append({name: weight.detach().clone() for name, weight in self.model.named_parameters()})
            return {}

        def _determine_best_metric(self, metrics, trial):
            return super()._determine_best_metric({"eval_loss": len(weights)}, trial)

    weights: list[dict] = []
    techniques = make_techniques({"lora": lora, "standardize_rows": 0})
    made = FirstIsBest(tiny.model("bert", "vit"), args, tiny.processor("bert", "vit"), data, data, techniques)
    made.train()
    name = next(name for name in weights[0] if "vision" in name and ("lora_B" in name if lora else "q_proj.w" in name))
    assert not torch.equal(weights[0][name], weights[1][name])
    for name, weight in made.model.named_parameters():
        assert torch.equal(weight, weights[0][name]), name


def test_images_alone_train_and_are_saved_with_their_processor(tmp_path):
    made = trainer(tmp_path, vision="vit", max_steps=1, save_strategy="steps", save_steps=1)
    made.train()
    again = MultiHeadProcessor.from_pretrained(last_checkpoint(tmp_path))
    assert again.tokenizer is None
    assert again(images=[pictures(1)[0]["image"]])["pixel_values"].shape == (1, 3, 32, 32)


def test_tokens_of_rows_are_those_that_the_model_reads():
    texts = ["바다", tiny.SENTENCES[0], None, " ".join(tiny.SENTENCES * 9)]
    data = Dataset.from_dict({"id": list("abcd"), "text": texts, "cat1": [0, 1, 0, 1]})
    processor = tiny.processor(text_prefix="query: ")
    counts = count_tokens(data, processor)
    assert counts == [int(processor(text=[text or " ."])["attention_mask"].sum()) for text in texts[:2]] + [
        len(processor.tokenizer("query: ")["input_ids"]),
        processor.max_length,
    ]
    assert count_tokens(data.remove_columns("text"), processor) == [0] * 4


def test_a_trainer_measures_features_and_has_a_rate_for_heads_unless_told_otherwise(tmp_path):
    model = tiny.model("bert")
    before = model.fusion.standardization.mean.clone()
    made = MultiHeadTrainer(model, arguments(tmp_path, learning_rate=1e-3), tiny.processor(), rows())
    assert not torch.equal(model.fusion.standardization.mean, before)
    assert {group["lr"] for group in made.create_optimizer().param_groups} == {1e-3, 1e-2}


def test_each_step_has_rows_of_like_length_in_an_order_that_every_process_draws(tmp_path):
    made = trainer(tmp_path, per_device_train_batch_size=2)
    sampler, lengths = made._get_train_sampler(), count_tokens(made.train_dataset, made.processor)
    first, again = list(sampler), list(sampler)
    assert first == again and sorted(first) == list(range(len(lengths)))
    torch.manual_seed(5)
    assert list(made._get_train_sampler()) == first
    sampler.set_epoch(1)
    assert list(sampler) != first

    def spread(order: list[int]) -> float:
        return np.array([lengths[row] for row in order]).reshape(-1, 2).std(axis=1).mean()

    assert spread(first) < 0.9 * spread(list(range(len(lengths))))
