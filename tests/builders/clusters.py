"""Starts a small dask cluster of processes for a test: a scheduler, and workers that can be killed."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).parents[2]


def free_port():
    """A TCP port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """A scheduler and workers; a context manager that leaves no process behind."""

    def __init__(self, folder, workers=4):
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes = []
        self._scheduler = ["scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self._num_workers = workers

    def __enter__(self):
        self._start("scheduler", self._scheduler, path=self.folder)  # which needs no code of ours
        for _ in range(self._num_workers):
            self.add_worker()
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            kill(process)

    def add_worker(self, *, path=CHECKOUT, nanny=True, threads=1, before=()):
        """Start a worker, which a nanny starts again when it dies; return its process.

        `path` is where it finds the code, `before` what stands before the command.
        """
        command = [
            "worker",
            self.address,
            "--host",
            "127.0.0.1",
            "--nthreads",
            str(threads),
            "--no-dashboard",
        ]
        command += ["--memory-limit", "0", "--nanny" if nanny else "--no-nanny"]
        return self._start(f"worker-{len(self.processes)}", command, path, before)

    def workers(self):
        """The processes that do tasks, without their nannies."""
        found = []
        for process in self.processes[1:]:
            found += [member for member in _family(process) if "spawn_main" in " ".join(_command(member))]
        return found

    def _start(self, name, arguments, path=CHECKOUT, before=()):
        environment = {**os.environ, "PYTHONPATH": str(path), "DASK_TEMPORARY_DIRECTORY": str(self.folder)}
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", f"distributed.cli.dask_{arguments[0]}", *arguments[1:]],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process


def kill(process):
    """Kill a process and its children."""
    for member in _family(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(10)


def _family(process):
    try:
        return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class Proxy:
    """Passes TCP connections on to a port, until it is told to cut them; then it goes on with new ones."""

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Cut all connections that there are; return how many."""
        cut, self._sockets = self._sockets, []
        for each in cut:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        return len(cut) // 2

    def close(self):
        """Stop."""
        self._listener.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._sockets += [here, there]
            for source, sink in ((here, there), (there, here)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source, sink):
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                sink.sendall(content)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
