"""Shards made by workers of a `dask.distributed` cluster, which write into a folder that all machines see.

The cluster is somebody else's: started before the build, still there after it. Workers may join, leave and
die; what a lost worker had to do is done by another. When the connection to the scheduler is cut, a new one
is made and what was under way is handed out again. Shards that are finished are there already.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary

from builders.code_version import version
from builders.pool import RemoteExecutor
from builders.shards import Target
from onnx_bench_dataset.errors import BuildError

Result = TypeVar("Result")

_TIMEOUT = 8  # seconds in which a scheduler must answer, and a first worker be there
_PROBE_TIMEOUT = 60  # seconds in which all workers must answer; one that begins to work loads a lot
_PATIENCE = 60  # seconds for which a cut connection is tried again
_PATIENCE_WITHOUT_WORKERS = 600  # seconds; a queue may give new machines for those that it took
_COUNTED_EVERY = 5  # seconds
_SEEN_WITHIN = 30  # seconds in which a file made on one machine must be seen on another

_STARTED = "Start workers in a checkout: `python -m distributed.cli.dask_worker ADDRESS --nthreads 1`"


@contextmanager
def connect(address: str, target: Target) -> Iterator[RemoteExecutor]:
    """Have tasks done by the cluster whose scheduler is at `address`, which make shards in `target`.

    In the end, and on any error, what the cluster still has to do for this build is taken back.

    Raises:
        BuildError: `distributed` is not installed, no scheduler or worker answers, or a worker runs other
            code or does not see the folder.
    """
    try:
        import dask.config
        import distributed
    except ImportError as error:
        raise BuildError(
            f"--scheduler needs {error.name}, which is not installed: "
            "pip install 'onnx-bench-dataset[cluster]'"
        ) from error
    # Lost connections and tasks are dealt with here. What dask and its event loop write about each of them
    # would hide the progress. Tasks are larger than dask thinks fit, and few.
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    executor = _Cluster(distributed, address, target)
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
        try:
            executor.open()
            yield executor
        finally:
            executor.close()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a worker must be like."""

    version: str
    aside: Path
    token: str
    """What the file `probe` in the folder says."""


class _Cluster(RemoteExecutor):
    """The workers of a scheduler."""

    def __init__(self, distributed: Any, address: str, target: Target) -> None:
        self._distributed = distributed
        self._address = address
        self._wanted = _Wanted(version(), target.aside, uuid4().hex)
        self._client: Any = None
        self._clients: WeakKeyDictionary[Future[Any], Any] = WeakKeyDictionary()
        self._counted = 0.0
        self._seen = time.monotonic()
        self._workers = 0

    def open(self) -> None:
        """Connect, and make sure of every worker."""
        self._client = self._connected()
        try:
            self._client.wait_for_workers(1, timeout=_TIMEOUT)
        except TimeoutError:
            raise BuildError(f"the cluster at {self._address} has no worker. {_STARTED}") from None
        (self._wanted.aside / "probe").write_text(self._wanted.token, encoding="utf-8")
        probe = _packed(_probe, self._wanted)
        try:
            threads = self._client.nthreads()
            answers = self._client.sync(
                self._client._run, _caller(), probe, on_error="return", callback_timeout=_PROBE_TIMEOUT
            )
        except OSError as error:
            raise BuildError(f"the workers of {self._address} do not answer: {error or 'timeout'}") from error
        for worker, answer in answers.items():
            self._check(worker, answer, threads.get(worker, 1))

    def _check(self, worker: str, answer: object, threads: int) -> None:
        """Judge what the worker at an address answered to the probe."""
        if isinstance(answer, ImportError):
            raise BuildError(f"worker {worker} cannot load the builders: {answer}. {_STARTED}")
        if complaint := _complaint_of_threads(threads):
            raise BuildError(f"worker {worker}: {complaint}")
        if isinstance(answer, BaseException):
            raise BuildError(f"worker {worker}: {answer}") from answer
        wrote = self._wanted.aside / str(answer)
        deadline = time.monotonic() + _SEEN_WITHIN
        while not wrote.exists():  # file systems of a network tell the news late
            if time.monotonic() > deadline:
                raise BuildError(f"worker {worker} {_elsewhere(self._wanted.aside)}")
            time.sleep(0.1)

    def close(self) -> None:
        """Leave the cluster; what it has not begun for this build it forgets."""
        if self._client is not None:
            with suppress(Exception):  # the scheduler may be gone: there is nothing to take back
                self._client.close(timeout=_TIMEOUT)

    def submit(self, function: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Hand out a task."""
        if self._client is None or self._client.status not in ("running", "connecting"):
            self._reconnect()
        executor = self._client.get_executor(pure=False)
        packed = _packed(_run, self._wanted.version, function, *args, **kwargs)
        future: Future[Result] = executor.submit(_caller(), packed)
        self._clients[future] = self._client
        return future

    def num_workers(self) -> int:
        """Count the workers that there are now."""
        now = time.monotonic()
        if now - self._counted > _COUNTED_EVERY and self._client is not None:
            self._counted = now
            with suppress(OSError, RuntimeError, ValueError, AttributeError):
                # while the connection is cut, which dask says in many ways, the last number stands
                self._workers = len(self._client.sync(self._client.scheduler.ncores, callback_timeout=2))
            if self._workers:
                self._seen = now
            elif now - self._seen > _PATIENCE_WITHOUT_WORKERS:
                raise BuildError(
                    f"all workers of {self._address} have gone, and none has come for "
                    f"{_PATIENCE_WITHOUT_WORKERS // 60} minutes. Finished shards are kept: start workers and "
                    "run the same command again"
                )
        return self._workers

    def is_lost(self, future: Future[Any]) -> bool:
        """Whether a task ended with its worker, or with the connection."""
        if future.cancelled():
            if self._clients.get(future) is self._client:
                self._reconnect()
            return True
        error = future.exception()
        if isinstance(error, ImportError):
            raise BuildError(f"a worker that has joined cannot load the builders: {error}. {_STARTED}")
        return isinstance(error, self._distributed.scheduler.KilledWorker)

    def _reconnect(self) -> None:
        """Make a new connection.

        That of the old client is not mended: when the scheduler notices late that it was cut, it takes back
        what the client, known by its id, has submitted since.
        """
        self.close()
        for future, client in list(self._clients.items()):
            if client is self._client and not future.done():  # the client has forgotten to end it
                future.cancel()
                future.set_running_or_notify_cancel()
        self._client = None
        deadline = time.monotonic() + _PATIENCE
        while self._client is None:
            try:
                self._client = self._connected()
            except BuildError as error:
                if time.monotonic() > deadline:
                    raise BuildError(
                        f"{error}, and has not for {_PATIENCE} seconds. Finished shards are kept: run the "
                        "same command again when it does"
                    ) from error
                time.sleep(0.5)

    def _connected(self) -> Any:
        try:
            return self._distributed.Client(self._address, timeout=_TIMEOUT, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise BuildError(f"no scheduler answers at {self._address} ({error})") from error


def _elsewhere(folder: Path) -> str:
    return (
        f"does not see the files of this machine in {folder.parent}: --out must be in a folder that all "
        "machines share, under the same path"
    )


def _packed(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> bytes:
    """Return a call as bytes.

    The scheduler, which has no use for the rows and perhaps none of this code, then need not unpack it, and a
    worker that lacks the code can say so.
    """
    return pickle.dumps((function, args, kwargs), pickle.HIGHEST_PROTOCOL)


def _caller() -> Callable[[bytes], Any]:
    """Return what makes a packed call; being no attribute of a module, it travels as code."""

    def call(packed: bytes) -> Any:
        function, args, kwargs = pickle.loads(packed)
        return function(*args, **kwargs)

    return call


def _probe(wanted: _Wanted) -> str:
    """Make sure that this worker can make shards; return the name of a file that it has written.

    Raises:
        BuildError: it cannot.
    """
    if complaint := _complaint_of_version(wanted.version):
        raise BuildError(complaint)
    name = f"seen-{uuid4().hex}"
    try:
        if (wanted.aside / "probe").read_text(encoding="utf-8") != wanted.token:
            raise FileNotFoundError
        (wanted.aside / name).touch()
    except FileNotFoundError:
        raise BuildError(_elsewhere(wanted.aside)) from None
    except OSError as error:
        raise BuildError(f"cannot write in {wanted.aside}: {error.strerror or error}") from error
    return name


def _run(wanted: str, function: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result:
    """Do a task, unless this worker has joined since the others were found fit and is not."""
    from distributed import get_worker

    worker = get_worker()
    if complaint := _complaint_of_version(wanted) or _complaint_of_threads(worker.state.nthreads):
        raise BuildError(f"worker {worker.address} has joined and {complaint}")
    return function(*args, **kwargs)


def _complaint_of_version(wanted: str) -> str | None:
    """Return why this process must not make shards for a build that wants a version."""
    if version() != wanted:
        code, _, writer = version().partition(" ")
        wanted_code, _, wanted_writer = wanted.partition(" ")
        if writer != wanted_writer:
            return f"has {writer}, this build {wanted_writer}: install the same there and start it again"
        return (
            f"runs other code ({code[:12]}, this build {wanted_code[:12]}): check out the same version "
            "there and start it again"
        )
    return None


def _complaint_of_threads(threads: int) -> str | None:
    """Return why a worker with so many threads must not make shards."""
    if threads == 1:
        return None
    return f"has {threads} threads, of which one would work at a time: start it with --nthreads 1"
