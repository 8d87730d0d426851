"""Which layer of a network each weight belongs to, as the first operation that reads it tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from onnx_bench_dataset.graphs.graph import Graph, Node
from onnx_bench_dataset.graphs.weights import VIEWS

Shapes = Mapping[str, tuple[int, ...]]

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "DeformConv"})
LINEAR = frozenset({"Gemm", "MatMul"})


class Reading(NamedTuple):
    """How a weight is read first: by which operation, where, and beside which other weight."""

    node: Node
    slot: int
    matrix: str
    """The weight whose fan-in counts: itself, or for a bias that of its layer."""


def readings(graph: Graph, shapes: Shapes) -> dict[str, Reading]:
    """Return how each of the weights in `shapes` is read, be it through operations that rearrange it."""
    origin = {name: name for name in shapes}
    products: dict[str, Reading] = {}
    found: dict[str, Reading] = {}
    for node in graph.nodes:
        if node.op in VIEWS and node.inputs and node.inputs[0] in origin:
            origin[node.outputs[0]] = origin[node.inputs[0]]
            continue
        learned = {slot: origin[name] for slot, name in enumerate(node.inputs) if name in origin}
        if node.op == "Add" and len(node.inputs) == 2:
            product = next((products[name] for name in node.inputs if name in products), None)
            for slot, name in learned.items():
                bias = product is not None and len(shapes[name]) == 1
                reading = Reading(product.node, 2, product.matrix) if bias and product else None
                found.setdefault(name, reading or Reading(node, slot, name))
            continue
        for slot, name in learned.items():
            found.setdefault(name, Reading(node, slot, learned.get(1, name)))
        if node.op == "MatMul" and 1 in learned:
            products[node.outputs[0]] = found[learned[1]]
    return found


def layer_weights(graph: Graph, shapes: Shapes) -> list[str]:
    """Return the weights of convolutions and linear layers, without biases and normalizations."""
    layers = CONVOLUTIONS | LINEAR
    return [
        name
        for name, reading in readings(graph, shapes).items()
        if reading.node.op in layers and reading.slot == 1
    ]
