"""Networks put together from parts whose bytes, measures and canonical lines are made once.

The networks of a search space repeat themselves: a cell occurs many times in a network, an operation in many
cells. Here every repeated piece is a `Part`, written once with `GraphBuilder`; a `Sketch` wires parts into a
cell, and a `Chain` is parts and cells in a row. Because protobuf messages joined as bytes are merged when
parsed, putting a network together is joining prepared bytes; because canonical lines name what they read by
distance, so is its `graph_hash`. The result must equal what the general functions compute from the finished
model.

No simplification may reach across the border of a part, but for two. Equal operations without weights on the
same value are one operation in inference form, so such an operation is a part of its own. And what scales
channels vanishes into a convolution whose only reader it is: a piece knows its lines behind a convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import onnx
from onnx import ModelProto, NodeProto

from onnx_bench_dataset.graphs.build import IR_VERSION, OPSET, GraphBuilder, float_value
from onnx_bench_dataset.graphs.canonical import body_lines, header, lines_hash, operation_text
from onnx_bench_dataset.graphs.graph import Graph
from onnx_bench_dataset.graphs.measures import measures
from onnx_bench_dataset.graphs.simplify import simplify_graph

Shape = tuple[int, ...]

_OPEN = "\0"  # stands for a part's input until an instance names it


class Network(NamedTuple):
    """A finished network: its serialized `ModelProto` and what a row says of it."""

    onnx: bytes
    num_nodes: int
    num_params: int
    macs: int
    depth: int
    graph_hash: str

    def model(self) -> ModelProto:
        """Parse the graph."""
        model: ModelProto = ModelProto.FromString(self.onnx)
        return model


class Part:
    """A piece of a network with one data input and one output, under names yet to be chosen.

    `write` adds at least one operation to a builder, reading `builder.input`, and returns the output value.
    The names it uses are relative: an instance puts its own prefix before them.
    """

    def __init__(self, write: Callable[[GraphBuilder], str], input_shape: Shape) -> None:
        """Make the part for a float32 input of `input_shape`."""
        builder = GraphBuilder(input_shape, input_name=_OPEN)
        self._output = write(builder)
        self._nodes = builder.nodes
        self._weights = builder.weights
        self._node_bytes: dict[tuple[str, str, str], bytes] = {}
        self._input_bytes: dict[str, bytes] = {}
        self._line_texts: dict[int, str] = {}
        self.constants = {name: field(5, t.SerializeToString()) for name, t in builder.constants.items()}
        model = builder.model(self._output)
        self.output_shape: Shape = tuple(
            dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim
        )
        self.num_nodes, self.num_params, self.macs, self.depth = measures(model)
        self._lines = body_lines(simplify_graph(Graph.from_model(model)))
        self._lines_behind_conv = _lines_behind_conv(write, input_shape)
        self.is_absorbed = len(self._lines_behind_conv) < len(self._lines)
        self.has_weights = bool(builder.weights)
        self.ends_in_conv = self._lines[-1].startswith("Conv")

    def nodes(self, prefix: str, source: str, target: str) -> bytes:
        """Serialized nodes of an instance that reads the value `source` and makes `target`."""
        key = (prefix, source, target)
        found = self._node_bytes.get(key)
        if found is None:
            names = {_OPEN: source, self._output: target, **{name: name for name in self.constants}}
            found = b"".join(field(1, _renamed(node, prefix, names)) for node in self._nodes)
            self._node_bytes[key] = found
        return found

    def inputs(self, prefix: str) -> bytes:
        """Serialized graph inputs that declare an instance's weights."""
        found = self._input_bytes.get(prefix)
        if found is None:
            values = (float_value(prefix + name, shape) for name, shape in self._weights.items())
            found = b"".join(field(11, value.SerializeToString()) for value in values)
            self._input_bytes[prefix] = found
        return found

    def num_lines(self, behind_conv: bool = False) -> int:
        """Number of nodes in inference form."""
        return len(self._lines_behind_conv if behind_conv else self._lines)

    def lines(self, gap: int, behind_conv: bool = False) -> str:
        """Canonical lines, each after a newline, of an instance whose input was made `gap` lines ago.

        The distance is counted back from the instance's first line; 0 stands for the network's own input.
        `behind_conv` says that the instance is the only reader of a convolution, one line ago.
        """
        key = 0 if behind_conv else -1 - gap
        found = self._line_texts.get(key)
        if found is None:
            lines = self._lines_behind_conv if behind_conv else self._lines
            found = "".join(
                "\n" + (line.replace("$0", str(gap + index)) if gap else line)
                for index, line in enumerate(lines)
            )
            self._line_texts[key] = found
        return found


def _lines_behind_conv(write: Callable[[GraphBuilder], str], input_shape: Shape) -> list[str]:
    """Canonical lines of a part that is the only reader of a convolution, without the convolution's own."""
    builder = GraphBuilder(input_shape)
    builder.input = builder.conv(builder.input, "\0conv", input_shape[1], input_shape[1], 1)
    output = write(builder)
    builder.input = "input"
    return body_lines(simplify_graph(Graph.from_model(builder.model(output))))[1:]


def _renamed(node: NodeProto, prefix: str, names: Mapping[str, str]) -> bytes:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, prefix + name) for name in node.input]
    copy.output[:] = [names.get(name, prefix + name) for name in node.output]
    serialized: bytes = copy.SerializeToString(deterministic=True)
    return serialized


_Operation = tuple[str, tuple[tuple[str, int], ...]]  # operation and attributes


class _Step(NamedTuple):
    name: str
    sources: tuple[int, ...]
    part: Part | None  # None where `operation` joins several values
    number: int  # of the part, in the order of `Sketch.apply`
    operation: _Operation


class Sketch:
    """A cell as it is being wired: value 0 is its input, every `apply` and `join` makes the next value."""

    def __init__(self) -> None:
        """Begin with the input alone."""
        self._steps: list[_Step] = []
        self._num_parts = 0

    def apply(self, part: Part, source: int, name: str) -> int:
        """Put a part behind a value. Its weights are called `<cell>.<name>.<name in the part>`."""
        self._steps.append(_Step(name, (source,), part, self._num_parts, ("", ())))
        self._num_parts += 1
        return len(self._steps)

    def join(self, op_type: str, sources: Sequence[int], name: str, **attributes: int) -> int:
        """Join values with an operation without weights."""
        self._steps.append(_Step(name, tuple(sources), None, -1, (op_type, tuple(attributes.items()))))
        return len(self._steps)

    def sum(self, sources: Sequence[int], name: str) -> int:
        """Add values pairwise, from left to right, as `a + b + c` does."""
        total = sources[0]
        for count, source in enumerate(sources[1:], 1):
            last = count == len(sources) - 1
            total = self.join("Add", (total, source), name if last else f"{name}.{count}")
        return total

    def layout(self, output: int, prefix: str, source: str, target: str) -> Layout:
        """Finish the wiring: all that does not depend on the number of channels.

        `prefix` begins the name of every value and weight, `source` and `target` are the border values.
        """
        names = [source, *(prefix + step.name for step in self._steps)]
        if output:
            names[output] = target
        nodes = []
        prefixes = []
        depth = [0]
        for value, (name, sources, part, _, operation) in enumerate(self._steps, 1):
            if part is None:
                nodes.append(_join_node(operation, tuple([names[s] for s in sources]), names[value]))
                depth.append(max([depth[s] for s in sources]) + 1)
            else:
                prefixes.append(f"{prefix}{name}.")
                nodes.append(part.nodes(prefixes[-1], names[sources[0]], names[value]))
                depth.append(depth[sources[0]] + part.depth)
        lines = self._lines(output, behind_conv=False)
        return Layout(
            nodes=b"".join(nodes),
            depth=depth[output],
            num_joins=len(self._steps) - self._num_parts,
            prefixes=prefixes,
            lines=lines,
            lines_behind_conv=self._lines(output, behind_conv=True) if self._is_absorbed(output) else lines,
            passes_input=not output,
        )

    def _lines(self, output: int, behind_conv: bool) -> Lines:
        """List the canonical lines; `behind_conv` is for an absorbed cell that alone reads a convolution."""
        position = {0: -1}  # value -> line that makes it
        made: dict[tuple[object, ...], int] = {}  # operation without weights and lines it reads -> its line
        steps: list[tuple[int, int, bool] | str] = []
        count = 0

        def visit(value: int) -> None:
            nonlocal count
            _, sources, part, number, operation = self._steps[value - 1]
            for source in sources:
                if source not in position:
                    visit(source)
            reads = tuple([position[source] for source in sources])
            key = (part or operation, *reads)
            if key in made:
                position[value] = made[key]
                return
            if part is None:
                distances = ",".join([str(count - line) for line in reads])
                steps.append(f"\n{_join_text(operation)}({distances})")
                count += 1
            else:
                absorbed = behind_conv and sources[0] == 0
                steps.append((number, count - reads[0], absorbed))
                count += part.num_lines(absorbed)
            position[value] = count - 1
            if part is None or not part.has_weights:
                made[key] = count - 1

        if output:
            visit(output)
        return Lines(steps, self._ends_in_conv(output) or (count == 0 and output > 0))

    def _is_absorbed(self, output: int) -> bool:
        """Whether all that `output` reads of the cell's input is one part that a convolution absorbs."""
        live = {output}
        readers = set()
        for value in range(output, 0, -1):
            step = self._steps[value - 1]
            if value in live:
                live.update(step.sources)
                if 0 in step.sources:
                    readers.add(value)
        parts = [self._steps[value - 1].part for value in readers]
        return len(parts) == 1 and parts[0] is not None and parts[0].is_absorbed

    def _ends_in_conv(self, output: int) -> bool:
        part = self._steps[output - 1].part if output else None
        return part is not None and part.ends_in_conv


class Lines(NamedTuple):
    """Canonical lines in order: the text of a join, or (number of a part, gap to its input, absorbed).

    `ends_in_conv` says that the last line is a convolution that nothing in the cell reads.
    """

    steps: list[tuple[int, int, bool] | str]
    ends_in_conv: bool

    def text(self, parts: Sequence[Part]) -> str:
        """Write the lines for parts of given channels."""
        return "".join(
            [step if isinstance(step, str) else parts[step[0]].lines(step[1], step[2]) for step in self.steps]
        )


@lru_cache(maxsize=65536)
def _join_node(operation: _Operation, inputs: tuple[str, ...], output: str) -> bytes:
    node = _join(operation, inputs, [output])
    return field(1, node.SerializeToString(deterministic=True))


@lru_cache(maxsize=64)
def _join_text(operation: _Operation) -> str:
    return operation_text(_join(operation, [], []), OPSET)


def _join(operation: _Operation, inputs: Sequence[str], outputs: Sequence[str]) -> NodeProto:
    op_type, attributes = operation
    node = onnx.helper.make_node(op_type, inputs, outputs)
    node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes)
    return node


@dataclass(frozen=True, slots=True)
class Layout:
    """A wired cell without numbers of channels; `cell` puts parts of given channels into it."""

    nodes: bytes
    depth: int
    num_joins: int
    prefixes: list[str]
    lines: Lines
    lines_behind_conv: Lines
    passes_input: bool

    def cell(self, parts: Sequence[Part]) -> Cell:
        """Return the cell made of `parts`, one for every `Sketch.apply`, in that order."""
        constants: dict[str, bytes] = {}
        for part in parts:
            if part.constants:
                constants.update(part.constants)
        lines = self.lines.text(parts)
        return Cell(
            nodes=self.nodes,
            inputs=b"".join([part.inputs(prefix) for part, prefix in zip(parts, self.prefixes, strict=True)]),
            constants=constants,
            lines=lines,
            lines_behind_conv=lines
            if self.lines_behind_conv is self.lines
            else self.lines_behind_conv.text(parts),
            ends_in_conv=self.lines.ends_in_conv,
            ends_in_conv_behind_conv=self.lines_behind_conv.ends_in_conv,
            num_nodes=sum([part.num_nodes for part in parts]) + self.num_joins,
            num_params=sum([part.num_params for part in parts]),
            macs=sum([part.macs for part in parts]),
            depth=self.depth,
            passes_input=self.passes_input,
        )


class Cell(NamedTuple):
    """What a cell contributes to a network wherever it is put.

    Its names hold marks, which `Chain.add_cell` replaces by names of the same length. A cell may pass its
    input on as its output, and may all the same hold nodes, on which nothing depends then.
    """

    nodes: bytes
    inputs: bytes
    constants: dict[str, bytes]
    lines: str
    lines_behind_conv: str
    ends_in_conv: bool
    ends_in_conv_behind_conv: bool
    num_nodes: int
    num_params: int
    macs: int
    depth: int
    passes_input: bool


class Chain:
    """A network as a row of parts and cells, each reading what the one before it made."""

    def __init__(self, input_shape: Shape) -> None:
        """Begin with the float32 data input `input`."""
        self._input_shape = input_shape
        self._value = "input"
        self._nodes: list[bytes] = []
        self._inputs: list[bytes] = []
        self._constants: dict[str, bytes] = {}
        self._lines: list[str] = []
        self._ends_in_conv = False
        self._num_nodes = self._num_params = self._macs = self._depth = 0

    @property
    def value(self) -> str:
        """Name of the value made last."""
        return self._value

    def add(self, part: Part, prefix: str, target: str) -> None:
        """Append a part whose names begin with `prefix` and whose output is called `target`."""
        self._nodes.append(part.nodes(prefix, self._value, target))
        self._inputs.append(part.inputs(prefix))
        self._constants.update(part.constants)
        self._lines.append(part.lines(1 if self._lines else 0, self._ends_in_conv and part.is_absorbed))
        self._ends_in_conv = part.ends_in_conv
        self._count(part)
        self._value = target

    def add_cell(self, cell: Cell, marks: Mapping[bytes, bytes], target: str) -> None:
        """Append a cell, its marks replaced by names of the same length, whose output is called `target`."""
        nodes, inputs = cell.nodes, cell.inputs
        for mark, name in marks.items():
            nodes, inputs = nodes.replace(mark, name), inputs.replace(mark, name)
        self._nodes.append(nodes)
        self._inputs.append(inputs)
        self._constants.update(cell.constants)
        self._count(cell)
        if cell.passes_input:
            return
        self._value = target
        if self._ends_in_conv:
            self._lines.append(cell.lines_behind_conv)
            self._ends_in_conv = cell.ends_in_conv_behind_conv
        else:
            self._lines.append(cell.lines)
            self._ends_in_conv = cell.ends_in_conv

    def _count(self, piece: Part | Cell) -> None:
        self._num_nodes += piece.num_nodes
        self._num_params += piece.num_params
        self._macs += piece.macs
        self._depth += piece.depth

    def finish(self, output_shape: Shape, metadata: Mapping[str, str]) -> Network:
        """Return the finished network; what was appended last must be called `output`."""
        return Network(
            onnx=b"".join(
                [
                    _MODEL_HEAD,
                    field(
                        7,
                        b"".join(
                            [
                                *self._nodes,
                                _GRAPH_NAME,
                                *[self._constants[name] for name in sorted(self._constants)],
                                _value_field(11, "input", self._input_shape),
                                *self._inputs,
                                _value_field(12, "output", output_shape),
                            ]
                        ),
                    ),
                    _OPSET_IMPORT,
                    *[_metadata_field(key, value) for key, value in metadata.items()],
                ]
            ),
            num_nodes=self._num_nodes,
            num_params=self._num_params,
            macs=self._macs,
            depth=self._depth,
            graph_hash=lines_hash(_header(self._input_shape) + "".join(self._lines) + "\noutput 1"),
        )


def field(number: int, payload: bytes) -> bytes:
    """Return a length-delimited protobuf field (wire type 2)."""
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


# Field numbers of onnx.proto: ModelProto 7 graph, 8 opset_import, 14 metadata_props; GraphProto 1 node,
# 2 name, 5 initializer, 11 input, 12 output.
_MODEL_HEAD = ModelProto(ir_version=IR_VERSION, producer_name="onnx-bench").SerializeToString()
_GRAPH_NAME = field(2, b"graph")
_OPSET_IMPORT = field(8, onnx.helper.make_opsetid("", OPSET).SerializeToString())


def _metadata_field(key: str, value: str) -> bytes:
    return field(14, field(1, key.encode()) + field(2, value.encode()))


@lru_cache(maxsize=64)
def _value_field(number: int, name: str, shape: Shape) -> bytes:
    return field(number, float_value(name, shape).SerializeToString())


@lru_cache(maxsize=64)
def _header(input_shape: Shape) -> str:
    return header({"": OPSET}, [float_value("input", input_shape)])
