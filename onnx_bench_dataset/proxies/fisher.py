"""fisher: how much the loss feels each channel.

For each channel of a layer's output, half the mean over samples of (Σ activation · gradient)², the sum going
over the image (Theis et al. 2018, arXiv 1801.05787; Turner et al. 2020, arXiv 1906.04113). As in the code of
Abdelfattah et al. 2021 (arXiv 2101.08134), a channel counts once per weight that makes it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onnx_bench_dataset.graphs.graph import Node
from onnx_bench_dataset.proxies.subject import Proxy, Subject, gradients
from onnx_bench_dataset.training.call import Function
from onnx_bench_dataset.training.layers import CONVOLUTIONS, LINEAR


def fisher(subject: Subject) -> float:
    """Return the sum over the channels of all layers with learned weights."""
    module = subject.module
    made: list[tuple[Tensor, int, int]] = []  # what a layer gives, the axis of channels, weights per channel

    def noted(node: Node, run: Function) -> Function:
        if node.op not in CONVOLUTIONS | LINEAR:
            return run

        def layer(*inputs: Any) -> Tensor:
            output: Tensor = run(*inputs)
            if inputs[1].requires_grad:
                axis = 1 if node.op in CONVOLUTIONS else output.dim() - 1
                made.append((output, axis, inputs[1].numel() // output.shape[axis]))
            return output

        return layer

    with torch.enable_grad(), module.intercepted(noted):
        loss = subject.loss(subject.logits())
        slopes = gradients(loss, {str(number): output for number, (output, _, _) in enumerate(made)})
    total = 0.0
    for number, (output, axis, weights) in enumerate(made):
        if (slope := slopes.get(str(number))) is not None:
            product = (output.detach() * slope).movedim(axis, 1)
            channels = product.reshape(*product.shape[:2], -1).sum(-1)
            total += weights * channels.square().mean(0).mul(0.5).sum().item()
    return total


PROXY = Proxy("fisher", "arXiv 1906.04113", fisher, cheap=False)
