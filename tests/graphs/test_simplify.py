"""Each rule of `simplify`: where it applies, and where it must not."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics import assert_numerically_equal
from onnx import ModelProto, TensorProto
from onnx.reference import ReferenceEvaluator
from tiny_models import IMAGE, operations, simplified, tiny, weight_shapes, weights_as_inputs

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.graphs.graph import Graph
from onnx_bench_dataset.graphs.simplify import simplify, simplify_graph
from onnx_bench_dataset.graphs.weights import fill_weights

RNG = np.random.default_rng(3)


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def norm(channels: int) -> dict[str, np.ndarray]:
    """Return the parameters of a batch norm that is far from the identity."""
    return {
        "s": RNG.uniform(0.5, 1.5, channels).astype(np.float32),
        "b": weights(channels),
        "m": weights(channels),
        "v": RNG.uniform(0.5, 1.5, channels).astype(np.float32),
    }


def check(model: ModelProto, expected: list[str]) -> ModelProto:
    """Simplify: the result has these operations and computes the same numbers."""
    result = simplified(model)
    assert operations(result) == expected
    assert_numerically_equal(model, result)
    return result


class TestConstants:
    """Rules 1 to 4."""

    @pytest.mark.parametrize(
        "value",
        ["value_float = 2.0", "value = float {2.0}", "value_floats = [2.0]", "value = float[1] {2.0}"],
    )
    def test_constant_node_becomes_an_initializer(self, value: str) -> None:
        result = check(tiny(f"c = Constant <{value}> () y = Mul(x, c)"), ["Mul"])
        assert [tensor.name for tensor in result.graph.initializer] == ["c"]

    def test_integer_constant(self) -> None:
        check(tiny("c = Constant <value_ints = [2, -1]> () y = Reshape(x, c)"), ["Reshape"])

    def test_string_constant_stays(self) -> None:
        model = tiny('c = Constant <value_string = "a"> () d = Identity(c) y = Relu(x)', outputs="y d")
        assert operations(simplified(model)) == ["Constant", "Relu"]

    def test_shape_arithmetic_is_computed(self) -> None:
        body = """
            shape = Shape(x) first = Gather(shape, zero) row = Unsqueeze(first, axis)
            rest = Constant <value_ints = [-1]> () target = Concat <axis = 0> (row, rest)
            y = Reshape(x, target)
        """
        result = check(tiny(body, zero=np.int64(0), axis=np.array([0])), ["Reshape"])
        assert onnx.numpy_helper.to_array(result.graph.initializer[0]).tolist() == [2, -1]

    def test_part_of_a_shape(self) -> None:
        check(tiny("t = Shape <start = 1, end = 3> (x) y = Expand(w, t)", w=weights(4, 1)), ["Identity"])

    def test_known_dimension_of_a_dynamic_shape(self) -> None:
        model = tiny(
            "s = Shape(x) c = Gather(s, one) f = Cast <to = 1> (c) y = Mul(x, f)",
            inputs='float["N", 4] x',
            one=np.int64(1),
        )
        result = simplified(model)
        assert operations(result) == ["Mul"]
        inputs = {"x": weights(3, 4)}
        assert_numerically_equal(model, result, inputs=inputs)

    def test_unknown_dimension_stays(self) -> None:
        model = tiny("y = Shape(x)", inputs='float["N", 4] x')
        assert operations(simplified(model)) == ["Shape"]

    def test_shape_known_only_after_folding(self) -> None:
        """A Range has no inferred shape until its limit is a constant."""
        body = """
            n = Size(w) r = Range(zero, n, one) m = Mod(r, two) p = Reshape(m, s)
            t = Cast <to = 1> (p) y = Add(x, t)
        """
        numbers = {"zero": np.int64(0), "one": np.int64(1), "two": np.int64(2), "s": np.array([4, 1, 1])}
        check(tiny(body, w=weights(4), **numbers), ["Add"])

    def test_large_result_is_not_computed(self) -> None:
        model = tiny("t = ConstantOfShape(n) r = ReduceSum(t) y = Add(x, r)", n=np.array([3000, 3000]))
        assert operations(simplified(model)) == ["ConstantOfShape", "ReduceSum", "Add"]

    def test_weights_are_rearranged_at_any_size(self) -> None:
        model = tiny("w = Transpose(v) y = MatMul(x, w)", "float[2,300] x", v=weights(400, 300))
        check(model, ["MatMul"])
        result = simplified(weights_as_inputs(model))
        assert operations(result) == ["MatMul"]
        assert weight_shapes(result) == {"x": (2, 300), "w": (300, 400)}

    def test_random_numbers_are_not_a_constant(self) -> None:
        model = tiny("r = RandomNormal <shape = [2, 4, 6, 6]> () y = Add(x, r)")
        assert operations(simplified(model)) == ["RandomNormal", "Add"]

    def test_constant_output_is_handed_on(self) -> None:
        model = tiny("y = Add(a, b) z = Relu(x)", outputs="y z", a=weights(3), b=weights(3))
        check(model, ["Identity", "Relu"])

    def test_cast_like_of_a_known_type(self) -> None:
        check(tiny("c = CastLike(k, x) y = Mul(x, c)", k=np.int64(3)), ["Mul"])

    def test_numbers_of_an_operation_that_is_not_defined_stay(self) -> None:
        body = "d = Div(one, zero) f = Cast <to = 1> (d) y = Add(x, f)"
        model = tiny(body, one=np.array([1]), zero=np.array([0]))
        assert "Add" in operations(simplified(model))


NO_OPS = {
    "Identity(r)": {},
    "Dropout(r)": {},
    "Dropout(r, ratio, training)": {"ratio": np.float32(0.5), "training": np.array(False)},
    "Cast <to = 1> (r)": {},
    "CastLike(r, x)": {},
    "Transpose <perm = [0, 1, 2, 3]> (r)": {},
    "Reshape(r, c)": {"c": np.array([2, 4, 6, 6])},
    "Reshape(r, d)": {"d": np.array([0, -1, 6, 6])},
    "Expand(r, c)": {"c": np.array([1, 1, 6])},
    "Pad(r, c)": {"c": np.zeros(8, np.int64)},
    "Slice(r, b, e)": {"b": np.array([0, 0]), "e": np.array([2**31 - 1, 2**63 - 1])},
    "Slice(r, b, e, a)": {"b": np.array([0]), "e": np.array([6]), "a": np.array([-1])},
    "Slice(r, b, e, a, p)": {
        "b": np.array([0]),
        "e": np.array([9]),
        "a": np.array([1]),
        "p": np.array([1]),
    },
    "Concat <axis = 1> (r)": {},
    "Sum(r)": {},
    "Max(r)": {},
    "Min(r)": {},
    "Mean(r)": {},
    "Split <axis = 1, num_outputs = 1> (r)": {},
    "AveragePool <kernel_shape = [1, 1]> (r)": {},
    "MaxPool <kernel_shape = [1, 1], strides = [1, 1]> (r)": {},
    "Tile(r, c)": {"c": np.ones(4, np.int64)},
    "ReduceSum <noop_with_empty_axes = 1> (r)": {},
    "Relu(r)": {},
    "Add(r, c)": {"c": np.float32(0)},
    "Add(c, r)": {"c": np.zeros((1, 1), np.float32)},
    "Sub(r, c)": {"c": np.float32(0)},
    "Mul(r, c)": {"c": np.float32(1)},
    "Div(r, c)": {"c": np.float32(1)},
    "Pow(r, c)": {"c": np.float32(1)},
}

OPS_THAT_DO_SOMETHING = {
    "Dropout(r, ratio, training)": {"ratio": np.float32(0.5), "training": np.array(True)},
    "Cast <to = 11> (r)": {},
    "Transpose <perm = [0, 1, 3, 2]> (r)": {},
    "Transpose(r)": {},
    "Reshape(r, c)": {"c": np.array([4, 2, 6, 6])},
    "Flatten(r)": {},
    "Unsqueeze(r, c)": {"c": np.array([0])},
    "Expand(r, c)": {"c": np.array([1, 1, 1, 1, 1])},
    "Pad(r, c)": {"c": np.array([0, 0, 0, 1, 0, 0, 0, 0])},
    "Slice(r, b, e, a)": {"b": np.array([0]), "e": np.array([5]), "a": np.array([-1])},
    "Slice(r, b, e, a, p)": {
        "b": np.array([0]),
        "e": np.array([2**31 - 1]),
        "a": np.array([3]),
        "p": np.array([2]),
    },
    "Slice(r, b, e)": {"b": np.array([0, 1]), "e": np.array([9, 9])},
    "AveragePool <kernel_shape = [1, 1], strides = [2, 1]> (r)": {},
    "MaxPool <kernel_shape = [1, 1], strides = [1, 2]> (r)": {},
    "Tile(r, c)": {"c": np.array([1, 2, 1, 1])},
    "ReduceMean(r)": {},
    "Add(r, c)": {"c": np.zeros((1, 1, 1, 1, 1), np.float32)},
    "Mul(r, c)": {"c": np.float32(-1)},
    "Sub(c, r)": {"c": np.float32(0)},
    "Div(r, c)": {"c": np.float32(2)},
    "Pow(c, r)": {"c": np.float32(1)},
}


class TestNoOps:
    """Rule 5."""

    @pytest.mark.parametrize("operation", NO_OPS)
    def test_vanishes_inside(self, operation: str) -> None:
        check(tiny(f"r = Relu(x) n = {operation} y = Tanh(n)", **NO_OPS[operation]), ["Relu", "Tanh"])

    @pytest.mark.parametrize("operation", NO_OPS)
    def test_vanishes_at_an_output(self, operation: str) -> None:
        check(
            tiny(f"r = Relu(x) y = {operation} z = Tanh(r)", outputs="y z", **NO_OPS[operation]),
            ["Relu", "Tanh"],
        )

    @pytest.mark.parametrize("operation", NO_OPS)
    def test_between_input_and_output_an_identity_stays(self, operation: str) -> None:
        body = f"y = {operation}".replace("r)", "x)").replace("r,", "x,").replace("(r", "(x")
        numbers = NO_OPS[operation]
        check(tiny(body, **numbers), ["Relu"] if operation == "Relu(r)" else ["Identity"])

    @pytest.mark.parametrize("operation", NO_OPS)
    def test_between_two_outputs_an_identity_stays(self, operation: str) -> None:
        check(tiny(f"r = Relu(x) y = {operation}", outputs="r y", **NO_OPS[operation]), ["Relu", "Identity"])

    @pytest.mark.parametrize("operation", OPS_THAT_DO_SOMETHING)
    def test_stays(self, operation: str) -> None:
        model = tiny(f"r = Relu(x) y = {operation}", **OPS_THAT_DO_SOMETHING[operation])
        result = simplified(model)
        assert operations(result) == operations(model)
        if "training" not in operation:
            assert_numerically_equal(model, result)

    def test_dropout_whose_mask_is_read_stays(self) -> None:
        check(tiny("d, m = Dropout(x) y = Cast <to = 1> (m)", outputs="y d"), ["Dropout", "Cast"])

    def test_learned_ones_stay(self) -> None:
        """A layer scale that starts at one is not a multiplication by one."""
        check(tiny("r = Relu(x) y = Mul(r, w)", w=np.ones((4, 1, 1), np.float32)), ["Relu", "Mul"])

    def test_same_shape_of_unknown_size_is_no_proof(self) -> None:
        model = tiny("r = Relu(x) s = Reshape(r, t) y = Relu(s)", 'float["N", 4] x', t=np.array([-1, 4]))
        assert operations(simplified(model)) == ["Relu", "Reshape", "Relu"]

    def test_same_symbol_is_the_same_size(self) -> None:
        model = tiny("r = Relu(x) s = Expand(r, one) y = Tanh(s)", 'float["N", 4] x', one=np.array([1]))
        assert operations(simplified(model)) == ["Relu", "Tanh"]

    def test_declared_shapes_do_not_count_as_proof(self) -> None:
        """A file may declare any shape for an inner value; here it claims that a Reshape changes nothing."""
        model = tiny("r = Relu(x) s = Reshape(r, t) y = Tanh(s)", t=np.array([8, 2, 6, 6]))
        model.graph.value_info.append(
            onnx.helper.make_tensor_value_info("s", TensorProto.FLOAT, [2, 4, 6, 6])
        )
        assert operations(simplify(model)) == ["Relu", "Reshape", "Tanh"]

    def test_declared_shapes_of_outputs_do_not_count_as_proof(self) -> None:
        model = tiny("r = Relu(x) s = Flatten(r) y = Mul(s, one)", one=np.float32(1))
        model.graph.output[0].CopyFrom(
            onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4, 6, 6])
        )
        assert operations(simplify(model)) == ["Relu", "Flatten"]


LAYERS = {
    "conv": ("Conv(x, w)", (5, 4, 3, 3), False, IMAGE),
    "conv_with_bias": ("Conv <pads = [1, 1, 1, 1]> (x, w, c)", (5, 4, 3, 3), True, IMAGE),
    "grouped_conv": ("Conv <group = 2> (x, w, c)", (6, 2, 3, 3), True, IMAGE),
    "depthwise_conv": ("Conv <group = 4> (x, w)", (4, 1, 3, 3), False, IMAGE),
    "line": ("Conv(x, w)", (5, 4, 3), False, "float[2,4,6] x"),
    "volume": ("Conv(x, w, c)", (5, 4, 1, 1, 1), True, "float[2,4,3,3,3] x"),
    "transposed": ("ConvTranspose <strides = [2, 2]> (x, w)", (4, 3, 2, 2), False, IMAGE),
    "grouped_transposed": ("ConvTranspose <group = 2> (x, w, c)", (4, 3, 2, 2), True, IMAGE),
    "gemm": ("Gemm(x, w, c)", (4, 5), True, "float[2,4] x"),
    "transposed_gemm": ("Gemm <transB = 1, alpha = 0.5> (x, w)", (5, 4), False, "float[2,4] x"),
}


def channels_of(layer: str) -> int:
    operation, shape, _, _ = LAYERS[layer]
    if "ConvTranspose" in operation:
        return shape[1] * (2 if "group" in operation else 1)
    return shape[1] if operation.startswith("Gemm(") else shape[0]


def layer_with_norm(layer: str) -> ModelProto:
    operation, shape, has_bias, inputs = LAYERS[layer]
    channels = channels_of(layer)
    numbers = {"w": weights(*shape), **norm(channels), **({"c": weights(channels)} if has_bias else {})}
    body = f"h = {operation} n = BatchNormalization <epsilon = 0.01> (h, s, b, m, v) y = Relu(n)"
    return tiny(body, inputs, **numbers)


class TestBatchNorm:
    """Rule 6."""

    @pytest.mark.parametrize("layer", LAYERS)
    def test_goes_into_the_layer_before_it(self, layer: str) -> None:
        model = layer_with_norm(layer)
        result = check(model, [operations(model)[0], "Relu"])
        assert list(result.graph.node[0].input) == ["x", "w", "b"]
        assert result.graph.node[0].attribute == model.graph.node[0].attribute

    @pytest.mark.parametrize("layer", LAYERS)
    def test_weights_as_inputs_give_the_same_graph(self, layer: str) -> None:
        model = layer_with_norm(layer)
        filled, left_out = simplified(model), simplified(weights_as_inputs(model))
        assert list(left_out.graph.node) == list(filled.graph.node)
        assert weight_shapes(left_out) == weight_shapes(filled)
        assert not left_out.graph.initializer

    @pytest.mark.parametrize(("dtype", "name"), [(np.float64, "double"), (np.float16, "float16")])
    def test_other_floats_keep_their_type(self, dtype: type, name: str) -> None:
        numbers = {key: value.astype(dtype) for key, value in {"w": weights(5, 4, 1, 1), **norm(5)}.items()}
        body = "h = Conv(x, w) y = BatchNormalization(h, s, b, m, v)"
        model = tiny(body, f"{name}[1,4,6,6] x", **numbers)
        result = simplified(model)
        assert operations(result) == ["Conv"]
        assert {onnx.numpy_helper.to_array(t).dtype for t in result.graph.initializer} == {np.dtype(dtype)}
        feeds = {"x": RNG.normal(size=(1, 4, 6, 6)).astype(dtype)}
        before, after = (ReferenceEvaluator(each).run(None, feeds)[0] for each in (model, result))
        np.testing.assert_allclose(after, before, atol=1e-12 if dtype == np.float64 else 0.05)

    @pytest.mark.parametrize(
        "body",
        [
            "h = Conv(x, w) n = BatchNormalization(h, s, b, m, v) y = Add(n, h)",
            "h = Conv(x, w) y, rm, rv = BatchNormalization <training_mode = 1> (h, s, b, m, v)",
            "h = BatchNormalization(x, s, b, m, v) y = Conv(h, w)",
            "h = Relu(x) y = BatchNormalization(h, s, b, m, v)",
            "u = Tanh(x) h = Conv(x, w) n = Mul(h, u) y = BatchNormalization(n, s, b, m, v)",
        ],
    )
    def test_stays(self, body: str) -> None:
        model = tiny(body, w=weights(4, 4, 1, 1), **norm(4))
        check(model, operations(model))

    def test_raw_output_keeps_the_norm(self) -> None:
        model = tiny(
            "h = Conv(x, w) y = BatchNormalization(h, s, b, m, v)",
            outputs="h y",
            w=weights(4, 4, 1, 1),
            **norm(4),
        )
        check(model, ["Conv", "BatchNormalization"])

    def test_computed_weights_keep_the_norm(self) -> None:
        body = "k = Relu(u) h = Conv(x, k) y = BatchNormalization(h, s, b, m, v)"
        check(tiny(body, f"{IMAGE}, float[4,4,1,1] u", **norm(4)), ["Relu", "Conv", "BatchNormalization"])

    def test_bias_of_a_gemm_that_is_one_number(self) -> None:
        model = tiny(
            "h = Gemm(x, w, c) y = BatchNormalization(h, s, b, m, v)",
            "float[2,4] x",
            w=weights(4, 5),
            c=weights(1),
            **norm(5),
        )
        check(model, ["Gemm"])

    @pytest.mark.parametrize("gemm", ["Gemm <beta = 0.5> (x, w, c)", "Gemm(x, w, d)"])
    def test_other_gemms_stay(self, gemm: str) -> None:
        body = f"h = {gemm} y = BatchNormalization(h, s, b, m, v)"
        numbers = {"w": weights(4, 5), **({"c": weights(5)} if "c)" in gemm else {"d": weights(2, 5)})}
        check(tiny(body, "float[2,4] x", **numbers, **norm(5)), ["Gemm", "BatchNormalization"])

    def test_shared_convolution_keeps_its_weights(self) -> None:
        body = """
            h = Conv(x, w) n = BatchNormalization(h, s, b, m, v)
            k = Conv(n, w) y = Add(n, k)
        """
        model = tiny(body, w=weights(4, 4, 1, 1), **norm(4))
        result = check(model, ["Conv", "Conv", "Add"])
        assert [list(node.input) for node in result.graph.node[:2]] == [["x", "w_1", "b"], ["n", "w"]]
        left_out = simplified(weights_as_inputs(model))
        assert list(left_out.graph.node) == list(result.graph.node)
        assert weight_shapes(left_out) == weight_shapes(result)

    def test_shared_norm_parameters_stay_whole(self) -> None:
        body = """
            h = Conv(x, w) n = BatchNormalization(h, s, b, m, v) r = Relu(n)
            k = Conv(r, u) y = BatchNormalization(k, s, b, m, v)
        """
        model = tiny(body, w=weights(4, 4, 1, 1), u=weights(4, 4, 1, 1), **norm(4))
        result = check(model, ["Conv", "Relu", "Conv"])
        assert [list(node.input) for node in result.graph.node] == [["x", "w", "b_1"], ["n"], ["r", "u", "b"]]
        assert list(simplified(weights_as_inputs(model)).graph.node) == list(result.graph.node)

    def test_constant_scale_of_a_norm_that_learns_none(self) -> None:
        """Ones and zeros stand for the affine part; only the running statistics are inputs."""
        body = """
            h = Conv(x, w) n = BatchNormalization(h, one, zero, m, v) r = Relu(n)
            k = Conv(r, u) y = BatchNormalization(k, one, zero, p, q)
        """
        vectors = "float[4] m, float[4] v, float[4] p, float[4] q"
        kernels = "float[4,4,1,1] w, float[4,4,1,1] u"
        model = tiny(
            body, f"{IMAGE}, {kernels}, {vectors}", one=np.ones(4, np.float32), zero=np.zeros(4, np.float32)
        )
        assert operations(simplified(model)) == ["Conv", "Relu", "Conv"]
        filled = simplified(fill_weights(model))
        assert operations(filled) == ["Conv", "Relu", "Conv"]
        assert_numerically_equal(fill_weights(model), filled)

    def test_overflow_of_half_precision_stays(self) -> None:
        numbers = {key: value.astype(np.float16) for key, value in norm(4).items()}
        numbers |= {"w": np.full((4, 4, 1, 1), 100, np.float16), "v": np.full(4, 1e-7, np.float16)}
        body = "h = Conv(x, w) y = BatchNormalization <epsilon = 0.0> (h, s, b, m, v)"
        model = tiny(body, "float16[1,4,6,6] x", **numbers)
        assert operations(simplified(model)) == ["Conv", "BatchNormalization"]

    @pytest.mark.parametrize(
        ("opset", "outputs", "folds"), [(9, "y", True), (9, "y rm rv", False), (14, "y", True)]
    )
    def test_older_operator_sets_ask_for_training_with_more_outputs(
        self, opset: int, outputs: str, folds: bool
    ) -> None:
        names = outputs.replace(" ", ", ")
        extra = ", sm, sv" if "rm" in names else ""
        body = f"h = Conv(x, w) {names}{extra} = BatchNormalization(h, s, b, m, v)"
        text = f'<ir_version: 8, opset_import: ["" : {opset}]> t ({IMAGE}) => (float[2,4,6,6] y) {{ {body} }}'
        model = onnx.parser.parse_model(text)
        for key, value in {"w": weights(4, 4, 1, 1), **norm(4)}.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, key))
        assert operations(simplify(model)) == (["Conv"] if folds else ["Conv", "BatchNormalization"])


class TestBiasAndFactor:
    """Rules 7 and 8."""

    @pytest.mark.parametrize("layer", ["Conv(x, w)", "ConvTranspose(x, w)"])
    @pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1), (), (1,)])
    def test_added_numbers_become_the_bias(self, layer: str, shape: tuple[int, ...]) -> None:
        model = tiny(f"h = {layer} y = Add(k, h)", w=weights(4, 4, 3, 3), k=weights(*shape))
        result = check(model, [operations(model)[0]])
        assert list(result.graph.node[0].input) == ["x", "w", "k"]

    @pytest.mark.parametrize("shape", [(4,), (6,), (4, 6, 6), (2, 1, 1, 1), (1, 1, 4, 1, 1)])
    def test_other_shapes_are_no_bias(self, shape: tuple[int, ...]) -> None:
        inputs = "float[2,4,4,4] x" if shape == (4,) else IMAGE
        check(
            tiny("h = Conv(x, w) y = Add(h, k)", inputs, w=weights(4, 4, 1, 1), k=weights(*shape)),
            ["Conv", "Add"],
        )

    def test_layer_with_a_bias_keeps_the_addition(self) -> None:
        model = tiny(
            "h = Conv(x, w, c) y = Add(h, k)", w=weights(4, 4, 1, 1), c=weights(4), k=weights(4, 1, 1)
        )
        check(model, ["Conv", "Add"])

    @pytest.mark.parametrize("layer", ["Conv(x, w)", "Conv(x, w, c)", "Conv <group = 2> (x, g)"])
    @pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1), (), (1, 1)])
    def test_factor_goes_into_the_weights(self, layer: str, shape: tuple[int, ...]) -> None:
        numbers = {"w": weights(4, 4, 1, 1), "c": weights(4), "g": weights(4, 2, 1, 1)}
        used = {key: value for key, value in numbers.items() if key in layer.split("(")[1]}
        check(tiny(f"h = {layer} y = Mul(h, k)", **used, k=weights(*shape)), ["Conv"])

    def test_factor_of_weight_inputs(self) -> None:
        model = tiny(
            "h = Conv(x, w, c) y = Mul(h, k)", w=weights(4, 4, 1, 1), c=weights(4), k=np.float32(0.5)
        )
        result = simplified(weights_as_inputs(model))
        assert weight_shapes(result) == {"x": (2, 4, 6, 6), "w": (4, 4, 1, 1), "c": (4,)}
        assert list(result.graph.node) == list(simplified(model).graph.node)

    @pytest.mark.parametrize("zeros", [np.float32(0), np.zeros((4, 1, 1), np.float32)])
    def test_zeros_stay(self, zeros: np.ndarray) -> None:
        check(tiny("h = Conv(x, w) y = Mul(h, k)", w=weights(4, 4, 1, 1), k=zeros), ["Conv", "Mul"])

    def test_some_zeros_go_into_the_weights(self) -> None:
        some = np.array([0, 2, 0, 1], np.float32).reshape(4, 1, 1)
        check(tiny("h = Conv(x, w) y = Mul(h, k)", w=weights(4, 4, 1, 1), k=some), ["Conv"])

    def test_data_is_no_factor(self) -> None:
        model = tiny("h = Conv(x, w) y = Mul(h, k)", f"{IMAGE}, float[1,4,1,1] k", w=weights(4, 4, 1, 1))
        check(model, ["Conv", "Mul"])


class TestLinearLayer:
    """Rule 9."""

    @pytest.mark.parametrize("body", ["y = Add(h, c)", "y = Add(c, h)"])
    @pytest.mark.parametrize("shape", [(5,), (1, 5)])
    def test_matmul_and_add_are_a_gemm(self, body: str, shape: tuple[int, ...]) -> None:
        model = tiny(f"h = MatMul(x, w) {body}", "float[2,4] x", w=weights(4, 5), c=weights(*shape))
        result = check(model, ["Gemm"])
        assert not result.graph.node[0].attribute

    def test_weights_as_inputs(self) -> None:
        model = tiny("h = MatMul(x, w) y = Add(h, c)", "float[2,4] x, float[4,5] w, float[5] c")
        assert operations(simplified(model)) == ["Gemm"]

    @pytest.mark.parametrize(
        ("inputs", "shape"), [("float[2,3,4] x", (5,)), ("float[2,4] x", (2, 5)), ("float[2,4] x", (1, 1, 5))]
    )
    def test_other_ranks_stay(self, inputs: str, shape: tuple[int, ...]) -> None:
        check(
            tiny("h = MatMul(x, w) y = Add(h, c)", inputs, w=weights(4, 5), c=weights(*shape)),
            ["MatMul", "Add"],
        )

    def test_integers_stay(self) -> None:
        model = tiny(
            "h = MatMul(x, w) y = Add(h, c)", "int64[2,4] x", w=np.ones((4, 5), np.int64), c=np.arange(5)
        )
        check(model, ["MatMul", "Add"])

    def test_norm_goes_into_the_new_gemm(self) -> None:
        body = "h = MatMul(x, w) g = Add(h, c) y = BatchNormalization(g, s, b, m, v)"
        model = tiny(body, "float[2,4] x", w=weights(4, 5), c=weights(5), **norm(5))
        check(model, ["Gemm"])


PADS = {"p": np.array([0, 0, 1, 0, 0, 0, 1, 2])}


class TestPad:
    """Rule 10."""

    @pytest.mark.parametrize(
        "window",
        [
            "Conv(h, w)",
            "Conv <pads = [1, 1, 0, 0], strides = [2, 1]> (h, w)",
            'Conv <auto_pad = "VALID"> (h, w)',
            "Conv <kernel_shape = [3, 3]> (h, w)",
        ],
    )
    def test_goes_into_a_convolution(self, window: str) -> None:
        check(tiny(f"h = Pad(x, p) y = {window}", w=weights(4, 4, 3, 3), **PADS), ["Conv"])

    @pytest.mark.parametrize("value", [{"z": np.float32(0)}, {"z": np.float32(0), "a": np.array([-2, 3])}])
    def test_with_value_and_axes(self, value: dict[str, np.ndarray]) -> None:
        pads = {"p": np.array([1, 0, 1, 2])} if "a" in value else PADS
        names = ", ".join(["x", "p", *value])
        model = tiny(f"h = Pad({names}) y = Conv(h, w)", w=weights(4, 4, 3, 3), **pads, **value)
        result = check(model, ["Conv"])
        assert list(result.graph.node[0].attribute[0].ints) == [1, 0, 1, 2]

    @pytest.mark.parametrize(
        "window",
        [
            "AveragePool <kernel_shape = [3, 3]> (h)",
            "AveragePool <kernel_shape = [3, 3], pads = [1, 0, 0, 0], count_include_pad = 1> (h)",
        ],
    )
    def test_goes_into_an_average(self, window: str) -> None:
        check(tiny(f"h = Pad(x, p) y = {window}", **PADS), ["AveragePool"])

    @pytest.mark.parametrize(
        "window",
        [
            "AveragePool <kernel_shape = [3, 3], pads = [1, 0, 0, 0]> (h)",
            "AveragePool <kernel_shape = [2, 2]> (h)",
            "AveragePool <kernel_shape = [3, 3], ceil_mode = 1, strides = [2, 2]> (h)",
            "MaxPool <kernel_shape = [3, 3]> (h)",
        ],
    )
    def test_stays_before_other_windows(self, window: str) -> None:
        model = tiny(f"h = Pad(x, p) y = {window}", **PADS)
        check(model, operations(model))

    @pytest.mark.parametrize(
        ("pad", "numbers"),
        [
            ('Pad <mode = "reflect"> (x, p)', PADS),
            ("Pad(x, p, z)", {**PADS, "z": np.float32(1)}),
            ("Pad(x, p)", {"p": np.array([0, 0, 1, 0, 0, 0, -1, 0])}),
            ("Pad(x, p)", {"p": np.array([0, 0, 1, 0, 1, 0, 0, 0])}),
        ],
    )
    def test_other_pads_stay(self, pad: str, numbers: dict[str, np.ndarray]) -> None:
        model = tiny(f"h = {pad} y = Conv(h, w)", w=weights(4, 4, 3, 3), **numbers)
        check(model, ["Pad", "Conv"])

    def test_channels_stay(self) -> None:
        pads = np.array([0, 1, 0, 0, 0, 0, 0, 0])
        check(tiny("h = Pad(x, p) y = Conv(h, w)", p=pads, w=weights(4, 5, 3, 3)), ["Pad", "Conv"])


class TestRows:
    """Rules 11 to 14."""

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ("a = Transpose <perm = [0,2,3,1]> (x) b = Transpose <perm = [0,3,1,2]> (a)", []),
            ("a = Transpose <perm = [0,2,3,1]> (x) b = Transpose <perm = [1,0,2,3]> (a)", ["Transpose"]),
            ("a = Transpose(x) b = Transpose(a)", []),
            ("a = Transpose(x) b = Transpose <perm = [0,1,3,2]> (a)", ["Transpose"]),
        ],
    )
    def test_transposes(self, body: str, expected: list[str]) -> None:
        check(tiny(f"{body} y = Relu(b)"), [*expected, "Relu"])

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ("a = Flatten(x) b = Reshape(a, s)", ["Reshape"]),
            ("a = Flatten(x) b = Reshape(a, s0)", ["Reshape"]),
            ("a = Reshape(x, s) b = Flatten(a)", ["Reshape"]),
            ("a = Reshape(x, s) b = Reshape(a, same)", []),
            ("a = Unsqueeze(x, i0) b = Squeeze(a, i0)", []),
            ("a = Unsqueeze(x, i0) b = Unsqueeze(a, i2)", ["Unsqueeze"]),
            ("a = Unsqueeze(x, i2) b = Unsqueeze(a, last)", ["Unsqueeze"]),
            ("a = Unsqueeze(x, i2) c = Unsqueeze(a, i0) b = Unsqueeze(c, last)", ["Unsqueeze"]),
            ("a = Reshape(x, ones) c = Squeeze(a, i2) b = Squeeze(c, i0)", ["Reshape"]),
            ("a = Reshape(x, s) b = Unsqueeze(a, i0)", ["Reshape"]),
        ],
    )
    def test_reshapes(self, body: str, expected: list[str]) -> None:
        numbers = {
            "s": np.array([4, 2, -1]),
            "s0": np.array([0, 4, -1]),
            "same": np.array([2, 4, 6, 6]),
            "i0": np.array([0]),
            "i2": np.array([2]),
            "last": np.array([-1]),
            "ones": np.array([1, 48, 1, 6]),
        }
        used = {key: value for key, value in numbers.items() if f"{key})" in body}
        check(tiny(f"{body} y = Relu(b)", **used), [*expected, "Relu"])

    def test_squeezes_of_an_input(self) -> None:
        model = tiny(
            "a = Squeeze(x, i) b = Squeeze(a, j) y = Relu(b)",
            "float[1,3,1,5,1] x",
            i=np.array([0, -1]),
            j=np.array([1]),
        )
        result = check(model, ["Squeeze", "Relu"])
        assert onnx.numpy_helper.to_array(result.graph.initializer[0]).tolist() == [0, 2, 4]

    def test_unsqueezes_with_axes_as_attributes(self) -> None:
        model = tiny("a = Unsqueeze <axes = [2]> (x) b = Unsqueeze <axes = [0]> (a) y = Relu(b)", opset=11)
        result = check(model, ["Unsqueeze", "Relu"])
        assert list(result.graph.node[0].attribute[0].ints) == [0, 3]

    def test_shape_in_between_that_is_read_elsewhere_stays(self) -> None:
        body = "a = Flatten(x) b = Reshape(a, s) y = Relu(b) z = Tanh(a)"
        check(tiny(body, outputs="y z", s=np.array([4, -1])), ["Flatten", "Reshape", "Relu", "Tanh"])

    @pytest.mark.parametrize("axes", [[2, 3], [-1, 2]])
    def test_reduction_keeps_what_is_put_back(self, axes: list[int]) -> None:
        body = "a = ReduceMean <keepdims = 0> (x, r) b = Unsqueeze(a, u) y = Relu(b)"
        check(tiny(body, r=np.array(axes), u=np.array([2, 3])), ["ReduceMean", "Relu"])

    def test_reduction_whose_dimensions_come_back_elsewhere_stays(self) -> None:
        body = "a = ReduceMean <keepdims = 0> (x, r) b = Unsqueeze(a, u) y = Relu(b)"
        check(tiny(body, r=np.array([2, 3]), u=np.array([0, 1])), ["ReduceMean", "Unsqueeze", "Relu"])

    def test_concats(self) -> None:
        body = """
            r = Relu(x) a = Concat <axis = 1> (x, r) b = Concat <axis = 1> (r, a) t = Tanh(x)
            c = Concat <axis = 1> (t, x) y = Concat <axis = 1> (c, b, t)
        """
        result = check(tiny(body), ["Relu", "Tanh", "Concat"])
        assert list(result.graph.node[-1].input) == ["t", "x", "r", "x", "r", "t"]

    @pytest.mark.parametrize(
        "body",
        [
            "a = Concat <axis = 2> (x, r) y = Concat <axis = 1> (a, a)",
            "a = Concat <axis = 1> (x, r) y = Concat <axis = 1> (a, a)",
        ],
    )
    def test_other_concats_stay(self, body: str) -> None:
        check(tiny(f"r = Relu(x) {body}"), ["Relu", "Concat", "Concat"])


class TestDuplicates:
    """Rule 15."""

    def test_equal_nodes_are_one(self) -> None:
        body = "a = MaxPool <kernel_shape = [3,3]> (x) b = MaxPool <kernel_shape = [3,3]> (x) y = Add(a, b)"
        result = check(tiny(body), ["MaxPool", "Add"])
        assert list(result.graph.node[1].input) == ["a", "a"]

    def test_equal_trees_are_one(self) -> None:
        body = "a = Relu(x) b = Tanh(a) c = Relu(x) d = Tanh(c) y = Mul(b, d)"
        check(tiny(body), ["Relu", "Tanh", "Mul"])

    def test_equal_constants_make_nodes_equal(self) -> None:
        body = "a = Mul(x, two) b = Mul(x, zwei) y = Add(a, b)"
        check(tiny(body, two=np.float32(2), zwei=np.float32(2)), ["Mul", "Add"])

    def test_equal_weights_are_still_two(self) -> None:
        body = "a = PRelu(x, p) b = PRelu(x, q) y = Add(a, b)"
        slope = np.full((1, 1, 1), 0.25, np.float32)
        result = check(tiny(body, p=slope, q=slope), ["PRelu", "PRelu", "Add"])
        assert len(result.graph.initializer) == 2

    @pytest.mark.parametrize(
        "body",
        [
            "a = LeakyRelu <alpha = 0.1> (x) b = LeakyRelu <alpha = 0.2> (x) y = Sub(a, b)",
            "a = Dropout(x, h, t) b = Dropout(x, h, t) y = Sub(a, b)",
            "a = RandomNormalLike(x) b = RandomNormalLike(x) y = Sub(a, b)",
        ],
    )
    def test_others_are_not(self, body: str) -> None:
        numbers = {"h": np.float32(0.5), "t": np.array(True)} if "Dropout" in body else {}
        model = tiny(body, **numbers)
        assert operations(simplified(model)) == operations(model)

    def test_attributes_that_changed_since(self) -> None:
        """The first of three equal reductions becomes another one before the third is compared with it."""
        body = """
            a = ReduceMean <keepdims = 0> (x, axes) p = Unsqueeze(a, axes)
            b = ReduceMean <keepdims = 1> (x, axes) i = Identity(x) t = Tanh(p)
            c = ReduceMean <keepdims = 0> (i, axes) u = Tanh(b)
        """
        check(
            tiny(body, outputs="t c u", axes=np.array([2, 3])), ["ReduceMean", "Tanh", "ReduceMean", "Tanh"]
        )

    @pytest.mark.parametrize("outputs", ["a c", "b c"])
    def test_output_keeps_its_name(self, outputs: str) -> None:
        check(tiny("a = Relu(x) b = Relu(x) c = Mul(a, b)", outputs=outputs), ["Relu", "Mul"])

    def test_two_outputs_stay_two(self) -> None:
        check(tiny("a = Relu(x) b = Relu(x)", outputs="a b"), ["Relu", "Relu"])


class TestRemains:
    """Rule 16, and what is left of a graph."""

    def test_dead_nodes_and_their_weights_vanish(self) -> None:
        body = "d = Conv(x, w) e = Relu(d) y = Tanh(x)"
        inputs = f"{IMAGE}, float[4,4,1,1] w, float[3] z"
        result = simplified(tiny(body, inputs, unread=weights(3)))
        assert operations(result) == ["Tanh"]
        assert [value.name for value in result.graph.input] == ["x", "z"]
        assert not result.graph.initializer

    def test_unread_data_inputs_stay(self) -> None:
        result = simplified(tiny("y = Relu(z)", f"{IMAGE}, float[3] z"))
        assert [value.name for value in result.graph.input] == ["x", "z"]

    def test_types_of_vanished_values_vanish(self) -> None:
        model = tiny("a = Relu(x) b = Identity(a) c = Tanh(b) y = Relu(c)")
        model = onnx.shape_inference.infer_shapes(model)
        assert {value.name for value in model.graph.value_info} == {"a", "b", "c"}
        assert {value.name for value in simplified(model).graph.value_info} == {"a", "c"}

    def test_type_of_a_bias_that_had_another_shape_vanishes(self) -> None:
        model = tiny("h = Conv(x, w) y = Add(h, k)", w=weights(4, 4, 1, 1), k=weights(1, 4, 1, 1))
        model.graph.value_info.append(
            onnx.helper.make_tensor_value_info("k", TensorProto.FLOAT, [1, 4, 1, 1])
        )
        assert not simplified(model).graph.value_info

    def test_metadata_opset_and_name_stay(self) -> None:
        model = tiny("a = Identity(x) y = Relu(a)", opset=15)
        onnx.helper.set_model_props(model, {"id": "digits/1"})
        result = simplified(model)
        assert {entry.key: entry.value for entry in result.metadata_props} == {"id": "digits/1"}
        assert result.opset_import[0].version == 15
        assert result.graph.name == "tiny"

    def test_empty_graph_from_input_to_output(self) -> None:
        model = tiny("", outputs="x")
        assert operations(simplified(model)) == []

    def test_nodes_in_any_order(self) -> None:
        model = tiny("a = Relu(x) b = Identity(a) y = Tanh(b)")
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        result = simplify(model)
        onnx.checker.check_model(result, full_check=True)
        assert operations(result) == ["Relu", "Tanh"]

    def test_unknown_operations_stay(self) -> None:
        model = tiny("a = Relu(x) y = Tanh(a)")
        model.opset_import.append(onnx.helper.make_opsetid("my.domain", 1))
        model.graph.node[0].domain = "my.domain"
        model.graph.node[0].op_type = "Identity"
        assert operations(simplify(model)) == ["Identity", "Tanh"]

    def test_old_files_name_initializers_as_inputs_too(self) -> None:
        model = tiny("h = Conv(x, w) y = Identity(h)", f"{IMAGE}, float[4,4,1,1] w", w=weights(4, 4, 1, 1))
        model.ir_version = 3
        check(model, ["Conv"])


def unchecked(body: str, window: str) -> ModelProto:
    """Return a model that shape inference does not survive; it has constants to read."""
    text = f'<ir_version: 8, opset_import: ["" : 18]> t ({IMAGE}, float[4,4,{window}] w) => (y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    numbers = {"zero": [0], "one": [1], "two": [2], "all": [-1], "huge": [2**20, 1, 1, 1, 1]}
    for name, value in numbers.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    return model


class TestBrokenModels:
    def test_cycle(self) -> None:
        model = tiny("a = Relu(x) b = Add(a, x) y = Tanh(b)")
        model.graph.node[0].input[0] = "b"
        with pytest.raises(UnsupportedModelError, match="cycle"):
            simplify(model)

    def test_same_output_twice(self) -> None:
        model = tiny("y = Relu(x)")
        model.graph.output.append(model.graph.output[0])
        with pytest.raises(UnsupportedModelError, match="two outputs"):
            simplify(model)

    def test_axes_of_a_scalar(self) -> None:
        model = tiny(
            "a = Squeeze(x, i) b = Squeeze(a, j) y = Relu(b)",
            "float[1,1] x",
            i=np.array([0]),
            j=np.array([0]),
        )
        model.graph.input[0].type.tensor_type.shape.ClearField("dim")
        assert operations(simplify(model)) == ["Squeeze", "Squeeze", "Relu"]

    def test_window_larger_than_its_input(self) -> None:
        """ONNX's own inference aborts the process on the Slice of what such a window makes."""
        model = unchecked(
            "h = Conv(x, w) c = Slice(h, zero, one, two) d = Flatten(c) y = Reshape(d, all)", "9,9"
        )
        assert operations(simplify(model)) == ["Conv", "Slice", "Reshape"]

    def test_shapes_of_huge_vectors_take_no_memory(self) -> None:
        model = unchecked("h = Expand(x, huge) v = Reshape(h, all) a = Add(v, v) y = Reshape(a, all)", "1,1")
        assert operations(simplify(model)) == ["Expand", "Reshape", "Add"]

    def test_tensor_without_its_data(self) -> None:
        model = layer_with_norm("conv")
        model.graph.initializer[0].raw_data = b""
        with pytest.raises(UnsupportedModelError, match="'w'"):
            simplify(model)

    def test_data_in_another_file(self) -> None:
        model = layer_with_norm("conv")
        tensor = model.graph.initializer[0]
        tensor.raw_data = b""
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="elsewhere.bin")
        with pytest.raises(UnsupportedModelError, match="another file"):
            simplify(model)

    @pytest.mark.parametrize(
        "operation", ["BatchNormalization", "Reshape", "Gather", "Slice", "Conv", "Concat"]
    )
    def test_no_inputs(self, operation: str) -> None:
        """A node that lacks its inputs is left alone or refused, whatever a rule wants to read of it."""
        model = tiny("a = Relu(x) y = Tanh(a)")
        model.graph.node[0].CopyFrom(onnx.helper.make_node(operation, [], ["a"]))
        with suppress(UnsupportedModelError):
            assert operations(simplify(model)) == [operation, "Tanh"]

    def test_attribute_of_another_type(self) -> None:
        model = tiny(
            "h = Conv <group = 2> (x, w) y = BatchNormalization(h, s, b, m, v)",
            w=weights(4, 2, 1, 1),
            **norm(4),
        )
        model.graph.node[0].attribute[0].CopyFrom(onnx.helper.make_attribute("group", "two"))
        with pytest.raises(UnsupportedModelError, match="check_model"):
            simplify(model)

    def test_promise_of_a_huge_tensor_takes_no_memory(self) -> None:
        model = tiny("t = ConstantOfShape(n) r = ReduceMax(t) y = Add(x, r)", n=np.array([2**40, 2**20]))
        assert "ConstantOfShape" in operations(simplify(model))


class TestSize:
    @pytest.mark.parametrize("operation", ["Identity", "Relu", "Transpose", "Dropout", "Tanh"])
    def test_long_chains(self, operation: str) -> None:
        length = 20_000
        model = tiny("y = Relu(x)")
        names = ["x", *(f"v{i}" for i in range(length)), "y"]
        del model.graph.node[:]
        model.graph.node.extend(
            onnx.helper.make_node(operation, [source], [target]) for source, target in pairwise(names)
        )
        begin = time.perf_counter()
        result = simplify(model)
        assert time.perf_counter() - begin < 20
        expected = {"Identity": 1, "Dropout": 1, "Relu": 1, "Tanh": length + 1, "Transpose": 1}
        assert len(result.graph.node) == expected[operation]

    def test_many_readers(self) -> None:
        """Time grows with the graph, not with its square, when one value has all the readers."""
        count = 20_000
        model = tiny("a = Identity(x) y = Relu(a)")
        del model.graph.node[1:]
        model.graph.node.extend(
            onnx.helper.make_node("LeakyRelu", ["a"], [f"v{i}"], alpha=i / count) for i in range(count)
        )
        model.graph.node.append(onnx.helper.make_node("Sum", [f"v{i}" for i in range(count)], ["y"]))
        begin = time.perf_counter()
        assert len(simplify(model).graph.node) == count + 1
        assert time.perf_counter() - begin < 20

    def test_many_inputs(self) -> None:
        count = 20_000
        model = tiny("y = Relu(x)")
        del model.graph.node[:]
        for i in range(count):
            model.graph.node.append(onnx.helper.make_node("Elu", ["x"], [f"v{i}"], alpha=i / count))
            model.graph.node.append(onnx.helper.make_node("Identity", [f"v{i}"], [f"w{i}"]))
            model.graph.node.append(onnx.helper.make_node("Concat", [f"w{i}"], [f"u{i}"], axis=0))
        model.graph.node.append(
            onnx.helper.make_node("Concat", [f"u{i}" for i in range(count)], ["y"], axis=0)
        )
        begin = time.perf_counter()
        result = simplify(model)
        assert time.perf_counter() - begin < 20
        assert list(result.graph.node[-1].input) == [f"v{i}" for i in range(count)]

    def test_folded_constants_grow_within_bounds(self) -> None:
        """A file of a few kilobytes must not become gigabytes."""
        model = tiny("y = Relu(x)", n=np.array([2**16]))
        nodes = [onnx.helper.make_node("ConstantOfShape", ["n"], [f"c{i}"]) for i in range(1000)]
        for i, node in enumerate(nodes):
            fill = onnx.helper.make_tensor("value", TensorProto.FLOAT, [1], [i])
            node.attribute.append(onnx.helper.make_attribute("value", fill))
        nodes.append(onnx.helper.make_node("Sum", [f"c{i}" for i in range(1000)], ["s"]))
        model.graph.node.extend(nodes)
        model.graph.output.append(onnx.helper.make_tensor_value_info("s", TensorProto.FLOAT, [2**16]))
        assert simplify(model).ByteSize() < 100 * 2**20


def random_network(draw: st.DrawFn) -> ModelProto:
    """Draw a network of rules' favourite neighbours: values keep the shape 1x4x6x6 all along."""
    g = GraphBuilder((1, 4, 6, 6))
    values = [g.input]
    for number in range(draw(st.integers(1, 12))):
        x = draw(st.sampled_from(values))
        name = f"v{number}"
        values.append(draw(st.sampled_from(_STEPS))(g, x, draw(st.sampled_from(values)), name))
    outputs = draw(st.lists(st.sampled_from(values[1:]), min_size=1, max_size=3, unique=True))
    model = g.model(outputs[0])
    for name in outputs[1:]:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 6, 6]))
    return model


def _conv_norm(g: GraphBuilder, x: str, other: str, name: str) -> str:
    h = g.op("Conv", x, g.weight(f"{name}.conv", 4, 4, 3, 3), name=f"{name}.h", pads=[1, 1, 1, 1])
    parts = [g.weight(f"{name}.{part}", 4) for part in ("scale", "bias", "mean", "var")]
    return g.op("BatchNormalization", h, *parts, name=name)


def _shared_conv(g: GraphBuilder, x: str, other: str, name: str) -> str:
    h = g.op("Conv", x, g.weight("shared.conv", 4, 2, 1, 1), name=f"{name}.h", group=2)
    parts = [g.weight(f"shared.{part}", 4) for part in ("scale", "bias", "mean", "var")]
    return g.op("BatchNormalization", h, *parts, name=name)


def _pad_conv(g: GraphBuilder, x: str, other: str, name: str) -> str:
    h = g.op("Pad", x, g.constant([0, 0, 1, 0, 0, 0, 1, 2]), name=f"{name}.pad")
    return g.op("Conv", h, g.weight(f"{name}.conv", 4, 4, 3, 3), name=name)


def _there_and_back(g: GraphBuilder, x: str, other: str, name: str) -> str:
    h = g.op("Transpose", x, name=f"{name}.there", perm=[0, 2, 3, 1])
    return g.op("Transpose", h, name=name, perm=[0, 3, 1, 2])


def _flat_and_back(g: GraphBuilder, x: str, other: str, name: str) -> str:
    h = g.op("Flatten", x, name=f"{name}.flat")
    return g.op("Reshape", h, g.constant([0, 4, 6, -1]), name=name)


def _halves(g: GraphBuilder, x: str, other: str, name: str) -> str:
    h = g.op("Concat", x, other, name=f"{name}.both", axis=1)
    return g.op("Slice", h, g.constant([2]), g.constant([6]), g.constant([1]), name=name)


def _by_shape(g: GraphBuilder, x: str, other: str, name: str) -> str:
    shape = g.op("Shape", other, name=f"{name}.shape")
    return g.op("Reshape", x, shape, name=name)


_STEPS = [
    _conv_norm,
    _shared_conv,
    _pad_conv,
    _there_and_back,
    _flat_and_back,
    _halves,
    _by_shape,
    lambda g, x, other, name: g.op("Identity", x, name=name),
    lambda g, x, other, name: g.op("Dropout", x, name=name),
    lambda g, x, other, name: g.op("Relu", x, name=name),
    lambda g, x, other, name: g.op("Add", x, other, name=name),
    lambda g, x, other, name: g.op("Add", x, g.constant(0.0), name=name),
    lambda g, x, other, name: g.op("Mul", x, g.constant(0.5), name=name),
    lambda g, x, other, name: g.op("Transpose", x, name=name, perm=[0, 1, 3, 2]),
    lambda g, x, other, name: g.op("AveragePool", x, name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    lambda g, x, other, name: g.op("MaxPool", x, name=name, kernel_shape=[1, 1]),
]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_network_computes_the_same_in_both_forms(data: st.DataObject) -> None:
    model = data.draw(st.composite(random_network)())
    filled = fill_weights(model, seed=1)
    by_value = simplified(filled)
    assert_numerically_equal(filled, by_value)
    assert list(simplified(model).graph.node) == list(by_value.graph.node)


def test_our_training_form_needs_no_inference() -> None:
    """What is run for hundreds of thousands of networks has no time for shape inference."""
    g = GraphBuilder((1, 3, 8, 8))
    x = _chain(g)
    x = g.op("Flatten", g.op("GlobalAveragePool", x, name="pool"), name="flat")
    model = g.model(
        g.op("Gemm", x, g.weight("fc.weight", 10, 4), g.weight("fc.bias", 10), name="fc", transB=1)
    )
    original = onnx.shape_inference.infer_shapes
    onnx.shape_inference.infer_shapes = pytest.fail
    try:
        result = simplify_graph(Graph.from_model(model))
    finally:
        onnx.shape_inference.infer_shapes = original
    assert [node.op for node in result.nodes] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]


def _chain(g: GraphBuilder) -> str:
    h = g.op("Conv", g.input, g.weight("conv", 4, 3, 3, 3), name="h")
    h = g.op("BatchNormalization", h, *(g.weight(part, 4) for part in "sbmv"), name="n")
    return g.op("Relu", h, name="r")
