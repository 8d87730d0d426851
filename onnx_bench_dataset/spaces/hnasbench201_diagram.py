"""How a term of hierarchical NAS-Bench-201 is drawn: the wiring of its cells, and each different cell."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import count
from typing import NamedTuple

from onnx_bench_dataset.drawing import Diagram, Edge, Kind, Node, Panel
from onnx_bench_dataset.spaces.hnasbench201_grammar import TOPOLOGIES, Term

_CELL = "Cell"
_OPERATIONS = {
    "id": ("skip", Kind.SKIP),
    "zero": ("none", Kind.NONE),
    "avg_pool": ("avg pool 3×3", Kind.AVERAGE_POOL),
    "conv1x1o": ("conv 1×1", Kind.CONV_1X1),
    "conv3x3o": ("conv 3×3", Kind.CONV_3X3),
    "dconv3x3o": ("depthwise 3×3", Kind.SEPARABLE_3X3),
}
_ACTIVATIONS = {"relu": "ReLU", "hardswish": "HardSwish", "mish": "Mish"}


class _Carried(NamedTuple):
    """An edge of the wiring, and the cell that it carries, None for a residual block."""

    source: int
    target: int
    cell: Term | None


def diagram(term: Term) -> Diagram:
    """Return the picture of a whole term."""
    edges = list(_carried(term, 0, 1, count(2)))
    sources: dict[int, list[int]] = {0: []}
    for edge in edges:
        sources.setdefault(edge.target, []).append(edge.source)
    order = list(TopologicalSorter(sources).static_order())
    place = {node: number for number, node in enumerate(order)}
    letters: dict[Term, str] = {}
    drawn = []
    for edge in edges:
        label, kind = "residual /2", Kind.CONV_3X3
        if edge.cell is not None:
            label, kind = f"cell {letters.setdefault(edge.cell, _letter(len(letters)))}", Kind.BLOCK
        drawn.append(Edge(place[edge.source], place[edge.target], label, kind))
    nodes = [
        Node({0: "stem", 1: "classifier"}.get(node, "+" if len(sources[node]) > 1 else "")) for node in order
    ]
    return Diagram(
        [Panel(nodes, drawn, "network"), *(_panel(cell, letter) for cell, letter in letters.items())]
    )


def _carried(term: Term, first: int, last: int, numbers: Iterator[int]) -> Iterator[_Carried]:
    """Yield the edges between two nodes, topologies put in the place of the edges that carry them."""
    topology = TOPOLOGIES[term.head]
    nodes = {topology[0][0]: first, topology[-1][1]: last}
    for ends, part in zip(topology, term.parts, strict=True):
        source, target = (nodes.setdefault(node, next(numbers)) for node in ends)
        if isinstance(part, Term) and part.head != _CELL:
            yield from _carried(part, source, target, numbers)
        else:
            yield _Carried(source, target, part if isinstance(part, Term) else None)


def _letter(number: int) -> str:
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def _panel(cell: Term, letter: str) -> Panel:
    edges = [
        Edge(source - 1, target - 1, *_operation(part))
        for (source, target), part in zip(TOPOLOGIES[_CELL], cell.parts, strict=True)
        if isinstance(part, Term)
    ]
    return Panel([Node(str(node)) for node in range(4)], edges, f"cell {letter}")


def _operation(term: Term) -> tuple[str, Kind]:
    """Return what an edge of a cell is called, and its kind; a block is called after its three layers."""
    if term.head in _OPERATIONS:
        return _OPERATIONS[term.head]
    (block,) = term.parts
    assert isinstance(block, Term)
    activation, convolution, norm = (part.head for part in block.parts if isinstance(part, Term))
    label, kind = _OPERATIONS[convolution]
    return f"{_ACTIVATIONS[activation]}, {label}, {norm}", kind
