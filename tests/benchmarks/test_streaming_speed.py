"""Rows a second from local shards, bytes over HTTP, and graphs a second, in one process, of real benchmarks.

Rows are built from published files, some thousands of each space, and read again and again until enough have
come. Speeds are per second of processor time, so that they do not depend on what else the machine does.
"""

import itertools
import time

import datasets
import hub_server
import pytest

from builders import build
from builders.labels import no_progress
from builders.registry import BENCHMARKS
from onnx_bench_dataset import load_dataset
from onnx_bench_dataset.batches import GraphBatches

SPACES = ("nasbench101", "nasbench201", "nasbench301", "natsbench_size", "nasbench_macro", "transnasbench101")
SMALL = "natsbench_size"
LIMIT = 6_000
ROWS = 40_000


@pytest.fixture(scope="module")
def folder(published, tmp_path_factory):
    """A folder with some thousands of rows of each space, and all rows of a space with small ones.

    Footers weigh more in shards of a part of its rows.
    """
    out = tmp_path_factory.mktemp("streaming") / "onnx-bench"
    for limit, names in ((LIMIT, [name for name in SPACES if name != SMALL]), (None, [SMALL])):
        build.build(
            [BENCHMARKS[name] for name in names],
            out,
            sources=published,
            where=build.Where(workers=2),
            limit=limit,
            progress=no_progress,
        )
    return out


def rows_a_second(batches, sizes):
    """Read batches until enough rows have come; `sizes` says how many rows a batch has."""
    next(batches)
    start, count = time.process_time(), 0
    for batch in batches:
        count += sizes(batch)
        if count >= ROWS:
            break
    return count / (time.process_time() - start)


WAYS = {
    "rows": (iter, lambda _: 1),
    "batches": (lambda rows: rows.iter(100), lambda batch: len(batch["accuracy"])),
    "tables": (lambda rows: rows.with_format("arrow").iter(1000), len),
    "shuffled": (lambda rows: iter(rows.reshard().shuffle(0, max_buffer_input_shards=1)), lambda _: 1),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("column", "required"), [("text", 100_000), ("onnx", 30_000)])
@pytest.mark.parametrize("space", ["nasbench101", "nasbench201"])
def test_rows_from_local_shards(benchmark, folder, space, column, required, way):
    rows = load_dataset(str(folder), space, split="train", streaming=True, columns=[column, "accuracy"])
    iterate, sizes = WAYS[way]
    speeds = []

    def read():
        again = itertools.chain.from_iterable(iterate(rows) for _ in itertools.count())
        speeds.append(rows_a_second(again, sizes))

    benchmark.pedantic(read, rounds=3)
    benchmark.extra_info["rows_a_second"] = max(speeds)
    if way != "shuffled":
        assert max(speeds) >= required


FEW_BYTES = pytest.mark.xfail(
    strict=True, reason="rows of 72 bytes in all: the two columns and the footers are 8 % of them"
)


@pytest.mark.parametrize(
    "space", [pytest.param(name, marks=[FEW_BYTES] * (name == "nasbench_macro")) for name in SPACES]
)
def test_bytes_of_two_columns_over_http(benchmark, folder, space, tmp_path, monkeypatch):
    with hub_server.serving() as hub:
        hub_server.use(hub, monkeypatch, cache=tmp_path)
        hub.put_folder(folder, "onnx-bench/onnx-bench")

        def read():
            splits = load_dataset("onnx-bench/onnx-bench", space, streaming=True, columns=["id", "accuracy"])
            return sum(1 for rows in splits.values() for _ in rows)

        assert benchmark.pedantic(read, rounds=1) > 1000
        sent = sum(request.sent for request in hub.requests if request.path.startswith("/content/"))
    stored = sum(file.stat().st_size for file in (folder / "data" / space).iterdir())
    benchmark.extra_info["share"] = sent / stored
    assert sent / stored <= 0.05


@pytest.mark.parametrize("space", ["nasbench101", "nasbench201", "nasbench301"])
def test_graphs_from_texts(benchmark, folder, space):
    datasets.disable_progress_bars()
    columns = ["id", "text", "accuracy"]
    rows = list(load_dataset(str(folder), space, split="train", streaming=True, columns=columns).take(1280))
    batches = [rows[start : start + 64] for start in range(0, len(rows), 64)]
    make, spent = GraphBatches(), []

    def read():
        start = time.process_time()
        for batch in batches:
            make(batch)
        spent.append(time.process_time() - start)

    benchmark.pedantic(read, rounds=3, warmup_rounds=1)
    benchmark.extra_info["graphs_a_second"] = len(rows) / min(spent)
