"""A network as the layers that features are computed from: what each does, what it reads, how large it is.

Layers are read from a text (`of_text`) or from an ONNX model in any form (`of_model`). Both leave out what
says nothing about an architecture: normalization, which the inference form folds away, no-ops, whatever no
output needs or is computed from zeros alone (behind an edge `none`, say), and a layer without weights that
does the same as another. A layer that moves or cuts dimensions, as Reshape or Slice, counts as if it kept
those of its input. What a network leaves open of the size of an image counts as in 3×32×32. A network whose
output does not depend on its input has no layers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, TypeProto

from onnx_bench_dataset.errors import TextError, UnsupportedModelError
from onnx_bench_dataset.surrogates.collector import INPUT, NOTHING, ZERO, Collector, Layer
from onnx_bench_dataset.surrogates.kinds import (
    CONVOLUTIONS,
    LARGEST,
    LINEAR,
    WINDOWED,
    Form,
    Kind,
    Size,
    form_of,
    kind_of,
    plain,
)
from onnx_bench_dataset.text import encode
from onnx_bench_dataset.text.cursor import Broken
from onnx_bench_dataset.text.decode import unfold
from onnx_bench_dataset.text.operations import Constant, Input, Operation, Reference, Weight, operation

__all__ = ["INPUT", "MAX_LAYERS", "Kind", "Layer", "of_model", "of_text"]

MAX_LAYERS = 100_000
"""Nodes of a network that is read."""

_SKIPPED = frozenset({"BatchNormalization", "Cast", "Dropout", "Identity"})
_CONSTANT = frozenset({"Constant", "ConstantOfShape", "Range", "Shape", "Size"})
_LOOKED_AT = 4096  # elements of a constant that is looked at
_REMEMBERED = 200  # bytes or characters of what is kept to be met again

# From texts.


def of_text(text: str) -> list[Layer]:
    """Return the layers of a text.

    Raises:
        TextError: the text is broken.
    """
    _, inputs, *lines, outputs = unfold(text).split("\n")
    collected = Collector(_image(inputs))
    add, add_to = collected.add, collected.add_to
    places: list[int] = []  # of each line, the layer whose value it gives
    for number, line in enumerate(lines):
        kind, distances, farthest = _remembered_line(line) if len(line) <= _REMEMBERED else _line(line)
        if farthest > number:
            raise TextError(number + 1, 1, "an operation reads one that is not there", line)
        if not distances:
            places.append(NOTHING)
        elif len(distances) == 1 or kind is None:
            source = places[number - distances[0]] if distances[0] else INPUT
            places.append(source if kind is None else add_to(kind, source))
        else:
            sources = [places[number - distance] if distance else INPUT for distance in distances]
            places.append(add(kind, sources))
    read = _distances(_read("Outputs" + outputs.removeprefix("output")))
    if max(read, default=0) > len(places):
        raise TextError(len(lines) + 1, 1, "an output is not there", outputs)
    return collected.used([places[-distance] for distance in read if distance])


_SHAPE = re.compile(r"input \w*\[(\d+|\?\d*),(\d+|\?\d*),(\d+|\?\d*),(\d+|\?\d*)\]", re.ASCII)
_USUAL = (1, 3, 32, 32)


def _image(inputs: str) -> Size:
    shape = _SHAPE.match(inputs)
    return _size_of([] if shape is None else [0 if size[0] == "?" else int(size) for size in shape.groups()])


def _size_of(shape: Sequence[int]) -> Size:
    """Return the size of an image, the usual one where it is not stated (0); else that of a single pixel."""
    if len(shape) != 4:
        return (1, 1, 1)
    _, channels, height, width = [
        min(size, LARGEST) or usual for size, usual in zip(shape, _USUAL, strict=True)
    ]
    return (channels, height, width)


_Line = tuple[Kind | None, tuple[int, ...], int]
"""Its kind, None if it does nothing; how far before it the lines are that it reads, 0 for the input; the
farthest of them."""


@lru_cache(maxsize=1 << 16)
def _remembered_line(line: str) -> _Line:
    return _line(line)


def _line(line: str) -> _Line:
    read = _read(line)
    distances = _distances(read)
    farthest = max(distances, default=0)
    if read.op in _SKIPPED and not read.domain:
        return None, distances, farthest
    if read.op == "Mul" and any(_is_zero(value) for value in read.values if isinstance(value, Constant)):
        return ZERO, distances, farthest
    return _kind_of_line(read), distances, farthest


def _read(line: str) -> Operation:
    try:
        return operation(line)
    except Broken as error:
        raise TextError(1, error.position + 1, error.rule, line) from error


def _distances(read: Operation) -> tuple[int, ...]:
    return tuple(
        [
            value.distance if isinstance(value, Reference) else 0
            for value in read.values
            if isinstance(value, Reference | Input)
        ]
    )


def _is_zero(constant: Constant) -> bool:
    return all(element == 0 for element, _ in constant.elements)


def _kind_of_line(read: Operation) -> Kind:
    if read.domain:
        return plain(f"{read.domain}::{read.op}")
    weights = [value for value in read.values if isinstance(value, Weight)]
    dims = tuple([size for size in weights[0].dims if isinstance(size, int)]) if weights else ()
    attributes = {name: value for name, value in read.attributes.items() if isinstance(value, AttributeProto)}
    return kind_of(form_of(read.op, attributes, read.group if isinstance(read.group, int) else 1), dims)


# From models.


def of_model(model: ModelProto) -> list[Layer]:
    """Return the layers of an ONNX model, in training or inference form, with or without weights.

    They are those of the model's text. A model of common operations is read as it is, which is faster; so is
    one that no text describes, as far as it goes.

    Raises:
        UnsupportedModelError: the model is too large or broken.
    """
    nodes = model.graph.node
    if len(nodes) > MAX_LAYERS:
        raise UnsupportedModelError(f"the model has {len(nodes):,} nodes; at most {MAX_LAYERS:,} are read")
    try:
        layers = _of_common(model)
        if layers is None:
            with suppress(UnsupportedModelError):
                return of_text(encode(model))
            layers = _of_any(model)
    except (DecodeError, TypeError, ValueError) as error:
        raise UnsupportedModelError(f"the model is broken: {error}") from error
    return layers


def _of_common(model: ModelProto) -> list[Layer] | None:
    """Return the layers of common operations, which a text describes as they are; None if there are more."""
    graph = model.graph
    tensors = _Tensors(model)
    collected = Collector(tensors.image)
    add, add_to = collected.add, collected.add_to
    places = tensors.places
    for node in graph.node:
        serialized = node.SerializeToString()
        op, names, outputs, reads, kind, form = (
            _remembered_node(serialized) if len(serialized) <= _REMEMBERED else _node(serialized)
        )
        if reads == 1:
            source = places.get(names[0])
            if op == "Mul" and source is None:
                names = names[::-1]
                source = places.get(names[0])
            if source is None:
                return None
            if kind is None and form is None:  # as batch norm, whatever else it reads
                places[outputs[0]] = source
                continue
            if len(names) > 1 and not places.keys().isdisjoint(names[1:]):
                return None
            if form is not None:
                dims = tensors.dims(names[1])
                if not all(dims):
                    return None
                kind = kind_of(form, dims)
            elif op == "Mul":
                if not tensors.is_zero(names[1]):
                    return None
                kind = ZERO
            if op in _FOLDED and source >= 0 and collected.layers[source][0].op == op:
                return None
            assert kind is not None
            places[outputs[0]] = add_to(kind, source)
        elif reads > 1:
            sources = [places[name] for name in names if name in places]
            if len(sources) != reads:
                return None
            if op in _FOLDED and any(n >= 0 and collected.layers[n][0].op == op for n in sources):
                return None
            assert kind is not None
            places[outputs[0]] = add(kind, sources)
        else:
            return None
    if len(graph.output) != 1 or graph.output[0].name not in places:
        return None
    return collected.used([places[graph.output[0].name]])


def _of_any(model: ModelProto) -> list[Layer]:
    """Return the layers of any operations, as far as they say what they are."""
    tensors = _Tensors(model)
    collected = Collector(tensors.image)
    places = tensors.places
    for node in _in_order(model.graph.node):
        op, names, outputs, _, kind, form = _node(node.SerializeToString())
        sources = [places[name] for name in names if name in places]
        if op == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensors.initializers[node.output[0]] = node.attribute[0].t
        if not sources or op in _CONSTANT:
            continue
        if form is not None:
            kind = kind_of(form, tensors.dims(names[1]) if len(names) > 1 else ())
        elif op == "Mul" and any(map(tensors.is_zero, names)):
            kind = ZERO
        place = sources[0] if kind is None else collected.add(kind, sources)
        for name in outputs:
            places[name] = place
    return collected.used([places[value.name] for value in model.graph.output if value.name in places])


class _Tensors:
    """What a model says of the values that no node makes."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.inputs = {value.name: value for value in graph.input}
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.places: dict[str, int] = {}
        """Of each value, the layer that gives it."""
        self.image: Size = (1, 1, 1)
        for name, value in self.inputs.items():
            if name not in self.initializers:
                self.places[name] = INPUT
                self.image = _size_of(_shape(value.type.SerializeToString()))
                break
        self._zeros: dict[str, bool] = {}

    def dims(self, name: str) -> tuple[int, ...]:
        """Return the shape of a weight; a 0 where it is not known."""
        tensor = self.initializers.get(name)
        if tensor is not None:
            return tuple(tensor.dims)
        value = self.inputs.get(name)
        return (0,) if value is None else _shape(value.type.SerializeToString())

    def is_zero(self, name: str) -> bool:
        """Return whether a constant is known to hold zeros alone."""
        found = self._zeros.get(name)
        if found is None:
            tensor = self.initializers.get(name)
            found = self._zeros[name] = tensor is not None and _is_zeros(tensor)
        return found


class _Node(NamedTuple):
    """What is read of a node."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reads: int
    """How many computed values a common node reads; -1 for nodes that are not."""
    kind: Kind | None
    """None where it does nothing, or does not depend on the node alone."""
    form: Form | None
    """Of what has a weight."""


_COMMON = frozenset(
    (
        *("Conv", "Gemm", "BatchNormalization", "LayerNormalization", "InstanceNormalization", "Identity"),
        *("Relu", "LeakyRelu", "HardSwish", "Mish", "Sigmoid", "Tanh", "Elu"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Slice"),
    )
)
"""Operations that a text describes as they stand, with one computed value."""

_JOINING = frozenset({"Add", "Concat"})  # the same, with computed values only
_FOLDED = frozenset({"Relu", "Flatten", "Slice", "Concat"})  # of which a text may make one where two follow
_TELLING = frozenset({"auto_pad", "transA", "training_mode"})  # attributes that make an operation less common


@lru_cache(maxsize=1 << 15)
def _remembered_node(serialized: bytes) -> _Node:
    """Read a node; many networks have the same ones."""
    return _node(serialized)


def _node(serialized: bytes) -> _Node:
    node = NodeProto.FromString(serialized)
    op, inputs, outputs = node.op_type, tuple(node.input), tuple(node.output)
    if node.domain not in ("", "ai.onnx"):
        return _Node(f"{node.domain}::{op}", inputs, outputs, -1, plain(f"{node.domain}::{op}"), None)
    attributes = {attribute.name: attribute for attribute in node.attribute}
    groups = attributes["group"].i if "group" in attributes else 1
    reads = -1
    if len(outputs) == 1 and _TELLING.isdisjoint(attributes):
        if op in _COMMON or op == "Mul":
            reads = 1
        elif op in _JOINING:
            reads = len(inputs)
    if op in CONVOLUTIONS or op in LINEAR:
        return _Node(op, inputs, outputs, reads, None, form_of(op, attributes, groups))
    kind = None
    if op in WINDOWED:
        kind = kind_of(form_of(op, attributes, groups))
        if kind.area == 1:  # perhaps nothing is done at all
            reads = -1
    elif op not in _SKIPPED:
        kind = plain(op)
    return _Node(op, inputs, outputs, reads, kind, None)


@lru_cache(maxsize=1 << 15)
def _shape(serialized: bytes) -> tuple[int, ...]:
    shape = TypeProto.FromString(serialized).tensor_type.shape
    return tuple([max(size.dim_value, 0) for size in shape.dim])


def _is_zeros(tensor: TensorProto) -> bool:
    if math.prod(tensor.dims) > _LOOKED_AT or tensor.data_location == TensorProto.EXTERNAL:
        return False
    return not onnx.numpy_helper.to_array(tensor).any()


def _in_order(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Return nodes such that each comes after those that it reads, as far as there is such an order.

    Raises:
        UnsupportedModelError: nodes read each other in a circle.
    """
    producers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    waiting: list[int] = []  # of each node, for how many it waits
    readers: list[list[int]] = [[] for _ in nodes]
    for number, node in enumerate(nodes):
        sources = {producers[name] for name in node.input if name in producers}
        waiting.append(len(sources))
        for source in sources:
            readers[source].append(number)
    ready = [number for number, count in enumerate(waiting) if not count]
    for number in ready:  # grows
        for reader in readers[number]:
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(ready) < len(nodes):
        raise UnsupportedModelError("the graph has a cycle")
    return [nodes[number] for number in ready]
