"""The default predictor: drawn from the trained labels of a dataset folder, and written as a file.

Spaces give rows in equal numbers, as far as they have them; small ones give all, and the others what these
lack. Rows of the train splits are learned from, some of the test splits calibrate. Labels of a surrogate are
left out, and so is `digits`, whose networks are small versions of those of other spaces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import onnx_bench_dataset
from builders import manifest
from builders.digits import SPACE as DIGITS
from builders.manifest import SpaceRecord
from builders.row_groups import ADVICE
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.spaces import SPACES
from onnx_bench_dataset.splits import TEST, TRAIN
from onnx_bench_dataset.surrogates.calibrated import CalibratedPredictor, Labelled
from onnx_bench_dataset.surrogates.graph_features import features_of

DATASET = "cifar10"
"""What is predicted is accuracy on it; rows of others are only ranked."""

_CALIBRATING = 50  # one row in so many, of each space
_SEED = 0


class _Rows(NamedTuple):
    """The trained labels of a split of a space."""

    shards: pads.Dataset
    numbers: NDArray[np.int64]
    dataset: str


def make(folder: Path, out: Path, rows: int) -> CalibratedPredictor:
    """Learn from rows of a dataset folder, write the predictor, and return it.

    Raises:
        BuildError: the folder is damaged, or has too few rows with trained labels.
    """
    with threadpool_limits(1):  # sums over more threads are rounded otherwise: the bytes would depend on it
        predictor = CalibratedPredictor.fit(*networks(folder, rows))
    predictor.save(out)
    return predictor


def networks(folder: Path, rows: int) -> tuple[Labelled, int, dict[str, Any]]:
    """Return what is learned from, the seed, and what is said of both.

    Raises:
        BuildError: the folder is damaged, or has too few rows with trained labels.
    """
    records = {space: record for space, record in manifest.read(folder).items() if space != DIGITS}
    found = {
        (space, split): known
        for space, record in records.items()
        for split in (TRAIN, TEST)
        if (known := labelled(folder, record, split)) is not None
    }
    tests = {space: rows // _CALIBRATING for space, split in found if split == TEST}
    tests = {space: min(count, len(found[space, TEST].numbers)) for space, count in tests.items()}
    tests = {space: count for space, count in tests.items() if found[space, TEST].dataset == DATASET}
    sizes = {space: len(each.numbers) for (space, split), each in found.items() if split == TRAIN}
    trains = shares(sizes, rows - sum(tests.values()))
    if not tests or sum(trains.values()) < 2:
        raise BuildError(f"{folder} has no trained labels of {DATASET}: build some of its spaces")
    parts = {
        (space, split): drawn(found[space, split], count)
        for split, counts in ((TRAIN, trains), (TEST, tests))
        for space, count in counts.items()
    }
    made = {
        "data": fingerprint({space: records[space] for space in trains}),
        "rows": sum(trains.values()) + sum(tests.values()),
        "train": trains,
        "calibrate": tests,
        "seed": _SEED,
        "version": onnx_bench_dataset.__version__,
    }
    datasets = {space: found[space, TRAIN].dataset for space in trains}
    return _together(parts, datasets), _SEED, made


def shares(sizes: Mapping[str, int], rows: int) -> dict[str, int]:
    """Return how many of `rows` each space gives: as many as the others, or all that it has.

    >>> shares({"large": 100, "small": 10, "middle": 30}, 90)
    {'large': 50, 'small': 10, 'middle': 30}
    """
    found = dict(sizes)
    left = rows
    for place, space in enumerate(sorted(sizes, key=lambda space: (sizes[space], space))):
        found[space] = min(sizes[space], left // (len(sizes) - place))
        left -= found[space]
    return found


def fingerprint(records: Mapping[str, SpaceRecord]) -> str:
    """Return what tells the rows of these spaces from any others: a digest of the digests of their shards."""
    digest = hashlib.sha256()
    for space in sorted(records):
        for shard in records[space].shards:
            digest.update(f"{shard.path} {shard.sha256}\n".encode())
    return digest.hexdigest()[:16]


def labelled(folder: Path, record: SpaceRecord, split: str) -> _Rows | None:
    """Return the rows of a split with trained labels; None if there are none."""
    paths = [str(folder / shard.path) for shard in record.shards if manifest.split_of(shard.path) == split]
    if not paths or not record.labels.get("trained"):
        return None
    try:
        shards = pads.dataset(paths)
        table = shards.to_table(columns=["label", "dataset", "accuracy"])
    except (OSError, pa.ArrowException) as error:
        raise BuildError(f"{folder} cannot be read: {error}; {ADVICE}") from error
    wanted = pc.and_(pc.equal(table["label"], "trained"), pc.is_valid(table["accuracy"]))
    numbers = np.flatnonzero(pc.fill_null(wanted, False).to_numpy())
    return _Rows(shards, numbers, table["dataset"][int(numbers[0])].as_py()) if len(numbers) else None


def drawn(rows: _Rows, count: int) -> pa.Table:
    """Return ids, texts and accuracies of rows, in random order."""
    chosen = np.random.default_rng(_SEED).permutation(rows.numbers)[:count]
    order = np.sort(chosen)
    table = rows.shards.take(pa.array(order), columns=["id", "text", "accuracy"])
    return table.take(pa.array(np.searchsorted(order, chosen)))


def _together(parts: Mapping[tuple[str, str], pa.Table], datasets: Mapping[str, str]) -> Labelled:
    """Put rows of all spaces together, in random order."""
    spaces = sorted(datasets)
    families = {space: SPACES[space].family if space in SPACES else space for space in spaces}
    family_names = sorted(set(families.values()))
    table = pa.concat_tables(parts.values())
    counts = [len(part) for part in parts.values()]
    keys = list(parts)

    def of_parts(values: list[int]) -> NDArray[np.int64]:
        return np.repeat(np.array(values, np.int64), counts)

    found = Labelled(
        np.array(table["id"].to_pylist(), object),
        features_of(table["text"].to_pylist()),
        table["accuracy"].to_numpy().astype(np.float64),
        of_parts([spaces.index(space) for space, _ in keys]),
        of_parts([family_names.index(families[space]) for space, _ in keys]),
        of_parts([datasets[space] == DATASET for space, _ in keys]).astype(bool),
        of_parts([split == TEST for _, split in keys]).astype(bool),
    )
    return found.where(np.random.default_rng(_SEED).permutation(len(table)))
