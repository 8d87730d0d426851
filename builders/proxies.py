"""Zero-cost proxies among the metrics of rows that a dataset folder holds.

Scores are computed on standard normal noise with weights as each benchmark draws them. They are figures of no
benchmark: their data is `noise`, their number of epochs 0, and building a space anew leaves them out.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.message import DecodeError

from builders import pool, shards
from builders.build import Outcome, Plan, Where, preparing, publish, stage
from builders.code_version import version
from builders.labels import Metric, Progress
from builders.manifest import SpaceRecord
from builders.row_groups import RowGroup, row_groups
from builders.shards import ShardRecord, Target
from onnx_bench_dataset.errors import BuildError, OnnxBenchError
from onnx_bench_dataset.schema import SCHEMA

NOISE = "noise"
"""What scores are computed on, as metrics name it."""

_ROWS_AT_ONCE = 8  # what one task scores: what is lost when it is interrupted
_NOTE = "zero-cost proxies"
_KEYS = "+"  # between the key of what was built and that of the scores

Scores = Mapping[str, Mapping[str, float]]
"""By the id of a row, its scores by proxy."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What is to be scored: by which proxies, how many rows of a space (None for all), and how."""

    names: tuple[str, ...]
    limit: int | None = None
    batch: int = 64
    seed: int = 0

    def note(self, rows: int) -> str:
        """Say in the folder's record what was done."""
        names = ", ".join(self.names)
        return f"{_NOTE} {names} of {rows:,} rows, {self.batch} inputs of {NOISE}, seed {self.seed}"

    def metrics(self, scores: Mapping[str, float]) -> list[dict[str, Any]]:
        """Return scores as they stand in a row."""
        return [
            Metric(NOISE, f"batch of {self.batch}", name, 0, 1, value)._asdict()
            for name, value in scores.items()
        ]

    def replaces(self, metric: Mapping[str, Any]) -> bool:
        """Say whether a metric of a row is an earlier score by one of the proxies."""
        return metric["dataset"] == NOISE and metric["name"] in self.names


def add_scores(
    out: Path, spaces: Sequence[str], wanted: Scoring, *, workers: int, progress: Progress
) -> list[Outcome]:
    """Add scores to the metrics of rows in the folder `out`, which changes as a whole or not at all.

    The rows of a limit are drawn, the same ones every time. A row that a proxy cannot score stays without.

    Raises:
        OnnxBenchError: PyTorch is not installed, or a proxy is unknown.
        BuildError: the folder has no such space, is damaged, or cannot be written.
    """
    from onnx_bench_dataset.proxies import find  # loads PyTorch, which no other command waits for

    find(wanted.names)
    with preparing(out, Where(workers)) as (place, executor):
        missing = [space for space in spaces if space not in place.previous]
        if missing:
            raise BuildError(
                f"{out} has no rows of {', '.join(missing)}; there are {', '.join(place.previous) or 'none'}"
            )
        outcomes = []
        for space in spaces:
            start = time.monotonic()
            before = place.previous[space]
            key = _key(before, wanted)
            scratch = place.scratch(space)

            def tasks(space: str = space, before: SpaceRecord = before, scratch: Path = scratch) -> Any:
                some = list(row_groups(place.out, space, before, wanted.limit or before.rows()))
                chunks = _chunks(some, scratch, wanted)
                done = pool.run(executor, workers, partial(_score, wanted), chunks)
                scores: dict[str, dict[str, float]] = {}
                for found in progress(done, desc=f"{space}: scores", total=len(chunks)):
                    scores.update(found)
                return [_Rewriting(place.out, shard.path, wanted, scores) for shard in before.shards]

            rows = min(before.rows(), wanted.limit or before.rows())
            notes = (*[n for n in before.notes if not n.startswith(_NOTE)], wanted.note(rows))
            plan = Plan(space, key, tasks, before.labels, before.sources, notes, before.origin)
            made, reason = stage(place, plan, executor=executor, workers=workers, progress=progress)
            outcomes.append(Outcome(space, made, reason, time.monotonic() - start))
        publish(place, {outcome.space: outcome.record for outcome in outcomes if outcome.record})
    return outcomes


def _key(before: SpaceRecord, wanted: Scoring) -> str:
    digest = hashlib.sha256(f"{version()} {wanted}".encode()).hexdigest()
    return f"{before.key.partition(_KEYS)[0]}{_KEYS}{digest}"


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some rows of a row group, and the file that keeps their scores until the folder is finished."""

    group: RowGroup
    rows: tuple[int, ...]
    kept: Path


def _chunks(groups: Sequence[RowGroup], scratch: Path, wanted: Scoring) -> list[_Chunk]:
    parts = [
        (group, group.sampled[start : start + _ROWS_AT_ONCE])
        for group in groups
        for start in range(0, len(group.sampled), _ROWS_AT_ONCE)
    ]
    return [_Chunk(group, rows, scratch / f"{_name(group, rows, wanted)}.json") for group, rows in parts]


def _name(group: RowGroup, rows: Sequence[int], wanted: Scoring) -> str:
    content = f"{version()} {wanted} {group.path} {group.number} {rows}"
    return hashlib.sha256(content.encode()).hexdigest()


def _score(wanted: Scoring, chunk: _Chunk) -> dict[str, dict[str, float]]:
    """Score some rows, or find the scores of an interrupted run."""
    if chunk.kept.exists():
        kept: dict[str, dict[str, float]] = json.loads(chunk.kept.read_text(encoding="utf-8"))
        return kept
    import torch

    torch.set_num_threads(1)  # every core has a worker of its own
    found = {
        row["id"]: _scores_of(row["onnx"], wanted) for row in chunk.group.rows(["id", "onnx"], chunk.rows)
    }
    temporary = chunk.kept.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.rename(chunk.kept)
    return found


def _scores_of(content: bytes, wanted: Scoring) -> dict[str, float]:
    from onnx_bench_dataset.proxies import scores

    try:
        model = onnx.ModelProto.FromString(content)
        found = scores(model, wanted.names, batch=wanted.batch, seed=wanted.seed)
    except (DecodeError, OnnxBenchError):
        return {}
    return {name: value for name, value in found.items() if math.isfinite(value)}


@dataclass(frozen=True, slots=True)
class _Rewriting:
    """A shard that is written again with scores among its metrics."""

    folder: Path
    path: str
    wanted: Scoring
    scores: Scores

    def make(self, target: Target) -> list[ShardRecord]:
        """Write the shard; keep it if it is there already."""
        path = target.folder / self.path
        if not path.exists():
            file = pq.ParquetFile(self.folder / self.path)
            with shards.writing(path, SCHEMA, target.aside) as add:
                for group in range(file.num_row_groups):
                    add(self._with_scores(file.read_row_group(group)))
        return [shards.record(target.folder, self.path)]

    def _with_scores(self, table: pa.Table) -> pa.Table:
        rows = zip(table["id"].to_pylist(), table["metrics"].to_pylist(), strict=True)
        metrics = [
            [
                *(each for each in known if name not in self.scores or not self.wanted.replaces(each)),
                *self.wanted.metrics(self.scores.get(name, {})),
            ]
            for name, known in rows
        ]
        column = SCHEMA.get_field_index("metrics")
        field = SCHEMA.field(column)
        return table.set_column(column, field, pa.array(metrics, field.type)).cast(SCHEMA)
