"""All cells of NAS-Bench-101 and their isomorphism hashes.

A cell is a directed acyclic graph of at most 7 vertices and 9 edges whose interior vertices carry one of
three operations (Ying et al. 2019, arXiv 1902.09635, section 2). The benchmark enumerates labelled graphs in
a fixed order and keeps the first one of every isomorphism class, named by an MD5 colour refinement. Both the
choice of representative (the channel rule depends on vertex order) and the MD5 strings are reproduced here.

MD5 is slow in bulk, so isomorphic graphs are first merged with a 64-bit colour refinement of the same power,
and MD5 then runs once per distinct colour instead of once per vertex of every labelled graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_bench_dataset.spaces.md5 import md5_hex

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""Operations of interior vertices; the position is the label that the hash sees."""

MAX_VERTICES = 7
MAX_EDGES = 9

_INPUT_LABEL = -1
_OUTPUT_LABEL = -2
_GRAPHS_AT_ONCE = 20_000  # bounds the memory of the enumeration
_TURNS_WITH_EQUAL_COLOURS = 2
_Part = TypeVar("_Part")
_Words = NDArray[np.uint64]
_Bytes = NDArray[np.uint8]


class Cell(NamedTuple):
    """A cell: `inputs[v - 1]` are the vertices that vertex v reads (0 is the input, the last is the output).

    `operations[v - 1]` is the operation of interior vertex v, so it is one shorter than `inputs`.
    """

    inputs: tuple[tuple[int, ...], ...]
    operations: tuple[str, ...]

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return sum(map(len, self.inputs))

    def pruned(self) -> Cell | None:
        """Leave out the vertices that are not on a path from input to output; None if there is no path."""
        last = len(self.inputs)
        forward = {0}
        for vertex, sources in enumerate(self.inputs, 1):
            if forward.intersection(sources):
                forward.add(vertex)
        backward = {last}
        for vertex in range(last, 0, -1):
            if vertex in backward:
                backward.update(self.inputs[vertex - 1])
        kept = sorted(forward & backward)
        if last not in forward:
            return None
        number = {vertex: new for new, vertex in enumerate(kept)}
        return Cell(
            tuple(tuple(number[s] for s in self.inputs[v - 1] if s in number) for v in kept[1:]),
            tuple(self.operations[v - 1] for v in kept[1:-1]),
        )


def cell_hash(cell: Cell) -> str:
    """Return the benchmark's isomorphism-invariant name of a pruned cell: 32 hexadecimal digits.

    >>> cell_hash(Cell(inputs=((0,),), operations=()))
    '043721b9c7fe8c5fad811d47d83132ec'
    """
    count = len(cell.inputs) + 1
    sources: list[Sequence[int]] = [(), *cell.inputs]
    targets = [[v for v in range(count) if u in sources[v]] for u in range(count)]
    labels = [_INPUT_LABEL, *(OPERATIONS.index(op) for op in cell.operations), _OUTPUT_LABEL]
    colours = [_md5(str((len(targets[v]), len(sources[v]), labels[v]))) for v in range(count)]
    for _ in range(count):
        colours = [
            _md5(
                "".join(sorted(colours[u] for u in sources[v]))
                + "|"
                + "".join(sorted(colours[u] for u in targets[v]))
                + "|"
                + colours[v]
            )
            for v in range(count)
        ]
    return _md5(str(sorted(colours)))


def enumerate_cells() -> list[tuple[str, Cell]]:
    """Return (hash, cell) of all 423,624 cells, in the order of the hash, as the benchmark stores them."""
    cells: list[tuple[str, Cell]] = []
    for count in range(2, MAX_VERTICES + 1):
        matrices = _matrices(count)
        labels = _labels(count)
        chosen = _first_of_each_class(matrices, labels)
        graph, labelling = np.divmod(chosen, len(labels))
        parts = _in_parts(_hashes, _GRAPHS_AT_ONCE, matrices[graph], labels[labelling])
        hashes = [name for part in parts for name in part]
        sources = [_sources(matrix) for matrix in matrices]
        operations = [tuple(OPERATIONS[i] for i in row) for row in product(range(3), repeat=count - 2)]
        cells += [
            (name, Cell(sources[g], operations[o]))
            for name, g, o in zip(hashes, graph.tolist(), labelling.tolist(), strict=True)
        ]
    cells.sort(key=lambda pair: pair[0])
    return cells


def _matrices(count: int) -> NDArray[np.bool_]:
    """Adjacency matrices [n, count, count] without dangling vertices, in the order of their bit pattern.

    Bit x + y(y-1)/2 is the edge from x to y > x, which fixes the benchmark's order of enumeration.
    """
    pairs = [(x, y) for y in range(count) for x in range(y)]
    bits = np.arange(2 ** len(pairs), dtype=np.uint32)
    bits = bits[np.bitwise_count(bits) <= MAX_EDGES]
    for vertex in range(count):
        outgoing = sum(1 << i for i, (x, _) in enumerate(pairs) if x == vertex)
        incoming = sum(1 << i for i, (_, y) in enumerate(pairs) if y == vertex)
        for edges in (outgoing, incoming):
            if edges:  # the input has no incoming edges, the output no outgoing ones
                bits = bits[(bits & edges) != 0]
    matrices = np.zeros((len(bits), count, count), dtype=bool)
    for i, (x, y) in enumerate(pairs):
        matrices[:, x, y] = (bits >> i) & 1
    return matrices


def _labels(count: int) -> NDArray[np.int64]:
    """All labellings [3 ** (count - 2), count] in the benchmark's order."""
    rows = [(_INPUT_LABEL, *labels, _OUTPUT_LABEL) for labels in product(range(3), repeat=count - 2)]
    return np.array(rows, dtype=np.int64)


def _sources(matrix: NDArray[np.bool_]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(np.flatnonzero(matrix[:, vertex]).tolist()) for vertex in range(1, len(matrix)))


def _first_of_each_class(matrices: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions (matrix * len(labels) + labelling) of the first graph of every isomorphism class."""

    def fingerprints(part: NDArray[np.bool_]) -> _Words:
        adjacency = part.astype(np.uint64)[:, None]
        colours = _first_colours(adjacency, labels)
        for _ in range(part.shape[1]):
            colours = _refined(adjacency, colours)
        totals: _Words = _mix(colours).sum(axis=2, dtype=np.uint64).ravel()
        return totals

    step = max(1, _GRAPHS_AT_ONCE // len(labels))
    _, first = np.unique(np.concatenate(_in_parts(fingerprints, step, matrices)), return_index=True)
    return np.sort(first)


def _in_parts(function: Callable[..., _Part], step: int, *arrays: NDArray[Any]) -> list[_Part]:
    """Call `function` on every `step` rows of `arrays`."""
    starts = range(0, len(arrays[0]), step)
    return [function(*(array[start : start + step] for array in arrays)) for start in starts]


def _first_colours(adjacency: _Words, labels: NDArray[np.int64]) -> _Words:
    """Colours [n, m, count] by out-degree, in-degree and label; `adjacency` is [n, 1, count, count]."""
    out_degree, in_degree = adjacency.sum(axis=3), adjacency.sum(axis=2)
    return _mix(out_degree * np.uint64(64) + in_degree * np.uint64(8) + (labels + 2).astype(np.uint64))


def _refined(adjacency: _Words, colours: _Words) -> _Words:
    """One round of colour refinement; sums make the neighbours' order irrelevant."""
    count = colours.shape[2]
    incoming, outgoing = np.zeros_like(colours), np.zeros_like(colours)
    mixed = _mix(colours)
    for x in range(count):
        for y in range(x + 1, count):
            incoming[:, :, y] += adjacency[:, :, x, y] * mixed[:, :, x]
            outgoing[:, :, x] += adjacency[:, :, x, y] * mixed[:, :, y]
    return _mix(_mix(incoming) * np.uint64(3) + _mix(outgoing) * np.uint64(5) + mixed)


def _mix(words: _Words) -> _Words:
    """Scramble 64-bit words (the finalizer of SplitMix64), one to one."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _hashes(matrices: NDArray[np.bool_], labels: NDArray[np.int64]) -> list[str]:
    """Benchmark hashes of graphs given as matrices [n, count, count] and labels [n, count]."""
    count = matrices.shape[1]
    adjacency = matrices.astype(np.uint64)[:, None]
    out_degree, in_degree = adjacency.sum(axis=3)[:, 0], adjacency.sum(axis=2)[:, 0]
    # `identity` is the same refinement in 64-bit words. It tells which colours are equal, so that each is
    # hashed once, as long as that saves work: after two rounds nearly all vertices differ.
    identity = _first_colours(adjacency, labels[:, None])[:, 0]
    _, first, inverse = np.unique(identity, return_index=True, return_inverse=True)
    start = [_md5(str((int(out_degree.flat[i]), int(in_degree.flat[i]), int(labels.flat[i])))) for i in first]
    colours = np.array(start, dtype="S32")[inverse.reshape(identity.shape)]
    neighbours = [_neighbours(matrices.transpose(0, 2, 1)), _neighbours(matrices)]
    for turn in range(count):
        if turn < _TURNS_WITH_EQUAL_COLOURS:
            identity = _refined(adjacency, identity[:, None])[:, 0]
            _, first, inverse = np.unique(identity, return_index=True, return_inverse=True)
            colours = _next_colours(colours, neighbours, first)[inverse.reshape(identity.shape)]
        else:
            colours = _next_colours(colours, neighbours, np.arange(colours.size)).reshape(colours.shape)
    return [_md5("['" + "', '".join(row) + "']") for row in np.sort(colours, axis=1).astype("U32").tolist()]


def _neighbours(matrices: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Neighbours [n * count, count]: those of each vertex first, then `count` as filler."""
    count = matrices.shape[1]
    lists = np.where(matrices, np.arange(count, dtype=np.int8), np.int8(count))
    return np.sort(lists.reshape(-1, count), axis=1)


def _next_colours(
    colours: NDArray[np.bytes_], neighbours: Sequence[NDArray[np.int8]], wanted: NDArray[np.int64]
) -> NDArray[np.bytes_]:
    """MD5 colours of the next round for the `wanted` vertices (flat positions), in that order."""
    count = colours.shape[1]
    flat = colours.ravel()
    incoming, outgoing = (lists.take(wanted, axis=0) for lists in neighbours)
    degrees = (incoming < count).sum(axis=1) * (count + 1) + (outgoing < count).sum(axis=1)
    result = np.empty(len(wanted), dtype="S32")
    for degree in np.unique(degrees):
        rows = np.flatnonzero(degrees == degree)
        num_in, num_out = divmod(int(degree), count + 1)
        vertices = wanted[rows]
        graph = vertices // count * count
        message = np.full((len(rows), 32 * (num_in + num_out + 1) + 2), ord("|"), dtype=np.uint8)
        middle = 32 * num_in
        message[:, :middle] = _joined(flat, graph, incoming[rows, :num_in])
        message[:, middle + 1 : -33] = _joined(flat, graph, outgoing[rows, :num_out])
        message[:, -32:] = flat[vertices].view(np.uint8).reshape(-1, 32)
        result[rows] = md5_hex(message)
    return result


def _joined(colours: NDArray[np.bytes_], graph: NDArray[np.int64], vertices: NDArray[np.int8]) -> _Bytes:
    """Sorted and joined colours of `vertices` [n, k] of the graphs that begin at `graph`, as characters."""
    chosen: NDArray[np.bytes_] = colours[graph[:, None] + vertices]
    if vertices.shape[1] > 1:
        chosen.sort(axis=1)
    characters: _Bytes = chosen.view(np.uint8).reshape(len(graph), -1)
    return characters


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()
