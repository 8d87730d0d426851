"""The NAS-Bench-201 network in PyTorch: what the ONNX graphs of the space are checked against.

Written from the facts of the published code (D-X-Y/AutoDL-Projects) and sharing nothing with the package
under test, so that a mistake has to be made twice to go unseen. The names in its state_dict are those of
the published checkpoints.
"""

from __future__ import annotations

import functools
import operator

from reference_weights import randomized
from torch import Tensor, nn

CHANNELS = 16
CELLS_PER_STAGE = 5
MOMENTUM = 0.1


def parse(architecture: str) -> list[list[tuple[str, int]]]:
    """Return, for each of the nodes 1 to 3, the operation and the source node of every incoming edge."""
    nodes = []
    for node in architecture.split("+"):
        edges = [edge.split("~") for edge in node.strip("|").split("|")]
        nodes.append([(operation, int(source)) for operation, source in edges])
    return nodes


class ReluConvBatchNorm(nn.Module):
    """ReLU, convolution without bias, batch norm: the order of the published code."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels_in, channels_out, kernel_size, stride, padding, bias=False),
            nn.BatchNorm2d(channels_out, eps=1e-5, momentum=MOMENTUM),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.op(images)


class Zero(nn.Module):
    """The edge that is not there."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * images


def operation(name: str, channels: int) -> nn.Module:
    """Return the module of an edge."""
    if name == "nor_conv_3x3":
        return ReluConvBatchNorm(channels, channels, 3)
    if name == "nor_conv_1x1":
        return ReluConvBatchNorm(channels, channels, 1)
    if name == "avg_pool_3x3":
        # At the border, the mean of the pixels that exist.
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return {"none": Zero, "skip_connect": nn.Identity}[name]()


class Cell(nn.Module):
    """The searched cell: every node is the sum of its incoming edges, the last node is the output."""

    def __init__(self, architecture: str, channels: int) -> None:
        super().__init__()
        self.nodes = parse(architecture)
        self.layers = nn.ModuleList(operation(name, channels) for node in self.nodes for name, _ in node)

    def forward(self, images: Tensor) -> Tensor:
        values = [images]
        layers = iter(self.layers)
        for node in self.nodes:
            values.append(
                functools.reduce(operator.add, [next(layers)(values[source]) for _, source in node])
            )
        return values[-1]


class ReductionBlock(nn.Module):
    """The residual block between stages: halves the image and doubles the channels, never searched."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.conv_a = ReluConvBatchNorm(channels_in, 2 * channels_in, 3, stride=2)
        self.conv_b = ReluConvBatchNorm(2 * channels_in, 2 * channels_in, 3)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, 2), nn.Conv2d(channels_in, 2 * channels_in, 1, bias=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.conv_b(self.conv_a(images)) + self.downsample(images)


class Network(nn.Module):
    """Stem, three stages of five cells with a reduction block between them, average pool, classifier."""

    def __init__(self, architecture: str, num_classes: int = 10, image_channels: int = 3) -> None:
        super().__init__()
        channels = CHANNELS
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels, eps=1e-5, momentum=MOMENTUM),
        )
        cells: list[nn.Module] = []
        for stage in range(3):
            if stage > 0:
                cells.append(ReductionBlock(channels))
                channels *= 2
            cells += [Cell(architecture, channels) for _ in range(CELLS_PER_STAGE)]
        self.cells = nn.Sequential(*cells)
        self.lastact = nn.Sequential(nn.BatchNorm2d(channels, eps=1e-5, momentum=MOMENTUM), nn.ReLU())
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.lastact(self.cells(self.stem(images))).mean(dim=(2, 3)))


def network(architecture: str, seed: int, num_classes: int = 10, image_channels: int = 3) -> Network:
    """Return the network in inference mode; its random weights show in the output, but for dead branches."""
    return randomized(lambda: Network(architecture, num_classes, image_channels), image_channels, seed)
