"""Freeing a graph from the batch size that it was written for.

A stored graph has its batch, mostly 1, in the shape of its input, and with it in constants that other shapes
are made of. What is computed for a larger batch is the stored function of each sample by itself: every value
either has one axis along which the samples stand, each in the shape that it has in the file, or is the same
for all samples. Which axis that is follows operation by operation from the rules below; a rule that finds the
samples mixed, or cannot tell, says so, and the graph then runs with its own batch size alone.

Where a rule needs it, a constant is replaced: the batch in the target of a Reshape becomes -1, in that of an
Expand 1, the end of a Slice over all samples the largest number. Numbers that were computed from the batch
size may be used for shapes only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.graph import DEFAULT_DOMAIN, Node
from onnx_bench_dataset.training.call import Call, shown

Axes = Sequence[int | None]
"""Per output of a node the axis of its samples, None where it is the same for all."""

_EVERYTHING = 2**62

SHAPE_SLOTS = frozenset({("Reshape", 1), ("Expand", 1), ("Resize", 3), ("ConstantOfShape", 0)})
"""Inputs that are shapes: what they hold for one batch size, the rules change for others."""


class MixedSamplesError(Exception):
    """An operation mixes samples, or it cannot be told whether it does."""


class BatchAxes:
    """Follows the samples through a graph, node by node in the order of computation.

    `axes` knows of every value with samples the axis where they stand, `spread` of nodes, by id, the axis
    along which inputs of one sample are to be repeated, `replaced` new constants by id of node and slot.
    """

    def __init__(
        self, batch: int, data: Sequence[str], sizes: Callable[[str], tuple[int, ...] | None]
    ) -> None:
        """Begin with data inputs whose first axis is the batch; `sizes` gives shapes as in the file."""
        self.batch = batch
        self.axes: dict[str, int] = dict.fromkeys(data, 0)
        self.spread: dict[int, int] = {}
        self.replaced: dict[tuple[int, int], Tensor] = {}
        self._sizes = sizes

    def follow(self, node: Node, call: Call) -> None:
        """Take note of the outputs of a node of which at least one input has samples.

        Raises:
            MixedSamplesError: the samples are mixed.
        """
        rule = _RULES.get(node.op) if node.domain == DEFAULT_DOMAIN else None
        if rule is None:
            raise MixedSamplesError(f"no rule says where the samples stand behind the {shown(node)}")
        try:
            axes = rule(self, node, call)
        except UnsupportedModelError as error:  # what the rule needs to know is computed while the graph runs
            raise MixedSamplesError(str(error)) from error
        for name, axis in zip(node.outputs, axes, strict=False):
            if name and axis is not None:
                self.axes[name] = axis

    def axis(self, node: Node, slot: int = 0) -> int | None:
        """Return the axis of the samples of an input."""
        return self.axes.get(node.inputs[slot]) if slot < len(node.inputs) else None

    def sizes(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value in the file."""
        sizes = self._sizes(name)
        if sizes is None:
            raise MixedSamplesError(f"the shape of {name[:80]!r} is not known")
        return sizes

    def only_first(self, node: Node) -> int:
        """Return the axis of the first input's samples, which are the only ones."""
        axis = self.axis(node)
        if axis is None or any(self.axis(node, slot) is not None for slot in range(1, len(node.inputs))):
            raise mixed(node)
        return axis


_Rule = Callable[[BatchAxes, Node, Call], Axes]


def mixed(node: Node) -> MixedSamplesError:
    """Return the error for a node that mixes samples."""
    return MixedSamplesError(f"the {shown(node)} mixes the samples of a batch")


def _elementwise(batch: BatchAxes, node: Node, call: Call) -> Axes:
    """Broadcast: axes are counted from the last."""
    names = [name for name in node.inputs if name]
    if len(names) == 1:
        return [batch.axes[names[0]]]
    ranks = {name: len(batch.sizes(name)) for name in names}
    rank = max(ranks.values())
    found = {axis + rank - ranks[name] for name in names if (axis := batch.axes.get(name)) is not None}
    if len(found) != 1:
        raise mixed(node)
    (axis,) = found
    for name in names:
        own = axis - (rank - ranks[name])
        if name not in batch.axes and own >= 0 and batch.sizes(name)[own] != 1:
            raise mixed(node)
    return [axis] * len(node.outputs)


def _like_first(batch: BatchAxes, node: Node, call: Call) -> Axes:
    """Give what the first input has, in another type."""
    return [batch.axis(node)]


def _image(batch: BatchAxes, node: Node, call: Call) -> Axes:
    """Work on batch × channels × image."""
    if batch.only_first(node) != 0:
        raise mixed(node)
    return [0] + [None] * (len(node.outputs) - 1)


def _along(default: int) -> _Rule:
    """Return the rule of an operation that works along one axis."""

    def rule(batch: BatchAxes, node: Node, call: Call) -> Axes:
        axis, rank = batch.only_first(node), len(batch.sizes(node.inputs[0]))
        if int(call.attribute("axis", default)) % rank == axis:
            raise mixed(node)
        return [axis] * len(node.outputs)

    return rule


def _from_axis_on(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis, rank = batch.only_first(node), len(batch.sizes(node.inputs[0]))
    if axis >= int(call.attribute("axis", -1)) % rank:
        raise mixed(node)
    return [axis]


def _softmax(batch: BatchAxes, node: Node, call: Call) -> Axes:
    if call.opset >= 13:
        return _along(-1)(batch, node, call)
    axis, rank = batch.only_first(node), len(batch.sizes(node.inputs[0]))
    if axis >= int(call.attribute("axis", 1)) % rank:
        raise mixed(node)
    return [axis]


def _reduce(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis, rank = batch.only_first(node), len(batch.sizes(node.inputs[0]))
    axes = call.integers("axes", 1)
    if not axes and not call.attribute("noop_with_empty_axes", 0):
        raise mixed(node)
    reduced = {each % rank for each in axes or ()}
    if axis in reduced:
        raise mixed(node)
    return [axis if call.attribute("keepdims", 1) else axis - sum(each < axis for each in reduced)]


def _arg_extreme(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis, rank = batch.only_first(node), len(batch.sizes(node.inputs[0]))
    searched = int(call.attribute("axis", 0)) % rank
    if searched == axis:
        raise mixed(node)
    return [axis - (searched < axis and not call.attribute("keepdims", 1))]


def _transpose(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis, rank = batch.only_first(node), len(batch.sizes(node.inputs[0]))
    order = [int(each) for each in call.attribute("perm") or reversed(range(rank))]
    return [order.index(axis)]


def _reshape(batch: BatchAxes, node: Node, call: Call) -> Axes:
    """Find an axis of the target with as many samples, and as many elements before it."""
    axis, before, after = batch.only_first(node), *map(batch.sizes, (node.inputs[0], node.outputs[0]))
    stride = math.prod(before[:axis])
    for found, size in enumerate(after):
        if size == batch.batch and math.prod(after[:found]) == stride and 0 not in after:
            target = [-1 if place == found else number for place, number in enumerate(after)]
            batch.replaced[id(node), 1] = torch.tensor(target)
            return [found]
    raise mixed(node)


def _flatten(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis, before, after = batch.only_first(node), *map(batch.sizes, (node.inputs[0], node.outputs[0]))
    first = int(call.attribute("axis", 1))
    found = 0 if axis < (first if first >= 0 else first + len(before)) else 1
    if after[found] != batch.batch:
        raise mixed(node)
    return [found]


def _squeeze(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis, sizes = batch.only_first(node), batch.sizes(node.inputs[0])
    axes = call.integers("axes", 1)
    dropped = [a for a, size in enumerate(sizes) if size == 1] if axes is None else axes
    gone = {each % len(sizes) for each in dropped}
    if axis in gone:
        raise mixed(node)
    return [axis - sum(each < axis for each in gone)]


def _unsqueeze(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis, rank = batch.only_first(node), len(batch.sizes(node.inputs[0]))
    new = call.integers("axes", 1) or []
    added = {each % (rank + len(new)) for each in new}
    return [[place for place in range(rank + len(new)) if place not in added][axis]]


def _concat(batch: BatchAxes, node: Node, call: Call) -> Axes:
    """Join along another axis; what is the same for all samples is repeated for each."""
    found = {batch.axes[name] for name in node.inputs if name in batch.axes}
    joined = int(call.attribute("axis", 1)) % len(batch.sizes(node.inputs[0]))
    if len(found) != 1 or joined in found:
        raise mixed(node)
    (axis,) = found
    alone = [name for name in node.inputs if name not in batch.axes]
    if any(batch.sizes(name)[axis] != 1 for name in alone):
        raise mixed(node)
    if alone:
        batch.spread[id(node)] = axis
    return [axis]


def _slice(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis, sizes = batch.only_first(node), batch.sizes(node.inputs[0])
    starts, ends = call.integers("starts", 1) or [], call.integers("ends", 2) or []
    axes = call.integers("axes", 3, range(len(starts))) or []
    steps = call.integers("steps", 4, [1] * len(starts)) or []
    for index, (each, start, end, step) in enumerate(zip(axes, starts, ends, steps, strict=True)):
        if each % len(sizes) != axis:
            continue
        if range(*slice(start, end, step).indices(batch.batch)) != range(batch.batch):
            raise mixed(node)
        if len(node.inputs) < 3:
            raise mixed(node)  # an attribute, which stays
        batch.replaced[id(node), 2] = torch.tensor([*ends[:index], _EVERYTHING, *ends[index + 1 :]])
    return [axis]


def _gather(batch: BatchAxes, node: Node, call: Call) -> Axes:
    rank = len(batch.sizes(node.inputs[0]))
    taken = int(call.attribute("axis", 0)) % rank
    axis, indices = batch.axis(node), batch.axis(node, 1)
    if axis is None and indices is not None:
        return [taken + indices]
    if axis is None or indices is not None or axis == taken:
        raise mixed(node)
    return [axis if axis < taken else axis + len(batch.sizes(node.inputs[1])) - 1]


def _expand(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis, before, after = batch.only_first(node), *map(batch.sizes, (node.inputs[0], node.outputs[0]))
    found = axis + len(after) - len(before)
    if after[found] != batch.batch:
        raise mixed(node)
    target = [1 if place == found else size for place, size in enumerate(after)]
    batch.replaced[id(node), 1] = torch.tensor(target)
    return [found]


def _tile(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis = batch.only_first(node)
    if (call.integers("repeats", 1) or [])[axis] != 1:
        raise mixed(node)
    return [axis]


def _pad(batch: BatchAxes, node: Node, call: Call) -> Axes:
    axis, rank = batch.only_first(node), len(batch.sizes(node.inputs[0]))
    pads = call.integers("pads", 1) or []
    axes = call.integers("axes", 3, range(len(pads) // 2)) or []
    for index, each in enumerate(axes):
        if each % rank == axis and (pads[index] or pads[len(pads) // 2 + index]):
            raise mixed(node)
    return [axis]


def _matmul(batch: BatchAxes, node: Node, call: Call) -> Axes:
    """Multiply: the samples may stand in the rows, in the columns, or in axes before them."""
    ranks = [len(batch.sizes(name)) for name in node.inputs]
    rank = max(*ranks, 2)
    found = set()
    for slot, summed in enumerate((ranks[0] - 1, max(0, ranks[1] - 2))):
        axis = batch.axis(node, slot)
        if axis == summed:
            raise mixed(node)
        if axis is not None:
            found.add(axis + rank - ranks[slot])
    if len(found) != 1:
        raise mixed(node)
    (axis,) = found
    if axis < rank - 2:
        for slot, name in enumerate(node.inputs):
            own = axis - (rank - ranks[slot])
            if batch.axis(node, slot) is None and own >= 0 and batch.sizes(name)[own] != 1:
                raise mixed(node)
    elif batch.axis(node, 0) is not None and batch.axis(node, 1) is not None:
        raise mixed(node)  # every sample with every other
    return [axis - (ranks[0] == 1)]


def _gemm(batch: BatchAxes, node: Node, call: Call) -> Axes:
    rows, columns = int(bool(call.attribute("transA", 0))), int(not call.attribute("transB", 0))
    left, right = batch.axis(node, 0), batch.axis(node, 1)
    if (left, right) == (rows, None):
        axis = 0
    elif (left, right) == (None, columns):
        axis = 1
    else:
        raise mixed(node)
    if len(node.inputs) > 2:
        sizes = batch.sizes(node.inputs[2])
        own = axis - (2 - len(sizes))
        if batch.axis(node, 2) is not None or (own >= 0 and sizes[own] != 1):
            raise mixed(node)
    return [axis]


def _recurrent(batch: BatchAxes, node: Node, call: Call) -> Axes:
    """Run each sample through the sequence; they all begin in the same state."""
    first = bool(call.attribute("layout", 0))
    axis = 0 if first else 1
    if batch.only_first(node) != axis:
        raise mixed(node)
    for slot in (5, 6):
        if not call.has(slot) or batch.sizes(node.inputs[slot])[axis] == 1:
            continue
        state = call.values[slot]
        if state is None or not torch.equal(state, (one := state.narrow(axis, 0, 1)).expand_as(state)):
            raise mixed(node)
        batch.replaced[id(node), slot] = one
    return [0, 0, 0] if first else [2, 1, 1]


def _split_to_sequence(batch: BatchAxes, node: Node, call: Call) -> Axes:
    if not call.has(1) and not call.attribute("keepdims", 1):
        raise mixed(node)  # an axis is gone
    return _along(0)(batch, node, call)


_ELEMENTWISE = (
    *("Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Dropout", "Elu"),
    *("Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish"),
    *("Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul"),
    *("Neg", "Not", "Or", "Pow", "PRelu", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin"),
    *("Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where", "Xor"),
)
_IMAGE = (
    *("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool"),
    *("GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "MaxPool", "Resize", "SpaceToDepth"),
    "Upsample",
)
_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
    *("ReduceSum", "ReduceSumSquare"),
)

_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_IMAGE, _image),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _from_axis_on),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg_extreme),
    "CastLike": _like_first,
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "SequenceAt": _like_first,
    "Slice": _slice,
    "Split": _along(0),
    "SplitToSequence": _split_to_sequence,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
