"""Features are what they say: worked out by hand, by walking all paths, and finite for whatever comes."""

from __future__ import annotations

import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import TextError
from onnx_bench_dataset.surrogates import in_parallel
from onnx_bench_dataset.surrogates.feature_table import document
from onnx_bench_dataset.surrogates.features import FEATURES, NAMES, features, of_network, of_texts
from onnx_bench_dataset.surrogates.layers import INPUT, Layer, of_model, of_text
from onnx_bench_dataset.surrogates.segments import stretches_of

# Sampled networks lie beside the tests of texts.
sys.path.append(str(Path(__file__).parents[1] / "text"))
from sampled_networks import sampled_networks

DOCUMENT = Path(__file__).parents[2] / "docs" / "features.md"
CONV, POINT, HALF = (
    "Conv {} w[8,8,3,3] pads=[1,1,1,1]",
    "Conv {} w[8,8,1,1]",
    "Conv {} w[8,8,3,3] pads=[1,1,1,1] strides=[2,2]",
)
POOL = "AveragePool {} kernel_shape=[3,3] pads=[1,1,1,1]"


def text(*operations: str, image: str = "[1,8,32,32]") -> str:
    return "\n".join(["onnx-net 1", "opset 18", f"input {image}", *operations, "output 1"])


def found(*operations: str, image: str = "[1,8,32,32]") -> dict[str, float]:
    return dict(zip(NAMES, features(of_text(text(*operations, image=image))), strict=True))


def chain(*operations: str) -> list[str]:
    return [operation.format("1" if number else "$0") for number, operation in enumerate(operations)]


def test_every_feature_is_described_and_so_is_the_page() -> None:
    assert tuple(FEATURES) == NAMES
    assert len(NAMES) == 114
    assert all(FEATURES.values())
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def test_a_chain_has_one_path() -> None:
    made = found(*chain(CONV, "Relu {}", POINT, "MaxPool {} kernel_shape=[3,3] pads=[1,1,1,1]", POOL))
    counts = {"convolutions": 1, "weighted": 2, "activations": 1, "pools": 2, "averages": 1}
    for name, count in counts.items():
        assert {made[f"{of}_{name}"] for of in ("mean", "least", "most", "flow")} == {count}
    assert made["mean_reach"] == made["least_reach"] == pytest.approx(math.log((1 + 2 + 2 + 2) / 32))
    assert (made["mean_length"], made["layers"], made["segments"], made["branching"]) == (5, 5, 5, 0)
    assert made["share_convolutions"] == made["flow_share_convolutions"] == 1 / 5
    assert (made["share_weighted"], made["share_pools"], made["share_averages"]) == (2 / 5, 2 / 5, 1 / 5)
    assert made["deviation_convolutions"] == made["paths"] == made["gap_weighted"] == 0
    assert made["relative_least_convolutions"] == 1


def test_two_branches_by_hand() -> None:
    # from the input: two convolutions, an average pool, or nothing
    made = found(CONV.format("$0"), CONV.format("1"), POOL.format("$0"), "Sum 2 1 $0")
    assert made["paths"] == pytest.approx(math.log(3))
    assert (made["mean_convolutions"], made["least_convolutions"], made["most_convolutions"]) == (2 / 3, 0, 2)
    assert made["deviation_convolutions"] == pytest.approx(math.sqrt(4 / 3 - 4 / 9))
    assert (made["mean_pools"], made["mean_length"]) == pytest.approx((1 / 3, 1 + (2 + 1 + 0) / 3))
    assert made["mean_reach"] == pytest.approx(math.log((1 + (4 + 2 + 0) / 3) / 32))
    assert made["least_reach"] == pytest.approx(math.log(1 / 32))
    assert made["most_reach"] == pytest.approx(math.log(5 / 32))
    assert (made["gap_convolutions"], made["relative_least_convolutions"]) == (2, 0)
    assert (made["segments"], made["branching"], made["distinct"]) == (1, 1, 1)
    # variances 1, a half and an eighteenth, and 1
    pooled = 0.5 + 0.5 / 9
    assert made["flow_convolutions"] == pytest.approx(2 / (2 + pooled))
    assert made["flow_pools"] == pytest.approx(pooled / (2 + pooled))
    assert (made["cell_mean_convolutions"], made["cell_most_convolutions"]) == (made["mean_convolutions"], 2)
    assert made["cell_skips"] == 1
    assert (made["cell_count_convolutions"], made["cell_count_averages"], made["cell_count_sums"]) == (
        2,
        1,
        1,
    )
    assert made["count_convolutions"] == 2
    assert (made["ratio_convolutions"], made["ratio_pools"]) == (2 / 3, 1 / 3)
    assert made["pools_to_convolutions"] == pytest.approx(math.log(2 / 3))
    assert made["convolutions_to_joints"] == 2


def test_a_path_that_changes_nothing_is_a_skip() -> None:
    assert found(CONV.format("$0"), "Add 1 $0")["cell_skips"] == 1
    assert found(CONV.format("$0"), "Relu $0", "Add 2 1")["cell_skips"] == 1
    assert found(CONV.format("$0"), POINT.format("$0"), "Add 2 1")["cell_skips"] == 0
    assert found(CONV.format("$0"), POOL.format("$0"), "Add 2 1")["cell_skips"] == 0


def test_windows_behind_strides_reach_further() -> None:
    made = found(*chain(HALF, CONV, HALF, CONV), image="[1,8,64,64]")
    assert made["mean_reach"] == pytest.approx(math.log((1 + 2 + 2 * 2 + 2 * 2 + 4 * 2) / 64))
    assert made["downsampling"] == 1  # from the first layer on


def test_segments_that_are_the_same_count_once() -> None:
    cell = [CONV.format("1"), "Add 1 2"]
    other = [POINT.format("1"), "Add 1 2"]
    made = found("Relu $0", *cell, "Relu 1", *cell, "Relu 1", *other)
    assert (made["branching"], made["distinct"], made["paths"]) == (3, 2 / 3, pytest.approx(3 * math.log(2)))
    assert made["cell_mean_convolutions"] == pytest.approx((1 + 1 + 0) / 2 / 3)


def test_work_by_hand() -> None:
    depthwise = "Conv 1 w[8,1,3,3] group=8 pads=[1,1,1,1]"
    made = found(
        HALF.format("$0"), depthwise, "Conv 1 w[16,8,1,1] strides=[2,2]", "Flatten 1", "Gemm 1 w[1024,10]"
    )
    dense, light, point, linear = 8 * 8 * 9, 8 * 9, 16 * 8, 1024 * 10
    params, macs = dense + light + point + linear, (dense + light) * 256 + point * 64 + linear
    assert made["parameters"] == pytest.approx(math.log1p(params))
    assert made["macs"] == pytest.approx(math.log1p(macs))
    assert made["reuse"] == pytest.approx(math.log(macs / params))
    assert made["macs_convolutions"] == pytest.approx(dense * 256 / macs)
    assert made["macs_depthwise"] == pytest.approx(light * 256 / macs)
    assert made["parameters_convolutions"] == pytest.approx(dense / params)
    # in 3×3 convolutions of the width of the stage: 8 at the first height, 16 at the second
    first, second = (dense + light) / (9 * 8 * 8), point / (9 * 16 * 16)
    assert made["capacity"] == pytest.approx(math.log(0.1 + first + second))
    assert made["capacity_convolutions"] == pytest.approx(math.log(0.1 + 1))
    assert made["least_capacity"] == pytest.approx(math.log(0.1 + second))
    assert made["width"] == pytest.approx(math.log(8 * 8 * 16 * 10) / 4)
    assert (made["first_width"], made["last_width"]) == pytest.approx((math.log(8), math.log(16)))
    assert made["relative_width"] == 0
    assert [made[f"macs_at_{stage}"] for stage in range(4)] == pytest.approx(
        [(dense + light) * 256 / macs, point * 64 / macs, 0, linear / macs]
    )
    assert [made[f"convolutions_at_{stage}"] for stage in range(4)] == [1, 0, 0, 0]


def test_signals_by_hand() -> None:
    made = found(*chain(CONV, CONV))
    assert made["correlation"] == pytest.approx(0.1)
    assert made["gradient"] == pytest.approx(math.log(2))
    assert made["alignment"] == pytest.approx(0.1)
    assert made["separation"] == pytest.approx(math.log(2 * 0.9))
    angle = math.acos(0.1)
    rectified = (math.sin(angle) + (math.pi - angle) * 0.1) / math.pi
    assert found(*chain(CONV, "Relu {}"))["correlation"] == pytest.approx(rectified)
    assert found(*chain(CONV, "GlobalAveragePool {}"))["correlation"] == pytest.approx(0.1 / (0.1 + 0.9 / 2))
    # a sum has twice the variance, so that each branch adds half of its kernel
    made = found(CONV.format("$0"), POINT.format("$0"), "Add 1 2", CONV.format("1"))
    assert made["gradient"] == pytest.approx(math.log(1 + 2 / 2))


# All paths, one by one.


def paths_of(layers: list[Layer]) -> list[list[int]]:
    """Return all paths from the input to the last layer."""

    def ending(number: int) -> list[list[int]]:
        if number == INPUT:
            return [[]]
        return [[*path, number] for source in layers[number].sources for path in ending(source)]

    return ending(len(layers) - 1)


def flow_of(layers: list[Layer], path: list[int], variance: list[float]) -> float:
    """Return the share of the variance of the output that came along a path."""
    share = 1.0
    for before, number in pairwise([INPUT, *path]):
        sources = layers[number].sources
        if len(sources) > 1:
            share *= variance[before] / sum(variance[source] for source in sources)
    return share


def variances(layers: list[Layer]) -> list[float]:
    """Return the variance that each layer gives; that of the input comes last, where -1 finds it."""
    found = [0.0] * len(layers) + [1.0]
    for number, layer in enumerate(layers):
        letter = layer.kind.role[0]
        total = sum(found[source] for source in layer.sources)
        if letter == "|":
            total /= len(layer.sources)
        elif letter == "a":
            total *= 0.5 + 0.5 / layer.kind.area
        found[number] = 1.0 if letter in "cdpl" else total
    return found


COUNTS: dict[str, Callable[[str], float]] = {
    "convolutions": lambda role: role[0] in "cd",
    "weighted": lambda role: role[0] in "cdpl",
    "activations": lambda role: role[0] == "r",
    "pools": lambda role: role[0] in "mag",
    "averages": lambda role: role[0] == "a",
    "length": lambda role: 1,
}


@st.composite
def networks(draw: st.DrawFn) -> list[Layer]:
    """Draw a network without strides, every value of which may be read several times."""
    operations: list[str] = []
    for number in range(draw(st.integers(1, 9))):
        sources = [
            "$0" if distance > number else str(distance)
            for distance in draw(st.lists(st.integers(1, number + 1), min_size=1, max_size=3))
        ]
        operation = draw(
            st.sampled_from([CONV, POINT, "Relu {}", POOL, "Tanh {}", "Sum {}", "Concat {} axis=1"])
        )
        reads = " ".join(sources) if operation.startswith(("Sum", "Concat")) else sources[0]
        operations.append(operation.format(reads))
    return of_text(text(*operations))


@given(layers=networks())
@settings(max_examples=80, deadline=None)
def test_statistics_are_those_of_all_paths(layers: list[Layer]) -> None:
    if not layers:
        return
    made = dict(zip(NAMES, features(layers), strict=True))
    paths = paths_of(layers)
    variance = variances(layers)
    flows = [flow_of(layers, path, variance) for path in paths]
    assert sum(flows) == pytest.approx(1)
    assert made["paths"] == pytest.approx(math.log(len(paths)), abs=1e-9)
    for name, count in COUNTS.items():
        counts = [float(sum(count(layers[number].kind.role) for number in path)) for path in paths]
        assert made[f"mean_{name}"] == pytest.approx(statistics.mean(counts))
        flowing = sum(flow * value for flow, value in zip(flows, counts, strict=True))
        assert made[f"flow_{name}"] == pytest.approx(flowing)
        if name != "length":
            assert (made[f"least_{name}"], made[f"most_{name}"]) == (min(counts), max(counts))
        if name == "convolutions":
            deviation = math.sqrt(statistics.pvariance(counts))
            assert made["deviation_convolutions"] == pytest.approx(deviation, abs=1e-6)
    windows = [sum(max(layers[number].kind.kernel, default=1) - 1 for number in path) for path in paths]
    for of, value in (("mean", statistics.mean(windows)), ("least", min(windows)), ("most", max(windows))):
        assert made[f"{of}_reach"] == pytest.approx(math.log((1 + value) / 32))


@given(layers=networks())
@settings(max_examples=50, deadline=None)
def test_networks_are_cut_where_all_paths_pass(layers: list[Layer]) -> None:
    if not layers:
        return
    passed = set.intersection(*[set(path) for path in paths_of(layers)])
    assert [stretch.end - 1 for stretch in stretches_of(layers)] == sorted(passed)


# Whatever comes.


@pytest.mark.parametrize("space", spaces.SPACES)
def test_features_of_a_text_and_of_its_model_are_the_same(space: str) -> None:
    networks = sampled_networks(space, 8)
    rows = of_texts([network.text for network in networks])
    assert rows.shape == (8, len(NAMES))
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    for row, network in zip(rows, networks, strict=True):
        assert np.allclose(of_network(network.model()), row, rtol=1e-6, atol=1e-6)


def test_a_network_that_ignores_its_input_has_zeros() -> None:
    cell = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert not of_network(spaces.get("nasbench201").model(cell)).any()
    assert not of_network(ModelProto()).any()
    assert of_texts([]).shape == (0, len(NAMES))


def test_a_broken_text_is_refused() -> None:
    with pytest.raises(TextError):
        of_texts([text("Relu $0"), text("Relu 2")])


@pytest.mark.parametrize(
    "operations",
    [
        chain("Foo {}", "my.domain::Bar {}", "Foo {}"),
        chain("Gemm {} w[8,16]", "Relu {}", "Gemm {} w[16,4]"),
        chain("Conv {} w[8,8,3]", "Relu {}", "MaxPool {} kernel_shape=[2]"),
        chain("Conv {} w[8,8,3,3,3] strides=[2,2,2]", "AveragePool {} kernel_shape=[2,2,2]"),
        chain("Softmax {}", "GlobalMaxPool {}"),
    ],
)
@pytest.mark.parametrize(
    "image", ["[1,8,32,32]", "[1,8]", "[8]", "[1,8,16]", "[1,8,4,4,4]", "[?,?,?,?]", "float"]
)
def test_features_of_unusual_networks_are_finite(operations: list[str], image: str) -> None:
    row = of_texts([text(*operations, image=image)])
    assert np.isfinite(row).all()
    assert row[0, NAMES.index("layers")] == len(operations)


def value(name: str) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4, 32, 32))


Step = Callable[[int, str], list[NodeProto]]


def conv(source: str, name: str, **attributes: object) -> NodeProto:
    return helper.make_node("Conv", [source, "w"], [name], pads=[1] * 4, **attributes)


LARGE: dict[str, Step] = {
    "convolutions": lambda i, x: [conv(x, f"v{i}")],
    "strides": lambda i, x: [conv(x, f"v{i}", strides=[2, 2])],
    "sums": lambda i, x: [helper.make_node("Add", [x, x], [f"v{i}"])],
    "concatenations": lambda i, x: [helper.make_node("Concat", [x, x], [f"v{i}"], axis=1)],
    "pools": lambda i, x: [
        helper.make_node("AveragePool", [x], [f"v{i}"], kernel_shape=[3, 3], pads=[1] * 4)
    ],
    "global pools": lambda i, x: [helper.make_node("GlobalAveragePool", [x], [f"v{i}"])],
    "skips": lambda i, x: [
        helper.make_node("Relu", [x], [f"r{i}"]),
        helper.make_node("Add", [x, f"r{i}"], [f"v{i}"]),
    ],
    "all before": lambda i, x: [
        conv(x, f"c{i}"),
        helper.make_node("Add", [f"c{i}", f"v{max(i - 2, 0)}" if i else x], [f"v{i}"]),
    ],
    "unknown": lambda i, x: [helper.make_node("Foo", [x], [f"v{i}"], domain="my.domain")],
}


def large(step: Step, count: int) -> ModelProto:
    nodes: list[NodeProto] = []
    source = "input"
    for number in range(count):
        nodes += step(number, source)
        source = nodes[-1].output[0]
        if len(nodes) >= count:
            break
    weight = helper.make_tensor_value_info("w", TensorProto.FLOAT, (4, 4, 3, 3))
    return helper.make_model(helper.make_graph(nodes, "g", [value("input"), weight], [value(source)]))


@pytest.mark.parametrize("name", LARGE)
def test_features_of_deep_networks_are_finite(name: str) -> None:
    model = large(LARGE[name], 3_000)
    row = of_network(model)
    assert np.isfinite(row).all()
    assert row[NAMES.index("layers")] == len(of_model(model)) == 3_000


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_features_of_a_hundred_thousand_nodes_take_seconds(name: str) -> None:
    model = large(LARGE[name], 100_000)
    start = time.process_time()
    row = of_network(model)
    assert time.process_time() - start < 60
    assert np.isfinite(row).all()


def test_work_that_is_done_in_parallel_comes_back_in_order() -> None:
    items = list(range(1_234))
    random.Random(0).shuffle(items)
    pieces = in_parallel.in_parallel(sorted, items)
    assert pieces == [sorted(items[start : start + 500]) for start in (0, 500, 1_000)]
    assert in_parallel.in_parallel(list, []) == [[]]


def test_work_in_other_processes_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [1.5, -2.0] * 600
    expected = in_parallel.in_parallel(sum, items)
    monkeypatch.setattr(in_parallel, "_WORTHWHILE", 1)
    assert in_parallel.in_parallel(sum, items) == expected


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from onnx_bench_dataset.surrogates import in_parallel\n"
        "print(sum(in_parallel.in_parallel(sum, range(in_parallel._WORTHWHILE))))\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("12497500\n", "")
