"""What all tests share: where the published benchmark files are."""

import os
from pathlib import Path

import pytest

# There is a process for every core: threads of one would wait for those of the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of published benchmark files that ONNX_BENCH_SOURCES names."""
    folder = os.environ.get("ONNX_BENCH_SOURCES")
    if not folder:
        pytest.skip("ONNX_BENCH_SOURCES does not name a folder of published benchmark files")
    return Path(folder)
