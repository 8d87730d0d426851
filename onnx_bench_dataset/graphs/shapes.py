"""Element types and shapes of the values in a `Graph`, inferred only once somebody asks.

What inference proves comes before what the file declares about its inner values: a file may declare what it
likes there and still run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import onnx
from onnx import NodeProto, TensorProto, TypeProto, ValueInfoProto

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.graph import Graph, Node

Shape = tuple[int | str | None, ...]
"""Per dimension its size, the name of a size that is known only when the graph runs, or None."""

LARGE = 1024
"""Initializers with more elements than this are never read as shapes, so inference sees only their type."""


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
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim
    )
    return TensorType(tensor.elem_type, shape, static(shape))


_NO_TYPES = (
    onnx.defs.SchemaError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    TypeError,
    ValueError,
    RuntimeError,
)
"""What inference raises for nodes that break the rules of ONNX."""


def static(shape: Shape | None) -> tuple[int, ...] | None:
    """Return the shape with plain numbers when it is static, else None."""
    if shape is None:
        return None
    sizes = tuple([size for size in shape if isinstance(size, int) and size >= 0])
    return sizes if len(sizes) == len(shape) else None


def infer_types(graph: Graph, *, strict: bool = False) -> dict[str, TypeProto]:
    """Infer the types of every value; declared types of inner values are not used.

    Shapes that depend on computed numbers stay unknown: ONNX can follow those, but takes memory in proportion
    to the sizes it meets on the way. Folding constants and `ValueTypes.refine` find them out instead.

    Raises:
        UnsupportedModelError: the graph contradicts itself and `strict` is set.
    """
    large = {
        name: onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
        for name, tensor in graph.initializers.items()
        if _is_large(tensor)
    }
    small = {name: tensor for name, tensor in graph.initializers.items() if name not in large}
    light = replace(graph, inputs={**graph.inputs, **large}, initializers=small, values={})
    try:
        model = onnx.shape_inference.infer_shapes(light.to_model(), strict_mode=strict)
    except _NO_TYPES as error:
        if strict:
            raise UnsupportedModelError(f"shape inference rejects the graph: {error}") from error
        return {}
    known: Iterable[ValueInfoProto] = (*model.graph.value_info, *model.graph.output)
    return {value.name: value.type for value in known}


def node_proto(node: Node) -> NodeProto:
    """Write one node the way ONNX's own functions want it."""
    proto = NodeProto(op_type=node.op, domain=node.domain, input=node.inputs, output=node.outputs)
    proto.attribute.extend(node.attributes.values())
    return proto


def _is_large(tensor: TensorProto) -> bool:
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size > LARGE or tensor.data_location == TensorProto.EXTERNAL


class ValueTypes:
    """Types of a graph that is being rewritten: what is known of a name stays true while nodes vanish."""

    def __init__(self, graph: Graph) -> None:
        """Read nothing yet."""
        self._graph = graph
        self._known: dict[str, TensorType] = {}
        self._inferred: dict[str, TypeProto] | None = None

    @property
    def in_use(self) -> bool:
        """Whether inference has run."""
        return self._inferred is not None

    def of(self, name: str) -> TensorType:
        """Return what is known of a value."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._find(name)
        return known

    def forget(self, name: str) -> None:
        """Look again next time: the name now stands for another tensor."""
        self._known.pop(name, None)

    def _find(self, name: str) -> TensorType:
        tensor = self._graph.initializers.get(name)
        if tensor is not None:
            return TensorType(tensor.data_type, tuple(tensor.dims), tuple(tensor.dims))
        declared = self._declared(name)
        return UNKNOWN if declared is None else tensor_type(declared)

    def _declared(self, name: str) -> TypeProto | None:
        value = self._graph.inputs.get(name)
        if value is not None:
            return value.type
        if self._inferred is None:
            self._inferred = infer_types(self._graph)
        inferred = self._inferred.get(name)
        if inferred is not None and inferred.WhichOneof("value") is not None:
            return inferred
        value = self._graph.values.get(name)
        return None if value is None else value.type

    def refine(self, node: Node) -> list[str]:
        """Infer one node anew after a constant became known; return its outputs whose shape is now known."""
        if self._inferred is None:
            return []
        unknown = [name for name in node.outputs if name and self.of(name).sizes is None]
        if not unknown:
            return []
        inferred = self._infer_node(node)
        improved = [n for n in unknown if n in inferred and tensor_type(inferred[n]).sizes is not None]
        for name in improved:
            self._inferred[name] = inferred[name]
            self.forget(name)
        return improved

    def _infer_node(self, node: Node) -> dict[str, TypeProto]:
        inputs, data = {}, {}
        for name in filter(None, node.inputs):
            tensor = self._graph.initializers.get(name)
            if tensor is not None:
                inputs[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
                if not _is_large(tensor):
                    data[name] = tensor
            elif (declared := self._declared(name)) is not None:
                inputs[name] = declared
            else:
                return {}
        opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in self._graph.opsets.items()]
        try:
            schema = onnx.defs.get_schema(node.op, self._graph.opsets.get(node.domain, 1), node.domain)
            return onnx.shape_inference.infer_node_outputs(
                schema, node_proto(node), inputs, data, opset_imports=opsets
            )
        except _NO_TYPES:
            return {}
