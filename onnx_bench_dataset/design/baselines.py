"""What designs must be better than: cells that no knowledge, or simpler knowledge, comes up with.

Those without search see experts, or not even these: random cells, experts with one random change, and the
links that are most frequent among experts. Those with search may ask for as many accuracies as there are
experts: random search and regularized evolution (Real et al. 2019, arXiv 1802.01548).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from onnx_bench_dataset.design.knowledge import Knowledge
from onnx_bench_dataset.design.learning import draw_cells
from onnx_bench_dataset.design.model import blank, operations
from onnx_bench_dataset.spaces.nasbench101_cells import MAX_EDGES, MAX_VERTICES, OPERATIONS, Cell, cell_hash

_DRAWN = 20_000
_POPULATION = 10
_TOURNAMENT = 5


def mutated_experts(knowledge: Knowledge, count: int, seed: int) -> list[Cell]:
    """Return `count` new cells that are a random expert with one random change."""
    draw = np.random.default_rng(seed)

    def attempts() -> Iterable[Cell]:
        while True:
            yield mutated(knowledge.experts[draw.integers(len(knowledge.experts))], draw)

    return _first_new(attempts(), knowledge.experts, count)


def mutated(cell: Cell, draw: np.random.Generator) -> Cell:
    """Return a cell of NAS-Bench-101 that differs from `cell` in one link, operation or further vertex.

    All links, operations and pairs that a further vertex could lie between are equally likely to change.
    """
    last = len(cell.inputs)
    pairs = [(source, target) for target in range(1, last + 1) for source in range(target)]
    changes = [("link", pair) for pair in pairs] + [("operation", (0, v)) for v in range(1, last)]
    if last < MAX_VERTICES - 1:
        changes += [("vertex", pair) for pair in pairs]
    while True:
        change, (source, target) = changes[draw.integers(len(changes))]
        inputs, kinds = [set(sources) for sources in cell.inputs], list(cell.operations)
        kind = str(draw.choice(OPERATIONS))
        if change == "link":
            inputs[target - 1] ^= {source}
        elif change == "operation":
            kinds[target - 1] = kind
        else:  # the new vertex is numbered next to its source
            inputs = [{number + (number > source) for number in some} for some in inputs]
            inputs[target - 1].add(source + 1)
            inputs.insert(source, {source})
            kinds.insert(source, kind)
        changed = Cell(tuple(tuple(sorted(some)) for some in inputs), tuple(kinds)).pruned()
        if changed not in (None, cell) and changed.num_edges <= MAX_EDGES:
            return changed


def frequent_links(knowledge: Knowledge, count: int, seed: int) -> list[Cell]:
    """Return `count` new cells that come up most often when links and operations are drawn independently.

    A link is drawn as often as experts with as many vertices have it, and so are operations.
    """
    generator = torch.Generator().manual_seed(seed)
    by_size: dict[int, list[Cell]] = {}
    for expert in knowledge.experts:
        by_size.setdefault(len(expert.operations), []).append(expert)
    drawn: Counter[Cell] = Counter()
    for size, experts in by_size.items():
        links = blank(experts).is_linked.reshape(len(experts), -1).float().mean(0)
        kinds = operations(experts).reshape(len(experts), -1)[:, 1:-1]
        shares = torch.stack([(kinds == kind).float().mean(0) for kind in range(len(OPERATIONS))], dim=1)
        amount = _DRAWN * len(experts) // len(knowledge.experts)
        drawn.update(draw_cells(size, links, shares, amount, generator))
    return _first_new((cell for cell, _ in drawn.most_common()), knowledge.experts, count)


def random_search(cells: Sequence[Cell], accuracy: Callable[[Cell], float]) -> Cell:
    """Return the best of `cells`."""
    return max(cells, key=accuracy)


def regularized_evolution(
    cells: Sequence[Cell], accuracy: Callable[[Cell], float], queries: int, seed: int
) -> Cell:
    """Return the best cell that evolution finds with so many accuracies; `cells` are the first population.

    The population has 10 cells, or half the queries where these are fewer than 20; the best of five random
    ones is changed, and the oldest one dies.
    """
    draw = np.random.default_rng(seed)
    first = cells[: max(1, min(_POPULATION, queries // 2))]
    population = deque((accuracy(cell), cell) for cell in first)
    best = max(population)
    for _ in range(queries - len(population)):
        rivals = draw.choice(len(population), min(_TOURNAMENT, len(population)), replace=False)
        parent = max(population[place] for place in rivals)[1]
        child = mutated(parent, draw)
        population.append((accuracy(child), child))
        population.popleft()
        best = max(best, population[-1])
    return best[1]


def _first_new(cells: Iterable[Cell], experts: Sequence[Cell], count: int) -> list[Cell]:
    known = set(map(cell_hash, experts))
    new: list[Cell] = []
    for cell in cells:
        name = cell_hash(cell)
        if name not in known:
            known.add(name)
            new.append(cell)
            if len(new) == count:
                break
    return new
