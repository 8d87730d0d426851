"""A picture of any network, from its text: an operation a node, and blocks that recur drawn once.

The text is folded already (`text.fold`), so the network is a panel in which a block is one node, with how
often it is used in a row, and each block is a panel of its own. Sizes that differ from use to use have the
letters of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnx import AttributeProto, TypeProto

from onnx_bench_dataset.drawing.diagram import Diagram, Edge, Kind, Node, Panel
from onnx_bench_dataset.text.cursor import Size
from onnx_bench_dataset.text.fold import MAX_OPERATIONS
from onnx_bench_dataset.text.operations import Input, Operation, Reference, Value, Weight
from onnx_bench_dataset.text.parse import Block, Text, Use, parse

_LONGEST_LABEL = 28  # characters

_NAMES = {
    Kind.ACTIVATION: "Celu Clip Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Selu Sigmoid "
    "Softplus Softsign Swish Tanh ThresholdedRelu",
    Kind.NORM: "BatchNormalization GroupNormalization InstanceNormalization LayerNormalization "
    "LpNormalization LRN MeanVarianceNormalization RMSNormalization",
    Kind.SHAPE: "Cast Concat DepthToSpace Expand Flatten Gather Identity Pad Reshape Resize Shape Slice "
    "SpaceToDepth Split Squeeze Tile Transpose Unsqueeze",
    Kind.SOFTMAX: "Softmax LogSoftmax",
    Kind.ARITHMETIC: "Abs Exp Log Max Min Neg Pow Reciprocal ReduceMax ReduceMean ReduceSum Sqrt",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_CONVOLUTIONS = ("Conv", "ConvTranspose", "ConvInteger")
_SIGNS = {"Add": "+", "Sum": "+", "Sub": "−", "Mul": "×", "Div": "÷"}
_SHORT = {
    "Relu": "ReLU",
    "BatchNormalization": "batch norm",
    "GroupNormalization": "group norm",
    "InstanceNormalization": "instance norm",
    "LayerNormalization": "layer norm",
    "RMSNormalization": "RMS norm",
    "GlobalAveragePool": "global average pool",
    "GlobalMaxPool": "global max pool",
    "AveragePool": "average pool",
    "MaxPool": "max pool",
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceSum": "sum",
}


def network_diagram(text: str) -> Diagram:
    """Return how a network is drawn, by its text in the style `onnx-net`.

    Raises:
        TextError: it is not such a text.

    >>> lines = ["onnx-net 1", "opset 18", "input [1,8]", "Relu $0", "Gemm 1 w[2,8] transB=1", "output 1"]
    >>> [node.label for node in network_diagram("\\n".join(lines)).panels[0].nodes]
    ['input 8', 'ReLU', 'linear 2', 'output']
    """
    parsed = parse(text)
    blocks = [_block_panel(name, block) for name, block in parsed.blocks.items()]
    return Diagram([_main_panel(parsed), *blocks], has_legend=True)


class _Wiring:
    """Nodes, and the edges to what they read; the node of every operation so far is known."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.edges: dict[tuple[int, int], None] = {}
        self.done: list[int] = []
        """The node that stands for each operation."""
        self._entries: dict[str, int] = {}

    def add(self, node: Node, sources: Iterable[int], num_operations: int = 0) -> None:
        """Add a node that stands for so many operations."""
        self.nodes.append(node)
        number = len(self.nodes) - 1
        self.edges.update(((source, number), None) for source in sources)
        self.done += [number] * num_operations

    def entry(self, label: str) -> int:
        """Return the node of a value that comes from outside."""
        if label not in self._entries:
            self._entries[label] = len(self.nodes)
            self.nodes.append(Node(label))
        return self._entries[label]

    def panel(self, title: str) -> Panel:
        """Return the panel."""
        return Panel(self.nodes, [Edge(*ends) for ends in self.edges], title)


def _main_panel(parsed: Text) -> Panel:
    wiring = _Wiring()

    def source(value: Value, line: int, behind: int = 0) -> int | None:
        """Return the node that a value is read from, by an operation so far `behind` the next one."""
        if isinstance(value, Input):
            if value.number >= len(parsed.inputs):
                raise parsed.error(line, 0, f"there is no data input {value.number}")
            return wiring.entry(_input_label(parsed.inputs, value.number))
        if not isinstance(value, Reference) or value.distance <= behind:
            return None
        if value.distance - behind > len(wiring.done):
            raise parsed.error(line, 0, f"there are no {value.distance} operations before this one")
        return wiring.done[behind - value.distance]

    for line, item in parsed.items:
        if isinstance(item, Use):
            if item.block not in parsed.blocks:
                raise parsed.error(line, 1, f"no block is called {item.block}")
            node = Node(_use_label(item), Kind.BLOCK)
            operations = [operation for _, operation in parsed.blocks[item.block].operations]
            count = item.times * len(operations)
        else:
            node, operations, count = operation_node(item), [item], 1
        if len(wiring.done) + count > MAX_OPERATIONS:
            raise parsed.error(line, 0, f"the text has more than {MAX_OPERATIONS:,} operations")
        reads = [
            source(value, line, behind)
            for number, operation in enumerate(operations)
            for value in operation.values
            for behind in range(number, _reach(value, count), len(operations))
        ]
        wiring.add(node, [place for place in reads if place is not None], count)
    last = [source(value, len(parsed.lines)) for value in parsed.outputs.values]
    for place in last:
        if place is not None:
            wiring.add(Node("output"), [place])
    return wiring.panel("network" if parsed.blocks else "")


def _reach(value: Value, count: int) -> int:
    """Return before which of `count` operations a value may stand that is read from outside them."""
    if isinstance(value, Reference):
        return min(count, value.distance)
    return count if isinstance(value, Input) else 0


def _block_panel(name: str, block: Block) -> Panel:
    wiring = _Wiring()
    for number, (_, operation) in enumerate(block.operations):
        reads = []
        for value in operation.values:
            if isinstance(value, Input):
                reads.append(wiring.entry(f"input {value.number}"))
            elif isinstance(value, Reference) and 0 < value.distance <= number:
                reads.append(wiring.done[-value.distance])
            elif isinstance(value, Reference):
                before = value.distance - number
                reads.append(wiring.entry("in" if before == 1 else f"{before} before"))
        wiring.add(operation_node(operation), reads, 1)
    parameters = f"({', '.join(block.parameters)})" if block.parameters else ""
    return wiring.panel(f"{name}{parameters}")


def _use_label(use: Use) -> str:
    arguments = f"({', '.join(map(str, use.arguments))})" if use.arguments else ""
    times = f"  ×{use.times:,}" if use.times > 1 else ""
    return _shortened(f"block {use.block}{arguments}") + times


def _input_label(types: Sequence[TypeProto], number: int) -> str:
    tensor = types[number].tensor_type
    sizes = [str(dim.dim_value) if dim.HasField("dim_value") else "?" for dim in tensor.shape.dim]
    return _shortened(f"input {'×'.join(sizes[1:] or sizes)}".strip())


def operation_node(operation: Operation) -> Node:
    """Return the node of an operation: its name, kernel and number of channels, in its colour."""
    op = operation.op
    weight = next((value for value in operation.values if isinstance(value, Weight)), None)
    num_read = sum(isinstance(value, (Reference, Input)) for value in operation.values)
    if op in _CONVOLUTIONS and weight is not None and len(weight.dims) > 2:
        return _convolution(operation, weight.dims)
    if op in ("Gemm", "MatMul") and weight is not None and len(weight.dims) == 2:
        transposed = op == "Gemm" and _integers(operation, "transB") == [1]
        return Node(f"linear {_written(weight.dims[0 if transposed else 1])}", Kind.LINEAR)
    if op in ("Gemm", "MatMul", "Einsum"):
        return Node({"Gemm": "matmul"}.get(op, op.lower()), Kind.LINEAR)
    if op in _SIGNS:
        return Node(
            _SIGNS[op] if num_read > 1 else f"{_SIGNS[op]} {'weight' if weight else 'constant'}",
            Kind.ARITHMETIC,
        )
    label = _SHORT.get(op, op)
    if op.endswith("Pool"):
        kernel, strides = _integers(operation, "kernel_shape"), _integers(operation, "strides")
        label = " ".join([label, *_sizes(kernel), *_stride(strides)])
        return Node(label, Kind.MAX_POOL if "Max" in op else Kind.AVERAGE_POOL)
    return Node(_shortened(label), _KINDS.get(op, Kind.OTHER))


def convolution_kind(kernel: Sequence[int | str], is_depthwise: bool, is_dilated: bool) -> Kind:
    """Return the kind of a convolution."""
    numbers = [size for size in kernel if isinstance(size, int)]
    largest = max(numbers, default=0)
    if is_dilated:
        return Kind.DILATED_3X3 if largest <= 3 else Kind.DILATED_5X5
    if is_depthwise:
        return Kind.SEPARABLE_3X3 if largest <= 3 else Kind.SEPARABLE_5X5
    return Kind.CONV_1X1 if largest == 1 else Kind.CONV_3X3 if largest <= 3 else Kind.CONV_5X5


def _convolution(operation: Operation, dims: Sequence[Size]) -> Node:
    kernel = [_written(size) for size in dims[2:]]
    is_grouped = operation.group not in (None, 1)
    is_depthwise = is_grouped and dims[1] == 1
    is_dilated = any(step > 1 for step in _integers(operation, "dilations"))
    words = [
        "depthwise" if is_depthwise else "grouped" if is_grouped else "dilated" if is_dilated else "conv"
    ]
    words[0] = "transposed " * (operation.op == "ConvTranspose") + words[0]
    channels = dims[1] if operation.op == "ConvTranspose" else dims[0]
    words += ["×".join(map(str, kernel)), *_stride(_integers(operation, "strides"))]
    words[-1] += f", {_written(channels)}"
    return Node(_shortened(" ".join(words)), convolution_kind(kernel, is_grouped, is_dilated))


def _integers(operation: Operation, name: str) -> list[int]:
    attribute = operation.attributes.get(name)
    if not isinstance(attribute, AttributeProto):
        return []
    return [attribute.i] if attribute.type == AttributeProto.INT else list(attribute.ints)


def _sizes(kernel: Sequence[int]) -> list[str]:
    return ["×".join(map(str, kernel))] if kernel else []


def _stride(strides: Sequence[int]) -> list[str]:
    steps = dict.fromkeys(strides)
    return [f"/{'×'.join(map(str, steps))}"] if steps and list(steps) != [1] else []


def _written(size: Size) -> int | str:
    return size if isinstance(size, int) else size.name


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
