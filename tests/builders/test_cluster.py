"""A build on a cluster gives the bytes of a local one, whatever dies on the way, and leaves nothing there."""

import os
import random
import shutil
import signal
import sys
import time

import psutil
import pytest
from building import build, digests, start
from clusters import CHECKOUT, Cluster, Proxy, free_port, kill
from distributed import Client

from builders import cluster, pool
from builders.shards import Target
from onnx_bench_dataset.errors import BuildError

ROWS = 5_000
SHARD_ROWS = 200


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """A cluster of four workers."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def built(published, tmp_path_factory):
    """A folder built by processes of this machine."""
    out = tmp_path_factory.mktemp("built") / "onnx-bench"
    status, printed = build(out, published, "--workers", "2", limit=ROWS, shard_rows=SHARD_ROWS)
    assert status == 0, printed
    return out


@pytest.fixture
def target(tmp_path):
    """A place for shards."""
    for name in ("folder", "aside"):
        (tmp_path / name).mkdir()
    return Target(tmp_path / "folder", tmp_path / "aside")


def start_on(address, out, published):
    """Start a build on the cluster at an address."""
    return start(out, published, "--scheduler", address, limit=ROWS, shard_rows=SHARD_ROWS)


def wait_until(is_so, process, seconds=60):
    """Wait for something to become true while a process runs."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def shards_in(out):
    """The finished shards of a folder that is being built."""
    return list(out.parent.glob(f"{out.name}.building/folder/data/*/*.parquet"))


def tasks_of(address):
    """How many tasks a scheduler knows, and how many a worker is at."""
    with Client(address, set_as_default=False) as client:
        known = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        at = client.run(lambda dask_worker: len(dask_worker.state.executing))
        return known, sum(at.values())


def end_of(process, out, built):
    """Wait for the end of a build and compare what it has made."""
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert digests(out) == digests(built)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_workers_killed_at_random_moments_leave_no_trace(four, built, published, tmp_path, seed):
    moments = random.Random(seed)
    out = tmp_path / "onnx-bench"
    process = start_on(four.address, out, published)
    wait_until(lambda: shards_in(out), process)
    killed = 0
    while killed < 5 and process.poll() is None:
        alive = four.workers()
        if alive:
            moments.choice(alive).kill()
            killed += 1
        time.sleep(moments.uniform(0, 0.4))
    assert killed == 5, "the build was over too soon"
    end_of(process, out, built)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_cut_connection_to_the_scheduler_leaves_no_trace(four, built, published, tmp_path, seed):
    proxy = Proxy(four.port)
    out = tmp_path / "onnx-bench"
    process = start_on(proxy.address, out, published)
    wait_until(lambda: shards_in(out), process)
    time.sleep(random.Random(seed).uniform(0, 0.5))
    assert process.poll() is None
    assert proxy.cut() > 0
    end_of(process, out, built)
    proxy.close()


def test_an_interrupt_takes_back_what_the_cluster_had_to_do(four, built, published, tmp_path):
    out = tmp_path / "onnx-bench"
    process = start_on(four.address, out, published)
    wait_until(lambda: shards_in(out), process)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "interrupted" in printed
    assert "Traceback" not in printed
    finished = len(shards_in(out))
    deadline = time.monotonic() + 10
    while tasks_of(four.address) != (0, 0):
        assert time.monotonic() < deadline
    assert len(shards_in(out)) == finished, "a worker went on for a build that had ended"


def test_a_worker_with_other_code_is_refused_also_when_it_joins_late(tmp_path, target):
    other = tmp_path / "other"
    for package in ("builders", "onnx_bench_dataset"):
        shutil.copytree(CHECKOUT / package, other / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "builders" / "shards.py").open("a") as file:
        file.write("# another version\n")
    with Cluster(tmp_path / "dask", workers=0) as small:
        good = small.add_worker(nanny=False)
        with cluster.connect(small.address, target) as executor:
            assert executor.submit(abs, -1).result(30) == 1
            small.add_worker(nanny=False, path=other)
            kill(good)
            with pytest.raises(BuildError, match=r"worker tcp://\S+ has joined and runs other code"):
                executor.submit(abs, -1).result(30)
        with (
            pytest.raises(BuildError, match=r"worker tcp://\S+: runs other code"),
            cluster.connect(small.address, target),
        ):
            pass


def test_a_worker_with_several_threads_or_without_the_code_is_refused(tmp_path, target):
    with Cluster(tmp_path / "dask", workers=0) as small:
        first = small.add_worker(nanny=False, threads=2)
        with (
            pytest.raises(BuildError, match="start it with --nthreads 1"),
            cluster.connect(small.address, target),
        ):
            pass
        kill(first)
        small.add_worker(nanny=False, path=tmp_path)
        with (
            pytest.raises(BuildError, match="Start workers in a checkout"),
            cluster.connect(small.address, target),
        ):
            pass


def test_a_worker_that_does_not_see_the_folder_is_refused(tmp_path, target):
    hidden = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs tmpfs {target.aside} && exec "$@"', "sh"]
    with Cluster(tmp_path / "dask", workers=0) as small:
        worker = small.add_worker(nanny=False, before=hidden)
        time.sleep(0.5)
        if worker.poll() is not None:
            pytest.skip("only root can hide a folder from a process")
        with (
            pytest.raises(BuildError, match="does not see the files"),
            cluster.connect(small.address, target),
        ):
            pass


def test_without_a_scheduler_or_without_workers_the_error_comes_soon(tmp_path, target):
    start_time = time.monotonic()
    with (
        pytest.raises(BuildError, match=r"no scheduler answers at tcp://127\.0\.0\.1"),
        cluster.connect(f"tcp://127.0.0.1:{free_port()}", target),
    ):
        pass
    assert time.monotonic() - start_time < 12
    with (
        pytest.raises(BuildError, match="no scheduler answers at nonsense://"),
        cluster.connect("nonsense://", target),
    ):
        pass
    with (
        Cluster(tmp_path / "dask", workers=0) as empty,
        pytest.raises(BuildError, match="has no worker"),
        cluster.connect(empty.address, target),
    ):
        pass


def test_without_dask_the_error_names_what_to_install(monkeypatch, target):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(BuildError, match=r"pip install 'onnx-bench-dataset\[cluster\]'"),
        cluster.connect("tcp://127.0.0.1:1", target),
    ):
        pass


def test_an_error_in_a_task_is_the_error_of_the_build(four, target):
    with cluster.connect(four.address, target) as executor, pytest.raises(ValueError, match="not found"):
        list(pool.run(executor, 1, bytes([1]).index, [1, 0]))


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_given_up(tmp_path, target):
    with (
        Cluster(tmp_path / "dask", workers=2) as two,
        cluster.connect(two.address, target) as executor,
        pytest.raises(BuildError, match="most likely for want of memory"),
    ):
        list(pool.run(executor, 1, os._exit, [1]))
    assert not [
        process for process in two.processes if psutil.pid_exists(process.pid) and process.poll() is None
    ]
