"""How well a predictor does under a protocol: rank correlations, and what picking its favourites costs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata, spearmanr

from onnx_bench_dataset import __version__
from onnx_bench_dataset.errors import PredictorError
from onnx_bench_dataset.surrogates.predictor import Predictor
from onnx_bench_dataset.surrogates.protocols import Data, Task, tasks
from onnx_bench_dataset.surrogates.visible import NETWORK

SEEDS = 5
RESAMPLES = 200
_TOP = 0.01
_POINTS = 300
_FAMILY = "all of the family"

Progress = Callable[[Iterable[Task], str], Iterable[Task]]


class Figures(NamedTuple):
    """How well scores order rows."""

    tau: float
    """Kendall's τ-b between scores and accuracies."""
    rho: float
    """Spearman's ρ."""
    regret: float
    """Points of accuracy between the best row and the best among the 1 % with the highest scores."""
    precision: float
    """Share of the 1 % with the highest scores that are among the 1 % best."""


class Measured(NamedTuple):
    """The figures of one task on one space, or on all of a family: a row of a results file.

    `mean` and `deviation` are over training seeds; `low` and `high` bound the 95 % interval over rows drawn
    again with replacement, for the first seed.
    """

    task: str
    family: str
    space: str
    label: str
    train_rows: int
    test_rows: int
    mean: Figures
    deviation: Figures
    low: Figures
    high: Figures
    seconds: float
    """For fitting and predicting, mean over seeds."""
    points: list[list[float]]
    """Of some rows, those of the first seed: the share of rows with a lower score, and the accuracy."""


def figures(scores: NDArray[np.float64], accuracies: NDArray[np.float64]) -> Figures:
    """Return how well scores order rows; constant scores order nothing, which counts as 0.

    >>> round(figures(np.array([1.0, 2, 3]), np.array([10.0, 30, 20])).tau, 4)
    0.3333
    """
    count = max(1, round(_TOP * len(scores)))
    # Equal scores are in no order: shuffled, so that the order of the file helps nobody.
    shuffled = np.random.default_rng(0).permutation(len(scores))
    chosen = shuffled[np.argsort(-scores[shuffled], kind="stable")[:count]]
    threshold = np.sort(accuracies)[-count]
    is_ordered = np.ptp(scores) > 0 and np.ptp(accuracies) > 0
    return Figures(
        float(kendalltau(scores, accuracies).statistic) if is_ordered else 0.0,
        float(spearmanr(scores, accuracies).statistic) if is_ordered else 0.0,
        float(accuracies.max() - accuracies[chosen].max()),
        float((accuracies[chosen] >= threshold).mean()),
    )


def evaluate(
    make: Callable[[], Predictor],
    protocol: str,
    path: str = "onnx-bench",
    *,
    seeds: int = SEEDS,
    test_rows: int | None = None,
    only: Sequence[str] = (),
    progress: Progress = lambda tasks, what: tasks,
) -> list[Measured]:
    """Fit and test a predictor by a protocol.

    Args:
        make: returns a new predictor.
        protocol: a key of `protocols.PROTOCOLS`.
        path: data set: a folder or a Hub repository.
        seeds: so many times everything is drawn and fitted anew.
        test_rows: at most so many rows of a space test; all by default.
        only: tasks whose name has one of these words; all by default.
        progress: wraps the tasks of a seed.

    Raises:
        UnknownNameError: there is no such protocol, or the data set lacks a space that it needs.
        PredictorError: there is nothing to carry over, or no such task.
    """
    sample = make()
    data = Data(path, [name for name in NETWORK if name in sample.columns], test_rows, sample.learns)
    outcomes: dict[str, list[tuple[Task, NDArray[np.float64], float]]] = {}
    for seed in range(seeds if sample.learns else 1):
        for task in progress(tasks(protocol, data, seed), f"seed {seed}"):
            if only and not any(word in task.name for word in only):
                continue
            start = time.perf_counter()
            predictor = make().fit(task.train, seed) if sample.learns else sample
            scores = predictor.predict(task.test.select(data.columns))
            outcome = (task, scores, time.perf_counter() - start)
            outcomes.setdefault(task.name, []).append(outcome)
    if not outcomes:
        raise PredictorError(f"no task of {protocol} has one of the words {', '.join(only)} in its name")
    return [row for outcome in outcomes.values() for row in _summary(outcome)]


def _summary(outcome: Sequence[tuple[Task, NDArray[np.float64], float]]) -> list[Measured]:
    """Return the figures of a task, for each space, and for the family if it has several."""
    first = outcome[0][0]
    spaces = first.test["space"].unique().to_pylist()
    rows = []
    for space in [*spaces, *([_FAMILY] if len(spaces) > 1 else [])]:
        found, interval = [], None
        for task, scores, _ in outcome:
            is_here = _is_of(task, space)
            accuracies = task.test["accuracy"].to_numpy().astype(np.float64)[is_here]
            found.append(figures(scores[is_here], accuracies))
            interval = interval or _interval(scores[is_here], accuracies)
        assert interval is not None
        labels = first.test.filter(_is_of(first, space))["label"].unique().to_pylist()
        rows.append(
            Measured(
                first.name,
                first.family,
                space,
                " and ".join(sorted(labels)),
                len(first.train),
                int(_is_of(first, space).sum()),
                Figures(*np.mean(found, axis=0).tolist()),
                Figures(*np.std(found, axis=0).tolist()),
                *interval,
                float(np.mean([seconds for _, _, seconds in outcome])),
                _points(outcome[0][1][_is_of(first, space)], first, space),
            )
        )
    return rows


def _points(scores: NDArray[np.float64], task: Task, space: str) -> list[list[float]]:
    accuracies = task.test["accuracy"].to_numpy().astype(np.float64)[_is_of(task, space)]
    ranks = (rankdata(scores) - 0.5) / len(scores)
    drawn = np.random.default_rng(0).permutation(len(scores))[:_POINTS]
    made: list[list[float]] = np.stack([ranks[drawn].round(4), accuracies[drawn].round(2)], axis=1).tolist()
    return made


def _is_of(task: Task, space: str) -> NDArray[np.bool_]:
    names = task.test["space"].to_numpy(zero_copy_only=False)
    return np.ones(len(names), bool) if space == _FAMILY else np.asarray(names == space)


def _interval(scores: NDArray[np.float64], accuracies: NDArray[np.float64]) -> tuple[Figures, Figures]:
    generator = np.random.default_rng(0)
    drawn = [generator.integers(len(scores), size=len(scores)) for _ in range(RESAMPLES)]
    found = [figures(scores[rows], accuracies[rows]) for rows in drawn]
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return Figures(*low.tolist()), Figures(*high.tolist())


def write(path: Path, predictor: str, protocol: str, rows: Sequence[Measured], about: dict[str, Any]) -> None:
    """Write results as JSON, whole or not at all; `about` says what else is to be known of them."""
    content = {
        "predictor": predictor,
        "protocol": protocol,
        "version": __version__,
        **about,
        "results": [_plain(row) for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".tmp-{path.name}")
    aside.write_text(_json(content) + "\n", encoding="utf-8")
    aside.rename(path)


def _json(content: dict[str, Any]) -> str:
    """Return JSON with a result on each line, so that files compare well."""
    lines = [json.dumps(row, ensure_ascii=False) for row in content.pop("results")]
    head = json.dumps(content, indent=1, ensure_ascii=False).removesuffix("\n}")
    return head + ',\n "results": [\n' + ",\n".join(lines) + "\n ]\n}"


def _plain(row: Measured) -> dict[str, Any]:
    return {
        name: (
            {figure: round(number, 4) for figure, number in value._asdict().items()}
            if isinstance(value, Figures)
            else round(value, 2)
            if isinstance(value, float)
            else value
        )
        for name, value in row._asdict().items()
    }


def read(path: Path) -> tuple[dict[str, Any], list[Measured]]:
    """Return what is known of results, and the results.

    Raises:
        PredictorError: the file holds none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [_measured(row) for row in content.pop("results")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PredictorError(f"{path} holds no results of predictors: {error}") from error
    return content, rows


def _measured(row: Any) -> Measured:
    values: dict[str, Any] = {
        name: Figures(**value) if isinstance(value, dict) else value for name, value in row.items()
    }
    return Measured(**values)
