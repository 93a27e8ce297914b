"""`RecurrentModel`: word vectors through plain RNN, LSTM or GRU layers, in one direction or both.

Padding is kept out without packed sequences: it stands at the end, where the forward direction reads it last, and the
backward direction reads a copy in which every text is turned round by itself. Packing takes shapes from the mask's
values, which `torch.export` can't know. Nor can it keep the networks' own loop for more than one length: an exported
encoder goes through the tokens with `scan`, which gives the same numbers and takes longer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.utils import can_return_tuple

from .encoder_base import TextEncoder, register_encoder
from .shared import check_choice, check_range

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentConfig(PreTrainedConfig):
    """Shape of a recurrent encoder.

    Args:
        vocab_size: pieces that the tokenizer knows.
        embedding_size: width of a piece's embedding.
        cell: `rnn` (tanh), `lstm` or `gru`.
        bidirectional: read every text from both ends.
        hidden_size: width of the output, both directions together.
        num_hidden_layers: layers on top of each other, from 1 to 3.
        dropout: dropout probability on the embeddings and between layers.
        initializer_range: standard deviation of the embeddings at first.
        pad_token_id: id of padding, which comes after a text, never before it.
    """

    model_type = "recurrent"

    vocab_size: int = 8000
    embedding_size: int = 100
    cell: str = "lstm"
    bidirectional: bool = True
    hidden_size: int = 256
    num_hidden_layers: int = 1
    dropout: float = 0.2
    initializer_range: float = 0.1
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs):
        check_choice("cell", self.cell, CELLS)
        if not 1 <= self.num_hidden_layers <= 3:
            raise ValueError(f"num_hidden_layers must be 1, 2 or 3, not {self.num_hidden_layers}.")
        if self.bidirectional and self.hidden_size % 2:
            raise ValueError(f"hidden_size {self.hidden_size} is odd, and two directions share it.")
        check_range(self, "dropout")
        super().__post_init__(**kwargs)


class RecurrentLayer(GradientCheckpointingLayer):
    """One layer: a network that reads forward, and one that reads backward if the encoder is bidirectional."""

    def __init__(self, config: RecurrentConfig, inputs: int):
        super().__init__()
        width = config.hidden_size // 2 if config.bidirectional else config.hidden_size
        self.ahead = CELLS[config.cell](inputs, width, batch_first=True)
        self.back = CELLS[config.cell](inputs, width, batch_first=True) if config.bidirectional else None

    def forward(self, hidden_states: Tensor, turned: Tensor) -> Tensor:
        """Map `(batch, tokens, inputs)` to `(batch, tokens, hidden_size)`; `turned` is where each token stands."""
        output = _read(self.ahead, hidden_states)
        if self.back is None:
            return output
        behind = _reorder(_read(self.back, _reorder(hidden_states, turned)), turned)
        return torch.cat([output, behind], -1)


class RecurrentModel(TextEncoder):
    """The encoder."""

    config_class = RecurrentConfig
    base_model_prefix = "recurrent"
    supports_gradient_checkpointing = True
    _no_split_modules = ("RecurrentLayer",)

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            RecurrentLayer(config, config.hidden_size if number else config.embedding_size)
            for number in range(config.num_hidden_layers)
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.RNNBase):
            for name, weight in module.named_parameters():
                if name.startswith("weight_ih"):
                    init.xavier_uniform_(weight)
                elif name.startswith("weight_hh"):
                    init.orthogonal_(weight)
                elif isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
                    # An open forget gate lets gradients through from the start (Jozefowicz et al. 2015).
                    gates = torch.zeros(4, module.hidden_size)
                    gates[1] = 1.0
                    init.copy_(weight, gates.flatten().to(weight))
                else:
                    init.zeros_(weight)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode texts: int64 `(batch, tokens)`, of which the first ones of every row count, by `attention_mask`.

        `pooler_output` `(batch, hidden_size)` is the state after the whole text, of either direction.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        lengths = attention_mask.bool().sum(1, keepdim=True)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        turned = torch.where(places < lengths, lengths - 1 - places, places)
        hidden_states = self.embeddings(input_ids)
        for layer in self.layers:
            hidden_states = layer(self.dropout(hidden_states), turned)
        last = (lengths - 1).clamp_min(0)[..., None].expand(-1, -1, hidden_states.shape[-1])
        pooled = hidden_states.gather(1, last)[:, 0]
        if self.config.bidirectional:  # the backward direction ends at the first token
            half = self.config.hidden_size // 2
            pooled = torch.cat([pooled[:, :half], hidden_states[:, 0, half:]], -1)
        return BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=hidden_states, pooler_output=pooled)


def _read(network: nn.RNNBase, tokens: Tensor) -> Tensor:
    """Map `(batch, tokens, inputs)` to the network's outputs `(batch, tokens, size)`."""
    if not torch.compiler.is_exporting():
        return network(tokens)[0]
    from torch._higher_order_ops.scan import scan  # not public yet

    cell = {"LSTM": torch.lstm_cell, "GRU": torch.gru_cell, "RNN_TANH": torch.rnn_tanh_cell}[network.mode]

    def step(state: Any, token: Tensor) -> tuple[Any, Tensor]:
        state = cell(token, state, *network.all_weights[0])
        return state, (state[0] if network.mode == "LSTM" else state).clone()

    start = tokens.new_zeros(tokens.shape[0], network.hidden_size)
    state = (start, start.clone()) if network.mode == "LSTM" else start
    return scan(step, state, tokens.transpose(0, 1))[1].transpose(0, 1)


def _reorder(tokens: Tensor, order: Tensor) -> Tensor:
    """Put `(batch, tokens, size)` into the order of `(batch, tokens)`."""
    return tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1]))


register_encoder(RecurrentConfig, RecurrentModel)
