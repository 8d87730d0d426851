"""Showing a network: in netron, or as a picture."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from onnx_bench_dataset.cli.files import read_model, weights_as_inputs
from onnx_bench_dataset.drawing import Diagram, network_diagram
from onnx_bench_dataset.errors import ArchitectureError, LoadError
from onnx_bench_dataset.graphs import fill_weights, simplify
from onnx_bench_dataset.graphs.graph import Graph
from onnx_bench_dataset.graphs.inference import infer_types
from onnx_bench_dataset.loading import load_onnx, load_row
from onnx_bench_dataset.spaces import SPACES
from onnx_bench_dataset.text import encode


def find_model(network: str, data: str) -> ModelProto:
    """Return the model of an ONNX file, or that of a row of a data set, by its id."""
    if _is_file(network):
        return read_model(network, weights=True)
    return load_onnx(_find_row(network, data))


def find_diagram(network: str, data: str, whole: bool) -> Diagram:
    """Return what a picture shows of an ONNX file, or of a row of a data set, by its id.

    A row's architecture is drawn as its space describes it, unless the `whole` network is asked for.
    """
    if _is_file(network):
        return network_diagram(encode(weights_as_inputs(read_model(network, weights=False))))
    row = _find_row(network, data)
    if not whole and row["space"] in SPACES:
        try:
            return SPACES[row["space"]].diagram(row["architecture"])
        except ArchitectureError:  # of a file that was imported, which may call its network anything
            pass
    return network_diagram(row["text"])


def _find_row(id: str, data: str) -> dict[str, Any]:
    try:
        return load_row(id, data)
    except LoadError as error:
        raise LoadError(
            f"{error}. Build the data set with `make dataset`, or name its folder with --data"
        ) from error


def _is_file(network: str) -> bool:
    return network.endswith(".onnx") or Path(network).is_file()


def file_name(network: str, training: bool) -> str:
    """Return how the file for viewing a network is called."""
    if _is_file(network):
        return f"{Path(network).stem}-{'training' if training else 'inference'}.onnx"
    return f"{network.replace('/', '-')}{'-training' if training else ''}.onnx"


def for_viewing(model: ModelProto, training: bool, seed: int) -> ModelProto:
    """Return a model that says the shape of every value; weights that are inputs get values.

    Weights with values stand in the boxes of a viewer; as inputs each would be a box of its own.
    """
    shown = fill_weights(model if training else simplify(model), seed=seed)
    inferred = infer_types(Graph.from_model(shown))
    outputs = {value.name for value in shown.graph.output}
    known = {n: t for n, t in inferred.items() if n not in outputs and t.WhichOneof("value") is not None}
    declared = [value for value in shown.graph.value_info if value.name not in known]
    del shown.graph.value_info[:]
    shown.graph.value_info.extend(declared)
    shown.graph.value_info.extend(onnx.helper.make_value_info(name, kind) for name, kind in known.items())
    return shown


def find_obstacle() -> str | None:
    """Say why no viewer can be opened here, or None when one can."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no screen here"
    try:
        webbrowser.get()
    except webbrowser.Error:
        return "there is no browser here"
    if importlib.util.find_spec("netron") is None:
        return "netron is not installed here"
    return None


def view(name: str, content: bytes) -> None:
    """Open a model until Ctrl-C; from a folder of its own, as netron serves all that lies beside it."""
    netron = importlib.import_module("netron")
    with tempfile.TemporaryDirectory(prefix="onnx-bench-") as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        netron.start(str(path))  # serves from a thread
        netron.wait()
