import gzip
import json
import math
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from published_formats import (
    evaluation,
    frame,
    frame_of,
    model_metrics,
    table_of,
    tfrecord,
    training_run,
    write,
)

from builders import nasbench101
from builders.labels import LabelledArchitecture, Metric
from builders.sources import MissingSourceError, Sources
from onnx_bench_dataset.errors import SourceError
from onnx_bench_dataset.spaces.nasbench101 import write as architecture_of
from onnx_bench_dataset.spaces.nasbench101_cells import Cell, cell_hash

GRAPHS = {
    Cell(((0,),), ()): ("0100", "input,output"),
    Cell(((0,), (1,)), ("conv3x3-bn-relu",)): ("010001000", "input,conv3x3-bn-relu,output"),
    Cell(((0,), (0, 1)), ("maxpool3x3",)): ("011001000", "input,maxpool3x3,output"),
    Cell(((0,), (0,), (1, 2)), ("conv1x1-bn-relu", "maxpool3x3")): (
        "0110000100010000",
        "input,conv1x1-bn-relu,maxpool3x3,output",
    ),
}
NAMED = sorted((cell_hash(cell), cell) for cell in GRAPHS)
CELLS = [(name, architecture_of(cell)) for name, cell in NAMED]
NAMES = [name for name, _ in CELLS]
ACCURACIES = [0.9, 0.91, 0.92, 0.93]
PARAMS = [227_274, 1_000_001, 8_555_530, 49_979_274]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Published files of the four cells."""
    folder = tmp_path / "published" / "nasbench101"
    write(folder / "accuracies.pkl.gz", frame_of("accuracy", ACCURACIES))
    write(folder / "params.pkl.gz", frame_of("params", [count / 1e6 for count in PARAMS]))
    write(folder / "nb101_hash.txt", pickle.dumps(NAMES[1:3], protocol=3))
    return folder


def read(folder: Path, cells: Sequence[tuple[str, str]] = CELLS) -> list[LabelledArchitecture]:
    return list(nasbench101.read(sources_of(folder), cells=cells))


def sources_of(folder: Path) -> Sources:
    return Sources(folder.parent, cache=folder.parent / "cache", table=table_of(folder.parent), retries=0)


def refused(folder: Path) -> str:
    with pytest.raises(SourceError) as caught:
        read(folder)
    return str(caught.value)


def run_of(
    row: int, epochs: int = 108, test: float = 0.9, params: int | None = None, seconds: float = 1000.0
) -> bytes:
    name, cell = NAMED[row]
    evaluations = [
        evaluation(0.1, 0.1, 0.1, 0.0),
        evaluation(0.6, 0.5, test - 0.3, seconds / 2),
        evaluation(1.0, test + 0.01, test, seconds),
    ]
    metrics = model_metrics(evaluations, PARAMS[row] if params is None else params)
    return training_run(name, epochs, *GRAPHS[cell], metrics)


def full_archive() -> list[bytes]:
    return [
        run_of(row, epochs, test=ACCURACIES[row] - 0.01 * run - epochs / 1000)
        for run in range(3)
        for epochs in (108, 36)
        for row in (2, 0, 3, 1)
    ]


def test_the_published_figures(published: Path) -> None:
    sources = Sources(published)
    rows = list(nasbench101.read(sources))
    assert len(rows) == 423_624
    first = rows[0]
    assert first.name == "00005c142e6f48ac74fdcf73e3439874"
    assert first.num_params == 8_555_530
    assert first.accuracy == pytest.approx(92.0606, abs=1e-4)
    assert first.metrics == (Metric("cifar10", "test", "accuracy", 108, 3, first.accuracy),)
    assert (first.dataset, first.label, first.split) == ("cifar10", "trained", "train")
    best = max(rows, key=lambda row: row.accuracy or 0)
    assert best.name == "02e5a0247bbdcf2860b7e96f74961594"
    assert best.accuracy == pytest.approx(94.3176, abs=1e-4)
    assert best.num_params == 32_426_634
    assert [row.name for row in rows] == sorted(row.name for row in rows)
    assert sum(row.split == "test" for row in rows) == 7290
    assert {row.split for row in rows} == {"train", "test"}
    accuracies = [row.accuracy for row in rows if row.accuracy is not None]
    assert len(accuracies) == len(rows)
    limits = {94.2: 4, 94.1: 14, 94.0: 52, 93.5: 4364}
    assert {limit: sum(accuracy >= limit for accuracy in accuracies) for limit in limits} == limits
    assert [used.path.partition("/")[2] for used in sources.used] == [
        "accuracies.pkl.gz",
        "nb101_hash.txt",
        "params.pkl.gz",
    ]


def test_rows_take_accuracy_parameters_and_split_by_position(folder: Path) -> None:
    rows = read(folder)
    assert [(row.name, row.architecture) for row in rows] == CELLS
    assert [row.accuracy for row in rows] == pytest.approx([90, 91, 92, 93])
    assert [row.num_params for row in rows] == PARAMS
    assert [row.split for row in rows] == ["train", "test", "test", "train"]
    assert {row.label for row in rows} == {"trained"}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("accuracies.pkl.gz", frame_of("accuracy", ACCURACIES[:3]), "3 accuracies and 4 parameter counts"),
        (
            "accuracies.pkl.gz",
            frame_of("accuracy", [*ACCURACIES, 0.5]),
            "5 accuracies and 4 parameter counts",
        ),
        ("accuracies.pkl.gz", frame_of("accuracy", [0.9, math.nan, 0.9, 0.9]), "row 1 .* nan"),
        ("accuracies.pkl.gz", frame_of("accuracy", [0.9, 0.9, 90.0, 0.9]), "row 2 .* 90"),
        ("accuracies.pkl.gz", frame_of("accuracy", [0.9, 0.9, 0.9, -0.1]), "row 3 .* -0.1"),
        ("accuracies.pkl.gz", frame_of("validation", ACCURACIES), "no column accuracy"),
        (
            "accuracies.pkl.gz",
            gzip.compress(frame({"accuracy": np.array(ACCURACIES)})),
            "with an index from 0",
        ),
        ("accuracies.pkl.gz", frame_of("accuracy", ACCURACIES)[:-20], "damaged"),
        ("params.pkl.gz", frame_of("params", [0.2, 1.0, math.nan, 4.0]), "row 2 .* nan"),
        ("params.pkl.gz", frame_of("params", [0.2, 1.00000005, 1.0, 4.0]), "row 1 .* 1.00000005"),
        ("nb101_hash.txt", pickle.dumps(["0" * 32]), "1 cells that are not in NAS-Bench-101, first 0000"),
        ("nb101_hash.txt", pickle.dumps([NAMES[0], NAMES[0]]), "twice"),
        ("nb101_hash.txt", pickle.dumps({"test": NAMES}), "not a list of cell hashes"),
        ("nb101_hash.txt", pickle.dumps([1, 2]), "not a list of cell hashes"),
    ],
)
def test_published_files_that_do_not_fit_are_refused(
    folder: Path, file: str, content: bytes, message: str
) -> None:
    write(folder / file, content)
    with pytest.raises(SourceError, match=message):
        read(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    table = table_of(folder.parent)
    (folder / "params.pkl.gz").unlink()
    sources = Sources(folder.parent, cache=folder.parent / "cache", table=table, retries=0)
    with pytest.raises(MissingSourceError, match=r"nasbench101/params\.pkl\.gz is missing"):
        next(iter(nasbench101.read(sources, cells=CELLS)))


@pytest.mark.parametrize("place", ["nasbench_full.tfrecord", "../nasbench_only108.tfrecord"])
def test_an_official_archive_is_used_instead_of_the_pickles(folder: Path, place: str) -> None:
    (folder / "accuracies.pkl.gz").unlink()
    (folder / "params.pkl.gz").unlink()
    path = write(folder / place, tfrecord(full_archive()))
    sources = sources_of(folder)
    rows = list(nasbench101.read(sources, cells=CELLS))
    assert [(row.name, row.architecture) for row in rows] == CELLS
    assert [row.num_params for row in rows] == PARAMS
    assert [row.split for row in rows] == ["train", "test", "test", "train"]
    assert [row.accuracy for row in rows] == pytest.approx([100 * a - 1 - 10.8 for a in ACCURACIES])
    assert {used.path for used in sources.used} == {"nasbench101/nb101_hash.txt", f"nasbench101/{path.name}"}


def test_the_figures_of_an_archive_are_means_over_the_runs_of_a_schedule(folder: Path) -> None:
    write(folder / "nasbench_full.tfrecord", tfrecord(full_archive()))
    row = read(folder)[1]
    test = 91 - 1 - 10.8
    expected = [
        ("test", "accuracy", 108, test),
        ("train", "accuracy_halfway", 108, 60),
        ("valid", "accuracy_halfway", 108, 50),
        ("test", "accuracy_halfway", 108, test - 30),
        ("train", "training_time_halfway_s", 108, 500),
        ("train", "accuracy", 108, 100),
        ("valid", "accuracy", 108, test + 1),
        ("train", "training_time_s", 108, 1000),
    ]
    later = [(split, name, 36, value + 7.2 * ((split, name) in LOWER)) for split, name, _, value in expected]
    assert len(row.metrics) == 16
    for metric, (split, name, epochs, value) in zip(row.metrics, expected + later, strict=True):
        assert metric[:5] == ("cifar10", split, name, epochs, 3)
        assert metric.value == pytest.approx(value)


LOWER = {("test", "accuracy"), ("test", "accuracy_halfway"), ("valid", "accuracy")}


def test_another_drawing_of_the_same_cell_is_accepted(folder: Path) -> None:
    name = cell_hash(Cell(((0,), (0,), (1, 2)), ("conv1x1-bn-relu", "maxpool3x3")))
    runs = [json.loads(run_of(row)) for row in range(4)]
    for run in runs:
        if run[0] == name:
            run[3] = "input,maxpool3x3,conv1x1-bn-relu,output"
    write(folder / "nasbench_only108.tfrecord", tfrecord(json.dumps(run).encode() for run in runs))
    assert [row.num_params for row in read(folder)] == PARAMS


def changed(position: int, value: object) -> Callable[[bytes], bytes]:
    def change(record: bytes) -> bytes:
        run = json.loads(record)
        run[position] = value
        return json.dumps(run).encode()

    return change


def metrics_of(*evaluations: bytes) -> str:
    return json.loads(training_run("", 0, "", "", model_metrics(evaluations, PARAMS[3])))[4]


LAST_MATRIX, _ = GRAPHS[NAMED[3][1]]
BACKWARDS = LAST_MATRIX[:-2] + "1" + LAST_MATRIX[-1:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: b"{garbage", "record 4 .*Expecting property name"),
        (lambda record: b"\xff\xfe\x00", "record 4 is not a training run"),
        (lambda record: b"[" * 100_000, "record 4 is not a training run"),
        (lambda record: b"[1, 2]", "record 4 .*not enough values"),
        (lambda record: b"7", "record 4 is not a training run"),
        (changed(0, "0" * 32), "record 4 .*'0000.*is not a cell"),
        (changed(0, ["list"]), "record 4 is not a training run"),
        (changed(1, 54), "record 4 .*54 epochs"),
        (changed(1, None), "record 4 .*None epochs"),
        (changed(2, BACKWARDS), "record 4 .*has an edge backwards"),
        (changed(3, "input,maxpool3x3,output"), "record 4 .*(do not fit|does not have the hash)"),
        (changed(2, "1" * 100), "record 4 .*do not fit"),
        (changed(3, "input,conv9x9,output"), "record 4 is not a training run"),
        (changed(4, "not base64!"), "record 4 is not a training run"),
        (changed(4, ""), "record 4 is not a training run"),
        (changed(4, metrics_of(*[evaluation(1, 1, 1, 1)] * 2)), "record 4 is not a training run"),
        (changed(4, metrics_of(*[evaluation(1, 1, 1, 1)[:36]] * 3)), "record 4 .*without test_accuracy"),
        (changed(4, metrics_of(*[evaluation(1, 1, math.nan, 1)] * 3)), "test accuracy_halfway nan"),
        (changed(4, metrics_of(*[evaluation(1, 93.0, 1, 1)] * 3)), "valid accuracy_halfway 93"),
        (changed(4, metrics_of(*[evaluation(1, 1, 1, -5.0)] * 3)), "training_time_halfway_s -5"),
        (lambda record: run_of(3, params=0), "record 4 .*no parameter count"),
    ],
)
def test_a_record_that_is_not_a_training_run_is_refused_by_number(
    folder: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    runs = [run_of(row) for row in range(4)]
    write(folder / "nasbench_only108.tfrecord", tfrecord([*runs[:3], change(runs[3])]))
    text = refused(folder)
    assert len(text) < 1000
    with pytest.raises(SourceError, match=message):
        read(folder)


def test_runs_of_one_cell_must_agree_on_its_parameters(folder: Path) -> None:
    runs = [run_of(row) for row in range(4)]
    write(folder / "nasbench_only108.tfrecord", tfrecord([*runs, run_of(0, params=5)]))
    assert f"5 parameters, {PARAMS[0]:,} in another run" in refused(folder)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([(0, 108), (1, 108), (3, 108)], "1 of 4 cells have fewer than 1 training runs of 108 epochs, first"),
        ([(row, 108) for row in (0, 1, 2, 3, 0, 1)], "2 of 4 cells have fewer than 2 training runs"),
        (
            [(row, 108) for row in range(4)] + [(0, 12)],
            "3 of 4 cells have fewer than 1 training runs of 12 epochs",
        ),
        ([(row, 36) for row in range(4)], "no training run of 108 epochs"),
        ([], "no training run of 108 epochs"),
    ],
)
def test_an_archive_without_all_runs_is_refused(
    folder: Path, runs: list[tuple[int, int]], message: str
) -> None:
    write(folder / "nasbench_full.tfrecord", tfrecord(run_of(row, epochs) for row, epochs in runs))
    assert message in refused(folder)


def test_missing_cells_are_named(folder: Path) -> None:
    write(folder / "nasbench_only108.tfrecord", tfrecord([run_of(0), run_of(2)]))
    assert f"first {NAMES[1]}, {NAMES[3]}" in refused(folder)


def test_a_damaged_archive_is_refused(folder: Path) -> None:
    content = tfrecord(full_archive())
    write(folder / "nasbench_full.tfrecord", content[:-1])
    assert "the file ends" in refused(folder)
    write(folder / "nasbench_full.tfrecord", content[:500] + b"X" + content[501:])
    assert "checksum" in refused(folder)


def test_many_runs_are_added_up_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "nasbench_full.tfrecord", tfrecord(full_archive()))
    at_once = read(folder)
    monkeypatch.setattr(nasbench101, "_AT_ONCE", 5)
    assert read(folder) == at_once


def test_progress_is_reported_on_the_records_and_on_the_rows(folder: Path) -> None:
    write(folder / "nasbench_only108.tfrecord", tfrecord(run_of(row) for row in range(4)))
    seen: list[tuple[str | None, int | None]] = []

    def progress(iterable, *, desc=None, total=None):  # type: ignore[no-untyped-def]
        seen.append((desc, total))
        return iterable

    rows = list(nasbench101.read(sources_of(folder), progress, cells=CELLS))
    assert len(rows) == 4
    assert seen == [("nasbench_only108.tfrecord (training runs)", None), ("nasbench101", 4)]
