"""What a benchmark declares of itself, beside how its published files are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from builders.labels import LabelledArchitecture, Progress
from builders.sources import Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A published benchmark; `read` yields its architectures with their labels, in the benchmark's order."""

    space: str
    paper: str
    """Authors, year and arXiv number."""
    url: str
    licence: str
    """Of the published files."""
    bibtex: str
    caveats: str
    """What the labels do not say, in a sentence or two."""
    read: Callable[[Sources, Progress], Iterator[LabelledArchitecture]]
