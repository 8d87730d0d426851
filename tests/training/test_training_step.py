"""A step of training is that of the hand-written reference network with the same weights."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from onnx_bench_dataset import spaces
from onnx_bench_dataset.training import GraphModule, torch_module
from tests.text.sampled_networks import sampled_networks

REFERENCES = [name for name in spaces.SPACES if name != "digits"]
CLASSES = {"transnasbench101": 47}
IMAGES = {"nasbench101": 8, "natsbench_size": 16, "transnasbench101": 64}


def networks(space: str, index: int) -> tuple[nn.Module, GraphModule]:
    """Return the reference and the module of an architecture, with the weights of the reference."""
    network = sampled_networks(space, index + 1)[index]
    architecture = {entry.key: entry.value for entry in network.model().metadata_props}["architecture"]
    reference = importlib.import_module(f"reference_{space}").network(architecture, seed=index)
    for part in reference.modules():
        if isinstance(part, nn.BatchNorm2d) and part.momentum is None:  # what drew its weights left it so
            part.momentum = 0.1
    size = IMAGES.get(space, 32)
    shape, classes = (1, 3, size, size), CLASSES.get(space, 10)
    module = torch_module(spaces.get(space).model(architecture, shape, classes))
    module.load_state_dict(reference.state_dict())
    return reference, module


def step(network: nn.Module, images: Tensor, classes: Tensor) -> tuple[float, dict[str, Tensor]]:
    network.train().zero_grad()
    loss = functional.cross_entropy(network(images), classes)
    loss.backward()
    return loss.item(), {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


def assert_same_step(space: str, index: int) -> None:
    """Compare the loss in single precision, gradients and statistics in double, without much rounding."""
    torch.set_num_threads(1)
    reference, module = networks(space, index)
    generator = torch.Generator().manual_seed(index)
    (shape,) = (tuple(shape) for shape in module.input_shapes.values())
    images = torch.randn(4, *shape[1:], generator=generator)
    classes = torch.randint(0, CLASSES.get(space, 10), (4,), generator=generator)
    state = {name: value.clone() for name, value in reference.state_dict().items()}
    expected, found = (step(network, images, classes)[0] for network in (reference, module))
    assert found == pytest.approx(expected, rel=1e-4)
    for network in (reference, module):
        network.load_state_dict(state)
        network.double()
    (expected, gradients), (found, ours) = (
        step(network, images.double(), classes) for network in (reference, module)
    )
    assert found == pytest.approx(expected, rel=1e-7)
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        if name in ours:
            assert (gradient - ours[name]).abs().max() <= 1e-6 * largest
        else:  # a branch that reaches nothing does not run here
            assert not gradient.any()
    moved = reference.state_dict()
    for name, value in module.state_dict().items():
        if "running" in name and not torch.equal(value.float(), state[name]):
            # A file states 1 less the momentum, in single precision, and by that much they move.
            momentum = reference.get_submodule(name.rpartition(".")[0]).momentum
            movement = (moved[name] - state[name]).abs().max()
            assert (value - moved[name]).abs().max() <= 1e-7 / momentum * movement


@pytest.mark.parametrize("space", REFERENCES)
def test_loss_gradients_and_statistics(space: str) -> None:
    assert_same_step(space, 0)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(1, 10))
@pytest.mark.parametrize("space", REFERENCES)
def test_loss_gradients_and_statistics_of_more(space: str, index: int) -> None:
    assert_same_step(space, index)


def test_training_learns_and_follows_the_reference() -> None:
    torch.set_num_threads(1)
    reference, module = networks("natsbench_size", 0)
    images, classes = (
        torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(1)),
        torch.arange(16) % 10,
    )
    losses = []
    for network in (reference, module):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
        losses.append([])
        for _ in range(10):
            losses[-1].append(step(network, images, classes)[0])
            optimizer.step()
    assert losses[1][-1] < 0.8 * losses[1][0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
