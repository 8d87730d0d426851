"""What makes rows: the version of the code and of what writes, on which the bytes of every shard depend."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

import onnx_bench_dataset


def version() -> str:
    """Return what tells this code and writer from any other."""
    writers = [f"{package} {metadata.version(package)}" for package in ("pyarrow", "matplotlib", "pillow")]
    return " ".join([code_digest(), *writers])


@cache  # a process goes on with the code that it began with, whatever becomes of the files
def code_digest() -> str:
    """Return a digest of the code that makes rows, so that no change of it keeps old shards."""
    digest = hashlib.sha256()
    for package in (Path(onnx_bench_dataset.__file__).parent, Path(__file__).parent):
        for path in sorted(package.rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
