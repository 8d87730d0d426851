"""The row groups of a built folder, and a sample of its rows."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from builders.manifest import SpaceRecord
from onnx_bench_dataset.errors import BuildError

ADVICE = "`python -m builders verify` says what is wrong with the folder"

_SEED = 0


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a shard, and which of its rows, from 0, are in the sample."""

    folder: Path
    space: str
    path: str
    number: int
    sampled: tuple[int, ...]

    def rows(self, columns: list[str], chosen: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Return the chosen rows, all without a choice.

        Raises:
            BuildError: the shard is damaged.
        """
        path = self.folder / self.path
        try:
            table = pq.ParquetFile(path).read_row_group(self.number, columns=columns).select(columns)
        except (OSError, KeyError, pa.ArrowException) as error:
            raise BuildError(
                f"row group {self.number} of {path} cannot be read: {error}; {ADVICE}"
            ) from error
        found: list[dict[str, Any]] = (table if chosen is None else table.take(pa.array(chosen))).to_pylist()
        return found


def row_groups(folder: Path, space: str, record: SpaceRecord, sample: int) -> Iterator[RowGroup]:
    """Yield the row groups of a space with a sample of its rows, which depends on their number alone.

    Raises:
        BuildError: a shard is damaged.
    """
    count = record.rows()
    chosen = draw(count, sample)
    first = 0
    for shard in record.shards:
        sizes = _sizes(folder / shard.path)
        if sum(sizes) != shard.rows:
            raise BuildError(f"{folder / shard.path} has other rows than the manifest says; {ADVICE}")
        for number, size in enumerate(sizes):
            yield RowGroup(folder, space, shard.path, number, within(chosen, first, size))
            first += size


def draw(count: int, sample: int) -> list[int]:
    """Return `sample` of `count` rows, all if there are not so many, by their numbers in order."""
    return sorted(random.Random(_SEED).sample(range(count), min(sample, count)))


def within(chosen: Sequence[int], first: int, size: int) -> tuple[int, ...]:
    """Return which of the chosen rows are among the `size` rows from `first` on, counted from there."""
    begin, end = bisect_left(chosen, first), bisect_left(chosen, first + size)
    return tuple([row - first for row in chosen[begin:end]])


def _sizes(path: Path) -> list[int]:
    try:
        metadata = pq.ParquetFile(path).metadata
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        raise BuildError(f"{path} cannot be read: {error}; {ADVICE}") from error
