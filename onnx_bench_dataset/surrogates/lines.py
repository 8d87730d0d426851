"""Ridge regressions on panels: few features each, whose effect is alike in every search space.

A panel is a list of names of features, or `log` and a name for the logarithm of one more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_bench_dataset.surrogates.features import NAMES

Floats = NDArray[np.float64]
Panel = tuple[str, ...]

LOG = "log "
CANDIDATES = (*NAMES, *(f"{LOG}{name}" for name in NAMES))
"""What a panel may hold."""

PANELS: tuple[Panel, ...] = (
    (
        *("macs", "flow_pools", "cell_count_activations", "log most_convolutions"),
        *("log cell_most_activations", "log count_maxima", "log cell_most_averages"),
    ),
    (
        *("macs_at_3", "log downsampling", "relative_width_convolutions", "count_depthwise"),
        *("ratio_convolutions", "log count_activations", "parameters", "segments"),
        *("log cell_count_pointwise", "paths", "most_reach", "log flow_share_pools"),
    ),
)
"""The panels of the predictor `features`.

They were chosen, greedily, so that regressions on them carry over between the spaces of the data set, in both
directions; what a regression does with them, it learns from its training rows alone.
"""

# Penalty on standardized coefficients, over the mean squared error: as of so much noise, and so many rows.
_RIDGE, _PRIOR_ROWS = 0.03, 3
_FULL_ROWS = 100  # of a group that counts as much as any other


@dataclass(frozen=True, slots=True)
class Line:
    """A linear function of a panel: weights of its features, then the constant."""

    panel: Panel
    weights: Floats

    def of(self, features: NDArray[np.float32]) -> Floats:
        """Return the value for each row of features, in the order of `features.NAMES`."""
        values: Floats = panel_values(self.panel, features) @ self.weights[:-1] + self.weights[-1]
        return values


def fit(panel: Panel, features: NDArray[np.float32], targets: Floats, groups: NDArray[np.int64]) -> Line:
    """Fit differences within groups, each group with the same weight, but for those of few rows.

    Args:
        panel: what the line reads.
        features: (rows, features).
        targets: (rows,), of mean 0 in each group.
        groups: (rows,).
    """
    values = panel_values(panel, features)
    within = np.stack([centered(column, groups) for column in values.T], axis=1)
    _, place, count = np.unique(groups, return_inverse=True, return_counts=True)
    # A handful of rows has a mean and a spread of its own: what it says must not outweigh thousands.
    share = np.minimum(count / min(count.max(), _FULL_ROWS), 1.0)
    weight = (share / (count * share.sum()))[place]
    weighted = within * weight[:, None]
    weights = ridge(weighted.T @ within, weighted.T @ targets, len(targets))
    return Line(panel, np.append(weights, -float(weight @ (values @ weights))))


def ridge(covariance: Floats, products: Floats, rows: int) -> Floats:
    """Return the weights of a ridge regression on standardized features, at the scale of the best line.

    Args:
        covariance: of the features, (features, features).
        products: of the features with what is regressed on them, (features,).
        rows: that both were measured on.
    """
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale < 1e-5, np.inf, scale)  # the same everywhere: it says nothing
    penalty = (_RIDGE + _PRIOR_ROWS / rows) * np.eye(len(scale))
    weights = np.linalg.solve(covariance / np.outer(scale, scale) + penalty, products / scale) / scale
    # Ridge shrinks: the scale is that of the best line in this direction.
    weights *= float(weights @ products) / (float(weights @ covariance @ weights) or 1.0)
    return np.asarray(weights)


def panel_values(panel: Sequence[str], features: NDArray[np.float32]) -> Floats:
    """Return the columns of a panel, (rows, panel)."""
    found = []
    for name in panel:
        values = features[:, NAMES.index(name.removeprefix(LOG))].astype(np.float64)
        found.append(logarithm(values) if name.startswith(LOG) else values)
    return np.stack(found, axis=1)


def logarithm(values: Floats) -> Floats:
    """Return the logarithm of one more, with the sign of the value."""
    return np.asarray(np.copysign(np.log1p(np.abs(values)), values))


def centered(values: Floats, groups: NDArray[np.int64]) -> Floats:
    """Return values less the mean of their group."""
    _, place, count = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=values) / count
    return np.asarray(values - means[place])
