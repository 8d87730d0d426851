"""What the reference networks share: random weights that show, and how outputs are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


def randomized(make: Callable[[], AnyNetwork], image_channels: int, seed: int) -> AnyNetwork:
    """Return a network in inference mode with random weights.

    The running statistics are those of a small random batch, so that no layer drowns the others however
    deep the network is, and are then moved by chance, so that no two channels are alike.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        made = make()
        norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.5)
            # Without a momentum, the statistics of the one batch are kept as they are.
            norm.momentum = None
        made.train()(torch.randn(4, image_channels, 8, 8))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            deviation = norm.running_var.sqrt()
            norm.running_mean += 0.3 * deviation * torch.randn_like(deviation)
            norm.running_var.add_(0.01).mul_(torch.empty_like(deviation).uniform_(0.5, 2))
    return made.eval()


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights and running statistics by their state_dict names, without the batch counters."""
    return {
        name: tensor.numpy()
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def num_trainable(module: nn.Module) -> int:
    """Return the number of learnable parameters, as the benchmark counts them."""
    return sum(parameter.numel() for parameter in module.parameters())


def relative_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the largest difference between two outputs, relative to the largest value expected."""
    assert expected.shape == found.shape
    assert np.isfinite(expected).all()
    assert np.isfinite(found).all()
    return float(np.abs(expected - found).max() / np.abs(expected).max())
