"""Compute a graph with ONNX Runtime."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_bench_dataset.errors import OnnxBenchError, UnsupportedModelError
from onnx_bench_dataset.graphs.graph import Graph
from onnx_bench_dataset.graphs.shapes import tensor_type
from onnx_bench_dataset.graphs.weights import data_inputs, fill_weights

Array = NDArray[Any]


class MissingRuntimeError(OnnxBenchError, ImportError):
    """ONNX Runtime, which is an extra of this package, is not installed."""


def run(
    model: ModelProto, inputs: Mapping[str, Array] | None = None, *, seed: int = 0, optimize: bool = False
) -> list[Array]:
    """Return the outputs of a model, computed on one thread of the CPU.

    Args:
        model: weight inputs without values are filled from `seed`, as `fill_weights` does.
        inputs: an array per data input; None draws them from `seed`, standard normal.
        seed: for the weights and inputs that are not given.
        optimize: let ONNX Runtime rewrite the graph; by default it runs node by node as it is stored.

    Raises:
        UnsupportedModelError: an input is missing or unknown, or ONNX Runtime does not run the model.
        MissingRuntimeError: ONNX Runtime is not installed.

    Examples:
        >>> import onnx
        >>> model = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["" : 18]>
        ...     net (float[2] input) => (float[2] output) { output = Relu(input) }''')
        >>> run(model, {"input": np.array([-1.0, 2.0], dtype=np.float32)})[0].tolist()
        [0.0, 2.0]
    """
    runtime = _onnxruntime()
    graph = Graph.from_model(model)
    names = data_inputs(graph)
    feeds = random_inputs(model, seed=seed) if inputs is None else dict(inputs)
    if set(feeds) != set(names):
        raise UnsupportedModelError(
            f"the model reads the inputs {', '.join(names) or 'none'}; given: {', '.join(feeds) or 'none'}"
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors reach the caller as exceptions
    level = "ORT_ENABLE_ALL" if optimize else "ORT_DISABLE_ALL"
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    try:
        session = runtime.InferenceSession(
            fill_weights(model, seed=seed).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        outputs: list[Array] = session.run(None, feeds)
    except UnsupportedModelError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise UnsupportedModelError(f"ONNX Runtime does not run the model: {error}") from error
    return outputs


def random_inputs(model: ModelProto, *, seed: int = 0) -> dict[str, Array]:
    """Return an array for each data input: standard normal floats, zeros of any other type.

    Raises:
        UnsupportedModelError: the shape of an input is dynamic.

    Examples:
        >>> import onnx
        >>> model = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["" : 18]>
        ...     net (float[2, 3] input) => (float[2, 3] output) { output = Relu(input) }''')
        >>> random_inputs(model)["input"].shape
        (2, 3)
    """
    generator = np.random.default_rng(seed)
    graph = Graph.from_model(model)
    feeds: dict[str, Array] = {}
    for name in data_inputs(graph):
        element_type, _, shape = tensor_type(graph.inputs[name].type)
        if shape is None:
            raise UnsupportedModelError(f"the shape of the input {name!r} is dynamic; give its value")
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element_type))
        is_float = np.issubdtype(dtype, np.floating)
        feeds[name] = (generator.standard_normal(shape) if is_float else np.zeros(shape)).astype(dtype)
    return feeds


def _onnxruntime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingRuntimeError(
            "running a graph needs ONNX Runtime: pip install 'onnx-bench-dataset[onnxruntime]'"
        ) from error
