"""Writing rows as ONNX files with weights, and the tables that other code reads beside them.

Every file states its accuracy in its first metadata property, as the files of the ONNX-Bench release do, then
what the row says: id, space, architecture, dataset, label. There are two layouts:

- `plain`: `<id>.onnx`, the graph as stored (training form), and `labels.csv` with the columns file, accuracy,
  dataset, label, split, epochs, seeds: what `python -m builders import --metrics` reads;
- `onnxnet`: the layout of the release below `onnx/`, graphs in inference form; beside it `train.csv` and
  `val.csv` (the split `test`) with the columns onnx_encoding, accuracy, dataset, name, which ONNX-Net's
  published training script takes as `--data_path`. The encoding is `chain-slim`, the dataset what that script
  calls the space (`nas201nats` for NAS-Bench-201 and NATS-Bench). Rows without a label are left out. The
  published tables have one more column, a number of tokens, which the script does not read.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import onnx

from onnx_bench_dataset import release
from onnx_bench_dataset.cli.files import serialized, write
from onnx_bench_dataset.errors import LoadError, OnnxBenchError, UnknownNameError
from onnx_bench_dataset.graphs import fill_weights, simplify
from onnx_bench_dataset.loading import load_dataset, load_onnx
from onnx_bench_dataset.splits import TEST
from onnx_bench_dataset.text import encode

Row = Mapping[str, Any]
Progress = Callable[[Iterable[Row], str, int | None], Iterable[Row]]
"""Shows how far some rows are: takes the rows, what they are called, and how many there are if known."""


class Layout(StrEnum):
    """How an export is laid out."""

    PLAIN = "plain"
    ONNXNET = "onnxnet"


class Exported(NamedTuple):
    """What an export wrote."""

    files: int
    tables: list[Path]
    unlabelled: int
    """Rows that were left out for want of a label."""


def export_rows(
    config: str,
    splits: Sequence[str] | None,
    out: Path,
    *,
    data: str,
    layout: Layout,
    limit: int | None,
    seed: int,
    force: bool,
    progress: Progress,
) -> Exported:
    """Write the rows of a config as ONNX files below `out`, and a table of them when all are written.

    A file is there whole or not at all. Without `splits` all that the config has are written; `limit` keeps
    the first rows of each split; weights depend on `seed` and on their names alone.

    Raises:
        OnnxBenchError: `out` is not an empty folder, and `force` is not set.
        UnknownNameError: there is no such config or split.
        LoadError: the data set cannot be read, or the config has no graphs.
    """
    _check_empty(out, force)
    streams = _open(data, config)
    splits = list(dict.fromkeys(splits or streams))
    for split in splits:
        if split not in streams:
            raise UnknownNameError(f"{config} has no split {split!r}; there are {', '.join(streams)}")
    written = unlabelled = 0
    tables = _tables(layout, splits)
    for name, contained in tables.items():
        with _table(out / name, _COLUMNS[layout]) as add:
            for split in contained:
                rows = islice(streams[split], limit)
                for row in progress(rows, split, _count(data, config, split, limit)):
                    if layout is Layout.ONNXNET and row["accuracy"] is None:
                        unlabelled += 1
                        continue
                    add(_write_row(row, split, out, layout, seed))
                    written += 1
    return Exported(written, [out / name for name in tables], unlabelled)


def _open(data: str, config: str) -> Mapping[str, Iterable[Row]]:
    try:
        streams: Mapping[str, Iterable[Row]] = load_dataset(data, config, streaming=True)
    except LoadError as error:
        raise LoadError(f"{error}. `make dataset` builds the data set; --data names its folder") from error
    return streams


def read_quietly() -> None:
    """Read rows without bars of other packages."""
    import datasets

    datasets.disable_progress_bars()


def _check_empty(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise OnnxBenchError(f"{out} is not a folder")
    if not force and out.is_dir() and any(out.iterdir()):
        raise OnnxBenchError(f"{out} is not empty; --force writes into it, over files of the same names")


def _count(data: str, config: str, split: str, limit: int | None) -> int | None:
    """Return how many rows there are, where that takes no download."""
    if not Path(data).is_dir():
        return limit
    rows = len(load_dataset(data, config, split=split, columns=["id"]))
    return rows if limit is None else min(rows, limit)


def _tables(layout: Layout, splits: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return the tables to write, with the splits that each holds."""
    if layout is Layout.PLAIN:
        return {"labels.csv": splits}
    return {"val.csv" if split == TEST else f"{split}.csv": [split] for split in splits}


_COLUMNS = {
    Layout.PLAIN: ("file", "accuracy", "dataset", "label", "split", "epochs", "seeds"),
    Layout.ONNXNET: ("onnx_encoding", "accuracy", "dataset", "name"),
}


def _write_row(row: Row, split: str, out: Path, layout: Layout, seed: int) -> Sequence[object]:
    """Write the file of a row and return its line of the table."""
    space, _, name = row["id"].partition("/")
    file = f"{row['id']}.onnx" if layout is Layout.PLAIN else f"onnx/{release.file_of(space, name)}"
    parts = PurePosixPath(file).parts
    if ".." in parts or PurePosixPath(file).is_absolute() or "\0" in file:
        raise LoadError(f"the row {row['id']!r} cannot be a file; was the data set changed by somebody?")
    stored = load_onnx(row)
    model = fill_weights(stored if layout is Layout.PLAIN else simplify(stored), seed=seed)
    accuracy = "" if row["accuracy"] is None else str(np.float32(row["accuracy"]))
    about = {column: row[column] for column in ("id", "space", "architecture", "dataset", "label")}
    said = {"accuracy": accuracy, **about}
    onnx.helper.set_model_props(model, {key: value for key, value in said.items() if value})
    content = serialized(model)
    target = out / file
    target.parent.mkdir(parents=True, exist_ok=True)
    write(str(target), content, force=True)
    if layout is Layout.ONNXNET:
        return encode(model, "chain-slim"), accuracy, release.task_of(space), target.stem
    epochs, seeds = _training(row)
    return file, accuracy, row["dataset"], row["label"], split, epochs, seeds


def _training(row: Row) -> tuple[int | None, int | None]:
    """Return epochs and seeds of the headline accuracy, which comes first among the figures of its kind."""
    for metric in row["metrics"]:
        if (metric["dataset"], metric["split"], metric["name"]) == (row["dataset"], "test", "accuracy"):
            return metric["epochs"], metric["seeds"]
    return None, None


@contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Sequence[object]], object]]:
    """Write a table line by line; it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            yield writer.writerow
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
