"""The recipe of digits: its images, what a training gives, and what becomes of one that fails."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch import nn

from onnx_bench_dataset import spaces
from onnx_bench_dataset.digits import images, recipe
from onnx_bench_dataset.digits.recipe import CHANCE, Run, train
from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.build import GraphBuilder

LINEAR = "einspace:routing(identity,computation(linear16),identity)"
CONVOLUTIONS = "nasbench201:|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"


def model(architecture: str) -> ModelProto:
    return spaces.get("digits").model(architecture)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "EPOCHS", 2)


# The images.


def test_every_image_has_one_use() -> None:
    from sklearn.datasets import load_digits

    classes = load_digits().target
    parts = images.divide(classes)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1_797))
    assert {name: len(part) for name, part in parts.items()} == {"train": 602, "validation": 302, "test": 893}
    for name, share in (("train", 3), ("validation", 6), ("test", 2)):
        counts = np.bincount(classes[parts[name]])
        assert np.abs(counts - np.bincount(classes) / share).max() < 1.5
    assert parts["train"][:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 30, 31]


def test_pixels_are_normalized_by_the_images_that_train() -> None:
    division = images.load()
    assert division.train.pixels.shape == (602, 1, 8, 8)
    assert division.train.pixels.dtype == np.float32
    assert division.train.pixels.mean() == pytest.approx(0, abs=1e-6)
    assert division.train.pixels.std() == pytest.approx(1, abs=1e-6)
    values = np.concatenate([part.pixels.ravel() for part in division])
    assert len(np.unique(values)) == 17  # grey levels 0 to 16


# Training.


def test_networks_learn_and_a_linear_one_learns_less() -> None:
    linear, convolutions = (train(model(each), images.load(), seed=0) for each in (LINEAR, CONVOLUTIONS))
    assert convolutions.test_accuracy > 80
    assert CHANCE < linear.test_accuracy < convolutions.test_accuracy - 10
    for run in (linear, convolutions):
        assert run.failure == ""
        assert abs(run.validation_accuracy - run.test_accuracy) < 10
        assert run.test_accuracy * 893 / 100 == pytest.approx(round(run.test_accuracy * 893 / 100))
        assert run.train_loss is not None
        assert 0 < run.train_loss < math.log(10)


@pytest.mark.usefixtures("briefly")
def test_a_seed_gives_the_same_figures_again_and_another_one_others() -> None:
    first, again, other = (train(model(CONVOLUTIONS), images.load(), seed) for seed in (5, 5, 6))
    assert first == again
    assert first != other


# Failures.


def exploding(factor: float) -> ModelProto:
    """Return a network whose logits are huge, or not finite."""
    g = GraphBuilder((1, 1, 8, 8))
    x = g.op("Flatten", g.input, name="flat", axis=1)
    x = g.op("Gemm", x, g.weight("fc.weight", 10, 64), g.weight("fc.bias", 10), name="fc", transB=1)
    x = g.op("Mul", x, g.constant(factor), name="scaled")
    return g.model(g.op("Mul", x, g.constant(factor), name="output"), {})


@pytest.mark.usefixtures("briefly")
def test_a_loss_that_is_not_finite_is_chance() -> None:
    run = train(exploding(1e30), images.load(), seed=0)
    assert run[:3] == (CHANCE, CHANCE, None) == (10, 10, None)
    assert run.failure.startswith("loss is ")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
            "OutOfMemoryError: CUDA out of",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "RuntimeError: DefaultCPUAllocator"),
        (MemoryError(), "MemoryError: "),
        (RuntimeError("x" * 10_000), "RuntimeError: xxx"),
    ],
)
def test_a_network_that_cannot_be_computed_is_chance(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    class Failing(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error

    monkeypatch.setattr(recipe, "torch_module", lambda model, seed: Failing(1, 1))
    run = train(model(LINEAR), images.load(), seed=0)
    assert run[:3] == (CHANCE, CHANCE, None)
    assert run.failure.startswith(told)
    assert len(run.failure) <= 200


def test_outputs_that_are_not_finite_after_training_are_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.layer(x.flatten(1))
            return y if self.training else y / 0

    monkeypatch.setattr(recipe, "torch_module", lambda model, seed: Fragile())
    assert train(model(LINEAR), images.load(), 0) == Run(CHANCE, CHANCE, None, "outputs are not finite")


def test_an_unknown_operation_is_an_error_and_no_label() -> None:
    g = GraphBuilder((1, 1, 8, 8))
    unknown = g.model(g.op("NonMaxSuppression", g.input, g.input, name="output"), {})
    with pytest.raises(UnsupportedModelError):
        train(unknown, images.load(), seed=0)


@pytest.mark.parametrize(
    ("missing", "said"),
    [("torch", "onnx-bench-dataset[torch]"), ("sklearn", "onnx-bench-dataset[digits]")],
)
def test_what_is_not_installed_is_named(missing: str, said: str) -> None:
    program = f"""
import sys
class Without:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without())
from onnx_bench_dataset.errors import OnnxBenchError
try:
    from onnx_bench_dataset.digits import images
    images.load()
    from onnx_bench_dataset.digits import recipe
except OnnxBenchError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert said in done.stdout
