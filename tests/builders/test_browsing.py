"""What the Hub's viewer needs: limits of its preview, of its row group scans and of its statistics."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_folder

from builders import shards, verify
from builders.labels import Metric
from onnx_bench_dataset.schema import CATALOG_SCHEMA, GALLERY_SCHEMA

PREVIEW_ROWS, PREVIEW_BYTES = 100, 1_000_000
SCAN_BYTES = 300_000_000
MOST_METRICS = 49  # of a row, in the size space of NATS-Bench
LONGEST_ARCHITECTURE = 418  # characters, in the DARTS space


def leaves(kind):
    """Types of the values in a column, within its lists and structs."""
    if pa.types.is_list(kind):
        return leaves(kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in leaves(field.type)]
    return [kind]


@pytest.mark.parametrize("schema", [CATALOG_SCHEMA, GALLERY_SCHEMA])
def test_cells_are_numbers_and_strings_except_for_the_picture(schema):
    for column in schema:
        if column.name != "image":
            for leaf in leaves(column.type):
                assert pa.types.is_string(leaf) or pa.types.is_integer(leaf) or pa.types.is_floating(leaf)


def test_the_catalog_fills_the_preview(tmp_path):
    rows = tiny_folder.rows_of("nasbench201", 200)
    metrics = (Metric("ImageNet16-120", "validation", "accuracy", 200, 3, 46.73333358764648),) * MOST_METRICS
    for row in rows:
        object.__setattr__(row, "metrics", metrics)
    record = tiny_folder.add_space(tmp_path, "nasbench201", rows)
    train = next(shard for shard in record.catalog if "/train-" in shard.path)
    shown = pq.read_table(tmp_path / train.path).slice(0, PREVIEW_ROWS).to_pylist()
    for row in shown:
        row["architecture"] = row["architecture"].ljust(LONGEST_ARCHITECTURE, "x")
    assert len(shown) == PREVIEW_ROWS
    assert len(json.dumps(shown)) < PREVIEW_BYTES


def test_row_groups_stay_far_below_what_the_viewer_scans():
    assert 2 * shards._ROW_GROUP_BYTES < SCAN_BYTES  # graphs and texts; all else is small beside them


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_verify_finds_a_number_that_would_kill_the_statistics(value):
    row = {"accuracy": 93.5, "label": "trained", "metrics": [], "architecture": "a", "dataset": "cifar10"}
    assert not list(verify._label_failures(row))
    assert [check for check, _ in verify._label_failures({**row, "accuracy": value})] == ["labels"]
    metric = {"name": "latency", "value": value}
    assert [check for check, _ in verify._label_failures({**row, "metrics": [metric]})] == ["labels"]
