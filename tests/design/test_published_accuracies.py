"""Designs beside the published accuracies: good ones where experts are good, bad ones where they are bad."""

import numpy as np
import pytest

from builders import nasbench101
from builders.sources import Sources
from onnx_bench_dataset import spaces
from onnx_bench_dataset.design import MeasuredCells, design, learn
from onnx_bench_dataset.spaces.nasbench101 import parse
from onnx_bench_dataset.spaces.nasbench101_cells import cell_hash

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(published):
    """All cells of NAS-Bench-101, the best first."""
    labelled = sorted(nasbench101.read(Sources(published)), key=lambda row: -row.accuracy)
    return MeasuredCells(
        [row.name for row in labelled],
        [row.architecture for row in labelled],
        np.array([row.accuracy for row in labelled]),
        "mean test accuracy",
    )


@pytest.fixture(scope="module")
def writer(measured):
    return learn(measured.knowledge(20, seed=0), seed=0)


def accuracies(measured, writer):
    known = dict(zip(measured.ids, measured.accuracies, strict=True))
    return [known[cell_hash(parse(one.architecture))] for one in design("nasbench101", writer, 10, seed=0)]


def test_designs_are_among_the_best_cells_of_nasbench101(measured, writer):
    assert np.median(accuracies(measured, writer)) > 93.7  # 1,111 of 423,624 cells are better


def test_of_the_worst_cells_nothing_good_is_learned(measured, writer):
    worst = measured._replace(ids=measured.ids[::-1], architectures=measured.architectures[::-1])
    designs = accuracies(measured, learn(worst.knowledge(20, seed=0), seed=0))
    assert np.median(designs) < np.median(measured.accuracies)


def test_what_is_learned_carries_over_to_nasbench201(published, writer):
    table = np.loadtxt(published / "nasbench201" / "cifar10" / "accuracies.csv", delimiter=",", skiprows=1)
    known = dict(zip(spaces.get("nasbench201").architectures(), table[:, 1], strict=True))
    found = [known[one.architecture] for one in design("nasbench201", writer, 10, seed=0)]
    assert np.median(found) > 94.37 - 0.5
