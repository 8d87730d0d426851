"""A dataset folder, built here or a snapshot of the Hub: what its manifest says, and whether all is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onnx_bench_dataset.errors import LoadError

MANIFEST = "manifest.json"


def check_folder(folder: Path) -> dict[str, Any]:
    """Return the spaces of a folder; refuse one that is not ours, or whose shards are not all there."""
    try:
        spaces: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["spaces"]
        shards = [
            shard
            for space in spaces.values()
            for shard in (*space["shards"], *space["catalog"], *space["gallery"])
        ]
        sizes = {path: size for path, _, size, _ in shards}
    except FileNotFoundError:
        raise LoadError(
            f"{folder} is a folder without {MANIFEST}, so it is not an onnx-bench folder: run "
            "`python -m builders` to build one, or name another path"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(
            f"{folder / MANIFEST} is damaged ({error}): build or download the folder again"
        ) from error
    for path, size in sizes.items():
        shard = folder / path
        if not shard.is_file() or shard.stat().st_size != size:
            raise LoadError(
                f"{shard} is missing or cut short: build or download the folder again "
                f"(`python -m builders verify {folder}` checks all of it)"
            )
    return spaces
