"""NAS-Bench-201: cells of four nodes whose six edges carry one of five operations (arXiv 2001.00326).

The network is a stem of 16 channels, three stages of five cells with 16, 32 and 64 channels, a residual block
of stride 2 between stages, and a linear classifier; other widths and lengths can be asked for. Operations put
ReLU first: ReLU, convolution, batch norm. Weights are called as the official PyTorch network calls them; an
edge that cannot influence the output keeps its operations and weights, because the official network runs them
and its parameter count includes them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from onnx_bench_dataset.drawing import Diagram, Edge, Kind, Node, Panel
from onnx_bench_dataset.errors import ArchitectureError
from onnx_bench_dataset.graphs.cells import Layout, Sketch
from onnx_bench_dataset.graphs.chain import Chain
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.graphs.parts import Shape
from onnx_bench_dataset.spaces.classifier import classifier
from onnx_bench_dataset.spaces.nasbench201_parts import (
    KERNELS,
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

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(from node, to node) of each edge, in the order of the architecture string."""

_STAGES = 3
_SHUFFLE_SEED = 88  # with which the benchmark shuffled the product of all operations


class NASBench201(TabularSpace):
    """The 15,625 cells of NAS-Bench-201, also called the topology space of NATS-Bench.

    The defaults are the benchmark's own network.
    """

    name = "nasbench201"
    family = "nasbench201"

    def __init__(self, *, stem_channels: int = 16, cells_per_stage: int = 5) -> None:
        """Take the channels of the stem, which each further stage doubles, and the cells of a stage."""
        self._stem_channels = stem_channels
        self._cells_per_stage = cells_per_stage

    def architectures(self) -> Sequence[str]:
        """Return all 15,625 architectures; the position is the benchmark's index."""
        return _all_architectures()

    def network(
        self,
        architecture: str,
        name: str = "",
        input_shape: Shape = (1, 3, 32, 32),
        num_classes: int = 10,
    ) -> Network:
        """Return the network of an architecture; height and width must be divisible by 4."""
        edges = parse(architecture)
        batch, height, width = checked_image(input_shape, num_classes)
        chain = Chain(input_shape)
        chain.add(stem(input_shape, self._stem_channels), "stem.", border(0))
        shape: Shape = (batch, self._stem_channels, height, width)
        wirings = {digits: _wire(edges, shape, digits) for digits in (1, 2)}
        for stage in range(_STAGES):
            first = stage * (self._cells_per_stage + 1)
            if stage:
                block = residual_block(shape, 2 * shape[1])
                chain.add(block, f"cells.{first - 1}.", border(first))
                shape = block.output_shape
            cells = {
                digits: layout.cell([operation_part(operation, shape, shape[1]) for operation in operations])
                for digits, (layout, operations) in wirings.items()
            }
            for index in range(first, first + self._cells_per_stage):
                number = str(index).encode()
                marks = {
                    b"cells." + b"#" * len(number): b"cells." + number,
                    SOURCE.encode(): chain.value.encode(),
                    TARGET.encode(): border(index + 1).encode(),
                }
                chain.add_cell(cells[len(number)], marks, border(index + 1))
        chain.add(last_activation(shape), "lastact.", "lastact")
        chain.add(classifier(shape, num_classes), "", "output")
        return chain.finish((batch, num_classes), self.metadata(architecture, name))

    def diagram(self, architecture: str) -> Diagram:
        """Return the cell: nodes, and the operations on the edges between them."""
        edges = [Edge(*ends, *_PICTURED[name]) for ends, name in zip(EDGES, parse(architecture), strict=True)]
        return Diagram([Panel([Node(str(node)) for node in range(4)], edges)])


_PICTURED = {
    "none": ("none", Kind.NONE),
    "skip_connect": ("skip", Kind.SKIP),
    "nor_conv_1x1": ("conv 1×1", Kind.CONV_1X1),
    "nor_conv_3x3": ("conv 3×3", Kind.CONV_3X3),
    "avg_pool_3x3": ("avg pool 3×3", Kind.AVERAGE_POOL),
}
"""What an edge is called in a picture, and which kind it is."""


def parse(architecture: str) -> tuple[str, ...]:
    """Return the operation of each edge, in the order of `EDGES`.

    Raises:
        ArchitectureError: the string is not of the form `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.

    >>> parse("|avg_pool_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")[5]
    'nor_conv_1x1'
    """
    operations = []
    position = 0

    def expect(text: str, rule: str) -> None:
        nonlocal position
        if not architecture.startswith(text, position):
            raise ArchitectureError("nasbench201", architecture, position, rule)
        position += len(text)

    for source, target in EDGES:
        if source == 0:
            if target > 1:
                expect("|+", "'|+' begins the next node")
            expect("|", "'|' begins a node's incoming edges")
        else:
            expect("|", "'|' stands between incoming edges")
        end = architecture.find("~", position)
        operation = architecture[position:end] if end >= 0 else architecture[position:]
        if operation not in OPERATIONS:
            rule = f"an operation is expected here, one of {', '.join(OPERATIONS)}, then '~'"
            raise ArchitectureError("nasbench201", architecture, position, rule)
        operations.append(operation)
        position += len(operation)
        expect(f"~{source}", f"this edge of node {target} comes from node {source}: '~{source}'")
    expect("|", "'|' ends the last node")
    if position != len(architecture):
        raise ArchitectureError("nasbench201", architecture, position, "nothing may follow the third node")
    return tuple(operations)


def write(operations: Sequence[str]) -> str:
    """Return the architecture string of the six operations; the inverse of `parse`."""
    texts = [f"{operation}~{source}" for operation, (source, _) in zip(operations, EDGES, strict=True)]
    return f"|{texts[0]}|+|{'|'.join(texts[1:3])}|+|{'|'.join(texts[3:])}|"


@lru_cache(maxsize=1)
def _all_architectures() -> tuple[str, ...]:
    architectures = [write(operations) for operations in product(OPERATIONS, repeat=len(EDGES))]
    random.Random(_SHUFFLE_SEED).shuffle(architectures)
    return tuple(architectures)


def _wire(operations: Sequence[str], shape: Shape, digits: int) -> tuple[Layout, list[str]]:
    """Wire a cell whose index has so many digits; return it and what its parts do, in order.

    A node sums its incoming edges in an order that depends on what they compute, not on the numbers of the
    nodes, and a node that does nothing but pass its sum on to another one is part of that sum: isomorphic
    cells give equal graphs. An edge known to carry zeros adds nothing; a node with nothing but zeros is zero
    times the cell's input, as in the official network.
    """
    sketch = Sketch()
    parts: list[str] = []

    def apply(operation: str, source: int, name: str) -> int:
        parts.append(operation)
        return sketch.apply(operation_part(operation, shape, shape[1]), source, name)

    terms: list[list[_Term]] = [[_Term("x", 0)]]  # of each node
    sums: dict[int, int] = {}
    zero: int | None = None

    def value(node: int) -> int:
        nonlocal zero
        if node not in sums:
            if terms[node]:
                sums[node] = sketch.sum([term.value for term in terms[node]], f"node{node}")
            else:
                zero = apply("zero", 0, "zero") if zero is None else zero
                sums[node] = zero
        return sums[node]

    passing = _passing_nodes(operations)
    for target in (1, 2, 3):
        found: list[_Term] = []
        for layer, (source, to) in enumerate(EDGES):
            operation = operations[layer]
            if to != target or operation == "none":
                continue
            formula = "+".join(term.formula for term in terms[source]) or "0"
            if operation in KERNELS:  # batch norm turns even zeros into something
                # equal ReLUs are one in inference form, so they are parts of their own
                relu = apply("relu", value(source), f"layers.{layer}.op.0")
                convolved = apply(operation, relu, f"layers.{layer}.op")
                found.append(_Term(f"{operation}({formula})", convolved))
            elif not terms[source]:
                continue
            elif operation == "avg_pool_3x3":
                found.append(
                    _Term(f"{operation}({formula})", apply(operation, value(source), f"layers.{layer}"))
                )
            elif source in passing:
                found += terms[source]
            else:
                found.append(_Term(formula, value(source), is_shared=True))
        terms.append(sorted(found, key=lambda term: (term.formula, term.is_shared)))
    return sketch.layout(value(3), f"cells.{'#' * digits}.", SOURCE, TARGET), parts


class _Term(NamedTuple):
    formula: str
    value: int  # in the sketch
    is_shared: bool = False  # something else reads the value too


def _passing_nodes(operations: Sequence[str]) -> set[int]:
    """Interior nodes whose only influence on the output is one skip connection."""
    named = dict(zip(EDGES, operations, strict=True))
    into_output = {1: named[1, 3], 2: named[2, 3]}
    between = named[1, 2] if into_output[2] != "none" else "none"
    passing = {2} if into_output[2] == "skip_connect" else set()
    if sorted((between, into_output[1])) == ["none", "skip_connect"]:
        passing.add(1)
    return passing
