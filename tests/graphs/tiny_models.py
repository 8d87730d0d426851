"""Tiny models written as text, one per rule that a test is about."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import ModelProto, TensorProto

from onnx_bench_dataset.graphs.graph import Graph
from onnx_bench_dataset.graphs.simplify import simplify
from onnx_bench_dataset.graphs.weights import weight_inputs, weight_names

IMAGE = "float[2,4,6,6] x"


def tiny(
    body: str, inputs: str = IMAGE, outputs: str = "y", opset: int = 18, **initializers: ArrayLike
) -> ModelProto:
    """Return a valid model; `outputs` are names whose types are inferred; numbers become initializers."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> tiny ({inputs}) => () {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for name, value in initializers.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    types = {value.name: value for value in (*inferred.graph.value_info, *model.graph.input)}
    for name in outputs.split():
        known = types.get(name)
        if known is None:
            known = onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        model.graph.output.append(known)
    onnx.checker.check_model(model, full_check=True)
    return model


def weights_as_inputs(model: ModelProto) -> ModelProto:
    """Take the values away from every learned tensor that is recognized as one without them."""
    graph = Graph.from_model(model)
    values = {
        name: onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
        for name, tensor in graph.initializers.items()
        if name in set(weight_names(graph))
    }
    data = dict(graph.inputs)
    graph.inputs = {**data, **values}
    recognized = set(weight_inputs(graph))
    graph.inputs = {name: value for name, value in graph.inputs.items() if name in data or name in recognized}
    graph.initializers = {n: t for n, t in graph.initializers.items() if n not in recognized}
    return graph.to_model()


def weight_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of every input and initializer."""
    graph = Graph.from_model(model)
    shapes = {name: tuple(tensor.dims) for name, tensor in graph.initializers.items()}
    for name, value in graph.inputs.items():
        shapes[name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return shapes


def operations(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def simplified(model: ModelProto) -> ModelProto:
    """Simplify, and check what must hold for every model."""
    before = model.SerializeToString()
    result = simplify(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result, full_check=True)
    assert [value.name for value in result.graph.output] == [value.name for value in model.graph.output]
    assert list(simplify(result).graph.node) == list(result.graph.node)
    return result
