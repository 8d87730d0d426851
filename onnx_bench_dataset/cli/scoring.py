"""What `proxies` tells of a model; PyTorch is loaded here, which no other command waits for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from onnx import ModelProto
from rich.table import Table

if TYPE_CHECKING:
    from onnx_bench_dataset.proxies import Proxy

Progress = Callable[[Sequence["Proxy"]], Iterable["Proxy"]]


def scored(
    model: ModelProto, names: Sequence[str] | None, batch: int, seed: int, device: str, progress: Progress
) -> dict[str, float | None]:
    """Return the score of each proxy; None where a network has no such score.

    Raises:
        OnnxBenchError: PyTorch is not installed, a proxy is unknown, or the model cannot be scored.
    """
    from onnx_bench_dataset.proxies import Subject, find
    from onnx_bench_dataset.training import torch_module

    chosen = find(names or None)
    subject = Subject(torch_module(model, seed), batch, seed, device)
    found = {proxy.name: proxy.score(subject) for proxy in progress(chosen)}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def scores_table(found: Mapping[str, float | None]) -> Table:
    """Return the table that shows scores."""
    table = Table()
    table.add_column("proxy")
    table.add_column("score", justify="right")
    for name, value in found.items():
        shown = "none" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"
        table.add_row(name, shown)
    return table
