"""The canonical form of a graph: the same lines for graphs that differ only in names and node order.

Nodes are listed in the order in which a depth-first walk from the outputs, along the ordered inputs, finishes
them, and each names what it reads by distance: `1` is the line before. That is unique for a graph, takes
linear time, and makes every repetition of a cell literally the same lines. Weights appear as type and shape,
constants by value, attributes without those that state a default. `graph_hash` is the digest of these lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.graph import DEFAULT_DOMAIN, Graph, Node
from onnx_bench_dataset.graphs.simplify import simplify_graph
from onnx_bench_dataset.graphs.weights import weight_names

_VALUES_SHOWN = 64  # larger constants appear as a digest


def graph_hash(model: ModelProto) -> str:
    """Return 32 hexadecimal digits that name the structure of a model, whatever its weights are.

    Equal for models whose inference forms differ only in names, in the order of nodes, in weights' values, or
    in stating an attribute's default; different otherwise (order of inputs, attributes, shapes, edges).

    Raises:
        UnsupportedModelError: the model has control flow, a cycle or values that nothing produces.

    >>> from onnx_bench_dataset.graphs.build import GraphBuilder
    >>> g = GraphBuilder((1, 3, 8, 8)); h = GraphBuilder((1, 3, 8, 8), input_name="x")
    >>> a = g.model(g.conv(g.input, "a", 3, 4, 1)); b = h.model(h.conv(h.input, "b", 3, 4, 1))
    >>> graph_hash(a) == graph_hash(b)
    True
    """
    return hash_graph(Graph.from_model(model))


def hash_graph(graph: Graph) -> str:
    """Return the `graph_hash` of a graph, which is brought into inference form on the way."""
    return lines_hash("\n".join(canonical_lines(simplify_graph(graph))))


def lines_hash(lines: str) -> str:
    """Return the digest that `graph_hash` gives to canonical lines, joined by newlines."""
    return hashlib.sha256(lines.encode()).hexdigest()[:32]


def canonical_lines(graph: Graph) -> list[str]:
    """Return a header, a line a node and a footer; `graph` must be in inference form already."""
    weights = frozenset(weight_names(graph))
    data = [name for name in graph.inputs if name not in weights]
    body, reference = _body(graph, weights, data)
    return [
        header(graph.opsets, [graph.inputs[name] for name in data]),
        *body,
        "output " + " ".join(reference(name, len(body), None) for name in graph.outputs),
    ]


def header(opsets: dict[str, int], inputs: list[ValueInfoProto]) -> str:
    """Return the first line: operator set versions, then type and shape of the data inputs."""
    versions = " ".join(f"{domain or 'ai.onnx'}={opsets[domain]}" for domain in sorted(opsets))
    return " ".join([f"opset {versions}", "input", *map(_value_type, inputs)])


def body_lines(graph: Graph) -> list[str]:
    """Return the lines of the nodes alone; the k-th data input is written `$k`."""
    weights = frozenset(weight_names(graph))
    return _body(graph, weights, [name for name in graph.inputs if name not in weights])[0]


def _body(
    graph: Graph, weights: frozenset[str], data: list[str]
) -> tuple[list[str], Callable[[str, int, int | None], str]]:
    """Return the lines, and what writes the reference to a value from a given line and input slot."""
    inputs = {name: f"${index}" for index, name in enumerate(data)}
    position: dict[str, tuple[int, int]] = {}  # value -> (line, which output)
    first_use: dict[str, tuple[int, int]] = {}  # weight -> (line, which input)

    def reference(name: str, line: int, slot: int | None) -> str:
        if not name:
            return "_"
        if name in position:
            source, output = position[name]
            return f"{line - source}:{output}" if output else str(line - source)
        if name in weights:
            source, used = first_use.setdefault(name, (line, -1 if slot is None else slot))
            if (source, used) != (line, slot):
                return f"w{line - source}.{used}"
            return f"w{_weight_type(graph, name)}"
        if name in inputs:
            return inputs[name]
        return _constant(graph.initializers[name])

    lines = []
    for line, node in enumerate(graph.reachable()):
        names = node.inputs
        while names and not names[-1]:
            names = names[:-1]
        arguments = ",".join(reference(name, line, slot) for slot, name in enumerate(names))
        lines.append(f"{_operation(node, graph)}({arguments})")
        for output, name in enumerate(node.outputs):
            if name:
                position[name] = (line, output)
    return lines, reference


def operation_text(node: NodeProto, opset: int) -> str:
    """Return how lines write the operation and attributes of a node of the ONNX standard."""
    graph = Graph.from_model(
        onnx.helper.make_model(GraphProto(), opset_imports=[onnx.helper.make_opsetid("", opset)])
    )
    attributes = {attribute.name: attribute for attribute in node.attribute}
    return _operation(Node(node.op_type, list(node.input), list(node.output), attributes), graph)


def _operation(node: Node, graph: Graph) -> str:
    op = node.op if node.domain == DEFAULT_DOMAIN else f"{node.domain}::{node.op}"
    defaults = _default_attributes(node.domain, node.op, graph.opsets.get(node.domain, 1))
    weight = node.inputs[1] if len(node.inputs) > 1 else ""
    stated = [
        f"{name}={_attribute(attribute)}"
        for name, attribute in sorted(node.attributes.items())
        if attribute.SerializeToString(deterministic=True) != defaults.get(name)
        and not _is_implied(node.op, attribute, lambda: _weight_shape(graph, weight))
    ]
    return f"{op} {' '.join(stated)}" if stated else op


@lru_cache(maxsize=4096)
def _default_attributes(domain: str, op: str, version: int) -> dict[str, bytes]:
    """Serialized default attributes of an operation, by name; empty for operations outside the standard."""
    try:
        schema = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return {}
    return {
        name: attribute.default_value.SerializeToString(deterministic=True)
        for name, attribute in schema.attributes.items()
        if attribute.default_value.name
    }


_WINDOW_OPERATIONS = frozenset(
    {"Conv", "ConvTranspose", "AveragePool", "MaxPool", "LpPool", "ConvInteger", "QLinearConv"}
)


def _is_implied(op: str, attribute: AttributeProto, weight_shape: Callable[[], list[int]]) -> bool:
    """Whether the standard implies this value of a window's attribute where it is left out."""
    if op not in _WINDOW_OPERATIONS:
        return False
    match attribute.name:
        case "strides" | "dilations":
            return all(value == 1 for value in attribute.ints)
        case "pads":
            return all(value == 0 for value in attribute.ints)
        case "kernel_shape" if op in ("Conv", "ConvTranspose"):
            return weight_shape()[2:] == list(attribute.ints)
    return False


def _weight_shape(graph: Graph, name: str) -> list[int]:
    if name in graph.initializers:
        return list(graph.initializers[name].dims)
    if name in graph.inputs:
        return [dim.dim_value for dim in graph.inputs[name].type.tensor_type.shape.dim]
    return []


def _attribute(attribute: AttributeProto) -> str:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        return _constant(value)
    if isinstance(value, bytes):
        return json.dumps(value.decode("latin-1"))
    if isinstance(value, int | float):
        return repr(value)
    if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS):
        return f"[{','.join(map(repr, value))}]"
    if attribute.type == AttributeProto.STRINGS:
        return f"[{','.join(json.dumps(text.decode('latin-1')) for text in value)}]"
    return hashlib.sha256(attribute.SerializeToString(deterministic=True)).hexdigest()


def _constant(tensor: TensorProto) -> str:
    if tensor.data_location == TensorProto.EXTERNAL:
        raise UnsupportedModelError(f"tensor {tensor.name!r} is stored in another file; load it first")
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # onnx raises whatever its decoding trips over
        raise UnsupportedModelError(f"tensor {tensor.name!r} cannot be read: {error}") from error
    kind = f"c{_type_name(tensor.data_type)}[{','.join(map(str, array.shape))}]"
    if array.size <= _VALUES_SHOWN and array.dtype.kind in "biuf":
        return f"{kind}:{','.join(map(repr, array.ravel().tolist()))}"
    content = array.astype(str) if array.dtype == object else array
    return f"{kind}#{hashlib.sha256(np.ascontiguousarray(content).tobytes()).hexdigest()[:32]}"


def _weight_type(graph: Graph, name: str) -> str:
    if name in graph.initializers:
        tensor = graph.initializers[name]
        return f"{_type_name(tensor.data_type)}[{','.join(map(str, tensor.dims))}]"
    return _value_type(graph.inputs[name])


def _value_type(value: ValueInfoProto) -> str:
    if not value.type.HasField("tensor_type"):
        return value.type.WhichOneof("value") or "any"
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return _type_name(tensor.elem_type)
    dims = [
        dim.dim_param or str(dim.dim_value) if dim.WhichOneof("value") else "?" for dim in tensor.shape.dim
    ]
    return f"{_type_name(tensor.elem_type)}[{','.join(dims)}]"


@lru_cache(maxsize=64)
def _type_name(data_type: int) -> str:
    try:
        name: str = TensorProto.DataType.Name(data_type)
    except ValueError as error:
        raise UnsupportedModelError(f"unknown tensor type {data_type}") from error
    return name.lower()
