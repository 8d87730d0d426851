"""The predictor `features`: features of the graph, and three models, each where it is to be trusted.

1. Ridge regressions on few features, `lines.PANELS`, whose effect is alike in every search space. Straight
   lines go on beyond what was seen, so they carry what is learned to other spaces.
2. A Gaussian process on all features learns what the lines leave.
3. Gradient-boosted trees (LightGBM) learn the same from every row.

The last two know nothing beyond what they have seen: the further a network is from all training rows,
measured by how far these are from each other, the less they count.

Labels are turned into normal scores of their ranks, in each group of comparable labels by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, Self

import lightgbm
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from onnx_bench_dataset.errors import PredictorError
from onnx_bench_dataset.surrogates import lines, predictor_file
from onnx_bench_dataset.surrogates.features import NAMES, of_texts
from onnx_bench_dataset.surrogates.gaussian_process import ARRAYS, MAX_ROWS, GaussianProcess
from onnx_bench_dataset.surrogates.in_parallel import in_parallel
from onnx_bench_dataset.surrogates.lines import PANELS, Line, Panel, centered
from onnx_bench_dataset.surrogates.predictor import Predictor

Floats = NDArray[np.float64]


class GraphFeatures(Predictor):
    """Ridge regression, a Gaussian process and boosted trees on features of the graph.

    Scores are on the scale of normal scores: 0 is the median of a training space, 1 is above 84 % of it.
    """

    name = "features"
    summary = "features of the graph: ridge regression, Gaussian process and boosted trees"

    def __init__(self, panels: Sequence[Panel] = PANELS) -> None:
        """Make a predictor that has learned nothing, with a ridge regression on each of the panels."""
        self._panels = panels
        self._learned: _Learned | None = None

    def learn(self, networks: pa.Table, accuracies: Floats, groups: NDArray[np.int64], seed: int) -> None:
        """Learn from texts."""
        self.learn_features(features_of(networks["text"].to_pylist()), accuracies, groups, seed)

    def learn_features(
        self, features: NDArray[np.float32], accuracies: Floats, groups: NDArray[np.int64], seed: int
    ) -> None:
        """Learn from rows of features, in the order of `features.NAMES`."""
        targets = normal_scores(accuracies, groups)
        kept = np.flatnonzero(np.isfinite(targets))
        features, targets, groups = features[kept], targets[kept], groups[kept]
        fitted = [lines.fit(panel, features, targets, groups) for panel in self._panels]
        residual = targets - centered(_mean(line.of(features) for line in fitted), groups)
        chosen = _balanced(groups, seed)
        process = GaussianProcess.fit(features[chosen], residual[chosen])
        trees = _fit_trees(features, residual, seed)
        self._learned = _Learned(fitted, process, trees, len(chosen) / (len(chosen) + len(kept)))

    def score(self, networks: pa.Table) -> Floats:
        """Score texts."""
        return self.score_features(features_of(networks["text"].to_pylist()))

    def score_features(self, features: NDArray[np.float32]) -> Floats:
        """Score rows of features, in the order of `features.NAMES`."""
        return self.explain(features).scores

    def explain(self, features: NDArray[np.float32]) -> Explained:
        """Score rows of features, and say how unlike the training data each is: 0 to 1.

        Raises:
            PredictorError: the predictor has learned nothing yet.
        """
        learned = self._learned
        if learned is None:
            raise self._not_fitted()
        straight = _mean(line.of(features) for line in learned.lines)
        residual, unlikeness = learned.process.of(features)
        trees = np.asarray(learned.trees.predict(features, num_threads=1), dtype=np.float64)
        share = learned.process_share
        rest = share * residual + (1 - share) * trees
        return Explained(straight + (1 - unlikeness) * rest, unlikeness)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return coefficients, the rows of the process and the trees."""
        learned = self._learned
        if learned is None:
            raise self._not_fitted()
        process = learned.process
        arrays = {f"line_{number}": line.weights for number, line in enumerate(learned.lines)}
        arrays |= {name: getattr(process, name) for name in ARRAYS}
        arrays["rows"] = arrays["rows"].astype(np.float32)  # as exact as features are, in half the bytes
        settings = {
            "features": list(NAMES),
            "panels": [list(line.panel) for line in learned.lines],
            "process_share": learned.process_share,
            "kernel": process.kernel,
            "length": process.length,
            "usual": process.usual,
        }
        return settings, {
            "trees.txt": learned.trees.model_to_string().encode(),
            **{f"{name}.npy": predictor_file.from_array(array) for name, array in arrays.items()},
        }

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Make a predictor of what `state` returned."""
        if settings["features"] != list(NAMES) or not settings["panels"]:
            raise PredictorError("it reads other features than this version makes: fit it anew")
        arrays = {
            name.removesuffix(".npy"): predictor_file.to_array(content)
            for name, content in members.items()
            if name.endswith(".npy")
        }
        process = GaussianProcess(
            kernel=str(settings["kernel"]),
            length=float(settings["length"]),
            usual=float(settings["usual"]),
            **{name: arrays[name].astype(np.float64) for name in ARRAYS},
        )
        panels = [tuple(map(str, panel)) for panel in settings["panels"]]
        fitted = [
            Line(panel, arrays[f"line_{number}"].astype(np.float64)) for number, panel in enumerate(panels)
        ]
        trees = lightgbm.Booster(model_str=members["trees.txt"].decode())
        predictor = cls(panels)
        predictor._learned = _Learned(fitted, process, trees, float(settings["process_share"]))
        predictor.score_features(np.zeros((1, len(NAMES)), np.float32))  # shapes that do not fit show here
        return predictor


class Explained(NamedTuple):
    """Scores, and how unlike the training data networks are: 0 is as one of them, 1 as nothing among them."""

    scores: Floats
    unlikeness: Floats


@dataclass(frozen=True, slots=True)
class _Learned:
    lines: list[Line]
    process: GaussianProcess
    trees: lightgbm.Booster
    process_share: float
    """Weight of the process beside that of the trees: as the rows that they learned from."""


def features_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the features of texts, made on all cores where there are many.

    What was asked for before is remembered: protocols ask for the same networks again and again.
    """
    keys = [blake2b(text.encode(), digest_size=16).digest() for text in texts]
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in _remembered}
    if len(_remembered) + len(new) > _REMEMBERED:
        _remembered.clear()
        new = dict(zip(keys, texts, strict=True))
    if new:
        rows = np.concatenate(in_parallel(of_texts, list(new.values())))
        _remembered.update(zip(new, rows, strict=True))
    made = np.empty((len(texts), len(NAMES)), dtype=np.float32)
    for number, key in enumerate(keys):
        made[number] = _remembered[key]
    return made


_REMEMBERED = 1 << 20
_remembered: dict[bytes, NDArray[np.float32]] = {}


def normal_scores(accuracies: Floats, groups: NDArray[np.int64]) -> Floats:
    """Return the normal score of each label's rank in its group; NaN in a group of one row or one label."""
    found = np.full(len(accuracies), np.nan)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if np.ptp(accuracies[rows]) > 0:
            scores = norm.ppf((rankdata(accuracies[rows]) - 0.5) / len(rows))
            found[rows] = scores - scores.mean()
    return found


def _balanced(groups: NDArray[np.int64], seed: int) -> NDArray[np.intp]:
    """Draw rows for the process, of each group as many as of any other, as far as there are."""
    order = np.random.default_rng(seed).permutation(len(groups))
    rank = np.empty(len(groups), dtype=np.int64)  # of each row in its group
    for group in np.unique(groups):
        rows = order[groups[order] == group]
        rank[rows] = np.arange(len(rows))
    return order[np.argsort(rank[order], kind="stable")][:MAX_ROWS]


def _mean(values: Any) -> Floats:
    return np.asarray(np.mean(list(values), axis=0))


# Trees.


def _fit_trees(features: NDArray[np.float32], targets: Floats, seed: int) -> lightgbm.Booster:
    """Fit boosted trees; the fewer rows, the fewer and smaller."""
    count = len(targets)
    rounds, leaves, least = (150, 6, 3) if count < 500 else (400, 15, 5) if count < 3_000 else (800, 31, 10)
    settings = {
        "objective": "regression",
        "learning_rate": 0.05,
        "num_leaves": leaves,
        "min_child_samples": least,
        "feature_fraction": 0.3,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    return lightgbm.train(settings, lightgbm.Dataset(features, targets), rounds)
