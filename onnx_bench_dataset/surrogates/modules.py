"""What a network is made of: the modules that it repeats, each as a small graph.

A network is cut where all paths pass through one value. What then comes several times in a row, a cell for
instance, is a *module*, and so is every other stretch in which paths meet. Of a module stay the layers that
change what passes through, so that there are few steps from its input to its output.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from onnx_bench_dataset.surrogates.layers import Layer
from onnx_bench_dataset.surrogates.segments import Key, key_of, stretches_of

_PASSING = "ro"  # activations, and what moves values about: no vertices
_MOST_TERMS = 16  # of a sum that is no vertex
_LONGEST, _MOST_PIECES = 32, 1_000  # of a module, and of a network that is searched for them, in pieces
_TAKEN = "\0"
_TWICE = [re.compile(f"(?=([^{_TAKEN}]{{{length}}})\\1)") for length in range(1, _LONGEST + 1)]
_REMEMBERED = 200  # layers and reads of a module that is kept to be met again


class Module(NamedTuple):
    """A graph from what enters, vertex 0, to what leaves, the last vertex."""

    roles: tuple[str, ...]
    """Of each vertex but the first, as in `kinds.Kind`."""
    activated: tuple[float, ...]
    """Of each vertex but the first, the share of what it reads that was activated."""
    edges: tuple[tuple[int, int], ...]
    """From a vertex to one that reads it, by the number of the latter; twice where it is read twice."""


def modules_of(layers: Sequence[Layer]) -> Counter[Module]:
    """Return the different modules of a network, and how often it has each.

    Modules are found one after another, first the one that makes up most of the network.
    """
    pieces = [
        (layers[start][0].role if segment is None else _module(segment.key), start, end)
        for segment, start, end in stretches_of(layers)
        if segment is not None or layers[start][0].role[0] not in _PASSING
    ]
    numbers: dict[Module | str, int] = {}
    letters = [chr(numbers.setdefault(piece, len(numbers) + 1)) for piece, _, _ in pieces]
    text = "".join(letters[:_MOST_PIECES])
    found: Counter[Module] = Counter()
    while blocks := {block for twice in _TWICE for block in twice.findall(text)}:
        most = max(
            blocks, key=lambda block: (text.count(block) * len(block), -len(block), -text.index(block))
        )
        for match in re.finditer(re.escape(most), text):
            found[_module(key_of(layers, pieces[match.start()][1], pieces[match.end() - 1][2]))] += 1
        text = text.replace(most, _TAKEN * len(most))
    for letter, (piece, _, _) in zip(text, pieces, strict=False):
        if letter != _TAKEN and isinstance(piece, Module):
            found[piece] += 1
    return found


def _module(key: Key) -> Module:
    return _remembered(key) if len(key) <= _REMEMBERED else _contracted(key)


@lru_cache(maxsize=1 << 14)
def _remembered(key: Key) -> Module:
    return _contracted(key)


def _contracted(key: Key) -> Module:
    """Return a module of layers.

    What reads an activation reads what was activated, and knows that it was. What reads a sum reads its
    terms. The last layer is a vertex, whatever it is, and so is a sum of many terms.
    """
    roles, activated, edges = [], [], []
    # What is read of the input and of each layer: vertices, and whether they were activated since.
    leaving: list[list[tuple[int, bool]]] = [[(0, False)]]
    last = len(key) // 2
    for number, (role, read) in enumerate(zip(key[::2], key[1::2], strict=True), 1):
        assert isinstance(role, str)
        sources = (read,) if isinstance(read, int) else read
        entering = [each for source in sources for each in leaving[int(source) + 1]]
        if number < last and len(sources) == 1 and role[0] in _PASSING:
            leaving.append([(vertex, was or role[0] == "r") for vertex, was in entering])
        elif number < last and len(entering) <= _MOST_TERMS and role[0] == "+":
            leaving.append(entering)
        else:
            roles.append(role)
            activated.append(sum(was for _, was in entering) / max(len(entering), 1))
            edges.extend([(vertex, len(roles)) for vertex, _ in entering])
            leaving.append([(len(roles), False)])
    return Module(tuple(roles), tuple(activated), tuple(edges))
