"""Writers of the published file formats, to make small files of them for the tests."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import json
import pickle
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from builders.sources import SourceFile

SETS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}


def table_of(folder: Path, url: str = "http://127.0.0.1:9/") -> list[SourceFile]:
    """Return a table that pins every file below `folder` as it is now."""
    return [
        SourceFile(
            path := str(file.relative_to(folder)),
            file.stat().st_size,
            hashlib.sha256(file.read_bytes()).hexdigest(),
            "MIT",
            url + path,
        )
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    ]


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Pickles, put together from their operations because pandas of today does not write those of 2021.


def value(content: object) -> bytes:
    return pickle.dumps(content, protocol=3)[2:-1]


def name(module: str, function: str) -> bytes:
    return f"c{module}\n{function}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def build(made: bytes, *state: bytes) -> bytes:
    return made + b"(" + b"".join(state) + b"tb"


def mapping(**items: bytes) -> bytes:
    return b"}(" + b"".join(value(key) + item for key, item in items.items()) + b"u"


def whole(content: bytes) -> bytes:
    return b"\x80\x04" + content + b"."


def number_type(code: str) -> bytes:
    order, flags = ("|", 63) if code == "O8" else ("<", 0)
    return build(
        call(name("numpy", "dtype"), value(code), value(False), value(True)),
        *map(value, (3, order, None, None, None, -1, -1, flags)),
    )


def array(values: np.ndarray | list[str]) -> bytes:
    empty = call(
        name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), value((0,)), value(b"b")
    )
    if isinstance(values, list):
        return build(empty, value(1), value((len(values),)), number_type("O8"), value(False), value(values))
    fortran = not values.flags.c_contiguous
    content = b"B" + struct.pack("<I", values.nbytes) + values.tobytes(order="A")
    kind = number_type(values.dtype.str[1:])
    return build(empty, value(1), value(values.shape), kind, value(fortran), content)


def frame(columns: Mapping[str, np.ndarray]) -> bytes:
    """Return the pickle of a pandas frame, in the layout of the published NAS-Bench-101 files."""
    maker = call(name("functools", "partial"), name("pandas.core.internals.blocks", "new_block"))
    maker = build(
        maker, name("pandas.core.internals.blocks", "new_block"), b")", value({"ndim": 2}), value(None)
    )
    blocks, start = b"", 0
    for _, group in groupby(columns.values(), key=lambda column: (column.dtype, column.shape)):
        block = np.array(list(group), order="F")
        place = call(name("builtins", "slice"), *map(value, (start, start + len(block), 1)))
        blocks += call(maker, array(block), place)
        start += len(block)
    count = len(next(iter(columns.values())))
    names = call(
        name("pandas.core.indexes.base", "_new_Index"),
        name("pandas.core.indexes.base", "Index"),
        mapping(data=array(list(columns)), name=value(None)),
    )
    index = call(
        name("pandas.core.indexes.base", "_new_Index"),
        name("pandas.core.indexes.range", "RangeIndex"),
        mapping(name=value(None), start=value(0), stop=value(count), step=value(1)),
    )
    manager = call(
        name("pandas.core.internals.managers", "BlockManager"),
        b"(" + blocks + b"t",
        b"](" + names + index + b"e",
    )
    made = name("pandas.core.frame", "DataFrame") + b")\x81"
    return whole(made + mapping(_mgr=manager, _typ=value("dataframe")) + b"b")


def frame_of(column: str, values: Sequence[float]) -> bytes:
    """Return a compressed frame with the columns `index` and `column`."""
    columns = {"index": np.arange(len(values), dtype="<i8"), column: np.array(values, dtype="<f8")}
    return gzip.compress(frame(columns), mtime=0)


# TFRecord files of NAS-Bench-101.


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def tfrecord(records: Iterable[bytes]) -> bytes:
    parts = []
    for data in records:
        length = struct.pack("<Q", len(data))
        parts += [length, masked(length), data, masked(data)]
    return b"".join(parts)


def evaluation(train: float, valid: float, test: float, seconds: float, epoch: float = 1.0) -> bytes:
    """Return an `EvaluationData` message, its doubles written out field by field."""
    doubles = b"".join(
        bytes([field << 3 | 1]) + struct.pack("<d", figure)
        for field, figure in enumerate((epoch, seconds, train, valid, test), 1)
    )
    return doubles + b"\x32\x04ckpt"


def model_metrics(evaluations: Sequence[bytes], params: int) -> bytes:
    """Return a `ModelMetrics` message."""
    parts = [b"\x0a" + bytes([len(message)]) + message for message in evaluations]
    digits = [params >> shift & 127 for shift in range(0, 35, 7)]
    varint = bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])
    return b"".join(parts) + b"\x10" + varint + b"\x19" + struct.pack("<d", 100.0)


def training_run(cell_hash: str, epochs: int, adjacency: str, operations: str, metrics: bytes) -> bytes:
    return json.dumps([cell_hash, epochs, adjacency, operations, base64.b64encode(metrics).decode()]).encode()


# Training records of NAS-Bench-201.


def arch_results(
    index: int,
    architecture: str,
    epochs: int,
    accuracies: Mapping[str, Mapping[int, float]],
    params: float = 0.1,
) -> dict[str, Any]:
    """Return the state of an `ArchResults`; `accuracies` by data set and seed hold on all splits."""
    return {
        "arch_index": index,
        "arch_str": architecture,
        "all_results": {
            (dataset, seed): _trial(dataset, seed, epochs, accuracy, params)
            for dataset, seeds in accuracies.items()
            for seed, accuracy in seeds.items()
        },
        "dataset_seed": {dataset: sorted(seeds) for dataset, seeds in accuracies.items()},
        "clear_net_done": True,
    }


def _trial(dataset: str, seed: int, epochs: int, accuracy: float, params: float) -> dict[str, Any]:
    by_epoch = {f"{name}@{epoch}": accuracy for name in SETS[dataset] for epoch in range(epochs)}
    return {
        "name": dataset,
        "net_state_dict": None,
        "train_acc1es": dict.fromkeys(range(epochs), accuracy + 1),
        "train_acc5es": None,
        "train_losses": dict.fromkeys(range(epochs), 0.5),
        "train_times": dict.fromkeys(range(epochs), 2.0),
        "arch_config": {"channel": 16, "num_cells": 5},
        "params": np.float64(params),
        "flop": 10.0,
        "seed": seed,
        "epochs": epochs,
        "latency": [np.float64(0.01)],
        "eval_names": list(SETS[dataset]),
        "eval_acc1es": by_epoch,
        "eval_times": dict.fromkeys(by_epoch, 1.0),
        "eval_losses": dict.fromkeys(by_epoch, 0.5),
    }


def nats_file(content: object) -> bytes:
    return bz2.compress(pickle.dumps(content, protocol=4))
