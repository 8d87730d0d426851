"""The command `design` and the example: from a data set to files of designs."""

import csv
import runpy
from pathlib import Path

import onnx
import pytest
from design.conftest import START
from typer.testing import CliRunner

from onnx_bench_dataset import cli, spaces
from onnx_bench_dataset.graphs import graph_hash
from onnx_bench_dataset.text import decode

EXAMPLE = Path(__file__).parents[2] / "examples" / "design_without_search.py"


def design(*arguments):
    return CliRunner().invoke(cli.app, ["design", *map(str, arguments)])


def test_designs_are_written_as_graph_text_and_picture(data, tmp_path):
    out = tmp_path / "designs"
    result = design(
        "--space", "nasbench201", "-n", 2, "--experts", 8, "--seed", 1, "--data", data, "--out", out
    )
    assert result.exit_code == 0, result.output
    with (out / "designs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["design"] for row in rows] == ["nasbench201-000", "nasbench201-001"]
    for row in rows:
        expected = spaces.get("nasbench201").model(row["architecture"])
        model = onnx.load(out / f"{row['design']}.onnx")
        assert graph_hash(model) == graph_hash(expected)
        assert graph_hash(decode((out / f"{row['design']}.txt").read_text())) == graph_hash(expected)
        assert (out / f"{row['design']}.png").read_bytes().startswith(b"\x89PNG")
    again = design("--data", data, "--out", out)
    assert again.exit_code == 1
    assert "--force writes over it" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--space", "einspace"), "nothing can be designed for 'einspace'"),
        (("--experts", 1_000), "1,000 experts were asked for: from 1 to 60 can be had"),
        (("--expert-file", "experts.txt"), "line 2: not an architecture of nasbench101"),
    ],
)
def test_one_message_for_what_goes_wrong(data, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("experts.txt").write_text(f"{START}\nconv5x5:0 output:1\n")
    result = design("--data", data, *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert message in " ".join(result.stderr.split())
    assert not Path("designs").exists()


def test_the_example_goes_from_a_data_set_to_an_onnx_file(data, tmp_path, capsys):
    runpy.run_path(str(EXAMPLE))["main"](data, "nasbench301", str(tmp_path / "mine"))
    architecture, size = capsys.readouterr().out.splitlines()
    expected = spaces.get("nasbench301").model(architecture)
    assert graph_hash(onnx.load(tmp_path / "mine.onnx")) == graph_hash(expected)
    assert size.endswith("multiply-accumulates")
    assert (tmp_path / "mine.png").is_file()
