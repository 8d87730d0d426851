"""Predictors: they learn accuracies from rows of some networks, and rank others."""

from onnx_bench_dataset.surrogates.prediction import Prediction, predict
from onnx_bench_dataset.surrogates.predictor import Predictor
from onnx_bench_dataset.surrogates.registry import PREDICTORS, load, new

__all__ = ["PREDICTORS", "Prediction", "Predictor", "load", "new", "predict"]
