"""snip: how much the loss feels each single connection.

The sum of |θ · ∂L/∂θ|, the gradient by a mask on each weight (Lee et al. 2019, arXiv 1810.02340), as in
Abdelfattah et al. 2021 (arXiv 2101.08134).
"""

from __future__ import annotations

from onnx_bench_dataset.proxies.subject import Proxy, Subject


def snip(subject: Subject) -> float:
    """Return the sum of the absolute values of weight times gradient over the layers' weights."""
    weights = subject.layer_weights()
    return float(sum((weights[n].detach() * g).abs().sum().item() for n, g in subject.gradients.items()))


PROXY = Proxy("snip", "arXiv 1810.02340", snip, cheap=False)
