"""Hierarchical NAS-Bench-201: networks derived from a grammar, from macro layout to activation (2211.01842).

The network has a stem of 16 channels, what the term describes, and a linear classifier behind batch norm and
ReLU. Every term halves the image twice and doubles the channels twice, on all paths, by the residual block
`resBlock` of NAS-Bench-201. A block of convolution is activation, convolution without bias, normalization.
Layer normalization has its mean, scale and offset over all of C, H and W, so the image size is part of a
network. The published code makes that scale and offset when the first images arrive and counts them as
parameters, though its optimizer, made before, leaves them at 1 and 0. Instance normalization keeps no running
statistics.

Facts from the published code (automl/hierarchical_nas_construction and the branch `hnas` of automl/neps),
whose state_dict names the weights: `module_list`, then the position of the edge.
"""

from __future__ import annotations

import random
from collections import defaultdict

from onnx_bench_dataset.drawing import Diagram
from onnx_bench_dataset.errors import ShapeError
from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.graphs.parts import Shape
from onnx_bench_dataset.spaces.hnasbench201_diagram import diagram
from onnx_bench_dataset.spaces.hnasbench201_grammar import draw, parse, write
from onnx_bench_dataset.spaces.hnasbench201_wiring import wire
from onnx_bench_dataset.spaces.space import Space, checked_shape

_ACTIVATIONS = {"relu": "Relu", "hardswish": "HardSwish", "mish": "Mish"}


class HNASBench201(Space):
    """The 10^446 terms of the hierarchical NAS-Bench-201 grammar.

    The default is the benchmark's own network.
    """

    name = "hnasbench201"
    family = "hnasbench201"

    def __init__(self, *, stem_channels: int = 16) -> None:
        """Take the channels of the stem, which every halving of the image doubles."""
        self._stem_channels = stem_channels

    def network(
        self,
        architecture: str,
        name: str = "",
        input_shape: Shape = (1, 3, 32, 32),
        num_classes: int = 10,
    ) -> Network:
        """Return the network of a term; height and width must be divisible by 4."""
        edges = wire(parse(architecture))
        batch, channels, height, width = checked_shape(input_shape, num_classes)
        if height % 4 or width % 4:
            raise ShapeError(
                f"hierarchical NAS-Bench-201 halves the image twice: {height}×{width} is not divisible by 4 "
                "both ways"
            )
        g = GraphBuilder(input_shape)
        stem = g.conv(g.input, "module_list.0.seq.0", channels, self._stem_channels, 3)
        incoming = defaultdict(list)
        incoming[edges[0].source].append(g.batch_norm(stem, "module_list.0.seq.1", self._stem_channels))
        shapes: dict[int, Shape] = {edges[0].source: (batch, self._stem_channels, height, width)}
        for number, (source, target, operation) in enumerate(edges, 1):
            shape = shapes[source]
            x = _sum(g, incoming[source], f"node.{source}")
            incoming[source] = [x]
            incoming[target].append(_operation(g, x, operation, f"module_list.{number}", shape))
            shapes[target] = _halved(shape) if operation == "resBlock" else shape
        last = edges[-1].target
        x = _sum(g, incoming[last], f"node.{last}")
        output = _classifier(g, x, f"module_list.{len(edges) + 1}.op", shapes[last][1], num_classes)
        return Network.from_model(g.model(output, self.metadata(architecture, name)))

    def diagram(self, architecture: str) -> Diagram:
        """Return the wiring with a letter for each cell, and the cells with operations on their edges."""
        return diagram(parse(architecture))

    def sample(self, count: int, seed: int) -> list[str]:
        """Draw `count` different terms as the benchmark does, the same ones for the same seed.

        Every production of a nonterminal is equally likely, and `zero` is left out where it would cut a cell
        in two. The random numbers are not those that the published code draws from the same seed.
        """
        generator = random.Random(seed)
        drawn: dict[str, None] = {}
        while len(drawn) < count:
            drawn[write(draw(generator))] = None
        return list(drawn)


def _sum(g: GraphBuilder, terms: list[str], name: str) -> str:
    """Add values from left to right."""
    total = terms[0]
    for count, term in enumerate(terms[1:], 1):
        total = g.op("Add", total, term, name=name if count == len(terms) - 1 else f"{name}.{count}")
    return total


def _halved(shape: Shape) -> Shape:
    batch, channels, height, width = shape
    return batch, 2 * channels, height // 2, width // 2


def _operation(g: GraphBuilder, x: str, operation: str, name: str, shape: Shape) -> str:
    """Write what an edge carries, reading `x` of the given shape."""
    channels = shape[1]
    if operation == "id":
        return x
    if operation in _ACTIVATIONS:
        return g.op(_ACTIVATIONS[operation], x, name=f"{name}.act")
    if operation == "avg_pool":
        return _avg_pool(g, x, f"{name}.op", kernel=3, stride=1, count_include_pad=0)
    if operation == "resBlock":
        return _residual_block(g, x, name, channels)
    if operation == "dconv3x3o":
        return _depthwise_conv(g, x, f"{name}.conv", channels)
    if operation in ("conv1x1o", "conv3x3o"):
        return g.conv(x, f"{name}.conv", channels, channels, int(operation[4]))
    return _normalization(g, x, operation, f"{name}.norm", shape)


def _normalization(g: GraphBuilder, x: str, kind: str, name: str, shape: Shape) -> str:
    if kind == "batch":
        return g.batch_norm(x, name, shape[1])
    if kind == "instance":
        if shape[2:] == (1, 1):
            raise ShapeError("instance normalization cannot be made of 1×1 features: take a larger image")
        scale, offset = g.weight(f"{name}.weight", shape[1]), g.weight(f"{name}.bias", shape[1])
        return g.op("InstanceNormalization", x, scale, offset, name=name, epsilon=1e-5)
    scale, offset = g.weight(f"{name}.weight", *shape[1:]), g.weight(f"{name}.bias", *shape[1:])
    return g.op("LayerNormalization", x, scale, offset, name=name, axis=1, epsilon=1e-5, stash_type=1)


def _depthwise_conv(g: GraphBuilder, x: str, name: str, channels: int) -> str:
    return g.op(
        "Conv",
        x,
        g.weight(f"{name}.weight", channels, 1, 3, 3),
        name=name,
        dilations=[1, 1],
        group=channels,
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        strides=[1, 1],
    )


def _avg_pool(g: GraphBuilder, x: str, name: str, *, kernel: int, stride: int, count_include_pad: int) -> str:
    return g.op(
        "AveragePool",
        x,
        name=name,
        ceil_mode=0,
        count_include_pad=count_include_pad,
        kernel_shape=[kernel, kernel],
        pads=[(kernel - stride) // 2] * 4,
        strides=[stride, stride],
    )


def _residual_block(g: GraphBuilder, x: str, name: str, channels: int) -> str:
    """Two 3×3 convolutions that halve the image and double the channels, beside a pooled 1×1 convolution."""
    y = x
    for part, in_channels, stride in (("conv_a", channels, 2), ("conv_b", 2 * channels, 1)):
        y = g.op("Relu", y, name=f"{name}.{part}.op.0")
        y = g.conv(y, f"{name}.{part}.op.1", in_channels, 2 * channels, 3, stride)
        y = g.batch_norm(y, f"{name}.{part}.op.2", 2 * channels)
    pooled = _avg_pool(g, x, f"{name}.downsample.0", kernel=2, stride=2, count_include_pad=1)
    shortcut = g.conv(pooled, f"{name}.downsample.1", channels, 2 * channels, 1)
    return g.op("Add", shortcut, y, name=f"{name}.sum")


def _classifier(g: GraphBuilder, x: str, name: str, channels: int, num_classes: int) -> str:
    x = g.batch_norm(x, f"{name}.0", channels)
    x = g.op("Relu", x, name=f"{name}.1")
    x = g.op("GlobalAveragePool", x, name=f"{name}.2")
    x = g.op("Flatten", x, name=f"{name}.3", axis=1)
    weight, bias = (
        g.weight(f"{name}.4.weight", num_classes, channels),
        g.weight(f"{name}.4.bias", num_classes),
    )
    return g.op("Gemm", x, weight, bias, name="output", alpha=1.0, beta=1.0, transB=1)
