"""What ONNX's shape inference says of the values in a graph, asked only when somebody needs to know.

What inference proves comes before what the file declares about inner values and outputs: a file may declare
what it likes there and still run. ONNX's inference takes memory in proportion to the sizes that it meets when
it follows computed numbers, and aborts the process on a Slice of a negative size (what a window larger than
its input makes); so computed numbers are followed by folding constants, every Slice is looked at by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import onnx
from onnx import NodeProto, TensorProto, TypeProto, ValueInfoProto

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.graph import Graph, Node
from onnx_bench_dataset.graphs.shapes import UNKNOWN, TensorType, tensor_type

LARGE = 1024
"""Initializers with more elements than this are never read as shapes, so inference sees only their type."""

_REJECTIONS = (
    onnx.defs.SchemaError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    TypeError,
    ValueError,
    RuntimeError,
)
"""What inference raises for nodes that break the rules of ONNX."""


def infer_types(graph: Graph, *, strict: bool = False) -> dict[str, TypeProto]:
    """Infer the types of every value from the graph inputs and the initializers alone.

    Raises:
        UnsupportedModelError: a tensor has a negative size, or `strict` is set and the graph contradicts
            itself.
    """
    for name, tensor in graph.initializers.items():
        if any(size < 0 for size in tensor.dims):
            raise UnsupportedModelError(f"the initializer {name!r} has a negative size")
    has_slices = any(node.op == "Slice" for node in graph.nodes)
    try:
        types = _infer_without_slices(graph, strict and not has_slices)
    except _REJECTIONS as error:
        if strict:
            raise UnsupportedModelError(f"shape inference rejects the graph: {error}") from error
        types = {}
    if has_slices:
        _infer_rest(graph, types, strict)
    return types


def _infer_without_slices(graph: Graph, strict: bool) -> dict[str, TypeProto]:
    """Infer the whole graph at once; what depends on a Slice stays unknown."""
    large = {
        name: onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
        for name, tensor in graph.initializers.items()
        if _is_large(tensor)
    }
    inputs = {name: _plausible(value) for name, value in graph.inputs.items()}
    light = replace(
        graph,
        nodes=[node for node in graph.nodes if node.op != "Slice"],
        inputs={**inputs, **large},
        outputs={name: _without_shape(value) for name, value in graph.outputs.items()},
        initializers={name: tensor for name, tensor in graph.initializers.items() if name not in large},
        values={},
    )
    model = onnx.shape_inference.infer_shapes(light.to_model(), strict_mode=strict)
    known: Iterable[ValueInfoProto] = (*model.graph.value_info, *model.graph.output)
    return {value.name: value.type for value in known}


def _infer_rest(graph: Graph, types: dict[str, TypeProto], strict: bool) -> None:
    """Add the types that are still unknown because they depend on a Slice, node by node."""

    def declared(name: str) -> TypeProto | None:
        value = graph.inputs.get(name)
        return types.get(name) if value is None else value.type

    for node in graph.nodes:
        if any(name not in types or tensor_type(types[name]).sizes is None for name in node.outputs if name):
            try:
                types.update(_infer_node(graph, node, declared))
            except _REJECTIONS as error:
                if strict:
                    raise UnsupportedModelError(f"shape inference rejects the {node.op}: {error}") from error


def _infer_node(
    graph: Graph, node: Node, declared: Callable[[str], TypeProto | None]
) -> dict[str, TypeProto]:
    """Infer the outputs of one node; an input of unknown or impossible type leaves them unknown."""
    inputs, data = {}, {}
    for name in filter(None, node.inputs):
        tensor = graph.initializers.get(name)
        known = None if tensor is not None else declared(name)
        if tensor is not None:
            inputs[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            if not _is_large(tensor):
                data[name] = tensor
        elif known is not None and _is_plausible(known):
            inputs[name] = known
        else:
            return {}
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    schema = onnx.defs.get_schema(node.op, graph.opsets.get(node.domain, 1), node.domain)
    return onnx.shape_inference.infer_node_outputs(
        schema, node_proto(node), inputs, data, opset_imports=opsets, ir_version=max(graph.ir_version, 4)
    )


def _is_plausible(declared: TypeProto) -> bool:
    return all(dim.dim_value >= 0 for dim in declared.tensor_type.shape.dim)


def _plausible(value: ValueInfoProto) -> ValueInfoProto:
    """Take negative sizes out of a declaration; some files write -1 for a size that is unknown."""
    if _is_plausible(value.type):
        return value
    element_type, shape, _ = tensor_type(value.type)
    return onnx.helper.make_tensor_value_info(value.name, element_type, shape)


def _without_shape(value: ValueInfoProto) -> ValueInfoProto:
    """Let inference find out the shape of an output; a runtime does not mind a wrong declaration."""
    if not value.type.HasField("tensor_type"):
        return value
    return onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None)


def _is_large(tensor: TensorProto) -> bool:
    return math.prod(tensor.dims) > LARGE or tensor.data_location == TensorProto.EXTERNAL


def node_proto(node: Node) -> NodeProto:
    """Write one node the way ONNX's own functions want it."""
    proto = NodeProto(op_type=node.op, domain=node.domain, input=node.inputs, output=node.outputs)
    proto.attribute.extend(node.attributes.values())
    return proto


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

    def start_over(self) -> None:
        """Have the graph as it is now inferred again, if what was inferred left anything unknown."""
        if self.in_use and any(
            name and self.of(name).sizes is None for node in self._graph.nodes for name in node.outputs
        ):
            self._known.clear()
            self._inferred = None

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
        try:
            inferred = _infer_node(self._graph, node, self._declared)
        except _REJECTIONS:
            return []
        improved = [n for n in unknown if n in inferred and tensor_type(inferred[n]).sizes is not None]
        for name in improved:
            self._inferred[name] = inferred[name]
            self.forget(name)
        return improved
