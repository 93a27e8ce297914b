"""Two image encoders that start from nothing: `CNNModel`, plain convolutions, and `MLPModel`, dense layers on pixels.

They are the lower rungs of a ladder whose upper ones are pretrained. Group normalization (Wu & He 2018,
arXiv:1803.08494) stands where batch normalization would be usual: rows stay independent of each other, and there are no
statistics that a frozen or averaged model would have to keep. It has one group, for several would take from a picture
of one color what color it is.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.utils import can_return_tuple

from .encoder_base import register_encoder
from .shared import check_range


class CNNConfig(PreTrainedConfig):
    """Shape of a plain convolutional encoder.

    Args:
        num_channels: channels of the input picture.
        image_size: side in pixels that pictures are prepared for; any that the poolings leave something of runs.
        hidden_sizes: output channels of each stage, which halves the picture's sides.
    """

    model_type = "cnn"

    num_channels: int = 3
    image_size: int = 64
    hidden_sizes: list[int] | tuple[int, ...] = (32, 64, 128, 256)

    def __post_init__(self, **kwargs):
        self.hidden_sizes = _widths(self.hidden_sizes)
        if self.image_size < 2 ** len(self.hidden_sizes):
            raise ValueError(f"{len(self.hidden_sizes)} stages leave nothing of {self.image_size} pixels.")
        super().__post_init__(**kwargs)


class MLPConfig(PreTrainedConfig):
    """Shape of dense layers on pixels.

    Args:
        num_channels: channels of the input picture.
        image_size: side in pixels of every picture.
        hidden_sizes: width of each layer.
        dropout: dropout probability after each layer.
    """

    model_type = "mlp"

    num_channels: int = 3
    image_size: int = 32
    hidden_sizes: list[int] | tuple[int, ...] = (512, 256)
    dropout: float = 0.2

    def __post_init__(self, **kwargs):
        self.hidden_sizes = _widths(self.hidden_sizes)
        check_range(self, "dropout")
        super().__post_init__(**kwargs)


def _widths(sizes: list[int] | tuple[int, ...]) -> list[int]:
    sizes = list(sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"hidden_sizes must be one width or more, as [64, 128], not {sizes}.")
    return sizes


class ImageEncoder(PreTrainedModel):
    """What both have in common: they read pictures, and start as He et al. 2015 (arXiv:1502.01852) say for ReLU."""

    main_input_name = "pixel_values"
    input_modalities = ("image",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d | nn.Linear):
            init.kaiming_normal_(module.weight, nonlinearity="relu")


class CNNModel(ImageEncoder):
    """Stages of a 3×3 convolution, group normalization, ReLU and max pooling."""

    config_class = CNNConfig
    base_model_prefix = "cnn"

    def __init__(self, config: CNNConfig):
        super().__init__(config)
        widths = [config.num_channels, *config.hidden_sizes]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1),
                nn.GroupNorm(1, after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
            for before, after in itertools.pairwise(widths)
        )
        self.post_init()

    @can_return_tuple
    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode normalized pictures, `(batch, num_channels, height, width)`.

        `last_hidden_state` is the last stage's map, `(batch, hidden_sizes[-1], height, width)` with sides halved by
        every stage, and `pooler_output` its mean over places.
        """
        last = pixel_values
        for stage in self.stages:
            last = stage(last)
        return BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=last, pooler_output=last.mean(dim=(2, 3)))


class MLPModel(ImageEncoder):
    """Dense layers with ReLU on all pixels at once."""

    config_class = MLPConfig
    base_model_prefix = "mlp"

    def __init__(self, config: MLPConfig):
        super().__init__(config)
        widths = [config.num_channels * config.image_size**2, *config.hidden_sizes]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(config.dropout))
            for before, after in itertools.pairwise(widths)
        )
        self.post_init()

    @can_return_tuple
    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode normalized pictures, `(batch, num_channels, image_size, image_size)`.

        The picture is one token: `last_hidden_state` is `(batch, 1, hidden_sizes[-1])`, `pooler_output` without the 1.
        """
        size = self.config.image_size
        if pixel_values.shape[-2:] != (size, size):
            raise ValueError(f"this encoder reads {size}×{size} pixels, not {tuple(pixel_values.shape[-2:])}.")
        last = pixel_values.flatten(1)
        for layer in self.layers:
            last = layer(last)
        return BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=last[:, None], pooler_output=last)


register_encoder(CNNConfig, CNNModel)
register_encoder(MLPConfig, MLPModel)
