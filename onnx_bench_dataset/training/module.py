"""Any ONNX graph as a PyTorch module that runs and trains at any batch size.

This is code of our own because `onnx2torch` does not read current operator sets, and because what it makes
keeps neither the batch free nor the names of weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.graph import Graph, Node
from onnx_bench_dataset.graphs.shapes import tensor_type
from onnx_bench_dataset.graphs.weights import MAX_BYTES, tensor_roles
from onnx_bench_dataset.training.call import DTYPES, Function, shown, tensor_of
from onnx_bench_dataset.training.compile import Program, Step, compile_graph
from onnx_bench_dataset.training.initial_weights import initial_weights
from onnx_bench_dataset.training.layers import layer_weights

_MEAN, _COUNTER = "running_mean", "num_batches_tracked"


class GraphModule(nn.Module):
    """A graph that computes: called with its data inputs in order, it returns its output, or a tuple of them.

    Learned tensors are parameters, running statistics are buffers; `state_dict` names them as the graph does,
    and as PyTorch does beside each `running_mean` a `num_batches_tracked`. `train()` normalizes batches by
    their own statistics and drops at random, `eval()` does not. Nodes that no output needs do not run; their
    weights are there all the same. `graph` is what was compiled, `input_shapes` are those of its data inputs,
    `layer_weights` the names of the weights of convolutions and linear layers.
    """

    def __init__(self, program: Program, graph: Graph, weights: Mapping[str, Tensor], statistics: set[str]):
        """Take a compiled graph with a value for each weight; `torch_module` does all of that."""
        super().__init__()
        self.graph = graph
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        self.layer_weights = layer_weights(graph, shapes)
        self._program = program
        self.input_shapes = {
            name: tensor_type(graph.inputs[name].type).shape for name in graph.inputs if name not in weights
        }
        self._outputs = [program.places[name] for name in graph.outputs]
        self._counters: list[dict[str, Tensor | None]] = []
        # Where values lie rather than the values: moving a module or loading weights may replace tensors.
        self._stored: list[tuple[int, Mapping[str, Tensor | None], str]] = []
        for name, value in weights.items():
            self._add_weight(name, value, is_statistic=name in statistics)
        self._fixed: list[tuple[int, Tensor]] = []
        for number, (name, value) in enumerate(program.constants.items()):
            if value.is_floating_point() or value.dtype == torch.bool:
                self.register_buffer(f"constant_{number}", value, persistent=False)
                self._stored.append((program.places[name], self._buffers, f"constant_{number}"))
            else:  # numbers that shapes and indices are made of stay on the CPU
                self._fixed.append((program.places[name], value))

    def _add_weight(self, name: str, value: Tensor, *, is_statistic: bool) -> None:
        """Put a weight under its dotted name, whatever other names there are."""
        *path, last = name.split(".")
        container: nn.Module = self
        for part in path:
            child = container._modules.get(part)
            if child is None:
                child = container._modules[part] = nn.Module()
            container = child
        tensors: Mapping[str, Tensor | None] = container._buffers
        if is_statistic:
            container._buffers[last] = value
        else:
            container._parameters[last] = nn.Parameter(value)
            tensors = container._parameters
        self._stored.append((self._program.places[name], tensors, last))
        if is_statistic and last == _MEAN:
            container._buffers[_COUNTER] = torch.tensor(0)
            self._counters.append(container._buffers)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the graph.

        Raises:
            UnsupportedModelError: the inputs are not as many, or not of the shape, as in the graph; or they
                are a batch of another size, and the graph mixes samples.
        """
        self._check(inputs)
        program = self._program
        values: list[Tensor | None] = [None] * program.size
        for name, given in zip(self.input_shapes, inputs, strict=True):
            values[program.places[name]] = given
        for place, tensors, key in self._stored:
            values[place] = tensors[key]
        for place, constant in self._fixed:
            values[place] = constant
        if self.training:
            for buffers in self._counters:
                counter = buffers[_COUNTER]
                if counter is not None:
                    counter.add_(1)
        step: Step | None = None
        try:
            for step in program.steps[self.training]:
                run, reads, writes, last_read, _ = step
                made = run(*[values[place] for place in reads])
                if type(writes) is int:
                    values[writes] = made
                else:
                    for place, value in zip(writes, made):  # type: ignore[arg-type]  # noqa: B905
                        values[place] = value
                values[0] = None
                for place in last_read:
                    values[place] = None
        except Exception as error:
            if step is not None:
                error.add_note(f"in the {shown(step.node)}")
            raise
        outputs = tuple([values[place] for place in self._outputs])
        return outputs[0] if len(outputs) == 1 else outputs  # type: ignore[return-value]

    @contextmanager
    def intercepted(self, wrap: Callable[[Node, Function], Function]) -> Iterator[None]:
        """Compute each node by the function that `wrap` makes of its own, to look at values or change them.

        Examples:
            >>> from onnx_bench_dataset import spaces
            >>> edge = "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
            >>> module, seen = torch_module(spaces.get("nasbench201").model(edge)), []
            >>> def noted(node, run):
            ...     return lambda *inputs: seen.append(node.op) or run(*inputs)
            >>> with module.intercepted(noted):
            ...     logits = module(torch.zeros(2, 3, 32, 32))
            >>> seen[:2], seen[-1]
            (['Conv', 'BatchNormalization'], 'Gemm')
        """
        own = self._program
        steps = {
            mode: [step._replace(run=wrap(step.node, step.run)) for step in each]
            for mode, each in own.steps.items()
        }
        self._program = replace(own, steps=steps)
        try:
            yield
        finally:
            self._program = own

    def _check(self, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs) != len(self.input_shapes):
            names = ", ".join(self.input_shapes) or "nothing"
            raise UnsupportedModelError(f"the graph reads {names}; given are {len(inputs)} tensors")
        obstacle = self._program.obstacle
        for (name, shape), given in zip(self.input_shapes.items(), inputs, strict=True):
            if shape is None:
                continue
            fits = len(shape) == given.dim() and all(
                not isinstance(size, int) or size == found
                for size, found in zip(shape[1:], given.shape[1:], strict=True)
            )
            if not fits:
                raise UnsupportedModelError(
                    f"the input {name[:80]!r} is of shape {tuple(given.shape)}; the graph is made for"
                    f" {shape}, whatever the first size is"
                )
            if obstacle and shape and given.shape[0] != shape[0]:
                raise UnsupportedModelError(
                    f"the graph runs with batches of {shape[0]} only, not of {given.shape[0]}: {obstacle}"
                )


def torch_module(model: ModelProto, seed: int = 0) -> GraphModule:
    """Return a module that computes a model, in training mode, on the CPU.

    Args:
        model: weights as initializers, which are kept, or as graph inputs, which are drawn as the code of
            their benchmark does it (`initial_weights`); any operator set from 7 on.
        seed: for the weights without values; a weight depends on it, its name and its shape alone.

    Raises:
        UnsupportedModelError: the model is broken, or holds an operation that has no function here.

    Examples:
        >>> from onnx_bench_dataset import spaces
        >>> edge = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
        >>> module = torch_module(spaces.get("nasbench201").model(edge), seed=1)
        >>> module(torch.zeros(7, 3, 32, 32)).shape
        torch.Size([7, 10])
        >>> list(module.state_dict())[:2]
        ['stem.0.weight', 'stem.1.weight']
    """
    graph = Graph.from_model(model)
    roles = tensor_roles(graph)
    program = compile_graph(graph, roles.data, roles.weights)
    weights = _weights(graph, roles.weights, seed)
    return GraphModule(program, graph, weights, set(roles.statistics))


def _weights(graph: Graph, names: list[str], seed: int) -> dict[str, Tensor]:
    """Return the values of weights: those of the file, or drawn."""
    shapes, total = {}, 0
    for name in names:
        if name in graph.initializers:
            continue
        declared = tensor_type(graph.inputs[name].type)
        assert declared.sizes is not None  # a graph input of another kind is data
        shapes[name] = declared.sizes
        item = onnx.helper.tensor_dtype_to_np_dtype(declared.element_type).itemsize
        total += math.prod(declared.sizes) * item
    if total > MAX_BYTES:
        raise UnsupportedModelError(f"the weights take {total:,} bytes; at most {MAX_BYTES:,} are drawn")
    drawn = initial_weights(graph, shapes, seed)
    return {
        name: (
            tensor_of(graph.initializers[name])
            if name in graph.initializers
            else torch.from_numpy(drawn[name]).to(DTYPES[tensor_type(graph.inputs[name].type).element_type])
        )
        for name in names
    }
