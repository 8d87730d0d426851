"""l2_norm: how long the initial weights are.

The sum over layers of ‖θ‖₂, as in Abdelfattah et al. 2021 (arXiv 2101.08134); it looks at no data.
"""

from __future__ import annotations

from onnx_bench_dataset.proxies.subject import Proxy, Subject


def l2_norm(subject: Subject) -> float:
    """Return the sum of the Euclidean norms of the layers' weights."""
    return float(sum(weight.detach().norm().item() for weight in subject.layer_weights().values()))


PROXY = Proxy("l2_norm", "arXiv 2101.08134", l2_norm, cheap=True)
