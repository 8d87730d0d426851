"""Numbers about a network that mean the same in every search space; `FEATURES` says what each is.

They are of the layers that carry something from the input to the output. A network is cut wherever all paths
pass through one value: between two cuts lies a *segment*, a cell for instance, and one with several paths is
a *branching* segment. Statistics of paths add up over segments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_bench_dataset.surrogates.feature_table import BOUNDED, CELL_ROLES, COUNTED, FEATURES, NAMES
from onnx_bench_dataset.surrogates.layers import Layer, of_model, of_text
from onnx_bench_dataset.surrogates.segments import (
    LEAST_VARIANCE,
    Counts,
    Segment,
    Stretch,
    flow,
    step_of,
    stretches_of,
)
from onnx_bench_dataset.surrogates.signals import of_signals
from onnx_bench_dataset.surrogates.work import of_counts, of_work

__all__ = ["FEATURES", "NAMES", "features", "of_network", "of_texts"]

_REACH = COUNTED.index("reach")
_MOST_STEP = 2.0**40  # pixels of the input from one pixel of a layer to the next


def features(layers: Sequence[Layer]) -> list[float]:
    """Return the features of a network by its layers, in the order of `FEATURES`; all are finite.

    Those of a network without layers are all 0.
    """
    if not layers:
        return [0.0] * len(NAMES)
    letters = [layer[0].role[0] for layer in layers]
    stretches = stretches_of(layers)
    return [
        *_of_paths(layers, stretches),
        *_of_cells([segment for segment, start, end in stretches if segment is not None and end > start + 1]),
        *of_counts(letters),
        *of_work(layers, stretches),
        *of_signals(layers, letters),
    ]


def _of_paths(layers: Sequence[Layer], stretches: Sequence[Stretch]) -> list[float]:
    shared = [0.0] * len(COUNTED)  # what is alike on all paths
    mean, least, most, flowing = (list(shared) for _ in range(4))
    log_paths = variance = 0.0
    entering, step = 1.0, 1.0
    branching = 0
    distinct = set()
    for segment, start, _ in stretches:
        if segment is None:
            kind = layers[start][0]
            passed = step_of(kind.role)
            _add(shared, passed.adds, step)
            entering = max(passed.offset + passed.scale * entering, LEAST_VARIANCE)
            strides = kind.strides if passed.is_strided else ()
        else:
            entering, flowed = flow(segment, entering)
            _add(mean, segment.mean, step)
            _add(least, segment.least, step)
            _add(most, segment.most, step)
            _add(flowing, flowed, step)
            log_paths += segment.log_paths
            variance += segment.variance
            if segment.log_paths:
                branching += 1
                distinct.add(segment)
            strides = layers[start + segment.strided][0].strides if segment.strided >= 0 else ()
        if strides:
            step = min(step * max(strides), _MOST_STEP)
    kind, _, (_, height, _), *_ = layers[0]
    image = max(height * max(kind.strides, default=1), 1)
    for total in (mean, least, most, flowing):
        _add(total, shared, 1.0)
        total[_REACH] = math.log((1 + total[_REACH]) / image)
    bounded = [*range(BOUNDED), _REACH]
    length, flow_length = max(mean[-1], 1.0), max(flowing[-1], 1.0)
    return [
        *mean,
        *[least[place] for place in bounded],
        *[most[place] for place in bounded],
        *flowing,
        math.sqrt(variance),
        log_paths,
        mean[0] / length,
        mean[1] / length,
        mean[3] / length,
        mean[4] / length,
        flowing[0] / flow_length,
        flowing[3] / flow_length,
        most[0] - least[0],
        most[1] - least[1],
        least[0] / max(most[0], 1.0),
        float(len(layers)),
        float(len(stretches)),
        float(branching),
        len(distinct) / max(branching, 1),
    ]


def _add(total: list[float], counts: Counts, step: float) -> None:
    """Add counts of paths, whose windows reach over pixels that are `step` pixels of the input apart."""
    a, b, c, d, e, reach, g = counts
    total[0] += a
    total[1] += b
    total[2] += c
    total[3] += d
    total[4] += e
    total[5] += reach * step
    total[6] += g


def _of_cells(segments: Sequence[Segment]) -> list[float]:
    cells = [segment for segment in segments if segment.log_paths]
    count = max(len(cells), 1)

    def mean(of: Callable[[Segment], float]) -> float:
        return sum([of(cell) for cell in cells]) / count

    means, leasts, mosts = (
        [sum(column) / count for column in zip(*rows, strict=True)] or [0.0] * len(COUNTED)
        for rows in (
            [cell.mean for cell in cells],
            [cell.least for cell in cells],
            [cell.most for cell in cells],
        )
    )
    return [
        *[value for triple in zip(means, leasts, mosts, strict=True) for value in triple][: 3 * BOUNDED],
        means[-1],
        mean(lambda cell: cell.log_paths),
        mean(lambda cell: math.sqrt(cell.variance)),
        mean(lambda cell: cell.skips),
        *[sum([cell.letters.count(role) for cell in cells]) / count for role in CELL_ROLES],
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
