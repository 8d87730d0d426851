"""NATS-Bench, size space: one cell in five widths (arXiv 2009.00437).

An architecture is five numbers of channels, each a multiple of 8 up to 64, for the five layers of the
network: cell, residual block of stride 2, cell, residual block of stride 2, cell. The stem has the width of
the first. The cell is a fixed one of NAS-Bench-201, five convolutions and a skip connection. Where it changes
the number of channels, the convolutions that read its input do so, and the skip connection becomes a 1×1
convolution with batch norm, without the ReLU that other operations begin with. Weights are called as the
official PyTorch network (`DynamicShapeTinyNet` in D-X-Y/AutoDL-Projects) calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

from onnx_bench_dataset.drawing import Diagram, Kind, Node, chain
from onnx_bench_dataset.errors import ArchitectureError
from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.graphs.cells import Cell, Sketch
from onnx_bench_dataset.graphs.chain import Chain
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.graphs.parts import Part, Shape
from onnx_bench_dataset.spaces.classifier import classifier
from onnx_bench_dataset.spaces.nasbench201 import EDGES
from onnx_bench_dataset.spaces.nasbench201 import parse as parse_cell
from onnx_bench_dataset.spaces.nasbench201_parts import (
    SOURCE,
    TARGET,
    border,
    checked_image,
    last_activation,
    operation_part,
    residual_block,
    stem,
)
from onnx_bench_dataset.spaces.space import TabularSpace

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
"""The cell of every network, as NAS-Bench-201 writes it."""

CHANNELS = (8, 16, 24, 32, 40, 48, 56, 64)
LAYERS = 5

_HALVING_LAYERS = (1, 3)


class NATSBenchSize(TabularSpace):
    """The 32,768 networks of the size space of NATS-Bench; the default is the benchmark's own network."""

    name = "natsbench_size"
    family = "nasbench201"

    def __init__(self, *, width_divisor: int = 1) -> None:
        """Take the number by which the channels in the string are divided: 1, 2, 4 or 8."""
        self._width_divisor = width_divisor

    def architectures(self) -> Sequence[str]:
        """Return all 32,768 architectures; the position is the benchmark's index."""
        return _all_architectures()

    def network(
        self,
        architecture: str,
        name: str = "",
        input_shape: Shape = (1, 3, 32, 32),
        num_classes: int = 10,
    ) -> Network:
        """Return the network of an architecture; height and width must be divisible by 4."""
        channels = [width // self._width_divisor for width in parse(architecture)]
        batch, height, width = checked_image(input_shape, num_classes)
        chain = Chain(input_shape)
        chain.add(stem(input_shape, channels[0]), "stem.", border(0))
        shape: Shape = (batch, channels[0], height, width)
        for layer, out_channels in enumerate(channels):
            target = border(layer + 1)
            if layer in _HALVING_LAYERS:
                block = residual_block(shape, out_channels)
                chain.add(block, f"cells.{layer}.", target)
                shape = block.output_shape
            else:
                marks = {
                    _PREFIX.encode(): f"cells.{layer}.".encode(),
                    SOURCE.encode(): chain.value.encode(),
                    TARGET.encode(): target.encode(),
                }
                chain.add_cell(_cell(shape, out_channels), marks, target)
                shape = (batch, out_channels, *shape[2:])
        chain.add(last_activation(shape), "lastact.", "lastact")
        chain.add(classifier(shape, num_classes), "", "output")
        return chain.finish((batch, num_classes), self.metadata(architecture, name))

    def diagram(self, architecture: str) -> Diagram:
        """Return the layers with their channels; the wider, the more."""
        widths = parse(architecture)

        def node(label: str, kind: Kind, width: int) -> Node:
            return Node(f"{label}, {width // self._width_divisor}", kind, width / CHANNELS[-1])

        layers = [
            node("residual /2", Kind.CONV_3X3, width)
            if layer in _HALVING_LAYERS
            else node("cell", Kind.BLOCK, width)
            for layer, width in enumerate(widths)
        ]
        stem = node("conv 3×3", Kind.CONV_3X3, widths[0])
        return Diagram([chain([Node("input"), stem, *layers, Node("classifier", Kind.LINEAR)])])


def parse(architecture: str) -> tuple[int, ...]:
    """Return the number of channels of each layer.

    Raises:
        ArchitectureError: the string is not five numbers of `CHANNELS` with colons between them.

    >>> parse("8:16:24:32:40")
    (8, 16, 24, 32, 40)
    """
    position = 0
    numbers = architecture.split(":", LAYERS)
    for number in numbers[:LAYERS]:
        if number not in _CHANNELS:
            rule = f"a number of channels is expected here, one of {', '.join(_CHANNELS)}"
            raise ArchitectureError("natsbench_size", architecture, position, rule)
        position += len(number) + 1
    if len(numbers) < LAYERS:
        rule = f"there are {LAYERS} numbers of channels with ':' between them, not {len(numbers)}"
        raise ArchitectureError("natsbench_size", architecture, position - 1, rule)
    if len(numbers) > LAYERS:
        rule = f"nothing may follow the {LAYERS} numbers of channels"
        raise ArchitectureError("natsbench_size", architecture, position - 1, rule)
    return tuple([_CHANNELS[number] for number in numbers])


def write(channels: Sequence[int]) -> str:
    """Return the architecture string of the numbers of channels; the inverse of `parse`."""
    return ":".join(map(str, channels))


_CHANNELS = {str(channels): channels for channels in CHANNELS}


@lru_cache(maxsize=1)
def _all_architectures() -> tuple[str, ...]:
    return tuple(map(write, product(CHANNELS, repeat=LAYERS)))


_PREFIX = "cells.#."  # a mark: the cell's own prefix


@lru_cache(maxsize=1024)
def _cell(shape: Shape, out_channels: int) -> Cell:
    """Return the cell that makes `out_channels` of features of `shape`; it sums as the official one does."""
    sketch = Sketch()
    parts: list[Part] = []

    def apply(part: Part, source: int, name: str) -> int:
        parts.append(part)
        return sketch.apply(part, source, name)

    def edge(layer: int, operation: str, source: int) -> int:
        name = f"layers.{layer}"
        read = (shape[0], out_channels, *shape[2:]) if source else shape
        if operation != "skip_connect":
            # equal ReLUs are one in inference form, so they are parts of their own
            relu = apply(operation_part("relu", read, read[1]), source, f"{name}.op.0")
            return apply(operation_part(operation, read, out_channels), relu, f"{name}.op")
        return source if read[1] == out_channels else apply(_projection(read, out_channels), source, name)

    operations = parse_cell(CELL)
    nodes = [0]
    for node in (1, 2, 3):
        terms = [
            edge(layer, operations[layer], nodes[source])
            for layer, (source, target) in enumerate(EDGES)
            if target == node
        ]
        nodes.append(sketch.sum(terms, f"node{node}"))
    return sketch.layout(nodes[3], _PREFIX, SOURCE, TARGET).cell(parts)


def _projection(shape: Shape, out_channels: int) -> Part:
    def write(g: GraphBuilder) -> str:
        return g.batch_norm(g.conv(g.input, "conv", shape[1], out_channels, 1), "bn", out_channels)

    return Part(write, shape)
