"""Neighbours that are one operation."""

from __future__ import annotations

import numpy as np

from onnx_bench_dataset.graphs.graph import DEFAULT_DOMAIN, Node
from onnx_bench_dataset.graphs.simplify.rewriter import Rewriter
from onnx_bench_dataset.graphs.weights import FLOATS

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operations that change the shape of a tensor and nothing else."""


def linear_layer(graph: Rewriter, add: Node) -> bool:
    """Rule 9: a MatMul of two matrices and an Add of a fixed row are a Gemm."""
    for slot in (0, 1):
        product = graph.feeder(add, slot, "MatMul")
        bias = add.inputs[1 - slot]
        if product is None or not graph.is_fixed(bias) or graph.opset(add) < 7:
            continue
        shape = graph.types.of(bias).shape
        if shape is None or not 0 < len(shape) < 3 or len(product.inputs) != 2:
            continue
        left, right = (graph.types.of(name).shape for name in product.inputs)
        if left is None or right is None or len(left) != 2 or len(right) != 2:
            continue
        columns = right[1]
        if not isinstance(columns, int) or shape not in ((columns,), (1, columns)):
            continue
        if graph.types.of(bias).element_type not in FLOATS:
            continue
        product.op = "Gemm"
        graph.set_inputs(product, [*product.inputs, bias])
        graph.take_output(product, add)
        return True
    return False


def pad_into_window(graph: Rewriter, node: Node) -> bool:
    """Rule 10: zeros put around the input of a Conv or AveragePool are its own padding."""
    pad = graph.feeder(node, 0, "Pad")
    added = None if pad is None else _zeros_around(graph, pad, node)
    own = None if added is None else _own_padding(node, len(added))
    if pad is None or added is None or own is None:
        return False
    total = [before + extra for before, extra in zip(own, added, strict=True)]
    if node.op == "AveragePool":
        if not _counts_zeros(graph, node, own, total):
            return False
        graph.set_attributes(node, count_include_pad=1)
    if "auto_pad" in node.attributes:
        graph.set_attributes(node, auto_pad="NOTSET")
    graph.set_attributes(node, pads=total)
    graph.set_inputs(node, [pad.inputs[0], *node.inputs[1:]])
    return True


def _own_padding(node: Node, length: int) -> list[int] | None:
    """Return the padding of a window of which `length` numbers state it; None if it depends on the input."""
    mode = node.attribute("auto_pad", b"NOTSET")
    pads = list(node.attribute("pads", ())) if mode == b"NOTSET" else []
    if mode not in (b"NOTSET", b"VALID") or len(pads) not in (0, length):
        return None
    return pads or [0] * length


def _counts_zeros(graph: Rewriter, pool: Node, own: list[int], total: list[int]) -> bool:
    """Say whether an average over `total` padding can be what it was over its `own` and zeros in the input.

    It has to be one that pads nothing itself or counts what it pads, and its windows must neither be
    rounded up nor lie in the padding alone.
    """
    if any(own) and not pool.attribute("count_include_pad", 0):
        return False
    kernel = list(pool.attribute("kernel_shape", ()))
    inside = all(size < window for size, window in zip(total, kernel * 2, strict=True))
    return inside and not pool.attribute("ceil_mode", 0) and graph.opset(pool) >= 7


def _zeros_around(graph: Rewriter, pad: Node, node: Node) -> list[int] | None:
    """Return how many zeros a Pad puts before and behind each spatial dimension; None if it does more."""
    if pad.attribute("mode", b"constant") != b"constant":
        return None
    if graph.opset(pad) < 11:
        pads = pad.attribute("pads", pad.attribute("paddings"))
        fill = np.array(pad.attribute("value", 0.0))
    else:
        pads = graph.integers(pad.inputs[1]) if len(pad.inputs) > 1 else None
        named = len(pad.inputs) > 2 and bool(pad.inputs[2])
        value = graph.array(pad.inputs[2]) if named else np.zeros(())
        if value is None:
            return None
        fill = value
    rank = _window_rank(graph, node)
    if pads is None or rank is None or fill.any() or min(pads, default=0) < 0:
        return None
    axes = list(range(rank))
    if len(pad.inputs) > 3 and pad.inputs[3]:
        named_axes = graph.integers(pad.inputs[3])
        if named_axes is None or not all(-rank <= axis < rank for axis in named_axes):
            return None
        axes = [axis % rank for axis in named_axes]
    if len(pads) != 2 * len(axes):
        return None
    before, behind = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        before[axis], behind[axis] = pads[position], pads[position + len(axes)]
    if any(before[:2]) or any(behind[:2]):
        return None
    return before[2:] + behind[2:]


def _window_rank(graph: Rewriter, node: Node) -> int | None:
    """Return the rank of what a Conv or pooling reads."""
    kernel = node.attribute("kernel_shape")
    if kernel is not None:
        return len(kernel) + 2
    return graph.types.of(node.inputs[1]).rank if node.op == "Conv" else None


def consecutive_transposes(graph: Rewriter, node: Node) -> bool:
    """Rule 11: a Transpose of a Transpose is one Transpose."""
    first = graph.feeder(node, 0, "Transpose")
    if first is None:
        return False
    orders = [other.attribute("perm") for other in (first, node)]
    if orders == [None, None]:  # each turns the dimensions round
        graph.set_inputs(node, first.inputs)
        return graph.bypass(node, 0)
    rank = len(orders[0] or orders[1])
    inner, outer = (order if order is not None else range(rank)[::-1] for order in orders)
    if len(inner) != len(outer) or sorted(inner) != list(range(rank)) or sorted(outer) != list(range(rank)):
        return False
    graph.set_attributes(node, perm=[inner[axis] for axis in outer])
    graph.set_inputs(node, first.inputs)
    return True


def consecutive_reshapes(graph: Rewriter, node: Node) -> bool:
    """Rule 12: of operations in a row that only change the shape, the last one does it all.

    They vanish together when the first shape comes back; two Squeeze or two Unsqueeze stay what they are; any
    other pair becomes a Reshape.
    """
    first = graph.feeder(node, 0, *RESHAPES)
    if first is None or node.domain != first.domain:
        return False
    before = graph.types.of(first.inputs[0]).shape
    _, after, sizes = graph.types.of(node.outputs[0])
    if before is not None and None not in before and before == after:
        graph.set_inputs(node, [first.inputs[0], *node.inputs[1:]])
        return graph.bypass(node, 0)
    if node.op == "Reshape" and _is_absolute(graph, node):
        graph.set_inputs(node, [first.inputs[0], *node.inputs[1:]])
        return True
    if node.op == first.op and node.op in ("Squeeze", "Unsqueeze") and _merge_axes(graph, node, first):
        return True
    if sizes is None or 0 in sizes or graph.opset(node) < 5:
        return False
    node.op, node.attributes = "Reshape", {}
    graph.set_inputs(node, [first.inputs[0]])
    graph.set_integers(node, 1, sizes)
    return True


def _is_absolute(graph: Rewriter, reshape: Node) -> bool:
    """Say whether the target of a Reshape copies no size from the shape that it reads."""
    target = graph.integers(reshape.inputs[1]) if len(reshape.inputs) > 1 else None
    return target is not None and (0 not in target or bool(reshape.attribute("allowzero", 0)))


def _merge_axes(graph: Rewriter, node: Node, first: Node) -> bool:
    """Let one Squeeze or Unsqueeze do the work of two."""
    inner, outer = graph.axes(first), graph.axes(node)
    # The axes of one count the dimensions of the largest of the three tensors; the axes of the other count
    # the dimensions that the first one leaves alone.
    grows = node.op == "Unsqueeze"
    rank = graph.types.of(node.outputs[0] if grows else first.inputs[0]).rank
    largest, middle = (outer, inner) if grows else (inner, outer)
    if not largest or not middle or not rank or not all(-rank <= axis < rank for axis in largest):
        return False
    taken = {axis % rank for axis in largest}
    free = [axis for axis in range(rank) if axis not in taken]
    if not all(-len(free) <= axis < len(free) for axis in middle):
        return False
    merged = sorted({*taken, *(free[axis] for axis in middle)})
    if "axes" in node.attributes:
        graph.set_attributes(node, axes=merged)
    else:
        graph.set_integers(node, 1, merged)
    graph.set_inputs(node, [first.inputs[0], *node.inputs[1:]])
    return True


def kept_dimensions(graph: Rewriter, node: Node) -> bool:
    """Rule 13: a reduction whose dimensions an Unsqueeze puts back keeps them instead."""
    reduction = graph.feeder(node, 0, *_REDUCTIONS)
    if reduction is None or reduction.attribute("keepdims", 1):
        return False
    reduced, restored = graph.axes(reduction), graph.axes(node)
    if not reduced or not restored:
        return False
    if min(*reduced, *restored) < 0:
        rank = graph.types.of(reduction.inputs[0]).rank
        if not rank:
            return False
        reduced, restored = ([axis % rank for axis in axes] for axes in (reduced, restored))
    if sorted(reduced) != sorted(restored):
        return False
    graph.set_attributes(reduction, keepdims=1)
    graph.take_output(reduction, node)
    return True


_REDUCTIONS = tuple(
    f"Reduce{what}"
    for what in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)


def nested_concats(graph: Rewriter, node: Node) -> bool:
    """Rule 14: a Concat of Concats along the same axis is one Concat."""
    axis = node.attribute("axis", 1)
    if _is_concat(graph.sole_reader(node.outputs[0]), axis):
        return False  # the reader takes in the whole tree at once
    leaves: list[str] = []
    pending = [(node, iter(list(node.inputs)))]
    while pending:
        inner, names = pending[-1]
        for name in names:
            source = graph.producers.get(name)
            if source is not None and _is_concat(source, axis) and graph.sole_reader(name) is inner:
                pending.append((source, iter(list(source.inputs))))
                break
            leaves.append(name)
        else:
            pending.pop()
    if len(leaves) == len(node.inputs):
        return False
    graph.set_inputs(node, leaves)
    return True


def _is_concat(node: Node | None, axis: int) -> bool:
    return (
        node is not None
        and node.op == "Concat"
        and node.domain == DEFAULT_DOMAIN
        and node.attribute("axis", 1) == axis
    )
