"""Parts of a build: every n-th shard of a dataset folder, made on one of n machines that share nothing.

A part is a folder with the shards and a record of them, `part.json`, which says of each space what a manifest
does, with the labels counted over all parts. `builders.merge` makes a dataset folder of all parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from builders import manifest
from builders.manifest import Origin, SpaceRecord
from onnx_bench_dataset.errors import BuildError

FILE = "part.json"
_FORMAT = "onnx-bench part 1"
_SPACE = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_SHARD = re.compile(r"data/([a-z][a-z0-9_]{0,63})/(train|test)-[0-9]{5}-of-[0-9]{5}\.parquet", re.ASCII)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a build: number `index` of `count`, counted from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read `i/n`.

        Raises:
            BuildError: it is not of that form, or i is not one of 0, 1, … n - 1.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text, re.ASCII)
        if not found or int(found[1]) >= int(found[2]):
            raise BuildError(f"a part of a build is named i/n with 0 <= i < n, 0/8 say, not {text!r}")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """Return `i/n`."""
        return f"{self.index}/{self.count}"

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items of the part: every `count`-th, so that all parts have as much to do."""
        return items[self.index :: self.count]

    def folder(self, out: Path) -> Path:
        """Return where the part of the dataset folder `out` is made."""
        return out.with_name(f"{out.name}.part-{self.index}-of-{self.count}")


def write(folder: Path, part: Part, spaces: Mapping[str, SpaceRecord]) -> None:
    """Write the record of a part."""
    manifest.write_records(folder / FILE, {"format": _FORMAT, "part": str(part)}, spaces)


def read(folder: Path) -> tuple[Part, dict[str, SpaceRecord]]:
    """Read the record of a part.

    Raises:
        BuildError: there is none, or it is not one of ours.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        spaces = {name: manifest.space_record(record) for name, record in content["spaces"].items()}
        for space, record in spaces.items():
            _check(space, record)
        if not spaces:
            raise ValueError("it has no space")
        return Part.parse(content["part"]), spaces
    except FileNotFoundError:
        raise BuildError(f"{folder} is no part of a build: {_what_else(folder)}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BuildError, RecursionError) as error:
        raise BuildError(
            f"{path} is damaged ({error}): delete the folder and build the part again"
        ) from error


def _check(space: str, record: SpaceRecord) -> None:
    """Make sure that what is read of a space is used safely.

    Raises:
        ValueError: it is not what `write` writes.
    """
    numbers = [*record.labels.values(), *(shard.rows for shard in record.shards)]
    if not all(isinstance(number, int) for number in numbers) or not isinstance(record.key, str):
        raise ValueError(f"what it says of {space!r} has wrong types")
    if not _SPACE.fullmatch(space) or record.origin not in get_args(Origin):
        raise ValueError(f"{space!r} of origin {record.origin!r} is no space")
    for shard in record.shards:
        found = _SHARD.fullmatch(shard.path)
        if not found or found[1] != space:
            raise ValueError(f"{shard.path!r} is no shard of {space}")


def _what_else(folder: Path) -> str:
    if (folder / manifest.FILE).exists():
        return "it is a whole dataset folder"
    if folder.with_name(folder.name + ".building").exists():
        return "it is not finished yet; the command that makes it goes on where it stopped"
    return f"it has no {FILE}. Parts are made by `python -m builders --shards i/n`"
