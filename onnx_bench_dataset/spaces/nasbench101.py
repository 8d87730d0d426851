"""NAS-Bench-101: cells of up to seven vertices that carry operations (arXiv 1902.09635).

The network is a 3×3 stem of 128 channels and three stacks of three cells with 128, 256 and 512 channels, a
2×2 max pooling between stacks, and a linear classifier; other widths and lengths can be asked for. Inside a
cell a vertex sums what flows in, the output concatenates; edges from the cell's input, and only those, are
1×1 convolutions. Convolutions are without bias and followed by batch norm and ReLU; padding is TensorFlow's
SAME.

The benchmark has no string for a cell. Here it is its vertices in order, each as `operation:incoming`, where
vertex 0 is the input: `conv3x3-bn-relu:0 maxpool3x3:0,1 output:1,2`. Weights are called after
cell and vertex: `cells.8.v2.conv.weight`, `cells.8.v2.bn.bias`; those of an edge from the cell's input
`cells.8.v2.proj.…`, or `cells.8.out.proj.…` where it leads to the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from onnx_bench_dataset.drawing import Diagram, Edge, Kind, Node, Panel
from onnx_bench_dataset.errors import ArchitectureError
from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.graphs.cells import Layout, Sketch
from onnx_bench_dataset.graphs.chain import Chain
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.graphs.parts import Part, Shape
from onnx_bench_dataset.spaces.classifier import classifier
from onnx_bench_dataset.spaces.nasbench101_cells import (
    MAX_EDGES,
    MAX_VERTICES,
    OPERATIONS,
    Cell,
    enumerate_cells,
)
from onnx_bench_dataset.spaces.space import TabularSpace, checked_shape

_STACKS = 3
_OUTPUT = "output"


class NASBench101(TabularSpace):
    """The 423,624 cells of NAS-Bench-101; the defaults are the benchmark's own network."""

    name = "nasbench101"
    family = "nasbench101"

    def __init__(
        self, *, stem_channels: int = 128, cells_per_stack: int = 3, batch_norm_momentum: float = 0.997
    ) -> None:
        """Take the channels of the stem, which each further stack doubles, and the cells of a stack.

        A momentum close to 1 needs thousands of steps of training until running statistics are of use.
        """
        self._stem_channels = stem_channels
        self._cells_per_stack = cells_per_stack
        self._momentum = batch_norm_momentum

    def architectures(self) -> Sequence[str]:
        """Return all 423,624 architectures in the order of their hash; the first call takes seconds."""
        return [architecture for _, architecture in named_architectures()]

    def network(
        self,
        architecture: str,
        name: str = "",
        input_shape: Shape = (1, 3, 32, 32),
        num_classes: int = 10,
    ) -> Network:
        """Return the network of an architecture, vertices without influence on the output left out."""
        cell = parse(architecture)
        batch = checked_shape(input_shape, num_classes)[0]
        chain = Chain(input_shape)
        stem = _stem(input_shape, self._stem_channels, self._momentum)
        chain.add(stem, "stem.", _border(0))
        shape = stem.output_shape
        layouts: dict[tuple[int, ...], tuple[Layout, list[_Slot]]] = {}
        border = 0
        for stack in range(_STACKS):
            out_channels = self._stem_channels << stack
            if stack:
                border += 1
                downsample = _downsample(shape)
                chain.add(downsample, f"downsample.{stack}.", _border(border))
                shape = downsample.output_shape
            channels = vertex_channels(cell, out_channels)
            for module in range(self._cells_per_stack):
                channels[0] = shape[1]
                if module < 2:  # the third cell has the channels of the second
                    truncated = _truncations(cell, channels)
                    if truncated not in layouts:
                        layouts[truncated] = _wire(cell, channels, shape, self._momentum)
                    layout, slots = layouts[truncated]
                    piece = layout.cell(
                        [_part(kind, shape, channels[a], channels[b], self._momentum) for kind, a, b in slots]
                    )
                border += 1
                marks = {
                    _PREFIX.encode(): f"cells.{stack * self._cells_per_stack + module}.".encode(),
                    _SOURCE.encode(): chain.value.encode(),
                    _TARGET.encode(): _border(border).encode(),
                }
                chain.add_cell(piece, marks, _border(border))
                shape = (batch, out_channels, *shape[2:])
        chain.add(classifier(shape, num_classes), "", "output")
        return chain.finish((batch, num_classes), self.metadata(architecture, name))

    def diagram(self, architecture: str) -> Diagram:
        """Return the cell: its vertices and their edges."""
        cell = parse(architecture)
        nodes = [Node("input"), *(_PICTURED[operation] for operation in cell.operations), Node("output")]
        edges = [Edge(source, target) for target, sources in enumerate(cell.inputs, 1) for source in sources]
        return Diagram([Panel(nodes, edges)])


_PICTURED = {
    "conv1x1-bn-relu": Node("conv 1×1", Kind.CONV_1X1),
    "conv3x3-bn-relu": Node("conv 3×3", Kind.CONV_3X3),
    "maxpool3x3": Node("max pool 3×3", Kind.MAX_POOL),
}


@lru_cache(maxsize=1)
def named_architectures() -> tuple[tuple[str, str], ...]:
    """Return (cell hash, architecture) of all 423,624 cells, sorted by hash as the benchmark stores them."""
    return tuple((name, write(cell)) for name, cell in enumerate_cells())


def write(cell: Cell) -> str:
    """Return the architecture string of a cell; the inverse of `parse` for pruned cells.

    >>> write(Cell(inputs=((0,), (0, 1)), operations=("maxpool3x3",)))
    'maxpool3x3:0 output:0,1'
    """
    operations = (*cell.operations, _OUTPUT)
    return " ".join(
        f"{operation}:{','.join(map(str, sources))}"
        for operation, sources in zip(operations, cell.inputs, strict=True)
    )


def parse(architecture: str) -> Cell:
    """Return the cell of an architecture string without the vertices that cannot influence the output.

    Raises:
        ArchitectureError: the string is malformed, or the cell breaks a rule of the benchmark.
    """

    def refuse(position: int, rule: str) -> ArchitectureError:
        return ArchitectureError("nasbench101", architecture, position, rule)

    operations: list[str] = []
    inputs: list[tuple[int, ...]] = []
    position = 0
    for vertex, text in enumerate(architecture.split(" "), 1):
        operation, colon, sources = text.partition(":")
        if operation not in OPERATIONS and operation != _OUTPUT:
            raise refuse(
                position, f"an operation is expected here, one of {', '.join(OPERATIONS)}, or 'output'"
            )
        if operations and operations[-1] == _OUTPUT:
            raise refuse(position, "nothing may follow 'output'")
        if not colon:
            raise refuse(position + len(text), "':' and the incoming vertices are expected here")
        operations.append(operation)
        position += len(operation) + 1
        numbers: list[int] = []
        for number in sources.split(","):
            # isdecimal alone would let other scripts' digits pass
            if not (number.isascii() and number.isdecimal() and len(number) == 1 and int(number) < vertex):
                raise refuse(
                    position, f"vertex {vertex} reads vertices 0 to {vertex - 1}, separated by commas"
                )
            if numbers and int(number) <= numbers[-1]:
                raise refuse(position, "incoming vertices are listed once, in ascending order")
            numbers.append(int(number))
            position += len(number) + 1
        inputs.append(tuple(numbers))
        if vertex >= MAX_VERTICES:
            raise refuse(position - 1, f"a cell has at most {MAX_VERTICES} vertices")
    if operations[-1] != _OUTPUT:
        raise refuse(len(architecture), "the last vertex is called 'output'")
    cell = Cell(tuple(inputs), tuple(operations[:-1])).pruned()
    if cell is None:
        raise refuse(len(architecture), "no path leads from the input to the output")
    if cell.num_edges > MAX_EDGES:
        raise refuse(
            len(architecture), f"the cell has {cell.num_edges} edges, at most {MAX_EDGES} are allowed"
        )
    return cell


def vertex_channels(cell: Cell, out_channels: int) -> list[int]:
    """Return the number of channels that each vertex makes, vertex 0 not yet known.

    The output's channels are shared by the interior vertices that flow into it, the first ones taking one
    more where the division leaves a rest; any other vertex has as many as the widest that it flows into.
    """
    last = len(cell.inputs)
    channels = [0] * (last + 1)
    channels[last] = out_channels
    into_output = [vertex for vertex in cell.inputs[-1] if vertex]
    for rank, vertex in enumerate(into_output):
        share, rest = divmod(out_channels, len(into_output))
        channels[vertex] = share + (rank < rest)
    for vertex in range(last - 1, 0, -1):
        for source in cell.inputs[vertex - 1]:
            if source and source not in into_output:
                channels[source] = max(channels[source], channels[vertex])
    return channels


_Slot = tuple[str, int, int]  # what a part does, the vertex it reads, the vertex that sets its channels

_PREFIX = "cells.#."  # marks: a cell's own prefix, and the values at its borders
_SOURCE, _TARGET = "features.<<", "features.>>"


def _border(index: int) -> str:
    return f"features.{index:02d}"


def _truncations(cell: Cell, channels: Sequence[int]) -> tuple[int, ...]:
    """Channels that are left where a vertex reads one with more of them, edge by edge."""
    last = len(cell.inputs)
    return tuple(
        [
            channels[vertex]
            for vertex in range(1, last)
            for source in cell.inputs[vertex - 1]
            if source and channels[source] > channels[vertex]
        ]
    )


def _wire(cell: Cell, channels: Sequence[int], shape: Shape, momentum: float) -> tuple[Layout, list[_Slot]]:
    sketch = Sketch()
    slots: list[_Slot] = []

    def apply(kind: str, source: int, reads: int, makes: int, name: str) -> int:
        slots.append((kind, reads, makes))
        return sketch.apply(_part(kind, shape, channels[reads], channels[makes], momentum), source, name)

    last = len(cell.inputs)
    values = [0]
    for vertex in range(1, last):
        name = f"v{vertex}"
        terms = []
        for source in cell.inputs[vertex - 1]:
            if source and channels[source] > channels[vertex]:
                cut = apply("truncate", values[source], source, vertex, f"{name}.cut{source}")
                terms.append(cut)
            elif source:
                terms.append(values[source])
        if 0 in cell.inputs[vertex - 1]:
            terms.append(apply("conv1x1-bn-relu", 0, 0, vertex, f"{name}.proj"))
        total = sketch.sum(terms, f"{name}.sum")
        values.append(apply(cell.operations[vertex - 1], total, vertex, vertex, name))
    interior = [values[source] for source in cell.inputs[-1] if source]
    terms = []
    if len(interior) > 1:
        terms.append(sketch.join("Concat", interior, "out.concat", axis=1))
    elif interior:
        terms.append(interior[0])
    if 0 in cell.inputs[-1]:
        terms.append(apply("conv1x1-bn-relu", 0, 0, last, "out.proj"))
    return sketch.layout(sketch.sum(terms, "out"), _PREFIX, _SOURCE, _TARGET), slots


@lru_cache(maxsize=8192)
def _part(kind: str, image: Shape, in_channels: int, out_channels: int, momentum: float) -> Part:
    """Return an operation on an image of the size of `image`, from so many channels to so many."""

    def convolution(g: GraphBuilder) -> str:
        kernel = 3 if kind == "conv3x3-bn-relu" else 1
        return _conv_bn_relu(g, in_channels, out_channels, kernel, momentum)

    def max_pool(g: GraphBuilder) -> str:
        return _max_pool(g, "pool", 3, 1, [1, 1, 1, 1])

    def truncate(g: GraphBuilder) -> str:
        return g.op(
            "Slice", g.input, g.constant([0]), g.constant([out_channels]), g.constant([1]), name="slice"
        )

    body = {"maxpool3x3": max_pool, "truncate": truncate}.get(kind, convolution)
    return Part(body, (image[0], in_channels, *image[2:]))


def _conv_bn_relu(g: GraphBuilder, in_channels: int, out_channels: int, kernel: int, momentum: float) -> str:
    x = g.conv(g.input, "conv", in_channels, out_channels, kernel)
    x = g.batch_norm(x, "bn", out_channels, momentum=momentum)
    return g.op("Relu", x, name="relu")


def _max_pool(g: GraphBuilder, name: str, kernel: int, stride: int, pads: Sequence[int]) -> str:
    return g.op(
        "MaxPool",
        g.input,
        name=name,
        ceil_mode=0,
        dilations=[1, 1],
        kernel_shape=[kernel, kernel],
        pads=pads,
        strides=[stride, stride],
    )


@lru_cache(maxsize=16)
def _stem(shape: Shape, out_channels: int, momentum: float) -> Part:
    return Part(lambda g: _conv_bn_relu(g, shape[1], out_channels, 3, momentum), shape)


@lru_cache(maxsize=16)
def _downsample(shape: Shape) -> Part:
    """Halve the image; SAME padding adds a row or column at the end where its size is odd."""
    pads = [0, 0, shape[2] % 2, shape[3] % 2]
    return Part(lambda g: _max_pool(g, "downsample", 2, 2, pads), shape)
