"""The TransNAS-Bench-101 networks in PyTorch: what the ONNX graphs of the space are checked against.

Written from the facts of the published code (yawen-d/TransNASBench) and sharing nothing with the package
under test, so that a mistake has to be made twice to go unseen. The names in its state_dict are those of the
network that the benchmark trains for scene classification, an encoder and a decoder.
"""

from __future__ import annotations

import torch
from reference_weights import randomized
from torch import Tensor, nn
from torch.nn import functional

BASE_CHANNELS = 64
CALIBRATION = 32  # pixels; each of the three halvings behind the stem still finds two rows


class Convolution(nn.Module):
    """ReLU, convolution without bias, batch norm: the order of the published code."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.ops = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels_in, channels_out, kernel_size, stride, kernel_size // 2, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.ops(images)


class Zero(nn.Module):
    """The edge that is not there."""

    def __init__(self, channels_out: int, stride: int) -> None:
        super().__init__()
        self.channels_out = channels_out
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        size = [(length + 1) // self.stride if self.stride > 1 else length for length in (height, width)]
        return images.new_zeros(batch, self.channels_out, *size)


class FactorizedReduce(nn.Module):
    """The skip connection into a smaller image: even and odd pixels, each making half of the channels."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels_in, channels_out // 2, 1, stride, bias=False) for _ in range(2)
        )
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, images: Tensor) -> Tensor:
        images = functional.relu(images)
        shifted = functional.pad(images, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.bn(torch.cat([self.convs[0](images), self.convs[1](shifted)], dim=1))


def operation(digit: str, channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Return the module of an edge."""
    if digit == "0":
        return Zero(channels_out, stride)
    if digit == "1":
        if channels_in == channels_out and stride == 1:
            return nn.Identity()
        return FactorizedReduce(channels_in, channels_out, stride)
    return Convolution(channels_in, channels_out, {"2": 1, "3": 3}[digit], stride)


class Cell(nn.Module):
    """The searched cell of the micro space: every node is the sum of its incoming edges."""

    def __init__(self, digits: str, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.nodes = digits.split("_")
        self.edges = nn.ModuleList(
            operation(digit, channels_out if source else channels_in, channels_out, 1 if source else stride)
            for node in self.nodes
            for source, digit in enumerate(node)
        )

    def forward(self, images: Tensor) -> Tensor:
        values = [images]
        edges = iter(self.edges)
        for node in self.nodes:
            incoming = [next(edges)(values[source]) for source in range(len(node))]
            values.append(torch.stack(incoming).sum(dim=0))
        return values[-1]


class BasicBlock(nn.Module):
    """The residual block of the macro space."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv_a = Convolution(channels_in, channels_out, 3, stride)
        self.conv_b = Convolution(channels_out, channels_out, 3)
        self.downsample = None
        if channels_in != channels_out or stride > 1:
            # The published code hands two booleans over in the places of eps and momentum.
            norm = nn.BatchNorm2d(channels_out, eps=1.0, momentum=1.0)
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), norm)

    def forward(self, images: Tensor) -> Tensor:
        residual = images if self.downsample is None else self.downsample(images)
        return residual + self.conv_b(self.conv_a(images))


class Encoder(nn.Module):
    """The stem and the modules, which make features of an image."""

    def __init__(self, architecture: str, image_channels: int) -> None:
        super().__init__()
        width, modules, cell = architecture.split("-")
        channels = int(width)
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, channels // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels // 2),
            Convolution(channels // 2, channels, 3, stride=2),
        )
        self.names = [f"layer{index}" for index in range(len(modules))]
        for name, module in zip(self.names, modules, strict=True):
            channels_out = channels * (2 if module in "24" else 1)
            blocks = [
                BasicBlock(a, channels_out, stride)
                if cell == "basic"
                else Cell(cell, a, channels_out, stride)
                for a, stride in ((channels, 2 if module in "34" else 1), (channels_out, 1))
            ]
            self.add_module(name, nn.Sequential(*blocks))
            channels = channels_out
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        for name in self.names:
            features = self.get_submodule(name)(features)
        return features


class Decoder(nn.Module):
    """The head of scene classification."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc(features.mean(dim=(2, 3)))


class Network(nn.Module):
    """What the benchmark trains for scene classification."""

    def __init__(self, architecture: str, num_classes: int = 47, image_channels: int = 3) -> None:
        super().__init__()
        self.encoder = Encoder(architecture, image_channels)
        self.decoder = Decoder(self.encoder.channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))


def network(architecture: str, seed: int, num_classes: int = 47, image_channels: int = 3) -> Network:
    """Return the network in inference mode; its random weights show in the output, but for dead branches."""

    def larger_images(_: nn.Module, arguments: tuple[Tensor]) -> Tensor:
        return torch.randn(len(arguments[0]), image_channels, CALIBRATION, CALIBRATION)

    hooks = []

    def make() -> Network:
        made = Network(architecture, num_classes, image_channels)
        hooks.append(made.register_forward_pre_hook(larger_images))
        return made

    made = randomized(make, image_channels, seed)
    hooks[0].remove()
    return made
