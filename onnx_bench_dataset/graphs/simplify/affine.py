"""A scale and a shift per channel, folded into the convolution or linear layer before them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnx_bench_dataset.graphs.graph import Node
from onnx_bench_dataset.graphs.simplify.rewriter import Rewriter
from onnx_bench_dataset.graphs.simplify.tensors import Weight
from onnx_bench_dataset.graphs.weights import FLOATS

Float64 = NDArray[np.float64]

_CONVOLUTIONS = ("Conv", "ConvTranspose")


class _Layer(NamedTuple):
    """A convolution or linear layer whose weights are the same in every run."""

    node: Node
    weight: str
    bias: str
    """"" when the layer has none."""
    channels: int
    """Of the output."""


def fold_batch_norm(graph: Rewriter, norm: Node) -> bool:
    """Rule 6: an inference BatchNormalization goes into the Conv, ConvTranspose or Gemm before it."""
    node = graph.feeder(norm, 0, *_CONVOLUTIONS, "Gemm")
    layer = None if node is None else _layer(graph, node)
    if layer is None or not _is_inference(graph, norm):
        return False
    statistics = norm.inputs[1:5]
    row = (layer.channels,)
    if not all(graph.is_fixed(name) and graph.types.of(name).shape == row for name in statistics):
        return False
    weight = bias = None
    values = _values(graph, layer, statistics)
    if values is not None:
        weight, bias, scale, shift, mean, variance = values
        with np.errstate(all="ignore"):
            factor = scale / np.sqrt(variance + norm.attribute("epsilon", 1e-5))
            weight, bias = _scaled(layer, weight, factor), (bias - mean) * factor + shift
    return _replace(graph, layer, norm, statistics[1], weight, bias)


def fold_bias(graph: Rewriter, add: Node) -> bool:
    """Rule 7: a fixed number per channel added to a Conv or ConvTranspose without bias becomes its bias."""
    found = _operands(graph, add, *_CONVOLUTIONS)
    if found is None or found[0].bias:
        return False
    layer, addend = found
    element_type = graph.types.of(layer.weight).element_type
    array = graph.array(addend)
    bias = None if array is None else np.broadcast_to(array.ravel(), (layer.channels,))
    graph.set_weight(layer.node, 2, addend, (layer.node, add), Weight((layer.channels,), element_type, bias))
    graph.take_output(layer.node, add)
    return True


def fold_factor(graph: Rewriter, mul: Node) -> bool:
    """Rule 8: a fixed number per channel that a Conv's result is multiplied with goes into its weights.

    Zeros stay: they say that nothing passes here, which weights would hide.
    """
    found = _operands(graph, mul, "Conv")
    if found is None:
        return False
    layer, name = found
    known = graph.array(name)
    if known is not None and not known.any():
        return False
    weight = bias = None
    values = _values(graph, layer, [name])
    if values is not None:
        weight, bias, factor = values
        with np.errstate(all="ignore"):
            factor = np.broadcast_to(factor.ravel(), (layer.channels,))
            weight, bias = _scaled(layer, weight, factor), bias * factor
    return _replace(graph, layer, mul, layer.bias, weight, bias)


def _operands(graph: Rewriter, node: Node, *ops: str) -> tuple[_Layer, str] | None:
    """Split the inputs of a node into a layer and one fixed number per channel (or one for all)."""
    for slot in (0, 1):
        source = graph.feeder(node, slot, *ops)
        if source is None or len(node.inputs) != 2 or not graph.is_fixed(node.inputs[1 - slot]):
            continue
        layer, name = _layer(graph, source), node.inputs[1 - slot]
        if layer is not None and _is_per_channel(graph, layer, name):
            return layer, name
    return None


def _values(graph: Rewriter, layer: _Layer, others: list[str]) -> list[Float64] | None:
    """Return weight, bias and the values of `others`; None when one of them is a weight input."""
    names = [layer.weight, layer.bias, *others]
    if not all(name in graph.graph.initializers for name in names if name):
        return None
    arrays = [graph.value(name).astype(np.float64) if name else np.zeros(1) for name in names]
    if layer.node.op == "Gemm" or not layer.bias:
        arrays[1] = np.broadcast_to(arrays[1].ravel(), (layer.channels,))
    return arrays


def _replace(
    graph: Rewriter,
    layer: _Layer,
    after: Node,
    bias_name: str,
    weight: Float64 | None,
    bias: Float64 | None,
) -> bool:
    """Give the layer weights that make `after` superfluous: weight inputs where they have no values."""
    node, owners = layer.node, (layer.node, after)
    element_type, _, shape = graph.types.of(layer.weight)
    assert shape is not None
    new_weight = Weight(shape, element_type, weight)
    new_bias = Weight((layer.channels,), element_type, bias)
    if not new_weight.is_finite() or not new_bias.is_finite():
        return False
    graph.set_weight(node, 1, layer.weight, owners, new_weight)
    if bias_name:
        graph.set_weight(node, 2, bias_name, owners, new_bias)
    graph.take_output(node, after)
    return True


def _scaled(layer: _Layer, weight: Float64, factor: Float64) -> Float64:
    """Multiply the weights that make each output channel by the channel's factor."""
    ones = (1,) * (weight.ndim - 2)
    if layer.node.op == "Conv":
        return weight * factor.reshape(-1, 1, *ones)
    if layer.node.op == "Gemm":
        return weight * (factor[:, None] if layer.node.attribute("transB", 0) else factor)
    groups = layer.node.attribute("group", 1)
    blocks = weight.reshape(groups, -1, *weight.shape[1:])
    return (blocks * factor.reshape(groups, 1, -1, *ones)).reshape(weight.shape)


def _layer(graph: Rewriter, node: Node) -> _Layer | None:
    """Describe a layer with fixed weights and at most one fixed number per channel as its bias."""
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else ""
    if not graph.is_fixed(weight) or (bias and not graph.is_fixed(bias)):
        return None
    element_type, _, shape = graph.types.of(weight)
    channels = None if shape is None or element_type not in FLOATS else _channels(graph, node, shape)
    if channels is None or not bias:
        return None if channels is None else _Layer(node, weight, "", channels)
    of_one_row = ((channels,), (1, channels), (1,), (1, 1), ())  # a Gemm broadcasts its bias
    fits = of_one_row if node.op == "Gemm" else of_one_row[:1]
    return _Layer(node, weight, bias, channels) if graph.types.of(bias).shape in fits else None


def _channels(graph: Rewriter, node: Node, shape: tuple[int, ...]) -> int | None:
    """Return the number of output channels of a layer, None when its weights have an impossible shape."""
    if node.op == "Gemm":
        if len(shape) != 2 or graph.opset(node) < 7 or node.attribute("beta", 1.0) != 1.0:
            return None
        return shape[0 if node.attribute("transB", 0) else 1]
    groups = node.attribute("group", 1)
    if len(shape) < 3 or groups < 1 or shape[0] % groups:
        return None
    return shape[0] if node.op == "Conv" else shape[1] * groups


def _is_per_channel(graph: Rewriter, layer: _Layer, name: str) -> bool:
    """Say whether a tensor, broadcast to the layer's result, is one number per channel or one for all."""
    shape, rank = graph.types.of(name).sizes, graph.types.of(layer.weight).rank
    if shape is None or rank is None or len(shape) > rank:
        return False
    ones = (1,) * (rank - 2)
    return set(shape) <= {1} or shape in ((layer.channels, *ones), (1, layer.channels, *ones))


def _is_inference(graph: Rewriter, norm: Node) -> bool:
    if len(norm.inputs) != 5 or any(graph.is_read(name) for name in norm.outputs[1:]):
        return False
    version = graph.opset(norm)
    if version < 7:
        return bool(norm.attribute("is_test", 0)) and norm.attribute("spatial", 1) == 1
    if version < 14:  # more outputs than one ask for training
        return len(list(filter(None, norm.outputs))) == 1 and norm.attribute("spatial", 1) == 1
    return "training_mode" not in norm.attributes or not norm.attribute("training_mode")
