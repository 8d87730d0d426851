"""How predictors are compared: which rows train, which test.

- `zero-shot`: some rows of NAS-Bench-101 train, all of NAS-Bench-201 test.
- `pairs`: rows of one space train, those of another test, for every ordered pair of families.
- `leave-one-family-out`: every other family trains, with at most 40,000 rows a space, as ONNX-Net
  (arXiv 2510.04938) does.
- `within-space`: a small share of a space trains, the others of it test.
- `within-space-published`: the same, but isomorphic copies of what trains test, too, as in published tables.
- `few-shot`: every other family trains, and a few rows of the family that is tested.

Rows that train are drawn from a seed. Nothing of the tested space is seen before it is predicted, in
`few-shot` nothing but the few rows. But for that one protocol, no network is on both sides, under whatever
name (`graph_hash`). Labels of a surrogate never train, and where they test, the result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onnx_bench_dataset.errors import PredictorError, UnknownNameError
from onnx_bench_dataset.loading import load_dataset
from onnx_bench_dataset.spaces import SPACES
from onnx_bench_dataset.splits import SPLITS
from onnx_bench_dataset.surrogates.visible import GROUP

ROWS_A_SPACE = 40_000
"""At most so many rows of a space train in `leave-one-family-out`."""

ZERO_SHOT_SOURCE, ZERO_SHOT_TARGET = "nasbench101", "nasbench201"
ZERO_SHOT_ROWS = (50, 200, 1_000, 5_000, 50_000)
PAIR_ROWS = 5_000
WITHIN_SHARES: Mapping[str, Sequence[float]] = {
    "nasbench101": (0.0002, 0.001, 0.01),
    "nasbench201": (0.01, 0.1),
}
"""As published: 85, 424 and 4,236 of 423,624 cells, 156 and 1,562 of 15,625."""
FEW_SHOTS = (0, 5, 10, 20, 50, 100)
FEW_SHOT_ROWS = 2_000
"""Rows of every other space that train in `few-shot`."""

_TRAINED = "trained"


class Task(NamedTuple):
    """Rows that train and rows that test."""

    name: str
    """Such as `nasbench101 (200) to nasbench201`."""
    family: str
    """The family that is tested."""
    train: pa.Table
    """Columns of the predictor, if it learns, `accuracy` and `group`."""
    test: pa.Table
    """Columns of the predictor, `accuracy`, `space` and `label`."""


@dataclass(frozen=True)
class Data:
    """Labelled rows of a data set, read space by space as they are needed.

    `path` is a folder or a Hub repository, `columns` are those that the predictor reads; at most `test_rows`
    of a space test, drawn from a fixed seed, all if it is None. Rows that train have these columns only if
    the predictor `learns`.
    """

    path: str
    columns: Sequence[str]
    test_rows: int | None = None
    learns: bool = True

    @cached_property
    def spaces(self) -> list[str]:
        """Return the spaces that are there; small versions of others are left out."""
        catalog = load_dataset(self.path, "catalog", columns=["space"])
        names = {name for split in catalog.values() for name in split.unique("space")}
        known = [name for name in SPACES if name in names and not SPACES[name].is_reduced]
        return known + sorted(names - SPACES.keys())

    def families(self) -> dict[str, list[str]]:
        """Return the spaces of every family."""
        found: dict[str, list[str]] = {}
        for space in self.spaces:
            found.setdefault(SPACES[space].family if space in SPACES else space, []).append(space)
        return found

    def rows(self, space: str) -> pa.Table:
        """Return all labelled rows of a space, in their order."""
        if space not in self._read:
            if space not in self.spaces:
                raise UnknownNameError(
                    f"{self.path} has no rows of {space}; there are {', '.join(self.spaces) or 'none'}"
                )
            columns = list(dict.fromkeys(["id", "space", "graph_hash", "label", "accuracy", *self.columns]))
            splits = load_dataset(self.path, space, columns=columns)
            parts = [splits[split].with_format("arrow")[:] for split in SPLITS if split in splits]
            table = pa.concat_tables(parts)
            # Rows lie on disk; what selects them makes a copy in memory, of graphs many gigabytes.
            unlabelled = table["accuracy"].null_count
            self._read[space] = table.filter(pc.is_valid(table["accuracy"])) if unlabelled else table
        return self._read[space]

    @cached_property
    def _read(self) -> dict[str, pa.Table]:
        return {}

    def is_trained(self, space: str) -> bool:
        """Say whether labels of a space are measured, not predicted by a surrogate."""
        return bool(pc.all(pc.equal(self.rows(space)["label"], _TRAINED)).as_py())

    def drawn(self, space: str, count: int, seed: int) -> pa.Table:
        """Draw rows of a space, all where there are not more."""
        read = self.columns if self.learns else ()
        rows = self.rows(space).select(list(dict.fromkeys(["id", "graph_hash", "accuracy", *read])))
        return rows.take(np.random.default_rng(seed).permutation(len(rows))[:count])

    def task(
        self,
        name: str,
        family: str,
        train: Sequence[pa.Table],
        tested: Sequence[str],
        *,
        identity: str = "graph_hash",
    ) -> Task:
        """Return a task whose training rows are tables of one group each.

        Rows that agree in the column `identity` with one that trains do not test.
        """
        grouped = [
            table.append_column(GROUP, pa.array(np.full(len(table), number)))
            for number, table in enumerate(train)
        ]
        joined = pa.concat_tables(grouped)
        known = pc.unique(joined[identity])
        tests = []
        for space in tested:
            rows = self.rows(space)
            chosen = np.flatnonzero(~pc.is_in(rows[identity], known).to_numpy())
            if self.test_rows is not None and len(chosen) > self.test_rows:
                drawn = np.random.default_rng(0).permutation(len(chosen))[: self.test_rows]
                chosen = chosen[np.sort(drawn)]
            tests.append(rows if len(chosen) == len(rows) else rows.take(chosen))
        return Task(
            name,
            family,
            joined.select([*(self.columns if self.learns else ()), "accuracy", GROUP]),
            pa.concat_tables(tests).select([*self.columns, "accuracy", "space", "label"]),
        )


def tasks(protocol: str, data: Data, seed: int) -> Iterator[Task]:
    """Yield the tasks of a protocol, with training rows drawn from a seed.

    Raises:
        UnknownNameError: there is no such protocol, or the data set lacks a space that it needs.
        PredictorError: the data set has too few families.
    """
    if protocol not in PROTOCOLS:
        raise UnknownNameError(f"there is no protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    yield from PROTOCOLS[protocol](data, seed)


def _zero_shot(data: Data, seed: int) -> Iterator[Task]:
    for count in ZERO_SHOT_ROWS:
        name = f"{ZERO_SHOT_SOURCE} ({count:,}) to {ZERO_SHOT_TARGET}"
        yield data.task(
            name, ZERO_SHOT_TARGET, [data.drawn(ZERO_SHOT_SOURCE, count, seed)], [ZERO_SHOT_TARGET]
        )


def _pairs(data: Data, seed: int) -> Iterator[Task]:
    families = _several(data)
    for source in data.spaces:
        if not data.is_trained(source):
            continue
        rows = data.drawn(source, PAIR_ROWS, seed)
        for family, tested in families.items():
            if source not in tested:
                for space in tested:
                    yield data.task(f"{source} ({len(rows):,}) to {space}", family, [rows], [space])


def _leave_one_family_out(data: Data, seed: int) -> Iterator[Task]:
    for family, tested in _several(data).items():
        train = [data.drawn(space, ROWS_A_SPACE, seed) for space in _others(data, tested)]
        yield data.task(f"all but {family}", family, train, tested)


def _within_space(data: Data, seed: int, identity: str = "graph_hash") -> Iterator[Task]:
    for space, shares in WITHIN_SHARES.items():
        if space not in data.spaces:
            continue
        for share in shares:
            count = round(share * len(data.rows(space)))
            name = f"{space}, {share:.2%} of labels"
            train = [data.drawn(space, count, seed)]
            yield data.task(name, SPACES[space].family, train, [space], identity=identity)


def _few_shot(data: Data, seed: int) -> Iterator[Task]:
    for family, tested in _several(data).items():
        others = [data.drawn(space, FEW_SHOT_ROWS, seed) for space in _others(data, tested)]
        for space in tested:
            for count in FEW_SHOTS:
                few = [data.drawn(space, count, seed)] if count else []
                yield data.task(f"others and {count} rows to {space}", family, [*others, *few], [space])


def _several(data: Data) -> dict[str, list[str]]:
    families = data.families()
    if len(families) < 2:
        raise PredictorError(
            f"{data.path} has rows of {', '.join(families) or 'no family'} alone: nothing can be carried over"
        )
    return families


def _others(data: Data, tested: Sequence[str]) -> list[str]:
    return [space for space in data.spaces if space not in tested and data.is_trained(space)]


PROTOCOLS: Mapping[str, Callable[[Data, int], Iterator[Task]]] = {
    "zero-shot": _zero_shot,
    "pairs": _pairs,
    "leave-one-family-out": _leave_one_family_out,
    "within-space": _within_space,
    "within-space-published": partial(_within_space, identity="id"),
    "few-shot": _few_shot,
}
"""By name."""
