"""ONNX graphs, ours or anyone's: build, simplify, measure, hash, fill with weights, run."""

from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.graphs.canonical import graph_hash
from onnx_bench_dataset.graphs.measures import Measures, measures
from onnx_bench_dataset.graphs.run import run
from onnx_bench_dataset.graphs.simplify import simplify
from onnx_bench_dataset.graphs.weights import fill_weights

__all__ = ["GraphBuilder", "Measures", "fill_weights", "graph_hash", "measures", "run", "simplify"]
