"""PyTorch networks exported to ONNX in every way torch offers: what `simplify` must cope with from elsewhere.

Each network is small, is in evaluation mode, and has batch norm statistics and affine parameters that are far
from the identity, so that a batch norm folded wrongly shows in the numbers.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        sizes = [
            (8, 8, 1),
            (8, 8, 1),
            (8, 12, 2),
            (12, 12, 1),
            (12, 16, 2),
            (16, 16, 1),
            (16, 24, 2),
            (24, 24, 1),
        ]
        self.blocks = nn.Sequential(*(ResidualBlock(*size) for size in sizes))
        self.classifier = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1)
        return self.classifier(torch.flatten(y, 1))


class InvertedResidual(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = c_in * expand
        self.body = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            InvertedResidual(3, 8, 2, 2), InvertedResidual(8, 8, 1, 4), InvertedResidual(8, 12, 2, 4)
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean([2, 3]))


class DenseNet(nn.Module):
    """Batch norm before the convolution: most of them cannot be folded and must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 4 * i, 4, 3, padding=1, bias=False) for i in range(3))
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2))
        self.classifier = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        y = self.transition(torch.cat(features, 1))
        return self.classifier(F.adaptive_avg_pool2d(y, (1, 1)).view(y.size(0), -1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = self._double(3, 8)
        self.down2 = self._double(8, 16)
        self.bottom = self._double(16, 32)
        self.up2 = nn.Sequential(nn.ConvTranspose2d(32, 16, 2, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.up1 = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, 2, bias=False, groups=2), nn.BatchNorm2d(8))
        self.merge2 = self._double(32, 16)
        self.merge1 = self._double(16, 8)
        self.mask = nn.Conv2d(8, 2, 1)

    @staticmethod
    def _double(c_in: int, c_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, padding=1),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.LeakyReLU(0.1),
        )

    def forward(self, x: Tensor) -> Tensor:
        top = self.down1(x)
        middle = self.down2(F.max_pool2d(top, 2))
        y = self.up2(self.bottom(F.max_pool2d(middle, 2)))
        y = self.up1(self.merge2(torch.cat([y, middle], 1)))
        return self.mask(self.merge1(torch.cat([y, top], 1)))


class TransformerBlock(nn.Module):
    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attention = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1)
        x = x + self.project((attention @ v).transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patch embedding, class token, learned positions, torch's own encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 17, 16))
        self.block = TransformerBlock()
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), y], 1) + self.positions
        return self.head(self.norm(self.block(y))[:, 0])


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.reduce = nn.Conv2d(16, 4, 1)
        self.expand = nn.Conv2d(4, 16, 1)
        self.scale = 0.5

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        gate = self.expand(F.relu(self.reduce(y.mean((2, 3), keepdim=True))))
        gate = F.relu6(gate * self.scale + 3.0) / 6.0
        return (y * gate).sum((2, 3)) * 1.0


class DilatedGrouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 16, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(16, 16, 3, padding=d, dilation=d, groups=g, bias=False),
                nn.BatchNorm2d(16),
                nn.ELU(),
            )
            for d, g in ((1, 1), (2, 4), (3, 16))
        )
        self.separable = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(48, 48, 5, 2, 2, groups=48, bias=False),
            nn.Conv2d(48, 24, 1, bias=False),
            nn.BatchNorm2d(24, affine=False),
        )
        self.asymmetric = nn.Sequential(
            nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(24, 8, 3, bias=False), nn.BatchNorm2d(8)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.entry(x)
        return self.asymmetric(self.separable(torch.cat([branch(y) for branch in self.branches], 1)))


class SharedWeights(nn.Module):
    """One convolution used twice with different batch norms, and one used behind a batch norm and bare."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.entry(x)))
        y = F.relu(self.norms[1](self.conv(y)))
        y = F.relu(self.norms[2](self.conv(y)))
        return self.conv(y)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.condition = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh())
        self.head = nn.Linear(8, 4)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        y = self.image(image) * self.condition(condition)[:, :, None, None]
        return F.log_softmax(self.head(y.amax((2, 3))), -1)


class ManyOutputs(nn.Module):
    """A convolution whose raw output is a graph output, a dropped dropout at an output, a passed-on value."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raw = self.conv(x)
        y = F.relu(self.norm(raw))
        return raw, self.dropout(y), F.interpolate(y, size=(8, 8), mode="bilinear", align_corners=False)


class SizeArithmetic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.head = nn.Linear(6 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = y.view(y.shape[0], y.shape[1], y.shape[2] * y.shape[3])
        y = y.view(y.shape[0], -1, int(y.shape[2] ** 0.5), x.shape[3])
        y = F.adaptive_avg_pool2d(torch.flip(y, (3,)), 4)
        return self.head(y.reshape(y.shape[0], -1).squeeze(0).unsqueeze(0))


class Upsampler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8))
        self.out = nn.Conv2d(8, 3, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        return self.out(F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=True))


class SuperResolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(self.body(x), 0, 1)


class ShuffleNet(nn.Module):
    """Channel split, channel shuffle, two grouped convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
        self.branch = nn.Sequential(
            nn.Conv2d(8, 8, 1, groups=2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, 1)
        y = torch.cat([left, self.branch(right)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ConvNeXtBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.expand = nn.Linear(8, 32)
        self.reduce = nn.Linear(32, 8)
        self.layer_scale = nn.Parameter(torch.full((8,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.layer_scale * self.reduce(F.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(48, 32, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Identity(),
            nn.Linear(32, 32),
            nn.BatchNorm1d(32),
            nn.Sigmoid(),
            nn.Linear(32, 10, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(16, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.gru(y)[0][:, -1]


class GroupNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.GroupNorm(4, 8),
            nn.SiLU(),
            nn.Conv2d(8, 8, 3),
            nn.InstanceNorm2d(8, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * torch.ones(1)


class SequenceConv(nn.Module):
    """One- and three-dimensional convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Sequential(nn.Conv1d(4, 8, 3, padding=1, bias=False), nn.BatchNorm1d(8), nn.ReLU())
        self.volume = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1, bias=False), nn.BatchNorm3d(4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.line(x)
        return self.volume(y.reshape(y.shape[0], 2, 2, 2, -1))


@dataclass(frozen=True)
class Network:
    """A module and the shapes of the inputs it is exported with."""

    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]


IMAGE = ((1, 3, 16, 16),)

NETWORKS = {
    "resnet": Network(ResNet, ((1, 3, 32, 32),)),
    "mobilenet": Network(MobileNet, IMAGE),
    "densenet": Network(DenseNet, IMAGE),
    "unet": Network(UNet, IMAGE),
    "transformer": Network(TransformerBlock, ((1, 5, 16),)),
    "vision_transformer": Network(VisionTransformer, ((1, 3, 32, 32),)),
    "squeeze_excite": Network(SqueezeExcite, IMAGE),
    "dilated_grouped": Network(DilatedGrouped, IMAGE),
    "shared_weights": Network(SharedWeights, IMAGE),
    "two_inputs": Network(TwoInputs, ((2, 3, 16, 16), (2, 5))),
    "many_outputs": Network(ManyOutputs, IMAGE),
    "size_arithmetic": Network(SizeArithmetic, IMAGE),
    "upsampler": Network(Upsampler, IMAGE),
    "super_resolution": Network(SuperResolution, IMAGE),
    "shufflenet": Network(ShuffleNet, IMAGE),
    "convnext": Network(ConvNeXtBlock, IMAGE),
    "perceptron": Network(Perceptron, ((2, 3, 4, 4),)),
    "recurrent": Network(Recurrent, ((2, 7, 6),)),
    "group_norm": Network(GroupNormNet, IMAGE),
    "sequence_conv": Network(SequenceConv, ((2, 4, 8),)),
}


def build(name: str) -> nn.Module:
    """Return the network in evaluation mode with every parameter and running statistic off its default."""
    torch.manual_seed(sum(name.encode()))
    module = NETWORKS[name].build()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is not None:
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 1.5)
        is_norm = isinstance(part, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm))
        if is_norm and part.weight is not None:
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
    return module.eval()


def example(name: str) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    return tuple(torch.randn(*shape, generator=generator) for shape in NETWORKS[name].shapes)


@dataclass(frozen=True)
class Export:
    """A way to export a network; `optimized` lets the exporter fold constants and batch norms itself."""

    exporter: str
    opset: int
    optimized: bool

    def __str__(self) -> str:
        return f"{self.exporter}-{self.opset}-{'optimized' if self.optimized else 'plain'}"


@cache
def serialized(name: str, way: Export) -> bytes:
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return (_dynamo if way.exporter == "dynamo" else _script)(name, way)
    finally:
        logging.disable(logging.NOTSET)


def exported(name: str, way: Export) -> ModelProto:
    return ModelProto.FromString(serialized(name, way))


def _dynamo(name: str, way: Export) -> bytes:
    program = torch.onnx.export(
        build(name), example(name), opset_version=way.opset, optimize=way.optimized, verbose=False
    )
    assert program is not None
    return program.model_proto.SerializeToString()


def _script(name: str, way: Export) -> bytes:
    stream = io.BytesIO()
    mode = torch.onnx.TrainingMode.EVAL if way.optimized else torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(
        build(name),
        example(name),
        stream,
        dynamo=False,
        opset_version=way.opset,
        training=mode,
        do_constant_folding=way.optimized,
    )
    return stream.getvalue()
