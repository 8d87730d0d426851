"""plain: what the loss would change by, to first order, if every weight were removed.

The sum of θ · ∂L/∂θ (Mozer and Smolensky 1988), as in Abdelfattah et al. 2021 (arXiv 2101.08134). For a
layer with a batch norm in training mode behind it this is 0 but for rounding, since scaling its weight
changes nothing; what is left is the classifier.
"""

from __future__ import annotations

from onnx_bench_dataset.proxies.subject import Proxy, Subject


def plain(subject: Subject) -> float:
    """Return the sum of weight times gradient over the layers' weights."""
    weights = subject.layer_weights()
    return float(sum((weights[n].detach() * g).sum().item() for n, g in subject.gradients.items()))


PROXY = Proxy("plain", "arXiv 2101.08134", plain, cheap=False)
