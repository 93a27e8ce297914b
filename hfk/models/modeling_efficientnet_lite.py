"""EfficientNet-Lite: a small convolutional image encoder that transformers lacks.

EfficientNet without squeeze-and-excitation and with ReLU6 in place of swish, as published for phones; quick on a CPU.
The default configuration is Lite0 (3.4 million parameters without a classifier). Strided convolutions pad as
TensorFlow's "same" does, one pixel more on the right and the bottom for an even size, because the published weights
were trained so; the amount is arithmetic on the size, without branches, so torch.compile and torch.export trace it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention, ImageClassifierOutputWithNoAttention
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
        classifier_dropout: dropout before the classifier of `EfficientNetLiteForImageClassification`.
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
    classifier_dropout: float = 0.2

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
        # The gradient of a depthwise convolution takes several times as long in bfloat16 as in float32 on CPUs.
        slow = self.convolution.groups > 1 and hidden_states.device.type == "cpu" and torch.is_grad_enabled()
        if slow and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                hidden_states = self.convolution(hidden_states.float())
        else:
            hidden_states = self.convolution(hidden_states)
        return self.activation(self.normalization(hidden_states))


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


class EfficientNetLitePreTrainedModel(PreTrainedModel):
    """Loading, saving and initial weights."""

    config_class = EfficientNetLiteConfig
    base_model_prefix = "efficientnet_lite"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ("EfficientNetLiteBlock",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)  # batch normalizations: ones, zeros, fresh running statistics
        if isinstance(module, nn.Conv2d):
            # as the published model: deviation by fan-out, where a depthwise filter has one output
            fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
            init.normal_(module.weight, mean=0.0, std=math.sqrt(2.0 / fan_out))
        elif isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.out_features)
            init.uniform_(module.weight, -bound, bound)
            init.zeros_(module.bias)


class EfficientNetLiteModel(EfficientNetLitePreTrainedModel):
    """The encoder: a feature map and its mean."""

    # a classification checkpoint loads as an encoder without a word about its classifier
    _keys_to_ignore_on_load_unexpected = (r"^classifier\.",)

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        self.stem = EfficientNetLiteConvLayer(config, config.num_channels, config.stem_width, 3, 2)
        blocks, width, self.stage_ends = [], config.stem_width, []
        stages = zip(*(getattr(config, name) for name in STAGE_LISTS), strict=True)
        for out, repeats, kernel, stride, expansion in stages:
            for i in range(repeats):
                blocks.append(EfficientNetLiteBlock(config, width, out, kernel, stride if i == 0 else 1, expansion))
                width = out
            self.stage_ends.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.head = EfficientNetLiteConvLayer(config, width, config.hidden_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode normalized pictures, `(batch, num_channels, height, width)`.

        Returns:
            `last_hidden_state` `(batch, hidden_size, ceil(height/32), ceil(width/32))` for the default strides,
            `pooler_output` `(batch, hidden_size)`, its mean over places, and on request `hidden_states`: the stem's and
            every stage's feature map.
        """
        if pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(f"pixel_values have {pixel_values.shape[1]} channels; expected {self.config.num_channels}")
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        # Depthwise convolutions run faster on CPUs where a place's channels lie together.
        hidden_state = self.stem(pixel_values.contiguous(memory_format=torch.channels_last))
        feature_maps = [hidden_state]
        for i, block in enumerate(self.blocks):
            hidden_state = block(hidden_state)
            if i in self.stage_ends:
                feature_maps.append(hidden_state)
        last = self.head(hidden_state)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last,
            pooler_output=last.mean(dim=(2, 3)),
            hidden_states=tuple(feature_maps) if output_hidden_states else None,
        )


class EfficientNetLiteForImageClassification(EfficientNetLitePreTrainedModel):
    """The encoder with one linear classifier, as the ImageNet weights come."""

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        self.efficientnet_lite = EfficientNetLiteModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, output_hidden_states: bool | None = None
    ) -> ImageClassifierOutputWithNoAttention:
        """Classify normalized pictures; with `labels`, class indices `(batch,)`, there is a cross-entropy `loss`."""
        encoded = self.efficientnet_lite(pixel_values, output_hidden_states=output_hidden_states, return_dict=True)
        logits = self.classifier(self.dropout(encoded.pooler_output))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


register_encoder(EfficientNetLiteConfig, EfficientNetLiteModel)
EfficientNetLiteForImageClassification.register_for_auto_class("AutoModelForImageClassification")
AutoModelForImageClassification.register(EfficientNetLiteConfig, EfficientNetLiteForImageClassification, exist_ok=True)
