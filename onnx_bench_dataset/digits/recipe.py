"""The one recipe by which every network of digits is trained, and what a training gives.

AdamW, its learning rate falling from `LEARNING_RATE` to 0 along half a cosine, step by step; cross-entropy;
`EPOCHS` epochs in batches of `BATCH_SIZE`, in an order drawn anew for every epoch, the incomplete last batch
left out; no augmentation, no early stopping: accuracies are those after the last step. Weights begin as
`torch_module` draws them. A seed chooses both the weights and the order of the images.

Whatever a network does instead of being trained is a result, too: one whose loss or outputs are not finite,
or which cannot be computed (for want of memory, say), has the accuracy of chance.
"""

from __future__ import annotations

from onnx_bench_dataset.training import torch_module  # isort: skip  # first: it says if torch is missing

import math
from typing import NamedTuple

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from onnx_bench_dataset.digits.images import CLASSES, Division, Images

VERSION = 1
"""Changes with anything that changes what a training gives."""

SEEDS = (0, 1, 2)
EPOCHS = 12
BATCH_SIZE = 50
LEARNING_RATE = 0.005
WEIGHT_DECAY = 0.01

CHANCE = 100 / CLASSES
"""Accuracy of what could not be trained, in percent."""


class Run(NamedTuple):
    """What one training gave."""

    test_accuracy: float
    """Percent of the images that test."""
    validation_accuracy: float
    train_loss: float | None
    """Mean cross-entropy of the batches of the last epoch; None where the training failed."""
    failure: str = ""
    """Why it failed; empty where it did not."""


class _NotFiniteError(Exception):
    """Training or evaluation gave infinities or NaN."""


def train(model: ModelProto, images: Division, seed: int, device: str = "cpu") -> Run:
    """Train a model without weights and return how well it does.

    On the CPU the same seed gives the same figures on one machine, if PyTorch runs one thread.

    Raises:
        UnsupportedModelError: the model is broken, or has an operation that cannot be trained.
    """
    module = torch_module(model, seed).to(device)
    try:
        train_loss = _fit(module, images.train, seed, device)
        test, validation = (_accuracy(module, part, device) for part in (images.test, images.validation))
    except _NotFiniteError as error:
        return Run(CHANCE, CHANCE, None, str(error))
    except (RuntimeError, MemoryError) as error:  # PyTorch has no narrower type for want of memory
        return Run(CHANCE, CHANCE, None, f"{type(error).__name__}: {error}"[:200])
    return Run(test, validation, train_loss)


def _fit(module: nn.Module, images: Images, seed: int, device: str) -> float:
    """Train, and return the loss of the last epoch."""
    pixels, classes = _tensors(images, device)
    steps = len(pixels) // BATCH_SIZE
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
    generator = np.random.default_rng(seed)
    module.train()
    loss = math.nan
    for _ in range(EPOCHS):
        order = torch.from_numpy(generator.permutation(len(pixels))).to(device)
        losses = []
        for batch in order[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE):
            step_loss = nn.functional.cross_entropy(module(pixels[batch]), classes[batch])
            optimizer.zero_grad()
            step_loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(step_loss.detach())
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise _NotFiniteError(f"loss is {loss}")
    return loss


@torch.inference_mode()
def _accuracy(module: nn.Module, images: Images, device: str) -> float:
    """Return the percentage of images whose class the module names."""
    pixels, classes = _tensors(images, device)
    module.eval()
    outputs: Tensor = module(pixels)
    if not outputs.isfinite().all():
        raise _NotFiniteError("outputs are not finite")
    return 100 * float((outputs.argmax(dim=1) == classes).double().mean())


def _tensors(images: Images, device: str) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images.pixels).to(device), torch.from_numpy(images.classes).to(device)
