"""Drawing architectures of einspace from its probabilistic grammar, as the official code draws them.

Productions and functions are drawn from those that fit the tensor at hand; what turns out to have no way to
end is taken off the list and another is drawn. A computation has probability 0.32, the other productions
share the rest evenly, functions are equally likely (arXiv 2405.20838 and every configuration of the code).
The outermost module is no computation. Two rules differ, so that every network drawn is one that runs:

* a concatenation joins as many branches as its name says. The official sampler also draws others; it then
  sizes the layers that follow for a tensor that is not there, and keeps what happens to run;
* a network beyond the bounds below is drawn anew as a whole. The official sampler does so with networks
  whose parameters number more than half the free bytes of memory or that take five minutes to draw, and
  training drops those that do not fit the device.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from onnx_bench_dataset.graphs.parts import Shape
from onnx_bench_dataset.spaces.einspace_grammar import (
    AGGREGATIONS,
    BRANCHES,
    COMPUTATIONS,
    GROUPS,
    IM2COL,
    LINEAR,
    MAX_DEPTH,
    POSTROUTING,
    PREROUTING,
    PRODUCTS,
    SEEDS_ONLY,
    Grid,
    Misfit,
    Module,
    output_shape,
    patch_grid,
)

COMPUTATION_PROBABILITY = 0.32

MAX_SAMPLED_FUNCTIONS = 500
"""Functions in a network drawn, each branch counted; the published seeds have 89 to 220."""

MAX_SAMPLED_PARAMETERS = 2**25
"""Parameters of a network drawn, its head left out; the published seeds have 2 to 11 million."""

MAX_SAMPLED_ELEMENTS = 2**22
"""Elements of any one tensor for one image: 4 GiB for a batch of 256, the most common in the official code.

Linear layers on one axis after the other reach this soon: about one network in three is drawn anew.
"""

_MAX_DRAWS = 10_000  # of functions and productions in one network, those in vain included


class Bounds(NamedTuple):
    """How large a network drawn may be."""

    functions: int
    parameters: int
    elements: int
    """Of any one tensor for one image."""


class _Drawn(NamedTuple):
    module: Module
    shape: Shape
    branches: int
    """The number of branches that the official code takes the tensor for one of."""
    functions: int
    parameters: int


class _TooLarge(Exception):
    """The network is beyond the bounds: draw another."""


def draw(
    generator: random.Random, input_shape: Shape = (1, 3, 32, 32), bounds: Bounds | None = None
) -> Module:
    """Draw a network for images of a shape that is within bounds, those of this module by default."""
    most = bounds or Bounds(MAX_SAMPLED_FUNCTIONS, MAX_SAMPLED_PARAMETERS, MAX_SAMPLED_ELEMENTS)
    while True:
        try:
            drawn = _Draw(generator, most.elements).module(input_shape, branches=1, depth=0)
        except _TooLarge:
            continue
        if drawn.functions <= most.functions and drawn.parameters <= most.parameters:
            return drawn.module


class _Draw:
    """One attempt at a network."""

    def __init__(self, generator: random.Random, max_elements: int) -> None:
        self._random = generator
        self._max_elements = max_elements
        self._draws = 0

    def module(self, shape: Shape, branches: int, depth: int) -> _Drawn:
        """Draw a module that gets a tensor of `shape`, `depth` modules deep.

        Raises:
            _TooLarge: the network is beyond the bounds.
        """
        productions: dict[str, Callable[[Shape, int, int], _Drawn]] = {
            "sequential": self._sequential,
            "branching": self._branching,
            "routing": self._routing,
            "computation": self._computation,
        }
        if depth == 0:
            del productions["computation"]
        if depth == MAX_DEPTH:
            return self._computation(shape, branches, depth)
        while productions:
            production = self._production(list(productions))
            try:
                return productions[production](shape, branches, depth + 1)
            except Misfit:
                del productions[production]
        raise AssertionError("a sequence of identities always fits")

    def _production(self, names: Sequence[str]) -> str:
        self._count()
        if "computation" not in names:
            return self._random.choice(names)
        share = (1 - COMPUTATION_PROBABILITY) / max(1, len(names) - 1)
        weights = [COMPUTATION_PROBABILITY if name == "computation" else share for name in names]
        return self._random.choices(names, weights)[0]

    def _sequential(self, shape: Shape, branches: int, depth: int) -> _Drawn:
        first = self.module(shape, branches, depth)
        second = self.module(first.shape, branches, depth)
        return _around("sequential", (), [first, second], second.shape, second.branches)

    def _branching(self, shape: Shape, branches: int, depth: int) -> _Drawn:
        branching, shape = self._function(_branching_functions(shape), shape)
        count = BRANCHES[branching]
        alike = 1 if count == 2 else count
        inner = [self.module(shape, count, depth) for _ in range(count // alike)]
        shapes = [each.shape for each in inner for _ in range(alike)]
        names = [name for name in AGGREGATIONS if name not in PRODUCTS or inner[0].branches == 2]
        aggregation, shape = self._function(names, *shapes)
        return _around("branching", (branching, aggregation), inner, shape, 1, alike)

    def _routing(self, shape: Shape, branches: int, depth: int) -> _Drawn:
        before, moved = self._function(_routing_functions(PREROUTING, shape), shape)
        grid = patch_grid(before, shape) if before in IM2COL else None
        inner = self.module(moved, branches, depth)
        after, shape = self._function(POSTROUTING, inner.shape, grid=grid)
        return _around("routing", (before, after), [inner], shape, inner.branches)

    def _computation(self, shape: Shape, branches: int, depth: int) -> _Drawn:
        function, given = self._function(COMPUTATIONS, shape)
        parameters = 0
        if function in LINEAR:
            parameters = (shape[-1] + 1) * given[-1]
        elif function == "norm":
            parameters = 2 * (shape[1] if len(shape) == 4 else shape[-1])
        elif function == "learnable_positional_encoding":
            parameters = math.prod(shape[1:])
        return _Drawn(Module("computation", (function,)), given, branches, 1, parameters)

    def _function(self, names: Sequence[str], *shapes: Shape, grid: Grid | None = None) -> tuple[str, Shape]:
        """Draw one of the functions that fit; return it with the shape that it gives."""
        fitting = {}
        for name in names:
            try:
                fitting[name] = output_shape(name, *shapes, grid=grid)
            except Misfit:
                continue
        fitting = {name: shape for name, shape in fitting.items() if name not in SEEDS_ONLY}
        if not fitting:
            raise Misfit("no function fits")
        self._count()
        name = self._random.choice(list(fitting))
        if math.prod(fitting[name][1:]) > self._max_elements:
            raise _TooLarge
        return name, fitting[name]

    def _count(self) -> None:
        self._draws += 1
        if self._draws > _MAX_DRAWS:
            raise _TooLarge


def _around(
    production: str,
    functions: tuple[str, ...],
    inner: Sequence[_Drawn],
    shape: Shape,
    branches: int,
    alike: int = 1,
) -> _Drawn:
    """Put drawn modules, each of which is built `alike` times, into one."""
    return _Drawn(
        Module(production, functions, tuple(each.module for each in inner)),
        shape,
        branches,
        len(functions) + alike * sum(each.functions for each in inner),
        alike * sum(each.parameters for each in inner),
    )


def _branching_functions(shape: Shape) -> list[str]:
    """List the branching functions drawn at a shape; no axis may be smaller than the number of groups."""
    smallest = min(shape[1:])
    return [name for name in BRANCHES if name not in GROUPS or GROUPS[name][0] <= smallest]


def _routing_functions(names: Sequence[str], shape: Shape) -> list[str]:
    """List the routing functions drawn at a shape: im2col only where a patch lies inside the image."""
    inside = min(shape[2:])
    return [name for name in names if name not in IM2COL or IM2COL[name][0] <= inside]
