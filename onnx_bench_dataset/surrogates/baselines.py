"""Predictors that learn nothing: chance, and sizes that every row states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onnx_bench_dataset.surrogates.predictor import Predictor


class Unlearned(Predictor):
    """Base of predictors that learn nothing."""

    learns = False

    def learn(
        self, networks: pa.Table, accuracies: NDArray[np.float64], groups: NDArray[np.int64], seed: int
    ) -> None:
        """Learn nothing."""

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return nothing."""
        return {}, {}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Return a new one."""
        return cls()


class _Size(Unlearned):
    """A column as the score."""

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Return the column."""
        sizes: NDArray[np.float64] = networks[self.columns[0]].to_numpy().astype(np.float64)
        return sizes


class Params(_Size):
    """More learnable parameters are better."""

    name = "params"
    summary = "number of learnable parameters"
    columns = ("num_params",)


class Macs(_Size):
    """More multiply-accumulates are better."""

    name = "macs"
    summary = "number of multiply-accumulates"
    columns = ("macs",)


class Depth(_Size):
    """Longer paths are better."""

    name = "depth"
    summary = "operations on the longest path"
    columns = ("depth",)


class Random(Unlearned):
    """Scores that are drawn, from the seed of `fit`."""

    name = "random"
    summary = "chance"
    columns = ("num_params",)

    def __init__(self, seed: int = 0) -> None:
        """Take the seed, which `fit` may change."""
        self._seed = seed

    def learn(
        self, networks: pa.Table, accuracies: NDArray[np.float64], groups: NDArray[np.int64], seed: int
    ) -> None:
        """Keep the seed."""
        self._seed = seed

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Draw scores."""
        return np.random.default_rng(self._seed).random(len(networks))

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the seed."""
        return {"seed": self._seed}, {}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Take the seed."""
        return cls(int(settings["seed"]))
