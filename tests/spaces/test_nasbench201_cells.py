"""NAS-Bench-201: order, strings, parameters and isomorphic cells against the published numbers."""

import csv
import re
from collections import Counter, defaultdict
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import ArchitectureError, ShapeError
from onnx_bench_dataset.spaces.nasbench201 import EDGES, OPERATIONS, parse, write
from onnx_bench_dataset.splits import split_of_graph

SPACE = spaces.get("nasbench201")
ARCHITECTURES = SPACE.architectures()

edge_operations = st.tuples(*[st.sampled_from(OPERATIONS)] * len(EDGES))


def test_there_are_15625_architectures_in_the_order_of_the_benchmark():
    assert len(set(ARCHITECTURES)) == len(ARCHITECTURES) == 15_625
    # the best three of the published tables, by index
    assert ARCHITECTURES[6111] == (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    )
    assert ARCHITECTURES[0].startswith("|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+")


def test_the_order_is_that_of_the_official_archive(published):
    from builders import unpickle

    folder = published / "nasbench201" / "NATS-tss-v1_0-3ffb9-simple"
    assert list(ARCHITECTURES) == unpickle.load(folder / "meta.pickle.pbz2")["meta_archs"]


def test_every_network_has_the_published_parameter_count(published):
    with (published / "nasbench201" / "cifar10" / "params.csv").open() as file:
        counts = [round(float(line["params"]) * 1e6) for line in csv.DictReader(file)]
    networks = [SPACE.network(architecture) for architecture in ARCHITECTURES]
    assert [network.num_params for network in networks] == counts


def test_multiply_accumulates_are_those_of_the_official_records(published):
    """The records count the classifier's ten bias additions as well."""
    from builders import unpickle

    for index in (0, 11, 284):
        folder = published / "nasbench201" / "NATS-tss-v1_0-3ffb9-simple"
        record = unpickle.load(folder / f"{index:06d}.pickle.pbz2")
        flops = record["200"]["all_results"]["cifar10", 777]["flop"]
        assert SPACE.network(ARCHITECTURES[index]).macs + 10 == round(flops * 1e6)


def unique_structure(architecture):
    """The structure string with which the paper counts: zeros cut, skips spliced, sums sorted."""
    nodes = ["0"]
    for node in architecture.split("+|"):
        terms = []
        for operation, source in re.findall(r"(\w+)~(\d)", node):
            value = nodes[int(source)]
            if operation == "none" or value == "#":
                terms.append("#")
            else:
                terms.append(value if operation == "skip_connect" else f"({value})@{operation}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def test_the_paper_counts_6466_unique_structures():
    assert len({unique_structure(architecture) for architecture in ARCHITECTURES}) == 6_466


def renumbered(operations):
    """The same cell with nodes 1 and 2 swapped, where no edge joins them."""
    named = dict(zip(EDGES, operations, strict=True))
    swap = {0: 0, 1: 2, 2: 1, 3: 3}
    return tuple(named.get((swap[a], swap[b]), "none") for a, b in EDGES)


@given(edge_operations)
def test_isomorphic_cells_give_the_same_graph(operations):
    if operations[EDGES.index((1, 2))] == "none":
        other = renumbered(operations)
        assert SPACE.network(write(operations)).graph_hash == SPACE.network(write(other)).graph_hash


@given(edge_operations)
def test_strings_parse_back(operations):
    assert parse(write(operations)) == operations


@given(st.text(alphabet="|+~noeskipcvrt_13x12avgpool0", max_size=90))
def test_any_other_string_is_refused_with_its_place(text):
    with pytest.raises(ArchitectureError) as caught:
        parse(text)
    assert 0 <= caught.value.position <= len(text)


@pytest.mark.parametrize(
    ("change", "character", "rule"),
    [
        (("avg_pool_3x3", "avg_pool_5x5"), 2, "an operation is expected here"),
        (("~1|+", "~2|+"), 46, "this edge of node 2 comes from node 1"),
        (("~2|", "~2|x"), None, "nothing may follow"),
        (("~2|", "~2"), None, "'|' ends the last node"),
        (("|+|", "|+"), None, "'|' begins"),
    ],
)
def test_errors_point_at_the_character(change, character, rule):
    with pytest.raises(ArchitectureError) as caught:
        parse(ARCHITECTURES[0].replace(*change))
    assert rule in caught.value.rule
    if character:
        assert caught.value.position + 1 == character


def test_sizes_that_cannot_be_halved_twice_are_refused():
    with pytest.raises(ShapeError, match="divisible by 4"):
        SPACE.network(ARCHITECTURES[0], "", (1, 3, 30, 32))


def test_sampling_is_reproducible_and_without_repetition():
    drawn = SPACE.sample(500, seed=3)
    assert drawn == SPACE.sample(500, seed=3) != SPACE.sample(500, seed=4)
    assert len(set(drawn)) == 500


def terms_of(architecture):
    """The sum that the cell computes, of terms (operation, which convolution, terms it reads)."""
    operations = parse(architecture)
    nodes = [[("x",)]]
    for target in (1, 2, 3):
        terms = []
        for layer, (source, to) in enumerate(EDGES):
            operation = operations[layer]
            convolves = operation.startswith("nor_conv")
            if to != target or operation == "none" or not (nodes[source] or convolves):
                continue
            if operation == "skip_connect":
                terms += nodes[source]
            else:
                terms.append((operation, layer if convolves else None, tuple(nodes[source])))
        nodes.append(terms)
    return nodes[3]


def convolutions(terms):
    inner = [term for term in terms if term != ("x",)]
    return {t[1] for t in inner if t[1] is not None}.union(*(convolutions(t[2]) for t in inner))


def written(terms, number):
    parts = [
        "x" if term == ("x",) else f"{term[0]}{number.get(term[1], '')}({written(term[2], number)})"
        for term in terms
    ]
    return "+".join(sorted(parts))


def function_of(architecture):
    """The function's name, whatever the numbers of nodes and edges: the least over all numberings."""
    terms = terms_of(architecture)
    layers = sorted(convolutions(terms))
    return min(
        written(terms, dict(zip(layers, order, strict=True))) for order in permutations(range(len(layers)))
    )


@pytest.fixture(scope="module")
def hashes():
    return [SPACE.network(architecture).graph_hash for architecture in ARCHITECTURES]


def test_the_readme_says_how_many_networks_train_and_test(hashes):
    counts = Counter(map(split_of_graph, hashes))
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    row = next(line for line in readme.splitlines() if line.startswith("| `nasbench201`"))
    assert f"| 15,625 | {counts['train']:,} | {counts['test']:,} |" in row


def test_graphs_are_equal_exactly_where_the_functions_are(hashes):
    graph_of = defaultdict(set)
    function_of_graph = defaultdict(set)
    for architecture, graph in zip(ARCHITECTURES, hashes, strict=True):
        function = function_of(architecture)
        graph_of[function].add(graph)
        function_of_graph[graph].add(function)
    assert max(map(len, graph_of.values())) == max(map(len, function_of_graph.values())) == 1
    assert len(graph_of) == 5_875
