"""Zero-cost proxies as predictors: scores of untrained networks, one proxy each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from onnx_bench_dataset.proxies import find, scores
from onnx_bench_dataset.surrogates.baselines import Unlearned

_BATCH = 16


class ZeroCost(Unlearned):
    """The score of one proxy on 16 inputs of noise; a network that has none counts as the worst."""

    summary = "a zero-cost proxy on a batch of noise"
    columns = ("onnx",)

    def __init__(self, proxy: str) -> None:
        """Take the name of a proxy.

        Raises:
            UnknownNameError: there is none of that name.
        """
        find([proxy])
        self.name = proxy

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Score graphs one by one; PyTorch computes them."""
        contents = tqdm(
            networks["onnx"].to_pylist(), desc=self.name, unit=" networks", disable=None, leave=False
        )
        found = np.array(
            [
                scores(onnx.load_model_from_string(content), [self.name], batch=_BATCH)[self.name]
                for content in contents
            ]
        )
        known = np.isfinite(found)
        worst = found[known].min() if known.any() else 0.0
        return np.where(known, found, worst)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the name of the proxy."""
        return {"proxy": self.name}, {}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Take the name of the proxy."""
        return cls(str(settings["proxy"]))
