"""Designs are valid, new and different, and the same for the same seed."""

import numpy as np
import pytest

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


def test_the_seed_says_all(knowledge):
    brief = Settings(steps=5, models=2)
    one, again, other = (learn(knowledge, seed, brief) for seed in (0, 0, 1))
    assert design("nasbench101", one, 5, seed=3) == design("nasbench101", again, 5, seed=3)
    assert design("nasbench101", one, 5, seed=3) != design("nasbench101", one, 5, seed=4)
    assert not np.allclose(one.weigh(knowledge.experts), other.weigh(knowledge.experts))


def test_experts_weigh_more_than_ordinary_cells(knowledge, writer):
    ordinary = [cell for cell in knowledge.ordinary if cell not in knowledge.experts]
    assert np.median(writer.weigh(knowledge.experts)) > np.median(writer.weigh(ordinary))


def test_without_ordinary_cells_links_of_experts_weigh_more_than_missing_ones(knowledge):
    settings = Settings(steps=40, models=1, negatives=Negatives.MISSING)
    assert (learn(knowledge, seed=0, settings=settings).weigh(knowledge.experts) > 0).all()


def test_written_cells_have_the_operations_that_experts_have():
    """Experts of nothing but 3×3 convolutions teach to write nothing else."""
    expert = parse("conv3x3-bn-relu:0 conv3x3-bn-relu:0,1 conv3x3-bn-relu:2 output:0,3")
    knowledge = Knowledge((expert,), (parse("maxpool3x3:0 output:1"),), "")
    cells = learn(knowledge, 0, Settings(models=1)).write(200, seed=0)
    kinds = [kind for cell in cells for kind in cell.operations]
    assert kinds.count("conv3x3-bn-relu") / len(kinds) > 0.9


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
