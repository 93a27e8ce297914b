"""`TextCNNModel`: one convolution a window size over word vectors, or over the states of a recurrent encoder.

Kim 2014 (arXiv:1408.5882), with windows of 3 to 8 pieces. The last hidden state holds every filter at every token, so
`text_pooling: max` over it is the max over time, and any other pooling or fusion works as on any encoder. With
`recurrent`, a recurrent encoder stands in place of the plain embeddings: BiLSTM and TextCNN as one model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.utils import can_return_tuple

from .encoder_base import TextEncoder, register_encoder
from .modeling_recurrent import RecurrentConfig, RecurrentModel
from .shared import check_range


class TextCNNConfig(PreTrainedConfig):
    """Shape of a convolutional text encoder.

    Args:
        vocab_size: pieces that the tokenizer knows.
        embedding_size: width of a piece's embedding.
        windows: sizes of the convolutions' windows in pieces, each from 1 to 32.
        num_filters: filters of each window size.
        dropout: dropout probability on what the convolutions read.
        recurrent: options of `RecurrentConfig` for the encoder whose states the convolutions read, such as
            `{"cell": "lstm"}`; vocabulary, embedding size and padding are this configuration's. None reads embeddings.
        initializer_range: standard deviation of the embeddings at first.
        pad_token_id: id of padding, which comes after a text, never before it.
    """

    model_type = "textcnn"

    vocab_size: int = 8000
    embedding_size: int = 100
    windows: list[int] | tuple[int, ...] = (3, 4, 5, 6, 7, 8)
    num_filters: int = 128
    dropout: float = 0.2
    recurrent: dict[str, Any] | None = None
    initializer_range: float = 0.1
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs):
        self.windows = list(self.windows)
        if not self.windows or any(not 1 <= window <= 32 for window in self.windows):
            raise ValueError(f"windows must be sizes from 1 to 32, as [3, 4, 5], not {self.windows}.")
        check_range(self, "dropout")
        if self.recurrent is not None:
            self.recurrent_config()
        kwargs.pop("hidden_size", None)
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Width of the output: the filters of all windows."""
        return len(self.windows) * self.num_filters

    def recurrent_config(self) -> RecurrentConfig:
        """Return the configuration of the recurrent encoder underneath."""
        shared = ("vocab_size", "embedding_size", "pad_token_id", "initializer_range")
        unknown = sorted(set(self.recurrent) - {"cell", "bidirectional", "hidden_size", "num_hidden_layers", "dropout"})
        if unknown:
            raise ValueError(f"recurrent has no option {unknown[0]!r} of its own.")
        return RecurrentConfig(**{name: getattr(self, name) for name in shared}, **self.recurrent)


class TextCNNModel(TextEncoder):
    """The encoder."""

    config_class = TextCNNConfig
    base_model_prefix = "textcnn"

    def __init__(self, config: TextCNNConfig):
        super().__init__(config)
        self.recurrent = RecurrentModel(config.recurrent_config()) if config.recurrent is not None else None
        self.embeddings, width = None, config.embedding_size
        if self.recurrent is None:
            self.embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        else:
            width = self.recurrent.config.hidden_size
        self.dropout = nn.Dropout(config.dropout)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, config.num_filters, window) for window in config.windows)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Conv1d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:  # noqa: D102
        return (self.recurrent or self).embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:  # noqa: D102
        (self.recurrent or self).embeddings = value

    @can_return_tuple
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode texts: int64 `(batch, tokens)`, of which the first ones of every row count, by `attention_mask`.

        `last_hidden_state` is what each filter (after ReLU) finds in the window around each token, of which the part
        outside the text is zeros; `pooler_output` its max over time.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if self.recurrent is None:
            tokens = self.embeddings(input_ids)
        else:
            tokens = self.recurrent(input_ids, attention_mask, return_dict=True).last_hidden_state
        mask = attention_mask.bool()[..., None]
        tokens = torch.where(mask, self.dropout(tokens), 0.0).transpose(1, 2)
        found = []
        for window, convolution in zip(self.config.windows, self.convolutions, strict=True):
            sides = ((window - 1) // 2, window // 2)
            found.append(nn.functional.relu(convolution(nn.functional.pad(tokens, sides))))
        last = torch.where(mask, torch.cat(found, 1).transpose(1, 2), 0.0)
        # Nothing is below 0 after ReLU, so the zeros of padding never win.
        return BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=last, pooler_output=last.amax(1))


register_encoder(TextCNNConfig, TextCNNModel)
