"""Features of what becomes of signals and gradients in a network of infinite width."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_bench_dataset.surrogates.layers import Layer
from onnx_bench_dataset.surrogates.segments import LARGEST_VARIANCE

_CORRELATION = 0.1
_ROUNDING = 1e-9

_State = tuple[float, float, float, float]
"""Variance of an input and covariance of two; the tangent kernel of one and of the two."""


def of_signals(layers: Sequence[Layer], letters: Sequence[str]) -> list[float]:
    """Return what becomes of two inputs, and of gradients, in an infinitely wide network.

    A layer with weights normalizes variance to 1 and adds its own share to the tangent kernel; activations
    count as rectifiers (Cho and Saul 2009; Jacot et al. 2018); branches that are added are independent.
    """
    states: list[_State] = []
    start = (1.0, _CORRELATION, 0.0, 0.0)
    pi, acos, sqrt = math.pi, math.acos, math.sqrt
    for layer, letter in zip(layers, letters, strict=True):
        sources = layer[1]
        if len(sources) == 1:
            source = sources[0]
            variance, covariance, one, two = states[source] if source >= 0 else start
        else:
            variance, covariance, one, two = _joined(
                [states[source] if source >= 0 else start for source in sources],
                1 / len(sources) if letter == "|" else 1.0,
            )
        if letter in "cdpl":
            correlation = covariance / variance
            one, two = 1 + one / variance, correlation + two / variance
            variance, covariance = 1.0, correlation
        elif letter == "r":
            cosine = covariance / variance
            if cosine < 1:
                rest = pi - acos(cosine)
                covariance = variance * (sqrt(1 - cosine * cosine) + rest * cosine) / pi
                two = two * rest / pi
        elif letter in "ag":
            kept = 0.5 + 0.5 / layer[0].area if letter == "a" else 0.5
            variance = covariance + (variance - covariance) * kept
            one = two + (one - two) * kept
        states.append((variance, covariance, one, two))
    variance, covariance, one, two = states[-1]
    return [
        covariance / variance,
        math.log(one / variance + _ROUNDING),
        two / max(one, _ROUNDING),
        math.log(max(one - two, 0.0) / variance + _ROUNDING),
    ]


def _joined(states: Sequence[_State], share: float) -> _State:
    variance, covariance, one, two = [share * sum(column) for column in zip(*states, strict=True)]
    if variance > LARGEST_VARIANCE:  # what counts are ratios
        share = LARGEST_VARIANCE / variance
        return LARGEST_VARIANCE, covariance * share, one * share, two * share
    return variance, covariance, one, two
