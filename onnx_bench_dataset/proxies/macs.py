"""macs: the multiply-accumulates of one run."""

from __future__ import annotations

from onnx_bench_dataset.graphs.measures import measure_graph
from onnx_bench_dataset.proxies.subject import Proxy, Subject


def macs(subject: Subject) -> float:
    """Return the multiply-accumulates of convolutions and linear layers, at the batch size of the file."""
    return float(measure_graph(subject.module.graph).macs)


PROXY = Proxy("macs", "", macs, cheap=True)
