"""Nodes that compute the same thing from the same values."""

from __future__ import annotations

from onnx_bench_dataset.graphs.graph import DEFAULT_DOMAIN, Node
from onnx_bench_dataset.graphs.simplify.rewriter import Rewriter

RANDOM = frozenset(
    {
        *("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike"),
        *("RandomUniform", "RandomUniformLike"),
    }
)
"""Operations that make something else each time, and so are never the same."""

Key = tuple[object, ...]


class Duplicates:
    """Rule 15: of nodes with the same operation, attributes and inputs, only the first stays."""

    def __init__(self, graph: Rewriter) -> None:
        """Remember the order of the file, in which the node that stays must come first."""
        self._position = {id(node): index for index, node in enumerate(graph.graph.nodes)}
        self._seen: dict[Key, Node] = {}
        self._seen_with_attributes: dict[Key, Node] = {}

    def merge(self, graph: Rewriter, node: Node) -> bool:
        """Merge `node` with an equal one that was visited before."""
        if node.domain != DEFAULT_DOMAIN or node.op in RANDOM:
            return False
        key = _key(node)
        other = self._seen.setdefault(key, node)
        if other is not node and (graph.is_removed(other) or _key(other) != key):
            other = self._seen[key] = node
        # Attributes are compared only where all else is equal: writing them out takes longer than the rest.
        return other is not node and self._merge_if_equal(graph, key, other, node)

    def _merge_if_equal(self, graph: Rewriter, key: Key, first: Node, node: Node) -> bool:
        """Merge nodes with equal operation and inputs; `first` is the first of those that came by."""
        for candidate in (first, node):
            full = (key, _attributes(candidate))
            other = self._seen_with_attributes.setdefault(full, candidate)
            if graph.is_removed(other) or (_key(other), _attributes(other)) != full:
                other = self._seen_with_attributes[full] = candidate  # the other one has changed since
        return other is not node and self._merge(graph, other, node)

    def _merge(self, graph: Rewriter, one: Node, two: Node) -> bool:
        keep, drop = (one, two) if self._position[id(one)] < self._position[id(two)] else (two, one)
        outputs = graph.graph.outputs
        if any(name in outputs for name in drop.outputs):
            if any(name in outputs for name in keep.outputs):
                return False
            keep.outputs, drop.outputs = drop.outputs, keep.outputs
            for node in (keep, drop):
                graph.producers.update((name, node) for name in node.outputs if name)
        for kept, dropped in zip(keep.outputs, drop.outputs, strict=True):
            if kept:
                graph.replace(dropped, kept)
        graph.remove(drop)
        return True


def _key(node: Node) -> Key:
    return node.op, tuple(node.inputs), tuple(map(bool, node.outputs))


def _attributes(node: Node) -> frozenset[bytes]:
    return frozenset(proto.SerializeToString(deterministic=True) for proto in node.attributes.values())
