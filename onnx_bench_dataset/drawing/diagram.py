"""What a picture of an architecture shows: panels of nodes and edges, each of a kind that has a colour.

A search space describes its architectures so (`Space.diagram`), any other network is described by what its
text says (`drawing.network`); `drawing.figure` draws either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an operation does; a kind has the same colour in the pictures of every space."""

    VALUE = ("value", "#ffffff")
    CONV_1X1 = ("convolution 1×1", "#c6dbef")
    CONV_3X3 = ("convolution 3×3", "#6baed6")
    CONV_5X5 = ("convolution 5×5 or larger", "#4a90c4")
    SEPARABLE_3X3 = ("depthwise or separable 3×3", "#a1d99b")
    SEPARABLE_5X5 = ("depthwise or separable 5×5 or larger", "#66b86e")
    DILATED_3X3 = ("dilated 3×3", "#99d8c9")
    DILATED_5X5 = ("dilated 5×5", "#5ab8a0")
    LINEAR = ("linear", "#f4a6a0")
    MAX_POOL = ("max pooling", "#fdae6b")
    AVERAGE_POOL = ("average pooling", "#fee08b")
    NORM = ("normalization", "#d4c2e8")
    ACTIVATION = ("activation", "#fbc9df")
    SOFTMAX = ("softmax", "#c49ade")
    ARITHMETIC = ("arithmetic", "#e6e6e6")
    SHAPE = ("shape", "#e3dcc3")
    SKIP = ("skip connection", "#c9c9c9")
    NONE = ("none", "#f7f7f7")
    BLOCK = ("block", "#fff3c4")
    OTHER = ("other operation", "#e9f0c9")

    def __init__(self, title: str, colour: str) -> None:
        """Give the kind its name in a legend and its colour."""
        self.title = title
        self.colour = colour


@dataclass(frozen=True, slots=True)
class Node:
    """A box, or where the label is short a circle."""

    label: str
    kind: Kind = Kind.VALUE
    width: float = 0.0
    """From 0 to 1, where wide boxes stand for many channels; 0 is as wide as the label."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from one node to another, by their places in the panel; with an operation it has a label."""

    source: int
    target: int
    label: str = ""
    kind: Kind = Kind.VALUE


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph of its own in a picture. Nodes stand before those that read them."""

    nodes: Sequence[Node]
    edges: Sequence[Edge]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Diagram:
    """A picture: panels, and whether a legend says what the colours stand for."""

    panels: Sequence[Panel]
    has_legend: bool = False


def chain(nodes: Sequence[Node], title: str = "") -> Panel:
    """Return nodes each of which reads the one before."""
    return Panel(nodes, [Edge(place, place + 1) for place in range(len(nodes) - 1)], title)
