"""What the function of an operation is made from: the node, and what is known of its inputs beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.graph import Node

Function = Callable[..., Any]
"""Takes a tensor per input of the node, None for one left out; gives a tensor, or a tuple of several."""

DTYPES: Mapping[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


@dataclass(frozen=True)
class Call:
    """One node on its way to a function: attributes are converted here, once."""

    node: Node
    opset: int
    values: Sequence[Tensor | None] = ()
    """Per input, its value where it is a constant."""
    shapes: Sequence[tuple[int, ...] | None] = ()
    """Per input, its shape in the file where it is known."""
    training: bool = False
    spread: int | None = None
    """The axis along which inputs of one sample are repeated for the batch."""

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return a number, a text, a list of them, or a tensor."""
        value = self.node.attribute(name, default)
        if isinstance(value, bytes):
            return value.decode()
        return tensor_of(value) if isinstance(value, TensorProto) else value

    def has(self, slot: int) -> bool:
        """Say whether an optional input is there."""
        return slot < len(self.node.inputs) and bool(self.node.inputs[slot])

    def shape(self, slot: int) -> tuple[int, ...] | None:
        """Return the shape of an input in the file, None where it is unknown."""
        return self.shapes[slot] if slot < len(self.shapes) else None

    def constant(self, slot: int) -> Tensor | None:
        """Return the value of an input that is known beforehand, None where it is left out.

        Raises:
            UnsupportedModelError: it is known only when the graph runs.
        """
        if not self.has(slot):
            return None
        value = self.values[slot]
        if value is None:
            raise self.unsupported(f"its input {slot} is computed while the graph runs")
        return value

    def integers(self, attribute: str, slot: int, default: Sequence[int] | None = None) -> list[int] | None:
        """Return a list of numbers that older operator sets have as an attribute, newer ones as an input."""
        given = self.attribute(attribute)
        if given is None:
            constant = self.constant(slot)
            given = default if constant is None else constant.reshape(-1).tolist()
        return None if given is None else [int(number) for number in given]

    def scalar(self, slot: int, default: float) -> float:
        """Return a single number that is a constant input."""
        value = self.constant(slot)
        return default if value is None else float(value.reshape(-1)[0])

    def unsupported(self, reason: str) -> UnsupportedModelError:
        """Return the error that says why a node cannot become a function."""
        return UnsupportedModelError(f"the {shown(self.node)} has no PyTorch equivalent here: {reason}")


def shown(node: Node) -> str:
    """Name a node in an error.

    >>> shown(Node("Relu", ["x"], ["y"]))
    "Relu that makes 'y'"
    """
    op = f"{node.domain}::{node.op}" if node.domain else node.op
    output = next(filter(None, node.outputs), "")
    return f"{op[:80]} that makes {output[:80]!r}"


def tensor_of(proto: TensorProto) -> Tensor:
    """Return a stored tensor as one of PyTorch.

    Raises:
        UnsupportedModelError: its type has no equivalent, or its bytes are not what its shape says.
    """
    dtype = DTYPES.get(proto.data_type)
    if dtype is None:
        known = proto.data_type in TensorProto.DataType.values()
        kind = TensorProto.DataType.Name(proto.data_type) if known else str(proto.data_type)
        raise UnsupportedModelError(f"the tensor {proto.name[:80]!r} is of type {kind}, which PyTorch lacks")
    try:
        array = onnx.numpy_helper.to_array(proto)
    except (TypeError, ValueError) as error:
        raise UnsupportedModelError(f"the tensor {proto.name[:80]!r} cannot be read: {error}") from error
    if dtype == torch.bfloat16:
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array)).to(dtype)  # a copy: stored bytes may not be written
