"""einspace: architectures from a grammar of fundamental operations (Ericsson et al. 2024, arXiv 2405.20838).

A network is one module of `einspace_grammar` on the image, with no stem, and a head. The official code prints
no architecture as text; the strings here are documented in `einspace_grammar`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.graphs.parts import Shape
from onnx_bench_dataset.spaces.einspace_grammar import parse, write
from onnx_bench_dataset.spaces.einspace_network import build
from onnx_bench_dataset.spaces.einspace_sampling import Bounds, draw
from onnx_bench_dataset.spaces.space import Space, checked_shape


class Einspace(Space):
    """Networks of any shape and size, from convolutional networks to transformers."""

    name = "einspace"
    family = "einspace"

    def __init__(self, *, sampled_shape: Shape = (1, 3, 32, 32), bounds: Bounds | None = None) -> None:
        """Take the images for which networks are drawn, and how large these may be."""
        self._sampled_shape = sampled_shape
        self._bounds = bounds

    def network(
        self,
        architecture: str,
        name: str = "",
        input_shape: Shape = (1, 3, 32, 32),
        num_classes: int = 10,
    ) -> Network:
        """Return the network of an architecture; which strings are valid depends on the input shape."""
        shape = checked_shape(input_shape, num_classes)
        module = parse(architecture, shape)
        return Network.from_model(build(module, shape, num_classes, self.metadata(architecture, name)))

    def sample(self, count: int, seed: int) -> list[str]:
        """Draw `count` different architectures for images of the space's size, the same ones for a seed."""
        generator = random.Random(seed)
        found: dict[str, None] = {}
        while len(found) < count:
            found[write(draw(generator, self._sampled_shape, self._bounds))] = None
        return list(found)


def _sequence(*modules: str) -> str:
    """Put modules one after the other, two by two from the left: ((a, b), c)."""
    text = modules[0]
    for module in modules[1:]:
        text = f"sequential({text},{module})"
    return text


def _tree(modules: Sequence[str]) -> str:
    """Put modules one after the other as a balanced tree: ((a, b), (c, d))."""
    if len(modules) == 1:
        return modules[0]
    half = len(modules) // 2
    return f"sequential({_tree(modules[:half])},{_tree(modules[half:])})"


def _convolution(kernel: int, width: int, stride: int = 1) -> str:
    return f"routing(im2col{kernel}k{stride}s{kernel // 2}p,computation(linear{width}),col2im)"


def _sum(branch: str, other: str = "computation(identity)") -> str:
    return f"branching(clone_tensor2,{branch},{other},add_tensors)"


_NORM, _ACTIVATION = "computation(norm)", "computation(leakyrelu)"


def _resnet18(pool: str) -> str:
    def block(width: int, stride: int) -> str:
        layers = _sequence(_convolution(3, width, stride), _NORM, _ACTIVATION)
        last = _sequence(_convolution(3, width), _NORM)
        if stride == 1:
            return _sequence(_sum(_sequence(layers, last)), _ACTIVATION)
        shortcut = _sequence(_convolution(1, width, stride), _NORM)
        return _sequence(_sum(_sequence(layers, last), shortcut), _ACTIVATION)

    stem = _sequence(_convolution(3, 64), "norm", "leakyrelu", pool)
    stages = [_sequence(block(64 << stage, min(stage, 1) + 1), block(64 << stage, 1)) for stage in range(4)]
    return _sequence(stem, _sequence(*stages[:2]), _sequence(*stages[2:]))


def _wide_resnet16_4() -> str:
    middle = _sequence(_NORM, _ACTIVATION)

    def block(width: int, stride: int, shortcut: str) -> str:
        layers = _sequence(_convolution(3, width, stride), middle, _convolution(3, width))
        return _sequence(_sum(layers, shortcut), middle)

    stages = [
        _sequence(
            block(64 << stage, stride, _convolution(1, 64 << stage, stride)),
            block(64 << stage, 1, "computation(identity)"),
        )
        for stage, stride in enumerate((1, 2, 2))
    ]
    return _sequence(_sequence(_convolution(3, 16), "norm", "leakyrelu"), _sequence(*stages))


_PATCHES = _sequence(
    "routing(im2col4k4s0p,computation(linear512),identity)", "computation(learnable_positional_encoding)"
)


def _vision_transformer() -> str:
    transposed = "routing(identity,computation(linear64),permute21)"
    scores = f"branching(clone_tensor2,computation(linear64),{transposed},scaled_dot_product)"
    weights = _sequence(scores, "computation(softmax)")
    head = f"branching(clone_tensor2,{weights},computation(linear64),dot_product)"
    heads = _sequence(f"branching(clone_tensor4,{head},cat_tensors2d4t)", "computation(linear512)")
    mlp = _sequence("computation(linear512)", _ACTIVATION, "linear512")
    layer = _sequence(_sequence(_sum(heads), "norm"), _sequence(_sum(mlp), "norm"))
    return _sequence(_PATCHES, _tree([layer] * 4))


def _mlp_mixer() -> str:
    tokens = _sequence(
        "routing(permute21,computation(linear_x4),identity)",
        _ACTIVATION,
        "routing(identity,computation(linear_4th),permute21)",
    )
    channels = _sequence("computation(linear256)", _ACTIVATION, "computation(linear512)")
    layer = _sum(_sequence(_NORM, _sequence(tokens, channels)))
    return _sequence(_PATCHES, _tree([layer] * 8))


SEEDS = {
    "resnet18": _resnet18("maxpool3k2s1p"),
    "resnet18_no_maxpool": _resnet18(_convolution(3, 64, 2)),
    "wideresnet16_4": _wide_resnet16_4(),
    "transformer": _vision_transformer(),
    "mlp_mixer": _mlp_mixer(),
}
"""Architectures from which the paper's searches start, by the official code's names; `transformer` is the
ViT, and ResNet-18 is searched from without its max pool."""
