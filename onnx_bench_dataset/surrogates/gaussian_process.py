"""A Gaussian process on features of networks: what it learned, and how unlike all of it a network is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.linalg.lapack import dtrtri

from onnx_bench_dataset.errors import PredictorError

Floats = NDArray[np.float64]

MAX_ROWS = 2_000
"""Rows that a process is fitted to."""

ARRAYS = ("mean", "scale", "rows", "weights")
"""What of a fitted process is kept, beside kernel, length and noise."""

_SELECTED_ROWS = 900  # on which the kernel is chosen
_LENGTHS = (0.1, 0.3, 1.0, 3.0)
_NOISES = (0.01, 0.03, 0.1, 0.3)
_KERNELS = ("rbf", "matern")
_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """A Gaussian process with mean 0 and variance 1 on standardized logarithms of features."""

    kernel: str
    length: float
    """Squared length scale, in units of squared distance."""
    noise: float
    mean: Floats
    scale: Floats
    rows: Floats
    """Standardized training rows."""
    weights: Floats
    inverse: Floats
    """Of the Cholesky factor of kernel plus noise, a lower triangle."""

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
        inverse = _inverse_factor(kernel, length, noise, rows)
        return cls(kernel, length, noise, mean, scale, rows, inverse.T @ (inverse @ targets), inverse)

    @classmethod
    def made(
        cls,
        kernel: str,
        length: float,
        noise: float,
        mean: Floats,
        scale: Floats,
        rows: Floats,
        weights: Floats,
    ) -> GaussianProcess:
        """Make a process of what was fitted.

        Raises:
            PredictorError: it has more rows than are ever fitted.
        """
        if len(rows) > MAX_ROWS:
            raise PredictorError(f"its process has {len(rows):,} rows, of {MAX_ROWS:,} at most")
        inverse = _inverse_factor(kernel, length, noise, rows)
        return cls(kernel, length, noise, mean, scale, rows, weights, inverse)

    def of(self, features: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Return mean and variance at each row."""
        rows = (logarithm(features.astype(np.float64)) - self.mean) / self.scale
        means, variances = [np.empty(0)], [np.empty(0)]
        for start in range(0, len(rows), _AT_ONCE):
            distances = squared_distances(rows[start : start + _AT_ONCE], self.rows)
            covariance = _covariance(self.kernel, distances, self.length)
            means.append(covariance @ self.weights)
            explained = ((covariance @ self.inverse.T) ** 2).sum(axis=1)
            variances.append(np.clip(1 - explained, 0, 1))
        return np.concatenate(means), np.concatenate(variances)


def _inverse_factor(kernel: str, length: float, noise: float, rows: Floats) -> Floats:
    """Return the inverse of the Cholesky factor of the kernel between rows plus noise."""
    covariance = _covariance(kernel, squared_distances(rows, rows), length)
    covariance[np.diag_indices_from(covariance)] += noise
    inverse, _ = dtrtri(cholesky(covariance, lower=True), lower=1)
    return np.asarray(inverse)


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


def logarithm(values: Floats) -> Floats:
    """Return the logarithm of one more, with the sign of the value."""
    return np.asarray(np.copysign(np.log1p(np.abs(values)), values))
