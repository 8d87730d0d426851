"""TransNAS-Bench-101: networks for seven vision tasks, in two search spaces (arXiv 2105.11871).

Both have a stem of 64 channels that quarters the image, modules of two blocks, and a head. The head here is
that of scene classification: global average pooling and a linear layer for 47 classes; images are 256×256. A
module is called by a digit: 2 and 4 double the channels, 3 and 4 halve the image, both in the first block.

In the macro space, `64-1234-basic`, the modules are searched: four to six, of which one to three double and
one to four halve. A block is two 3×3 convolutions beside a residual connection.

In the micro space, `64-41414-1_02_333`, the cell is searched, and a block is a cell: four nodes, each the sum
of its incoming edges, which are listed by target. 0 is zero, 1 a skip connection, 2 a 1×1 and 3 a 3×3
convolution. In the first cell of a module 4 it is the edges from the cell's input that double and halve. A
skip connection there is two 1×1 convolutions of stride 2, the second of the image shifted by one pixel, and
batch norm.

Convolutions put ReLU first: ReLU, convolution, batch norm. Weights are called as the official PyTorch network
(`FeedForwardNet` of `MacroNet` and `FFDecoder` in yawen-d/TransNASBench) calls them; an edge that cannot
influence the output keeps its operations and weights, because the official network runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations, product
from typing import NamedTuple

from onnx import ModelProto

from onnx_bench_dataset.drawing import Diagram, Edge, Kind, Node, Panel, chain
from onnx_bench_dataset.errors import ArchitectureError
from onnx_bench_dataset.graphs.cells import Layout, Sketch
from onnx_bench_dataset.graphs.chain import Chain
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.graphs.parts import Part, Shape
from onnx_bench_dataset.spaces.space import TabularSpace, checked_shape
from onnx_bench_dataset.spaces.transnasbench101_parts import (
    BASE_CHANNELS,
    cell_part,
    changed,
    classifier,
    doubles,
    halves,
    residual_block,
    stem,
)

NONE, SKIP, CONV_1X1, CONV_3X3 = range(4)
"""The operations of the micro space."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(from node, to node) of each edge of a cell, in the order of the architecture string."""

INPUT_SHAPE: Shape = (1, 3, 256, 256)
NUM_CLASSES = 47
"""Of scene classification."""

_MICRO_MODULES = (4, 1, 4, 1, 4)
_START = f"{BASE_CHANNELS}-"


class Code(NamedTuple):
    """What an architecture string says: the module types, and the operations of the six edges of a cell."""

    modules: tuple[int, ...]
    cell: tuple[int, ...] | None
    """None in the macro space."""


class TransNASBench101(TabularSpace):
    """The 3,256 macro and 4,096 micro architectures of TransNAS-Bench-101."""

    name = "transnasbench101"
    family = "transnasbench101"
    dataset = "taskonomy/class_scene"

    def architectures(self) -> Sequence[str]:
        """Return all 7,352 architectures, macro first; the position is the benchmark's index."""
        return _all_architectures()

    def network(
        self,
        architecture: str,
        name: str = "",
        input_shape: Shape = INPUT_SHAPE,
        num_classes: int = NUM_CLASSES,
    ) -> Network:
        """Return the network of an architecture, with the head of scene classification."""
        code = parse(architecture)
        batch = checked_shape(input_shape, num_classes)[0]
        chain = Chain(input_shape)
        chain.add(stem(input_shape), "encoder.stem.", _border(0))
        shape = stem(input_shape).output_shape
        if code.cell is None:
            shape = _add_residual_blocks(chain, code.modules, shape)
        else:
            shape = _add_cells(chain, code.modules, code.cell, shape)
        chain.add(classifier(shape, num_classes), "decoder.", "output")
        return chain.finish((batch, num_classes), self.metadata(architecture, name))

    def model(
        self, architecture: str, input_shape: Shape = INPUT_SHAPE, num_classes: int = NUM_CLASSES
    ) -> ModelProto:
        """Return the ONNX model of an architecture: training form, weights as graph inputs."""
        return super().model(architecture, input_shape, num_classes)

    def diagram(self, architecture: str) -> Diagram:
        """Return the modules with their channels, and in the micro space the cell."""
        code = parse(architecture)
        channels = BASE_CHANNELS
        most = channels << sum(map(doubles, code.modules))
        nodes = [Node("input"), Node(f"stem /4, {channels}", Kind.CONV_3X3, channels / most)]
        for module in code.modules:
            channels <<= doubles(module)
            label = f"{'2 blocks' if code.cell is None else '2 cells'}{' /2' * halves(module)}, {channels}"
            nodes.append(Node(label, Kind.BLOCK, channels / most))
        nodes.append(Node("classifier", Kind.LINEAR))
        if code.cell is None:
            return Diagram([chain(nodes)])
        edges = [Edge(*ends, *_PICTURED[number]) for ends, number in zip(EDGES, code.cell, strict=True)]
        return Diagram(
            [Panel([Node(str(node)) for node in range(4)], edges, "cell"), chain(nodes, "network")]
        )


_PICTURED = {
    NONE: ("none", Kind.NONE),
    SKIP: ("skip", Kind.SKIP),
    CONV_1X1: ("conv 1×1", Kind.CONV_1X1),
    CONV_3X3: ("conv 3×3", Kind.CONV_3X3),
}


def parse(architecture: str) -> Code:
    """Return the modules and the cell of an architecture.

    Raises:
        ArchitectureError: the string is malformed, or breaks a rule of its search space.

    >>> parse("64-41414-1_02_333").cell
    (1, 0, 2, 3, 3, 3)
    >>> parse("64-1234-basic")
    Code(modules=(1, 2, 3, 4), cell=None)
    """

    def refuse(position: int, rule: str) -> ArchitectureError:
        return ArchitectureError("transnasbench101", architecture, position, rule)

    if not architecture.startswith(_START):
        raise refuse(0, f"'{_START}', the width of the stem, begins an architecture")
    position = len(_START)
    modules = []
    while architecture[position : position + 1] in _MODULES:
        modules.append(_MODULES[architecture[position]])
        position += 1
        if len(modules) > _MACRO_RULES[0].allowed[-1]:
            raise refuse(position - 1, f"there are at most {_MACRO_RULES[0].allowed[-1]} modules")
    if not architecture.startswith("-", position):
        raise refuse(
            position, f"a module is expected here, one of {', '.join(_MODULES)}, or '-' after the last"
        )
    position += 1
    if architecture[position:] == _MACRO_CELL:
        for rule in _MACRO_RULES:
            count = sum(map(rule.counts, modules))
            if count not in rule.allowed:
                least, most = rule.allowed[0], rule.allowed[-1]
                raise refuse(len(_START), f"{least} to {most} modules {rule.what}, not {count}")
        return Code(tuple(modules), None)
    if tuple(modules) != _MICRO_MODULES:
        raise refuse(
            position, f"'{_MACRO_CELL}' is expected here; cells are searched with the modules 41414 only"
        )
    return Code(tuple(modules), _parse_cell(architecture, position))


def _parse_cell(architecture: str, start: int) -> tuple[int, ...]:
    """Return the operations of the six edges, which begin at `start` and end the string."""

    def refuse(index: int, rule: str) -> ArchitectureError:
        return ArchitectureError("transnasbench101", architecture, start + index, rule)

    operations = []
    for index, expected in enumerate(_MICRO_CELL):
        character = architecture[start + index : start + index + 1]
        if expected == "_":
            if character != "_":
                raise refuse(index, "'_' stands between the edges into one node and those into the next")
        elif character in _OPERATIONS:
            operations.append(_OPERATIONS[character])
        else:
            raise refuse(index, f"the operation of an edge is expected here, one of {', '.join(_OPERATIONS)}")
    if len(architecture) > start + len(_MICRO_CELL):
        raise refuse(len(_MICRO_CELL), "nothing may follow the edges into the last node")
    return tuple(operations)


def write(code: Code) -> str:
    """Return the architecture string; the inverse of `parse`."""
    modules = "".join(map(str, code.modules))
    if code.cell is None:
        return f"{_START}{modules}-{_MACRO_CELL}"
    edges = "".join(map(str, code.cell))
    return f"{_START}{modules}-{edges[0]}_{edges[1:3]}_{edges[3:]}"


class _MacroRule(NamedTuple):
    """How many modules of some kind a network of the macro space has."""

    allowed: range
    counts: Callable[[int], bool]
    what: str


_MACRO_RULES = (
    _MacroRule(range(4, 7), bool, "make a network"),
    _MacroRule(range(1, 4), doubles, "double the channels"),
    _MacroRule(range(1, 5), halves, "halve the image"),
)
_MACRO_CELL = "basic"
_MICRO_CELL = "0_00_000"
_MODULES = {str(module): module for module in (1, 2, 3, 4)}
_OPERATIONS = {str(operation): operation for operation in (NONE, SKIP, CONV_1X1, CONV_3X3)}


@lru_cache(maxsize=1)
def _all_architectures() -> tuple[str, ...]:
    macro = [
        Code(tuple([1 + (i in doubling) + 2 * (i in halving) for i in range(count)]), None)
        for count, num_doubling, num_halving in product(*[rule.allowed for rule in _MACRO_RULES])
        for doubling in combinations(range(count), num_doubling)
        for halving in combinations(range(count), num_halving)
    ]
    micro = [Code(_MICRO_MODULES, cell) for cell in product(_OPERATIONS.values(), repeat=len(EDGES))]
    return tuple(map(write, macro + micro))


_PREFIX = "encoder.layer#.#."  # marks: a cell's own prefix, and the values at its borders
_SOURCE, _TARGET = "features.<<", "features.>>"


def _border(index: int) -> str:
    return f"features.{index:02d}"


def _add_residual_blocks(chain: Chain, modules: Sequence[int], shape: Shape) -> Shape:
    """Append the modules of the macro space; return the shape of the features that they make."""
    for index, (prefix, module) in enumerate(_blocks(modules), 1):
        block = residual_block(shape, module)
        chain.add(block, prefix, _border(index))
        shape = block.output_shape
    return shape


def _add_cells(chain: Chain, modules: Sequence[int], operations: Sequence[int], shape: Shape) -> Shape:
    """Append the modules of the micro space; return the shape of the features that they make."""
    wirings = {module: _wire(operations, shape, module) for module in {1, *modules}}
    for index, (prefix, module) in enumerate(_blocks(modules), 1):
        layout, slots = wirings[module]
        marks = {
            _PREFIX.encode(): prefix.encode(),
            _SOURCE.encode(): chain.value.encode(),
            _TARGET.encode(): _border(index).encode(),
        }
        chain.add_cell(layout.cell([slot.part(shape, module) for slot in slots]), marks, _border(index))
        shape = changed(shape, module)
    return shape


def _blocks(modules: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Yield the prefix of every block and the type of module that it is the first block of."""
    for layer, module in enumerate(modules):
        yield f"encoder.layer{layer}.0.", module
        yield f"encoder.layer{layer}.1.", 1


class _Term(NamedTuple):
    """What a node sums: its formula, which does not depend on the numbers of nodes, and its value."""

    formula: str
    value: int  # in the sketch
    is_shared: bool = False  # something else reads the value too


class _Slot(NamedTuple):
    """What a part of a cell does, and whether what it reads has the size of the cell's input or of a node."""

    kind: str
    reads_input_size: bool

    def part(self, shape: Shape, module: int) -> Part:
        """Return the part in the first cell, with an input of `shape`, of a module of that type."""
        if self.reads_input_size:
            return cell_part(self.kind, shape, module)
        return cell_part(self.kind, changed(shape, module), 1)


class _CellSketch:
    """The first cell of a module of one type, as it is being wired; value 0 is its input."""

    def __init__(self, operations: Sequence[int], shape: Shape, module: int) -> None:
        self.sketch = Sketch()
        self.slots: list[_Slot] = []
        self._shape = shape
        self._module = module
        self._input_sized = {0}
        self._terms: list[list[_Term]] = [[_Term("x", 0)]]  # of each node
        self._sums: dict[int, int] = {}
        self._zero: int | None = None
        self._passing = _passing_nodes(operations)
        for target in (1, 2, 3):
            found = [
                term
                for edge, (source, to) in enumerate(EDGES)
                if to == target
                for term in self._edge(operations[edge], source, f"edges.{edge}")
            ]
            self._terms.append(sorted(found, key=lambda term: (term.formula, term.is_shared)))

    def node(self, node: int) -> int:
        """Return the sum of what flows into a node."""
        if node not in self._sums:
            if terms := self._terms[node]:
                self._sums[node] = self.sketch.sum([term.value for term in terms], f"node{node}")
            else:
                self._zero = self._apply("zero", 0, "zero") if self._zero is None else self._zero
                self._sums[node] = self._zero
        return self._sums[node]

    def _edge(self, operation: int, source: int, name: str) -> Sequence[_Term]:
        """Return what an edge adds to its node."""
        formula = "+".join(term.formula for term in self._terms[source]) or "0"
        if operation in _CONVOLUTIONS:  # batch norm turns even zeros into something
            # equal ReLUs are one in inference form, so they are parts of their own
            relu = self._apply("relu", self.node(source), f"{name}.ops.0")
            value = self._apply(_CONVOLUTIONS[operation], relu, f"{name}.ops")
            return [_Term(f"{operation}({formula})", value)]
        if operation == NONE or not self._terms[source]:
            return []
        if source == 0 and self._module != 1:
            return [_Term(f"{operation}({formula})", self._reduce(name))]
        if source in self._passing:
            return self._terms[source]
        return [_Term(formula, self.node(source), is_shared=True)]

    def _reduce(self, name: str) -> int:
        """Bring the cell's input to the shape of a node, half of its channels by each convolution."""
        relu = self._apply("relu", 0, f"{name}.relu")
        shifted = self._apply("shift", relu, f"{name}.pad")
        first = self._apply("half", relu, f"{name}.convs.0")
        second = self._apply("half", shifted, f"{name}.convs.1")
        joined = self.sketch.join("Concat", [first, second], f"{name}.concat", axis=1)
        return self._apply("norm", joined, f"{name}.bn")

    def _apply(self, kind: str, source: int, name: str) -> int:
        slot = _Slot(kind, source in self._input_sized)
        self.slots.append(slot)
        value = self.sketch.apply(slot.part(self._shape, self._module), source, name)
        if slot.reads_input_size and kind in ("relu", "shift"):
            self._input_sized.add(value)
        return value


def _wire(operations: Sequence[int], shape: Shape, module: int) -> tuple[Layout, list[_Slot]]:
    """Wire the first cell of a module of that type; return it and what its parts do, in order.

    A node sums its incoming edges in an order that depends on what they compute, not on the numbers of the
    nodes, and a node that does nothing but pass its sum on to another one is part of that sum: isomorphic
    cells give equal graphs. An edge known to carry zeros adds nothing; a node with nothing but zeros is zero
    times the cell's input, cut to the shape of a node.
    """
    cell = _CellSketch(operations, shape, module)
    return cell.sketch.layout(cell.node(3), _PREFIX, _SOURCE, _TARGET), cell.slots


def _passing_nodes(operations: Sequence[int]) -> set[int]:
    """Interior nodes whose only influence on the output is one skip connection."""
    named = dict(zip(EDGES, operations, strict=True))
    passing = {2} if named[2, 3] == SKIP else set()
    between = named[1, 2] if named[2, 3] != NONE else NONE
    if sorted((between, named[1, 3])) == [NONE, SKIP]:
        passing.add(1)
    return passing


_CONVOLUTIONS = {CONV_1X1: "conv1x1", CONV_3X3: "conv3x3"}
