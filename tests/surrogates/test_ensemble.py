"""The ensemble is `features` and `gnn` where both know something, and `features` alone where they do not."""

import numpy as np
import pyarrow as pa
import pytest

from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import PredictorError
from onnx_bench_dataset.surrogates import load, new
from onnx_bench_dataset.surrogates.graph_features import features_of
from onnx_bench_dataset.text import encode

OPTIONS = {"epochs": 10, "channels": 16, "layers": 2, "networks": 1}


def table(space, count, seed):
    texts = [encode(spaces.get(space).model(cell)) for cell in spaces.get(space).sample(count, seed)]
    return pa.table({"text": texts, "accuracy": [80.0 + text.count("3,3]") for text in texts]})


@pytest.fixture(scope="module")
def rows():
    return table("nasbench201", 80, 0)


@pytest.fixture(scope="module")
def fitted(rows):
    return new("ensemble", **OPTIONS).fit(rows, seed=1)


@pytest.fixture(scope="module")
def parts(rows):
    return new("features").fit(rows, seed=1), new("gnn", **OPTIONS).fit(rows, seed=1)


def test_it_is_a_weighted_mean_of_both_on_what_was_learned_from(fitted, parts, rows):
    features, neural = (part.predict(rows) for part in parts)
    assert not parts[0].explain(features_of(rows["text"].to_pylist())).unlikeness.any()
    share = 1 / (1 + np.sqrt(50 / 80))
    assert np.allclose(fitted.predict(rows), (1 - share) * features + share * neural, atol=1e-5)


def test_it_is_features_alone_on_another_space(fitted, parts):
    others = table("nasbench301", 5, 0)
    assert parts[0].explain(features_of(others["text"].to_pylist())).unlikeness == pytest.approx(1, abs=1e-3)
    assert fitted.predict(others) == pytest.approx(parts[0].predict(others), abs=1e-2)


def test_a_file_holds_all_of_it(fitted, rows, tmp_path):
    fitted.save(tmp_path / "ensemble")
    again = load(tmp_path / "ensemble").predict(rows)
    assert np.allclose(again, fitted.predict(rows), atol=1e-5)


def test_nothing_is_predicted_before_it_has_learned(rows):
    with pytest.raises(PredictorError, match="ensemble has learned nothing yet"):
        new("ensemble").predict(rows)
    with pytest.raises(PredictorError, match="ensemble has learned nothing yet"):
        new("ensemble").save("never")
