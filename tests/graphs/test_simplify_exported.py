"""`simplify` on networks that torch exports: the same numbers, the operations that other tools reach."""

from __future__ import annotations

from collections import Counter
from functools import cache

import onnx
import onnxsim
import onnxslim
import pytest
from exported_models import NETWORKS, Export, exported
from numerics import assert_numerically_equal
from onnx import ModelProto
from tiny_models import weight_shapes, weights_as_inputs

from onnx_bench_dataset.graphs.simplify import simplify

SCRIPT = [Export("script", 13, False), Export("script", 17, True)]
DYNAMO = [Export("dynamo", 18, True)]
SLOW = [
    Export("script", 20, False),
    Export("script", 11, False),
    Export("dynamo", 18, False),
    Export("dynamo", 25, True),
]

# torch 2.13 writes a bias of three dimensions for a convolution over volumes when it does not optimize.
BROKEN = {("sequence_conv", Export("dynamo", 18, False))}

WAYS = [*SCRIPT, *DYNAMO, *(pytest.param(way, marks=pytest.mark.slow, id=str(way)) for way in SLOW)]

every_export = pytest.mark.parametrize("way", WAYS, ids=str)
every_network = pytest.mark.parametrize("name", NETWORKS)


@cache
def original(name: str, way: Export) -> ModelProto:
    if (name, way) in BROKEN:
        pytest.skip("the exporter writes a model that no runtime runs")
    return exported(name, way)


@cache
def simplified(name: str, way: Export) -> ModelProto:
    return simplify(original(name, way))


def operations(model: ModelProto) -> Counter[str]:
    """Count operations; some simplifiers leave constants as nodes, which says nothing about the network."""
    return Counter(node.op_type for node in model.graph.node if node.op_type != "Constant")


def by_onnxsim(model: ModelProto) -> Counter[str]:
    # A MatMul and Add on more than two dimensions stay as they are here: writing them as a Gemm takes two
    # Reshapes, which hides a linear layer from whoever reads the graph.
    skipped = ["fuse_matmul_add_bias_into_gemm_batched"]
    return operations(onnxsim.simplify(model, skipped_optimizers=skipped)[0])


def by_onnxslim(model: ModelProto) -> Counter[str]:
    return operations(onnxslim.slim(ModelProto.FromString(model.SerializeToString())))


def expected_operations(name: str, way: Export) -> Counter[str]:
    """Return what onnxsim reaches, save for what it provably leaves undone."""
    if way.exporter == "dynamo" and not way.optimized:
        # onnxsim stops at the CastLike nodes of these files; torch's own optimizer does not.
        return expected_operations(name, Export("dynamo", way.opset, True))
    if name == "unet":  # onnxslim also folds a batch norm into the transposed convolution with groups
        return by_onnxslim(original(name, way))
    expected = by_onnxsim(original(name, way))
    if name in ("perceptron", "two_inputs") and way.exporter == "script":
        expected -= Counter(["BatchNormalization"])  # neither folds one into the Gemm before it
    return expected


@every_export
@every_network
def test_computes_the_same_numbers(name: str, way: Export) -> None:
    assert_numerically_equal(original(name, way), simplified(name, way))


@every_export
@every_network
def test_has_the_operations_that_other_simplifiers_reach(name: str, way: Export) -> None:
    if way == Export("dynamo", 18, False) and name in ("shufflenet", "super_resolution"):
        pytest.skip("without its optimizer torch writes a Split as a sequence, and a Clip as Max and Min")
    assert operations(simplified(name, way)) == expected_operations(name, way)


@every_export
@every_network
def test_is_a_fixed_point(name: str, way: Export) -> None:
    once = simplified(name, way)
    assert list(simplify(once).graph.node) == list(once.graph.node)


@every_export
@every_network
def test_is_a_valid_model(name: str, way: Export) -> None:
    model = simplified(name, way)
    onnx.checker.check_model(model, full_check=True)
    before = original(name, way).graph
    assert [value.name for value in model.graph.output] == [value.name for value in before.output]
    assert [value.name for value in model.graph.input] == [value.name for value in before.input]


@every_export
@every_network
def test_weights_as_inputs_give_the_same_nodes(name: str, way: Export) -> None:
    filled = simplified(name, way)
    left_out = simplify(weights_as_inputs(original(name, way)))
    onnx.checker.check_model(left_out, full_check=True)
    assert list(left_out.graph.node) == list(filled.graph.node)
    assert weight_shapes(left_out) == weight_shapes(filled)
