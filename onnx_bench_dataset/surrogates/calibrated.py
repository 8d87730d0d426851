"""The predictor `features` beside networks of known accuracy: scores become accuracies with intervals.

Scores rank networks, each search space by itself; how spaces stand to each other they do not say. So a score
is moved by what the nearest known networks have in common: how far each stands above or below its own score.
Far from all known networks nothing is moved.

How wrong that is has been measured on networks that nothing was learned from: those of the same families, and
those of a family that was left out. An interval is as wide as nine in ten of the errors of networks that are
as far from all known ones, in the group of networks where errors are largest.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from onnx_bench_dataset.errors import PredictorError
from onnx_bench_dataset.surrogates import predictor_file
from onnx_bench_dataset.surrogates.graph_features import GraphFeatures
from onnx_bench_dataset.surrogates.known import KnownNetworks
from onnx_bench_dataset.surrogates.prediction import CALIBRATION, Estimate, Neighbour, Prediction

Floats = NDArray[np.float64]

COVERAGE = 0.9
"""Share of intervals that hold the true value."""

_KNOWN = 5_200  # networks that are kept, of all groups alike
_NEIGHBOURS = 10  # that move a score
_REACH = 0.3  # the distance at which a neighbour counts for 1/e
_SILENCE = 0.1  # the weight of a neighbour that moves nothing
_SHOWN = 3  # neighbours of a prediction
_LEFT_OUT_ROWS = 12_000  # to learn from when a family is left out
_BOUNDS = np.array([0.05, 0.1, 0.2, 0.4, 0.6, 2.0])  # on distance, between which errors are alike
_LEAST = 100  # errors of which a width is taken


class Labelled(NamedTuple):
    """Networks to learn from and to calibrate with: an entry for each in every field, in random order."""

    ids: NDArray[np.object_]
    features: NDArray[np.float32]
    """(networks, features)."""
    accuracies: Floats
    """Percent."""
    groups: NDArray[np.int64]
    """Those of one number were labelled alike."""
    families: NDArray[np.int64]
    """Those of one number are left out together."""
    known: NDArray[np.bool_]
    """Whether the accuracy is of the data set that is predicted; others are only ranked."""
    tests: NDArray[np.bool_]
    """Whether it calibrates; nothing else is learned from it."""

    def where(self, chosen: NDArray[Any]) -> Labelled:
        """Return some of them."""
        return Labelled(*[values[chosen] for values in self])


class _Placed(NamedTuple):
    """Where networks are predicted to stand; all but the neighbours are (networks,)."""

    standings: Floats
    scores: Floats
    unlikeness: Floats
    places: NDArray[np.int64]
    distances: Floats


class _Errors(NamedTuple):
    """How far off standings are, and how far the nearest known network is, each (networks,)."""

    distances: Floats
    sizes: Floats


class CalibratedPredictor:
    """Predicts accuracies and ranks, with intervals."""

    def __init__(
        self,
        predictor: GraphFeatures,
        known: KnownNetworks,
        offsets: Floats,
        widths: Floats,
        made: Mapping[str, Any],
    ) -> None:
        """Put a predictor together.

        Args:
            predictor: what scores networks.
            known: networks whose accuracy is known.
            offsets: (known networks,), their standing less their score.
            widths: half the length of intervals, in standings, below each of the bounds on distance and
                beyond the last; infinite where nothing was measured.
            made: of which data and how, as JSON can say it.

        Raises:
            PredictorError: numbers do not fit.
        """
        if offsets.shape != (len(known.ids),) or widths.shape != (len(_BOUNDS) + 1,):
            raise PredictorError("the calibration does not fit the known networks")
        self.predictor = predictor
        self.known = known
        self.made = made
        self._offsets = offsets
        self._widths = widths

    @classmethod
    def fit(cls, networks: Labelled, seed: int, made: Mapping[str, Any]) -> Self:
        """Learn from networks, and calibrate.

        Args:
            networks: to learn from, and others, of the same groups, to calibrate with.
            seed: for everything that is drawn.
            made: what the file is to say of how it was made.

        Raises:
            PredictorError: there is no known network, or there are no labels to learn an order from.
        """
        uncalibrated = np.full(len(_BOUNDS) + 1, np.inf)
        trains, tests = networks.where(~networks.tests), networks.where(networks.tests & networks.known)
        whole = cls(*_learned(trains, seed), uncalibrated, made)
        errors = whole._errors(tests)
        for family in np.unique(tests.families):
            others = trains.where(np.flatnonzero(trains.families != family)[:_LEFT_OUT_ROWS])
            if others.known.any():
                part = cls(*_learned(others, seed), uncalibrated, {})
                errors += part._errors(tests.where(tests.families == family))
        return cls(whole.predictor, whole.known, whole._offsets, _widths(errors), made)

    def predict(self, features: NDArray[np.float32]) -> list[Prediction]:
        """Predict networks by their features, (networks, features), in the order of `features.NAMES`."""
        placed = self._place(features)
        half = self._widths[np.searchsorted(_BOUNDS, placed.distances[:, 0], "right")]
        bounds = np.stack([placed.standings, placed.standings - half, placed.standings + half], axis=1)
        percentiles, accuracies = 100 * ndtr(bounds), self.known.accuracies_at(bounds)
        return [
            Prediction(
                Estimate(*percentiles[row].tolist()),
                Estimate(*accuracies[row].tolist()),
                tuple(self._neighbours(placed.places[row, :_SHOWN], placed.distances[row])),
                float(placed.unlikeness[row]),
                float(placed.scores[row]),
            )
            for row in range(len(features))
        ]

    def save(self, path: Path | str) -> None:
        """Write a file of the predictor `features` which holds the rest, too, whole or not at all."""
        settings, members = self.predictor.state()
        arrays = io.BytesIO()
        np.savez(arrays, offsets=self._offsets.astype(np.float32), widths=self._widths)
        members = {**members, **self.known.members(), CALIBRATION: arrays.getvalue()}
        predictor_file.write(Path(path), GraphFeatures.name, {**settings, "made": dict(self.made)}, members)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Return the predictor of a file that `save` wrote.

        Raises:
            PredictorError: the file is missing, damaged, altered, of another version, or not calibrated.
        """
        name, settings, members = predictor_file.read(Path(path))
        if name != GraphFeatures.name or CALIBRATION not in members:
            raise PredictorError(f"{path} is of the predictor {name} alone, without known networks")
        try:
            with np.load(io.BytesIO(members[CALIBRATION]), allow_pickle=False) as arrays:
                offsets, widths = arrays["offsets"].astype(np.float64), arrays["widths"]
            known = KnownNetworks.from_members(members)
            predictor = GraphFeatures.from_state(settings, members)
            return cls(predictor, known, offsets, widths, settings["made"])
        except Exception as error:  # whatever a reader of numbers or trees raises
            raise PredictorError(
                f"{path} is no sound file of a predictor: {type(error).__name__}: {error}"
            ) from error

    def _place(self, features: NDArray[np.float32]) -> _Placed:
        scores, unlikeness = self.predictor.explain(features)
        places, distances = self.known.nearest(features, _NEIGHBOURS)
        weights = np.exp(-((distances / _REACH) ** 2))
        moved = (weights * self._offsets[places]).sum(axis=1) / (weights.sum(axis=1) + _SILENCE)
        least, most = self.known.standings(self.known.quantiles[[0, -1]].astype(np.float64))
        standings = np.clip(scores + moved, least, most)
        return _Placed(standings, scores, unlikeness, places, distances)

    def _errors(self, networks: Labelled) -> list[_Errors]:
        """Return for each group how far off standings are."""
        placed = self._place(networks.features)
        sizes = np.abs(self.known.standings(networks.accuracies) - placed.standings)
        chosen = [networks.groups == group for group in np.unique(networks.groups)]
        return [_Errors(placed.distances[rows, 0], sizes[rows]) for rows in chosen]

    def _neighbours(self, places: NDArray[np.int64], distances: Floats) -> Iterator[Neighbour]:
        for place, distance in zip(places.tolist(), distances.tolist(), strict=False):
            yield Neighbour(self.known.ids[place], float(self.known.accuracies[place]), distance)


def _learned(networks: Labelled, seed: int) -> tuple[GraphFeatures, KnownNetworks, Floats]:
    """Return a predictor, known networks and their offsets."""
    predictor = GraphFeatures()
    predictor.learn_features(networks.features, networks.accuracies, networks.groups, seed)
    labelled = networks.where(networks.known)
    groups = np.unique(labelled.groups)
    share = _KNOWN // max(len(groups), 1)
    chosen = [np.flatnonzero(labelled.groups == group)[:share] for group in groups]
    if not chosen:
        raise PredictorError("there is no network whose accuracy is of the data set that is predicted")
    kept = labelled.where(np.concatenate(chosen))
    known = KnownNetworks.of(kept.ids.tolist(), kept.features, kept.accuracies, labelled.accuracies)
    return predictor, known, known.standings(kept.accuracies) - predictor.score_features(kept.features)


def _widths(errors: Sequence[_Errors]) -> Floats:
    """Return, between bounds on distance, what nine in ten errors of each group, and of all, are below.

    It never falls with distance. Where no group tells it, it is that of networks further away, or infinite.
    """
    together = _Errors(*[np.concatenate(values) for values in zip(*errors, strict=True)])
    found = np.stack([_quantiles(group) for group in (*errors, together)])
    widths = np.full(found.shape[1], np.inf)
    for place in reversed(range(len(widths))):
        told = found[~np.isnan(found[:, place]), place]
        widths[place] = told.max() if len(told) else widths[min(place + 1, len(widths) - 1)]
    return np.maximum.accumulate(widths)


def _quantiles(errors: _Errors) -> Floats:
    """Return what nine in ten errors of a group are below, between bounds on distance; NaN if not known.

    Where there are too few errors to tell it, they count with those of networks further away.
    """
    found = np.full(len(_BOUNDS) + 1, np.nan)
    places = np.searchsorted(_BOUNDS, errors.distances, "right")
    first = int(places.min(initial=len(found)))
    for place in range(first, len(found)):
        among = errors.sizes[(places >= first) & (places <= place)]
        if len(among) >= _LEAST:
            found[place] = np.quantile(among, COVERAGE)
            first = place + 1
    return found
