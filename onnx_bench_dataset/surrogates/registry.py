"""All predictors by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from onnx_bench_dataset.errors import PredictorError, UnknownNameError
from onnx_bench_dataset.surrogates import predictor_file
from onnx_bench_dataset.surrogates.predictor import Predictor

ZERO_COST = (
    *("l2_norm", "synflow", "naswot", "zen", "jacov", "grad_norm"),
    *("snip", "plain", "fisher", "grasp", "zico"),
)
"""Proxies that are predictors; `params` and `macs`, which every row states, are read there."""

PREDICTORS = {
    "random": "baselines:Random",
    "params": "baselines:Params",
    "macs": "baselines:Macs",
    "depth": "baselines:Depth",
    **dict.fromkeys(ZERO_COST, "zero_cost:ZeroCost"),
    "nearest-text": "text_baselines:NearestText",
    "ngram-ridge": "text_baselines:NGramRidge",
    "features": "graph_features:GraphFeatures",
    "gnn": "gnn:Gnn",
    "ensemble": "ensemble:Ensemble",
    "onnxnet": "onnxnet:OnnxNet",
}
"""Where each predictor is: its module here, which is imported when it is asked for, and its class."""

EXTRAS = {
    **dict.fromkeys(ZERO_COST, "torch"),
    **dict.fromkeys(["nearest-text", "ngram-ridge", "features"], "predict"),
    **dict.fromkeys(["gnn", "ensemble"], "neural,predict"),
    "onnxnet": "neural",
}
"""The extras of this package that a predictor needs."""


def find(name: str) -> type[Predictor]:
    """Return the class of a predictor.

    Raises:
        UnknownNameError: there is none of that name.
        OnnxBenchError: what it needs is not installed.
    """
    if name not in PREDICTORS:
        raise UnknownNameError(f"there is no predictor {name!r}; there are {', '.join(PREDICTORS)}")
    module, _, kind = PREDICTORS[name].partition(":")
    try:
        found: type[Predictor] = getattr(import_module(f"onnx_bench_dataset.surrogates.{module}"), kind)
    except ModuleNotFoundError as error:
        if name not in EXTRAS:
            raise
        raise PredictorError(
            f"the predictor {name} needs {error.name}: pip install 'onnx-bench-dataset[{EXTRAS[name]}]'"
        ) from error
    return found


def new(name: str, **options: Any) -> Predictor:
    """Return a predictor that has learned nothing yet.

    Raises:
        UnknownNameError: there is none of that name.
        OnnxBenchError: what it needs is not installed, or it has no such option.
    """
    kind = find(name)
    if name in ZERO_COST:
        options = {"proxy": name, **options}
    try:
        return kind(**options)
    except TypeError as error:
        raise PredictorError(f"the predictor {name} does not take these options: {error}") from error


def load(path: Path | str) -> Predictor:
    """Return the predictor of a file that `Predictor.save` wrote.

    Raises:
        PredictorError: the file is missing, damaged, altered or of another version.
        OnnxBenchError: what the predictor needs is not installed.
    """
    name, settings, members = predictor_file.read(Path(path))
    kind = find(name)
    try:
        return kind.from_state(settings, members)
    except Exception as error:  # whatever a reader of numbers, trees or tensors raises
        raise PredictorError(
            f"{path} is no sound file of the predictor {name}: {type(error).__name__}: {error}"
        ) from error
