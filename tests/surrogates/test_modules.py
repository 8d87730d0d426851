"""Modules: what a network repeats, as graphs of the layers that change what passes through."""

import random
import time
from collections import Counter

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_bench_dataset import spaces
from onnx_bench_dataset.surrogates.layers import of_model, of_text
from onnx_bench_dataset.surrogates.modules import Module, modules_of
from onnx_bench_dataset.text import encode

STEM = "Conv $0 w[8,3,3,3] pads=[1,1,1,1]"
POINT = "Conv 1 w[8,8,1,1]"
WINDOW = "Conv 1 w[8,8,3,3] pads=[1,1,1,1]"
POOL = "MaxPool 1 kernel_shape=[3,3] pads=[1,1,1,1]"


def modules(*lines):
    return modules_of(of_text("\n".join(["onnx-net 1", "opset 18", "input [1,3,8,8]", *lines, "output 1"])))


def chain(*roles):
    return Module(roles, (0.0,) * len(roles), tuple((number, number + 1) for number in range(len(roles))))


def graphs(found):
    """Modules by their graphs, whatever the order of their vertices."""
    counts = Counter()
    for module, count in found.items():
        graph = networkx.DiGraph(module.edges)
        for number, vertex in enumerate(zip(("$", *module.roles), (0.0, *module.activated), strict=True)):
            graph.nodes[number]["is"] = f"{vertex[0]} {vertex[1]:.6f}"
        counts[networkx.weisfeiler_lehman_graph_hash(graph, node_attr="is", iterations=12)] += count
    return counts


def test_a_chain_that_comes_again_is_a_module():
    assert modules(STEM, *[POOL, POINT] * 3) == {chain("m3", "p"): 3}


def test_of_all_chains_that_come_again_it_is_the_one_that_makes_up_most_of_the_network():
    cell = [WINDOW, WINDOW, POINT]
    assert modules(STEM, *cell * 3, POOL, *cell * 3) == {chain("c3", "c3", "p"): 6}


def test_the_others_follow():
    lines = [STEM, *[POOL, POINT] * 3, *[POOL, WINDOW] * 2]
    assert modules(*lines) == {chain("m3", "p"): 3, chain("m3", "c3"): 2}


def test_a_chain_that_does_not_come_again_is_none():
    assert modules(STEM, POOL, POINT, WINDOW) == {}


def test_where_paths_meet_there_is_one_that_comes_once():
    assert modules(STEM, POINT, "Conv 2 w[8,8,3,3] pads=[1,1,1,1]", "Concat 2 1 axis=1") == {
        Module(("p", "c3", "|"), (0.0, 0.0, 0.0), ((0, 1), (0, 2), (1, 3), (2, 3))): 1
    }


def test_a_module_may_hold_places_where_all_paths_pass():
    cell = [POINT, "Add 1 2", POOL]
    assert modules(STEM, *cell * 3) == {Module(("p", "m3"), (0.0, 0.0), ((0, 1), (0, 2), (1, 2))): 3}


def test_what_reads_an_activation_reads_what_was_activated():
    lines = [STEM, POINT, "Relu 1", WINDOW, "Concat 1 2 4 axis=1"]
    edges = ((0, 1), (1, 2), (2, 3), (1, 3), (0, 3))
    assert modules(*lines) == {Module(("p", "c3", "|"), (0.0, 1.0, 1 / 3), edges): 1}


def test_what_reads_a_sum_reads_its_terms_and_the_last_sum_stays():
    lines = [STEM, POOL, "Add 2 1", WINDOW, "Add 3 1"]
    edges = ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3))
    assert modules(*lines) == {Module(("m3", "c3", "+"), (0.0,) * 3, edges): 1}


def test_a_sum_of_many_terms_is_a_vertex():
    lines = [STEM, *[POINT] * 20, f"Sum {' '.join(map(str, range(1, 22)))}", WINDOW, "Add 22 1"]
    (module,) = modules(*lines)
    assert Counter(module.roles) == {"p": 20, "+": 2, "c3": 1}


def test_sums_of_sums_do_not_grow_beyond_what_was_read():
    """Each sum doubles the paths: with all terms in their place there would be 2^200 edges."""
    (module,) = modules(STEM, POINT, *["Add 1 1"] * 200, "Add 201 1")
    assert len(module.edges) < 16 * 201


@pytest.mark.filterwarnings("ignore:The hashes produced for directed graphs changed")
@pytest.mark.parametrize("space", ["nasbench101", "nasbench201", "nasbench301", "nasbench_macro"])
def test_a_text_and_a_model_have_the_same_modules(space):
    for architecture in spaces.get(space).sample(10, 0):
        model = spaces.get(space).model(architecture)
        assert graphs(modules_of(of_text(encode(model)))) == graphs(modules_of(of_model(model)))


@pytest.mark.parametrize("number", range(30))
def test_the_cells_of_nasbench101_are_its_modules(number):
    """Every cell is there nine times, with the operations of the architecture that reach its end."""
    space = spaces.get("nasbench101")
    architecture = space.sample(30, 1)[number]
    operations = Counter(word.partition("-")[0][:8] for word in architecture.split())
    found = modules_of(of_model(space.model(architecture)))
    assert sum(found.values()) == 9
    for module in found:
        assert module.roles.count("c3") == operations["conv3x3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds", [[POINT], [POINT, WINDOW], [POINT, "Add 1 2"], [POINT, "Relu 1", "Add 1 3"]]
)
def test_a_hundred_thousand_layers_take_seconds(kinds):
    generator = random.Random(0)
    drawn = [POINT, POOL, WINDOW, *[generator.choice(kinds) for _ in range(99_990)]]
    layers = of_text("\n".join(["onnx-net 1", "opset 18", "input [1,3,8,8]", STEM, *drawn, "output 1"]))
    start = time.process_time()
    assert modules_of(layers)
    assert time.process_time() - start < 20


lines = st.sampled_from([POINT, WINDOW, POOL, "Relu 1", "Add 1 2", "Add 1 3", "Concat 1 2 axis=1"])


@given(st.lists(lines, max_size=40))
def test_every_vertex_is_between_what_enters_and_what_leaves(drawn):
    for module, count in modules(STEM, POINT, POOL, *drawn).items():
        assert count > 0
        size = len(module.roles)
        assert len(module.activated) == size
        assert all(0 <= share <= 1 for share in module.activated)
        assert all(0 <= source < reader <= size for source, reader in module.edges)
        assert {reader for _, reader in module.edges} == set(range(1, size + 1))
        assert {source for source, _ in module.edges} == set(range(size))
