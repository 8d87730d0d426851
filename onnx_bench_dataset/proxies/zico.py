"""zico: how steady the gradients are from batch to batch.

The sum over layers of log Σ (mean |g| / standard deviation of g), mean and deviation going over batches and Σ
over the layer's weights (Li et al. 2023, arXiv 2301.11300). The batch is cut into two.
"""

from __future__ import annotations

import math

import torch

from onnx_bench_dataset.proxies.subject import Proxy, Subject, gradients


def zico(subject: Subject) -> float:
    """Return the score over two halves of the batch; minus infinity without any gradient."""
    weights = subject.layer_weights()
    half = len(subject.inputs[0]) // 2
    found = []
    for part in (slice(0, half), slice(half, 2 * half)):
        with torch.enable_grad():
            found.append(gradients(subject.loss(subject.logits(part=part), part), weights))
    total, counted = 0.0, 0
    for name in [name for name in found[0] if name in found[1]]:
        slopes = torch.stack([each[name] for each in found]).double()
        deviation = slopes.std(0, correction=0)
        varies = deviation > 0
        ratios = slopes.abs().mean(0)[varies] / deviation[varies]
        if ratios.sum() > 0:
            total += math.log(ratios.sum().item())
            counted += 1
    return total if counted else -math.inf


PROXY = Proxy("zico", "arXiv 2301.11300", zico, cheap=False)
