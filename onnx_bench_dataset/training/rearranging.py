"""Operations that move elements: Reshape, Transpose, Slice, Concat and the like."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from onnx_bench_dataset.training.call import DTYPES, Call, Function

_PAD_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def reshape(call: Call) -> Function:
    """Give a tensor another shape; 0 stands for the size that is there, -1 for what is left."""
    keep = not call.attribute("allowzero", 0)
    stated = call.attribute("shape")
    if stated is None and call.values[1] is None:
        return lambda x, shape: x.reshape(_resolved(shape.tolist(), x.shape, keep))
    numbers = call.integers("shape", 1) or []
    if keep and 0 in numbers:
        return lambda x, *_: x.reshape(_resolved(numbers, x.shape, keep))
    return lambda x, *_: x.reshape(numbers)


def _resolved(numbers: Sequence[int], shape: Sequence[int], keep: bool) -> list[int]:
    return [
        shape[axis] if keep and number == 0 and axis < len(shape) else number
        for axis, number in enumerate(numbers)
    ]


def flatten(call: Call) -> Function:
    """Make a matrix of what comes before an axis and what comes from it on."""
    axis = int(call.attribute("axis", 1))
    if axis == 1:
        return lambda x: x.flatten(1) if x.dim() > 1 else x.reshape(len(x) if x.dim() else 1, 1)
    return lambda x: x.reshape(math.prod(x.shape[: axis if axis >= 0 else x.dim() + axis]), -1)


def transpose(call: Call) -> Function:
    """Reorder the axes, by default the other way round."""
    order = call.attribute("perm")
    if order is None:
        return lambda x: x.permute(*reversed(range(x.dim())))
    axes = [int(axis) for axis in order]
    return lambda x: x.permute(axes)


def squeeze(call: Call) -> Function:
    """Drop axes of size 1: those named, or all."""
    axes = call.integers("axes", 1)
    if axes is None:
        return lambda x: x.squeeze()

    def run(x: Tensor, *_: Tensor) -> Tensor:
        for axis in axes:
            if x.shape[axis] != 1:
                raise RuntimeError(f"axis {axis} of size {x.shape[axis]} cannot be dropped")
        return x.squeeze(tuple(axes))

    return run


def unsqueeze(call: Call) -> Function:
    """Put in axes of size 1; they are counted in the output."""
    axes = call.integers("axes", 1) or []
    if len(axes) == 1:
        only = axes[0]
        return lambda x, *_: x.unsqueeze(only)

    def run(x: Tensor, *_: Tensor) -> Tensor:
        rank = x.dim() + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def concat(call: Call) -> Function:
    """Put tensors one behind the other."""
    axis = int(call.attribute("axis", 1))
    spread = call.spread
    if spread is None:
        return lambda *parts: torch.cat(parts, axis)

    def repeated(*parts: Tensor) -> Tensor:
        batch = max(part.shape[spread] for part in parts)
        return torch.cat([repeat(part, spread, batch) for part in parts], axis)

    return repeated


def repeat(x: Tensor, axis: int, count: int) -> Tensor:
    """Repeat a tensor along an axis of size 1; one of another size stays."""
    if x.shape[axis] == count:
        return x
    return x.expand(*x.shape[:axis], count, *x.shape[axis + 1 :])


def split(call: Call) -> Function:
    """Cut a tensor along an axis, into stated sizes or equal ones, of which the last may be smaller."""
    axis = int(call.attribute("axis", 0))
    sizes = call.integers("split", 1)
    count = len(call.node.outputs)
    if sizes is not None:
        return lambda x, *_: torch.split(x, sizes, axis)

    def equal(x: Tensor) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = torch.split(x, -(-x.shape[axis] // count), axis)
        if len(parts) != count:
            raise RuntimeError(f"an axis of size {x.shape[axis]} cannot be cut into {count}")
        return parts

    return equal


def slices(call: Call) -> Function:
    """Take ranges of indices; those beyond an end are cut off, steps may go backwards."""
    if call.attribute("starts") is None and any(value is None for value in call.values[1:]):
        return _cut_as_told
    starts, ends = call.integers("starts", 1) or [], call.integers("ends", 2) or []
    axes, steps = call.integers("axes", 3), call.integers("steps", 4)
    return lambda x, *_: _cut(x, starts, ends, axes, steps)


def _cut_as_told(x: Tensor, starts: Tensor, ends: Tensor, *more: Tensor | None) -> Tensor:
    rest = [None if each is None else each.tolist() for each in more]
    return _cut(x, starts.tolist(), ends.tolist(), *rest)


def _cut(
    x: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
) -> Tensor:
    indices = [slice(None)] * x.dim()
    backwards = []
    every = zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True)
    for axis, start, end, step in every:
        first, last, by = slice(start, end, step).indices(x.shape[axis])
        if by < 0:  # PyTorch goes forwards only
            count = len(range(first, last, by))
            first, last, by = (first + (count - 1) * by, first + 1, -by) if count else (0, 0, 1)
            backwards.append(axis)
        indices[axis] = slice(first, max(first, last), by)
    x = x[tuple(indices)]
    return x.flip(backwards) if backwards else x


def gather(call: Call) -> Function:
    """Take entries along an axis by their indices."""
    axis = int(call.attribute("axis", 0))
    known = call.values[1]
    if known is not None and known.dim() == 0:
        index = int(known)
        return lambda x, _: x.select(axis, index)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        start = axis % x.dim()
        indices = indices.to(x.device, torch.int64)
        indices = torch.where(indices < 0, indices + x.shape[start], indices)
        taken = x.index_select(start, indices.reshape(-1))
        return taken.reshape(*x.shape[:start], *indices.shape, *x.shape[start + 1 :])

    return run


def gather_elements(call: Call) -> Function:
    """Take one entry per element of the indices."""
    axis = int(call.attribute("axis", 0))

    def run(x: Tensor, indices: Tensor) -> Tensor:
        indices = indices.to(x.device, torch.int64)
        return x.gather(axis, torch.where(indices < 0, indices + x.shape[axis], indices))

    return run


def expand(call: Call) -> Function:
    """Repeat along axes of size 1 until a shape is reached, or kept where it asks for 1."""
    known = call.values[1]
    stated = None if known is None else [int(size) for size in known.tolist()]

    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = shape.tolist() if stated is None else stated
        own = [1] * (len(sizes) - x.dim()) + list(x.shape)
        asked = [1] * (x.dim() - len(sizes)) + sizes
        return x.expand([there if size == 1 else size for there, size in zip(own, asked, strict=True)])

    return run


def tile(call: Call) -> Function:
    """Repeat along every axis."""
    repeats = call.integers("repeats", 1) or []
    return lambda x, *_: x.repeat(repeats)


def pad(call: Call) -> Function:
    """Put a border around a tensor."""
    pads = call.integers("pads", 1) or []
    axes = call.integers("axes", 3)
    value = call.scalar(2, float(call.attribute("value", 0.0)))
    mode = str(call.attribute("mode", "constant"))
    if len(pads) % 2 or (mode != "constant" and mode not in _PAD_MODES):
        raise call.unsupported(f"its pads are {pads}, its mode is {mode}")
    half = len(pads) // 2

    def run(x: Tensor, *_: Tensor | None) -> Tensor:
        order = [axis % x.dim() for axis in (range(half) if axes is None else axes)]
        around = {axis: (pads[index], pads[half + index]) for index, axis in enumerate(order)}
        pairs = [around.get(axis, (0, 0)) for axis in reversed(range(x.dim()))]
        if mode == "constant":
            return functional.pad(x, [size for pair in pairs for size in pair], value=value)
        image = pairs[: x.dim() - 2]  # PyTorch reflects the image alone
        if any(pair != (0, 0) for pair in pairs[x.dim() - 2 :]):
            raise RuntimeError(f"{mode} padding of batch or channels")
        return functional.pad(x, [size for pair in image for size in pair], mode=_PAD_MODES[mode])

    return run


def shape_of(call: Call) -> Function:
    """Return the sizes of a tensor, as numbers on the CPU wherever the tensor is."""
    start, end = int(call.attribute("start", 0)), call.attribute("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


def size_of(call: Call) -> Function:
    """Return the number of elements of a tensor."""
    return lambda x: torch.tensor(x.numel())


def constant_of_shape(call: Call) -> Function:
    """Make a tensor of one number."""
    value = call.attribute("value")
    number = torch.zeros(1) if value is None else value
    return lambda shape: number.reshape(()).expand(shape.tolist())


def arange(call: Call) -> Function:
    """Count."""
    return lambda start, limit, delta: torch.arange(
        start.item(), limit.item(), delta.item(), dtype=start.dtype
    )


def cast(call: Call) -> Function:
    """Change the type of the elements."""
    dtype = DTYPES.get(int(call.attribute("to")))
    if dtype is None:
        raise call.unsupported("PyTorch lacks the type")
    return lambda x: x.to(dtype)


def trilu(call: Call) -> Function:
    """Keep the upper or the lower triangle."""
    diagonal = int(call.scalar(1, 0))
    take = torch.triu if call.attribute("upper", 1) else torch.tril
    return lambda x, *_: take(x, diagonal)


def split_to_sequence(call: Call) -> Function:
    """Cut a tensor along an axis into a list of parts."""
    axis = int(call.attribute("axis", 0))
    lengths = call.constant(1)
    keep = bool(call.attribute("keepdims", 1))
    if lengths is None:
        return lambda x: list(x.split(1, axis) if keep else x.unbind(axis))
    sizes = int(lengths) if lengths.dim() == 0 else [int(size) for size in lengths.tolist()]
    return lambda x, _: list(x.split(sizes, axis))
