"""What layers do, and how large that makes what they give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from onnx import AttributeProto

Size = tuple[int, int, int]
"""Channels, height and width."""

LARGEST = 2**40
"""Sizes beyond count as this; a file may state any, and layers may multiply them without end."""

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
LINEAR = frozenset({"Gemm", "MatMul"})
WINDOWED = frozenset({"AveragePool", "MaxPool", "LpPool"})
_NEUTRAL = frozenset({"Add", "Concat", "Div", "Mul", "Sub", "Sum"})
ACTIVATIONS = frozenset(
    (
        *("Celu", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu"),
        *("Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"),
    )
)
_GLOBAL = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})

ROLES: Mapping[str, str] = {
    "c": "convolution over a window",
    "d": "depthwise convolution over a window",
    "p": "convolution of single pixels",
    "l": "linear layer",
    "x": "product of two computed matrices",
    "r": "activation, element by element",
    "m": "maximum over a window",
    "a": "average over a window",
    "g": "average or maximum over the image",
    "+": "sum",
    "|": "concatenation",
    "*": "product, element by element",
    "s": "softmax",
    "n": "normalization of each sample",
    "o": "any other",
}
"""What layers are, in one letter."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What a layer does, whatever the size of what it reads; equal ones are one object."""

    op: str
    role: str
    """What it is for features: a letter of `ROLES`, the length of a window, `/2` where it has a stride."""
    channels: int
    """What it gives; 0 where its input says."""
    weight_inputs: int
    """Input channels of a group of a convolution, or features that a linear layer reads."""
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    rounds_up: bool
    area: int
    """Elements of the window."""
    is_neutral: bool
    """Whether it does nothing to one computed value: the others are constants."""


class Form(NamedTuple):
    """What the attributes of an operation say; empty where they do not."""

    op: str
    is_transposed: bool
    groups: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    rounds_up: bool


def form_of(op: str, attributes: Mapping[str, AttributeProto], groups: int) -> Form:
    """Return the form of an operation."""

    def number(name: str) -> int:
        return attributes[name].i if name in attributes else 0

    def numbers(name: str, least: int) -> tuple[int, ...]:
        stated = attributes[name].ints if name in attributes else ()
        return tuple([min(max(value, least), LARGEST) for value in stated])

    return Form(
        op,
        op == "Gemm" and bool(number("transB")),
        groups,
        numbers("kernel_shape", 1),
        numbers("strides", 1),
        numbers("dilations", 1),
        numbers("pads", -LARGEST),
        bool(number("ceil_mode")),
    )


@lru_cache(maxsize=1 << 16)
def kind_of(form: Form, dims: tuple[int, ...] = ()) -> Kind:
    """Return the kind of a layer by its form and the shape of its weight, if it has one."""
    op = form.op
    dims = tuple([min(max(size, 0), LARGEST) for size in dims])
    if op in CONVOLUTIONS and len(dims) > 2:
        outputs, inputs = dims[:2]
        if op == "ConvTranspose":
            outputs, inputs = inputs * form.groups, outputs
        return _windowed(form, dims[2:], min(max(outputs, 0), LARGEST), inputs)
    if op in LINEAR and len(dims) == 2:
        rows, columns = dims
        return plain(op, rows, columns) if form.is_transposed else plain(op, columns, rows)
    if op in WINDOWED and form.kernel:
        return _windowed(form, form.kernel, 0, 0)
    return plain(op)


def _windowed(form: Form, kernel: tuple[int, ...], channels: int, inputs: int) -> Kind:
    rank = len(kernel)

    def stated(found: tuple[int, ...], default: int, count: int) -> tuple[int, ...]:
        return found if len(found) == count else (default,) * count

    return _made(
        form.op,
        channels,
        inputs,
        tuple([max(size, 1) for size in kernel]),
        stated(form.strides, 1, rank),
        stated(form.dilations, 1, rank),
        stated(form.pads, 0, 2 * rank),
        form.groups > 1,
        form.rounds_up and form.op in WINDOWED,
    )


def plain(op: str, channels: int = 0, weight_inputs: int = 0) -> Kind:
    """Return the kind of a layer without a window."""
    return _made(op, channels, weight_inputs, (), (), (), (), False, False)


@lru_cache(maxsize=1 << 16)
def _made(
    op: str,
    channels: int,
    weight_inputs: int,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    is_grouped: bool,
    rounds_up: bool,
) -> Kind:
    role = _role(op, bool(channels), kernel, dilations, is_grouped and weight_inputs == 1)
    if max(strides, default=1) > 1:
        role += "/2"
    area, is_neutral = min(math.prod(kernel), LARGEST), op in _NEUTRAL
    return Kind(
        op, role, channels, weight_inputs, kernel, strides, dilations, pads, rounds_up, area, is_neutral
    )


def _role(
    op: str, has_weight: bool, kernel: tuple[int, ...], dilations: tuple[int, ...], is_depthwise: bool
) -> str:
    if op in CONVOLUTIONS and kernel:
        if math.prod(kernel) == 1:
            return "p"
        reach = 1 + max([(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)])
        return f"{'d' if is_depthwise else 'c'}{min(reach, LARGEST)}"
    if op in WINDOWED:
        return f"{'m' if op == 'MaxPool' else 'a'}{max(kernel, default=1)}"
    if op in LINEAR:
        return "l" if has_weight else "x"
    if op in ACTIVATIONS:
        return "r"
    if op in _GLOBAL or op == "ReduceMean":
        return "g"
    if "Normalization" in op:
        return "n"
    return {"Add": "+", "Sum": "+", "Concat": "|", "Mul": "*", "Softmax": "s"}.get(op, "o")


class Sized(NamedTuple):
    """How large a layer is."""

    size: Size
    """Of what it gives."""
    input_channels: int
    macs: int
    params: int


@lru_cache(maxsize=1 << 16)
def sized_of_one(kind: Kind, size: Size) -> Sized:
    """Return how large a layer is that reads one value."""
    channels, height, width = size
    op = kind.op
    if op in _GLOBAL:
        return Sized((channels, 1, 1), channels, 0, 0)
    if op == "Flatten":
        return Sized((min(channels * height * width, LARGEST), 1, 1), channels, 0, 0)
    if len(kind.kernel) == 2:
        height, width = [_windows(kind, axis, length) for axis, length in enumerate((height, width))]
    if not kind.channels:
        return Sized((channels, height, width), channels, 0, 0)
    params = min(kind.channels * kind.weight_inputs * kind.area, LARGEST**2)
    return Sized((kind.channels, height, width), channels, min(params * height * width, LARGEST**2), params)


def sized(kind: Kind, inputs: Sequence[Size]) -> Sized:
    """Return how large a layer is by the sizes of what it reads."""
    if len(inputs) == 1:
        return sized_of_one(kind, inputs[0])
    channels, height, width = [max(sizes) for sizes in zip(*inputs, strict=True)]
    if kind.op == "Concat":
        channels = min(sum([size[0] for size in inputs]), LARGEST)
        return Sized((channels, height, width), inputs[0][0], 0, 0)
    if kind.channels or kind.op in _GLOBAL or kind.op in WINDOWED or kind.op == "Flatten":
        return sized_of_one(kind, inputs[0])
    return Sized((channels, height, width), inputs[0][0], 0, 0)


def _windows(kind: Kind, axis: int, length: int) -> int:
    stride = kind.strides[axis]
    if kind.op == "ConvTranspose":
        return min(length * stride, LARGEST)
    span = kind.dilations[axis] * (kind.kernel[axis] - 1) - kind.pads[axis] - kind.pads[axis + 2]
    steps = length - 1 - span
    return min(max((-(-steps // stride) if kind.rounds_up else steps // stride) + 1, 1), LARGEST)
