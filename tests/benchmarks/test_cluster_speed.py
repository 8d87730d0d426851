"""A build on a cluster takes hardly longer than one in as many processes."""

import shutil
import statistics
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from builders import cluster, pool, shards
from builders.labels import LabelledArchitecture, Metric
from builders.shards import Target
from onnx_bench_dataset import spaces

# The cluster lies beside the tests of the builders.
sys.path.insert(0, str(Path(__file__).parents[1] / "builders"))
from clusters import Cluster

WORKERS = 2
SHARDS = 4
ROUNDS = 3
MOST_OVERHEAD = 0.15


@pytest.fixture(scope="module")
def tasks():
    """Shards of full size, with as many figures a row as NAS-Bench-201 has."""
    figures = tuple(
        Metric("cifar100", "test", f"figure {number}", 200, 3, number / 7) for number in range(20)
    )
    rows = [
        LabelledArchitecture(
            f"{index:06}", architecture, "cifar10", index / 999, "trained", figures, None, "train"
        )
        for index, architecture in enumerate(
            spaces.get("nasbench201").architectures()[: shards.SHARD_ROWS // 2] * 2 * SHARDS
        )
    ]
    return shards.plan("nasbench201", "train", rows)


@contextmanager
def on_a_cluster(folder, target):
    """Run on as many dask workers as there are processes, warm as those."""
    with Cluster(folder / "dask", WORKERS) as running:
        while len(running.workers()) < WORKERS:
            time.sleep(0.1)
        with cluster.connect(running.address, target) as executor:
            yield executor


def seconds(executor, target, tasks):
    """Make all shards; return how long it took."""
    shutil.rmtree(target.folder, ignore_errors=True)
    start = time.perf_counter()
    made = [
        shard for some in pool.run(executor, WORKERS, partial(shards.make, target), tasks) for shard in some
    ]
    spent = time.perf_counter() - start
    assert len(made) == len(tasks)
    return spent


def test_overhead_of_the_cluster(benchmark, tasks, tmp_path):
    target = Target(tmp_path / "folder", tmp_path / "aside")
    target.aside.mkdir()
    with pool.processes(WORKERS) as processes, on_a_cluster(tmp_path, target) as remote:
        for executor in (processes, remote):  # both load the code and what networks of the space share
            seconds(executor, target, tasks[: 2 * WORKERS])
        pairs = []
        benchmark.pedantic(
            lambda: pairs.append((seconds(processes, target, tasks), seconds(remote, target, tasks))),
            rounds=ROUNDS,
        )
    ratios = [remote / local for local, remote in pairs]
    benchmark.extra_info.update(pairs=pairs, rows_per_task=shards.SHARD_ROWS)
    assert statistics.median(ratios) <= 1 + MOST_OVERHEAD
