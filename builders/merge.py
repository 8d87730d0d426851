"""Joins the parts of a build into a dataset folder: the same bytes as if one machine had built it all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from builders import parts
from builders.build import Outcome, Plan, Where, preparing, publish, stage
from builders.labels import Progress
from builders.manifest import SpaceRecord, split_of
from builders.parts import Part
from builders.shards import ShardRecord, Target, Task, path_of
from builders.sources import sha256
from onnx_bench_dataset.errors import BuildError


@dataclass(frozen=True, slots=True)
class _Found:
    """A part, where it is and what it has."""

    folder: Path
    part: Part
    spaces: dict[str, SpaceRecord]


@dataclass(frozen=True, slots=True)
class _Taking:
    """A shard to be taken over from a part."""

    folder: Path
    shard: ShardRecord

    def make(self, target: Target) -> list[ShardRecord]:
        """Link the shard, or copy it from another file system, if it is what the part says."""
        source = self.folder / self.shard.path
        path = target.folder / self.shard.path
        temporary = target.aside / uuid4().hex
        try:
            if sha256(source) != self.shard.sha256:
                raise BuildError(
                    f"{source} is not the shard that was built: delete {self.folder} and build the part again"
                )
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copyfile(source, temporary)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
        except FileNotFoundError as error:
            raise BuildError(f"{source} is missing: delete {self.folder} and build the part again") from error
        return [self.shard]


def merge(folders: Sequence[Path], out: Path, *, workers: int, progress: Progress) -> list[Outcome]:
    """Join parts into the dataset folder `out`, which keeps its other spaces.

    Raises:
        BuildError: a part is missing, double, altered or made by another version than the others; `out` stays
            as it was.
    """
    found = [_Found(folder, *parts.read(folder)) for folder in folders]
    _check_numbers(found)
    first = found[0]
    plans = {space: _plan(found, space) for each in found for space in each.spaces}
    outcomes = []
    with preparing(out, Where(workers)) as (place, executor):
        for space in first.spaces:
            start = time.monotonic()
            record, reason = stage(place, plans[space], executor=executor, workers=workers, progress=progress)
            outcomes.append(Outcome(space, record, reason, time.monotonic() - start))
        publish(place, {outcome.space: outcome.record for outcome in outcomes if outcome.record})
    return outcomes


def _check_numbers(found: Sequence[_Found]) -> None:
    """Make sure that every part of one division is there once."""
    first = found[0]
    seen: dict[int, _Found] = {}
    for each in found:
        if each.part.count != first.part.count:
            raise BuildError(
                f"{first.folder} is part {first.part} and {each.folder} is part {each.part}: they are not "
                "parts of one build"
            )
        if other := seen.get(each.part.index):
            raise BuildError(f"{other.folder} and {each.folder} are both part {each.part}: name one of them")
        seen[each.part.index] = each
    if missing := [
        str(Part(index, first.part.count)) for index in range(first.part.count) if index not in seen
    ]:
        shown = ", ".join(missing[:10]) + (", …" if len(missing) > 10 else "")
        raise BuildError(f"{len(missing)} of {first.part.count} parts are missing: {shown}")


def _plan(found: Sequence[_Found], space: str) -> Plan:
    """Plan to take over the shards of a space from all parts."""
    first = found[0]
    for each in found:
        if space not in each.spaces:
            raise BuildError(f"{each.folder} lacks {space}, which another part has: build it there too")
        if _about(each.spaces[space]) != _about(first.spaces.get(space, each.spaces[space])):
            raise BuildError(
                f"{space} in {first.folder} and in {each.folder} was made by different versions of the code, "
                "of pyarrow or of the published files, or with other options: build both with the same"
            )
    tasks: list[Task] = [
        _Taking(each.folder.absolute(), shard) for each in found for shard in each.spaces[space].shards
    ]
    record = first.spaces[space]
    _check_shards(space, record, [shard for each in found for shard in each.spaces[space].shards])
    return Plan(space, record.key, lambda: tasks, record.labels, record.sources, record.notes, record.origin)


def _about(record: SpaceRecord) -> object:
    """Return what must be the same in all parts: all but the shards, and where sources were found."""
    sources = tuple(replace(source, origin="") for source in record.sources)
    return record.key, sources, record.notes, dict(record.labels), record.origin


def _check_shards(space: str, record: SpaceRecord, shards: Sequence[ShardRecord]) -> None:
    """Make sure that the shards of all parts are numbered through and have all rows."""
    paths = sorted(shard.path for shard in shards)
    wanted = []
    for split in sorted({split_of(path) for path in paths}):
        count = sum(split_of(path) == split for path in paths)
        wanted += [path_of(space, split, index, count) for index in range(count)]
    rows = sum(shard.rows for shard in shards)
    if paths != sorted(wanted) or rows != sum(record.labels.values()):
        raise BuildError(
            f"the parts have {len(paths)} shards of {space} with {rows:,} of {sum(record.labels.values()):,} "
            "rows, some missing or double: build the parts again"
        )
