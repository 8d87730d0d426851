"""Sizes rank as the columns say, chance as its seed says; what a predictor may see of rows is checked."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from onnx_bench_dataset.errors import LoadError, PredictorError
from onnx_bench_dataset.surrogates import load, new, visible

ROWS = pa.table(
    {
        "num_params": [30, 10, 20],
        "macs": [1, 3, 2],
        "depth": [5, 5, 9],
        "accuracy": [90.0, 91.0, 92.0],
        "space": ["a", "b", "c"],
    }
)


@pytest.mark.parametrize(("name", "column"), [("params", "num_params"), ("macs", "macs"), ("depth", "depth")])
def test_a_size_is_the_score(name: str, column: str, tmp_path: Path) -> None:
    for rows in (ROWS, datasets.Dataset(ROWS)):
        predictor = new(name).fit(rows)
        assert predictor.predict(rows).tolist() == ROWS[column].to_pylist()
    predictor.save(tmp_path / "file")
    assert load(tmp_path / "file").predict(ROWS).tolist() == ROWS[column].to_pylist()


def test_chance_is_of_the_seed_alone(tmp_path: Path) -> None:
    first, second, other = (new("random").fit(ROWS, seed).predict(ROWS) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    new("random").fit(ROWS, 2).save(tmp_path / "file")
    assert np.array_equal(load(tmp_path / "file").predict(ROWS), other)


def test_rows_of_a_dataset_are_those_that_it_selects() -> None:
    rows = datasets.Dataset(ROWS).select([2, 0])
    assert new("params").predict(rows).tolist() == [20, 30]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(LoadError, match=r"no column macs: load them with columns=\['macs', 'accuracy'\]"):
        new("macs").predict(ROWS.drop_columns("macs"))
    with pytest.raises(LoadError, match="no column text"):
        visible.networks(ROWS, ("num_params", "text"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS.drop_columns("accuracy"), "nothing to learn from"),
        (ROWS.slice(0, 0), "nothing to learn from"),
        (ROWS.slice(1, 1), "all labels are equal"),
        (ROWS.set_column(3, "accuracy", [[90.0, 90.0, 90.0]]), "all labels are equal"),
        (ROWS.set_column(3, "accuracy", [[90.0, None, 91.0]]), "1 of 3 rows have no label"),
        (ROWS.set_column(3, "accuracy", [[90.0, float("nan"), float("inf")]]), "2 of 3 rows have no label"),
        (ROWS.set_column(3, "accuracy", [pa.nulls(3, pa.float32())]), "3 of 3 rows have no label"),
        (ROWS.append_column("group", [[1, 2, 3]]), "all labels are equal"),
    ],
)
def test_labels_that_teach_nothing_are_refused(rows: pa.Table, message: str) -> None:
    with pytest.raises(PredictorError, match=message):
        new("params").fit(rows)


def test_a_space_is_never_seen() -> None:
    assert "space" not in visible.NETWORK
    assert visible.networks(ROWS, ("macs", "depth")).column_names == ["macs", "depth"]
