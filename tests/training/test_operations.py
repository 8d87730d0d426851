"""Every operation, with the attributes that networks seldom use, computes what ONNX Runtime computes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from agreement import assert_runs_alike
from numpy.typing import ArrayLike

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.training import torch_module
from onnx_bench_dataset.training.batch_axis import _RULES
from onnx_bench_dataset.training.operations import OPERATIONS
from tests.graphs.tiny_models import tiny

GENERATOR = np.random.default_rng(0)


def weight(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


IMAGE, SQUARE = "float[2,4,7,9] x", "float[2,4,6,6] x"
BOTH = "float[2,4,6] x, float[2,1,6] z"
FLOATS = np.float32
INTS = np.int64

UNARY = [
    *(
        "Abs",
        "Ceil",
        "Celu",
        "Cos",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "GlobalAveragePool",
        "GlobalMaxPool",
    ),
    *("HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "LogSoftmax", "Mish", "Neg", "Reciprocal", "Relu"),
    *(
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softmax",
        "Softplus",
        "Softsign",
        "Tanh",
        "ThresholdedRelu",
    ),
    *("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"),
    *("ReduceSumSquare", "ReduceProd", "ArgMax", "ArgMin", "Flatten", "Transpose"),
]
CONVOLUTIONS = {
    f"y = Conv<{attributes}>(x, w, b)": {"w": weight(6, 2, 3, 2), "b": weight(6)}
    for attributes in (
        "group = 2",
        "group = 2, pads = [1, 0, 2, 3]",
        "group = 2, pads = [1, 1, 1, 1], strides = [2, 3], dilations = [2, 1]",
        'group = 2, auto_pad = "SAME_UPPER", strides = [2, 2]',
        'group = 2, auto_pad = "SAME_LOWER"',
        'group = 2, auto_pad = "VALID"',
    )
} | {
    f"y = ConvTranspose<{attributes}>(x, w, b)": {"w": weight(4, 3, 3, 2), "b": weight(6)}
    for attributes in (
        "group = 2",
        "group = 2, pads = [1, 0, 1, 0], strides = [2, 2], output_padding = [1, 1]",
        "group = 2, pads = [1, 0, 2, 1], strides = [2, 2]",
        "group = 2, pads = [1, 0, 2, 1], strides = [3, 1], dilations = [1, 2], output_padding = [2, 0]",
    )
}
POOLS = [
    f"y = {pool}<kernel_shape = [3, 2]{attributes}>(x)"
    for pool in ("MaxPool", "AveragePool")
    for attributes in (
        "",
        ", pads = [1, 1, 1, 1], strides = [2, 2]",
        ", pads = [1, 0, 0, 1]",
        ", pads = [2, 1, 0, 1], strides = [2, 1]",
        ', auto_pad = "SAME_UPPER", strides = [2, 2]',
        ', auto_pad = "SAME_LOWER", strides = [3, 2]',
        ", ceil_mode = 1, strides = [2, 2]",
    )
] + [
    "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>(x)",
    "y = AveragePool<kernel_shape = [3, 3], pads = [2, 0, 0, 1], count_include_pad = 1>(x)",
    "y = MaxPool<kernel_shape = [3, 3], dilations = [2, 2]>(x)",
]
RESIZES = [
    f'y = Resize<mode = "{mode}", coordinate_transformation_mode = "{where}"{more}>(x, , {given})'
    for mode, where, more in (
        ("nearest", "asymmetric", ', nearest_mode = "floor"'),
        ("nearest", "half_pixel", ""),
        ("nearest", "half_pixel", ', nearest_mode = "round_prefer_ceil"'),
        ("nearest", "pytorch_half_pixel", ', nearest_mode = "ceil"'),
        ("nearest", "align_corners", ""),
        ("linear", "half_pixel", ""),
        ("linear", "align_corners", ""),
        ("cubic", "half_pixel", ""),
    )
    for given in ("scales", ", sizes")
]
Arrays = dict[str, ArrayLike]
CASES: list[tuple[str, str, Arrays]] = [
    *((f"y = {op}(x)", "float[2,4,6] x", {}) for op in UNARY),
    ("p = Abs(x) a = Sqrt(p) e = Add(p, one) y = Log(e)", "float[2,4,6] x", {"one": FLOATS(1)}),
    *((f"y = {op}(x, z)", BOTH, {}) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")),
    ("p = Abs(x) y = Pow(p, n)", BOTH, {"n": FLOATS(2.5)}),
    ("p = Max(x, z, x) q = Min(p, z, x) r = Sum(q, x, z) y = Mean(r, x, z)", BOTH, {}),
    ("c = Greater(x, z) d = LessOrEqual(x, z) e = And(c, d) f = Or(e, c) y = Where(f, x, z)", BOTH, {}),
    ("c = Less(x, z) d = GreaterOrEqual(x, z) e = Xor(c, d) f = Not(e) y = Where(f, x, z)", BOTH, {}),
    ("y = Mod<fmod = 1>(x, z)", BOTH, {}),
    (
        "i = Cast<to = 7>(x) j = Mod(i, three) k = Div(j, two) y = Cast<to = 1>(k)",
        BOTH,
        {"three": INTS(3), "two": INTS(2)},
    ),
    ("i = Cast<to = 7>(x) e = Equal(i, zero) y = CastLike(e, x)", BOTH, {"zero": INTS(0)}),
    *((text, IMAGE, arrays) for text, arrays in CONVOLUTIONS.items()),
    ('y = Conv<auto_pad = "SAME_UPPER">(x, w)', "float[1,3,9] x", {"w": weight(2, 3, 4)}),
    ("y = Conv<pads = [1, 1, 1, 1, 1, 1]>(x, w)", "float[1,3,4,5,6] x", {"w": weight(2, 3, 3, 3, 3)}),
    *((text, IMAGE, {}) for text in POOLS),
    *(
        (
            text,
            "float[1,2,4,5] x",
            {"scales": np.array([1, 1, 2, 1.5], FLOATS)}
            if "(x, , scales" in text
            else {"sizes": np.array([1, 2, 7, 3])},
        )
        for text in RESIZES
    ),
    *(
        (f"y = {op}<blocksize = 2{mode}>(x)", "float[2,8,4,6] x", {})
        for op, mode in (("DepthToSpace", ""), ("DepthToSpace", ', mode = "CRD"'), ("SpaceToDepth", ""))
    ),
    (
        "y = BatchNormalization<epsilon = 0.01>(x, s, b, m, v)",
        IMAGE,
        {"s": weight(4), "b": weight(4), "m": weight(4), "v": np.abs(weight(4))},
    ),
    ("y = InstanceNormalization<epsilon = 0.1>(x, s, b)", IMAGE, {"s": weight(4), "b": weight(4)}),
    ("y = LayerNormalization<axis = 2>(x, s, b)", IMAGE, {"s": weight(7, 9), "b": weight(7, 9)}),
    ("y = LayerNormalization<axis = 1>(x, s)", IMAGE, {"s": weight(9)}),
    (
        "y = Gemm<alpha = 2.0, beta = 0.5, transA = 1>(x, w, c)",
        "float[3,2] x",
        {"w": weight(3, 5), "c": weight(2, 1)},
    ),
    ("y = Gemm<transB = 1>(x, w, c)", "float[2,3] x", {"w": weight(5, 3), "c": weight(2, 5)}),
    ("y = Gemm<transB = 1>(x, w)", "float[2,3] x", {"w": weight(5, 3)}),
    ("y = MatMul(x, w)", "float[2,3] x", {"w": weight(3)}),
    ("y = MatMul(w, x)", "float[2,3,4] x", {"w": weight(5, 3)}),
    ("y = PRelu(x, s)", IMAGE, {"s": weight(4, 1, 1)}),
    ("y = Clip(x, low)", IMAGE, {"low": FLOATS(-0.5)}),
    ("y = Clip(x, , high)", IMAGE, {"high": FLOATS(0.5)}),
    ("l = ReduceMin(x) h = ReduceMax(x) a = Squeeze(l) b = Squeeze(h) y = Clip(x, a, b)", IMAGE, {}),
    ("y = Softmax<axis = 1>(x)", IMAGE, {}),
    ("y = ReduceMean<keepdims = 0>(x, axes)", IMAGE, {"axes": np.array([-1, 1])}),
    ("y = ReduceSum<noop_with_empty_axes = 1>(x)", IMAGE, {}),
    ("y = ReduceProd<keepdims = 0>(x, axes)", IMAGE, {"axes": np.array([-1, 1])}),
    ("y = ArgMax<axis = 2, keepdims = 0>(x)", IMAGE, {}),
    ("y = CumSum(x, axis)", IMAGE, {"axis": np.array(-1)}),
    (
        "i = ArgMax<axis = 1, keepdims = 0>(x) y = OneHot<axis = 1>(i, depth, values)",
        "float[2,4,3] x",
        {"depth": np.array(4), "values": np.array([-1, 2], FLOATS)},
    ),
    ('y = Einsum<equation = "bij,bjk->bik">(x, w)', "float[2,3,4] x", {"w": weight(2, 4, 5)}),
    ('y = Einsum<equation = "...i->...">(x)', "float[2,3,4] x", {}),
    ("y = Reshape(x, n)", IMAGE, {"n": np.array([0, -1, 9])}),
    ("y = Flatten<axis = 3>(x)", IMAGE, {}),
    ("y = Flatten<axis = -2>(x)", IMAGE, {}),
    ("y = Flatten<axis = 0>(x)", IMAGE, {}),
    ("y = Squeeze(x)", "float[2,1,3,1] x", {}),
    ("y = Squeeze(x, axes)", "float[2,1,3,1] x", {"axes": np.array([-1])}),
    ("y = Unsqueeze(x, axes)", IMAGE, {"axes": np.array([-1, 0, 3])}),
    ("y = Concat<axis = -1>(x, x)", IMAGE, {}),
    ("a, y = Split<axis = 3>(x, n)", IMAGE, {"n": np.array([3, 6])}),
    ("a, b, y = Split<axis = 2, num_outputs = 3>(x)", IMAGE, {}),
    (
        "y = Slice(x, starts, ends, axes, steps)",
        IMAGE,
        {
            "starts": np.array([-1, 1]),
            "ends": np.array([-100, 100]),
            "axes": np.array([3, 2]),
            "steps": np.array([-2, 3]),
        },
    ),
    ("y = Slice(x, starts, ends)", IMAGE, {"starts": np.array([0, 3]), "ends": np.array([2**62, -1])}),
    ("y = Gather<axis = 1>(x, i)", IMAGE, {"i": np.array([[0, -1], [2, 2]])}),
    ("y = Gather<axis = 2>(x, i)", IMAGE, {"i": np.array(-2)}),
    ("y = GatherElements<axis = 1>(x, i)", "float[2,4] x", {"i": np.array([[0, -1], [2, 2]])}),
    ("y = Expand(x, n)", "float[2,1,3] x", {"n": np.array([5, 1, 4, 1])}),
    ("y = Tile(x, n)", "float[2,1,3] x", {"n": np.array([1, 3, 2])}),
    *(
        (f'y = Pad<mode = "{mode}">(x, pads)', IMAGE, {"pads": np.array([0, 0, 2, 1, 0, 0, 0, 3])})
        for mode in ("constant", "reflect", "edge", "wrap")
    ),
    (
        "y = Pad(x, pads, v, axes)",
        IMAGE,
        {"pads": np.array([2, 1, 0, 3]), "v": FLOATS(7), "axes": np.array([-1, 1])},
    ),
    ("y = Trilu<upper = 0>(x, k)", IMAGE, {"k": np.array(1)}),
    ("y = Dropout(x)", IMAGE, {}),
    ("y = Shape<start = 1, end = -1>(x)", IMAGE, {}),
    ("y = Size(x)", IMAGE, {}),
    (
        "r = Range(a, b, c) y = Mul(x, r)",
        "float[2,3] x",
        {"a": FLOATS(1), "b": FLOATS(2.5), "c": FLOATS(0.5)},
    ),
    ("n = Shape(x) f = ConstantOfShape<value = float[1] {2.0}>(n) y = Sub(x, f)", IMAGE, {}),
    (
        "s = SplitToSequence<axis = 1>(x, n) i = Constant<value_int = 1>() y = SequenceAt(s, i)",
        IMAGE,
        {"n": np.array([1, 3])},
    ),
]
RECURRENT = [
    f'{outputs} = {op}<hidden_size = 5, direction = "{direction}"{more}>(x, w{count}, r{count}{bias})'
    for op, outputs, more in (
        ("LSTM", "y", ""),
        ("LSTM", "a, b, y", ""),
        ("GRU", "y", ", linear_before_reset = 1"),
        ("GRU", "a, y", ", linear_before_reset = 1"),
        ("RNN", "y", ""),
    )
    for direction, count in (("forward", 1), ("reverse", 1), ("bidirectional", 2))
    for bias in ("", f", b{count}")
]
OLD = [
    (7, 'y = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]>(x)'),
    (9, "y = Upsample(x, up)"),
    (10, "y = Resize(x, up)"),
    (9, "y = Slice<starts = [0, 1], ends = [1, -1], axes = [1, 3]>(x)"),
    (10, "y = Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1], value = 3.0>(x)"),
    (10, "y = Clip<min = -0.5, max = 0.5>(x)"),
    (10, "y = Dropout<ratio = 0.1>(x)"),
    (12, "y = Softmax<axis = 2>(x)"),
    (12, "y = LogSoftmax(x)"),
    (12, "a = Squeeze<axes = [0]>(q) y = Unsqueeze<axes = [1, 4]>(x)"),
    (12, "y = ReduceSum<axes = [1, 2], keepdims = 0>(x)"),
    (12, "a, y = Split<axis = 2, split = [2, 4]>(x)"),
    (20, 'y = Gelu<approximate = "tanh">(x)'),
    (20, "y = Gelu(x)"),
    (23, "y = RMSNormalization<axis = -1>(x, u)"),
    (24, "y = Swish<alpha = 0.5>(x)"),
]


@pytest.mark.parametrize(("body", "inputs", "arrays"), CASES, ids=[case[0] for case in CASES])
def test_operations(body: str, inputs: str, arrays: Arrays) -> None:
    assert_runs_alike(tiny(body, inputs, opset=18, **arrays))


@pytest.mark.parametrize("body", RECURRENT)
def test_recurrent_layers(body: str) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[next(op for op in ("LSTM", "GRU", "RNN") if op in body)]
    count = 2 if "w2" in body else 1
    arrays = {f"w{count}": weight(count, gates * 5, 3), f"r{count}": weight(count, gates * 5, 5)}
    if f"b{count}" in body:
        arrays[f"b{count}"] = weight(count, 2 * gates * 5)
    assert_runs_alike(tiny(body, "float[4,2,3] x", **arrays))


@pytest.mark.parametrize(("opset", "body"), OLD)
def test_other_operator_sets(opset: int, body: str) -> None:
    arrays = {
        "up": np.array([1, 1, 2, 3], FLOATS),
        "q": weight(1, 3),
        "u": weight(6),
    }
    words = body.replace(")", " ").replace(",", " ").replace("(", " ").split()
    model = tiny(body, SQUARE, opset=opset, **{n: value for n, value in arrays.items() if n in words})
    assert_runs_alike(model)


@pytest.mark.parametrize(("opset", "numbers"), [(18, 2), (20, 2), (21, 4)])
def test_group_normalization(opset: int, numbers: int) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : {opset}]> g ({SQUARE}) => (float[2,4,6,6] y) {{
            y = GroupNormalization<num_groups = 2, epsilon = 0.01>(x, s, b)
        }}"""
    )
    for name in "sb":
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight(numbers), name))
    assert_runs_alike(model)


def test_every_operation_is_tested() -> None:
    tested = {word.split("<")[0] for word in re.split(r"[\s(\"]", Path(__file__).read_text())}
    assert set(OPERATIONS) - tested == set()


def test_every_rule_is_of_an_operation() -> None:
    assert set(_RULES) <= set(OPERATIONS)


@pytest.mark.parametrize(
    "body",
    [
        "y, i = MaxPool<kernel_shape = [2, 2]>(x)",
        "y, m = Dropout(x)",
        'y = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">(x, , scales)',
        "y = ConvTranspose<output_shape = [7, 7]>(x, w)",
    ],
)
def test_what_has_no_equivalent_says_why(body: str) -> None:
    arrays = {"scales": np.array([1, 1, 2, 2], FLOATS), "w": weight(4, 4, 3, 3)}
    model = tiny(body, SQUARE, **{name: value for name, value in arrays.items() if f"{name})" in body})
    with pytest.raises(UnsupportedModelError, match=r"that makes 'y' has no PyTorch equivalent here: "):
        torch_module(model)(torch.zeros(2, 4, 6, 6))
