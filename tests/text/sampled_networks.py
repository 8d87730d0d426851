"""Networks of the cell spaces, drawn at random without listing a space first."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from onnx_bench_dataset import spaces
from onnx_bench_dataset.digits import table
from onnx_bench_dataset.errors import ArchitectureError
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.spaces.nasbench101 import parse, write
from onnx_bench_dataset.spaces.nasbench101_cells import OPERATIONS


def sampled_networks(space: str, count: int) -> list[Network]:
    """Return the networks of `count` architectures, the same ones every time."""
    network = spaces.get(space).network
    if space == "digits":  # whose architectures take seconds to draw
        return [network(row.architecture) for row in table.read().rows[:count]]
    if space != "nasbench101":
        return [network(architecture) for architecture in spaces.get(space).sample(count, seed=5)]
    return [network(architecture) for architecture in islice(random_cells(), count)]


def random_cells() -> Iterator[str]:
    """Yield cells of NAS-Bench-101, nine in ten of seven vertices, all of which the output depends on."""
    generator = random.Random(5)
    while True:
        last = generator.choice([5, *[6] * 9])
        vertices = [*generator.choices(OPERATIONS, k=last - 1), "output"]
        sources = [
            sorted(generator.sample(range(vertex), min(vertex, generator.choice((1, 1, 2)))))
            for vertex in range(1, last + 1)
        ]
        architecture = " ".join(
            f"{operation}:{','.join(map(str, read))}"
            for operation, read in zip(vertices, sources, strict=True)
        )
        with suppress(ArchitectureError):  # too many edges, or no path to the output
            if write(parse(architecture)) == architecture:
                yield architecture
