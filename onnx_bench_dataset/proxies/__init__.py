"""Zero-cost proxies: what initial weights tell of a network's accuracy; needs the extra `torch`."""

from onnx_bench_dataset import training
from onnx_bench_dataset.proxies.registry import PROXIES, find, scores
from onnx_bench_dataset.proxies.subject import Proxy, Subject

MissingTorchError = training.MissingTorchError

__all__ = ["PROXIES", "MissingTorchError", "Proxy", "Subject", "find", "scores"]
