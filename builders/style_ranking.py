"""How well styles of text rank networks, read by one model that is trained alike on each of them.

The model is the small one of `onnxnet`, with a tokenizer of its own for each style. It sees the same rows in
the same order, as often, and no more tokens of a text than a bound. It is trained on a space, and ranks
held-out rows of that space and rows of another one, of which it knows nothing. As our text has fewer tokens,
it is also trained on more often, until it has read nearly as many.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from builders import manifest, pool
from builders.labels import Progress
from builders.row_groups import row_groups
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.graphs import simplify
from onnx_bench_dataset.surrogates.onnxnet import VOCABULARY, OnnxNet
from onnx_bench_dataset.surrogates.tokenizer import train_tokenizer
from onnx_bench_dataset.text import STYLES, encode

OURS, THEIRS = STYLES[0], "chain-slim"

LONGER = 3
"""Times that our text is seen more often, in the second comparison."""

VARIANTS = {THEIRS: (THEIRS, 1), f"{OURS}, {LONGER} times as long": (OURS, LONGER), OURS: (OURS, 1)}
"""What is compared: style, and by what epochs are multiplied. What takes longest comes first."""

SPACES = ("nasbench101", "nasbench201")
"""Each is trained on, and both are ranked then; their accuracies are of CIFAR-10 after full training."""

_MEASURES = {"kendall": kendalltau, "spearman": spearmanr}
_SIGNS = {"kendall": "Kendall τ", "spearman": "Spearman ρ"}


@dataclass(frozen=True)
class Budget:
    """What a style may use, the same for all."""

    train_rows: int = 1_000
    test_rows: int = 1_000
    epochs: int = 2
    seeds: int = 2
    max_length: int = 512
    """Tokens of a text; the rest is cut."""
    draws: int = 1_000
    """Of the ranked rows, with repetition, for intervals that hold 95 of 100."""


class _Run(NamedTuple):
    source: str
    variant: str


class _Ranking(NamedTuple):
    """What a run cost, and for each target accuracies and the scores of every seed: (rows,)."""

    run: _Run
    cost: dict[str, Any]
    targets: dict[str, tuple[NDArray[np.float64], list[NDArray[np.float64]]]]


def compare(folder: Path, budget: Budget, workers: int, progress: Progress) -> dict[str, Any]:
    """Train and rank with every variant; return what JSON can say, see `table`.

    Raises:
        BuildError: the folder is damaged or lacks one of `SPACES`.
    """
    records = manifest.read(folder)
    if missing := [space for space in SPACES if space not in records]:
        raise BuildError(f"{folder} has no rows of {', '.join(missing)}: build them first")
    runs = [_Run(source, variant) for variant in VARIANTS for source in SPACES]
    with pool.processes(workers) as executor:
        done = pool.run(executor, workers, partial(_rank, folder, budget), runs)
        found = {each.run: each for each in progress(done, desc="trainings", total=len(runs))}
    return {
        "budget": asdict(budget),
        "costs": [found[_Run(source, variant)].cost for source in SPACES for variant in reversed(VARIANTS)],
        "ranking": [
            {
                "source": source,
                "target": target,
                **ranked(
                    found[_Run(source, THEIRS)].targets[target][0],
                    {variant: found[_Run(source, variant)].targets[target][1] for variant in VARIANTS},
                    budget.draws,
                ),
            }
            for source in SPACES
            for target in SPACES
        ],
    }


def _rank(folder: Path, budget: Budget, run: _Run) -> _Ranking:
    torch.set_num_threads(1)
    style, times = VARIANTS[run.variant]
    epochs = times * budget.epochs
    training = _rows(folder, run.source, "train", budget.train_rows, style)
    targets = {space: _rows(folder, space, "test", budget.test_rows, style) for space in SPACES}
    scores: dict[str, list[NDArray[np.float64]]] = {space: [] for space in SPACES}
    begun = time.process_time()
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # texts are cut: the cost says it
        for seed in range(budget.seeds):
            predictor = OnnxNet(max_length=budget.max_length, epochs=epochs).fit(training, seed)
            for space, rows in targets.items():
                scores[space].append(predictor.predict(rows))
    seconds = (time.process_time() - begun) / budget.seeds
    texts = training["text"].to_pylist()
    read = train_tokenizer(texts, VOCABULARY)(texts, verbose=False)["input_ids"]
    lengths = np.array([len(tokens) for tokens in read])
    cost = {
        "source": run.source,
        "variant": run.variant,
        "tokens": int(np.median(lengths)),
        "cut": round(float(np.mean(lengths > budget.max_length)), 3),
        "read": int(np.minimum(lengths, budget.max_length).sum()) * epochs,
        "seconds": round(seconds),
    }
    return _Ranking(
        run, cost, {space: (targets[space]["accuracy"].to_numpy(), scores[space]) for space in SPACES}
    )


def _rows(folder: Path, space: str, split: str, count: int, style: str) -> pa.Table:
    """Return rows of a split, which depend on their number alone, with the text in a style."""
    record = manifest.read(folder)[space]
    shards = tuple(shard for shard in record.shards if manifest.split_of(shard.path) == split)
    drawn = [
        row
        for group in row_groups(folder, space, replace(record, shards=shards), count)
        if group.sampled
        for row in group.rows(["text", "onnx", "accuracy"], group.sampled)
    ]
    if any(row["accuracy"] is None for row in drawn):
        raise BuildError(f"rows of {space} have no accuracy: build it with its labels")
    return pa.table(
        {
            "text": [row["text"] if style == OURS else _restyled(row["onnx"], style) for row in drawn],
            "accuracy": [row["accuracy"] for row in drawn],
        }
    )


def _restyled(stored: bytes, style: str) -> str:
    return encode(simplify(onnx.ModelProto.FromString(stored)), style)


def ranked(
    accuracies: NDArray[np.float64], scores: Mapping[str, list[NDArray[np.float64]]], draws: int
) -> dict[str, dict[str, list[float]]]:
    """Return mean, low and high of each variant in each measure, and by how much `chain-slim` is less.

    Args:
        accuracies: (rows,).
        scores: of each variant those of every seed, (rows,), over which correlations are averaged.
        draws: of the rows, from which low and high are.
    """
    random = np.random.default_rng(0)
    drawn = [random.integers(len(accuracies), size=len(accuracies)) for _ in range(draws)]
    found = {}
    for measure, correlation in _MEASURES.items():
        values = {
            variant: np.array(
                [
                    np.mean([correlation(each[rows], accuracies[rows])[0] for each in of_seeds])
                    for rows in (np.arange(len(accuracies)), *drawn)
                ]
            )
            for variant, of_seeds in scores.items()
        }
        leads = {_lead(variant): of - values[THEIRS] for variant, of in values.items() if variant != THEIRS}
        found[measure] = {
            name: [round(float(each), 3) for each in (of[0], *np.quantile(of[1:], (0.025, 0.975)))]
            for name, of in {**values, **leads}.items()
        }
    return found


def _lead(variant: str) -> str:
    return f"{variant}, less {THEIRS}"


def write(found: Mapping[str, Any], path: Path) -> None:
    """Write what `compare` found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def table(found: Mapping[str, Any]) -> str:
    """Return Markdown tables of what `compare` found: how well variants rank, and what they read for it."""
    budget = Budget(**found["budget"])
    shown = [
        name
        for variant in dict.fromkeys(cost["variant"] for cost in found["costs"])
        for name in ((variant,) if variant == THEIRS else (variant, _lead(variant)))
    ]
    lines = [
        f"{budget.train_rows:,} rows to train on, seen {budget.epochs} times, at most {budget.max_length} "
        f"tokens of a text, {budget.test_rows:,} rows to rank; means of {budget.seeds} seeds, with intervals "
        "that hold 95 of 100 draws of the ranked rows:",
        "",
        f"| trained on | ranks | measure | {' | '.join(shown)} |",
        f"| --- | --- | --- |{' --: |' * len(shown)}",
    ]
    for one in found["ranking"]:
        for measure in _MEASURES:
            cells = [_interval(one[measure][name]) for name in shown]
            lines.append(f"| {one['source']} | {one['target']} | {_SIGNS[measure]} | {' | '.join(cells)} |")
    lines += [
        "",
        "| trained on | text | tokens of a text, median | texts that are cut | tokens read in training "
        "| seconds of one core, a seed |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    for cost in found["costs"]:
        lines.append(
            f"| {cost['source']} | {cost['variant']} | {cost['tokens']:,} | {cost['cut']:.1%} "
            f"| {cost['read']:,} | {cost['seconds']:,} |"
        )
    return "\n".join(lines)


def _interval(values: Sequence[float]) -> str:
    mean, low, high = values
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"
