"""The NAS-Bench-101 network in PyTorch: what the ONNX graphs of the space are checked against.

Written from the facts of the published TensorFlow code (google-research/nasbench) and sharing nothing with
the package under test, so that a mistake has to be made twice to go unseen.

Facts worth knowing when reading it:

* An interior vertex adds its inputs; the output vertex concatenates them. What comes from the cell's input
  first goes through a 1x1 convolution, batch norm and ReLU, and is added even at the output.
* The channels of a cell are shared out among the vertices that feed its output. A remainder goes to the
  first of them, one channel each, so a vertex can have one channel more than the one it feeds: the last
  channel is then dropped.
* TensorFlow's SAME padding puts the odd row and column at the end, and no padding ever wins a max pool.
"""

from __future__ import annotations

import functools
import operator

import torch
from reference_weights import randomized
from torch import Tensor, nn
from torch.nn import functional

STACKS = 3
MODULES_PER_STACK = 3
STEM_CHANNELS = 128
# TensorFlow's momentum, 0.997, is the share that is kept; PyTorch's is the share that is replaced.
MOMENTUM = 1 - 0.997
KERNEL_SIZES = {"conv3x3-bn-relu": 3, "conv1x1-bn-relu": 1}


def parse(architecture: str) -> tuple[list[str], list[list[int]]]:
    """Return the operation and the incoming vertices of every vertex after the input, the output last."""
    operations, sources = [], []
    for vertex in architecture.split(" "):
        operation, _, incoming = vertex.partition(":")
        operations.append(operation)
        sources.append([int(source) for source in incoming.split(",")])
    return operations, sources


def vertex_channels(sources: list[list[int]], channels: int) -> dict[int, int]:
    """Return the channels of every interior vertex of a cell that has `channels` output channels."""
    output = len(sources)
    feeding_output = sorted(source for source in sources[-1] if source != 0)
    widths: dict[int, int] = {}
    for position, vertex in enumerate(feeding_output):
        share, remainder = divmod(channels, len(feeding_output))
        widths[vertex] = share + (position < remainder)
    for vertex in range(output - 1, 0, -1):
        if vertex not in widths:
            fed = [later for later in range(vertex + 1, output) if vertex in sources[later - 1]]
            widths[vertex] = max(widths[later] for later in fed)
    return widths


class ConvBatchNormRelu(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels_out, eps=1e-5, momentum=MOMENTUM)

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(images)))


class Cell(nn.Module):
    """One module of the network: the searched graph, with weights of its own."""

    def __init__(self, architecture: str, channels_in: int, channels_out: int) -> None:
        super().__init__()
        operations, self.sources = parse(architecture)
        self.widths = vertex_channels(self.sources, channels_out)
        for vertex, (operation, incoming) in enumerate(zip(operations, self.sources, strict=True), start=1):
            is_output = vertex == len(operations)
            width = channels_out if is_output else self.widths[vertex]
            if is_output:
                layer: nn.Module = nn.Module()
            elif operation == "maxpool3x3":
                layer = nn.MaxPool2d(3, stride=1, padding=1)
            else:
                layer = ConvBatchNormRelu(width, width, KERNEL_SIZES[operation])
            if 0 in incoming:
                layer.proj = ConvBatchNormRelu(channels_in, width, 1)
            self.add_module("out" if is_output else f"v{vertex}", layer)

    def forward(self, images: Tensor) -> Tensor:
        values = [images]
        for vertex, incoming in enumerate(self.sources[:-1], start=1):
            layer = self.get_submodule(f"v{vertex}")
            width = self.widths[vertex]
            parts = [
                values[source][:, :width] if self.widths[source] > width else values[source]
                for source in incoming
                if source != 0
            ]
            if 0 in incoming:
                parts.append(layer.proj(images))
            values.append(layer(functools.reduce(operator.add, parts)))
        joined = [values[source] for source in sorted(self.sources[-1]) if source != 0]
        parts = [torch.cat(joined, dim=1) if len(joined) > 1 else joined[0]] if joined else []
        if 0 in self.sources[-1]:
            parts.append(self.out.proj(images))
        return functools.reduce(operator.add, parts)


class Network(nn.Module):
    """Stem, three stacks of three cells with a max pool between stacks, global average pool, classifier."""

    def __init__(self, architecture: str, num_classes: int = 10, image_channels: int = 3) -> None:
        super().__init__()
        self.stem = ConvBatchNormRelu(image_channels, STEM_CHANNELS, 3)
        self.cells = nn.ModuleList()
        channels = STEM_CHANNELS
        for stack in range(STACKS):
            for module in range(MODULES_PER_STACK):
                channels_in = channels // 2 if stack > 0 and module == 0 else channels
                self.cells.append(Cell(architecture, channels_in, channels))
            channels *= 2
        # An odd last row or column is pooled by itself.
        self.halve = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.classifier = nn.Linear(channels // 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        values = self.stem(images)
        for number, cell in enumerate(self.cells):
            if number in (MODULES_PER_STACK, 2 * MODULES_PER_STACK):
                values = self.halve(values)
            values = cell(values)
        return self.classifier(values.mean(dim=(2, 3)))


def network(architecture: str, seed: int, num_classes: int = 10, image_channels: int = 3) -> Network:
    """Return the network in inference mode with random weights, of which each one shows in the output."""
    return randomized(lambda: Network(architecture, num_classes, image_channels), image_channels, seed)
