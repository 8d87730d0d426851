"""Search spaces: architecture strings and the ONNX graphs that they stand for."""

from onnx_bench_dataset.errors import UnknownNameError
from onnx_bench_dataset.spaces.nasbench101 import NASBench101
from onnx_bench_dataset.spaces.nasbench201 import NASBench201
from onnx_bench_dataset.spaces.space import Space

SPACES: dict[str, Space] = {space.name: space for space in (NASBench101(), NASBench201())}
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
