"""The record that a dataset folder keeps of what it holds: `manifest.json`.

It tells a folder of ours from any other, lets an unchanged space be kept, and lets anyone check the shards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from builders.shards import ShardRecord
from builders.sources import UsedSource
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.loading import MANIFEST

FILE = MANIFEST
_FORMAT = "onnx-bench folder 1"

Origin = Literal["benchmark", "imported", "sampled"]
"""How the rows of a space came: labels of a benchmark, graphs of ONNX files, or architectures drawn."""


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    """What a folder holds of a space, and from what it was made.

    `key` changes whenever the shards could: with the labels and with the code.
    """

    key: str
    shards: tuple[ShardRecord, ...]
    catalog: tuple[ShardRecord, ...]
    gallery: tuple[ShardRecord, ...]
    sources: tuple[UsedSource, ...]
    notes: tuple[str, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    """Rows by label: `trained`, `surrogate`, `unlabelled`."""
    origin: Origin = "benchmark"

    def rows(self, split: str | None = None) -> int:
        """Count the rows of a split, or of all."""
        return sum(shard.rows for shard in self.shards if split in (None, split_of(shard.path)))

    @property
    def files(self) -> tuple[ShardRecord, ...]:
        """All Parquet files of the space: shards, catalog and gallery."""
        return (*self.shards, *self.catalog, *self.gallery)

    @property
    def bytes(self) -> int:
        """Size of the shards, without catalog and gallery."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that have a shard."""
        return tuple(dict.fromkeys(split_of(shard.path) for shard in self.shards))


def split_of(path: str) -> str:
    """Return the split that a shard's path names."""
    return path.rpartition("/")[2].partition("-")[0]


def write(folder: Path, spaces: Mapping[str, SpaceRecord]) -> None:
    """Write the manifest of a folder."""
    write_records(folder / FILE, {"format": _FORMAT}, spaces)


def write_records(path: Path, about: Mapping[str, str], spaces: Mapping[str, SpaceRecord]) -> None:
    """Write the records of spaces as JSON, below what is said `about` all of them."""
    content = {**about, "spaces": {name: asdict(spaces[name]) for name in sorted(spaces)}}
    text = json.dumps(content, indent=1, default=lambda value: value._asdict())
    path.write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, SpaceRecord]:
    """Read the manifest of a folder.

    Raises:
        BuildError: there is none, or it is not one of ours.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        return {name: space_record(record) for name, record in content["spaces"].items()}
    except FileNotFoundError:
        raise BuildError(
            f"{folder} is not a dataset folder: it has no {FILE}. Build one with `python -m builders`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"{path} is damaged ({error}): delete the folder and build it again") from error


def space_record(record: Mapping[str, Any]) -> SpaceRecord:
    """Read what a folder holds of a space from JSON.

    Raises:
        KeyError, TypeError, AttributeError: it is something else.
    """
    return SpaceRecord(
        key=record["key"],
        shards=tuple(ShardRecord(*shard) for shard in record["shards"]),
        catalog=tuple(ShardRecord(*shard) for shard in record["catalog"]),
        gallery=tuple(ShardRecord(*shard) for shard in record["gallery"]),
        sources=tuple(UsedSource(**source) for source in record["sources"]),
        notes=tuple(record["notes"]),
        labels=record["labels"],
        origin=record.get("origin", "benchmark"),
    )
