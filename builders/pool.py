"""Worker processes that leave an interrupted build clean: no orphan goes on, no second Ctrl-C is needed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from typing import TypeVar

from onnx_bench_dataset.errors import BuildError

Task = TypeVar("Task")
Result = TypeVar("Result")

_WAITING = 1  # tasks handed out beyond one per worker: enough to keep them busy, few enough for memory


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Run tasks in `workers` processes; on any error they are stopped at once."""
    # Spawned processes share no lock with this one's threads, and do not inherit its memory.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        with _interrupts_ignored():  # which the processes inherit: what an interrupt means is decided here
            for _ in range(workers):
                executor.submit(int)
        yield executor
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown()


def run(
    executor: Executor, workers: int, function: Callable[[Task], Result], tasks: Iterable[Task]
) -> Iterator[Result]:
    """Yield results as tasks finish, in any order, with few tasks in flight at a time.

    Raises:
        BuildError: a worker process died.
    """
    pending: set[Future[Result]] = set()
    try:
        for task in tasks:
            pending.add(executor.submit(function, task))
            while len(pending) >= workers + _WAITING:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise BuildError(
            "a worker process died, most likely for want of memory. Finished shards are kept: run the same "
            "command again, with fewer --workers"
        ) from error


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _start_worker() -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
