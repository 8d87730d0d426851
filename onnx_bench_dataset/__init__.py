"""onnx-bench: every public NAS benchmark as rows of {ONNX graph, text, accuracy}."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from onnx_bench_dataset.errors import OnnxBenchError
from onnx_bench_dataset.loading import load_dataset, load_onnx, load_row

if TYPE_CHECKING:
    from onnx_bench_dataset.surrogates.prediction import predict

__version__ = version("onnx-bench-dataset")

__all__ = ["OnnxBenchError", "__version__", "load_dataset", "load_onnx", "load_row", "predict"]


def __getattr__(name: str) -> Any:
    """Import `predict` when it is asked for: what only loads rows need not wait for it."""
    if name == "predict":
        from onnx_bench_dataset.surrogates.prediction import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
