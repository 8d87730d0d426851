"""Our proxies rank NAS-Bench-201 as the published scores of the same proxies do; prints the docs' table.

The published scores (NAS-Bench-Suite-Zero, Krishnakumar et al. 2022) were computed on images of CIFAR-10,
ours on noise. `pytest -m slow tests/proxies/test_published_scores.py -s` needs an hour on one core.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr

from onnx_bench_dataset import spaces
from onnx_bench_dataset.proxies import PROXIES, scores

NETWORKS = 500
BATCH = 16
PUBLISHED_NAMES = {"macs": "flops", "naswot": "nwot"}
LEAST = {
    "params": 0.999,
    "macs": 0.99,
    "l2_norm": 0.9,
    "synflow": 0.99,
    "naswot": 0.9,
    "grad_norm": 0.9,
    "snip": 0.9,
}
"""Rank correlations with the published scores; of the other proxies the table tells."""

Table = Mapping[str, Mapping[str, str]]


@pytest.fixture(scope="module")
def table(published: Path) -> Table:
    with (published / "nasbench201" / "nb201_zc_proxies.csv").open(newline="") as file:
        return {row["net_str"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def accuracies(published: Path) -> dict[str, float]:
    architectures = spaces.get("nasbench201").architectures()
    with (published / "nasbench201" / "cifar10" / "accuracies.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    return {architectures[int(row[0])]: float(row[1]) for row in rows if row[0].isdecimal()}


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    finite = [pair for pair in pairs if all(map(math.isfinite, pair))]
    return float(spearmanr(*zip(*finite, strict=True)).statistic)


def compare(
    table: Table, accuracies: Mapping[str, float], names: Sequence[str], count: int
) -> dict[str, float]:
    """Print a line per proxy; return the rank correlation of each with its published scores."""
    chosen = sorted(set(table) & set(accuracies))
    random.Random(0).shuffle(chosen)
    chosen = chosen[:count]
    found = [scores(spaces.get("nasbench201").model(a), names, batch=BATCH) for a in chosen]
    correlations = {}
    print(f"\n| {count} networks | with published scores | with accuracy | published scores with accuracy |")
    print("| --- | --: | --: | --: |")
    for name in names:
        ours = [each[name] for each in found]
        measured = [accuracies[a] for a in chosen]
        cells = [rank_correlation(list(zip(ours, measured, strict=True)))]
        column = PUBLISHED_NAMES.get(name, name)
        if column in next(iter(table.values())):
            theirs = [float(table[a][column]) for a in chosen]
            correlations[name] = rank_correlation(list(zip(ours, theirs, strict=True)))
            cells = [correlations[name], *cells, rank_correlation(list(zip(theirs, measured, strict=True)))]
        else:
            cells = [math.nan, *cells, math.nan]
        print(f"| `{name}` | {' | '.join('–' if math.isnan(c) else f'{c:.3f}' for c in cells)} |")
    return correlations


def test_sizes_rank_as_published(table: Table, accuracies: dict[str, float]) -> None:
    torch.set_num_threads(1)
    found = compare(table, accuracies, ["params", "macs", "synflow"], 15)
    assert found["params"] > 0.999
    assert found["macs"] > 0.99
    assert found["synflow"] > 0.98


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_all_proxies_rank_as_published(table: Table, accuracies: dict[str, float]) -> None:
    torch.set_num_threads(1)
    found = compare(table, accuracies, list(PROXIES), NETWORKS)
    for name, least in LEAST.items():
        assert found[name] >= least, name
