"""The table of what was measured: one row for each architecture, with the figures of every seed.

`measured.parquet` is the table that comes with the package; `python -m builders digits --retrain` writes one
like it. Checksums in the file, its columns and the sense of its figures are checked whenever it is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from onnx_bench_dataset.errors import SourceError

BUNDLED = Path(__file__).with_name("measured.parquet")
"""The table of this package."""

_PER_SEED = ("test_accuracy", "validation_accuracy", "train_loss", "failure")

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("architecture", pa.string(), nullable=False),
        pa.field("num_params", pa.int64(), nullable=False),
        pa.field("test_accuracy", pa.list_(pa.float64()), nullable=False),
        pa.field("validation_accuracy", pa.list_(pa.float64()), nullable=False),
        pa.field("train_loss", pa.list_(pa.float64()), nullable=False),
        pa.field("failure", pa.list_(pa.string()), nullable=False),
    ]
)
"""Columns; lists have an entry for each seed, in the order of `Origin.seeds`."""


class Measured(NamedTuple):
    """What was measured of an architecture; tuples have an entry for each seed."""

    name: str
    """What follows `digits/` in a row's id: `<space>/<number>`."""
    architecture: str
    """As `spaces.digits` reads it."""
    num_params: int
    test_accuracy: tuple[float, ...]
    """Percent."""
    validation_accuracy: tuple[float, ...]
    train_loss: tuple[float | None, ...]
    """Of the last epoch; None where the training failed."""
    failure: tuple[str, ...]
    """Why a training failed; empty where it did not."""

    @property
    def space(self) -> str:
        """The space that the architecture is of."""
        return self.name.partition("/")[0]


class Origin(NamedTuple):
    """How the figures of a table were made."""

    recipe: int
    """Version of the recipe."""
    epochs: int
    seeds: tuple[int, ...]
    torch: str
    """Version of PyTorch."""
    device: str


class Table(NamedTuple):
    """A table and how it was made."""

    origin: Origin
    rows: list[Measured]


def write(path: Path, table: Table) -> None:
    """Write a table, whole or not at all."""
    about = {name: str(value) for name, value in table.origin._asdict().items()}
    about["seeds"] = " ".join(map(str, table.origin.seeds))
    columns = [[_plain(row[index]) for row in table.rows] for index in range(len(SCHEMA))]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    content = pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(about))
    aside = path.with_name(f".tmp-{path.name}")
    pq.write_table(content, aside, compression="zstd", compression_level=19, write_page_checksum=True)
    aside.rename(path)


def read(path: Path = BUNDLED) -> Table:
    """Read a table.

    Raises:
        SourceError: there is none, or it is damaged.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(SCHEMA, check_metadata=False):
                raise _wrong(path, f"its columns are not {', '.join(SCHEMA.names)}")
            origin = _origin(path, file.schema_arrow.metadata or {})
            rows = [_row(path, row, len(origin.seeds)) for row in file.read().to_pylist()]
    except (OSError, pa.ArrowException) as error:
        raise _wrong(path, str(error)) from error
    if len({row.name for row in rows}) < len(rows):
        raise _wrong(path, "a name is there twice")
    return Table(origin, rows)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _origin(path: Path, about: Mapping[bytes, bytes]) -> Origin:
    try:
        text = {name: about[name.encode()].decode() for name in Origin._fields}
        return Origin(
            recipe=int(text["recipe"]),
            epochs=int(text["epochs"]),
            seeds=tuple(map(int, text["seeds"].split())),
            torch=text["torch"],
            device=text["device"],
        )
    except (KeyError, ValueError) as error:
        raise _wrong(path, f"it does not say how it was made ({error!r})") from error


def _row(path: Path, row: Mapping[str, Any], seeds: int) -> Measured:
    values = {name: tuple(row[name]) for name in _PER_SEED}
    if any(len(value) != seeds for value in values.values()):
        raise _wrong(path, f"{row['name']:.60} has not one figure for each of {seeds} seeds")
    accuracies = (*values["test_accuracy"], *values["validation_accuracy"])
    if not all(accuracy is not None and 0 <= accuracy <= 100 for accuracy in accuracies):
        raise _wrong(path, f"{row['name']:.60} has accuracies that are no percentages")
    for loss, failure in zip(values["train_loss"], values["failure"], strict=True):
        if failure is None or (loss is None) != bool(failure) or not math.isfinite(loss or 0):
            raise _wrong(path, f"{row['name']:.60} has a loss and a failure that do not belong together")
    if row["num_params"] < 1:
        raise _wrong(path, f"{row['name']:.60} has {row['num_params']} parameters")
    return Measured(row["name"], row["architecture"], row["num_params"], **values)


def _wrong(path: Path, reason: str) -> SourceError:
    return SourceError(
        f"{path} is not a table of what networks reach on digits: {reason}. The package's own comes with "
        "installing it anew, another one with `python -m builders digits --retrain`"
    )


def spaces_of(rows: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Return the rows by space, in their order."""
    found: dict[str, list[Measured]] = {}
    for row in rows:
        found.setdefault(row.space, []).append(row)
    return found
