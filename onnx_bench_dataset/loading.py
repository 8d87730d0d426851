"""Loading onnx-bench: `load_dataset` as in `datasets`, but it knows where onnx-bench is; one row by id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from onnx_bench_dataset.errors import LoadError, OnnxBenchError, UnknownNameError
from onnx_bench_dataset.folders import MANIFEST, check_folder
from onnx_bench_dataset.revisions import Version, resolve

if TYPE_CHECKING:  # takes longer to import than most graphs to work on, so it waits until it is needed
    import datasets

__all__ = ["HUB_REPOSITORY", "MANIFEST", "NAME", "load_dataset", "load_onnx", "load_row"]

NAME = "onnx-bench"
HUB_REPOSITORY = "onnx-bench/onnx-bench"
"""Where the published data set is on the Hugging Face Hub."""


def load_dataset(
    path: str = NAME, name: str | None = None, **arguments: Any
) -> datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict:
    """Load a config of onnx-bench; arguments and result are those of `datasets.load_dataset`.

    `path` is a dataset folder (built here or a snapshot of the Hub), a Hub repository, or `onnx-bench`: then
    the folder `onnx-bench` is taken if there is one, else the Hub repository. After a rebuild of a folder, or
    a new version at the Hub, its new rows are loaded, never those of an old cache.

    Args:
        path: where the data set is.
        name: the config: `all` (the default), a space, `zero-shot-<family>` or `catalog`.
        **arguments: `split`, `streaming`, `columns`, `filters`, … as for `datasets.load_dataset`; `revision`,
            a tag, branch or commit of the Hub repository, the newest rows without it.

    Raises:
        LoadError: the folder is damaged or holds something else; or the Hub cannot be asked, and what is
            wanted is in no cache.
        UnknownNameError: there is no such config, split or revision; the message lists those that there are.

    Example:
        rows = load_dataset("onnx-bench", "nasbench201", split="test", columns=["id", "accuracy"])
    """
    import datasets

    from onnx_bench_dataset import streaming

    is_stream = arguments.pop("streaming", False)
    place = _find(path, arguments.pop("revision", None), arguments.get("token"))
    if isinstance(place, Version):
        where = place.repository
        arguments |= _only_this_version(place, is_stream, arguments.get("cache_dir"))
    else:
        check_folder(place)
        where = str(place)
    # `datasets` caches by what it reads, which a folder's README changes with every change of the shards.
    try:
        if is_stream:
            return streaming.stream(where, name, **arguments)
        return datasets.load_dataset(where, name, **arguments)
    except ValueError as error:
        if "BuilderConfig" in str(error) or "Unknown split" in str(error) or "Bad split" in str(error):
            raise UnknownNameError(f"{where}: {error}") from error
        raise


def load_row(
    id: str, path: str = NAME, revision: str | None = None, token: str | bool | None = None
) -> dict[str, Any]:
    """Return the row of one architecture, graph included, without reading the others.

    Args:
        id: as in the column `id`: `<space>/<name in the published benchmark>`.
        path: where the data set is, as for `load_dataset`.
        revision: tag, branch or commit of the Hub repository; the newest without it.
        token: for a private Hub repository, where the usual login is not the one to take.

    Raises:
        UnknownNameError: there is no such row or revision; the message names rows with a similar id, or the
            tags.
        LoadError: there is no data set, or it cannot be read.

    Example:
        model = load_onnx(load_row("nasbench201/06111"))
    """
    from onnx_bench_dataset.rows import find_row

    try:
        return find_row(id, _find(path, revision, token))
    except UnknownNameError as error:
        raise UnknownNameError(f"{path}: {error}") from error
    except OnnxBenchError:
        raise
    except Exception as error:  # those of Arrow and of the Hub's client have no common base
        raise LoadError(f"{path} cannot be read: {error}") from error


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


def _find(path: str, revision: str | None, token: str | bool | None) -> Path | Version:
    """Return where a data set is: its folder, or its version at the Hub."""
    folder = Path(path)
    if folder.is_dir():
        if revision is not None:
            raise LoadError(
                f"{path} is a folder here, which has no versions, so not {revision!r} either: name the Hub "
                f"repository, as {HUB_REPOSITORY}, or leave `revision` out"
            )
        return folder
    version = resolve(HUB_REPOSITORY if path == NAME else path, revision, token)
    snapshot = version.snapshot() if version.is_cached else None
    return snapshot if snapshot is not None and _is_whole(snapshot) else version


def _is_whole(snapshot: Path) -> bool:
    try:
        check_folder(snapshot)
    except LoadError:
        return False
    return True


def _only_this_version(version: Version, is_stream: bool, cache: str | None) -> dict[str, str]:
    """Return the arguments with which `datasets` cannot but load this version."""
    import datasets

    if is_stream and version.is_cached:
        raise LoadError(
            f"{version.repository} cannot be streamed without the Hub: get all of it with "
            "`huggingface_hub.snapshot_download` while there is a connection"
        )
    own_cache = version.cache(cache or datasets.config.HF_DATASETS_CACHE)
    return {"revision": version.commit, "cache_dir": str(own_cache)}
