"""Export: files that run and import back as what they were, and the tables that other code reads."""

import csv
import json
import shutil
import subprocess
import sys

import datasets
import huggingface_hub
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_loading import COUNTS, make_folder
from typer.testing import CliRunner

from builders import manifest
from builders.import_files import import_files
from builders.import_rows import Import
from builders.labels import no_progress
from builders.shards import record
from onnx_bench_dataset import cli, release, spaces
from onnx_bench_dataset.cli import export
from onnx_bench_dataset.graphs import graph_hash, run
from onnx_bench_dataset.text import encode

IMAGE = {"input": np.ones((1, 3, 32, 32), np.float32)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small data set of two spaces."""
    path = tmp_path_factory.mktemp("data") / "rows"
    make_folder(path)
    return path


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Work in an empty folder with an empty cache of `datasets`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path.with_name(tmp_path.name + "-cache"))
    return tmp_path


def exported(data, *arguments):
    result = CliRunner().invoke(cli.app, ["export", *map(str, arguments), "--data", str(data)])
    assert result.exit_code == 0, result.output
    return result.stdout


def failure(data, *arguments):
    result = CliRunner().invoke(cli.app, ["export", *map(str, arguments), "--data", str(data)])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr.removeprefix("error: ").strip()


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def rows_of(folder, space):
    record = manifest.read(folder)[space]
    tables = [pq.read_table(folder / shard.path) for shard in record.shards]
    return {row["id"]: row for row in pa.concat_tables(tables).to_pylist()}


def properties(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_plain_files_are_the_graphs_as_stored_with_weights_and_labels(data, place):
    printed = exported(data, "nasbench201", "--split", "train", "--out", "nets")
    train, _ = COUNTS["nasbench201"]
    assert printed == f"wrote {train} models and nets/labels.csv\n"
    rows = rows_of(data, "nasbench201")
    files = {path.relative_to(place / "nets").as_posix() for path in (place / "nets").rglob("*.onnx")}
    assert len(files) == train
    for file in files:
        row = rows[file.removesuffix(".onnx")]
        model = onnx.load(place / "nets" / file)
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == ["input"]
        assert "BatchNormalization" in {node.op_type for node in model.graph.node}
        assert graph_hash(model) == row["graph_hash"]
        assert model.metadata_props[0].key == "accuracy"
        assert float(model.metadata_props[0].value) == row["accuracy"]
        assert properties(place / "nets" / file) == {
            "accuracy": str(np.float32(row["accuracy"])),
            **{name: row[name] for name in ("id", "space", "architecture", "dataset", "label")},
        }
    first = sorted(files)[0]
    assert run(onnx.load(place / "nets" / first), IMAGE)[0].shape == (1, 10)
    assert read_table(place / "nets" / "labels.csv")[0] == {
        "file": "nasbench201/00000.onnx",
        "accuracy": "80.0",
        "dataset": "cifar10",
        "label": "trained",
        "split": "train",
        "epochs": "108",
        "seeds": "",
    }
    assert not list(place.rglob("*.tmp"))


def test_all_splits_are_written_unless_one_is_asked_for_and_limits_are_per_split(data, place):
    exported(data, "all", "--out", "nets", "--limit", 1)
    assert [row["split"] for row in read_table(place / "nets" / "labels.csv")] == ["train", "test"]


def test_weights_depend_on_the_seed(data, place):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        exported(data, "nasbench201", "--split", "test", "--out", name, "--limit", 1, "--seed", seed)
    (file,) = (path.relative_to("a") for path in (place / "a").relative_to(place).rglob("*.onnx"))
    one, same, other = ((place / name / file).read_bytes() for name in "abc")
    assert one == same != other


def test_the_onnxnet_layout_is_the_release_and_the_tables_of_its_training_script(data, place):
    exported(data, "all", "--out", "nets", "--layout", "onnxnet")
    sizes = {name: len(read_table(place / "nets" / name)) for name in ("train.csv", "val.csv")}
    assert sizes == {
        "train.csv": sum(train for train, _ in COUNTS.values()),
        "val.csv": sum(test for _, test in COUNTS.values()),
    }
    for table in sizes:
        for line in read_table(place / "nets" / table):
            assert list(line) == ["onnx_encoding", "accuracy", "dataset", "name"]
            (path,) = (place / "nets" / "onnx").rglob(f"{line['name']}.onnx")
            model = onnx.load(path)
            assert line["onnx_encoding"] == encode(model, "chain-slim")
            assert line["accuracy"] == model.metadata_props[0].value
            assert line["dataset"] == release.task_of(
                path.relative_to(place / "nets" / "onnx").parts[0].split("_")[0]
            )
    folders = sorted(path.name for path in (place / "nets" / "onnx").iterdir())
    assert folders == ["nasbench101_simplify", "nasbench201_simplify"]


@pytest.mark.parametrize("layout", ["plain", "onnxnet"])
def test_what_was_exported_imports_as_the_same_graphs_and_labels(layout, data, place):
    exported(data, "all", "--out", "nets", "--layout", layout)
    folder = place / "nets" if layout == "plain" else place / "nets" / "onnx"
    wanted = Import(folder, "nasbench201", place / "nets" / "labels.csv" if layout == "plain" else None)
    import_files(wanted, place / "again", place / "report.csv", sources=None, workers=1, progress=no_progress)
    before, after = rows_of(data, "nasbench201"), rows_of(place / "again", "nasbench201")
    assert after.keys() == before.keys()
    for name, row in after.items():
        for column in ("architecture", "dataset", "accuracy", "label", "graph_hash", "text"):
            assert row[column] == before[name][column], (name, column)
    if layout == "plain":
        records = [manifest.read(each)["nasbench201"] for each in (data, place / "again")]
        assert records[0].rows("train") == records[1].rows("train")
        assert [row["metrics"] for row in before.values()] == [row["metrics"] for row in after.values()]


def unlabelled(data, place):
    """The data set with a row that has no label."""
    changed = place / "changed"
    shutil.copytree(data, changed)
    shard = next((changed / "data" / "nasbench201").glob("test-*.parquet"))
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[0].update(accuracy=None, label=None, metrics=[])
    pq.write_table(pa.Table.from_pylist(rows, table.schema), shard)
    content = json.loads((changed / manifest.FILE).read_text())
    shards = content["spaces"]["nasbench201"]["shards"]
    name = shard.relative_to(changed).as_posix()
    content["spaces"]["nasbench201"]["shards"] = [
        list(record(changed, name)) if known[0] == name else known for known in shards
    ]
    (changed / manifest.FILE).write_text(json.dumps(content))
    return changed, rows[0]["id"]


def test_rows_without_a_label_say_so_or_are_left_out(data, place):
    changed, name = unlabelled(data, place)
    exported(changed, "nasbench201", "--split", "test", "--out", "nets")
    assert "accuracy" not in properties(place / "nets" / f"{name}.onnx")
    assert read_table(place / "nets" / "labels.csv")[0]["accuracy"] == ""
    exported(changed, "nasbench201", "--split", "test", "--out", "net", "--layout", "onnxnet")
    assert len(read_table(place / "net" / "val.csv")) == COUNTS["nasbench201"][1] - 1
    assert len(list((place / "net").rglob("*.onnx"))) == COUNTS["nasbench201"][1] - 1


def test_a_folder_that_is_not_empty_is_left_alone_unless_forced(data, place):
    (place / "nets").mkdir()
    (place / "nets" / "thesis.tex").write_text("years of work")
    message = failure(data, "nasbench201", "--split", "test", "--out", "nets")
    assert "nets is not empty; --force" in message
    assert [path.name for path in (place / "nets").iterdir()] == ["thesis.tex"]
    exported(data, "nasbench201", "--split", "test", "--out", "nets", "--limit", 1, "--force")
    assert {path.name for path in (place / "nets").iterdir()} == {"thesis.tex", "labels.csv", "nasbench201"}
    assert "not a folder" in failure(data, "nasbench201", "--out", "nets/thesis.tex")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nasbench999"], "nasbench999"),
        (["nasbench201", "--split", "val"], "nasbench201 has no split 'val'; there are train, test"),
        (["catalog"], "load a config other than 'catalog'"),
    ],
)
def test_what_cannot_be_exported_is_one_message(arguments, message, data, place):
    assert message in failure(data, *arguments, "--out", "nets")
    assert not list(place.rglob("*.onnx"))
    assert not list(place.rglob("*.csv"))
    assert not list(place.rglob("*.tmp"))


def test_a_data_set_that_is_not_there_is_one_message(place, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = failure("thesis", "all", "--out", "nets")
    assert "no folder thesis" in message
    assert "--data" in message
    assert not (place / "nets").exists()


def test_ids_that_lead_out_of_the_folder_are_refused(data, place, monkeypatch):
    model = spaces.get("nasbench201").network(spaces.get("nasbench201").sample(1, 0)[0]).onnx
    row = {"id": "../x", "accuracy": 1.0, "onnx": model, "metrics": []}
    row |= dict.fromkeys(("space", "architecture", "dataset", "label"), "y")
    monkeypatch.setattr(
        export,
        "load_dataset",
        lambda *_, **arguments: {"test": [row]} if arguments.get("streaming") else [row],
    )
    assert "cannot be a file" in failure(data, "nasbench201", "--out", "nets")
    assert not list(place.parent.glob("x.onnx"))


def test_a_limit_ends_the_process_without_an_abort(data, place):
    command = [
        sys.executable,
        "-c",
        "from onnx_bench_dataset.cli import main; main()",
        "export",
        "nasbench201",
    ]
    for attempt in range(2):
        arguments = ["--data", str(data), "--out", f"nets{attempt}", "--limit", "1", "--split", "train"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
