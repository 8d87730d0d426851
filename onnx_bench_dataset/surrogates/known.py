"""Networks whose accuracy is known: which of them are nearest, and where an accuracy stands among them.

A *standing* is the normal score of a rank: 0 is the median of the known networks, 1 is above 84 % of them. A
*distance* is the root mean square, over features, of the difference in standard deviations of the known.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from onnx_bench_dataset.errors import PredictorError
from onnx_bench_dataset.surrogates.features import NAMES
from onnx_bench_dataset.surrogates.gaussian_process import squared_distances
from onnx_bench_dataset.surrogates.lines import logarithm

Floats = NDArray[np.float64]

MAX_KNOWN = 20_000
"""Networks that are kept to find the nearest among."""

_STEPS = 1_000  # between the least and the largest accuracy, in equal parts of all ranks
_AT_ONCE = 1_000


class Nearest(NamedTuple):
    """The nearest known networks, each (rows, count), the nearest first."""

    places: NDArray[np.int64]
    distances: Floats


class KnownNetworks:
    """Some networks with their features, and the accuracies of all those from which they were drawn."""

    def __init__(
        self,
        ids: Sequence[str],
        features: NDArray[np.float16],
        accuracies: NDArray[np.float32],
        quantiles: NDArray[np.float32],
    ) -> None:
        """Keep networks.

        Args:
            ids: one for each network.
            features: (networks, features), logarithms as `comparable` makes them.
            accuracies: (networks,), percent.
            quantiles: of the accuracies of all known networks, the least first, in equal parts of all ranks.

        Raises:
            PredictorError: there are none, too many, or their numbers do not fit.
        """
        if not 0 < len(ids) <= MAX_KNOWN or features.shape != (len(ids), len(NAMES)):
            raise PredictorError(f"the features of {len(ids):,} known networks do not fit")
        if accuracies.shape != (len(ids),) or quantiles.shape != (_STEPS + 1,):
            raise PredictorError(f"the accuracies of {len(ids):,} known networks do not fit")
        self.ids = tuple(ids)
        self.features = features
        self.accuracies = accuracies
        self.quantiles = quantiles
        values = features.astype(np.float64)
        self._mean, deviation = values.mean(axis=0), values.std(axis=0)
        # What is the same in all of them is a step away from a network that differs in it.
        self._scale = np.where(deviation < 1e-3, 1.0, deviation) * np.sqrt(len(NAMES))
        self._rows = (values - self._mean) / self._scale

    @classmethod
    def of(
        cls, ids: Sequence[str], features: NDArray[np.float32], accuracies: Floats, all_accuracies: Floats
    ) -> Self:
        """Keep networks, (networks, features), drawn from those of `all_accuracies`, in percent."""
        quantiles = np.quantile(all_accuracies, np.linspace(0, 1, _STEPS + 1))
        return cls(ids, comparable(features), accuracies.astype(np.float32), quantiles.astype(np.float32))

    def nearest(self, features: NDArray[np.float32], count: int) -> Nearest:
        """Return the `count` known networks, or all if there are fewer, that are nearest to each row."""
        count = min(count, len(self.ids))
        rows = (comparable(features).astype(np.float64) - self._mean) / self._scale
        places, distances = [np.empty((0, count), np.int64)], [np.empty((0, count))]
        for start in range(0, len(rows), _AT_ONCE):
            squared = squared_distances(rows[start : start + _AT_ONCE], self._rows)
            found = np.sort(np.argpartition(squared, count - 1, axis=1)[:, :count], axis=1)
            order = np.argsort(np.take_along_axis(squared, found, axis=1), axis=1, kind="stable")
            found = np.take_along_axis(found, order, axis=1)
            places.append(found)
            distances.append(np.sqrt(np.take_along_axis(squared, found, axis=1)))
        return Nearest(np.concatenate(places), np.concatenate(distances))

    def standings(self, accuracies: Floats) -> Floats:
        """Return where accuracies, in percent, stand among all known networks; equal ones share a rank."""
        below, upto = (np.searchsorted(self.quantiles, accuracies, side) for side in ("left", "right"))
        return np.asarray(ndtri(((below + upto) / 2 + 0.5) / (_STEPS + 2)))

    def accuracies_at(self, standings: Floats) -> Floats:
        """Return the accuracies, in percent, of known networks with these standings."""
        return np.asarray(np.interp(ndtr(standings), np.linspace(0, 1, _STEPS + 1), self.quantiles))

    def members(self) -> dict[str, bytes]:
        """Return all of it as named contents of files."""
        file = io.BytesIO()
        np.savez(file, features=self.features, accuracies=self.accuracies, quantiles=self.quantiles)
        return {"known.txt": "\n".join(self.ids).encode(), "known.npz": file.getvalue()}

    @classmethod
    def from_members(cls, members: Mapping[str, bytes]) -> Self:
        """Make it of what `members` returned.

        Raises:
            Exception: it is not what `members` returned.
        """
        with np.load(io.BytesIO(members["known.npz"]), allow_pickle=False) as arrays:
            return cls(members["known.txt"].decode().split("\n"), **arrays)


def comparable(features: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return features as they are kept and compared: rounded logarithms."""
    return logarithm(features.astype(np.float64)).astype(np.float16)
