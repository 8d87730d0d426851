"""Element types and shapes as files declare them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from onnx import TensorShapeProto, TypeProto

Shape = tuple[int | str | None, ...]
"""Per dimension its size, the name of a size that is known only when the graph runs, or None."""


class TensorType(NamedTuple):
    """What is known of a tensor before the graph runs."""

    element_type: int
    """A `TensorProto.DataType`, 0 when unknown."""
    shape: Shape | None
    """None when not even the rank is known."""
    sizes: tuple[int, ...] | None
    """The shape when every size is a number, else None."""

    @property
    def rank(self) -> int | None:
        """The number of dimensions, None when unknown."""
        return None if self.shape is None else len(self.shape)


UNKNOWN = TensorType(0, None, None)


def tensor_type(declared: TypeProto) -> TensorType:
    """Read a declared type; anything but a tensor is unknown."""
    return _read(declared.SerializeToString())


@lru_cache(maxsize=2**14)  # a network has few types, and taking one apart is slow
def _read(serialized: bytes) -> TensorType:
    declared = TypeProto.FromString(serialized)
    if not declared.HasField("tensor_type"):
        return UNKNOWN
    tensor = declared.tensor_type
    if not tensor.HasField("shape"):
        return TensorType(tensor.elem_type, None, None)
    shape = tuple(_size(dim) for dim in tensor.shape.dim)
    return TensorType(tensor.elem_type, shape, static(shape))


def _size(dim: TensorShapeProto.Dimension) -> int | str | None:
    """Read one size; some files write -1 for one that is unknown."""
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def static(shape: Shape | None) -> tuple[int, ...] | None:
    """Return the shape with plain numbers when it is static, else None."""
    if shape is None:
        return None
    sizes = tuple([size for size in shape if isinstance(size, int) and size >= 0])
    return sizes if len(sizes) == len(shape) else None
