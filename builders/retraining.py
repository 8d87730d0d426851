"""Training the networks of digits anew: on all cores, resumable, to a table like the one of the package.

What is finished is appended at once, a line of JSON for each architecture, to a journal beside the table; an
interrupted training finds it there. The table is written when all is done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from builders import pool
from builders.labels import Progress
from onnx_bench_dataset import spaces
from onnx_bench_dataset.digits import images, table
from onnx_bench_dataset.digits.table import Measured, Origin, Table
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.spaces import digits

OF_EACH_SPACE = 200
"""Architectures of each space in the benchmark."""

DRAWING_SEED = 0
_DRAWN = 2  # times as many as are wanted: some have the graph of another


class Candidate(NamedTuple):
    """An architecture of the benchmark."""

    name: str
    """What follows `digits/` in the row's id: `<space>/<number>`."""
    architecture: str


def candidates() -> Iterator[Candidate]:
    """Draw the architectures of the benchmark, of all spaces in turn; graphs in a space all differ."""
    drawn = [_of_space(space) for space in digits.SMALL_SPACES]
    for _ in range(OF_EACH_SPACE):
        yield from map(next, drawn)


def _of_space(space: str) -> Iterator[Candidate]:
    hashes: set[str] = set()
    for drawn in digits.SMALL_SPACES[space].sample(_DRAWN * OF_EACH_SPACE, DRAWING_SEED):
        architecture = digits.write(space, drawn)
        graph_hash = spaces.get("digits").network(architecture).graph_hash
        if graph_hash not in hashes:
            yield Candidate(f"{space}/{len(hashes):03d}", architecture)
            hashes.add(graph_hash)


def retrain(out: Path, limit: int | None, *, workers: int, device: str, progress: Progress) -> Table:
    """Train the first architectures with every seed and write the table `out`; what its journal has is kept.

    Raises:
        MissingTorchError: PyTorch is not installed.
        MissingScikitLearnError: scikit-learn is not installed.
        BuildError: the device is not there, the journal is of another training, or it cannot be written.
    """
    origin = _origin(device)
    images.load()  # so that what is missing is said here, once
    wanted = list(islice(candidates(), limit))
    try:
        with FileLock(f"{out}.lock", timeout=0):
            journal = _Journal(out.with_name(f"{out.name}.journal"), origin)
            left = [candidate for candidate in wanted if candidate not in journal.done]
            with pool.processes(workers) as executor:
                trained = pool.run(executor, workers, partial(_train, origin.seeds, device), left)
                for row in progress(trained, desc="architectures trained", total=len(left)):
                    journal.add(row)
            made = Table(origin, [journal.done[candidate] for candidate in wanted])
            table.write(out, made)
    except Timeout:
        raise BuildError(f"another process trains for {out}: wait for it, or name another file") from None
    except OSError as error:
        raise BuildError(
            f"cannot write {out}: {error.strerror or error}. What is finished is kept: run the same command "
            "again"
        ) from error
    return made


def _origin(device: str) -> Origin:
    from onnx_bench_dataset.digits import recipe  # isort: skip  # first: it says if torch is missing

    import torch

    if device != "cpu" and not torch.cuda.is_available():
        raise BuildError(f"PyTorch finds no device {device!r} here: leave --device out to train on the CPU")
    return Origin(recipe.VERSION, recipe.EPOCHS, recipe.SEEDS, torch.__version__, device)


def _train(seeds: Sequence[int], device: str, candidate: Candidate) -> Measured:
    """Train an architecture with every seed, on one core."""
    import torch

    from onnx_bench_dataset.digits import recipe

    torch.set_num_threads(1)  # a process for each core, and the same figures on any number of them
    network = spaces.get("digits").network(candidate.architecture)
    runs = [recipe.train(network.model(), images.load(), seed, device) for seed in seeds]
    tests, validations, losses, failures = zip(*runs, strict=True)
    return Measured(*candidate, network.num_params, tests, validations, losses, failures)


class _Journal:
    """The file that finished architectures are appended to; its first line says how they are trained."""

    def __init__(self, path: Path, origin: Origin) -> None:
        self.done: dict[Candidate, Measured] = {}
        self._path = path
        head = json.dumps(origin)
        content = path.read_bytes() if path.exists() else b""
        lines = content[: content.rfind(b"\n") + 1].splitlines()  # the last may be cut off
        if lines and lines[0] != head.encode():
            raise BuildError(
                f"{path} is of a training by another recipe, PyTorch or device: delete it to begin anew, or "
                "name another file with --table"
            )
        try:
            for line in lines[1:]:
                row = _measured(json.loads(line))
                self.done[Candidate(row.name, row.architecture)] = row
        except (ValueError, TypeError) as error:
            raise BuildError(f"{path} is damaged ({error}): delete it to begin anew") from error
        if not lines:
            path.write_text(f"{head}\n", encoding="utf-8")
        elif content[-1:] != b"\n":
            os.truncate(path, content.rfind(b"\n") + 1)

    def add(self, row: Measured) -> None:
        """Append an architecture."""
        self.done[Candidate(row.name, row.architecture)] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _measured(values: list[object]) -> Measured:
    return Measured(*(tuple(value) if isinstance(value, list) else value for value in values))  # type: ignore[arg-type]
