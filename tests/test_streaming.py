"""Streams: rows and their order, ranks, workers, states, bytes over HTTP, and leaving at any moment."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import datasets
import hub_server
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from datasets.distributed import split_dataset_by_node
from huggingface_hub.hf_file_system import HfFileSystemFile
from test_loading import make_folder
from torch.utils.data import DataLoader

from builders import shards
from onnx_bench_dataset import load_dataset, schema
from onnx_bench_dataset.errors import UnknownNameError
from onnx_bench_dataset.folders import MANIFEST

TRAIN, TEST = 13, 5  # rows of the folder that make_folder makes
RECIPES = Path(__file__).parents[1] / "docs/streaming.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder that holds `onnx-bench` with several shards a split, every row a row group of its own."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ROWS", 4)
        make_folder(home / "onnx-bench")
    manifest = home / "onnx-bench" / MANIFEST
    text = manifest.read_text(encoding="utf-8")
    for file in (home / "onnx-bench/data").rglob("*.parquet"):
        before = file.stat().st_size
        pq.write_table(pq.read_table(file), file, row_group_size=1)
        path = file.relative_to(home / "onnx-bench").as_posix()
        pattern = re.compile(rf'("{re.escape(path)}",\s*\d+,\s*){before}\b')
        assert pattern.search(text)
        text = pattern.sub(rf"\g<1>{file.stat().st_size}", text)
    manifest.write_text(text, encoding="utf-8")
    return home


@pytest.fixture(autouse=True)
def fresh(home, tmp_path, monkeypatch):
    """Work in the user's folder with an empty cache of `datasets`."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def hub(home, monkeypatch, tmp_path):
    """The Hub with that folder, for a user whose working folder is empty."""
    monkeypatch.chdir(tmp_path)
    with hub_server.serving() as hub:
        hub_server.use(hub, monkeypatch, cache=tmp_path / "hub")
        hub.put_folder(home / "onnx-bench", "onnx-bench/onnx-bench")
        yield hub
    assert hub.unknown == []


def stream(*names, split="train", **arguments):
    return load_dataset("onnx-bench", *names, split=split, streaming=True, **arguments)


def ids(rows):
    return [row["id"] for row in rows]


def test_a_stream_has_the_rows_of_the_data_set_in_its_order(home):
    for config in ("all", "nasbench101", "zero-shot-nasbench201", "catalog", "gallery"):
        loaded = load_dataset("onnx-bench", config)
        for split, rows in load_dataset("onnx-bench", config, streaming=True).items():
            assert rows.features == loaded[split].features
            assert list(rows) == list(loaded[split])
            assert [row for batch in rows.iter(3) for row in batch["id"]] == loaded[split]["id"]
            tables = rows.with_format("arrow").iter(4)
            assert [name for table in tables for name in table["id"].to_pylist()] == loaded[split]["id"]


def test_columns_come_alone_and_typed():
    rows = stream(columns=["accuracy", "id"])
    assert rows.column_names == ["id", "accuracy"]
    assert rows.features == datasets.Features({name: schema.features()[name] for name in rows.column_names})
    assert [set(row) for row in rows] == [{"id", "accuracy"}] * TRAIN


@pytest.mark.parametrize(
    "condition", [[("accuracy", ">", 83.0)], [[("accuracy", ">", 83.0)]], pc.field("accuracy") > 83.0]
)
def test_filters_choose_rows_by_columns_that_need_not_be_asked_for(condition):
    expected = [row["id"] for row in stream() if row["accuracy"] > 83]
    assert 0 < len(expected) < TRAIN
    assert ids(stream(filters=condition, columns=["id"])) == expected
    assert ids(stream(filters=condition)) == expected


def test_splits_may_be_added_but_not_sliced():
    assert len(list(stream(split="train+test"))) == TRAIN + TEST
    with pytest.raises(UnknownNameError, match="Bad split"):
        stream(split="train[:3]")


@pytest.mark.parametrize("ranks", range(2, 9))
def test_each_row_comes_to_exactly_one_rank(ranks):
    whole = sorted(ids(stream(columns=["id"])))
    for rows in (stream(columns=["id"]), stream(columns=["id"]).reshard()):
        parts = [ids(split_dataset_by_node(rows, rank, ranks)) for rank in range(ranks)]
        assert sorted(name for part in parts for name in part) == whole


def test_eight_ranks_with_two_workers_each_get_every_row_once_in_every_epoch():
    rows = stream(columns=["id"]).reshard().shuffle(seed=3, buffer_size=4)
    assert rows.num_shards == TRAIN  # too few for 16 readers: some workers have nothing to read
    whole = sorted(ids(stream(columns=["id"])))
    parts = [split_dataset_by_node(rows, rank, 8, strategy="shards") for rank in range(8)]
    for epoch in range(2):
        for part in parts:
            part.set_epoch(epoch)
        loaders = [DataLoader(part, batch_size=None, num_workers=2) for part in parts]
        assert sorted(name for loader in loaders for name in ids(loader)) == whole


def test_a_stream_resumes_at_any_row_whether_left_or_finished():
    whole = ids(stream())
    for done in range(TRAIN):
        rows = stream()
        for number, _ in enumerate(rows):
            if number == done:
                break
        rest = stream()
        rest.load_state_dict(rows.state_dict())
        assert ids(rest) == whole[done + 1 :]


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_batches_resume_too(batch):
    whole = [group["id"] for group in stream().iter(batch)]
    for done in range(len(whole)):
        rows = stream()
        for number, _ in enumerate(rows.iter(batch)):
            if number == done:
                break
        rest = stream()
        rest.load_state_dict(rows.state_dict())
        assert [group["id"] for group in rest.iter(batch)] == whole[done + 1 :]


def test_row_groups_in_a_shuffled_order_resume_exactly():
    def shuffled():
        return stream(columns=["id"]).reshard().shuffle(seed=5, buffer_size=1, max_buffer_input_shards=1)

    whole = ids(shuffled())
    assert sorted(whole) == sorted(ids(stream(columns=["id"])))
    assert whole != ids(stream(columns=["id"]))
    for done in range(TRAIN):
        rows = shuffled()
        for number, _ in enumerate(rows):
            if number == done:
                break
        rest = shuffled()
        rest.load_state_dict(rows.state_dict())
        assert ids(rest) == whole[done + 1 :]


def test_over_http_only_what_is_asked_for_is_read(home, hub):
    parquet = list((home / "onnx-bench/data").rglob("*.parquet"))
    assert len(list(stream(columns=["id", "accuracy"], split="train+test"))) == TRAIN + TEST
    read = sum(request.sent for request in hub.requests if request.path.startswith("/content/"))
    footers = sum(int.from_bytes(file.read_bytes()[-8:-4], "little") + 8 for file in parquet)
    metadata = [pq.ParquetFile(file).metadata for file in parquet]
    groups = [file.row_group(group) for file in metadata for group in range(file.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    wanted = sum(
        column.total_compressed_size for column in columns if column.path_in_schema in ("id", "accuracy")
    )
    assert read <= wanted + footers + 1024 * len(groups)  # a small gap is cheaper to read than to leave out


@pytest.mark.parametrize("arguments", [{}, {"columns": ["id", "text"]}, {"filters": [("accuracy", ">", 83)]}])
def test_over_http_the_rows_are_those_of_the_folder(home, hub, arguments):
    local = load_dataset(str(home / "onnx-bench"), streaming=True, split="train", **arguments)
    assert list(stream(**arguments)) == list(local)
    assert list(stream(**arguments).reshard()) == list(local)


def test_answers_that_fail_are_asked_for_again_and_cut_ones_are_said(hub):
    rows = stream()
    hub.fail(503, times=1, path="/content/")
    assert len(list(rows)) == TRAIN


def test_no_thread_of_arrows_reads_a_file_of_pythons(hub, monkeypatch):
    """What aborts a process is such a thread, still reading when Python is gone. Those of `datasets` do."""
    readers = []
    read = HfFileSystemFile.read

    def noted(file, length=-1):
        readers.append(type(threading.current_thread()))
        return read(file, length)

    monkeypatch.setattr(HfFileSystemFile, "read", noted)
    assert len(list(stream())) == TRAIN
    assert readers
    assert threading._DummyThread not in readers
    readers.clear()
    rows = datasets.load_dataset("onnx-bench/onnx-bench", split="train", streaming=True)
    assert len(list(rows)) == TRAIN
    assert threading._DummyThread in readers


_LEAVING = """
import collections, os, signal, sys
import datasets, torch.utils.data
from onnx_bench_dataset import load_dataset

def leave(rows, way):
    if way == "workers":
        rows = torch.utils.data.DataLoader(rows, batch_size=None, num_workers=2)
    kept.append(iter(rows))
    for row in kept[0] if way == "kept" else rows:
        if way == "raise":
            raise ValueError("left")
        if way == "exit":
            sys.exit(7)
        if way == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        break

place, times, *ways = sys.argv[1:]
kept, ends = [], collections.Counter()
rows = load_dataset(place, split="train", streaming=True)
for way in ways:
    for _ in range(int(times)):
        child = os.fork()  # which ends as Python ends, without importing all again
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            signal.alarm(60)
            leave(rows, way)
            sys.exit()
        ends[way, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])] += 1
for (way, code), count in ends.items():
    print(way, code, count)
"""

_ENDS = {"break": 0, "kept": 0, "raise": 1, "exit": 7, "interrupt": -signal.SIGINT, "workers": 0}


def left(place, times, ways):
    """How often a process that left a stream in each way ended with each code."""
    done = subprocess.run(
        [sys.executable, "-c", _LEAVING, place, str(times), *ways],
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return Counter({(way, int(code)): int(count) for way, code, count in lines})


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_stream_may_be_left_in_any_way(place, request):
    if place == "hub":
        request.getfixturevalue("hub")
    ends = left("onnx-bench", 2, _ENDS)
    assert ends == dict.fromkeys(_ENDS.items(), 2)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_stream_left_two_hundred_times_never_aborts(place, request):
    if place == "hub":
        request.getfixturevalue("hub")
    assert left("onnx-bench", 100, ["break", "kept"]) == {("break", 0): 100, ("kept", 0): 100}


def test_every_recipe_of_the_documentation_runs(home, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", RECIPES.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 8
    program = "\n".join(blocks)
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
