"""jacov: how differently the network answers to different inputs.

With the eigenvalues σ of the correlation matrix of the inputs' Jacobians, -Σ (log(σ + k) + 1 / (σ + k)) and
k = 1e-5 (Mellor et al. 2020, the first version of arXiv 2006.04647; `jacob_cov` in Abdelfattah et al. 2021).
"""

from __future__ import annotations

import numpy as np
import torch

from onnx_bench_dataset.proxies.subject import Proxy, Subject, gradients

_K = 1e-5


def jacov(subject: Subject) -> float:
    """Return the score of the batch; not a number where the output does not depend on an input."""
    inputs = {str(number): x.detach().requires_grad_() for number, x in enumerate(subject.inputs)}
    with torch.enable_grad():
        outputs = subject.module(*inputs.values())
        total = torch.stack([o.sum() for o in (outputs if isinstance(outputs, tuple) else (outputs,))]).sum()
        slopes = gradients(total, inputs)
    if not slopes:
        return float("nan")
    jacobian = torch.cat([slope.flatten(1) for slope in slopes.values()], 1).double().cpu().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.corrcoef(jacobian)
    if not np.isfinite(correlations).all():
        return float("nan")
    eigenvalues = np.maximum(np.linalg.eigvalsh(correlations), 0) + _K
    return float(-np.sum(np.log(eigenvalues) + 1 / eigenvalues))


PROXY = Proxy("jacov", "arXiv 2006.04647v1", jacov, cheap=False)
