"""Running of tasks, in processes of this machine or by an executor whose workers are elsewhere.

Worker processes leave an interrupted build clean: no orphan goes on, no second Ctrl-C is needed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

from onnx_bench_dataset.errors import BuildError

Task = TypeVar("Task")
Result = TypeVar("Result")

_WAITING = 1  # tasks handed out beyond one per worker: enough to keep them busy, few enough for memory
_ATTEMPTS = 5  # of a task whose worker is lost, time and again
_WORKERS_PER_WAITING = 4  # remote workers for which one more task waits, as tasks take time to travel
_CHECKED_EVERY = 5.0  # seconds


class RemoteExecutor(Executor):
    """An executor whose workers come and go, see `builders.cluster`."""

    @abstractmethod
    def num_workers(self) -> int:
        """Count the workers that there are now.

        Raises:
            BuildError: they cannot be reached any more, or none has been there for long.
        """

    @abstractmethod
    def is_lost(self, future: Future[Any]) -> bool:
        """Whether a task ended through no fault of its own, so that it is to be run again.

        Raises:
            BuildError: the workers cannot be reached any more, or a worker cannot run the task.
        """


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

    `workers` is the number of processes of the executor; a remote one counts its workers itself.

    Raises:
        BuildError: a worker process died, or the workers of a remote executor cannot do a task.
    """
    if isinstance(executor, RemoteExecutor):
        yield from _run_remotely(executor, function, tasks)
        return
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


def _run_remotely(
    executor: RemoteExecutor, function: Callable[[Task], Result], tasks: Iterable[Task]
) -> Iterator[Result]:
    """Do as `run`, and run lost tasks again."""
    remaining = iter(tasks)
    pending: dict[Future[Result], tuple[Task, int]] = {}
    while True:
        workers = executor.num_workers()
        room = workers + workers // _WORKERS_PER_WAITING + _WAITING - len(pending)
        for task in islice(remaining, max(0, room)):
            pending[executor.submit(function, task)] = task, 1
        if not pending:
            return
        done, _ = wait(pending, _CHECKED_EVERY, return_when=FIRST_COMPLETED)
        for future in done:
            task, attempt = pending.pop(future)
            if not executor.is_lost(future):
                yield future.result()
            elif attempt < _ATTEMPTS:
                pending[executor.submit(function, task)] = task, attempt + 1
            else:
                raise BuildError(
                    f"the workers of {_ATTEMPTS} attempts at one task died, most likely for want of memory. "
                    "Finished shards are kept: run the same command again, with fewer workers on each machine"
                )


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
