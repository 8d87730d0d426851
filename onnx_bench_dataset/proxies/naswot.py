"""naswot: into how many pieces the rectifiers cut the input space.

For two inputs, count the rectifiers that are on for both or off for both; the score is the logarithm of the
determinant of the matrix of these counts (Mellor et al. 2021, arXiv 2006.04647).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from onnx_bench_dataset.graphs.graph import Node
from onnx_bench_dataset.proxies.subject import Proxy, Subject
from onnx_bench_dataset.training.call import Function

_RECTIFIERS = frozenset({"LeakyRelu", "PRelu", "Relu"})


def naswot(subject: Subject) -> float:
    """Return the log-determinant; not a number where the network has no rectifier."""
    batch = len(subject.inputs[0])
    agreements = torch.zeros(batch, batch, dtype=torch.float64, device=subject.device)

    def noted(node: Node, run: Function) -> Function:
        if node.op not in _RECTIFIERS:
            return run

        def rectifier(x: Tensor, *rest: Tensor) -> Tensor:
            if len(x) == batch:  # elsewhere axes were moved: no sample has a row of its own
                on = (x > 0).flatten(1).to(x.dtype)
                both, each = on @ on.t(), on.sum(1)
                agreements.add_(2 * both - each - each[:, None] + on.shape[1])
            output: Tensor = run(x, *rest)
            return output

        return rectifier

    with torch.no_grad(), subject.module.intercepted(noted):
        subject.module(*subject.inputs)
    if not agreements.any():
        return math.nan
    return float(torch.linalg.slogdet(agreements).logabsdet)


PROXY = Proxy("naswot", "arXiv 2006.04647", naswot, cheap=True)
