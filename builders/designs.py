"""How good designs without search are, beside what needs no knowledge, simpler knowledge, or a search.

Accuracies are looked up when everything is designed: those of NAS-Bench-101 and NAS-Bench-201 in the data
set; those of DARTS cells are what the surrogate of NAS-Bench-301 predicts. Every seed learns anew and designs
anew. Intervals are of the bootstrap over seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from builders.nasbench301 import Surrogate
from builders.sources import Sources
from onnx_bench_dataset import load_dataset, spaces, surrogates
from onnx_bench_dataset.design import MeasuredCells, Negatives, Settings, baselines, design, learn
from onnx_bench_dataset.spaces import nasbench101, nasbench301_genotypes
from onnx_bench_dataset.spaces.nasbench101_cells import Cell, cell_hash

SPACES = ("nasbench101", "nasbench201", "nasbench301")
DESIGNS = 10
EXPERTS = 20
RANDOM_GENOTYPES = 1_000
PREDICTED_CELLS = 10_000
_POPULATION_SEED = 301  # no seed of a design
_FITTED_ROWS = 2_000  # of each space, for the predictor that judges DARTS cells
_RESAMPLES = 2_000
_ABLATED_EXPERTS = (5, 10, 50, 100, 200, 500, 1_000)

Accuracies = list[list[float]]
"""Of each seed's architectures, the best design first."""


@dataclass(frozen=True)
class Truth:
    """Where accuracies are looked up."""

    path: str
    cells: MeasuredCells
    sources: Sources

    @cached_property
    def by_hash(self) -> dict[str, float]:
        """Test accuracies of NAS-Bench-101, in percent."""
        names = (name.partition("/")[2] for name in self.cells.ids)
        return dict(zip(names, self.cells.accuracies.tolist(), strict=True))

    @cached_property
    def nasbench201(self) -> dict[str, float]:
        """Test accuracies of NAS-Bench-201, in percent."""
        splits = load_dataset(self.path, "nasbench201", columns=["architecture", "accuracy"])
        tables = [split.with_format("arrow")[:] for split in splits.values()]
        table = pa.concat_tables(tables)
        return dict(zip(table["architecture"].to_pylist(), table["accuracy"].to_pylist(), strict=True))

    @cached_property
    def surrogate(self) -> Surrogate:
        """What predicts the accuracies of DARTS cells."""
        files = (self.sources.fetch(f"nasbench301/{name}") for name in ("new_model.onnx", "encoding.json"))
        return Surrogate(*files)

    def population(self, space: str) -> NDArray[np.float64]:
        """Return the accuracies of a space; of DARTS, those of random genotypes."""
        if space == "nasbench101":
            return self.cells.accuracies
        if space == "nasbench201":
            return np.array(list(self.nasbench201.values()))
        drawn = spaces.get(space).sample(RANDOM_GENOTYPES, _POPULATION_SEED)
        return np.array(self.of(space, drawn))

    def of_cell(self, cell: Cell) -> float:
        """Return the test accuracy of a cell of NAS-Bench-101."""
        return self.by_hash[cell_hash(cell)]

    def of(self, space: str, architectures: Iterable[str]) -> list[float]:
        """Return accuracies in percent, for DARTS cells as predicted."""
        look_up: dict[str, Callable[[str], float]] = {
            "nasbench101": lambda architecture: self.of_cell(nasbench101.parse(architecture)),
            "nasbench201": lambda architecture: self.nasbench201[architecture],
            "nasbench301": lambda architecture: self.surrogate.predict(
                nasbench301_genotypes.parse(architecture)
            )[0],
        }
        return [look_up[space](architecture) for architecture in architectures]


def measure(truth: Truth, seeds: int, predictor: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure designs and baselines; return plain numbers for a JSON file, without ablations."""
    progress("baselines")
    others = {space: {"random architectures": _random(truth, space, seeds)} for space in SPACES}
    others["nasbench101"] |= _baselines(truth, seeds)
    progress(f"predictor {predictor}")
    others["nasbench101"][f"argmax of the predictor {predictor}"] = _predicted(truth, seeds, predictor)
    architectures, seconds = _designs(truth, seeds, progress)
    designed = {space: [truth.of(space, some) for some in found] for space, found in architectures.items()}
    results: dict[str, Any] = {
        "experts": EXPERTS,
        "ranked_by": truth.cells.ranked_by,
        "seeds": seeds,
        "designs": DESIGNS,
        "seconds": seconds,
        "spaces": {},
        "ablations": {},
    }
    for space, found in designed.items():
        population = truth.population(space)
        results["spaces"][space] = {
            "99th percentile": _rounded(np.percentile(population, 99)),
            "best": _rounded(population.max()),
            "example": architectures[space][0][0],
            "methods": {
                name: summary(some, population, found)
                for name, some in {"designs": found, **others[space]}.items()
            },
        }
    progress("DARTS cells as the predictor sees them")
    results["spaces"]["nasbench301"]["predicted"] = {
        "predictor": predictor,
        "percentiles": _predicted_percentiles(truth, architectures["nasbench301"], predictor),
    }
    return results


def summary(found: Accuracies, population: NDArray[np.float64], designs: Accuracies) -> dict[str, Any]:
    """Return quartiles, best, percentile and intervals (95 %) of what all seeds found.

    `gain` is how much higher the median of the designs is, over seeds that both have.
    """
    flat = np.concatenate([np.array(some) for some in found])
    lower, middle, upper = np.percentile(flat, [25, 50, 75])
    paired = min(len(found), len(designs))
    return {
        "first": _rounded(np.median([some[0] for some in found])),
        "median": _rounded(middle),
        "median_interval": _interval(len(found), lambda chosen: _median(found, chosen)),
        "quartiles": [_rounded(lower), _rounded(upper)],
        "best": _rounded(flat.max()),
        "percentile": round(100 * float((population < middle).mean()), 3),
        "gain_interval": _interval(paired, lambda chosen: _median(designs, chosen) - _median(found, chosen)),
        "seeds": len(found),
        "different": len(set(flat.tolist())),
    }


def _median(found: Accuracies, chosen: Sequence[int]) -> float:
    return float(np.median(np.concatenate([np.array(found[seed]) for seed in chosen])))


def _interval(seeds: int, statistic: Callable[[Sequence[int]], float]) -> list[float]:
    draw = np.random.default_rng(0)
    values = [statistic(draw.integers(seeds, size=seeds).tolist()) for _ in range(_RESAMPLES)]
    return [_rounded(value) for value in np.percentile(values, [2.5, 97.5])]


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 3)


def _designs(
    truth: Truth, seeds: int, progress: Callable[[str], None]
) -> tuple[dict[str, list[list[str]]], dict[str, list[float]]]:
    """Return each seed's designs in each space, and seconds of a core that learning and designing took."""
    found: dict[str, list[list[str]]] = {space: [] for space in SPACES}
    seconds: dict[str, list[float]] = {"learning": [], **{space: [] for space in found}}
    for seed in range(seeds):
        progress(f"designs, seed {seed}")
        knowledge = truth.cells.knowledge(EXPERTS, seed)
        began = time.process_time()
        writer = learn(knowledge, seed)
        seconds["learning"].append(round(time.process_time() - began, 2))
        for space, some in found.items():
            began = time.process_time()
            designs = design(space, writer, DESIGNS, seed)
            seconds[space].append(round(time.process_time() - began, 2))
            some.append([one.architecture for one in designs])
    return found, seconds


def _random(truth: Truth, space: str, seeds: int) -> Accuracies:
    if space == "nasbench101":
        return [
            [truth.of_cell(cell) for cell in truth.cells.ordinary(seed)[:DESIGNS]] for seed in range(seeds)
        ]
    return [truth.of(space, spaces.get(space).sample(DESIGNS, seed)) for seed in range(seeds)]


def _baselines(truth: Truth, seeds: int) -> dict[str, Accuracies]:
    """Return what needs no model: with knowledge of the experts, or with as many accuracies as there are."""
    found: dict[str, Accuracies] = {
        "one change of an expert": [],
        "most frequent links of experts": [],
        "random search": [],
        "regularized evolution": [],
    }
    for seed in range(seeds):
        knowledge = truth.cells.knowledge(EXPERTS, seed)
        cells = knowledge.ordinary[:EXPERTS]
        made = (
            baselines.mutated_experts(knowledge, DESIGNS, seed),
            baselines.frequent_links(knowledge, DESIGNS, seed),
            [baselines.random_search(cells, truth.of_cell)],
            [baselines.regularized_evolution(cells, truth.of_cell, EXPERTS, seed)],
        )
        for accuracies, some in zip(found.values(), made, strict=True):
            accuracies.append([truth.of_cell(cell) for cell in some])
    return found


def _predicted(truth: Truth, seeds: int, predictor: str) -> Accuracies:
    """Return what a predictor takes for the best of random cells.

    It learns from the experts and as many ordinary cells, with their accuracies: twice as many labels as
    designs are made of, since experts alone differ too little to learn an order from.
    """
    drawn = np.random.default_rng(seeds).choice(len(truth.cells.ids), PREDICTED_CELLS, replace=False)
    pool = _table(truth, "nasbench101", [truth.cells.architectures[place] for place in drawn])
    found = []
    for seed in range(seeds):
        knowledge = truth.cells.knowledge(EXPERTS, seed)
        labelled = [*knowledge.experts, *knowledge.ordinary[:EXPERTS]]
        rows = _table(truth, "nasbench101", list(map(nasbench101.write, labelled)))
        learned = surrogates.new(predictor).fit(rows, seed)
        best = np.argsort(-learned.predict(pool.select(["text"])), kind="stable")[:DESIGNS]
        found.append(pool["accuracy"].take(pa.array(best)).to_pylist())
    return found


def _predicted_percentiles(truth: Truth, designs: Sequence[Sequence[str]], predictor: str) -> list[float]:
    """Return which share of random genotypes a predictor ranks below each seed's median design, in percent.

    The predictor has learned from random architectures of NAS-Bench-101 and NAS-Bench-201, never from DARTS.
    """
    drawn = np.random.default_rng(0).choice(len(truth.cells.ids), _FITTED_ROWS, replace=False)
    parts = (
        ("nasbench101", [truth.cells.architectures[place] for place in drawn]),
        ("nasbench201", spaces.get("nasbench201").sample(_FITTED_ROWS, 0)),
    )
    tables = [
        _table(truth, space, some).append_column("group", pa.array([number] * len(some)))
        for number, (space, some) in enumerate(parts)
    ]
    learned = surrogates.new(predictor).fit(pa.concat_tables(tables), 0)

    def scores(architectures: Sequence[str]) -> NDArray[np.float64]:
        return learned.predict(_table(truth, "nasbench301", architectures).select(["text"]))

    random = scores(spaces.get("nasbench301").sample(RANDOM_GENOTYPES, _POPULATION_SEED))
    return [round(100 * float((random < np.median(scores(some))).mean()), 1) for some in designs]


def _table(truth: Truth, space: str, architectures: Sequence[str]) -> pa.Table:
    """Return rows of architectures, as a predictor learns from them."""
    texts = [spaces.get(space).network(architecture).text for architecture in architectures]
    return pa.table({"text": texts, "accuracy": truth.of(space, architectures)})


def ablations(
    truth: Truth, seeds: int, progress: Callable[[str], None]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield what designs for NAS-Bench-101 are worth when one thing is different, as `summary` says it.

    The first is the method as it is, for the seeds that the others have.
    """
    plain = Settings()
    cells = truth.cells
    worst = cells._replace(
        ids=cells.ids[::-1], architectures=cells.architectures[::-1], accuracies=cells.accuracies[::-1]
    )
    changed: list[tuple[str, Callable[[int], MeasuredCells], int, Settings]] = [
        (f"as it is, {EXPERTS} experts", lambda _: cells, EXPERTS, plain),
        ("the worst cells as experts", lambda _: worst, EXPERTS, plain),
        ("no feedback adjacency", lambda _: cells, EXPERTS, Settings(feedback=False)),
        (f"negatives: {Negatives.MISSING}", lambda _: cells, EXPERTS, Settings(negatives=Negatives.MISSING)),
        *((f"{experts:,} experts", lambda _: cells, experts, plain) for experts in _ABLATED_EXPERTS),
        *((f"{depth} layers", lambda _: cells, EXPERTS, Settings(depth=depth)) for depth in (1, 2, 4)),
        ("one model, not eight", lambda _: cells, EXPERTS, Settings(models=1)),
        ("experts of a random half of the space", lambda seed: _half(cells, seed), EXPERTS, plain),
    ]
    unchanged: Accuracies | None = None
    for name, known, experts, settings in changed:
        progress(f"ablation: {name}")
        found = []
        for seed in range(seeds):
            writer = learn(known(seed).knowledge(experts, seed), seed, settings)
            designs = design("nasbench101", writer, DESIGNS, seed)
            found.append(truth.of("nasbench101", [one.architecture for one in designs]))
        unchanged = unchanged or found
        yield name, summary(found, truth.cells.accuracies, unchanged)


def _half(cells: MeasuredCells, seed: int) -> MeasuredCells:
    """Return half of the cells, as if nobody knew the others."""
    kept = np.sort(np.random.default_rng(seed).permutation(len(cells.ids))[: len(cells.ids) // 2])
    return cells._replace(
        ids=[cells.ids[place] for place in kept],
        architectures=[cells.architectures[place] for place in kept],
        accuracies=cells.accuracies[kept],
    )
