"""What every search space offers: its architectures, and the network of each of them."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence

from onnx import ModelProto

from onnx_bench_dataset.drawing import Diagram, network_diagram
from onnx_bench_dataset.errors import ShapeError
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.graphs.parts import Shape


class Space(ABC):
    """A search space: a set of architectures and the rule that turns each into a network.

    `family` names spaces that must never be on both sides of a zero-shot split. A space whose networks are
    small versions of the architectures of other families (`is_reduced`) is on neither side. `dataset` is what
    accuracies of the space are measured on.
    """

    name: str
    family: str
    is_reduced: bool = False
    dataset: str = "cifar10"

    @abstractmethod
    def network(
        self,
        architecture: str,
        name: str = "",
        input_shape: Shape = (1, 3, 32, 32),
        num_classes: int = 10,
    ) -> Network:
        """Return the serialized graph of an architecture with its measures and hash.

        `name` is what follows the space in the row's id; it is written into the file's metadata. The input is
        N×C×H×W, the output N×num_classes logits.

        Raises:
            ArchitectureError: the string is not an architecture of this space.
            ShapeError: the network cannot be made at that shape.
        """

    def model(
        self, architecture: str, input_shape: Shape = (1, 3, 32, 32), num_classes: int = 10
    ) -> ModelProto:
        """Return the ONNX model of an architecture: training form, weights as graph inputs."""
        return self.network(architecture, "", input_shape, num_classes).model()

    def diagram(self, architecture: str) -> Diagram:
        """Return what a picture of an architecture shows: where a space does not say it, the network.

        Raises:
            ArchitectureError: the string is not an architecture of this space.
        """
        return network_diagram(self.network(architecture).text)

    @abstractmethod
    def sample(self, count: int, seed: int) -> list[str]:
        """Draw `count` different architectures, the same ones for the same seed."""

    def metadata(self, architecture: str, name: str) -> dict[str, str]:
        """Return what a lone file says of itself."""
        about = {"space": self.name, "architecture": architecture}
        return {"id": f"{self.name}/{name}", **about} if name else about


class TabularSpace(Space):
    """A search space that is small enough to list."""

    @abstractmethod
    def architectures(self) -> Sequence[str]:
        """Return all architectures in the benchmark's order."""

    def sample(self, count: int, seed: int) -> list[str]:
        """Draw `count` different architectures uniformly, the same ones for the same seed."""
        return random.Random(seed).sample(self.architectures(), count)


def checked_shape(input_shape: Shape, num_classes: int) -> tuple[int, int, int, int]:
    """Return batch, channels, height and width of an image input.

    Raises:
        ShapeError: the shape is not four positive numbers, or there is no class.
    """
    if len(input_shape) != 4 or min(input_shape) < 1:
        raise ShapeError(f"the input shape must be four positive numbers N, C, H, W, not {input_shape}")
    if num_classes < 1:
        raise ShapeError(f"the number of classes must be positive, not {num_classes}")
    batch, channels, height, width = input_shape
    return batch, channels, height, width
