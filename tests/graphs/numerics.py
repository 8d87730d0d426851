"""What the tests of rewrites share: two models must compute the same numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_bench_dataset.graphs.run import random_inputs, run


def assert_numerically_equal(
    one: ModelProto,
    two: ModelProto,
    tolerance: float = 1e-4,
    inputs: Mapping[str, NDArray[np.generic]] | None = None,
) -> None:
    """Run both on the same inputs; every output must agree to `tolerance`, relative to its largest number."""
    feeds = random_inputs(one, seed=5) if inputs is None else inputs
    before, after = run(one, feeds), run(two, feeds)
    assert len(before) == len(after)
    for expected, actual in zip(before, after, strict=True):
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
        largest = max(1e-6, float(np.abs(expected).max(initial=0)))
        difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max(initial=0)
        assert difference <= tolerance * largest, f"{difference} apart where the largest is {largest}"
