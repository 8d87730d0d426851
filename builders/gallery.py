"""The gallery: 64 architectures of a space, each with a picture, for browsing.

They are spread evenly over the ranking by accuracy, of the training rows and of the test rows by themselves,
so the best and the worst of either are among them. Where too few rows have a label, the ranking is by
multiply-accumulates. Architectures are drawn as their space describes them; imported networks from their
text.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builders.labels import Progress
from builders.shards import ShardRecord, Target, record, writing
from onnx_bench_dataset import spaces
from onnx_bench_dataset.drawing import draw, network_diagram
from onnx_bench_dataset.errors import BuildError, UnsupportedModelError
from onnx_bench_dataset.schema import GALLERY_SCHEMA
from onnx_bench_dataset.splits import TEST, TRAIN

SIZE = 64
"""Rows of a space that are in the gallery, if it has so many."""

_TEST_SIZE = 16
_MOST_SHARDS = 25  # of a split, the first ones, among whose rows the gallery is chosen: half a million rows
_AT_ONCE = 8  # pictures that a task draws
_COLUMNS = [name for name in GALLERY_SCHEMA.names if name != "image"]

_Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""`pool.run` on the workers of a build."""


def make(
    target: Target,
    space: str,
    shards: Sequence[ShardRecord],
    *,
    from_text: bool,
    run: _Run,
    progress: Progress,
) -> tuple[ShardRecord, ...]:
    """Write the gallery of a space whose `shards` are finished; keep it if it is there already.

    Args:
        target: where the shards are and the gallery will be.
        space: name of the space.
        shards: its shards.
        from_text: whether to draw networks from their text, as those of imported files.
        run: does tasks on the workers of the build.
        progress: shows how many pictures are drawn.

    Raises:
        BuildError: it cannot be written.
    """
    path = f"gallery/{space}/{TRAIN}-00000-of-00001.parquet"
    if not (target.folder / path).exists():
        places = choose(target.folder, shards)
        parts = [places[start : start + _AT_ONCE] for start in range(0, len(places), _AT_ONCE)]
        drawn = run(partial(_draw_rows, target.folder, from_text), parts)
        counted = (row for rows in drawn for row in rows)
        rows = list(progress(counted, desc=f"{space}: pictures", total=len(places)))
        rows.sort(key=_best_first)
        with writing(target.folder / path, GALLERY_SCHEMA, target.aside) as add:
            add(pa.Table.from_pylist(rows, GALLERY_SCHEMA))
    return (record(target.folder, path),)


class Place(NamedTuple):
    """Where a row stands: a shard's path in the dataset folder, and the number of the row in it."""

    path: str
    row: int


def choose(folder: Path, shards: Sequence[ShardRecord]) -> list[Place]:
    """Choose rows of a space."""
    paths = {split: sorted(s.path for s in shards if f"/{split}-" in s.path) for split in (TRAIN, TEST)}
    ranked = {split: _ranked(folder, paths[split][:_MOST_SHARDS]) for split in paths}
    num_test = min(_TEST_SIZE, len(ranked[TEST]))
    num_train = min(SIZE - num_test, len(ranked[TRAIN]))
    num_test = min(SIZE - num_train, len(ranked[TEST]))
    return [
        Place(paths[split][row["shard"]], row["row"])
        for split, count in ((TRAIN, num_train), (TEST, num_test))
        for row in ranked[split].take(_evenly(len(ranked[split]), count)).to_pylist()
    ]


def _ranked(folder: Path, paths: Sequence[str]) -> pa.Table:
    """Return where the rows of a split stand, in the order of their accuracy, or of their size."""
    tables = [_PLACES.empty_table()]
    for number, path in enumerate(paths):
        table = pq.read_table(folder / path, columns=["id", "accuracy", "macs"])
        shard, row = pa.repeat(pa.scalar(number, pa.int32()), len(table)), pa.arange(0, len(table))
        columns = [*table.columns, shard, row]
        tables.append(pa.Table.from_arrays(columns, schema=_PLACES))
    rows = pa.concat_tables(tables)
    labelled = rows.filter(rows["accuracy"].is_valid())
    by, rows = ("accuracy", labelled) if len(labelled) >= SIZE else ("macs", rows)
    return rows.take(pc.sort_indices(rows, [(by, "ascending"), ("id", "ascending")]))


_PLACES = pa.schema(
    [
        ("id", pa.string()),
        ("accuracy", pa.float32()),
        ("macs", pa.int64()),
        ("shard", pa.int32()),
        ("row", pa.int64()),
    ]
)


def _evenly(length: int, count: int) -> pa.Array:
    """Return the first and the last position in a table, and what lies evenly between them."""
    last = length - 1
    return pa.array([round(number * last / max(1, count - 1)) for number in range(count)], pa.int64())


def _draw_rows(folder: Path, from_text: bool, places: Sequence[Place]) -> list[dict[str, Any]]:
    """Return rows of the gallery; a network too large for a picture has none."""
    columns = [*_COLUMNS, "text"] if from_text else _COLUMNS
    rows = []
    for place in places:
        row = _read(folder / place.path, place.row, columns)
        try:
            if from_text:
                diagram = network_diagram(row.pop("text"))
            else:
                diagram = spaces.get(row["space"]).diagram(row["architecture"])
            image = {"bytes": draw(diagram), "path": f"{row['id'].replace('/', '-')}.png"}
        except UnsupportedModelError:
            image = None
        rows.append({**row, "image": image})
    return rows


def _read(path: Path, number: int, columns: list[str]) -> dict[str, Any]:
    file = pq.ParquetFile(path)
    group = 0
    while number >= file.metadata.row_group(group).num_rows:
        number -= file.metadata.row_group(group).num_rows
        group += 1
    row: dict[str, Any] = file.read_row_group(group, columns=columns).slice(number, 1).to_pylist()[0]
    return row


def _best_first(row: dict[str, Any]) -> tuple[bool, float, str]:
    accuracy = row["accuracy"]
    return accuracy is None, -(accuracy or 0.0), row["id"]


def faults(folder: Path, shards: Sequence[ShardRecord], rows: pa.Table) -> Iterator[str]:
    """Yield what is wrong with a gallery, whose rows must be among `rows` of the data and have pictures.

    Raises:
        OSError, pyarrow.ArrowException: a file cannot be read.
        BuildError: a file has other columns.
    """
    for shard in shards:
        found = pq.ParquetFile(folder / shard.path)
        if not found.schema_arrow.equals(GALLERY_SCHEMA, check_metadata=True):
            raise BuildError(f"{shard.path} has other columns than a gallery has")
        shown = found.read()
        places = pc.index_in(shown["id"], rows["id"])
        if places.null_count:
            yield f"{shard.path} shows rows that the data has not"
            continue
        if not shown.select(_COLUMNS).equals(rows.select(_COLUMNS).take(places)):
            yield f"{shard.path} says other things of its rows than the data"
        for name, image in zip(shown["id"].to_pylist(), shown["image"].to_pylist(), strict=True):
            if image is not None and not _is_picture(image["bytes"]):
                yield f"{name}: its picture cannot be read"


def _is_picture(content: bytes) -> bool:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return True
