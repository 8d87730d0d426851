"""How far the labels of digits can be trusted: noise between seeds, and how well one seed ranks as another.

Kendall τ between the accuracies of two seeds is what one training says of another. A label is the mean of all
seeds, which says more: the best that any predictor can reach against labels is estimated from τ as if
accuracies were distributed normally. There τ stands for the correlation sin(π τ / 2); a correlation r of one
seed with another is one of 3 r / (1 + 2 r) between two means of three, and the square root of that is the
correlation of such a mean with the expected accuracy (Spearman and Brown 1910).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, median, pstdev, variance
from typing import NamedTuple

from onnx_bench_dataset.digits.table import Measured, Table, spaces_of

MARK = "digits"
"""What marks the place of the tables in a file."""


class Noise(NamedTuple):
    """What the seeds say about the labels of some architectures, in percent where it is accuracy."""

    architectures: int
    failed: int
    """Trainings that failed."""
    worst: float
    middle: float
    best: float
    """Lowest, median and highest label."""
    spread: float
    """Standard deviation of the labels."""
    noise: float
    """Standard deviation of one training's accuracy about the expected one, over all architectures."""
    tau: float
    """Kendall τ between the accuracies of two seeds, mean over all pairs of seeds."""
    ceiling: float
    """Kendall τ between the labels and the accuracies expected of the networks, estimated from `tau`."""
    tau_of_validation: float
    """Kendall τ between mean validation accuracy and mean test accuracy."""


def measure(rows: Sequence[Measured]) -> Noise:
    """Return what the seeds say about the labels of these architectures, two or more."""
    from scipy.stats import kendalltau

    runs = [row.test_accuracy for row in rows]
    labels = [fmean(run) for run in runs]

    def tau(a: Sequence[float], b: Sequence[float]) -> float:
        return float(kendalltau(a, b).statistic)

    between_seeds = fmean(tau(a, b) for a, b in combinations(zip(*runs, strict=True), 2))
    return Noise(
        architectures=len(rows),
        failed=sum(bool(failure) for row in rows for failure in row.failure),
        worst=min(labels),
        middle=median(labels),
        best=max(labels),
        spread=pstdev(labels),
        noise=noise(rows),
        tau=between_seeds,
        ceiling=ceiling(between_seeds, len(runs[0])),
        tau_of_validation=tau(labels, [fmean(row.validation_accuracy) for row in rows]),
    )


def noise(rows: Sequence[Measured]) -> float:
    """Return the standard deviation of one training's accuracy about the expected one, in percent."""
    return math.sqrt(fmean(variance(row.test_accuracy) for row in rows))


def ceiling(tau: float, seeds: int) -> float:
    """Return Kendall τ of means over `seeds` trainings with expected accuracies; `tau` is that of two seeds.

    >>> [round(ceiling(tau, 3), 2) for tau in (0, 0.5, 0.8, 1)]
    [0.0, 0.77, 0.92, 1.0]
    """
    one = max(0, math.sin(math.pi / 2 * tau))
    of_means = seeds * one / (1 + (seeds - 1) * one)
    return 2 / math.pi * math.asin(min(1, math.sqrt(of_means)))


def markdown(table: Table) -> str:
    """Return a Markdown table with a line for each space, and one for all."""
    lines = [
        "| space | networks | trainings that failed | worst, median, best label | spread | noise "
        "| τ between seeds | ceiling of τ | τ, validation and test |",
        "| --- | --: | --: | --- | --: | --: | --: | --: | --: |",
    ]
    for space, rows in {**spaces_of(table.rows), "all": table.rows}.items():
        if len(rows) > 1:
            n = measure(rows)
            labels = f"{n.worst:.1f}, {n.middle:.1f}, {n.best:.1f}"
            figures = (n.spread, n.noise, n.tau, n.ceiling, n.tau_of_validation)
            shown = " | ".join(f"{figure:.2f}" for figure in figures)
            lines.append(f"| {space} | {n.architectures:,} | {n.failed} | {labels} | {shown} |")
    return "\n".join(lines)


def agreement(made: Table, known: Table) -> str:
    """Return a Markdown table of how far the labels of one table are from those of another, by space.

    The last column is how far they may be expected to be, by the noise between seeds, if nothing but chance
    sets them apart; trainings of the same seed on the same machine agree exactly.
    """
    labels = {row.architecture: fmean(row.test_accuracy) for row in known.rows}
    lines = [
        "| space | networks in both | mean difference | root mean square | expected of other seeds |",
        "| --- | --: | --: | --: | --: |",
    ]
    for space, rows in spaces_of([row for row in made.rows if row.architecture in labels]).items():
        differences = [fmean(row.test_accuracy) - labels[row.architecture] for row in rows]
        squares = math.sqrt(fmean(difference**2 for difference in differences))
        of_mean = noise(spaces_of(known.rows)[space]) / math.sqrt(len(known.origin.seeds))
        lines.append(
            f"| {space} | {len(rows):,} | {fmean(differences):+.2f} | {squares:.2f} "
            f"| {math.sqrt(2) * of_mean:.2f} |"
        )
    return "\n".join(lines)
