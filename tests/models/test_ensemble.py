"""An ensemble answers as the average of its members does, wherever it is loaded and whatever they read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer, pipeline

from hfk import (
    MultiHeadClassificationPipeline,
    MultiHeadEnsemble,
    MultiHeadEnsembleConfig,
    MultiHeadEnsembleProcessor,
    MultiHeadProcessor,
    Predictor,
)
from hfk.models.decoding import head_parents, probabilities
from tests import tiny
from tests.models.test_heads import consistent

TEXTS = tiny.SENTENCES[:3]
PICTURE = Image.new("RGB", (40, 30), (200, 90, 20))


def member(text="bert", vision=None, seed=0, **options):
    """A tiny model with spread-out answers, so that an average is not all alike."""
    torch.manual_seed(seed)
    model = tiny.model(text, vision, **options)
    for layer in model.heads.layers:
        torch.nn.init.normal_(layer.short.weight, std=2.0)
    return model


def averaged(outputs, members, name, weights=None):
    """What the members say of a head, put together by hand: probabilities, or the value."""
    weights = weights or [1 / len(members)] * len(members)
    said = [probabilities(output.logits, one.config.heads)[name] for output, one in zip(outputs, members, strict=True)]
    return sum(weight * one for weight, one in zip(weights, said, strict=True))


def saved(ensemble, processor, folder: Path) -> Path:
    ensemble.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Three members: two text encoders of one tokenizer, one of text and pictures with longer texts."""
    members = [member(seed=1), member("xlm-roberta", "vit", seed=2), member("electra", seed=3)]
    members[1].config.heads[3].mean, members[1].config.heads[3].std = 7.0, 3.0
    members[2].config.heads[1].temperature = 2.5
    processors = [tiny.processor(), tiny.processor("bert", "vit", max_length=48), tiny.processor()]
    processor, readers = MultiHeadEnsembleProcessor.join(processors)
    ensemble = MultiHeadEnsemble.from_members(members, readers)
    folder = saved(ensemble, processor, tmp_path_factory.mktemp("mixed"))
    return folder, members, processors


@pytest.mark.parametrize(
    "weights", [None, {"cat1": [3, 1, 0], "cat2": [0, 1, 1], "tags": [1, 0, 0], "price": [1, 2, 1]}]
)
def test_it_says_what_averaging_by_hand_gives(mixed, weights):
    folder, members, processors = mixed
    ensemble = MultiHeadEnsemble.from_members(members, [0, 1, 0], weights)
    processor = AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        found = ensemble(**processor(text=TEXTS))
        outputs = [one(**own(text=TEXTS)) for one, own in zip(members, processors, strict=True)]
    shares = {name: [w / sum(row) for w in row] for name, row in (weights or {}).items()}
    for name in ("cat1", "cat2", "tags", "price"):
        expected = averaged(outputs, members, name, shares.get(name))
        actual = probabilities(found.logits, ensemble.config.heads)[name]
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.logits["cat1"].exp().sum(-1), torch.ones(3))
    assert found.embedding.shape == (3, ensemble.config.embedding_size) == (3, 96)


def test_far_apart_answers_stay_finite():
    """Probabilities that underflow in float32 must not become infinite logits."""
    members = [member(seed=1), member(seed=2)]
    for one in members:
        for layer in one.heads.layers:
            layer.short.weight.data *= 1e4
    ensemble = MultiHeadEnsemble.from_members(members, weights={"cat1": [1, 0]})
    logits = ensemble(**tiny.processor()(text=TEXTS)).logits
    assert all(values.isfinite().all() for values in logits.values())


@pytest.mark.parametrize(
    ("text", "vision"),
    [("albert", "efficientnet-lite"), ("modernbert", "vit")],
)
def test_same_logits_after_round_trip(text, vision, tmp_path):
    members = [member(text, vision, seed) for seed in (1, 2)]
    processor = tiny.processor("bert", "vit")
    ensemble = MultiHeadEnsemble.from_members(members)
    again = AutoModel.from_pretrained(saved(ensemble, processor, tmp_path))
    assert type(again) is MultiHeadEnsemble and not again.training
    assert type(AutoProcessor.from_pretrained(tmp_path)) is MultiHeadProcessor  # one for all
    inputs = processor(text=[*TEXTS[:2], None], images=[PICTURE, None, PICTURE])
    with torch.no_grad():
        before, after = ensemble(**inputs).logits, again(**inputs).logits
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-5, atol=1e-6)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".py"}


def test_half_precision_is_held_throughout(mixed):
    folder, _, _ = mixed
    whole, half = AutoModel.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    inputs = AutoProcessor.from_pretrained(folder)(text=TEXTS, images=[PICTURE] * 3)
    with torch.no_grad():
        left, right = whole(**inputs).logits["cat1"].exp(), half(**inputs).logits["cat1"].exp()
    torch.testing.assert_close(left, right, rtol=0, atol=0.05)
    assert right.dtype == torch.float32


def test_members_that_cannot_read_a_row_abstain(mixed):
    folder, members, processors = mixed
    ensemble, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert type(processor) is MultiHeadEnsembleProcessor
    with torch.no_grad():
        found = ensemble(**processor(text=[None, TEXTS[0]], images=[PICTURE, PICTURE]))
        alone = members[1](**processors[1](images=[PICTURE])).logits["cat2"].softmax(-1)
        inputs = processors[0](text=[TEXTS[0]])
        together = [members[0](**inputs), members[1](**processors[1](text=[TEXTS[0]], images=[PICTURE])),
                    members[2](**inputs)]  # fmt: skip
    torch.testing.assert_close(found.logits["cat2"][:1].exp(), alone, rtol=1e-4, atol=1e-5)
    expected = averaged(together, members, "cat2")
    torch.testing.assert_close(found.logits["cat2"][1:].exp(), expected, rtol=1e-4, atol=1e-5)
    assert found.embedding[0, :32].eq(0).all() and found.embedding[0, 32:64].ne(0).any()
    with torch.no_grad():  # no row of the batch for the readers of text
        pictures = ensemble(**processor(images=[PICTURE]))
    torch.testing.assert_close(pictures.logits["cat2"].exp(), alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="row 1: there is no text or image to classify"):
        processor(text=[TEXTS[0], " "], images=[None, None])


def test_a_member_of_no_weight_still_answers_what_only_it_can_read(mixed):
    folder, members, processors = mixed
    ensemble = MultiHeadEnsemble.from_members(members, [0, 1, 0], {"cat1": [1, 0, 1]})
    with torch.no_grad():
        found = ensemble(**AutoProcessor.from_pretrained(folder)(images=[PICTURE])).logits["cat1"].exp()
        alone = members[1](**processors[1](images=[PICTURE])).logits["cat1"].softmax(-1)
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


def test_one_text_may_vanish_in_one_members_cleaning_only():
    members = [member(seed=1), member(seed=2)]
    processors = [tiny.processor(), tiny.processor(text_cleaning=["url"])]
    processor, readers = MultiHeadEnsembleProcessor.join(processors)
    ensemble = MultiHeadEnsemble.from_members(members, readers)
    text = "https://example.org/news"
    assert processors[1].clean(text) is None
    with torch.no_grad():
        found = ensemble(**processor(text=[text])).logits["cat1"].exp()
        alone = members[0](**processors[0](text=[text])).logits["cat1"].softmax(-1)
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)


def test_pipeline_and_predictor_answer_alike_and_along_the_hierarchy(mixed):
    folder, _, _ = mixed
    classify = pipeline("multi-head-classification", model=str(folder))
    assert type(classify) is MultiHeadClassificationPipeline
    rows = [TEXTS[0], {"image": PICTURE}, {"text": TEXTS[1], "image": PICTURE}, TEXTS[2]]
    one, many = classify(rows, batch_size=1), classify(rows, batch_size=3)
    predictor = Predictor.from_pretrained(str(folder), batch_size=2)
    answers = list(predictor([*rows, " "]))
    assert "error" in answers.pop()
    for left, middle, right in zip(one, many, answers, strict=True):
        for name in ("cat1", "cat2"):
            assert left[name][0]["label"] == middle[name][0]["label"] == right[name][0]["label"]
            assert left[name][0]["score"] == pytest.approx(right[name][0]["score"], abs=1e-4)
        assert left["price"] == pytest.approx(middle["price"], abs=1e-3)
    model = AutoModel.from_pretrained(folder)
    chosen = model.predict(**AutoProcessor.from_pretrained(folder)(text=tiny.SENTENCES))
    assert consistent(chosen, head_parents(model.config.heads))


def test_the_loss_is_that_of_the_averaged_answer(mixed):
    folder, members, processors = mixed
    ensemble, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    labels = {"cat1": torch.tensor([0, 1, -100])}
    with torch.no_grad():
        output = ensemble(**processor(text=TEXTS), labels=labels)
        outputs = [one(**own(text=TEXTS)) for one, own in zip(members, processors, strict=True)]
    probs = averaged(outputs, members, "cat1")
    expected = -(probs[0, 0].log() + probs[1, 1].log()) / 3
    assert output.loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_every_processor_keeps_its_own_tokenizer(tmp_path):
    one, two = tiny.processor(), tiny.processor()
    two.tokenizer.add_tokens(["다운"])
    processor, readers = MultiHeadEnsembleProcessor.join([one, two, tiny.processor()])
    assert readers == [0, 1, 0]
    processor.save_pretrained(tmp_path)
    again = MultiHeadEnsembleProcessor.from_pretrained(tmp_path)
    batch = again(text=[TEXTS[0]])
    assert batch["input_ids"].tolist() == one(text=[TEXTS[0]])["input_ids"].tolist()
    assert batch["processor1_input_ids"].tolist() == two(text=[TEXTS[0]])["input_ids"].tolist()
    assert batch["input_ids"].tolist() != batch["processor1_input_ids"].tolist()
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(one.tokenizer)


def test_a_used_processor_is_still_the_same_one():
    """Padding and cutting leave marks in a fast tokenizer, which say nothing about it."""
    one, two = tiny.processor(), tiny.processor()
    one(text=TEXTS)
    assert type(MultiHeadEnsembleProcessor.join([one, two])[0]) is MultiHeadProcessor


def test_the_configuration_survives_json(mixed):
    folder, _, _ = mixed
    config = AutoConfig.from_pretrained(folder)
    assert type(config) is MultiHeadEnsembleConfig
    assert [head.name for head in config.heads] == ["cat1", "cat2", "tags", "price"]
    assert config.text_config.model_type == "bert" and config.vision_config.model_type == "vit"
    assert config.heads[1].parent_of == [0, 0, 1] and config.readers == [0, 1, 0]
    again = MultiHeadEnsembleConfig.from_dict(json.loads(config.to_json_string()))
    assert again.to_dict() | {"_name_or_path": ""} == config.to_dict() | {"_name_or_path": ""}


def renamed(**options):
    heads = tiny.heads()
    heads[0] = replace(heads[0], **options)
    return tiny.model(heads=heads)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda: tiny.model(heads=tiny.heads()[:2]),
            r"member 0 has cat1, cat2, tags, price; member 1 has cat1, cat2\.",
        ),
        (
            lambda: renamed(labels=["자연", "음료"]),
            "'cat1' has another `labels` in member 1 .*'음료' is in one of them",
        ),
        (lambda: renamed(labels=["음식", "자연"]), "the same ones, in another order"),
        (lambda: renamed(labels=["자연", "음식"], kind="mlp", temperature=2.0), None),
    ],
)
def test_members_must_have_the_same_heads(other, message):
    if message is None:
        assert len(MultiHeadEnsemble.from_members([tiny.model(), other()]).members) == 2
        return
    with pytest.raises(ValueError, match=message) as caught:
        MultiHeadEnsemble.from_members([tiny.model(), other()])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"cat9": [1, 1]}}, "'cat9', which is no head"),
        ({"weights": {"cat1": [1]}}, "needs 2 weights"),
        ({"weights": {"cat1": [0, 0]}}, "not all 0"),
        ({"weights": {"cat1": [1, -1]}}, "0 or more"),
        ({"readers": [0]}, "readers must number"),
        ({"readers": [0, 2]}, "without gaps"),
    ],
)
def test_wrong_options_are_one_sentence(options, message):
    config = tiny.model().config
    with pytest.raises(ValueError, match=message):
        MultiHeadEnsembleConfig([config, config], **options)


def test_rows_without_any_input_are_refused(mixed):
    folder, _, _ = mixed
    model = AutoModel.from_pretrained(folder)
    with pytest.raises(ValueError, match="there is no input"):
        model()
    with pytest.raises(ValueError, match="has no members"):
        MultiHeadEnsemble(MultiHeadEnsembleConfig())
