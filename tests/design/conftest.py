"""What tests of designs share: a small data set of real cells with made-up labels, and what it teaches."""

import datasets
import numpy as np
import pytest

from builders.labels import LabelledArchitecture, Metric
from onnx_bench_dataset.design import Settings, learn, measured_cells
from onnx_bench_dataset.design.baselines import mutated
from onnx_bench_dataset.spaces.nasbench101 import parse, write
from onnx_bench_dataset.spaces.nasbench101_cells import cell_hash
from tests.builders import tiny_folder

START = "conv3x3-bn-relu:0 maxpool3x3:0,1 conv1x1-bn-relu:0,2 conv3x3-bn-relu:1,3 output:0,4"
QUICK = Settings(steps=40, models=1)


def cells(count):
    """Return different cells, each one change away from the one before."""
    draw, cell = np.random.default_rng(0), parse(START)
    found = {}
    while len(found) < count:
        cell = mutated(cell, draw)
        found.setdefault(cell_hash(cell), cell)
    return found


def rows(count, validated=False):
    """Rows of different cells: 3×3 convolutions and links make accuracy; validation is opposite."""
    made = []
    for number, (name, cell) in enumerate(cells(count).items()):
        accuracy = 80.0 + 2 * cell.operations.count("conv3x3-bn-relu") + cell.num_edges / 10
        metrics = [Metric("cifar10", "test", "accuracy", 108, 3, accuracy)]
        if validated:
            metrics.append(Metric("cifar10", "valid", "accuracy", 108, 3, 180.0 - accuracy))
        split = "test" if number % 5 == 4 else "train"
        made.append(
            LabelledArchitecture(
                name, write(cell), "cifar10", accuracy, "trained", tuple(metrics), None, split
            )
        )
    return made


def make_folder(folder, made):
    """Write rows of NAS-Bench-101 into a data set."""
    folder.mkdir()
    tiny_folder.finish(folder, {"nasbench101": tiny_folder.add_space(folder, "nasbench101", made)})
    return str(folder)


@pytest.fixture(scope="package", autouse=True)
def cache(tmp_path_factory):
    """Keep the cache of `datasets` out of the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="package")
def data(tmp_path_factory):
    """A data set of 60 cells."""
    return make_folder(tmp_path_factory.mktemp("design") / "rows", rows(60))


@pytest.fixture(scope="package")
def knowledge(data):
    return measured_cells(data).knowledge(experts=8, seed=0)


@pytest.fixture(scope="package")
def writer(knowledge):
    return learn(knowledge, seed=0, settings=QUICK)
