"""Where the nodes of a graph are drawn, and along which points its edges run: layers from top to bottom.

The method is that of Sugiyama et al. 1981. A node is a layer below the lowest that it reads; an edge that
passes layers has a place in each of them, so that it runs beside the nodes. Places within layers are ordered
by the barycentres of their neighbours. Then each layer is put as close below its neighbours as its widths
allow, which is an isotonic regression. A graph much higher than wide is broken into columns, at layers from
which few values lead on.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from onnx_bench_dataset.errors import UnsupportedModelError

Point = tuple[float, float]
"""x to the right and y downwards."""

LAYER_GAP = 17.0
_NODE_GAP = 12.0
_LANE = 10.0  # width that a passing edge takes
_GUTTER = 34.0  # between columns
_MOST_BROKEN = 3  # values that lead from one column to the next
_TRACK = 5.0  # between them; as many fit between layers
_LEAST_COLUMN = 380.0  # a lower graph is never broken into columns
_SWEEPS = 6
_MOST_PLACES = 20_000  # of nodes and passing edges


class Size(NamedTuple):
    """Width and height."""

    width: float
    height: float


class Layout(NamedTuple):
    """The centre of every node, the points of every edge, and the size of all."""

    centres: list[Point]
    routes: list[Route]
    size: Size


class Route(NamedTuple):
    """The points through which an edge runs."""

    points: list[Point]
    is_angular: bool
    """Whether it runs straight from point to point, because it leads to another column."""


def arrange(
    sizes: Sequence[Size], edges: Sequence[tuple[int, int]], floating: frozenset[int] = frozenset()
) -> Layout:
    """Lay out nodes of given sizes; every edge leads from an earlier node to a later one.

    Nodes in `floating`, with one edge in and one out, are put where there is room between both.

    Raises:
        UnsupportedModelError: too many edges pass too many layers.
    """
    layers = _layers(sizes, edges, floating)
    graph = _Layered(sizes, edges, layers, apart=floating)
    graph.order()
    graph.place()
    return _Columns(graph).layout()


def _layers(sizes: Sequence[Size], edges: Sequence[tuple[int, int]], floating: frozenset[int]) -> list[int]:
    """Return the layer of every node, from 0."""
    layers = [0] * len(sizes)
    entering, leaving = defaultdict(list), {}
    for source, target in edges:
        entering[target].append(source)
        leaving[source] = target
    for node in range(len(sizes)):
        layers[node] = max((layers[source] + 1 for source in entering[node]), default=0)
    widths: dict[int, float] = defaultdict(float)
    for node in floating:
        first, end = layers[entering[node][0]] + 1, layers[leaving[node]]
        if end - first == 1:
            widths[first] += sizes[node].width + _NODE_GAP
    for node in sorted(floating):
        first, end = layers[entering[node][0]] + 1, layers[leaving[node]]
        if end - first > 1:
            middle = (first + end - 1) / 2
            layers[node] = min(
                range(first, end), key=lambda layer: (widths[layer], abs(layer - middle), layer)
            )
            widths[layers[node]] += sizes[node].width + _NODE_GAP
    return layers


class _Layered:
    """Places in layers: the nodes, and one for each edge in every layer that it passes.

    Edges from one node share the places that they pass, but for those that end in `apart`.
    """

    def __init__(
        self,
        sizes: Sequence[Size],
        edges: Sequence[tuple[int, int]],
        layers: Sequence[int],
        apart: frozenset[int],
    ) -> None:
        self.num_nodes = len(sizes)
        self.sizes = list(sizes)
        self.edges = edges
        self.layer_of = list(layers)
        self.paths: list[list[int]] = []
        self.above: list[dict[int, None]] = [{} for _ in sizes]
        self.below: list[dict[int, None]] = [{} for _ in sizes]
        lanes: dict[tuple[int, int, int], int] = {}
        for source, target in edges:
            alone = target if target in apart else -1
            path = [source]
            for layer in range(layers[source] + 1, layers[target]):
                key = (source, alone, layer)
                if key not in lanes:
                    lanes[key] = self._add_lane(layer)
                path.append(lanes[key])
            path.append(target)
            for upper, lower in pairwise(path):
                self.below[upper][lower] = self.above[lower][upper] = None
            self.paths.append(path)
        self.layers: list[list[int]] = [[] for _ in range(max(self.layer_of, default=-1) + 1)]
        for place, layer in enumerate(self.layer_of):
            self.layers[layer].append(place)
        self.x = [0.0] * len(self.sizes)

    def _add_lane(self, layer: int) -> int:
        if len(self.sizes) == _MOST_PLACES:
            raise UnsupportedModelError(
                "the network has too many long connections to be drawn; `onnx-bench show` opens it in netron"
            )
        self.sizes.append(Size(_LANE, 0.0))
        self.layer_of.append(layer)
        self.above.append({})
        self.below.append({})
        return len(self.sizes) - 1

    def order(self) -> None:
        """Order the layers so that few edges cross."""
        best, least = [list(layer) for layer in self.layers], self._crossings()
        for sweep in range(_SWEEPS):
            if not least:
                break
            downwards = sweep % 2 == 0
            neighbours = self.above if downwards else self.below
            rank = {place: number for layer in self.layers for number, place in enumerate(layer)}
            for layer in self.layers[1:] if downwards else self.layers[-2::-1]:
                centre = {
                    place: sum(rank[other] for other in neighbours[place]) / len(neighbours[place])
                    if neighbours[place]
                    else float(rank[place])
                    for place in layer
                }
                layer.sort(key=centre.__getitem__)
                rank.update((place, number) for number, place in enumerate(layer))
            crossings = self._crossings()
            if crossings < least:
                best, least = [list(layer) for layer in self.layers], crossings
        self.layers = best

    def _crossings(self) -> int:
        count = 0
        for upper, lower in pairwise(self.layers):
            rank = {place: number for number, place in enumerate(lower)}
            seen: list[int] = []
            for place in upper:
                ends = sorted(rank[other] for other in self.below[place])
                count += sum(len(seen) - bisect_right(seen, end) for end in ends)
                for end in ends:
                    insort(seen, end)
        return count

    def place(self) -> None:
        """Give every place its x; edges that pass layers are kept straight above all."""
        self.position = {place: number for layer in self.layers for number, place in enumerate(layer)}
        for layer in self.layers:
            self._settle(layer, [0.0] * len(layer), [1.0] * len(layer))
        for sweep in range(_SWEEPS + 2):
            downwards = sweep % 2 == 0
            last = sweep >= _SWEEPS
            for layer in self.layers if downwards else self.layers[::-1]:
                wanted, weights = [], []
                for place in layer:
                    near = [*self.above[place], *self.below[place]] if last else []
                    near = near or list(self.above[place] if downwards else self.below[place])
                    pulls = [self._weight(place, other) for other in near]
                    total = sum(pulls)
                    pulled = sum(pull * self.x[other] for pull, other in zip(pulls, near, strict=True))
                    wanted.append(pulled / total if total else self.x[place])
                    weights.append(max(1.0, total) if total else 0.1)
                self._settle(layer, wanted, weights)

        for chain in sorted(self._chains(), key=len, reverse=True):
            self._straighten(chain)

    def _chains(self) -> Iterator[list[int]]:
        """Yield rows of places, each of which is all that the one before leads to, and reads nothing else."""
        following = {}
        for place, below in enumerate(map(list, self.below)):
            if len(below) == 1 and len(self.above[below[0]]) == 1:
                following[place] = below[0]
        for start in sorted(following.keys() - following.values()):
            chain = [start]
            while chain[-1] in following:
                chain.append(following[chain[-1]])
            yield chain

    def _straighten(self, chain: Sequence[int]) -> None:
        """Put places exactly below each other, in as few pieces as their neighbours leave room for."""
        piece: list[int] = []
        low, high = -math.inf, math.inf
        for place in chain:
            left, right = self._room(place)
            if max(low, left) > min(high, right):
                self._align(piece, low, high)
                piece, low, high = [], -math.inf, math.inf
            piece.append(place)
            low, high = max(low, left), min(high, right)
        self._align(piece, low, high)

    def _room(self, place: int) -> tuple[float, float]:
        """Return between which x a place may be without changing the order or touching its neighbours."""
        layer = self.layers[self.layer_of[place]]
        number = self.position[place]
        low, high = -math.inf, math.inf
        if number:
            before = layer[number - 1]
            low = self.x[before] + self._apart(before, place)
        if number + 1 < len(layer):
            behind = layer[number + 1]
            high = self.x[behind] - self._apart(place, behind)
        return low, high

    def _apart(self, left: int, right: int) -> float:
        return (self.sizes[left].width + self.sizes[right].width) / 2 + _NODE_GAP

    def _align(self, piece: Sequence[int], low: float, high: float) -> None:
        if piece:
            mean = sum(self.x[place] for place in piece) / len(piece)
            for place in piece:
                self.x[place] = min(max(mean, low), high)

    def _weight(self, place: int, other: int) -> float:
        return (1.0, 2.0, 8.0)[(place >= self.num_nodes) + (other >= self.num_nodes)]

    def _settle(self, layer: Sequence[int], wanted: Sequence[float], weights: Sequence[float]) -> None:
        """Put a layer where its places would be, moved as little as keeps them apart (least squares)."""
        apart = [self._apart(left, right) for left, right in pairwise(layer)]
        shifts = list(accumulate(apart, initial=0.0))
        pools: list[tuple[float, float, int]] = []  # mean, weight, how many
        for goal, shift, weight in zip(wanted, shifts, weights, strict=False):
            mean, total, count = goal - shift, weight, 1
            while pools and pools[-1][0] > mean:
                other, more, number = pools.pop()
                mean = (mean * total + other * more) / (total + more)
                total, count = total + more, count + number
            pools.append((mean, total, count))
        means = [mean for mean, _, count in pools for _ in range(count)]
        for place, mean, shift in zip(layer, means, shifts, strict=False):
            self.x[place] = mean + shift


class _Columns:
    """The layers put one below the other, in as many columns as make the whole roughly square."""

    def __init__(self, graph: _Layered) -> None:
        self._graph = graph
        self._heights = [
            max(graph.sizes[place].height for place in layer) + LAYER_GAP for layer in graph.layers
        ]
        self._crossing = [sorted(sources) for sources in self._sources_crossing()]
        self._column_of = self._break()
        self._y = [0.0] * len(graph.layers)
        self._offsets: list[float] = []
        self._lefts: list[float] = []
        self._bottom = 0.0
        self._width = 0.0
        self._measure()

    def _sources_crossing(self) -> list[set[int]]:
        """Return for each layer the nodes in it or above whose values lead below it."""
        crossing: list[set[int]] = [set() for _ in self._graph.layers]
        for path in self._graph.paths:
            for place in path[:-1]:
                crossing[self._graph.layer_of[place]].add(path[0])
        return crossing

    def _break(self) -> list[int]:
        """Return the column of every layer."""
        graph = self._graph
        total = sum(self._heights)
        edges = [
            (graph.x[place] - graph.sizes[place].width / 2, graph.x[place] + graph.sizes[place].width / 2)
            for layer in graph.layers
            for place in layer
        ]
        width = max(right for _, right in edges) - min(left for left, _ in edges) + _GUTTER
        count = max(1, round(math.sqrt(total / width))) if total > _LEAST_COLUMN else 1
        height = total / count
        columns, column, filled = [], 0, 0.0
        for layer, more in enumerate(self._heights):
            may_break = layer > 0 and len(self._crossing[layer - 1]) <= _MOST_BROKEN
            if may_break and column < count - 1 and filled + more / 2 > height:
                column, filled = column + 1, 0.0
            columns.append(column)
            filled += more
        return columns

    def _measure(self) -> None:
        graph = self._graph
        tops: dict[int, float] = {}
        extents: dict[int, tuple[float, float]] = {}
        for layer, column in enumerate(self._column_of):
            top = tops.get(column, LAYER_GAP if column else 0.0)
            self._y[layer] = top + (self._heights[layer] - LAYER_GAP) / 2
            tops[column] = top + self._heights[layer]
            left, right = extents.get(column, (math.inf, -math.inf))
            for place in graph.layers[layer]:
                half = graph.sizes[place].width / 2
                left, right = min(left, graph.x[place] - half), max(right, graph.x[place] + half)
            extents[column] = (left, right)
        self._bottom = max(tops.values()) - LAYER_GAP
        if len(extents) > 1:
            self._bottom += LAYER_GAP
        for left, right in extents.values():
            self._lefts.append(self._width)
            self._offsets.append(self._width - left)
            self._width += right - left + _GUTTER
        self._width -= _GUTTER

    def _point(self, place: int) -> Point:
        layer = self._graph.layer_of[place]
        return self._graph.x[place] + self._offsets[self._column_of[layer]], self._y[layer]

    def layout(self) -> Layout:
        """Return the result."""
        graph = self._graph
        routes = [self._route(path) for path in graph.paths]
        centres = [self._point(node) for node in range(graph.num_nodes)]
        return Layout(centres, routes, Size(self._width, self._bottom))

    def _route(self, path: Sequence[int]) -> Route:
        """Return the points of an edge; between columns it runs below one and above the next."""
        columns = [self._column_of[self._graph.layer_of[place]] for place in path]
        points = [self._point(path[0])]
        for upper, place, (before, column) in zip(path, path[1:], pairwise(columns), strict=False):
            point = self._point(place)
            if column != before:
                # values that leave a column together run side by side
                apart = _TRACK * self._crossing[self._graph.layer_of[upper]].index(path[0])
                gutter = self._lefts[column] - _GUTTER / 2 - apart
                below = self._bottom - _TRACK / 2 - apart
                above = _TRACK * (_MOST_BROKEN - 0.5) - apart
                points += [(points[-1][0], below), (gutter, below), (gutter, above), (point[0], above)]
            points.append(point)
        return Route(points, columns[0] != columns[-1])
