"""Import of ONNX files: a folder of anyone's models, or one laid out like the ONNX-Bench release, to rows.

Rows hold the inference form of each model, without weights, and the labels that `builders.import_rows` finds.
Files that cannot be used never stop an import. A report, a CSV file, lists each of them with the reason.

The work has two parts. Workers read the files, some dozen at a time, and leave what they found in the staging
folder, where an interrupted import finds it again; then the rows are built like those of any space.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from builders import pool, stored
from builders.build import Outcome, build_space, publish
from builders.code_version import code_digest
from builders.folder import Staging, staging
from builders.import_rows import Import, Report, Root, Rows, find_root
from builders.label_table import read_label_table
from builders.labels import Progress, StoredNetwork
from builders.nasbench101 import read_test_cells
from builders.onnx_file import import_network, read_onnx
from builders.shards import TEMPORARY
from builders.sources import Sources
from builders.stored import FileFacts
from onnx_bench_dataset import release
from onnx_bench_dataset.errors import BuildError, OnnxBenchError, UnknownNameError
from onnx_bench_dataset.graphs.network import Network

_SPACE = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_RESERVED = ("all", "catalog", "gallery")
_AT_ONCE = 64  # files that a worker reads in one task
_LONGEST_PROPERTY = 2**16  # characters


def import_files(
    wanted: Import, out: Path, report: Path, *, sources: Path | None, workers: int, progress: Progress
) -> tuple[Outcome, Report]:
    """Import a folder of ONNX files as a space of the dataset folder `out`, which keeps its other spaces.

    The report is written to the file `report`, also where no file can be used.

    Raises:
        UnknownNameError: a space cannot be called so.
        SourceError: the table of labels, or NAS-Bench-101's list of test cells, is not what it should be.
        BuildError: there is no such folder, no file in it can be used, or `out` cannot be written.
    """
    if not _SPACE.fullmatch(wanted.space) or wanted.space in _RESERVED:
        raise UnknownNameError(
            f"a space cannot be called {wanted.space!r}: a name has small letters, digits and underscores, "
            f"begins with a letter, and is none of {', '.join(_RESERVED)}"
        )
    start = time.monotonic()
    used = Sources(sources)
    table = {} if wanted.metrics is None else read_label_table(wanted.metrics)
    if wanted.metrics is not None:
        used.record(wanted.metrics.name, [wanted.metrics])
    test_cells = read_test_cells(used) if wanted.space == "nasbench101" else frozenset()
    place_of_files = find_root(wanted)
    with staging(out) as place, pool.processes(workers) as executor:
        reader = _Reader(wanted, place_of_files, place, executor, workers, progress)
        rows = Rows(wanted, place_of_files, table, test_cells)
        for facts, network in reader.read(rows.report):
            rows.add(facts, network)
        rows.finish(used)
        rows.report.write(report)
        if not rows.built:
            raise BuildError(
                f"no file below {place_of_files.root} can be imported"
                + (f": see {report}" if rows.report.lines else ": none ends in .onnx")
            )
        record, reason = build_space(
            place,
            wanted.space,
            used,
            rows.built,
            executor=executor,
            workers=workers,
            progress=progress,
            origin="imported",
        )
        publish(place, {wanted.space: record})
    return Outcome(wanted.space, record, reason, time.monotonic() - start), rows.report


# Reading


@dataclass(frozen=True, slots=True)
class _Task:
    """Some files to read."""

    target: Path
    """Where to leave what was found."""
    space: str
    folder: Path
    files: Sequence[tuple[str, str]]
    """Path in the folder, and what follows the space in the row's id."""


@dataclass(slots=True)
class _Reader:
    """Has workers read all files of a space."""

    wanted: Import
    where: Root
    place: Staging
    executor: Executor
    workers: int
    progress: Progress

    def read(self, report: Report) -> Iterator[tuple[FileFacts, StoredNetwork | None]]:
        """Yield what was found in each file, in the order of their paths."""
        files = sorted(_find_files(self.where, report))
        scratch = self.place.scratch(self.wanted.space)
        parts = [files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE)]
        key = f"{code_digest()} {self.where.folder} {self.wanted.space}"
        tasks = [self._task(scratch, key, part) for part in parts]
        done = pool.run(self.executor, self.workers, _read_files, tasks)
        counted = (each for count in done for each in range(count))
        for _ in self.progress(counted, desc=f"{self.wanted.space}: files", total=len(files)):
            pass
        for task in tasks:
            yield from stored.read(task.target)

    def _task(self, scratch: Path, key: str, files: Sequence[str]) -> _Task:
        named = [(file, release.name_of(self.wanted.space, self.where.path_in_root(file))) for file in files]
        digest = hashlib.sha256(key.encode())
        for file in files:
            about = os.lstat(self.where.folder / file)
            digest.update(f"{file}\0{about.st_size} {about.st_mtime_ns}\n".encode())
        target = scratch / f"{digest.hexdigest()}.parquet"
        return _Task(target, self.wanted.space, self.where.folder, named)


def _find_files(where: Root, report: Report) -> Iterator[str]:
    """Yield the path of every ONNX file, relative to the folder."""

    def unreadable(error: OSError) -> None:
        report.add(_relative(where, Path(error.filename)), "skipped", f"cannot be read: {error.strerror}")

    for directory, folders, files in os.walk(where.root, onerror=unreadable):
        for name in folders:
            if os.path.islink(os.path.join(directory, name)):
                linked = _relative(where, Path(directory, name))
                report.add(linked, "skipped", "it is a link to a folder, which is not followed")
        for name in files:
            if name.lower().endswith(".onnx"):
                file = _relative(where, Path(directory, name))
                if _is_text(file):
                    yield file
                else:
                    report.add(file, "skipped", "its name is not Unicode")


def _relative(where: Root, path: Path) -> str:
    return path.relative_to(where.folder).as_posix()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_files(task: _Task) -> int:
    """Read files, leave what was found, and return how many there were."""
    if not task.target.exists():
        temporary = task.target.with_name(f"{TEMPORARY}{os.getpid()}-{task.target.name}")
        stored.write(task.target, (_read_file(task, *named) for named in task.files), temporary)
    return len(task.files)


def _read_file(task: _Task, file: str, name: str) -> tuple[FileFacts, Network | None]:
    try:
        graph, properties = read_onnx(task.folder / file, task.folder)
        if any(len(text) > _LONGEST_PROPERTY for text in properties.values()):
            return FileFacts(file, f"its metadata has over {_LONGEST_PROPERTY:,} characters"), None
        architecture = properties.get("architecture") or name
        about = {"id": f"{task.space}/{name}", "space": task.space, "architecture": architecture}
        network = import_network(graph, about)
    except OnnxBenchError as error:
        return FileFacts(file, str(error)), None
    except Exception as error:  # whatever a broken file makes onnx and protobuf raise
        return FileFacts(file, f"{type(error).__name__}: {str(error)[:300]}"), None
    return (
        FileFacts(
            file=file,
            problem=None,
            first_property=next(iter(properties.values()), None),
            accuracy=properties.get("accuracy"),
            architecture=architecture,
            dataset=properties.get("dataset"),
            label=properties.get("label"),
            graph_hash=network.graph_hash,
            sha256=stored.sha256(network),
        ),
        network,
    )


def report_path(out: Path, space: str) -> Path:
    """Return where the report of an import is written unless the user says otherwise: beside the folder."""
    return out.with_name(f"{out.name}-{space}-import.csv")
