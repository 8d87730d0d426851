"""One row by its id, read without the others, from a folder or from the Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow.dataset as ds

from onnx_bench_dataset.errors import UnknownNameError
from onnx_bench_dataset.folders import MANIFEST, check_folder
from onnx_bench_dataset.revisions import Version
from onnx_bench_dataset.shard import Shard, open_shard

_MOST_SIMILAR = 5  # ids that a message lists


def find_row(id: str, place: Path | Version) -> dict[str, Any]:
    """Return the row with an id, from a folder or from a version at the Hub.

    Raises:
        UnknownNameError: there is no such row; the message names rows with a similar id.
    """
    space = id.partition("/")[0]
    shards = _open_shards(place, space)
    for shard in shards:
        for group in shard.row_groups(ds.field("id") == id):
            position = next(shard.tables([group], ["id"]))["id"].index(id).as_py()
            if position >= 0:
                row: dict[str, Any] = next(shard.tables([group])).slice(position, 1).to_pylist()[0]
                return row
    raise UnknownNameError(f"there is no row {id!r}; {_similar_ids(shards, space, id)}")


def _open_shards(place: Path | Version, space: str) -> list[Shard]:
    if isinstance(place, Version):
        folder = place.snapshot() or Path()
        spaces: Mapping[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["spaces"]
    else:
        folder, spaces = place, check_folder(place)
    if space not in spaces:
        raise UnknownNameError(
            f"there is no space {space!r}; an id is <space>/<name>, the spaces are {', '.join(spaces)}"
        )
    files = [file for file, *_ in spaces[space]["shards"]]
    if isinstance(place, Version):
        options = {"token": place.token, "endpoint": datasets.config.HF_ENDPOINT}
        return [
            open_shard(str(folder / file))
            if (folder / file).is_file()
            else open_shard(place.url(file), options)
            for file in files
        ]
    return [open_shard(str(folder / file)) for file in files]


def _similar_ids(shards: Sequence[Shard], space: str, id: str) -> str:
    """Name the rows whose id holds what was asked for (a number without its zeros, say), or their range."""
    name = id.partition("/")[2].lower()
    ids = [
        known
        for shard in shards
        for table in shard.tables(shard.row_groups(), ["id"])
        for known in table["id"].to_pylist()
    ]
    similar = [known for known in ids if name in known.partition("/")[2].lower()] if name else []
    if 0 < len(similar) <= _MOST_SIMILAR:
        return f"did you mean {' or '.join(similar)}?"
    return f"those of {space} go from {min(ids)} to {max(ids)}"
