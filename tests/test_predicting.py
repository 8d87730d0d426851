"""The command `predict`: tables, JSON, and one message for each file that cannot be used."""

import json
import zipfile

import onnx
import pyarrow as pa
import pytest
from test_cli import failure, onnx_bench
from typer.testing import CliRunner

from onnx_bench_dataset import cli, spaces
from onnx_bench_dataset.surrogates import new, predict
from onnx_bench_dataset.text import encode

CELLS = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    "|avg_pool_3x3~0|+|none~0|avg_pool_3x3~1|+|none~0|none~1|avg_pool_3x3~2|",
    "|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|+|none~0|none~1|nor_conv_3x3~2|",
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder with three models and a file that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, cell in zip("abc", CELLS, strict=True):
        onnx.save(spaces.get("nasbench201").model(cell), f"{name}.onnx")
    (tmp_path / "broken.onnx").write_text("hello")


def saved(name):
    """Save a predictor that learned from the three cells."""
    models = [spaces.get("nasbench201").model(cell) for cell in CELLS]
    rows = pa.table(
        {
            "text": [encode(model) for model in models] * 4,
            "num_params": [3, 1, 2] * 4,
            "accuracy": [90.0, 70.0, 80.0] * 4,
        }
    )
    new(name).fit(rows).save("mine.onnxbench")
    return "mine.onnxbench"


def test_several_files_are_predicted_at_once():
    shown, _ = onnx_bench("predict", "a.onnx", "b.onnx")
    assert "above, % of known" in shown
    assert shown.count("nasbench201/") == 6
    assert "rows of data" in shown


def test_json_says_what_python_says():
    shown, _ = onnx_bench("predict", "a.onnx", "b.onnx", "--json")
    found = json.loads(shown)
    assert found["predictor"]["rows"] <= 50_000
    assert [each["file"] for each in found["predictions"]] == ["a.onnx", "b.onnx"]
    expected = predict("b.onnx")
    one = found["predictions"][1]
    assert one["accuracy"] == pytest.approx(expected.accuracy._asdict(), abs=1e-6)
    assert one["nearest"][0]["id"] == expected.nearest[0].id
    assert one["unlikeness"] == pytest.approx(expected.unlikeness, abs=1e-6)


def test_a_model_comes_from_standard_input_too(tmp_path):
    shown, _ = onnx_bench("predict", "-", "--json", stdin=(tmp_path / "a.onnx").read_bytes())
    assert json.loads(shown)["predictions"][0]["score"] == pytest.approx(predict("a.onnx").score)


def test_files_that_cannot_be_used_are_named_and_the_rest_is_predicted():
    result = CliRunner().invoke(cli.app, ["predict", "a.onnx", "broken.onnx", "none.onnx", "--json"])
    assert result.exit_code == 1
    assert [each["file"] for each in json.loads(result.stdout)["predictions"]] == ["a.onnx"]
    first, second = result.stderr.strip().split("\n")
    assert first.startswith("error: broken.onnx: it is not an ONNX model")
    assert second == "error: none.onnx: No such file or directory"


@pytest.mark.parametrize(("name", "columns"), [("features", 3), ("params", 2)])
def test_a_predictor_of_ones_own_tells_scores(name, columns):
    shown, _ = onnx_bench("predict", "a.onnx", "b.onnx", "--predictor", saved(name), "--json")
    rows = json.loads(shown)["predictions"]
    assert [len(row) for row in rows] == [columns, columns]
    assert rows[0]["score"] > rows[1]["score"]
    assert "score" in onnx_bench("predict", "a.onnx", "--predictor", saved(name))[0]


def test_a_predictor_that_is_altered_of_another_version_or_none_is_said(tmp_path):
    path = tmp_path / saved("params")
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    assert "no sound file of a predictor" in failure("predict", "a.onnx", "--predictor", path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("predictor.json", json.dumps({"format": 9}))
    assert "another version" in failure("predict", "a.onnx", "--predictor", path)
    assert "there is no file" in failure("predict", "a.onnx", "--predictor", "none.onnxbench")
