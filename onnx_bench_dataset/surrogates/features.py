"""Numbers about a network that mean the same in every search space; `FEATURES` says what each is.

They are of the layers that carry something from the input to the output. A network is cut wherever all paths
pass through one value: between two cuts lies a *segment*, a cell for instance, and one with several paths is
a *branching* segment. Statistics of paths add up over segments, and networks repeat theirs, so each segment
is measured once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_bench_dataset.surrogates.layers import INPUT, Layer, of_model, of_text

_COUNTED = ("convolutions", "weighted", "activations", "pools", "averages", "reach", "length")
_BOUNDED = 5  # of these also have a least and a largest value over paths, and reach

_ON_PATHS = {
    "convolutions": "convolutions over a window",
    "weighted": "layers with weights",
    "activations": "activations",
    "pools": "pools",
    "averages": "average pools",
    "reach": "pixels that windows add to the receptive field, over the size of the image, logarithm",
    "length": "layers",
}


def _described() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, meaning in _ON_PATHS.items():
        found[f"mean_{name}"] = f"{meaning}, mean over all paths from input to output"
    for name in (*_COUNTED[:_BOUNDED], "reach"):
        found[f"least_{name}"] = f"{_ON_PATHS[name]}, the path with the fewest"
    for name in (*_COUNTED[:_BOUNDED], "reach"):
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
    for name in _COUNTED[:_BOUNDED]:
        found[f"cell_mean_{name}"] = f"{_ON_PATHS[name]} on a mean path of a branching segment, mean"
        found[f"cell_least_{name}"] = f"{_ON_PATHS[name]} on its path with the fewest, mean"
        found[f"cell_most_{name}"] = f"{_ON_PATHS[name]} on its path with the most, mean"
    found |= {
        "cell_length": "layers on a mean path of a branching segment, mean",
        "cell_paths": "logarithm of the paths of a branching segment, mean",
        "cell_deviation_convolutions": "deviation of convolutions over paths of a branching segment, mean",
        "cell_skips": "share of branching segments with a path that changes nothing",
    }
    for meaning in _CELL_ROLES.values():
        found[f"cell_count_{meaning}"] = f"{meaning} in a branching segment, mean"
    for meaning in _ALL_ROLES.values():
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
    for stage in range(_STAGES):
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


_STAGES = 4
_CELL_ROLES = {
    "c": "convolutions",
    "p": "pointwise",
    "m": "maxima",
    "a": "averages",
    "r": "activations",
    "+": "sums",
    "|": "concatenations",
}
_ALL_ROLES = {**_CELL_ROLES, "d": "depthwise", "l": "linear", "x": "products", "*": "gates", "o": "others"}

FEATURES: dict[str, str] = _described()
"""What each feature is, in the order in which they are returned."""

NAMES = tuple(FEATURES)

_Counts = list[float]


class _Segment(NamedTuple):
    """Statistics over the paths of a segment; lists are in the order of `_COUNTED`."""

    paths: float
    mean: _Counts
    least: _Counts
    most: _Counts
    variance: float
    """Of the number of convolutions over a window."""
    skips: float
    """1 if a path changes nothing, else 0."""
    counts: dict[str, int]
    """Layers by the first letter of their role."""


_Key = tuple[tuple[str, tuple[int, ...]], ...]
"""A segment: the role of each layer, and what it reads of the segment; INPUT for what stands before it."""


def features(layers: Sequence[Layer]) -> list[float]:
    """Return the features of a network by its layers, in the order of `FEATURES`; all are finite.

    Those of a network without layers are all 0.
    """
    if not layers:
        return [0.0] * len(NAMES)
    bounds = _cuts(layers)
    segments: list[tuple[_Key, int, int]] = []
    start = 0
    for end in bounds:
        key = tuple(
            [
                (
                    layer.kind.role,
                    tuple([source - start if source >= start else INPUT for source in layer.sources]),
                )
                for layer in layers[start : end + 1]
            ]
        )
        segments.append((key, start, end))
        start = end + 1
    made = [
        *_of_paths(layers, segments),
        *_of_cells(layers, segments),
        *_of_counts(layers),
        *_of_work(layers, segments),
        *_of_signals(layers),
    ]
    return made


def _cuts(layers: Sequence[Layer]) -> list[int]:
    """Return the layers through which every path goes."""
    count = len(layers)
    last = [0] * (count + 1)  # reader of each layer, and at the end of the input
    for number, layer in enumerate(layers):
        for source in layer.sources:
            last[source] = number
    reach = last[count]
    found = []
    for number in range(count - 1):
        if reach <= number:
            found.append(number)
        reach = max(reach, last[number])
    return [*found, count - 1]


@lru_cache(maxsize=1 << 10)
def _flags(role: str) -> tuple[float, ...]:
    """Return what one layer adds to the counts of a path."""
    letter = role[0]
    window = role[1:].partition("/")[0]
    return (
        float(letter in "cd"),
        float(letter in "cdpl"),
        float(letter == "r"),
        float(letter in "mag"),
        float(letter == "a"),
        float(int(window) - 1) if window else 0.0,
        1.0,
    )


@lru_cache(maxsize=1 << 16)
def _measured(key: _Key) -> _Segment:
    """Return the statistics of a segment."""
    start = (1.0, _ZEROS, _ZEROS, _ZEROS, 0.0, 1.0)
    states: list[tuple[float, _Counts, _Counts, _Counts, float, float]] = []
    counts: dict[str, int] = {}
    for role, sources in key:
        added = _flags(role)
        counts[role[0]] = counts.get(role[0], 0) + 1
        if len(sources) == 1:
            source = sources[0]
            paths, mean, least, most, square, skips = states[source] if source >= 0 else start
        else:
            read = [states[source] if source >= 0 else start for source in sources]
            paths = sum([state[0] for state in read])
            weights = [state[0] / paths for state in read]
            mean = [
                sum([w * value for w, value in zip(weights, column, strict=True)])
                for column in zip(*[state[1] for state in read], strict=True)
            ]
            least = [min(column) for column in zip(*[state[2] for state in read], strict=True)]
            most = [max(column) for column in zip(*[state[3] for state in read], strict=True)]
            square = sum([w * state[4] for w, state in zip(weights, read, strict=True)])
            skips = max([state[5] for state in read])
        square += added[0] * (2 * mean[0] + 1)
        states.append(
            (
                paths,
                [a + b for a, b in zip(mean, added, strict=True)],
                [a + b for a, b in zip(least, added, strict=True)],
                [a + b for a, b in zip(most, added, strict=True)],
                square,
                skips if role[0] in "+|r" else 0.0,
            )
        )
    paths, mean, least, most, square, skips = states[-1]
    return _Segment(paths, mean, least, most, max(square - mean[0] ** 2, 0.0), skips, counts)


_ZEROS = [0.0] * len(_COUNTED)


@lru_cache(maxsize=1 << 16)
def _flowing(key: _Key, entering: float) -> tuple[float, _Counts]:
    """Return the variance that leaves a segment, and counts of its paths weighted by the variance of each.

    A layer with weights gives variance 1, sums add variances, an average over n pixels keeps a half and
    1/2n of it, concatenations have that of their mean.
    """
    states: list[tuple[float, _Counts]] = []
    for role, sources in key:
        letter = role[0]
        if len(sources) == 1:
            source = sources[0]
            variance, counts = states[source] if source >= 0 else (entering, _ZEROS)
        else:
            read = [states[source] if source >= 0 else (entering, _ZEROS) for source in sources]
            variance = sum([state[0] for state in read])
            counts = [
                sum([state[0] / variance * value for state, value in zip(read, column, strict=True)])
                for column in zip(*[state[1] for state in read], strict=True)
            ]
            if letter == "|":
                variance /= len(read)
        if letter in "cdpl":
            variance = 1.0
        elif letter == "a":
            variance *= 0.5 + 0.5 / int(role[1:].partition("/")[0]) ** 2
        states.append((variance, [a + b for a, b in zip(counts, _flags(role), strict=True)]))
    return states[-1]


def _of_paths(layers: Sequence[Layer], segments: Sequence[tuple[_Key, int, int]]) -> list[float]:
    mean, least, most, flow = (list(_ZEROS) for _ in range(4))
    log_paths = variance = 0.0
    entering, step = 1.0, 1.0
    branching = 0
    keys = set()
    reach = _COUNTED.index("reach")
    for key, start, end in segments:
        measured = _measured(key)
        entering, flowing = _flowing(key, entering)
        for total, added in (
            (mean, measured.mean),
            (least, measured.least),
            (most, measured.most),
            (flow, flowing),
        ):
            for place, value in enumerate(added):
                total[place] += value * step if place == reach else value
        log_paths += math.log(measured.paths)
        variance += measured.variance
        if measured.paths > 1:
            branching += 1
            keys.add(key)
        for layer in layers[start : end + 1]:
            if "/" in layer.kind.role:
                step *= max(layer.kind.strides)
                break
    image = max(layers[0].size[1] * max(layers[0].kind.strides, default=1), 1)
    for total in (mean, least, most, flow):
        total[reach] = math.log((1 + total[reach]) / image)
    bounded = [*range(_BOUNDED), reach]
    length, flow_length = max(mean[-1], 1.0), max(flow[-1], 1.0)
    return [
        *mean,
        *[least[place] for place in bounded],
        *[most[place] for place in bounded],
        *flow,
        math.sqrt(variance),
        log_paths,
        mean[0] / length,
        mean[1] / length,
        mean[3] / length,
        mean[4] / length,
        flow[0] / flow_length,
        flow[3] / flow_length,
        most[0] - least[0],
        most[1] - least[1],
        least[0] / max(most[0], 1.0),
        float(len(layers)),
        float(len(segments)),
        float(branching),
        len(keys) / max(branching, 1),
    ]


def _of_cells(layers: Sequence[Layer], segments: Sequence[tuple[_Key, int, int]]) -> list[float]:
    cells = [measured for key, _, _ in segments if len(key) > 1 and (measured := _measured(key)).paths > 1]
    count = max(len(cells), 1)

    def mean(values: list[float]) -> float:
        return sum(values) / count

    found = []
    for place in range(_BOUNDED):
        found.append(mean([cell.mean[place] for cell in cells]))
        found.append(mean([cell.least[place] for cell in cells]))
        found.append(mean([cell.most[place] for cell in cells]))
    found.append(mean([cell.mean[-1] for cell in cells]))
    found.append(mean([math.log(cell.paths) for cell in cells]))
    found.append(mean([math.sqrt(cell.variance) for cell in cells]))
    found.append(mean([cell.skips for cell in cells]))
    return [*found, *[mean([cell.counts.get(role, 0) for cell in cells]) for role in _CELL_ROLES]]


def _of_counts(layers: Sequence[Layer]) -> list[float]:
    counts = dict.fromkeys(_ALL_ROLES, 0)
    for layer in layers:
        letter = layer.kind.role[0]
        counts[letter] = counts.get(letter, 0) + 1
    windowed = counts["c"] + counts["d"]
    pools = counts["m"] + counts["a"]
    work = max(windowed + counts["p"] + pools, 1)
    return [
        *[float(counts[role]) for role in _ALL_ROLES],
        windowed / work,
        counts["p"] / work,
        pools / work,
        math.log((pools + 1) / (windowed + 1)),
        math.log((counts["p"] + 1) / (windowed + 1)),
        windowed / max(counts["+"] + counts["|"], 1),
    ]


def _of_work(layers: Sequence[Layer], segments: Sequence[tuple[_Key, int, int]]) -> list[float]:
    weighted = [layer for layer in layers if layer.kind.channels]
    dense = [layer for layer in weighted if layer.kind.role[0] == "c"]
    params = sum([layer.params for layer in weighted])
    macs = sum([layer.macs for layer in weighted])
    total_params, total_macs = max(params, 1), max(macs, 1)
    width = _widths(layers, segments)
    stages = dict.fromkeys(width, 0.0)
    dense_work = cells_work = cell_capacity = 0.0
    relative: list[float] = []
    relative_dense: list[float] = []
    work_of: list[float] = []
    for layer in layers:
        kind = layer.kind
        done = 0.0
        if kind.channels and kind.kernel:
            height = layer.size[1]
            here = width[height]
            done = kind.area * kind.weight_inputs * kind.channels / (9 * here * here)
            stages[height] += done
            relative.append(math.log(kind.channels / here))
            if kind.role[0] == "c":
                dense_work += done
                relative_dense.append(relative[-1])
        work_of.append(done)
    branching = 0
    for key, start, end in segments:
        if len(key) > 1 and _measured(key).paths > 1:
            done = sum(work_of[start : end + 1])
            branching += 1
            cells_work += done
            cell_capacity += math.log1p(done)
    highest = max(layer.size[1] for layer in layers)
    at_macs, at_convolutions = [0.0] * _STAGES, [0.0] * _STAGES
    step = 1
    for layer in weighted:
        stage = min(_STAGES - 1, max(0, round(math.log2(highest / max(layer.size[1], 1)))))
        at_macs[stage] += layer.macs
        at_convolutions[stage] += layer.kind.role[0] in "cd"
    for layer in layers:
        step = max(step, highest // max(layer.size[1], 1) if layer.size[1] > 1 else 1)
    convolutions = max(sum(at_convolutions), 1)
    channels = [math.log(max(layer.size[0], 1)) for layer in weighted] or [0.0]
    stage_work = [work for work in stages.values() if work]
    return [
        math.log1p(params),
        math.log1p(macs),
        math.log(total_macs / total_params),
        sum([layer.macs for layer in dense]) / total_macs,
        sum([layer.macs for layer in weighted if layer.kind.role[0] == "d"]) / total_macs,
        sum([layer.params for layer in dense]) / total_params,
        math.log(0.1 + sum(stage_work)),
        math.log(0.1 + dense_work),
        math.log(0.1 + min(stage_work, default=0.0)),
        cell_capacity / max(branching, 1),
        math.log1p(cells_work),
        sum(channels) / len(channels),
        channels[0],
        max(channels[:-1], default=channels[0]),
        sum(relative) / max(len(relative), 1),
        sum(relative_dense) / max(len(relative_dense), 1),
        math.log2(step),
        *[
            value
            for pair in zip(
                [macs_here / total_macs for macs_here in at_macs],
                [count / convolutions for count in at_convolutions],
                strict=True,
            )
            for value in pair
        ],
    ]


def _widths(layers: Sequence[Layer], segments: Sequence[tuple[_Key, int, int]]) -> dict[int, int]:
    """Return for each height the channels that go through a cut there, or else the most that there are."""
    widest: dict[int, int] = {}
    for layer in layers:
        channels, height, _ = layer.size
        widest[height] = max(widest.get(height, 1), channels)
    cut: dict[int, int] = {}
    for _, _, end in segments:
        channels, height, _ = layers[end].size
        cut[height] = max(cut.get(height, 1), channels)
    return widest | cut


_CORRELATION = 0.1


def _of_signals(layers: Sequence[Layer]) -> list[float]:
    """Return what becomes of two inputs, and of gradients, in an infinitely wide network.

    A layer with weights normalizes variance to 1 and adds its own share to the tangent kernel; activations
    count as rectifiers (Cho and Saul 2009; Jacot et al. 2018); branches that are added are independent.
    """
    states: list[tuple[float, float, float, float]] = []  # variance, covariance; the kernel of one, of two
    start = (1.0, _CORRELATION, 0.0, 0.0)
    for layer in layers:
        letter = layer.kind.role[0]
        sources = layer.sources
        if len(sources) == 1:
            state = states[sources[0]] if sources[0] >= 0 else start
        else:
            read = [states[source] if source >= 0 else start for source in sources]
            scale = 1 / len(read) if letter == "|" else 1.0
            state = tuple([scale * sum(column) for column in zip(*read, strict=True)])
        variance, covariance, one, two = state
        if letter in "cdpl":
            correlation = covariance / variance
            state = (1.0, correlation, 1 + one / variance, correlation + two / variance)
        elif letter == "r":
            angle = math.acos(min(1.0, max(-1.0, covariance / variance)))
            sine, cosine = math.sin(angle), math.cos(angle)
            state = (
                variance,
                variance * (sine + (math.pi - angle) * cosine) / math.pi,
                one,
                two * (math.pi - angle) / math.pi,
            )
        elif letter in "ag":
            kept = 0.5 + 0.5 / max(layer.kind.area, 1) if letter == "a" else 0.5
            state = (
                covariance + (variance - covariance) * kept,
                covariance,
                two + (one - two) * kept,
                two,
            )
        states.append(state)
    variance, covariance, one, two = states[-1]
    return [
        covariance / variance,
        math.log(one / variance + 1e-9),
        two / max(one, 1e-9),
        math.log(max(one - two, 0.0) / variance + 1e-9),
    ]


def of_texts(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the features of texts, a row each.

    Raises:
        TextError: a text is broken.
    """
    return np.array([features(of_text(text)) for text in texts], dtype=np.float32).reshape(-1, len(NAMES))


def of_network(model: ModelProto) -> NDArray[np.float32]:
    """Return the features of a model.

    Raises:
        UnsupportedModelError: the model is too large or broken.
    """
    return np.array(features(of_model(model)), dtype=np.float32)
