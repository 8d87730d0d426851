"""NAS-Bench-Macro: eight layers, each one of three blocks (arXiv 2103.11922).

An architecture is a string of eight digits, one for every layer: 0 is the identity, 1 and 2 are inverted
bottlenecks as in MobileNetV2, with a kernel of 3 and three times the channels inside, or a kernel of 5 and
six times. The stem has 32 channels; three stages of two, three and three layers have 64, 128 and 256. The
first layer of a stage halves the image, and there the identity is a 1×1 convolution with batch norm. A 1×1
convolution to 1280 channels, global pooling and a linear classifier follow. Activations are ReLU; none
follows the last convolution of a block.

Weights are called as the official PyTorch network (xiusu/NAS-Bench-Macro) calls them. Identities within a
stage can change places with its other layers without changing the network: the 6,561 strings are 3,969
networks, and the benchmark trained each of those only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

from onnx_bench_dataset.drawing import Diagram, Kind, Node, chain
from onnx_bench_dataset.errors import ArchitectureError
from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.graphs.chain import Chain
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.graphs.parts import Part, Shape
from onnx_bench_dataset.spaces.classifier import classifier
from onnx_bench_dataset.spaces.space import TabularSpace, checked_shape

IDENTITY = "0"
BOTTLENECKS = {"1": (3, 3), "2": (5, 6)}
"""Kernel and expansion ratio of the blocks that convolve."""

STAGES = (2, 3, 3)
"""Layers of every stage."""

_BLOCKS = (IDENTITY, *BOTTLENECKS)
_LAYERS = sum(STAGES)
_STEM_CHANNELS = 32
_LAST_CHANNELS = 1280


class NASBenchMacro(TabularSpace):
    """The 6,561 architectures of NAS-Bench-Macro."""

    name = "nasbench_macro"
    family = "nasbench_macro"

    def architectures(self) -> Sequence[str]:
        """Return all 6,561 architectures in the order of their digits."""
        return _all_architectures()

    def network(
        self,
        architecture: str,
        name: str = "",
        input_shape: Shape = (1, 3, 32, 32),
        num_classes: int = 10,
    ) -> Network:
        """Return the network of an architecture; where a size is odd, half of it is rounded up."""
        blocks = iter(enumerate(parse(architecture)))
        batch = checked_shape(input_shape, num_classes)[0]
        chain = Chain(input_shape)
        part = _conv_bn_relu(input_shape, _STEM_CHANNELS, 3)
        chain.add(part, "stem.", "stem")
        shape = part.output_shape
        for count in STAGES:
            for place in range(count):
                layer, block = next(blocks)
                if place and block == IDENTITY:
                    continue
                part = _block(block, shape, halves=not place)
                chain.add(part, f"features.{layer}.", f"features.{layer}")
                shape = part.output_shape
        part = _conv_bn_relu(shape, _LAST_CHANNELS, 1)
        chain.add(part, "out.", "out")
        chain.add(classifier(part.output_shape, num_classes), "", "output")
        return chain.finish((batch, num_classes), self.metadata(architecture, name))

    def diagram(self, architecture: str) -> Diagram:
        """Return the layers with the block of each, which is as wide as it has channels."""
        blocks = iter(parse(architecture))
        nodes = [Node("input"), Node(f"conv 3×3, {_STEM_CHANNELS}", Kind.CONV_3X3)]
        for stage, count in enumerate(STAGES, 1):
            channels = _STEM_CHANNELS << stage
            for place in range(count):
                label, kind = _PICTURED[next(blocks)]
                if not place:
                    label = f"{'conv 1×1' if label == 'identity' else label} /2, {channels}"
                    kind = Kind.CONV_1X1 if kind is Kind.SKIP else kind
                nodes.append(Node(label, kind, stage / len(STAGES)))
        last = Node(f"conv 1×1, {_LAST_CHANNELS}", Kind.CONV_1X1)
        return Diagram([chain([*nodes, last, Node("classifier", Kind.LINEAR)])])


_PICTURED = {
    "0": ("identity", Kind.SKIP),
    "1": ("MB3 3×3", Kind.SEPARABLE_3X3),
    "2": ("MB6 5×5", Kind.SEPARABLE_5X5),
}


def parse(architecture: str) -> str:
    """Return the blocks of the layers, a digit for each.

    Raises:
        ArchitectureError: the string is not eight of the digits 0, 1 and 2.

    >>> parse("02012100")
    '02012100'
    """
    for position, block in enumerate(architecture[:_LAYERS]):
        if block not in _BLOCKS:
            rule = f"the block of layer {position + 1} is expected here, one of {', '.join(_BLOCKS)}"
            raise ArchitectureError("nasbench_macro", architecture, position, rule)
    if len(architecture) != _LAYERS:
        rule = f"there are {_LAYERS} layers, not {len(architecture)}"
        raise ArchitectureError("nasbench_macro", architecture, min(len(architecture), _LAYERS), rule)
    return architecture


@lru_cache(maxsize=1)
def _all_architectures() -> tuple[str, ...]:
    return tuple(map("".join, product(_BLOCKS, repeat=_LAYERS)))


@lru_cache(maxsize=256)
def _block(block: str, shape: Shape, halves: bool) -> Part:
    """Return a block; where it halves the image, it doubles the channels and has no residual connection."""
    channels = shape[1]
    out_channels, stride = (2 * channels, 2) if halves else (channels, 1)

    def downsample(g: GraphBuilder) -> str:
        x = g.conv(g.input, "downsample.0", channels, out_channels, 1, stride)
        return g.batch_norm(x, "downsample.1", out_channels)

    def bottleneck(g: GraphBuilder) -> str:
        kernel, expansion = BOTTLENECKS[block]
        inside = expansion * channels
        x = g.conv(g.input, "conv.0", channels, inside, 1)
        x = g.op("Relu", g.batch_norm(x, "conv.1", inside), name="conv.2")
        x = _depthwise(g, x, "conv.3", inside, kernel, stride)
        x = g.op("Relu", g.batch_norm(x, "conv.4", inside), name="conv.5")
        x = g.batch_norm(g.conv(x, "conv.6", inside, out_channels, 1), "conv.7", out_channels)
        return x if halves else g.op("Add", x, g.input, name="sum")

    return Part(downsample if block == IDENTITY else bottleneck, shape)


def _depthwise(g: GraphBuilder, x: str, name: str, channels: int, kernel: int, stride: int) -> str:
    """Add a convolution of every channel by itself."""
    return g.op(
        "Conv",
        x,
        g.weight(f"{name}.weight", channels, 1, kernel, kernel),
        name=name,
        dilations=[1, 1],
        group=channels,
        kernel_shape=[kernel, kernel],
        pads=[kernel // 2] * 4,
        strides=[stride, stride],
    )


@lru_cache(maxsize=16)
def _conv_bn_relu(shape: Shape, out_channels: int, kernel: int) -> Part:
    def write(g: GraphBuilder) -> str:
        x = g.batch_norm(g.conv(g.input, "0", shape[1], out_channels, kernel), "1", out_channels)
        return g.op("Relu", x, name="2")

    return Part(write, shape)
