"""Search spaces: architecture strings and the ONNX graphs that they stand for."""

from onnx_bench_dataset.errors import UnknownNameError
from onnx_bench_dataset.spaces.digits import Digits
from onnx_bench_dataset.spaces.einspace import Einspace
from onnx_bench_dataset.spaces.hnasbench201 import HNASBench201
from onnx_bench_dataset.spaces.nasbench101 import NASBench101
from onnx_bench_dataset.spaces.nasbench201 import NASBench201
from onnx_bench_dataset.spaces.nasbench301 import NASBench301
from onnx_bench_dataset.spaces.nasbench_macro import NASBenchMacro
from onnx_bench_dataset.spaces.natsbench_size import NATSBenchSize
from onnx_bench_dataset.spaces.space import Space
from onnx_bench_dataset.spaces.transnasbench101 import TransNASBench101

SPACES: dict[str, Space] = {
    space.name: space
    for space in (
        NASBench101(),
        NASBench201(),
        NATSBenchSize(),
        NASBench301(),
        HNASBench201(),
        Einspace(),
        NASBenchMacro(),
        TransNASBench101(),
        Digits(),
    )
}
"""Every space by name."""


def get(name: str) -> Space:
    """Return a space by name.

    >>> get("nasbench201").family
    'nasbench201'
    """
    try:
        return SPACES[name]
    except KeyError:
        raise UnknownNameError(f"no search space is called {name!r}; there are {', '.join(SPACES)}") from None


__all__ = ["SPACES", "Space", "get"]
