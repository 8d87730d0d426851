"""Designing architectures: candidates of a space, weighed by what was learned, and the new ones among them.

No accuracy of a candidate is looked at. Cells of NAS-Bench-101 are written by the link models in one pass;
cells of the other spaces, whose wiring is given or much larger, are drawn from the space. The links of each
are weighed once, in the form that all spaces share, and those are kept whose links are most like experts'.
A design is new: neither an expert, nor the same as a design before it, both up to isomorphism and to what the
counterparts of operations tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from onnx_bench_dataset import spaces
from onnx_bench_dataset.design.cells import nasbench201_cell, nasbench301_cell
from onnx_bench_dataset.design.learning import Writer
from onnx_bench_dataset.errors import DesignError, UnknownNameError
from onnx_bench_dataset.spaces import nasbench101, nasbench301_genotypes
from onnx_bench_dataset.spaces.nasbench101_cells import Cell, cell_hash
from onnx_bench_dataset.spaces.nasbench301_genotypes import Genotype

CANDIDATES = 20_000
"""How many cells are written; of NAS-Bench-201 all 15,625 are weighed, of DARTS half as many."""

MOST_CANDIDATES = 200_000
"""How many there may be where thousands of designs are asked for."""


class Design(NamedTuple):
    """A designed architecture, and the mean log-odds of its links to be an expert's."""

    architecture: str
    weight: float


def design(space: str, writer: Writer, count: int = 10, seed: int = 0) -> list[Design]:
    """Design `count` new architectures of a space, the best first.

    Args:
        space: a key of `SPACES`.
        writer: what was learned of experts, see `learn`.
        count: of designs.
        seed: for the candidates.

    Raises:
        UnknownNameError: nothing can be designed for the space.
        DesignError: there are not so many new architectures among the candidates.
    """
    check_space(space)
    if count < 1:
        raise DesignError(f"{count:,} designs were asked for: at least one can be had")
    designs = SPACES[space](writer, count, seed)
    if len(designs) < count:
        raise DesignError(
            f"{count:,} new architectures of {space} were asked for; there are {len(designs):,} among those "
            f"that were weighed: ask for at most {len(designs):,}"
        )
    return designs


def check_space(space: str) -> None:
    """Make sure that something can be designed for a space.

    Raises:
        UnknownNameError: nothing can.
    """
    if space not in SPACES:
        raise UnknownNameError(f"nothing can be designed for {space!r}, but for {', '.join(SPACES)}")


def _nasbench101(writer: Writer, count: int, seed: int) -> list[Design]:
    cells = list(dict.fromkeys(writer.write(_candidates(count), seed)))
    return [
        Design(nasbench101.write(cells[place]), weight) for place, weight in _newest(writer, cells, count)
    ]


def _nasbench201(writer: Writer, count: int, seed: int) -> list[Design]:
    known = [
        (architecture, cell)
        for architecture in spaces.get("nasbench201").sample(15_625, seed)
        if (cell := nasbench201_cell(architecture)) is not None
    ]
    found = _newest(writer, [cell for _, cell in known], count)
    return [Design(known[place][0], weight) for place, weight in found]


def _nasbench301(writer: Writer, count: int, seed: int) -> list[Design]:
    """Put the cells of random genotypes into an order, and join one and the next of them into a genotype."""
    drawn = spaces.get("nasbench301").sample(_candidates(count) // 4, seed)
    edges = [cell for architecture in drawn for cell in nasbench301_genotypes.parse(architecture)]
    known = [(some, cell) for some in edges if (cell := nasbench301_cell(some)) is not None]
    found = _newest(writer, [cell for _, cell in known], 2 * count)
    return [
        Design(
            nasbench301_genotypes.write(Genotype(known[normal][0], known[reduction][0])),
            (weight + other) / 2,
        )
        for (normal, weight), (reduction, other) in zip(found[::2], found[1::2], strict=False)
    ]


def _candidates(count: int) -> int:
    return min(max(CANDIDATES, 20 * count), MOST_CANDIDATES)


SPACES = {"nasbench101": _nasbench101, "nasbench201": _nasbench201, "nasbench301": _nasbench301}
"""How candidates of each space come about; that is, the spaces that can be designed for."""


def _newest(writer: Writer, cells: Sequence[Cell], count: int) -> list[tuple[int, float]]:
    """Return place and weight of the `count` cells of greatest weight that are new, the best first."""
    large = [place for place, cell in enumerate(cells) if writer.is_large_enough(cell)]
    weights = writer.weigh([cells[place] for place in large])

    def new() -> Iterator[tuple[int, float]]:
        known = set(writer.experts)
        for rank in np.argsort(-weights, kind="stable"):
            place = large[rank]
            name = cell_hash(cells[place])
            if name not in known:
                known.add(name)
                yield place, float(weights[rank])

    return [found for found, _ in zip(new(), range(count), strict=False)]
