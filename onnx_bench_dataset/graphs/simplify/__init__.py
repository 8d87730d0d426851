"""The inference form of a graph: the same function with the fewest operations.

Numbers stay what they are, up to rounding where weights are folded. Attributes stay as the file states them.
The rules, each of which leaves a node alone unless it provably applies:

1. the value of a Constant node becomes an initializer;
2. a node that reads only initializers is computed; a rearranged weight input becomes a weight input;
3. Shape and Size, or one element of a Shape, become constants where inference knows them;
4. CastLike becomes Cast where inference knows the type;
5. operations that hand an input on unchanged vanish: Identity, Dropout, Cast to the same type, Transpose
   to the same order, Reshape, Flatten, Squeeze, Unsqueeze, Expand or reduction to the same shape, Pad by
   nothing, Slice of everything, Concat, Sum, Max, Min or Mean of one, Split into one, pooling of windows of
   one, Tile once, Relu of Relu, and arithmetic with 0 or 1;
6. BatchNormalization goes into the Conv, ConvTranspose or Gemm before it;
7. so does an Add of one number per channel to a Conv or ConvTranspose without bias;
8. so does a Mul by one number per channel of a Conv's result, unless all are 0: that ends a path;
9. MatMul and Add of a row are a Gemm, on matrices;
10. Pad by zeros goes into the Conv or AveragePool behind it;
11. Transposes in a row are one;
12. Reshape, Flatten, Squeeze and Unsqueeze in a row are one, or none;
13. a reduction whose dimensions an Unsqueeze puts back keeps them;
14. nested Concats along one axis are one;
15. equal nodes with equal inputs are one;
16. nodes that no output needs, and tensors and weight inputs that no node reads, vanish; data inputs stay.

A weight input that a rule changes is a weight input again; a graph with weights as inputs and the same graph
with weights as initializers give the same nodes. A learned tensor that stands outside the usual places for
parameters (`weights.PARAMETER_SLOTS`) can only be told from data when it is an initializer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import onnx
from onnx import ModelProto

from onnx_bench_dataset.errors import UnsupportedModelError
from onnx_bench_dataset.graphs.graph import DEFAULT_DOMAIN, Graph, Node
from onnx_bench_dataset.graphs.inference import ValueTypes
from onnx_bench_dataset.graphs.simplify import affine, constants, fusions
from onnx_bench_dataset.graphs.simplify.duplicates import Duplicates
from onnx_bench_dataset.graphs.simplify.no_ops import NO_OPS, remove_no_op
from onnx_bench_dataset.graphs.simplify.rewriter import Preparation, Rewriter, Rule
from onnx_bench_dataset.graphs.weights import LEARNED, VIEWS, weight_names

__all__ = ["simplify", "simplify_graph"]


def simplify(model: ModelProto) -> ModelProto:
    """Return the inference form of a model; the model itself is not changed.

    Raises:
        UnsupportedModelError: the model is broken, or uses control flow or sparse initializers.

    Examples:
        >>> from onnx_bench_dataset.graphs.build import GraphBuilder
        >>> g = GraphBuilder((1, 3, 8, 8))
        >>> x = g.op("Conv", g.input, g.weight("conv.weight", 4, 3, 1, 1), name="conv")
        >>> norm = [g.weight(f"bn.{part}", 4) for part in ("weight", "bias", "running_mean", "running_var")]
        >>> x = g.op("Dropout", g.op("BatchNormalization", x, *norm, name="bn"), name="dropout")
        >>> model = g.model(g.op("Relu", x, name="relu"))
        >>> for node in simplify(model).graph.node:
        ...     print(node.op_type, list(node.input))
        Conv ['input', 'conv.weight', 'bn.bias']
        Relu ['bn']
    """
    return simplify_graph(Graph.from_model(model)).to_model()


def simplify_graph(graph: Graph) -> Graph:
    """Simplify a graph, which is changed on the way.

    Raises:
        UnsupportedModelError: the graph is broken.
    """
    return _rewrite(graph, constants.share_constants, _Rules).graph


def simplify_structure(graph: Graph) -> Graph:
    """Simplify a graph of which the values of weights do not count; they are forgotten.

    What rules do to weights without values they can fail to do to those with values (numbers get too large),
    so the graph is simplified again without.

    Raises:
        UnsupportedModelError: the graph is broken, or its constants take too much time or room to compute.
    """
    while True:
        rewriter = _rewrite(graph, constants.share_constants, _Rules)
        if rewriter.gave_up:
            raise UnsupportedModelError("the constants of the graph take too much time or room to compute")
        graph = rewriter.graph
        learned = [name for name in weight_names(graph) if name in graph.initializers]
        if not learned:
            return graph
        for name in learned:
            tensor = graph.initializers.pop(name)
            graph.inputs[name] = onnx.helper.make_tensor_value_info(
                name, tensor.data_type, tensor.dims, LEARNED
            )


def folded_types(graph: Graph) -> ValueTypes:
    """Return the types of all values, shapes that follow from computed numbers included; change nothing.

    Raises:
        UnsupportedModelError: the graph is broken.
    """
    copy = replace(
        graph,
        nodes=[
            replace(n, inputs=[*n.inputs], outputs=[*n.outputs], attributes={**n.attributes})
            for n in graph.nodes
        ],
        inputs={**graph.inputs},
        initializers={**graph.initializers},
        values={**graph.values},
    )
    return _rewrite(copy, lambda graph: False, lambda graph: _fold).types


def _rewrite(graph: Graph, prepare: Preparation, rules: Callable[[Rewriter], Rule]) -> Rewriter:
    try:
        rewriter = Rewriter(graph)
        rewriter.apply(prepare, rules(rewriter))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # The rules take for granted what the checker checks; checking every graph would take as long again.
        raise UnsupportedModelError(
            f"the graph cannot be simplified ({type(error).__name__}: {error}); onnx.checker.check_model says"
            " whether it keeps the rules of ONNX; if it does, please report this"
        ) from error
    return rewriter


_BY_OPERATION: Mapping[str, tuple[Rule, ...]] = {
    "Constant": (constants.constant_to_initializer,),
    "Shape": (constants.fold_shape,),
    "Size": (constants.fold_shape,),
    "Gather": (constants.fold_size_of_dimension,),
    "CastLike": (constants.fold_type,),
    "BatchNormalization": (affine.fold_batch_norm,),
    "Add": (affine.fold_bias, fusions.linear_layer),
    "Mul": (affine.fold_factor,),
    "Conv": (fusions.pad_into_window,),
    "AveragePool": (fusions.pad_into_window,),
    "Transpose": (fusions.consecutive_transposes,),
    "Reshape": (fusions.consecutive_reshapes,),
    "Flatten": (fusions.consecutive_reshapes,),
    "Squeeze": (fusions.consecutive_reshapes,),
    "Unsqueeze": (fusions.kept_dimensions, fusions.consecutive_reshapes),
    "Concat": (fusions.nested_concats,),
}


def _rules(op: str) -> tuple[Rule, ...]:
    """Return the rules to try on an operation, one after the other."""
    fold = (constants.fold,) if op in constants.FOLDABLE else ()
    fold_view = (constants.fold_view,) if op in VIEWS else ()
    no_op = (remove_no_op,) if op in NO_OPS else ()
    return (*fold, *no_op, *fold_view, *_BY_OPERATION.get(op, ()))


_FOLDING = frozenset(
    {
        constants.constant_to_initializer,
        constants.fold,
        constants.fold_shape,
        constants.fold_size_of_dimension,
        constants.fold_type,
    }
)

_RULES = {op: _rules(op) for op in {*constants.FOLDABLE, *VIEWS, *NO_OPS, *_BY_OPERATION}}


def _fold(graph: Rewriter, node: Node) -> bool:
    """Apply rules 1 to 4."""
    rules = _RULES.get(node.op, ()) if node.domain == DEFAULT_DOMAIN else ()
    return any(rule(graph, node) for rule in rules if rule in _FOLDING)


class _Rules:
    """Every rule for a node, the search for duplicates last."""

    def __init__(self, graph: Rewriter) -> None:
        self._duplicates = Duplicates(graph)

    def __call__(self, graph: Rewriter, node: Node) -> bool:
        if node.domain != DEFAULT_DOMAIN:
            return False
        for rule in _RULES.get(node.op, ()):
            if rule(graph, node):
                return True
        return self._duplicates.merge(graph, node)
