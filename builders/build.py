"""The build: published files in, a dataset folder out, space by space and shard by shard."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from builders import card, cluster, gallery, pool, shards
from builders.benchmark import Benchmark
from builders.code_version import version
from builders.folder import Staging, staging
from builders.labels import LabelledArchitecture, Progress
from builders.manifest import Origin, SpaceRecord
from builders.parts import Part
from builders.sources import MissingSourceError, Sources, UsedSource
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.splits import SPLITS

_SPLIT_ROWS = 1_000  # rows whose split one task finds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a space: its record, or why it was skipped."""

    space: str
    record: SpaceRecord | None
    reason: str
    """`built`, `unchanged`, or why the space was skipped."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Where:
    """Where a build runs: in processes here, or on a cluster; all of it, or a part."""

    workers: int = 1
    """Processes on this machine."""
    scheduler: str | None = None
    """Address of a dask scheduler, whose workers are used instead."""
    part: Part | None = None


@contextmanager
def preparing(out: Path, where: Where) -> Iterator[tuple[Staging, Executor]]:
    """Stage the next content of the folder `out`, or of the part in it, with workers to make it."""
    with staging(out, where.part) as place:
        if where.scheduler is None:
            with pool.processes(where.workers) as executor:
                yield place, executor
        else:
            with cluster.connect(where.scheduler, place.target) as executor:
                yield place, executor


def build(
    benchmarks: Sequence[Benchmark],
    out: Path,
    *,
    sources: Path | None,
    where: Where,
    limit: int | None,
    progress: Progress,
) -> list[Outcome]:
    """Build the spaces of `benchmarks` into the folder `out` and keep the other spaces it has.

    A space whose published files cannot be had is skipped. `limit` keeps the first rows of each space.

    Raises:
        SourceError: a published file is not what its name says; nothing is written.
        BuildError: the folder cannot be written, or the cluster cannot be used; the folder stays as it was.
    """
    with preparing(out, where) as (place, executor):
        outcomes = []
        for benchmark in benchmarks:
            start = time.monotonic()
            used = Sources(sources)
            try:
                rows = list(islice(benchmark.read(used, progress), limit))
            except MissingSourceError as error:
                place.discard(benchmark.space)
                outcomes.append(Outcome(benchmark.space, None, str(error), time.monotonic() - start))
                continue
            record, reason = build_space(
                place,
                benchmark.space,
                used,
                rows,
                executor=executor,
                workers=where.workers,
                progress=progress,
            )
            outcomes.append(Outcome(benchmark.space, record, reason, time.monotonic() - start))
        spaces = {outcome.space: outcome.record for outcome in outcomes if outcome.record}
        if spaces:
            publish(place, spaces)
        return outcomes


def publish(place: Staging, made: Mapping[str, SpaceRecord]) -> None:
    """Put staged spaces, and the other spaces of the folder, in the place of what the folder held."""
    kept = {space: _kept(place, space) for space in place.previous if space not in made}
    spaces = {**made, **kept}
    place.publish(spaces, "" if place.part else card.readme(spaces))


def build_space(
    place: Staging,
    space: str,
    sources: Sources,
    rows: Sequence[LabelledArchitecture],
    *,
    executor: Executor,
    workers: int,
    progress: Progress,
    origin: Origin = "benchmark",
) -> tuple[SpaceRecord, str]:
    """Stage the shards of `rows`, or those that the folder has if nothing that they depend on has changed.

    Returns the record of the space, and `built` or `unchanged`.
    """
    run = partial(pool.run, executor, workers)

    def tasks() -> list[shards.Task]:
        return [
            task
            for split, part in _divide(space, rows, run).items()
            for task in shards.plan(space, split, part)
        ]

    labels = Counter(row.label or "unlabelled" for row in rows)
    plan = Plan(space, _key(rows), tasks, dict(sorted(labels.items())), sources.used, sources.notes, origin)
    return stage(place, plan, executor=executor, workers=workers, progress=progress)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made of a space, and what its record will say of it."""

    space: str
    key: str
    tasks: Callable[[], Sequence[shards.Task]]
    """Finds what is to be done; not called if the folder has it all."""
    labels: Mapping[str, int]
    sources: tuple[UsedSource, ...]
    notes: tuple[str, ...]
    origin: Origin


def stage(
    place: Staging, plan: Plan, *, executor: Executor, workers: int, progress: Progress
) -> tuple[SpaceRecord, str]:
    """Stage the shards of a plan, or those that the folder has if it was made by the same plan.

    Returns the record of the space, and `built` or `unchanged`. A part has neither catalog nor gallery.
    """
    previous = place.previous.get(plan.space)
    if previous is not None and previous.key == plan.key and (kept := place.keep(plan.space)):
        return kept, "unchanged"
    place.begin(plan.space, plan.key)
    run = partial(pool.run, executor, workers)
    tasks = plan.tasks()
    if place.part:
        tasks = place.part.of(tasks)
    done = run(partial(shards.make, place.target), tasks)
    made = sorted(
        shard for some in progress(done, desc=f"{plan.space}: shards", total=len(tasks)) for shard in some
    )
    catalog: list[shards.ShardRecord] = []
    pictures: tuple[shards.ShardRecord, ...] = ()
    if not place.part:
        catalog = sorted(run(partial(_write_catalog, place.target), _plan_catalog(plan.space, made)))
        is_imported = plan.origin == "imported"
        pictures = gallery.make(
            place.target, plan.space, made, from_text=is_imported, run=run, progress=progress
        )
    record = SpaceRecord(
        key=plan.key,
        shards=tuple(made),
        catalog=tuple(catalog),
        gallery=pictures,
        sources=plan.sources,
        notes=plan.notes,
        labels=plan.labels,
        origin=plan.origin,
    )
    return record, "built"


_Run = Callable[..., Iterator[list[tuple[int, str]]]]


def _divide(
    space: str, rows: Sequence[LabelledArchitecture], run: _Run
) -> dict[str, list[LabelledArchitecture]]:
    """Divide rows among splits, keeping their order; splits without rows are left out."""
    splits = {index: row.split for index, row in enumerate(rows) if row.split}
    unknown = [(index, row.architecture) for index, row in enumerate(rows) if not row.split]
    parts = [unknown[start : start + _SPLIT_ROWS] for start in range(0, len(unknown), _SPLIT_ROWS)]
    for found in run(partial(_find_splits, space), parts):
        splits.update(found)
    divided: dict[str, list[LabelledArchitecture]] = {name: [] for name in SPLITS}
    for index, row in enumerate(rows):
        divided[splits[index]].append(row)
    return {name: part for name, part in divided.items() if part}


def _find_splits(space: str, numbered: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the split of each numbered architecture."""
    found = shards.splits_of(space, [architecture for _, architecture in numbered])
    return [(index, split) for (index, _), split in zip(numbered, found, strict=True)]


def _kept(place: Staging, space: str) -> SpaceRecord:
    """Take over a space that is not built anew."""
    record = place.keep(space)
    if record is None:
        raise BuildError(
            f"the shards of {space} in {place.out} are damaged: build {space} too, or delete the folder"
        )
    return record


_CatalogTask = tuple[str, list[str]]  # path of the catalog shard, paths of the shards that it lists


def _plan_catalog(space: str, made: Sequence[shards.ShardRecord]) -> list[_CatalogTask]:
    tasks: list[_CatalogTask] = []
    for split in SPLITS:
        listed = [shard for shard in made if shard.path.startswith(f"data/{space}/{split}-")]
        parts: list[list[str]] = []
        room = 0
        for shard in listed:
            if shard.rows > room:
                parts.append([])
                room = shards.CATALOG_SHARD_ROWS
            parts[-1].append(shard.path)
            room -= shard.rows
        for index, part in enumerate(parts):
            tasks.append((f"catalog/{space}/{split}-{index:05d}-of-{len(parts):05d}.parquet", part))
    return tasks


def _write_catalog(target: shards.Target, task: _CatalogTask) -> shards.ShardRecord:
    return shards.write_catalog(target.folder, *task, target.aside)


def _key(rows: Sequence[LabelledArchitecture]) -> str:
    """Return a digest of all that the shards of a space depend on: labelled architectures, code, writer."""
    digest = hashlib.sha256(version().encode())
    for row in rows:
        digest.update(repr(row).encode())
    return digest.hexdigest()
