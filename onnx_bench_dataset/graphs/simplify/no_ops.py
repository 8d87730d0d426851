"""Operations that hand one of their inputs on unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from onnx_bench_dataset.graphs.graph import DEFAULT_DOMAIN, Node
from onnx_bench_dataset.graphs.simplify.rewriter import Rewriter

SPATIAL = frozenset(
    {"AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Resize"}
)
"""Operations whose result has at least three dimensions."""

_END = 2**31 - 1  # exporters write the largest 32- or 64-bit integer for "to the end"


def remove_no_op(graph: Rewriter, node: Node) -> bool:
    """Rule 5: take out a node that provably hands an input on."""
    test = NO_OPS.get(node.op)
    if test is None or not node.inputs or any(graph.is_read(name) for name in node.outputs[1:]):
        return False
    slot = test(graph, node)
    return slot is not None and graph.bypass(node, slot)


def _identity(graph: Rewriter, node: Node) -> int | None:
    return 0


def _dropout(graph: Rewriter, node: Node) -> int | None:
    version = graph.opset(node)
    if version < 7:
        return 0 if node.attribute("is_test", 0) else None
    mode = node.inputs[2] if version >= 12 and len(node.inputs) > 2 else ""
    if not mode:
        return 0
    training = graph.array(mode)
    return 0 if training is not None and not training.any() else None


def _cast(graph: Rewriter, node: Node) -> int | None:
    element_type = graph.types.of(node.inputs[0]).element_type
    return 0 if element_type and element_type == node.attribute("to") else None


def _transpose(graph: Rewriter, node: Node) -> int | None:
    order = node.attribute("perm")
    return 0 if order and list(order) == sorted(order) else None


def _one_input(graph: Rewriter, node: Node) -> int | None:
    return 0 if len(node.inputs) == 1 else None


def _split(graph: Rewriter, node: Node) -> int | None:
    return 0 if len(node.outputs) == 1 else None


def _reshape(graph: Rewriter, node: Node) -> int | None:
    """Reshape, Flatten, Squeeze, Unsqueeze, Expand, Tile and reductions of one element each."""
    if _loses_rank(graph, node):
        return None
    before, after = graph.types.of(node.inputs[0]).shape, graph.types.of(node.outputs[0]).shape
    return 0 if before is not None and None not in before and before == after else None


def _loses_rank(graph: Rewriter, node: Node) -> bool:
    """Say whether the rank certainly changes: known without shape inference for the end of most networks."""
    if node.op.startswith("Reduce"):
        return not node.attribute("keepdims", 1)
    if node.op == "Unsqueeze":
        return bool(graph.axes(node))
    source = graph.producers.get(node.inputs[0])
    if source is None or source.op not in SPATIAL or source.domain != DEFAULT_DOMAIN:
        return False
    if node.op == "Reshape":
        target = graph.integers(node.inputs[1]) if len(node.inputs) > 1 else None
        return target is not None and len(target) < 3
    return node.op == "Flatten"


def _pad(graph: Rewriter, node: Node) -> int | None:
    if graph.opset(node) < 11:
        pads = node.attribute("pads", node.attribute("paddings"))
    else:
        pads = graph.integers(node.inputs[1]) if len(node.inputs) > 1 else None
    return 0 if pads and not any(pads) else None


def _slice(graph: Rewriter, node: Node) -> int | None:
    if graph.opset(node) < 10:
        starts, ends = node.attribute("starts"), node.attribute("ends")
        axes, steps = node.attribute("axes"), None
    else:
        starts, ends, axes, steps = (
            graph.integers(node.inputs[slot]) if slot < len(node.inputs) else None for slot in (1, 2, 3, 4)
        )
        if any(
            len(node.inputs) > slot and node.inputs[slot] and not value
            for slot, value in ((3, axes), (4, steps))
        ):
            return None
    if starts is None or ends is None or any(starts) or any(step != 1 for step in steps or ()):
        return None
    if all(end >= _END for end in ends):
        return 0
    shape = graph.types.of(node.inputs[0]).shape
    axes = axes or list(range(len(starts)))
    if shape is None or len(axes) != len(ends):
        return None
    for axis, end in zip(axes, ends, strict=True):
        size = shape[axis] if -len(shape) <= axis < len(shape) else None
        if not isinstance(size, int) or end < size:
            return None
    return 0


def _pool(graph: Rewriter, node: Node) -> int | None:
    one = all(size == 1 for name in ("kernel_shape", "strides") for size in node.attribute(name, ()))
    return 0 if one and not any(node.attribute("pads", ())) else None


def _tile(graph: Rewriter, node: Node) -> int | None:
    repeats = graph.integers(node.inputs[1]) if len(node.inputs) == 2 else None
    return 0 if repeats is not None and all(times == 1 for times in repeats) else None


def _repeated(graph: Rewriter, node: Node) -> int | None:
    """An operation that changes nothing the second time."""
    source = graph.producers.get(node.inputs[0])
    return 0 if source is not None and source.op == node.op and source.domain == node.domain else None


def _unit(value: float, slots: tuple[int, ...]) -> Callable[[Rewriter, Node], int | None]:
    """Make the test for arithmetic with the one number that changes nothing."""

    def test(graph: Rewriter, node: Node) -> int | None:
        for slot in slots:
            if slot >= len(node.inputs) or len(node.inputs) != 2:
                continue
            if _is_unit(graph, node.inputs[slot], value) and _keeps_shape(graph, node, slot):
                return 1 - slot
        return None

    return test


def _is_unit(graph: Rewriter, name: str, value: float) -> bool:
    tensor = graph.graph.initializers.get(name)
    if tensor is None or np.prod(tensor.dims, dtype=object) != 1:
        return False
    array = graph.array(name)
    return array is not None and bool((array == value).all())


def _keeps_shape(graph: Rewriter, node: Node, slot: int) -> bool:
    """A constant of one element adds dimensions when it has more of them than the other side."""
    if not graph.graph.initializers[node.inputs[slot]].dims:
        return True
    rank = graph.types.of(node.inputs[1 - slot]).rank
    return rank is not None and len(graph.graph.initializers[node.inputs[slot]].dims) <= rank


NO_OPS: Mapping[str, Callable[[Rewriter, Node], int | None]] = {
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
    "Transpose": _transpose,
    **dict.fromkeys(("Concat", "Sum", "Max", "Min", "Mean"), _one_input),
    "Split": _split,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"), _reshape),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"), _reshape),
    "Pad": _pad,
    "Slice": _slice,
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    "Tile": _tile,
    **dict.fromkeys(("Relu", "Ceil", "Floor", "Round", "Abs"), _repeated),
    "Add": _unit(0, (0, 1)),
    "Sub": _unit(0, (1,)),
    "Mul": _unit(1, (0, 1)),
    "Div": _unit(1, (1,)),
    "Pow": _unit(1, (1,)),
}
