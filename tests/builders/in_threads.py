"""Lets what runs in worker processes run in threads of the test instead, which start in no time."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from builders import pool


@contextmanager
def _threads(workers):
    with ThreadPoolExecutor(workers) as executor:
        yield executor


def use(monkeypatch):
    """Put threads in the place of processes."""
    monkeypatch.setattr(pool, "processes", _threads)
