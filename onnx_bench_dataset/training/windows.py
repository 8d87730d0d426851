"""Operations that slide a window over an image, or resize it: convolutions, pools, Resize."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from onnx_bench_dataset.training.call import Call, Function

_CONVOLUTIONS = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
_TRANSPOSED = {1: torch.conv_transpose1d, 2: torch.conv_transpose2d, 3: torch.conv_transpose3d}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE_POOLS: Mapping[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


def conv(call: Call) -> Function:
    """Convolve; zeros are put around the image by the convolution itself where it can."""
    convolve = _of_rank(call, _CONVOLUTIONS)
    rank = _rank(call)
    strides, dilations = _per_axis(call, "strides", rank), _per_axis(call, "dilations", rank)
    group = int(call.attribute("group", 1))
    pads = _pads(call, rank)
    if pads is None:
        kernel = _kernel(call)
        return lambda x, w, b=None: convolve(
            functional.pad(x, _same(call, x.shape[2:], kernel, strides, dilations)),
            w,
            b,
            strides,
            0,
            dilations,
            group,
        )
    if pads[:rank] == pads[rank:]:
        padding = pads[:rank]
        return lambda x, w, b=None: convolve(x, w, b, strides, padding, dilations, group)
    around = _torch_pads(pads)
    return lambda x, w, b=None: convolve(functional.pad(x, around), w, b, strides, 0, dilations, group)


def conv_transpose(call: Call) -> Function:
    """Spread each element over a window; uneven pads are cut off behind it."""
    convolve = _of_rank(call, _TRANSPOSED)
    rank = _rank(call)
    if call.attribute("output_shape") is not None or _pads(call, rank) is None:
        raise call.unsupported("the size of its output is stated instead of its padding")
    strides, dilations = _per_axis(call, "strides", rank), _per_axis(call, "dilations", rank)
    extra = list(call.attribute("output_padding") or [0] * rank)
    group = int(call.attribute("group", 1))
    pads = _pads(call, rank) or []
    more = [max(each) for each in zip(strides, dilations, strict=True)]
    if pads[:rank] == pads[rank:] and all(map(operator.lt, extra, more)):
        padding = pads[:rank]
        return lambda x, w, b=None: convolve(x, w, b, strides, padding, extra, group, dilations)
    around = _torch_pads([*map(operator.neg, pads[:rank]), *map(operator.sub, extra, pads[rank:])])

    def cut(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        whole = functional.pad(convolve(x, w, None, strides, 0, 0, group, dilations), around)
        return whole if b is None else whole + b.reshape(-1, *[1] * rank)

    return cut


def max_pool(call: Call) -> Function:
    """Take the largest of each window; padding never wins."""
    if len(call.node.outputs) > 1:
        raise call.unsupported("it gives the places of the largest, too")
    kernel = _kernel(call)
    rank = len(kernel)
    pool = _of_rank(call, _MAX_POOLS, rank)
    strides, dilations = _per_axis(call, "strides", rank), _per_axis(call, "dilations", rank)
    ceil = bool(call.attribute("ceil_mode", 0))
    pads = _pads(call, rank)
    padding = _even(pads, kernel)
    if padding is not None:
        return lambda x: pool(x, kernel, strides, padding, dilations, ceil)

    def padded(x: Tensor) -> Tensor:
        around = _same(call, x.shape[2:], kernel, strides, dilations) if pads is None else _torch_pads(pads)
        return pool(functional.pad(x, around, value=-math.inf), kernel, strides, 0, dilations, ceil)

    return padded


def average_pool(call: Call) -> Function:
    """Take the mean of each window, of the elements that exist unless `count_include_pad` is set."""
    kernel = _kernel(call)
    rank = len(kernel)
    pool = _of_rank(call, _AVERAGE_POOLS, rank)
    strides, dilations = _per_axis(call, "strides", rank), _per_axis(call, "dilations", rank)
    ceil, include = bool(call.attribute("ceil_mode", 0)), bool(call.attribute("count_include_pad", 0))
    pads = _pads(call, rank)
    if dilations != [1] * rank:
        raise call.unsupported("its windows are dilated")
    padding = _even(pads, kernel)
    if padding is not None:
        return lambda x: pool(x, kernel, strides, padding, ceil, include)

    def padded(x: Tensor) -> Tensor:
        around = _same(call, x.shape[2:], kernel, strides, dilations) if pads is None else _torch_pads(pads)
        mean = pool(functional.pad(x, around), kernel, strides, 0, ceil, False)
        if include:
            return mean
        present = functional.pad(x.new_ones(1, 1, *x.shape[2:]), around)
        return mean / pool(present, kernel, strides, 0, ceil, False)

    return padded


def global_average_pool(call: Call) -> Function:
    """Take the mean over the image, whose axes stay."""
    return lambda x: x.mean(list(range(2, x.dim())), keepdim=True)


def global_max_pool(call: Call) -> Function:
    """Take the largest over the image, whose axes stay."""
    return lambda x: x.amax(list(range(2, x.dim())), keepdim=True)


def resize(call: Call) -> Function:
    """Resize an image the ways that PyTorch's `interpolate` does."""
    old = call.node.op == "Upsample" or call.opset < 11
    slot = 1 if old else 2
    scales = call.attribute("scales")
    if scales is None and call.has(slot):
        constant = call.constant(slot)
        scales = None if constant is None or not constant.numel() else constant.tolist()
    sizes = None
    if scales is None:
        given = call.constant(3)
        sizes = None if given is None else given.tolist()
    numbers = scales if sizes is None else sizes
    if numbers is None or len(numbers) not in (3, 4, 5) or call.attribute("axes") is not None:
        raise call.unsupported("only whole images are resized")
    if scales is not None and list(scales[:2]) != [1, 1]:
        raise call.unsupported("it resizes more than the image")
    size = None if sizes is None else tuple(int(number) for number in sizes[2:])
    factors = None if scales is None else tuple(float(factor) for factor in scales[2:])
    where = str(call.attribute("coordinate_transformation_mode", "asymmetric" if old else "half_pixel"))
    if call.attribute("mode", "nearest") == "nearest":
        return _nearest(call, where, "floor" if old else "round_prefer_floor", size, factors)
    mode = _interpolation(call, where, len(numbers) - 2)
    corners = where == "align_corners"
    return lambda x, *_: functional.interpolate(x, size, factors, mode=mode, align_corners=corners)


def _interpolation(call: Call, where: str, rank: int) -> str:
    fits = where in ("half_pixel", "pytorch_half_pixel", "align_corners")
    if not fits or call.attribute("antialias", 0) or call.attribute("exclude_outside", 0):
        raise call.unsupported(f"coordinates are transformed by {where}")
    mode = call.attribute("mode")
    if mode == "linear":
        return ("linear", "bilinear", "trilinear")[rank - 1]
    if mode == "cubic" and rank == 2 and call.attribute("cubic_coeff_a", -0.75) == -0.75:
        return "bicubic"
    raise call.unsupported(f"its mode is {mode}")


_Sizes = tuple[int, ...]
_PLACES: Mapping[str, Callable[[Tensor, float, int, int], Tensor]] = {
    "half_pixel": lambda i, factor, old, new: (i + 0.5) / factor - 0.5,
    "pytorch_half_pixel": lambda i, factor, old, new: (i + 0.5) / factor - 0.5 if new > 1 else 0 * i,
    "asymmetric": lambda i, factor, old, new: i / factor,
    "align_corners": lambda i, factor, old, new: i * ((old - 1) / max(1, new - 1)),
}
_ROUNDINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda place: (place - 0.5).ceil(),
    "round_prefer_ceil": lambda place: (place + 0.5).floor(),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def _nearest(
    call: Call, where: str, rounding: str, sizes: _Sizes | None, factors: tuple[float, ...] | None
) -> Function:
    """Take for each pixel the one nearest to its place; PyTorch rounds in one way only."""
    place, rounded = _PLACES.get(where), _ROUNDINGS.get(str(call.attribute("nearest_mode", rounding)))
    if place is None or rounded is None:
        raise call.unsupported(f"nearest neighbours are found by {where}")

    def run(x: Tensor, *_: Tensor | None) -> Tensor:
        for axis, old in enumerate(x.shape[2:]):
            new = math.floor(old * factors[axis]) if sizes is None and factors else (sizes or ())[axis]
            factor = factors[axis] if sizes is None and factors else new / old
            places = place(torch.arange(new, dtype=torch.float64), factor, old, new)
            nearest = rounded(places).clamp(0, old - 1).long()
            x = x.index_select(2 + axis, nearest.to(x.device))
        return x

    return run


def depth_to_space(call: Call) -> Function:
    """Turn channels into pixels."""
    block = int(call.attribute("blocksize"))
    if call.attribute("mode", "DCR") == "CRD":
        return lambda x: functional.pixel_shuffle(x, block)

    def depth_first(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, block, block, channels // block**2, height, width)
        return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * block, width * block)

    return depth_first


def space_to_depth(call: Call) -> Function:
    """Turn pixels into channels."""
    block = int(call.attribute("blocksize"))

    def run(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, channels, height // block, block, width // block, block)
        return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // block, width // block)

    return run


def _kernel(call: Call) -> list[int]:
    weight = call.shape(1)
    kernel = call.attribute("kernel_shape") or (weight and weight[2:])
    if not kernel:
        raise call.unsupported("it does not state the shape of its window")
    return [int(size) for size in kernel]


def _rank(call: Call) -> int:
    """Return the number of axes of the image that a convolution reads."""
    return len(_kernel(call))


def _of_rank(
    call: Call, functions: Mapping[int, Callable[..., Tensor]], rank: int | None = None
) -> Callable[..., Tensor]:
    rank = _rank(call) if rank is None else rank
    if rank not in functions:
        raise call.unsupported(f"it works on {rank} axes")
    return functions[rank]


def _per_axis(call: Call, name: str, rank: int) -> list[int]:
    numbers = [int(number) for number in call.attribute(name) or [1] * rank]
    if len(numbers) != rank or min(numbers) < 1:
        raise call.unsupported(f"its {name} are {numbers}")
    return numbers


def _pads(call: Call, rank: int) -> list[int] | None:
    """Return ONNX's pads, all begins and then all ends; None where they follow from the image's size."""
    auto = call.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return None
    pads = [0] * 2 * rank if auto == "VALID" else list(call.attribute("pads") or [0] * 2 * rank)
    if len(pads) != 2 * rank or min(pads) < 0:
        raise call.unsupported(f"its pads are {pads}")
    return pads


def _even(pads: Sequence[int] | None, kernel: Sequence[int]) -> list[int] | None:
    """Return the padding of a pool where it is such that PyTorch does it itself."""
    rank = len(kernel)
    if (
        pads is None
        or pads[:rank] != pads[rank:]
        or any(2 * p > k for p, k in zip(pads, kernel, strict=False))
    ):
        return None
    return list(pads[:rank])


def _torch_pads(pads: Sequence[int]) -> list[int]:
    """Return pads in PyTorch's order: begin and end of the last axis first.

    >>> _torch_pads([1, 2, 3, 4])
    [2, 4, 1, 3]
    """
    rank = len(pads) // 2
    return [pads[axis + end] for axis in reversed(range(rank)) for end in (0, rank)]


def _same(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """Return the pads, in PyTorch's order, with which ⌈size / stride⌉ windows fit."""
    begins, ends = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(size / stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        lower = call.attribute("auto_pad") == "SAME_LOWER"
        begins.append(large if lower else small)
        ends.append(small if lower else large)
    return _torch_pads([*begins, *ends])
