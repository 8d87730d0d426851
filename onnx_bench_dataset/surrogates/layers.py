"""A network as the layers that features are computed from: what each does, what it reads, how large it is.

Layers are read from a text (`of_text`) or from an ONNX model in any form (`of_model`). Both leave out what
says nothing about an architecture: normalization, which the inference form folds away, no-ops, whatever no
output needs or is computed from zeros alone (behind an edge `none`, say), and a layer without weights that
does the same as another. A layer that moves or cuts dimensions, as Reshape or Slice, counts as if it kept
those of its input. A network whose output does not depend on its input has no layers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import onnx
from onnx import AttributeProto, ModelProto, NodeProto

from onnx_bench_dataset.errors import TextError, UnsupportedModelError
from onnx_bench_dataset.text.cursor import Broken
from onnx_bench_dataset.text.decode import unfold
from onnx_bench_dataset.text.operations import Constant, Input, Operation, Reference, Weight, operation

MAX_LAYERS = 100_000
"""Nodes of a network that is read."""

INPUT = -1
"""What stands among the sources of a layer that reads the input of the network."""

_NOTHING = -2  # what carries no information about the input: zeros, and whatever is computed from them alone

Size = tuple[int, int, int]
"""Channels, height and width."""

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_LINEAR = frozenset({"Gemm", "MatMul"})
_GLOBAL = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
_WINDOWED = frozenset({"AveragePool", "MaxPool", "LpPool"})
_SKIPPED = frozenset({"BatchNormalization", "Cast", "Dropout", "Identity"})
_NEUTRAL = frozenset({"Add", "Div", "Mul", "Sub", "Sum"})  # of one input: with a constant
_ACTIVATIONS = frozenset(
    (
        *("Celu", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu"),
        *("Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"),
    )
)

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

_MAX_ZEROS = 4096  # elements of a constant that is looked at
_CONSTANT = frozenset({"Constant", "ConstantOfShape", "Range", "Shape", "Size"})


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

    @property
    def area(self) -> int:
        """Elements of the window."""
        return math.prod(self.kernel)


class Layer(NamedTuple):
    """One layer of a network."""

    kind: Kind
    sources: tuple[int, ...]
    """Numbers of the layers that it reads, all smaller than its own; INPUT for the network's input."""
    size: Size
    """Of what it gives."""
    input_channels: int
    macs: int
    params: int
    """Elements of the weight; biases and normalizations are left out."""


def of_text(text: str) -> list[Layer]:
    """Return the layers of a text.

    Raises:
        TextError: the text is broken.
    """
    _, inputs, *lines, _ = unfold(text).split("\n")
    reader = _Reader(_image(inputs))
    places: list[int] = []  # of each line, the layer whose value it gives
    for number, line in enumerate(lines):
        kind, distances = _line(line)
        if max(distances, default=0) > number:
            raise TextError(number + 1, 1, "an operation reads one that is not there", line)
        sources = [places[number - distance] if distance else INPUT for distance in distances]
        places.append(reader.add(kind, sources) if sources else _NOTHING)
    return reader.used(places[-1:])


def of_model(model: ModelProto) -> list[Layer]:
    """Return the layers of an ONNX model, in training or inference form, with or without weights.

    Raises:
        UnsupportedModelError: the model is too large, or its nodes are not in an order of execution.
    """
    graph = model.graph
    nodes = graph.node
    if len(nodes) > MAX_LAYERS:
        raise UnsupportedModelError(f"the model has {len(nodes):,} nodes; at most {MAX_LAYERS:,} are read")
    tensors = {value.name: value for value in graph.input}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    reader = _Reader(_image_of(model, weights))
    shapes = _Shapes(tensors, weights)
    places: dict[str, int] = {}
    data = [name for name in tensors if name not in weights][:1]
    for name in data:
        places[name] = INPUT
    for node in nodes:
        names = list(node.input)
        sources = [places[name] for name in names if name in places]
        op = node.op_type
        if op == "Constant" and node.attribute[0].name == "value":
            weights[node.output[0]] = node.attribute[0].t
        if op in _CONSTANT or not sources:
            continue
        if op in _SKIPPED:
            place = sources[0]
        elif op == "Mul" and any(name in weights and _is_zeros(weights[name]) for name in names):
            place = reader.add(_ZERO, sources)
        else:
            place = reader.add(_kind_of(node, op, names, shapes), sources)
        for name in node.output:
            places[name] = place
    return reader.used([places[value.name] for value in graph.output if value.name in places])


class _Reader:
    """Collects layers; those without weights that do the same are one."""

    def __init__(self, image: Size) -> None:
        self._image = image
        self._layers: list[Layer] = []
        self._known: dict[tuple[Kind, tuple[int, ...]], int] = {}

    def add(self, kind: Kind | None, sources: Sequence[int]) -> int:
        """Add a layer, unless there is one like it or it does nothing; return the layer of its value."""
        if kind is None:
            return sources[0]
        if _NOTHING in sources:
            sources = [source for source in sources if source != _NOTHING]
            if not sources or kind is _ZERO:
                return _NOTHING
        elif kind is _ZERO:
            return _NOTHING
        if len(sources) == 1:
            if kind.op in _NEUTRAL or kind.op == "Concat":
                return sources[0]
            read: tuple[int, ...] = (sources[0],)
        else:
            read = tuple(sources) if kind.op == "Concat" else tuple(sorted(sources))
        key = (kind, read)
        if not kind.channels:
            known = self._known.get(key)
            if known is not None:
                return known
        layers = self._layers
        sizes = tuple([layers[source].size if source >= 0 else self._image for source in read])
        layers.append(Layer(kind, read, *_sized(kind, sizes)))
        if not kind.channels:
            self._known[key] = len(layers) - 1
        return len(layers) - 1

    def used(self, outputs: Sequence[int]) -> list[Layer]:
        """Return the layers that outputs need, numbered anew."""
        layers = self._layers
        needed = [False] * len(layers)
        for output in outputs:
            if output >= 0:
                needed[output] = True
        for number in range(len(layers) - 1, -1, -1):
            if needed[number]:
                for source in layers[number].sources:
                    if source >= 0:
                        needed[source] = True
        if all(needed):
            return layers
        numbers: dict[int, int] = {INPUT: INPUT}
        found: list[Layer] = []
        for number, layer in enumerate(layers):
            if needed[number]:
                numbers[number] = len(found)
                found.append(layer._replace(sources=tuple([numbers[s] for s in layer.sources])))
        return found


@lru_cache(maxsize=1 << 16)
def _sized(kind: Kind, inputs: tuple[Size, ...]) -> tuple[Size, int, int, int]:
    """Return size, input channels, multiply-accumulates and parameters of a layer."""
    channels, height, width = inputs[0]
    given = channels
    op = kind.op
    if op == "Concat":
        channels = sum(size[0] for size in inputs)
        height, width = (max(size[axis] for size in inputs) for axis in (1, 2))
    elif op in _GLOBAL:
        height = width = 1
    elif op == "Flatten":
        channels, height, width = channels * height * width, 1, 1
    elif len(inputs) > 1 and not kind.channels:
        channels, height, width = (max(sizes) for sizes in zip(*inputs, strict=True))
    macs = params = 0
    if kind.channels:
        channels = kind.channels
        if op in _CONVOLUTIONS:
            if len(kind.kernel) == 2:
                height, width = (_windows(kind, axis, length) for axis, length in enumerate((height, width)))
            params = channels * kind.weight_inputs * kind.area
            macs = params * height * width
        else:
            params = channels * kind.weight_inputs
            macs = params * height * width
    elif op in _WINDOWED and len(kind.kernel) == 2:
        height, width = (_windows(kind, axis, length) for axis, length in enumerate((height, width)))
    return (channels, height, width), given, macs, params


def _windows(kind: Kind, axis: int, length: int) -> int:
    stride = kind.strides[axis]
    if kind.op == "ConvTranspose":
        return length * stride
    span = kind.dilations[axis] * (kind.kernel[axis] - 1) - kind.pads[axis] - kind.pads[axis + 2]
    steps = length - 1 - span
    return max((-(-steps // stride) if kind.rounds_up else steps // stride) + 1, 1)


# From texts.

_SHAPE = re.compile(r"\[(\d+),(\d+),(\d+),(\d+)\]")


def _image(inputs: str) -> Size:
    shape = _SHAPE.search(inputs)
    return (1, 1, 1) if shape is None else (int(shape[2]), int(shape[3]), int(shape[4]))


@lru_cache(maxsize=1 << 16)
def _line(line: str) -> tuple[Kind | None, tuple[int, ...]]:
    """Return the kind of a line, None if it does nothing, and how far before are the lines it reads, 0 for
    the input."""
    try:
        read = operation(line)
    except Broken as error:
        raise TextError(1, error.position + 1, error.rule, line) from error
    distances = tuple(
        value.distance if isinstance(value, Reference) else 0
        for value in read.values
        if isinstance(value, Reference | Input)
    )
    if read.op in _SKIPPED:
        return None, distances
    if read.op == "Mul" and any(isinstance(value, Constant) and _is_zero(value) for value in read.values):
        return _ZERO, distances
    return _kind_of_line(read), distances


def _is_zero(constant: Constant) -> bool:
    return all(element == 0 for element, _ in constant.elements)


def _kind_of_line(read: Operation) -> Kind:
    weights = [value for value in read.values if isinstance(value, Weight)]
    dims = [int(size) for size in weights[0].dims if isinstance(size, int)] if weights else []
    attributes = {name: value for name, value in read.attributes.items() if isinstance(value, AttributeProto)}
    groups = read.group if isinstance(read.group, int) else 1
    return _kind(read.op if not read.domain else f"{read.domain}::{read.op}", dims, attributes, groups)


# From models.


class _Shapes:
    """Shapes of weights."""

    def __init__(
        self, inputs: Mapping[str, onnx.ValueInfoProto], weights: Mapping[str, onnx.TensorProto]
    ) -> None:
        self._inputs, self._weights = inputs, weights

    def of(self, name: str) -> list[int]:
        """Return the shape of a weight; nothing where it is not known."""
        tensor = self._weights.get(name)
        if tensor is not None:
            return list(tensor.dims)
        value = self._inputs.get(name)
        if value is None:
            return []
        return [size.dim_value for size in value.type.tensor_type.shape.dim]


def _image_of(model: ModelProto, weights: Mapping[str, onnx.TensorProto]) -> Size:
    for value in model.graph.input:
        if value.name not in weights:
            sizes = [max(size.dim_value, 1) for size in value.type.tensor_type.shape.dim]
            return (sizes[1], sizes[2], sizes[3]) if len(sizes) == 4 else (1, 1, 1)
    return (1, 1, 1)


def _kind_of(node: NodeProto, op: str, names: Sequence[str], shapes: _Shapes) -> Kind:
    dims: list[int] = []
    if op in _CONVOLUTIONS or op in _LINEAR:
        dims = next((found for name in names[1:2] if (found := shapes.of(name))), [])
    elif op not in _WINDOWED:
        return _made(op if not node.domain else f"{node.domain}::{op}")
    attributes = {attribute.name: attribute for attribute in node.attribute}
    group = attributes.pop("group", None)
    return _kind(op, dims, attributes, 1 if group is None else group.i)


def _is_zeros(tensor: onnx.TensorProto) -> bool:
    if math.prod(tensor.dims) > _MAX_ZEROS or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return False
    return not onnx.numpy_helper.to_array(tensor).any()


def _kind(op: str, dims: Sequence[int], attributes: Mapping[str, AttributeProto], groups: int) -> Kind:
    if op in _CONVOLUTIONS and len(dims) > 2:
        channels, inputs = (dims[0], dims[1]) if op == "Conv" else (dims[1] * groups, dims[0])
        return _made(op, channels, inputs, *_window(tuple(dims[2:]), attributes), groups > 1)
    if op in _LINEAR and len(dims) == 2:
        transposed = op == "Gemm" and "transB" in attributes and attributes["transB"].i
        rows, columns = dims
        return _made(op, rows if transposed else columns, columns if transposed else rows)
    if op in _WINDOWED and "kernel_shape" in attributes:
        rounds_up = bool("ceil_mode" in attributes and attributes["ceil_mode"].i)
        return _made(op, 0, 0, *_window(tuple(attributes["kernel_shape"].ints), attributes), False, rounds_up)
    return _made(op)


_Window = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def _window(kernel: tuple[int, ...], attributes: Mapping[str, AttributeProto]) -> _Window:
    """Return kernel, strides, dilations and padding."""
    rank = len(kernel)

    def stated(name: str, default: int, count: int) -> tuple[int, ...]:
        found = tuple(attributes[name].ints) if name in attributes else ()
        return found if len(found) == count else (default,) * count

    return kernel, stated("strides", 1, rank), stated("dilations", 1, rank), stated("pads", 0, 2 * rank)


@lru_cache(maxsize=1 << 16)
def _made(
    op: str,
    channels: int = 0,
    weight_inputs: int = 0,
    kernel: tuple[int, ...] = (),
    strides: tuple[int, ...] = (),
    dilations: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
    is_grouped: bool = False,
    rounds_up: bool = False,
) -> Kind:
    role = _role(op, bool(channels), kernel, dilations, is_grouped and weight_inputs == 1)
    if max(strides, default=1) > 1:
        role += "/2"
    return Kind(op, role, channels, weight_inputs, kernel, strides, dilations, pads, rounds_up)


def _role(
    op: str, has_weight: bool, kernel: tuple[int, ...], dilations: tuple[int, ...], is_depthwise: bool
) -> str:
    if op in _CONVOLUTIONS and kernel:
        if math.prod(kernel) == 1:
            return "p"
        reach = 1 + max((size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True))
        return f"{'d' if is_depthwise else 'c'}{reach}"
    if op in _WINDOWED:
        return f"{'m' if op == 'MaxPool' else 'a'}{max(kernel, default=1)}"
    if op in _LINEAR:
        return "l" if has_weight else "x"
    if op in _ACTIVATIONS:
        return "r"
    if op in _GLOBAL or op == "ReduceMean":
        return "g"
    if "Normalization" in op:
        return "n"
    return {"Add": "+", "Sum": "+", "Concat": "|", "Mul": "*", "Softmax": "s"}.get(op, "o")


_ZERO = _made("Zero")
