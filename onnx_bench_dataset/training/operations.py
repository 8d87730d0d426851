"""The PyTorch function of every ONNX operation: a table, and what is neither window, view nor recurrent.

An entry takes a `Call` and gives the function that computes its node; attributes and constant inputs are
looked at there, once, so that running a network does nothing but compute.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from onnx_bench_dataset.training import rearranging, windows
from onnx_bench_dataset.training.call import Call, Function
from onnx_bench_dataset.training.recurrent import recurrent

Builder = Callable[[Call], Function]


def batch_norm(call: Call) -> Function:
    """Normalize channels by the batch in training, which moves the running statistics, or by those."""
    epsilon = float(call.attribute("epsilon", 1e-5))
    replaced = 1 - float(call.attribute("momentum", 0.9))  # ONNX says what is kept
    if not call.attribute("spatial", 1):
        raise call.unsupported("it normalizes every pixel by itself")
    training = call.training

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        if training and mean.requires_grad:  # read elsewhere, too, as a weight: not to be moved
            return functional.batch_norm(x, None, None, scale, bias, True, replaced, epsilon)
        return functional.batch_norm(x, mean, variance, scale, bias, training, replaced, epsilon)

    if len(call.node.outputs) == 1:
        return run
    return lambda x, scale, bias, mean, variance: (run(x, scale, bias, mean, variance), mean, variance)


def instance_norm(call: Call) -> Function:
    """Normalize every channel of every sample."""
    epsilon = float(call.attribute("epsilon", 1e-5))
    return lambda x, scale, bias: functional.instance_norm(x, None, None, scale, bias, True, 0.0, epsilon)


def layer_norm(call: Call) -> Function:
    """Normalize what comes from an axis on."""
    axis = int(call.attribute("axis", -1))
    epsilon = float(call.attribute("epsilon", 1e-5))
    if len(call.node.outputs) > 1:
        raise call.unsupported("it gives mean and deviation, too")

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = x.shape[axis:]
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return functional.layer_norm(x, shape, scale, bias, epsilon)
        normalized = functional.layer_norm(x, shape, None, None, epsilon) * scale
        return normalized if bias is None else normalized + bias

    return run


def group_norm(call: Call) -> Function:
    """Normalize groups of channels; before opset 21, scale and bias are one number per group."""
    groups = int(call.attribute("num_groups"))
    epsilon = float(call.attribute("epsilon", 1e-5))

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        repeats = x.shape[1] // scale.numel()
        if repeats > 1:
            scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
        return functional.group_norm(x, groups, scale, bias, epsilon)

    return run


def rms_norm(call: Call) -> Function:
    """Divide what comes from an axis on by its root mean square."""
    axis = int(call.attribute("axis", -1))
    epsilon = float(call.attribute("epsilon", 1e-5))
    return lambda x, scale: functional.rms_norm(x, x.shape[axis:], None, epsilon) * scale


def gemm(call: Call) -> Function:
    """Multiply matrices and add; a linear layer of PyTorch in its usual form."""
    alpha, beta = float(call.attribute("alpha", 1.0)), float(call.attribute("beta", 1.0))
    turn_a, turn_b = bool(call.attribute("transA", 0)), bool(call.attribute("transB", 0))
    bias = call.shape(2)
    if alpha == beta == 1 and turn_b and not turn_a and (not call.has(2) or (bias and len(bias) == 1)):
        return functional.linear

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = (a.t() if turn_a else a) @ (b.t() if turn_b else b)
        product = product if alpha == 1 else alpha * product
        return product if c is None else product + (c if beta == 1 else beta * c)

    return run


def dropout(call: Call) -> Function:
    """Drop at random in training, from PyTorch's own generator."""
    if len(call.node.outputs) > 1:
        raise call.unsupported("it gives its mask, too")
    ratio = call.scalar(1, float(call.attribute("ratio", 0.5)))
    if call.training:
        return lambda x, *_: functional.dropout(x, ratio)
    return lambda x, *_: x


def softmax(call: Call) -> Function:
    """Softmax or its logarithm along an axis; before opset 13, over all that comes from the axis on."""
    take = torch.log_softmax if call.node.op == "LogSoftmax" else torch.softmax
    if call.opset >= 13:
        axis = int(call.attribute("axis", -1))
        return lambda x: take(x, axis)
    first = int(call.attribute("axis", 1))
    return lambda x: take(x.flatten(first), -1).reshape(x.shape)


def clip(call: Call) -> Function:
    """Clamp between two bounds."""
    low, high = call.attribute("min"), call.attribute("max")
    if call.opset < 11:
        return lambda x: x.clamp(low, high)
    if all(value is not None for slot, value in enumerate(call.values) if slot and call.has(slot)):
        low, high = (None if not call.has(slot) else call.scalar(slot, 0) for slot in (1, 2))
        return lambda x, *_: x.clamp(low, high)
    return lambda x, low=None, high=None: x.clamp(low, high)


def reduction(take: Callable[[Tensor, list[int], bool], Tensor]) -> Builder:
    """Return the builder of an operation that takes `take` over axes, by default all."""

    def build(call: Call) -> Function:
        keep = bool(call.attribute("keepdims", 1))
        axes = call.integers("axes", 1)
        if not axes and call.attribute("noop_with_empty_axes", 0):
            return lambda x, *_: x
        if axes:
            return lambda x, *_: take(x, axes, keep)
        return lambda x, *_: take(x, list(range(x.dim())), keep)

    return build


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def arg_extreme(call: Call) -> Function:
    """Return the index of the largest or smallest, of several the first."""
    axis, keep = int(call.attribute("axis", 0)), bool(call.attribute("keepdims", 1))
    take = torch.argmax if call.node.op == "ArgMax" else torch.argmin
    if call.attribute("select_last_index", 0):
        raise call.unsupported("of several it takes the last")
    return lambda x: take(x, axis, keepdim=keep)


def prelu(call: Call) -> Function:
    """Leaky ReLU with slopes that are learned."""
    return lambda x, slope: torch.where(x < 0, x * slope, x)


def cumulative_sum(call: Call) -> Function:
    """Sum what comes before, along an axis."""
    axis = int(call.scalar(1, 0))
    if call.attribute("exclusive", 0) or call.attribute("reverse", 0):
        raise call.unsupported("it is exclusive or backwards")
    return lambda x, _: x.cumsum(axis)


def one_hot(call: Call) -> Function:
    """Write indices as vectors of one off value, and one on value."""
    axis = int(call.attribute("axis", -1))

    def run(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = int(depth.reshape(()))
        hot = functional.one_hot(indices.long() % count, count).movedim(-1, axis)
        off, on = values.unbind()
        return torch.where(hot.bool(), on, off)

    return run


def einsum(call: Call) -> Function:
    """Sum products as an equation says."""
    equation = str(call.attribute("equation"))
    return lambda *terms: torch.einsum(equation, *terms)


def variadic(combine: Callable[[Tensor, Tensor], Tensor]) -> Builder:
    """Return the builder of an operation on any number of tensors."""
    return lambda call: combine if len(call.node.inputs) == 2 else lambda *x: functools.reduce(combine, x)


def _mean(call: Call) -> Function:
    count = len(call.node.inputs)
    return lambda *terms: functools.reduce(operator.add, terms) / count


def _div(call: Call) -> Function:
    def run(a: Tensor, b: Tensor) -> Tensor:
        return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")

    return run


def _mod(call: Call) -> Function:
    return torch.fmod if call.attribute("fmod", 0) else torch.remainder


def _gelu(call: Call) -> Function:
    approximate = str(call.attribute("approximate", "none"))
    return lambda x: functional.gelu(x, approximate=approximate)


def _leaky_relu(call: Call) -> Function:
    alpha = float(call.attribute("alpha", 0.01))
    return lambda x: functional.leaky_relu(x, alpha)


def _elu(call: Call) -> Function:
    alpha = float(call.attribute("alpha", 1.0))
    return lambda x: functional.elu(x, alpha)


def _celu(call: Call) -> Function:
    alpha = float(call.attribute("alpha", 1.0))
    return lambda x: functional.celu(x, alpha)


def _selu(call: Call) -> Function:
    alpha, gamma = float(call.attribute("alpha", 1.67326319)), float(call.attribute("gamma", 1.05070102))
    return lambda x: gamma * functional.elu(x, alpha)


def _hard_sigmoid(call: Call) -> Function:
    alpha, beta = float(call.attribute("alpha", 0.2)), float(call.attribute("beta", 0.5))
    return lambda x: (alpha * x + beta).clamp(0, 1)


def _thresholded_relu(call: Call) -> Function:
    alpha = float(call.attribute("alpha", 1.0))
    return lambda x: functional.threshold(x, alpha, 0.0)


def _swish(call: Call) -> Function:
    alpha = float(call.attribute("alpha", 1.0))
    return functional.silu if alpha == 1 else lambda x: x * torch.sigmoid(alpha * x)


def _cast_like(call: Call) -> Function:
    return lambda x, like: x.to(like.dtype)


def _norm(order: int) -> Builder:
    return reduction(lambda x, axes, keep: torch.linalg.vector_norm(x, order, axes, keep))


def _as_it_is(function: Function) -> Builder:
    return lambda call: function


_FUNCTIONS: Mapping[str, Function] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSwish": functional.hardswish,
    "Identity": lambda x: x,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Mish": functional.mish,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pow": lambda x, power: torch.pow(x, power).to(x.dtype),
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "SequenceAt": lambda sequence, index: sequence[int(index)],
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Where": torch.where,
    "Xor": torch.logical_xor,
}

OPERATIONS: Mapping[str, Builder] = {
    **{op: _as_it_is(function) for op, function in _FUNCTIONS.items()},
    "ArgMax": arg_extreme,
    "ArgMin": arg_extreme,
    "AveragePool": windows.average_pool,
    "BatchNormalization": batch_norm,
    "Cast": rearranging.cast,
    "CastLike": _cast_like,
    "Celu": _celu,
    "Clip": clip,
    "Concat": rearranging.concat,
    "ConstantOfShape": rearranging.constant_of_shape,
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transpose,
    "CumSum": cumulative_sum,
    "DepthToSpace": windows.depth_to_space,
    "Div": _div,
    "Dropout": dropout,
    "Einsum": einsum,
    "Elu": _elu,
    "Expand": rearranging.expand,
    "Flatten": rearranging.flatten,
    "Gather": rearranging.gather,
    "GatherElements": rearranging.gather_elements,
    "Gelu": _gelu,
    "Gemm": gemm,
    "GlobalAveragePool": windows.global_average_pool,
    "GlobalMaxPool": windows.global_max_pool,
    "GroupNormalization": group_norm,
    "GRU": recurrent,
    "HardSigmoid": _hard_sigmoid,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": softmax,
    "LSTM": recurrent,
    "Max": variadic(torch.maximum),
    "MaxPool": windows.max_pool,
    "Mean": _mean,
    "Min": variadic(torch.minimum),
    "Mod": _mod,
    "OneHot": one_hot,
    "Pad": rearranging.pad,
    "PRelu": prelu,
    "Range": rearranging.arange,
    "ReduceL1": _norm(1),
    "ReduceL2": _norm(2),
    "ReduceLogSumExp": reduction(torch.logsumexp),
    "ReduceMax": reduction(torch.amax),
    "ReduceMean": reduction(torch.mean),
    "ReduceMin": reduction(torch.amin),
    "ReduceProd": reduction(_product),
    "ReduceSum": reduction(torch.sum),
    "ReduceSumSquare": reduction(lambda x, axes, keep: x.square().sum(axes, keep)),
    "Reshape": rearranging.reshape,
    "Resize": windows.resize,
    "RMSNormalization": rms_norm,
    "RNN": recurrent,
    "Selu": _selu,
    "Shape": rearranging.shape_of,
    "Size": rearranging.size_of,
    "Slice": rearranging.slices,
    "Softmax": softmax,
    "SpaceToDepth": windows.space_to_depth,
    "Split": rearranging.split,
    "SplitToSequence": rearranging.split_to_sequence,
    "Squeeze": rearranging.squeeze,
    "Sum": variadic(torch.add),
    "Swish": _swish,
    "ThresholdedRelu": _thresholded_relu,
    "Tile": rearranging.tile,
    "Transpose": rearranging.transpose,
    "Trilu": rearranging.trilu,
    "Unsqueeze": rearranging.unsqueeze,
    "Upsample": windows.resize,
}
"""Builders by the name of the operation in the ONNX standard."""
