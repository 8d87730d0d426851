"""Loading: the local folder, its configs, rebuilt folders, graphs of rows, and clear errors."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import hub_server
import pytest

from builders import build, shards
from builders.labels import LabelledArchitecture, Metric, no_progress
from builders.registry import BENCHMARKS
from onnx_bench_dataset import load_dataset, load_onnx, load_row, schema, spaces
from onnx_bench_dataset.errors import BuildError, LoadError, UnknownNameError
from onnx_bench_dataset.graphs import graph_hash

COUNTS = {"nasbench101": (6, 2), "nasbench201": (7, 3)}  # train, test


def made(space, offset=0.0):
    """Rows of a space with made-up labels."""
    drawn = (
        [
            "output:0",
            *(f"maxpool3x3:0 {'conv3x3-bn-relu:1 ' * count}output:{count + 1}" for count in range(4)),
        ]
        if space == "nasbench101"
        else spaces.get(space).sample(5, 0)
    )
    train, test = COUNTS[space]
    return [
        LabelledArchitecture(
            name=f"{index:05d}",
            architecture=drawn[index % len(drawn)],
            dataset="cifar10",
            accuracy=80.0 + index + offset,
            label="trained",
            metrics=(Metric("cifar10", "test", "accuracy", 108, None, 80.0 + index + offset),),
            num_params=None,
            split="train" if index < train else "test",
        )
        for index in range(train + test)
    ]


def make_folder(out, offset=0.0, spaces=tuple(COUNTS)):
    """Build spaces into a small folder, without published files."""
    benchmarks = []
    for space in spaces:
        rows = made(space, offset)
        declared = BENCHMARKS[space]
        fields = {name: getattr(declared, name) for name in declared.__slots__}
        benchmarks.append(type(declared)(**{**fields, "read": lambda *_, rows=rows: iter(rows)}))
    build.build(benchmarks, out, sources=None, where=build.Where(), limit=None, progress=no_progress)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder that holds `onnx-bench`, as a user's working folder does."""
    home = tmp_path_factory.mktemp("home")
    make_folder(home / "onnx-bench")
    return home


@pytest.fixture(autouse=True)
def fresh(home, tmp_path, monkeypatch):
    """Work in the user's folder with an empty cache of `datasets`."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("load", [load_dataset, datasets.load_dataset])
def test_each_config_has_the_rows_that_it_says(load):
    def rows(config, split):
        return len(load("onnx-bench", config, split=split))

    assert rows(None, "train") == rows("all", "train") == 13
    assert rows("nasbench101", "test") == 2
    assert rows("nasbench201", "train") == 7
    assert (rows("zero-shot-nasbench201", "train"), rows("zero-shot-nasbench201", "test")) == (6, 3)
    assert rows("catalog", "test") == 5


def test_no_family_is_on_both_sides_of_a_zero_shot_config():
    both = load_dataset("onnx-bench", "zero-shot-nasbench101")
    assert set(both["train"]["space"]) == {"nasbench201"}
    assert set(both["test"]["space"]) == {"nasbench101"}


def test_streamed_rows_are_the_loaded_ones_and_have_the_declared_features():
    loaded = load_dataset("onnx-bench", split="test")
    streamed = load_dataset("onnx-bench", split="test", streaming=True)
    assert list(streamed) == list(loaded)
    assert loaded.features == schema.features()


def test_columns_filters_and_slices_work():
    few = load_dataset("onnx-bench", "nasbench201", split="train", columns=["id", "accuracy"])
    assert few.column_names == ["id", "accuracy"]
    good = load_dataset("onnx-bench", "nasbench201", split="train", filters=[("accuracy", ">", 83.0)])
    assert min(good["accuracy"]) > 83
    assert len(load_dataset("onnx-bench", split="train[:3]")) == 3


def test_graphs_of_rows_parse_and_are_what_the_row_says():
    for row in load_dataset("onnx-bench", split="train", streaming=True):
        model = load_onnx(row)
        assert graph_hash(model) == row["graph_hash"]
        assert row["id"] in {entry.value for entry in model.metadata_props}


def test_a_row_without_graph_says_what_to_do():
    with pytest.raises(LoadError, match="other than 'catalog'"):
        load_onnx(load_dataset("onnx-bench", "catalog", split="test")[0])
    with pytest.raises(LoadError, match="with_format"):
        load_onnx({"id": "nasbench201/00001", "onnx": b"\x3a\xff"})


@pytest.mark.parametrize("load", [load_dataset, datasets.load_dataset])
def test_a_rebuilt_folder_is_never_served_from_an_old_cache(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for offset in (0.0, 5.0, 0.0):
        make_folder(tmp_path / "onnx-bench", offset)
        assert load("onnx-bench", "nasbench201", split="test")["accuracy"][0] == 87.0 + offset
        assert load("onnx-bench", "catalog", split="test")["accuracy"][-1] == 89.0 + offset


def test_unknown_configs_and_splits_are_listed():
    with pytest.raises(UnknownNameError, match="zero-shot-nasbench201"):
        load_dataset("onnx-bench", "nasbench999")
    with pytest.raises(UnknownNameError, match="train"):
        load_dataset("onnx-bench", split="validation")


def test_a_folder_with_a_cut_shard_is_refused(home, tmp_path):
    copy = shutil.copytree(home / "onnx-bench", tmp_path / "onnx-bench")
    shard = next(copy.rglob("data/*/*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(LoadError, match="missing or cut short"):
        load_dataset(str(copy))
    shard.unlink()
    with pytest.raises(LoadError, match="missing or cut short"):
        load_dataset(str(copy))


def test_another_folder_of_that_name_is_refused(tmp_path):
    (tmp_path / "onnx-bench").mkdir()
    with pytest.raises(LoadError, match=r"without manifest\.json"):
        load_dataset(str(tmp_path / "onnx-bench"))


@pytest.mark.parametrize("group_rows", [shards.ROW_GROUP_ROWS, 2])
def test_a_row_by_its_id_is_the_row_that_load_dataset_gives(group_rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shards, "ROW_GROUP_ROWS", group_rows)
    monkeypatch.setattr(shards, "SHARD_ROWS", 2 * group_rows)
    make_folder(tmp_path / "onnx-bench")
    rows = [row for split in ("train", "test") for row in load_dataset("onnx-bench", split=split)]
    assert len(rows) == 18
    for row in rows:
        assert load_row(row["id"]) == load_row(row["id"], str(tmp_path / "onnx-bench")) == row


def test_an_unknown_row_is_answered_with_those_that_there_are():
    with pytest.raises(UnknownNameError, match=r"did you mean nasbench201/00003\?"):
        load_row("nasbench201/3")
    with pytest.raises(UnknownNameError, match="go from nasbench201/00000 to nasbench201/00009"):
        load_row("nasbench201/15625")
    with pytest.raises(UnknownNameError, match="go from nasbench201/00000 to nasbench201/00009"):
        load_row("nasbench201")
    with pytest.raises(UnknownNameError, match="the spaces are nasbench101, nasbench201"):
        load_row("nasbench999/00001")


def test_a_row_of_a_damaged_folder_is_refused(home, tmp_path):
    copy = shutil.copytree(home / "onnx-bench", tmp_path / "onnx-bench")
    for shard in copy.glob("data/nasbench201/*.parquet"):
        shard.write_bytes(b"!" * shard.stat().st_size)
    with pytest.raises(LoadError, match="cannot be read"):
        load_row("nasbench201/00001", str(copy))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The Hub, for a user whose working folder is empty."""
    monkeypatch.chdir(tmp_path)
    with hub_server.serving() as hub:
        hub_server.use(hub, monkeypatch, cache=tmp_path / "cache")
        yield hub
    assert hub.unknown == []


def test_without_a_folder_the_hub_is_asked(home, hub):
    hub.put_folder(home / "onnx-bench", "onnx-bench/onnx-bench")
    hub.put_folder(home / "onnx-bench", "someone/else")
    local = load_dataset(str(home / "onnx-bench"), "nasbench201", split="test")
    assert list(load_dataset("onnx-bench", "nasbench201", split="test")) == list(local)
    assert list(load_dataset("someone/else", "nasbench201", split="test", streaming=True)) == list(local)


def test_without_a_folder_the_row_is_read_from_the_hub(home, hub):
    hub.put_folder(home / "onnx-bench", "onnx-bench/onnx-bench")
    hub.put_folder(home / "onnx-bench", "someone/else")
    local = load_row("nasbench101/00007", str(home / "onnx-bench"))
    assert load_row("nasbench101/00007") == load_row("nasbench101/00007", "someone/else") == local
    with pytest.raises(UnknownNameError, match="did you mean nasbench101/00007"):
        load_row("nasbench101/7")


def test_what_the_hub_does_not_have_is_refused(home, hub, tmp_path):
    with pytest.raises(LoadError, match="no folder nobody/nothing, and no such data set at the Hub"):
        load_dataset("nobody/nothing")
    with pytest.raises(LoadError, match="no folder no/such/name, and no such data set at the Hub"):
        load_row("nasbench101/00007", "no/such/name")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/rows.csv").write_text("a\n1\n")
    hub.put_folder(tmp_path / "strange", "someone/strange")
    with pytest.raises(LoadError, match=r"someone/strange has no manifest\.json"):
        load_dataset("someone/strange")
    hub.put_folder(home / "onnx-bench", "onnx-bench/onnx-bench")
    for streaming in (False, True):
        with pytest.raises(UnknownNameError, match="zero-shot-nasbench201"):
            load_dataset("onnx-bench", "nasbench999", streaming=streaming)
        with pytest.raises(UnknownNameError, match="train"):
            load_dataset("onnx-bench", split="validation", streaming=streaming)
    with pytest.raises(UnknownNameError, match="the columns are id, space"):
        load_dataset("onnx-bench", split="test", columns=["id", "price"], streaming=True)
    with pytest.raises(LoadError, match="know no `fragment_scan_options`"):
        load_dataset("onnx-bench", split="test", fragment_scan_options=None, streaming=True)


def test_importing_the_package_does_not_wait_for_datasets():
    program = "import sys, onnx_bench_dataset; assert not {'datasets', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_loader_needs_nothing_that_only_the_builders_need(home):
    program = """
import sys
sys.path = [path for path in sys.path if path]
from onnx_bench_dataset import load_dataset
print(len(list(load_dataset("onnx-bench", split="test", streaming=True))))
assert not {"typer", "rich", "pooch", "onnxruntime", "builders"} & set(sys.modules)
"""
    environment = {**os.environ, "HF_DATASETS_CACHE": str(home / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "5"), done.stderr


def test_building_one_space_keeps_the_others_and_never_drops_a_damaged_one(home, tmp_path):
    out = shutil.copytree(home / "onnx-bench", tmp_path / "onnx-bench")
    other = next(out.glob("data/nasbench101/train-*.parquet"))
    before = other.read_bytes()
    make_folder(out, offset=1.0, spaces=["nasbench201"])
    assert other.read_bytes() == before
    assert load_dataset(str(out), "nasbench201", split="test")["accuracy"][0] == 88.0
    other.write_bytes(before[:-1] + b"!")
    with pytest.raises(BuildError, match=r"the shards of nasbench101 .* are damaged"):
        make_folder(out, offset=2.0, spaces=["nasbench201"])
    assert load_dataset(str(out), "nasbench201", split="test")["accuracy"][0] == 88.0


def test_shards_hold_what_the_rows_say(home):
    assert shards.SHARD_ROWS % shards.ROW_GROUP_ROWS == 0
    assert sorted(path.name for path in Path(home, "onnx-bench").iterdir()) == [
        "README.md",
        "catalog",
        "data",
        "gallery",
        "manifest.json",
    ]
