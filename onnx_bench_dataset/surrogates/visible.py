"""What of a data set a predictor may see: networks and labels, never which search space a row is of.

A label is only comparable with others of its own benchmark, so `fit` is told which rows belong together, as
numbers that mean nothing else; `predict` is not told that either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from onnx_bench_dataset.errors import LoadError, PredictorError

if TYPE_CHECKING:
    from typing import TypeAlias

    import datasets

    Rows: TypeAlias = datasets.Dataset | pa.Table

NETWORK = ("text", "onnx", "num_nodes", "num_params", "macs", "depth")
"""Columns that describe the network of a row; a predictor names those that it needs."""

GROUP = "group"
"""Rows of one number were labelled alike: their accuracies may be compared. Optional, in training alone."""


def networks(rows: Rows, columns: Sequence[str]) -> pa.Table:
    """Return columns that describe networks; graphs without what their files say of their origin.

    Raises:
        LoadError: a column is missing.
    """
    table = as_table(rows)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise LoadError(
            f"the rows have no column {', '.join(missing)}: load them with columns={[*columns, 'accuracy']}"
        )
    table = table.select(columns)
    if "onnx" in columns:
        bare = [_without_metadata(content) for content in table["onnx"].to_pylist()]
        place = table.column_names.index("onnx")
        table = table.set_column(place, "onnx", pa.array(bare, pa.large_binary()))
    return table


def _without_metadata(content: bytes) -> bytes:
    model = onnx.load_model_from_string(content)
    del model.metadata_props[:]
    bare: bytes = model.SerializeToString()
    return bare


def labels(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return accuracies in percent and the group of each row, all 0 where rows name none.

    Raises:
        PredictorError: there are no labels, one is missing or not finite, or all of a group are equal.
    """
    table = as_table(rows)
    if "accuracy" not in table.column_names or not len(table):
        raise PredictorError("there is nothing to learn from: no rows, or rows without a column accuracy")
    column = pc.fill_null(table["accuracy"].cast(pa.float64()), float("nan"))
    accuracies = column.to_numpy().astype(np.float64)
    unknown = int((~np.isfinite(accuracies)).sum())
    if unknown:
        raise PredictorError(
            f"{unknown:,} of {len(accuracies):,} rows have no label: leave them out, as "
            'rows.filter(lambda accuracy: accuracy is not None, input_columns="accuracy") does'
        )
    groups = (
        table[GROUP].to_numpy().astype(np.int64)
        if GROUP in table.column_names
        else np.zeros(len(accuracies), np.int64)
    )
    if all(np.ptp(accuracies[groups == group]) == 0 for group in np.unique(groups)):
        raise PredictorError("all labels are equal: there is no order to learn from them")
    return accuracies, groups


def as_table(rows: Rows) -> pa.Table:
    """Return rows as an Arrow table, those of a `datasets.Dataset` as it selects them."""
    if isinstance(rows, pa.Table):
        return rows
    table: pa.Table = rows.with_format("arrow")[:]
    return table
