"""The columns of a row: the one place that says what they are called, of which type, and what they mean."""

from __future__ import annotations

import datasets
import pyarrow as pa

METRIC = pa.struct(
    [
        pa.field("dataset", pa.string()),
        pa.field("split", pa.string()),
        pa.field("name", pa.string()),
        pa.field("epochs", pa.int32()),
        pa.field("seeds", pa.int32()),
        pa.field("value", pa.float64()),
    ]
)
"""One published figure: what was measured on which data, after how many epochs, mean over how many seeds."""


def _column(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"meaning": meaning})


SCHEMA = pa.schema(
    [
        _column("id", pa.string(), "stable for ever: `<space>/<name in the published benchmark>`"),
        _column("space", pa.string(), "search space"),
        _column(
            "architecture", pa.string(), "the benchmark's own string; NAS-Bench-101 has a documented one"
        ),
        _column("dataset", pa.string(), "what `accuracy` was measured on"),
        _column(
            "accuracy", pa.float32(), "test accuracy in percent, mean over the published seeds", nullable=True
        ),
        _column("label", pa.string(), "`trained`, or `surrogate` when a model predicted it", nullable=True),
        _column(
            "metrics", pa.list_(METRIC), "every published figure with its data, epochs and number of seeds"
        ),
        _column("num_nodes", pa.int32(), "operations of the graph as stored"),
        _column("num_params", pa.int64(), "learnable parameters, equal to the benchmark's own count"),
        _column("macs", pa.int64(), "multiply-accumulates of one forward pass"),
        _column("depth", pa.int32(), "operations on the longest path from input to output"),
        _column("graph_hash", pa.string(), "equal for graphs that differ only in names and order of nodes"),
        _column("text", pa.string(), "ONNX-Net text of the graph, which `decode` turns back into it"),
        _column("onnx", pa.large_binary(), "serialized ONNX `ModelProto` without weights"),
    ]
)
"""Rows of every config but the catalog."""

CATALOG_SCHEMA = pa.schema([column for column in SCHEMA if column.name not in ("onnx", "text")])
"""Rows of the config `catalog`: for browsing, without the long columns."""


def features(schema: pa.Schema = SCHEMA) -> datasets.Features:
    """Return the same columns as `datasets` describes them."""
    return datasets.Features.from_arrow_schema(schema.remove_metadata())


_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])


def _gallery_schema() -> pa.Schema:
    """Return the gallery's columns, with what tells `datasets` and the Hub's viewer that one is an image."""
    columns = [
        SCHEMA.field(name)
        for name in ("id", "space", "architecture", "accuracy", "label", "num_params", "macs")
    ]
    image = _column("image", _IMAGE, "picture of the cell or network, PNG", nullable=True)
    shown = datasets.Features({**features(pa.schema(columns)), "image": datasets.Image()})
    return pa.schema([*columns, image], metadata=shown.arrow_schema.metadata)


GALLERY_SCHEMA = _gallery_schema()
"""Rows of the config `gallery`: some of the catalog's columns, and a picture."""


def columns_table() -> str:
    """Return the columns as a Markdown table."""
    lines = ["| column | type | meaning |", "| --- | --- | --- |"]
    for column in SCHEMA:
        kind = (
            "list of {" + ", ".join(field.name for field in METRIC) + "}"
            if column.name == "metrics"
            else column.type
        )
        meaning = column.metadata[b"meaning"].decode()
        lines.append(f"| `{column.name}` | {kind}{', nullable' if column.nullable else ''} | {meaning} |")
    return "\n".join(lines)
