"""Values for weights before training, as the code of each benchmark draws them.

| space | convolutions | linear layers | added tensors |
| --- | --- | --- | --- |
| nasbench101 | truncated normal, variance 1 / fan-in | Glorot uniform, bias 0 | none |
| transnasbench101 | He normal by fan-out | as PyTorch | none |
| all others | as PyTorch | as PyTorch | standard normal (einspace) |

The first is what TensorFlow calls variance scaling. The published code of nasbench201, natsbench_size,
nasbench301 (DARTS), nasbench_macro, hnasbench201 and einspace leaves its layers as PyTorch makes them:
uniform within ±1 / √fan-in, biases, too; einspace draws positional encodings standard normal. Normalizations
begin with scale 1, bias 0, mean 0 and variance 1.

The space is what a model's metadata say; without it PyTorch's way is taken, and tensors that are only added,
for which PyTorch has no default, are small. Values depend on seed, name and shape alone, not on PyTorch's
generators, so they are the same on every machine.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from onnx_bench_dataset.graphs.graph import Graph, Node
from onnx_bench_dataset.graphs.weights import RECURRENT
from onnx_bench_dataset.training.layers import CONVOLUTIONS, LINEAR, Reading, Shapes, readings

Array = NDArray[np.float32]

_SMALL = 0.02  # deviation of added tensors where nothing says how they begin
_CUT = 2.0  # where a truncated normal ends, in deviations
_DEVIATION_OF_CUT = 0.87962566103423978  # of a standard normal that is cut there


def initial_weights(graph: Graph, shapes: Shapes, seed: int) -> dict[str, Array]:
    """Return a value for each of the weights in `shapes`."""
    found = readings(graph, shapes)
    space = graph.metadata.get("space", "")
    return {name: _value(name, shape, found.get(name), shapes, space, seed) for name, shape in shapes.items()}


def _value(
    name: str, shape: tuple[int, ...], reading: Reading | None, shapes: Shapes, space: str, seed: int
) -> Array:
    op, slot = (reading.node.op, reading.slot) if reading else ("", 0)
    if op.endswith("Normalization"):
        return np.full(shape, 1.0 if slot in (1, 4) else 0.0, np.float32)
    if op == "PRelu":
        return np.full(shape, 0.25, np.float32)
    draw = _Draw(name, shape, seed)
    if reading is None or op not in CONVOLUTIONS | LINEAR | RECURRENT:
        return draw.normal(1.0 if space == "einspace" else _SMALL)
    if op in RECURRENT:
        return draw.uniform(1 / math.sqrt(max(1, shapes[reading.matrix][-2] // _GATES[op])))
    fan_in, fan_out = _fans(reading.node, reading.matrix, shapes[reading.matrix])
    if space == "nasbench101":
        if slot != 1:
            return np.zeros(shape, np.float32)
        if op in CONVOLUTIONS:
            return draw.truncated_normal(math.sqrt(1 / fan_in) / _DEVIATION_OF_CUT)
        return draw.uniform(math.sqrt(6 / (fan_in + fan_out)))
    if space == "transnasbench101" and op in CONVOLUTIONS and slot == 1:
        return draw.normal(math.sqrt(2 / fan_out))
    return draw.uniform(1 / math.sqrt(fan_in))


_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _fans(node: Node, name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return fan-in and fan-out of a weight, at least 1, as PyTorch counts them."""
    if len(shape) < 2:
        return max(1, math.prod(shape)), 1
    window = math.prod(shape[2:])
    outputs, inputs = shape[0], shape[1]
    inputs_first = not node.attribute("transB", 0) if node.op == "Gemm" else node.op == "MatMul"
    if inputs_first and name in node.inputs:
        outputs, inputs = inputs, outputs
    return max(1, inputs * window), max(1, outputs * window)


class _Draw:
    """A stream of random numbers that belongs to one weight."""

    def __init__(self, name: str, shape: tuple[int, ...], seed: int) -> None:
        digest = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
        self._generator = np.random.default_rng([abs(seed), int(seed < 0), *digest])
        self._shape = shape

    def uniform(self, bound: float) -> Array:
        drawn = self._generator.random(self._shape, np.float32)
        return np.asarray((2 * drawn - 1) * np.float32(bound), np.float32)

    def normal(self, deviation: float) -> Array:
        drawn = self._generator.standard_normal(self._shape, np.float32)
        return np.asarray(drawn * np.float32(deviation), np.float32)

    def truncated_normal(self, deviation: float) -> Array:
        drawn = self._generator.standard_normal(self._shape, np.float32)
        while (outside := np.abs(drawn) > _CUT).any():
            drawn[outside] = self._generator.standard_normal(int(outside.sum()), np.float32)
        return np.asarray(drawn * np.float32(deviation), np.float32)
