"""Graph networks read modules as texts describe them, learn from them, and are stored whole."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import PredictorError, TextError
from onnx_bench_dataset.surrogates import gnn, graph_features, load, new, ranking
from onnx_bench_dataset.surrogates.features import NAMES
from onnx_bench_dataset.surrogates.gnn import LETTERS, GraphNetwork, Graphs
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
    return new("gnn", epochs=20, channels=16, layers=2, networks=2).fit(rows, seed=1)


def graph_of(*lines):
    text = "\n".join(["onnx-net 1", "opset 18", "input [1,8,4,4]", *lines, "output 1"])
    batch = Graphs([text])(np.array([0]))
    letters = "".join(LETTERS[letter] for letter in batch["letters"])
    return letters, batch["edge_index"].T.tolist(), batch


POINT = "Conv 1 w[8,8,1,1]"
CELL = [POINT, "Conv 2 w[8,8,3,3] pads=[1,1,1,1]", "Add 1 2"]


def test_a_graph_goes_from_what_enters_a_module_to_what_leaves_it():
    letters, edges, _ = graph_of("Conv $0 w[8,8,1,1]", *CELL)
    assert letters == "$pc+"
    assert edges == [[0, 1], [0, 2], [1, 3], [2, 3]]


def test_equal_modules_are_one():
    _, edges, once = graph_of("Conv $0 w[8,8,1,1]", *CELL)
    _, again, thrice = graph_of("Conv $0 w[8,8,1,1]", *CELL, *CELL, *CELL)
    assert edges == again
    for name in ("letters", "numbers", "shares", "edge_index", "batch"):
        assert torch.equal(once[name], thrice[name])


def test_modules_count_as_often_as_they_are_there():
    other = [POINT, "Sigmoid 2", "Mul 1 2"]
    letters, _, batch = graph_of("Conv $0 w[8,8,1,1]", *CELL, *other, *CELL, *CELL)
    assert letters == "$pc+$p*"
    assert batch["shares"][:, 1].tolist() == pytest.approx([0.75 / 4] * 4 + [0.25 / 3] * 3)
    assert batch["shares"][:, 2].tolist() == pytest.approx([0, 0, 0, 0.75, 0, 0, 0.25])


def test_windows_strides_and_activations_are_seen():
    pool = "MaxPool 1 kernel_shape=[3,3] pads=[1,1,1,1] strides=[2,2]"
    stride = "Conv 3 w[8,8,1,1] strides=[2,2]"
    _, _, batch = graph_of("Conv $0 w[8,8,1,1]", "Relu 1", pool, stride, "Relu 1", "Add 1 3")
    expected = [[0, 0, 0], [np.log(3), 1, 1], [0, 1, 0], [0, 0, 0.5]]
    assert batch["numbers"].tolist() == pytest.approx(np.array(expected), abs=1e-6)


def test_a_chain_that_repeats_nothing_has_features_alone():
    letters, edges, batch = graph_of("Conv $0 w[8,8,1,1]", "Relu 1", "Conv 1 w[8,8,3,3] pads=[1,1,1,1]")
    assert (letters, edges) == ("", [])
    assert batch["features"].shape == (1, len(NAMES))


def test_a_batch_is_of_the_graphs_that_are_asked_for(rows):
    texts = rows["text"].to_pylist()
    graphs = Graphs(texts)
    batch = graphs(np.array([7, 0, 7]))
    counts = torch.bincount(batch["batch"], minlength=3).tolist()
    assert counts == graphs.sizes[[7, 0, 7]].tolist()
    alone = [graphs(np.array([number])) for number in (7, 0, 7)]
    for name in ("letters", "numbers", "shares", "features"):
        assert torch.equal(batch[name], torch.cat([each[name] for each in alone])), name
    ends = batch["batch"][batch["edge_index"]]
    assert torch.equal(ends[0], ends[1])
    assert (batch["edge_index"][0] < batch["edge_index"][1]).all()


@pytest.mark.parametrize("hub", [False, True])
def test_messages_add_up_along_edges_and_against_them(rows, hub):
    """The network is computed again with dense adjacency matrices."""
    torch.manual_seed(0)
    network = GraphNetwork(8, 5, hub).eval()
    batch = Graphs(rows["text"].to_pylist())(np.arange(5))
    count = len(batch["letters"])
    adjacency = torch.zeros(count, count)
    for source, target in batch["edge_index"].T:
        adjacency[target, source] += 1
    hidden = network.letters(batch["letters"]) + network.numbers(batch["numbers"])
    owners = torch.nn.functional.one_hot(batch["batch"], 5).float()
    known = []
    for layer in network.layers:
        z = layer.norm(hidden)
        messages = torch.cat([adjacency @ layer.along(z), adjacency.T @ layer.against(z)], dim=1)
        if hub:
            messages = messages + layer.hub(owners @ (owners.T @ z / owners.sum(dim=0)[:, None]))
        hidden = hidden + layer.mix(torch.relu(layer.own(z) + messages))
        known.append(hidden)
    shares = [batch["shares"][:, [n]] for n in range(3)]
    read = torch.cat([owners.T @ (known[after] * share) for after in (1, 3, 4) for share in shares], dim=1)
    expected = network.head(torch.cat([network.norm(read), batch["features"]], dim=1))[:, 0]
    torch.testing.assert_close(network(batch), expected, atol=1e-5, rtol=1e-5)


def test_it_learns_what_makes_networks_better(fitted, rows):
    assert np.corrcoef(fitted.predict(rows), rows["accuracy"].to_numpy())[0, 1] > 0.8


def test_scores_are_on_the_scale_of_those_of_the_training_rows(rows):
    scores = new("gnn", epochs=2, channels=8, networks=1).fit(rows, seed=1).predict(rows)
    assert (scores.mean(), scores.std()) == pytest.approx((0, 1), abs=1e-5)


def test_four_networks_have_hubs_or_not_and_learn_of_pairs_or_of_normal_scores(rows, monkeypatch):
    trained = []

    def watched(network, batch_of, targets, groups, recipe, seed):
        trained.append((network.layers[0].hub is not None, recipe.margin, seed))
        assert np.allclose(targets, graph_features.normal_scores(rows["accuracy"].to_numpy(), groups))
        ranking.train(network, batch_of, targets, groups, recipe, seed)

    monkeypatch.setattr(gnn, "train", watched)
    new("gnn", epochs=1, channels=8, layers=2, networks=4).fit(rows, seed=3)
    assert trained == [(False, 1.0, 12), (True, 1.0, 13), (False, None, 14), (True, None, 15)]


def test_a_score_depends_on_its_row_alone(fitted, rows):
    backwards = rows.take(list(range(80))[::-1])
    assert np.allclose(fitted.predict(backwards)[::-1], fitted.predict(rows), atol=1e-5)
    assert np.allclose(fitted.predict(rows.slice(5, 1)), fitted.predict(rows)[5], atol=1e-5)


def test_a_seed_makes_the_same_scores(rows):
    first, second = (
        new("gnn", epochs=1, channels=8, networks=2).fit(rows, seed=3).predict(rows) for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_it_computes_on_one_thread_and_leaves_their_number_as_it_was(rows, monkeypatch):
    seen = set()
    forward = GraphNetwork.forward

    def watched(self, batch):
        seen.add(torch.get_num_threads())
        return forward(self, batch)

    monkeypatch.setattr(GraphNetwork, "forward", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        new("gnn", epochs=1, channels=8, networks=1).fit(rows).predict(rows)
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


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
