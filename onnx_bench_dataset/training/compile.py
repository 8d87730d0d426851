"""From the nodes of a graph to a flat list of steps: a function, where its inputs lie, where its outputs go.

What does not depend on data or weights is computed here, once; what no output needs is left out. Shapes that
hold the batch size are freed from it where that can be done (`batch_axis`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.graph import DEFAULT_DOMAIN, Graph, Node
from onnx_bench_dataset.graphs.inference import ValueTypes
from onnx_bench_dataset.graphs.shapes import Shape, tensor_type
from onnx_bench_dataset.graphs.simplify import folded_types
from onnx_bench_dataset.training.batch_axis import SHAPE_SLOTS, BatchAxes, MixedSamplesError
from onnx_bench_dataset.training.call import Call, Function, shown, tensor_of
from onnx_bench_dataset.training.operations import OPERATIONS

MAX_FOLDED = 2**20
"""Elements of the largest constant that is computed beforehand."""

_MODES = (False, True)  # evaluation, training
_MODAL = frozenset({"BatchNormalization", "Dropout"})  # what training does otherwise
_REPEATING = {"ConstantOfShape": 0, "Expand": 1}  # and which input says how often
_SIZES_ONLY = frozenset({"Shape", "Size"})
_MOVES = frozenset({"Concat", "Gather", "Identity", "Slice", "Squeeze", "Unsqueeze"})
_BROKEN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError)
"""What operations raise whose attributes or inputs break the rules of ONNX."""


class Step(NamedTuple):
    """One function call; numbers are places in the list of values."""

    run: Function
    reads: tuple[int, ...]
    writes: int | tuple[int, ...]
    """A place, or several for a function that gives several tensors; place 0 takes what nobody reads."""
    last_read: tuple[int, ...]
    """Places whose values are not needed any more."""
    node: Node


@dataclass
class Program:
    """A compiled graph."""

    size: int
    """Length of the list of values; place 0 holds None."""
    places: dict[str, int]
    """Where data inputs, learned tensors, constants and outputs lie."""
    constants: dict[str, Tensor]
    steps: dict[bool, list[Step]]
    """For evaluation and for training."""
    obstacle: str = ""
    """Why it runs with no other batch size than that of the file; nothing where it does."""


def compile_graph(graph: Graph, data: Sequence[str], learned: Sequence[str]) -> Program:
    """Compile what the outputs of a graph need.

    Raises:
        UnsupportedModelError: an operation is unknown to PyTorch or broken; it is named.
    """
    shapes = {name: tensor_type(graph.inputs[name].type).shape for name in data}
    samples = [name for name, shape in shapes.items() if shape != ()]
    try:
        batch = _batch_size([shapes[name] for name in samples])
        return _Compiler(graph, data, learned, batch, samples).program()
    except MixedSamplesError as error:
        program = _Compiler(graph, data, learned, None, None).program()
        program.obstacle = str(error)
        return program


class _Compiler:
    """Compiles one graph.

    `batch` is the size that the file states; `samples` are the data inputs that begin with it, None where no
    other size is possible, because samples are mixed.
    """

    def __init__(
        self,
        graph: Graph,
        data: Sequence[str],
        learned: Sequence[str],
        batch: int | None,
        samples: Sequence[str] | None,
    ) -> None:
        self._graph = graph
        self._data = data
        self._learned = frozenset(learned)
        self._batch = BatchAxes(batch or 1, samples or (), self._sizes)
        self._follows = batch is not None and samples is not None
        self._types: ValueTypes | None = None
        self._constants = {
            name: tensor_of(tensor)
            for name, tensor in graph.initializers.items()
            if name not in self._learned
        }
        # per constant that holds the batch size, which of its elements do
        self._batch_sizes: dict[str, Tensor] = {}
        self._nodes: list[Node] = []

    def program(self) -> Program:
        for node in self._graph.reachable():
            try:
                self._add(node)
            except (UnsupportedModelError, MixedSamplesError):
                raise
            except _BROKEN as error:
                raise UnsupportedModelError(f"the {shown(node)} is broken: {error}") from error
        if any(name in self._batch_sizes for name in self._graph.outputs):
            raise MixedSamplesError("an output is the size of the batch")
        return self._assembled()

    def _sizes(self, name: str) -> tuple[int, ...] | None:
        constant = self._constants.get(name)
        if constant is not None:
            return tuple(constant.shape)
        tensor = self._graph.initializers.get(name)
        if tensor is not None:
            return tuple(tensor.dims)
        declared = self._graph.inputs.get(name)
        if declared is not None:
            return tensor_type(declared.type).sizes
        if self._types is None:
            self._types = folded_types(self._graph)
        return self._types.of(name).sizes

    def _add(self, node: Node) -> None:
        if node.op == "Constant" and node.domain == DEFAULT_DOMAIN:
            self._constants[node.outputs[0]] = _constant(node)
        elif node.domain != DEFAULT_DOMAIN or node.op not in OPERATIONS:
            raise UnsupportedModelError(
                f"PyTorch has no function here for the operation of the {shown(node)}"
            )
        elif not (self._fold_sizes(node) or self._fold(node)):
            self._nodes.append(node)
            self._follow(node)

    def _call(self, node: Node, *, training: bool = False) -> Call:
        values = [
            self._batch.replaced.get((id(node), slot), self._constants.get(name))
            for slot, name in enumerate(node.inputs)
        ]
        shapes = [
            self._sizes(name) if name in self._constants or name in self._learned else None
            for name in node.inputs
        ]
        opset = self._graph.opsets[node.domain]
        return Call(node, opset, values, shapes, training, self._batch.spread.get(id(node)))

    def _fold_sizes(self, node: Node) -> bool:
        """Compute a Shape or a Size that the file states, batch size included."""
        if node.op not in _SIZES_ONLY:
            return False
        read, output = node.inputs[0], node.outputs[0]
        sizes = self._sizes(read)
        if sizes is None:
            return False
        function = OPERATIONS[node.op](self._call(node))
        self._constants[output] = function(torch.empty(sizes, device="meta"))
        axis = self._batch.axes.get(read)
        if axis is not None:
            mask = torch.tensor([place == axis for place in range(len(sizes))])
            start, end = node.attribute("start", 0), node.attribute("end")
            self._note(output, mask[start:end] if node.op == "Shape" else torch.tensor(True))
        return True

    def _note(self, name: str, mask: Tensor) -> None:
        if bool(mask.any()):
            self._batch_sizes[name] = mask

    def _fold(self, node: Node) -> bool:
        """Compute a node that reads constants alone, if what it makes is not too large."""
        read = [name for name in node.inputs if name]
        if not read or not all(name in self._constants for name in read) or node.op == "Dropout":
            return False
        made = [self._sizes(name) for name in node.outputs if name]
        taken = sum(self._constants[name].numel() for name in read)
        if taken > MAX_FOLDED or any(s is None or math.prod(s) > max(MAX_FOLDED, taken) for s in made):
            return False
        target = _REPEATING.get(node.op)
        if target is not None and node.inputs[target] in self._batch_sizes:
            self._keep_one_sample(node, target)
        call = self._call(node)
        given = call.values
        made_of = OPERATIONS[node.op](call)(*given)
        outputs = dict(zip(node.outputs, made_of if len(node.outputs) > 1 else [made_of], strict=False))
        if not all(isinstance(value, Tensor) for value in outputs.values()):
            return False  # a sequence
        self._constants.update(outputs)
        if target is None and any(name in self._batch_sizes for name in read):
            self._trace(node, call)
        return True

    def _trace(self, node: Node, call: Call) -> None:
        """Note which elements of a computed constant come from the batch size."""

        def mask(name: str) -> Tensor | None:
            constant = self._constants.get(name)
            none = None if constant is None else torch.zeros_like(constant, dtype=torch.bool)
            return self._batch_sizes.get(name, none)

        moved = len(node.inputs) if node.op == "Concat" else 1
        if node.op in _MOVES and not any(name in self._batch_sizes for name in node.inputs[moved:]):
            given = [
                mask(n) if slot < moved else self._constants.get(n) for slot, n in enumerate(node.inputs)
            ]
            self._note(node.outputs[0], OPERATIONS[node.op](call)(*given))
            return
        for name in node.outputs:
            self._note(name, torch.ones_like(self._constants[name], dtype=torch.bool))

    def _keep_one_sample(self, node: Node, target: int) -> None:
        """Have a constant made for one sample, which is repeated where it is used."""
        name = node.inputs[target]
        once = torch.where(self._batch_sizes[name], 1, self._constants[name])
        self._batch.replaced[id(node), target] = once

    def _follow(self, node: Node) -> None:
        """Keep account of where the samples stand behind a node.

        Raises:
            MixedSamplesError: they are mixed.
        """
        if not self._follows:
            return
        sized = [slot for slot, name in enumerate(node.inputs) if name in self._batch_sizes]
        if any((node.op, slot) not in SHAPE_SLOTS for slot in sized):
            raise MixedSamplesError(f"the {shown(node)} calculates with the size of the batch")
        if any(name in self._batch.axes for name in node.inputs):
            self._batch.follow(node, self._call(node))
        elif sized and node.op == "Expand":
            self._keep_one_sample(node, 1)
        elif sized:
            raise MixedSamplesError(f"the {shown(node)} makes a tensor of the size of the batch")

    def _assembled(self) -> Program:
        reads = {id(node): self._read_names(node) for node in self._nodes}
        places: dict[str, int] = {"": 0}
        names = [*self._data, *sorted(self._learned), *self._constants]
        names += [name for node in self._nodes for name in node.outputs]
        for name in names:
            places.setdefault(name, len(places))
        last: dict[str, int] = {}
        for number, node in enumerate(self._nodes):
            last.update(dict.fromkeys(filter(None, reads[id(node)]), number))
        kept = {*self._data, *self._learned, *self._constants, *self._graph.outputs}
        gone: dict[int, list[int]] = {}
        for name, number in last.items():
            if name not in kept:
                gone.setdefault(number, []).append(places[name])
        steps: dict[bool, list[Step]] = {mode: [] for mode in _MODES}
        read = {name for names in reads.values() for name in names} | {*self._graph.outputs}
        for number, node in enumerate(self._nodes):
            both = [self._function(node, mode) for mode in (_MODES if node.op in _MODAL else _MODES[:1])]
            writes = [places[name] if name in read else 0 for name in node.outputs]
            for mode in _MODES:
                steps[mode].append(
                    Step(
                        both[-1] if mode else both[0],
                        tuple(places[name] for name in reads[id(node)]),
                        writes[0] if len(writes) == 1 else tuple(writes),
                        tuple(gone.get(number, ())),
                        node,
                    )
                )
        needed = {name: value for name, value in self._constants.items() if name in read}
        return Program(len(places), places, needed, steps)

    def _read_names(self, node: Node) -> list[str]:
        """Return what a node reads, its new constants in the place of the file's."""
        names = list(node.inputs)
        for slot, name in enumerate(names):
            constant = self._batch.replaced.get((id(node), slot))
            if constant is not None:
                names[slot] = f"{name}\n{node.outputs[0]}"
                self._constants[names[slot]] = constant
        return names

    def _function(self, node: Node, training: bool) -> Function:
        try:
            return OPERATIONS[node.op](self._call(node, training=training))
        except UnsupportedModelError:
            raise
        except _BROKEN as error:
            raise UnsupportedModelError(f"the {shown(node)} is broken: {error}") from error


def _batch_size(shapes: Sequence[Shape | None]) -> int | None:
    """Return the size that all inputs begin with, None where the file leaves it open.

    Raises:
        MixedSamplesError: they begin with different numbers.
    """
    first = {shape[0] if shape else None for shape in shapes}
    sizes = {size for size in first if isinstance(size, int)}
    if len(sizes) > 1 and sizes == first:
        raise MixedSamplesError(f"its inputs begin with different sizes, {sorted(sizes)}")
    return sizes.pop() if sizes and sizes == first else None


_SCALARS: Mapping[str, torch.dtype] = {
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}


def _constant(node: Node) -> Tensor:
    call = Call(node, 1)
    for name in node.attributes:
        value: Any = call.attribute(name)
        if name == "value":
            return value  # type: ignore[no-any-return]
        if name in _SCALARS:
            return torch.tensor(value, dtype=_SCALARS[name])
    raise call.unsupported("it holds no tensor of numbers")
