"""Drawing a diagram with matplotlib, as a PNG or SVG file.

Only its Agg or SVG canvas is used, without pyplot and axes: a picture takes some hundredths of a second, and
the same diagram gives the same bytes.
"""

from __future__ import annotations

import importlib
import io
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from onnx_bench_dataset.drawing.diagram import Diagram, Edge, Kind, Node, Panel
from onnx_bench_dataset.drawing.layout import Layout, Point, Route, Size, arrange
from onnx_bench_dataset.drawing.shapes import Shape, arrow, darker, line, rounded
from onnx_bench_dataset.errors import OnnxBenchError, UnsupportedModelError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")

LEAST_SIDE, MOST_SIDE = 512, 1600
"""Pixels of a picture's longer side: a network of many operations gets a larger picture."""

MAX_NODES = 1_500
"""Nodes and edges with a label that a picture may have."""

# Lengths are in pixels of a picture drawn at scale 1, in which y points downwards.
_FAMILY = "DejaVu Sans"  # which comes with matplotlib
_FONT = 11.0
_NODE_HEIGHT = 20.0
_PADDING = 7.0  # left and right of a label
_NARROWEST, _WIDEST = 100.0, 260.0  # nodes whose width means something
_MARGIN = 10.0
_PANEL_MARGIN = 12.0
_TITLE_HEIGHT = 20.0
_PANEL_GAP = 12.0
_LEGEND_LINE = 18.0
_SWATCH = 12.0
_DPI = 100
_LARGEST_SCALE = 1.5
_TRIES = 24  # of how panels are put in rows

_TEXT_COLOUR = "#222222"
_LINE_COLOUR = "#777777"
_FRAME_COLOUR = "#d0d0d0"
_FADED_COLOUR = "#c8c8c8"
_COLOURS = 256  # of a PNG file

_ALONE = threading.Lock()  # threads share matplotlib's settings and fonts


def draw(diagram: Diagram, form: str = "png") -> bytes:
    """Return the content of a picture file.

    Args:
        diagram: what to draw.
        form: one of `FORMATS`.

    Raises:
        OnnxBenchError: matplotlib is not installed, or there is no such format.
        UnsupportedModelError: the diagram is too large for a picture that can be read.
    """
    if form not in FORMATS:
        raise OnnxBenchError(f"pictures are drawn as {' or '.join(FORMATS)}, not as {form!r}")
    count = sum(len(panel.nodes) + sum(bool(edge.label) for edge in panel.edges) for panel in diagram.panels)
    if count > MAX_NODES:
        raise UnsupportedModelError(
            f"a picture of {count:,} operations cannot be read: at most {MAX_NODES:,} are drawn, blocks that "
            "repeat once; `onnx-bench show` opens the network in netron"
        )
    _check_matplotlib()
    from matplotlib import rc_context

    # what must not depend on the settings of whoever draws
    settings = rc_context(
        {
            "font.family": [_FAMILY],
            "text.hinting": "none",  # so that a text is as wide as measured
            "text.usetex": False,
            "svg.fonttype": "path",
            "svg.hashsalt": "onnx-bench",
        }
    )
    with _ALONE, settings:
        figure = _Picture(diagram).figure()
        return _svg(figure) if form == "svg" else _png(figure)


def _check_matplotlib() -> None:
    try:
        importlib.import_module("matplotlib.backends.backend_agg")
    except ImportError as error:
        raise OnnxBenchError(
            "pictures are drawn with matplotlib, which is not installed: "
            "pip install 'onnx-bench-dataset[draw]'"
        ) from error


def _svg(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def _png(figure: Figure) -> bytes:
    """Return a PNG file of few colours, which is a third as large."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    image = Image.frombuffer("RGBA", canvas.get_width_height(), pixels).convert("RGB")
    content = io.BytesIO()
    image.quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        content, "png", compress_level=6
    )
    return content.getvalue()


class _Box(NamedTuple):
    """A node as it is drawn, with its size; circles stand for values and for short operations."""

    label: str
    kind: Kind
    size: Size
    is_circle: bool
    is_on_edge: bool


class _DrawnPanel(NamedTuple):
    """A panel that is laid out: its boxes, its lines with their kinds, and its size with frame and title."""

    title: str
    boxes: Sequence[_Box]
    layout: Layout
    kinds: Sequence[Kind]
    has_arrow: Sequence[bool]
    size: Size


@lru_cache(maxsize=4096)
def _text_width(text: str) -> float:
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from matplotlib.ft2font import LoadFlags

    font = get_font(findfont(FontProperties(family=_FAMILY)))
    font.set_size(_FONT, 72)
    font.set_text(text, flags=LoadFlags.NO_HINTING)
    return float(font.get_width_height()[0]) / 64


def _node_box(node: Node) -> _Box:
    is_circle = len(node.label) <= 2
    if is_circle:
        return _Box(node.label, node.kind, Size(_NODE_HEIGHT, _NODE_HEIGHT), True, False)
    wide = _NARROWEST + (_WIDEST - _NARROWEST) * node.width if node.width else 0.0
    width = max(_text_width(node.label) + 2 * _PADDING, wide)
    return _Box(node.label, node.kind, Size(width, _NODE_HEIGHT), False, False)


def _edge_box(edge: Edge) -> _Box:
    size = Size(_text_width(edge.label) + 2 * _PADDING, _NODE_HEIGHT - 3)
    return _Box(edge.label, edge.kind, size, False, True)


def _lay_out(panel: Panel, framed: bool) -> _DrawnPanel:
    """Lay out a panel; the label of an edge is a box on it, in front of what the edge leads to."""
    before: dict[int, list[Edge]] = {}
    for edge in panel.edges:
        if edge.label:
            before.setdefault(edge.target, []).append(edge)
    boxes: list[_Box] = []
    place: dict[int, int] = {}
    lines: list[tuple[int, int]] = []
    kinds: list[Kind] = []
    has_arrow: list[bool] = []
    floating = []
    for number, node in enumerate(panel.nodes):
        labels = []
        for edge in before.get(number, ()):
            labels.append(len(boxes))
            floating.append(len(boxes))
            lines.append((place[edge.source], len(boxes)))
            kinds.append(edge.kind)
            has_arrow.append(False)
            boxes.append(_edge_box(edge))
        place[number] = len(boxes)
        for label in labels:
            lines.append((label, len(boxes)))
            kinds.append(boxes[label].kind)
            has_arrow.append(True)
        boxes.append(_node_box(node))
    for edge in panel.edges:
        if not edge.label:
            lines.append((place[edge.source], place[edge.target]))
            kinds.append(edge.kind)
            has_arrow.append(True)
    layout = arrange([box.size for box in boxes], lines, frozenset(floating))
    width, height = layout.size
    if panel.title:
        width = max(width, _text_width(panel.title))
        height += _TITLE_HEIGHT
    margin = 2 * _PANEL_MARGIN * framed
    return _DrawnPanel(panel.title, boxes, layout, kinds, has_arrow, Size(width + margin, height + margin))


def _shelves(sizes: Sequence[Size]) -> tuple[list[Point], Size]:
    """Put panels in rows or in columns so that the whole is small; return their left upper corners."""

    def put(sizes: Sequence[Size], most: float) -> tuple[list[Point], Size]:
        corners: list[Point] = []
        x = y = height = width = 0.0
        for size in sizes:
            if x and x + size.width > most:
                x, y, height = 0.0, y + height + _PANEL_GAP, 0.0
            corners.append((x, y))
            width, height = max(width, x + size.width), max(height, size.height)
            x += size.width + _PANEL_GAP
        return corners, Size(width, y + height)

    def tries(sizes: Sequence[Size]) -> Iterator[tuple[list[Point], Size]]:
        widest = max(size.width for size in sizes)
        total = sum(size.width + _PANEL_GAP for size in sizes)
        for share in range(_TRIES + 1):
            yield put(sizes, widest + (total - widest) * share / _TRIES + 1)

    turned = tries([Size(size.height, size.width) for size in sizes])
    columns = (([(x, y) for y, x in corners], Size(width, height)) for corners, (height, width) in turned)
    return min([*tries(sizes), *columns], key=lambda found: (max(found[1]), min(found[1])))


class _Picture:
    """A figure as it is being drawn."""

    def __init__(self, diagram: Diagram) -> None:
        self._framed = len(diagram.panels) > 1
        self._panels = [_lay_out(panel, self._framed) for panel in diagram.panels]
        self._corners, size = _shelves([panel.size for panel in self._panels])
        self._legend = self._legend_kinds() if diagram.has_legend else []
        width = max(size.width, 240.0 if self._legend else 0.0)
        self._legend_places, legend_height = self._place_legend(width)
        self._legend_top = size.height + _PANEL_GAP
        self.width = width + 2 * _MARGIN
        self.height = size.height + 2 * _MARGIN + (legend_height + _PANEL_GAP if self._legend else 0.0)
        longest = max(self.width, self.height)
        self._scale = min(_LARGEST_SCALE, max(LEAST_SIDE, min(MOST_SIDE, longest)) / longest)
        self._left = _MARGIN + (width - size.width) / 2
        self._texts: list[tuple[float, float, str, dict[str, Any]]] = []

    def _legend_kinds(self) -> list[Kind]:
        present = {box.kind for panel in self._panels for box in panel.boxes}
        return [kind for kind in Kind if kind in present and kind is not Kind.VALUE]

    def _place_legend(self, width: float) -> tuple[list[Point], float]:
        places: list[Point] = []
        x = y = 0.0
        for kind in self._legend:
            needed = _SWATCH + 5 + _text_width(kind.title) + 14
            if x and x + needed > width + 14:
                x, y = 0.0, y + _LEGEND_LINE
            places.append((x, y))
            x += needed
        return places, y + _LEGEND_LINE

    def figure(self) -> Figure:
        """Draw everything."""
        from matplotlib.collections import PathCollection
        from matplotlib.figure import Figure

        inch = self._scale / _DPI
        figure = Figure((self.width * inch, self.height * inch), dpi=_DPI, facecolor="white")
        point = 72 / _DPI * self._scale
        for shapes in self._shapes():
            if shapes:
                figure.add_artist(
                    PathCollection(
                        [shape.path for shape in shapes],
                        facecolors=[shape.face for shape in shapes],
                        edgecolors=[shape.edge for shape in shapes],
                        linewidths=[shape.line * point for shape in shapes],
                        linestyles=[(0, (3, 2)) if shape.is_dashed else "solid" for shape in shapes],
                        transform=self._transform(figure),
                    )
                )
        for x, y, text, options in self._texts:
            figure.text(
                x,
                y,
                text,
                transform=self._transform(figure),
                fontsize=_FONT * point,
                va="center_baseline",
                **{"color": _TEXT_COLOUR, "parse_math": False, **options},
            )
        return figure

    def _transform(self, figure: Figure) -> Any:
        """Return how our lengths become places in a figure, whose y points upwards."""
        from matplotlib.transforms import Affine2D

        inch = self._scale / _DPI
        return Affine2D().scale(inch, -inch).translate(0, self.height * inch) + figure.dpi_scale_trans

    def _shapes(self) -> Iterator[list[Shape]]:
        """Return frames, then lines, then what lies on them."""
        frames: list[Shape] = []
        lines: list[Shape] = []
        boxes: list[Shape] = []
        for panel, (x, y) in zip(self._panels, self._corners, strict=True):
            left, top = self._left + x, _MARGIN + y
            if self._framed:
                frames.append(Shape(rounded(left, top, *panel.size, 6.0), "#fdfdfd", _FRAME_COLOUR, 1.0))
                left, top = left + _PANEL_MARGIN, top + _PANEL_MARGIN
            if panel.title:
                self._texts.append((left, top + 5, panel.title, {"ha": "left", "fontweight": "bold"}))
                top += _TITLE_HEIGHT
            inside = panel.size.width - 2 * _PANEL_MARGIN * self._framed
            left += (inside - panel.layout.size.width) / 2
            lines += self._lines(panel, left, top)
            boxes += self._boxes(panel, left, top)
        for kind, (x, y) in zip(self._legend, self._legend_places, strict=True):
            left, top = _MARGIN + x, _MARGIN + self._legend_top + y
            boxes.append(Shape(rounded(left, top, _SWATCH, _SWATCH, 2.0), kind.colour, _LINE_COLOUR, 0.7))
            self._texts.append((left + _SWATCH + 5, top + _SWATCH / 2, kind.title, {"ha": "left"}))
        yield frames
        yield lines
        yield boxes

    def _boxes(self, panel: _DrawnPanel, left: float, top: float) -> Iterator[Shape]:
        for box, (x, y) in zip(panel.boxes, panel.layout.centres, strict=True):
            width, height = box.size
            radius = height / 2 if box.is_circle or box.is_on_edge else 4.0
            path = rounded(left + x - width / 2, top + y - height / 2, width, height, radius)
            faded = box.kind is Kind.NONE
            edge = _FADED_COLOUR if faded else "#555555" if box.kind is Kind.VALUE else _LINE_COLOUR
            yield Shape(path, box.kind.colour, edge, 0.9, is_dashed=faded)
            colour = {"color": "#9a9a9a"} if faded else {}
            self._texts.append((left + x, top + y, box.label, {"ha": "center", **colour}))

    def _lines(self, panel: _DrawnPanel, left: float, top: float) -> Iterator[Shape]:
        for route, kind, has_arrow, target in zip(
            panel.layout.routes, panel.kinds, panel.has_arrow, self._ends(panel), strict=True
        ):
            points = [(left + x, top + y) for x, y in route.points]
            faded = kind is Kind.NONE
            colour = _FADED_COLOUR if faded else _LINE_COLOUR if kind is Kind.VALUE else darker(kind.colour)
            width = 1.0 if kind is Kind.VALUE or faded else 1.8
            end = (points[-1][0], points[-1][1] - target.size.height / 2)
            if has_arrow:
                yield Shape(arrow(end), colour, colour, 0.5)
                end = (end[0], end[1] - 4.0)
            path = line(Route([*points[:-1], end], route.is_angular))
            yield Shape(path, "none", colour, width, is_dashed=faded)

    def _ends(self, panel: _DrawnPanel) -> Iterator[_Box]:
        """Yield the box in which each line ends."""
        by_centre = dict(zip(panel.layout.centres, panel.boxes, strict=True))
        for route in panel.layout.routes:
            yield by_centre[route.points[-1]]
