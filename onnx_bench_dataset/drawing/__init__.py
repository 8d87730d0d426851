"""Pictures of architectures and networks; needs the extra `draw`.

`Space.diagram` says what the picture of an architecture shows, `network_diagram` that of any other network,
by its text; `draw` makes a PNG or SVG file of either.
"""

from onnx_bench_dataset.drawing.diagram import Diagram, Edge, Kind, Node, Panel, chain
from onnx_bench_dataset.drawing.figure import FORMATS, draw
from onnx_bench_dataset.drawing.network import network_diagram

__all__ = ["FORMATS", "Diagram", "Edge", "Kind", "Node", "Panel", "chain", "draw", "network_diagram"]
