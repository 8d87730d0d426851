"""Networks that learn to rank rows: the pairwise loss of ONNX-Net or a squared one, on any devices.

The pairwise loss, the schedule and the optimizer are those of ONNX-Net (arXiv 2510.04938 and its published
code), with one difference: pairs are compared within a group alone, so a batch is made of rows of one group.

Devices and precision are those of `accelerate`: one process uses one device, and a program that
`accelerate launch` starts in several processes shares each step among them. All of them call the same
functions with the same rows, and get the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm import tqdm

from onnx_bench_dataset.errors import PredictorError

BatchOf = Callable[[NDArray[np.int64]], Any]
"""Makes the input of a network, of the rows that have these numbers."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    epochs: int
    batch_size: int
    """Rows that a process compares in one step, or scores at once."""
    learning_rate: float
    """At its highest; AdamW."""
    weight_decay: float = 0.1
    """Of matrices; biases and scales have none."""
    margin: float | None = 0.1
    """By how much the better row of a pair has to be ahead. None: the loss is the squared error instead."""
    pairs_per_row: int = 4
    warmup: float = 0.06
    """Share of the steps in which the learning rate rises from 0; it falls to `final` of it after that."""
    final: float = 0.1
    largest_gradient: float = 1.0
    """Norm of the gradient, beyond which it is scaled down."""
    mixed_precision: str | None = None
    """`no`, `fp16` or `bf16`; otherwise what `accelerate launch` was told, which is `no` by default."""


def pairwise_loss(scores: Tensor, accuracies: Tensor, margin: float, pairs_per_row: int) -> Tensor:
    """Return the mean hinge loss of pairs of rows, max(0, margin - (better's score - worse's score)).

    Args:
        scores: (rows,).
        accuracies: (rows,); rows that have the same are no pair.
        margin: by how much a better row has to be ahead.
        pairs_per_row: where there are more pairs than that, so many are drawn.
    """
    better, worse = torch.nonzero(accuracies[:, None] > accuracies[None, :], as_tuple=True)
    if len(better) > (most := pairs_per_row * len(scores)):
        drawn = torch.randperm(len(better), device=better.device)[:most]
        better, worse = better[drawn], worse[drawn]
    losses = torch.relu(margin - (scores[better] - scores[worse]))
    return losses.sum() / max(len(losses), 1)


def _loss(scores: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    if recipe.margin is None:
        return mse_loss(scores, targets.to(scores.dtype))
    return pairwise_loss(scores, targets, recipe.margin, recipe.pairs_per_row)


def batches(
    groups: NDArray[np.int64], batch_size: int, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return the numbers of rows, shuffled, in batches of one group and of about the same size.

    A group of one row, which can be compared to none, is in no batch.
    """
    made: list[NDArray[np.int64]] = []
    for group in np.unique(groups):
        rows = random.permutation(np.flatnonzero(groups == group))
        if len(rows) > 1:
            made.extend(np.array_split(rows, -(-len(rows) // max(batch_size, 2))))
    random.shuffle(made)  # in place
    return made


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw what PyTorch draws from a seed, and leave its own random numbers as they were."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def train(
    network: nn.Module,
    batch_of: BatchOf,
    targets: NDArray[np.float64],
    groups: NDArray[np.int64],
    recipe: Recipe,
    seed: int,
) -> None:
    """Train a network, in place, to score rows in the order of their accuracies, or of any other targets.

    Args:
        network: takes what `batch_of` makes, and returns scores: (rows,).
        batch_of: makes a batch of rows.
        targets: (rows,), comparable within a group, or over all where no pairs are compared.
        groups: (rows,).
        recipe: how.
        seed: of the order of the rows; of pairs and of dropout the caller's, see `seeded`.

    Raises:
        PredictorError: training diverged, or the precision is not one that can be had here.
    """
    accelerator = _accelerator(recipe.mixed_precision)
    random = np.random.default_rng(seed)
    labels = torch.from_numpy(targets)
    processes = accelerator.num_processes
    steps = recipe.epochs * -(-len(batches(groups, recipe.batch_size, random)) // processes)
    optimizer = torch.optim.AdamW(_parameters(network, recipe.weight_decay), lr=recipe.learning_rate)
    model, optimizer = accelerator.prepare(network.train(), optimizer)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer.optimizer, _schedule(steps, recipe))
    with tqdm(total=steps, desc="steps", disable=None, leave=False) as progress:
        for _ in range(recipe.epochs):
            epoch = batches(groups, recipe.batch_size, random)
            for start in range(0, len(epoch), processes):
                rows = epoch[(start + accelerator.process_index) % len(epoch)]
                scores = model(send_to_device(batch_of(rows), accelerator.device)).float()
                accelerator.backward(_loss(scores, labels[rows].to(scores.device), recipe))
                accelerator.clip_grad_norm_(model.parameters(), recipe.largest_gradient)
                optimizer.step()
                optimizer.zero_grad()
                rate.step()
                progress.update()
    accelerator.unwrap_model(model, keep_fp32_wrapper=False).eval()
    if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
        raise PredictorError(
            f"training diverged: try a learning rate below {recipe.learning_rate}, or no mixed precision"
        )


def score(
    network: nn.Module,
    batch_of: BatchOf,
    sizes: NDArray[np.int64],
    recipe: Recipe,
) -> NDArray[np.float64]:
    """Return what a network gives for rows: (rows,).

    Args:
        network: as in `train`.
        batch_of: as in `train`.
        sizes: (rows,), by which rows of about the same size come into one batch.
        recipe: as in `train`.
    """
    accelerator = _accelerator(recipe.mixed_precision)
    network.to(accelerator.device).eval()
    order = np.argsort(sizes, kind="stable")
    batch_size, processes = recipe.batch_size, accelerator.num_processes
    starts = range(accelerator.process_index * batch_size, len(order), processes * batch_size)
    mine = []
    with torch.inference_mode(), accelerator.autocast():
        for start in tqdm(starts, desc="batches", disable=None, leave=False):
            rows = order[start : start + batch_size]
            scores = network(send_to_device(batch_of(rows), accelerator.device))
            mine.append((rows, scores.double().cpu().numpy()))
    everything = np.empty(len(order))
    for rows, found in gather_object(mine):
        everything[rows] = found
    return everything


def _accelerator(mixed_precision: str | None) -> Accelerator:
    try:
        return Accelerator(mixed_precision=mixed_precision)
    except ValueError as error:  # an unknown word, or another precision than this process began with
        raise PredictorError(f"mixed precision {mixed_precision!r} is not to be had: {error}") from error


def _parameters(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [each for each in learned if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in learned if each.ndim <= 1], "weight_decay": 0.0},
    ]


def _schedule(steps: int, recipe: Recipe) -> Callable[[int], float]:
    warmup = max(round(recipe.warmup * steps), 1)

    def share(step: int) -> float:
        """Return by what the learning rate is multiplied in a step, counted from 0."""
        if step < warmup:
            return (step + 1) / warmup
        return 1 - (1 - recipe.final) * (step - warmup) / max(steps - warmup, 1)

    return share
