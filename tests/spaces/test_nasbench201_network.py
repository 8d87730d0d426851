"""The ONNX graphs of NAS-Bench-201 compute what an independent PyTorch version of the network computes."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from onnx import ModelProto
from reference_nasbench201 import Network, network
from reference_weights import num_trainable, relative_difference, weights

from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import ShapeError
from onnx_bench_dataset.graphs import fill_weights, run, simplify

TOLERANCE = 1e-4
NO, SKIP, C1, C3, AVG = OPERATIONS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
NUM_CELLS = 60


def cell(*operations: str) -> str:
    """Name a cell by the operations of its six edges: 0→1, 0→2, 1→2, 0→3, 1→3, 2→3."""
    a, b, c, d, e, f = operations
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


ODD_CELLS = [
    # One operation everywhere; with none, nothing that the network is shown reaches its output.
    *(cell(*[operation] * 6) for operation in OPERATIONS),
    # One live edge; only from node 0 to node 3 does it reach the output.
    *(cell(NO, NO, NO, operation, NO, NO) for operation in (SKIP, C1, C3, AVG)),
    *(cell(*[C3 if edge == live else NO for edge in range(6)]) for live in (0, 1, 2, 4, 5)),
    # One way through the cell.
    cell(C3, NO, C1, NO, NO, AVG),
    cell(NO, AVG, NO, NO, NO, C3),
    cell(SKIP, NO, NO, NO, C1, NO),
    cell(SKIP, NO, SKIP, NO, NO, SKIP),
    # Branches with weights that never reach the output.
    cell(C3, SKIP, NO, C1, NO, AVG),
    cell(C3, C1, C3, SKIP, NO, NO),
    cell(C1, SKIP, NO, NO, NO, C3),
    cell(C3, C3, C3, AVG, NO, NO),
    # A node without input is zero, which a convolution followed by batch norm does not leave zero.
    cell(NO, NO, C3, NO, NO, SKIP),
    cell(NO, SKIP, C1, NO, C3, SKIP),
    cell(NO, NO, NO, SKIP, C1, C3),
    cell(NO, C3, SKIP, AVG, AVG, SKIP),
    cell(NO, NO, SKIP, NO, AVG, C1),
    # Pools of pools, and pools where the border is most of the image.
    cell(AVG, AVG, SKIP, AVG, SKIP, AVG),
    cell(AVG, NO, AVG, NO, NO, AVG),
]


def draw_cells() -> list[str]:
    source = random.Random(201)
    cells = list(ODD_CELLS)
    while len(cells) < NUM_CELLS:
        drawn = cell(*(source.choice(OPERATIONS) for _ in range(6)))
        if drawn not in cells:
            cells.append(drawn)
    return cells


CELLS = draw_cells()
SHAPES = [
    (1, 3, 32, 32),
    (2, 3, 16, 16),
    (1, 3, 8, 8),
    (1, 3, 32, 32),
    (1, 3, 12, 20),
    (1, 1, 28, 28),
    (3, 3, 4, 4),
]
CLASSES = [10, 100, 120, 2]


def weight_inputs(model: ModelProto) -> dict[str, tuple[int, ...]]:
    first, *others = model.graph.input
    assert first.name == "input"
    return {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim) for value in others
    }


def assert_same_outputs(architecture: str, seed: int, input_shape: tuple[int, ...], num_classes: int) -> None:
    """Compare both forms of the graph with the reference, all three with the same random weights."""
    torch.set_num_threads(1)
    reference = network(architecture, seed, num_classes, image_channels=input_shape[1])
    images = np.random.default_rng(seed).standard_normal(input_shape, dtype=np.float32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images)).numpy()
    assert expected.shape == (input_shape[0], num_classes)
    model = spaces.get("nasbench201").model(architecture, input_shape=input_shape, num_classes=num_classes)
    training_form = fill_weights(model, state_dict=weights(reference))
    (found,) = run(training_form, {"input": images})
    assert relative_difference(expected, found) <= TOLERANCE
    simplified = simplify(training_form)
    norms = [node for node in simplified.graph.node if node.op_type == "BatchNormalization"]
    # The last batch norm follows a sum, so there is no convolution to fold it into.
    assert len(norms) <= 1
    (found,) = run(simplified, {"input": images})
    assert relative_difference(expected, found) <= TOLERANCE


def test_cells_are_60_and_each_once() -> None:
    assert len(set(CELLS)) == NUM_CELLS


@pytest.mark.parametrize(
    ("operation", "num_classes", "num_params"),
    # The smallest and the largest size that the benchmark reports for CIFAR-10 and for CIFAR-100.
    [(NO, 10, 73_306), (C3, 10, 1_531_546), (NO, 100, 79_156), (C3, 100, 1_537_396)],
)
def test_smallest_and_largest_cell_have_the_published_number_of_parameters(
    operation: str, num_classes: int, num_params: int
) -> None:
    architecture = cell(*[operation] * 6)
    assert num_trainable(Network(architecture, num_classes)) == num_params
    model = spaces.get("nasbench201").model(architecture, num_classes=num_classes)
    sizes = {name: int(np.prod(shape)) for name, shape in weight_inputs(model).items()}
    assert sum(size for name, size in sizes.items() if "running" not in name) == num_params


@pytest.mark.parametrize("architecture", CELLS)
def test_weight_inputs_are_those_of_the_reference(architecture: str) -> None:
    with torch.device("meta"):
        reference = Network(architecture)
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in reference.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    space = spaces.get("nasbench201")
    assert weight_inputs(space.model(architecture)) == expected
    assert space.network(architecture, "nasbench201/cell").num_params == num_trainable(reference)


@pytest.mark.parametrize("index", range(NUM_CELLS))
def test_outputs(index: int) -> None:
    input_shape = SHAPES[index % len(SHAPES)]
    assert_same_outputs(CELLS[index], index, input_shape, CLASSES[index % len(CLASSES)])


@pytest.mark.parametrize("input_shape", [(1, 3, 30, 32), (1, 3, 32, 33), (1, 3, 2, 2)])
def test_image_sizes_that_the_published_network_rejects_are_rejected(input_shape: tuple[int, ...]) -> None:
    # Convolution rounds the halved size up, average pooling rounds it down: the two do not add up.
    reference = network(cell(*[SKIP] * 6), 1)
    with pytest.raises(RuntimeError):
        reference(torch.zeros(input_shape))
    with pytest.raises(ShapeError):
        spaces.get("nasbench201").model(cell(*[SKIP] * 6), input_shape=input_shape)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(NUM_CELLS))
def test_published_image_size(index: int) -> None:
    assert_same_outputs(CELLS[index], index, (1, 3, 32, 32), 10)
