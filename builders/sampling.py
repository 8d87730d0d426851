"""Rows without labels: architectures drawn at random from a space, as many as one likes.

Architectures are drawn by the thousand, each thousand with random numbers of its own, by whatever worker
makes the shards that hold it. A row is therefore the same however many rows there are, whoever makes it and
whatever else is drawn. Those of one thousand differ; others may repeat them, as nobody knows them all.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from builders.build import Outcome, Plan, Where, preparing, publish, stage
from builders.code_version import version
from builders.labels import LabelledArchitecture, Progress
from builders.shards import RowGroups, ShardRecord, Target, make_rows, path_of, record, writing
from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.schema import SCHEMA
from onnx_bench_dataset.splits import SPLITS, split_of_graph

DRAWN_AT_ONCE = 1_000
"""Architectures drawn with the same random numbers; part of what a row's id means."""

ROWS_PER_SHARD = 50_000
"""Of train and test together, if nothing else is said."""

_FILES = 10_000  # a folder of the Hub has fewer


@dataclass(frozen=True, slots=True)
class Sample:
    """What to draw: `rows` architectures of a space, in pairs of a train and a test shard."""

    space: str
    rows: int
    seed: int
    rows_per_shard: int = ROWS_PER_SHARD
    """Rows of a pair; the last one has up to twice as many."""

    def tasks(self) -> list[_PairTask]:
        """Divide the rows among pairs of shards."""
        count = max(1, self.rows // self.rows_per_shard)
        starts = [index * self.rows_per_shard for index in range(count)]
        return [
            _PairTask(self, index, count, start, end)
            for index, (start, end) in enumerate(zip(starts, [*starts[1:], self.rows], strict=True))
        ]

    def key(self) -> str:
        """Return a digest of all that the shards depend on."""
        return hashlib.sha256(f"{version()} {self!r}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _PairTask:
    """A train and a test shard to be made of the rows `start` to `end`."""

    sample: Sample
    index: int
    count: int
    start: int
    end: int

    def make(self, target: Target) -> list[ShardRecord]:
        """Draw the architectures and write both shards; keep them if both are there already.

        A split without rows is left out: so few rows are only drawn where there is no other pair.
        """
        space = self.sample.space
        paths = {split: path_of(space, split, self.index, self.count) for split in SPLITS}
        if not all((target.folder / path).exists() for path in paths.values()):
            self._write(target, paths)
        return [record(target.folder, path) for path in paths.values() if (target.folder / path).exists()]

    def _write(self, target: Target, paths: dict[str, str]) -> None:
        groups = {split: RowGroups() for split in SPLITS}
        with ExitStack() as stack:
            opened: dict[str, Callable[[pa.Table], None]] = {}

            def write(split: str, table: pa.Table | None) -> None:
                if table is None:
                    return
                if split not in opened:
                    path = target.folder / paths[split]
                    opened[split] = stack.enter_context(writing(path, SCHEMA, target.aside))
                opened[split](table)

            for row in make_rows(self.sample.space, self._architectures()):
                split = split_of_graph(row["graph_hash"])
                write(split, groups[split].add(row))
            for split in SPLITS:
                write(split, groups[split].rest())

    def _architectures(self) -> Iterator[LabelledArchitecture]:
        space, seed = self.sample.space, self.sample.seed
        first = self.start - self.start % DRAWN_AT_ONCE
        for begin in range(first, self.end, DRAWN_AT_ONCE):
            drawn = draw(space, seed, begin // DRAWN_AT_ONCE)
            for index in range(max(begin, self.start), min(begin + DRAWN_AT_ONCE, self.end)):
                yield LabelledArchitecture(
                    name=f"sampled/{seed}/{index}",
                    architecture=drawn[index - begin],
                    dataset=spaces.get(space).dataset,
                    accuracy=None,
                    label=None,
                    metrics=(),
                    num_params=None,
                    split=None,
                )


def draw(space: str, seed: int, number: int) -> list[str]:
    """Draw the architectures of a thousand, which `number` counts from 0; they all differ."""
    digest = hashlib.sha256(f"{space} {seed} {number}".encode()).digest()
    return spaces.get(space).sample(DRAWN_AT_ONCE, int.from_bytes(digest[:8], "big"))


def sample(wanted: Sample, out: Path, *, where: Where, progress: Progress) -> Outcome:
    """Draw a sample into the dataset folder `out`, which keeps its other spaces, or into a part of it.

    Raises:
        UnknownNameError: there is no such space.
        BuildError: the folder has rows of the space that were not drawn, there would be more files than the
            Hub takes, or `out` cannot be written.
    """
    start = time.monotonic()
    spaces.get(wanted.space)
    tasks = wanted.tasks()
    if (files := len(SPLITS) * len(tasks)) >= _FILES:
        raise BuildError(
            f"{files:,} files would be in one folder, and the Hub takes fewer than {_FILES:,}: use "
            f"--rows-per-shard {len(SPLITS) * wanted.rows // _FILES + 1} or more"
        )
    with preparing(out, where) as (place, executor):
        previous = place.previous.get(wanted.space)
        if previous is not None and previous.origin != "sampled":
            raise BuildError(
                f"{out} has {previous.rows():,} rows of {wanted.space} that were not drawn, which these "
                "would replace: choose another --out"
            )
        plan = Plan(wanted.space, wanted.key(), lambda: tasks, {"unlabelled": wanted.rows}, (), (), "sampled")
        made, reason = stage(place, plan, executor=executor, workers=where.workers, progress=progress)
        publish(place, {wanted.space: made})
    return Outcome(wanted.space, made, reason, time.monotonic() - start)
