"""Weights without values begin as the code of their benchmark has them begin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from onnx_bench_dataset import spaces
from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.training import torch_module
from tests.graphs.tiny_models import tiny

FIRST_OF_STEM = [0.13200514, 0.133973613, -0.175308749]
CONV3 = "conv3x3-bn-relu:0 output:1"


def state(space: str, architecture: str, seed: int = 0) -> dict[str, torch.Tensor]:
    return torch_module(spaces.get(space).model(architecture), seed=seed).state_dict()


def test_normalizations_begin_as_the_identity() -> None:
    weights = state("nasbench101", CONV3)
    for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
        assert (weights[f"stem.bn.{name}"] == value).all()


def test_nasbench101_scales_variance_as_tensorflow_does() -> None:
    weights = state("nasbench101", CONV3)
    kernel = weights["cells.8.v1.conv.weight"]
    deviation = (kernel[0].numel()) ** -0.5
    assert kernel.std().item() == pytest.approx(deviation, rel=0.01)
    assert kernel.abs().max() <= 2 * deviation / 0.8796 + 1e-6
    assert not weights["classifier.bias"].any()
    matrix = weights["classifier.weight"]
    assert 0.99 <= matrix.abs().max() / (6 / (512 + 10)) ** 0.5 <= 1


def test_transnasbench101_draws_normal_by_fan_out() -> None:
    weights = state("transnasbench101", "64-1234-basic")
    kernels = [value for value in weights.values() if value.dim() == 4 and value.shape[2:] == (3, 3)]
    for kernel in kernels:
        fan_out = kernel.shape[0] * 9
        assert kernel.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
    ("layer", "body"),
    [
        (nn.Conv2d(8, 64, 3, groups=2), "y = Conv<group = 2>(x, w, b)"),
        (nn.ConvTranspose2d(8, 64, 3), "y = ConvTranspose(x, w, b)"),
    ],
)
def test_layers_begin_as_in_torch(layer: nn.Module, body: str) -> None:
    shapes = {"w": tuple(layer.weight.shape), "b": tuple(layer.bias.shape)}
    declared = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in shapes.items())
    drawn = torch_module(tiny(body, f"float[1,8,5,5] x, {declared}")).state_dict()
    for name, own in (("w", layer.weight), ("b", layer.bias)):
        assert drawn[name].shape == own.shape
        assert drawn[name].abs().max().item() == pytest.approx(own.abs().max().item(), rel=0.1)
        assert drawn[name].std().item() == pytest.approx(own.std().item(), rel=0.25)


@pytest.mark.parametrize("turned", [False, True])
def test_linear_layers_on_sequences_begin_as_in_torch(turned: bool) -> None:
    g = GraphBuilder((1, 5, 64))
    if turned:
        matrix = g.op("Transpose", g.weight("w", 16, 64), name="t", perm=[1, 0])
    else:
        matrix = g.weight("w", 64, 16)
    product = g.op("MatMul", g.input, matrix, name="p")
    drawn = torch_module(g.model(g.op("Add", product, g.weight("b", 16), name="y"))).state_dict()
    for value in drawn.values():
        assert 0.8 / 8 <= value.abs().max() <= 1 / 8


def test_positional_encodings_of_einspace_are_standard_normal() -> None:
    columns = "routing(im2col4k4s0p,computation(identity),identity)"
    encoding = f"sequential({columns},computation(learnable_positional_encoding))"
    weights = state("einspace", encoding)
    (drawn,) = (value for value in weights.values() if value.dim() == 3)
    assert drawn.std().item() == pytest.approx(1, rel=0.05)


def test_values_are_the_same_everywhere() -> None:
    # numbers of NumPy's generators, which no machine and no version of PyTorch changes
    kernel = state("nasbench201", "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")["stem.0.weight"]
    assert kernel.dtype == torch.float32
    np.testing.assert_allclose(kernel.flatten()[:3].numpy(), FIRST_OF_STEM, rtol=1e-6)
