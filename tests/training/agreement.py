"""What the tests of PyTorch modules share: a module must compute what ONNX Runtime computes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from onnx_bench_dataset.graphs.run import random_inputs, run
from onnx_bench_dataset.training import GraphModule, torch_module


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def computed(module: GraphModule, inputs: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return list(as_tuple(module.eval()(*inputs)))


def difference(expected: NDArray[np.generic], found: Tensor) -> float:
    """Return the largest difference, relative to the largest number expected."""
    assert tuple(found.shape) == expected.shape
    assert found.numpy().dtype == expected.dtype
    if not expected.size:
        return 0.0
    apart = np.abs(expected.astype(np.float64) - found.numpy().astype(np.float64)).max()
    return float(apart / max(1e-6, np.abs(expected.astype(np.float64)).max()))


def assert_runs_alike(model: ModelProto, tolerance: float = 1e-5, seed: int = 5) -> GraphModule:
    """Compare a model that has its weights with its module, on random inputs; return the module."""
    feeds = random_inputs(model, seed=seed)
    module = torch_module(model)
    found = computed(module, [torch.from_numpy(array) for array in feeds.values()])
    for expected, each in zip(run(model, feeds), found, strict=True):
        assert difference(expected, each) <= tolerance
    return module


def assert_samples_are_apart(module: GraphModule, inputs: list[Tensor], samples: int = 3) -> None:
    """Compare a batch with the same samples one after the other, each of the batch size of the file."""
    generator = torch.Generator().manual_seed(1)
    many = [torch.randn(samples * len(x), *x.shape[1:], generator=generator) for x in inputs]
    together = computed(module, many)
    alone = [
        computed(module, [x[n * len(own) : (n + 1) * len(own)] for x, own in zip(many, inputs, strict=True)])
        for n in range(samples)
    ]
    for index, each in enumerate(together):
        joined = torch.cat([parts[index] for parts in alone])
        assert difference(joined.numpy(), each) <= 1e-5
