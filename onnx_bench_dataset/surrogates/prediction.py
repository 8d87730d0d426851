"""What is predicted of a network: how accurate it is on CIFAR-10, and where it stands among known ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onnx import ModelProto

from onnx_bench_dataset.surrogates import registry
from onnx_bench_dataset.surrogates.reading import features_of_model, read

if TYPE_CHECKING:
    import torch

    from onnx_bench_dataset.surrogates.calibrated import CalibratedPredictor

DEFAULT = Path(__file__).with_name("default.onnxbench")
"""The file of the default predictor; `python -m builders predictor` makes it."""

CALIBRATION = "calibration.npz"
"""What a predictor's file holds if it tells accuracies."""


class Estimate(NamedTuple):
    """A value, and an interval that is to hold the true one for nine networks in ten."""

    value: float
    low: float
    high: float


class Neighbour(NamedTuple):
    """A network whose accuracy is known."""

    id: str
    """Of its row in the data set."""
    accuracy: float
    """CIFAR-10 test accuracy, percent."""
    distance: float
    """Root mean square over features of the difference, in standard deviations; 0 where all are equal."""


class Prediction(NamedTuple):
    """What is predicted of a network."""

    percentile: Estimate
    """Percent of the known networks that are less accurate."""
    accuracy: Estimate
    """CIFAR-10 test accuracy, percent, after training as the known networks were trained."""
    nearest: tuple[Neighbour, ...]
    """The known networks that are most like it, the nearest first."""
    unlikeness: float
    """0 for a graph as those that the predictor learned from, 1 for one that is like none of them."""
    score: float
    """What ranks networks best: the higher, the better."""


def predict(network: ModelProto | Path | str | torch.nn.Module, example: Any = None) -> Prediction:
    """Predict how accurate a network becomes, without training it.

    Args:
        network: an ONNX model, with or without weights, the path of its file, or a PyTorch module.
        example: what a PyTorch module reads: a tensor, or a tuple of its arguments; without it one image of
            3×32×32.

    Raises:
        UnsupportedModelError: the model is broken, too large or has dynamic shapes, or cannot be exported.
        PredictorError: what the predictor needs is not installed.

    Examples:
        >>> from onnx_bench_dataset import spaces
        >>> found = predict(spaces.get("natsbench_size").model("64:64:64:64:64"))
        >>> found.percentile.low < found.percentile.value < found.percentile.high
        True
    """
    features = features_of_model(read(network, example))
    return default_predictor().predict(features[None])[0]


@cache
def default_predictor() -> CalibratedPredictor:
    """Return the predictor that comes with this package.

    Raises:
        PredictorError: what it needs is not installed, or its file is damaged.
    """
    return calibrated_predictor(DEFAULT)


def calibrated_predictor(path: Path) -> CalibratedPredictor:
    """Return the predictor of a file that tells accuracies.

    Raises:
        PredictorError: what it needs is not installed, or the file is missing, damaged or of another version.
    """
    registry.find("features")  # says what is not installed
    from onnx_bench_dataset.surrogates.calibrated import CalibratedPredictor

    return CalibratedPredictor.load(path)
