"""The convolutional encoder, on embeddings and on a recurrent encoder's states."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel

from hfk import MultiHeadConfig, MultiHeadForClassification
from hfk.models.modeling_textcnn import TextCNNConfig, TextCNNModel
from tests import tiny

LENGTHS = [9, 6, 1, 4]
RECURRENT = {"cell": "gru", "hidden_size": 8, "dropout": 0.0}


def make(**options) -> TextCNNModel:
    torch.manual_seed(0)
    known = {"vocab_size": 60, "embedding_size": 6, "windows": [2, 3, 4, 8], "num_filters": 5}
    return TextCNNModel(TextCNNConfig(**(known | options))).eval()


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 60, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask}


def test_a_filter_is_its_window_s_dot_product():
    model = make(windows=[3], num_filters=2)
    ids = torch.tensor([[5, 6, 7, 8]])
    padded = torch.cat([torch.zeros(1, 6), model.embeddings(ids)[0], torch.zeros(1, 6)])
    weight, bias = model.convolutions[0].weight, model.convolutions[0].bias
    expected = torch.stack([(weight * padded[i : i + 3].T).sum((1, 2)) + bias for i in range(4)]).relu()
    output = model(ids)
    torch.testing.assert_close(output.last_hidden_state[0], expected)
    torch.testing.assert_close(output.pooler_output[0], expected.amax(0))


@pytest.mark.parametrize("recurrent", [None, RECURRENT])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "attention"])
def test_padding_and_neighbors_change_no_logits(recurrent, pooling):
    encoder = make(recurrent=recurrent)
    model = MultiHeadForClassification.from_encoders(encoder, heads=tiny.heads(), text_pooling=pooling)
    inputs = batch()
    together = model(**inputs).logits["cat2"]
    for row, length in enumerate(LENGTHS):
        alone = model(input_ids=inputs["input_ids"][row : row + 1, :length]).logits["cat2"]
        torch.testing.assert_close(together[row : row + 1], alone)


def test_max_pooling_in_the_model_is_the_max_over_time():
    encoder, inputs = make(), batch()
    model = MultiHeadForClassification.from_encoders(encoder, heads=tiny.heads(), text_pooling="max")
    torch.testing.assert_close(model(**inputs).embedding, encoder(**inputs).pooler_output)


@pytest.mark.parametrize("recurrent", [None, RECURRENT])
def test_same_states_after_a_round_trip(recurrent, tmp_path):
    model, inputs = make(recurrent=recurrent), batch()
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is TextCNNModel
    assert AutoConfig.from_pretrained(tmp_path).recurrent == recurrent
    assert torch.equal(loaded(**inputs).pooler_output, model(**inputs).pooler_output)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)(**inputs).last_hidden_state
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), model(**inputs).last_hidden_state, rtol=0.1, atol=0.1)


def test_the_whole_model_round_trips_with_a_recurrent_encoder_inside(tmp_path):
    torch.manual_seed(0)
    config = TextCNNConfig(vocab_size=60, embedding_size=6, windows=[2], num_filters=5, recurrent=RECURRENT)
    model = MultiHeadForClassification(MultiHeadConfig(text_config=config, heads=tiny.heads())).eval()
    model.save_pretrained(tmp_path)
    loaded = MultiHeadForClassification.from_pretrained(tmp_path)
    assert loaded.text_encoder.recurrent.config.cell == "gru"
    torch.testing.assert_close(loaded(**batch()).logits["cat2"], model(**batch()).logits["cat2"])
    # The recurrent encoder's own initial weights, not the model's.
    weight = model.text_encoder.recurrent.layers[0].ahead.weight_hh_l0.detach()
    torch.testing.assert_close(weight.T @ weight, torch.eye(4), atol=1e-5, rtol=0)


def test_it_compiles_and_exports_for_any_batch_and_length():
    model, inputs = make(), batch()
    auto = torch.export.Dim.AUTO
    shapes = {"input_ids": {0: auto, 1: auto}, "attention_mask": {0: auto, 1: auto}}
    exported = torch.export.export(model, (), inputs, dynamic_shapes=shapes).module()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for rows, length in (([0, 1, 2, 3], 9), ([1, 3], 6)):
        other = {name: values[rows, :length] for name, values in inputs.items()}
        expected = model(**other).pooler_output
        torch.testing.assert_close(exported(**other)["pooler_output"], expected)
        torch.testing.assert_close(compiled(**other).pooler_output, expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"windows": []}, "windows must be sizes from 1 to 32"),
        ({"windows": [3, 0]}, "windows must be sizes from 1 to 32"),
        ({"dropout": -0.1}, "dropout must be in"),
        ({"recurrent": {"cell": "mlstm"}}, "cell 'mlstm' is not one of"),
        ({"recurrent": {"vocab_size": 9}}, "recurrent has no option 'vocab_size'"),
    ],
)
def test_wrong_options_are_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        TextCNNConfig(**options)
