"""What must hold for every encoder family, alone and together, and for every fusion: one test class, many models."""

from __future__ import annotations

import copy

import pytest
import torch

from hfk import MultiHeadConfig, MultiHeadForClassification
from tests import tiny

CASES = (
    [(text, None, None) for text in tiny.TEXT]
    + [(None, vision, None) for vision in tiny.VISION]
    + [("bert", "resnet", fusion) for fusion in ("tokens", "pooled", "gated")]
    + [
        ("electra", "vit", "tokens"),
        ("bert", "swin", "pooled"),
        ("deberta-v2", "swin", "gated"),
        ("modernbert", "efficientnet-lite", "tokens"),
    ]
)


def inputs(text: str | None, vision: str | None, rows: int = 3) -> dict[str, torch.Tensor]:
    batch = {}
    if text:
        batch["input_ids"] = torch.randint(5, tiny.VOCABULARY_SIZE, (rows, 9))
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["attention_mask"][0, 6:] = 0
        batch["input_ids"][:, 0] = 2
        batch["input_ids"][:, -1] = 3
    if vision:
        batch["pixel_values"] = torch.randn(rows, 3, 32, 32)
    return batch


LABELS = {
    "cat1": torch.tensor([0, 1, -100]),
    "cat2": torch.tensor([1, 2, -100]),
    "tags": torch.tensor([[1.0, 0, 1], [0, 0, 0], [float("nan")] * 3]),
    "price": torch.tensor([4.0, float("nan"), 9.0]),
}


@pytest.fixture(scope="class", params=CASES, ids=lambda case: "-".join(filter(None, case)))
def case(request, tmp_path_factory):
    """A model in evaluation mode, the folder it is saved in, and a batch for it."""
    torch.manual_seed(0)
    text, vision, fusion = request.param
    model, folder = tiny.model(text, vision, fusion=fusion or "tokens"), tmp_path_factory.mktemp("case")
    model.save_pretrained(folder)
    return model, folder, inputs(text, vision)


class TestEveryEncoder:
    def test_every_weight_that_counts_gets_a_gradient_and_checkpointing_gives_the_same(self, case, request):
        text, vision, _ = request.node.callspec.params["case"]
        model, batch = copy.deepcopy(case[0]), case[2]
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(module, torch.nn.MultiheadAttention):
                module.dropout = 0.0
            elif isinstance(module, torch.nn.BatchNorm2d):  # their statistics are updated by every forward pass
                module.eval()
        output = model(**batch, labels=LABELS)
        output.loss.backward()
        assert output.loss.isfinite()
        assert set(output.losses) == set(LABELS)
        # What the encoders themselves keep for other uses: mask tokens, norms after a pooling of their own.
        other_uses = (
            "mask_token",
            *{"convnext": ["encoder.layernorm"], "clip-vision": ["post_layernorm"]}.get(vision, []),
            *{"siglip2-text": ["text_encoder.head"]}.get(text, []),
        )
        expected = {name: weight.grad for name, weight in model.named_parameters()}
        without = [name for name, gradient in expected.items() if gradient is None]
        assert [name for name in without if not any(use in name for use in other_uses)] == []
        unable = ("albert", "morphemes", "ngram", "side-by-side", "textcnn")
        if vision in ("resnet", "convnext", "efficientnet", "cnn", "mlp", "side-by-side-vision") or text in unable:
            return  # there is no gradient checkpointing for this encoder
        model.zero_grad()
        model.activation_checkpointing_enable()
        model(**batch, labels=LABELS).loss.backward()
        for name, weight in model.named_parameters():
            if expected[name] is not None:
                torch.testing.assert_close(weight.grad, expected[name], rtol=1e-4, atol=1e-5, msg=name)

    def test_same_logits_after_round_trip_and_nearly_so_in_half_precision(self, case):
        model, folder, batch = case
        loaded, expected = MultiHeadForClassification.from_pretrained(folder), model(**batch).logits
        for name, weight in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], weight), name
        after = loaded(**batch).logits
        for name, logits in expected.items():  # memory alignment alone moves the last bit
            torch.testing.assert_close(after[name], logits, rtol=1e-5, atol=1e-7)
        half = MultiHeadForClassification.from_pretrained(folder, dtype=torch.bfloat16)(**batch).logits["cat1"]
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), expected["cat1"], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("fusion", ["tokens", "pooled", "gated"])
def test_one_batch_mixes_rows_with_text_image_and_both(fusion):
    model = tiny.model("bert", "resnet", fusion=fusion)
    batch = inputs("bert", "resnet")
    mixed = model(
        **batch, text_present=torch.tensor([True, False, True]), image_present=torch.tensor([False, True, True])
    ).logits
    text_only = model(input_ids=batch["input_ids"][:1], attention_mask=batch["attention_mask"][:1]).logits
    image_only = model(pixel_values=batch["pixel_values"][1:2]).logits
    both = model(**{name: values[2:] for name, values in batch.items()}).logits
    for name in mixed:
        torch.testing.assert_close(mixed[name][:1], text_only[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mixed[name][1:2], image_only[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mixed[name][2:], both[name], rtol=1e-4, atol=1e-5)


def test_a_row_with_neither_is_named():
    model = tiny.model("bert", "resnet")
    with pytest.raises(ValueError, match="row 1 of the batch has neither"):
        model(
            **inputs("bert", "resnet"),
            text_present=torch.tensor([True, False, True]),
            image_present=torch.tensor([True, False, True]),
        )


def test_padding_and_neighbors_change_nothing():
    model = tiny.model("bert", text_pooling="attention")
    batch = inputs("bert", None)
    alone = model(input_ids=batch["input_ids"][:1, :6]).logits
    together = model(**batch).logits
    torch.testing.assert_close(together["cat2"][:1], alone["cat2"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "attention"])
def test_text_poolings_ignore_padding(pooling):
    model = tiny.model("roberta", text_pooling=pooling)
    ids = torch.randint(5, 100, (1, 6))
    padded = torch.cat([ids, torch.zeros(1, 3, dtype=torch.long)], 1)
    mask = torch.tensor([[1] * 6 + [0] * 3])
    torch.testing.assert_close(
        model(input_ids=padded, attention_mask=mask).logits["cat1"],
        model(input_ids=ids).logits["cat1"],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", ["linear", "mlp", "residual"])
def test_head_kinds_round_trip(kind, tmp_path):
    model = tiny.model("bert", heads=tiny.heads(kind=kind))
    batch = inputs("bert", None)
    model.save_pretrained(tmp_path)
    after = MultiHeadForClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(after(**batch).logits["cat2"], model(**batch).logits["cat2"], rtol=1e-5, atol=1e-7)
    assert after.config.heads == model.config.heads


def test_resize_token_embeddings_survives_a_round_trip(tmp_path):
    model = tiny.model("bert", "vit")
    model.resize_token_embeddings(tiny.VOCABULARY_SIZE + 7)
    assert model.config.text_config.vocab_size == tiny.VOCABULARY_SIZE + 7
    model.save_pretrained(tmp_path)
    after = MultiHeadForClassification.from_pretrained(tmp_path)
    ids = torch.tensor([[2, tiny.VOCABULARY_SIZE + 6, 3]])
    torch.testing.assert_close(after(input_ids=ids).logits["cat1"], model(input_ids=ids).logits["cat1"])


def test_sdpa_is_used_and_agrees_with_eager(tmp_path):
    model = tiny.model("bert", "vit")
    model.save_pretrained(tmp_path)
    sdpa = MultiHeadForClassification.from_pretrained(tmp_path, attn_implementation="sdpa")
    eager = MultiHeadForClassification.from_pretrained(tmp_path, attn_implementation="eager")
    assert sdpa.text_encoder.config._attn_implementation == "sdpa"
    assert eager.vision_encoder.config._attn_implementation == "eager"
    batch = inputs("bert", "vit")
    torch.testing.assert_close(sdpa(**batch).logits["cat2"], eager(**batch).logits["cat2"], rtol=1e-4, atol=1e-5)


def test_compile_has_no_graph_breaks():
    model = tiny.model("bert", "efficientnet-lite", fusion="gated")
    batch = inputs("bert", "efficientnet-lite") | {
        "text_present": torch.tensor([True, False, True]),
        "image_present": torch.tensor([True, True, False]),
    }
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**batch).logits["cat2"], model(**batch).logits["cat2"])


def test_export_with_a_dynamic_batch():
    model = tiny.model("bert", "efficientnet-lite", fusion="tokens")
    batch = inputs("bert", "efficientnet-lite", rows=3)
    rows, tokens = torch.export.Dim("rows", min=2, max=64), torch.export.Dim("tokens", min=2, max=60)
    text = {name: {0: rows, 1: tokens} for name in ("input_ids", "attention_mask")}
    program = torch.export.export(model, (), batch, dynamic_shapes=text | {"pixel_values": {0: rows}})
    other = inputs("bert", "efficientnet-lite", rows=5)
    other = other | {name: other[name][:, :7] for name in ("input_ids", "attention_mask")}
    torch.testing.assert_close(
        program.module()(**other).logits["cat2"], model(**other).logits["cat2"], rtol=1e-4, atol=1e-5
    )


def test_device_map_places_the_whole_model(tmp_path):
    model = tiny.model("bert", "resnet")
    model.save_pretrained(tmp_path)
    batch = inputs("bert", "resnet")
    for device_map in ("cpu", "auto"):
        placed = MultiHeadForClassification.from_pretrained(tmp_path, device_map=device_map)
        assert {str(weight.device) for weight in placed.parameters()} == {"cpu"}
        torch.testing.assert_close(placed(**batch).logits["cat2"], model(**batch).logits["cat2"], rtol=1e-4, atol=1e-5)


def test_naflex_is_refused():
    import transformers as hf

    config = hf.Siglip2VisionConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, num_patches=16)
    with pytest.raises(ValueError, match="NaFlex"):
        MultiHeadForClassification(MultiHeadConfig(vision_config=config, heads=tiny.heads()))


def test_from_encoders_takes_the_text_tower_of_siglip(tmp_path):
    import transformers as hf

    hf.Siglip2Model(hf.Siglip2Config(text_config=tiny.TEXT["siglip2-text"]().to_dict())).save_pretrained(tmp_path)
    model = MultiHeadForClassification.from_encoders(text=str(tmp_path), heads=tiny.heads())
    assert type(model.text_encoder) is hf.Siglip2TextModel


def test_from_encoders_takes_the_vision_tower_of_clip(tmp_path):
    import transformers as hf

    config = hf.CLIPConfig(
        text_config=tiny.TEXT["clip-text"]().to_dict(), vision_config=tiny.VISION["clip-vision"]().to_dict()
    )
    clip = hf.CLIPModel(config)
    clip.save_pretrained(tmp_path)
    model = MultiHeadForClassification.from_encoders(vision=str(tmp_path), heads=tiny.heads())
    weights = dict(clip.vision_model.named_parameters())
    mine = {name.removeprefix("vision_model."): w for name, w in model.vision_encoder.named_parameters()}
    assert set(mine) == set(weights)
    assert all(torch.equal(mine[name], weights[name]) for name in weights)


def test_from_encoders_drops_the_unused_pooler(tmp_path):
    import transformers as hf

    encoder = hf.BertModel(tiny.TEXT["bert"]())
    encoder.save_pretrained(tmp_path)
    for source in (str(tmp_path), encoder):
        model = MultiHeadForClassification.from_encoders(text=source, heads=tiny.heads())
        assert not [name for name, _ in model.named_parameters() if "pooler" in name]
        assert torch.equal(
            model.text_encoder.embeddings.word_embeddings.weight, encoder.embeddings.word_embeddings.weight
        )


def test_modality_dropout_only_in_training_and_never_both():
    from hfk.models.fusion import drop_modalities

    text, image = torch.tensor([True] * 500 + [True, False]), torch.tensor([True] * 500 + [False, True])
    kept_text, kept_image = drop_modalities(text, image, 0.5)
    assert (kept_text | kept_image).all()
    assert 150 < int((~kept_text | ~kept_image)[:500].sum()) < 350
    model, batch = tiny.model("bert", "resnet"), inputs("bert", "resnet")
    model.set_training(modality_dropout=0.9)
    torch.testing.assert_close(model(**batch).embedding, model(**batch).embedding)


@pytest.mark.parametrize("fusion", ["tokens", "pooled", "gated"])
def test_modality_loss_adds_each_side_alone_in_training(fusion):
    options = {"fusion": fusion, "fusion_dropout": 0.0, "heads": tiny.heads(dropout=0.0)[:3]}
    model = tiny.model("bert", "resnet", **options)
    model.set_training(modality_loss=0.5)
    model.training = True  # of the model alone: its layers stay without dropout
    batch, labels = ragged_batches()[0], {name: LABELS[name] for name in ("cat1", "cat2", "tags")}
    found = model(**batch, labels=labels)
    text, image = batch["text_present"], batch["image_present"]
    model.modality_loss = 0.0
    both, text_alone, image_alone = (
        model(**batch | {"text_present": of_text, "image_present": of_image}, labels=labels)
        for of_text, of_image in ((text, image), (text, image & ~text), (text & ~image, image))
    )
    expected = (both.loss + 0.5 * (text_alone.loss + image_alone.loss)) / 2
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert found.losses.keys() == both.losses.keys()
    torch.testing.assert_close(found.embedding, both.embedding)  # what answers is not changed
    model.modality_loss = 0.5
    model.eval()
    assert model(**batch, labels=labels).loss.item() == pytest.approx(both.loss.item(), rel=1e-4)


def ragged_batches() -> list[dict[str, torch.Tensor]]:
    """Two batches with padding, of rows with text only, image only and both."""
    batches = []
    for _ in range(2):
        batch = inputs("bert", "resnet")
        batch["attention_mask"][1, 4:] = 0
        present = {
            "text_present": torch.tensor([True, True, False]),
            "image_present": torch.tensor([True, False, True]),
        }
        batches.append(dict(batch) | present)
    return batches


@pytest.mark.parametrize("fusion", ["tokens", "pooled", "gated"])
def test_standardized_features_have_mean_0_and_deviation_1_over_what_counts(fusion):
    model = tiny.model("bert", "resnet", fusion=fusion)
    batches = ragged_batches()
    model.standardize(batches)
    seen = {"text": [], "image": []}
    for batch in batches:
        text = model.text_encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        image = model.vision_encoder(pixel_values=batch["pixel_values"])
        for side, tokens, mask in (
            ("text", text.last_hidden_state, batch["attention_mask"]),
            ("image", image.last_hidden_state.flatten(2).transpose(1, 2), None),
        ):
            rows = batch[f"{side}_present"]
            part = getattr(model.fusion, side)
            vectors = part.features(tokens[rows], None if mask is None else mask[rows])
            seen[side].append(part.standardization(vectors).detach())
    for vectors in seen.values():
        vectors = torch.cat(vectors)
        # A feature that hardly varies is scaled by less than its deviation asks for.
        deviation = vectors.std(0, correction=0)
        torch.testing.assert_close(vectors.mean(0), torch.zeros_like(deviation), atol=1e-4, rtol=0)
        assert deviation.max() < 1.001 and deviation.median() > 0.999


def test_standardization_travels_with_the_checkpoint_and_older_ones_load_without_it(tmp_path):
    model, batch = tiny.model("bert"), inputs("bert", None)
    model.standardize([batch])
    expected = model(**batch).logits["cat1"]
    assert model.fusion.standardization.mean.abs().sum() > 0
    model.save_pretrained(tmp_path / "new")
    loaded = type(model).from_pretrained(tmp_path / "new")
    torch.testing.assert_close(loaded(**batch).logits["cat1"], expected)
    weights = {name: value for name, value in model.state_dict().items() if "standardization" not in name}
    model.save_pretrained(tmp_path / "old", state_dict=weights)
    older = type(model).from_pretrained(tmp_path / "old").fusion.standardization
    assert older.mean.abs().sum() == 0 and (older.scale == 1).all()
