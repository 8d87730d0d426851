"""zen: how strongly the features move when the input moves a little.

With all layers' weights drawn standard normal, log E‖f(x) - f(x + αε)‖₁ + Σ log √(mean variance) over the
batch norms, f being the features before global pooling, x and ε standard normal and α = 0.01 (Lin et al.
2021, arXiv 2102.01063). The norm is that of the official code. The variances are those of the batch x, as in
the paper, with the batch norm's own ε, so that features that are 0 count finitely; the official code reads
running averages of them, which get there after many repetitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from onnx_bench_dataset.graphs.graph import Node
from onnx_bench_dataset.proxies.subject import Proxy, Subject
from onnx_bench_dataset.training import GraphModule
from onnx_bench_dataset.training.call import Function
from onnx_bench_dataset.training.layers import readings

_ALPHA = 0.01
_BATCH = 16  # as many as the official code takes
_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"})


def zen(subject: Subject) -> float:
    """Return the score of noise, at most 16 inputs; minus infinity where the features do not move."""
    module = _normal(subject)
    scales: list[float] = []

    def measured(node: Node, run: Function) -> Function:
        if node.op != "BatchNormalization":
            return run

        def normalization(x: Tensor, *rest: Tensor) -> Tensor:
            variance = x.var([axis for axis in range(x.dim()) if axis != 1]).mean().item()
            scales.append(0.5 * math.log(variance + node.attribute("epsilon", 1e-5)))
            output: Tensor = run(x, *rest)
            return output

        return normalization

    noise = [subject.noise(x[:_BATCH]) for x in subject.inputs]
    moved = [x + _ALPHA * subject.noise(x) for x in noise]
    with torch.no_grad():
        with module.intercepted(measured):
            before = _features(module, noise)
        after = _features(module, moved)
    distance = (before - after).abs().flatten(1).sum(1).mean().item()
    return math.log(distance) + sum(scales) if distance > 0 else -math.inf


def _normal(subject: Subject) -> GraphModule:
    """Return the network with layers drawn standard normal, biases 0, and scales of normalizations 1."""
    module = subject.copy()
    parameters = dict(module.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    with torch.no_grad():
        for name, (node, slot, _) in readings(module.graph, shapes).items():
            if name in module.layer_weights:
                parameters[name].copy_(subject.noise(parameters[name]))
            elif slot == 2:
                parameters[name].zero_()
            elif node.op.endswith("Normalization"):
                parameters[name].fill_(1.0)
    return module


def _features(module: GraphModule, inputs: Sequence[Tensor]) -> Tensor:
    """Return what the last pooling over all positions reads, or the output where there is none."""
    pools = [node.outputs[0] for node in module.graph.reachable() if node.op in _POOLS]
    features: list[Tensor] = []

    def noted(node: Node, run: Function) -> Function:
        if not pools or node.outputs[0] != pools[-1]:
            return run

        def pool(x: Tensor, *rest: Tensor) -> Tensor:
            features.append(x)
            output: Tensor = run(x, *rest)
            return output

        return pool

    with module.intercepted(noted):
        outputs = module(*inputs)
    return features[0] if features else outputs if isinstance(outputs, Tensor) else outputs[0]


PROXY = Proxy("zen", "arXiv 2102.01063", zen, cheap=True)
