"""The loss that ranks, the batches it compares, and training that neither devices nor chance change."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from onnx_bench_dataset.errors import PredictorError
from onnx_bench_dataset.surrogates.ranking import Recipe, batches, pairwise_loss, score, seeded, train

RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.1)


class Line(nn.Module):
    """Scores a number by a line."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, batch):
        return self.line(batch)[:, 0]


def inputs(values):
    return lambda rows: torch.tensor(values[rows, None], dtype=torch.float32)


def fit(network, values, accuracies, groups):
    with seeded(0):
        train(network, inputs(values), accuracies, groups, RECIPE, 0)


@pytest.fixture
def line():
    """Values, and a network that is to rank them, from the wrong order on."""
    network = Line()
    network.line.weight.data.fill_(-1.0)
    return np.random.default_rng(0).normal(size=200), network


def test_the_loss_is_the_published_one_where_all_pairs_are_compared():
    torch.manual_seed(0)
    scores, accuracies = torch.randn(9), torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8, 9])[torch.randperm(9)]
    first, second = torch.triu_indices(9, 9, 1)
    order = torch.sign(accuracies[first] - accuracies[second])
    published = nn.MarginRankingLoss(margin=0.1)(scores[first], scores[second], order)
    assert torch.isclose(pairwise_loss(scores, accuracies, 0.1, 4), published)


def test_equal_accuracies_are_no_pair():
    scores = torch.tensor([1.0, 5.0, 2.0], requires_grad=True)
    assert pairwise_loss(scores, torch.tensor([90.0, 90.0, 80.0]), 0.5, 4) == 0.75  # 1.5 and 0
    loss = pairwise_loss(scores, torch.full((3,), 90.0), 0.5, 4)
    loss.backward()
    assert loss == 0.0
    assert scores.grad.tolist() == [0.0, 0.0, 0.0]


def test_so_many_pairs_are_drawn_for_a_row():
    scores = torch.zeros(64, requires_grad=True)
    pairwise_loss(scores, torch.arange(64.0), 1.0, 2).backward()
    pushed = (scores.grad * 128).round().abs().sum()  # a row of k pairs that it wins is pushed k times
    assert 0 < pushed <= 2 * 128


def test_a_batch_is_of_one_group_and_every_row_is_in_one():
    groups = np.repeat([3, 7, 1], [40, 5, 1])
    made = batches(groups, 16, np.random.default_rng(0))
    assert sorted(np.concatenate(made)) == list(range(45))  # the last row has none to be compared to
    assert all(len(set(groups[batch])) == 1 for batch in made)
    assert sorted(map(len, made)) == [5, 13, 13, 14]


def test_training_ranks_within_groups_whatever_lies_between_them(line):
    values, network = line
    groups = np.arange(200) % 2
    accuracies = np.where(groups == 1, values / 10 + 50, values)
    fit(network, values, accuracies, groups)
    found = score(network, inputs(values), np.arange(200), RECIPE)
    assert np.corrcoef(found, values)[0, 1] > 0.99


def test_without_a_margin_scores_become_the_targets(line):
    values, network = line
    recipe = Recipe(epochs=60, batch_size=16, learning_rate=0.1, weight_decay=0.0, margin=None, final=0.0)
    train(network, inputs(values), 2 * values + 1, np.zeros(200, np.int64), recipe, 0)
    assert np.allclose(score(network, inputs(values), np.arange(200), recipe), 2 * values + 1, atol=0.02)


def test_a_seed_makes_the_same_network(line):
    values, _ = line
    weights = []
    for _ in range(2):
        with seeded(5):
            network = Line()
        fit(network, values, values, np.zeros(200, np.int64))
        weights.append(torch.cat([each.flatten() for each in network.parameters()]))
    assert torch.equal(*weights)


def test_random_numbers_of_others_are_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(9):
        torch.rand(5)
    assert torch.equal(torch.rand(3), expected)


def test_training_that_diverges_is_said(line):
    values, network = line
    recipe = Recipe(1, 16, 1e30)
    with pytest.raises(PredictorError, match="diverged: try a learning rate below"):
        train(network, inputs(values), values * 1.0, np.zeros(200, np.int64), recipe, 0)


def test_a_precision_that_is_not_to_be_had_is_said(line):
    values, network = line
    with pytest.raises(PredictorError, match="mixed precision 'int3' is not to be had"):
        score(network, inputs(values), np.arange(200), Recipe(1, 16, 1e-3, mixed_precision="int3"))


PROGRAM = """
import numpy as np, torch
from torch import nn
from onnx_bench_dataset.surrogates.ranking import Recipe, score, seeded, train
values = np.random.default_rng(0).normal(size=203)
class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)
    def forward(self, batch):
        return self.line(batch)[:, 0]
with seeded(1):
    network = Line()
batch_of = lambda rows: torch.tensor(values[rows, None], dtype=torch.float32)
recipe = Recipe(3, 16, 0.1, mixed_precision="bf16")
train(network, batch_of, values, np.zeros(203, np.int64), recipe, 0)
found = score(network, batch_of, np.arange(203), recipe)
print(np.corrcoef(found, values)[0, 1] > 0.99, network.line.weight.item(), found.sum(), flush=True)
"""


@pytest.mark.slow
def test_two_processes_with_mixed_precision_agree(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    launched = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", program]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(launched, capture_output=True, text=True, timeout=300, check=True, env=environment)
    first, second = done.stdout.split("\n")[:2]
    assert first == second
    assert first.startswith("True")
