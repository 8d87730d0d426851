"""NAS-Bench-101: cells, hashes and strings against the published numbers."""

import hashlib
import random
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import ArchitectureError, ShapeError
from onnx_bench_dataset.spaces.md5 import md5_hex
from onnx_bench_dataset.spaces.nasbench101 import named_architectures, parse, vertex_channels, write
from onnx_bench_dataset.spaces.nasbench101_cells import OPERATIONS, Cell, cell_hash

SPACE = spaces.get("nasbench101")


def test_enumeration_gives_the_published_cells_in_hash_order():
    cells = named_architectures()
    names = [name for name, _ in cells]
    assert len(cells) == len(set(names)) == 423_624
    assert names == sorted(names)
    assert names[0] == "00005c142e6f48ac74fdcf73e3439874"
    sizes = np.bincount([architecture.count(" ") + 2 for _, architecture in cells])
    assert sizes[2:].tolist() == [1, 6, 84, 2_441, 62_010, 359_082]


def test_enumerated_hashes_are_those_of_the_plain_definition():
    for name, architecture in random.Random(0).sample(named_architectures(), 2_000):
        assert cell_hash(parse(architecture)) == name


def test_first_and_best_cells_have_the_published_parameter_counts():
    architectures = dict(named_architectures())
    for name, params in (
        ("00005c142e6f48ac74fdcf73e3439874", 8_555_530),
        ("02e5a0247bbdcf2860b7e96f74961594", 32_426_634),
    ):
        assert SPACE.network(architectures[name], name).num_params == params


@st.composite
def cells(draw):
    """Any directed acyclic graph of at most 7 vertices, vertices without influence included."""
    count = draw(st.integers(2, 7))
    inputs = [
        tuple(sorted(draw(st.sets(st.integers(0, vertex - 1), min_size=1, max_size=3))))
        for vertex in range(1, count)
    ]
    return Cell(tuple(inputs), tuple(draw(st.sampled_from(OPERATIONS)) for _ in range(count - 2)))


@given(cells())
def test_hash_of_a_pruned_cell_does_not_depend_on_the_order_of_its_vertices(cell):
    pruned = cell.pruned()
    if pruned is None:
        return
    count = len(pruned.inputs)
    for vertex in range(1, count - 1):  # swap neighbours without an edge between them
        if vertex in pruned.inputs[vertex]:
            continue
        number = {vertex: vertex + 1, vertex + 1: vertex}
        order = [number.get(v, v) for v in range(1, count + 1)]
        inputs = [tuple(sorted(number.get(s, s) for s in pruned.inputs[v - 1])) for v in order]
        operations = [pruned.operations[v - 1] for v in order[:-1]]
        assert cell_hash(Cell(tuple(inputs), tuple(operations))) == cell_hash(pruned)


@given(cells())
def test_strings_parse_back(cell):
    pruned = cell.pruned()
    if pruned is None:
        with pytest.raises(ArchitectureError, match="no path"):
            parse(write(cell))
    elif pruned.num_edges > 9:
        with pytest.raises(ArchitectureError, match="at most 9"):
            parse(write(cell))
    else:
        assert parse(write(cell)) == pruned
        assert parse(write(pruned)) == pruned


@given(cells().map(lambda cell: cell.pruned()).filter(lambda cell: cell and cell.num_edges <= 9))
def test_channels_never_grow_and_fill_the_output(cell):
    channels = vertex_channels(cell, 128)
    into_output = [source for source in cell.inputs[-1] if source]
    assert not into_output or sum(channels[source] for source in into_output) == 128
    for vertex in range(1, len(cell.inputs)):
        for source in cell.inputs[vertex - 1]:
            assert (
                not source
                or channels[source] in (channels[vertex], channels[vertex] + 1)
                or (channels[source] > channels[vertex])
            )


@given(st.text(alphabet="conv3x1-bnrelumaxpooltu:, 0123456789", max_size=60))
def test_any_other_string_is_refused_with_its_place(text):
    with suppress(ArchitectureError):
        assert parse(write(parse(text))) == parse(text)
        return
    with pytest.raises(ArchitectureError) as caught:
        parse(text)
    assert 0 <= caught.value.position <= len(text)


@pytest.mark.parametrize(
    ("architecture", "character", "rule"),
    [
        ("conv5x5-bn-relu:0 output:1", 1, "an operation is expected"),
        ("maxpool3x3:0 output:2", 21, "vertex 2 reads vertices 0 to 1"),
        ("maxpool3x3:0 output:1,0", 23, "ascending"),
        ("maxpool3x3:0", 13, "the last vertex is called 'output'"),
        ("maxpool3x3 output:0", 11, "':'"),
        ("output:0 maxpool3x3:0", 10, "nothing may follow"),
        ("maxpool3x3:٠ output:1", 12, "separated by commas"),
        (" ".join(["maxpool3x3:0"] * 6 + ["output:0"]), 0, "at most 7 vertices"),
    ],
)
def test_errors_point_at_the_character(architecture, character, rule):
    with pytest.raises(ArchitectureError, match="not an architecture of nasbench101") as caught:
        parse(architecture)
    assert rule in caught.value.rule
    if character:
        assert caught.value.position + 1 == character


def test_an_image_of_no_size_is_refused():
    for shape in ((1, 3, 32), (1, 3, 0, 32)):
        with pytest.raises(ShapeError, match="four positive numbers"):
            SPACE.network("output:0", "", shape)
    with pytest.raises(ShapeError, match="classes"):
        SPACE.network("output:0", "", (1, 3, 32, 32), 0)


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 20), st.randoms(use_true_random=False))
def test_md5_of_many_messages_is_md5_of_each(length, count, random):
    messages = [random.randbytes(length) for _ in range(count)]
    rows = np.frombuffer(b"".join(messages), dtype=np.uint8).reshape(count, length)
    assert md5_hex(rows).tolist() == [hashlib.md5(m).hexdigest().encode() for m in messages]


@pytest.mark.slow
def test_every_cell_has_the_published_parameter_count(published):
    from builders import unpickle

    millions = unpickle.load_frame(published / "nasbench101" / "params.pkl.gz")["params"]
    wrong = [
        name
        for (name, architecture), count in zip(named_architectures(), np.rint(millions * 1e6), strict=True)
        if SPACE.network(architecture, name).num_params != count
    ]
    assert wrong == []
