"""digits: the architectures of six spaces as small networks for grey images of 8×8 pixels.

An architecture is the name of a space, a colon and an architecture of that space:
`nasbench201:|nor_conv_3x3~0|+|…|`. Its network follows the rules of that space, at these sizes:

| space | the network here | as published |
| --- | --- | --- |
| `nasbench101` | stem of 8 channels, stacks of 1 cell, batch norm momentum 0.9 | 128, 3 cells, 0.997 |
| `nasbench201` | stem of 4 channels, 3 stages of 1 cell | 16 channels, 3 stages of 5 cells |
| `natsbench_size` | a quarter of the channels in the string: 2 to 16 | 8 to 64 |
| `nasbench301` | nodes of 2 channels, 3 cells, the last two of which reduce | 32 channels, 8 cells |
| `hnasbench201` | stem of 4 channels | 16 channels |
| `einspace` | networks drawn for this image, within `EINSPACE_BOUNDS` | for 3×32×32 |

What these networks reach on scikit-learn's digits is measured: `onnx_bench_dataset.digits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import onnx
from onnx import ModelProto

from onnx_bench_dataset.drawing import Diagram
from onnx_bench_dataset.errors import ArchitectureError
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.graphs.parts import Shape
from onnx_bench_dataset.spaces.einspace import Einspace
from onnx_bench_dataset.spaces.einspace_sampling import Bounds
from onnx_bench_dataset.spaces.hnasbench201 import HNASBench201
from onnx_bench_dataset.spaces.nasbench101 import NASBench101
from onnx_bench_dataset.spaces.nasbench201 import NASBench201
from onnx_bench_dataset.spaces.nasbench301 import NASBench301
from onnx_bench_dataset.spaces.natsbench_size import NATSBenchSize
from onnx_bench_dataset.spaces.space import Space

INPUT_SHAPE = (1, 1, 8, 8)
"""One grey image."""

EINSPACE_BOUNDS = Bounds(functions=100, parameters=2**17, elements=2**13)
"""How large the networks drawn from einspace may be."""

SMALL_SPACES: Mapping[str, Space] = {
    space.name: space
    for space in (
        NASBench101(stem_channels=8, cells_per_stack=1, batch_norm_momentum=0.9),
        NASBench201(stem_channels=4, cells_per_stage=1),
        NATSBenchSize(width_divisor=4),
        NASBench301(channels=2, num_cells=3),
        HNASBench201(stem_channels=4),
        Einspace(sampled_shape=INPUT_SHAPE, bounds=EINSPACE_BOUNDS),
    )
}
"""The spaces at the size of this one, by name."""


class Digits(Space):
    """Small networks of six spaces, which one recipe trains."""

    name = "digits"
    family = "digits"
    is_reduced = True
    dataset = "digits"

    def network(
        self,
        architecture: str,
        name: str = "",
        input_shape: Shape = INPUT_SHAPE,
        num_classes: int = 10,
    ) -> Network:
        """Return the network of an architecture, for grey images of 8×8 pixels if nothing else is said."""
        space, inner = parse(architecture)
        network = SMALL_SPACES[space].network(inner, "", input_shape, num_classes)
        model = network.model()
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, self.metadata(architecture, name))
        return network._replace(onnx=model.SerializeToString(deterministic=True))

    def model(self, architecture: str, input_shape: Shape = INPUT_SHAPE, num_classes: int = 10) -> ModelProto:
        """Return the ONNX model of an architecture: training form, weights as graph inputs."""
        return super().model(architecture, input_shape, num_classes)

    def diagram(self, architecture: str) -> Diagram:
        """Return what the architecture's own space shows of it; einspace shows the network."""
        space, inner = parse(architecture)
        return super().diagram(architecture) if space == Einspace.name else SMALL_SPACES[space].diagram(inner)

    def sample(self, count: int, seed: int) -> list[str]:
        """Draw `count` different architectures, of all spaces in turn, the same ones for the same seed."""
        of_each = -(-count // len(SMALL_SPACES))
        drawn = [
            [write(name, architecture) for architecture in space.sample(of_each, seed)]
            for name, space in SMALL_SPACES.items()
        ]
        return list(islice((each for turn in zip(*drawn, strict=True) for each in turn), count))


def parse(architecture: str) -> tuple[str, str]:
    """Return the name of the space and its architecture.

    Raises:
        ArchitectureError: the string does not begin with the name of one of the spaces and a colon.

    >>> parse("natsbench_size:8:16:24:32:40")
    ('natsbench_size', '8:16:24:32:40')
    """
    space, colon, inner = architecture.partition(":")
    if not colon or space not in SMALL_SPACES:
        rule = f"a space is named first, one of {', '.join(SMALL_SPACES)}, with ':' behind it"
        raise ArchitectureError("digits", architecture, 0, rule)
    return space, inner


def write(space: str, architecture: str) -> str:
    """Return the architecture string of a space's architecture; the inverse of `parse`."""
    return f"{space}:{architecture}"
