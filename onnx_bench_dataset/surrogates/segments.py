"""Networks cut where all paths pass through one value, and statistics over the paths of each piece.

Between two cuts lies a *segment*, a cell for instance. Networks repeat theirs, and spaces too, so that each
is measured once. Only where paths meet, at a *join*, is there something to work out; along a chain of layers
that read one value each, counts just add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import add
from typing import NamedTuple

from onnx_bench_dataset.surrogates.feature_table import COUNTED
from onnx_bench_dataset.surrogates.layers import INPUT, Layer

Counts = Sequence[float]
"""In the order of `COUNTED`."""

LARGEST_VARIANCE, LEAST_VARIANCE = 1e100, 1e-100
"""Thousands of sums, or of averages, in a row lead beyond what numbers can say."""

_NONE = (0.0,) * len(COUNTED)
_REMEMBERED = 100  # layers and reads of a segment that is kept to be met again


class Step(NamedTuple):
    """What a layer does to what comes along a path."""

    adds: tuple[float, ...]
    """To the counts of the path."""
    scale: float
    """By what it multiplies variance."""
    offset: float
    """Variance that it gives whatever it reads: 1 for layers with weights."""
    changes: bool
    """Whether a path through it changes values; sums, concatenations and activations alone do not count."""
    is_strided: bool


@lru_cache(maxsize=1 << 10)
def step_of(role: str) -> Step:
    """Return the step of a layer by its role."""
    letter, (window, slash, _) = role[0], role[1:].partition("/")
    adds = (
        float(letter in "cd"),
        float(letter in "cdpl"),
        float(letter == "r"),
        float(letter in "mag"),
        float(letter == "a"),
        float(int(window) - 1) if window else 0.0,
        1.0,
    )
    is_weighted = letter in "cdpl"
    kept = 0.5 + 0.5 / int(window) ** 2 if letter == "a" else 1.0
    return Step(
        adds,
        0.0 if is_weighted else kept,
        1.0 if is_weighted else 0.0,
        letter not in "+|r",
        bool(slash),
    )


class _Part(NamedTuple):
    """A chain of layers behind a join: how what leaves it comes of what left the join."""

    join: int
    """Counted from 1; 0 is what enters the segment."""
    added: tuple[float, ...]
    scale: float
    offset: float
    """The variance is `offset` and `scale` times that of the join."""
    changes: bool
    """Whether every path from the beginning to here does."""


class _Join(NamedTuple):
    """Where several values become one."""

    parts: list[_Part]
    share: float
    """What their variances, summed up, are multiplied by: concatenations have the mean."""


Key = tuple[str | int | tuple[int, ...], ...]
"""A segment: of each layer the role, then what it reads of the segment; INPUT for what stands before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Statistics over the paths of a segment."""

    key: Key
    log_paths: float
    mean: Counts
    least: Counts
    most: Counts
    variance: float
    """Of the number of convolutions over a window."""
    skips: bool
    """Whether a path changes nothing."""
    letters: str
    """The first letters of the roles of its layers."""
    strided: int
    """The first layer with a stride; -1 if there is none."""
    joins: list[_Join]
    last: _Part


class Stretch(NamedTuple):
    """Layers from `start` to before `end`; no segment where it is one layer that reads one value."""

    segment: Segment | None
    start: int
    end: int


def stretches_of(layers: Sequence[Layer]) -> list[Stretch]:
    """Return the segments of a network."""
    found: list[Stretch] = []
    long: dict[Key, Segment] = {}
    start = 0
    for end in _cuts(layers):
        if end == start + 1 and len(layers[start][1]) == 1:
            found.append(Stretch(None, start, end))
        else:
            found.append(Stretch(_segment(key_of(layers, start, end), long), start, end))
        start = end
    return found


def key_of(layers: Sequence[Layer], start: int, end: int) -> Key:
    """Return what the layers from `start` to before `end` are, and what they read of each other."""
    key: list[str | int | tuple[int, ...]] = []
    for layer in layers[start:end]:
        sources = layer[1]
        key.append(layer[0].role)
        if len(sources) == 1:
            source = sources[0] - start
            key.append(source if source >= 0 else INPUT)
        else:
            key.append(tuple([max(source - start, INPUT) for source in sources]))
    return tuple(key)


def _cuts(layers: Sequence[Layer]) -> list[int]:
    """Return what follows each layer through which every path goes."""
    count = len(layers)
    last = [0] * (count + 1)  # reader of each layer, and at the end of the input
    for number, layer in enumerate(layers):
        for source in layer[1]:
            last[source] = number
    reach = last.pop()
    found = []
    for number, reader in enumerate(last):
        if reach <= number:
            found.append(number + 1)
        if reader > reach:
            reach = reader
    if count and found[-1:] != [count]:
        found.append(count)
    return found


def _segment(key: Key, long: dict[Key, Segment]) -> Segment:
    """Return the segment of a key; long ones are kept in `long` alone."""
    if len(key) <= _REMEMBERED:
        return _remembered(key)
    found = long.get(key)
    if found is None:
        found = long[key] = _measured(key)
    return found


@lru_cache(maxsize=1 << 14)
def _remembered(key: Key) -> Segment:
    return _measured(key)


def _measured(key: Key) -> Segment:
    joins: list[_Join] = []
    entry = _Part(0, _NONE, 1.0, 0.0, False)
    places: list[_Part] = []  # of each layer, what leaves it
    strided = -1
    roles: list[str] = []
    for role, read in zip(key[::2], key[1::2], strict=True):
        assert isinstance(role, str)
        if isinstance(read, int):
            join, added, scale, offset, changes = places[read] if read >= 0 else entry
        else:
            assert isinstance(read, tuple)
            parts = [places[source] if source >= 0 else entry for source in read]
            joins.append(_Join(parts, 1 / len(parts) if role[0] == "|" else 1.0))
            join, added, scale, offset = len(joins), _NONE, 1.0, 0.0
            changes = all(part.changes for part in parts)
        step = step_of(role)
        if step.is_strided and strided < 0:
            strided = len(roles)
        roles.append(role[0])
        a, b, c, d, e, f, g = added
        p, q, r, s, t, u, v = step.adds  # written out, since this is where most of the time goes
        places.append(
            _Part(
                join,
                (a + p, b + q, c + r, d + s, e + t, f + u, g + v),
                max(scale * step.scale, LEAST_VARIANCE) if step.scale else 0.0,
                offset * step.scale + step.offset,
                changes or step.changes,
            )
        )
    last = places[-1]
    measured = _over_paths(joins, last)
    return Segment(key, *measured, not last.changes, "".join(roles), strided, joins, last)


_Statistics = tuple[float, Counts, Counts, Counts, float]


def _over_paths(joins: Sequence[_Join], last: _Part) -> _Statistics:
    """Return logarithm of the number, mean, least, most, and variance of the first count."""
    states: list[_Statistics] = [(0.0, _NONE, _NONE, _NONE, 0.0)]
    for join in joins:
        read = [states[part.join] for part in join.parts]
        added = [part.added for part in join.parts]
        highest = max([state[0] for state in read])
        numbers = [math.exp(state[0] - highest) for state in read]
        total = sum(numbers)
        weights = [number / total for number in numbers]
        means = [list(map(add, state[1], counts)) for state, counts in zip(read, added, strict=True)]
        mean = _weighted(weights, means)
        states.append(
            (
                highest + math.log(total),
                mean,
                list(map(min, *[map(add, s[2], counts) for s, counts in zip(read, added, strict=True)])),
                list(map(max, *[map(add, s[3], counts) for s, counts in zip(read, added, strict=True)])),
                sum(
                    [
                        weight * (state[4] + (of_part[0] - mean[0]) ** 2)
                        for weight, state, of_part in zip(weights, read, means, strict=True)
                    ]
                ),
            )
        )
    log_paths, *three, variance = states[last.join]
    mean, least, most = [list(map(add, counts, last.added)) for counts in three]
    return log_paths, mean, least, most, variance


def _weighted(weights: Sequence[float], rows: Sequence[Counts]) -> list[float]:
    if len(weights) == 2:
        left, right = weights
        return [left * one + right * other for one, other in zip(*rows, strict=True)]
    return [
        sum([weight * value for weight, value in zip(weights, column, strict=True)])
        for column in zip(*rows, strict=True)
    ]


def flow(segment: Segment, entering: float) -> tuple[float, Counts]:
    """Return the variance that leaves a segment, and counts of its paths weighted by the variance of each.

    A layer with weights gives variance 1, sums add variances, an average over n pixels keeps a half and
    1/2n of it, concatenations have that of their mean.
    """
    if len(segment.letters) <= _REMEMBERED // 2:
        return _remembered_flow(segment, entering)
    return _flow(segment, entering)


@lru_cache(maxsize=1 << 14)
def _remembered_flow(segment: Segment, entering: float) -> tuple[float, Counts]:
    return _flow(segment, entering)


def _flow(segment: Segment, entering: float) -> tuple[float, Counts]:
    states: list[tuple[float, Counts]] = [(entering, _NONE)]
    for join in segment.joins:
        variances = []
        rows = []
        for number, added, scale, offset, _ in join.parts:
            variance, counts = states[number]
            variances.append(max(offset + scale * variance, LEAST_VARIANCE))
            rows.append(list(map(add, counts, added)))
        total = sum(variances)
        weights = [variance / total for variance in variances]
        states.append((min(total * join.share, LARGEST_VARIANCE), _weighted(weights, rows)))
    number, added, scale, offset, _ = segment.last
    variance, counts = states[number]
    return max(offset + scale * variance, LEAST_VARIANCE), list(map(add, counts, added))
