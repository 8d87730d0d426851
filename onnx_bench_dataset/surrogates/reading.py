"""A network however it is given: an ONNX model, a file of one, or a PyTorch module that is exported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from onnx_bench_dataset.errors import OnnxBenchError, UnsupportedModelError
from onnx_bench_dataset.graphs.functions import inline_functions
from onnx_bench_dataset.graphs.shapes import tensor_type
from onnx_bench_dataset.surrogates.features import of_network

if TYPE_CHECKING:
    import torch

_IMAGE = (1, 3, 32, 32)


def read(network: ModelProto | Path | str | torch.nn.Module, example: Any = None) -> ModelProto:
    """Return the ONNX model of a network; weights that a file keeps elsewhere stay there.

    Args:
        network: the model, the path of its file, or a PyTorch module.
        example: what a PyTorch module reads: a tensor, or a tuple of its arguments; without it one image of
            3×32×32.

    Raises:
        UnsupportedModelError: it is no such thing, or cannot be exported.
        OSError: the file cannot be read.
    """
    if isinstance(network, ModelProto):
        return network
    if isinstance(network, str | Path):
        return parse(Path(network).read_bytes(), str(network))
    torch_ = sys.modules.get("torch")
    if torch_ is None or not isinstance(network, torch_.nn.Module):
        raise UnsupportedModelError(
            "a network is an ONNX model, the path of its file or a PyTorch module, and not of type "
            f"{type(network).__name__}"
        )
    return _exported(network, example)


def parse(content: bytes, name: str) -> ModelProto:
    """Return the model of a file's content.

    Raises:
        UnsupportedModelError: it is none; the message calls it `name`.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise UnsupportedModelError(f"{name} is not an ONNX model: {error}") from error
    if not model.graph.output:
        raise UnsupportedModelError(f"{name} is not an ONNX model: it holds no graph with an output")
    return model


def features_of_model(model: ModelProto) -> NDArray[np.float32]:
    """Return the features of a model, in the order of `features.NAMES`.

    Raises:
        UnsupportedModelError: the model is broken or too large, or has dynamic shapes.
    """
    _check_shapes(model)
    try:
        found = of_network(inline_functions(model) if model.functions else model)
    except OnnxBenchError:
        raise
    except Exception as error:  # a file that breaks the rules of ONNX finds faults in anything that reads it
        raise UnsupportedModelError(
            f"the model breaks the rules of ONNX, see onnx.checker: {type(error).__name__}: {error}"
        ) from error
    if not np.isfinite(found).all():
        raise UnsupportedModelError("the model has more paths from input to output than can be counted")
    return found


def _check_shapes(model: ModelProto) -> None:
    """Refuse a model that does not say how large its images are; how many there are does not matter."""
    weights = {tensor.name for tensor in model.graph.initializer}
    given = next((value for value in model.graph.input if value.name not in weights), None)
    if given is not None and not _is_static(given):
        shape = tensor_type(given.type).shape
        shown = "no shape" if shape is None else f"the shape {'×'.join(str(size or '?') for size in shape)}"
        raise UnsupportedModelError(
            f"the model has dynamic shapes: its input {given.name!r} has {shown}. Export it without dynamic "
            "shapes, or fix them: python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name "
            f"{given.name!r} --input_shape 1,3,32,32 MODEL.onnx FIXED.onnx"
        )


def _is_static(value: ValueInfoProto) -> bool:
    shape = tensor_type(value.type).shape
    return shape is not None and all(isinstance(size, int) for size in shape[1:])


def _exported(module: torch.nn.Module, example: Any) -> ModelProto:
    """Export a PyTorch module as it is when it is used, and leave it as it was."""
    import torch

    arguments = torch.zeros(_IMAGE) if example is None else example
    training = {each: each.training for each in module.modules()}
    try:
        module.eval()
        with torch.no_grad():
            program = torch.onnx.export(
                module,
                arguments if isinstance(arguments, tuple) else (arguments,),
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        model: ModelProto = program.model_proto
    except Exception as error:  # whatever the exporter raises, or the module itself
        cause: BaseException = error
        while cause.__cause__ is not None:  # the exporter says at length that it failed, its cause says why
            cause = cause.__cause__
        shown = "" if example is not None else f" for one image of {'×'.join(map(str, _IMAGE[1:]))}"
        reason = f"{type(cause).__name__}: {str(cause).strip().removesuffix('.')[:500]}"
        raise UnsupportedModelError(
            f"the module cannot be exported{shown}: {reason}. Give an example of what it reads, see "
            "torch.onnx.export"
        ) from error
    finally:
        for each, mode in training.items():
            each.training = mode
    return model
