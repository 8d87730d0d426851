"""A build gives the same bytes however it came about, and a fault never harms what was there before."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time

import psutil
import pyarrow.parquet as pq
import pytest
from building import LIMIT, build, digests, start

from builders import manifest
from onnx_bench_dataset.schema import CATALOG_SCHEMA, SCHEMA
from onnx_bench_dataset.splits import split_of_graph


@pytest.fixture(scope="module")
def built(published, tmp_path_factory):
    """A folder built undisturbed with one worker."""
    out = tmp_path_factory.mktemp("built") / "onnx-bench"
    status, printed = build(out, published, "--workers", "1")
    assert status == 0, printed
    assert "built" in printed
    return out


def test_a_folder_holds_shards_catalog_manifest_and_readme(built):
    record = manifest.read(built)["nasbench201"]
    assert record.rows() == LIMIT
    assert record.labels == {"trained": LIMIT}
    assert set(digests(built)) == {
        "README.md",
        "manifest.json",
        *(shard.path for shard in record.files),
    }
    assert not list(built.parent.glob("onnx-bench.*"))


def test_rows_and_their_order_are_those_of_the_benchmark(built):
    record = manifest.read(built)["nasbench201"]
    ids = {split: [] for split in record.splits}
    for shard in record.shards:
        table = pq.read_table(built / shard.path)
        assert table.schema.equals(SCHEMA)
        split = manifest.split_of(shard.path)
        ids[split] += table["id"].to_pylist()
        assert {split_of_graph(name) for name in table["graph_hash"].to_pylist()} == {split}
    assert sorted(ids["train"] + ids["test"]) == [f"nasbench201/{index:05d}" for index in range(LIMIT)]
    assert all(names == sorted(names) for names in ids.values())


def test_catalog_is_the_rows_without_graphs(built):
    record = manifest.read(built)["nasbench201"]
    for split in record.splits:
        data = pq.read_table([built / s.path for s in record.shards if manifest.split_of(s.path) == split])
        catalog = pq.read_table(
            [built / s.path for s in record.catalog if manifest.split_of(s.path) == split]
        )
        assert catalog.schema.equals(CATALOG_SCHEMA)
        assert catalog.equals(data.select(CATALOG_SCHEMA.names))


def test_two_workers_make_the_same_bytes_as_one(built, published, tmp_path):
    status, printed = build(tmp_path / "onnx-bench", published, "--workers", "2")
    assert status == 0, printed
    assert digests(tmp_path / "onnx-bench") == digests(built)


def test_kills_at_random_moments_leave_no_trace_in_the_result(built, published, tmp_path):
    out = tmp_path / "onnx-bench"
    moments = random.Random(1)
    start_time = time.monotonic()
    process = start(tmp_path / "other", published, "--workers", "2")
    process.communicate(timeout=300)
    duration = time.monotonic() - start_time
    killed = 0
    while killed < 10:
        process = start(out, published, "--workers", "2")
        time.sleep(moments.uniform(0, duration * 0.9))
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        victim = moments.choice(family)  # the build itself, or one of its workers
        if process.poll() is not None or not victim.is_running():
            shutil.rmtree(out, ignore_errors=True)
            continue
        victim.kill()
        printed, _ = process.communicate(timeout=60)
        assert process.returncode != 0 or out.exists(), printed
        killed += 1
        _, alive = psutil.wait_procs(family, timeout=10)
        assert alive == [], "a worker outlived its build"
        if out.exists():  # the kill came after the end of the work
            shutil.rmtree(out)
    status, printed = build(out, published, "--workers", "2")
    assert status == 0, printed
    assert digests(out) == digests(built)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx-bench", "other"]


def test_an_interrupt_is_one_message_and_keeps_the_previous_build(built, published, tmp_path):
    out = tmp_path / "onnx-bench"
    shutil.copytree(built, out)
    before = digests(out)
    process = start(out, published, "--workers", "2", limit=LIMIT - 1)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("onnx-bench.building/folder/data/*/*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "interrupted" in printed
    assert "Traceback" not in printed
    assert digests(out) == before


def test_a_second_run_changes_nothing(built, published, tmp_path):
    out = tmp_path / "onnx-bench"
    shutil.copytree(built, out)
    inodes = {path: path.stat().st_ino for path in out.rglob("*.parquet")}
    status, printed = build(out, published)
    assert status == 0, printed
    assert "unchanged" in printed
    assert digests(out) == digests(built)
    assert {path: path.stat().st_ino for path in out.rglob("*.parquet")} == inodes


def test_a_damaged_shard_is_built_again(built, published, tmp_path):
    out = tmp_path / "onnx-bench"
    shutil.copytree(built, out)
    shard = next(out.rglob("data/*/*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    status, printed = build(out, published)
    assert status == 0, printed
    assert digests(out) == digests(built)


def test_a_limit_on_file_size_is_one_message_and_keeps_the_previous_build(built, published, tmp_path):
    """Writing fails in the middle of a shard, as it does on a disk that is full."""
    out = tmp_path / "onnx-bench"
    shutil.copytree(built, out)
    before = digests(out)

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    status, printed = build(out, published, "--workers", "1", limit=LIMIT - 1, preexec_fn=limited)
    assert status == 1
    assert "cannot write" in printed
    assert "Traceback" not in printed
    assert digests(out) == before
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_full_disk_is_one_message_and_the_build_goes_on_when_there_is_room(built, published, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk can only be made as root")
    try:
        out = disk / "onnx-bench"
        status, printed = build(out, published, "--workers", "2")
        assert status == 1
        assert "No space left on device" in printed
        assert "Traceback" not in printed
        assert not out.exists()
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        status, printed = build(out, published, "--workers", "2")
        assert status == 0, printed
        assert digests(out) == digests(built)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("name", ["onnx-bench", "onnx-bench.old"])
def test_a_folder_with_other_data_is_not_touched(published, tmp_path, name):
    other = tmp_path / name
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    before = digests(tmp_path)
    status, printed = build(tmp_path / "onnx-bench", published)
    assert status == 1
    assert "holds other data" in printed
    assert digests(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_build_stopped_between_its_two_renamings_is_put_right(built, published, tmp_path):
    shutil.copytree(built, tmp_path / "onnx-bench.old")
    status, printed = build(tmp_path / "onnx-bench", published)
    assert status == 0, printed
    assert "unchanged" in printed
    assert digests(tmp_path / "onnx-bench") == digests(built)
    assert [path.name for path in tmp_path.iterdir()] == ["onnx-bench"]


def test_an_altered_source_stops_the_build_with_nothing_written(published, tmp_path):
    sources = tmp_path / "sources"
    shutil.copytree(published / "nasbench201", sources / "nasbench201", copy_function=os.symlink)
    altered = sources / "nasbench201" / "cifar10" / "accuracies.csv"
    content = altered.read_bytes()
    altered.unlink()
    altered.write_bytes(content.replace(b"85.86", b"95.86", 1))
    status, printed = build(tmp_path / "onnx-bench", sources)
    assert status == 1
    assert "accuracies.csv is not the published file" in printed
    assert not (tmp_path / "onnx-bench").exists()


def test_a_space_without_sources_is_skipped_and_the_message_says_what_to_do(built, published, tmp_path):
    sources = tmp_path / "sources"
    shutil.copytree(published / "nasbench201", sources / "nasbench201", copy_function=os.symlink)
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "http_proxy": "http://127.0.0.1:9"}
    environment["https_proxy"] = environment["http_proxy"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        status, printed = build(tmp_path / "onnx-bench", sources, "nasbench101")
    assert status == 1  # nasbench101 was asked for by name
    assert "nasbench101 was skipped" in printed
    assert "nb101_hash.txt" in printed
    assert "https://" in printed
    assert digests(tmp_path / "onnx-bench") == digests(built)


def test_names_that_do_not_exist_are_refused(published, tmp_path):
    status, printed = build(tmp_path / "onnx-bench", published, space="nasbench999")
    assert status == 1
    assert "nasbench101, nasbench201" in printed


def test_a_second_build_of_the_same_folder_waits_for_nobody(published, tmp_path):
    first = start(tmp_path / "onnx-bench", published, "--workers", "1")
    deadline = time.monotonic() + 60
    while not (tmp_path / "onnx-bench.building" / "lock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    status, printed = build(tmp_path / "onnx-bench", published)
    assert status == 1
    assert "another build" in printed
    first.communicate(timeout=300)
    assert first.returncode == 0
