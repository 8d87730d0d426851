"""A Gaussian process on features of networks: what it learned, and how unlike all of it a network is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from onnx_bench_dataset.errors import PredictorError
from onnx_bench_dataset.surrogates.lines import logarithm

Floats = NDArray[np.float64]

MAX_ROWS = 2_000
"""Rows that a process is fitted to."""

ARRAYS = ("mean", "scale", "rows", "weights")
"""What of a fitted process is kept, beside kernel, length and the usual distance."""

_SELECTED_ROWS = 900  # on which the kernel is chosen
_LENGTHS = (0.1, 0.3, 1.0, 3.0)
_NOISES = (0.01, 0.03, 0.1, 0.3)
_KERNELS = ("rbf", "matern")
_AT_ONCE = 2_000
_USUAL = 0.95  # of training rows that are at most as far as that from another


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """A Gaussian process with mean 0 and variance 1 on standardized logarithms of features."""

    kernel: str
    length: float
    """Squared length scale, in units of squared distance."""
    usual: float
    """Squared distance to the nearest other, which 95 % of the training rows do not exceed."""
    mean: Floats
    scale: Floats
    rows: Floats
    """Standardized training rows."""
    weights: Floats

    @classmethod
    def fit(cls, features: NDArray[np.float32], targets: Floats) -> GaussianProcess:
        """Choose kernel, length and noise by the error of leaving one row out, and fit."""
        values = logarithm(features.astype(np.float64))
        mean, scale = values.mean(axis=0), values.std(axis=0)
        # What is the same in all rows is no distance among them; a row that differs in it is a step away.
        scale = np.where(scale < 1e-5, 1.0, scale)
        rows = (values - mean) / scale
        few = slice(_SELECTED_ROWS)
        distances = squared_distances(rows[few], rows[few])
        middle = float(np.median(distances)) or 1.0
        best = (np.inf, _KERNELS[0], middle, _NOISES[0])
        for kernel in _KERNELS:
            for length in _LENGTHS:
                values_, vectors = np.linalg.eigh(_covariance(kernel, distances, length * middle))
                turned = vectors.T @ targets[few]
                for noise in _NOISES:
                    precision = 1 / (np.maximum(values_, 0) + noise)
                    error = (vectors @ (turned * precision)) / ((vectors**2) @ precision)
                    best = min(best, (float(np.mean(error**2)), kernel, length * middle, noise))
        _, kernel, length, noise = best
        squared = squared_distances(rows, rows)
        covariance = _covariance(kernel, squared, length)
        covariance[np.diag_indices_from(covariance)] += noise
        weights = cho_solve(cho_factor(covariance, lower=True), targets)
        squared[np.diag_indices_from(squared)] = np.inf
        usual = float(np.quantile(squared.min(axis=1), _USUAL)) if len(rows) > 1 else middle
        return cls(kernel, length, usual or middle, mean, scale, rows, weights)

    def __post_init__(self) -> None:
        """Refuse what is never fitted, but may stand in a file."""
        if self.kernel not in _KERNELS:
            raise PredictorError(
                f"its process has the kernel {self.kernel!r:.40}, none of {', '.join(_KERNELS)}"
            )
        if len(self.rows) > MAX_ROWS:
            raise PredictorError(f"its process has {len(self.rows):,} rows, of {MAX_ROWS:,} at most")

    def of(self, features: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Return the mean at each row, and how unlike the training rows it is.

        That is 0 for a network that is as near to one of them as they usually are to each other, and goes to
        1 with the squared distance.
        """
        rows = (logarithm(features.astype(np.float64)) - self.mean) / self.scale
        means, unlikeness = [np.empty(0)], [np.empty(0)]
        for start in range(0, len(rows), _AT_ONCE):
            squared = squared_distances(rows[start : start + _AT_ONCE], self.rows)
            means.append(_covariance(self.kernel, squared, self.length) @ self.weights)
            beyond = np.maximum(squared.min(axis=1) / self.usual - 1, 0)
            unlikeness.append(1 - np.exp(-beyond))
        return np.concatenate(means), np.concatenate(unlikeness)


def squared_distances(left: Floats, right: Floats) -> Floats:
    """Return the squared distance of each row on the left to each on the right, (left, right)."""
    products = left @ right.T
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * products
    return np.asarray(np.maximum(squared, 0))


def _covariance(kernel: str, squared: Floats, length: float) -> Floats:
    if kernel == "rbf":
        return np.asarray(np.exp(-squared / length))
    distance = np.sqrt(3 * squared / length)
    return np.asarray((1 + distance) * np.exp(-distance))
