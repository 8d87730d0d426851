"""grasp: how removing weights would change the flow of gradients.

The sum of -θ · Hg with g = ∂L/∂θ and H the Hessian of the loss (Wang et al. 2020, arXiv 2002.07376), with the
sign of Abdelfattah et al. 2021 (arXiv 2101.08134).
"""

from __future__ import annotations

import torch

from onnx_bench_dataset.proxies.subject import Proxy, Subject, gradients


def grasp(subject: Subject) -> float:
    """Return the sum of -weight times Hessian times gradient over the layers' weights."""
    weights = subject.layer_weights()
    with torch.enable_grad():
        slopes = gradients(subject.loss(subject.logits()), weights, keep_graph=True)
        if not slopes:
            return 0.0
        product = torch.stack([(slope.detach() * slope).sum() for slope in slopes.values()]).sum()
        curved = gradients(product, weights)
    return -float(sum((weights[name].detach() * each).sum().item() for name, each in curved.items()))


PROXY = Proxy("grasp", "arXiv 2002.07376", grasp, cheap=False)
