"""Check a built folder without trusting the build: every shard, every row, recomputed from the graph.

The functions used are the general ones, which read any ONNX model, not the prepared parts that made the rows.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import ModelProto

from builders import gallery, manifest, pool
from builders.labels import Progress
from builders.manifest import SpaceRecord, split_of
from builders.row_groups import draw, within
from builders.shards import ShardRecord
from onnx_bench_dataset.errors import BuildError, OnnxBenchError
from onnx_bench_dataset.graphs.canonical import describe, text_hash
from onnx_bench_dataset.graphs.graph import Graph
from onnx_bench_dataset.graphs.measures import measure_graph
from onnx_bench_dataset.graphs.simplify import simplify_graph
from onnx_bench_dataset.schema import CATALOG_SCHEMA, SCHEMA
from onnx_bench_dataset.text import decode
from onnx_bench_dataset.text.encode import write

CHECKS = (
    "files",
    "schema",
    "ids",
    "catalog",
    "gallery",
    "labels",
    "metadata",
    "checker",
    "shapes",
    "measures",
    "hash",
    "text",
)
"""What is checked, in the order in which it is reported."""

_EXAMPLES = 3  # failures of a kind that are spelled out
_CARD = "README.md"
_FILES_BESIDE = {_CARD, manifest.FILE, ".gitattributes"}
_FOLDERS_BESIDE = ("pictures/", ".cache/huggingface/")
"""What a folder holds beside the files of its manifest, also if it was downloaded from the Hub."""

_FACTS = ("id", "space", "architecture", "dataset", "accuracy", "label", "metrics")
"""Columns that are checked without the graph."""


@dataclass
class Report:
    """Failures by check, with a few examples of each.

    `rows` is how many rows were read, `recomputed` how many of them were compared with their graphs.
    """

    rows: int = 0
    recomputed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def fail(self, check: str, what: str) -> None:
        """Count a failure."""
        self.failures[check] += 1
        examples = self.examples.setdefault(check, [])
        if len(examples) < _EXAMPLES:
            examples.append(what)

    def add(self, other: Report) -> None:
        """Add the failures of another report."""
        self.rows += other.rows
        self.recomputed += other.recomputed
        self.failures.update(other.failures)
        for check, examples in other.examples.items():
            mine = self.examples.setdefault(check, [])
            mine.extend(examples[: _EXAMPLES - len(mine)])

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures.total()


def verify(folder: Path, workers: int, progress: Progress, rows: int | None = None) -> dict[str, Report]:
    """Check all of a folder and return a report for each space.

    With `rows`, only so many rows of each space are recomputed from their graphs; files, digests, columns,
    ids, labels and the catalog are checked for all rows nevertheless.

    Raises:
        BuildError: the folder is not a dataset folder, or an empty one.
    """
    known = manifest.read(folder)
    if not known:
        raise BuildError(f"{folder} holds no space: build one with `python -m builders`")
    reports = {space: _check_files(folder, space, record) for space, record in known.items()}
    _check_strangers(folder, known, reports)
    tasks = [
        task
        for space, record in known.items()
        for task in _tasks(folder, space, record, reports[space], rows)
    ]
    with pool.processes(workers) as executor:
        done = pool.run(executor, workers, _check_row_group, tasks)
        for space, report in progress(done, desc="row groups", total=len(tasks)):
            reports[space].add(report)
    for space, record in known.items():
        _check_columns(folder, record, reports[space])
    return reports


def _check_files(folder: Path, space: str, record: SpaceRecord) -> Report:
    report = Report()
    for shard in record.files:
        path = folder / shard.path
        if not path.is_file():
            report.fail("files", f"{shard.path} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != shard.sha256:
            report.fail("files", f"{shard.path} is not what the manifest says")
    for split in record.splits:
        names = sorted(shard.path for shard in record.shards if split_of(shard.path) == split)
        wanted = [f"data/{space}/{split}-{i:05d}-of-{len(names):05d}.parquet" for i in range(len(names))]
        if names != wanted:
            report.fail("files", f"the shards of {space} {split} are not numbered through")
    return report


def _check_strangers(folder: Path, known: dict[str, SpaceRecord], reports: dict[str, Report]) -> None:
    """Report a missing card, and files that would be read or published although nobody made them."""
    first = next(iter(reports.values()))
    if not (folder / _CARD).is_file():
        first.fail("files", f"{_CARD} is missing")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    for name in strangers((path.relative_to(folder).as_posix() for path in files), known):
        parts = name.split("/")
        report = reports.get(parts[1], first) if len(parts) > 1 else first
        report.fail("files", f"{name} is not in the manifest")


def strangers(paths: Iterable[str], known: Mapping[str, SpaceRecord]) -> list[str]:
    """Return the paths that no file of a folder with this manifest has."""
    listed = {shard.path for record in known.values() for shard in record.files} | _FILES_BESIDE
    return [path for path in paths if path not in listed and not path.startswith(_FOLDERS_BESIDE)]


@dataclass(frozen=True, slots=True)
class _Task:
    folder: Path
    space: str
    path: str
    group: int
    recomputed: tuple[int, ...] | None
    """Rows of the group, from 0, that are recomputed; None for all."""


def _tasks(
    folder: Path, space: str, record: SpaceRecord, report: Report, rows: int | None
) -> Iterator[_Task]:
    chosen = None if rows is None else draw(record.rows(), rows)
    first = 0
    for shard in record.shards:
        for group, size in enumerate(_row_groups(folder, shard, report)):
            recomputed = None if chosen is None else within(chosen, first, size)
            yield _Task(folder, space, shard.path, group, recomputed)
            first += size


def _row_groups(folder: Path, shard: ShardRecord, report: Report) -> list[int]:
    """Return the numbers of rows of the row groups; none of a shard that cannot be read."""
    try:
        file = pq.ParquetFile(folder / shard.path)
    except (OSError, pa.ArrowException) as error:
        report.fail("files", f"{shard.path} cannot be read: {error}")
        return []
    if not file.schema_arrow.equals(SCHEMA, check_metadata=False):
        report.fail("schema", f"{shard.path} has other columns than a row has")
        return []
    if file.metadata.num_rows != shard.rows:
        report.fail(
            "files", f"{shard.path} has {file.metadata.num_rows} rows, the manifest says {shard.rows}"
        )
    return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]


def _check_row_group(task: _Task) -> tuple[str, Report]:
    report = Report()
    try:
        file = pq.ParquetFile(task.folder / task.path)
        rows = file.read_row_group(task.group, columns=list(_FACTS)).to_pylist()
        whole = []
        if task.recomputed != ():
            table = file.read_row_group(task.group)
            whole = (table if task.recomputed is None else table.take(list(task.recomputed))).to_pylist()
    except (OSError, pa.ArrowException) as error:
        report.fail("files", f"row group {task.group} of {task.path} cannot be read: {error}")
        return task.space, report
    report.rows, report.recomputed = len(rows), len(whole)
    for row in rows:
        for check, what in _fact_failures(task.space, row):
            report.fail(check, f"{row['id']}: {what}")
    for row in whole:
        for check, what in _graph_failures(row):
            report.fail(check, f"{row['id']}: {what}")
    return task.space, report


def _fact_failures(space: str, row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the columns `_FACTS` of a row, as (check, what)."""
    if row["space"] != space or not row["id"].startswith(f"{space}/"):
        yield "ids", f"it is among the rows of {space}"
    yield from _label_failures(row)


def _graph_failures(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where a row is not what its graph says, as (check, what)."""
    try:
        model = ModelProto.FromString(row["onnx"])
        onnx.checker.check_model(model)
    except Exception as error:  # whatever a broken file makes onnx and protobuf raise
        yield "checker", str(error)
        return
    about = {entry.key: entry.value for entry in model.metadata_props}
    if about != {name: row[name] for name in ("id", "space", "architecture")}:
        yield "metadata", f"the graph says of itself {about}"
    try:  # this is what `full_check` adds to the checker, but keeps the shapes for the measures
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:  # onnx names several
        yield "shapes", str(error)
        return
    try:
        graph = Graph.from_model(inferred)
        found = measure_graph(graph)._asdict()
        described = describe(simplify_graph(graph))
        text = write(described)
    except OnnxBenchError as error:
        yield "measures", str(error)
        return
    for name, value in found.items():
        if row[name] != value:
            yield "measures", f"{name} is {value}, not {row[name]}"
    written = described.text()
    if row["graph_hash"] != text_hash(written):
        yield "hash", f"graph_hash is {text_hash(written)}, not {row['graph_hash']}"
    if row["text"] != text:
        yield "text", "it is not the text of the graph"
    try:
        decoded = describe(Graph.from_model(decode(row["text"]))).text()
    except OnnxBenchError as error:
        yield "text", str(error)
        return
    if decoded != written:
        yield "text", "it does not give back the graph"


def _label_failures(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    accuracy, label = row["accuracy"], row["label"]
    if (accuracy is None) != (label is None) or label not in ("trained", "surrogate", None):
        yield "labels", f"accuracy {accuracy} with label {label}"
    if accuracy is not None and not 0 <= accuracy <= 100:
        yield "labels", f"accuracy {accuracy} is no percentage"
    for metric in row["metrics"]:
        if metric["value"] is None or not math.isfinite(metric["value"]):  # the Hub's statistics fail on them
            yield "labels", f"the metric {metric['name']} is {metric['value']}"
    if row["architecture"] == "" or row["dataset"] == "":
        yield "labels", "no architecture or dataset"


def _check_columns(folder: Path, record: SpaceRecord, report: Report) -> None:
    """Check what needs all rows: unique ids, catalog equal to data."""
    try:
        data = _read(folder, record.shards)
        catalog = _read(folder, record.catalog)
    except (OSError, pa.ArrowException, BuildError) as error:
        report.fail("files", str(error))
        return
    twice = [name for name, count in Counter(data["id"].to_pylist()).items() if count > 1]
    for name in twice:
        report.fail("ids", f"{name} occurs more than once")
    if not catalog.equals(data):
        report.fail("catalog", "the catalog's rows are not those of the shards")
    try:
        for fault in gallery.faults(folder, record.gallery, data):
            report.fail("gallery", fault)
    except (OSError, pa.ArrowException, BuildError) as error:
        report.fail("gallery", str(error))
    labels = Counter(label or "unlabelled" for label in data["label"].to_pylist())
    if dict(labels) != dict(record.labels):
        report.fail("labels", f"the manifest counts {dict(record.labels)}, the rows are {dict(labels)}")


def _read(folder: Path, shards: Iterable[ShardRecord]) -> pa.Table:
    """Read the columns of the catalog."""
    tables = []
    for shard in shards:
        file = pq.ParquetFile(folder / shard.path)
        if not set(CATALOG_SCHEMA.names) <= set(file.schema_arrow.names):
            raise BuildError(f"{shard.path} lacks columns")
        tables.append(file.read(columns=CATALOG_SCHEMA.names))
    return pa.concat_tables(tables)


def failed_checks(reports: Sequence[Report]) -> list[str]:
    """Return the checks that failed in any report."""
    return [check for check in CHECKS if any(report.failures[check] for report in reports)]
