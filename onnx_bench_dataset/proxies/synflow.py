"""synflow: how much flows from input to output when all that could hold it back is taken away.

The sum of |θ · ∂R/∂θ| (Tanaka et al. 2020, arXiv 2006.05467), with R the sum of the outputs for an input of
ones, all weights replaced by their absolute values and batch norm left out, in double precision, as in the
code of Abdelfattah et al. 2021 (arXiv 2101.08134). It looks at no data. The score is its natural logarithm,
since the sum of a deep network fits no single-precision number; minus infinity where nothing flows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from onnx_bench_dataset.graphs.graph import Node
from onnx_bench_dataset.proxies.subject import Proxy, Subject, gradients
from onnx_bench_dataset.training.call import Function


def synflow(subject: Subject) -> float:
    """Return the logarithm of the synaptic flow through the layers' weights."""
    module = subject.copy().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_()
    weights = subject.layer_weights(module)
    ones = [torch.ones_like(x[:1], dtype=torch.float64) for x in subject.inputs]
    with torch.enable_grad(), module.intercepted(_without_batch_norm):
        outputs = module(*ones)
        total = torch.stack([o.sum() for o in (outputs if isinstance(outputs, tuple) else (outputs,))]).sum()
        slopes = gradients(total, weights)
    flow = sum((weights[name].detach() * slope).abs().sum().item() for name, slope in slopes.items())
    return math.log(flow) if flow > 0 else -math.inf


def _without_batch_norm(node: Node, run: Function) -> Function:
    if node.op != "BatchNormalization":
        return run
    if len(node.outputs) == 1:
        return _first
    return lambda x, scale, bias, mean, variance: (x, mean, variance)


def _first(x: Tensor, *_: Tensor) -> Tensor:
    return x


PROXY = Proxy("synflow", "arXiv 2006.05467", synflow, cheap=True)
