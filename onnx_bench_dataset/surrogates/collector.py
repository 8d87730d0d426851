"""Layers, and collecting them one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from onnx_bench_dataset.surrogates.kinds import Kind, Size, plain, sized, sized_of_one

INPUT = -1
"""What stands among the sources of a layer that reads the input of the network."""

NOTHING = -2
"""In the place of a layer: what says nothing about the input, zeros and all that comes of them alone."""

ZERO = plain("Zero")
"""The kind of a product with zeros."""


class Layer(NamedTuple):
    """One layer of a network."""

    kind: Kind
    sources: tuple[int, ...]
    """Numbers of the layers that it reads, all smaller than its own; INPUT for the network's input."""
    size: Size
    """Of what it gives."""
    input_channels: int
    macs: int
    params: int
    """Elements of the weight; biases and normalizations are left out."""


_new_layer = tuple.__new__  # what `Layer(…)` comes down to


class Collector:
    """Collects layers; those without weights that do the same are one."""

    def __init__(self, image: Size) -> None:
        """Begin with the size of the input."""
        self._image = image
        self.layers: list[Layer] = []
        """Those that were added so far."""
        self._known: dict[tuple[Kind, tuple[int, ...]], int] = {}

    def add(self, kind: Kind, sources: list[int]) -> int:
        """Add a layer, unless there is one like it or it does nothing; return the layer of its value."""
        if kind is ZERO:
            return NOTHING
        if NOTHING in sources:
            sources = [source for source in sources if source != NOTHING]
        if len(sources) < 2:
            return self.add_to(kind, sources[0]) if sources else NOTHING
        if kind.op != "Concat":
            sources.sort()
        read = tuple(sources)
        layers = self.layers
        number = len(layers)
        if not kind.channels:
            number = self._known.setdefault((kind, read), number)
            if number < len(layers):
                return number
        sizes = [layers[source][2] if source >= 0 else self._image for source in read]
        layers.append(Layer(kind, read, *sized(kind, sizes)))
        return number

    def add_to(self, kind: Kind, source: int) -> int:
        """Add a layer that reads one value; as `add`, but faster."""
        if source == NOTHING or kind is ZERO:
            return NOTHING
        if kind.is_neutral:
            return source
        layers = self.layers
        number = len(layers)
        read = (source,)
        if not kind.channels:
            number = self._known.setdefault((kind, read), number)
            if number < len(layers):
                return number
        size = layers[source][2] if source >= 0 else self._image
        layers.append(_new_layer(Layer, (kind, read, *sized_of_one(kind, size))))
        return number

    def used(self, outputs: Iterable[int]) -> list[Layer]:
        """Return the layers that outputs need, numbered anew."""
        layers = self.layers
        needed = [False] * (len(layers) + 1)  # the last stands for the input
        for output in outputs:
            if output >= 0:
                needed[output] = True
        for number in range(len(layers) - 1, -1, -1):
            if needed[number]:
                for source in layers[number][1]:
                    needed[source] = True
        needed.pop()
        if all(needed):
            return layers
        numbers: dict[int, int] = {INPUT: INPUT}
        found: list[Layer] = []
        for number, layer in enumerate(layers):
            if needed[number]:
                numbers[number] = len(found)
                read = tuple([numbers[source] for source in layer[1]])
                found.append(_new_layer(Layer, (layer[0], read, *layer[2:])))
        return found
