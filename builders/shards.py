"""Labelled architectures to rows to Parquet shards, one shard at a time.

A shard is the unit of work, of resuming and of parallelism: it is written aside, flushed to disk and renamed,
so a file under its final name is whole. The bytes depend on the rows alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from builders import stored
from builders.labels import LabelledArchitecture, Metric
from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.schema import CATALOG_SCHEMA, METRIC, SCHEMA
from onnx_bench_dataset.splits import split_of_graph

SHARD_ROWS = 20_000
ROW_GROUP_ROWS = 2_000
CATALOG_SHARD_ROWS = 500_000
TEMPORARY = ".tmp-"
"""Begins the name of a file that is being written."""

_REPETITIVE = ("space", "dataset", "label", *(f"metrics.list.element.{field.name}" for field in METRIC))
_LONG = ("text", "onnx")
_LARGEST_PAGE = 16 << 20  # bytes before compression
_ROWS_AT_ONCE = 200
_ROW_GROUP_BYTES = 1 << 27  # of graphs and texts, after which a row group ends early


class ShardRecord(NamedTuple):
    """A finished shard: its path in the dataset folder and what it holds."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where shards are made: the dataset folder to be, and beside it the folder of unfinished files.

    A build has an `aside` of its own and deletes it in the end, so that what still writes for it, on this
    machine or another, can never put a file into the work of the next build.
    """

    folder: Path
    aside: Path


class Task(Protocol):
    """A piece of work that makes shards: the unit of resuming and of parallelism."""

    def make(self, target: Target) -> list[ShardRecord]:
        """Make the shards, or keep them if they are there already."""


def make(target: Target, task: Task) -> list[ShardRecord]:
    """Do a task; this is what worker processes call."""
    return task.make(target)


@dataclass(frozen=True, slots=True)
class ShardTask:
    """A shard to be made: what it is called, and its rows."""

    space: str
    split: str
    index: int
    count: int
    rows: Sequence[LabelledArchitecture]

    @property
    def path(self) -> str:
        """Path in the dataset folder."""
        return path_of(self.space, self.split, self.index, self.count)

    def make(self, target: Target) -> list[ShardRecord]:
        """Make the shard."""
        return [write_shard(target.folder, self, target.aside)]


def path_of(space: str, split: str, index: int, count: int) -> str:
    """Return the path of one of the `count` shards of a split."""
    return f"data/{space}/{split}-{index:05d}-of-{count:05d}.parquet"


def plan(space: str, split: str, rows: Sequence[LabelledArchitecture]) -> list[ShardTask]:
    """Divide the rows of a split among shards, in order."""
    parts = [rows[start : start + SHARD_ROWS] for start in range(0, len(rows), SHARD_ROWS)]
    return [ShardTask(space, split, index, len(parts), part) for index, part in enumerate(parts)]


def splits_of(space: str, architectures: Sequence[str]) -> list[str]:
    """Return the split of each architecture by the hash of its graph."""
    network = spaces.get(space).network
    return [split_of_graph(network(architecture).graph_hash) for architecture in architectures]


def make_rows(space: str, rows: Iterable[LabelledArchitecture]) -> Iterator[dict[str, Any]]:
    """Yield finished rows, with the network that the space makes, or the row's own.

    Raises:
        BuildError: a graph does not have the published number of parameters, so labels and architectures
            are not joined rightly.
    """
    for row in rows:
        made = (
            stored.load(row.network)
            if row.network is not None
            else spaces.get(space).network(row.architecture, row.name)
        )
        if row.num_params is not None and row.num_params != made.num_params:
            raise BuildError(
                f"{space}/{row.name} has {made.num_params:,} parameters, {row.num_params:,} are published: "
                "the published files and the architectures do not belong together"
            )
        yield {
            "id": f"{space}/{row.name}",
            "space": space,
            "architecture": row.architecture,
            "dataset": row.dataset,
            "accuracy": row.accuracy,
            "label": row.label,
            "metrics": row.metrics,
            **made._asdict(),
        }


def write_shard(folder: Path, task: ShardTask, aside: Path | None = None) -> ShardRecord:
    """Make the rows of a shard and write it below `folder`; keep it if it is there already."""
    path = folder / task.path
    if not path.exists():
        with writing(path, SCHEMA, aside) as add:
            for table in row_groups(make_rows(task.space, task.rows)):
                add(table)
    return record(folder, task.path)


def write_catalog(folder: Path, path: str, shards: Sequence[str], aside: Path | None = None) -> ShardRecord:
    """Write a catalog shard with the rows of finished `shards`, without their long columns."""
    target = folder / path
    if not target.exists():
        with writing(target, CATALOG_SCHEMA, aside) as add:
            for file in (pq.ParquetFile(folder / shard) for shard in shards):
                for group in range(file.num_row_groups):
                    add(file.read_row_group(group, columns=CATALOG_SCHEMA.names))
    return record(folder, path)


def record(folder: Path, path: str) -> ShardRecord:
    """Describe the finished shard at `path` in `folder`."""
    with (folder / path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ShardRecord(path, pq.read_metadata(file).num_rows, os.fstat(file.fileno()).st_size, digest)


def row_groups(rows: Iterable[dict[str, Any]]) -> Iterator[pa.Table]:
    """Put rows into tables of a row group each."""
    groups = RowGroups()
    for row in rows:
        if (table := groups.add(row)) is not None:
            yield table
    if (table := groups.rest()) is not None:
        yield table


@dataclass(slots=True)
class RowGroups:
    """Gathers rows into row groups, piece by piece, so that few graphs are held twice at a time."""

    _piece: list[dict[str, Any]] = field(default_factory=list)
    _piece_bytes: int = 0
    _batches: list[pa.RecordBatch] = field(default_factory=list)
    _rows: int = 0
    _bytes: int = 0

    def add(self, row: dict[str, Any]) -> pa.Table | None:
        """Take a row; return the row group that is full with it."""
        self._piece.append(row)
        self._piece_bytes += _length(row)
        most = min(ROW_GROUP_ROWS - self._rows, _ROWS_AT_ONCE)
        if len(self._piece) < most and self._piece_bytes < _ROW_GROUP_BYTES:
            return None
        self._end_piece()
        is_full = self._rows == ROW_GROUP_ROWS or self._bytes >= _ROW_GROUP_BYTES
        return self._end_group() if is_full else None

    def rest(self) -> pa.Table | None:
        """Return the last row group, None if no row is left for it."""
        if self._piece:
            self._end_piece()
        return self._end_group() if self._batches else None

    def _end_piece(self) -> None:
        self._batches.append(_batch(self._piece))
        self._rows += len(self._piece)
        self._bytes += self._piece_bytes
        self._piece, self._piece_bytes = [], 0

    def _end_group(self) -> pa.Table:
        table = pa.Table.from_batches(self._batches, SCHEMA)
        self._batches, self._rows, self._bytes = [], 0, 0
        return table


def _length(row: dict[str, Any]) -> int:
    return sum(len(row[name]) for name in _LONG)


def _batch(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    columns = [
        _metrics([row["metrics"] for row in rows])
        if column.name == "metrics"
        else pa.array([row[column.name] for row in rows], column.type)
        for column in SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _metrics(rows: Sequence[Sequence[Metric]]) -> pa.ListArray:
    """Build the column field by field, many times faster than from a dictionary per figure."""
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    fields = [
        pa.array([getattr(metric, field.name) for row in rows for metric in row], field.type)
        for field in METRIC
    ]
    values = pa.StructArray.from_arrays(fields, fields=list(METRIC))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


@contextmanager
def writing(path: Path, schema: pa.Schema, aside: Path | None = None) -> Iterator[Callable[[pa.Table], None]]:
    """Write a Parquet file that appears under its name once it is whole; yields what adds a row group.

    It is written in the folder `aside` on the same file system, by default beside its place.

    Raises:
        BuildError: it cannot be written, or its build has ended.
    """
    if aside is None:
        aside = path.parent
        aside.mkdir(parents=True, exist_ok=True)
    # Process ids occur on several machines, and threads share theirs.
    temporary = aside / f"{TEMPORARY}{uuid4().hex}-{path.name}"
    try:
        with temporary.open("wb") as file:
            with pq.ParquetWriter(file, schema, **writer_options(schema)) as writer:

                def add(table: pa.Table) -> None:
                    if not temporary.exists():
                        raise BuildError(f"the build that wanted {path} has ended")
                    writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

                yield add
            file.flush()
            os.fsync(file.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(path)
    except OSError as error:
        raise BuildError(
            f"cannot write {path}: {error.strerror or error}. Shards that are finished are kept: free some "
            "space or choose another folder with --out, then run the same command again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    """Return how shards are written, as arguments of `pyarrow.parquet.ParquetWriter`.

    Graphs resemble their neighbours, so large pages and a high compression level pay. Content-defined
    chunking keeps the unchanged parts of a changed shard equal, which the Hub then does not store again.
    """
    names = set(schema.names)
    return {
        "compression": "zstd",
        "compression_level": 11,
        "use_dictionary": [name for name in _REPETITIVE if name.partition(".")[0] in names],
        "write_statistics": [name for name in schema.names if name not in _LONG],
        "write_page_index": True,
        "data_page_size": _LARGEST_PAGE,
        "use_content_defined_chunking": {
            "min_chunk_size": _LARGEST_PAGE // 4,
            "max_chunk_size": _LARGEST_PAGE,
            "norm_level": 0,
        },
    }
