"""Work on many items, such as texts, on all cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

_AT_ONCE = 500
_WORTHWHILE = 5_000  # items for which other processes are started


def in_parallel(work: Callable[[Sequence[_Item]], _Made], items: Sequence[_Item]) -> list[_Made]:
    """Return what `work` makes of the items, in pieces and in order; in other processes if they are many."""
    pieces = [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(items) < _WORTHWHILE or cores == 1 or multiprocessing.current_process().daemon:
        return [work(piece) for piece in pieces] or [work(items)]
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as executor:
        return list(executor.map(work, pieces))
