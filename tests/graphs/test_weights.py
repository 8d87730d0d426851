"""Which tensors are learned, and what `fill_weights` puts in them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from exported_models import Export, build, example, exported
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto
from tiny_models import IMAGE, tiny

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.graphs.graph import Graph
from onnx_bench_dataset.graphs.run import run
from onnx_bench_dataset.graphs.weights import (
    data_inputs,
    fill_weights,
    running_statistics,
    tensor_roles,
    weight_names,
)

NORM = "float[4] s, float[4] b, float[4] m, float[4] v"


def names(model: ModelProto) -> list[str]:
    return weight_names(Graph.from_model(model))


def values(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


class TestWeightInputs:
    @pytest.mark.parametrize(
        ("body", "inputs", "expected"),
        [
            ("y = Conv(x, w, c)", f"{IMAGE}, float[5,4,1,1] w, float[5] c", ["w", "c"]),
            ("y = ConvTranspose(x, w)", f"{IMAGE}, float[4,5,1,1] w", ["w"]),
            ("y = Gemm(x, w, c)", "float[2,4] x, float[4,5] w, float[5] c", ["w", "c"]),
            ("y = MatMul(x, w)", "float[2,4] x, float[4,5] w", ["w"]),
            ("h = MatMul(x, w) y = Add(h, c)", "float[2,3,4] x, float[4,5] w, float[5] c", ["w", "c"]),
            ("y = BatchNormalization(x, s, b, m, v)", f"{IMAGE}, {NORM}", ["s", "b", "m", "v"]),
            ("y = LayerNormalization(x, s, b)", "float[2,4] x, float[4] s, float[4] b", ["s", "b"]),
            ("y = InstanceNormalization(x, s, b)", f"{IMAGE}, float[4] s, float[4] b", ["s", "b"]),
            ("y = PRelu(x, p)", f"{IMAGE}, float[4,1,1] p", ["p"]),
            (
                "y = LSTM <hidden_size = 2> (x, w, r)",
                "float[3,1,4] x, float[1,8,4] w, float[1,8,2] r",
                ["w", "r"],
            ),
            ("k = Transpose(w) y = MatMul(x, k)", "float[2,4] x, float[5,4] w", ["w"]),
            (
                "k = Concat <axis = 0> (u, w) y = Conv(x, k)",
                f"{IMAGE}, float[1,4,1,1] u, float[2,4,1,1] w",
                ["u", "w"],
            ),
            ("n = Shape(w) y = Conv(x, w)", f"{IMAGE}, float[5,4,1,1] w", ["w"]),
        ],
    )
    def test_read_as_a_parameter(self, body: str, inputs: str, expected: list[str]) -> None:
        model = tiny(body, inputs)
        assert names(model) == expected
        assert data_inputs(Graph.from_model(model)) == ["x"]

    @pytest.mark.parametrize(
        ("body", "inputs"),
        [
            ("y = Add(x, w)", f"{IMAGE}, float[4,1,1] w"),
            ("h = Conv(x, w) n = ReduceSum(w) y = Add(h, n)", f"{IMAGE}, float[4,4,1,1] w"),
            ("y = MatMul(x, w)", "float[2,3,4] x, float[2,4,3] w"),
            ("k = Transpose <perm = [0,2,1]> (w) y = MatMul(x, k)", "float[2,3,4] x, float[2,3,4] w"),
            ("k = Relu(w) y = Conv(x, k)", f"{IMAGE}, float[4,4,1,1] w"),
            ("y = Conv(x, w)", f'{IMAGE}, float["N",4,1,1] w'),
            ("y = MatMul(x, w)", "int64[2,4] x, int64[4,5] w"),
            ("y = Relu(x)", f"{IMAGE}, float[4,4,1,1] w"),
            ("y = Gather(w, x)", "int64[3] x, float[10,4] w"),
        ],
    )
    def test_read_as_data(self, body: str, inputs: str) -> None:
        model = tiny(body, inputs)
        assert names(model) == []
        assert data_inputs(Graph.from_model(model)) == ["x", "w"]

    def test_first_input_is_data(self) -> None:
        model = tiny("y = MatMul(x, w)", "float[4,5] w, float[2,4] x")
        assert names(model) == []

    def test_weight_that_is_an_output_too_is_data(self) -> None:
        model = tiny("y = MatMul(x, w)", "float[2,4] x, float[4,5] w", outputs="y w")
        assert names(model) == []

    def test_same_name_in_another_domain(self) -> None:
        model = tiny("y = MatMul(x, w)", "float[2,4] x, float[4,5] w")
        model.opset_import.append(onnx.helper.make_opsetid("my.domain", 1))
        model.graph.node[0].domain = "my.domain"
        assert names(model) == []


class TestWeightInitializers:
    def test_by_slot_or_by_size(self) -> None:
        body = """
            h = PRelu(x, slope) k = Mul(h, two) p = Add(k, positions)
            r = Reshape(p, target) y = Pow(r, three)
        """
        model = tiny(
            body,
            slope=np.full((1,), 0.25, np.float32),
            two=np.float32(2),
            positions=np.zeros((4, 6, 6), np.float32),
            target=np.array([2, -1]),
            three=np.array([3], np.float32),
        )
        assert names(model) == ["slope", "positions"]

    def test_scales_of_a_resize_are_not_learned(self) -> None:
        model = tiny('y = Resize <mode = "nearest"> (x, , scales)', scales=np.array([1, 1, 2, 2], np.float32))
        assert names(model) == []

    def test_inputs_come_first(self) -> None:
        model = tiny(
            "h = Conv(x, w) y = Conv(h, k)", f"{IMAGE}, float[4,4,1,1] w", k=np.ones((4, 4, 1, 1), np.float32)
        )
        assert names(model) == ["w", "k"]

    def test_old_files_name_initializers_as_inputs_too(self) -> None:
        model = tiny("y = Conv(x, w)", f"{IMAGE}, float[4,4,1,1] w", w=np.ones((4, 4, 1, 1), np.float32))
        graph = Graph.from_model(model)
        assert (weight_names(graph), data_inputs(graph)) == (["w"], ["x"])


def test_running_statistics_are_not_trained() -> None:
    graph = Graph.from_model(tiny("h = BatchNormalization(x, s, b, m, v) y = Relu(h)", f"{IMAGE}, {NORM}"))
    assert running_statistics(graph) == ["m", "v"]
    assert tensor_roles(graph).parameters == ["s", "b"]


@pytest.mark.parametrize(
    "name", ["resnet", "mobilenet", "densenet", "unet", "upsampler", "recurrent", "perceptron"]
)
def test_weights_of_an_export_are_the_parameters_of_the_module(name: str) -> None:
    graph = Graph.from_model(exported(name, Export("script", 17, False)))
    module = build(name)
    count = sum(int(np.prod(graph.initializers[weight].dims)) for weight in tensor_roles(graph).parameters)
    assert count == sum(parameter.numel() for parameter in module.parameters())
    buffers = dict(module.named_buffers())
    assert set(running_statistics(graph)) == {key for key in buffers if "running" in key}


def network() -> ModelProto:
    g = GraphBuilder((1, 3, 8, 8))
    x = g.op("Conv", g.input, g.weight("conv.weight", 16, 3, 3, 3), name="conv")
    parts = [g.weight(f"bn.{part}", 16) for part in ("weight", "bias", "running_mean", "running_var")]
    x = g.op("BatchNormalization", x, *parts, name="bn")
    x = g.op("GlobalAveragePool", x, name="pool")
    x = g.op("Flatten", x, name="flat")
    return g.model(
        g.op("Gemm", x, g.weight("fc.weight", 10, 16), g.weight("fc.bias", 10), name="fc", transB=1)
    )


class TestSeed:
    def test_every_weight_gets_a_value_of_its_kind(self) -> None:
        filled = values(fill_weights(network(), seed=3))
        assert list(filled) == weight_names(Graph.from_model(network()))
        assert np.abs(filled["conv.weight"].std() - np.sqrt(2 / 27)) < 0.05
        assert np.abs(filled["fc.weight"].std() - np.sqrt(2 / 16)) < 0.06
        assert 0.9 <= filled["bn.weight"].min() <= filled["bn.weight"].max() <= 1.1
        assert 0.5 <= filled["bn.running_var"].min() <= filled["bn.running_var"].max() <= 1.5
        assert np.abs(filled["bn.bias"]).max() < 0.3
        assert np.abs(filled["bn.running_mean"]).max() < 0.3
        assert {value.dtype for value in filled.values()} == {np.dtype(np.float32)}

    def test_model_is_not_changed_and_result_is_valid(self) -> None:
        model = network()
        before = model.SerializeToString()
        filled = fill_weights(model)
        assert model.SerializeToString() == before
        onnx.checker.check_model(filled, full_check=True)
        assert [value.name for value in filled.graph.input] == ["input"]
        assert names(filled) == names(model)

    @given(st.permutations(range(5)), st.integers(-5, 5))
    def test_value_depends_on_seed_and_name_alone(self, order: list[int], seed: int) -> None:
        g = GraphBuilder((1, 4, 2, 2))
        x = g.input
        for index in order:
            x = g.op("Conv", x, g.weight(f"w{index}", 4, 4, 1, 1), name=f"v{index}")
        in_order = GraphBuilder((1, 4, 2, 2))
        y = in_order.op("Conv", in_order.input, in_order.weight("w2", 4, 4, 1, 1), name="y")
        one, two = (
            values(fill_weights(g.model(x), seed=seed)),
            values(fill_weights(in_order.model(y), seed=seed)),
        )
        np.testing.assert_array_equal(one["w2"], two["w2"])
        assert not np.array_equal(one["w1"], one["w2"])

    def test_seeds_differ(self) -> None:
        one, two = (values(fill_weights(network(), seed=seed)) for seed in (1, 2))
        assert not np.array_equal(one["fc.weight"], two["fc.weight"])

    def test_deep_networks_neither_explode_nor_vanish(self) -> None:
        g = GraphBuilder((1, 8, 8, 8))
        x = g.input
        for depth in range(60):
            h = g.op("Conv", x, g.weight(f"{depth}.w", 8, 8, 3, 3), name=f"{depth}.h", pads=[1, 1, 1, 1])
            parts = [g.weight(f"{depth}.{part}", 8) for part in "sbmv"]
            x = g.op("Relu", g.op("BatchNormalization", h, *parts, name=f"{depth}.n"), name=f"{depth}.r")
        (output,) = run(g.model(x), seed=4)
        assert 1e-3 < output.std() < 1e3

    @pytest.mark.parametrize("name", ["double", "float16", "bfloat16"])
    def test_type_of_the_input_is_kept(self, name: str) -> None:
        model = tiny("y = Conv(x, w)", f"{name}[1,4,6,6] x, {name}[4,4,1,1] w", opset=22)
        (tensor,) = fill_weights(model).graph.initializer
        assert tensor.data_type == model.graph.input[1].type.tensor_type.elem_type

    def test_more_than_a_file_can_hold(self) -> None:
        model = tiny("y = MatMul(x, w)", "float[1,1000000] x, float[1000000,1000000] w")
        with pytest.raises(UnsupportedModelError, match="4,000,000,000,000 bytes"):
            fill_weights(model)


class TestStateDict:
    def given_state(self) -> dict[str, object]:
        generator = torch.Generator().manual_seed(0)
        graph = Graph.from_model(network())
        shapes = {key: [d.dim_value for d in v.type.tensor_type.shape.dim] for key, v in graph.inputs.items()}
        state = {
            key: torch.rand(*shape, generator=generator) for key, shape in shapes.items() if key != "input"
        }
        return {**state, "bn.num_batches_tracked": torch.tensor(3)}

    def test_tensors_and_arrays(self) -> None:
        state = self.given_state()
        state["fc.bias"] = np.arange(10)
        state["fc.weight"] = torch.nn.Parameter(state["fc.weight"])  # type: ignore[arg-type]
        state["bn.bias"] = state["bn.bias"].bfloat16()  # type: ignore[attr-defined]
        filled = values(fill_weights(network(), state_dict=state))
        assert filled["fc.bias"].tolist() == list(range(10))
        assert filled["fc.bias"].dtype == np.float32
        for key in ("fc.weight", "conv.weight", "bn.bias"):
            np.testing.assert_array_equal(filled[key], state[key].detach().float().numpy())  # type: ignore[attr-defined]

    def test_missing_name(self) -> None:
        state = self.given_state()
        del state["bn.running_var"]
        with pytest.raises(UnsupportedModelError, match=r"no 'bn\.running_var'.*bn\.bias"):
            fill_weights(network(), state_dict=state)

    def test_wrong_shape(self) -> None:
        state = {**self.given_state(), "fc.weight": np.zeros((16, 10))}
        with pytest.raises(UnsupportedModelError, match=r"'fc\.weight'.*\(16, 10\).*\(10, 16\)"):
            fill_weights(network(), state_dict=state)


def test_weights_of_a_trained_module_give_its_numbers() -> None:
    """A graph written by hand with the module's names computes what the module computes."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, bias=False), torch.nn.BatchNorm2d(6)).eval()
    g = GraphBuilder((1, 3, 16, 16))
    x = g.op("Conv", g.input, g.weight("0.weight", 6, 3, 3, 3), name="conv")
    parts = [g.weight(f"1.{part}", 6) for part in ("weight", "bias", "running_mean", "running_var")]
    model = g.model(g.op("BatchNormalization", x, *parts, name="bn"))
    (image,) = example("mobilenet")
    (output,) = run(fill_weights(model, state_dict=module.state_dict()), {"input": image.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(output, module(image).numpy(), atol=1e-5)
