"""The predictor `ensemble`: `features` and `gnn`, each where it is to be trusted.

`features` knows how unlike its training data a network is. The less it is, the more `gnn` counts; of a
network of another space `features` alone tells, whose lines go on where a neural network does not. Where
there are more rows to learn from, `gnn` counts more, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onnx_bench_dataset.surrogates.gnn import Gnn
from onnx_bench_dataset.surrogates.graph_features import GraphFeatures, features_of
from onnx_bench_dataset.surrogates.predictor import Predictor

_EVEN_ROWS = 50  # of which both learn equally well


class Ensemble(Predictor):
    """The mean of the scores of `features` and `gnn`, weighed by what was learned from.

    Scores are on the scale of normal scores: 0 is the median of a training space, 1 is above 84 % of it.
    """

    name = "ensemble"
    summary = "features and gnn, each where it is to be trusted"

    def __init__(self, **options: Any) -> None:
        """Take the options of `gnn`."""
        self._features = GraphFeatures()
        self._gnn = Gnn(**options)
        self._share = 0.0  # of `gnn`, where nothing is unlike the training data

    def learn(
        self, networks: pa.Table, accuracies: NDArray[np.float64], groups: NDArray[np.int64], seed: int
    ) -> None:
        """Fit both to all rows."""
        self._features.learn(networks, accuracies, groups, seed)
        self._gnn.learn(networks, accuracies, groups, seed)
        # Errors of what is learned shrink with the root of the rows.
        self._share = 1 / (1 + math.sqrt(_EVEN_ROWS / max(len(accuracies), 1)))

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Score texts."""
        if not self._share:
            raise self._not_fitted()
        scores, unlikeness = self._features.explain(features_of(networks["text"].to_pylist()))
        return np.asarray(scores + (1 - unlikeness) * self._share * (self._gnn.score(networks) - scores))

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what both learned."""
        if not self._share:
            raise self._not_fitted()
        settings: dict[str, Any] = {"share": self._share}
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
        made._share = float(settings["share"])
        return made
