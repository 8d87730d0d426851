"""The graph network reads graphs as texts describe them, learns from them, and is stored whole."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from onnx_bench_dataset import spaces
from onnx_bench_dataset.batches import OPERATIONS, read_nodes
from onnx_bench_dataset.errors import PredictorError, TextError
from onnx_bench_dataset.surrogates import load, new
from onnx_bench_dataset.surrogates.gnn import PASSED_OVER, Graphs
from onnx_bench_dataset.text import encode

SPACE = spaces.get("nasbench201")


@pytest.fixture(scope="module")
def rows():
    """Cells that are the better the more convolutions of 3x3 they have."""
    cells = SPACE.sample(80, 0)
    texts = [encode(SPACE.model(cell)) for cell in cells]
    return pa.table({"text": texts, "accuracy": [80.0 + cell.count("conv_3x3") for cell in cells]})


@pytest.fixture(scope="module")
def fitted(rows):
    return new("gnn", epochs=20, batch_size=16, channels=16).fit(rows, seed=1)


def graph_of(*lines):
    text = "\n".join(["onnx-net 1", "opset 18", "input [1,8,4,4]", *lines, "output 1"])
    batch = Graphs([text])(np.array([0]))
    return [OPERATIONS[type - 1] for type in batch["x"]], batch["edge_index"].T.tolist()


def test_who_reads_an_activation_reads_what_it_reads():
    assert graph_of(
        "Conv $0 w[8,8,1,1]",
        "BatchNormalization 1 w[8] w[8] w[8] w[8]",
        "Relu 1",
        "Conv 1 w[8,8,1,1]",
        "Add 1 2",
    ) == (["Conv", "Conv", "Add"], [[0, 1], [1, 2], [0, 2]])


def test_an_activation_of_the_input_stays():
    assert graph_of("Relu $0", "Sigmoid 1", "Add 1 2") == (["Relu", "Add"], [[0, 1], [0, 1]])


def test_a_batch_is_of_the_graphs_that_are_asked_for(rows):
    texts = rows["text"].to_pylist()
    graphs = Graphs(texts)
    batch = graphs(np.array([7, 0, 7]))
    counts = torch.bincount(batch["batch"]).tolist()
    assert counts == graphs.sizes[[7, 0, 7]].tolist()
    for number, text in enumerate((texts[7], texts[0], texts[7])):
        nodes = read_nodes(text)
        kept = [n for n in nodes if OPERATIONS[n.type - 1] not in PASSED_OVER or not n.sources]
        assert batch["x"][batch["batch"] == number].tolist() == [n.type for n in kept]
        found = batch["features"][batch["batch"] == number].numpy()
        assert np.allclose(found, [n.features for n in kept])
    ends = batch["batch"][batch["edge_index"]]
    assert torch.equal(ends[0], ends[1])
    assert (batch["edge_index"][0] < batch["edge_index"][1]).all()


def test_many_texts_are_read_in_parts_that_make_no_difference(rows, monkeypatch):
    texts = rows["text"].to_pylist()
    whole = Graphs(texts)(np.arange(80))
    monkeypatch.setattr("onnx_bench_dataset.surrogates.gnn._READ_AT_ONCE", 7)
    for name, part in Graphs(texts)(np.arange(80)).items():
        assert torch.equal(part, whole[name]), name


def test_it_learns_what_makes_networks_better(fitted, rows):
    assert np.corrcoef(fitted.predict(rows), rows["accuracy"].to_numpy())[0, 1] > 0.8


def test_a_score_depends_on_its_row_alone(fitted, rows):
    backwards = rows.take(list(range(80))[::-1])
    assert np.allclose(fitted.predict(backwards)[::-1], fitted.predict(rows), atol=1e-5)
    assert np.allclose(fitted.predict(rows.slice(5, 1)), fitted.predict(rows)[5], atol=1e-5)


def test_a_seed_makes_the_same_scores(rows):
    first, second = (new("gnn", epochs=1, channels=8).fit(rows, seed=3).predict(rows) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_file_holds_all_of_it(fitted, rows, tmp_path):
    fitted.save(tmp_path / "gnn")
    assert np.array_equal(load(tmp_path / "gnn").predict(rows), fitted.predict(rows))


def test_no_rows_and_no_operations_are_no_error(fitted, rows):
    assert fitted.predict(rows.slice(0, 0)).shape == (0,)
    empty = pa.table({"text": ["onnx-net 1\nopset 18\ninput [1,8]\noutput $0"]})
    assert np.isfinite(fitted.predict(empty)).all()


def test_a_broken_text_is_refused(fitted):
    with pytest.raises(TextError):
        fitted.predict(pa.table({"text": ["onnx-net 1\nopset 18\ninput [1,8]\nRelu 2\noutput 1"]}))


def test_nothing_is_predicted_before_it_has_learned(rows):
    with pytest.raises(PredictorError, match="the predictor gnn has learned nothing yet"):
        new("gnn").predict(rows)
