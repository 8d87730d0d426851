"""grad_norm: how long the gradient of one batch is.

The sum over layers of ‖∂L/∂θ‖₂, as in Abdelfattah et al. 2021 (arXiv 2101.08134).
"""

from __future__ import annotations

from onnx_bench_dataset.proxies.subject import Proxy, Subject


def grad_norm(subject: Subject) -> float:
    """Return the sum of the Euclidean norms of the gradients by the layers' weights."""
    return float(sum(gradient.norm().item() for gradient in subject.gradients.values()))


PROXY = Proxy("grad_norm", "arXiv 2101.08134", grad_norm, cheap=False)
