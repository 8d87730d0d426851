"""Work on many items, such as texts, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import joblib

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

_AT_ONCE = 500
_WORTHWHILE = 5_000  # items for which other processes are started


def in_parallel(work: Callable[[Sequence[_Item]], _Made], items: Sequence[_Item]) -> list[_Made]:
    """Return what `work` makes of the items, in pieces and in order; in other processes if they are many.

    They do not import the caller's script, which then needs no `if __name__ == "__main__"`.
    """
    pieces = [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)] or [items]
    jobs = joblib.cpu_count() if len(items) >= _WORTHWHILE else 1
    made: list[_Made] = joblib.Parallel(n_jobs=jobs)(joblib.delayed(work)(piece) for piece in pieces)
    return made
