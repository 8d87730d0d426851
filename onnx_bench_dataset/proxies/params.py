"""params: the number of learnable parameters."""

from __future__ import annotations

from onnx_bench_dataset.proxies.subject import Proxy, Subject


def params(subject: Subject) -> float:
    """Return the number of elements of all learned tensors; running statistics are not learned."""
    return float(sum(parameter.numel() for parameter in subject.module.parameters()))


PROXY = Proxy("params", "", params, cheap=True)
