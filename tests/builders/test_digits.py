"""digits: the table of the package, tables that are damaged, and training anew."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from building import CHECKOUT, digests

from builders import digits, digits_noise, nasbench_macro, pool, retraining
from builders.__main__ import main
from builders.labels import LabelledArchitecture, Metric, Progress, no_progress
from builders.retraining import Candidate
from builders.sources import MissingSourceError, Sources
from onnx_bench_dataset import spaces
from onnx_bench_dataset.digits import images, recipe, table
from onnx_bench_dataset.digits.table import Measured, Origin, Table
from onnx_bench_dataset.errors import BuildError, SourceError
from onnx_bench_dataset.spaces.digits import SMALL_SPACES

DOCUMENT = CHECKOUT / "docs" / "digits.md"

# The table of the package.


@pytest.fixture(scope="module")
def bundled() -> Table:
    return table.read()


def test_200_architectures_of_each_space(bundled: Table) -> None:
    assert Counter(row.space for row in bundled.rows) == dict.fromkeys(SMALL_SPACES, 200)
    names = [f"{space}/{number:03d}" for number in range(200) for space in SMALL_SPACES]
    assert [row.name for row in bundled.rows] == names
    assert table.BUNDLED.stat().st_size <= 500_000


def test_it_was_made_by_the_recipe_as_it_is(bundled: Table) -> None:
    about = bundled.origin
    assert (about.recipe, about.epochs, about.seeds) == (recipe.VERSION, recipe.EPOCHS, recipe.SEEDS)
    assert about.device == "cpu"
    assert about.torch.startswith("2.")


def test_accuracies_are_shares_of_the_images(bundled: Table) -> None:
    for row in bundled.rows:
        for accuracies, count in ((row.test_accuracy, 893), (row.validation_accuracy, 302)):
            for accuracy, failure in zip(accuracies, row.failure, strict=True):
                if failure:
                    assert accuracy == recipe.CHANCE
                else:
                    assert count * accuracy / 100 == pytest.approx(round(count * accuracy / 100), abs=1e-6)


def test_graphs_of_a_space_all_differ_and_have_the_parameters_of_the_table(bundled: Table) -> None:
    rows = [row for row in bundled.rows if row.name.endswith(("7", "8"))]
    networks = [spaces.get("digits").network(row.architecture) for row in rows]
    assert [network.num_params for network in networks] == [row.num_params for row in rows]
    for space in SMALL_SPACES:
        hashes = [n.graph_hash for n, row in zip(networks, rows, strict=True) if row.space == space]
        assert len(set(hashes)) == len(hashes) == 40


@pytest.mark.slow
def test_the_architectures_are_those_that_the_seed_draws(bundled: Table) -> None:
    drawn = [Candidate(row.name, row.architecture) for row in bundled.rows]
    assert list(retraining.candidates()) == drawn


def test_labels_differ_by_more_than_noise(bundled: Table) -> None:
    for space, rows in table.spaces_of(bundled.rows).items():
        found = digits_noise.measure(rows)
        assert found.spread > found.noise / math.sqrt(len(bundled.origin.seeds)), space
        assert 0 < found.tau < found.ceiling < 1, space


def test_the_document_shows_what_the_table_says(bundled: Table) -> None:
    shown = DOCUMENT.read_text(encoding="utf-8")
    assert f"<!-- digits -->\n{digits_noise.markdown(bundled)}\n<!-- /digits -->" in shown


def retrained(bundled: Table, space: str, numbers: range) -> list[tuple[float, float]]:
    """Return test accuracies of the first seed as they are and as the table has them."""
    torch.set_num_threads(1)
    rows = [row for row in bundled.rows if row.space == space][numbers.start : numbers.stop]
    model = spaces.get("digits").model
    runs = [recipe.train(model(row.architecture), images.load(), recipe.SEEDS[0]) for row in rows]
    return [(run.test_accuracy, row.test_accuracy[0]) for run, row in zip(runs, rows, strict=True)]


def within_noise(bundled: Table, space: str, pairs: list[tuple[float, float]]) -> bool:
    noise = digits_noise.noise(table.spaces_of(bundled.rows)[space])
    return all(abs(new - old) <= 4 * math.sqrt(2) * noise for new, old in pairs)


def test_networks_trained_again_agree_within_the_noise_between_seeds(bundled: Table) -> None:
    for space in ("nasbench201", "einspace"):
        assert within_noise(bundled, space, retrained(bundled, space, range(1)))


@pytest.mark.slow
@pytest.mark.parametrize("space", SMALL_SPACES)
def test_networks_of_every_space_trained_again_agree(bundled: Table, space: str) -> None:
    assert within_noise(bundled, space, retrained(bundled, space, range(1, 4)))


# Rows.

ORIGIN = Origin(recipe=1, epochs=12, seeds=(0, 1, 2), torch="2.13.0", device="cpu")
CELL = "nasbench201:|none~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|none~1|none~2|"
ROW = Measured(
    "nasbench201/000", CELL, 5_214, (91.0, 93.0, 92.0), (90.0, 94.0, 95.0), (0.3, 0.1, 0.2), ("", "", "")
)
FAILED = Measured(
    "natsbench_size/000",
    "natsbench_size:8:8:8:8:8",
    824,
    (10.0, 85.0, 10.0),
    (10.0, 80.0, 10.0),
    (None, 0.5, None),
    ("loss is nan", "", "RuntimeError: out of memory"),
)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a small table in the place of the package's."""
    path = tmp_path / "measured.parquet"
    table.write(path, Table(ORIGIN, [ROW, FAILED]))
    monkeypatch.setattr(table, "BUNDLED", path)
    monkeypatch.setattr(table.read, "__defaults__", (path,))
    return path


def test_a_table_is_read_as_it_was_written(small: Path) -> None:
    assert table.read(small) == Table(ORIGIN, [ROW, FAILED])


@pytest.mark.usefixtures("small")
def test_without_sources_digits_is_built_and_the_message_says_how_to_get_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(sources: Sources, progress: Progress) -> Iterator[LabelledArchitecture]:
        raise MissingSourceError("networks.json is missing")

    unavailable = replace(nasbench_macro.BENCHMARK, read=missing)
    known = {benchmark.space: benchmark for benchmark in (unavailable, digits.BENCHMARK)}
    monkeypatch.setattr("builders.__main__.BENCHMARKS", known)
    folder = tmp_path / "onnx-bench"
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(folder), "--workers", "1"])
    printed = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0, printed
    assert "nasbench_macro was skipped: networks.json is missing" in printed
    assert "digits was built, whose labels come with this package. For the published benchmarks" in printed
    rows = [row for path in folder.glob("data/digits/*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {row["id"]: row["accuracy"] for row in rows} == {
        "digits/nasbench201/000": 92,
        "digits/natsbench_size/000": 35,
    }


@pytest.mark.usefixtures("small")
def test_rows_have_the_mean_and_every_seed() -> None:
    first, second = digits.read(Sources())
    assert (first.name, first.architecture, first.num_params) == ROW[:3]
    assert (first.dataset, first.accuracy, first.label, first.split) == ("digits", 92.0, "trained", None)
    assert [metric[:5] for metric in first.metrics] == [
        *[
            ("digits", split, f"accuracy{suffix}", 12, seeds)
            for split in ("test", "validation")
            for suffix, seeds in (("", 3), ("_std", 3), ("_run1", 1), ("_run2", 1), ("_run3", 1))
        ],
        ("digits", "train", "cross_entropy", 12, 3),
        ("digits", "train", "failed_runs", 12, 3),
    ]
    values = [metric.value for metric in first.metrics]
    tests, validations = [92, math.sqrt(2 / 3), 91, 93, 92], [93, math.sqrt(14 / 3), 90, 94, 95]
    assert values == pytest.approx([*tests, *validations, 0.2, 0])
    assert second.accuracy == pytest.approx(35)
    assert second.metrics[-2:] == (
        Metric("digits", "train", "cross_entropy", 12, 1, 0.5),
        Metric("digits", "train", "failed_runs", 12, 3, 2),
    )


def test_noise_of_known_figures() -> None:
    figures = [(10.0, 20.0, 30.0), (40.0, 40.0, 40.0), (20.0, 30.0, 40.0), (80.0, 80.0, 80.0)]
    rows = [
        ROW._replace(name=f"einspace/{n:03d}", test_accuracy=runs, failure=("", "x" if n == 1 else "", ""))
        for n, runs in enumerate(figures)
    ]
    found = digits_noise.measure(rows)
    assert (found.architectures, found.failed) == (4, 1)
    assert (found.worst, found.middle, found.best) == (20, 35, 80)
    assert found.noise == pytest.approx(math.sqrt(50))
    assert found.spread == pytest.approx(math.sqrt(518.75))
    # seeds 1 and 2 agree in all pairs; in seed 3 one pair is tied
    assert found.tau == pytest.approx((1 + 2 * 5 / math.sqrt(6 * 5)) / 3)


def test_a_table_agrees_with_itself() -> None:
    known = Table(ORIGIN, [ROW, FAILED])
    lines = digits_noise.agreement(known, known).splitlines()[2:]
    assert [line.split(" | ")[:4] for line in lines] == [
        ["| nasbench201", "1", "+0.00", "0.00"],
        ["| natsbench_size", "1", "+0.00", "0.00"],
    ]


# Damaged tables.


def spoil(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def with_value(column: str, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(whole: pa.Table) -> pa.Table:
        index = whole.schema.get_field_index(column)
        field = table.SCHEMA.field(column)
        values = [value, *whole[column].to_pylist()[1:]]
        return whole.set_column(index, field, pa.array(values, field.type))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole.drop_columns("failure"), "its columns are not name, architecture"),
        (lambda whole: whole.replace_schema_metadata({}), "it does not say how it was made"),
        (lambda whole: pa.concat_tables([whole, whole]), "a name is there twice"),
        (with_value("test_accuracy", [91.0, 93.0]), "has not one figure for each of 3 seeds"),
        (with_value("test_accuracy", [91.0, 93.0, 101.0]), "accuracies that are no percentages"),
        (with_value("validation_accuracy", [91.0, 93.0, math.nan]), "accuracies that are no percentages"),
        (with_value("test_accuracy", [91.0, 93.0, None]), "accuracies that are no percentages"),
        (with_value("train_loss", [0.1, 0.1, None]), "do not belong together"),
        (with_value("train_loss", [0.1, 0.1, math.inf]), "do not belong together"),
        (with_value("failure", ["", "loss is nan", ""]), "do not belong together"),
        (with_value("num_params", 0), "has 0 parameters"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    small: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    spoil(small, change)
    with pytest.raises(SourceError, match=message) as caught:
        list(digits.read(Sources()))
    assert str(small) in str(caught.value)


def test_every_altered_byte_is_noticed_or_changes_nothing(small: Path) -> None:
    content, whole = small.read_bytes(), table.read(small)
    noticed = 0
    for position in range(0, len(content), 3):
        small.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            rows = table.read(small).rows
        except SourceError:
            noticed += 1
        else:  # statistics of columns, what wrote the file, and the like
            assert rows == whole.rows
    assert noticed > len(content) / 12


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"name,architecture\n"])
def test_a_file_of_another_kind_is_refused(small: Path, content: bytes) -> None:
    small.write_bytes(content)
    with pytest.raises(SourceError, match="is not a table of what networks reach on digits"):
        list(digits.read(Sources()))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing\.parquet is not a table"):
        table.read(tmp_path / "nothing.parquet")


# Training anew.

CANDIDATES = [
    Candidate("einspace/000", "einspace:routing(identity,computation(linear16),identity)"),
    Candidate("einspace/001", "einspace:sequential(computation(norm),computation(leakyrelu))"),
    Candidate("nasbench201/000", CELL),
    Candidate("natsbench_size/000", "natsbench_size:8:8:8:8:8"),
]

PROGRAM = f"""
import sys
from builders import retraining
from builders.retraining import Candidate
from builders.__main__ import main
retraining.candidates = lambda: {CANDIDATES!r}
if __name__ == "__main__":
    main(sys.argv[1:])
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The command line of the builders with four networks to train; worker processes import it, too."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def start(program: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(program), "digits", "--retrain", "--workers", "1", *arguments],
        cwd=program.parent,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    printed, _ = process.communicate(timeout=300)
    return process.returncode, printed


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_ends_the_same(program: Path) -> None:
    assert finished(start(program, "--table", "whole.parquet"))[0] == 0
    made = table.read(program.parent / "whole.parquet")
    assert [(row.name, row.architecture) for row in made.rows] == CANDIDATES
    assert not any(failure for row in made.rows for failure in row.failure)

    process = start(program, "--table", "parts.parquet")
    journal = program.parent / "parts.parquet.journal"
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 2):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    status, printed = finished(process)
    assert (status, "run the same command again" in printed) == (130, True)
    assert not (program.parent / "parts.parquet").exists()
    done = journal.read_bytes()
    assert 2 <= done.count(b"\n") < 5
    journal.write_bytes(done + b'["einspace/0')  # cut off in the middle of a line
    status, printed = finished(start(program, "--table", "parts.parquet"))
    assert status == 0, printed
    assert journal.read_bytes().startswith(done)
    files = digests(program.parent)
    assert files["parts.parquet"] == files["whole.parquet"]


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do without training and processes: accuracies are what the seeds say."""
    monkeypatch.setattr(retraining, "candidates", lambda: iter(CANDIDATES))
    monkeypatch.setattr(retraining, "_train", trained)
    monkeypatch.setattr(pool, "processes", nullcontext)
    monkeypatch.setattr(pool, "run", lambda executor, workers, function, tasks: map(function, tasks))


def trained(seeds: tuple[int, ...], device: str, candidate: Candidate) -> Measured:
    accuracies = tuple(50.0 + seed for seed in seeds)
    return Measured(*candidate, 1, accuracies, accuracies, (0.5,) * len(seeds), ("",) * len(seeds))


@pytest.mark.usefixtures("quickly")
def test_limit_takes_the_first_networks_and_later_ones_are_added(tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    two = retraining.retrain(path, 2, workers=1, device="cpu", progress=no_progress)
    assert [row.name for row in two.rows] == ["einspace/000", "einspace/001"]
    assert table.read(path) == two
    journal = path.with_name("some.parquet.journal")
    begun = journal.read_bytes()
    four = retraining.retrain(path, None, workers=1, device="cpu", progress=no_progress)
    assert four.rows[:2] == two.rows
    assert [row.name for row in four.rows] == [candidate.name for candidate in CANDIDATES]
    assert journal.read_bytes().startswith(begun)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0].replace(b"cpu", b"cuda"), *lines[1:]], "by another recipe"),
        (lambda lines: [b"{}", *lines[1:]], "by another recipe"),
        (lambda lines: [lines[0], b"[1, 2"], "is damaged"),
        (lambda lines: [lines[0], b"17"], "is damaged"),
        (lambda lines: [lines[0], b'["einspace/000", "x"]'], "is damaged"),
    ],
)
def test_a_journal_of_another_training_is_refused(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    path = tmp_path / "some.parquet"
    retraining.retrain(path, 1, workers=1, device="cpu", progress=no_progress)
    journal = path.with_name("some.parquet.journal")
    journal.write_bytes(b"\n".join(change(journal.read_bytes().splitlines())) + b"\n")
    with pytest.raises(BuildError, match=message):
        retraining.retrain(path, None, workers=1, device="cpu", progress=no_progress)


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BuildError, match="finds no device 'cuda' here"):
        retraining.retrain(tmp_path / "x.parquet", 1, workers=1, device="cuda", progress=no_progress)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--retrain", "--limit", "0"], "greater than or equal to 1"),
        (["digits", "--retrain", "--device", "tpu"], "'tpu' is not one of"),
        (["noise", "--table", "nothing.parquet"], "is not a table of what networks reach on digits"),
    ],
)
def test_what_cannot_be_is_said(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code != 0
    printed = capsys.readouterr()
    assert message in " ".join((printed.out + printed.err).split())


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["digits", "--retrain", "--help"])
    assert "python -m builders digits --retrain --limit 60" in capsys.readouterr().out
