"""The experience base: the best cells of NAS-Bench-101, and ordinary ones to compare them with.

Experts are the cells of highest mean validation accuracy at 108 epochs where the data set has it for every
cell, else of highest mean test accuracy; `Knowledge.ranked_by` says which. Ordinary cells are drawn uniformly
from all cells of the data set, and nobody looks at their accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from onnx_bench_dataset.errors import ArchitectureError, DesignError
from onnx_bench_dataset.loading import NAME, load_dataset
from onnx_bench_dataset.spaces.nasbench101 import parse
from onnx_bench_dataset.spaces.nasbench101_cells import Cell

SPACE = "nasbench101"
EXPERTS = 20
ORDINARY = 4_000
"""How many cells experts are compared with."""

_EPOCHS = 108


class Knowledge(NamedTuple):
    """What is learned from: experts, the best first, and cells like any other."""

    experts: tuple[Cell, ...]
    ordinary: tuple[Cell, ...]
    ranked_by: str


class MeasuredCells(NamedTuple):
    """All cells of NAS-Bench-101 of a data set that are labelled, the best first."""

    ids: Sequence[str]
    architectures: Sequence[str]
    accuracies: NDArray[np.float64]
    """Mean test accuracies in percent, which measurements look up; not a number where unknown."""
    ranked_by: str

    def knowledge(self, experts: int = EXPERTS, seed: int = 0) -> Knowledge:
        """Return the `experts` best cells, and ordinary cells drawn by `seed`.

        Raises:
            DesignError: there are not so many cells.
        """
        check_number(experts, len(self.architectures))
        best = tuple(map(parse, self.architectures[:experts]))
        return Knowledge(best, self.ordinary(seed), self.ranked_by)

    def ordinary(self, seed: int) -> tuple[Cell, ...]:
        """Return cells drawn uniformly."""
        count = len(self.architectures)
        drawn = np.random.default_rng(seed).choice(count, min(ORDINARY, count), replace=False)
        return tuple(parse(self.architectures[place]) for place in drawn)


def measured_cells(path: str = NAME) -> MeasuredCells:
    """Return the measured cells of a data set, which `load_dataset` finds.

    Raises:
        LoadError: there is no data set, or it cannot be read.
        UnknownNameError: it has no NAS-Bench-101.
        DesignError: none of its cells has a label.
    """
    splits = load_dataset(path, SPACE, columns=["id", "architecture", "accuracy", "metrics"])
    tables: list[pa.Table] = [split.with_format("arrow")[:] for split in splits.values()]
    table = pa.concat_tables(tables)
    accuracies = pc.fill_null(table["accuracy"].cast(pa.float64()), float("nan")).to_numpy()
    figures, ranked_by = _validation_accuracies(table), "validation"
    if not np.isfinite(figures).all():
        figures, ranked_by = accuracies, "test"
    known = np.flatnonzero(np.isfinite(figures))
    if not len(known):
        raise DesignError(
            f"{path} has no cell of {SPACE} with an accuracy, so nobody to learn from: build it from the "
            "published labels, or name experts with --expert-file"
        )
    order = known[np.argsort(-figures[known], kind="stable")]
    ordered = table.take(pa.array(order))
    return MeasuredCells(
        ordered["id"].to_pylist(),
        ordered["architecture"].to_pylist(),
        accuracies[order],
        f"mean {ranked_by} accuracy, {_EPOCHS} epochs",
    )


def read_experts(path: Path) -> tuple[Cell, ...]:
    """Return the cells of a text file with an architecture of NAS-Bench-101 on each line.

    Raises:
        DesignError: the file cannot be read, holds no cell, or a line is no cell; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DesignError(f"the experts of {path} cannot be read: {error}") from error
    experts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            experts.append(parse(line.strip()))
        except ArchitectureError as error:
            raise DesignError(f"{path}, line {number}: {error}") from error
    if not experts:
        raise DesignError(f"{path} holds no expert: it needs an architecture of {SPACE} on each line")
    return tuple(experts)


def check_number(experts: int, available: int) -> None:
    """Refuse a number of experts that cannot be had.

    Raises:
        DesignError: it is below 1 or above `available`.
    """
    if not 1 <= experts <= available:
        raise DesignError(f"{experts:,} experts were asked for: from 1 to {available:,} can be had")


def _validation_accuracies(table: pa.Table) -> NDArray[np.float64]:
    column = table["metrics"].combine_chunks()
    metrics = pc.list_flatten(column)
    rows = pc.list_parent_indices(column)
    wanted = pc.and_(
        pc.and_(
            pc.equal(pc.struct_field(metrics, "dataset"), "cifar10"),
            pc.equal(pc.struct_field(metrics, "split"), "valid"),
        ),
        pc.and_(
            pc.equal(pc.struct_field(metrics, "name"), "accuracy"),
            pc.equal(pc.struct_field(metrics, "epochs"), _EPOCHS),
        ),
    )
    found = np.full(len(table), np.nan)
    places = rows.filter(wanted).to_numpy(zero_copy_only=False)
    found[places] = pc.struct_field(metrics, "value").filter(wanted).to_numpy(zero_copy_only=False)
    return found
