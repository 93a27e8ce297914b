"""EfficientNet-Lite: a small convolutional image encoder that transformers lacks.

EfficientNet without squeeze-and-excitation and with ReLU6 in place of swish, as published for phones; quick on a CPU.
Strided convolutions pad as TensorFlow's "same" does, one pixel more on the right and the bottom for an even size,
because the published weights were trained so; the amount is arithmetic on the size, so that torch.export traces it.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention
from transformers.utils import can_return_tuple

from .encoder_base import register_encoder

STAGE_LISTS = ("stage_widths", "stage_repeats", "stage_kernels", "stage_strides", "stage_expansions")


class EfficientNetLiteConfig(PreTrainedConfig):
    """Shape of an EfficientNet-Lite; the defaults are Lite0.

    The five `stage_*` lists run in parallel, one entry a stage.

    Args:
        num_channels: channels of the input picture.
        image_size: side in pixels that the weights were trained with; any size of 32 or more runs.
        stem_width: output channels of the first, strided convolution.
        stage_widths: output channels of each stage.
        stage_repeats: blocks in each stage.
        stage_kernels: kernel size of the depthwise convolutions of each stage.
        stage_strides: stride of the first block of each stage (1 or 2).
        stage_expansions: by how much a block's inside is wider than its input.
        hidden_size: channels of the last feature map, and width of the pooled vector.
        batch_norm_eps: epsilon of the batch normalizations.
        batch_norm_momentum: weight of a new batch in the running statistics, as PyTorch counts (TensorFlow's 0.99).
    """

    model_type = "efficientnet-lite"

    num_channels: int = 3
    image_size: int = 224
    stem_width: int = 32
    stage_widths: list[int] | tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    stage_repeats: list[int] | tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    stage_kernels: list[int] | tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    stage_strides: list[int] | tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    stage_expansions: list[int] | tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    hidden_size: int = 1280
    batch_norm_eps: float = 1e-3
    batch_norm_momentum: float = 0.01

    def __post_init__(self, **kwargs):
        for name in STAGE_LISTS:
            setattr(self, name, list(getattr(self, name)))
        lengths = {name: len(getattr(self, name)) for name in STAGE_LISTS}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the stage lists must have one entry a stage each; their lengths are {lengths}")
        if any(stride > kernel for stride, kernel in zip(self.stage_strides, self.stage_kernels, strict=True)):
            raise ValueError(f"stage_strides {self.stage_strides} may not exceed stage_kernels {self.stage_kernels}")
        super().__post_init__(**kwargs)


class EfficientNetLiteConvLayer(nn.Module):
    """Convolution with "same" padding, batch normalization and, unless told otherwise, ReLU6."""

    def __init__(
        self,
        config: EfficientNetLiteConfig,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activate: bool = True,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel, stride
        padding = kernel // 2 if stride == 1 else 0
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.normalization = nn.BatchNorm2d(outputs, config.batch_norm_eps, config.batch_norm_momentum)
        self.activation = nn.ReLU6() if activate else nn.Identity()

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `(batch, inputs, h, w)` to `(batch, outputs, ceil(h / stride), ceil(w / stride))`."""
        if self.stride > 1:
            vertical, horizontal = (self.kernel_size - self.stride + -n % self.stride for n in hidden_states.shape[-2:])
            sides = (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
            hidden_states = nn.functional.pad(hidden_states, sides)
        # A normalization whose statistics are fixed is part of the convolution: a pass less over every feature map.
        norm, plain, weight, bias = self.normalization, self.convolution, self.convolution.weight, None
        if not norm.training:
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weight, bias = weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        # The gradient of a depthwise convolution takes several times as long in bfloat16 as in float32 on CPUs.
        slow = plain.groups > 1 and hidden_states.device.type == "cpu" and torch.is_grad_enabled()
        slow = slow and torch.is_autocast_enabled("cpu")
        with torch.autocast("cpu", enabled=False) if slow else nullcontext():
            hidden_states = hidden_states.float() if slow else hidden_states
            hidden_states = nn.functional.conv2d(
                hidden_states, weight, bias, plain.stride, plain.padding, groups=plain.groups
            )
        return self.activation(norm(hidden_states) if norm.training else hidden_states)


class EfficientNetLiteBlock(GradientCheckpointingLayer):
    """Inverted residual: widen, convolve each channel by itself, narrow; add the input where the shape is kept.

    Under gradient checkpointing a training step updates the running statistics twice with the same batch.
    """

    def __init__(
        self, config: EfficientNetLiteConfig, inputs: int, outputs: int, kernel: int, stride: int, expansion: int
    ):
        super().__init__()
        inner = inputs * expansion
        self.keeps_shape = stride == 1 and inputs == outputs
        self.expand = EfficientNetLiteConvLayer(config, inputs, inner) if expansion != 1 else nn.Identity()
        self.depthwise = EfficientNetLiteConvLayer(config, inner, inner, kernel, stride, groups=inner)
        self.project = EfficientNetLiteConvLayer(config, inner, outputs, activate=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map one feature map to the next."""
        output = self.project(self.depthwise(self.expand(hidden_states)))
        return hidden_states + output if self.keeps_shape else output


class EfficientNetLiteModel(PreTrainedModel):
    """The encoder: a feature map and its mean."""

    config_class = EfficientNetLiteConfig
    base_model_prefix = "efficientnet_lite"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ("EfficientNetLiteBlock",)

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        self.stem = EfficientNetLiteConvLayer(config, config.num_channels, config.stem_width, 3, 2)
        blocks, width = [], config.stem_width
        stages = zip(*(getattr(config, name) for name in STAGE_LISTS), strict=True)
        for out, repeats, kernel, stride, expansion in stages:
            for i in range(repeats):
                blocks.append(EfficientNetLiteBlock(config, width, out, kernel, stride if i == 0 else 1, expansion))
                width = out
        self.blocks = nn.ModuleList(blocks)
        self.head = EfficientNetLiteConvLayer(config, width, config.hidden_size)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)  # batch normalizations: ones, zeros, fresh running statistics
        if isinstance(module, nn.Conv2d):
            # as the published model: deviation by fan-out, where a depthwise filter has one output
            fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
            init.normal_(module.weight, mean=0.0, std=math.sqrt(2.0 / fan_out))

    @can_return_tuple
    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode normalized pictures, `(batch, num_channels, height, width)`.

        `last_hidden_state` is `(batch, hidden_size, ceil(height/32), ceil(width/32))` for the default strides, and
        `pooler_output` its mean over places.
        """
        if pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(f"pixel_values have {pixel_values.shape[1]} channels; expected {self.config.num_channels}")
        # Depthwise convolutions run faster on CPUs where a place's channels lie together.
        hidden_state = self.stem(pixel_values.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            hidden_state = block(hidden_state)
        last = self.head(hidden_state)
        return BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=last, pooler_output=last.mean(dim=(2, 3)))


register_encoder(EfficientNetLiteConfig, EfficientNetLiteModel)
