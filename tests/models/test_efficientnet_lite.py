"""EfficientNet-Lite as an architecture: shapes, padding, initial weights, saving, compiling; no pretrained weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModel

from hfk.models.modeling_efficientnet_lite import (
    EfficientNetLiteConfig,
    EfficientNetLiteConvLayer,
    EfficientNetLiteModel,
)


def tiny_config(**changes) -> EfficientNetLiteConfig:
    shape = {
        "image_size": 32,
        "stem_width": 8,
        "stage_widths": [8, 12, 16],
        "stage_repeats": [1, 2, 1],
        "stage_kernels": [3, 5, 3],
        "stage_strides": [1, 2, 2],
        "stage_expansions": [1, 3, 3],
        "hidden_size": 24,
    }
    return EfficientNetLiteConfig(**{**shape, **changes})


def test_lite0_has_the_published_size():
    with torch.device("meta"):
        assert EfficientNetLiteModel(EfficientNetLiteConfig()).num_parameters() == 3_371_008


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 31)])
def test_sizes_halve_rounding_up(size):
    model = EfficientNetLiteModel(tiny_config()).eval()
    output, expected = model(torch.randn(2, 3, *size)), size
    for _ in range(3):
        expected = tuple(-(-n // 2) for n in expected)
    assert tuple(output.last_hidden_state.shape) == (2, 24, *expected)
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state.mean((2, 3)))
    assert torch.equal(model(torch.zeros(1, 3, *size), return_dict=False)[1], model(torch.zeros(1, 3, *size))[1])


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [7, 8])
def test_padding_is_tensorflows_same(kernel, size):
    layer = EfficientNetLiteConvLayer(tiny_config(), 1, 1, kernel, stride=2, activate=False).eval()
    layer.convolution.weight.data.fill_(1.0)
    total = (math.ceil(size / 2) - 1) * 2 + kernel - size
    pixels = torch.randn(1, 1, size, size)
    sides = (total // 2, total - total // 2) * 2
    expected = functional.conv2d(functional.pad(pixels, sides), layer.convolution.weight, stride=2)
    torch.testing.assert_close(layer(pixels) * math.sqrt(1 + 1e-3), expected)


def test_wrong_input_and_configuration_are_one_sentence():
    with pytest.raises(ValueError, match="1 channels; expected 3"):
        EfficientNetLiteModel(tiny_config())(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="one entry a stage"):
        tiny_config(stage_kernels=[3])
    with pytest.raises(ValueError, match="may not exceed"):
        tiny_config(stage_kernels=[1, 1, 1])


def test_initial_weights_keep_the_signal():
    model = EfficientNetLiteModel(EfficientNetLiteConfig())
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            fan_out = module.out_channels // module.groups * module.kernel_size[0] ** 2
            if module.weight.numel() > 1000:
                assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.15)
    output = model(torch.randn(4, 3, 64, 64)).last_hidden_state
    assert 0.1 < output.std() < 5


def test_same_features_after_a_round_trip(tmp_path):
    model = EfficientNetLiteModel(tiny_config()).eval()
    for buffer in (b for b in model.buffers() if b.is_floating_point()):
        buffer.add_(torch.rand_like(buffer))
    model.save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert type(loaded) is EfficientNetLiteModel
    assert torch.equal(loaded(pixels).pooler_output, model(pixels).pooler_output)
    assert AutoConfig.from_pretrained(tmp_path).stage_widths == [8, 12, 16]
    assert (tmp_path / "modeling_efficientnet_lite.py").is_file()


def test_bf16_is_close():
    model = EfficientNetLiteModel(tiny_config()).eval()
    pixels = torch.randn(2, 3, 32, 32)
    expected = model(pixels).pooler_output
    output = model.to(torch.bfloat16)(pixels.to(torch.bfloat16)).pooler_output
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, atol=0.05, rtol=0.05)


def test_gradient_checkpointing_gives_the_same_gradients():
    model = EfficientNetLiteModel(tiny_config()).train()
    pixels = torch.randn(4, 3, 32, 32)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(pixels).pooler_output.square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected = gradients()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for actual, wanted in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(actual, wanted)


def test_it_exports_with_any_batch_and_size():
    stages = {"widths": [8], "repeats": [2], "kernels": [5], "strides": [2], "expansions": [3]}
    model = EfficientNetLiteModel(tiny_config(**{f"stage_{name}": values for name, values in stages.items()})).eval()
    batch, auto = torch.export.Dim("batch"), torch.export.Dim.AUTO
    shapes = {"pixel_values": {0: batch, 2: auto, 3: auto}}
    exported = torch.export.export(model, (torch.randn(2, 3, 32, 32),), dynamic_shapes=shapes).module()
    pixels = torch.randn(3, 3, 45, 64)
    torch.testing.assert_close(exported(pixels)["pooler_output"], model(pixels).pooler_output)


def test_depthwise_gradients_stay_in_float32_under_bfloat16(monkeypatch):
    model = EfficientNetLiteModel(tiny_config()).train()
    seen = []
    original = torch.nn.functional.conv2d

    def watched(*args, groups):
        seen.append((groups > 1, original(*args, groups=groups)))
        return seen[-1][1]

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.rand(4, 3, 64, 64)).pooler_output
    output.float().pow(2).sum().backward()
    assert {output.dtype for depthwise, output in seen if depthwise} == {torch.float32}
    assert {output.dtype for depthwise, output in seen if not depthwise} == {torch.bfloat16}
    assert all(parameter.grad is not None for parameter in model.parameters())
    seen.clear()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(torch.rand(4, 3, 64, 64))
    assert {output.dtype for _, output in seen} == {torch.bfloat16}  # nothing to gain where there is no gradient
