"""The shapes that pictures are made of: paths of matplotlib, y pointing downwards."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from onnx_bench_dataset.drawing.layout import LAYER_GAP, Point, Route

if TYPE_CHECKING:
    from matplotlib.path import Path


class Shape(NamedTuple):
    """A path with its colours and the width of its line."""

    path: Path
    face: str
    edge: str
    line: float
    is_dashed: bool = False


@lru_cache(maxsize=64)
def darker(colour: str) -> str:
    """Return a colour in which a line is seen on white."""
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{round(part * 0.82):02x}" for part in parts)


def rounded(left: float, top: float, width: float, height: float, radius: float) -> Path:
    """Return a rectangle with rounded corners."""
    from matplotlib.path import Path

    right, bottom, bend = left + width, top + height, radius * (1 - 4 * (math.sqrt(2) - 1) / 3)
    corners = [
        ((left + radius, top), (right - radius, top), (right - bend, top), (right, top + bend)),
        ((right, top + radius), (right, bottom - radius), (right, bottom - bend), (right - bend, bottom)),
        ((right - radius, bottom), (left + radius, bottom), (left + bend, bottom), (left, bottom - bend)),
        ((left, bottom - radius), (left, top + radius), (left, top + bend), (left + bend, top)),
    ]
    vertices: list[Point] = [corners[0][0]]
    codes = [Path.MOVETO]
    for (_, end, one, two), (begin, *_) in zip(corners, [*corners[1:], corners[0]], strict=True):
        vertices += [end, one, two, begin]
        codes += [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    return Path([*vertices, vertices[0]], [*codes, Path.CLOSEPOLY])


def arrow(tip: Point) -> Path:
    """Return an arrow head that points downwards."""
    from matplotlib.path import Path

    x, y = tip
    return Path(
        [(x, y), (x - 3.2, y - 6.0), (x + 3.2, y - 6.0), (x, y)],
        [Path.MOVETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY],
    )


def line(route: Route) -> Path:
    """Return a line that leaves every point downwards, so that it runs beside the nodes of each layer."""
    from matplotlib.path import Path

    vertices, codes = [route.points[0]], [Path.MOVETO]
    if route.is_angular:
        return Path(route.points)
    for (x, y), (to_x, to_y) in pairwise(route.points):
        if abs(x - to_x) < 0.5:
            vertices.append((to_x, to_y))
            codes.append(Path.LINETO)
            continue
        bend = min(max(abs(to_y - y) / 2, LAYER_GAP * 0.8), abs(to_y - y))
        vertices += [(x, y + bend), (to_x, to_y - bend), (to_x, to_y)]
        codes += [Path.CURVE4] * 3
    return Path(vertices, codes)
