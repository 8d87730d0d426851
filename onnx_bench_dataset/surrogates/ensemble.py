"""The predictor `ensemble`: `features` and `gnn`, each where it is to be trusted.

`features` knows how unlike its training data a network is. The less it is, the more the mean of both counts;
of a network of another space `features` alone tells, whose lines go on where a neural network does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onnx_bench_dataset.surrogates.gnn import Gnn, Graphs
from onnx_bench_dataset.surrogates.graph_features import GraphFeatures, features_of
from onnx_bench_dataset.surrogates.predictor import Predictor

_SHARE = 0.5  # of the neural network, where nothing is unlike the training data


class Ensemble(Predictor):
    """The mean of the scores of `features` and `gnn`, those of `gnn` on the scale of the former.

    Scores are on the scale of normal scores: 0 is the median of a training space, 1 is above 84 % of it.
    """

    name = "ensemble"
    summary = "features and gnn, each where it is to be trusted"

    def __init__(self, **options: Any) -> None:
        """Take the options of `gnn`."""
        self._features = GraphFeatures()
        self._gnn = Gnn(**options)
        self._mean = self._deviation = 0.0

    def learn(
        self, networks: pa.Table, accuracies: NDArray[np.float64], groups: NDArray[np.int64], seed: int
    ) -> None:
        """Fit both to all rows."""
        self._features.learn(networks, accuracies, groups, seed)
        graphs = Graphs(networks["text"].to_pylist())
        self._gnn.learn_graphs(graphs, accuracies, groups, seed)
        scores = self._gnn.score_graphs(graphs)
        self._mean, self._deviation = float(scores.mean()), float(scores.std()) or 1.0

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Score texts."""
        if not self._deviation:
            raise self._not_fitted()
        scores, unlikeness = self._features.explain(features_of(networks["text"].to_pylist()))
        neural = (self._gnn.score(networks) - self._mean) / self._deviation
        return np.asarray(scores + (1 - unlikeness) * _SHARE * (neural - scores))

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what both learned."""
        if not self._deviation:
            raise self._not_fitted()
        settings: dict[str, Any] = {"mean": self._mean, "deviation": self._deviation}
        members: dict[str, bytes] = {}
        for part in (self._features, self._gnn):
            settings[part.name], own = part.state()
            members |= {f"{part.name}/{name}": content for name, content in own.items()}
        return settings, members

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Make one of what both learned."""
        made = cls(**settings[Gnn.name])

        def of(part: str) -> dict[str, bytes]:
            return {
                name.removeprefix(f"{part}/"): content
                for name, content in members.items()
                if name.startswith(f"{part}/")
            }

        made._features = GraphFeatures.from_state(settings[GraphFeatures.name], of(GraphFeatures.name))
        made._gnn = Gnn.from_state(settings[Gnn.name], of(Gnn.name))
        made._mean, made._deviation = float(settings["mean"]), float(settings["deviation"])
        return made
