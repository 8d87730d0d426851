"""Baselines: changes of experts, frequent links, and searches that keep to their budget."""

import numpy as np
from design.conftest import START, cells

from onnx_bench_dataset.design import Knowledge
from onnx_bench_dataset.design.baselines import (
    frequent_links,
    mutated,
    mutated_experts,
    random_search,
    regularized_evolution,
)
from onnx_bench_dataset.spaces.nasbench101 import parse, write
from onnx_bench_dataset.spaces.nasbench101_cells import cell_hash


def test_changed_cells_are_other_cells_of_the_benchmark():
    draw, cell = np.random.default_rng(0), parse(START)
    for _ in range(200):
        changed = mutated(cell, draw)
        assert changed != cell
        assert parse(write(changed)) == changed


def test_changed_experts_are_new_and_different(knowledge):
    found = mutated_experts(knowledge, 10, seed=0)
    names = {cell_hash(cell) for cell in found}
    assert len(names) == 10
    assert not names & {cell_hash(cell) for cell in knowledge.experts}
    assert mutated_experts(knowledge, 10, seed=0) == found


def test_frequent_links_are_those_of_experts():
    """Of two experts that differ in one operation, what is drawn mixes no more than that operation."""
    one = parse("conv3x3-bn-relu:0 conv3x3-bn-relu:1 maxpool3x3:0,2 output:0,3")
    two = parse("conv3x3-bn-relu:0 conv1x1-bn-relu:1 conv1x1-bn-relu:0,2 output:0,3")
    found = frequent_links(Knowledge((one, two), (), ""), 10, seed=0)
    assert {cell.inputs for cell in found} == {one.inputs}
    assert {cell.operations[1:] for cell in found} == {
        ("conv3x3-bn-relu", "conv1x1-bn-relu"),
        ("conv1x1-bn-relu", "maxpool3x3"),
    }


def test_searches_ask_for_no_more_accuracies_than_they_may():
    asked = []

    def accuracy(cell):
        asked.append(cell)
        return float(cell.operations.count("conv3x3-bn-relu"))

    some = list(cells(20).values())
    best = regularized_evolution(some, accuracy, 20, seed=0)
    assert len(asked) == 20
    assert accuracy(best) == max(map(accuracy, asked[:20]))
    asked.clear()
    assert accuracy(random_search(some, accuracy)) == max(map(accuracy, some))
