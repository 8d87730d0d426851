"""The default predictor on the published labels: its intervals hold, and making it again changes no byte."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from builders import manifest, predictor
from onnx_bench_dataset.surrogates.calibrated import CalibratedPredictor
from onnx_bench_dataset.surrogates.graph_features import features_of
from onnx_bench_dataset.surrogates.prediction import DEFAULT, default_predictor

ROWS = 1_300
LEAST_TAU = {"nasbench101": 0.7, "nasbench201": 0.85, "nasbench_macro": 0.85, "natsbench_size": 0.85}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder():
    """The dataset folder in the checkout, if it is the one that the default predictor was made of."""
    path = Path(__file__).parents[2] / "onnx-bench"
    if not (path / manifest.FILE).exists():
        pytest.skip("there is no dataset folder onnx-bench")
    records = {space: manifest.read(path)[space] for space in default_predictor().made["train"]}
    if predictor.fingerprint(records) != default_predictor().made["data"]:
        pytest.skip("the default predictor was made of other data")
    return path


def held_out(folder, space):
    """Features and accuracies of rows of the test split that did not calibrate."""
    rows = predictor.labelled(folder, manifest.read(folder)[space], "test")
    calibrating = default_predictor().made["calibrate"][space]
    table = predictor.drawn(rows, calibrating + ROWS).slice(calibrating)
    return features_of(table["text"].to_pylist()), table["accuracy"].to_numpy().astype(np.float64)


@pytest.mark.parametrize("space", LEAST_TAU)
def test_nine_in_ten_intervals_hold_the_published_accuracy(folder, space):
    features, accuracies = held_out(folder, space)
    predictions = default_predictor().predict(features)
    assert share_held(predictions, accuracies) >= 0.88
    values = [each.accuracy.value for each in predictions]
    assert kendalltau(values, accuracies)[0] > LEAST_TAU[space]


def share_held(predictions, accuracies):
    """Share of accuracies within their interval; labels have seven digits."""
    low, high = np.array([each.accuracy[1:] for each in predictions]).T
    return np.mean((low <= accuracies + 1e-4) & (accuracies <= high + 1e-4))


def test_intervals_hold_for_a_family_that_nothing_is_known_of(folder):
    networks, seed, _ = predictor.networks(folder, 12_000)
    for family in np.unique(networks.families[networks.known]):
        fitted = CalibratedPredictor.fit(networks.where(networks.families != family), seed, {})
        tests = networks.where((networks.families == family) & networks.tests)
        predictions = fitted.predict(tests.features)
        held = share_held(predictions, tests.accuracies)
        length = np.median([np.ptp(each.percentile) for each in predictions])
        error = np.median(np.abs([each.accuracy.value for each in predictions] - tests.accuracies))
        unlikeness = np.median([each.unlikeness for each in predictions])
        print(tests.ids[0], f"{held:.3f} {length:.0f} {error:.2f} {unlikeness:.2f}")
        assert held >= 0.85


def test_made_again_it_is_the_same_to_the_last_byte(folder, tmp_path):
    made = CalibratedPredictor.load(DEFAULT).made
    predictor.make(folder, tmp_path / "again.onnxbench", made["rows"])
    assert (tmp_path / "again.onnxbench").read_bytes() == DEFAULT.read_bytes()
