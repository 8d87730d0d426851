"""`load_dataset` for onnx-bench: as in `datasets`, but it knows where onnx-bench is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import onnx

from onnx_bench_dataset.errors import LoadError, UnknownNameError

NAME = "onnx-bench"
HUB_REPOSITORY = "onnx-bench/onnx-bench"
"""Where the published data set is on the Hugging Face Hub."""

MANIFEST = "manifest.json"


def load_dataset(
    path: str = NAME, name: str | None = None, **arguments: Any
) -> datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict:
    """Load a config of onnx-bench; arguments and result are those of `datasets.load_dataset`.

    `path` is a dataset folder (built here or a snapshot of the Hub), a Hub repository, or `onnx-bench`: then
    the folder `onnx-bench` is taken if there is one, else the Hub repository. After a rebuild of a folder its
    new rows are loaded, never those of an old cache.

    Args:
        path: where the data set is.
        name: the config: `all` (the default), a space, `zero-shot-<family>` or `catalog`.
        **arguments: `split`, `streaming`, `columns`, `filters`, `revision`, … as for `datasets.load_dataset`.

    Raises:
        LoadError: the folder is damaged or holds something else.
        UnknownNameError: the folder has no such config or split; the message lists those that it has.

    Example:
        rows = load_dataset("onnx-bench", "nasbench201", split="test", columns=["id", "accuracy"])
    """
    folder = Path(path)
    if not folder.is_dir():
        return datasets.load_dataset(HUB_REPOSITORY if path == NAME else path, name, **arguments)
    _check_folder(folder)
    # `datasets` caches by what it reads, which the folder's README changes with every change of the shards.
    try:
        return datasets.load_dataset(str(folder), name, **arguments)
    except ValueError as error:
        if "BuilderConfig" in str(error) or "Unknown split" in str(error):
            raise UnknownNameError(f"{folder}: {error}") from error
        raise


def load_onnx(row: Mapping[str, Any]) -> onnx.ModelProto:
    """Return the graph of a row as an ONNX model: training form, weights as graph inputs.

    Raises:
        LoadError: the row has no graph, as those of the config `catalog`, or its bytes are damaged.
    """
    content = row.get("onnx")
    if content is None:
        raise LoadError("the row has no column 'onnx': load a config other than 'catalog', with that column")
    try:
        return onnx.load_model_from_string(bytes(content))
    except Exception as error:  # protobuf names several
        raise LoadError(
            f"the graph of row {row.get('id', '?')} cannot be read ({error}). The formats 'torch' and "
            "'numpy' of datasets cut bytes short: read rows without with_format, or with 'arrow'"
        ) from error


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is not ours, or whose shards are not all there, before anything is cached."""
    try:
        spaces = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["spaces"]
        shards = [shard for space in spaces.values() for shard in (*space["shards"], *space["catalog"])]
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
