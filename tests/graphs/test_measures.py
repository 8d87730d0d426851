"""Sizes of networks, against numbers counted by hand or by torch."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from exported_models import Export, build, exported
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import IMAGE, tiny

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.graphs.measures import Measures, measures


@pytest.mark.parametrize(
    ("body", "inputs", "macs"),
    [
        ("y = Conv(x, w)", f"{IMAGE}, float[5,4,3,3] w", 2 * 5 * 4 * 4 * (4 * 3 * 3)),
        (
            "y = Conv <group = 2, strides = [2, 2]> (x, w)",
            f"{IMAGE}, float[6,2,3,3] w",
            2 * 6 * 2 * 2 * (2 * 9),
        ),
        ("y = Conv <group = 4, dilations = [2, 1]> (x, w)", f"{IMAGE}, float[4,1,3,3] w", 2 * 4 * 2 * 4 * 9),
        ("y = Conv(x, w)", "float[1,2,9] x, float[3,2,3] w", 3 * 7 * (2 * 3)),
        ("y = ConvTranspose <strides = [2, 2]> (x, w)", f"{IMAGE}, float[4,5,2,2] w", 2 * 4 * 36 * (5 * 4)),
        ("y = ConvTranspose <group = 2> (x, w)", f"{IMAGE}, float[4,3,1,1] w", 2 * 4 * 36 * 3),
        ("y = Gemm(x, w)", "float[2,4] x, float[4,5] w", 2 * 4 * 5),
        ("y = Gemm <transA = 1, transB = 1> (x, w)", "float[4,2] x, float[5,4] w", 2 * 4 * 5),
        ("y = MatMul(x, w)", "float[2,4] x, float[4,5] w", 2 * 4 * 5),
        ("y = MatMul(x, w)", "float[7,1,2,4] x, float[3,4,5] w", 7 * 3 * 2 * 4 * 5),
        ("y = MatMul(x, w)", "float[4] x, float[4] w", 4),
        ("h = Relu(x) y = Add(h, x)", IMAGE, 0),
    ],
)
def test_multiply_accumulates(body: str, inputs: str, macs: int) -> None:
    assert measures(tiny(body, inputs)).macs == macs


def test_dead_nodes_count() -> None:
    body = "y = MatMul(x, w) d = MatMul(x, w) e = Relu(d)"
    assert measures(tiny(body, "float[2,4] x, float[4,5] w")) == Measures(3, 20, 80, 1)


def test_shared_weight_counts_once_and_statistics_not_at_all() -> None:
    body = "h = Conv(x, w) k = Conv(h, w) y = BatchNormalization(k, s, b, m, v)"
    inputs = f"{IMAGE}, float[4,4,1,1] w, float[4] s, float[4] b, float[4] m, float[4] v"
    assert measures(tiny(body, inputs)).num_params == 16 + 8


@pytest.mark.parametrize(
    "name", ["resnet", "mobilenet", "densenet", "unet", "dilated_grouped", "squeeze_excite"]
)
def test_parameters_are_those_of_the_module(name: str) -> None:
    model = exported(name, Export("script", 17, False))
    assert measures(model).num_params == sum(parameter.numel() for parameter in build(name).parameters())


def test_multiply_accumulates_of_a_resnet() -> None:
    """Counted from the shapes of its convolutions and its classifier."""
    area = [32, 32, 32, 32, 32]
    widths = [(8, 8), (8, 8), (8, 12), (12, 12), (12, 16), (16, 16), (16, 24), (24, 24)]
    total, size = 3 * 8 * 9 * 32 * 32, area[0]
    for c_in, c_out in widths:
        size = size // 2 if c_in != c_out else size
        total += size * size * 9 * (c_in * c_out + c_out * c_out)
        total += size * size * c_in * c_out if c_in != c_out else 0
    model = exported("resnet", Export("script", 17, False))
    assert measures(model).macs == total + 24 * 10


class TestDepth:
    @pytest.mark.parametrize(
        ("body", "outputs", "depth"),
        [
            ("y = Relu(x)", "y", 1),
            ("a = Relu(x) b = Tanh(a) y = Add(b, x)", "y", 3),
            ("a = Relu(x) b = Tanh(a) c = Sigmoid(b)", "a", 1),
            ("a = Relu(x) b = Tanh(a)", "a b", 2),
            ("c = Constant <value_float = 2.0> () d = Neg(c) e = Neg(d) y = Mul(x, e)", "y", 1),
            ("", "x", 0),
        ],
    )
    def test_longest_path(self, body: str, outputs: str, depth: int) -> None:
        assert measures(tiny(body, outputs=outputs)).depth == depth

    def test_every_data_input_counts(self) -> None:
        assert measures(tiny("a = Relu(z) b = Tanh(a) y = Add(x, b)", f"{IMAGE}, {IMAGE[:-1]}z")).depth == 3

    def test_weights_are_no_beginning(self) -> None:
        model = tiny(
            "k = Transpose(w) u = Transpose(k) v = Transpose(u) y = MatMul(x, v)",
            "float[2,4] x, float[5,4] w",
        )
        assert measures(model).depth == 1

    def test_nodes_in_any_order(self) -> None:
        model = tiny("a = Relu(x) b = Tanh(a) y = Sigmoid(b)")
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        assert measures(model).depth == 3

    @given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=30))
    def test_equals_the_longest_path_by_definition(self, edges: list[tuple[int, int]]) -> None:
        g = GraphBuilder((1, 2, 3, 3))
        values, depth = [g.input], {g.input: 0}
        for number, (one, two) in enumerate(edges):
            left, right = values[one % len(values)], values[two % len(values)]
            values.append(g.op("Add", left, right, name=f"v{number}"))
            depth[values[-1]] = 1 + max(depth[left], depth[right])
        assert measures(g.model(values[-1])).depth == depth[values[-1]]


class TestShapes:
    def test_declared_shapes_are_enough(self) -> None:
        """An operation without shape inference in between."""
        model = tiny("h = Relu(x) y = MatMul(h, w)", "float[2,4] x, float[4,5] w")
        model.graph.node[0].domain = "my.domain"
        model.opset_import.append(onnx.helper.make_opsetid("my.domain", 1))
        model.graph.value_info.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, [2, 4]))
        assert measures(model).macs == 40

    def test_shape_arithmetic_is_followed(self) -> None:
        body = """
            s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, axis)
            t = Concat <axis = 0> (u, rest) r = Reshape(x, t) y = MatMul(r, w)
        """
        model = tiny(
            body, "float[2,3,4] x, float[12,5] w", zero=np.int64(0), axis=np.array([0]), rest=np.array([-1])
        )
        assert measures(model).macs == 2 * 12 * 5

    def test_dynamic_shape(self) -> None:
        model = tiny("y = Conv(x, w)", 'float["N",4,6,6] x, float[4,4,1,1] w')
        with pytest.raises(UnsupportedModelError, match=r"Conv that makes 'y'.*shape of 'y' is dynamic"):
            measures(model)

    def test_dynamic_shape_that_nothing_needs(self) -> None:
        assert measures(tiny("y = Relu(x)", 'float["N",4] x')) == Measures(1, 0, 0, 1)

    def test_graph_that_contradicts_itself(self) -> None:
        model = tiny("h = MatMul(x, w) y = MatMul(h, u)", "float[2,4] x, float[4,5] w, float[5,3] u")
        model.graph.input[2].type.tensor_type.shape.dim[0].dim_value = 6
        del model.graph.value_info[:]
        with pytest.raises(UnsupportedModelError, match="shape inference"):
            measures(model)

    def test_large_weights_are_not_copied(self) -> None:
        weight = np.zeros((3000, 1000), np.float32)
        assert measures(tiny("y = MatMul(x, w)", "float[2,3000] x", w=weight)).num_params == math.prod(
            weight.shape
        )
