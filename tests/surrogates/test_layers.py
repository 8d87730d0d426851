"""Layers of texts and of models in every form are the same, whatever else a file says."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import TextError, UnsupportedModelError
from onnx_bench_dataset.graphs import fill_weights, measures, simplify
from onnx_bench_dataset.surrogates.kinds import LARGEST, ROLES
from onnx_bench_dataset.surrogates.layers import INPUT, Layer, of_model, of_text
from onnx_bench_dataset.text import encode

# Sampled and exported networks lie beside the tests that are about them.
sys.path.append(str(Path(__file__).parents[1] / "text"))
sys.path.append(str(Path(__file__).parents[1] / "graphs"))
from exported_models import Export, exported
from sampled_networks import sampled_networks
from tiny_models import tiny, weights_as_inputs


def described(layers: list[Layer]) -> Counter[int]:
    """Return layers with all that comes before each, in no order."""
    found = [INPUT]
    for layer in layers:
        sources = [found[source + 1] for source in layer.sources]
        if layer.kind.op != "Concat":
            sources.sort()
        key = (layer.kind, tuple(sources), *layer[2:])
        found.append(NUMBERS.setdefault(key, len(NUMBERS)))
    return Counter(found)


NUMBERS: dict[object, int] = {}  # of layers with all that comes before them


def shuffled(model: ModelProto, seed: int) -> ModelProto:
    """Return the model with its nodes in another order, in which each still comes after those it reads."""
    generator = random.Random(seed)
    remaining = list(model.graph.node)
    made = {value.name for value in (*model.graph.input, *model.graph.initializer)} | {""}
    ordered: list[NodeProto] = []
    while remaining:
        node = generator.choice([node for node in remaining if made.issuperset(node.input)])
        remaining.remove(node)
        ordered.append(node)
        made.update(node.output)
    return with_nodes(model, ordered)


def with_nodes(model: ModelProto, nodes: list[NodeProto]) -> ModelProto:
    changed = ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def roles(layers: list[Layer]) -> list[str]:
    return [layer.kind.role for layer in layers]


def lines(*operations: str, image: str = "[1,8,4,4]", output: str = "output 1") -> list[Layer]:
    return of_text("\n".join(["onnx-net 1", "opset 18", f"input {image}", *operations, output]))


@pytest.mark.parametrize("space", spaces.SPACES)
def test_every_form_of_a_network_has_the_same_layers(space: str) -> None:
    for network in sampled_networks(space, 2):
        model = network.model()
        expected = described(of_text(network.text))
        filled = fill_weights(model, seed=1)
        for form in (model, simplify(model), filled, simplify(filled)):
            assert described(of_model(form)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("space", spaces.SPACES)
def test_every_form_of_many_networks_has_the_same_layers(space: str) -> None:
    for network in sampled_networks(space, 150):
        model = network.model()
        expected = described(of_text(network.text))
        assert described(of_model(model)) == expected
        assert described(of_model(simplify(fill_weights(model, seed=1)))) == expected


@pytest.mark.parametrize("space", spaces.SPACES)
def test_the_order_of_nodes_does_not_matter(space: str) -> None:
    for seed, network in enumerate(sampled_networks(space, 2)):
        model = network.model()
        expected = described(of_model(model))
        assert described(of_model(shuffled(model, seed))) == expected
        backwards = with_nodes(model, list(model.graph.node)[::-1])
        assert described(of_model(backwards)) == expected


@pytest.mark.parametrize(
    "space", ["nasbench101", "natsbench_size", "nasbench301", "nasbench_macro", "transnasbench101"]
)
def test_multiply_accumulates_are_those_of_the_row_without_dead_operations(space: str) -> None:
    for network in sampled_networks(space, 4):
        found = sum(layer.macs for layer in of_text(network.text))
        assert found == measures(simplify(network.model())).macs
        if space != "transnasbench101":
            assert found == network.macs


def test_what_no_output_depends_on_is_no_layer() -> None:
    cell = "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|nor_conv_3x3~1|none~2|"
    network = spaces.get("nasbench201").network(cell)
    layers = of_text(network.text)
    assert described(of_model(network.model())) == described(layers)
    assert roles(layers).count("p") == 15 + 2  # one in each cell, and where the resolution is halved
    assert (roles(layers).count("c3"), roles(layers).count("c3/2")) == (1 + 2, 2)
    assert sum(layer.macs for layer in layers) < network.macs


def test_a_network_that_ignores_its_input_has_no_layers() -> None:
    cell = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    network = spaces.get("nasbench201").network(cell)
    assert of_text(network.text) == of_model(network.model()) == []


def test_zeros_carry_nothing() -> None:
    zeros = "Mul 1 float[1]{0}"
    assert lines("Relu $0", zeros) == []
    assert roles(lines("Relu $0", zeros, "Tanh 1", "Add 1 3")) == ["r"]
    assert roles(lines("Relu $0", "Mul 1 float[1]{2}")) == ["r"]
    assert lines("Relu $0", zeros, "Conv 1 w[8,8,1,1]", "MaxPool 1 kernel_shape=[2,2]") == []


def test_a_layer_without_weights_that_does_the_same_as_another_is_the_other() -> None:
    found = lines("Relu $0", "Relu $0", "Conv 1 w[8,8,1,1]", "Conv 3 w[8,8,1,1]", "Add 1 2")
    assert roles(found) == ["r", "p", "p", "+"]
    assert [layer.sources for layer in found] == [(INPUT,), (0,), (0,), (1, 2)]


def test_no_ops_are_no_layers() -> None:
    found = lines("Identity $0", "Dropout 1", "Cast 1 to=1", "BatchNormalization 1 w[8] w[8] w[8] w[8]")
    assert found == []
    assert roles(lines("Identity $0", "Sum 1", "Concat 1 axis=1", "Relu 1")) == ["r"]


@pytest.mark.parametrize(
    ("line", "role", "size", "macs", "params"),
    [
        ("Conv $0 w[16,8,3,3] pads=[1,1,1,1]", "c3", (16, 4, 4), 16 * 8 * 9 * 16, 16 * 8 * 9),
        ("Conv $0 w[16,8,3,3]", "c3", (16, 2, 2), 16 * 8 * 9 * 4, 16 * 8 * 9),
        ("Conv $0 w[16,8,3,3] pads=[1,1,1,1] strides=[2,2]", "c3/2", (16, 2, 2), 16 * 8 * 36, 16 * 8 * 9),
        ("Conv $0 w[8,1,3,3] dilations=[2,2] group=8 pads=[2,2,2,2]", "d5", (8, 4, 4), 72 * 16, 72),
        ("Conv $0 w[8,2,3,3] group=4 pads=[1,1,1,1]", "c3", (8, 4, 4), 144 * 16, 144),
        ("Conv $0 w[4,8,1,1]", "p", (4, 4, 4), 32 * 16, 32),
        ("ConvTranspose $0 w[8,4,2,2] strides=[2,2]", "c2/2", (4, 8, 8), 128 * 64, 128),
        ("AveragePool $0 kernel_shape=[3,3] pads=[1,1,1,1]", "a3", (8, 4, 4), 0, 0),
        ("MaxPool $0 kernel_shape=[3,3] strides=[2,2]", "m3/2", (8, 1, 1), 0, 0),
        ("MaxPool $0 ceil_mode=1 kernel_shape=[3,3] strides=[2,2]", "m3/2", (8, 2, 2), 0, 0),
        ("GlobalAveragePool $0", "g", (8, 1, 1), 0, 0),
        ("Flatten $0", "o", (128, 1, 1), 0, 0),
        ("MatMul $0 w[4,6]", "l", (6, 4, 4), 24 * 16, 24),
        ("MatMul $0 $0", "x", (8, 4, 4), 0, 0),
        ("Add $0 $0", "+", (8, 4, 4), 0, 0),
        ("Concat $0 $0 axis=1", "|", (16, 4, 4), 0, 0),
        ("Mul $0 $0", "*", (8, 4, 4), 0, 0),
        ("Gelu $0", "r", (8, 4, 4), 0, 0),
        ("Softmax $0", "s", (8, 4, 4), 0, 0),
        ("LayerNormalization $0 w[4]", "n", (8, 4, 4), 0, 0),
        ("my.domain::Conv $0 w[16,8,3,3]", "o", (8, 4, 4), 0, 0),
    ],
)
def test_what_a_layer_is(line: str, role: str, size: tuple[int, ...], macs: int, params: int) -> None:
    (layer,) = lines(line)
    assert (layer.kind.role, layer.size, layer.macs, layer.params) == (role, size, macs, params)
    assert role[0] in ROLES
    assert layer.input_channels == 8


def test_a_linear_layer_reads_the_rows_of_its_weight_unless_it_is_transposed() -> None:
    for line in ("Gemm $0 w[8,10]", "Gemm $0 w[10,8] transB=1"):
        (layer,) = lines(line, image="[1,8]")
        assert (layer.kind.role, layer.kind.channels, layer.kind.weight_inputs) == ("l", 10, 8)
        assert (layer.size, layer.macs, layer.params) == ((10, 1, 1), 80, 80)


def test_all_outputs_keep_their_layers() -> None:
    found = lines("Relu $0", "Tanh $0", "Sigmoid $0", output="output 3 1")
    assert [layer.kind.op for layer in found] == ["Relu", "Sigmoid"]
    body = "a = Relu(x)\n b = Tanh(x)\n c = Sigmoid(x)"
    for outputs in ("a c", "c a", "b", "a b c"):
        model = tiny(body, outputs=outputs)
        assert described(of_model(model)) == described(of_text(encode(model)))
        assert len(of_model(model)) == len(outputs.split())


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ("[1,3,16,24]", (3, 16, 24)),
        ("[?,3,16,24]", (3, 16, 24)),
        ("[?1,3,?2,?3]", (3, 32, 32)),
        ("[1,?,8,8]", (3, 8, 8)),
        ("float16[1,3,16,24]", (3, 16, 24)),
        ("[1,8]", (1, 1, 1)),
        ("[1,8] [1,3,16,24]", (1, 1, 1)),
        ("float", (1, 1, 1)),
        (f"[1,3,{2**62},8]", (3, LARGEST, 8)),
    ],
)
def test_the_size_of_the_input(image: str, size: tuple[int, ...]) -> None:
    assert lines("Relu $0", image=image)[0].size == size


def test_an_open_size_is_read_alike_from_model_and_text() -> None:
    model = spaces.get("nasbench201").model(spaces.get("nasbench201").sample(1, 0)[0])
    dims = model.graph.input[0].type.tensor_type.shape.dim
    expected = described(of_model(model))
    dims[0].dim_param = "batch"
    assert described(of_model(model)) == described(of_text(encode(model))) == expected
    dims[2].dim_param = dims[3].dim_param = "length"
    assert described(of_model(model)) == described(of_text(encode(model))) == expected


EXPORTS = [Export("script", 17, False), Export("script", 17, True)]


@pytest.mark.parametrize(
    "name", ["resnet", "mobilenet", "two_inputs", "many_outputs", "perceptron", "recurrent"]
)
@pytest.mark.parametrize("way", EXPORTS, ids=str)
def test_a_model_that_torch_exported_has_the_layers_of_its_text(name: str, way: Export) -> None:
    model = exported(name, way)
    assert described(of_model(model)) == described(of_text(encode(model)))
    assert of_model(model)


@pytest.mark.parametrize(
    "body",
    [
        'y = Conv <auto_pad="SAME_UPPER"> (x, w)',
        'y = Conv <auto_pad="SAME_LOWER", strides=[2, 2]> (x, w)',
        'y = MaxPool <auto_pad="SAME_UPPER", kernel_shape=[3, 3]> (x)',
        "c = Conv (x, w)\n y = Relu(c)",
        "k = Relu(x)\n y = Conv (k, w)",
    ],
)
def test_padding_that_a_file_leaves_to_the_reader_is_that_of_the_text(body: str) -> None:
    model = weights_as_inputs(tiny(body, w=np.ones((4, 4, 3, 3), np.float32))) if "w)" in body else tiny(body)
    assert described(of_model(model)) == described(of_text(encode(model)))


@st.composite
def common_models(draw: st.DrawFn) -> ModelProto:
    """Draw a model of operations that are read as they are, some of which nobody reads."""
    nodes: list[NodeProto] = []
    values = ["input"]
    weights = {}
    for number in range(draw(st.integers(1, 9))):
        op = draw(
            st.sampled_from(["Conv", "Relu", "Tanh", "MaxPool", "AveragePool", "Add", "Concat", "Zero"])
        )
        read = [draw(st.sampled_from(values)) for _ in range(draw(st.integers(1, 3)))]
        name = f"v{number}"
        if op == "Conv":
            weights[f"w{number}"] = (4, 4, 3, 3)
            node = helper.make_node("Conv", [read[0], f"w{number}"], [name], pads=[1] * 4)
        elif op.endswith("Pool"):
            node = helper.make_node(op, read[:1], [name], kernel_shape=[3, 3], pads=[1] * 4)
        elif op == "Add":
            node = helper.make_node("Add", [read[0], read[-1]], [name])
        elif op == "Concat":  # back to four channels
            nodes.append(helper.make_node("Concat", read, [f"c{number}"], axis=1))
            weights[f"w{number}"] = (4, 4 * len(read), 1, 1)
            node = helper.make_node("Conv", [f"c{number}", f"w{number}"], [name])
        elif op == "Zero":
            node = helper.make_node("Mul", draw(st.permutations([read[0], "zero"])), [name])
        else:
            node = helper.make_node(op, read[:1], [name])
        nodes.append(node)
        values.append(name)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in {"input": (1, 4, 8, 8), **weights}.items()
    ]
    output = helper.make_tensor_value_info(values[-1], TensorProto.FLOAT, (1, 4, 8, 8))
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    graph = helper.make_graph(nodes, "drawn", inputs, [output], [zero])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@given(model=common_models(), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_models_that_are_read_as_they_are_have_the_layers_of_their_texts(
    model: ModelProto, seed: int
) -> None:
    expected = described(of_text(encode(model)))
    assert described(of_model(model)) == expected
    assert described(of_model(shuffled(model, seed))) == expected


def test_a_convolution_that_only_zeros_read_is_nothing() -> None:
    body = "c = Conv (x, w)\n z = Mul(c, zero)\n r = Relu(x)\n y = Add(z, r)"
    model = tiny(body, w=np.ones((4, 4, 1, 1), np.float32), zero=np.zeros(1, np.float32))
    assert roles(of_model(model)) == roles(of_text(encode(model))) == ["r"]


def test_models_without_a_text_are_read_as_far_as_they_go() -> None:
    branch = helper.make_graph([helper.make_node("Relu", ["r"], ["b"])], "branch", [], [value("b")])
    nodes = [
        helper.make_node("If", ["r"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Relu", ["input"], ["r"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [value("input")], [value("y")]))
    with pytest.raises(UnsupportedModelError):
        encode(model)
    assert [layer.kind.op for layer in of_model(model)] == ["Relu", "If"]


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4, 8, 8))


def test_broken_models_are_refused() -> None:
    circle = [helper.make_node("Add", ["input", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    model = helper.make_model(helper.make_graph(circle, "g", [value("input")], [value("b")]))
    with pytest.raises(UnsupportedModelError, match="cycle"):
        of_model(model)
    model.graph.node.add().ParseFromString(b"\x22\x02\xff\xfe")  # an operation whose name is not Unicode
    with pytest.raises(UnsupportedModelError):
        of_model(model)
    del model.graph.node[:]
    model.graph.node.extend([helper.make_node("Relu", ["input"], ["a"])] * 100_001)
    with pytest.raises(UnsupportedModelError, match="has 100,001 nodes; at most 100,000 are read"):
        of_model(model)


def test_an_empty_model_has_no_layers() -> None:
    assert of_model(ModelProto()) == []
    graph = helper.make_graph([], "g", [value("input")], [value("input")])
    assert of_model(helper.make_model(graph)) == []
    assert of_text("onnx-net 1\nopset 18\ninput [1,8]\noutput $0") == []


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [0, 0]},
        {"strides": [-1, 2**62]},
        {"dilations": [0, -3]},
        {"pads": [-(2**63)] * 4},
        {"pads": [2**63 - 1] * 4},
        {"group": 0},
        {"group": -(2**40)},
        {"strides": [2]},
        {"kernel_shape": [0, 0]},
        {"kernel_shape": [-7, 2**62]},
    ],
)
def test_attributes_out_of_bounds_are_brought_within(attributes: dict[str, object]) -> None:
    for op in ("Conv", "ConvTranspose", "MaxPool", "AveragePool"):
        node = helper.make_node(op, ["input", "w"][: 2 if "Conv" in op else 1], ["y"], **attributes)
        weight = helper.make_tensor_value_info("w", TensorProto.FLOAT, (4, 4, 3, 3))
        graph = helper.make_graph([node], "g", [value("input"), weight], [value("y")])
        for layer in of_model(helper.make_model(graph)):
            assert min(layer.size) > 0
            assert max(layer.size) <= LARGEST
            assert layer.macs >= 0


def test_a_broken_text_is_refused() -> None:
    for line in ("Relu 2", "Relu", "Conv $0 w[", "Relu $0 Relu"):
        with pytest.raises(TextError):
            lines(line, "Foo 1", output="output 9")
