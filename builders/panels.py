"""Choosing the features whose effect is alike in every search space, and what the choice costs unseen ones.

A panel begins with the feature that carries over best, and takes one more after another as long as that
carries over better; one that no longer helps is dropped. How well a panel carries over is Spearman's ρ of a
ridge regression on it with the accuracies of a family that the regression has not seen, mean over families:
half of the weight has a regression on all other families, the other half regressions on each space of them.
At every step only a tenth of the features, drawn at random, may join; many such panels differ, and their mean
carries over better than each of them.

`measure_blind` leaves one family out of all this, then ranks it: what nobody has seen, neither those who
learn nor those who choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from builders.labels import Progress
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.surrogates import evaluate
from onnx_bench_dataset.surrogates.evaluate import Measured
from onnx_bench_dataset.surrogates.graph_features import GraphFeatures, features_of, normal_scores
from onnx_bench_dataset.surrogates.lines import CANDIDATES, Panel, panel_values, ridge
from onnx_bench_dataset.surrogates.protocols import ZERO_SHOT_TARGET, Data

NAME = "features-blind"
"""What results are called."""

_OFFERED = 0.1  # share of the features that may join at a step
_LEAST_GAIN = 0.001  # of ρ, for which a feature joins
_LONGEST = 12
_SEED = 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """Rows of a space: all that may be in a panel, and their labels."""

    family: str
    values: Floats
    """(rows, `CANDIDATES`), less their means."""
    targets: Floats
    """Normal scores of the labels, (rows,)."""

    @classmethod
    def of(cls, family: str, features: NDArray[np.float32], accuracies: Floats) -> Known:
        """Take features, in the order of `features.NAMES`, and accuracies."""
        values = panel_values(CANDIDATES, features)
        targets = normal_scores(accuracies, np.zeros(len(accuracies), np.int64))
        return cls(family, values - values.mean(axis=0), targets)

    @cached_property
    def covariance(self) -> Floats:
        """Of all values with each other."""
        return np.asarray(self.values.T @ self.values / len(self.values))

    @cached_property
    def products(self) -> Floats:
        """Of all values with the targets."""
        return np.asarray(self.values.T @ self.targets / len(self.values))

    @cached_property
    def ranks(self) -> Floats:
        """Of the targets, standardized."""
        return _standardized(rankdata(self.targets))


class _Transfer(NamedTuple):
    """Spaces that a regression learns from, the space that it ranks, and what that counts."""

    sources: tuple[int, ...]
    target: int
    weight: float


def choose(spaces: Sequence[Known], count: int, progress: Progress) -> list[Panel]:
    """Choose panels that carry over between families.

    Raises:
        BuildError: the spaces are of one family.
    """
    transfers = list(_transfers(spaces))
    if not transfers:
        raise BuildError("features are chosen by what carries over between families: there is only one")
    generator = np.random.default_rng(_SEED)
    panels = [_panel(spaces, transfers, generator) for _ in progress(range(count), desc="panels chosen")]
    return [tuple(CANDIDATES[place] for place in panel) for panel in panels if panel]


def _transfers(spaces: Sequence[Known]) -> list[_Transfer]:
    found = []
    families = [space.family for space in spaces]
    for target, family in enumerate(families):
        sources = [place for place, other in enumerate(families) if other != family]
        share = 1 / families.count(family) / len(set(families))
        found += [_Transfer((one,), target, share / 2 / len(sources)) for one in sources]
        if sources:
            found.append(_Transfer(tuple(sources), target, share / 2))
    return sorted(found)


def _panel(
    spaces: Sequence[Known], transfers: Sequence[_Transfer], generator: np.random.Generator
) -> list[int]:
    worth = partial(_worth, spaces, transfers)
    panel: list[int] = []
    best = 0.0
    while len(panel) < _LONGEST:
        offered = np.flatnonzero(generator.random(len(CANDIDATES)) < _OFFERED).tolist()
        found = max(((worth([*panel, one]), one) for one in offered if one not in panel), default=(0.0, 0))
        if found[0] < best + _LEAST_GAIN:
            return panel
        best = found[0]
        panel.append(found[1])
        while len(panel) > 2:
            without = ([one for one in panel if one != dropped] for dropped in panel[:-1])
            value, shorter = max((worth(some), some) for some in without)
            if value <= best:
                break
            best, panel = value, shorter
    return panel


def _worth(spaces: Sequence[Known], transfers: Sequence[_Transfer], panel: Sequence[int]) -> float:
    """Return the weighted mean of ρ over transfers."""
    total = 0.0
    for sources, some in groupby(transfers, key=lambda transfer: transfer.sources):
        learned = [spaces[place] for place in sources]
        covariance = np.mean([space.covariance[np.ix_(panel, panel)] for space in learned], axis=0)
        products = np.mean([space.products[panel] for space in learned], axis=0)
        weights = ridge(covariance, products, sum(len(space.values) for space in learned))
        for transfer in some:
            target = spaces[transfer.target]
            total += transfer.weight * _rho(target.values[:, panel] @ weights, target.ranks)
    return total


def _rho(scores: Floats, ranks: Floats) -> float:
    """Return Spearman's ρ, with equal scores in the order of their rows: exact ranks take too long here."""
    if np.ptp(scores) < 1e-12:
        return 0.0
    order = np.empty(len(scores))
    order[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    return float((_standardized(order) * ranks).mean())


def _standardized(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())


class Budget(NamedTuple):
    """What is chosen and measured."""

    panels: int
    """Chosen for each family that is left out."""
    rows: int
    """Of each space that the choice sees."""
    seeds: int
    """So many times everything but the panels is drawn and fitted anew."""
    test_rows: int | None
    """At most so many rows of a space test; all if it is None."""


def measure_blind(path: str, budget: Budget, progress: Progress) -> dict[str, list[Measured]]:
    """Return, by protocol, how `features` ranks families that took no part in the choice of its panels.

    Raises:
        BuildError: fewer than three families have trained labels.
    """
    data = Data(path, ["text"])
    families = {space: family for family, members in data.families().items() for space in members}
    known = [
        _known(data, space, family, budget.rows)
        for space, family in families.items()
        if data.is_trained(space)
    ]
    found: dict[str, list[Measured]] = {"zero-shot": [], "leave-one-family-out": []}
    for family in dict.fromkeys(families.values()):
        chosen = choose([space for space in known if space.family != family], budget.panels, progress)
        tested: dict[str, tuple[str, ...]] = {"leave-one-family-out": (f"all but {family}",)}
        if family == families.get(ZERO_SHOT_TARGET):
            tested["zero-shot"] = ()
        for protocol, only in tested.items():
            found[protocol] += evaluate.evaluate(
                partial(GraphFeatures, chosen),
                protocol,
                path,
                seeds=budget.seeds,
                test_rows=budget.test_rows,
                only=only,
                progress=lambda tasks, what: progress(tasks, desc=what),
            )
    return found


def _known(data: Data, space: str, family: str, rows: int) -> Known:
    drawn = data.drawn(space, rows, _SEED)
    return Known.of(family, features_of(drawn["text"].to_pylist()), drawn["accuracy"].to_numpy())
