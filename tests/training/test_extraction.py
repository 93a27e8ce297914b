"""Features of frozen encoders: what is computed once says what the encoders say, and is not computed twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from tests.training.small import pictures, trainer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HFK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def made(folder, sides, techniques=None, **options):
    text, vision = ("bert" if "text" in sides else None), ("vit" if "image" in sides else None)
    torch.manual_seed(0)
    heads = [head for head in tiny.heads() if head.name.startswith("cat")]
    model = tiny.model(text, vision, heads=heads, **({"fusion": "pooled"} if text and vision else {}))
    return trainer(folder, {"frozen_features": True} | (techniques or {}), vision, model, text=text, **options)


def logits(model, batch):
    return {name: values.detach() for name, values in model.eval()(**batch).logits.items()}


@pytest.mark.parametrize("sides", [("text",), ("image",), ("text", "image")], ids="+".join)
def test_features_say_what_the_encoders_say(sides, tmp_path):
    built = made(tmp_path, sides)
    some = [built.eval_dataset[number] for number in (0, 5, 3)]
    if len(sides) == 2:
        some[1] = some[1] | {"image": None}
    processor = built.processor
    read = {"text": [row.get("text") for row in some], "images": [row.get("image") for row in some]}
    names = {"text": "text", "image": "images"}
    true = dict(processor(**{names[side]: read[names[side]] for side in sides}))
    batch = built.data_collator(some)
    assert all(batch[name].dim() == 2 for name in {"input_ids", "pixel_values"} & {*batch})
    batch.pop("labels")
    told, seen = logits(built.model, batch), logits(built.model, true)
    for name, values in seen.items():
        torch.testing.assert_close(told[name], values, atol=1e-5, rtol=1e-4)


def test_training_changes_no_encoder_and_evaluation_reads_features(tmp_path, monkeypatch):
    built = made(tmp_path, ("image",), num_train_epochs=1)
    monkeypatch.setattr(built.processor, "to_tensors", None)  # nobody opens a picture again
    before = {name: weight.clone() for name, weight in built.model.state_dict().items()}
    built.train()
    built.evaluate()
    changed = {name for name, weight in built.model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed and all(name.startswith("heads.") for name in changed)


def test_what_was_encoded_is_not_encoded_again(cache, tmp_path, capsys):
    made(tmp_path, ("image",))
    assert "12 images encoded" not in capsys.readouterr().out  # three colors, each of which is one picture
    (first,) = cache.iterdir()
    built = made(tmp_path, ("image",), seed=7, num_train_epochs=1)
    assert [*cache.iterdir()] == [first] and "encoded" not in capsys.readouterr().out
    built.train()
    assert built.facts()["preparation_seconds"] >= 0
    with torch.no_grad():
        next(built.model.vision_encoder.parameters()).add_(1.0)
    trainer(tmp_path, {"frozen_features": True}, "vit", built.model)
    assert len([*cache.iterdir()]) == 2


@pytest.mark.parametrize(
    ("techniques", "said"),
    [
        ({"unfreezing": 1}, "all of the encoders is frozen before"),
        ({"lora": True}, "lora_A.default.weight is trained: drop one"),
        ({"pictures": True}, "is not among those that frozen_features has encoded"),
        ({"cutmix": True}, "mixes pictures, and what comes here was encoded before"),
    ],
)
def test_what_trains_encoders_or_changes_pictures_is_refused(techniques, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        made(tmp_path, ("image",), techniques, num_train_epochs=1).train()


def test_fusion_of_all_tokens_is_refused(tmp_path):
    with pytest.raises(ValueError, match="fusion must be pooled or gated"):
        trainer(tmp_path, {"frozen_features": True}, "vit", text="bert")


def test_standardization_and_fitted_heads_read_features(tmp_path, monkeypatch):
    built = made(tmp_path, ("image",), {"standardize_rows": 12, "fitted_heads": 2}, num_train_epochs=1)
    whole = built.processor([None] * 12, [row["image"] for row in pictures()])
    vectors = built.model.features(whole)["image"]
    np.testing.assert_allclose(built.model.fusion.standardization.mean, vectors.mean(0), atol=1e-5)
    monkeypatch.setattr(built.processor, "to_tensors", None)
    built.train()
    assert built.evaluate()["eval_cat2_accuracy"] == 1.0


def test_rows_without_text_keep_their_picture(tmp_path):
    built = made(tmp_path, ("text", "image"))
    batch = built.data_collator([{"id": "a", "text": None, "image": pictures()[0]["image"]}])
    assert batch["text_present"].tolist() == [False] and batch["image_present"].tolist() == [True]
