"""`verify` passes what was built and finds every kind of damage, without trusting the build."""

import json
import re
import shutil

import in_threads
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from building import build
from onnx import ModelProto, NodeProto
from typer.testing import CliRunner

from builders import manifest
from builders.__main__ import app
from builders.labels import no_progress
from builders.shards import record
from builders.verify import failed_checks, verify
from onnx_bench_dataset.errors import BuildError


@pytest.fixture(scope="module")
def built(published, tmp_path_factory):
    out = tmp_path_factory.mktemp("verified") / "onnx-bench"
    status, printed = build(out, published, limit=45)
    assert status == 0, printed
    return out


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built, tmp_path / "onnx-bench")


@pytest.fixture(autouse=True)
def quick(monkeypatch, request):
    """Start processes in one test alone."""
    if "in_processes" not in request.node.name:
        in_threads.use(monkeypatch)


def failures(folder, rows=None):
    return failed_checks(list(verify(folder, 1, no_progress, rows).values()))


def change(folder, alter, *, honest=True):
    """Rewrite the first shard with altered rows; an honest manifest knows the new file."""
    known = manifest.read(folder)
    shard = known["nasbench201"].shards[0]
    table = pq.read_table(folder / shard.path)
    rows = table.to_pylist()
    alter(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / shard.path)
    if honest:
        content = json.loads((folder / manifest.FILE).read_text())
        content["spaces"]["nasbench201"]["shards"][0] = list(record(folder, shard.path))
        (folder / manifest.FILE).write_text(json.dumps(content))


def altered_graph(alter):
    def change_row(rows):
        model = ModelProto.FromString(rows[3]["onnx"])
        alter(model)
        rows[3]["onnx"] = model.SerializeToString()

    return change_row


def first_relu(model):
    return next(node for node in model.graph.node if node.op_type == "Relu")


def set_value(column, value):
    def change_row(rows):
        rows[3][column] = value

    return change_row


def test_in_processes_a_good_folder_passes_and_every_row_is_read(folder):
    reports = verify(folder, 2, no_progress)
    assert reports["nasbench201"].rows == 45
    assert failed_checks(list(reports.values())) == []


@pytest.mark.parametrize(
    ("check", "alter"),
    [
        ("measures", set_value("num_params", 1)),
        ("measures", set_value("macs", 1)),
        ("measures", set_value("num_nodes", 1)),
        ("measures", set_value("depth", 1)),
        ("hash", set_value("graph_hash", 32 * "0")),
        ("text", set_value("text", "onnx-net 1")),
        ("text", lambda rows: rows[3].update(text=rows[4]["text"])),
        ("text", lambda rows: rows[3].update(text=rows[3]["text"].replace("[1,3,32,32]", "[1,3,32,33]"))),
        ("ids", lambda rows: rows[3].update(id=rows[4]["id"])),
        ("ids", set_value("space", "nasbench101")),
        ("labels", set_value("accuracy", None)),
        ("labels", set_value("accuracy", 100.5)),
        ("labels", set_value("label", "guessed")),
        ("catalog", set_value("accuracy", 12.5)),
        ("checker", set_value("onnx", b"no graph")),
        ("checker", altered_graph(lambda model: model.graph.node.pop())),
        ("checker", altered_graph(lambda model: model.graph.node[0].ClearField("op_type"))),
        ("metadata", altered_graph(lambda model: model.metadata_props.pop())),
        ("hash", altered_graph(lambda model: first_relu(model).MergeFrom(NodeProto(op_type="Sigmoid")))),
    ],
)
def test_every_damage_to_a_row_is_found(folder, check, alter):
    change(folder, alter)
    assert check in failures(folder)


def test_with_a_sample_the_other_rows_are_read_without_their_graphs(folder):
    reports = verify(folder, 2, no_progress, rows=7)
    assert (reports["nasbench201"].rows, reports["nasbench201"].recomputed) == (45, 7)
    assert failed_checks(list(reports.values())) == []
    change(folder, set_value("num_params", 1))
    assert "measures" in failures(folder, rows=10_000)
    assert "measures" not in failures(folder, rows=1)  # another row is drawn


@pytest.mark.parametrize(
    ("check", "alter"),
    [
        ("ids", lambda rows: rows[3].update(id=rows[4]["id"])),
        ("ids", set_value("space", "nasbench101")),
        ("labels", set_value("accuracy", 100.5)),
        ("catalog", set_value("accuracy", 12.5)),
    ],
)
def test_what_needs_no_graph_is_checked_for_all_rows_whatever_the_sample(folder, check, alter):
    change(folder, alter)
    assert check in failures(folder, rows=1)


def test_the_command_line_takes_a_sample(folder):
    arguments = ["verify", str(folder), "--rows", "7", "--workers", "1"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert re.search(r"rows recomputed\W+7\b", result.output)


def test_files_that_nobody_made_and_a_missing_card_are_found(folder):
    (folder / "pictures").mkdir()
    (folder / "pictures" / "accuracy.png").write_bytes(b"picture")
    (folder / ".gitattributes").write_text("*.parquet filter=lfs")
    assert failures(folder, rows=1) == []
    (folder / "notes.txt").write_text("mine")
    (folder / "README.md").rename(folder / "README.md.old")
    examples = verify(folder, 1, no_progress, rows=1)["nasbench201"].examples["files"]
    assert examples == [
        "README.md is missing",
        "README.md.old is not in the manifest",
        "notes.txt is not in the manifest",
    ]


def test_an_empty_file_in_the_place_of_a_catalog_is_found(folder):
    (folder / manifest.read(folder)["nasbench201"].catalog[0].path).write_bytes(b"")
    assert "files" in failures(folder, rows=1)


def test_a_shard_that_the_manifest_does_not_describe_is_found(folder):
    change(folder, lambda rows: None, honest=False)
    assert "files" in failures(folder)


def test_missing_cut_and_strange_files_are_found(folder):
    shards = manifest.read(folder)["nasbench201"].shards
    (folder / shards[0].path).unlink()
    assert "files" in failures(folder)
    content = (folder / shards[1].path).read_bytes()
    (folder / shards[1].path).write_bytes(content[: len(content) // 2])
    (folder / "data" / "nasbench201" / "train-extra.parquet").write_bytes(content)
    reports = verify(folder, 1, no_progress)
    examples = "\n".join(reports["nasbench201"].examples["files"])
    assert "is missing" in examples
    assert reports["nasbench201"].failures["files"] >= 4


def test_other_columns_are_found(folder):
    shard = manifest.read(folder)["nasbench201"].shards[0]
    table = pq.read_table(folder / shard.path)
    pq.write_table(table.drop_columns(["depth"]), folder / shard.path)
    assert "schema" in failures(folder)


def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    with pytest.raises(BuildError, match="not a dataset folder"):
        verify(tmp_path, 1, no_progress)
    (tmp_path / manifest.FILE).write_text("{}")
    with pytest.raises(BuildError, match="damaged"):
        verify(tmp_path, 1, no_progress)
