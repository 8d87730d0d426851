"""Names of the features, and what each of them is."""

from __future__ import annotations

COUNTED = ("convolutions", "weighted", "activations", "pools", "averages", "reach", "length")
BOUNDED = 5  # of these also have a least and a largest value over paths, and reach

_ON_PATHS = {
    "convolutions": "convolutions over a window",
    "weighted": "layers with weights",
    "activations": "activations",
    "pools": "pools",
    "averages": "average pools",
    "reach": "pixels that windows add to the receptive field, over the size of the image, logarithm",
    "length": "layers",
}

STAGES = 4
CELL_ROLES = {
    "c": "convolutions",
    "p": "pointwise",
    "m": "maxima",
    "a": "averages",
    "r": "activations",
    "+": "sums",
    "|": "concatenations",
}
ALL_ROLES = {**CELL_ROLES, "d": "depthwise", "l": "linear", "x": "products", "*": "gates", "o": "others"}


def _described() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, meaning in _ON_PATHS.items():
        found[f"mean_{name}"] = f"{meaning}, mean over all paths from input to output"
    for name in (*COUNTED[:BOUNDED], "reach"):
        found[f"least_{name}"] = f"{_ON_PATHS[name]}, the path with the fewest"
    for name in (*COUNTED[:BOUNDED], "reach"):
        found[f"most_{name}"] = f"{_ON_PATHS[name]}, the path with the most"
    for name, meaning in _ON_PATHS.items():
        found[f"flow_{name}"] = f"{meaning}, mean over paths weighted by the variance that each carries"
    found |= {
        "deviation_convolutions": "standard deviation over paths of the convolutions over a window",
        "paths": "logarithm of the number of paths",
        "share_convolutions": "convolutions over a window among the layers of a mean path",
        "share_weighted": "layers with weights among those of a mean path",
        "share_pools": "pools among the layers of a mean path",
        "share_averages": "average pools among the layers of a mean path",
        "flow_share_convolutions": "convolutions over a window among layers, weighted by variance",
        "flow_share_pools": "pools among layers, weighted by variance",
        "gap_convolutions": "largest less least number of convolutions over a window on a path",
        "gap_weighted": "largest less least number of layers with weights on a path",
        "relative_least_convolutions": "least over largest number of convolutions over a window on a path",
        "layers": "layers",
        "segments": "segments",
        "branching": "branching segments",
        "distinct": "share of branching segments that differ from each other",
    }
    for name in COUNTED[:BOUNDED]:
        found[f"cell_mean_{name}"] = f"{_ON_PATHS[name]} on a mean path of a branching segment, mean"
        found[f"cell_least_{name}"] = f"{_ON_PATHS[name]} on its path with the fewest, mean"
        found[f"cell_most_{name}"] = f"{_ON_PATHS[name]} on its path with the most, mean"
    found |= {
        "cell_length": "layers on a mean path of a branching segment, mean",
        "cell_paths": "logarithm of the paths of a branching segment, mean",
        "cell_deviation_convolutions": "deviation of convolutions over paths of a branching segment, mean",
        "cell_skips": "share of branching segments with a path that changes nothing",
    }
    for meaning in CELL_ROLES.values():
        found[f"cell_count_{meaning}"] = f"{meaning} in a branching segment, mean"
    for meaning in ALL_ROLES.values():
        found[f"count_{meaning}"] = f"{meaning} in the network"
    found |= {
        "ratio_convolutions": "convolutions over a window, among convolutions and pools",
        "ratio_pointwise": "convolutions of single pixels, among convolutions and pools",
        "ratio_pools": "pools, among convolutions and pools",
        "pools_to_convolutions": "logarithm of pools over convolutions over a window",
        "pointwise_to_convolutions": "logarithm of convolutions of single pixels over those over a window",
        "convolutions_to_joints": "convolutions over a window for each sum or concatenation",
        "parameters": "logarithm of the elements of weights",
        "macs": "logarithm of the multiply-accumulates",
        "reuse": "logarithm of multiply-accumulates over elements of weights",
        "macs_convolutions": "share of multiply-accumulates in dense convolutions over a window",
        "macs_depthwise": "share of multiply-accumulates in depthwise convolutions",
        "parameters_convolutions": "share of weights in dense convolutions over a window",
        "capacity": "logarithm of the work in 3×3 convolutions of the width of their stage",
        "capacity_convolutions": "the same of dense convolutions over a window alone",
        "least_capacity": "the same of the stage (layers of one height) with the least",
        "cell_capacity": "logarithm of that work in a branching segment, mean",
        "cells_capacity": "logarithm of that work in all branching segments",
        "width": "mean logarithm of the channels of layers with weights",
        "first_width": "logarithm of the channels of the first layer with weights",
        "last_width": "largest logarithm of channels before the classifier",
        "relative_width": "mean logarithm of channels of convolutions over the width of their stage",
        "relative_width_convolutions": "the same of dense convolutions over a window alone",
        "downsampling": "logarithm, base 2, of the strides on the way",
    }
    for stage in range(STAGES):
        height = "full height" if not stage else f"1/{2**stage} of the height"
        found[f"macs_at_{stage}"] = f"share of multiply-accumulates at {height}"
        found[f"convolutions_at_{stage}"] = f"share of convolutions over a window at {height}"
    found |= {
        "correlation": "of two inputs with correlation 0.1, at the output of an infinitely wide network",
        "gradient": "logarithm of the tangent kernel of that network, over the variance of its output",
        "alignment": "tangent kernel of the two inputs over that of one of them",
        "separation": "logarithm of the difference of the two, over the variance of the output",
    }
    return found


FEATURES: dict[str, str] = _described()
"""What each feature is, in the order in which they are returned."""

NAMES = tuple(FEATURES)
"""Names of the features, in the same order."""


def document() -> str:
    """Return the page of the documentation that lists the features, `docs/features.md`."""
    rows = [f"| `{name}` | {meaning} |" for name, meaning in FEATURES.items()]
    return "\n".join([_INTRODUCTION, "| feature | what it is |", "| --- | --- |", *rows, ""])


_INTRODUCTION = f"""# Features of a graph

The predictor `features` reads {len(NAMES)} numbers of a network. They mean the same in every search space,
are made from a text or from any ONNX model, and are always finite. `onnx_bench_dataset.surrogates.features`
makes them: `of_texts(texts)`, `of_network(model)`.

They are of the layers that carry something from the input to the output: normalization, no-ops, and whatever
no output needs or is computed from zeros alone are left out. A network is cut wherever all paths pass through
one value; between two cuts lies a *segment*, a cell for instance, and one with several paths is a *branching*
segment.

The table is `FEATURES`, in the order of the numbers.
"""
