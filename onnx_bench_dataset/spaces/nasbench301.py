"""NAS-Bench-301: the cells of DARTS, trained on CIFAR-10 (arXiv 2008.09777; DARTS: arXiv 1806.09055).

An architecture is a genotype: a normal cell and a reduction cell. A cell reads the two cells before it, as
nodes 0 and 1; each of its nodes 2 to 5 adds two edges from different earlier nodes, and the cell's output
joins these four along the channels. The network is a stem of 96 channels, eight cells and a linear
classifier; cells 2 and 5 are reduction cells, which halve the image, and the nodes of a cell have 32, 64 or
128 channels. Networks of other sizes can be asked for: the cells after one third and two thirds reduce, the
stem has three times the channels of the first nodes, as in DARTS. Operations put ReLU first, separable
convolutions are applied twice, pooling has no batch norm.

Weights are called as the official PyTorch network calls them. Drop-path and the auxiliary head, which the
benchmark trained with, are not there: they do nothing at evaluation. The benchmark's parameter counts include
that head, which has `AUXILIARY_PARAMS` of them.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import NamedTuple

from onnx_bench_dataset.drawing import Diagram, Kind, Node, Panel
from onnx_bench_dataset.drawing import Edge as Line
from onnx_bench_dataset.errors import ShapeError
from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.graphs.cells import Sketch
from onnx_bench_dataset.graphs.chain import Chain
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.graphs.parts import Part, Shape
from onnx_bench_dataset.spaces.classifier import classifier
from onnx_bench_dataset.spaces.nasbench301_genotypes import NODES, OPERATIONS, Edge, Genotype, parse, write
from onnx_bench_dataset.spaces.space import Space, checked_shape

AUXILIARY_PARAMS = 468_234
"""Parameters of the auxiliary head behind the second reduction cell, for ten classes."""

_STEM_CHANNELS = 3  # times those of a node in the first cell


class NASBench301(Space):
    """The DARTS space: 10^18 pairs of cells, of which NAS-Bench-301 trained 57,189.

    The defaults are the benchmark's own network.
    """

    name = "nasbench301"
    family = "nasbench301"

    def __init__(self, *, channels: int = 32, num_cells: int = 8) -> None:
        """Take the channels of a node in the first cell, an even number, and the cells, three or more."""
        self._channels = channels
        self._num_cells = num_cells

    def network(
        self,
        architecture: str,
        name: str = "",
        input_shape: Shape = (1, 3, 32, 32),
        num_classes: int = 10,
    ) -> Network:
        """Return the network of a genotype; height and width must be divisible by 4."""
        genotype = parse(architecture)
        batch, _, height, width = checked_shape(input_shape, num_classes)
        if height % 4 or width % 4:
            raise ShapeError(
                f"NAS-Bench-301 halves the image twice: {height}×{width} is not divisible by 4 both ways"
            )
        chain = Chain(input_shape)
        stem = _stem(input_shape, _STEM_CHANNELS * self._channels)
        chain.add(stem, "stem.", "stem")
        body = _Body(stem.output_shape)
        reductions = (self._num_cells // 3, 2 * self._num_cells // 3)
        for index in range(self._num_cells):
            channels = self._channels << sum(index >= first for first in reductions)
            body.add_cell(index, genotype, channels, is_reduction=index in reductions)
        output = body.last
        target = f"cells.{self._num_cells - 1}"
        layout = body.sketch.layout(output.number, "", chain.value, target)
        chain.add_cell(layout.cell(body.parts), {}, target)
        chain.add(classifier(output.shape, num_classes), "", "output")
        network = chain.finish((batch, num_classes), self.metadata(architecture, name))
        if any(edge.operation == "none" for cell in genotype for edge in cell):
            # zeros may vanish into the convolution before them, across the border of a part
            return Network.from_model(network.model())
        return network

    def sample(self, count: int, seed: int) -> list[str]:
        """Draw `count` different genotypes, the same ones for the same seed.

        As the benchmark's own random sampling does, all pairs of incoming edges and all operations but
        `none` are equally likely.
        """
        # of its methods, only this one promises the same numbers in every version of Python
        draw = random.Random(seed).random
        drawn: dict[str, None] = {}
        while len(drawn) < count:
            cells = []
            for _ in range(2):
                edges = []
                for node in NODES:
                    pairs = [(a, b) for b in range(node) for a in range(b)]
                    for source in pairs[int(draw() * len(pairs))]:
                        operation = OPERATIONS[1 + int(draw() * (len(OPERATIONS) - 1))]
                        edges.append(Edge(operation, source))
                cells.append(tuple(edges))
            drawn[write(Genotype(*cells))] = None
        return list(drawn)

    def diagram(self, architecture: str) -> Diagram:
        """Return both cells: nodes, and the operations on the edges between them."""
        normal, reduction = parse(architecture)
        return Diagram([_panel("normal cell", normal), _panel("reduction cell", reduction)])


_PICTURED = {
    "none": ("none", Kind.NONE),
    "max_pool_3x3": ("max pool 3×3", Kind.MAX_POOL),
    "avg_pool_3x3": ("avg pool 3×3", Kind.AVERAGE_POOL),
    "skip_connect": ("skip", Kind.SKIP),
    "sep_conv_3x3": ("sep conv 3×3", Kind.SEPARABLE_3X3),
    "sep_conv_5x5": ("sep conv 5×5", Kind.SEPARABLE_5X5),
    "dil_conv_3x3": ("dil conv 3×3", Kind.DILATED_3X3),
    "dil_conv_5x5": ("dil conv 5×5", Kind.DILATED_5X5),
}


def _panel(title: str, cell: tuple[Edge, ...]) -> Panel:
    """Return how a cell is drawn, with the names and numbers that DARTS gives its nodes."""
    labels = ["cₖ₋₂", "cₖ₋₁", *(str(node - NODES[0]) for node in NODES), "cₖ"]
    lines = [
        Line(edge.source, NODES[number // 2], *_PICTURED[edge.operation]) for number, edge in enumerate(cell)
    ]
    joined = [Line(node, NODES[-1] + 1) for node in NODES]
    return Panel([Node(label) for label in labels], [*lines, *joined], title)


class _Value(NamedTuple):
    number: int  # in the sketch
    shape: Shape


class _Body:
    """The cells as they are being wired, one after another; the stem's output is value 0."""

    def __init__(self, stem_shape: Shape) -> None:
        self.sketch = Sketch()
        self.parts: list[Part] = []
        self.last = _Value(0, stem_shape)
        self._before = self.last

    def add_cell(self, index: int, genotype: Genotype, channels: int, *, is_reduction: bool) -> None:
        name = f"cells.{index}"
        values = []
        for number, value in enumerate((self._before, self.last)):
            reads = f"{name}.preprocess{number}"
            if value.shape[2:] == self.last.shape[2:]:
                values.append(self._relu_conv("conv_1x1", value, f"{reads}.op", channels))
            else:
                values.append(self._factorized_reduce(value, reads, channels))
        edges = genotype.reduce if is_reduction else genotype.normal
        for node in NODES:
            terms = []
            for number in (2 * node - 4, 2 * node - 3):
                edge = edges[number]
                stride = 2 if is_reduction and edge.source < 2 else 1
                term = self._operation(edge, stride, values[edge.source], f"{name}._ops.{number}")
                terms.append((edge.source, term))
            # whatever the order of the edges is, the graph is the same
            numbers = [term.number for _, term in sorted(terms)]
            values.append(_Value(self.sketch.sum(numbers, f"{name}.node{node}"), terms[0][1].shape))
        joined = [values[node] for node in NODES]
        batch, _, *image = joined[0].shape
        output = self.sketch.join("Concat", [value.number for value in joined], name, axis=1)
        self._before, self.last = self.last, _Value(output, (batch, len(joined) * channels, *image))

    def _operation(self, edge: Edge, stride: int, value: _Value, name: str) -> _Value:
        if edge.operation == "skip_connect":
            return value if stride == 1 else self._factorized_reduce(value, name, value.shape[1])
        if "conv" in edge.operation:
            return self._relu_conv(edge.operation, value, f"{name}.op", value.shape[1], stride)
        return self._apply(edge.operation, value, name, value.shape[1], stride)

    def _relu_conv(
        self, operation: str, value: _Value, name: str, out_channels: int, stride: int = 1
    ) -> _Value:
        # equal ReLUs, slices and pools are one in inference form, so they are parts of their own
        relu = self._apply("relu", value, f"{name}.0", value.shape[1])
        return self._apply(operation, relu, name, out_channels, stride)

    def _factorized_reduce(self, value: _Value, name: str, out_channels: int) -> _Value:
        """Halve the image with two convolutions, the second of them moved by a pixel both ways."""
        relu = self._apply("relu", value, f"{name}.relu", value.shape[1])
        moved = self._apply("factorized_reduce.slice", relu, f"{name}.slice", value.shape[1])
        halves = [
            self._apply("factorized_reduce.conv", source, f"{name}.{half}", out_channels // 2, 2)
            for source, half in ((relu, "conv_1"), (moved, "conv_2"))
        ]
        joined = self.sketch.join("Concat", [half.number for half in halves], f"{name}.concat", axis=1)
        shape = (value.shape[0], out_channels, *halves[0].shape[2:])
        return self._apply("factorized_reduce.bn", _Value(joined, shape), f"{name}.bn", out_channels)

    def _apply(self, operation: str, value: _Value, name: str, out_channels: int, stride: int = 1) -> _Value:
        part = _part(operation, value.shape, out_channels, stride)
        self.parts.append(part)
        return _Value(self.sketch.apply(part, value.number, name), part.output_shape)


@lru_cache(maxsize=1024)
def _part(operation: str, shape: Shape, out_channels: int, stride: int) -> Part:
    """Return an operation on values of `shape`; names in it are those that PyTorch's modules give."""
    channels, image = shape[1], list(shape[2:])

    def relu(g: GraphBuilder) -> str:
        return g.op("Relu", g.input, name="relu")

    def conv_1x1(g: GraphBuilder) -> str:
        x = g.conv(g.input, "1", channels, out_channels, 1)
        return g.batch_norm(x, "2", out_channels)

    def conv_of_factorized_reduce(g: GraphBuilder) -> str:
        return _conv(g, g.input, "", out_channels, channels, 1, stride)

    def norm_of_factorized_reduce(g: GraphBuilder) -> str:
        tensors = [g.weight(name, channels) for name in ("weight", "bias", "running_mean", "running_var")]
        return g.op("BatchNormalization", g.input, *tensors, name="bn", epsilon=1e-5, momentum=0.9)

    def without_first_pixels(g: GraphBuilder) -> str:
        ones, ends, axes = g.constant([1, 1]), g.constant(image), g.constant([2, 3])
        return g.op("Slice", g.input, ones, ends, axes, name="slice")

    def sep_conv(g: GraphBuilder) -> str:
        x = _separable_conv(g, g.input, 1, channels, int(operation[-1]), stride)
        x = g.op("Relu", x, name="4")
        return _separable_conv(g, x, 5, channels, int(operation[-1]))

    def dil_conv(g: GraphBuilder) -> str:
        return _separable_conv(g, g.input, 1, channels, int(operation[-1]), stride, dilation=2)

    def avg_pool(g: GraphBuilder) -> str:
        return g.op("AveragePool", g.input, name="pool", count_include_pad=0, **window)

    def max_pool(g: GraphBuilder) -> str:
        return g.op("MaxPool", g.input, name="pool", dilations=[1, 1], **window)

    def none(g: GraphBuilder) -> str:
        x = g.input
        if stride > 1:
            zeros, ends, axes = g.constant([0, 0]), g.constant(image), g.constant([2, 3])
            x = g.op("Slice", x, zeros, ends, axes, g.constant([stride, stride]), name="slice")
        return g.op("Mul", x, g.constant(0.0), name="zero")

    window = {"ceil_mode": 0, "kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [stride, stride]}
    bodies = {
        "none": none,
        "max_pool_3x3": max_pool,
        "avg_pool_3x3": avg_pool,
        "sep_conv_3x3": sep_conv,
        "sep_conv_5x5": sep_conv,
        "dil_conv_3x3": dil_conv,
        "dil_conv_5x5": dil_conv,
        "relu": relu,
        "conv_1x1": conv_1x1,
        "factorized_reduce.slice": without_first_pixels,
        "factorized_reduce.conv": conv_of_factorized_reduce,
        "factorized_reduce.bn": norm_of_factorized_reduce,
    }
    return Part(bodies[operation], shape)


def _separable_conv(
    g: GraphBuilder, x: str, first: int, channels: int, kernel: int, stride: int = 1, dilation: int = 1
) -> str:
    """A convolution of every channel by itself, a 1×1 convolution, batch norm; numbered from `first` on."""
    x = _conv(g, x, f"{first}.", channels, 1, kernel, stride, dilation, channels)
    x = g.conv(x, f"{first + 1}", channels, channels, 1)
    return g.batch_norm(x, f"{first + 2}", channels)


def _conv(
    g: GraphBuilder,
    x: str,
    prefix: str,
    out_channels: int,
    channels_per_group: int,
    kernel: int,
    stride: int,
    dilation: int = 1,
    group: int = 1,
) -> str:
    """A square convolution without bias that leaves the image its size, but for the stride."""
    return g.op(
        "Conv",
        x,
        g.weight(f"{prefix}weight", out_channels, channels_per_group, kernel, kernel),
        name=f"{prefix}conv",
        dilations=[dilation, dilation],
        group=group,
        kernel_shape=[kernel, kernel],
        pads=[dilation * (kernel // 2)] * 4,
        strides=[stride, stride],
    )


@lru_cache(maxsize=16)
def _stem(shape: Shape, out_channels: int) -> Part:
    def write_stem(g: GraphBuilder) -> str:
        x = g.conv(g.input, "0", shape[1], out_channels, 3)
        return g.batch_norm(x, "1", out_channels)

    return Part(write_stem, shape)
