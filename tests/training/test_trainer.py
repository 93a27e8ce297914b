"""What must hold of training, shown on tiny models and rows of our own."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from hfk import MultiHeadForClassification, MultiHeadProcessor, MultiHeadTrainer, MultiHeadTrainingArguments
from hfk.models.heads import disagreement
from hfk.models.problems import HeadLoss
from hfk.runs.recipe import RecipeArguments
from hfk.tasks.collator import MultiHeadCollator
from hfk.training.techniques.rates import add_adapters, parameter_groups
from hfk.training.train import balanced_weights, build
from hfk.training.trainer import count_tokens, last_checkpoint, sampling_weights, unwrap
from tests import tiny


def rows(count: int = 24, missing: bool = True) -> Dataset:
    """Rows whose text tells the labels; some labels are unknown."""
    generator = np.random.default_rng(0)
    data = {"id": [], "text": [], "cat1": [], "cat2": [], "tags": [], "price": []}
    for number in range(count):
        kind = number % 3
        data["id"].append(f"row{number}")
        data["text"].append(tiny.SENTENCES[[2, 0, 1][kind]] + " " + " ".join(tiny.SENTENCES[4].split()[: number % 4]))
        unknown = missing and number % 5 == 4
        data["cat1"].append(None if unknown else [0, 0, 1][kind])
        data["cat2"].append(kind)
        data["tags"].append(None if missing and number % 7 == 6 else [kind])
        data["price"].append(None if unknown else float(kind) + generator.random())
    return Dataset.from_dict(data)


def arguments(folder, **options) -> MultiHeadTrainingArguments:
    defaults = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "disable_tqdm": True}
    return MultiHeadTrainingArguments(output_dir=str(folder), **(defaults | options))


def picture(pixels: np.ndarray) -> dict:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize("lora", [False, True])
def test_eight_batches_of_one_equal_one_batch_of_eight(tmp_path, lora):
    weights, losses = [], []
    for size, steps in ((8, 1), (1, 8)):
        torch.manual_seed(0)
        model = without_dropout(tiny.model("bert"))
        model.set_training({name: HeadLoss(label_smoothing=0.1) for name in ("cat1", "cat2", "tags")})
        args = arguments(
            tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=steps, num_train_epochs=2,
            train_sampling_strategy="sequential", learning_rate=1e-3, optim="sgd", max_grad_norm=0.0, logging_steps=1,
        )  # fmt: skip
        wrapped = without_dropout(add_adapters(model, args)) if lora else model
        trainer = MultiHeadTrainer(wrapped, args, tiny.processor(), rows(24))
        trainer.train()
        weights.append({name: weight.detach().clone() for name, weight in unwrap(trainer.model).named_parameters()})
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-3, atol=1e-5, msg=name)


def test_training_learns_and_reports_every_head(tmp_path):
    model = tiny.model("bert")
    args = arguments(
        tmp_path, num_train_epochs=40, learning_rate=5e-3, per_device_train_batch_size=8, logging_steps=5,
        eval_strategy="epoch", head_learning_rate=5e-3,
    )  # fmt: skip
    trainer = MultiHeadTrainer(model, args, tiny.processor(), rows(), rows(missing=False))
    trainer.train()
    scores = trainer.evaluate()
    assert scores["eval_cat2_accuracy"] == 1.0
    assert scores["eval_hierarchy_consistency"] == 1.0
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert {"loss_cat1", "loss_cat2", "loss_tags", "loss_price"} <= set(logged)


def test_a_checkpoint_is_whole_resumes_and_holds_no_pickled_arguments(tmp_path):
    def run(epochs_before_stop):
        torch.manual_seed(0)
        args = arguments(tmp_path, num_train_epochs=4, save_strategy="epoch", per_device_train_batch_size=8)
        trainer = MultiHeadTrainer(without_dropout(tiny.model("bert")), args, tiny.processor(), rows())
        if epochs_before_stop:
            from transformers import TrainerCallback

            class Stop(TrainerCallback):
                def on_epoch_end(self, args, state, control, **kwargs):
                    control.should_training_stop = state.epoch >= epochs_before_stop

            trainer.add_callback(Stop())
        trainer.train(resume_from_checkpoint=last_checkpoint(tmp_path))
        return trainer

    run(2)
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint.endswith("checkpoint-6")
    names = {path.name for path in (tmp_path / "checkpoint-6").iterdir()}
    assert "training_args.bin" not in names
    assert {"model.safetensors", "tokenizer.json", "processor_config.json", "modeling_multihead.py"} <= names
    assert json.loads((tmp_path / "checkpoint-6" / "training_arguments.json").read_text())["num_train_epochs"] == 4
    assert MultiHeadForClassification.from_pretrained(checkpoint).config.heads == tiny.heads()
    assert run(None).state.global_step == 12
    (tmp_path / "checkpoint-99").mkdir()  # left half-written by an interruption
    assert last_checkpoint(tmp_path).endswith("checkpoint-12")


def test_groups_by_depth(tmp_path):
    model = tiny.model("bert", "efficientnet-lite")
    args = arguments(tmp_path, learning_rate=1e-3, layer_decay=0.5, weight_decay=0.1)
    groups = parameter_groups(model, args, [name for name, _ in model.named_parameters() if "bias" not in name])
    rate = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    assert len(rate) == len(list(model.parameters()))
    by_name = {name: rate[id(weight)] for name, weight in model.named_parameters()}
    assert by_name["heads.layers.0.short.weight"] == 1e-2
    assert by_name["text_encoder.encoder.layer.1.output.dense.weight"] == 1e-3
    assert by_name["text_encoder.encoder.layer.0.output.dense.weight"] == 5e-4
    assert by_name["text_encoder.embeddings.word_embeddings.weight"] == 2.5e-4
    assert by_name["vision_encoder.stem.convolution.weight"] == pytest.approx(2.5e-4)
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}


def test_adapters_train_and_merge_exactly(tmp_path):
    model = tiny.model("bert", "resnet", fusion="gated")
    frozen = model.text_encoder.embeddings.word_embeddings.weight.detach().clone()
    wrapped = add_adapters(model, arguments(tmp_path, lora_rank=4))
    trainable = {name for name, weight in wrapped.named_parameters() if weight.requires_grad}
    assert any("lora_A" in name for name in trainable)
    assert any("heads.modules_to_save" in name for name in trainable)
    trainer = MultiHeadTrainer(
        wrapped, arguments(tmp_path, num_train_epochs=2, learning_rate=1e-2), tiny.processor("bert", "resnet"), rows()
    )
    trainer.train()
    wrapped.eval()
    ids = torch.randint(5, 100, (2, 6))
    before = wrapped(input_ids=ids).logits["cat2"]
    wrapped.save_pretrained(tmp_path / "adapter")
    merged = unwrap(wrapped)
    torch.testing.assert_close(merged(input_ids=ids).logits["cat2"], before, rtol=1e-4, atol=1e-6)
    assert torch.equal(merged.text_encoder.embeddings.word_embeddings.weight, frozen)
    merged.save_pretrained(tmp_path / "merged")
    again = MultiHeadForClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(again(input_ids=ids).logits["cat2"], before, rtol=1e-4, atol=1e-6)


def test_frozen_batch_norms_keep_their_statistics():
    model = tiny.model(None, "resnet").requires_grad_(False)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()(pixel_values=torch.randn(4, 3, 32, 32) * 5 + 3)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_balanced_sampling_and_weights():
    labels = np.array([0] * 8 + [1] * 2 + [-100])
    balanced = sampling_weights(labels, "balanced")
    assert balanced[:8].sum() == pytest.approx(balanced[8:10].sum())
    assert sampling_weights(labels, "sqrt")[8] / sampling_weights(labels, "sqrt")[0] == pytest.approx(2.0)
    weights = balanced_weights(labels, 3, "balanced")
    assert (weights[0] * 8 + weights[1] * 2) / 10 == pytest.approx(1.0, abs=1e-5)
    assert weights[1] == pytest.approx(4 * weights[0], rel=1e-4)
    assert weights[2] == 1.0


def test_balanced_sampling_draws_rare_classes_more_often(tmp_path):
    data = rows(30, missing=False).select([0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 1])
    args = arguments(tmp_path, sampling="balanced")
    drawn = list(MultiHeadTrainer(tiny.model("bert"), args, tiny.processor(), data)._get_train_sampler())
    assert 2 <= drawn.count(10) <= 9


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


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio"])
def test_logs_to_trackers(tmp_path, tracker):
    pytest.importorskip(tracker)
    args = arguments(tmp_path, report_to=tracker, num_train_epochs=1, logging_steps=1, project="hfk-test")
    MultiHeadTrainer(tiny.model("bert"), args, tiny.processor(), rows(8)).train()
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
    model = tiny.model("bert", "vit")
    model = add_adapters(model, args) if lora else model
    data = rows()
    pixels = np.random.default_rng(0).integers(0, 255, (len(data), 32, 32, 3), dtype=np.uint8)
    data = data.add_column("image", [picture(one) for one in pixels])

    class FirstIsBest(MultiHeadTrainer):
        def compute_head_metrics(self, prediction):
            weights.append({name: weight.detach().clone() for name, weight in self.model.named_parameters()})
            return {}

        def _determine_best_metric(self, metrics, trial):
            return super()._determine_best_metric({"eval_loss": len(weights)}, trial)

    weights: list[dict] = []
    trainer = FirstIsBest(model, args, tiny.processor("bert", "vit"), data, data)
    trainer.train()
    name = next(name for name in weights[0] if "vision" in name and ("lora_B" in name if lora else "q_proj.w" in name))
    assert not torch.equal(weights[0][name], weights[1][name])
    for name, weight in trainer.model.named_parameters():
        assert torch.equal(weight, weights[0][name]), name


def test_frozen_batch_norms_are_left_alone_by_a_recipe_that_says_so(tmp_path):
    tiny.model(None, "resnet").vision_encoder.save_pretrained(tmp_path)
    tiny.processor(None, "resnet").image_processor.save_pretrained(tmp_path)
    recipe = RecipeArguments(task="tour-mini", freeze_batch_norm=True)
    model, _ = build(recipe, tiny.heads(), None, str(tmp_path))
    norms = [module for module in model.train().modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert all(weight.requires_grad for name, weight in model.named_parameters() if name.startswith("heads"))


def test_images_alone_train_and_are_saved_with_their_processor(tmp_path):
    import io

    from PIL import Image

    def picture(colour: str) -> dict:
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    colours = ["navy", "darkgreen", "firebrick"]
    data = [
        {"id": str(n), "image": picture(colours[n % 3]), "cat1": [0, 0, 1][n % 3], "cat2": n % 3} for n in range(24)
    ]
    args = arguments(tmp_path, num_train_epochs=1, save_strategy="epoch", train_sampling_strategy="random")
    model = tiny.model(None, "vit")
    MultiHeadTrainer(model, args, tiny.processor(None, "vit"), Dataset.from_list(data)).train()
    again = MultiHeadProcessor.from_pretrained(last_checkpoint(tmp_path))
    assert again.tokenizer is None
    assert again(images=[data[0]["image"]])["pixel_values"].shape == (1, 3, 32, 32)


def test_two_passes_are_held_together(tmp_path):
    logits = {
        "cat1": torch.randn(8, 2),
        "cat2": torch.randn(8, 3),
        "tags": torch.randn(8, 3),
        "price": torch.randn(8, 1),
    }
    heads = tiny.heads()
    expected = 0.0
    for head in heads:
        one, other = logits[head.name][:4], logits[head.name][4:]
        if head.problem == "regression":
            expected += (one - other).square().mean()
            continue
        if head.problem == "multi_label":
            make, shape = (lambda values: torch.stack([values.sigmoid(), 1 - values.sigmoid()], -1)), head.num_outputs
        else:
            make, shape = (lambda values: values.softmax(-1)), 1
        p, q = make(one), make(other)
        both = torch.nn.functional.kl_div(p.log(), q, reduction="sum") + torch.nn.functional.kl_div(
            q.log(), p, reduction="sum"
        )
        expected += both / 2 / 4 / shape
    assert disagreement(logits, heads).item() == pytest.approx(float(expected), rel=1e-4)
    same = {name: torch.cat([values[:4], values[:4]]) for name, values in logits.items()}
    assert disagreement(same, heads).item() == pytest.approx(0, abs=1e-6)


def test_r_drop_changes_nothing_where_there_is_no_dropout(tmp_path):
    weights = []
    for r_drop in (0.0, 4.0):
        torch.manual_seed(0)
        model = without_dropout(tiny.model("bert"))
        args = arguments(
            tmp_path, per_device_train_batch_size=8, r_drop=r_drop, train_sampling_strategy="sequential",
            num_train_epochs=1, optim="sgd", learning_rate=1e-2, logging_steps=1,
        )  # fmt: skip
        trainer = MultiHeadTrainer(model, args, tiny.processor(), rows())
        trainer.train()
        logged = [entry["loss_r_drop"] for entry in trainer.state.log_history if "loss_r_drop" in entry]
        assert logged == ([0.0] * 3 if r_drop else [])
        weights.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_r_drop_draws_answers_together(tmp_path):
    apart = []
    for r_drop in (0.0, 200.0):
        torch.manual_seed(0)
        model = tiny.model("bert")
        args = arguments(
            tmp_path, per_device_train_batch_size=8, r_drop=r_drop, num_train_epochs=10, learning_rate=5e-3
        )
        MultiHeadTrainer(model, args, tiny.processor(), rows()).train()
        model.train()
        batch = MultiHeadCollator(tiny.processor(), [])(list(rows()) * 20)
        with torch.no_grad():
            apart.append(disagreement(model(**batch).logits, model.config.heads).item())
    assert apart[1] < 0.5 * apart[0]


def test_rows_are_grouped_by_tokens(tmp_path):
    texts = ["바다", tiny.SENTENCES[0], None, " ".join(tiny.SENTENCES * 9)]
    data = Dataset.from_dict({"id": list("abcd"), "text": texts, "cat1": [0, 1, 0, 1]})
    processor = tiny.processor(text_prefix="query: ")
    counts = count_tokens(data, processor)
    assert counts == [int(processor(text=[text or " ."])["attention_mask"].sum()) for text in texts[:2]] + [
        len(processor.tokenizer("query: ")["input_ids"]),
        processor.max_length,
    ]
    trainer = MultiHeadTrainer(tiny.model("bert"), arguments(tmp_path), processor, data)
    assert trainer.train_dataset["length"] == counts
    assert count_tokens(data.remove_columns("text"), processor) == [0] * 4
