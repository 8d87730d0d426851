"""ONNX graphs as PyTorch modules, to be scored and trained; needs the extra `torch`."""

from onnx_bench_dataset.errors import OnnxBenchError


class MissingTorchError(OnnxBenchError, ImportError):
    """PyTorch, which is an extra of this package, is not installed."""


try:
    from onnx_bench_dataset.training.module import GraphModule, torch_module
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingTorchError(
        "running a graph in PyTorch needs torch: pip install 'onnx-bench-dataset[torch]'"
    ) from error

__all__ = ["GraphModule", "MissingTorchError", "torch_module"]
