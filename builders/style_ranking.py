"""How well styles of text rank networks, read by one model that is trained alike on each of them.

The model is the small one of `onnxnet`, with a tokenizer of its own for each style. It sees the same rows in
the same order, as often, and no more tokens of a text than a bound. It is trained on a space, and ranks
held-out rows of that space and rows of another one, of which it knows nothing.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from builders import manifest
from builders.labels import Progress
from builders.manifest import SpaceRecord
from builders.row_groups import row_groups
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.graphs import simplify
from onnx_bench_dataset.surrogates.onnxnet import VOCABULARY, OnnxNet
from onnx_bench_dataset.surrogates.tokenizer import train_tokenizer
from onnx_bench_dataset.text import STYLES, encode

STYLES_COMPARED = (STYLES[0], "chain-slim")
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


def compare(folder: Path, budget: Budget, progress: Progress) -> dict[str, Any]:
    """Train and rank with every style; return what JSON can say, see `table`.

    Raises:
        BuildError: the folder is damaged or lacks one of `SPACES`.
    """
    records = manifest.read(folder)
    if missing := [space for space in SPACES if space not in records]:
        raise BuildError(f"{folder} has no rows of {', '.join(missing)}: build them first")
    rows = {
        (space, split): _rows(folder, space, records[space], split, count)
        for space in SPACES
        for split, count in (("train", budget.train_rows), ("test", budget.test_rows))
    }
    scores: dict[tuple[str, str, str], list[NDArray[np.float64]]] = {}
    costs = []
    runs = [(source, style) for source in SPACES for style in STYLES_COMPARED]
    for source, style in progress(runs, desc="trainings", total=len(runs)):
        training = _in_style(rows[source, "train"], style)
        begun = time.process_time()
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # texts are cut: `costs` says it
            for seed in range(budget.seeds):
                predictor = OnnxNet(max_length=budget.max_length, epochs=budget.epochs).fit(training, seed)
                for target in SPACES:
                    found = predictor.predict(_in_style(rows[target, "test"], style))
                    scores.setdefault((source, target, style), []).append(found)
        costs.append(_cost(source, style, training["text"].to_pylist(), budget, time.process_time() - begun))
    return {
        "budget": asdict(budget),
        "costs": costs,
        "ranking": [
            {
                "source": source,
                "target": target,
                **ranked(
                    rows[target, "test"]["accuracy"].to_numpy(),
                    {style: scores[source, target, style] for style in STYLES_COMPARED},
                    budget.draws,
                ),
            }
            for source in SPACES
            for target in SPACES
        ],
    }


def ranked(
    accuracies: NDArray[np.float64], scores: Mapping[str, list[NDArray[np.float64]]], draws: int
) -> dict[str, dict[str, list[float]]]:
    """Return mean, low and high of each style, and of the first less the second, in each measure.

    Args:
        accuracies: (rows,).
        scores: of each style those of every seed, (rows,), over which correlations are averaged.
        draws: of the rows, from which low and high are.
    """
    random = np.random.default_rng(0)
    drawn = [random.integers(len(accuracies), size=len(accuracies)) for _ in range(draws)]
    found = {}
    for measure, correlation in _MEASURES.items():
        values = {}
        for style, of_seeds in scores.items():
            values[style] = [
                float(np.mean([correlation(each[rows], accuracies[rows])[0] for each in of_seeds]))
                for rows in (np.arange(len(accuracies)), *drawn)
            ]
        first, second = (np.array(values[style]) for style in STYLES_COMPARED)
        values["difference"] = (first - second).tolist()
        found[measure] = {
            name: [
                round(float(each), 3) for each in (of_draws[0], *np.quantile(of_draws[1:], (0.025, 0.975)))
            ]
            for name, of_draws in values.items()
        }
    return found


def write(found: Mapping[str, Any], path: Path) -> None:
    """Write what `compare` found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def table(found: Mapping[str, Any]) -> str:
    """Return Markdown tables of what `compare` found: how well styles rank, and what they read for it."""
    budget = Budget(**found["budget"])
    ours, theirs = STYLES_COMPARED
    lines = [
        f"{budget.train_rows:,} rows to train on, seen {budget.epochs} times, at most {budget.max_length} "
        f"tokens of a text, {budget.test_rows:,} rows to rank; means of {budget.seeds} seeds, with intervals "
        "that hold 95 of 100 draws of the ranked rows:",
        "",
        f"| trained on | ranks | measure | `{ours}` | `{theirs}` | difference |",
        "| --- | --- | --- | --: | --: | --: |",
    ]
    for one in found["ranking"]:
        for measure in _MEASURES:
            cells = [_interval(one[measure][name]) for name in (ours, theirs, "difference")]
            lines.append(f"| {one['source']} | {one['target']} | {_SIGNS[measure]} | {' | '.join(cells)} |")
    lines += [
        "",
        "| trained on | text | tokens of a text, median | texts that are cut | tokens read in training "
        "| seconds of one core, a seed |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    for cost in found["costs"]:
        lines.append(
            f"| {cost['source']} | `{cost['style']}` | {cost['tokens']:,} | {cost['cut']:.1%} "
            f"| {cost['read']:,} | {cost['seconds']:,} |"
        )
    return "\n".join(lines)


def _rows(folder: Path, space: str, record: SpaceRecord, split: str, count: int) -> pa.Table:
    """Return rows of a split, drawn by their number alone: a column for each style, and `accuracy`."""
    shards = tuple(shard for shard in record.shards if manifest.split_of(shard.path) == split)
    drawn = [
        row
        for group in row_groups(folder, space, replace(record, shards=shards), count)
        if group.sampled
        for row in group.rows(["text", "onnx", "accuracy"], group.sampled)
    ]
    if any(row["accuracy"] is None for row in drawn):
        raise BuildError(f"rows of {space} have no accuracy: build it with its labels")
    models = [simplify(onnx.ModelProto.FromString(row["onnx"])) for row in drawn]
    styles = {style: [encode(model, style) for model in models] for style in STYLES_COMPARED}
    return pa.table({**styles, "accuracy": [row["accuracy"] for row in drawn]})


def _in_style(rows: pa.Table, style: str) -> pa.Table:
    return pa.table({"text": rows[style], "accuracy": rows["accuracy"]})


def _cost(source: str, style: str, texts: list[str], budget: Budget, seconds: float) -> dict[str, Any]:
    """Return what a style cost; `seconds` are those of all seeds."""
    read = train_tokenizer(texts, VOCABULARY)(texts, verbose=False)["input_ids"]
    lengths = np.array([len(tokens) for tokens in read])
    return {
        "source": source,
        "style": style,
        "tokens": int(np.median(lengths)),
        "cut": round(float(np.mean(lengths > budget.max_length)), 3),
        "read": int(np.minimum(lengths, budget.max_length).sum()) * budget.epochs,
        "seconds": round(seconds / budget.seeds),
    }


def _interval(values: Sequence[float]) -> str:
    mean, low, high = values
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"
