"""Running a graph with ONNX Runtime."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
import torch
from exported_models import Export, build, example, exported
from tiny_models import IMAGE, tiny

from onnx_bench_dataset.errors import OnnxBenchError, UnsupportedModelError
from onnx_bench_dataset.graphs.run import random_inputs, run


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("name", ["mobilenet", "two_inputs", "recurrent"])
def test_computes_what_torch_computes(name: str, optimize: bool) -> None:
    model = exported(name, Export("script", 17, False))
    inputs = example(name)
    feeds = {value.name: tensor.numpy() for value, tensor in zip(model.graph.input, inputs, strict=True)}
    (output,) = run(model, feeds, optimize=optimize)
    with torch.no_grad():
        np.testing.assert_allclose(output, build(name)(*inputs).numpy(), atol=1e-5)


def test_same_seed_gives_the_same_numbers() -> None:
    model = tiny("y = Conv(x, w)", f"{IMAGE}, float[5,4,3,3] w")
    one, same, other = (run(model, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.shape == (2, 5, 4, 4)


def test_random_inputs_have_the_declared_types() -> None:
    model = tiny("y = Gather(x, i)", f"{IMAGE}, int64[3] i, float16[2] h")
    feeds = random_inputs(model, seed=1)
    assert {name: (value.dtype, value.shape) for name, value in feeds.items()} == {
        "x": (np.dtype(np.float32), (2, 4, 6, 6)),
        "i": (np.dtype(np.int64), (3,)),
        "h": (np.dtype(np.float16), (2,)),
    }


def test_missing_and_unknown_inputs() -> None:
    model = tiny("y = Relu(x)")
    with pytest.raises(UnsupportedModelError, match="reads the inputs x; given: z"):
        run(model, {"z": np.zeros(3)})


def test_dynamic_input_needs_a_value() -> None:
    model = tiny("y = Relu(x)", 'float["N"] x')
    with pytest.raises(UnsupportedModelError, match="'x' is dynamic"):
        run(model)
    assert run(model, {"x": np.array([-1, 1], np.float32)})[0].tolist() == [0, 1]


def test_model_that_the_runtime_rejects() -> None:
    model = tiny("y = Relu(x)")
    model.graph.node[0].op_type = "NoSuchOperation"
    with pytest.raises(UnsupportedModelError, match="NoSuchOperation"):
        run(model)


def test_missing_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OnnxBenchError, match=r"pip install 'onnx-bench-dataset\[onnxruntime\]'"):
        run(tiny("y = Relu(x)"))
    with pytest.raises(ImportError):
        run(onnx.ModelProto())
