"""The end that the cell spaces share: global average pooling and one linear layer."""

from functools import lru_cache

from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.graphs.parts import Part, Shape


@lru_cache(maxsize=64)
def classifier(shape: Shape, num_classes: int) -> Part:
    """Pool features N×C×H×W over the image and map them to logits N×num_classes."""

    def write(g: GraphBuilder) -> str:
        x = g.op("GlobalAveragePool", g.input, name="global_pooling")
        x = g.op("Flatten", x, name="flatten", axis=1)
        weight = g.weight("classifier.weight", num_classes, shape[1])
        bias = g.weight("classifier.bias", num_classes)
        return g.op("Gemm", x, weight, bias, name="classifier", alpha=1.0, beta=1.0, transB=1)

    return Part(write, shape)
