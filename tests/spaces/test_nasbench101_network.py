"""The ONNX graphs of NAS-Bench-101 compute what an independent PyTorch version of the network computes."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from onnx import ModelProto
from reference_nasbench101 import (
    KERNEL_SIZES,
    Network,
    network,
    parse,
    vertex_channels,
)
from reference_weights import num_trainable, relative_difference, weights

from onnx_bench_dataset import spaces
from onnx_bench_dataset.graphs import fill_weights, run, simplify

TOLERANCE = 1e-4
C3, C1, MP = "conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"
OPERATIONS = [*KERNEL_SIZES, MP]
MAX_VERTICES, MAX_EDGES = 7, 9
NUM_CELLS = 200
# The cells that are compared at every run of the tests; the slow tests compare all of them.
NUM_QUICK_CELLS = 120

# The Inception-like cell that the benchmark's notebook queries, as asked for and as answered.
INCEPTION_LIKE = [
    f"{C1}:0 {C3}:0 {C3}:0 {C3}:3 {MP}:0 output:1,2,4,5",
    f"{C3}:0 {C1}:0 {MP}:0 {C3}:0 {C3}:4 output:1,2,3,5",
]

ODD_CELLS = [
    # No interior vertex: the network is a chain of projections.
    "output:0",
    # One interior vertex, with and without the input added at the output.
    f"{C3}:0 output:1",
    f"{C1}:0 output:1",
    f"{MP}:0 output:1",
    f"{C3}:0 output:0,1",
    f"{MP}:0 output:0,1",
    # Max pools only: the projections are all there is to learn.
    f"{MP}:0 {MP}:1 output:2",
    f"{MP}:0 {MP}:1 {MP}:2 {MP}:3 {MP}:4 output:5",
    f"{MP}:0 {MP}:0,1 {MP}:0,2 {MP}:0,3 {MP}:4 output:5",
    f"{MP}:0 {MP}:0 {MP}:0 {MP}:0 output:0,1,2,3,4",
    f"{MP}:0 {MP}:1 {MP}:1,2 output:0,1,2,3",
    # Seven vertices and nine edges.
    f"{C3}:0 {C3}:1 {C3}:2 {C3}:3 {C3}:4 output:0,1,2,5",
    f"{C3}:0 {C1}:0,1 {MP}:0,2 {C3}:0,3 {C1}:4 output:5",
    f"{C1}:0 {C3}:0 {MP}:0 {C1}:0,1 {C3}:2 output:3,4,5",
    f"{MP}:0 {C1}:1 {C3}:1 {C1}:1,2 {MP}:3 output:0,4,5",
    # Three vertices share the output: 43, 43 and 42 of 128 channels.
    f"{C3}:0 {C1}:0 {MP}:0 output:1,2,3",
    f"{C3}:0 {C1}:0 {MP}:0 output:0,1,2,3",
    f"{MP}:0 {C3}:0 {C1}:0 {C3}:1 output:2,3,4",
    # Five edges into the output, the most that nine edges allow; one of them is the input's.
    f"{C3}:0 {C1}:0 {MP}:0 {C3}:0 output:0,1,2,3,4",
    # A vertex feeds one that has a channel less: the last channel is dropped.
    f"{C3}:0 {C3}:1 {MP}:1,2 output:1,2,3",
    f"{C3}:0 {C1}:1 {MP}:0,1,2 output:1,2,3",
    f"{MP}:0 {MP}:1 {MP}:1,2 output:1,2,3",
    f"{MP}:0 {C3}:0 {C1}:0,1,2 output:1,2,3",
    # The vertex that drops a channel does not feed the output itself.
    f"{C1}:0 {C3}:1 {C3}:1 {MP}:1 output:2,3,4",
    f"{MP}:0 {MP}:0 {C3}:1 {C1}:1,2 {MP}:2 output:3,4,5",
    f"{C3}:0 {MP}:1 {C1}:2 {C3}:1 {MP}:2 output:3,4,5",
    *INCEPTION_LIKE,
]


def num_edges(architecture: str) -> int:
    return sum(len(incoming) for incoming in parse(architecture)[1])


def random_cell(source: random.Random) -> str:
    """Draw a cell in which every vertex lies on a way from the input to the output."""
    # Nearly all cells of the space have seven vertices.
    vertices = source.choice([4, 5, 6, 6, 7, 7, 7, 7, 7, 7])
    pairs = list(itertools.combinations(range(vertices), 2))
    while True:
        edges = sorted(source.sample(pairs, min(source.choice([5, 6, 7, 8, 9, 9, 9]), len(pairs))))
        starts, ends = {start for start, _ in edges}, {end for _, end in edges}
        if len(starts) == len(ends) == vertices - 1:
            break
    operations = [source.choice(OPERATIONS) for _ in range(vertices - 2)] + ["output"]
    incoming = [[str(start) for start, end in edges if end == vertex] for vertex in range(1, vertices)]
    return " ".join(f"{name}:{','.join(into)}" for name, into in zip(operations, incoming, strict=True))


def draw_cells() -> list[str]:
    source = random.Random(101)
    cells = list(ODD_CELLS)
    while len(cells) < NUM_CELLS:
        cell = random_cell(source)
        if cell not in cells:
            cells.append(cell)
    return cells


CELLS = draw_cells()

# Odd sizes are those at which the max pools between the stacks have a last row or column to themselves.
SMALL_SHAPES = [(1, 3, 8, 8), (1, 3, 9, 7), (2, 3, 6, 6), (1, 3, 5, 10)]
CLASSES = [10, 100, 200, 17]


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
    model = spaces.get("nasbench101").model(architecture, input_shape=input_shape, num_classes=num_classes)
    training_form = fill_weights(model, state_dict=weights(reference))
    (found,) = run(training_form, {"input": images})
    assert relative_difference(expected, found) <= TOLERANCE
    simplified = simplify(training_form)
    assert all(node.op_type not in ("BatchNormalization", "Identity") for node in simplified.graph.node)
    (found,) = run(simplified, {"input": images})
    assert relative_difference(expected, found) <= TOLERANCE


def test_cells_are_200_and_cover_the_limits_of_the_space() -> None:
    assert len(set(CELLS)) == NUM_CELLS
    assert all(num_edges(cell) <= MAX_EDGES and len(parse(cell)[0]) < MAX_VERTICES for cell in CELLS)
    largest = [
        cell for cell in CELLS if num_edges(cell) == MAX_EDGES and len(parse(cell)[0]) == MAX_VERTICES - 1
    ]
    assert len(largest) >= 50


@pytest.mark.parametrize(
    ("architecture", "channels", "expected"),
    [
        (f"{C3}:0 {C1}:0 {MP}:0 output:1,2,3", 128, [43, 43, 42]),
        (f"{C3}:0 {C1}:0 {MP}:0 output:0,1,2,3", 256, [86, 85, 85]),
        (f"{C3}:0 {C1}:0 {MP}:0 output:1,2,3", 512, [171, 171, 170]),
        (f"{C1}:0 {C3}:1 {C3}:1 {MP}:1 output:2,3,4", 128, [43, 43, 43, 42]),
        (f"{C3}:0 {C1}:0 {MP}:0 {C3}:0 output:0,1,2,3,4", 128, [32, 32, 32, 32]),
        (f"{C3}:0 {C1}:1 output:2", 128, [128, 128]),
    ],
)
def test_reference_shares_out_channels_as_published(
    architecture: str, channels: int, expected: list[int]
) -> None:
    found = vertex_channels(parse(architecture)[1], channels)
    assert [found[vertex] for vertex in sorted(found)] == expected


@pytest.mark.parametrize("architecture", INCEPTION_LIKE)
def test_inception_like_cell_has_the_published_number_of_parameters(architecture: str) -> None:
    assert num_trainable(Network(architecture)) == 2_694_282
    assert (
        spaces.get("nasbench101").network(architecture, "nasbench101/inception-like").num_params == 2_694_282
    )


@pytest.mark.parametrize("architecture", CELLS)
def test_weight_inputs_are_those_of_the_reference(architecture: str) -> None:
    with torch.device("meta"):
        reference = Network(architecture)
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in reference.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    space = spaces.get("nasbench101")
    assert weight_inputs(space.model(architecture)) == expected
    assert space.network(architecture, "nasbench101/cell").num_params == num_trainable(reference)


@pytest.mark.parametrize(
    ("index", "input_shape"),
    [(index, SMALL_SHAPES[index % len(SMALL_SHAPES)]) for index in range(NUM_QUICK_CELLS)],
)
def test_small_images(index: int, input_shape: tuple[int, ...]) -> None:
    assert_same_outputs(CELLS[index], index, input_shape, CLASSES[index % len(CLASSES)])


@pytest.mark.parametrize(
    ("architecture", "input_shape"),
    [
        ("output:0", (1, 3, 32, 32)),
        (INCEPTION_LIKE[0], (1, 3, 32, 32)),
        (f"{C3}:0 {C1}:1 {MP}:0,1,2 output:1,2,3", (1, 3, 32, 32)),
        (f"{MP}:0 {MP}:0,1 {MP}:0,2 {MP}:0,3 {MP}:4 output:5", (1, 3, 32, 32)),
        (f"{MP}:0 {MP}:1 {MP}:1,2 output:0,1,2,3", (1, 3, 15, 13)),
        (f"{C3}:0 {C1}:1 {MP}:0,1,2 output:1,2,3", (2, 3, 33, 31)),
        (f"{C3}:0 output:0,1", (1, 3, 1, 1)),
        (f"{MP}:0 output:0,1", (1, 3, 2, 3)),
        (f"{C1}:0 {MP}:1 output:0,2", (3, 1, 28, 28)),
    ],
)
def test_published_and_odd_image_sizes(architecture: str, input_shape: tuple[int, ...]) -> None:
    assert_same_outputs(architecture, 7, input_shape, 10)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(NUM_CELLS))
def test_published_image_size(index: int) -> None:
    assert_same_outputs(CELLS[index], index, (1, 3, 32, 32), 10)


@pytest.mark.slow
def test_cells_as_the_space_lists_them() -> None:
    for architecture in random.Random(423).sample(spaces.get("nasbench101").architectures(), 50):
        assert_same_outputs(architecture, 3, (1, 3, 8, 8), 10)
