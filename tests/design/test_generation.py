"""Designs are valid, new and different, and the same for the same seed."""

import numpy as np
import pytest
from design.conftest import QUICK

from onnx_bench_dataset import spaces
from onnx_bench_dataset.design import Knowledge, Negatives, Settings, design, learn
from onnx_bench_dataset.design.cells import nasbench201_cell, nasbench301_cell
from onnx_bench_dataset.errors import DesignError, UnknownNameError
from onnx_bench_dataset.spaces.nasbench101 import parse
from onnx_bench_dataset.spaces.nasbench101_cells import MAX_EDGES, MAX_VERTICES, cell_hash
from onnx_bench_dataset.spaces.nasbench301_genotypes import parse as genotype

FORMS = {
    "nasbench101": lambda architecture: [parse(architecture)],
    "nasbench201": lambda architecture: [nasbench201_cell(architecture)],
    "nasbench301": lambda architecture: list(map(nasbench301_cell, genotype(architecture))),
}


@pytest.mark.parametrize("space", FORMS)
def test_designs_are_networks_that_are_new_and_different(space, writer, knowledge):
    found = design(space, writer, count=5, seed=0)
    known = {cell_hash(cell) for cell in knowledge.experts}
    for one in found:
        spaces.get(space).network(one.architecture)
        for cell in FORMS[space](one.architecture):
            assert cell_hash(cell) not in known
            known.add(cell_hash(cell))
    assert [one.weight for one in found] == sorted((one.weight for one in found), reverse=True)


def test_designs_of_nasbench101_keep_to_its_limits(writer):
    for one in design("nasbench101", writer, count=50, seed=0):
        cell = parse(one.architecture)
        assert cell.num_edges <= MAX_EDGES
        assert len(cell.inputs) + 1 <= MAX_VERTICES


def test_the_seed_says_all(knowledge, writer):
    again = learn(knowledge, seed=0, settings=QUICK)
    assert design("nasbench101", again, 5, seed=3) == design("nasbench101", writer, 5, seed=3)
    other = learn(knowledge, seed=1, settings=QUICK)
    assert design("nasbench101", other, 5, seed=3) != design("nasbench101", writer, 5, seed=3)


@pytest.mark.parametrize("negatives", Negatives)
def test_experts_weigh_more_than_ordinary_cells(knowledge, negatives):
    writer = learn(knowledge, seed=0, settings=Settings(steps=60, models=1, negatives=negatives))
    ordinary = [cell for cell in knowledge.ordinary if cell not in knowledge.experts]
    experts, others = writer.weigh(knowledge.experts), writer.weigh(ordinary)
    assert np.median(experts) > np.median(others)


def test_written_cells_have_the_operations_that_experts_have():
    """Experts of nothing but 3×3 convolutions teach to write nothing else."""
    expert = parse("conv3x3-bn-relu:0 conv3x3-bn-relu:0,1 conv3x3-bn-relu:2 output:0,3")
    writer = learn(Knowledge((expert,), (parse("maxpool3x3:0 output:1"),), ""), 0, Settings(models=1))
    cells = writer.write(200, seed=0)
    kinds = [kind for cell in cells for kind in cell.operations]
    assert kinds.count("conv3x3-bn-relu") / len(kinds) > 0.9
    assert cells.count(expert) > 100


def test_a_random_state_of_pytorch_is_left_as_it_is(knowledge):
    import torch

    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    learn(knowledge, 0, Settings(steps=1, models=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_more_designs_than_there_are_cells(writer):
    with pytest.raises(DesignError, match=r"16,000 new architectures of nasbench201 .* ask for at most"):
        design("nasbench201", writer, 16_000)
    with pytest.raises(DesignError, match="at least one"):
        design("nasbench201", writer, 0)


def test_a_space_that_nothing_can_be_designed_for(writer):
    with pytest.raises(UnknownNameError, match="nothing can be designed for 'einspace', but for nasbench101"):
        design("einspace", writer)
