"""The recurrent encoder: packed sequences' numbers without packing, whatever cell, depth and direction."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModel

from hfk import MultiHeadForClassification
from hfk.models.modeling_recurrent import CELLS, RecurrentConfig, RecurrentModel
from tests import tiny

LENGTHS = [9, 6, 1, 4]


def make(**options) -> RecurrentModel:
    torch.manual_seed(0)
    return RecurrentModel(
        RecurrentConfig(**({"vocab_size": 60, "embedding_size": 6, "hidden_size": 8} | options))
    ).eval()


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 60, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_same_as_the_library_with_packed_sequences(cell, bidirectional, layers):
    model = make(cell=cell, bidirectional=bidirectional, num_hidden_layers=layers)
    width = 4 if bidirectional else 8
    other = CELLS[cell](6, width, layers, batch_first=True, bidirectional=bidirectional).eval()
    weights = dict(other.named_parameters())
    for number, layer in enumerate(model.layers):
        for part, suffix in ((layer.ahead, ""), (layer.back, "_reverse")):
            for name, weight in part.named_parameters() if part is not None else ():
                weights[name.replace("l0", f"l{number}") + suffix].data.copy_(weight)
    inputs = batch()
    packed = pack_padded_sequence(
        model.embeddings(inputs["input_ids"]), torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    states, last = other(packed)
    states = pad_packed_sequence(states, batch_first=True)[0]
    output = model(**inputs)
    mask = inputs["attention_mask"].bool()
    torch.testing.assert_close(output.last_hidden_state[mask], states[mask])
    last = last[0] if cell == "lstm" else last
    expected = torch.cat([last[-2], last[-1]], -1) if bidirectional else last[-1]
    torch.testing.assert_close(output.pooler_output, expected)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "attention"])
def test_padding_and_neighbors_change_no_logits(pooling):
    encoder = make(num_hidden_layers=2)
    model = MultiHeadForClassification.from_encoders(encoder, heads=tiny.heads(), text_pooling=pooling)
    inputs = batch()
    together = model(**inputs).logits["cat2"]
    for row, length in enumerate(LENGTHS):
        alone = model(input_ids=inputs["input_ids"][row : row + 1, :length]).logits["cat2"]
        torch.testing.assert_close(together[row : row + 1], alone)


def test_same_states_after_a_round_trip(tmp_path):
    model, inputs = make(cell="gru", num_hidden_layers=2), batch()
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is RecurrentModel and AutoConfig.from_pretrained(tmp_path).cell == "gru"
    assert torch.equal(loaded(**inputs).pooler_output, model(**inputs).pooler_output)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)(**inputs).last_hidden_state
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), model(**inputs).last_hidden_state, rtol=0.1, atol=0.02)


def test_gradient_checkpointing_gives_the_same_gradients():
    model, inputs = make(num_hidden_layers=2, dropout=0.0).train(), batch()

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(**inputs).pooler_output.square().sum().backward()
        return [weight.grad.clone() for weight in model.parameters()]

    expected = gradients()
    model.activation_checkpointing_enable()
    for actual, wanted in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(actual, wanted)


@pytest.mark.filterwarnings("ignore:The tensor attributes.*_flat_weights")
@pytest.mark.parametrize("options", [{"cell": "lstm"}, {"cell": "gru", "bidirectional": False}])
def test_it_exports_for_any_batch_and_length(options):
    model, inputs = make(**options), batch()
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens", min=2)
    shapes = {name: {0: rows, 1: tokens} for name in inputs}
    exported = torch.export.export(model, (), inputs, dynamic_shapes=shapes).module()
    ids = torch.randint(1, 8, (6, 23), generator=torch.Generator().manual_seed(0))
    other = {"input_ids": ids, "attention_mask": (torch.arange(23) < torch.tensor([[23, 9, 1, 4, 22, 2]]).T).long()}
    for name in ("pooler_output", "last_hidden_state"):
        torch.testing.assert_close(exported(**other)[name], model(**other)[name])


def test_it_learns_what_comes_first():
    """Only the order tells the two classes apart."""
    ids = torch.tensor([[5, 6, 7, 8], [6, 5, 7, 8], [5, 6, 8, 0], [6, 5, 8, 0]])
    mask, labels = (ids != 0).long(), torch.tensor([0, 1, 0, 1])
    model, head = make(dropout=0.0).train(), nn.Linear(8, 2)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=0.02)
    for _ in range(60):
        loss = nn.functional.cross_entropy(head(model(ids, mask).pooler_output), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_the_forget_gate_starts_open():
    layer = make(cell="lstm").layers[0].ahead
    assert layer.bias_ih_l0.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
    assert not layer.bias_hh_l0.any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cell": "mlstm"}, "cell 'mlstm' is not one of rnn, lstm, gru"),
        ({"num_hidden_layers": 4}, "num_hidden_layers must be 1, 2 or 3"),
        ({"hidden_size": 7}, "hidden_size 7 is odd"),
        ({"dropout": 1.5}, "dropout must be in"),
    ],
)
def test_wrong_options_are_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        RecurrentConfig(**options)
