"""Runs the command line of the builders in a process of its own, with small shards so that there are many."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
LIMIT = 600
SHARD_ROWS = 40

_PROGRAM = """
import sys
from builders import shards
shards.SHARD_ROWS = {}
from builders.__main__ import main
main(sys.argv[1:])
"""


def start(out, sources, *arguments, space="nasbench201", limit=LIMIT, shard_rows=SHARD_ROWS, **options):
    """Start a build of the first rows of a space into `out`."""
    command = [
        sys.executable,
        "-c",
        _PROGRAM.format(shard_rows),
        space,
        "--out",
        str(out),
        "--limit",
        str(limit),
        *arguments,
    ]
    environment = {
        **os.environ,
        "ONNX_BENCH_SOURCES": str(sources),
        "COLUMNS": "200",
        "PYTHONPATH": str(CHECKOUT),
    }
    return subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def build(out, sources, *arguments, **options):
    """Run a build to its end and return (exit status, what it printed)."""
    process = start(out, sources, *arguments, **options)
    printed, _ = process.communicate(timeout=300)
    return process.returncode, printed


@contextmanager
def one_thread(workers):
    """Stand in for `builders.pool.processes`: processes take long to start."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def digests(folder):
    """SHA-256 of every file below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }
